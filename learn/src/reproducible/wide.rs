//! The superaccumulator of all bits: where a sum goes whose terms span more than a window.

/// A two's complement fixed-point number that holds any 2^64 terms, and how many terms were not finite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wide {
    /// Terms that are NaN; counts wrap, so that taking away is the inverse of adding in any order.
    pub nan: u64,
    /// Terms that are +∞.
    pub plus: u64,
    /// Terms that are −∞.
    pub minus: u64,
    /// Lowest limb first; bit 0 of limb 0 is worth 2^lowest of the kind of sum.
    pub limbs: Vec<u64>,
}

impl Wide {
    /// Zero with room for sums of terms of `factors` factors each (1 or 2): all their bits, 64 for the count, a sign.
    pub fn new(factors: usize) -> Self {
        Self { nan: 0, plus: 0, minus: 0, limbs: vec![0; 34 * factors] }
    }

    /// Bytes on the heap, this struct included.
    pub fn heap(&self) -> usize {
        size_of::<Self>() + self.limbs.len() * size_of::<u64>()
    }

    /// Adds ± magnitude · 2^position (positions count from bit 0).
    pub fn add(&mut self, magnitude: &[u64], position: usize, negative: bool) {
        let (first, bit) = (position / 64, position % 64);
        let mut carry = false;
        let mut spilled = 0;
        for (i, limb) in self.limbs.iter_mut().skip(first).enumerate() {
            let word = magnitude.get(i).copied().unwrap_or(0);
            let shifted = (word << bit) | spilled;
            spilled = if bit == 0 { 0 } else { word >> (64 - bit) };
            (*limb, carry) = if negative { limb.borrowing_sub(shifted, carry) } else { limb.carrying_add(shifted, carry) };
            if i >= magnitude.len() && !carry {
                break;
            }
        }
    }

    /// Adds all that another one holds.
    pub fn merge(&mut self, other: &Self) {
        let mut carry = false;
        for (limb, term) in self.limbs.iter_mut().zip(&other.limbs) {
            (*limb, carry) = limb.carrying_add(*term, carry);
        }
        self.nan = self.nan.wrapping_add(other.nan);
        self.plus = self.plus.wrapping_add(other.plus);
        self.minus = self.minus.wrapping_add(other.minus);
    }

    /// Counts (`by` 1) or takes away (−1, wrapping) a term that is not finite.
    pub fn count(&mut self, term: f64, by: u64) {
        let counter = match term {
            f64::INFINITY => &mut self.plus,
            f64::NEG_INFINITY => &mut self.minus,
            _ => &mut self.nan,
        };
        *counter = counter.wrapping_add(by);
    }

    /// What the terms that are not finite make of the sum, if there are any.
    pub fn special(&self) -> Option<f64> {
        match (self.nan, self.plus, self.minus) {
            (0, 0, 0) => None,
            (0, _, 0) => Some(f64::INFINITY),
            (0, 0, _) => Some(f64::NEG_INFINITY),
            _ => Some(f64::NAN),
        }
    }
}
