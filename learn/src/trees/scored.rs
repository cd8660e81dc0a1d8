//! A binned shard with its scores after some trees, and what follows from them: gradients and losses.

use std::ops::Range;

use crate::algorithm::LearnError;
use crate::shard::{EncodedShard, Schema, Segment};

use super::bins::Bins;
use super::boosting::{Begin, Part};
use super::dropout::Dropped;
use super::exact::ExactSum;
use super::grown::{Grown, leaf_of};
use super::layout::Binned;
use super::local::Context;
use super::model::TreeModel;
use super::partial::Extent;
use super::queries::{NO_QUERY, Rows, query_slopes};
use super::slopes::{Known, Slope, Summary, slopes};
use super::survey::is_usable;
use super::work::Bench;

/// A shard that was binned.
#[derive(Debug)]
pub(super) struct Scored {
    pub(super) binned: Binned,
    /// Trees in the scores.
    trees: usize,
    /// Of training and validation rows, one output after the other.
    scores: Vec<f64>,
    /// The same of the model that stands before the first tree, if there is one.
    earlier: Option<Vec<f64>>,
    /// Of a round: what the trees that it is grown without add to the scores.
    lost: Option<(usize, Vec<f64>)>,
    /// Of the training rows, one output after the other, after `sloped` trees.
    pub(super) slopes: Vec<Slope>,
    pub(super) sloped: Option<(usize, Extent)>,
    pub(super) bench: Bench,
}

impl Scored {
    /// Before any tree.
    pub(super) fn new(binned: Binned, context: Context<'_>, shard: &EncodedShard) -> Result<Self, LearnError> {
        let earlier = context.settings.earlier.as_ref().map(|model| scores_of(model, context.schema, shard, binned.rows()));
        let scores = match &earlier {
            Some(scores) => scores.clone(),
            None => beginning(context.begin()?, shard, binned.rows()),
        };
        let (slopes, bench) = (Vec::new(), Bench::default());
        Ok(Self { binned, trees: 0, scores, earlier, lost: None, slopes, sloped: None, bench })
    }

    /// Bytes on the heap.
    pub(super) fn bytes(&self) -> usize {
        let more = self.earlier.as_ref().map_or(0, Vec::len) + self.lost.as_ref().map_or(0, |(_, lost)| lost.len());
        self.binned.bytes() + (self.scores.len() + more + self.slopes.len()) * 8 + self.bench.bytes()
    }

    /// A score of a row without the trees that the round under way is grown without.
    pub(super) fn left(&self, output: usize, row: usize) -> f64 {
        let at = output * self.binned.rows() + row;
        self.scores[at] - self.lost.as_ref().map_or(0.0, |(_, lost)| lost[at])
    }

    /// Gradients and losses after `trees` trees.
    pub(super) fn advance_to_slopes(
        &mut self,
        context: Context<'_>,
        shard: &EncodedShard,
        trees: usize,
    ) -> Result<(), LearnError> {
        if self.sloped.as_ref().is_some_and(|(at, _)| *at == trees) {
            return Ok(());
        }
        self.advance_scores(context, shard, trees)?;
        self.slope(context, shard)
    }

    /// Trees under way at their splits.
    pub(super) fn advance_to_splits(
        &mut self,
        context: Context<'_>,
        shard: &EncodedShard,
        parts: &[Part],
    ) -> Result<(), LearnError> {
        let outputs = context.objective.outputs();
        let Some(first) = parts.first() else { return Ok(()) };
        // Trees of a forest do not see each other.
        let seen = if context.settings.forest { 0 } else { first.tree as usize / outputs * outputs };
        self.advance_to_slopes(context, shard, seen)?;
        let finished = context.finished();
        if !context.settings.forest {
            // Trees of this round that are finished go to the scores while their rows are known by node.
            while self.trees < finished && self.bench.of(self.trees).is_some() {
                self.add_next(context, shard)?;
            }
        }
        self.bench.drop_before(finished);
        self.bench.advance(context, shard, (&context.begin()?.bins, &self.binned), &self.slopes, parts);
        Ok(())
    }

    /// Scores after `trees` trees: from where they are, or from the beginning if they are newer.
    fn advance_scores(&mut self, context: Context<'_>, shard: &EncodedShard, trees: usize) -> Result<(), LearnError> {
        let (begin, outputs) = (context.begin()?, context.objective.outputs());
        if self.trees > trees {
            self.scores = match &self.earlier {
                Some(scores) => scores.clone(),
                None => beginning(begin, shard, self.binned.rows()),
            };
            (self.trees, self.sloped, self.lost) = (0, None, None);
            self.bench.clear();
        }
        while self.trees < trees {
            let tree = context.tree(self.trees)?;
            if context.settings.forest {
                self.bench.clear();
                let (factor, output) = (1.0 / (trees / outputs) as f64, self.trees % outputs);
                self.add_rows(&begin.bins, tree, factor, output, 0..self.binned.rows());
                self.trees += 1;
            } else {
                self.add_next(context, shard)?;
            }
        }
        Ok(())
    }

    /// Adds the next finished tree to the scores. With the first of a round those that it was grown without give way.
    fn add_next(&mut self, context: Context<'_>, shard: &EncodedShard) -> Result<(), LearnError> {
        let outputs = context.objective.outputs();
        let dropped = context.dropped(self.trees / outputs);
        if let (Some(dropped), true) = (dropped, self.trees.is_multiple_of(outputs)) {
            self.lose(context)?;
            let (share, lost) = (dropped.share(), self.lost.iter().flat_map(|(_, lost)| lost));
            self.scores.iter_mut().zip(lost).for_each(|(score, lost)| *score -= lost * share);
        }
        let weight = dropped.map_or(1.0, Dropped::share);
        self.add_tree(&context.begin()?.bins, shard, context.tree(self.trees)?, (outputs, weight));
        self.trees += 1;
        Ok(())
    }

    /// What the trees that the next round is grown without add to the scores: made once a round.
    fn lose(&mut self, context: Context<'_>) -> Result<(), LearnError> {
        let outputs = context.objective.outputs();
        let round = self.trees / outputs;
        let Some(dropped) = context.dropped(round) else {
            self.lost = None;
            return Ok(());
        };
        if self.lost.as_ref().is_some_and(|(own, _)| *own == round) {
            return Ok(());
        }
        let (bins, rows) = (&context.begin()?.bins, self.binned.rows());
        let mut lost = vec![0.0; self.scores.len()];
        for &(round, weight) in &dropped.trees {
            for (output, out) in lost.chunks_mut(rows.max(1)).enumerate() {
                let tree = context.tree(round as usize * outputs + output)?;
                add_rows(out, (bins, &self.binned), tree, weight, 0..rows);
            }
        }
        self.lost = Some((round, lost));
        Ok(())
    }

    /// Adds the next finished tree to the scores: by the partition where it is of this tree, else row by row.
    fn add_tree(&mut self, bins: &Bins, shard: &EncodedShard, tree: &Grown, (outputs, weight): (usize, f64)) {
        let output = self.trees % outputs;
        let mut rest = 0..self.binned.rows();
        if let Some(work) = self.bench.take(self.trees).filter(|w| w.splits >= tree.splits_then()) {
            let scores = &mut self.scores[output * self.binned.rows()..];
            for (node, split) in tree.split_of().iter().enumerate() {
                if split.is_none() {
                    let value = tree.values[node] * weight;
                    work.partition.node(tree.node_then(node)).iter().for_each(|&row| scores[usize::from(row)] += value);
                }
            }
            let is_whole = work.partition.rows() == shard.range(Segment::Train).len();
            if is_whole {
                rest.start = shard.range(Segment::Train).end;
            } else {
                // The rows that it was not grown on.
                let mut done = vec![false; rest.end];
                work.partition.all().iter().for_each(|&row| done[usize::from(row)] = true);
                self.add_rows(bins, tree, weight, output, rest.clone().filter(|&row| !done[row]));
            }
            self.bench.recycle(work);
            if !is_whole {
                return;
            }
        }
        self.add_rows(bins, tree, weight, output, rest);
    }

    /// Adds a tree's values times a factor to some rows, row by row.
    fn add_rows(&mut self, bins: &Bins, tree: &Grown, factor: f64, output: usize, rows: impl Iterator<Item = usize>) {
        let scores = &mut self.scores[output * self.binned.rows()..];
        add_rows(scores, (bins, &self.binned), tree, factor, rows);
    }

    /// Gradients of the scores, without what the next round is grown without, and losses of the scores as they are.
    fn slope(&mut self, context: Context<'_>, shard: &EncodedShard) -> Result<(), LearnError> {
        self.lose(context)?;
        let train = shard.range(Segment::Train);
        let Some(target) = &shard.target else {
            return Err(LearnError::Data("there is no target: name the column in `columns.target`".into()));
        };
        let known = Known {
            target: &target[train.clone()],
            weight: shard.weight.as_ref().map(|w| &w[train.clone()]),
            class_weight: context.begin()?.class_weight.as_deref(),
        };
        self.slopes.resize(train.len() * context.objective.outputs(), [0.0; 2]);
        let stride = self.binned.rows();
        let ranking = context.objective.ranking();
        let of = |scores: &[f64], out: &mut [Slope]| match ranking {
            None => Ok(slopes(context.level, context.objective, scores, stride, known, out)),
            Some(ranking) => Ok(query_slopes(context.level, ranking, query_rows(shard, scores, train.clone())?, out)),
        };
        let mut summary: Summary = of(&self.scores, &mut self.slopes)?;
        if let Some((_, lost)) = &self.lost {
            let left: Vec<f64> = self.scores.iter().zip(lost).map(|(score, lost)| score - lost).collect();
            let own = of(&left, &mut self.slopes)?;
            summary = Summary { loss: summary.loss, ..own };
        }
        let validation = match ranking {
            None => self.validation_loss(context, shard, target),
            Some(ranking) => {
                let rows = query_rows(shard, &self.scores, shard.range(Segment::Validation))?;
                query_slopes(context.level, ranking, rows, &mut []).loss
            }
        };
        let extent = Extent {
            most: summary.most,
            overflow: summary.overflow,
            spread: summary.spread.iter().map(|sums| sums.map(ExactSum::of)).collect(),
            train: ExactSum::of(summary.loss),
            validation: ExactSum::of(validation),
        };
        self.sloped = Some((self.trees, extent));
        Ok(())
    }

    /// Σ weight · loss of the validation rows that can be measured.
    fn validation_loss(&self, context: Context<'_>, shard: &EncodedShard, target: &[f64]) -> f64 {
        let rows = shard.range(Segment::Validation);
        let weight = |row: usize| shard.weight.as_ref().map_or(1.0, |w| w[row]);
        let usable: Vec<usize> = rows.filter(|&row| is_usable(target[row], weight(row))).collect();
        if usable.is_empty() {
            return 0.0;
        }
        let scores = self.scores.chunks(self.binned.rows()).flat_map(|own| usable.iter().map(|&row| own[row]));
        let scores: Vec<f64> = scores.collect();
        let targets: Vec<f64> = usable.iter().map(|&row| target[row]).collect();
        let weights: Vec<f64> = usable.iter().map(|&row| weight(row)).collect();
        let known = Known { target: &targets, weight: Some(&weights), class_weight: None };
        slopes(context.level, context.objective, &scores, usable.len(), known, &mut []).loss
    }
}

/// Adds a tree's values times a factor to numbers of some rows, row by row.
fn add_rows(out: &mut [f64], (bins, binned): (&Bins, &Binned), tree: &Grown, factor: f64, rows: impl Iterator<Item = usize>) {
    let split_of = tree.split_of();
    for row in rows {
        let leaf = leaf_of(&tree.splits, &split_of, bins, binned, row);
        out[row] += tree.values[leaf] * factor;
    }
}

/// Scores of a model, one output after the other.
fn scores_of(model: &TreeModel, schema: &Schema, shard: &EncodedShard, rows: usize) -> Vec<f64> {
    let (outputs, scores) = (model.outputs(), model.scores(schema, shard, 0..rows, model.trees.len()));
    (0..outputs).flat_map(|output| scores.iter().skip(output).step_by(outputs).copied()).collect()
}

/// Some rows of a shard as those of queries.
fn query_rows<'a>(shard: &'a EncodedShard, scores: &'a [f64], rows: Range<usize>) -> Result<Rows<'a>, LearnError> {
    let (Some(target), Some(query)) = (&shard.target, &shard.query) else {
        return Err(LearnError::Data(NO_QUERY.into()));
    };
    let weight = shard.weight.as_ref().map(|w| &w[rows.clone()]);
    Ok(Rows { scores: &scores[rows.clone()], target: &target[rows.clone()], weight, query: &query[rows] })
}

/// Scores before any tree, one output after the other.
fn beginning(begin: &Begin, shard: &EncodedShard, rows: usize) -> Vec<f64> {
    let mut out = Vec::with_capacity(rows * begin.base.len());
    for base in &begin.base {
        match &shard.offset {
            Some(offset) => out.extend(offset[..rows].iter().map(|o| o + base)),
            None => out.resize(out.len() + rows, *base),
        }
    }
    out
}
