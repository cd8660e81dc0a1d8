//! Taylor series that two families share: with the square's sign flipped sinh is sin and cosh is cos.

use super::double::Double;

/// 1 / (2k + 1)! from 1/5! on.
const ODD: [f64; 8] = [
    1.0 / 120.0,
    1.0 / 5_040.0,
    1.0 / 362_880.0,
    1.0 / 39_916_800.0,
    1.0 / 6_227_020_800.0,
    1.0 / 1_307_674_368_000.0,
    1.0 / 355_687_428_096_000.0,
    1.0 / 121_645_100_408_832_000.0,
];
/// 1 / (2k)! from 1/4! on.
const EVEN: [f64; 8] = [
    1.0 / 24.0,
    1.0 / 720.0,
    1.0 / 40_320.0,
    1.0 / 3_628_800.0,
    1.0 / 479_001_600.0,
    1.0 / 87_178_291_200.0,
    1.0 / 20_922_789_888_000.0,
    1.0 / 6_402_373_705_728_000.0,
];

/// Which family a series is of.
#[derive(Clone, Copy)]
pub(super) enum Family {
    /// sin, cos: signs alternate.
    Circular,
    /// sinh, cosh: all terms are added.
    Hyperbolic,
}

impl Family {
    #[inline(always)]
    fn sign(self) -> f64 {
        match self {
            Family::Circular => -1.0,
            Family::Hyperbolic => 1.0,
        }
    }

    /// sin r or sinh r for |r| <= 0.79. Errs by less than 2^-58 of the result: the cubic term is in two parts.
    #[inline(always)]
    pub(super) fn odd(self, r: Double) -> Double {
        let sign = self.sign();
        let square = Double::product(r.hi, r.hi);
        // A sixth of the square in two parts: six times the first is exact as a sum.
        let sixth = square.hi * (1.0 / 6.0);
        let six = Double::sum(4.0 * sixth, 2.0 * sixth);
        let rest = ((square.hi - six.hi) - six.lo + square.lo) * (1.0 / 6.0);
        let cubic = Double::product(r.hi, sign * sixth);
        let w = sign * square.hi;
        let tail = r.hi * (w * w) * polynomial(w, ODD);
        // What lies below r.hi counts times the derivative, 1 + w/2 + …
        let low = (cubic.lo + sign * (r.hi * rest)) + (tail + r.lo * (1.0 + 0.5 * w));
        let first = Double::ordered_sum(r.hi, cubic.hi);
        Double::ordered_sum(first.hi, first.lo + low)
    }

    /// cos r or cosh r for |r| <= 0.79. Errs by less than 2^-56 of the result.
    #[inline(always)]
    pub(super) fn even(self, r: Double) -> Double {
        let sign = self.sign();
        let square = Double::product(r.hi, r.hi);
        let w = sign * square.hi;
        let first = Double::ordered_sum(1.0, 0.5 * w);
        let slope = sign * r.hi * (1.0 + w * (1.0 / 6.0));
        let low = first.lo + (0.5 * sign * square.lo + slope * r.lo);
        Double::ordered_sum(first.hi, (w * w) * polynomial(w, EVEN) + low)
    }
}

/// Σ c[i] w^i by halves (Estrin), which leaves more to do at once than Horner's way.
#[inline(always)]
fn polynomial(w: f64, c: [f64; 8]) -> f64 {
    let w2 = w * w;
    let low = (c[0] + w * c[1]) + w2 * (c[2] + w * c[3]);
    let high = (c[4] + w * c[5]) + w2 * (c[6] + w * c[7]);
    low + (w2 * w2) * high
}
