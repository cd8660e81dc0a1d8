//! Errors of a query engine, sorted by what can be done about them.

use datafusion::common::DataFusionError;

use crate::error::DataError;
use crate::job::JobError;
use crate::sql;

/// Where errors say that the statement is wrong.
pub const JOB_PATH: &str = "sql";

/// How [`DataError::InputChanged`] begins: engines hand errors on as text.
const CHANGED: &str = "input changed: ";

/// An error of planning or running a query as ours.
pub(crate) fn failure(error: &DataFusionError) -> DataError {
    let text = error.strip_backtrace();
    if let Some((_, file)) = text.split_once(CHANGED) {
        return DataError::InputChanged { file: file.lines().next().unwrap_or(file).to_owned() };
    }
    let root = error.find_root();
    if let DataFusionError::External(inner) = root
        && let Some(job) = inner.downcast_ref::<JobError>()
    {
        return job.clone().into();
    }
    let message = sql::message(error);
    match root {
        DataFusionError::Plan(_)
        | DataFusionError::NotImplemented(_)
        | DataFusionError::SchemaError(..)
        | DataFusionError::SQL(..) => JobError::at(JOB_PATH, message).into(),
        DataFusionError::ResourcesExhausted(_) => {
            DataError::input("query", format!("it needs more memory than it may have: {message}"))
        }
        DataFusionError::ObjectStore(_) | DataFusionError::IoError(_) | DataFusionError::Internal(_) => {
            DataError::internal("query", message)
        }
        _ => DataError::input("query", message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_sorted_by_what_helps() {
        let changed = DataFusionError::Execution("Failed to fetch: input changed: /a b.parquet\nmore".into());
        assert!(matches!(failure(&changed), DataError::InputChanged { file } if file == "/a b.parquet"));
        let job = DataFusionError::External(Box::new(JobError::at("tables.t", "bad").hint("help")));
        assert_eq!(failure(&job.context("somewhere")).to_string(), "tables.t: bad\n  hint: help");
        assert_eq!(failure(&DataFusionError::Plan("Bad thing".into())).to_string(), "sql: bad thing");
        let full = failure(&DataFusionError::ResourcesExhausted("no room".into()));
        assert!(full.to_string().contains("needs more memory than it may have: "), "{full}");
        assert!(!failure(&DataFusionError::Execution("Divide by zero".into())).is_job());
    }
}
