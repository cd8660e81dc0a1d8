//! What an executor does with a task beside running it: it can be cancelled while it runs, a lost neighbour's rows are
//! waited for rather than reported, and what it wrote for later stages is copied to where it outlives this process.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use ballista_core::JobId;
use ballista_core::client_pool::BallistaClientPool;
use ballista_core::error::BallistaError;
use ballista_core::serde::protobuf::{RuntimeStatsReport, ShuffleWritePartition, TaskColumnStats, WindowStateReport};
use ballista_executor::execution_engine::{DefaultExecutionEngine, ExecutionEngine, QueryStageExecutor};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::prelude::SessionConfig;
use tokio_util::sync::CancellationToken;

use super::config::QuerySettings;
use super::depot::Depot;
use super::neighbours::Neighbours;
use super::polite::polite;
use crate::error::DataError;

/// Pause before a task is given back because rows of another worker could not be read: whoever watches the workers
/// needs some time to see that one is gone.
const PATIENCE: Duration = Duration::from_millis(700);

/// Queries that this process works on, and how to stop them.
#[derive(Debug, Clone, Default)]
pub(super) struct Running {
    tokens: Arc<Mutex<HashMap<String, CancellationToken>>>,
}

impl Running {
    fn token(&self, job: &str) -> CancellationToken {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.entry(job.to_owned()).or_default().clone()
    }

    /// Stops all tasks of a query, and those that are still to come.
    pub(super) fn cancel(&self, job: &str) {
        self.token(job).cancel();
    }

    /// Stops everything and forgets it.
    pub(super) fn cancel_all(&self) {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.drain().for_each(|(_, token)| token.cancel());
    }

    /// Forgets a query that has ended.
    pub(super) fn forget(&self, job: &str) {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).remove(job);
    }
}

/// The engine's own way to run tasks, wrapped.
pub(super) struct Engine {
    inner: DefaultExecutionEngine,
    running: Running,
    depot: Depot,
    neighbours: Neighbours,
}

impl Engine {
    pub(super) fn new(pool: Arc<dyn BallistaClientPool>, running: Running, depot: Depot, neighbours: Neighbours) -> Self {
        Self { inner: DefaultExecutionEngine::with_client_pool(pool), running, depot, neighbours }
    }
}

impl ExecutionEngine for Engine {
    fn create_query_stage_exec(
        &self,
        job_id: JobId,
        stage_id: usize,
        task_id: usize,
        global_output_partition_ids: Vec<usize>,
        plan: Arc<dyn ExecutionPlan>,
        work_dir: &str,
        config: &SessionConfig,
    ) -> Result<Arc<dyn QueryStageExecutor>> {
        let copies = config.options().extensions.get::<QuerySettings>().map(|s| s.copies.clone()).filter(|c| !c.is_empty());
        if let Some(copies) = &copies {
            self.depot.keeps(job_id.as_str(), copies);
        }
        let (token, job) = (self.running.token(job_id.as_str()), job_id.as_str().to_owned());
        self.neighbours.link(&plan)?;
        let plan = polite(plan, &token)?;
        let folder = Path::new(work_dir).join(&job).join(stage_id.to_string());
        let inner =
            self.inner.create_query_stage_exec(job_id, stage_id, task_id, global_output_partition_ids, plan, work_dir, config)?;
        let depot = copies.is_some().then(|| self.depot.clone());
        Ok(Arc::new(Stage { inner, token, depot, job, stage_id, folder }))
    }
}

/// One task.
struct Stage {
    inner: Arc<dyn QueryStageExecutor>,
    token: CancellationToken,
    depot: Option<Depot>,
    job: String,
    stage_id: usize,
    /// Where the task's stage writes on this machine.
    folder: PathBuf,
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.inner, f)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.inner, f)
    }
}

#[async_trait]
impl QueryStageExecutor for Stage {
    async fn execute_query_stage(&self, task_id: usize, context: Arc<TaskContext>) -> Result<Vec<ShuffleWritePartition>> {
        tracing::debug!(query = self.job, stage = self.stage_id, task = task_id, "query task started");
        let written = tokio::select! {
            written = self.inner.execute_query_stage(task_id, context) => written,
            () = self.token.cancelled() => return Err(external(BallistaError::Cancelled)),
        };
        let written = match written {
            Ok(written) => written,
            Err(error) => return Err(self.sorted(error).await),
        };
        if let Some(depot) = &self.depot {
            for file in files(&self.folder, &written) {
                depot.put(&self.job, self.stage_id, &self.folder, &file).await.map_err(again)?;
            }
        }
        tracing::debug!(query = self.job, stage = self.stage_id, task = task_id, "query task done");
        Ok(written)
    }

    fn collect_plan_metrics(&self) -> Vec<MetricsSet> {
        self.inner.collect_plan_metrics()
    }

    fn collect_runtime_stats_reports(&self) -> Vec<RuntimeStatsReport> {
        self.inner.collect_runtime_stats_reports()
    }

    fn collect_window_state_reports(&self) -> Result<Vec<WindowStateReport>> {
        self.inner.collect_window_state_reports()
    }

    fn collect_column_stats(&self) -> Vec<TaskColumnStats> {
        self.inner.collect_column_stats()
    }
}

impl Stage {
    /// What goes away by itself becomes an error that the scheduler tries again after. It never hears that rows could
    /// not be fetched: it would roll the stage back, and release 55.0.0 then returns rows of the first attempt twice.
    async fn sorted(&self, error: DataFusionError) -> DataFusionError {
        if passes(&error) {
            tokio::time::sleep(PATIENCE).await;
            return DataFusionError::IoError(std::io::Error::other(error.strip_backtrace()));
        }
        error
    }
}

/// Whether the same task may work later.
fn passes(error: &DataFusionError) -> bool {
    std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |e| e.source()).any(|e| {
        let fetch = |e: &BallistaError| {
            matches!(
                e,
                BallistaError::FetchFailed(..)
                    | BallistaError::GrpcError(_)
                    | BallistaError::GrpcActionError(_)
                    | BallistaError::GrpcConnectionError(_)
                    | BallistaError::TonicError(_)
            )
        };
        e.downcast_ref::<BallistaError>().is_some_and(fetch)
            || e.downcast_ref::<DataError>().is_some_and(DataError::retryable)
            || matches!(e.downcast_ref(), Some(object_store::Error::Generic { .. }))
    }) || error.to_string().contains("FetchFailed")
}

fn external(error: BallistaError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

fn again(error: DataError) -> DataFusionError {
    match error.retryable() {
        true => DataFusionError::IoError(std::io::Error::other(error)),
        false => DataFusionError::External(Box::new(error)),
    }
}

/// Files that hold what a task wrote, below its stage's folder.
fn files(folder: &Path, written: &[ShuffleWritePartition]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for partition in written {
        let data = match (partition.is_sort_shuffle, partition.file_id) {
            (true, Some(file)) => folder.join(file.to_string()).join("data.arrow"),
            (false, Some(file)) => folder.join(partition.partition_id.to_string()).join(format!("data-{file}.arrow")),
            (_, None) => folder.join(partition.partition_id.to_string()).join("data.arrow"),
        };
        for file in [data.with_extension("arrow.index"), data] {
            if !found.contains(&file) && file.exists() {
                found.push(file);
            }
        }
    }
    found
}
