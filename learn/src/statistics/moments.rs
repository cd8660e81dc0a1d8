//! `moments`: per segment and numeric column rows, missing, infinite, mean, variance, min and max in one pass.
//! Inside a shard two passes over the finite values in 16 fixed lanes; across shards Chan's formula along the tree.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{Once, PerColumn, PerSegment, SinglePass, names, numbers, params, per_segment};
use crate::algorithm::{LearnError, Merge};
use crate::program::{Erased, Program, ProgramSpec};
use crate::shard::{EncodedShard, Segment};

const LANES: usize = 16;

/// Moments of numbers; mean, m2, min and max are of the finite ones.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Moments {
    /// Finite values.
    pub finite: u64,
    /// NaN.
    pub missing: u64,
    /// Positive and negative infinities.
    pub infinite: u64,
    /// Mean; 0 without finite values.
    pub mean: f64,
    /// Sum of squared deviations from the mean.
    pub m2: f64,
    /// Smallest finite value; +∞ without one.
    pub min: f64,
    /// Largest finite value; −∞ without one.
    pub max: f64,
}

impl Moments {
    /// Moments of one shard's values.
    pub fn of(values: &[f64]) -> Self {
        let mut out = Self { min: f64::INFINITY, max: f64::NEG_INFINITY, ..Self::none() };
        for value in values {
            if value.is_finite() {
                out.finite += 1;
                out.min = if *value < out.min { *value } else { out.min };
                out.max = if *value > out.max { *value } else { out.max };
            } else if value.is_nan() {
                out.missing += 1;
            } else {
                out.infinite += 1;
            }
        }
        if out.finite > 0 {
            (out.mean, out.m2) = mean_and_m2(values, &out);
        }
        out
    }

    fn none() -> Self {
        Self { finite: 0, missing: 0, infinite: 0, mean: 0.0, m2: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY }
    }

    /// Number of values of any kind.
    pub fn rows(&self) -> u64 {
        self.finite + self.missing + self.infinite
    }
}

/// A constant column has exactly its value as mean and no variance. Else a first mean, then deviations from it
/// correct both: the textbook two-pass algorithm with compensation.
fn mean_and_m2(values: &[f64], known: &Moments) -> (f64, f64) {
    if known.min == known.max {
        return (known.min, 0.0);
    }
    let n = known.finite as f64;
    let rough = lanes(values, |v| v) / n;
    let drift = lanes(values, |v| v - rough);
    let squares = lanes(values, |v| (v - rough) * (v - rough));
    let m2 = squares - drift * drift / n;
    // Rounding may take it below 0; what overflowed stays NaN.
    (rough + drift / n, if m2 < 0.0 { 0.0 } else { m2 })
}

/// Sum of `f` over the finite values: lane i takes rows i, i + 16 …; lanes are added pairwise.
fn lanes(values: &[f64], f: impl Fn(f64) -> f64) -> f64 {
    let mut sums = [0.0f64; LANES];
    for chunk in values.chunks(LANES) {
        for (sum, value) in sums.iter_mut().zip(chunk) {
            *sum += if value.is_finite() { f(*value) } else { 0.0 };
        }
    }
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        for i in 0..width {
            sums[i] += sums[i + width];
        }
    }
    sums[0]
}

impl Merge for Moments {
    /// Source: Chan, Golub, LeVeque (1979), "Updating formulae and a pairwise algorithm for computing sample variances".
    fn merge(&mut self, right: Self) {
        if self.finite > 0 && right.finite > 0 {
            let (a, b) = (self.finite as f64, right.finite as f64);
            let delta = right.mean - self.mean;
            self.mean += delta * (b / (a + b));
            self.m2 += right.m2 + delta * delta * (a * (b / (a + b)));
        } else if right.finite > 0 {
            (self.mean, self.m2) = (right.mean, right.m2);
        }
        self.min = if right.min < self.min { right.min } else { self.min };
        self.max = if right.max > self.max { right.max } else { self.max };
        self.finite += right.finite;
        self.missing += right.missing;
        self.infinite += right.infinite;
    }
}

/// The result of `moments`. Segments without rows and columns that are not numeric are absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MomentsOutput {
    /// By segment name, columns in schema order.
    pub segments: BTreeMap<String, Vec<ColumnMoments>>,
}

/// Moments of one column in one segment. What is of finite values is `None` where there is none, or where it
/// does not fit into an f64 (numbers around 1e300).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColumnMoments {
    /// Column name.
    pub name: String,
    /// Rows of the segment.
    pub rows: u64,
    /// Rows with null or NaN.
    pub missing: u64,
    /// Rows with an infinity.
    pub infinite: u64,
    /// Mean of the finite values.
    pub mean: Option<f64>,
    /// Variance of the finite values, ddof 0.
    pub variance: Option<f64>,
    /// Sum of squared deviations from the mean.
    pub m2: Option<f64>,
    /// Smallest finite value.
    pub min: Option<f64>,
    /// Largest finite value.
    pub max: Option<f64>,
}

impl ColumnMoments {
    /// The named moments as they are reported.
    pub fn new(name: &str, moments: &Moments) -> Self {
        let known = |value: f64| (moments.finite > 0 && value.is_finite()).then_some(value);
        Self {
            name: name.to_owned(),
            rows: moments.rows(),
            missing: moments.missing,
            infinite: moments.infinite,
            mean: known(moments.mean),
            variance: known(moments.m2 / moments.finite as f64),
            m2: known(moments.m2),
            min: known(moments.min),
            max: known(moments.max),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {}

struct MomentsPass {
    names: Vec<String>,
}

impl SinglePass for MomentsPass {
    type Partial = PerSegment<PerColumn<Moments>>;
    type Output = MomentsOutput;

    fn leaf(&self, shard: &EncodedShard) -> Option<Self::Partial> {
        let columns =
            |rows: Range<usize>| shard.columns.iter().map(|c| numbers(c, rows.clone()).map(|v| Moments::of(&v))).collect();
        per_segment(shard, columns)
    }

    fn result(&self, total: Option<Self::Partial>) -> Result<MomentsOutput, LearnError> {
        let mut segments = BTreeMap::new();
        for (segment, columns) in Segment::ALL.into_iter().zip(total.into_iter().flatten()) {
            let Some(columns) = columns else { continue };
            let named = self.names.iter().zip(&columns);
            let columns = named.filter_map(|(n, m)| m.as_ref().map(|m| ColumnMoments::new(n, m))).collect();
            segments.insert(segment.name().to_owned(), columns);
        }
        Ok(MomentsOutput { segments })
    }
}

/// `moments` with its parameters checked: none.
pub fn build(spec: &ProgramSpec) -> Result<Box<dyn Program>, LearnError> {
    let Params {} = params(spec)?;
    Ok(Box::new(Erased(Once(MomentsPass { names: names(spec) }))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_has_no_variance() {
        let mut moments = Moments::of(&[0.1; 1000]);
        moments.merge(Moments::of(&[0.1; 37]));
        assert_eq!((moments.mean, moments.m2, moments.finite), (0.1, 0.0, 1037));
    }

    #[test]
    fn a_large_offset_keeps_its_variance() {
        let values: Vec<f64> = (0..1000).map(|i| 1e9 + f64::from(i % 2)).collect();
        let mut moments = Moments::of(&values[..333]);
        moments.merge(Moments::of(&values[333..]));
        // The means of the halves are known to 1e-7, so their difference squared to about 1e-10.
        assert!((moments.m2 / 1000.0 - 0.25).abs() < 1e-9);
    }

    #[test]
    fn missing_and_infinite_values_stand_apart() {
        let moments = Moments::of(&[f64::NAN, f64::INFINITY, 2.0, f64::NEG_INFINITY, 4.0]);
        assert_eq!((moments.finite, moments.missing, moments.infinite), (2, 1, 2));
        assert_eq!((moments.mean, moments.m2, moments.min, moments.max), (3.0, 2.0, 2.0, 4.0));
    }
}
