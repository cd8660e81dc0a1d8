//! The model of an isolation forest: the score of a row is 2^(−E[h] / c(n)), where E[h] is its mean path length over the
//! trees and c(n) that of the rows that a tree has seen. It lies between 0 and 1; higher is more anomalous.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::math;
use crate::shard::{EncodedShard, Schema};
use crate::trees::model::TreeModel;

/// Trees of path lengths.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IsolationModel {
    /// Leaves add up to E[h] / c(n).
    pub forest: TreeModel,
    /// Scores above it are anomalies, if a share of them was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
}

/// The score of a mean path length in units of c(n): 2^−length.
pub fn score(length: f64) -> f64 {
    math::exp(-std::f64::consts::LN_2 * length)
}

impl IsolationModel {
    /// Scores of some rows of a shard.
    ///
    /// # Panics
    /// As [`TreeModel::scores`].
    pub fn scores(&self, schema: &Schema, shard: &EncodedShard, rows: Range<usize>) -> Vec<f64> {
        scores(&self.forest, schema, shard, rows)
    }
}

/// Scores of some rows of a shard by a forest of path lengths.
///
/// # Panics
/// As [`TreeModel::scores`].
pub fn scores(forest: &TreeModel, schema: &Schema, shard: &EncodedShard, rows: Range<usize>) -> Vec<f64> {
    let mut out = forest.scores(schema, shard, rows, forest.trees.len());
    out.iter_mut().for_each(|x| *x = score(*x));
    out
}
