//! Registers of f64, a type per instruction set: the few operations that hand-blocked loops need. Every
//! operation is one rounding per element, so that the width of a register never changes bits.
//!
//! The types are private to [`super::Level`]: a kernel gets one as a type parameter, and only where its
//! instructions were detected. That is what makes their methods safe to call.

use crate::kernels::LANES;

/// Some elements of a block of [`LANES`]: part `p` holds elements `p * WIDTH..(p + 1) * WIDTH`.
pub trait Vector: Copy {
    /// Elements in a register; divides [`LANES`].
    const WIDTH: usize;
    /// Registers of a block.
    const PARTS: usize = LANES / Self::WIDTH;

    /// The same number everywhere.
    fn splat(x: f64) -> Self;
    /// A part of a block.
    fn load(block: &[f64; LANES], part: usize) -> Self;
    /// A part of a block of f32, widened.
    fn load_f32(block: &[f32; LANES], part: usize) -> Self;
    /// Writes a part of a block.
    fn store(self, block: &mut [f64; LANES], part: usize);
    /// Sum.
    fn plus(self, other: Self) -> Self;
    /// Difference.
    fn minus(self, other: Self) -> Self;
    /// Product.
    fn times(self, other: Self) -> Self;
    /// `yes` where `a < b`, else (also where either is NaN) `no`.
    fn if_less(a: Self, b: Self, yes: Self, no: Self) -> Self;
}

/// Asks for a line of memory before it is needed: a hint, harmless for any address, without effect on bits.
#[inline(always)]
pub(crate) fn prefetch<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch never faults, and SSE is part of x86-64.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Two elements without any instruction set: what machines other than x86-64 use.
#[cfg(any(not(target_arch = "x86_64"), test))]
#[derive(Clone, Copy)]
pub(super) struct Portable([f64; 2]);

#[cfg(any(not(target_arch = "x86_64"), test))]
impl Vector for Portable {
    const WIDTH: usize = 2;

    #[inline(always)]
    fn splat(x: f64) -> Self {
        Self([x; 2])
    }

    #[inline(always)]
    fn load(block: &[f64; LANES], part: usize) -> Self {
        Self([block[2 * part], block[2 * part + 1]])
    }

    #[inline(always)]
    fn load_f32(block: &[f32; LANES], part: usize) -> Self {
        Self([f64::from(block[2 * part]), f64::from(block[2 * part + 1])])
    }

    #[inline(always)]
    fn store(self, block: &mut [f64; LANES], part: usize) {
        [block[2 * part], block[2 * part + 1]] = self.0;
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        Self([self.0[0] + other.0[0], self.0[1] + other.0[1]])
    }

    #[inline(always)]
    fn minus(self, other: Self) -> Self {
        Self([self.0[0] - other.0[0], self.0[1] - other.0[1]])
    }

    #[inline(always)]
    fn times(self, other: Self) -> Self {
        Self([self.0[0] * other.0[0], self.0[1] * other.0[1]])
    }

    #[inline(always)]
    fn if_less(a: Self, b: Self, yes: Self, no: Self) -> Self {
        let pick = |i: usize| if a.0[i] < b.0[i] { yes.0[i] } else { no.0[i] };
        Self([pick(0), pick(1)])
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512, Sse2};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{LANES, Vector};

    /// One type a register: the operations differ in their names only, but for a widening load and a choice.
    macro_rules! vector {
        (
            $(#[$doc:meta])* $name:ident, $register:ty, $width:literal, $splat:ident, $load:ident, $store:ident,
            $add:ident, $sub:ident, $mul:ident, |$at:ident| $widen:expr, |$a:ident, $b:ident, $yes:ident, $no:ident| $choose:expr
        ) => {
            $(#[$doc])*
            #[derive(Clone, Copy)]
            pub(in crate::kernels::level) struct $name($register);

            // SAFETY, of every block below: the type is named by `Level::run` alone, behind the detection
            // of its instructions; loads and stores stay in a block, as the assertions say.
            impl Vector for $name {
                const WIDTH: usize = $width;

                #[inline(always)]
                fn splat(x: f64) -> Self {
                    unsafe { Self($splat(x)) }
                }

                #[inline(always)]
                fn load(block: &[f64; LANES], part: usize) -> Self {
                    assert!(part < Self::PARTS, "a part of a block");
                    unsafe { Self($load(block.as_ptr().add(part * $width))) }
                }

                #[inline(always)]
                fn load_f32(block: &[f32; LANES], part: usize) -> Self {
                    assert!(part < Self::PARTS, "a part of a block");
                    unsafe {
                        let $at = block.as_ptr().add(part * $width);
                        Self($widen)
                    }
                }

                #[inline(always)]
                fn store(self, block: &mut [f64; LANES], part: usize) {
                    assert!(part < Self::PARTS, "a part of a block");
                    unsafe { $store(block.as_mut_ptr().add(part * $width), self.0) }
                }

                #[inline(always)]
                fn plus(self, other: Self) -> Self {
                    unsafe { Self($add(self.0, other.0)) }
                }

                #[inline(always)]
                fn minus(self, other: Self) -> Self {
                    unsafe { Self($sub(self.0, other.0)) }
                }

                #[inline(always)]
                fn times(self, other: Self) -> Self {
                    unsafe { Self($mul(self.0, other.0)) }
                }

                #[inline(always)]
                fn if_less(a: Self, b: Self, yes: Self, no: Self) -> Self {
                    let ($a, $b, $yes, $no) = (a.0, b.0, yes.0, no.0);
                    unsafe { Self($choose) }
                }
            }
        };
    }

    vector! {
        /// 128 bits.
        Sse2, __m128d, 2, _mm_set1_pd, _mm_loadu_pd, _mm_storeu_pd, _mm_add_pd, _mm_sub_pd, _mm_mul_pd,
        |at| _mm_cvtps_pd(_mm_castsi128_ps(_mm_loadl_epi64(at.cast()))),
        |a, b, yes, no| {
            let less = _mm_cmplt_pd(a, b);
            _mm_or_pd(_mm_and_pd(less, yes), _mm_andnot_pd(less, no))
        }
    }

    vector! {
        /// 256 bits.
        Avx2, __m256d, 4, _mm256_set1_pd, _mm256_loadu_pd, _mm256_storeu_pd, _mm256_add_pd, _mm256_sub_pd, _mm256_mul_pd,
        |at| _mm256_cvtps_pd(_mm_loadu_ps(at)),
        |a, b, yes, no| _mm256_blendv_pd(no, yes, _mm256_cmp_pd::<_CMP_LT_OQ>(a, b))
    }

    vector! {
        /// 512 bits.
        Avx512, __m512d, 8, _mm512_set1_pd, _mm512_loadu_pd, _mm512_storeu_pd, _mm512_add_pd, _mm512_sub_pd, _mm512_mul_pd,
        |at| _mm512_cvtps_pd(_mm256_loadu_ps(at)),
        |a, b, yes, no| _mm512_mask_blend_pd(_mm512_cmp_pd_mask::<_CMP_LT_OQ>(a, b), no, yes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::level::{Kernel, Level};

    /// Every operation on a block, the results one after the other.
    struct All<'a>(&'a [f64; LANES], &'a [f64; LANES], &'a [f32; LANES]);

    impl Kernel for All<'_> {
        type Output = Vec<u64>;

        #[inline(always)]
        fn run<V: Vector>(self) -> Vec<u64> {
            let mut out = [[0.0; LANES]; 6];
            for part in 0..V::PARTS {
                let (a, b, x) = (V::load(self.0, part), V::load(self.1, part), V::load_f32(self.2, part));
                a.plus(b).store(&mut out[0], part);
                a.minus(b).store(&mut out[1], part);
                a.times(b).store(&mut out[2], part);
                x.store(&mut out[3], part);
                V::if_less(a, b, x, V::splat(7.5)).store(&mut out[4], part);
                V::if_less(b, a, b, a).store(&mut out[5], part);
            }
            out.as_flattened().iter().map(|x| x.to_bits()).collect()
        }
    }

    #[test]
    fn every_register_computes_what_the_portable_one_does() {
        let a = std::array::from_fn(|i| [1.1, -0.0, 0.0, f64::INFINITY, -3e300, 5e-324, 0.3][i % 7] * 1.7);
        let mut b: [f64; LANES] = std::array::from_fn(|i| 0.77 * (i as f64 - 5.0));
        b[4] = f64::NAN;
        let x: [f32; LANES] = std::array::from_fn(|i| 0.1 * i as f32 - 0.4);
        let expected = All(&a, &b, &x).run::<Portable>();
        let number = |bits: u64| if f64::from_bits(bits).is_nan() { f64::NAN.to_bits() } else { bits };
        for level in Level::available() {
            let found = level.run(All(&a, &b, &x));
            let same = found.iter().zip(&expected).all(|(x, y)| number(*x) == number(*y));
            assert!(same, "{}: {found:?}, portable: {expected:?}", level.name());
        }
    }
}
