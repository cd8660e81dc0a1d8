//! The feature steps of a job.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One feature step with its id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureStep {
    /// Unique in the job; the reader fills in `kind` or `kind_2` ….
    pub id: String,
    /// What it does.
    pub kind: StepKind,
}

/// The kinds of feature step. `columns` entries may be names, `*`, `prefix_*` or `-name`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum StepKind {
    /// Row-wise expressions: new or replaced columns, in order.
    Sql {
        /// (column, expression).
        expressions: Vec<(String, String)>,
    },
    /// Replaces missing values (null and NaN).
    Impute {
        /// Columns filled.
        columns: Vec<String>,
        /// How the value is found.
        strategy: ImputeStrategy,
        /// The value of `constant`.
        #[serde(default)]
        fill_value: Option<Value>,
        /// Adds `<column>_missing` (0/1).
        #[serde(default)]
        indicator: bool,
    },
    /// (x − mean) / standard deviation (ddof 0) of the training rows.
    Standardize {
        /// Columns scaled.
        columns: Vec<String>,
    },
    /// (x − min) / (max − min) of the training rows.
    MinMax {
        /// Columns scaled.
        columns: Vec<String>,
    },
    /// One slot per category seen in training; never materialised.
    OneHot {
        /// Columns encoded.
        columns: Vec<String>,
        /// Drops the first category.
        #[serde(default)]
        drop_first: bool,
        /// What an unseen category does when scoring.
        #[serde(default)]
        unknown: Unknown,
    },
    /// murmur3-32 feature hashing, signed as scikit-learn's `FeatureHasher`.
    Hash {
        /// Columns hashed as `name=value`.
        columns: Vec<String>,
        /// Slots, 1 to 2^24.
        size: u32,
        /// Name of the output column.
        output: String,
    },
    /// Parts of a date or timestamp (UTC) as numeric columns `<column>_<part>`.
    DateParts {
        /// Columns taken apart.
        columns: Vec<String>,
        /// Which parts.
        parts: Vec<DatePart>,
    },
    /// Removes feature columns.
    Drop {
        /// Columns removed.
        columns: Vec<String>,
    },
    /// Keeps only these feature columns.
    Keep {
        /// Columns kept.
        columns: Vec<String>,
    },
    /// Renames feature columns.
    Rename {
        /// (old, new).
        names: Vec<(String, String)>,
    },
}

/// How a missing value is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImputeStrategy {
    /// Mean of the training rows.
    Mean,
    /// Exact median of the training rows (mean of the middle two).
    Median,
    /// Most frequent value; ties: the smallest.
    MostFrequent,
    /// `fill_value`.
    Constant,
}

/// What an unseen category does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unknown {
    /// All slots zero; counted.
    #[default]
    Zero,
    /// The job fails.
    Error,
}

/// Parts of a date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DatePart {
    /// Calendar year.
    Year,
    /// 1 to 12.
    Month,
    /// Day of month, 1 to 31.
    Day,
    /// 0 to 23.
    Hour,
    /// 0 to 59.
    Minute,
    /// Monday 0 to Sunday 6.
    DayOfWeek,
    /// 1 to 366.
    DayOfYear,
    /// 1 on Saturday and Sunday, else 0.
    IsWeekend,
}
