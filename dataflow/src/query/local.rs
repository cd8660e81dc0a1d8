//! Queries in this process alone: pinned tables scanned, planned and computed by one session. What a cluster answers is
//! held against it.

use std::num::NonZeroUsize;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::SessionContext;
use futures::{StreamExt, TryStreamExt};
use tokio::sync::watch;

use super::asked::Asked;
use super::{JOB_PATH, QueryProgress, QueryRequest, QueryRows, Rows, RunQueries, failure};
use crate::error::DataError;
use crate::job::{Job, JobError};
use crate::rowwise;
use crate::sql;
use crate::stores::Stores;

/// How queries run here.
#[derive(Debug, Clone, Copy)]
pub struct LocalOptions {
    /// Parts that a plan is cut into.
    pub partitions: NonZeroUsize,
    /// Bytes that all queries may hold together before they write to the temporary folder; absent: no bound.
    pub memory_bytes: Option<usize>,
}

impl Default for LocalOptions {
    /// A part for each of this machine's threads, no bound.
    fn default() -> Self {
        let one = NonZeroUsize::MIN;
        Self { partitions: std::thread::available_parallelism().unwrap_or(one), memory_bytes: None }
    }
}

/// Answers questions in this process.
#[derive(Debug, Clone)]
pub struct Local {
    stores: Stores,
    partitions: NonZeroUsize,
    pool: Option<Arc<FairSpillPool>>,
}

impl Local {
    /// Over what these stores allow.
    pub fn new(stores: Stores, options: LocalOptions) -> Self {
        let pool = options.memory_bytes.map(|bytes| Arc::new(FairSpillPool::new(bytes)));
        Self { stores, partitions: options.partitions, pool }
    }

    /// A session of its own for each question: its clock is the question's.
    fn session(&self, now_ns: i64, partitions: Option<usize>) -> Result<SessionContext, DataError> {
        let state = self.stores.session(now_ns).state();
        let config = state
            .config()
            .clone()
            .with_target_partitions(partitions.unwrap_or(self.partitions.get()))
            .with_repartition_file_scans(true);
        let mut builder = SessionStateBuilder::new_from_existing(state.clone()).with_config(config);
        if let Some(pool) = &self.pool {
            let runtime = RuntimeEnvBuilder::from_runtime_env(state.runtime_env()).with_memory_pool(Arc::clone(pool) as _);
            builder = builder.with_runtime_env(runtime.build_arc().map_err(|e| DataError::internal("query session", e))?);
        }
        Ok(SessionContext::new_with_state(builder.build()))
    }

    async fn plan(&self, request: &QueryRequest, path: &str) -> Result<(SessionContext, Asked), DataError> {
        let session = self.session(request.now_ns, request.partitions)?;
        let asked = Asked::plan(&session, &self.stores, request, path).await?;
        Ok((session, asked))
    }

    async fn start(
        &self,
        request: &QueryRequest,
        path: &str,
        progress: watch::Sender<QueryProgress>,
    ) -> Result<QueryRows, DataError> {
        let (session, asked) = self.plan(request, path).await?;
        let physical = asked.physical(&session.state()).await?;
        let tasks = u32::try_from(physical.properties().output_partitioning().partition_count()).unwrap_or(u32::MAX);
        progress.send_replace(QueryProgress { stages: 1, stages_done: 0, tasks, tasks_done: 0 });
        let schema = physical.schema();
        let rows = execute_stream(physical, session.task_ctx()).map_err(|e| failure(&e))?;
        // A decoder that panics on what a stranger wrote has met a broken file.
        let rows = AssertUnwindSafe(rows.map_err(|e| failure(&e))).catch_unwind().map(|row| match row {
            Ok(row) => row,
            Err(_) => Err(DataError::input("query", "a file cannot be decoded")),
        });
        let done = futures::stream::once(async move {
            progress.send_replace(QueryProgress { stages: 1, stages_done: 1, tasks, tasks_done: tasks });
            None
        });
        let rows: Rows = Box::pin(rows.map(Some).chain(done).filter_map(futures::future::ready));
        Ok(QueryRows { schema, rows, warnings: asked.warnings(request) })
    }

    /// The first prepared rows of a job, absent: all, with the types that prepared rows have; errors name places in the
    /// job file.
    pub async fn prepared(&self, job: &Job, now_ns: i64, rows: Option<u64>) -> Result<QueryRows, DataError> {
        let Some(last) = job.tables.last() else { return Err(JobError::at("tables", "the job has no tables").into()) };
        let (path, sql) = match &job.prepare {
            Some(text) => ("prepare".to_owned(), text.clone()),
            None => (format!("tables.{}", last.name), sql::whole_table(&last.name)),
        };
        let (tables, params) = (job.tables.clone(), job.params.clone());
        let request = QueryRequest { sql, tables, params, now_ns, stop_after: rows, partitions: None };
        let (progress, _) = watch::channel(QueryProgress::default());
        let found = self.start(&request, &path, progress).await?;
        let schema = rowwise::prepared_schema(&found.schema, &path)?;
        let to = Arc::clone(&schema);
        let rows = found.rows.map(move |batch| rowwise::as_prepared(&batch?, &to).map_err(|e| failure(&e)));
        Ok(QueryRows { schema, rows: Box::pin(rows), warnings: found.warnings })
    }
}

#[async_trait]
impl RunQueries for Local {
    async fn run(&self, request: QueryRequest, progress: watch::Sender<QueryProgress>) -> Result<QueryRows, DataError> {
        self.start(&request, JOB_PATH, progress).await
    }

    async fn explain(&self, request: QueryRequest) -> Result<String, DataError> {
        let (session, asked) = self.plan(&request, JOB_PATH).await?;
        asked.explain(&session.state()).await
    }
}
