//! Every program by name: a line each. Help, documentation and the conformance suite walk it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::algorithm::LearnError;
use crate::algorithms::{
    decision_tree, extra_trees, gradient_boosting, isolation_forest, linear_regression, logistic_regression, random_forest,
};
use crate::kernels::Level;
use crate::model::Task;
use crate::params::ParamDoc;
use crate::program::{Program, ProgramSpec};
use crate::statistics::{counts, duplicates, moments, quantiles, target_summary, vocabulary};
use crate::suggest::nearest;

/// All programs.
#[rustfmt::skip]
pub const ALGORITHMS: &[Entry] = &[
    decision_tree::ENTRY,
    extra_trees::ENTRY,
    gradient_boosting::ENTRY,
    isolation_forest::ENTRY,
    linear_regression::ENTRY,
    logistic_regression::ENTRY,
    random_forest::ENTRY,
    statistic("counts", "rows where a column is not 0", |spec, _| counts::build(spec)),
    statistic("duplicates", "rows whose id stands more than once", |spec, _| duplicates::build(spec)),
    statistic("moments", "count, missing, mean, variance, min and max of each column", moments::build),
    statistic("quantiles", "exact quantiles of each column", |spec, _| quantiles::build(spec)),
    statistic("target_summary", "what a target column holds", |spec, _| target_summary::build(spec)),
    statistic("vocabulary", "distinct values of each column with their counts", |spec, _| vocabulary::build(spec)),
    Entry { kind: Kind::Metric, ..statistic("metrics", "exact metrics of a model per segment", |spec, _| crate::metrics::build(spec)) },
];

/// A program that leaves no model; its parameters are the coordinator's to set.
const fn statistic(name: &'static str, summary: &'static str, build: BuildFn) -> Entry {
    Entry {
        name,
        summary,
        kind: Kind::Statistic,
        params: &[],
        tasks: &[],
        task: |_| None,
        takes_text: false,
        takes_missing: false,
        build,
        check: |_| Ok(()),
    }
}

/// Makes a program at a level.
pub type BuildFn = fn(&ProgramSpec, Level) -> Result<Box<dyn Program>, LearnError>;

/// What a program is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Leaves a model; may stand in `train.algorithm`.
    Learner,
    /// Describes data.
    Statistic,
    /// Measures predictions.
    Metric,
}

/// A program in the registry.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Name in job files.
    pub name: &'static str,
    /// One line for help.
    pub summary: &'static str,
    /// What it is for.
    pub kind: Kind,
    /// Parameters that it takes.
    pub params: &'static [ParamDoc],
    /// What its models may predict; empty where it leaves none.
    pub tasks: &'static [Task],
    /// What its models predict with these parameters; `None` where it leaves none or the parameters are wrong.
    pub task: fn(&BTreeMap<String, Value>) -> Option<Task>,
    /// Whether it takes columns of text and declared codes as they are, as indices of their values.
    pub takes_text: bool,
    /// Whether features may be missing (NaN, or no slot) where it learns and where it predicts.
    pub takes_missing: bool,
    /// Makes it at a level.
    pub build: BuildFn,
    /// Checks parameters without data.
    pub check: fn(&BTreeMap<String, Value>) -> Result<(), LearnError>,
}

impl Entry {
    /// Whether it learns a target; without one it may be measured by one.
    pub fn needs_target(&self) -> bool {
        !self.tasks.is_empty() && !self.tasks.contains(&Task::Anomaly)
    }
}

/// Looks a program up by name.
pub fn find(name: &str) -> Result<&'static Entry, LearnError> {
    ALGORITHMS.iter().find(|e| e.name == name).ok_or_else(|| unknown(name, ALGORITHMS.iter()))
}

/// Looks a learner up by name.
pub fn learner(name: &str) -> Result<&'static Entry, LearnError> {
    let learners = || ALGORITHMS.iter().filter(|e| e.kind == Kind::Learner);
    learners().find(|e| e.name == name).ok_or_else(|| unknown(name, learners()))
}

/// What a learner's models predict with these parameters; `None` if there is no such learner or the parameters are
/// wrong.
pub fn task(name: &str, params: &BTreeMap<String, Value>) -> Option<Task> {
    learner(name).ok().and_then(|entry| (entry.task)(params))
}

/// Checks the parameters of a learner without data: names, types, ranges.
pub fn check_params(name: &str, params: &BTreeMap<String, Value>) -> Result<(), LearnError> {
    (learner(name)?.check)(params)
}

/// Looks a program up and checks its parameters, at the machine's widest level.
pub fn build(spec: &ProgramSpec) -> Result<Box<dyn Program>, LearnError> {
    build_at(spec, Level::detect())
}

/// [`build`] at a given level.
pub fn build_at(spec: &ProgramSpec, level: Level) -> Result<Box<dyn Program>, LearnError> {
    (find(&spec.name)?.build)(spec, level)
}

fn unknown<'e>(name: &str, entries: impl Iterator<Item = &'e Entry>) -> LearnError {
    let names: Vec<&str> = entries.map(|e| e.name).collect();
    let hint = match nearest(name, names.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known are {}", names.join(", ")),
    };
    LearnError::Param { name: "algorithm".into(), message: format!("`{name}` is not a known algorithm; {hint}") }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use serde_json::json;

    fn check(name: &str, params: Value, expected: &str) {
        let map = crate::params::map_of(&params).unwrap();
        let text = check_params(name, &map).map_or_else(|e| e.to_string(), |()| "fine".into());
        assert!(text.contains(expected), "{name} {params}: {text}");
    }

    #[test]
    fn parameters_are_checked_without_data() {
        check("linear_regression", json!({"l1": 0.1, "solver": "gram"}), "fine");
        check("linear_regression", json!({"solver": "newton"}), "one of auto, gram, lbfgs");
        check("linear_regression", json!({"class_weight": "balanced"}), "not supported yet");
        check("linear_regression", json!({"alpha": 1}), "a Lasso's is `l1: a`");
        check("logistic_regression", json!({"class_weight": {"0": 1, "1": 5.5}}), "fine");
        check("logistic_regression", json!({"class_weight": {"1": 0}}), "a number above 0");
        check("logistic_regression", json!({"class_weight": "even"}), "none, balanced or a map");
        check("logistic_regression", json!({"tolerance": "x"}), "tolerance: \"x\" is not a number");
        check("logistic_regresion", json!({}), "did you mean `logistic_regression`?");
    }

    #[test]
    fn names_are_unique_and_documented() {
        for (i, entry) in ALGORITHMS.iter().enumerate() {
            assert!(ALGORITHMS[..i].iter().all(|e| e.name != entry.name), "{} twice", entry.name);
            assert!(!entry.summary.is_empty() && entry.params.iter().all(|p| !p.doc.is_empty()), "{}", entry.name);
        }
    }
}
