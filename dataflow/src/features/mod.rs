//! Features as data: every kind of step has a file that validates it before anything runs, says what
//! must be measured, fits it, and applies it. It never reads files and never trains.

pub(crate) mod affine;
pub(crate) mod columns;
pub(crate) mod date_parts;
pub(crate) mod distinct;
pub(crate) mod expression;
pub(crate) mod fit;
pub(crate) mod hash;
pub(crate) mod impute;
pub(crate) mod kinds;
pub(crate) mod measure;
pub(crate) mod one_hot;
pub(crate) mod plan;
pub(crate) mod render;
pub(crate) mod roles;
pub(crate) mod run;
pub(crate) mod select;
pub(crate) mod sql;
pub(crate) mod trace;

use datafusion::common::DataFusionError;
use serde::{Deserialize, Serialize};

pub use affine::{Affine, Scaling};
pub use date_parts::DateParts;
pub use hash::Hashed;
pub use impute::{Fill, Imputed};
pub use kinds::Type;
pub use one_hot::Slots;
pub use sql::SqlColumn;

use crate::error::DataError;
use crate::job::JobError;

/// Why features cannot be fitted or applied. Retrying helps with none of them.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    /// The job file must be changed.
    #[error(transparent)]
    Job(#[from] JobError),
    /// The data does not fit; the message says which column and what to do.
    #[error("{0}")]
    Data(String),
    /// An SQL expression failed on a value.
    #[error("`{expression}` failed: {source}")]
    Expression {
        /// The expression as written.
        expression: String,
        /// What DataFusion says.
        source: Box<DataFusionError>,
    },
    /// The result of a program is not what the program writes: versions of the processes differ.
    #[error("malformed result of `{label}`: {source}")]
    Result {
        /// Label of the request.
        label: String,
        /// What the decoder says.
        source: serde_json::Error,
    },
    /// Columns could not be put together.
    #[error("{what}: {source}")]
    Arrow {
        /// What was being made.
        what: String,
        /// What Arrow says.
        source: arrow::error::ArrowError,
    },
}

impl From<FitError> for DataError {
    fn from(error: FitError) -> DataError {
        match error {
            FitError::Job(error) => DataError::Job(error),
            FitError::Data(message) => DataError::input("features", message),
            FitError::Expression { .. } => DataError::input("features", error.to_string()),
            FitError::Result { .. } | FitError::Arrow { .. } => DataError::internal("features", error),
        }
    }
}

/// A feature step with everything that was learnt for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FittedStep {
    /// Id of the step in the job; several fitted steps may come from one.
    pub id: String,
    /// Place in the job file, for messages: `features[2].one_hot`.
    pub place: String,
    /// What it does.
    pub fitted: Fitted,
}

/// The kinds of fitted step. Patterns are resolved: columns are names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fitted {
    /// A new or replaced column from a row-wise expression.
    Sql(SqlColumn),
    /// Missing values replaced.
    Impute(Imputed),
    /// `(x − shift) · scale` in place.
    Affine {
        /// Which step it was.
        how: Scaling,
        /// Columns with their constants.
        columns: Vec<Affine>,
    },
    /// Categories as slots, in place.
    OneHot {
        /// Columns with their slots.
        columns: Vec<Slots>,
    },
    /// Columns hashed into one.
    Hash(Hashed),
    /// Calendar parts as new columns.
    DateParts(DateParts),
    /// Columns that are no features any more.
    Drop {
        /// Their names.
        columns: Vec<String>,
    },
    /// New names, all at once.
    Rename {
        /// (old, new).
        names: Vec<(String, String)>,
    },
}
