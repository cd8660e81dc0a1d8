//! Exact ranks: scores as order-preserving keys, cut into spans of bounded size; a span's distinct keys with the
//! weights of both classes come along the tree, and a scan over descending spans adds up area and precision.
//! Without weights everything is a count, so the area is an exact integer.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

use super::counted::Counted;
use super::sums::Scored;
use crate::algorithm::Merge;
use crate::statistics::compensated::Compensated;
use crate::statistics::order::key;
use crate::statistics::{Runs, merge_runs, runs_of_sorted};

const KEY_BITS: u32 = 64;
/// Bits of a key that the first count looks at: sign, exponent and four bits of the fraction.
const FIRST_BITS: u32 = 16;
/// Bits that a refinement adds.
const NEXT_BITS: u32 = 12;
/// Cells are counted in an array where there are at most 2 to this power of them a row; else rows are sorted.
const DENSE_FROM: u32 = 4;

/// Keys that share their first `depth` bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cell {
    prefix: u64,
    depth: u32,
    rows: u64,
}

impl Cell {
    /// Every key.
    pub const ALL: Cell = Cell { prefix: 0, depth: 0, rows: 0 };

    /// Every key of so many rows.
    pub fn whole(rows: u64) -> Cell {
        Cell { rows, ..Cell::ALL }
    }

    fn step(self) -> u32 {
        if self.depth == 0 { FIRST_BITS } else { NEXT_BITS }
    }

    fn first(self) -> u64 {
        if self.depth == 0 { 0 } else { self.prefix << (KEY_BITS - self.depth) }
    }

    fn last(self) -> u64 {
        self.first() | u64::MAX.checked_shr(self.depth).unwrap_or(0)
    }

    fn holds(self, key: u64) -> bool {
        (self.first()..=self.last()).contains(&key)
    }

    /// Whether it holds too many rows for one step and can still be split.
    pub fn is_wide(self, limit: u64) -> bool {
        self.rows > limit && self.depth < KEY_BITS
    }

    /// Rows of the scores in the cell by their next bits.
    pub fn count(self, scores: &[f64]) -> Runs<u64, u64> {
        let step = self.step();
        let shift = KEY_BITS - self.depth - step;
        let keys = scores.iter().map(|s| key(*s)).filter(|k| self.holds(*k));
        if scores.len() << DENSE_FROM >= 1 << step {
            let base = self.prefix << step;
            let mut counts = vec![0_u64; 1 << step];
            keys.for_each(|k| counts[((k >> shift) - base) as usize] += 1);
            let met = counts.into_iter().enumerate().filter(|(_, rows)| *rows > 0);
            return met.map(|(i, rows)| (base + i as u64, rows)).collect();
        }
        let mut prefixes: Vec<u64> = keys.map(|k| k >> shift).collect();
        prefixes.sort_unstable();
        runs_of_sorted(prefixes.into_iter().map(|p| (p, 1)))
    }

    /// The cells that a count splits it into.
    pub fn split(self, counts: Runs<u64, u64>) -> impl Iterator<Item = Cell> {
        let depth = self.depth + self.step();
        counts.into_iter().map(move |(prefix, rows)| Cell { prefix, depth, rows })
    }
}

/// Neighbouring cells of a ranking (a segment's rows by one score) that one step collects; `first` to `last` key, both
/// inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Span {
    pub ranking: usize,
    pub first: u64,
    pub last: u64,
    pub rows: u64,
    /// Every weight of the segment is 1.
    pub unit: bool,
}

/// Ascending cells of a ranking as descending spans of at most `limit` rows (a single cell may hold more).
pub(super) fn spans(ranking: usize, unit: bool, cells: &[Cell], limit: u64) -> Vec<Span> {
    let mut out: Vec<Span> = Vec::new();
    for cell in cells.iter().rev() {
        match out.last_mut() {
            Some(span) if span.rows + cell.rows <= limit => {
                span.first = cell.first();
                span.rows += cell.rows;
            }
            _ => out.push(Span { ranking, first: cell.first(), last: cell.last(), rows: cell.rows, unit }),
        }
    }
    out
}

/// An amount of each class.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Classes<T> {
    positive: T,
    negative: T,
}

impl<T: AddAssign> AddAssign for Classes<T> {
    fn add_assign(&mut self, right: Self) {
        self.positive += right.positive;
        self.negative += right.negative;
    }
}

impl<T: Default> Classes<T> {
    fn of(positive: bool, amount: T) -> Self {
        let (yes, no) = if positive { (amount, T::default()) } else { (T::default(), amount) };
        Self { positive: yes, negative: no }
    }
}

/// Distinct keys of a span, ascending, with the weight of each class.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Entries {
    Unit(Counted),
    Weighted(Runs<u64, Classes<f64>>),
}

impl Entries {
    /// Entries of a span in one segment of a shard; rows with equal keys are added in their order.
    pub fn of(span: &Span, scored: &Scored) -> Self {
        if span.unit {
            return Entries::Unit(Counted::of(span, scored));
        }
        let keyed = scored.rows().map(|(s, y, w)| (key(s), y == scored.positive, w));
        let mut rows: Vec<_> = keyed.filter(|(k, ..)| (span.first..=span.last).contains(k)).collect();
        rows.sort_by_key(|(k, ..)| *k);
        Entries::Weighted(runs_of_sorted(rows.into_iter().map(|(k, positive, w)| (k, Classes::of(positive, w)))))
    }

    /// Whether both are counted, or both weighed.
    pub fn is_like(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }

    /// Whether the shard has no row in the span.
    pub fn is_empty(&self) -> bool {
        match self {
            Entries::Unit(counted) => counted.is_empty(),
            Entries::Weighted(runs) => runs.is_empty(),
        }
    }
}

impl Merge for Entries {
    fn merge(&mut self, right: Self) {
        match (self, right) {
            (Entries::Unit(left), Entries::Unit(right)) => left.merge(right),
            (Entries::Weighted(left), Entries::Weighted(right)) => merge_runs(left, right),
            // The message that every shard answers says which of the two it is; others are not merged.
            _ => debug_assert!(false, "entries that are not alike"),
        }
    }
}

/// Thresholds from the highest down: what is above the current one, and the sums so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Scan {
    /// Rows above, where every weight is 1.
    counts: (u64, u64),
    /// Twice the area in rows × rows.
    twice_area: u128,
    positive: Compensated,
    negative: Compensated,
    area: Compensated,
    /// Σ weight of positives at a threshold × precision there.
    precision: Compensated,
}

impl Scan {
    /// Takes in the next lower span.
    pub fn take(&mut self, entries: &Entries) {
        match entries {
            Entries::Unit(counted) => counted.descending().for_each(|(positive, negative)| self.count(positive, negative)),
            Entries::Weighted(runs) => runs.iter().rev().for_each(|(_, c)| self.weigh(*c)),
        }
    }

    fn count(&mut self, positive: u64, negative: u64) {
        let (above, below) = &mut self.counts;
        self.twice_area += u128::from(negative) * (2 * u128::from(*above) + u128::from(positive));
        *above += positive;
        *below += negative;
        // Without a positive row the term is 0 and changes nothing.
        if positive > 0 {
            self.precision.add(positive as f64 * (*above as f64 / (*above + *below) as f64));
        }
    }

    fn weigh(&mut self, at: Classes<f64>) {
        self.area.add(at.negative * (self.positive.value() + at.positive * 0.5));
        self.positive.add(at.positive);
        self.negative.add(at.negative);
        let (above, below) = (self.positive.value(), self.negative.value());
        if at.positive > 0.0 {
            self.precision.add(at.positive * (above / (above + below)));
        }
    }

    /// Area under the receiver operating characteristic.
    pub fn auc(&self) -> Result<f64, &'static str> {
        let (above, below) = self.counts;
        let weights = (self.positive.value(), self.negative.value());
        if above + below > 0 {
            let pairs = 2 * u128::from(above) * u128::from(below);
            if pairs == 0 { Err(ONE_CLASS) } else { Ok(self.twice_area as f64 / pairs as f64) }
        } else if weights.0 > 0.0 && weights.1 > 0.0 {
            Ok(self.area.value() / weights.0 / weights.1)
        } else {
            Err(ONE_CLASS)
        }
    }

    /// Average precision.
    pub fn average_precision(&self) -> Result<f64, &'static str> {
        let positive = self.counts.0 as f64 + self.positive.value();
        if positive > 0.0 { Ok(self.precision.value() / positive) } else { Err("no row is positive") }
    }
}

const ONE_CLASS: &str = "the segment has one class only";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_cover_their_keys() {
        let scores = [0.1, 0.3, 0.3, 0.9, -2.0];
        let mut cells: Vec<Cell> = Cell::ALL.split(Cell::ALL.count(&scores)).collect();
        for _ in 0..4 {
            cells = cells.into_iter().flat_map(|c| c.split(c.count(&scores)).collect::<Vec<_>>()).collect();
            assert_eq!(cells.iter().map(|c| c.rows).sum::<u64>(), 5);
        }
        assert_eq!(
            cells.iter().map(|c| (c.first(), c.last())).collect::<Vec<_>>(),
            [-2.0, 0.1, 0.3, 0.9].map(|s| (key(s), key(s)))
        );
        assert!(cells.iter().all(|c| !c.is_wide(0)));
    }

    #[test]
    fn spans_descend_and_stay_below_the_limit() {
        let cell = |prefix, rows| Cell { prefix, depth: 16, rows };
        let found = spans(1, true, &[cell(1, 3), cell(2, 9), cell(5, 2), cell(6, 2)], 5);
        assert_eq!(found.iter().map(|s| s.rows).collect::<Vec<_>>(), [4, 9, 3]);
        assert_eq!((found[0].first, found[0].last), (5 << 48, (7 << 48) - 1));
    }
}
