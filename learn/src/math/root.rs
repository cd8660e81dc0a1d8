//! The cube root: a first guess from the exponent (Kahan's, as in fdlibm), two steps of Halley, one of Newton in two
//! parts. Error below 0.51 ulp; cubes of whole numbers give them back.

use super::double::Double;
use super::{MANTISSA, ONE_BITS, TWO54, exp2_whole};

/// Added to a third of a number's bits it gives those of its cube root to five binary digits.
const GUESS: u64 = 0x2a9f_7893_0000_0000;

/// The cube root, of negative numbers too.
pub fn cbrt(x: f64) -> f64 {
    let a = x.abs();
    if a == 0.0 || !x.is_finite() {
        return x;
    }
    let tiny = a < f64::MIN_POSITIVE;
    let bits = if tiny { a * TWO54 } else { a }.to_bits();
    let exponent = (bits >> 52) as i32 - 1023;
    // a = m · 2^(3 third) with m in [1, 8).
    let third = exponent.div_euclid(3);
    let m = f64::from_bits((bits & MANTISSA) | ONE_BITS) * exp2_whole(f64::from(exponent.rem_euclid(3)));
    let scale = exp2_whole(f64::from(third - if tiny { 18 } else { 0 }));
    (of_small(m) * scale).copysign(x)
}

/// The cube root of a number in [1, 8).
#[inline(always)]
fn of_small(m: f64) -> f64 {
    let mut t = f64::from_bits(m.to_bits() / 3 + GUESS);
    for _ in 0..2 {
        let cube = t * t * t;
        t = t * (cube + 2.0 * m) / (2.0 * cube + m);
    }
    let cube = Double::product(t, t) * Double::new(t, 0.0);
    t + ((m - cube.hi) - cube.lo) / (3.0 * t * t)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_values() {
        assert_eq!(cbrt(0.0).to_bits(), 0.0_f64.to_bits());
        assert_eq!(cbrt(-0.0).to_bits(), (-0.0_f64).to_bits());
        assert_eq!((cbrt(f64::INFINITY), cbrt(f64::NEG_INFINITY)), (f64::INFINITY, f64::NEG_INFINITY));
        assert!(cbrt(f64::NAN).is_nan());
    }

    #[test]
    fn cubes_give_their_numbers_back() {
        for i in -2_000..=2_000 {
            let x = f64::from(i);
            assert_eq!(cbrt(x * x * x), x);
            assert_eq!(cbrt(x * x * x * exp2_whole(-900.0)), x * exp2_whole(-300.0));
        }
        assert_eq!(cbrt(5e-324), exp2_whole(-358.0));
    }
}
