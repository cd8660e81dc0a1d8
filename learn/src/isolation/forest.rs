//! Isolation forests as steps: rows are drawn for some trees at a time, which the coordinator grows; where a share of
//! anomalies is asked for, the training rows are scored and the score at that rank is found.

use serde::{Deserialize, Serialize};

use crate::algorithm::{Algorithm, Exchange, LearnError, Merge, Progress, Report, keep_least, merge_into};
use crate::model::{Model, Task};
use crate::shard::{EncodedShard, Schema, Segment};
use crate::trees::model::TreeModel;
use crate::trees::objective::Link;
use crate::trees::survey::check_shape;
use crate::trees::tree::Tree;

use super::draw::{Drawn, Sample, TOGETHER};
use super::grow::{Rules, grow, mean_path};
use super::model::{IsolationModel, scores};
use super::rank::{Counts, Search};

/// Bytes of the rows that one step gathers, about.
const STEP_BYTES: usize = 16 << 20;
/// Most bytes of the rows of the trees that must be gathered together.
const MOST_BYTES: usize = 64 << 20;

/// An isolation forest to be fitted.
#[derive(Debug, Clone)]
pub struct IsolationForest {
    /// Of all that is drawn.
    pub seed: u64,
    /// Number of trees.
    pub trees: u32,
    /// Rows that a tree sees, if there are so many.
    pub max_samples: u32,
    /// Share of the features that a tree sees.
    pub max_features: f64,
    /// Share of the training rows that are anomalies.
    pub contamination: Option<f64>,
    /// Of the shards.
    pub schema: Schema,
}

/// Where a fit stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Training rows, once some have been drawn.
    rows: Option<u64>,
    trees: Vec<Tree>,
    search: Option<Search>,
    threshold: Option<f64>,
}

/// What a step asks of every shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Rows for some trees.
    Draw {
        /// Number of the first.
        first: u32,
        /// How many.
        count: u32,
    },
    /// Scores of training rows, counted.
    Rank(Search),
}

/// What a shard answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Partial {
    /// Rows for some trees.
    Drawn(Sample),
    /// Scores, counted.
    Counts(Counts),
    /// The shard cannot be read as the schema says.
    Fault(String),
}

/// The scores of a shard's training rows, which stand for its columns.
#[derive(Debug, Default)]
pub struct Scores(Option<Vec<f64>>);

/// The result of a fit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FittedForest {
    /// The model.
    pub model: Model,
    /// Trees in it.
    pub iterations: u32,
    /// Always: the number of trees is a parameter.
    pub converged: bool,
    /// What the user should know.
    pub warnings: Vec<String>,
}

impl Merge for Partial {
    fn merge(&mut self, right: Self) {
        match (&mut *self, right) {
            (Partial::Fault(a), Partial::Fault(b)) => keep_least(a, b),
            (Partial::Fault(_), _) => {}
            (_, Partial::Fault(fault)) => *self = Partial::Fault(fault),
            (Partial::Drawn(a), Partial::Drawn(b)) if a.is_like(&b) => a.merge(b),
            (Partial::Counts(a), Partial::Counts(b)) => {
                b.into_iter().for_each(|(digit, count)| *a.entry(digit).or_default() += count);
            }
            _ => *self = Partial::Fault("partials of two different steps met".into()),
        }
    }
}

impl IsolationForest {
    /// Bytes of the rows of a tree, as they travel, about.
    fn tree_bytes(&self) -> usize {
        self.max_samples as usize * (24 + 5 * self.schema.features.len())
    }

    /// Trees whose rows one step gathers.
    fn batch(&self) -> u32 {
        let fit = (STEP_BYTES / self.tree_bytes()).clamp(1, u32::MAX as usize) as u32;
        fit.next_multiple_of(TOGETHER)
    }

    /// Whether a step can gather the rows that it must.
    ///
    /// # Errors
    /// They would be too many.
    pub fn check(&self) -> Result<(), LearnError> {
        let bytes = self.tree_bytes() * TOGETHER as usize;
        if bytes <= MOST_BYTES {
            return Ok(());
        }
        let (rows, features) = (self.max_samples, self.schema.features.len());
        let message = format!("{rows} rows of {features} features a tree are too many to gather: lower it");
        Err(LearnError::Param { name: "max_samples".into(), message })
    }

    fn forest(&self, state: &State) -> Option<TreeModel> {
        let whole = state.trees.len() == self.trees as usize;
        let trees = || state.trees.clone();
        whole.then(|| TreeModel { task: Task::Anomaly, link: Link::Identity, base: vec![0.0], trees: trees() })
    }

    fn add(
        &self,
        message: &Message,
        shard: &EncodedShard,
        local: &Scores,
        total: &mut Option<Partial>,
    ) -> Result<(), LearnError> {
        match *message {
            Message::Draw { first, count } => {
                check_shape(&self.schema, shard)?;
                let sample = total.get_or_insert_with(|| Partial::Drawn(Sample::new(self.max_samples, count)));
                if let Partial::Drawn(sample) = sample {
                    sample.add(self.seed, first, &self.schema, shard);
                }
            }
            Message::Rank(search) => {
                let Some(scores) = &local.0 else { return Err(LearnError::Data("a step came without its forest".into())) };
                let counts = total.get_or_insert_with(|| Partial::Counts(Counts::new()));
                if let Partial::Counts(counts) = counts {
                    search.count(scores, counts);
                }
            }
        }
        Ok(())
    }

    fn take_rows(&self, state: &mut State, sample: &Sample) -> Result<Progress, LearnError> {
        if sample.rows < 2 {
            let message = "there is 1 training row: an isolation forest needs at least two to tell apart";
            return Err(LearnError::Data(message.into()));
        }
        if !self.is_ours(state, sample) {
            return Err(LearnError::Data("a partial is of another schema or step than the state".into()));
        }
        state.rows = Some(sample.rows);
        let size = sample.rows.min(u64::from(self.max_samples));
        let rules = Rules {
            schema: &self.schema,
            seed: self.seed,
            max_features: self.max_features,
            depth: size.next_power_of_two().trailing_zeros(),
            unit: mean_path(size) * f64::from(self.trees),
        };
        for rows in &sample.trees {
            state.trees.push(grow(rules, state.trees.len() as u32, rows));
        }
        if state.trees.len() < self.trees as usize {
            return Ok(Progress::Continue);
        }
        let Some(share) = self.contamination else { return Ok(Progress::Done) };
        // As many rows as the share at least leaves whole lie above the score with so many others at or below it.
        let above = (share * sample.rows as f64) as u64;
        state.search = Some(Search::new(sample.rows - above.min(sample.rows - 1) - 1));
        Ok(Progress::Continue)
    }

    /// Whether these are the rows that the step asked for.
    fn is_ours(&self, state: &State, sample: &Sample) -> bool {
        let first = state.trees.len() as u32;
        let asked = self.batch().min(self.trees.saturating_sub(first)) as usize;
        let size = sample.rows.min(u64::from(self.max_samples)) as usize;
        let features = self.schema.features.len();
        let whole = |tree: &Vec<Drawn>| tree.len() == size && tree.iter().all(|row| row.values.len() == features);
        sample.size == self.max_samples && sample.trees.len() == asked && sample.trees.iter().all(whole)
    }

    fn take_counts(&self, state: &mut State, counts: &Counts) -> Result<Progress, LearnError> {
        let search = state.search.as_mut().and_then(|search| search.take(counts));
        let Some(found) = search else { return Err(LearnError::Data("there are fewer scores than training rows".into())) };
        state.threshold = found;
        Ok(if found.is_some() { Progress::Done } else { Progress::Continue })
    }
}

impl Algorithm for IsolationForest {
    type State = State;
    type Message = Message;
    type Chapter = TreeModel;
    type Local = Scores;
    type Partial = Partial;
    type Output = FittedForest;

    fn start(&self) -> Result<State, LearnError> {
        Ok(State::default())
    }

    fn exchange(&self) -> Exchange {
        Exchange::Sum
    }

    fn message(&self, state: &State) -> Message {
        if let Some(search) = state.search {
            return Message::Rank(search);
        }
        let first = state.trees.len() as u32;
        Message::Draw { first, count: self.batch().min(self.trees - first) }
    }

    fn chapter(&self, state: &State, index: usize) -> Option<TreeModel> {
        if index == 0 { self.forest(state) } else { None }
    }

    fn advance(&self, message: &Message, chapters: &[TreeModel], shard: &EncodedShard, local: &mut Scores) {
        if let (Message::Rank(_), None, Some(forest)) = (message, &local.0, chapters.first()) {
            local.0 = Some(scores(forest, &self.schema, shard, shard.range(Segment::Train)));
        }
    }

    fn reads_columns(&self, message: &Message, local: &Scores) -> bool {
        matches!(message, Message::Draw { .. }) || local.0.is_none()
    }

    fn local_bytes(&self, local: &Scores) -> usize {
        local.0.as_ref().map_or(0, |scores| scores.len() * size_of::<f64>())
    }

    fn partial(&self, message: &Message, chapters: &[TreeModel], shard: &EncodedShard, local: &Scores) -> Option<Partial> {
        let mut total = None;
        self.accumulate(message, chapters, shard, local, &mut total);
        total
    }

    fn accumulate(
        &self,
        message: &Message,
        _chapters: &[TreeModel],
        shard: &EncodedShard,
        local: &Scores,
        total: &mut Option<Partial>,
    ) {
        if shard.range(Segment::Train).is_empty() {
            return;
        }
        if let Err(error) = self.add(message, shard, local, total) {
            merge_into(total, Partial::Fault(error.to_string()));
        }
    }

    fn update(&self, state: &mut State, total: Option<Partial>) -> Result<Progress, LearnError> {
        match total {
            None => Err(LearnError::Data("there are no training rows".into())),
            Some(Partial::Fault(fault)) => Err(LearnError::Data(fault)),
            Some(Partial::Drawn(sample)) if state.search.is_none() => self.take_rows(state, &sample),
            Some(Partial::Counts(counts)) if state.search.is_some() => self.take_counts(state, &counts),
            Some(_) => Err(LearnError::Data("a partial is of another step than the state".into())),
        }
    }

    fn report(&self, state: &State) -> Vec<Report> {
        vec![Report { name: "trees".into(), value: state.trees.len() as f64 }]
    }

    fn finish(&self, state: State) -> Result<FittedForest, LearnError> {
        let Some(forest) = self.forest(&state) else { return Err(LearnError::Data("the fit has not ended".into())) };
        let mut warnings = Vec::new();
        if forest.trees.iter().all(|tree| tree.splits() == 0) {
            warnings.push("all sampled rows are equal: every row has the same score".into());
        }
        if let Some(rows) = state.rows.filter(|&rows| rows < u64::from(self.max_samples)) {
            warnings.push(format!("there are {rows} training rows: every tree sees all of them"));
        }
        let model = Model::Isolation(IsolationModel { forest, threshold: state.threshold });
        Ok(FittedForest { model, iterations: self.trees, converged: true, warnings })
    }
}
