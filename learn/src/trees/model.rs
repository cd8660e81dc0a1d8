//! Models of trees: a score is the base plus what the leaves add, in the order of the trees.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::algorithm::LearnError;
use crate::model::Task;
use crate::shard::{Column, EncodedShard, FeatureKind, Schema};

use super::bins::round_up;
use super::boosting::Begin;
use super::grown::Grown;
use super::objective::{Link, Objective};
use super::tree::Tree;

/// Values that are scored side by side.
const ROWS: usize = 64;
/// Values that walk a tree in step.
const STEP: usize = 16;

/// Trees whose leaves add up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TreeModel {
    /// What is predicted.
    pub task: Task,
    /// From score to prediction.
    pub link: Link,
    /// The score before any tree.
    pub base: f64,
    /// In the order in which they add.
    pub trees: Vec<Tree>,
}

impl TreeModel {
    /// Grown trees with their bins turned into values, leaves multiplied by a factor.
    ///
    /// # Errors
    /// A leaf's value is not finite.
    pub fn new(objective: Objective, begin: &Begin, grown: &[Grown], factor: f64) -> Result<Self, LearnError> {
        let mut trees: Vec<Tree> = grown.iter().map(|tree| Tree::new(tree, &begin.bins)).collect();
        trees.iter_mut().flat_map(|t| &mut t.value).for_each(|v| *v *= factor);
        if trees.iter().any(|t| t.value.iter().any(|v| !v.is_finite())) {
            return Err(LearnError::Data("leaf values overflow: scale the target, or set `l2` above 0".into()));
        }
        Ok(Self { task: objective.task(), link: objective.link(), base: begin.base, trees })
    }

    /// Whether the model belongs to the schema.
    ///
    /// # Errors
    /// It does not.
    pub fn check(&self, schema: &Schema) -> Result<(), LearnError> {
        let features = schema.features.len();
        match self.trees.iter().position(|t| !t.is_sound(features)) {
            None => Ok(()),
            Some(i) => {
                Err(LearnError::Data(format!("tree {i} of the model is damaged or of other features than its {features}")))
            }
        }
    }

    /// Scores of some rows of a shard, its offsets included, by the first `trees` trees.
    ///
    /// # Panics
    /// If the shard does not follow the schema that the model was checked against.
    pub fn scores(&self, schema: &Schema, shard: &EncodedShard, rows: Range<usize>, trees: usize) -> Vec<f64> {
        let offset = |row: usize| shard.offset.as_ref().map_or(0.0, |o| o[row]);
        let mut out: Vec<f64> = rows.clone().map(|row| self.base + offset(row)).collect();
        let walkers: Vec<Walker<'_>> = self.trees[..trees.min(self.trees.len())].iter().map(Walker::new).collect();
        blocks(schema, shard, rows, |first, block| {
            for walker in &walkers {
                let leaves = walker.leaves(block);
                for (score, leaf) in out[first..].iter_mut().zip(&leaves[..block.rows]) {
                    *score += walker.tree.value[*leaf as usize];
                }
            }
        });
        out
    }

    /// The leaf of each row in each tree: row after row.
    ///
    /// # Panics
    /// As [`TreeModel::scores`].
    pub fn leaves(&self, schema: &Schema, shard: &EncodedShard, rows: Range<usize>) -> Vec<u32> {
        let count = self.trees.len();
        let mut out = vec![0; rows.len() * count];
        let walkers: Vec<Walker<'_>> = self.trees.iter().map(Walker::new).collect();
        blocks(schema, shard, rows, |first, block| {
            for (t, walker) in walkers.iter().enumerate() {
                let leaves = walker.leaves(block);
                for (row, leaf) in leaves[..block.rows].iter().enumerate() {
                    out[(first + row) * count + t] = *leaf;
                }
            }
        });
        out
    }

    /// Calls `with` for every row, with its number counted from the range's start.
    pub(super) fn each_row(
        &self,
        schema: &Schema,
        shard: &EncodedShard,
        rows: Range<usize>,
        mut with: impl FnMut(usize, Values<'_>),
    ) {
        blocks(schema, shard, rows, |first, block| {
            for row in 0..block.rows {
                with(first + row, Values(&block.values[row * block.features..][..block.features]));
            }
        });
    }

    /// Scores after each tree: `trees + 1` per row, row after row.
    ///
    /// # Panics
    /// As [`TreeModel::scores`].
    pub fn staged(&self, schema: &Schema, shard: &EncodedShard, rows: Range<usize>) -> Vec<f64> {
        let leaves = self.leaves(schema, shard, rows.clone());
        let offset = |row: usize| shard.offset.as_ref().map_or(0.0, |o| o[row]);
        let mut out = Vec::with_capacity(leaves.len() + rows.len());
        for (i, row) in rows.enumerate() {
            let mut score = self.base + offset(row);
            out.push(score);
            for (tree, &leaf) in self.trees.iter().zip(&leaves[i * self.trees.len()..]) {
                score += tree.value[leaf as usize];
                out.push(score);
            }
        }
        out
    }
}

/// Calls `with` for blocks of rows, with the first row of each counted from the range's start.
fn blocks(schema: &Schema, shard: &EncodedShard, rows: Range<usize>, mut with: impl FnMut(usize, &Block)) {
    let features = schema.features.len();
    let mut block = Block { features, rows: 0, values: vec![0; ROWS * features] };
    for first in rows.clone().step_by(ROWS) {
        block.fill(schema, shard, first..rows.end.min(first + ROWS));
        with(first - rows.start, &block);
    }
}

/// "No slot".
const NO_SLOT: u32 = u32::MAX;

/// Values of some rows, row after row: the bits of numbers rounded up to f32, slots of categories.
struct Block {
    features: usize,
    rows: usize,
    values: Vec<u32>,
}

impl Block {
    fn fill(&mut self, schema: &Schema, shard: &EncodedShard, rows: Range<usize>) {
        self.rows = rows.len();
        for (j, (column, feature)) in shard.columns.iter().zip(&schema.features).enumerate() {
            let out = self.values[j..].iter_mut().step_by(self.features);
            match (column, &feature.kind) {
                (Column::F32(x), FeatureKind::Numeric { .. }) => {
                    out.zip(&x[rows.clone()]).for_each(|(o, &x)| *o = round_up(f64::from(x)).to_bits());
                }
                (Column::F64(x), FeatureKind::Numeric { .. }) => {
                    out.zip(&x[rows.clone()]).for_each(|(o, &x)| *o = round_up(x).to_bits());
                }
                (Column::Code(x), FeatureKind::Slots { names }) => {
                    let known = |x: u32| if (x as usize) < names.len() { x } else { NO_SLOT };
                    out.zip(&x[rows.clone()]).for_each(|(o, &x)| *o = known(x));
                }
                _ => panic!("encoded for another model: column `{}`", feature.name),
            }
        }
    }
}

/// The values of one row.
#[derive(Clone, Copy)]
pub(super) struct Values<'a>(&'a [u32]);

impl Values<'_> {
    /// Whether the row goes left at a split.
    pub(super) fn goes_left(self, tree: &Tree, split: usize) -> bool {
        let bits = self.0[tree.feature[split] as usize];
        let x = f32::from_bits(bits);
        let missing = if tree.categorical[split] { bits == NO_SLOT } else { x.is_nan() };
        if missing {
            tree.missing_left[split]
        } else if tree.categorical[split] {
            tree.slots[split].binary_search(&bits).is_ok()
        } else {
            x <= tree.threshold[split] as f32
        }
    }
}

/// A node as it is walked: a leaf leads to itself.
#[derive(Clone, Copy)]
struct Step {
    threshold: f32,
    /// Column, and in the highest bit whether missing values go left.
    feature: u32,
    /// Right child, left child.
    next: [u32; 2],
}

/// Whether missing values go left.
const MISSING_LEFT: u32 = 1 << 31;

/// A tree as it is walked: its splits, then its leaves.
struct Walker<'a> {
    tree: &'a Tree,
    steps: Vec<Step>,
    categorical: bool,
}

impl<'a> Walker<'a> {
    fn new(tree: &'a Tree) -> Self {
        let splits = tree.splits();
        let place = |child: i32| if child < 0 { splits as u32 + !child as u32 } else { child as u32 };
        let mut steps = Vec::with_capacity(2 * splits + 1);
        for i in 0..splits {
            let feature = tree.feature[i] | if tree.missing_left[i] { MISSING_LEFT } else { 0 };
            let next = [place(tree.right[i]), place(tree.left[i])];
            steps.push(Step { threshold: tree.threshold[i] as f32, feature, next });
        }
        for leaf in splits as u32..=2 * splits as u32 {
            steps.push(Step { threshold: 0.0, feature: 0, next: [leaf; 2] });
        }
        Self { tree, steps, categorical: tree.categorical.iter().any(|&c| c) }
    }

    /// The leaf of every row of a block.
    fn leaves(&self, block: &Block) -> [u32; ROWS] {
        let mut out = [0; ROWS];
        let splits = self.tree.splits() as u32;
        if splits == 0 {
            return out;
        }
        if self.categorical {
            for (row, out) in out.iter_mut().enumerate().take(block.rows) {
                *out = self.walk(Values(&block.values[row * block.features..][..block.features]));
            }
            return out;
        }
        for (group, out) in out.as_chunks_mut::<STEP>().0.iter_mut().enumerate().take(block.rows.div_ceil(STEP)) {
            let base = group * STEP * block.features;
            let values = &block.values[base..base + STEP * block.features];
            let mut at = [0u32; STEP];
            let mut moving = true;
            while moving {
                moving = false;
                for l in 0..STEP {
                    let step = self.steps[at[l] as usize];
                    let x = f32::from_bits(values[l * block.features + (step.feature & !MISSING_LEFT) as usize]);
                    let missing = x.is_nan() & (step.feature & MISSING_LEFT != 0);
                    at[l] = step.next[usize::from((x <= step.threshold) | missing)];
                    moving |= at[l] < splits;
                }
            }
            *out = at.map(|node| node - splits);
        }
        out
    }

    /// The leaf of one row, categories and all.
    fn walk(&self, row: Values<'_>) -> u32 {
        let mut at = 0;
        loop {
            let left = row.goes_left(self.tree, at);
            let next = if left { self.tree.left[at] } else { self.tree.right[at] };
            match usize::try_from(next) {
                Ok(split) => at = split,
                Err(_) => return !next as u32,
            }
        }
    }
}
