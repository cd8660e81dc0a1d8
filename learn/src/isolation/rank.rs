//! The score at a rank among all training rows, exactly: a search digit by digit over the bits of scores, which for
//! numbers from 0 on are in their order. A step counts the next 16 bits of the scores that begin as the answer does.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Bits of a digit.
const DIGIT: u32 = 16;
/// Digits of a score.
const DIGITS: u32 = u64::BITS / DIGIT;

/// A search under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Search {
    /// Digits that are known.
    pub known: u32,
    /// They, as the lowest bits.
    pub prefix: u64,
    /// Rows before the one that is sought, among those that begin with the digits.
    pub rank: u64,
}

/// Rows by the next digit of their score.
pub type Counts = BTreeMap<u16, u64>;

impl Search {
    /// For the score with `rank` scores before it, all sorted ascending.
    pub fn new(rank: u64) -> Self {
        Self { known: 0, prefix: 0, rank }
    }

    /// Counts scores, none of which is below 0.
    pub fn count(self, scores: &[f64], counts: &mut Counts) {
        for score in scores {
            let bits = score.to_bits();
            let begins = self.known == 0 || bits >> (u64::BITS - self.known * DIGIT) == self.prefix;
            if begins {
                let digit = (bits >> (u64::BITS - (self.known + 1) * DIGIT)) as u16;
                *counts.entry(digit).or_default() += 1;
            }
        }
    }

    /// Takes in the counts of all rows; gives the score when its last digit is known. `None` where there are too few.
    pub fn take(&mut self, counts: &Counts) -> Option<Option<f64>> {
        let mut before = 0;
        let (digit, _) = counts.iter().find(|(_, count)| {
            before += **count;
            before > self.rank
        })?;
        self.rank -= before - counts[digit];
        self.prefix = self.prefix << DIGIT | u64::from(*digit);
        self.known += 1;
        Some((self.known == DIGITS).then(|| f64::from_bits(self.prefix)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_rank_is_found() {
        let scores: Vec<f64> = (0..997).map(|i| 0.3 + f64::from(i * 31 % 97) * 1e-9 + f64::from(i % 5) * 0.1).collect();
        let mut sorted = scores.clone();
        sorted.sort_by(f64::total_cmp);
        for rank in [0, 1, 400, 995, 996] {
            let mut search = Search::new(rank);
            let found = loop {
                let mut counts = Counts::new();
                scores.chunks(100).for_each(|part| search.count(part, &mut counts));
                if let Some(score) = search.take(&counts).expect("there are so many rows") {
                    break score;
                }
            };
            assert_eq!(found, sorted[rank as usize]);
        }
        assert_eq!(Search::new(3).take(&Counts::from([(7, 3)])), None);
    }
}
