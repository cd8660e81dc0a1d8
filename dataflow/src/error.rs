//! What can go wrong between a location and a prepared row, sorted by what the caller can do about it.

use crate::job::JobError;

/// An error of this crate's data path.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The job is wrong: fix the file.
    #[error(transparent)]
    Job(#[from] JobError),
    /// The data is bad: fix the input.
    #[error("{what}: {message}")]
    Input {
        /// File, table or column.
        what: String,
        /// What is wrong with it.
        message: String,
    },
    /// A query does not fit the memory of who computes it: give more, or ask for less at a time.
    #[error("{what}: it needs more memory than its workers may take: {message}")]
    Memory {
        /// The query.
        what: String,
        /// What asked for memory, and how much there was.
        message: String,
    },
    /// A pinned file is no longer what it was when the job was accepted.
    #[error("input changed: {file}")]
    InputChanged {
        /// Location of the file.
        file: String,
    },
    /// The location is not one that this process may use.
    #[error("{location}: {reason}{}", .remedy.as_ref().map_or_else(String::new, |remedy| format!("; {remedy}")))]
    Denied {
        /// The location as it was given.
        location: String,
        /// Why it is refused.
        reason: String,
        /// How it can be allowed, where it can.
        remedy: Option<String>,
    },
    /// Nothing is stored there.
    #[error("{location} not found")]
    NotFound {
        /// The location.
        location: String,
    },
    /// The object store failed.
    #[error("{action} {location}")]
    Store {
        /// What was tried: read, write, list, delete.
        action: &'static str,
        /// The location.
        location: String,
        /// What the store said.
        source: object_store::Error,
    },
    /// The options of this process are wrong.
    #[error("{option}: {message}")]
    Options {
        /// The option.
        option: String,
        /// What is wrong with it.
        message: String,
    },
    /// A stored document or file of ours cannot be used, or this process failed on its own.
    #[error("{what}: {message}")]
    Internal {
        /// What was being worked on.
        what: String,
        /// What happened.
        message: String,
    },
    /// The local temporary folder failed.
    #[error("{action} in the temporary folder")]
    Spill {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

impl DataError {
    /// Bad data in a file, table or column.
    pub fn input(what: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Input { what: what.into(), message: message.into() }
    }

    /// A location that is refused.
    pub fn denied(location: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Denied { location: location.into(), reason: reason.into(), remedy: None }
    }

    /// A location that is refused until somebody allows it.
    pub(crate) fn not_allowed(location: &str, reason: &str, remedy: &str) -> Self {
        let remedy = (!remedy.is_empty()).then(|| remedy.to_owned());
        Self::Denied { location: location.to_owned(), reason: reason.to_owned(), remedy }
    }

    pub(crate) fn internal(what: impl Into<String>, message: impl ToString) -> Self {
        Self::Internal { what: what.into(), message: message.to_string() }
    }

    /// Sorts an error of a store by what can be done about it.
    pub(crate) fn store(action: &'static str, location: &str, source: object_store::Error) -> Self {
        use object_store::Error as E;
        let location = location.to_owned();
        match source {
            E::NotFound { .. } => Self::NotFound { location },
            E::PermissionDenied { source, .. } | E::Unauthenticated { source, .. } => Self::denied(location, source.to_string()),
            source => Self::Store { action, location, source },
        }
    }

    /// True where the same call may succeed later: the store failed, not the job or the data.
    pub fn retryable(&self) -> bool {
        use object_store::Error as E;
        matches!(self, Self::Store { source: E::Generic { .. } | E::JoinError { .. }, .. } | Self::Spill { .. })
    }

    /// True where the job itself must be changed.
    pub fn is_job(&self) -> bool {
        matches!(self, Self::Job(_))
    }
}
