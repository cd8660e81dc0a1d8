//! Elementary functions in plain f64 arithmetic: the same bits on every machine, with any instruction
//! set. No libm, no FMA. What the kernels call (`exp`, `ln`, `log1p`, `sigmoid`) has no branches and no
//! tables, so that loops over it vectorise; the rest is for SQL and takes care of every last bit.
//!
//! `exp` and `ln` follow fdlibm's argument reduction (Sun Microsystems, 1993); `pow` and the modules carry
//! what one f64 cannot hold as a sum of two. Errors: `exp`, `ln`, `log1p` below 1 ulp, `expm1` below 2, `pow`
//! below 2; of all functions in the modules below 0.6, over the full range and with subnormals.
//! `learn/tests/math_golden.rs` holds them to that.

mod circular;
mod double;
mod hyperbolic;
mod inverse;
mod logarithm;
mod quarter;
mod root;
mod series;

pub use circular::{cos, cot, sin, tan};
pub use hyperbolic::{cosh, sinh, tanh};
pub use inverse::{acos, asin, atan, atan2};
pub use logarithm::{acosh, asinh, atanh, log, log2, log10};
pub use root::cbrt;

/// High part of ln 2: its last 32 bits are zero, so that `k · LN2_HI` is exact for |k| < 2^20.
const LN2_HI: f64 = f64::from_bits(0x3fe6_2e42_fee0_0000);
/// ln 2 − `LN2_HI`.
const LN2_LO: f64 = f64::from_bits(0x3dea_39ef_3579_3c76);
/// What is left of ln 2 after both parts.
const LN2_LO_LO: f64 = 1.161_222_722_936_253_2e-26;
/// log2(e).
const LOG2_E: f64 = std::f64::consts::LOG2_E;
/// 1.5 · 2^52: added and subtracted it rounds to the nearest integer, ties to even.
const ROUND: f64 = 6_755_399_441_055_744.0;
/// Bits of sqrt(1/2): mantissas are brought to [sqrt(1/2), sqrt(2)).
const SQRT_HALF_BITS: u64 = 0x3fe6_a09e_667f_3bcd;
const ONE_BITS: u64 = 0x3ff0_0000_0000_0000;
const MANTISSA: u64 = 0x000f_ffff_ffff_ffff;
/// 2^52 as bits: or-ing a small integer into it gives 2^52 + integer.
const TWO52_BITS: u64 = 0x4330_0000_0000_0000;
const TWO52: f64 = 4_503_599_627_370_496.0;
/// 2^54 lifts subnormals into the normal range.
const TWO54: f64 = 18_014_398_509_481_984.0;

/// `a` where `condition`, else `b`: compiles to a blend.
#[inline(always)]
fn select(condition: bool, a: f64, b: f64) -> f64 {
    if condition { a } else { b }
}

/// 2^n for a whole `n` in [−1022, 1023], by its bits.
#[inline(always)]
fn exp2_whole(n: f64) -> f64 {
    // ROUND + 1023 + n holds the biased exponent in its low bits; the shift drops everything above.
    f64::from_bits((n + (ROUND + 1023.0)).to_bits() << 52)
}

/// x = n · ln 2 + hi − lo with n whole and |hi − lo| <= ln 2 / 2.
#[inline(always)]
fn reduce(x: f64) -> (f64, f64, f64) {
    let n = (x * LOG2_E + ROUND) - ROUND;
    (n, x - n * LN2_HI, n * LN2_LO)
}

/// exp(r) − 1 − r for |r| <= 0.35: Taylor to r^13, remainder below 2^-57 of the result.
#[inline(always)]
fn exp_tail(r: f64) -> f64 {
    let r2 = r * r;
    let r4 = r2 * r2;
    let a = 1.0 / 6.0 + r * (1.0 / 24.0);
    let b = 1.0 / 120.0 + r * (1.0 / 720.0);
    let c = 1.0 / 5_040.0 + r * (1.0 / 40_320.0);
    let d = 1.0 / 362_880.0 + r * (1.0 / 3_628_800.0);
    let e = 1.0 / 39_916_800.0 + r * (1.0 / 479_001_600.0);
    let f = 1.0 / 6_227_020_800.0;
    let p = (a + r2 * b) + r4 * ((c + r2 * d) + r4 * (e + r2 * f));
    0.5 * r2 + (r * r2) * p
}

/// e^x. Overflows to infinity above 709.78, reaches 0 through the subnormals below −745.13.
#[inline(always)]
pub fn exp(x: f64) -> f64 {
    exp_sum(x, 0.0)
}

/// e^(x + low) for |low| far below |x|.
#[inline(always)]
fn exp_sum(x: f64, low: f64) -> f64 {
    let x = select(x > 710.0, 710.0, x);
    let x = select(x < -746.0, -746.0, x);
    let (n, hi, lo) = reduce(x);
    let lo = lo - low;
    let y = 1.0 + (hi + (exp_tail(hi - lo) - lo));
    // Two factors, so that neither over- nor underflows before the result does.
    let half = (n * 0.5 + ROUND) - ROUND;
    y * exp2_whole(half) * exp2_whole(n - half)
}

/// e^x − 1, accurate near 0.
#[inline(always)]
pub fn expm1(x: f64) -> f64 {
    let clamped = select(x < -60.0, -60.0, select(x > 50.0, 50.0, x));
    let (n, hi, lo) = reduce(clamped);
    let q = hi + (exp_tail(hi - lo) - lo);
    let scale = exp2_whole(n);
    let near = scale * q + (scale - 1.0);
    let y = select(x > 50.0, exp(x), near);
    select(x == 0.0, x, y)
}

/// x = 2^k · m with m in [sqrt(1/2), sqrt(2)); gives (k, m). Only for normal positive x.
#[inline(always)]
fn split(x: f64) -> (f64, f64) {
    let shifted = x.to_bits().wrapping_add(ONE_BITS - SQRT_HALF_BITS);
    let k = f64::from_bits(TWO52_BITS | (shifted >> 52)) - (TWO52 + 1023.0);
    (k, f64::from_bits((shifted & MANTISSA) + SQRT_HALF_BITS))
}

/// fdlibm's R(s²): ln(1+f) = f − f²/2 + s (f²/2 + R), s = f / (2 + f).
#[inline(always)]
#[expect(clippy::excessive_precision, reason = "the digits of the source")]
fn log_tail(s: f64) -> f64 {
    let z = s * s;
    let w = z * z;
    let even = w * (3.999_999_999_940_941_908e-1 + w * (2.222_219_843_214_978_396e-1 + w * 1.531_383_769_920_937_332e-1));
    let odd = z
        * (6.666_666_666_666_735_13e-1
            + w * (2.857_142_874_366_239_149e-1 + w * (1.818_357_216_161_805_012e-1 + w * 1.479_819_860_511_658_591e-1)));
    even + odd
}

/// Natural logarithm: −inf at 0, NaN below.
#[inline(always)]
pub fn ln(x: f64) -> f64 {
    let tiny = x < f64::MIN_POSITIVE;
    let (k, m) = split(select(tiny, x * TWO54, x));
    let k = k - select(tiny, 54.0, 0.0);
    let f = m - 1.0;
    let s = f / (2.0 + f);
    let half = 0.5 * f * f;
    let y = k * LN2_HI - ((half - (s * (half + log_tail(s)) + k * LN2_LO)) - f);
    let y = select(x == f64::INFINITY, x, y);
    let y = select(x == 0.0, f64::NEG_INFINITY, y);
    select(x >= 0.0, y, f64::NAN)
}

/// ln(1 + x), accurate near 0: −inf at −1, NaN below.
#[inline(always)]
pub fn log1p(x: f64) -> f64 {
    let u = 1.0 + x;
    let (k, m) = split(u);
    // What 1 + x lost in rounding, as a correction of the logarithm.
    let lost = select(k >= 2.0, 1.0 - (u - x), x - (u - 1.0)) / u;
    let near = x > -0.292_893_218_813_452_37 && x < 0.414_213_562_373_095_03;
    let k = select(near, 0.0, k);
    let f = select(near, x, m - 1.0);
    let c = select(near, 0.0, lost);
    let s = f / (2.0 + f);
    let half = 0.5 * f * f;
    let y = k * LN2_HI - ((half - (s * (half + log_tail(s)) + (k * LN2_LO + c))) - f);
    let y = select(x == f64::INFINITY, x, y);
    let y = select(x == -1.0, f64::NEG_INFINITY, y);
    let y = select(x == 0.0, x, y);
    select(x >= -1.0, y, f64::NAN)
}

/// 1 / (1 + e^−x), without overflow on either side.
#[inline(always)]
pub fn sigmoid(x: f64) -> f64 {
    let e = exp(-x.abs());
    select(x >= 0.0, 1.0, e) / (1.0 + e)
}

/// ln(1 + e^x) (softplus), without overflow.
#[inline(always)]
pub fn log1pexp(x: f64) -> f64 {
    select(x < 0.0, 0.0, x) + log1p(exp(-x.abs()))
}

/// The sign bit.
pub(crate) const SIGN: u64 = 1 << 63;

/// What the logistic loss needs of a margin.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Logistic {
    /// 1 / (1 + e^−s).
    pub sigmoid: f64,
    /// Its derivative, sigmoid · (1 − sigmoid).
    pub slope: f64,
    /// ln(1 + e^s).
    pub softplus: f64,
}

/// Minimax fit of (e^r − 1 − r) / r² for |r| <= ln 2 / 2, to 2^-55.8 of e^r.
const EXP_FIT: [f64; 10] = [
    0.5000000000000001,
    0.16666666666666669,
    0.04166666666662413,
    0.008333333333330062,
    0.0013888888917213717,
    0.00019841269863053618,
    2.4801521295954376e-5,
    2.7557268459997064e-6,
    2.7620088445409746e-7,
    2.510038549551032e-8,
];

/// Minimax fit of (2 atanh √z / √z − 2) / z for z in [0, 1/9], to 2^-56.9 of the logarithm.
const LOG_FIT: [f64; 10] = [
    0.6666666666666666,
    0.40000000000014585,
    0.2857142856710876,
    0.22222222717427864,
    0.18181789436132859,
    0.15385570064958623,
    0.13314144209654935,
    0.12001072809590713,
    0.08800738486144674,
    0.1616404561194353,
];

/// c_0 + c_1 x + … + c_9 x⁹, by Estrin's scheme: short chains.
#[inline(always)]
fn polynomial(c: &[f64; 10], x: f64) -> f64 {
    let x2 = x * x;
    let x4 = x2 * x2;
    let low = (c[0] + x * c[1]) + x2 * (c[2] + x * c[3]);
    let middle = (c[4] + x * c[5]) + x2 * (c[6] + x * c[7]);
    low + x4 * (middle + x4 * (c[8] + x * c[9]))
}

/// Sigmoid, its slope and softplus of `s` at the cost of one exponential and one division; each within
/// 4 ulp. What lies below e^−708 is taken for e^−708.
#[inline(always)]
pub(crate) fn logistic(s: f64) -> Logistic {
    // e = e^−|s|: as in `exp`, but with a result that needs neither two factors nor an upper end.
    let x = f64::from_bits(s.to_bits() | SIGN);
    let x = select(x < -708.0, -708.0, x);
    let biased = x * LOG2_E + (ROUND + 1023.0);
    let n = biased - (ROUND + 1023.0);
    let r = (x - n * LN2_HI) - n * LN2_LO;
    let e = (1.0 + (r + (r * r) * polynomial(&EXP_FIT, r))) * f64::from_bits(biased.to_bits() << 52);
    // ln(1 + e) = 2 atanh t with t = e / (2 + e) <= 1/3; 1 / (1 + e) and t share the division.
    let (one, two) = (1.0 + e, 2.0 + e);
    let inverse = 1.0 / (one * two);
    let near = two * inverse;
    let t = (one * inverse) * e;
    let z = t * t;
    let tail = t * (2.0 + z * polynomial(&LOG_FIT, z));
    Logistic { sigmoid: near * select(s >= 0.0, 1.0, e), slope: (e * near) * near, softplus: select(s > 0.0, s, 0.0) + tail }
}

/// a + b exactly, as (sum, rest).
#[inline(always)]
pub(crate) fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let s = a + b;
    let t = s - a;
    (s, (a - (s - t)) + (b - t))
}

/// a · b exactly, as (product, rest): Dekker's, without FMA.
#[inline(always)]
pub(crate) fn two_product(a: f64, b: f64) -> (f64, f64) {
    let cut = |x: f64| {
        let c = 134_217_729.0 * x;
        let high = c - (c - x);
        (high, x - high)
    };
    let p = a * b;
    let ((ah, al), (bh, bl)) = (cut(a), cut(b));
    (p, ((ah * bh - p) + ah * bl + al * bh) + al * bl)
}

/// x = 2^k · m; gives k and ln m in double-double, to about 2^-68 relative. Only for positive finite x.
fn ln_parts(x: f64) -> (f64, f64, f64) {
    let tiny = x < f64::MIN_POSITIVE;
    let (k, m) = split(select(tiny, x * TWO54, x));
    let k = k - select(tiny, 54.0, 0.0);
    // s = (m − 1) / (m + 1) as (s, t).
    let f = m - 1.0;
    let (d, d_low) = two_sum(m, 1.0);
    let s = f / d;
    let (p, p_low) = two_product(s, d);
    let t = (((f - p) - p_low) - s * d_low) / d;
    // ln m = 2s + s·z·(2/3 + z·(2/5 + …)), z = s²; the first term of the tail in double-double.
    let (z, z_low) = two_product(s, s);
    let z_low = z_low + 2.0 * s * t;
    let mut rest = 2.0 / 27.0;
    for odd in [25.0, 23.0, 21.0, 19.0, 17.0, 15.0, 13.0, 11.0, 9.0, 7.0, 5.0] {
        rest = 2.0 / odd + z * rest;
    }
    let (a, a_low) = two_sum(2.0 / 3.0, z * rest);
    let a_low = a_low + 3.700_743_415_417_188e-17;
    let (b, b_low) = two_product(z, a);
    let b_low = b_low + (z * a_low + z_low * a);
    let (c, c_low) = two_product(s, b);
    let c_low = c_low + (s * b_low + t * b);
    let (y, y_low) = two_sum(2.0 * s, c);
    (k, y, y_low + (2.0 * t + c_low))
}

/// Natural logarithm of a positive finite number in double-double, to about 2^-68 relative.
fn ln_double(x: f64) -> (f64, f64) {
    let (k, y, y_low) = ln_parts(x);
    let (h, h_low) = two_sum(k * LN2_HI, y);
    let (l, l_low) = two_product(k, LN2_LO);
    let (h2, h2_low) = two_sum(h, l);
    let low = h_low + y_low + h2_low + l_low + k * LN2_LO_LO;
    let (high, rest) = two_sum(h2, low);
    (high, rest)
}

/// Is `y` whole, and is it odd?
fn parity(y: f64) -> (bool, bool) {
    let whole = y.floor() == y && y.is_finite();
    (whole, whole && y.abs() < 2.0 * TWO52 && (y.abs() * 0.5).floor() * 2.0 != y.abs())
}

/// x^y with the special cases of C99: pow(x, 0) = pow(1, y) = 1 even for NaN, a negative x needs a whole y.
pub fn pow(x: f64, y: f64) -> f64 {
    if y == 0.0 || x == 1.0 {
        return 1.0;
    }
    if x.is_nan() || y.is_nan() {
        return f64::NAN;
    }
    let (whole, odd) = parity(y);
    let base = x.abs();
    let sign = if x.is_sign_negative() && odd { -1.0 } else { 1.0 };
    if y.is_infinite() {
        return if base == 1.0 {
            1.0
        } else if (base > 1.0) == (y > 0.0) {
            f64::INFINITY
        } else {
            0.0
        };
    }
    if base == 0.0 || base.is_infinite() {
        return sign * if (base == 0.0) == (y > 0.0) { 0.0 } else { f64::INFINITY };
    }
    if x < 0.0 && !whole {
        return f64::NAN;
    }
    if base == 1.0 {
        return sign;
    }
    // Beyond 2^70 every base but 1 over- or underflows: the clamp keeps Dekker's products finite.
    let limit = 1_180_591_620_717_411_303_424.0;
    let y = y.clamp(-limit, limit);
    let (high, low) = ln_double(base);
    let (p, p_low) = two_product(y, high);
    let rest = p_low + y * low;
    let rest = if p.abs() < 800.0 { rest } else { 0.0 };
    sign * exp_sum(p, rest)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the standard library is the oracle here")]
mod tests {
    use super::*;

    fn ulps(a: f64, b: f64) -> f64 {
        if a == b || (a.is_nan() && b.is_nan()) {
            return 0.0;
        }
        let ulp = f64::from_bits(b.abs().to_bits() + 1) - b.abs();
        (a - b).abs() / ulp
    }

    /// Points over `range`, evenly and by powers of two, from a fixed generator.
    fn points(low: f64, high: f64) -> Vec<f64> {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        (0..200_000)
            .map(|_| {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                low + (high - low) * ((seed >> 11) as f64 / 9_007_199_254_740_992.0)
            })
            .collect()
    }

    fn worst(low: f64, high: f64, ours: impl Fn(f64) -> f64, theirs: impl Fn(f64) -> f64) -> f64 {
        points(low, high).into_iter().map(|x| ulps(ours(x), theirs(x))).fold(0.0, f64::max)
    }

    #[test]
    fn exp_is_close_to_the_oracle() {
        for (low, high) in [(-1.0, 1.0), (-30.0, 30.0), (-708.0, 709.0), (-1e-8, 1e-8)] {
            assert!(worst(low, high, exp, f64::exp) <= 1.0, "{low}..{high}");
            assert!(worst(low, high, expm1, f64::exp_m1) <= 2.0, "{low}..{high}");
        }
        assert!(points(-745.0, -708.0).into_iter().all(|x| (exp(x) - x.exp()).abs() <= 5e-324));
    }

    #[test]
    fn logarithms_are_close_to_the_oracle() {
        for (low, high) in [(0.0, 2.0), (0.5, 1.5), (0.0, 1e300), (0.0, 1e-300), (0.0, 1e-310)] {
            assert!(worst(low, high, ln, f64::ln) <= 1.0, "{low}..{high}");
        }
        for (low, high) in [(-1.0, 1.0), (-1e-9, 1e-9), (0.0, 100.0), (0.0, 1e17)] {
            assert!(worst(low, high, log1p, f64::ln_1p) <= 1.5, "{low}..{high}");
        }
    }

    #[test]
    fn pow_is_close_to_the_oracle() {
        for y in [0.5, -0.5, 2.0, 3.0, -7.0, 1.0 / 3.0, 100.3, 0.01] {
            assert!(worst(0.0, 1e3, |x| pow(x, y), |x| x.powf(y)) <= 2.0, "y {y}");
            assert!(worst(0.5, 2.0, |x| pow(x, y), |x| x.powf(y)) <= 2.0, "y {y}");
        }
        assert!(worst(-1000.0, 1000.0, |y| pow(1.9, y), |y| 1.9_f64.powf(y)) <= 2.0);
        assert!(worst(0.99, 1.01, |x| pow(x, 60_000.0), |x| x.powf(60_000.0)) <= 2.0);
        assert_eq!(pow(2.0, 1023.0), 8.98846567431158e307);
        assert_eq!(pow(2.0, -1074.0), 5e-324);
        assert_eq!(pow(10.0, 3.0), 1000.0);
        assert_eq!(pow(-2.0, 3.0), -8.0);
    }

    #[test]
    fn special_values_are_those_of_the_oracle() {
        let values = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 3.0, -3.0, 1e300, -1e300, 1e-320, -1e-320];
        let values = [&values[..], &[f64::INFINITY, f64::NEG_INFINITY, f64::NAN, f64::MAX, 9_007_199_254_740_993.0]].concat();
        let same = |ours: f64, theirs: f64, what: String| {
            assert!(
                ulps(ours, theirs) <= 1.0 && (theirs.is_nan() || ours.is_sign_negative() == theirs.is_sign_negative()),
                "{what}: {ours} {theirs}"
            );
        };
        for &x in &values {
            same(exp(x), x.exp(), format!("exp {x}"));
            same(expm1(x), x.exp_m1(), format!("expm1 {x}"));
            same(ln(x), x.ln(), format!("ln {x}"));
            same(log1p(x), x.ln_1p(), format!("log1p {x}"));
            for &y in &values {
                same(pow(x, y), x.powf(y), format!("pow {x} {y}"));
            }
        }
    }

    #[test]
    fn the_logistic_three_are_close_to_the_oracle() {
        for (low, high) in [(-1.0, 1.0), (-1e-9, 1e-9), (-40.0, 40.0), (-700.0, 700.0)] {
            assert!(worst(low, high, |s| logistic(s).sigmoid, sigmoid) <= 4.0, "{low}..{high}");
            assert!(worst(low, high, |s| logistic(s).softplus, log1pexp) <= 4.0, "{low}..{high}");
            let slope = |s: f64| sigmoid(s) * sigmoid(-s);
            assert!(worst(low, high, |s| logistic(s).slope, slope) <= 6.0, "{low}..{high}");
        }
        let far = logistic(f64::INFINITY);
        assert!(far.sigmoid == 1.0 && far.slope < 1e-300 && far.softplus == f64::INFINITY);
        let far = logistic(f64::NEG_INFINITY);
        assert!(far.sigmoid < 1e-300 && far.slope < 1e-300 && far.softplus < 1e-300);
        let not = logistic(f64::NAN);
        assert!(not.sigmoid.is_nan() && not.slope.is_nan() && not.softplus.is_nan());
        assert_eq!(logistic(0.0).sigmoid, 0.5);
    }

    #[test]
    fn known_answers() {
        // Bits, so that a change of the numeric version cannot go unnoticed.
        assert_eq!(exp(1.0).to_bits(), 0x4005_bf0a_8b14_5769);
        assert_eq!(ln(10.0).to_bits(), 0x4002_6bb1_bbb5_5516);
        assert_eq!(sigmoid(0.0), 0.5);
        assert_eq!(sigmoid(-800.0), 0.0);
        assert_eq!(sigmoid(800.0), 1.0);
        assert_eq!(log1pexp(0.0).to_bits(), std::f64::consts::LN_2.to_bits());
        assert_eq!(log1pexp(1000.0), 1000.0);
        assert!(sigmoid(f64::NAN).is_nan() && log1pexp(f64::NAN).is_nan());
    }
}
