//! Fitting as a state machine that its driver feeds with measurements, and what comes of it: a pipeline,
//! which is data and goes into the model as it is.

use std::collections::{BTreeMap, VecDeque};

use arrow::datatypes::Schema as ArrowSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sheaf_learn::algorithm::LearnError;
use sheaf_learn::algorithms::warm_start;
use sheaf_learn::program::ProgramSpec;
use sheaf_learn::shard::{Feature, FeatureKind, Schema};

use crate::features::columns::{Col, Frame, Kind};
use crate::features::measure;
use crate::features::plan::{self, PlannedKind, PlannedStep};
use crate::features::{FitError, FittedStep, Type};
use crate::job::{Job, JobError, Roles};
use crate::split::SplitRule;
use crate::target::{self, TargetKind, TargetSpec};
use crate::uses;
use crate::view::{Output, Source, View};

pub use crate::uses::ColumnUse;

/// A fitted pipeline: prepared rows in, features out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pipeline {
    /// Steps with what was learnt for them.
    pub steps: Vec<FittedStep>,
    /// The features that come out; trailing affine steps are their shift and scale.
    pub schema: Schema,
    /// What is learnt, if anything.
    pub target: Option<TargetSpec>,
    /// Prepared columns that the features need: name and type.
    pub inputs: Vec<(String, String)>,
    /// Prepared column added to the linear predictor, in training and scoring.
    pub offset: Option<String>,
}

impl Pipeline {
    /// [`Pipeline::inputs`] with parsed types. One that does not parse is left out and so refused when
    /// the view is compiled.
    pub(crate) fn typed_inputs(&self) -> Vec<(String, Type)> {
        self.inputs.iter().filter_map(|(name, ty)| Some((name.clone(), Type::parse(ty)?))).collect()
    }
}

/// Something to measure over the prepared rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FitRequest {
    /// As progress shows it: `fit impute (median) amount`.
    pub label: String,
    /// How rows are encoded for it.
    pub view: View,
    /// What runs over the encoded rows.
    pub program: ProgramSpec,
}

/// What must hold before any step is fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fact {
    /// No nulls in the key: the split draws by its hash.
    Key,
    /// The values of the split column.
    Split,
    /// The classes of the target.
    Classes,
    /// Range and nulls of a numeric target, the weights and the offsets.
    Numbers,
}

/// Fitting in progress. It is journalled: serde keeps all of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fitting {
    pub(crate) inputs: Vec<(String, Type)>,
    pub(crate) split: SplitRule,
    pub(crate) roles: Roles,
    /// Kind of target that the algorithm asks for; `None` without training, or where nothing is to be learnt.
    pub(crate) classifier: Option<bool>,
    /// Whether these are many classes.
    pub(crate) multiclass: bool,
    pub(crate) facts: VecDeque<Fact>,
    pub(crate) waiting: VecDeque<PlannedStep>,
    pub(crate) fitted: Vec<FittedStep>,
    pub(crate) target: Option<TargetSpec>,
    frame: Frame,
    warnings: Vec<String>,
    uses: Vec<ColumnUse>,
}

impl Fitting {
    /// Validates roles and feature steps against the prepared columns, as a whole: every error found is
    /// given, each with its place in the job file.
    pub fn new(job: &Job, prepared: &ArrowSchema) -> Result<Fitting, Vec<JobError>> {
        let plan = plan::plan(job, prepared)?;
        let uses = uses::uses(job, prepared, &plan);
        let classifier = target::kind_of(job);
        let mut out = Fitting {
            inputs: plan.inputs,
            split: SplitRule::of(job),
            roles: job.columns.clone(),
            classifier,
            multiclass: job.train.as_ref().is_some_and(target::is_multiclass),
            facts: VecDeque::new(),
            waiting: plan.steps.into(),
            fitted: Vec::new(),
            target: None,
            frame: plan.frame,
            warnings: plan.warnings,
            uses,
        };
        out.facts = out.needed_facts();
        if out.classifier == Some(false) {
            out.target = out.target_spec(TargetKind::Number);
        }
        out.settle();
        Ok(out)
    }

    /// The same with a target of numbers, of which it is asked what must hold.
    #[must_use]
    pub(crate) fn of_numbers(mut self) -> Self {
        self.classifier = Some(false);
        self.facts = self.needed_facts();
        self
    }

    /// The same without what must hold of key, target, weights and split before steps are fitted, and so without a
    /// target: for a look at some rows, of which it need not hold.
    #[must_use]
    pub(crate) fn without_facts(mut self) -> Self {
        self.facts.clear();
        self.target = None;
        self
    }

    /// The next thing to measure; `None` when all is fitted.
    pub fn request(&self) -> Result<Option<FitRequest>, FitError> {
        if let Some(fact) = self.facts.front() {
            return Ok(Some(measure::fact_request(self, *fact)));
        }
        Ok(self.waiting.front().map(|step| measure::step_request(self, step)))
    }

    /// Takes the result of the last request's program and fits the step.
    pub fn supply(&mut self, result: Value) -> Result<(), FitError> {
        if let Some(fact) = self.facts.front().copied() {
            if let Some(kind) = measure::judge(self, fact, result)? {
                self.target = self.target_spec(kind);
            }
            self.facts.pop_front();
        } else if let Some(step) = self.waiting.front() {
            let mut warnings = Vec::new();
            let fitted = measure::fit(step, result, &mut warnings)?;
            self.fitted.push(FittedStep { id: step.id.clone(), place: step.place.clone(), fitted });
            self.warnings.append(&mut warnings);
            self.waiting.pop_front();
        } else {
            return Err(FitError::Data("a result was supplied, but nothing was asked for".into()));
        }
        self.settle();
        Ok(())
    }

    /// The fitted pipeline. Call it when [`Fitting::request`] gives `None`: what is not fitted is absent.
    pub fn pipeline(self) -> Pipeline {
        let names: Vec<String> = self.frame.features().filter(|c| encodes(&c.kind)).map(|c| c.name.clone()).collect();
        let outputs = names.into_iter().map(|name| Output { name, source: Source::Feature }).collect();
        let view = View { steps: self.fitted, outputs, target: self.target, ..View::of(self.inputs) };
        let needed = view.lowered().1;
        let inputs = view.columns.iter().filter(|(name, _)| needed.contains(name));
        Pipeline {
            schema: view.schema(),
            inputs: inputs.map(|(name, ty)| (name.clone(), ty.name())).collect(),
            offset: self.roles.offset,
            steps: view.steps,
            target: view.target,
        }
    }

    /// Columns that are left as features and that no step encodes: they are not in the feature matrix. No learner takes
    /// them, so that there are none where something is trained.
    pub fn unencoded(&self) -> Vec<String> {
        self.frame.features().filter(|c| !encodes(&c.kind)).map(|c| c.name.clone()).collect()
    }

    /// The features that will come out, as far as they are known before anything is fitted: names and kinds, without
    /// categories and scales.
    pub fn outline(&self) -> Schema {
        let kind = |kind: &Kind| match kind {
            Kind::Slots => FeatureKind::Slots { names: Vec::new() },
            Kind::Sparse(width) => FeatureKind::Sparse { width: *width },
            Kind::Plain(_) | Kind::Other(_) => FeatureKind::Numeric { shift: 0.0, scale: 1.0 },
        };
        let feature = |c: &Col| Feature { name: c.name.clone(), kind: kind(&c.kind) };
        let features = self.frame.features().filter(|c| encodes(&c.kind)).map(feature).collect();
        Schema { features, classes: Vec::new() }
    }

    /// What the learner says against these features: columns that its parameters name and that are none, or of a kind
    /// that it cannot take. Parameters that are wrong by themselves are found without data.
    pub fn refused_by_learner(&self, job: &Job) -> Option<JobError> {
        let train = job.train.as_ref()?;
        // An earlier model comes with the features that it was fitted on, and is looked at there.
        let own = train.params.iter().filter(|(name, _)| *name != warm_start::NAME);
        let params = Value::Object(own.map(|(name, value)| (name.clone(), value.clone())).collect());
        let spec = ProgramSpec { name: train.algorithm.clone(), params, schema: self.outline() };
        match spec.build().err()? {
            LearnError::Param { name, message } => Some(JobError::at(format!("train.{name}"), message)),
            other => Some(JobError::at("train", other.to_string())),
        }
    }

    /// What works but deserves a look, so far.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Every prepared column with its role, and whether and why it is used.
    pub fn roles(&self) -> Vec<ColumnUse> {
        self.uses.clone()
    }

    pub(crate) fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    fn needed_facts(&self) -> VecDeque<Fact> {
        let numeric_target = self.classifier == Some(false);
        let mut out = VecDeque::new();
        // Rows with nulls in the key would all have one id and stand in one segment. A split column names it itself.
        let drawn = self.split.reads_row_ids();
        out.extend((drawn && !self.roles.key.is_empty()).then_some(Fact::Key));
        out.extend(self.split.column().map(|_| Fact::Split));
        out.extend((self.classifier == Some(true)).then_some(Fact::Classes));
        let numbers = numeric_target || self.roles.weight.is_some() || self.roles.offset.is_some();
        out.extend(numbers.then_some(Fact::Numbers));
        out
    }

    fn target_spec(&self, kind: TargetKind) -> Option<TargetSpec> {
        let column = self.roles.target.clone()?;
        let data_type = self.type_of(&column)?;
        Some(TargetSpec { column, data_type, kind })
    }

    pub(crate) fn type_of(&self, column: &str) -> Option<Type> {
        self.inputs.iter().find(|(n, _)| n == column).map(|(_, ty)| *ty)
    }

    /// Steps that need no measurement are fitted as they are.
    fn settle(&mut self) {
        while let Some(PlannedStep { kind: PlannedKind::Ready(_), .. }) = self.waiting.front() {
            let Some(PlannedStep { id, place, kind: PlannedKind::Ready(fitted) }) = self.waiting.pop_front() else { break };
            self.fitted.push(FittedStep { id, place, fitted });
        }
    }
}

/// What can stand in an encoded shard.
pub(crate) fn encodes(kind: &Kind) -> bool {
    match kind {
        Kind::Plain(ty) => ty.is_numeric_feature(),
        Kind::Slots | Kind::Sparse(_) => true,
        Kind::Other(_) => false,
    }
}

/// Warnings that the profile's `moments` over prepared columns give about features as they stand:
/// integers that floats cannot hold, and numbers that only count the rows.
pub fn profile_warnings(pipeline: &Pipeline, profile: &Value) -> Result<Vec<String>, FitError> {
    let inputs: BTreeMap<String, Type> = pipeline.typed_inputs().into_iter().collect();
    measure::profile_warnings(&inputs, profile)
}
