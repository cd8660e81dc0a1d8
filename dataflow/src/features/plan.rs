//! Static validation of the feature steps: walks them over the columns' names and types, resolves
//! patterns, and collects every error with its place, before a single row is read.

use std::collections::BTreeMap;

use arrow::datatypes::Schema;
use datafusion::prelude::SessionContext;
use serde::{Deserialize, Serialize};

use crate::features::affine::{self, Scaling};
use crate::features::columns::{Col, Frame, Kind};
use crate::features::impute::{self, ImputeColumn};
use crate::features::{Fitted, Type, date_parts, hash, one_hot, roles, select, sql};
use crate::job::{FeatureStep, ImputeStrategy, Job, JobError, StepKind, Unknown};

/// A step whose columns are known but whose constants may still have to be measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PlannedStep {
    pub id: String,
    pub place: String,
    pub kind: PlannedKind,
}

/// What is left to do for a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PlannedKind {
    /// Nothing to measure.
    Ready(Fitted),
    /// Replacement values to find.
    Impute { columns: Vec<ImputeColumn>, strategy: ImputeStrategy },
    /// Shift and scale to find.
    Affine { columns: Vec<(String, bool)>, how: Scaling },
    /// Categories to find.
    OneHot { columns: Vec<String>, drop_first: bool, unknown: Unknown },
}

/// All steps, validated.
pub(crate) struct Plan {
    /// Prepared columns that features can read, with the type they are read as.
    pub inputs: Vec<(String, Type)>,
    pub steps: Vec<PlannedStep>,
    /// The prepared columns with their roles.
    pub roles: Vec<Col>,
    /// The columns after the last step.
    pub frame: Frame,
    pub warnings: Vec<String>,
    /// Last thing that happened to a column, for plans: name → words.
    pub notes: BTreeMap<String, String>,
}

impl Plan {
    /// Whether the learner takes the column as it is, as a category.
    pub(crate) fn takes_categories(&self, column: &str) -> bool {
        let last = self.steps.iter().find(|step| step.id == CATEGORIES && step.place == CATEGORIES);
        matches!(last.map(|step| &step.kind), Some(PlannedKind::OneHot { columns, .. }) if columns.iter().any(|c| c == column))
    }
}

/// Where the walk stands.
pub(crate) struct Planner<'a> {
    pub job: &'a Job,
    pub session: SessionContext,
    pub frame: Frame,
    pub errors: Vec<JobError>,
    pub warnings: Vec<String>,
    pub notes: BTreeMap<String, String>,
    /// A column's type is unknown after an error: errors that would follow from it are not shown.
    pub broken: bool,
}

/// Validates roles and steps against the prepared columns.
pub(crate) fn plan(job: &Job, prepared: &Schema) -> Result<Plan, Vec<JobError>> {
    let mut planner = Planner {
        job,
        session: super::expression::planning_session(),
        frame: Frame::default(),
        errors: Vec::new(),
        warnings: Vec::new(),
        notes: BTreeMap::new(),
        broken: false,
    };
    planner.frame = roles::frame(job, prepared, &mut planner.errors);
    let inputs = planner.frame.inputs();
    let roles = planner.frame.cols.clone();
    let mut steps = Vec::new();
    for (i, step) in job.features.iter().enumerate() {
        planner.step(i, step, &mut steps);
    }
    planner.categories(&mut steps);
    planner.left_over();
    if !planner.errors.is_empty() {
        return Err(planner.errors);
    }
    Ok(Plan { inputs, steps, roles, frame: planner.frame, warnings: planner.warnings, notes: planner.notes })
}

impl Planner<'_> {
    fn step(&mut self, index: usize, step: &FeatureStep, out: &mut Vec<PlannedStep>) {
        let place = format!("features[{index}].{}", kind_name(&step.kind));
        let mut push = |kind: Option<PlannedKind>| {
            out.extend(kind.map(|kind| PlannedStep { id: step.id.clone(), place: place.clone(), kind }));
        };
        match &step.kind {
            StepKind::Sql { expressions } => {
                for (column, expression) in expressions {
                    push(sql::plan(self, &place, column, expression));
                }
            }
            StepKind::Impute { columns, strategy, fill_value, indicator } => {
                push(impute::plan(self, &place, columns, *strategy, fill_value.as_ref(), *indicator));
            }
            StepKind::Standardize { columns } => push(affine::plan(self, &place, columns, Scaling::Standardize)),
            StepKind::MinMax { columns } => push(affine::plan(self, &place, columns, Scaling::MinMax)),
            StepKind::OneHot { columns, drop_first, unknown } => {
                push(one_hot::plan(self, &place, columns, *drop_first, *unknown));
            }
            StepKind::Hash { columns, size, output } => push(hash::plan(self, &place, columns, *size, output)),
            StepKind::DateParts { columns, parts } => push(date_parts::plan(self, &place, columns, parts)),
            StepKind::Drop { columns } => push(select::plan_drop(self, &place, columns)),
            StepKind::Keep { columns } => push(select::plan_keep(self, &place, columns)),
            StepKind::Rename { names } => push(select::plan_rename(self, &place, names)),
        }
    }

    /// Resolves patterns: wildcards take features for which `wild` holds, names must pass `fits`.
    /// `roles`: whether role columns other than the target may be named (the step only reads them).
    pub(crate) fn select(
        &mut self,
        path: &str,
        patterns: &[String],
        wild: impl Fn(&Col) -> bool,
        fits: impl Fn(&Col) -> bool + Copy,
        takes: &str,
        roles: bool,
    ) -> Vec<String> {
        let mut selected = self.frame.select(path, patterns, wild, takes);
        if !self.broken {
            self.errors.append(&mut selected.errors);
        }
        selected.picked.retain(|name| self.check(path, name, fits, takes, roles));
        selected.picked
    }

    /// Whether a named column is there and fits; the error is noted.
    pub(crate) fn check(&mut self, path: &str, name: &str, fits: impl Fn(&Col) -> bool, takes: &str, roles: bool) -> bool {
        let Some(col) = self.frame.get(name) else {
            if !self.broken {
                self.errors.push(self.frame.unknown(path, name));
            }
            return false;
        };
        let error = match &col.role {
            Some(role) if !roles || role == "target" => {
                let message = format!("column `{name}` has the role {role} and is no feature");
                let hint = "a role column is never a feature; name feature columns only, or make a new column in a sql step";
                Some(JobError::at(path, message).hint(hint))
            }
            _ if fits(col) => None,
            _ => {
                let message = format!("column `{name}` is {}; this takes {takes}", col.kind.name());
                Some(JobError::at(path, message).hint("leave it out, or cast it in a sql step before"))
            }
        };
        let fine = error.is_none();
        self.errors.extend(error);
        fine
    }

    /// Adds a column that a step makes beside the old ones.
    pub(crate) fn add(&mut self, path: &str, col: Col) {
        if self.frame.get(&col.name).is_some() {
            let error = JobError::at(path, format!("the step makes `{}`, but such a column is already there", col.name));
            self.errors.push(error.hint("rename or drop the old one first"));
        } else {
            self.frame.put(col);
        }
    }

    /// A column changed in place: it is a feature (again) and holds `kind`.
    pub(crate) fn replace(&mut self, name: &str, kind: Kind) {
        if let Some(col) = self.frame.get_mut(name) {
            col.kind = kind;
            col.feature = true;
        }
    }

    /// A column that was made into others: no feature any more, but steps can still read it.
    pub(crate) fn consume(&mut self, name: &str, path: &str) {
        if let Some(col) = self.frame.get_mut(name)
            && col.role.is_none()
        {
            col.feature = false;
            self.note(name, format!("read by {path}"));
        }
    }

    pub(crate) fn note(&mut self, name: &str, words: String) {
        self.notes.insert(name.to_string(), words);
    }

    /// Text and declared codes that are left become indices of their values, for a learner that takes them so.
    fn categories(&mut self, out: &mut Vec<PlannedStep>) {
        let taken = self.job.train.as_ref().is_some_and(|train| takes_text(&train.algorithm));
        let left = |c: &&Col| c.categorical || c.ty() == Some(Type::Text);
        let columns: Vec<String> = self.frame.features().filter(left).map(|c| c.name.clone()).collect();
        if !taken || columns.is_empty() {
            return;
        }
        for name in &columns {
            self.replace(name, Kind::Slots);
            if let Some(col) = self.frame.get_mut(name) {
                col.categorical = false;
            }
        }
        // A category that training has not seen goes where missing values go.
        let kind = PlannedKind::OneHot { columns, drop_first: false, unknown: Unknown::Zero };
        out.push(PlannedStep { id: CATEGORIES.into(), place: CATEGORIES.into(), kind });
    }

    /// What no learner can take must not be left among the features.
    fn left_over(&mut self) {
        let Some(train) = &self.job.train else { return };
        if self.broken {
            return;
        }
        let mut errors = Vec::new();
        for col in self.frame.features() {
            errors.extend(unfit(col, &train.algorithm));
            self.warnings.extend(suspect(col));
        }
        if self.frame.features().next().is_none() && self.errors.is_empty() {
            let error = JobError::at("features", "no feature column is left");
            errors.push(error.hint("columns with a role are never features; see `sheaf plan` for each column's role"));
        }
        self.errors.append(&mut errors);
    }
}

/// Id and place of the step that no job names: categories as the learner takes them.
pub(crate) const CATEGORIES: &str = "categories";

/// Why a column cannot stay a feature.
fn unfit(col: &Col, algorithm: &str) -> Option<JobError> {
    let remedy = match &col.kind {
        Kind::Plain(Type::Text) => "encode it with one_hot or hash, list it in columns.ignore, or drop it",
        Kind::Plain(Type::Date | Type::Timestamp) => "take it apart with date_parts, list it in columns.ignore, or drop it",
        Kind::Plain(_) if col.categorical => "its integers are codes: encode it with one_hot or hash, or drop it",
        Kind::Other(_) => "list it in columns.ignore, or cast it in `prepare`",
        _ => return None,
    };
    let what = if col.categorical { "categorical".to_string() } else { col.kind.name() };
    Some(JobError::at("features", format!("column `{}` is {what}, which {algorithm} cannot take", col.name)).hint(remedy))
}

/// Columns that work but are likely a slip.
fn suspect(col: &Col) -> Option<String> {
    let name = &col.name;
    match col.ty()? {
        Type::Decimal(digits, _) if digits > 15 => {
            Some(format!("column `{name}` is {}: digits beyond the fifteenth are lost as a feature", col.kind.name()))
        }
        ty if ty.is_integer() && looks_like_id(name) => Some(format!(
            "feature `{name}` looks like an identifier; list it in columns.key, columns.ignore or columns.categorical if it is one"
        )),
        _ => None,
    }
}

fn looks_like_id(name: &str) -> bool {
    let lower = name.to_lowercase();
    lower == "id" || lower.ends_with("_id") || lower.starts_with("id_") || name.ends_with("Id") || name.ends_with("ID")
}

/// Whether an algorithm can learn from text columns as they are.
fn takes_text(algorithm: &str) -> bool {
    sheaf_learn::registry::learner(algorithm).is_ok_and(|entry| entry.takes_text)
}

/// Name of a step kind as written in the job file.
fn kind_name(kind: &StepKind) -> &'static str {
    match kind {
        StepKind::Sql { .. } => "sql",
        StepKind::Impute { .. } => "impute",
        StepKind::Standardize { .. } => "standardize",
        StepKind::MinMax { .. } => "min_max",
        StepKind::OneHot { .. } => "one_hot",
        StepKind::Hash { .. } => "hash",
        StepKind::DateParts { .. } => "date_parts",
        StepKind::Drop { .. } => "drop",
        StepKind::Keep { .. } => "keep",
        StepKind::Rename { .. } => "rename",
    }
}
