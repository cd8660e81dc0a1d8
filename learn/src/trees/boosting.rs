//! Gradient boosting as steps: a survey, a sample for the bins, then per tree the gradients' extent, a step a level
//! and the exact sums of the leaves.

use serde::{Deserialize, Serialize};

use crate::algorithm::{Algorithm, Exchange, LearnError, Progress, Report, merge_into};
use crate::algorithms::scaling::ClassWeight;
use crate::kernels::Level;
use crate::model::Model;
use crate::shard::{EncodedShard, Schema, Segment};

use super::batch::Batch;
use super::bins::Bins;
use super::grown::{Grown, Split};
use super::histogram::Histogram;
use super::local::{Context, Local};
use super::model::TreeModel;
use super::objective::Objective;
use super::params::Settings;
use super::partial::{LeafSum, Partial};
use super::ranges::histogram_features;
use super::renewal::{Counts, Search, Sought};
use super::renewing::Renewing;
use super::sample::threshold;
use super::split::Scale;
use super::survey::Survey;

/// Boosted trees to be fitted.
#[derive(Debug, Clone)]
pub struct Boosting {
    /// How trees are grown.
    pub settings: Settings,
    /// What is boosted.
    pub objective: Objective,
    /// Weights of the classes.
    pub class_weight: ClassWeight,
    /// Instruction set.
    pub level: Level,
    /// Of the shards.
    pub schema: Schema,
}

/// What stays as it is once it is made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Chapter {
    /// What all trees begin with.
    Begin(Begin),
    /// A finished tree.
    Tree(Grown),
}

/// What all trees begin with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Begin {
    /// How features are binned.
    pub bins: Bins,
    /// The scores of every row before any tree.
    pub base: Vec<f64>,
    /// Multiplies the weights of the classes.
    pub class_weight: Option<Vec<f64>>,
}

/// Losses after some trees: weighted means.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Losses {
    /// Of the training rows.
    pub train: f64,
    /// Of the validation rows, if there are some.
    pub validation: Option<f64>,
}

/// Where a fit stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    pub(super) survey: Option<Survey>,
    /// The quantile to begin with, while it is looked for.
    pub(super) search: Option<Search>,
    /// The quantile to begin with.
    pub(super) quantile: Option<f64>,
    /// Edges of the numeric features so far.
    pub(super) edges: Vec<Vec<f32>>,
    pub(super) begin: Option<Begin>,
    /// One an output, round after round.
    pub(super) trees: Vec<Grown>,
    /// After 0, 1, 2 … rounds.
    pub(super) losses: Vec<Losses>,
    /// Units of gradients and hessians of each output.
    pub(super) scales: Vec<Scale>,
    pub(super) growing: Option<Batch>,
    /// The same trees when they have all their splits, where leaves are quantiles.
    pub(super) renewing: Option<Renewing>,
}

/// What a step asks of every shard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Message {
    /// A first look.
    Survey,
    /// Values of some of the sampled columns.
    Sample {
        /// Numbers of columns.
        columns: Vec<u32>,
        /// Below it a row is in the sample.
        threshold: Option<u64>,
    },
    /// Gradients and losses after some trees.
    Slopes {
        /// How many.
        trees: u32,
    },
    /// Histograms of trees under way.
    Level {
        /// First feature, and the one after the last.
        range: [u32; 2],
        /// Trees with the nodes whose histograms are asked for.
        parts: Vec<Part>,
    },
    /// Exact sums of the leaves of trees that have all their splits.
    Leaves(Vec<Part>),
    /// Weights of the targets by their size.
    Targets(Sought),
    /// Weights of the residuals of leaves by their size, part after part.
    Residuals(Vec<Part>, Sought),
}

/// A tree under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Number of the tree.
    pub tree: u32,
    /// Units of gradients and hessians.
    pub scale: Scale,
    /// Splits so far.
    pub splits: Vec<Split>,
    /// Nodes that are asked for.
    pub nodes: Vec<u32>,
}

/// The result of a fit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FittedTrees {
    /// The model.
    pub model: Model,
    /// Rounds of trees in it: of one tree each, or of one for each class.
    pub iterations: u32,
    /// Always: the number of trees is a parameter.
    pub converged: bool,
    /// Weighted mean loss of the training rows.
    pub loss: f64,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// Losses of the training rows after 0, 1, 2 … rounds; of a forest only after none and after all.
    pub train_loss: Vec<f64>,
    /// The same of the validation rows; empty without them.
    pub validation_loss: Vec<f64>,
}

impl Algorithm for Boosting {
    type State = State;
    type Message = Message;
    type Chapter = Chapter;
    type Local = Local;
    type Partial = Partial;
    type Output = FittedTrees;

    fn start(&self) -> Result<State, LearnError> {
        Ok(State::default())
    }

    fn exchange(&self) -> Exchange {
        Exchange::Sum
    }

    fn message(&self, state: &State) -> Message {
        let Some(survey) = &state.survey else { return Message::Survey };
        if let Some(search) = &state.search {
            return Message::Targets(search.sought().clone());
        }
        if state.begin.is_none() {
            return Message::Sample { columns: self.next_columns(state), threshold: threshold(survey.rows) };
        }
        let columns = state.begin.as_ref().map_or(0, |begin| begin.bins.features.len());
        match &state.growing {
            None => Message::Slopes { trees: state.trees.len() as u32 },
            Some(batch) => match (batch.message(&self.settings.limits, columns), &state.renewing) {
                (Message::Leaves(parts), Some(renewing)) => Message::Residuals(parts, renewing.sought().clone()),
                (message, _) => message,
            },
        }
    }

    fn chapter(&self, state: &State, index: usize) -> Option<Chapter> {
        match index.checked_sub(1) {
            None => state.begin.clone().map(Chapter::Begin),
            Some(tree) => state.trees.get(tree).cloned().map(Chapter::Tree),
        }
    }

    fn advance(&self, message: &Message, chapters: &[Chapter], shard: &EncodedShard, local: &mut Local) {
        if shard.range(Segment::Validation).end == 0 {
            return;
        }
        let context = self.context(chapters);
        let advanced = match message {
            Message::Survey | Message::Sample { .. } | Message::Targets(_) => Ok(()),
            Message::Slopes { trees } => local.advance_to_slopes(context, shard, *trees as usize),
            Message::Level { parts, .. } | Message::Leaves(parts) | Message::Residuals(parts, _) => {
                local.advance_to_splits(context, shard, parts)
            }
        };
        local.fault = advanced.err().map(|e| e.to_string());
    }

    fn reads_columns(&self, message: &Message, local: &Local) -> bool {
        matches!(message, Message::Survey | Message::Sample { .. }) || !local.is_ready()
    }

    fn local_bytes(&self, local: &Local) -> usize {
        local.bytes()
    }

    fn sum_bytes(&self, message: &Message) -> usize {
        match message {
            Message::Level { range: [first, end], parts } => {
                let nodes: usize = parts.iter().map(|part| part.nodes.len()).sum();
                nodes * Histogram::most_bytes((end - first) as usize)
            }
            _ => 0,
        }
    }

    fn partial(&self, message: &Message, chapters: &[Chapter], shard: &EncodedShard, local: &Local) -> Option<Partial> {
        let mut total = None;
        self.accumulate(message, chapters, shard, local, &mut total);
        total
    }

    fn accumulate(
        &self,
        message: &Message,
        chapters: &[Chapter],
        shard: &EncodedShard,
        local: &Local,
        total: &mut Option<Partial>,
    ) {
        if shard.range(Segment::Validation).end == 0 {
            return;
        }
        match self.add(message, chapters, shard, local, total) {
            Ok(None) => {}
            Ok(Some(partial)) => merge_into(total, partial),
            Err(e) => merge_into(total, Partial::Fault(e.to_string())),
        }
    }

    fn update(&self, state: &mut State, total: Option<Partial>) -> Result<Progress, LearnError> {
        match total {
            None => Err(LearnError::Data("there are no training rows".into())),
            Some(Partial::Fault(fault)) => Err(LearnError::Data(fault)),
            Some(Partial::Survey(survey)) if state.survey.is_none() => self.take_survey(state, survey),
            Some(Partial::Sample(keys)) if state.survey.is_some() && state.begin.is_none() => self.take_sample(state, keys),
            Some(Partial::Slopes(extent)) if state.begin.is_some() && state.growing.is_none() => self.take_slopes(state, &extent),
            Some(Partial::Level(histograms)) if state.growing.is_some() => self.take_level(state, histograms),
            Some(Partial::Leaves(sums)) if state.growing.is_some() && state.renewing.is_none() => self.take_leaves(state, &sums),
            Some(Partial::Counts(counts)) if state.renewing.is_some() => self.take_residuals(state, &counts),
            Some(Partial::Counts(counts)) if state.search.is_some() => self.take_targets(state, &counts),
            Some(_) => Err(LearnError::Data("a partial is of another step than the state".into())),
        }
    }

    fn report(&self, state: &State) -> Vec<Report> {
        let Some(last) = state.losses.last() else { return Vec::new() };
        let mut out = vec![Report { name: "trees".into(), value: (state.losses.len() - 1) as f64 }];
        out.push(Report { name: "loss".into(), value: last.train });
        out.extend(last.validation.map(|value| Report { name: "validation_loss".into(), value }));
        out
    }

    fn finish(&self, state: State) -> Result<FittedTrees, LearnError> {
        let Some(begin) = &state.begin else { return Err(LearnError::Data("the fit has not begun".into())) };
        let outputs = self.objective.outputs();
        let count = match self.settings.early_stopping {
            Some(_) => best_iteration(&state.losses),
            None => state.losses.len().saturating_sub(1),
        };
        let Some(losses) = state.losses.get(count) else { return Err(LearnError::Data("the fit has not ended".into())) };
        let factor = if self.settings.forest { 1.0 / count.max(1) as f64 } else { 1.0 };
        let model = TreeModel::new(self.objective, begin, &state.trees[..count * outputs], factor)?;
        let model = self.weighed(model).after(self.settings.earlier.as_deref());
        let iterations = (model.trees.len() / outputs) as u32;
        let warnings = self.warnings(&state, count);
        let (model, loss) = (Model::Trees(model), losses.train);
        let measured = |i: &usize| !self.settings.forest || [0, count].contains(i);
        let losses = || (0..state.losses.len()).filter(measured).map(|i| state.losses[i]);
        let train_loss = losses().map(|l| l.train).collect();
        let validation_loss = losses().filter_map(|l| l.validation).collect();
        Ok(FittedTrees { model, iterations, converged: true, loss, warnings, train_loss, validation_loss })
    }
}

/// Rounds of the least validation loss, the fewest of equal ones.
pub(super) fn best_iteration(losses: &[Losses]) -> usize {
    let of = |l: &Losses| l.validation.unwrap_or(f64::INFINITY);
    let mut best = 0;
    for (i, loss) in losses.iter().enumerate() {
        if of(loss) < of(&losses[best]) {
            best = i;
        }
    }
    best
}

impl Boosting {
    fn context<'a>(&'a self, chapters: &'a [Chapter]) -> Context<'a> {
        Context { settings: &self.settings, objective: self.objective, schema: &self.schema, level: self.level, chapters }
    }

    /// Adds what has a place in the total already; else gives the shard's own partial.
    fn add(
        &self,
        message: &Message,
        chapters: &[Chapter],
        shard: &EncodedShard,
        local: &Local,
        total: &mut Option<Partial>,
    ) -> Result<Option<Partial>, LearnError> {
        if let Some(fault) = &local.fault {
            return Err(LearnError::Data(fault.clone()));
        }
        match message {
            Message::Survey => Ok(Some(Partial::Survey(Survey::of(&self.schema, self.objective, shard)?))),
            Message::Sample { columns, threshold } => Ok(Some(self.sample(shard, columns, *threshold)?)),
            Message::Slopes { .. } => Ok(local.extent().map(Partial::Slopes)),
            Message::Level { range, parts } => {
                let range = range[0] as usize..range[1] as usize;
                let nodes = || parts.iter().flat_map(|part| &part.nodes);
                let empty = || Partial::Level(nodes().map(|_| Histogram::of_range(range.clone())).collect());
                if let Partial::Level(histograms) = total.get_or_insert_with(empty) {
                    let context = self.context(chapters);
                    let bins = &context.begin()?.bins;
                    let features = |tree| histogram_features(&self.settings, bins, tree);
                    local.add_histograms(parts, features, histograms);
                }
                Ok(None)
            }
            Message::Leaves(parts) => {
                let leaves: usize = parts.iter().map(|part| part.nodes.len()).sum();
                if let Partial::Leaves(sums) = total.get_or_insert_with(|| Partial::Leaves(vec![LeafSum::default(); leaves])) {
                    local.add_leaves(self.objective.outputs(), parts, sums);
                }
                Ok(None)
            }
            Message::Targets(sought) => Ok(Some(Self::targets(shard, sought)?)),
            Message::Residuals(parts, sought) => {
                let empty = || Partial::Counts(vec![Counts::default(); sought.leaves()]);
                if let Partial::Counts(counts) = total.get_or_insert_with(empty) {
                    local.count_residuals(self.objective.outputs(), shard, parts, sought, counts);
                }
                Ok(None)
            }
        }
    }

    /// Trees that were dropped for a while weigh less.
    fn weighed(&self, mut model: TreeModel) -> TreeModel {
        let outputs = model.outputs();
        let rounds = model.trees.len() / outputs;
        let weights = self.settings.dropout.as_ref().map(|schedule| schedule.weights(rounds)).unwrap_or_default();
        for (trees, weight) in model.trees.chunks_mut(outputs).zip(weights) {
            trees.iter_mut().flat_map(|tree| &mut tree.value).for_each(|value| *value *= weight);
        }
        model
    }

    fn warnings(&self, state: &State, count: usize) -> Vec<String> {
        let mut out = Vec::new();
        if self.settings.earlier.is_some() && count == 0 {
            out.push("no new tree makes the model better: it is the model that training went on from".into());
        } else if count == 0 || state.trees[..count * self.objective.outputs()].iter().all(|t| t.splits.is_empty()) {
            out.push("no split gains anything: the model predicts the same for every row".into());
        } else if count < self.settings.trees as usize && self.settings.early_stopping.is_none() {
            out.push(format!("after {count} trees no split gains anything: there are no more trees"));
        }
        out
    }
}
