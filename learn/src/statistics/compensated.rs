//! Sums that keep what rounding loses, so that a total agrees with one added in another order to the last bits.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

use crate::algorithm::Merge;

/// A sum with its rounding error. Source: Neumaier (1974), "Rundungsfehleranalyse einiger Verfahren zur
/// Summation endlicher Summen". Terms are finite.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Compensated {
    sum: f64,
    lost: f64,
}

impl Compensated {
    /// Adds a term.
    pub fn add(&mut self, term: f64) {
        let total = self.sum + term;
        let (large, small) = if self.sum.abs() >= term.abs() { (self.sum, term) } else { (term, self.sum) };
        self.lost += (large - total) + small;
        self.sum = total;
    }

    /// The sum.
    pub fn value(self) -> f64 {
        self.sum + self.lost
    }

    /// The sum of terms in their order.
    pub fn of(terms: impl IntoIterator<Item = f64>) -> Self {
        let mut sum = Self::default();
        terms.into_iter().for_each(|t| sum.add(t));
        sum
    }
}

impl Merge for Compensated {
    fn merge(&mut self, right: Self) {
        self.add(right.sum);
        self.lost += right.lost;
    }
}

impl AddAssign for Compensated {
    fn add_assign(&mut self, right: Self) {
        self.merge(right);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost() {
        assert_eq!(Compensated::of([1.0, 1e100, 1.0, -1e100]).value(), 2.0);
        let mut halves = Compensated::of([1.0, 1e100]);
        halves.merge(Compensated::of([1.0, -1e100]));
        assert_eq!(halves.value(), 2.0);
    }
}
