//! Exact Shapley values of trees, path-dependent: a feature that is not known goes both ways, by the cover of the
//! children (Scott M. Lundberg et al., "Consistent individualized feature attribution for tree ensembles", 2018).
//!
//! Let a leaf of value v stand under d features; of feature j, z_j is the share of the training rows that go its way
//! without knowing it, and o_j is 1 if the row goes its way, else 0. The leaf then counts for feature i with
//!
//! > v · (o_i − z_i) · ∫₀¹ Π_{j≠i} (z_j (1 − t) + o_j t) dt,
//!
//! since ∫ tᵏ (1 − t)^(d−1−k) dt is the weight k! (d − 1 − k)! / d! of the subsets of k features. The integrand has degree
//! d − 1, so that ⌈d / 2⌉ points of Gauss and Legendre ([`quadrature`]) give the integral itself, from products of numbers
//! between 0 and 1, without the cancellation of algorithm 2 of that paper. A tree is laid out once ([`plan`]); then
//! rows walk all of it side by side ([`walk`]): products go down, sums of leaves come up, an edge takes its share of the
//! sums of all leaves under it. That is O(leaves · d) a row and tree instead of O(leaves · d²).

mod plan;
mod quadrature;
mod walk;

use std::ops::Range;

use crate::kernels::{LANES, Level};
use crate::shard::{EncodedShard, Schema};

use super::model::{TreeModel, feature_values};
use plan::Plan;
use walk::Walk;

/// Bytes of values and sums that are worked on at once, about.
const AT_ONCE: usize = 16 << 20;

/// Contributions to the scores of some rows: per row and score one for each feature, then the expected score (base and
/// offset within). They add up to the score.
///
/// # Panics
/// If the shard does not follow the schema that the model was checked against.
pub fn contributions(model: &TreeModel, schema: &Schema, shard: &EncodedShard, rows: Range<usize>) -> Vec<f64> {
    contributions_at(Level::detect(), model, schema, shard, rows)
}

/// [`contributions`] at a given level.
///
/// # Panics
/// As [`contributions`].
pub fn contributions_at(level: Level, model: &TreeModel, schema: &Schema, shard: &EncodedShard, rows: Range<usize>) -> Vec<f64> {
    let width = model.outputs() * (schema.features.len() + 1);
    let mut out = vec![0.0; rows.len() * width];
    let bytes = LANES * (4 * schema.features.len() + 8 * width);
    let most = LANES * (AT_ONCE / bytes).max(4);
    for (first, out) in rows.clone().step_by(most).zip(out.chunks_mut(most * width.max(1))) {
        let mut chunk = Chunk::new(schema, shard, first..rows.end.min(first + most), model.outputs());
        for (t, tree) in model.trees.iter().enumerate() {
            let plan = Plan::new(tree);
            level.run(Walk { plan: &plan, tree, chunk: &mut chunk, output: t % model.outputs() });
        }
        let offset = |row: usize| shard.offset.as_ref().map_or(0.0, |o| o[first + row]);
        chunk.write(&model.base, offset, out);
    }
    out
}

/// Rows that are worked on at once, in blocks of [`LANES`] side by side.
struct Chunk {
    rows: usize,
    features: usize,
    outputs: usize,
    /// As [`feature_values`] gives them: a list of lanes a block and feature.
    values: Vec<[u32; LANES]>,
    /// Contributions so far, and expected values: lanes a block, output and feature (and, last, none).
    sums: Vec<[f64; LANES]>,
}

impl Chunk {
    fn new(schema: &Schema, shard: &EncodedShard, rows: Range<usize>, outputs: usize) -> Self {
        let (features, blocks) = (schema.features.len(), rows.len().div_ceil(LANES));
        let mut values = vec![[0; LANES]; blocks * features];
        for (b, first) in rows.clone().step_by(LANES).enumerate() {
            let block = first..rows.end.min(first + LANES);
            for (j, lanes) in values[b * features..][..features].iter_mut().enumerate() {
                feature_values(schema, shard, j, block.clone(), lanes.iter_mut());
            }
        }
        let sums = vec![[0.0; LANES]; blocks * outputs * (features + 1)];
        Self { rows: rows.len(), features, outputs, values, sums }
    }

    /// Row after row, the base and the row's offset added to what is expected.
    fn write(&self, base: &[f64], offset: impl Fn(usize) -> f64, out: &mut [f64]) {
        let width = self.outputs * (self.features + 1);
        for row in 0..self.rows {
            let lanes = &self.sums[row / LANES * width..][..width];
            let own = &mut out[row * width..][..width];
            own.iter_mut().zip(lanes).for_each(|(o, lanes)| *o = lanes[row % LANES]);
            for (score, base) in own.chunks_mut(self.features + 1).zip(base) {
                score[self.features] += base + offset(row);
            }
        }
    }
}
