//! `moments`: per segment and numeric column rows, missing, infinite, mean, variance, min and max in one pass.
//! Inside a shard two passes over the finite values in 16 fixed lanes; across shards Chan's formula along the tree.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{Once, PerColumn, PerSegment, SinglePass, names, params, per_segment};
use crate::algorithm::{LearnError, Merge};
use crate::kernels::level::{Kernel, Vector};
use crate::kernels::{LANES, Level, Number, lane_sum};
use crate::program::{Erased, Program, ProgramSpec};
use crate::shard::{Column, EncodedShard, Segment};

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
        Level::detect().run(Look(values))
    }

    /// Moments of one shard's rows of a column; `None` for columns that are not numeric.
    fn of_column(level: Level, column: &Column, rows: Range<usize>) -> Option<Self> {
        match column {
            Column::F32(values) => Some(level.run(Look(&values[rows]))),
            Column::F64(values) => Some(level.run(Look(&values[rows]))),
            Column::Code(_) | Column::Sparse { .. } | Column::Bytes { .. } => None,
        }
    }

    fn none() -> Self {
        Self { finite: 0, missing: 0, infinite: 0, mean: 0.0, m2: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY }
    }

    /// Number of values of any kind.
    pub fn rows(&self) -> u64 {
        self.finite + self.missing + self.infinite
    }
}

struct Look<'a, T>(&'a [T]);

impl<T: Number + 'static> Kernel for Look<'_, T> {
    type Output = Moments;

    #[inline(always)]
    fn run<V: Vector>(self) -> Moments {
        let mut out = extremes(self.0);
        if out.finite > 0 {
            (out.mean, out.m2) = mean_and_m2(self.0, &out);
        }
        out
    }
}

/// Counts, smallest and largest value. Of equal values (0 and −0) the first one counts.
#[inline(always)]
fn extremes<T: Number>(values: &[T]) -> Moments {
    let (mut low, mut high) = ([f64::INFINITY; LANES], [f64::NEG_INFINITY; LANES]);
    let (mut finite, mut missing) = ([0_u64; LANES], [0_u64; LANES]);
    let (blocks, tail) = values.as_chunks::<LANES>();
    let mut see = |l: usize, value: f64| {
        let usable = value.is_finite();
        low[l] = if usable && value < low[l] { value } else { low[l] };
        high[l] = if usable && value > high[l] { value } else { high[l] };
        finite[l] += u64::from(usable);
        missing[l] += u64::from(value.is_nan());
    };
    for block in blocks {
        for (l, value) in block.iter().enumerate() {
            see(l, value.number());
        }
    }
    for (l, value) in tail.iter().enumerate() {
        see(l, value.number());
    }
    let (mut out, mut least, mut most) = (Moments::none(), f64::INFINITY, f64::NEG_INFINITY);
    for l in 0..LANES {
        out.finite += finite[l];
        out.missing += missing[l];
        least = if low[l] < least { low[l] } else { least };
        most = if high[l] > most { high[l] } else { most };
    }
    out.infinite = values.len() as u64 - out.finite - out.missing;
    (out.min, out.max) = (first_of(values, least), first_of(values, most));
    out
}

/// The first value that equals `value`: only the two zeros differ from what they equal.
#[inline(always)]
fn first_of<T: Number>(values: &[T], value: f64) -> f64 {
    if value != 0.0 {
        return value;
    }
    for v in values {
        if v.number() == 0.0 {
            return v.number();
        }
    }
    value
}

/// A constant column has exactly its value as mean and no variance. Else a first mean, then deviations from it
/// correct both: the textbook two-pass algorithm with compensation.
#[inline(always)]
fn mean_and_m2<T: Number>(values: &[T], known: &Moments) -> (f64, f64) {
    if known.min == known.max {
        return (known.min, 0.0);
    }
    let n = known.finite as f64;
    let [sum, _] = lanes(values, |v| [v, 0.0]);
    let rough = sum / n;
    let [drift, squares] = lanes(values, |v| [v - rough, (v - rough) * (v - rough)]);
    let m2 = squares - drift * drift / n;
    // Rounding may take it below 0; what overflowed stays NaN.
    (rough + drift / n, if m2 < 0.0 { 0.0 } else { m2 })
}

/// Sums of `f` over the finite values: lane i takes rows i, i + 16 …; lanes are added pairwise.
#[inline(always)]
fn lanes<T: Number>(values: &[T], f: impl Fn(f64) -> [f64; 2]) -> [f64; 2] {
    let (mut first, mut second) = ([0.0; LANES], [0.0; LANES]);
    let (blocks, tail) = values.as_chunks::<LANES>();
    let term = |v: f64| if v.is_finite() { f(v) } else { [0.0; 2] };
    for block in blocks {
        // Terms first, sums then: written as one loop it is not vectorised.
        let (mut a, mut b) = ([0.0; LANES], [0.0; LANES]);
        for l in 0..LANES {
            [a[l], b[l]] = term(block[l].number());
        }
        for l in 0..LANES {
            first[l] += a[l];
            second[l] += b[l];
        }
    }
    for (l, value) in tail.iter().enumerate() {
        let [a, b] = term(value.number());
        first[l] += a;
        second[l] += b;
    }
    [lane_sum(&first), lane_sum(&second)]
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
    level: Level,
}

impl SinglePass for MomentsPass {
    type Partial = PerSegment<PerColumn<Moments>>;
    type Output = MomentsOutput;

    fn leaf(&self, shard: &EncodedShard) -> Option<Self::Partial> {
        let of = |rows: &Range<usize>, column| Moments::of_column(self.level, column, rows.clone());
        per_segment(shard, |rows| shard.columns.iter().map(|column| of(&rows, column)).collect())
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
pub fn build(spec: &ProgramSpec, level: Level) -> Result<Box<dyn Program>, LearnError> {
    let Params {} = params(spec)?;
    Ok(Box::new(Erased(Once(MomentsPass { names: names(spec), level }))))
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
