//! A tree in values: what a model keeps. Flat lists, an entry a split and an entry a leaf.

use serde::{Deserialize, Serialize};

use super::bins::{Bins, FeatureBins};
use super::grown::{Grown, Rule};

/// A binary tree. A child that is not negative is a split, else the leaf `!child`; split 0 is the root, and a tree
/// without splits is leaf 0.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tree {
    /// Column that decides, by split.
    pub feature: Vec<u32>,
    /// `x <= threshold` goes left; thresholds are f32 numbers. 0 where categories decide.
    pub threshold: Vec<f64>,
    /// Whether a missing value goes left; of categories also one that was not met in training.
    pub missing_left: Vec<bool>,
    /// Ascending slots that go left, where categories decide; else empty.
    pub slots: Vec<Vec<u32>>,
    /// Whether categories decide.
    pub categorical: Vec<bool>,
    /// Left child.
    pub left: Vec<i32>,
    /// Right child.
    pub right: Vec<i32>,
    /// What the split gained.
    pub gain: Vec<f64>,
    /// Sum of hessians of the training rows that came to the split.
    pub cover: Vec<f64>,
    /// What a leaf adds to the score.
    pub value: Vec<f64>,
    /// Sum of hessians of the training rows of a leaf.
    pub leaf_cover: Vec<f64>,
    /// Training rows of a leaf.
    pub leaf_rows: Vec<u64>,
}

impl Tree {
    /// A grown tree with its bins turned into values.
    pub fn new(grown: &Grown, bins: &Bins) -> Self {
        let split_of = grown.split_of();
        let mut out = Self::default();
        let mut child = vec![0; split_of.len()];
        for (node, split) in split_of.iter().enumerate() {
            child[node] = match split {
                Some(i) => *i as i32,
                None => {
                    out.value.push(grown.values[node]);
                    out.leaf_cover.push(grown.covers[node]);
                    out.leaf_rows.push(grown.rows[node]);
                    !(out.value.len() as i32 - 1)
                }
            };
        }
        for (i, split) in grown.splits.iter().enumerate() {
            out.feature.push(bins.source(split.feature));
            out.left.push(child[2 * i + 1]);
            out.right.push(child[2 * i + 2]);
            out.gain.push(split.gain);
            out.cover.push(grown.covers[split.node as usize]);
            out.push_rule(split.rule, &bins.features[split.feature as usize]);
        }
        out
    }

    fn push_rule(&mut self, rule: Rule, feature: &FeatureBins) {
        let missing = feature.missing();
        self.missing_left.push(rule.goes_left(missing, missing));
        let (mut threshold, mut slots) = (0.0, Vec::new());
        match (feature, rule) {
            (FeatureBins::Numeric { edges }, Rule::Below { bin, .. }) => {
                // Past the last edge: every value is on the left.
                threshold = f64::from(edges.get(usize::from(bin)).copied().unwrap_or(f32::MAX));
            }
            (FeatureBins::Categories { bins, .. }, rule) => {
                let left = (0..bins.len() as u32).filter(|&slot| rule.goes_left(bins[slot as usize], missing));
                slots = left.collect();
            }
            (FeatureBins::Numeric { .. }, Rule::Among(_)) => {}
        }
        self.threshold.push(threshold);
        self.slots.push(slots);
        self.categorical.push(!feature.is_numeric());
    }

    /// Number of splits.
    pub fn splits(&self) -> usize {
        self.feature.len()
    }

    /// Number of leaves.
    pub fn leaves(&self) -> usize {
        self.value.len()
    }

    /// Whether lists have the lengths of a tree over so many features, and every child exists and stands below.
    pub fn is_sound(&self, features: usize) -> bool {
        let n = self.splits();
        let lengths = [
            self.threshold.len(),
            self.missing_left.len(),
            self.slots.len(),
            self.categorical.len(),
            self.left.len(),
            self.right.len(),
            self.gain.len(),
            self.cover.len(),
        ];
        let leaves = [self.value.len(), self.leaf_cover.len(), self.leaf_rows.len()];
        let child = |i: usize, c: i32| if c < 0 { !c as usize <= n } else { c as usize > i && (c as usize) < n };
        lengths.iter().all(|&l| l == n)
            && leaves.iter().all(|&l| l == n + 1)
            && (0..n).all(|i| (self.feature[i] as usize) < features && child(i, self.left[i]) && child(i, self.right[i]))
    }
}
