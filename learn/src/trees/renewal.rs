//! Leaves whose value is a quantile of their rows' residuals, where a loss has its optimum there (absolute error: the
//! median). A quantile is found without sorting and without moving a row: residuals are keys of the order of their
//! f32, each round counts the weights of a leaf's rows by the next bits of their keys, and the counts, which are
//! integers and so add up in any order, say which bits the quantile has. What comes out is the quantile of the
//! residuals rounded to f32, exactly.
//!
//! Weights are counted in units of 2⁻⁴⁹ of the sum of all, or finer.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::algorithm::LearnError;

use super::bins::{key_of, value_of};

/// Bits of a key that each round settles, the highest first.
const ROUNDS: [u32; 3] = [11, 11, 10];
/// Cells of a round.
const CELLS: usize = 1 << 11;
/// Bits of a key.
const KEY: u32 = 32;

/// What a round asks of every row: where in its leaf its residual stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sought {
    /// Number of the round, from 0.
    round: u32,
    /// The bits that earlier rounds have settled, one key a leaf.
    prefixes: Vec<u32>,
    /// What weights are multiplied with before they are rounded.
    unit: f64,
}

impl Sought {
    /// Bits that are settled, and bits that this round settles.
    fn bits(&self) -> (u32, u32) {
        let round = (self.round as usize).min(ROUNDS.len() - 1);
        (ROUNDS[..round].iter().sum(), ROUNDS[round])
    }

    /// Leaves.
    pub fn leaves(&self) -> usize {
        self.prefixes.len()
    }

    /// Counts rows of a leaf: residuals with their weights. Those that an earlier round has left behind do not count.
    pub fn count(&self, leaf: usize, rows: impl Iterator<Item = (f64, f64)>, out: &mut Counts) {
        let (settled, width) = self.bits();
        let Some(&prefix) = self.prefixes.get(leaf) else { return };
        for (residual, weight) in rows {
            let key = key_of(narrow(residual));
            if key.checked_shr(KEY - settled).unwrap_or(0) == prefix {
                out.add(((key << settled) >> (KEY - width)) as usize, (weight * self.unit + 0.5) as u64);
            }
        }
    }
}

/// The f32 next to a number, a finite one.
fn narrow(x: f64) -> f32 {
    (x as f32).clamp(f32::MIN, f32::MAX)
}

/// Weights of rows by some bits of their keys; in no memory while there are none.
#[derive(Debug, Clone, Default)]
pub struct Counts(Vec<u64>);

impl Counts {
    fn add(&mut self, cell: usize, weight: u64) {
        if self.0.is_empty() {
            self.0 = vec![0; CELLS];
        }
        self.0[cell] += weight;
    }

    /// Takes in other counts.
    pub fn merge(&mut self, other: Self) {
        if self.0.is_empty() {
            self.0 = other.0;
        } else {
            self.0.iter_mut().zip(other.0).for_each(|(a, b)| *a += b);
        }
    }

    /// Cells with a weight, ascending.
    fn cells(&self) -> impl Iterator<Item = (u16, u64)> {
        self.0.iter().enumerate().filter(|(_, weight)| **weight > 0).map(|(cell, weight)| (cell as u16, *weight))
    }
}

impl PartialEq for Counts {
    fn eq(&self, other: &Self) -> bool {
        self.cells().eq(other.cells())
    }
}

impl Serialize for Counts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.cells().collect::<Vec<_>>().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Counts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut out = Self::default();
        for (cell, weight) in Vec::<(u16, u64)>::deserialize(deserializer)? {
            if usize::from(cell) >= CELLS {
                return Err(de::Error::custom("counts of a leaf are damaged"));
            }
            out.add(usize::from(cell), weight);
        }
        Ok(out)
    }
}

/// Quantiles under search, one a leaf.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Search {
    /// Share of a leaf's weight up to its quantile.
    shares: Vec<f64>,
    sought: Sought,
    /// Weight up to the quantile among the rows of its prefix; 0: the leaf's rows weigh nothing.
    ranks: Vec<u64>,
}

impl Search {
    /// The quantile of a probability in each of some leaves of so many rows, which weigh no more than `total` together.
    pub fn new(probability: f64, rows: &[u64], total: f64) -> Self {
        let sought = Sought { round: 0, prefixes: vec![0; rows.len()], unit: unit(total) };
        let shares = rows.iter().map(|&rows| share_of(probability, rows)).collect();
        Self { shares, sought, ranks: vec![0; rows.len()] }
    }

    /// What the next round asks.
    pub fn sought(&self) -> &Sought {
        &self.sought
    }

    /// Takes in the counts of a round, one a leaf. The quantiles, when the last round is in: of `n` residuals in order
    /// the one that is next to place p (n + 1), the lower of two (Weibull's position), weights standing for counts; 0
    /// where rows weigh nothing.
    ///
    /// # Errors
    /// The counts are not one for each leaf, or of another round.
    pub fn take(&mut self, counts: &[Counts]) -> Result<Option<Vec<f64>>, LearnError> {
        let foreign = || LearnError::Data("counts of leaves are of another step than was asked for".into());
        if counts.len() != self.ranks.len() {
            return Err(foreign());
        }
        let (first, width) = (self.sought.round == 0, self.sought.bits().1);
        let leaves = counts.iter().zip(&self.shares).zip(&mut self.ranks).zip(&mut self.sought.prefixes);
        for (((counts, share), rank), prefix) in leaves {
            if first {
                *rank = rank_of(*share, counts.cells().map(|(_, weight)| weight).sum());
            }
            *prefix = *prefix << width | if *rank > 0 { descend(counts, rank).ok_or_else(foreign)? } else { 0 };
        }
        self.sought.round += 1;
        let done = self.sought.round as usize == ROUNDS.len();
        let value = |(prefix, rank): (&u32, &u64)| if *rank > 0 { f64::from(value_of(*prefix)) } else { 0.0 };
        Ok(done.then(|| self.sought.prefixes.iter().zip(&self.ranks).map(value).collect()))
    }
}

/// The power of two that brings a sum of weights to between 2⁴⁹ and 2⁵⁰.
fn unit(total: f64) -> f64 {
    let exponent = (total.to_bits() >> 52 & 0x7ff) as i64 - 1023;
    let scale = (49 - exponent).clamp(-1000, 1000);
    f64::from_bits(((1023 + scale) as u64) << 52)
}

/// The share of `n` rows up to a quantile: p (n + 1) less half a row, of all.
fn share_of(probability: f64, rows: u64) -> f64 {
    probability + (probability - 0.5) / rows.max(1) as f64
}

/// The least whole weight that is a share of a total, at least 1 of what is not nothing.
fn rank_of(share: f64, total: u64) -> u64 {
    let exact = share * total as f64;
    let below = exact as u64;
    (below + u64::from((below as f64) < exact)).clamp(1.min(total), total)
}

/// The cell where a rank is reached; the rank becomes that among the rows of the cell.
fn descend(counts: &Counts, rank: &mut u64) -> Option<u32> {
    for (cell, weight) in counts.cells() {
        if weight >= *rank {
            return Some(u32::from(cell));
        }
        *rank -= weight;
    }
    None
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// Quantiles of leaves whose rows are spread over `shards`, merged in reverse.
    fn search(probability: f64, leaves: &[Vec<(f64, f64)>], shards: usize) -> Vec<f64> {
        let total = leaves.iter().flatten().map(|(_, weight)| weight).sum();
        let rows: Vec<u64> = leaves.iter().map(|rows| rows.len() as u64).collect();
        let mut search = Search::new(probability, &rows, total);
        loop {
            let mut totals = vec![Counts::default(); leaves.len()];
            for shard in (0..shards).rev() {
                for (leaf, rows) in leaves.iter().enumerate() {
                    let mut counts = Counts::default();
                    let own = rows.iter().skip(shard).step_by(shards).copied();
                    search.sought().count(leaf, own, &mut counts);
                    let bytes = crate::program::encode(&counts);
                    let back: Counts = crate::program::decode("counts", &bytes).unwrap();
                    assert_eq!(back, counts);
                    totals[leaf].merge(back);
                }
            }
            if let Some(found) = search.take(&totals).unwrap() {
                return found;
            }
        }
    }

    /// By sorting.
    fn sorted(probability: f64, rows: &[(f64, f64)]) -> f64 {
        let mut rows = rows.to_vec();
        rows.sort_by(|a, b| a.0.total_cmp(&b.0));
        let total: f64 = rows.iter().map(|(_, weight)| weight).sum();
        let share = (probability + (probability - 0.5) / rows.len() as f64).min(1.0);
        let mut sum = 0.0;
        for (residual, weight) in rows {
            sum += weight;
            if sum >= share * total {
                return f64::from(residual as f32);
            }
        }
        0.0
    }

    fn rows(count: usize, weight: impl Fn(usize) -> f64) -> Vec<(f64, f64)> {
        let residual = |i: usize| ((i * 7919 + 13) % 1009) as f64 * 0.731 - 300.0;
        (0..count).map(|i| (residual(i) * if i % 5 == 0 { 1e-9 } else { 1.0 }, weight(i))).collect()
    }

    #[test]
    fn a_quantile_is_that_of_the_sorted_residuals() {
        let leaves = [rows(1, |_| 1.0), rows(2, |_| 1.0), rows(1000, |_| 1.0), rows(777, |i| 0.25 * (i % 7) as f64)];
        for probability in [0.1, 0.5, 0.875, 0.999] {
            let want: Vec<f64> = leaves.iter().map(|rows| sorted(probability, rows)).collect();
            for shards in [1, 3, 64] {
                assert_eq!(search(probability, &leaves, shards), want, "{probability}");
            }
        }
    }

    #[test]
    fn few_rows_have_no_bias() {
        let leaf = [(1..=20).map(|i| (f64::from(i), 1.0)).collect::<Vec<_>>()];
        for (probability, want) in [(0.8, 17.0), (0.5, 10.0), (0.1, 2.0), (0.99, 20.0), (0.001, 1.0)] {
            assert_eq!(search(probability, &leaf, 1), [want], "{probability}");
        }
    }

    #[test]
    fn rows_that_weigh_nothing_have_the_quantile_0() {
        assert_eq!(search(0.5, &[Vec::new(), rows(9, |_| 0.0), vec![(-2.5, 3.0)]], 2), [0.0, 0.0, -2.5]);
        let far = [vec![(1e300, 1.0), (f64::from(f32::MIN) * 8.0, 1.0)]];
        assert_eq!(search(0.5, &far, 1), [f64::from(f32::MIN)]);
    }

    #[test]
    fn counts_of_another_step_are_refused() {
        let mut search = Search::new(0.5, &[3, 3], 10.0);
        assert!(search.take(&[Counts::default()]).is_err());
        let mut counts = Counts::default();
        search.sought().count(0, [(1.0, 1.0)].into_iter(), &mut counts);
        assert!(search.take(&[counts.clone(), counts]).unwrap().is_none());
        let error = search.take(&[Counts::default(), Counts::default()]).unwrap_err().to_string();
        assert!(error.contains("another step"), "{error}");
    }
}
