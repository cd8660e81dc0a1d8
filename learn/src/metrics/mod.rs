//! Exact distributed metrics. Names and what is known of them stand here; `sums` holds metrics that are sums over
//! rows, `multiclass` those that follow from a confusion matrix, `ranking` those that need rows in the order of their
//! scores, `scoring` gives scores, `program` runs all over shards.

mod counted;
mod multiclass;
mod program;
mod queries;
mod ranking;
mod scoring;
mod sums;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use multiclass::{ClassMetrics, Confusion, MOST_SHOWN};
pub use program::{DEFAULT_PER_PASS, build};
pub use queries::{Measure, QueryMetric};

use crate::algorithm::LearnError;
use crate::model::Task;

/// A metric by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Area under the receiver operating characteristic; ties count half.
    Auc,
    /// Average precision: Σ (recallₙ − recallₙ₋₁) · precisionₙ over thresholds, as scikit-learn.
    PrAuc,
    /// Mean negative log-likelihood, probabilities clipped to [ε, 1 − ε] with ε = 2⁻⁵², as scikit-learn.
    LogLoss,
    /// Mean squared difference of probability and class.
    Brier,
    /// Share of rows whose class is right at threshold 0.5 (probability ≥ 0.5 is positive).
    Accuracy,
    /// True positives among predicted positives at threshold 0.5.
    Precision,
    /// True positives among positives at threshold 0.5.
    Recall,
    /// Harmonic mean of precision and recall: 2·tp / (2·tp + fp + fn).
    F1,
    /// Root of the mean squared error.
    Rmse,
    /// Mean absolute error.
    Mae,
    /// 1 − Σ w·(y − f)² / Σ w·(y − ȳ)².
    R2,
    /// Mean squared error.
    Mse,
    /// Mean of the classes' F1, over classes that a row has or is predicted to have; 0 for one without a right row.
    F1Macro,
    /// F1 of all decisions together; where every row has one class it is the accuracy.
    F1Micro,
    /// Mean of the classes' F1, weighted by the weight of their rows.
    F1Weighted,
    /// Mean of the classes' precision, over the classes of [`Metric::F1Macro`]; 0 for one that is never predicted.
    PrecisionMacro,
    /// Mean of the classes' precision, weighted by the weight of their rows.
    PrecisionWeighted,
    /// Mean of the classes' recall, over the classes of [`Metric::F1Macro`]; 0 for one without a row.
    RecallMacro,
    /// Mean of the classes' recall, weighted by the weight of their rows.
    RecallWeighted,
    /// Mean of the classes' recall, over classes that a row has.
    BalancedAccuracy,
    /// Mean of each class's area against all others.
    AucOvr,
    /// Mean of each class's area against all others, weighted by the weight of its rows.
    AucOvrWeighted,
    /// How well queries are ranked.
    Query(QueryMetric),
}

const BINARY: [Metric; 8] =
    [Metric::Auc, Metric::PrAuc, Metric::LogLoss, Metric::Brier, Metric::Accuracy, Metric::Precision, Metric::Recall, Metric::F1];
/// Of scores that are no probabilities, where one of two classes says what an anomaly is.
const ANOMALY: [Metric; 2] = [Metric::Auc, Metric::PrAuc];
const REGRESSION: [Metric; 4] = [Metric::Rmse, Metric::Mae, Metric::R2, Metric::Mse];

const MULTICLASS: [Metric; 12] = [
    Metric::Accuracy,
    Metric::BalancedAccuracy,
    Metric::LogLoss,
    Metric::F1Macro,
    Metric::F1Micro,
    Metric::F1Weighted,
    Metric::PrecisionMacro,
    Metric::PrecisionWeighted,
    Metric::RecallMacro,
    Metric::RecallWeighted,
    Metric::AucOvr,
    Metric::AucOvrWeighted,
];

/// What other systems call our metrics, with the same meaning and sign.
const PEERS: &[(&str, Metric)] = &[
    ("roc_auc", Metric::Auc),
    ("areaUnderROC", Metric::Auc),
    ("auroc", Metric::Auc),
    ("average_precision", Metric::PrAuc),
    ("areaUnderPR", Metric::PrAuc),
    ("aucpr", Metric::PrAuc),
    ("auc_pr", Metric::PrAuc),
    ("auprc", Metric::PrAuc),
    ("logloss", Metric::LogLoss),
    ("logLoss", Metric::LogLoss),
    ("binary_logloss", Metric::LogLoss),
    ("cross_entropy", Metric::LogLoss),
    ("brier_score", Metric::Brier),
    ("brier_score_loss", Metric::Brier),
    ("f1_score", Metric::F1),
    ("accuracy_score", Metric::Accuracy),
    ("root_mean_squared_error", Metric::Rmse),
    ("mean_absolute_error", Metric::Mae),
    ("l1", Metric::Mae),
    ("r2_score", Metric::R2),
    ("mean_squared_error", Metric::Mse),
    ("l2", Metric::Mse),
    ("RMSE", Metric::Rmse),
    ("multi_logloss", Metric::LogLoss),
    ("mlogloss", Metric::LogLoss),
    ("balanced_accuracy_score", Metric::BalancedAccuracy),
    ("roc_auc_ovr", Metric::AucOvr),
    ("roc_auc_ovr_weighted", Metric::AucOvrWeighted),
    ("precision_micro", Metric::F1Micro),
    ("recall_micro", Metric::F1Micro),
    ("weightedF1", Metric::F1Weighted),
    ("weightedFMeasure", Metric::F1Weighted),
    ("weightedPrecision", Metric::PrecisionWeighted),
    ("weightedRecall", Metric::RecallWeighted),
];

/// Scores that others negate so that larger is better. They are answered, never taken: a limit would have the wrong sign.
const NEGATED: [(&str, Metric); 5] = [
    ("neg_log_loss", Metric::LogLoss),
    ("neg_brier_score", Metric::Brier),
    ("neg_root_mean_squared_error", Metric::Rmse),
    ("neg_mean_absolute_error", Metric::Mae),
    ("neg_mean_squared_error", Metric::Mse),
];

impl Metric {
    /// Name as written in job files and results.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Auc => "auc",
            Metric::PrAuc => "pr_auc",
            Metric::LogLoss => "log_loss",
            Metric::Brier => "brier",
            Metric::Accuracy => "accuracy",
            Metric::Precision => "precision",
            Metric::Recall => "recall",
            Metric::F1 => "f1",
            Metric::Rmse => "rmse",
            Metric::Mae => "mae",
            Metric::R2 => "r2",
            Metric::Mse => "mse",
            Metric::F1Macro => "f1_macro",
            Metric::F1Micro => "f1_micro",
            Metric::F1Weighted => "f1_weighted",
            Metric::PrecisionMacro => "precision_macro",
            Metric::PrecisionWeighted => "precision_weighted",
            Metric::RecallMacro => "recall_macro",
            Metric::RecallWeighted => "recall_weighted",
            Metric::BalancedAccuracy => "balanced_accuracy",
            Metric::AucOvr => "auc_ovr",
            Metric::AucOvrWeighted => "auc_ovr_weighted",
            Metric::Query(metric) => metric.name(),
        }
    }

    /// The metric of a task by its name, ours or a peer's; an unknown one is answered with the known ones.
    pub fn parse(task: Task, name: &str) -> Result<Metric, LearnError> {
        let ours = canonical_name(name);
        let of_task = metrics_of(task);
        if let Some(metric) = of_task.iter().find(|m| m.name() == ours) {
            return Ok(*metric);
        }
        let known = instead(task_name(task), name).join(", ");
        let message = if let Some((_, metric)) = NEGATED.iter().find(|(theirs, _)| *theirs == name) {
            format!("`{name}` is `{}` here, without the minus sign", metric.name())
        } else if find(ours).is_some() {
            format!("`{name}` is not a metric of task {}, use one of: {known}", task_name(task))
        } else {
            format!("`{name}` is not a known metric, use one of: {known}")
        };
        Err(LearnError::Param { name: "metrics".into(), message })
    }

    /// Whether rows must be ordered by their scores.
    fn is_ranked(self) -> bool {
        matches!(self, Metric::Auc | Metric::PrAuc | Metric::AucOvr | Metric::AucOvrWeighted)
    }
}

fn metrics_of(task: Task) -> &'static [Metric] {
    match task {
        Task::Binary => &BINARY,
        Task::Regression => &REGRESSION,
        Task::Multiclass => &MULTICLASS,
        Task::Ranking => &queries::METRICS,
        Task::Anomaly => &ANOMALY,
    }
}

/// Name of a task, as metrics know it.
pub fn task_name(task: Task) -> &'static str {
    match task {
        Task::Binary => "binary",
        Task::Regression => "regression",
        Task::Multiclass => "multiclass",
        Task::Ranking => "ranking",
        Task::Anomaly => "anomaly",
    }
}

fn find(name: &str) -> Option<Metric> {
    BINARY.iter().chain(&REGRESSION).chain(&MULTICLASS).chain(&queries::METRICS).find(|m| m.name() == name).copied()
}

/// Metrics of a task to write in the place of one that it does not have: its averages over classes (`f1_macro` …
/// for `f1`), or all.
pub fn instead(task: &str, name: &str) -> Vec<&'static str> {
    let of_task = known(task).iter().copied();
    let ours = canonical_name(name);
    let averages: Vec<_> = of_task.clone().filter(|n| n.strip_prefix(ours).is_some_and(|end| end.starts_with('_'))).collect();
    if averages.is_empty() { of_task.collect() } else { averages }
}

/// Every metric of a task, `binary`, `regression`, `multiclass` or `ranking`; none of other tasks.
pub fn known(task: &str) -> &'static [&'static str] {
    match task {
        "binary" => &["auc", "pr_auc", "log_loss", "brier", "accuracy", "precision", "recall", "f1"],
        "regression" => &["rmse", "mae", "r2", "mse"],
        "multiclass" => &[
            "accuracy",
            "balanced_accuracy",
            "log_loss",
            "f1_macro",
            "f1_micro",
            "f1_weighted",
            "precision_macro",
            "precision_weighted",
            "recall_macro",
            "recall_weighted",
            "auc_ovr",
            "auc_ovr_weighted",
        ],
        "ranking" => &queries::NAMES,
        "anomaly" => &["auc", "pr_auc"],
        _ => &[],
    }
}

/// The metrics of a task that are reported where the job names none.
pub fn usual(task: &str) -> &'static [&'static str] {
    match task {
        "binary" => &["auc", "pr_auc", "log_loss", "brier", "accuracy", "f1"],
        "regression" => &["rmse", "mae", "r2"],
        // Not the areas: they take a pass over the scores of each class.
        "multiclass" => &["accuracy", "balanced_accuracy", "log_loss", "f1_macro"],
        "ranking" => &queries::USUAL,
        "anomaly" => &["auc", "pr_auc"],
        _ => &[],
    }
}

/// Our name of a metric: a peer's name (`roc_auc`, `average_precision`) becomes ours, any other stays as it is.
/// Negated scores (`neg_log_loss`) stay too, so they are refused; [`Metric::parse`] says what to write.
pub fn canonical_name(name: &str) -> &str {
    let ours = PEERS.iter().find(|(theirs, _)| *theirs == name).map(|(_, ours)| ours.name());
    ours.or_else(|| queries::canonical_name(name)).unwrap_or(name)
}

/// Whether a larger value is a better model; `None` for unknown names.
pub fn higher_is_better(name: &str) -> Option<bool> {
    let metric = find(canonical_name(name))?;
    Some(!matches!(metric, Metric::LogLoss | Metric::Brier | Metric::Rmse | Metric::Mae | Metric::Mse))
}

/// The result of `metrics`. Segments without rows are absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MetricsOutput {
    /// Segment name to metric name to value; null where it is not defined.
    pub segments: BTreeMap<String, BTreeMap<String, Option<f64>>>,
    /// Rows by segment name.
    pub rows: BTreeMap<String, u64>,
    /// Segment name to metric name to the reason why it is not defined.
    pub undefined: BTreeMap<String, BTreeMap<String, String>>,
    /// Many classes only: segment name to how each class fares, in the order of the schema's classes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub classes: BTreeMap<String, Vec<ClassMetrics>>,
    /// Many classes only, up to [`MOST_SHOWN`]: segment name to what is taken for what.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub confusion: BTreeMap<String, Confusion>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_agree() {
        for task in [Task::Binary, Task::Regression, Task::Multiclass, Task::Ranking, Task::Anomaly] {
            let name = task_name(task);
            assert_eq!(metrics_of(task).iter().map(|m| m.name()).collect::<Vec<_>>(), known(name));
            assert!(usual(name).iter().all(|n| known(name).contains(n)));
            assert!(known(name).iter().all(|n| higher_is_better(n).is_some() && canonical_name(n) == *n));
        }
        assert!(known("clustering").is_empty());
        assert_eq!((higher_is_better("auc"), higher_is_better("rmse"), higher_is_better("x")), (Some(true), Some(false), None));
    }

    #[test]
    fn wrong_names_are_answered() {
        let parse = |task, name| Metric::parse(task, name).map_err(|e| e.to_string());
        assert_eq!(parse(Task::Binary, "auc"), Ok(Metric::Auc));
        assert_eq!(parse(Task::Binary, "roc_auc"), Ok(Metric::Auc));
        let negated = "metrics: `neg_log_loss` is `log_loss` here, without the minus sign";
        assert_eq!(parse(Task::Binary, "neg_log_loss"), Err(negated.into()));
        let known = "use one of: rmse, mae, r2, mse";
        let other = format!("metrics: `auc` is not a metric of task regression, {known}");
        assert_eq!(parse(Task::Regression, "auc"), Err(other));
        assert_eq!(parse(Task::Regression, "map"), Err(format!("metrics: `map` is not a metric of task regression, {known}")));
        assert_eq!(parse(Task::Regression, "gini"), Err(format!("metrics: `gini` is not a known metric, {known}")));
        let averages = "is not a metric of task multiclass, use one of: f1_macro, f1_micro, f1_weighted";
        for f1 in ["f1", "f1_score"] {
            assert_eq!(parse(Task::Multiclass, f1), Err(format!("metrics: `{f1}` {averages}")));
        }
        assert_eq!(parse(Task::Multiclass, "weightedF1"), Ok(Metric::F1Weighted));
        assert!(parse(Task::Multiclass, "roc_auc").is_err_and(|e| e.ends_with("use one of: auc_ovr, auc_ovr_weighted")));
        assert!(parse(Task::Binary, "f1_macro").is_err_and(|e| e.contains("recall, f1")));
    }
}
