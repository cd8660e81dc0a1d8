//! Trees that grow side by side: those of a round of many classes, or some of a forest. A step asks about all of them
//! at once, so that they take the steps of one tree; limits decide how many steps there are, and never a tree.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::algorithm::LearnError;

use super::CELLS;
use super::boosting::{Message, Part};
use super::grown::Grown;
use super::growth::Growing;
use super::histogram::Histogram;
use super::params::Settings;
use super::partial::LeafSum;
use super::ranges::{Owner, Question, Rules, ranges};
use super::split::Scale;

/// What a step may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most trees side by side: a worker keeps the rows of each by node.
    pub trees: usize,
    /// Most leaves that they may have together: every step says their splits again.
    pub leaves: u64,
    /// Most cells of the histograms of a step, if it asks for more than one: 8 bytes each in an accumulator, 24 in one
    /// that took many rows, at most 16 in a message.
    pub cells: usize,
    /// Most cells that are kept of nodes whose children are still to be asked about, 8 or 16 bytes each.
    pub kept: usize,
    /// Features of a range: a step's histograms are of one range.
    pub range: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { trees: 32, leaves: 1 << 18, cells: 6 << 20, kept: 16 << 20, range: 1_024 }
    }
}

impl Limits {
    /// How many trees with so many leaves grow side by side.
    pub fn trees_of(&self, leaves: u64) -> usize {
        let by_leaves = usize::try_from(self.leaves / leaves.max(1)).unwrap_or(usize::MAX);
        by_leaves.min(self.trees).max(1)
    }
}

/// Trees under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    trees: Vec<Growing>,
    /// The range of features that is asked about.
    range: u32,
    /// How many questions of each tree are asked, from the second range on.
    window: Vec<u32>,
    /// A range each. They can be lost: then questions ask for more.
    #[serde(skip)]
    owners: Vec<Owner>,
}

impl Batch {
    /// Roots of trees, each with its units.
    pub fn new(trees: impl Iterator<Item = (u32, Scale)>) -> Self {
        let trees = trees.map(|(tree, scale)| Growing::new(tree, scale)).collect();
        Self { trees, range: 0, window: Vec::new(), owners: Vec::new() }
    }

    /// Number of trees.
    pub fn len(&self) -> usize {
        self.trees.len()
    }

    /// Whether there is no tree.
    pub fn is_empty(&self) -> bool {
        self.trees.is_empty()
    }

    /// Whether all trees have all their splits.
    pub fn is_grown(&self) -> bool {
        self.trees.iter().all(|tree| tree.open() == 0)
    }

    /// Whether no tree has a split.
    pub fn is_bare(&self) -> bool {
        self.trees.iter().all(|tree| tree.splits.is_empty())
    }

    /// What the next step asks of trees over so many features.
    pub fn message(&self, limits: &Limits, features: usize) -> Message {
        let part = |tree: &Growing, nodes| Part { tree: tree.tree, scale: tree.scale, splits: tree.splits.clone(), nodes };
        if self.is_grown() {
            return Message::Leaves(self.trees.iter().map(|tree| part(tree, tree.leaves())).collect());
        }
        let range = self.range(limits, features);
        let asked = self.window(limits, range.len());
        let parts = self.trees.iter().zip(asked).filter(|(_, count)| *count > 0).map(|(tree, count)| {
            let questions = (0..count as usize).map(|at| tree.question(at));
            part(tree, questions.flat_map(|question| self.needs(&question)).collect())
        });
        Message::Level { range: [range.start as u32, range.end as u32], parts: parts.collect() }
    }

    fn range(&self, limits: &Limits, features: usize) -> Range<usize> {
        ranges(features, limits.range).into_iter().nth(self.range as usize).unwrap_or(features..features)
    }

    /// Nodes whose histograms of the range are needed.
    fn needs(&self, question: &Question) -> Vec<u32> {
        match self.owners.get(self.range as usize) {
            Some(owner) => owner.needs(question),
            None => question.nodes.iter().map(|open| open.node).collect(),
        }
    }

    /// How many questions of each tree are asked at once: as many as the limits have room for, at least one. The same
    /// ones for every range.
    fn window(&self, limits: &Limits, features: usize) -> Vec<u32> {
        if self.range > 0 {
            return self.window.clone();
        }
        let mut room = limits.cells / (features * CELLS).max(1);
        let mut first = true;
        let mut count = |tree: &Growing| {
            let mut count = 0;
            for at in 0..tree.open() {
                let cost = self.needs(&tree.question(at)).len();
                if cost > room && !first {
                    room = 0;
                    break;
                }
                room = room.saturating_sub(cost);
                first = false;
                count += 1;
            }
            count
        };
        self.trees.iter().map(&mut count).collect()
    }

    /// Takes in the histograms of [`Batch::message`], in its order; after those of the last range takes splits.
    ///
    /// # Errors
    /// The histograms are not those that were asked for.
    pub fn take(&mut self, limits: &Limits, rules: Rules<'_>, histograms: Vec<Histogram>) -> Result<(), LearnError> {
        let features = rules.bins.features.len();
        let all = ranges(features, limits.range);
        let range = self.range(limits, features);
        let asked = self.window(limits, range.len());
        if self.owners.is_empty() {
            self.owners = all.iter().cloned().map(Owner::new).collect();
        }
        let Some(owner) = self.owners.get_mut(self.range as usize) else {
            return Err(LearnError::Data("a tree is asked about features that there are not".into()));
        };
        let wrong = || LearnError::Data("histograms are of other nodes than the step asked for".into());
        if histograms.iter().any(|h| h.features() != range.len()) {
            return Err(wrong());
        }
        let mut histograms = histograms.into_iter();
        for (tree, &count) in self.trees.iter_mut().zip(&asked) {
            for at in 0..count as usize {
                let question = tree.question(at);
                let needed = owner.needs(&question).len();
                let own: Vec<Histogram> = histograms.by_ref().take(needed).collect();
                if own.len() != needed {
                    return Err(wrong());
                }
                tree.hear(owner.answer(rules, &question, own));
            }
        }
        if histograms.next().is_some() {
            return Err(wrong());
        }
        if self.range as usize + 1 < all.len() {
            (self.range, self.window) = (self.range + 1, asked);
            return Ok(());
        }
        self.close(limits, rules, &asked);
        Ok(())
    }

    /// Ends the questions that were asked about every range.
    fn close(&mut self, limits: &Limits, rules: Rules<'_>, asked: &[u32]) {
        for (tree, &count) in self.trees.iter_mut().zip(asked) {
            if count > 0 {
                tree.close(rules, &mut self.owners, count as usize);
            }
        }
        self.owners.iter_mut().fold(limits.kept, |room, owner| owner.shrink(room));
        (self.range, self.window) = (0, Vec::new());
    }

    /// The finished trees from the exact sums of their leaves, in the order of [`Batch::message`].
    ///
    /// # Errors
    /// The sums are not one for each leaf.
    pub fn finish(&self, settings: &Settings, sums: &[LeafSum]) -> Result<Vec<Grown>, LearnError> {
        let leaves: usize = self.trees.iter().map(Growing::leaf_count).sum();
        if leaves != sums.len() {
            return Err(LearnError::Data(format!("{} sums came for {leaves} leaves", sums.len())));
        }
        let mut rest = sums;
        let mut finish = |tree: &Growing| {
            let (own, others) = rest.split_at(tree.leaf_count());
            rest = others;
            tree.finish(settings, own)
        };
        self.trees.iter().map(&mut finish).collect()
    }
}
