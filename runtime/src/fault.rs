//! One error for the way from where something breaks to the person who reads of it: what kind it is,
//! whether trying again helps, and where in the job it points.

use serde::{Deserialize, Serialize};
use sheaf_dataflow::error::DataError;
use sheaf_dataflow::features::FitError;
use sheaf_dataflow::job::JobError;
use sheaf_learn::algorithm::LearnError;

/// What kind of trouble it is; the client maps it to an exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The job is wrong: nothing ran.
    Job,
    /// The data is not what the job needs, or changed while it ran.
    Data,
    /// A check or limit that the job declares was broken.
    Limit,
    /// The deadline passed.
    Deadline,
    /// A fault of ours or of the machines.
    Internal,
}

/// Why a job, a stage or a shard failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct Fault {
    /// What kind it is.
    pub kind: Kind,
    /// What happened, with its causes.
    pub message: String,
    /// Where the job file is wrong, if it is.
    pub errors: Vec<JobError>,
    /// Trying again may help.
    pub retry: bool,
}

impl Fault {
    /// A fault of a kind that trying again does not mend.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), errors: Vec::new(), retry: false }
    }

    /// A fault of ours or of the machines.
    pub fn internal(message: impl std::fmt::Display) -> Self {
        Self::new(Kind::Internal, message.to_string())
    }

    /// Errors in the job.
    pub fn job(errors: Vec<JobError>) -> Self {
        let message = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        Self { kind: Kind::Job, message, errors, retry: false }
    }

    /// Puts a verb phrase before the message: `read shard 7: …`.
    #[must_use]
    pub fn context(mut self, what: impl std::fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }
}

impl From<JobError> for Fault {
    fn from(error: JobError) -> Self {
        Fault::job(vec![error])
    }
}

impl From<LearnError> for Fault {
    fn from(error: LearnError) -> Self {
        match error {
            LearnError::Param { name, message } => JobError::at(format!("train.{name}"), message).into(),
            LearnError::Data(message) => Fault::new(Kind::Data, message),
            malformed @ LearnError::Malformed { .. } => Fault::internal(malformed),
        }
    }
}

impl From<DataError> for Fault {
    fn from(error: DataError) -> Self {
        let retry = error.retryable();
        match error {
            DataError::Job(error) => error.into(),
            other => {
                let kind = if retry { Kind::Internal } else { Kind::Data };
                Fault { retry, ..Fault::new(kind, chain(&other)) }
            }
        }
    }
}

impl From<FitError> for Fault {
    fn from(error: FitError) -> Self {
        match error {
            FitError::Job(error) => error.into(),
            FitError::Data(message) => Fault::new(Kind::Data, message),
            expression @ FitError::Expression { .. } => Fault::new(Kind::Data, chain(&expression)),
            broken @ (FitError::Result { .. } | FitError::Arrow { .. }) => Fault::internal(chain(&broken)),
        }
    }
}

/// An error with all its causes on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
