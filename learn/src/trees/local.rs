//! What a worker keeps of a shard: bins, scores after some trees, and the trees under way. All of it can be made again
//! from the chapters; nothing of it is ever the truth.

use crate::algorithm::LearnError;
use crate::kernels::Level;
use crate::shard::{EncodedShard, Schema, Segment};

use super::boosting::{Begin, Chapter, Part};
use super::dropout::Dropped;
use super::grown::Grown;
use super::histogram::{Features, Histogram};
use super::layout::Binned;
use super::objective::Objective;
use super::params::Settings;
use super::partial::{Extent, LeafSum};
use super::renewal::{Counts, Sought};
use super::scored::Scored;
use super::slopes::NEAREST;

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
    /// What all trees begin with.
    ///
    /// # Errors
    /// The chapter is missing.
    pub fn begin(&self) -> Result<&Begin, LearnError> {
        match self.chapters.first() {
            Some(Chapter::Begin(begin)) => Ok(begin),
            _ => Err(LearnError::Data("a step came without its bins".into())),
        }
    }

    /// A finished tree.
    ///
    /// # Errors
    /// The chapter is missing.
    pub fn tree(&self, number: usize) -> Result<&Grown, LearnError> {
        match self.chapters.get(number + 1) {
            Some(Chapter::Tree(tree)) => Ok(tree),
            _ => Err(LearnError::Data(format!("a step came without tree {number}"))),
        }
    }

    /// What a round is grown without, if it is without any.
    pub(super) fn dropped(&self, round: usize) -> Option<&Dropped> {
        self.settings.dropout.as_ref()?.dropped(round).filter(|dropped| !dropped.trees.is_empty())
    }

    /// How many trees are finished.
    pub fn finished(&self) -> usize {
        self.chapters.len().saturating_sub(1)
    }
}

/// What a worker keeps of a shard.
#[derive(Debug, Default)]
pub struct Local {
    ready: Option<Scored>,
    /// Why the shard cannot be read.
    pub fault: Option<String>,
}

impl Local {
    /// Whether it stands for the shard's columns.
    pub fn is_ready(&self) -> bool {
        self.ready.is_some()
    }

    /// Bytes on the heap.
    pub fn bytes(&self) -> usize {
        self.ready.as_ref().map_or(0, Scored::bytes)
    }

    /// Gradients after `trees` trees.
    ///
    /// # Errors
    /// The shard does not follow the schema, or chapters are missing.
    pub fn advance_to_slopes(&mut self, context: Context<'_>, shard: &EncodedShard, trees: usize) -> Result<(), LearnError> {
        self.bin(context, shard)?.advance_to_slopes(context, shard, trees)
    }

    /// The rows of trees by node after some splits.
    ///
    /// # Errors
    /// As [`Local::advance_to_slopes`].
    pub fn advance_to_splits(&mut self, context: Context<'_>, shard: &EncodedShard, parts: &[Part]) -> Result<(), LearnError> {
        self.bin(context, shard)?.advance_to_splits(context, shard, parts)
    }

    /// Extent and losses, after [`Local::advance_to_slopes`].
    pub fn extent(&self) -> Option<Extent> {
        Some(self.ready.as_ref()?.sloped.as_ref()?.1.clone())
    }

    /// Adds histograms of the parts' nodes, after [`Local::advance_to_splits`]. `features` says which ones a tree uses.
    pub fn add_histograms(&self, parts: &[Part], features: impl Fn(u32) -> Features, out: &mut [Histogram]) {
        let Some(ready) = &self.ready else { return };
        let mut out = out.iter_mut();
        for part in parts {
            let Some(work) = ready.bench.of(part.tree as usize) else { return };
            let features = features(part.tree);
            for (&node, out) in part.nodes.iter().zip(out.by_ref()) {
                out.add(&ready.binned, &work.pairs, work.partition.node(node as usize), &features);
            }
        }
    }

    /// Adds exact sums of the parts' leaves, after [`Local::advance_to_splits`].
    pub fn add_leaves(&self, outputs: usize, parts: &[Part], out: &mut [LeafSum]) {
        let Some(ready) = &self.ready else { return };
        let rows = ready.slopes.len() / outputs;
        let mut out = out.iter_mut();
        for part in parts {
            let Some(work) = ready.bench.of(part.tree as usize) else { return };
            let slopes = &ready.slopes[part.tree as usize % outputs * rows..][..rows];
            let [gradient, hessian] = LeafSum::factors(part.scale);
            for (&leaf, out) in part.nodes.iter().zip(out.by_ref()) {
                let rows = work.partition.node(leaf as usize);
                let (mut g, mut h) = (0i64, 0i64);
                for &row in rows {
                    let slope = slopes[usize::from(row)];
                    g = g.wrapping_add(whole(f64::from(slope[0]) * gradient));
                    h = h.wrapping_add(whole(f64::from(slope[1]) * hessian));
                }
                out.rows += rows.len() as u64;
                out.gradient += g;
                out.hessian += h;
            }
        }
    }

    /// Counts residuals of the parts' leaves, after [`Local::advance_to_splits`].
    pub fn count_residuals(&self, outputs: usize, shard: &EncodedShard, parts: &[Part], sought: &Sought, out: &mut [Counts]) {
        let (Some(ready), Some(target)) = (&self.ready, &shard.target) else { return };
        let weight = |row: usize| shard.weight.as_ref().map_or(1.0, |w| w[row]);
        let mut out = out.iter_mut().enumerate();
        for part in parts {
            let Some(work) = ready.bench.of(part.tree as usize) else { return };
            let output = part.tree as usize % outputs;
            for (&leaf, (at, out)) in part.nodes.iter().zip(out.by_ref()) {
                let rows = work.partition.node(leaf as usize).iter().map(|&row| usize::from(row));
                sought.count(at, rows.map(|row| (target[row] - ready.left(output, row), weight(row))), out);
            }
        }
    }

    fn bin(&mut self, context: Context<'_>, shard: &EncodedShard) -> Result<&mut Scored, LearnError> {
        if self.ready.is_none() {
            let begin = context.begin()?;
            let rows = shard.range(Segment::Validation).end;
            let binned = Binned::new(context.level, context.schema, &begin.bins, shard, rows)?;
            self.ready = Some(Scored::new(binned, context, shard)?);
        }
        Ok(self.ready.as_mut().expect("made above"))
    }
}

/// The whole number next to one below 2⁵¹.
#[inline(always)]
fn whole(x: f64) -> i64 {
    ((x + NEAREST).to_bits() as i64).wrapping_sub(NEAREST.to_bits() as i64)
}
