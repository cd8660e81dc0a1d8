//! Inverse circular functions, all from one: the angle of a ratio a : b with 0 <= a <= b. It takes off the nearest
//! sixteenth by the addition theorem, atan(a/b) = atan(c) + atan((a − c b) / (b + c a)), and sums a short series of
//! what is left. Arguments come in two parts, so that the roots in `asin` and `acos` cost nothing. Errors below
//! 0.6 ulp.

use super::double::Double;
use super::quarter::HALF_PI;
use super::{TWO54, exp2_whole};

const PI: Double = Double::from_bits(0x4009_21fb_5444_2d18, 0x3ca1_a626_3314_5c07);
/// atan(i / 16) in two parts.
const SIXTEENTHS: [Double; 17] = [
    Double::from_bits(0x0000_0000_0000_0000, 0x0000_0000_0000_0000),
    Double::from_bits(0x3faf_f55b_b72c_fdea, 0xbc3c_934d_86d2_3f1d),
    Double::from_bits(0x3fbf_d5ba_9aac_2f6e, 0xbc4c_d376_8676_0c17),
    Double::from_bits(0x3fc7_b97b_4bce_5b02, 0x3c53_47b0_b4f8_81ca),
    Double::from_bits(0x3fcf_5b75_f92c_80dd, 0x3c68_ab6e_3cf7_afbd),
    Double::from_bits(0x3fd3_6277_3707_ebcc, 0xbc69_63a5_44b6_72d8),
    Double::from_bits(0x3fd6_f619_41e4_def1, 0xbc7c_63aa_e6f6_e918),
    Double::from_bits(0x3fda_64ee_c3cc_23fd, 0xbc72_4dec_1b50_b7ff),
    Double::from_bits(0x3fdd_ac67_0561_bb4f, 0x3c7a_2b7f_222f_65e2),
    Double::from_bits(0x3fe0_657e_94db_30d0, 0xbc7d_5b49_5f63_49e6),
    Double::from_bits(0x3fe1_e00b_abde_feb4, 0xbc59_28df_287a_668f),
    Double::from_bits(0x3fe3_45f0_1cce_37bb, 0x3c81_0211_37c7_1102),
    Double::from_bits(0x3fe4_978f_a326_9ee1, 0x3c72_419a_87f2_a458),
    Double::from_bits(0x3fe5_d589_8716_9b18, 0x3c60_028e_4bc5_e7ca),
    Double::from_bits(0x3fe7_00a7_c578_4634, 0xbc78_c34d_25aa_def6),
    Double::from_bits(0x3fe8_19d0_b715_8a4d, 0xbc7b_f762_29d3_b917),
    Double::from_bits(0x3fe9_21fb_5444_2d18, 0x3c81_a626_3314_5c07),
];
/// Below 2^-28 the next term of asin and atan lies under half an ulp.
const TINY: f64 = 3.725_290_298_461_914e-9;
/// 2^60: a ratio beyond it leaves no trace beside π/2.
const HUGE: f64 = 1_152_921_504_606_846_976.0;

/// The angle whose sine is x, in [−π/2, π/2]; NaN beyond ±1.
pub fn asin(x: f64) -> f64 {
    let a = x.abs();
    if a < TINY {
        return x;
    }
    match a <= 1.0 {
        true => angle(Double::new(a, 0.0), other_leg(a)).value().copysign(x),
        false => f64::NAN,
    }
}

/// The angle whose cosine is x, in [0, π]; NaN beyond ±1.
pub fn acos(x: f64) -> f64 {
    let a = x.abs();
    if a <= 1.0 { beyond(angle(other_leg(a), Double::new(a, 0.0)), x).value() } else { f64::NAN }
}

/// The angle whose tangent is x, in [−π/2, π/2].
pub fn atan(x: f64) -> f64 {
    let a = x.abs();
    if a < TINY || x.is_nan() {
        x
    } else if a > HUGE {
        HALF_PI.hi.copysign(x)
    } else {
        angle(Double::new(a, 0.0), Double::new(1.0, 0.0)).value().copysign(x)
    }
}

/// The angle of the point (x, y), in [−π, π], with the special values of C99: zeros count with their sign, of two
/// infinities the angle lies on a diagonal.
pub fn atan2(y: f64, x: f64) -> f64 {
    if x.is_nan() || y.is_nan() {
        return f64::NAN;
    }
    let (y, x) = if y.is_infinite() || x.is_infinite() { (direction(y), direction(x)) } else { (y, x) };
    let (a, b) = (y.abs(), x.abs());
    let larger = if a > b { a } else { b };
    let smaller = if a > b { b } else { a };
    // One leg leaves no trace beside the other, or is zero.
    if smaller <= larger * (1.0 / HUGE) && smaller < larger || larger == 0.0 {
        return flat(y, x);
    }
    let factor = to_one(larger);
    let lift = if larger < f64::MIN_POSITIVE { TWO54 } else { 1.0 };
    let leg = |v: f64| Double::new(v * lift * factor, 0.0);
    beyond(angle(leg(a), leg(b)), x).value().copysign(y)
}

/// An infinity becomes ±1, anything else ±0.
fn direction(v: f64) -> f64 {
    f64::from(u8::from(v.is_infinite())).copysign(v)
}

/// `atan2` where the smaller leg is below 2^-60 of the larger, or both are zero.
fn flat(y: f64, x: f64) -> f64 {
    if y.abs() > x.abs() {
        HALF_PI.hi.copysign(y)
    } else if x.is_sign_negative() {
        PI.hi.copysign(y)
    } else if x == 0.0 {
        y
    } else {
        y / x
    }
}

/// The power of two that brings a positive number into [1, 4); a subnormal one after it was lifted by 2^54.
fn to_one(v: f64) -> f64 {
    let v = if v < f64::MIN_POSITIVE { v * TWO54 } else { v };
    let exponent = (v.to_bits() >> 52) as i32 - 1023;
    exp2_whole(-f64::from(exponent.min(1022)))
}

/// sqrt(1 − a²) for a in [0, 1].
#[inline(always)]
fn other_leg(a: f64) -> Double {
    (Double::sum(1.0, -a) * Double::sum(1.0, a)).sqrt()
}

/// π − angle where x is negative.
#[inline(always)]
fn beyond(angle: Double, x: f64) -> Double {
    if x < 0.0 { PI - angle } else { angle }
}

/// atan(a / b) for a, b >= 0, not both zero.
#[inline(always)]
fn angle(a: Double, b: Double) -> Double {
    if a.hi <= b.hi { small_angle(a, b) } else { HALF_PI - small_angle(b, a) }
}

/// atan(a / b) for 0 <= a <= b.
#[inline(always)]
fn small_angle(a: Double, b: Double) -> Double {
    let nearest = (a.hi / b.hi * 16.0 + 0.5) as usize;
    let c = nearest as f64 * 0.0625;
    let times_c = |v: Double| {
        let product = Double::product(v.hi, c);
        Double::new(product.hi, product.lo + v.lo * c)
    };
    let t = (a - times_c(b)) / (b + times_c(a));
    let z = t.hi * t.hi;
    let series = (1.0 / 3.0 - z * (1.0 / 5.0)) + (z * z) * ((1.0 / 7.0 - z * (1.0 / 9.0)) + (z * z) * (1.0 / 11.0));
    SIXTEENTHS[nearest.min(16)] + Double::ordered_sum(t.hi, t.lo - (t.hi * z) * series)
}

#[cfg(test)]
mod tests {
    use std::f64::consts::{FRAC_PI_2, FRAC_PI_4};

    use super::*;

    #[test]
    fn special_values() {
        for f in [asin, atan] {
            assert_eq!(f(0.0).to_bits(), 0.0_f64.to_bits());
            assert_eq!(f(-0.0).to_bits(), (-0.0_f64).to_bits());
            assert_eq!(f(-5e-324), -5e-324);
        }
        assert_eq!((asin(1.0), asin(-1.0)), (FRAC_PI_2, -FRAC_PI_2));
        assert_eq!((acos(1.0).to_bits(), acos(-1.0), acos(0.0)), (0, std::f64::consts::PI, FRAC_PI_2));
        assert_eq!((acos(5e-324), acos(-5e-324)), (FRAC_PI_2, FRAC_PI_2));
        assert_eq!((atan(f64::INFINITY), atan(f64::NEG_INFINITY)), (FRAC_PI_2, -FRAC_PI_2));
        assert_eq!((atan(1.0), atan(-1.0)), (FRAC_PI_4, -FRAC_PI_4));
        for x in [1.0 + f64::EPSILON, -2.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
            assert!(asin(x).is_nan() && acos(x).is_nan(), "{x}");
        }
        assert!(atan(f64::NAN).is_nan() && atan2(f64::NAN, 1.0).is_nan() && atan2(f64::INFINITY, f64::NAN).is_nan());
    }

    #[test]
    fn the_four_quadrants_and_their_borders() {
        let (pi, inf) = (std::f64::consts::PI, f64::INFINITY);
        let three_quarters = 2.356_194_490_192_345;
        for (y, x, want) in [
            (0.0, 0.0, 0.0),
            (0.0, -0.0, pi),
            (0.0, 7.0, 0.0),
            (0.0, -7.0, pi),
            (3.0, 0.0, FRAC_PI_2),
            (3.0, -0.0, FRAC_PI_2),
            (2.0, 2.0, FRAC_PI_4),
            (2.0, -2.0, three_quarters),
            (inf, inf, FRAC_PI_4),
            (inf, -inf, three_quarters),
            (inf, 1.0, FRAC_PI_2),
            (1.0, inf, 0.0),
            (1.0, -inf, pi),
            (5e-324, 5e-324, FRAC_PI_4),
            (1e308, -1e308, three_quarters),
            (1.7e308, 1e-308, FRAC_PI_2),
            (1e-308, -1.7e308, pi),
            (1e-308, 1.7e308, 0.0),
            (1e-320, 1.0, 1e-320),
            (3e-320, 2e-320, 0.982_793_723_247_329),
        ] {
            assert_eq!(atan2(y, x).to_bits(), f64::to_bits(want), "atan2({y}, {x}) = {}", atan2(y, x));
            assert_eq!(atan2(-y, x).to_bits(), (-atan2(y, x)).to_bits(), "atan2(-{y}, {x})");
        }
    }

    #[test]
    fn both_angles_of_a_triangle_make_a_quarter_turn() {
        for i in -1_000..=1_000 {
            let x = f64::from(i) / 1_000.0;
            assert!((asin(x) + acos(x) - FRAC_PI_2).abs() <= 2.0 * f64::EPSILON, "{x}");
            assert_eq!(asin(-x).to_bits(), (-asin(x)).to_bits(), "{x}");
            assert_eq!(atan2(x, 1.0).to_bits(), atan(x).to_bits(), "{x}");
        }
    }
}
