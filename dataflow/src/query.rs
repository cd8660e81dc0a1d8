//! Questions in SQL that are answered at once, as `sheaf sql` asks them: what is asked, how far it has come, and the
//! rows that come back. Who computes is behind [`RunQueries`]: this process ([`local`]) or a cluster.

pub(crate) mod asked;
mod failure;
pub mod local;
pub mod wire;

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::{Stream, TryStreamExt};
use tokio::sync::watch;

pub use self::failure::JOB_PATH;
pub(crate) use self::failure::failure;
use crate::error::DataError;
use crate::job::{Param, Table};

/// A question.
#[derive(Debug, Clone, Default)]
pub struct QueryRequest {
    /// One SELECT; errors name it as [`JOB_PATH`].
    pub sql: String,
    /// Tables that it sees.
    pub tables: Vec<Table>,
    /// Values of `$name`.
    pub params: BTreeMap<String, Param>,
    /// What `now()` means, nanoseconds since 1970 UTC.
    pub now_ns: i64,
    /// The asker takes no more rows than this, so that more need not be computed. Which ones they are is open unless
    /// the question orders them.
    pub stop_after: Option<u64>,
    /// Partitions of exchanges; absent: as fits whoever computes.
    pub partitions: Option<usize>,
}

/// How far an answer has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueryProgress {
    /// Stages of the plan.
    pub stages: u32,
    /// Stages that are done.
    pub stages_done: u32,
    /// Tasks of all stages that are known.
    pub tasks: u32,
    /// Tasks that are done.
    pub tasks_done: u32,
}

/// The rows of an answer as they come.
pub type Rows = Pin<Box<dyn Stream<Item = Result<RecordBatch, DataError>> + Send>>;

/// An answer under way. Dropping it stops the work.
pub struct QueryRows {
    /// Columns of all batches.
    pub schema: SchemaRef,
    /// The rows.
    pub rows: Rows,
    /// What deserves attention.
    pub warnings: Vec<String>,
}

impl QueryRows {
    /// The next rows; none at the end.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, DataError> {
        self.rows.try_next().await
    }
}

impl fmt::Debug for QueryRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueryRows").field("schema", &self.schema).field("warnings", &self.warnings).finish_non_exhaustive()
    }
}

/// Somebody who answers questions.
#[async_trait]
pub trait RunQueries: Send + Sync {
    /// Plans and starts; errors of the question come before any row. Progress is told until the rows end.
    async fn run(&self, request: QueryRequest, progress: watch::Sender<QueryProgress>) -> Result<QueryRows, DataError>;

    /// How it would be answered, for people. No row is read.
    async fn explain(&self, request: QueryRequest) -> Result<String, DataError>;
}
