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
    /// The score before any tree, one an output.
    pub base: Vec<f64>,
    /// In the order in which they add: tree `i` to output `i mod outputs`.
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
        Ok(Self { task: objective.task(), link: objective.link(), base: begin.base.clone(), trees })
    }

    /// The model with the base and the trees of an earlier one before its own, if there is one.
    #[must_use]
    pub fn after(self, earlier: Option<&Self>) -> Self {
        match earlier {
            None => self,
            Some(earlier) => {
                let trees = earlier.trees.iter().cloned().chain(self.trees).collect();
                Self { base: earlier.base.clone(), trees, ..self }
            }
        }
    }

    /// Scores of a row: one, or one for each class.
    pub fn outputs(&self) -> usize {
        self.base.len()
    }

    /// Whether the model belongs to the schema.
    ///
    /// # Errors
    /// It does not.
    pub fn check(&self, schema: &Schema) -> Result<(), LearnError> {
        let (features, classes) = (schema.features.len(), schema.classes.len());
        if self.outputs() != if self.task == Task::Multiclass { classes } else { 1 } {
            let outputs = self.outputs();
            return Err(LearnError::Data(format!("the model has {outputs} scores a row, its schema has {classes} classes")));
        }
        match self.trees.iter().position(|t| !t.is_sound(features)) {
            None => Ok(()),
            Some(i) => {
                Err(LearnError::Data(format!("tree {i} of the model is damaged or of other features than its {features}")))
            }
        }
    }

    /// Scores of some rows of a shard, its offsets included, by the first `trees` trees: [`TreeModel::outputs`] for each
    /// row, row after row.
    ///
    /// # Panics
    /// If the shard does not follow the schema that the model was checked against.
    pub fn scores(&self, schema: &Schema, shard: &EncodedShard, rows: Range<usize>, trees: usize) -> Vec<f64> {
        let offset = |row: usize| shard.offset.as_ref().map_or(0.0, |o| o[row]);
        let outputs = self.outputs();
        let mut out: Vec<f64> = rows.clone().flat_map(|row| self.base.iter().map(move |base| base + offset(row))).collect();
        let walkers: Vec<Walker<'_>> = self.trees[..trees.min(self.trees.len())].iter().map(Walker::new).collect();
        blocks(schema, shard, rows, |first, block| {
            for (t, walker) in walkers.iter().enumerate() {
                let leaves = walker.leaves(block);
                let scores = out[first * outputs + t % outputs..].iter_mut().step_by(outputs);
                for (score, leaf) in scores.zip(&leaves[..block.rows]) {
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

    /// Scores after each round of one tree an output, and before the first: `(rounds + 1) · outputs` for each row, row
    /// after row.
    ///
    /// # Panics
    /// As [`TreeModel::scores`].
    pub fn staged(&self, schema: &Schema, shard: &EncodedShard, rows: Range<usize>) -> Vec<f64> {
        let leaves = self.leaves(schema, shard, rows.clone());
        let offset = |row: usize| shard.offset.as_ref().map_or(0.0, |o| o[row]);
        let outputs = self.outputs();
        let mut out = Vec::with_capacity(leaves.len() + rows.len() * outputs);
        for (i, row) in rows.enumerate() {
            let leaves = &leaves[i * self.trees.len()..(i + 1) * self.trees.len()];
            let mut scores: Vec<f64> = self.base.iter().map(|base| base + offset(row)).collect();
            out.extend_from_slice(&scores);
            for (trees, leaves) in self.trees.chunks(outputs).zip(leaves.chunks(outputs)) {
                for ((score, tree), &leaf) in scores.iter_mut().zip(trees).zip(leaves) {
                    *score += tree.value[leaf as usize];
                }
                out.extend_from_slice(&scores);
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
        for j in 0..self.features {
            feature_values(schema, shard, j, rows.clone(), self.values[j..].iter_mut().step_by(self.features));
        }
    }
}

/// What some rows hold of feature `j`, as splits compare it: the bits of a number rounded up to f32, or a slot.
///
/// # Panics
/// If the shard does not follow the schema.
pub(super) fn feature_values<'a>(
    schema: &Schema,
    shard: &EncodedShard,
    j: usize,
    rows: Range<usize>,
    out: impl Iterator<Item = &'a mut u32>,
) {
    let feature = &schema.features[j];
    match (&shard.columns[j], &feature.kind) {
        (Column::F32(x), FeatureKind::Numeric { .. }) => {
            out.zip(&x[rows]).for_each(|(o, &x)| *o = round_up(f64::from(x)).to_bits());
        }
        (Column::F64(x), FeatureKind::Numeric { .. }) => {
            out.zip(&x[rows]).for_each(|(o, &x)| *o = round_up(x).to_bits());
        }
        (Column::Code(x), FeatureKind::Slots { names }) => {
            let known = |x: u32| if (x as usize) < names.len() { x } else { NO_SLOT };
            out.zip(&x[rows]).for_each(|(o, &x)| *o = known(x));
        }
        _ => panic!("encoded for another model: column `{}`", feature.name),
    }
}

/// Whether a row with this value ([`feature_values`]) of a split's feature goes left.
pub(super) fn goes_left(tree: &Tree, split: usize, bits: u32) -> bool {
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

/// A node as it is walked: a leaf leads to itself.
#[derive(Clone, Copy)]
struct Step {
    threshold: f32,
    /// Column, and in the highest bits whether missing values go left and whether the split is of categories; then the bits
    /// of the threshold say where its set stands.
    feature: u32,
    /// Right child, left child.
    next: [u32; 2],
}

/// Whether missing values go left.
const MISSING_LEFT: u32 = 1 << 31;
/// Whether a split is of categories.
const CATEGORIES: u32 = 1 << 30;
/// Bits that name the column.
const COLUMN: u32 = CATEGORIES - 1;

/// Slots that go left, set after set: the place that all higher ones share, then a bit for each place. A slot's place is
/// the one after its number, so that "no slot" has the first. The first set is empty.
struct Sets(Vec<u64>);

impl Sets {
    /// Where a set stands.
    fn push(&mut self, slots: &[u32], missing_left: bool) -> u32 {
        let (at, most) = (self.0.len(), slots.iter().max().map_or(0, |slot| slot + 1) + 1);
        self.0.push(u64::from(most));
        self.0.resize(at + 2 + most as usize / 64, 0);
        let bits = &mut self.0[at + 1..];
        bits[0] |= u64::from(missing_left);
        slots.iter().map(|slot| slot + 1).for_each(|place| bits[place as usize / 64] |= 1 << (place % 64));
        at as u32
    }

    #[inline(always)]
    fn has(&self, at: u32, slot: u32) -> bool {
        let place = u64::from(slot.wrapping_add(1)).min(self.0[at as usize]);
        self.0[at as usize + 1 + place as usize / 64] >> (place % 64) & 1 == 1
    }
}

/// A tree as it is walked: its splits, then its leaves.
struct Walker<'a> {
    tree: &'a Tree,
    steps: Vec<Step>,
    /// Of the splits of categories.
    sets: Sets,
}

impl<'a> Walker<'a> {
    fn new(tree: &'a Tree) -> Self {
        let splits = tree.splits();
        let place = |child: i32| if child < 0 { splits as u32 + !child as u32 } else { child as u32 };
        let (mut steps, mut sets) = (Vec::with_capacity(2 * splits + 1), Sets(vec![0; 2]));
        for i in 0..splits {
            let mut feature = tree.feature[i] | if tree.missing_left[i] { MISSING_LEFT } else { 0 };
            let next = [place(tree.right[i]), place(tree.left[i])];
            let mut threshold = tree.threshold[i] as f32;
            if tree.categorical[i] {
                feature |= CATEGORIES;
                threshold = f32::from_bits(sets.push(&tree.slots[i], tree.missing_left[i]));
            }
            steps.push(Step { threshold, feature, next });
        }
        for leaf in splits as u32..=2 * splits as u32 {
            steps.push(Step { threshold: 0.0, feature: 0, next: [leaf; 2] });
        }
        Self { tree, steps, sets }
    }

    /// The leaf of every row of a block.
    fn leaves(&self, block: &Block) -> [u32; ROWS] {
        if self.tree.categorical.iter().any(|&categorical| categorical) {
            self.leaves_by_set(block)
        } else {
            self.leaves_by_number(block)
        }
    }

    /// The leaves of a tree with splits of categories. Such trees are much deeper in some places than in others: rows that
    /// have come to a leaf are left out.
    fn leaves_by_set(&self, block: &Block) -> [u32; ROWS] {
        let splits = self.tree.splits() as u32;
        let mut at = [0; ROWS];
        let mut open: [u16; ROWS] = std::array::from_fn(|row| row as u16);
        let mut count = if splits == 0 { 0 } else { block.rows };
        while count > 0 {
            let mut left = 0;
            for i in 0..count {
                let row = usize::from(open[i]);
                let step = self.steps[at[row] as usize];
                let bits = block.values[row * block.features + (step.feature & COLUMN) as usize];
                // Both, without a branch: which one counts is as random as the rows.
                let is_set = step.feature & CATEGORIES != 0;
                let set = if is_set { step.threshold.to_bits() } else { 0 };
                let goes_left = (is_set & self.sets.has(set, bits)) | (!is_set & Self::goes_by_number(step, bits));
                let next = step.next[usize::from(goes_left)];
                at[row] = next;
                open[left] = row as u16;
                left += usize::from(next < splits);
            }
            count = left;
        }
        at.map(|node| node.saturating_sub(splits))
    }

    /// The leaves of a tree without categories.
    fn leaves_by_number(&self, block: &Block) -> [u32; ROWS] {
        let mut out = [0; ROWS];
        let splits = self.tree.splits() as u32;
        if splits == 0 {
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
                    let bits = values[l * block.features + (step.feature & COLUMN) as usize];
                    at[l] = step.next[usize::from(Self::goes_by_number(step, bits))];
                    moving |= at[l] < splits;
                }
            }
            *out = at.map(|node| node - splits);
        }
        out
    }

    #[inline(always)]
    fn goes_by_number(step: Step, bits: u32) -> bool {
        let x = f32::from_bits(bits);
        (x <= step.threshold) | (x.is_nan() & (step.feature & MISSING_LEFT != 0))
    }
}
