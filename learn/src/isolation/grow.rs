//! An isolation tree from its rows. At a node a feature is drawn among those that tell its rows apart, and of a number a
//! threshold between the least and the greatest. Categories go left or right by a coin each; one that none of the
//! node's rows has goes right. Missing values go by a coin where the node has some, else where more rows go; where
//! all that is there is equal, they are split from it. What is drawn is a function of (seed, tree, node).

use std::collections::BTreeSet;

use crate::math;
use crate::philox::{Stream, uniform};
use crate::shard::{FeatureKind, Schema};
use crate::trees::tree::Tree;

use super::draw::{Drawn, NO_SLOT};

/// Draws at a node, besides those of features.
const THRESHOLD: u32 = u32::MAX;
const MISSING: u32 = u32::MAX - 1;
const FLIPPED: u32 = u32::MAX - 2;

/// What is the same for all trees.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// Of the rows.
    pub schema: &'a Schema,
    /// Of all that is drawn.
    pub seed: u64,
    /// Share of the features that a tree sees.
    pub max_features: f64,
    /// Most splits on a path.
    pub depth: u32,
    /// Path lengths are divided by it.
    pub unit: f64,
}

/// Mean path length of an unsuccessful search in a binary search tree of `n` entries: 2 H(n − 1) − 2 (n − 1) / n with
/// H(i) ≈ ln i + γ; 1 for two entries, 0 for fewer.
pub fn mean_path(n: u64) -> f64 {
    const EULER: f64 = 0.577_215_664_901_532_9;
    match n {
        0 | 1 => 0.0,
        2 => 1.0,
        _ => {
            let n = n as f64;
            2.0 * (math::ln(n - 1.0) + EULER) - 2.0 * (n - 1.0) / n
        }
    }
}

/// Tree `number` from its rows; a leaf's value is the path length there in units.
pub fn grow(rules: Rules<'_>, number: u32, rows: &[Drawn]) -> Tree {
    let stream = |purpose| Stream::new(rules.seed, purpose, u64::from(number), 0);
    let mut growing = Growing {
        rules,
        features: features(rules, stream("isolation features")),
        nodes: stream("isolation nodes"),
        sides: stream("isolation categories"),
        rows,
        tree: Tree::default(),
    };
    let mut all: Vec<u32> = (0..rows.len() as u32).collect();
    growing.node(&mut all, 0, 1);
    growing.tree
}

/// The features that a tree sees.
fn features(rules: Rules<'_>, stream: Stream) -> Vec<u32> {
    let count = rules.schema.features.len();
    let wanted = ((count as f64 * rules.max_features) as usize).clamp(1.min(count), count);
    let mut order: Vec<(u64, u32)> = (0..count as u32).map(|j| (stream.bits(u128::from(j)), j)).collect();
    order.sort_unstable();
    let mut out: Vec<u32> = order[..wanted].iter().map(|(_, j)| *j).collect();
    out.sort_unstable();
    out
}

struct Growing<'a> {
    rules: Rules<'a>,
    features: Vec<u32>,
    nodes: Stream,
    sides: Stream,
    rows: &'a [Drawn],
    tree: Tree,
}

/// How a node is split.
enum Cut {
    /// `x <= threshold` goes left.
    Below(f32),
    /// These slots go left, ascending.
    Among(Vec<u32>),
}

struct Split {
    feature: u32,
    cut: Cut,
    missing_left: bool,
}

impl Split {
    fn goes_left(&self, value: u32) -> bool {
        match &self.cut {
            Cut::Below(_) if f32::from_bits(value).is_nan() => self.missing_left,
            Cut::Below(threshold) => f32::from_bits(value) <= *threshold,
            Cut::Among(_) if value == NO_SLOT => self.missing_left,
            Cut::Among(slots) => slots.binary_search(&value).is_ok(),
        }
    }
}

impl Growing<'_> {
    /// Grows the node `id` (1 is the root, 2 i and 2 i + 1 are the children of i) over some rows; gives its place among
    /// splits or leaves, as a tree names children.
    fn node(&mut self, rows: &mut [u32], depth: u32, id: u64) -> i32 {
        let split = if depth < self.rules.depth { self.split(rows, id) } else { None };
        let Some(split) = split else { return self.leaf(rows.len() as u64, depth) };
        // Stable, so that the order of rows depends on nothing but the rows.
        rows.sort_by_key(|&row| !split.goes_left(self.value(row, split.feature)));
        let left = rows.partition_point(|&row| split.goes_left(self.value(row, split.feature)));
        let at = self.push(split, rows.len());
        let (lower, upper) = rows.split_at_mut(left);
        self.tree.left[at] = self.node(lower, depth + 1, 2 * id);
        self.tree.right[at] = self.node(upper, depth + 1, 2 * id + 1);
        at as i32
    }

    fn push(&mut self, split: Split, rows: usize) -> usize {
        let tree = &mut self.tree;
        let (threshold, slots, categorical) = match split.cut {
            Cut::Below(threshold) => (threshold, Vec::new(), false),
            Cut::Among(slots) => (0.0, slots, true),
        };
        tree.feature.push(split.feature);
        tree.threshold.push(f64::from(threshold));
        tree.missing_left.push(split.missing_left);
        tree.slots.push(slots);
        tree.categorical.push(categorical);
        tree.left.push(0);
        tree.right.push(0);
        tree.gain.push(0.0);
        tree.cover.push(rows as f64);
        tree.feature.len() - 1
    }

    fn leaf(&mut self, rows: u64, depth: u32) -> i32 {
        self.tree.value.push((f64::from(depth) + mean_path(rows)) / self.rules.unit);
        self.tree.leaf_cover.push(rows as f64);
        self.tree.leaf_rows.push(rows);
        !(self.tree.value.len() as i32 - 1)
    }

    fn value(&self, row: u32, feature: u32) -> u32 {
        self.rows[row as usize].values[feature as usize]
    }

    /// 64 random bits of a node.
    fn bits(&self, id: u64, draw: u32) -> u64 {
        self.nodes.bits(u128::from(id) << 32 | u128::from(draw))
    }

    /// A split by a feature that tells the rows apart; `None` where none does.
    fn split(&self, rows: &[u32], id: u64) -> Option<Split> {
        let mut left = self.features.clone();
        let mut draw = 0;
        while rows.len() > 1 && !left.is_empty() {
            let feature = left.swap_remove(below(self.bits(id, draw), left.len()));
            draw += 1;
            let split = match &self.rules.schema.features[feature as usize].kind {
                FeatureKind::Numeric { .. } => self.split_numbers(rows, id, feature),
                _ => self.split_categories(rows, id, feature),
            };
            if split.is_some() {
                return split;
            }
        }
        None
    }

    fn split_numbers(&self, rows: &[u32], id: u64, feature: u32) -> Option<Split> {
        let (mut low, mut high, mut there) = (f32::INFINITY, f32::NEG_INFINITY, 0);
        for &row in rows {
            let x = f32::from_bits(self.value(row, feature));
            if !x.is_nan() {
                low = if x < low { x } else { low };
                high = if x > high { x } else { high };
                there += 1;
            }
        }
        if low < high {
            let (from, to) = (f64::from(low), f64::from(high));
            let drawn = (from + uniform(self.bits(id, THRESHOLD)) * (to - from)) as f32;
            let threshold = if drawn < high { drawn } else { low };
            return Some(self.with_missing(rows, id, feature, Cut::Below(threshold), there));
        }
        let apart = there > 0 && there < rows.len();
        apart.then_some(Split { feature, cut: Cut::Below(f32::MAX), missing_left: false })
    }

    fn split_categories(&self, rows: &[u32], id: u64, feature: u32) -> Option<Split> {
        let known = || rows.iter().map(|&row| self.value(row, feature)).filter(|&slot| slot != NO_SLOT);
        let (there, found): (usize, BTreeSet<u32>) = (known().count(), known().collect());
        let found: Vec<u32> = found.into_iter().collect();
        if found.len() > 1 {
            let left = self.slots_left(&found, id, feature);
            return Some(self.with_missing(rows, id, feature, Cut::Among(left), there));
        }
        let apart = there > 0 && there < rows.len();
        apart.then_some(Split { feature, cut: Cut::Among(found), missing_left: false })
    }

    /// The slots that a coin sends left: neither none nor all.
    fn slots_left(&self, found: &[u32], id: u64, feature: u32) -> Vec<u32> {
        let coin = |slot: u32| {
            let index = u128::from(id) << 64 | u128::from(feature) << 32 | u128::from(slot);
            self.sides.bits(index) & 1 == 0
        };
        let mut left: Vec<u32> = found.iter().copied().filter(|&slot| coin(slot)).collect();
        let flipped = below(self.bits(id, FLIPPED), found.len());
        if left.is_empty() {
            left.push(found[flipped]);
        } else if left.len() == found.len() {
            left.remove(flipped);
        }
        left
    }

    /// Where missing values go, of which the node has `rows.len() - there`.
    fn with_missing(&self, rows: &[u32], id: u64, feature: u32, cut: Cut, there: usize) -> Split {
        let mut split = Split { feature, cut, missing_left: false };
        split.missing_left = if there < rows.len() {
            self.bits(id, MISSING) & 1 == 0
        } else {
            let left = rows.iter().filter(|&&row| split.goes_left(self.value(row, feature))).count();
            2 * left > rows.len()
        };
        split
    }
}

/// A whole number below `count` from 64 random bits.
fn below(bits: u64, count: usize) -> usize {
    ((u128::from(bits) * count as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::Feature;

    fn schema() -> Schema {
        let number = FeatureKind::Numeric { shift: 0.0, scale: 1.0 };
        let slots = FeatureKind::Slots { names: ["a", "b", "c"].map(str::to_owned).to_vec() };
        let feature = |name: &str, kind: &FeatureKind| Feature { name: name.into(), kind: kind.clone() };
        Schema { features: vec![feature("x", &number), feature("k", &slots), feature("one", &number)], classes: Vec::new() }
    }

    fn rows(count: u32) -> Vec<Drawn> {
        let x = |i: u32| if i.is_multiple_of(9) { f32::NAN } else { (i * 7 % count) as f32 };
        let k = |i: u32| if i.is_multiple_of(8) { NO_SLOT } else { i % 3 };
        let row = |i: u32| Drawn { number: 0, shard: 0, row: i, values: vec![x(i).to_bits(), k(i), 1.5f32.to_bits()] };
        (0..count).map(row).collect()
    }

    fn rules(schema: &Schema) -> Rules<'_> {
        Rules { schema, seed: 3, max_features: 1.0, depth: 6, unit: 1.0 }
    }

    #[test]
    fn path_lengths_are_those_of_the_paper() {
        assert_eq!([mean_path(0), mean_path(1), mean_path(2)], [0.0, 0.0, 1.0]);
        assert!((mean_path(256) - 10.244_770_920_119_917).abs() < 1e-12, "{}", mean_path(256));
    }

    #[test]
    fn every_row_comes_to_a_leaf_that_counts_it() {
        let (schema, rows) = (schema(), rows(64));
        for number in 0..20 {
            let tree = grow(rules(&schema), number, &rows);
            assert!(tree.is_sound(3) && tree.leaf_rows.iter().sum::<u64>() == 64, "{tree:?}");
            assert!(tree.leaf_rows.iter().all(|&n| n > 0) && !tree.feature.contains(&2), "a constant tells nothing apart");
            assert!(tree.slots.iter().zip(&tree.categorical).all(|(s, c)| *c != s.is_empty()));
            assert_eq!(grow(rules(&schema), number, &rows), tree);
        }
        assert_ne!(grow(rules(&schema), 0, &rows), grow(rules(&schema), 1, &rows));
    }

    #[test]
    fn what_is_there_and_what_is_missing_are_told_apart() {
        let schema = schema();
        let row = |i: u32, x: f32| Drawn { number: 0, shard: 0, row: i, values: vec![x.to_bits(), 0, 1.5f32.to_bits()] };
        let tree = grow(rules(&schema), 0, &[row(0, 4.0), row(1, f32::NAN), row(2, 4.0)]);
        assert_eq!((tree.splits(), tree.leaf_rows, tree.missing_left), (1, vec![2, 1], vec![false]));
        assert_eq!(tree.threshold, [f64::from(f32::MAX)]);
        let same = grow(rules(&schema), 0, &[row(0, 4.0), row(1, 4.0), row(2, 4.0)]);
        assert_eq!((same.splits(), same.value), (0, vec![mean_path(3)]));
    }

    #[test]
    fn a_share_of_the_features_is_drawn_for_each_tree() {
        let schema = schema();
        let drawn = |number: u64| features(Rules { max_features: 0.7, ..rules(&schema) }, Stream::new(1, "f", number, 0));
        assert!((0..20).all(|n| drawn(n).len() == 2));
        assert!((0..20).any(|n| drawn(n) != drawn(0)));
    }
}
