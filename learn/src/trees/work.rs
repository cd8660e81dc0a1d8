//! The trees under way on a shard: rows of each by node, and the rounded gradients they are grown from.

use std::sync::Arc;

use crate::philox::Stream;
use crate::shard::EncodedShard;

use super::bins::Bins;
use super::boosting::Part;
use super::grown::Split;
use super::layout::Binned;
use super::local::Context;
use super::partition::Partition;
use super::slopes::{Slope, round};

/// A tree under way.
#[derive(Debug)]
pub(super) struct Work {
    /// Its number.
    pub tree: usize,
    /// Splits that are applied.
    pub splits: usize,
    /// Rows of its sample by node.
    pub partition: Partition,
    /// Rounded gradients and hessians of the training rows.
    pub pairs: Arc<Vec<u64>>,
}

impl Work {
    /// Applies the splits that it lacks.
    pub(super) fn apply(&mut self, bins: &Bins, binned: &Binned, splits: &[Split]) {
        let new = &splits[self.splits..];
        let places: Vec<(usize, usize)> = new.iter().map(|split| (split.node as usize, split.feature as usize)).collect();
        let left = |at: usize| new[at].rule.table(&bins.features[places[at].1]);
        self.partition.grow(&places, |feature| binned.column(feature), left);
        self.splits = splits.len();
    }
}

/// The trees under way, by their numbers. Those of a forest that see the same gradients share the rounded ones.
#[derive(Debug, Default)]
pub(super) struct Bench {
    works: Vec<Work>,
    /// Of a forest: rounded gradients of each output, as far as they are made.
    shared: Vec<Option<Arc<Vec<u64>>>>,
    /// Room of trees that are finished.
    spare: Vec<Vec<u64>>,
}

impl Bench {
    /// Bytes on the heap.
    pub(super) fn bytes(&self) -> usize {
        let shared: usize = self.shared.iter().flatten().map(|pairs| pairs.len() * 8).sum();
        let spare: usize = self.spare.iter().map(|room| room.capacity() * 8).sum();
        let own = |work: &Work| if self.shared.is_empty() { work.pairs.len() * 8 } else { 0 };
        spare + shared + self.works.iter().map(|work| work.partition.bytes() + own(work)).sum::<usize>()
    }

    /// A tree that is under way.
    pub(super) fn of(&self, tree: usize) -> Option<&Work> {
        self.works.iter().find(|work| work.tree == tree)
    }

    /// The same, taken away.
    pub(super) fn take(&mut self, tree: usize) -> Option<Work> {
        let at = self.works.iter().position(|work| work.tree == tree)?;
        Some(self.works.swap_remove(at))
    }

    /// Keeps the room of a tree that is finished.
    pub(super) fn recycle(&mut self, work: Work) {
        self.spare.extend(Arc::try_unwrap(work.pairs));
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Drops trees before this one: they are finished.
    pub(super) fn drop_before(&mut self, tree: usize) {
        while let Some(at) = self.works.iter().position(|work| work.tree < tree) {
            let work = self.works.swap_remove(at);
            self.recycle(work);
        }
    }

    /// Brings trees to their splits, from the root where they are not under way or further on. `slopes` are those of
    /// all outputs, one after the other.
    pub(super) fn advance(
        &mut self,
        context: Context<'_>,
        shard: &EncodedShard,
        (bins, binned): (&Bins, &Binned),
        slopes: &[Slope],
        parts: &[Part],
    ) {
        let outputs = context.objective.outputs();
        let rows = slopes.len() / outputs;
        // Trees of a round have one sample.
        let mut last: Option<(usize, Vec<u16>)> = None;
        for part in parts {
            let tree = part.tree as usize;
            if self.of(tree).is_none_or(|work| work.splits > part.splits.len()) {
                if let Some(work) = self.take(tree) {
                    self.recycle(work);
                }
                let round = tree / outputs;
                let sample = match last.take().filter(|(own, _)| *own == round) {
                    Some((_, sample)) => sample,
                    None => sample(context, shard, round, rows),
                };
                let pairs = self.pairs(context, shard, &slopes[tree % outputs * rows..][..rows], part);
                self.works.push(Work { tree, splits: 0, partition: Partition::new(sample.clone()), pairs });
                last = Some((round, sample));
            }
            if let Some(work) = self.works.iter_mut().find(|work| work.tree == tree) {
                work.apply(bins, binned, &part.splits);
            }
        }
    }

    fn pairs(&mut self, context: Context<'_>, shard: &EncodedShard, slopes: &[Slope], part: &Part) -> Arc<Vec<u64>> {
        let (tree, outputs) = (part.tree as usize, context.objective.outputs());
        // Trees of a forest see the gradients of no tree: rounded once they serve all.
        let number = if context.settings.forest { tree % outputs } else { tree };
        if let Some(Some(pairs)) = self.shared.get(number).filter(|_| context.settings.forest) {
            return Arc::clone(pairs);
        }
        let key = Stream::new(context.settings.seed, "rounding", context.settings.drawn(number as u32), u64::from(shard.index))
            .bits(0) as u32;
        let mut pairs = self.spare.pop().unwrap_or_default();
        pairs.resize(slopes.len(), 0);
        round(context.level, slopes, part.scale, key, &mut pairs);
        let pairs = Arc::new(pairs);
        if context.settings.forest {
            self.shared.resize(outputs, None);
            self.shared[number] = Some(Arc::clone(&pairs));
        }
        pairs
    }
}

/// Rows of a round's trees.
fn sample(context: Context<'_>, shard: &EncodedShard, round: usize, rows: usize) -> Vec<u16> {
    let settings = context.settings;
    let draws = Stream::new(settings.seed, "rows of a tree", settings.drawn_round(round), u64::from(shard.index));
    let all = (0..rows).map(|row| row as u16);
    if settings.bootstrap {
        all.flat_map(|row| std::iter::repeat_n(row, poisson(draws.uniform(u128::from(row))))).collect()
    } else if settings.subsample < 1.0 {
        all.filter(|&row| draws.uniform(u128::from(row)) < settings.subsample).collect()
    } else {
        all.collect()
    }
}

/// A Poisson number of mean 1 from a uniform one, by its distribution.
fn poisson(uniform: f64) -> usize {
    let (mut term, mut sum, mut count) = (0.367_879_441_171_442_3, 0.367_879_441_171_442_3, 0);
    while uniform >= sum && count < 16 {
        count += 1;
        term /= count as f64;
        sum += term;
    }
    count
}
