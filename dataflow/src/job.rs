//! The job message: what a job file says once it has been read. Serde types only; the client fills
//! them from YAML, the coordinator checks them against the data. Nothing here reads or decides.
//!
//! The job travels and is stored as the canonical JSON of [`Job`] (sorted keys, no defaults left out).

mod details;
mod steps;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use details::not_of_trees;
pub use details::{Details, Explain, MOST_CONTRIBUTIONS, MOST_ENTRIES};
pub use steps::{DatePart, FeatureStep, ImputeStrategy, StepKind, Unknown};

/// A whole job, parameters already substituted in paths; SQL still holds `$name`, bound when planned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// Version of the grammar; 1.
    pub version: u32,
    /// The experiment; also the registry name unless `publish.model` says another.
    pub name: String,
    /// The one seed for split, features and training.
    #[serde(default)]
    pub seed: u64,
    /// Parameters by name, typed by value. `$now` is added when the job is accepted.
    #[serde(default)]
    pub params: BTreeMap<String, Param>,
    /// An existing model (`name@version`, `name@alias`, `name@latest` or a job's id) that stands in for features and
    /// training. Tables, prepare and columns come from its record; those given here override by name.
    #[serde(default)]
    pub model: Option<String>,
    /// Tables that SQL can see, in the order of the file.
    #[serde(default)]
    pub tables: Vec<Table>,
    /// SQL that makes the prepared rows; absent: the last table as it is.
    #[serde(default)]
    pub prepare: Option<String>,
    /// Roles of prepared columns.
    #[serde(default)]
    pub columns: Roles,
    /// Expectations on prepared rows.
    #[serde(default)]
    pub checks: Vec<Check>,
    /// How rows get their segment; absent: every row trains.
    #[serde(default)]
    pub split: Option<Split>,
    /// Feature steps, in order.
    #[serde(default)]
    pub features: Vec<FeatureStep>,
    /// What is trained; absent: a check or transform job.
    #[serde(default)]
    pub train: Option<Train>,
    /// Metrics and limits.
    #[serde(default)]
    pub evaluate: Evaluate,
    /// Where the model goes in the registry; absent: kept under the job's id.
    #[serde(default)]
    pub publish: Option<Publish>,
    /// Rows that the model scores when all else has succeeded.
    #[serde(default)]
    pub predict: Option<PredictSection>,
    /// Stages that are written to folders.
    #[serde(default)]
    pub write: Write,
    /// Hidden: rows per canonical shard. It enters the fingerprint.
    #[serde(default)]
    pub shard_rows: Option<u32>,
}

/// A parameter's value, typed as it was written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Param {
    /// true or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// An ISO date `YYYY-MM-DD`.
    Date(String),
    /// An ISO date and time, taken as UTC.
    Timestamp(String),
    /// Any other text.
    Text(String),
}

/// A named input: files, or a view over tables that stand before it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Name in SQL.
    pub name: String,
    /// File, folder or glob; absolute path or URL (the client resolves paths relative to the file). Empty for a view.
    #[serde(default)]
    pub path: String,
    /// SQL of a view; then nothing else is said. It may hold `$name`, bound when planned.
    #[serde(default)]
    pub sql: Option<String>,
    /// Format; absent: by the file's ending.
    #[serde(default)]
    pub format: Option<Format>,
    /// Options for CSV.
    #[serde(default)]
    pub csv: CsvOptions,
    /// Declared column types (Arrow-like lower-case names: int64, float64, utf8, bool, date, timestamp) by column.
    #[serde(default)]
    pub schema: BTreeMap<String, String>,
}

impl Table {
    /// A table of files.
    pub fn at(name: impl Into<String>, path: impl Into<String>) -> Self {
        Self { name: name.into(), path: path.into(), ..Self::default() }
    }

    /// A view.
    pub fn view(name: impl Into<String>, sql: impl Into<String>) -> Self {
        Self { name: name.into(), sql: Some(sql.into()), ..Self::default() }
    }

    /// This table as another one says: a path alone keeps how the files are written, anything else stands as it is.
    #[must_use]
    pub fn replaced_by(&self, other: &Table) -> Table {
        let path_alone = other.sql.is_none() && *other == Table::at(&other.name, &other.path);
        match self.sql.is_none() && path_alone {
            true => Table { path: other.path.clone(), ..self.clone() },
            false => other.clone(),
        }
    }
}

/// File formats that a table may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Apache Parquet.
    Parquet,
    /// Delimited text.
    Csv,
}

/// How a CSV file is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CsvOptions {
    /// One ASCII character.
    pub delimiter: char,
    /// First line holds names.
    pub header: bool,
    /// Text that stands for null, beside the empty field.
    pub null: Option<String>,
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self { delimiter: ',', header: true, null: None }
    }
}

/// Roles of prepared columns. A role column is never a feature.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Roles {
    /// What is learnt.
    pub target: Option<String>,
    /// The value of the target that counts as positive (binary targets other than 0/1 and booleans).
    pub positive: Option<Value>,
    /// Row identity; several columns make a compound key.
    pub key: Vec<String>,
    /// Event time.
    pub time: Option<String>,
    /// Entity that must not stand on both sides of a split.
    pub group: Option<String>,
    /// What rows are ranked within; rows of a query stay together in a shard and in a segment.
    pub query: Option<String>,
    /// Non-negative row weight.
    pub weight: Option<String>,
    /// Added to the linear predictor.
    pub offset: Option<String>,
    /// Integer columns that are codes.
    pub categorical: Vec<String>,
    /// Kept, never features.
    pub ignore: Vec<String>,
}

/// One expectation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Name in the report; the reader fills in a default.
    pub name: String,
    /// What happens when it is broken.
    #[serde(default)]
    pub severity: Severity,
    /// Row-wise SQL condition: only these rows are looked at.
    #[serde(default, rename = "where")]
    pub filter: Option<String>,
    /// What is expected.
    pub rule: Rule,
}

/// What a broken expectation does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Ends the job.
    #[default]
    Fail,
    /// Is reported.
    Warn,
}

/// The kinds of expectation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Rule {
    /// No nulls in these columns.
    NotNull {
        /// Columns looked at.
        columns: Vec<String>,
    },
    /// Values within bounds, both inclusive; nulls pass, NaN breaks it.
    Range {
        /// Columns looked at.
        columns: Vec<String>,
        /// Smallest allowed value.
        min: Option<f64>,
        /// Largest allowed value.
        max: Option<f64>,
    },
    /// The number of rows within bounds, both inclusive.
    RowCount {
        /// Smallest allowed count.
        min: Option<u64>,
        /// Largest allowed count.
        max: Option<u64>,
    },
    /// No two rows agree in all these columns.
    Unique {
        /// The compound key.
        columns: Vec<String>,
    },
}

/// How rows get their segment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "by", deny_unknown_fields)]
pub enum Split {
    /// By a salted hash of the row id; fractions of all rows.
    Random {
        /// Fraction for test, 0 ≤ f < 1.
        #[serde(default)]
        test: f64,
        /// Fraction for validation.
        #[serde(default)]
        validation: f64,
        /// Own seed; else the job's.
        #[serde(default)]
        seed: Option<u64>,
    },
    /// By a text column that says `train`, `validation` or `test` (values can be renamed).
    Column {
        /// The prepared column; it becomes a role, never a feature.
        column: String,
        /// Value that means train; default "train".
        #[serde(default)]
        train: Option<String>,
        /// Value that means validation; default "validation".
        #[serde(default)]
        validation: Option<String>,
        /// Value that means test; default "test".
        #[serde(default)]
        test: Option<String>,
    },
}

/// What is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Train {
    /// Name in the registry of algorithms.
    pub algorithm: String,
    /// Its own parameters, checked by the algorithm.
    #[serde(default)]
    pub params: BTreeMap<String, Value>,
}

/// Metrics and limits.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Evaluate {
    /// Metric names; empty: the usual ones of the task.
    pub metrics: Vec<String>,
    /// Segments whose rows are scored and measured: train, validation, test; empty: all.
    pub segments: Vec<String>,
    /// Limits by `segment.metric`, in the order of the file.
    pub limits: Vec<Limit>,
}

impl Evaluate {
    /// Whether the rows of a segment are measured.
    pub fn measures(&self, segment: &str) -> bool {
        self.segments.is_empty() || self.segments.iter().any(|name| name == segment)
    }
}

/// A bound on one metric of one segment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// train, validation or test.
    pub segment: String,
    /// Metric name.
    pub metric: String,
    /// Smallest allowed value.
    #[serde(default)]
    pub min: Option<f64>,
    /// Largest allowed value.
    #[serde(default)]
    pub max: Option<f64>,
}

/// Where the model goes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Publish {
    /// Registry name; absent: the job's name.
    pub model: Option<String>,
    /// Alias that points to the new version.
    pub alias: Option<String>,
    /// Formats of others that the model is written in as well.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub export: Vec<ExportFormat>,
}

/// A format of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExportFormat {
    /// Open neural network exchange.
    Onnx,
}

impl ExportFormat {
    /// All of them.
    pub const ALL: [ExportFormat; 1] = [ExportFormat::Onnx];

    /// Name in job files, and the ending of files.
    pub fn name(self) -> &'static str {
        match self {
            ExportFormat::Onnx => "onnx",
        }
    }
}

/// Which rows the job's model scores, and where the predictions go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PredictSection {
    /// Table or view whose rows are scored; absent: what `prepare` gives.
    #[serde(default)]
    pub from: Option<String>,
    /// Tables that replace those of the same name.
    #[serde(default)]
    pub tables: Vec<Table>,
    /// Row-wise SQL condition: only these rows are scored.
    #[serde(default, rename = "where")]
    pub filter: Option<String>,
    /// Columns written beside the key and the prediction.
    #[serde(default)]
    pub keep: Vec<String>,
    /// Folder to write; replaced only if the same job wrote it.
    pub to: String,
    /// What is written beside the predictions.
    #[serde(default)]
    pub details: Details,
}

/// Folders that stages are written to, as Parquet files in canonical order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Write {
    /// Prepared rows.
    pub prepared: Option<String>,
    /// The feature matrix, with key and roles beside it.
    pub features: Option<String>,
}

/// Something in the job that is wrong, and where. `path` is written as in the file (`features[1].impute.columns`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{path}: {message}{}", hint.as_ref().map(|h| format!("\n  hint: {h}")).unwrap_or_default())]
pub struct JobError {
    /// Place in the job file; empty for the whole job.
    pub path: String,
    /// What is wrong, lower case, no full stop.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl JobError {
    /// An error at a place.
    pub fn at(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), hint: None }
    }

    /// Adds the remedy.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn documents_from_before_views_and_predictions_still_read() {
        let old = r#"{"version": 1, "name": "old", "tables": [{"name": "rows", "path": "/data", "format": "csv",
            "csv": {"delimiter": ";", "header": true, "null": null}, "schema": {}}], "prepare": null, "publish": null}"#;
        let job: Job = serde_json::from_str(old).unwrap();
        assert_eq!(job.tables[0].sql, None);
        assert_eq!((job.model, job.predict, job.write), (None, None, Write::default()));
    }

    #[test]
    fn a_path_alone_keeps_how_files_are_written() {
        let csv = CsvOptions { delimiter: ';', ..CsvOptions::default() };
        let table = Table { csv: csv.clone(), format: Some(Format::Csv), ..Table::at("rows", "/old") };
        let replaced = table.replaced_by(&Table::at("rows", "/new"));
        assert_eq!((replaced.path.as_str(), &replaced.csv), ("/new", &csv));
        let whole = Table { format: Some(Format::Parquet), ..Table::at("rows", "/new") };
        assert_eq!(table.replaced_by(&whole), whole);
        let view = Table::view("rows", "SELECT 1");
        assert_eq!(table.replaced_by(&view), view);
        assert_eq!(view.replaced_by(&Table::at("rows", "/new")), Table::at("rows", "/new"));
    }
}
