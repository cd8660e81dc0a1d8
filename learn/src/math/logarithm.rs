//! Logarithms to other bases and the inverse hyperbolic functions, which are logarithms too: all from the natural
//! logarithm in two parts that `pow` uses. Errors below 0.6 ulp, so that whole results are exact.

use super::double::Double;
use super::{ln, ln_double, ln_parts};

const LN2: Double = Double::from_bits(0x3fe6_2e42_fefa_39ef, 0x3c7a_bc9e_3b39_803f);
const PER_LN2: Double = Double::from_bits(0x3ff7_1547_652b_82fe, 0x3c77_77d0_ffda_0d24);
const PER_LN10: Double = Double::from_bits(0x3fdb_cb7b_1526_e50e, 0x3c69_5355_baaa_fad3);
/// Below 2^-28 the next term of asinh and atanh lies under half an ulp.
const TINY: f64 = 3.725_290_298_461_914e-9;
/// From 2^28 on asinh and acosh are ln(2x).
const LARGE: f64 = 268_435_456.0;

/// Does the logarithm of x have two parts worth computing?
#[inline(always)]
fn ordinary(x: f64) -> bool {
    x > 0.0 && x < f64::INFINITY
}

/// ln x for a positive finite x.
#[inline(always)]
fn natural(x: f64) -> Double {
    let (hi, lo) = ln_double(x);
    Double::new(hi, lo)
}

/// ln v for a positive v: its low part counts by the derivative.
#[inline(always)]
fn natural_of(v: Double) -> Double {
    let (hi, lo) = ln_double(v.hi);
    Double::sum(hi, lo + v.lo / v.hi)
}

/// Logarithm to the base 2: −inf at 0, NaN below.
pub fn log2(x: f64) -> f64 {
    if !ordinary(x) {
        return ln(x);
    }
    let (k, hi, lo) = ln_parts(x);
    (Double::new(k, 0.0) + Double::new(hi, lo) * PER_LN2).value()
}

/// Logarithm to the base 10: −inf at 0, NaN below.
pub fn log10(x: f64) -> f64 {
    if ordinary(x) { (natural(x) * PER_LN10).value() } else { ln(x) }
}

/// Logarithm to any base, ln x / ln base.
pub fn log(base: f64, x: f64) -> f64 {
    match ordinary(x) && ordinary(base) && base != 1.0 {
        true => (natural(x) / natural(base)).value(),
        false => ln(x) / ln(base),
    }
}

/// The number whose hyperbolic sine is x.
pub fn asinh(x: f64) -> f64 {
    let a = x.abs();
    if a < TINY || !x.is_finite() {
        return x;
    }
    let value = if a >= LARGE { natural(a) + LN2 } else { natural_of(Double::new(a, 0.0) + root(a, 1.0)) };
    value.value().copysign(x)
}

/// The number at or above 0 whose hyperbolic cosine is x; NaN below 1.
pub fn acosh(x: f64) -> f64 {
    if x == f64::INFINITY {
        x
    } else if x >= LARGE {
        (natural(x) + LN2).value()
    } else if x > 1.0 {
        let product = Double::sum(x, -1.0) * Double::sum(x, 1.0);
        natural_of(Double::new(x, 0.0) + product.sqrt()).value()
    } else if x == 1.0 {
        0.0
    } else {
        f64::NAN
    }
}

/// The number whose hyperbolic tangent is x: infinite at ±1, NaN beyond.
pub fn atanh(x: f64) -> f64 {
    let a = x.abs();
    if a < TINY {
        x
    } else if a < 1.0 {
        natural_of(Double::sum(1.0, a) / Double::sum(1.0, -a)).scale(0.5).value().copysign(x)
    } else if a == 1.0 {
        f64::INFINITY.copysign(x)
    } else {
        f64::NAN
    }
}

/// sqrt(a² + b).
#[inline(always)]
fn root(a: f64, b: f64) -> Double {
    (Double::product(a, a) + Double::new(b, 0.0)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::pow;

    #[test]
    fn whole_logarithms_are_exact() {
        for power in -1074..=1023 {
            assert_eq!(log2(pow(2.0, f64::from(power))), f64::from(power));
        }
        for power in 0..=22 {
            assert_eq!(log10(pow(10.0, f64::from(power))), f64::from(power));
        }
        for base in 2..=9 {
            let mut x = 1.0;
            for power in 0..=16 {
                assert_eq!(log(f64::from(base), x), f64::from(power), "base {base}");
                x *= f64::from(base);
            }
        }
        assert_eq!(log(0.5, 8.0), -3.0);
        assert_eq!(log10(2.0).to_bits(), std::f64::consts::LOG10_2.to_bits());
        assert_eq!(log2(10.0).to_bits(), std::f64::consts::LOG2_10.to_bits());
    }

    #[test]
    fn special_values() {
        let inf = f64::INFINITY;
        for f in [log2, log10] {
            assert_eq!((f(0.0), f(-0.0), f(inf), f(1.0).to_bits()), (-inf, -inf, inf, 0));
            assert!(f(-1.0).is_nan() && f(-inf).is_nan() && f(f64::NAN).is_nan());
        }
        assert_eq!((log(10.0, 0.0), log(0.5, 0.0), log(2.0, inf), log(1.0, 2.0)), (-inf, inf, inf, inf));
        assert!(log(-2.0, 4.0).is_nan() && log(2.0, -4.0).is_nan() && log(1.0, 1.0).is_nan());
        assert!(log(f64::NAN, 4.0).is_nan() && log(2.0, f64::NAN).is_nan());
        for f in [asinh, atanh] {
            assert_eq!(f(0.0).to_bits(), 0.0_f64.to_bits());
            assert_eq!(f(-0.0).to_bits(), (-0.0_f64).to_bits());
            assert_eq!(f(-5e-324), -5e-324);
        }
        assert_eq!((asinh(inf), asinh(-inf), acosh(inf), acosh(1.0).to_bits()), (inf, -inf, inf, 0));
        assert_eq!((atanh(1.0), atanh(-1.0)), (inf, -inf));
        assert!(acosh(1.0 - f64::EPSILON).is_nan() && acosh(-inf).is_nan() && acosh(f64::NAN).is_nan());
        assert!(atanh(1.0 + f64::EPSILON).is_nan() && atanh(f64::NAN).is_nan() && asinh(f64::NAN).is_nan());
        assert!(asinh(f64::MAX).is_finite() && acosh(f64::MAX).is_finite());
    }

    #[test]
    fn inverses_lead_back() {
        for i in 1..=2_000 {
            let x = f64::from(i) / 200.0;
            let close = |back: f64| (back - x).abs() <= 8.0 * f64::EPSILON * x;
            assert!(close(asinh(crate::math::sinh(x))), "{x}");
            assert!(close(crate::math::sinh(asinh(x))), "{x}");
            assert!(x < 0.1 || close(acosh(crate::math::cosh(x))) || x < 1.0, "{x}");
            assert!(x > 1.0 || close(atanh(crate::math::tanh(x))), "{x}");
        }
    }
}
