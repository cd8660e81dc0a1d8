//! Argument reduction for the circular functions: x = quarter turns · π/2 + rest with |rest| <= π/4, the rest in
//! two parts, right to some 2^-60 of itself however near x is to a multiple of π/2 (no f64 comes nearer than 2^-61).
//!
//! Up to 2^20 by subtraction of π/2 in pieces of 33 bits (Cody and Waite, 1980; the pieces as in fdlibm), beyond by
//! an integer product with the bits of 2/π that matter (Payne and Hanek, 1983).

use super::double::Double;
use super::{MANTISSA, ROUND, exp2_whole};

/// π/2 in two parts.
pub(super) const HALF_PI: Double = Double::from_bits(0x3ff9_21fb_5444_2d18, 0x3c91_a626_3314_5c07);
/// π/2 in pieces of 33 bits, so that a product with a whole number below 2^20 is exact, and what is left.
const PIECES: [f64; 3] =
    [f64::from_bits(0x3ff9_21fb_5440_0000), f64::from_bits(0x3dd0_b461_1a60_0000), f64::from_bits(0x3ba3_198a_2e00_0000)];
const LEFT: f64 = f64::from_bits(0x397b_839a_2520_49c1);
const TWO20: f64 = 1_048_576.0;
/// 64 zero bits, then the binary digits of 2/π after the point.
const TWO_OVER_PI: [u64; 20] = [
    0x0000_0000_0000_0000,
    0xa2f9_836e_4e44_1529,
    0xfc27_57d1_f534_ddc0,
    0xdb62_9599_3c43_9041,
    0xfe51_63ab_debb_c561,
    0xb724_6e3a_424d_d2e0,
    0x0649_2eea_09d1_921c,
    0xfe1d_eb1c_b129_a73e,
    0xe882_35f5_2ebb_4484,
    0xe99c_7026_b45f_7e41,
    0x3991_d639_8353_39f4,
    0x9c84_5f8b_bdf9_283b,
    0x1ff8_97ff_de05_980f,
    0xef2f_118b_5a0a_6d1f,
    0x6d36_7ecf_27cb_09b7,
    0x4f46_3f66_9e5f_ea2d,
    0x7527_bac7_ebe5_f17b,
    0x3d07_39f7_8a52_92ea,
    0x6bfb_5fb1_1f8d_5d08,
    0x5603_3046_fc7b_6bab,
];

/// Quarter turns modulo 4 and the rest of a finite x.
#[inline(always)]
pub(super) fn reduce(x: f64) -> (u64, Double) {
    if x.abs() <= std::f64::consts::FRAC_PI_4 {
        (0, Double::new(x, 0.0))
    } else if x.abs() < TWO20 {
        moderate(x)
    } else {
        large(x)
    }
}

#[inline(always)]
fn moderate(x: f64) -> (u64, Double) {
    let n = (x * std::f64::consts::FRAC_2_PI + ROUND) - ROUND;
    // The first difference is exact: both numbers lie within a factor of two. The others keep what they lose.
    let first = Double::sum(x - n * PIECES[0], -(n * PIECES[1]));
    let second = Double::sum(first.hi, -(n * PIECES[2]));
    let rest = Double::sum(second.hi, (first.lo + second.lo) - n * LEFT);
    ((n as i64 as u64) & 3, rest)
}

/// For |x| >= 2^20: x = m · 2^e, and of 2/π only those 192 bits count whose product with x lies below 4 and not
/// beyond what the rest needs.
#[cold]
fn large(x: f64) -> (u64, Double) {
    let bits = x.to_bits();
    let e = ((bits >> 52) & 0x7ff) as i32 - 1075;
    let m = u128::from((bits & MANTISSA) | (MANTISSA + 1));
    // The first bit that counts has weight 2^(1 − e) in 2/π; e >= −32 here.
    let start = (e + 62) as usize;
    let word = |i: usize| {
        let pair = (u128::from(TWO_OVER_PI[start / 64 + i]) << 64) | u128::from(TWO_OVER_PI[start / 64 + i + 1]);
        ((pair << (start % 64)) >> 64) as u64
    };
    let low = m * u128::from(word(2));
    let middle = m * u128::from(word(1)) + (low >> 64);
    let high = m * u128::from(word(0)) + (middle >> 64);
    // Two bits of quarter turns, then the fraction.
    let (high, middle, low) = (high as u64, middle as u64, low as u64);
    let turns = high >> 62;
    let top = ((u128::from(high) << 64) | u128::from(middle)) << 2 | u128::from(low >> 62);
    let fraction = signed_fraction(top, low << 2);
    let (turns, rest) = (turns.wrapping_add(u64::from(fraction.hi < 0.0)), fraction * HALF_PI);
    if x < 0.0 { (turns.wrapping_neg() & 3, -rest) } else { (turns & 3, rest) }
}

/// A fraction of 192 bits as a number in [−1/2, 1/2): one from a half on counts from the next whole number down.
fn signed_fraction(top: u128, low: u64) -> Double {
    let negative = top >> 127 == 1;
    // Two's complement over all 192 bits.
    let (top, low) = match negative {
        true => ((!top).wrapping_add(u128::from(low == 0)), low.wrapping_neg()),
        false => (top, low),
    };
    let zeros = top.leading_zeros();
    // Never all zero: no f64 lies that near to a multiple of π/2.
    let shifted = if zeros == 0 { top } else { (top << zeros) | ((u128::from(low) << 64) >> (128 - zeros)) };
    let scale = exp2_whole(-f64::from(zeros));
    let hi = (shifted >> 75) as f64 * exp2_whole(-53.0) * scale;
    let lo = ((shifted >> 22) & ((1 << 53) - 1)) as f64 * exp2_whole(-106.0) * scale;
    let fraction = Double::ordered_sum(hi, lo);
    if negative { -fraction } else { fraction }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_agree_where_both_work() {
        // Whole and odd numbers just below and above 2^20, by either way.
        for i in 0..2_000 {
            let x = TWO20 + f64::from(i) * 0.618_033_988_75 - 1_000.0;
            let (turns, rest) = moderate(x);
            let (same_turns, same) = large(x);
            assert_eq!(turns, same_turns, "{x}");
            assert!((rest - same).value().abs() < 1e-30, "{x}: {rest:?} {same:?}");
        }
    }

    #[test]
    fn the_number_next_to_a_multiple_of_a_quarter_turn_keeps_its_rest() {
        // 6381956970095103 · 2^797, the worst of all f64 (Muller, Elementary Functions, 2006).
        let x = 6_381_956_970_095_103.0 * exp2_whole(797.0);
        let (turns, rest) = reduce(x);
        assert_eq!(turns, 1);
        assert!((rest.hi - 4.687_165_924_254_628e-19).abs() < 1e-33, "{rest:?}");
        let (turns, rest) = reduce(-x);
        assert_eq!(turns, 3);
        assert!(rest.hi < 0.0);
    }
}
