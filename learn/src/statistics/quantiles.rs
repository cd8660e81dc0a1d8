//! `quantiles`: exact order statistics of numeric columns by radix select. A number is its order-preserving
//! 64-bit key; every step counts the next bits of the keys that share the prefix of a wanted rank. Only integers
//! are added, so the result knows nothing of shards. Five steps for any number of columns and probabilities.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::order::{key, value};
use super::{PerColumn, Runs, SegmentChoice, merge_runs, names, numbers, params, wide_float};
use crate::algorithm::{Algorithm, LearnError, Merge, Progress};
use crate::program::{Erased, Program, ProgramSpec};
use crate::shard::{Column, EncodedShard};

const KEY_BITS: u32 = 64;

/// Bits that a step looks at. The first 16 are sign, exponent and four bits of the fraction, of which real data
/// uses few values; later ones spread evenly, so fewer bits bound a partial.
fn step_bits(depth: u32) -> u32 {
    if depth == 0 { 16 } else { 12 }
}

/// The result of `quantiles`: every numeric column in schema order. Empty if there were no rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QuantilesOutput {
    /// Quantiles per column.
    pub columns: Vec<ColumnQuantiles>,
}

/// Quantiles of one column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColumnQuantiles {
    /// Column name.
    pub name: String,
    /// Values counted: all but NaN.
    pub values: u64,
    /// Rows with null or NaN.
    pub missing: u64,
    /// In the order of the probabilities; empty if the column has no values.
    pub quantiles: Vec<Quantile>,
}

/// One quantile: the two order statistics around it, and where it stands between them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Quantile {
    /// Probability in [0, 1].
    pub probability: f64,
    /// Order statistic ⌊(n − 1) · probability⌋, counted from 0. May be infinite.
    #[serde(with = "wide_float")]
    pub lower: f64,
    /// The next order statistic; equal to `lower` where `fraction` is 0.
    #[serde(with = "wide_float")]
    pub upper: f64,
    /// (n − 1) · probability − ⌊(n − 1) · probability⌋.
    pub fraction: f64,
    /// Interpolated as numpy's `linear`; half way it is the mean of the two. NaN between −∞ and ∞.
    #[serde(with = "wide_float")]
    pub value: f64,
}

/// numpy's `_lerp`, and at one half the mean, which is how a median is defined.
fn interpolate(lower: f64, upper: f64, fraction: f64) -> f64 {
    if lower == upper {
        lower
    } else if fraction == 0.5 {
        let sum = lower + upper;
        if sum.is_finite() { sum * 0.5 } else { lower * 0.5 + upper * 0.5 }
    } else if fraction < 0.5 {
        lower + (upper - lower) * fraction
    } else {
        upper - (upper - lower) * (1.0 - fraction)
    }
}

/// A wanted order statistic: keys with this prefix hold it, at this rank among them.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Target {
    prefix: u64,
    rank: u64,
}

/// One column's progress: two targets per probability.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Search {
    values: u64,
    missing: u64,
    targets: Vec<Target>,
}

#[derive(Debug, Serialize, Deserialize)]
struct State {
    /// Leading bits of the keys that are known.
    depth: u32,
    columns: PerColumn<Search>,
}

/// Prefixes of `depth` bits whose keys are counted, ascending, per column; `None`: every key.
#[derive(Debug, Serialize, Deserialize)]
struct Message {
    depth: u32,
    prefixes: Option<Vec<Vec<u64>>>,
}

/// Keys by their prefix of depth + step bits.
#[derive(Debug, Serialize, Deserialize)]
struct Part {
    missing: u64,
    cells: Runs<u64, u64>,
}

impl Merge for Part {
    fn merge(&mut self, right: Self) {
        self.missing += right.missing;
        merge_runs(&mut self.cells, right.cells);
    }
}

/// Counts values below the given prefixes, densely: a few thousand cells a prefix.
fn count(values: &[f64], depth: u32, prefixes: &[u64]) -> Part {
    let bits = step_bits(depth);
    let mask = (1u64 << bits) - 1;
    let mut dense = vec![0u64; prefixes.len() << bits];
    let mut missing = 0;
    for number in values {
        if number.is_nan() {
            missing += 1;
            continue;
        }
        let cell = key(*number) >> (KEY_BITS - depth - bits);
        if let Ok(at) = prefixes.binary_search(&(cell >> bits)) {
            dense[at << bits | (cell & mask) as usize] += 1;
        }
    }
    let cell = |(i, n): (usize, &u64)| (*n > 0).then(|| (prefixes[i >> bits] << bits | i as u64 & mask, *n));
    Part { missing, cells: dense.iter().enumerate().filter_map(cell).collect() }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    probabilities: Vec<f64>,
    #[serde(default)]
    segment: SegmentChoice,
}

struct Quantiles {
    params: Params,
    names: Vec<String>,
}

impl Quantiles {
    /// Rank below a probability, and what is left of it.
    fn rank(values: u64, probability: f64) -> (u64, f64) {
        let position = (values - 1) as f64 * probability;
        let floor = position.floor();
        (floor as u64, position - floor)
    }

    /// Ranks wanted of a column, after the first step has counted its values.
    fn search(&self, part: &Part) -> Search {
        let values = part.cells.iter().map(|(_, n)| n).sum();
        let mut targets = Vec::new();
        for probability in self.params.probabilities.iter().filter(|_| values > 0) {
            let (lower, fraction) = Self::rank(values, *probability);
            let upper = if fraction > 0.0 { (lower + 1).min(values - 1) } else { lower };
            targets.extend([lower, upper].map(|rank| Target { prefix: 0, rank }));
        }
        Search { values, missing: part.missing, targets }
    }

    fn column(&self, name: &str, search: &Search) -> ColumnQuantiles {
        let pairs = self.params.probabilities.iter().zip(search.targets.chunks_exact(2));
        let quantile = |(probability, pair): (&f64, &[Target])| {
            let (lower, upper) = (value(pair[0].prefix), value(pair[1].prefix));
            let fraction = Self::rank(search.values, *probability).1;
            Quantile { probability: *probability, lower, upper, fraction, value: interpolate(lower, upper, fraction) }
        };
        let quantiles = pairs.map(quantile).collect();
        ColumnQuantiles { name: name.to_owned(), values: search.values, missing: search.missing, quantiles }
    }
}

/// Moves a target into the cell that holds its rank.
fn descend(target: &mut Target, cells: &Runs<u64, u64>, bits: u32) {
    let start = cells.partition_point(|(cell, _)| cell >> bits < target.prefix);
    for (cell, count) in &cells[start..] {
        if target.rank < *count {
            target.prefix = *cell;
            return;
        }
        target.rank -= count;
    }
}

impl Algorithm for Quantiles {
    type State = State;
    type Message = Message;
    type Chapter = ();
    type Local = ();
    type Partial = PerColumn<Part>;
    type Output = QuantilesOutput;

    fn start(&self) -> Result<State, LearnError> {
        Ok(State { depth: 0, columns: Vec::new() })
    }

    fn message(&self, state: &State) -> Message {
        let distinct = |search: &Search| search.targets.iter().map(|t| t.prefix).collect::<BTreeSet<_>>();
        let column = |search: &Option<Search>| search.iter().flat_map(distinct).collect();
        let prefixes = (state.depth > 0).then(|| state.columns.iter().map(column).collect());
        Message { depth: state.depth, prefixes }
    }

    fn partial(&self, message: &Message, _: &[()], shard: &EncodedShard, (): &()) -> Option<PerColumn<Part>> {
        let rows = self.params.segment.range(shard);
        if rows.is_empty() {
            return None;
        }
        let part = |(i, column): (usize, &Column)| {
            let prefixes = match &message.prefixes {
                None => &[0][..],
                Some(columns) => columns.get(i)?,
            };
            numbers(column, rows.clone()).map(|values| count(&values, message.depth, prefixes))
        };
        Some(shard.columns.iter().enumerate().map(part).collect())
    }

    fn update(&self, state: &mut State, total: Option<PerColumn<Part>>) -> Result<Progress, LearnError> {
        let Some(total) = total else { return Ok(Progress::Done) };
        if state.depth == 0 {
            state.columns = total.iter().map(|part| part.as_ref().map(|p| self.search(p))).collect();
        }
        let bits = step_bits(state.depth);
        for (search, part) in state.columns.iter_mut().zip(&total) {
            let (Some(search), Some(part)) = (search, part) else { continue };
            search.targets.iter_mut().for_each(|t| descend(t, &part.cells, bits));
        }
        state.depth += bits;
        let idle = state.columns.iter().flatten().all(|s| s.targets.is_empty());
        Ok(if idle || state.depth == KEY_BITS { Progress::Done } else { Progress::Continue })
    }

    fn finish(&self, state: State) -> Result<QuantilesOutput, LearnError> {
        let named = self.names.iter().zip(&state.columns);
        let columns = named.filter_map(|(name, search)| search.as_ref().map(|s| self.column(name, s))).collect();
        Ok(QuantilesOutput { columns })
    }
}

/// `quantiles` with its parameters checked: `probabilities` (each in [0, 1]), `segment` (default all).
pub fn build(spec: &ProgramSpec) -> Result<Box<dyn Program>, LearnError> {
    let params: Params = params(spec)?;
    if let Some(wrong) = params.probabilities.iter().find(|p| !(0.0..=1.0).contains(*p)) {
        let message = format!("{wrong} is not a probability, give numbers from 0 to 1");
        return Err(LearnError::Param { name: "probabilities".into(), message });
    }
    Ok(Box::new(Erased(Quantiles { params, names: names(spec) })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_mean_of_the_middle_two() {
        assert_eq!(interpolate(1.0, 2.0, 0.5), 1.5);
        assert_eq!(interpolate(f64::MAX, f64::MAX / 2.0, 0.5), f64::MAX * 0.75);
        assert_eq!(interpolate(5e-324, 5e-324, 0.5), 5e-324);
        assert_eq!(interpolate(f64::INFINITY, f64::INFINITY, 0.25), f64::INFINITY);
    }
}
