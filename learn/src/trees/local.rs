//! What a worker keeps of a shard: bins, scores after some trees, and the partition of the tree under way. All of it
//! can be made again from the chapters; nothing of it is ever the truth.

use crate::algorithm::LearnError;
use crate::kernels::Level;
use crate::philox::Stream;
use crate::shard::{EncodedShard, Schema, Segment};

use super::bins::Bins;
use super::boosting::{Begin, Chapter};
use super::exact::ExactSum;
use super::grown::{Grown, Split, leaf_of};
use super::histogram::{Features, Histogram};
use super::layout::Binned;
use super::objective::Objective;
use super::params::Settings;
use super::partial::{Extent, LeafSum};
use super::partition::Partition;
use super::slopes::{Known, NEAREST, Slope, round, slopes};
use super::split::Scale;
use super::survey::is_usable;

/// What is the same for all shards.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// Parameters.
    pub settings: &'a Settings,
    /// What is boosted.
    pub objective: Objective,
    /// Of the shards.
    pub schema: &'a Schema,
    /// Instruction set.
    pub level: Level,
    /// Bins, finished trees.
    pub chapters: &'a [Chapter],
}

impl Context<'_> {
    fn begin(&self) -> Result<&Begin, LearnError> {
        match self.chapters.first() {
            Some(Chapter::Begin(begin)) => Ok(begin),
            _ => Err(LearnError::Data("a step came without its bins".into())),
        }
    }

    fn tree(&self, number: usize) -> Result<&Grown, LearnError> {
        match self.chapters.get(number + 1) {
            Some(Chapter::Tree(tree)) => Ok(tree),
            _ => Err(LearnError::Data(format!("a step came without tree {number}"))),
        }
    }
}

/// What a worker keeps of a shard.
#[derive(Debug, Default)]
pub struct Local {
    ready: Option<Ready>,
    /// Why the shard cannot be read.
    pub fault: Option<String>,
}

/// A shard that was binned.
#[derive(Debug)]
struct Ready {
    binned: Binned,
    /// Trees in the scores.
    trees: usize,
    /// Of training and validation rows.
    scores: Vec<f64>,
    /// Of the training rows, after `sloped` trees.
    slopes: Vec<Slope>,
    sloped: Option<(usize, Extent)>,
    /// Rounded gradients and hessians of the training rows, for the tree under way.
    pairs: Vec<u64>,
    work: Option<Work>,
}

/// The tree under way.
#[derive(Debug)]
struct Work {
    tree: usize,
    splits: usize,
    partition: Partition,
}

impl Local {
    /// Whether it stands for the shard's columns.
    pub fn is_ready(&self) -> bool {
        self.ready.is_some()
    }

    /// Bytes on the heap.
    pub fn bytes(&self) -> usize {
        let Some(ready) = &self.ready else { return 0 };
        let work = ready.work.as_ref().map_or(0, |w| w.partition.bytes());
        ready.binned.bytes() + (ready.scores.len() + ready.slopes.len() + ready.pairs.len()) * 8 + work
    }

    /// Gradients after `trees` trees.
    ///
    /// # Errors
    /// The shard does not follow the schema, or chapters are missing.
    pub fn advance_to_slopes(&mut self, context: Context<'_>, shard: &EncodedShard, trees: usize) -> Result<(), LearnError> {
        let ready = self.bin(context, shard)?;
        ready.advance_scores(context, shard, trees)?;
        if ready.sloped.as_ref().is_none_or(|(at, _)| *at != trees) {
            ready.slope(context, shard)?;
        }
        Ok(())
    }

    /// The partition of tree `trees` after some splits.
    ///
    /// # Errors
    /// As [`Local::advance_to_slopes`].
    pub fn advance_to_splits(
        &mut self,
        context: Context<'_>,
        shard: &EncodedShard,
        trees: usize,
        scale: Scale,
        splits: &[Split],
    ) -> Result<(), LearnError> {
        // Trees of a forest do not see each other.
        self.advance_to_slopes(context, shard, if context.settings.forest { 0 } else { trees })?;
        let bins = &context.begin()?.bins;
        let Some(ready) = &mut self.ready else { return Ok(()) };
        if ready.work.as_ref().is_none_or(|w| w.tree != trees || w.splits > splits.len()) {
            ready.plant(context, shard, trees, scale);
        }
        if let Some(work) = &mut ready.work {
            work.apply(bins, &ready.binned, splits);
        }
        Ok(())
    }

    /// Extent and losses, after [`Local::advance_to_slopes`].
    pub fn extent(&self) -> Option<Extent> {
        Some(self.ready.as_ref()?.sloped.as_ref()?.1.clone())
    }

    /// Adds histograms of nodes, after [`Local::advance_to_splits`].
    pub fn add_histograms(&self, features: &Features, nodes: &[u32], out: &mut [Histogram]) {
        let Some((ready, work)) = self.ready.as_ref().and_then(|r| Some((r, r.work.as_ref()?))) else { return };
        for (&node, out) in nodes.iter().zip(out) {
            out.add(&ready.binned, &ready.pairs, work.partition.node(node as usize), features);
        }
    }

    /// Adds exact sums of leaves, after [`Local::advance_to_splits`].
    pub fn add_leaves(&self, scale: Scale, leaves: &[u32], out: &mut [LeafSum]) {
        let Some((ready, work)) = self.ready.as_ref().and_then(|r| Some((r, r.work.as_ref()?))) else { return };
        let [gradient, hessian] = LeafSum::factors(scale);
        for (&leaf, out) in leaves.iter().zip(out) {
            let rows = work.partition.node(leaf as usize);
            let (mut g, mut h) = (0i64, 0i64);
            for &row in rows {
                let slope = ready.slopes[usize::from(row)];
                g = g.wrapping_add(whole(f64::from(slope[0]) * gradient));
                h = h.wrapping_add(whole(f64::from(slope[1]) * hessian));
            }
            out.rows += rows.len() as u64;
            out.gradient += g;
            out.hessian += h;
        }
    }

    fn bin(&mut self, context: Context<'_>, shard: &EncodedShard) -> Result<&mut Ready, LearnError> {
        if self.ready.is_none() {
            let begin = context.begin()?;
            let rows = shard.range(Segment::Validation).end;
            let binned = Binned::new(context.level, context.schema, &begin.bins, shard, rows)?;
            let scores = beginning(begin, shard, rows);
            self.ready =
                Some(Ready { binned, trees: 0, scores, slopes: Vec::new(), sloped: None, pairs: Vec::new(), work: None });
        }
        Ok(self.ready.as_mut().expect("made above"))
    }
}

/// The whole number next to one below 2⁵¹.
#[inline(always)]
fn whole(x: f64) -> i64 {
    ((x + NEAREST).to_bits() as i64).wrapping_sub(NEAREST.to_bits() as i64)
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

/// Scores before any tree.
fn beginning(begin: &Begin, shard: &EncodedShard, rows: usize) -> Vec<f64> {
    match &shard.offset {
        Some(offset) => offset[..rows].iter().map(|o| o + begin.base).collect(),
        None => vec![begin.base; rows],
    }
}

impl Ready {
    /// Scores after `trees` trees: from where they are, or from the beginning if they are newer.
    fn advance_scores(&mut self, context: Context<'_>, shard: &EncodedShard, trees: usize) -> Result<(), LearnError> {
        let begin = context.begin()?;
        if self.trees > trees {
            self.scores = beginning(begin, shard, self.binned.rows());
            (self.trees, self.sloped, self.work) = (0, None, None);
        }
        while self.trees < trees {
            let tree = context.tree(self.trees)?;
            if context.settings.forest {
                self.work = None;
                self.add_rows(&begin.bins, tree, 1.0 / trees as f64, 0..self.binned.rows());
            } else {
                self.add_tree(&begin.bins, shard, tree);
            }
            self.trees += 1;
        }
        Ok(())
    }

    /// Adds a finished tree to the scores: by the partition where it is of this tree, else row by row.
    fn add_tree(&mut self, bins: &Bins, shard: &EncodedShard, tree: &Grown) {
        let split_of = tree.split_of();
        let mut rest = 0..self.binned.rows();
        if let Some(mut work) = self.work.take().filter(|w| w.tree == self.trees && w.splits <= tree.splits.len()) {
            work.apply(bins, &self.binned, &tree.splits);
            for (node, split) in split_of.iter().enumerate() {
                if split.is_none() {
                    let value = tree.values[node];
                    work.partition.node(node).iter().for_each(|&row| self.scores[usize::from(row)] += value);
                }
            }
            if work.partition.rows() == shard.range(Segment::Train).len() {
                rest.start = shard.range(Segment::Train).end;
            } else {
                self.add_rest(bins, tree, &split_of, &work, rest.clone());
                return;
            }
        }
        self.add_rows(bins, tree, 1.0, rest);
    }

    /// Adds a tree's values times a factor to some rows, row by row.
    fn add_rows(&mut self, bins: &Bins, tree: &Grown, factor: f64, rows: std::ops::Range<usize>) {
        let split_of = tree.split_of();
        for row in rows {
            let leaf = leaf_of(&tree.splits, &split_of, bins, &self.binned, row);
            self.scores[row] += tree.values[leaf] * factor;
        }
    }

    /// Adds a tree to the rows that it was not grown on.
    fn add_rest(&mut self, bins: &Bins, tree: &Grown, split_of: &[Option<u32>], work: &Work, rows: std::ops::Range<usize>) {
        let mut done = vec![false; rows.end];
        work.partition.all().iter().for_each(|&row| done[usize::from(row)] = true);
        for row in rows.filter(|&row| !done[row]) {
            let leaf = leaf_of(&tree.splits, split_of, bins, &self.binned, row);
            self.scores[row] += tree.values[leaf];
        }
    }

    /// Gradients of the scores as they are, and losses.
    fn slope(&mut self, context: Context<'_>, shard: &EncodedShard) -> Result<(), LearnError> {
        let train = shard.range(Segment::Train);
        let Some(target) = &shard.target else {
            return Err(LearnError::Data("there is no target: name the column in `columns.target`".into()));
        };
        let known = Known {
            target: &target[train.clone()],
            weight: shard.weight.as_ref().map(|w| &w[train.clone()]),
            class_weight: context.begin()?.class_weight,
        };
        self.slopes.resize(train.len(), [0.0; 2]);
        let summary = slopes(context.level, context.objective, &self.scores[train], known, &mut self.slopes);
        let extent = Extent {
            gradient: summary.gradient,
            hessian: summary.hessian,
            overflow: summary.overflow,
            train: ExactSum::of(summary.loss),
            validation: ExactSum::of(self.validation_loss(context, shard, target)),
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
        let pick = |of: &dyn Fn(usize) -> f64| usable.iter().map(|&row| of(row)).collect::<Vec<f64>>();
        let (scores, targets, weights) = (pick(&|r| self.scores[r]), pick(&|r| target[r]), pick(&weight));
        let known = Known { target: &targets, weight: Some(&weights), class_weight: None };
        slopes(context.level, context.objective, &scores, known, &mut []).loss
    }

    /// All rows of the tree's sample in its root.
    fn plant(&mut self, context: Context<'_>, shard: &EncodedShard, tree: usize, scale: Scale) {
        let rows = self.slopes.len();
        let settings = context.settings;
        let draws = |purpose: &str| Stream::new(settings.seed, purpose, tree as u64, u64::from(shard.index));
        self.pairs.resize(rows, 0);
        round(context.level, &self.slopes, scale, draws("rounding").bits(0) as u32, &mut self.pairs);
        let all = (0..rows).map(|row| row as u16);
        let sample: Vec<u16> = if settings.bootstrap {
            let sample = draws("rows of a tree");
            all.flat_map(|row| std::iter::repeat_n(row, poisson(sample.uniform(u128::from(row))))).collect()
        } else if settings.subsample < 1.0 {
            let sample = draws("rows of a tree");
            all.filter(|&row| sample.uniform(u128::from(row)) < settings.subsample).collect()
        } else {
            all.collect()
        };
        self.work = Some(Work { tree, splits: 0, partition: Partition::new(sample) });
    }
}

impl Work {
    /// Applies the splits that it lacks.
    fn apply(&mut self, bins: &Bins, binned: &Binned, splits: &[Split]) {
        for split in &splits[self.splits..] {
            let feature = split.feature as usize;
            let table = split.rule.table(&bins.features[feature]);
            self.partition.split(split.node as usize, binned.column(feature), &table);
        }
        self.splits = splits.len();
    }
}
