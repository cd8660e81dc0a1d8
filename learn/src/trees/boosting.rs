//! Gradient boosting as steps: a survey, a sample for the bins, then per tree the gradients' extent, a step a level
//! and the exact sums of the leaves.

use serde::{Deserialize, Serialize};

use crate::algorithm::{Algorithm, Exchange, LearnError, Progress, Report};
use crate::algorithms::scaling::ClassWeight;
use crate::kernels::Level;
use crate::model::Model;
use crate::shard::{Column, EncodedShard, FeatureKind, Schema, Segment};

use super::bins::{Bins, FeatureBins, value_of};
use super::edges::edges;
use super::exact::ExactSum;
use super::grown::{Grown, Split};
use super::growth::{Growing, Rules, histogram_features};
use super::histogram::Histogram;
use super::local::{Context, Local};
use super::model::TreeModel;
use super::objective::Objective;
use super::params::Settings;
use super::partial::{Extent, LeafSum, Partial};
use super::sample::{COLUMNS, Keys, chosen, threshold};
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
    /// The score of every row before any tree.
    pub base: f64,
    /// Multiplies the weights of the classes.
    pub class_weight: Option<[f64; 2]>,
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
    survey: Option<Survey>,
    /// Edges of the numeric features so far, then the score to begin with.
    edges: Vec<Vec<f32>>,
    begin: Option<Begin>,
    trees: Vec<Grown>,
    /// After 0, 1, 2 … trees.
    losses: Vec<Losses>,
    growing: Option<Growing>,
}

/// What a step asks of every shard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Message {
    /// A first look.
    Survey,
    /// Values of some of the sampled columns.
    Sample {
        /// Numbers of columns; that of the column after the last feature is the target.
        columns: Vec<u32>,
        /// Below it a row is in the sample.
        threshold: Option<u64>,
    },
    /// Gradients and losses after some trees.
    Slopes {
        /// How many.
        trees: u32,
    },
    /// Histograms of a tree under way.
    Level(Part, Vec<u32>),
    /// Exact sums of the leaves of a tree that has all its splits.
    Leaves(Part, Vec<u32>),
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
}

/// The result of a fit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FittedTrees {
    /// The model.
    pub model: Model,
    /// Trees in it.
    pub iterations: u32,
    /// Always: the number of trees is a parameter.
    pub converged: bool,
    /// Weighted mean loss of the training rows.
    pub loss: f64,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// Losses of the training rows after 0, 1, 2 … trees; of a forest only after none and after all.
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
        if state.begin.is_none() {
            return Message::Sample { columns: self.next_columns(state), threshold: threshold(survey.rows) };
        }
        let Some(growing) = &state.growing else { return Message::Slopes { trees: state.trees.len() as u32 } };
        let part = Part { tree: growing.tree, scale: growing.scale, splits: growing.splits.clone() };
        let build = growing.build();
        if build.is_empty() { Message::Leaves(part, growing.leaves()) } else { Message::Level(part, build) }
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
            Message::Survey | Message::Sample { .. } => Ok(()),
            Message::Slopes { trees } => local.advance_to_slopes(context, shard, *trees as usize),
            Message::Level(part, _) | Message::Leaves(part, _) => {
                local.advance_to_splits(context, shard, part.tree as usize, part.scale, &part.splits)
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

    fn partial(&self, message: &Message, chapters: &[Chapter], shard: &EncodedShard, local: &Local) -> Option<Partial> {
        let mut total = None;
        self.accumulate(message, chapters, shard, local, &mut total);
        total
    }

    fn accumulate(
        &self,
        message: &Message,
        _chapters: &[Chapter],
        shard: &EncodedShard,
        local: &Local,
        total: &mut Option<Partial>,
    ) {
        if shard.range(Segment::Validation).end == 0 {
            return;
        }
        match self.add(message, shard, local, total) {
            Ok(None) => {}
            Ok(Some(partial)) => add(total, partial),
            Err(e) => add(total, Partial::Fault(e.to_string())),
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
            Some(Partial::Leaves(sums)) if state.growing.is_some() => self.take_leaves(state, &sums),
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
        let count = match self.settings.early_stopping {
            Some(_) => best_iteration(&state.losses),
            None => state.trees.len(),
        };
        let Some(losses) = state.losses.get(count) else { return Err(LearnError::Data("the fit has not ended".into())) };
        let factor = if self.settings.forest { 1.0 / count.max(1) as f64 } else { 1.0 };
        let model = TreeModel::new(self.objective, begin, &state.trees[..count], factor)?;
        let iterations = count as u32;
        let warnings = self.warnings(&state, count);
        let (model, loss) = (Model::Trees(model), losses.train);
        let measured = |i: &usize| !self.settings.forest || [0, count].contains(i);
        let losses = || (0..state.losses.len()).filter(measured).map(|i| state.losses[i]);
        let train_loss = losses().map(|l| l.train).collect();
        let validation_loss = losses().filter_map(|l| l.validation).collect();
        Ok(FittedTrees { model, iterations, converged: true, loss, warnings, train_loss, validation_loss })
    }
}

/// Adds a partial to a total.
fn add(total: &mut Option<Partial>, partial: Partial) {
    match total {
        Some(total) => crate::algorithm::Merge::merge(total, partial),
        None => *total = Some(partial),
    }
}

/// Trees of the least validation loss, the fewest of equal ones.
fn best_iteration(losses: &[Losses]) -> usize {
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

    /// Columns that the sample is of: numeric features and, where predictions begin with a quantile, the target.
    fn sampled(&self) -> Vec<u32> {
        let features = self.schema.features.iter().enumerate();
        let numeric = features.filter(|(_, f)| matches!(f.kind, FeatureKind::Numeric { .. })).map(|(j, _)| j as u32);
        let target = self.objective.begins_with_quantile().map(|_| self.schema.features.len() as u32);
        numeric.chain(target).collect()
    }

    fn next_columns(&self, state: &State) -> Vec<u32> {
        self.sampled().into_iter().skip(state.edges.len()).take(COLUMNS).collect()
    }

    /// Adds what has a place in the total already; else gives the shard's own partial.
    fn add(
        &self,
        message: &Message,
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
            Message::Level(part, build) => {
                let features = self.schema.features.len();
                let empty = || Partial::Level(build.iter().map(|_| Histogram::new(features)).collect());
                if let Partial::Level(histograms) = total.get_or_insert_with(empty) {
                    let chosen = histogram_features(&self.settings, features, part.tree);
                    local.add_histograms(&chosen, build, histograms);
                }
                Ok(None)
            }
            Message::Leaves(part, leaves) => {
                if let Partial::Leaves(sums) =
                    total.get_or_insert_with(|| Partial::Leaves(vec![LeafSum::default(); leaves.len()]))
                {
                    local.add_leaves(part.scale, leaves, sums);
                }
                Ok(None)
            }
        }
    }

    fn sample(&self, shard: &EncodedShard, columns: &[u32], threshold: Option<u64>) -> Result<Partial, LearnError> {
        let rows = chosen(self.settings.seed, shard.index, shard.range(Segment::Train).len(), threshold);
        let offset = |row: usize| shard.offset.as_ref().map_or(0.0, |o| o[row]);
        let of = |&column: &u32| {
            let mut keys = Keys::default();
            match shard.columns.get(column as usize) {
                Some(Column::F32(x)) => rows.iter().for_each(|&row| keys.add(f64::from(x[row as usize]))),
                Some(Column::F64(x)) => rows.iter().for_each(|&row| keys.add(x[row as usize])),
                Some(_) => return Err(LearnError::Data(format!("column {column} of shard {} is not of numbers", shard.index))),
                None => {
                    let target = shard.target.as_deref().unwrap_or_default();
                    rows.iter().for_each(|&row| keys.add(target[row as usize] - offset(row as usize)));
                }
            }
            Ok(keys)
        };
        Ok(Partial::Sample(columns.iter().map(of).collect::<Result<_, _>>()?))
    }

    fn take_survey(&self, state: &mut State, survey: Survey) -> Result<Progress, LearnError> {
        survey.check(&self.schema, self.objective)?;
        if self.settings.early_stopping.is_some() && survey.validation.value() <= 0.0 {
            return Err(LearnError::Data("`early_stopping` needs validation rows: set `split.validation`".into()));
        }
        state.survey = Some(survey);
        if self.next_columns(state).is_empty() {
            self.begin(state)?;
        }
        Ok(Progress::Continue)
    }

    fn take_sample(&self, state: &mut State, keys: Vec<Keys>) -> Result<Progress, LearnError> {
        let columns = self.next_columns(state);
        if columns.len() != keys.len() {
            return Err(LearnError::Data("a sample is of other columns than the step asked for".into()));
        }
        for (column, keys) in columns.into_iter().zip(keys) {
            let sorted = keys.sorted();
            let is_target = column as usize == self.schema.features.len();
            match self.objective.begins_with_quantile().filter(|_| is_target) {
                None => state.edges.push(edges(&sorted, self.settings.max_bins)),
                Some(p) => {
                    let at = ((sorted.len() as f64 * p) as usize).min(sorted.len().saturating_sub(1));
                    state.edges.push(sorted.get(at).map(|&key| value_of(key)).into_iter().collect());
                }
            }
        }
        if self.next_columns(state).is_empty() {
            self.begin(state)?;
        }
        Ok(Progress::Continue)
    }

    /// From survey and sample to bins and base score.
    fn begin(&self, state: &mut State) -> Result<(), LearnError> {
        let Some(survey) = &state.survey else { return Err(LearnError::Data("a sample came before the survey".into())) };
        let mut sampled = std::mem::take(&mut state.edges).into_iter();
        let features = self.schema.features.iter().zip(&survey.slots).map(|(feature, slots)| match &feature.kind {
            FeatureKind::Numeric { .. } => FeatureBins::Numeric { edges: sampled.next().unwrap_or_default() },
            _ => category_bins(slots, self.settings.max_bins),
        });
        let bins = Bins { features: features.collect() };
        let class_weight = self.class_factors(survey);
        let base = match sampled.next().and_then(|quantile| quantile.first().copied()) {
            Some(quantile) => f64::from(quantile),
            None => survey.base(self.objective, class_weight),
        };
        if !base.is_finite() {
            return Err(LearnError::Data("targets overflow when they are summed: scale them down".into()));
        }
        state.begin = Some(Begin { bins, base, class_weight });
        Ok(())
    }

    fn class_factors(&self, survey: &Survey) -> Option<[f64; 2]> {
        let [negative, positive] = survey.weights.each_ref().map(ExactSum::value);
        match self.class_weight {
            ClassWeight::None => None,
            ClassWeight::Given(factors) => Some(factors),
            ClassWeight::Balanced => {
                let total = negative + positive;
                Some([total / (2.0 * negative), total / (2.0 * positive)])
            }
        }
    }

    fn take_slopes(&self, state: &mut State, extent: &Extent) -> Result<Progress, LearnError> {
        let (Some(survey), Some(begin)) = (&state.survey, &state.begin) else {
            return Err(LearnError::Data("gradients came before the survey".into()));
        };
        let [negative, positive] = survey.weights.each_ref().map(ExactSum::value);
        let [a, b] = begin.class_weight.unwrap_or([1.0; 2]);
        let train = extent.train.value() / (negative * a + positive * b);
        let weight = survey.validation.value();
        if self.settings.forest {
            // Between no trees and all of them nothing is measured.
            let last = state.losses.last().copied();
            state.losses.extend(last.map(|l| std::iter::repeat_n(l, state.trees.len() - 1)).into_iter().flatten());
        }
        let validation = (weight > 0.0).then(|| extent.validation.value() / weight);
        if extent.overflow || !train.is_finite() || validation.is_some_and(|v| !v.is_finite()) {
            return Err(LearnError::Data(
                "the loss overflows: scale the target, or set `learning_rate` lower or `min_child_weight` higher".into(),
            ));
        }
        if state.losses.len() == state.trees.len() {
            state.losses.push(Losses { train, validation });
        }
        let scale = Scale { gradient: f64::from(extent.gradient), hessian: f64::from(extent.hessian) };
        let fitted = scale.gradient == 0.0 || scale.hessian == 0.0;
        if fitted || state.trees.len() >= self.settings.trees as usize || self.has_stalled(state) {
            return Ok(Progress::Done);
        }
        state.growing = Some(Growing::new(state.trees.len() as u32, scale));
        Ok(Progress::Continue)
    }

    fn has_stalled(&self, state: &State) -> bool {
        let waited = state.trees.len() - best_iteration(&state.losses);
        self.settings.early_stopping.is_some_and(|rounds| waited >= rounds as usize)
    }

    fn take_level(&self, state: &mut State, histograms: Vec<Histogram>) -> Result<Progress, LearnError> {
        let (Some(begin), Some(growing)) = (&state.begin, &mut state.growing) else {
            return Err(LearnError::Data("histograms came before a tree was begun".into()));
        };
        let rules = Rules { settings: &self.settings, bins: &begin.bins, level: self.level };
        growing.take(rules, histograms)?;
        // A tree without splits adds nothing; where nothing is drawn, none after it would.
        let drawn = [self.settings.subsample, self.settings.colsample_bytree, self.settings.colsample_bynode];
        if !self.settings.forest && growing.build().is_empty() && growing.splits.is_empty() && drawn == [1.0; 3] {
            state.growing = None;
            return Ok(Progress::Done);
        }
        Ok(Progress::Continue)
    }

    fn take_leaves(&self, state: &mut State, sums: &[LeafSum]) -> Result<Progress, LearnError> {
        let Some(growing) = state.growing.take() else {
            return Err(LearnError::Data("sums of leaves came before a tree was begun".into()));
        };
        state.trees.push(growing.finish(&self.settings, sums)?);
        if self.settings.forest && state.trees.len() < self.settings.trees as usize {
            state.growing = Some(Growing::new(state.trees.len() as u32, growing.scale));
        }
        Ok(Progress::Continue)
    }

    fn warnings(&self, state: &State, count: usize) -> Vec<String> {
        let mut out = Vec::new();
        if count == 0 || state.trees[..count].iter().all(|t| t.splits.is_empty()) {
            out.push("no split gains anything: the model predicts one number for every row".into());
        } else if state.trees.len() < self.settings.trees as usize && self.settings.early_stopping.is_none() {
            out.push(format!("after {count} trees no split gains anything: there are no more trees"));
        }
        out
    }
}

/// A bin a slot; where there are too many the rarest share the last one.
fn category_bins(counts: &[u64], most: usize) -> FeatureBins {
    if counts.len() <= most {
        return FeatureBins::Categories {
            bins: (0..counts.len()).map(|i| i as u8).collect(),
            count: counts.len() as u16,
            other: None,
        };
    }
    let mut order: Vec<usize> = (0..counts.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(counts[i]), i));
    let mut own: Vec<usize> = order[..most - 1].to_vec();
    own.sort_unstable();
    let other = (most - 1) as u8;
    let mut bins = vec![other; counts.len()];
    for (bin, slot) in own.into_iter().enumerate() {
        bins[slot] = bin as u8;
    }
    FeatureBins::Categories { bins, count: most as u16, other: Some(other) }
}
