//! Sums of two f64 (double-double): about 106 bits, by the error-free sums and products of Knuth and Dekker.
//! Each operation errs by at most some 2^-104 of its larger operand. Operands stay clear of over- and underflow:
//! the functions that use them bring their arguments into range first.

use std::ops::{Add, Div, Mul, Neg, Sub};

use super::{two_product, two_sum};

/// hi + lo with |lo| at most an ulp of hi.
#[derive(Debug, Clone, Copy)]
pub(super) struct Double {
    pub hi: f64,
    pub lo: f64,
}

impl Double {
    pub(super) const fn new(hi: f64, lo: f64) -> Self {
        Self { hi, lo }
    }

    /// From the bits of both parts.
    pub(super) const fn from_bits(hi: u64, lo: u64) -> Self {
        Self::new(f64::from_bits(hi), f64::from_bits(lo))
    }

    /// a + b exactly.
    #[inline(always)]
    pub(super) fn sum(a: f64, b: f64) -> Self {
        let (hi, lo) = two_sum(a, b);
        Self { hi, lo }
    }

    /// a + b exactly where |a| >= |b| or a is 0: Dekker's shorter sum.
    #[inline(always)]
    pub(super) fn ordered_sum(a: f64, b: f64) -> Self {
        let hi = a + b;
        Self { hi, lo: b - (hi - a) }
    }

    /// a · b exactly.
    #[inline(always)]
    pub(super) fn product(a: f64, b: f64) -> Self {
        let (hi, lo) = two_product(a, b);
        Self { hi, lo }
    }

    /// Times a power of two: exact.
    #[inline(always)]
    pub(super) fn scale(self, power: f64) -> Self {
        Self { hi: self.hi * power, lo: self.lo * power }
    }

    /// Square root, 0 of 0: one step of Newton from that of the high part.
    #[inline(always)]
    pub(super) fn sqrt(self) -> Self {
        if self.hi == 0.0 {
            return Self::new(0.0, 0.0);
        }
        let root = self.hi.sqrt();
        let square = Self::product(root, root);
        Self::ordered_sum(root, ((self.hi - square.hi - square.lo) + self.lo) / (2.0 * root))
    }

    /// The nearest f64.
    #[inline(always)]
    pub(super) fn value(self) -> f64 {
        self.hi + self.lo
    }
}

impl Neg for Double {
    type Output = Self;

    #[inline(always)]
    fn neg(self) -> Self {
        Self { hi: -self.hi, lo: -self.lo }
    }
}

impl Add for Double {
    type Output = Self;

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        let sum = Self::sum(self.hi, other.hi);
        Self::ordered_sum(sum.hi, sum.lo + (self.lo + other.lo))
    }
}

impl Sub for Double {
    type Output = Self;

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl Mul for Double {
    type Output = Self;

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        let product = Self::product(self.hi, other.hi);
        Self::ordered_sum(product.hi, product.lo + (self.hi * other.lo + self.lo * other.hi))
    }
}

impl Div for Double {
    type Output = Self;

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        let quotient = self.hi / other.hi;
        let product = Self::product(quotient, other.hi);
        let rest = ((self.hi - product.hi) - product.lo + self.lo) - quotient * other.lo;
        Self::ordered_sum(quotient, rest / other.hi)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four thirds in two parts.
    fn third() -> Double {
        Double::new(4.0, 0.0) / Double::new(3.0, 0.0)
    }

    #[test]
    fn operations_keep_a_hundred_bits() {
        let back = third() * Double::new(3.0, 0.0) - Double::new(4.0, 0.0);
        assert!(back.value().abs() < 1e-30, "{back:?}");
        let root = (third() * third()).sqrt() - third();
        assert!(root.value().abs() < 1e-30, "{root:?}");
        let two = Double::new(2.0, 0.0).sqrt();
        assert_eq!(two.value().to_bits(), std::f64::consts::SQRT_2.to_bits());
        assert!((two * two - Double::new(2.0, 0.0)).value().abs() < 1e-30);
        assert_eq!((Double::sum(1.0, 1e-30) - Double::new(1.0, 0.0)).value(), 1e-30);
    }

    #[test]
    fn zero_has_a_root() {
        assert_eq!(Double::new(0.0, 0.0).sqrt().value(), 0.0);
    }
}
