//! Exact numbers of any size and their roundings: what sums become when they are evaluated.

use super::limbs::Limbs;

/// ± limbs · 2^exponent, without zero limbs at the top and without zero bits at the end; zero has no limbs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Number {
    negative: bool,
    limbs: Limbs,
    exponent: i32,
}

/// A number of 64 bits or more, cut to 64.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leading {
    negative: bool,
    /// The uppermost bit is set, unless the number is zero.
    bits: u64,
    /// Of the lowest of the bits.
    exponent: i32,
    /// Whether anything was cut off.
    more: bool,
}

impl Number {
    /// ± limbs · 2^exponent.
    pub fn new(negative: bool, mut limbs: Limbs, exponent: i32) -> Self {
        let Some(last) = limbs.iter().rposition(|l| *l != 0) else {
            return Self { negative: false, limbs: Limbs::zeros(0), exponent: 0 };
        };
        let first = limbs.iter().take_while(|l| **l == 0).count();
        let bit = limbs[first].trailing_zeros();
        if first > 0 || bit > 0 {
            for i in first..=last {
                let above = if bit == 0 || i == last { 0 } else { limbs[i + 1] << (64 - bit) };
                limbs[i - first] = limbs[i] >> bit | above;
            }
        }
        limbs.truncate(last - first + 1);
        if limbs.last() == Some(&0) {
            limbs.truncate(last - first);
        }
        Self { negative, limbs, exponent: exponent + 64 * first as i32 + bit as i32 }
    }

    /// A count.
    pub fn count(n: u64) -> Self {
        Self::new(false, Limbs::from_iter([n]), 0)
    }

    pub fn is_zero(&self) -> bool {
        self.limbs.is_empty()
    }

    pub fn negative(&self) -> bool {
        self.negative
    }

    /// The magnitude without its power of two; the lowest bit is set.
    pub fn limbs(&self) -> &[u64] {
        &self.limbs
    }

    pub fn exponent(&self) -> i32 {
        self.exponent
    }

    /// Product.
    pub fn times(&self, other: &Self) -> Self {
        let mut limbs = Limbs::zeros(self.limbs.len() + other.limbs.len());
        for (i, a) in self.limbs.iter().enumerate() {
            let mut carry = 0;
            for (b, limb) in other.limbs.iter().zip(&mut limbs[i..]) {
                let sum = u128::from(*a) * u128::from(*b) + u128::from(*limb) + u128::from(carry);
                (*limb, carry) = (sum as u64, (sum >> 64) as u64);
            }
            limbs[i + other.limbs.len()] = carry;
        }
        Self::new(self.negative ^ other.negative, limbs, self.exponent + other.exponent)
    }

    /// Difference.
    pub fn minus(&self, other: &Self) -> Self {
        if other.is_zero() {
            return self.clone();
        }
        if self.is_zero() {
            return Self { negative: !other.negative, ..other.clone() };
        }
        let exponent = self.exponent.min(other.exponent);
        let length = self.length_at(exponent).max(other.length_at(exponent)) + 1;
        let (mut ours, mut theirs) = (self.limbs_at(exponent, length), other.limbs_at(exponent, length));
        if self.negative != other.negative {
            add(&mut ours, &theirs);
            return Self::new(self.negative, ours, exponent);
        }
        if ours.iter().rev().ge(theirs.iter().rev()) {
            subtract(&mut ours, &theirs);
            Self::new(self.negative, ours, exponent)
        } else {
            subtract(&mut theirs, &ours);
            Self::new(!self.negative, theirs, exponent)
        }
    }

    /// Limbs that the magnitude needs at most for a smaller exponent.
    fn length_at(&self, exponent: i32) -> usize {
        self.limbs.len() + (self.exponent - exponent) as usize / 64 + 1
    }

    /// The magnitude for a smaller exponent, with zeros above.
    fn limbs_at(&self, exponent: i32, length: usize) -> Limbs {
        shifted_left(&self.limbs, (self.exponent - exponent) as u32, length)
    }

    /// The nearest f64, ties to even; infinite where that is beyond the largest.
    pub fn nearest(&self) -> f64 {
        self.leading().nearest()
    }

    fn leading(&self) -> Leading {
        let Some(top) = self.limbs.last() else { return Leading::ZERO };
        let zeros = top.leading_zeros();
        let below = if self.limbs.len() > 1 { self.limbs[self.limbs.len() - 2] } else { 0 };
        let (bits, rest) = match zeros {
            0 => (*top, below),
            _ => (top << zeros | below >> (64 - zeros), below << zeros),
        };
        let more = rest != 0 || self.limbs.len() > 2;
        let exponent = self.exponent + 64 * (self.limbs.len() as i32 - 1) - zeros as i32;
        Leading { negative: self.negative, bits, exponent, more }
    }

    /// Quotient by a number other than zero, to 63 bits or more. Source: Knuth, "The Art of Computer Programming" 2,
    /// 4.3.1, algorithm D, one digit of it.
    pub fn over(&self, divisor: &Self) -> Leading {
        if self.is_zero() {
            return Leading::ZERO;
        }
        let length = self.limbs.len().max(divisor.limbs.len());
        // With their top bits at one place: rest · 2^63 is at least divisor · 2^62 and less than divisor · 2^64.
        let (rest_places, divisor_places) = (places_to_top(&self.limbs, length), places_to_top(&divisor.limbs, length));
        let mut rest = shifted_left(&self.limbs, rest_places + 63, length + 1);
        let divisor_limbs = shifted_left(&divisor.limbs, divisor_places, length);
        let mut digit = estimate(&rest, &divisor_limbs);
        let mut below = subtract_times(&mut rest, &divisor_limbs, digit);
        while below {
            digit -= 1;
            below = !add(&mut rest, &divisor_limbs);
        }
        let zeros = digit.leading_zeros();
        let exponent = self.exponent - divisor.exponent + divisor_places as i32 - rest_places as i32 - 63 - zeros as i32;
        let more = rest.iter().any(|l| *l != 0);
        Leading { negative: self.negative ^ divisor.negative, bits: digit << zeros, exponent, more }
    }
}

/// By how many places limbs must move up so that the top bit of a longer number is set.
fn places_to_top(limbs: &[u64], length: usize) -> u32 {
    64 * (length - limbs.len()) as u32 + limbs.last().map_or(0, |top| top.leading_zeros())
}

/// Limbs times 2^places, in so many limbs, which must hold it.
fn shifted_left(limbs: &[u64], places: u32, length: usize) -> Limbs {
    let (words, bits) = (places as usize / 64, places % 64);
    let mut moved = Limbs::zeros(length);
    let mut carry = 0;
    for (to, limb) in moved[words..].iter_mut().zip(limbs) {
        *to = limb << bits | carry;
        carry = if bits == 0 { 0 } else { limb >> (64 - bits) };
    }
    if carry != 0 {
        moved[words + limbs.len()] = carry;
    }
    moved
}

/// The quotient's digit from the upper limbs: right, or up to two too large.
fn estimate(rest: &[u64], divisor: &[u64]) -> u64 {
    let top = divisor[divisor.len() - 1];
    let [low, high] = [rest[rest.len() - 2], rest[rest.len() - 1]];
    if high >= top {
        return u64::MAX;
    }
    ((u128::from(high) << 64 | u128::from(low)) / u128::from(top)) as u64
}

/// Subtracts digit · divisor, which is a limb shorter; true if the result is below zero (and then wrapped).
fn subtract_times(rest: &mut [u64], divisor: &[u64], digit: u64) -> bool {
    let mut carry = 0;
    let mut borrow = false;
    for (i, limb) in rest.iter_mut().enumerate() {
        let product = u128::from(divisor.get(i).copied().unwrap_or(0)) * u128::from(digit) + u128::from(carry);
        carry = (product >> 64) as u64;
        (*limb, borrow) = limb.borrowing_sub(product as u64, borrow);
    }
    borrow
}

/// Adds; true if the sum went beyond the limbs (and wrapped).
fn add(limbs: &mut [u64], term: &[u64]) -> bool {
    let mut carry = false;
    for (i, limb) in limbs.iter_mut().enumerate() {
        (*limb, carry) = limb.carrying_add(term.get(i).copied().unwrap_or(0), carry);
    }
    carry
}

/// Subtracts what is not larger.
fn subtract(limbs: &mut [u64], term: &[u64]) {
    let mut borrow = false;
    for (limb, term) in limbs.iter_mut().zip(term) {
        (*limb, borrow) = limb.borrowing_sub(*term, borrow);
    }
}

impl Leading {
    const ZERO: Self = Self { negative: false, bits: 0, exponent: 0, more: false };

    /// ± magnitude · 2^exponent.
    #[inline]
    pub fn of(negative: bool, magnitude: u128, exponent: i32) -> Self {
        if magnitude == 0 {
            return Self::ZERO;
        }
        let zeros = magnitude.leading_zeros();
        let moved = magnitude << zeros;
        Self { negative, bits: (moved >> 64) as u64, exponent: exponent + 64 - zeros as i32, more: moved as u64 != 0 }
    }

    /// ± magnitude · 2^exponent / count, to 63 bits or more. The count is not zero.
    pub fn quotient(negative: bool, magnitude: u128, exponent: i32, count: u64) -> Self {
        if magnitude == 0 {
            return Self::ZERO;
        }
        let (zeros, places) = (magnitude.leading_zeros(), count.leading_zeros());
        let (moved, divisor) = (magnitude << zeros, u128::from(count << places));
        // At least 2^126 over less than 2^64, and less than 2^127 over at least 2^63.
        let (digit, rest) = ((moved >> 1) / divisor, (moved >> 1) % divisor);
        let (digit, more) = (digit as u64, rest != 0 || moved & 1 == 1);
        let normal = digit.leading_zeros();
        let exponent = exponent + 1 - zeros as i32 + places as i32 - normal as i32;
        Self { negative, bits: digit << normal, exponent, more }
    }

    /// The nearest f64, ties to even; infinite where that is beyond the largest.
    pub fn nearest(self) -> f64 {
        let sign = u64::from(self.negative) << 63;
        let top = self.exponent + 63;
        if self.bits == 0 || top < -1075 {
            return f64::from_bits(sign);
        }
        if top > 1023 {
            return f64::from_bits(sign | f64::INFINITY.to_bits());
        }
        let normal = top >= -1022;
        let dropped = if normal { 11 } else { 11 + (-1022 - top) as u32 };
        let kept = self.kept(dropped);
        // A significand of 2^53 carries into the exponent, as it should.
        let upper = if normal { ((top + 1022) as u64) << 52 } else { 0 };
        f64::from_bits(sign | (upper + kept))
    }

    /// All but the lowest bits, rounded to the nearest, ties to even. `dropped` is 1 to 64.
    fn kept(self, dropped: u32) -> u64 {
        let bits = u128::from(self.bits);
        let (kept, rest) = ((bits >> dropped) as u64, bits & ((1 << dropped) - 1));
        let half = 1u128 << (dropped - 1);
        let up = rest > half || rest == half && (self.more || kept & 1 == 1);
        kept + u64::from(up)
    }

    /// The square root of the number rounded to 53 bits, as an f64; NaN of a negative one.
    pub fn root(self) -> f64 {
        if self.bits == 0 {
            return 0.0;
        }
        if self.negative {
            return f64::NAN;
        }
        let (significand, exponent) = (self.kept(11) as f64, self.exponent + 11);
        let odd = exponent.rem_euclid(2);
        let root = (significand * f64::from(1 + odd)).sqrt();
        let half = (exponent - odd) / 2;
        // In two steps, of which only the second may round.
        root * power_of_two(half / 2) * power_of_two(half - half / 2)
    }
}

/// 2^exponent for the exponents of normal f64.
fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(x: i128, exponent: i32) -> Number {
        let magnitude = x.unsigned_abs();
        Number::new(x < 0, Limbs::from_iter([magnitude as u64, (magnitude >> 64) as u64]), exponent)
    }

    #[test]
    fn integers_round_to_the_nearest_with_ties_to_even() {
        let cases = [
            (0, 0, 0.0),
            (1, 0, 1.0),
            (-3, -1, -1.5),
            ((1 << 53) + 1, 0, 9_007_199_254_740_992.0),
            ((1 << 53) + 3, 0, 9_007_199_254_740_996.0),
            ((1 << 54) + 3, 0, 18_014_398_509_481_988.0),
            ((1 << 117) + (1 << 64) + 1, -64, 9_007_199_254_740_994.0),
            (1, -1074, f64::from_bits(1)),
            (1, -1075, 0.0),
            (3, -1076, f64::from_bits(1)),
            (3, -1075, f64::from_bits(2)),
            (-1, -1076, -0.0),
            (1, 1024, f64::INFINITY),
            ((1 << 54) - 1, 970, f64::INFINITY),
            ((1 << 53) - 1, 971, f64::MAX),
            ((1 << 53) - 1, -1075, f64::MIN_POSITIVE),
        ];
        for (x, exponent, expected) in cases {
            assert_eq!(number(x, exponent).nearest().to_bits(), f64::to_bits(expected), "{x} · 2^{exponent}");
        }
    }

    #[test]
    fn quotients_are_those_of_f64_where_both_numbers_are_f64() {
        let values = [1.0, 3.0, 7.5, 0.1, -0.3, 1e300, 1e-300, 5e-324, f64::MAX, 123_456_789.0, -1e-5, 2.5e17];
        for a in values {
            for b in values {
                let exact = |x: f64| {
                    let mut sum = crate::reproducible::Exact::<2>::default();
                    sum.add(x);
                    sum.number()
                };
                assert_eq!(exact(a).over(&exact(b)).nearest().to_bits(), (a / b).to_bits(), "{a} / {b}");
                let root = number(1, 0).times(&exact(a)).over(&number(1, 0)).root();
                assert!(a < 0.0 && root.is_nan() || root.to_bits() == a.sqrt().to_bits(), "root of {a}: {root}");
            }
        }
    }

    #[test]
    fn long_quotients_take_every_branch_of_the_estimate() {
        // (2^128 − 1) / (2^64 − 1) = 2^64 + 1, and its neighbours.
        let long = Number::new(false, Limbs::from_iter([u64::MAX, u64::MAX]), 0);
        let short = Number::new(false, Limbs::from_iter([u64::MAX]), 0);
        assert_eq!(long.over(&short).nearest(), 18_446_744_073_709_551_616.0);
        assert!(!long.over(&short).more || long.over(&short).bits == 1 << 63);
        // A divisor with a small second limb: the first estimate is too large.
        let divisor = Number::new(false, Limbs::from_iter([u64::MAX, 0, 1 << 63]), 0);
        let digit = Number::new(false, Limbs::from_iter([u64::MAX - 4]), 0);
        let product = divisor.times(&digit);
        let quotient = product.over(&divisor);
        assert_eq!((quotient.bits, quotient.exponent, quotient.more), (u64::MAX - 4, 0, false));
        let less = product.minus(&Number::count(1)).over(&divisor);
        assert!(less.more && less.nearest() == 18_446_744_073_709_551_616.0);
        assert_eq!(product.minus(&product), Number::count(0));
    }
}
