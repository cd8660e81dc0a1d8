//! `target_summary`: what must be known of a numeric target and of the weights before anything is fitted:
//! missing and infinite values, range, mean, classes 0 and 1, and the sum of weights, per segment.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::compensated::Compensated;
use super::moments::{ColumnMoments, Moments};
use super::{Once, PerSegment, SinglePass, params, per_segment};
use crate::algorithm::{LearnError, Merge};
use crate::program::{Erased, Program, ProgramSpec};
use crate::shard::{EncodedShard, Segment, Shared};

/// The result of `target_summary`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TargetSummaryOutput {
    /// By segment name; segments without rows are absent.
    pub segments: BTreeMap<String, TargetSummary>,
}

/// Target and weights of one segment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TargetSummary {
    /// Number of rows.
    pub rows: u64,
    /// Rows whose target is null or NaN.
    pub missing: u64,
    /// Rows whose target is infinite.
    pub non_finite: u64,
    /// Smallest finite target.
    pub min: Option<f64>,
    /// Largest finite target.
    pub max: Option<f64>,
    /// Mean of the finite targets, unweighted.
    pub mean: Option<f64>,
    /// Variance of the finite targets, ddof 0, unweighted.
    pub variance: Option<f64>,
    /// Rows whose target is 0.
    pub zeros: u64,
    /// Rows whose target is 1.
    pub ones: u64,
    /// Sum of the weights (the number of rows where there are none), of usable weights only.
    pub weight_sum: f64,
    /// Rows whose weight is below 0.
    pub negative_weights: u64,
    /// Rows whose weight is missing or infinite.
    pub unusable_weights: u64,
}

#[derive(Serialize, Deserialize)]
struct Part {
    has_target: bool,
    target: Moments,
    zeros: u64,
    ones: u64,
    weight_sum: Compensated,
    negative_weights: u64,
    unusable_weights: u64,
}

impl Part {
    fn of(target: Option<&[f64]>, weight: Option<&[f64]>, rows: usize) -> Self {
        let count = |values: &[f64], keep: fn(f64) -> bool| values.iter().filter(|v| keep(**v)).count() as u64;
        let values = target.unwrap_or_default();
        let weights = weight.unwrap_or_default();
        let weight_sum = match weight {
            Some(weights) => Compensated::of(weights.iter().copied().filter(|w| w.is_finite())),
            None => Compensated::of([rows as f64]),
        };
        Self {
            has_target: target.is_some(),
            target: Moments::of(values),
            zeros: count(values, |v| v == 0.0),
            ones: count(values, |v| v == 1.0),
            weight_sum,
            negative_weights: count(weights, |w| w < 0.0),
            unusable_weights: count(weights, |w| !w.is_finite()),
        }
    }
}

impl Merge for Part {
    fn merge(&mut self, right: Self) {
        self.has_target &= right.has_target;
        self.target.merge(right.target);
        self.zeros += right.zeros;
        self.ones += right.ones;
        self.weight_sum.merge(right.weight_sum);
        self.negative_weights += right.negative_weights;
        self.unusable_weights += right.unusable_weights;
    }
}

impl From<Part> for TargetSummary {
    fn from(part: Part) -> Self {
        let target = ColumnMoments::new("target", &part.target);
        Self {
            rows: target.rows,
            missing: target.missing,
            non_finite: target.infinite,
            min: target.min,
            max: target.max,
            mean: target.mean,
            variance: target.variance,
            zeros: part.zeros,
            ones: part.ones,
            weight_sum: part.weight_sum.value(),
            negative_weights: part.negative_weights,
            unusable_weights: part.unusable_weights,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {}

struct Summary;

impl SinglePass for Summary {
    type Partial = PerSegment<Part>;
    type Output = TargetSummaryOutput;

    fn leaf(&self, shard: &EncodedShard) -> Option<Self::Partial> {
        per_segment(shard, |rows| {
            let of = |values: &'_ Option<Shared<f64>>| values.as_ref().map(|v| v[rows.clone()].to_vec());
            Part::of(of(&shard.target).as_deref(), of(&shard.weight).as_deref(), rows.len())
        })
    }

    fn result(&self, total: Option<Self::Partial>) -> Result<TargetSummaryOutput, LearnError> {
        let parts = Segment::ALL.into_iter().zip(total.into_iter().flatten());
        let mut segments = BTreeMap::new();
        for (segment, part) in parts.filter_map(|(s, p)| p.map(|p| (s, p))) {
            if !part.has_target {
                return Err(LearnError::Data("the rows have no target: set `columns.target`".into()));
            }
            let summary = TargetSummary::from(part);
            if !summary.weight_sum.is_finite() {
                return Err(LearnError::Data("the weights overflow when they are summed: scale them down".into()));
            }
            segments.insert(segment.name().to_owned(), summary);
        }
        Ok(TargetSummaryOutput { segments })
    }
}

/// `target_summary` with its parameters checked: none.
pub fn build(spec: &ProgramSpec) -> Result<Box<dyn Program>, LearnError> {
    let Params {} = params(spec)?;
    Ok(Box::new(Erased(Once(Summary))))
}
