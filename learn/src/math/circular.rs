//! Sine, cosine, tangent and cotangent for every argument: reduced to an eighth of a turn (see `quarter`), then by
//! Taylor series; tangent and cotangent are quotients of both in two parts. Errors below 0.6 ulp.

use super::double::Double;
use super::quarter::reduce;
use super::select;
use super::series::Family::Circular;

/// Below 2^-27 the next term of all these series lies under half an ulp.
const TINY: f64 = 7.450_580_596_923_828e-9;

/// The sine; NaN of infinities.
pub fn sin(x: f64) -> f64 {
    match x.abs() {
        a if a < TINY => x,
        a if a < f64::INFINITY => turned(reduce(x)).value(),
        _ => f64::NAN,
    }
}

/// The cosine; NaN of infinities.
pub fn cos(x: f64) -> f64 {
    if x.abs() < f64::INFINITY {
        let (turns, rest) = reduce(x);
        turned((turns + 1, rest)).value()
    } else {
        f64::NAN
    }
}

/// The tangent; NaN of infinities.
pub fn tan(x: f64) -> f64 {
    match x.abs() {
        a if a < TINY => x,
        a if a < f64::INFINITY => {
            let (turns, rest) = reduce(x);
            (turned((turns, rest)) / turned((turns + 1, rest))).value()
        }
        _ => f64::NAN,
    }
}

/// The cotangent, cos x / sin x: infinite at ±0, NaN of infinities.
pub fn cot(x: f64) -> f64 {
    match x.abs() {
        a if a < TINY => 1.0 / x,
        a if a < f64::INFINITY => {
            let (turns, rest) = reduce(x);
            (turned((turns + 1, rest)) / turned((turns, rest))).value()
        }
        _ => f64::NAN,
    }
}

/// sin(turns · π/2 + rest).
#[inline(always)]
fn turned((turns, rest): (u64, Double)) -> Double {
    let value = if turns & 1 == 0 { Circular.odd(rest) } else { Circular.even(rest) };
    value.scale(select(turns & 2 == 0, 1.0, -1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_values() {
        for f in [sin, tan] {
            assert_eq!(f(0.0).to_bits(), 0.0_f64.to_bits());
            assert_eq!(f(-0.0).to_bits(), (-0.0_f64).to_bits());
            assert_eq!(f(5e-324), 5e-324);
        }
        assert_eq!((cos(0.0), cos(-0.0), cos(1e-300)), (1.0, 1.0, 1.0));
        assert_eq!((cot(0.0), cot(-0.0)), (f64::INFINITY, f64::NEG_INFINITY));
        for f in [sin, cos, tan, cot] {
            assert!(f(f64::INFINITY).is_nan() && f(f64::NEG_INFINITY).is_nan() && f(f64::NAN).is_nan());
            assert!(f(f64::MAX).is_finite());
        }
    }

    #[test]
    fn odd_is_odd_and_even_is_even() {
        let mut x = 1e-320;
        while x < 1e308 {
            assert_eq!(sin(-x).to_bits(), (-sin(x)).to_bits(), "{x}");
            assert_eq!(tan(-x).to_bits(), (-tan(x)).to_bits(), "{x}");
            assert_eq!(cot(-x).to_bits(), (-cot(x)).to_bits(), "{x}");
            assert_eq!(cos(-x).to_bits(), cos(x).to_bits(), "{x}");
            let (s, c) = (sin(x), cos(x));
            assert!((s * s + c * c - 1.0).abs() < 4.0 * f64::EPSILON, "{x}");
            x *= 1.37;
        }
    }

    #[test]
    fn known_answers() {
        // Bits, so that a change of the numeric version cannot go unnoticed.
        assert_eq!(sin(1.0).to_bits(), 0x3fea_ed54_8f09_0cee);
        assert_eq!(cos(1.0).to_bits(), 0x3fe1_4a28_0fb5_068c);
        assert_eq!(tan(1.0).to_bits(), 0x3ff8_eb24_5cbe_e3a6);
        assert_eq!(sin(1e22).to_bits(), 0xbfeb_453a_b76b_f397);
    }
}
