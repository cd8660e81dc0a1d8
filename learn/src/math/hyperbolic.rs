//! Hyperbolic functions: x = n ln 2 + r as in `exp`, then e^x = 2^n (cosh r + sinh r) and its inverse from the same
//! two series, all in two parts. Errors below 0.6 ulp.

use super::double::Double;
use super::series::Family::Hyperbolic;
use super::{exp2_whole, reduce};

/// Below 2^-28 the next term of sinh and tanh lies under half an ulp.
const TINY: f64 = 3.725_290_298_461_914e-9;

/// The hyperbolic sine: overflows beyond ±710.48.
pub fn sinh(x: f64) -> f64 {
    let a = x.abs();
    if a < TINY || !x.is_finite() {
        return x;
    }
    let parts = Parts::of(a);
    match parts.n == 0.0 {
        true => parts.odd.value().copysign(x),
        false => parts.grow(parts.up() - parts.down()).copysign(x),
    }
}

/// The hyperbolic cosine: overflows beyond ±710.48.
pub fn cosh(x: f64) -> f64 {
    if !x.is_finite() {
        return x.abs();
    }
    let parts = Parts::of(x.abs());
    match parts.n == 0.0 {
        true => parts.even.value(),
        false => parts.grow(parts.up() + parts.down()),
    }
}

/// The hyperbolic tangent.
pub fn tanh(x: f64) -> f64 {
    let a = x.abs();
    if a < TINY || x.is_nan() {
        return x;
    }
    if a > 22.0 {
        return 1.0_f64.copysign(x);
    }
    let parts = Parts::of(a);
    let quotient = match parts.n == 0.0 {
        true => parts.odd / parts.even,
        false => (parts.up() - parts.down()) / (parts.up() + parts.down()),
    };
    quotient.value().copysign(x)
}

/// a = n ln 2 + r with cosh r and sinh r.
struct Parts {
    n: f64,
    even: Double,
    odd: Double,
}

impl Parts {
    #[inline(always)]
    fn of(a: f64) -> Self {
        // Beyond 711 both functions are infinite.
        let (n, hi, lo) = reduce(if a > 711.0 { 711.0 } else { a });
        let r = Double::sum(hi, -lo);
        Self { n, even: Hyperbolic.even(r), odd: Hyperbolic.odd(r) }
    }

    /// e^a / 2^n.
    #[inline(always)]
    fn up(&self) -> Double {
        self.even + self.odd
    }

    /// e^−a / 2^n; beyond 2^-1000 it counts no more.
    #[inline(always)]
    fn down(&self) -> Double {
        let twice = 2.0 * self.n;
        (self.even - self.odd).scale(exp2_whole(-(if twice > 1000.0 { 1000.0 } else { twice })))
    }

    /// Half of 2^n times the sum, in two steps as the power may be beyond the largest f64.
    #[inline(always)]
    fn grow(&self, sum: Double) -> f64 {
        sum.value() * exp2_whole(self.n - 2.0) * 2.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_values() {
        for f in [sinh, tanh] {
            assert_eq!(f(0.0).to_bits(), 0.0_f64.to_bits());
            assert_eq!(f(-0.0).to_bits(), (-0.0_f64).to_bits());
            assert_eq!(f(-5e-324), -5e-324);
        }
        let inf = f64::INFINITY;
        assert_eq!((sinh(inf), sinh(-inf), cosh(inf), cosh(-inf)), (inf, -inf, inf, inf));
        assert_eq!((tanh(inf), tanh(-inf), tanh(20.0)), (1.0, -1.0, 1.0));
        assert_eq!((cosh(0.0), cosh(-0.0), cosh(1e-200)), (1.0, 1.0, 1.0));
        assert_eq!((sinh(710.5), sinh(-1e300), cosh(-710.5), cosh(f64::MAX)), (inf, -inf, inf, inf));
        assert!(sinh(710.475).is_finite() && cosh(710.475).is_finite());
        assert!(sinh(f64::NAN).is_nan() && cosh(f64::NAN).is_nan() && tanh(f64::NAN).is_nan());
    }

    #[test]
    fn the_hyperbola_holds_its_points() {
        for i in -2_000..=2_000 {
            let x = f64::from(i) / 200.0;
            let (s, c) = (sinh(x), cosh(x));
            assert!(((c - s) * (c + s) - 1.0).abs() <= 4.0 * f64::EPSILON * c * c, "{x}");
            assert!((tanh(x) - s / c).abs() <= 2.0 * f64::EPSILON, "{x}");
            assert_eq!((sinh(-x).to_bits(), cosh(-x).to_bits()), ((-s).to_bits(), c.to_bits()), "{x}");
        }
    }
}
