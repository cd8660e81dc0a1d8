//! Exact Shapley values of trees, path-dependent: a feature that is not known goes both ways, by the cover of the
//! children. Scott M. Lundberg et al., "Consistent individualized feature attribution for tree ensembles" (2018),
//! algorithm 2; O(leaves · depth²) a row and tree.

use std::ops::Range;

use crate::shard::{EncodedShard, Schema};

use super::model::{TreeModel, Values};
use super::tree::Tree;

/// A feature on the path to a node.
#[derive(Debug, Clone, Copy)]
struct Step {
    /// `None` of the root's own step.
    feature: Option<u32>,
    /// Share of the training rows that go this way without knowing the feature.
    unknown: f64,
    /// 1 if the row goes this way, else 0.
    known: f64,
    /// Weight of the subsets of this size.
    weight: f64,
}

/// Contributions to the scores of some rows: per row one for each feature, then the expected score (base and offset
/// within). They add up to the score.
///
/// # Panics
/// If the shard does not follow the schema that the model was checked against.
pub fn contributions(model: &TreeModel, schema: &Schema, shard: &EncodedShard, rows: Range<usize>) -> Vec<f64> {
    let width = schema.features.len() + 1;
    let offset = |row: usize| shard.offset.as_ref().map_or(0.0, |o| o[row]);
    let expected: Vec<f64> = model.trees.iter().map(expectation).collect();
    let mut out = vec![0.0; rows.len() * width];
    let start = rows.start;
    model.each_row(schema, shard, rows, |row, values| {
        let own = &mut out[row * width..(row + 1) * width];
        own[width - 1] = model.base + offset(start + row);
        for (tree, expected) in model.trees.iter().zip(&expected) {
            own[width - 1] += expected;
            if tree.splits() > 0 {
                Walk { tree, values, out: own }.visit(0, Vec::new(), 1.0, 1.0, None);
            }
        }
    });
    out
}

/// The mean of a tree's leaves, by cover.
fn expectation(tree: &Tree) -> f64 {
    let (mut sum, mut cover) = (0.0, 0.0);
    for (value, own) in tree.value.iter().zip(&tree.leaf_cover) {
        sum += value * own;
        cover += own;
    }
    if cover > 0.0 { sum / cover } else { 0.0 }
}

struct Walk<'a> {
    tree: &'a Tree,
    values: Values<'a>,
    out: &'a mut [f64],
}

impl Walk<'_> {
    fn cover(&self, child: i32) -> f64 {
        usize::try_from(child).map_or_else(|_| self.tree.leaf_cover[!child as usize], |split| self.tree.cover[split])
    }

    /// Visits a child with the path to it.
    fn visit(&mut self, child: i32, mut path: Vec<Step>, unknown: f64, known: f64, feature: Option<u32>) {
        extend(&mut path, unknown, known, feature);
        let Ok(split) = usize::try_from(child) else {
            let value = self.tree.value[!child as usize];
            for i in 1..path.len() {
                let step = path[i];
                let weight = unwound_sum(&path, i);
                if let Some(feature) = step.feature {
                    self.out[feature as usize] += weight * (step.known - step.unknown) * value;
                }
            }
            return;
        };
        let feature = self.tree.feature[split];
        let (left, right) = (self.tree.left[split], self.tree.right[split]);
        let goes_left = self.values.goes_left(self.tree, split);
        let (hot, cold) = if goes_left { (left, right) } else { (right, left) };
        let cover = self.tree.cover[split];
        let share = |child: i32| if cover > 0.0 { self.cover(child) / cover } else { 0.5 };
        let (hot_share, cold_share) = (share(hot), share(cold));
        let (mut unknown, mut known) = (1.0, 1.0);
        // A feature that stands on the path already is taken off and comes back with both shares.
        if let Some(at) = path.iter().position(|s| s.feature == Some(feature)) {
            (unknown, known) = (path[at].unknown, path[at].known);
            unwind(&mut path, at);
        }
        self.visit(hot, path.clone(), unknown * hot_share, known, Some(feature));
        self.visit(cold, path, unknown * cold_share, 0.0, Some(feature));
    }
}

/// Puts a feature on the path.
fn extend(path: &mut Vec<Step>, unknown: f64, known: f64, feature: Option<u32>) {
    let depth = path.len();
    path.push(Step { feature, unknown, known, weight: if depth == 0 { 1.0 } else { 0.0 } });
    let size = (depth + 1) as f64;
    for i in (0..depth).rev() {
        path[i + 1].weight += known * path[i].weight * ((i + 1) as f64 / size);
        path[i].weight = unknown * path[i].weight * ((depth - i) as f64 / size);
    }
}

/// Takes a feature off the path.
fn unwind(path: &mut Vec<Step>, at: usize) {
    let depth = path.len() - 1;
    let Step { unknown, known, .. } = path[at];
    let size = (depth + 1) as f64;
    let mut next = path[depth].weight;
    for i in (0..depth).rev() {
        if known != 0.0 {
            let own = path[i].weight;
            path[i].weight = next * size / ((i + 1) as f64 * known);
            next = own - path[i].weight * unknown * ((depth - i) as f64 / size);
        } else {
            path[i].weight = path[i].weight * size / (unknown * (depth - i) as f64);
        }
    }
    for i in at..depth {
        path[i] = Step { weight: path[i].weight, ..path[i + 1] };
    }
    path.pop();
}

/// Sum of the weights of the path without a feature.
fn unwound_sum(path: &[Step], at: usize) -> f64 {
    let depth = path.len() - 1;
    let Step { unknown, known, .. } = path[at];
    let size = (depth + 1) as f64;
    let mut next = path[depth].weight;
    let mut total = 0.0;
    for i in (0..depth).rev() {
        if known != 0.0 {
            let own = next * size / ((i + 1) as f64 * known);
            total += own;
            next = path[i].weight - own * unknown * ((depth - i) as f64 / size);
        } else if unknown != 0.0 {
            total += path[i].weight * size / (unknown * (depth - i) as f64);
        }
    }
    total
}
