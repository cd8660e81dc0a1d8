//! A question to rows: planned as a cluster's, run by the workers, and read from them as it is asked for. A question that
//! loses a worker before its answer is there starts over.

use std::sync::Arc;

use async_trait::async_trait;
use ballista_core::client_pool::BallistaClientPool;
use ballista_core::serde::scheduler::{PartitionLocation, ShuffleLayout};
use ballista_core::utils::GrpcClientConfig;
use ballista_scheduler::scheduler_server::event::SubmitPlan;
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::prelude::SessionContext;
use futures::{StreamExt, TryStreamExt};
use tokio::sync::{broadcast, watch};

use super::config::{self, Tuning};
use super::prepare::{NO_HASH_JOINS, task_bytes, threads};
use super::relay::Relays;
use super::scheduler::Query;
use super::{Queries, failure};
use crate::error::DataError;
use crate::query::JOB_PATH;
use crate::query::asked::Asked;
use crate::query::{QueryProgress, QueryRequest, QueryRows, Rows, RunQueries};

/// Starts of one question.
const STARTS: usize = 10;
/// Partitions that are read at the same time.
const AHEAD: usize = 4;

#[async_trait]
impl RunQueries for Queries {
    async fn run(&self, request: QueryRequest, progress: watch::Sender<QueryProgress>) -> Result<QueryRows, DataError> {
        let mut hash_joins = true;
        for _ in 0..STARTS {
            match self.attempt(&request, hash_joins, &progress).await {
                Ok(Some(rows)) => return Ok(rows),
                Ok(None) => {}
                Err(DataError::Memory { message, .. }) if hash_joins => {
                    tracing::info!(message, "{NO_HASH_JOINS}");
                    hash_joins = false;
                }
                Err(error) => return Err(error),
            }
        }
        Err(DataError::internal("query", format!("workers were lost in each of {STARTS} tries")))
    }

    async fn explain(&self, request: QueryRequest) -> Result<String, DataError> {
        let context = self.context(&request, true, &mut |_| {}).await?;
        Asked::plan(&context, &self.stores, &request, JOB_PATH).await?.explain(&context.state()).await
    }
}

impl Queries {
    async fn context(
        &self,
        request: &QueryRequest,
        hash_joins: bool,
        report: &mut (impl FnMut(QueryProgress) + Send),
    ) -> Result<SessionContext, DataError> {
        let members = self.workers(report).await;
        let tuning = Tuning {
            partitions: request.partitions.unwrap_or_else(|| threads(&members)),
            task_bytes: task_bytes(&members),
            hash_joins,
            copies: None,
        };
        Ok(SessionContext::new_with_state(config::state(&self.stores, config::of(&tuning), request.now_ns)))
    }

    /// One try; nothing if rows were lost with their worker.
    async fn attempt(
        &self,
        request: &QueryRequest,
        hash_joins: bool,
        progress: &watch::Sender<QueryProgress>,
    ) -> Result<Option<QueryRows>, DataError> {
        let mut report = |now: QueryProgress| _ = progress.send_replace(now);
        let mut losses = self.scheduler.losses();
        let context = self.context(request, hash_joins, &mut report).await?;
        let asked = Asked::plan(&context, &self.stores, request, JOB_PATH).await?;
        let (schema, warnings) = (Arc::new(asked.logical.schema().as_arrow().clone()), asked.warnings(request));
        let physical = asked.physical(&context.state()).await?;
        let mut query = self.scheduler.ask(context, &SubmitPlan::Physical(physical)).await?;
        let Some(locations) = finish(&mut query, &mut losses, &mut report).await? else { return Ok(None) };
        let relays = self.relays.clone();
        let parts = futures::stream::iter(in_order(locations)).map(move |location| {
            let relays = relays.clone();
            async move { fetch(&relays, location).await }
        });
        let rows = parts.buffered(AHEAD).try_flatten();
        let wanted = Arc::clone(&schema);
        let rows: Rows = Box::pin(rows.map(move |batch| {
            // The query and what it holds on workers lives as long as its rows are read.
            let _held = &query;
            arrow::array::RecordBatch::try_new(Arc::clone(&wanted), batch?.columns().to_vec())
                .map_err(|e| DataError::internal("rows of an answer", e))
        }));
        Ok(Some(QueryRows { schema, rows, warnings }))
    }
}

/// Waits for the end of a query; nothing if rows of it were lost before. What a lost worker was only running is run again.
async fn finish(
    query: &mut Query,
    losses: &mut broadcast::Receiver<String>,
    report: &mut (impl FnMut(QueryProgress) + Send),
) -> Result<Option<Vec<PartitionLocation>>, DataError> {
    loop {
        let lost = tokio::select! {
            done = query.wait(&mut *report) => return done.map(Some),
            lost = losses.recv() => lost,
        };
        match lost {
            Ok(worker) if !query.has_rows_of(&worker).await => {}
            // Nobody knows who else was lost.
            Ok(_) | Err(_) => return Ok(None),
        }
    }
}

/// By partition, and by task where several wrote one.
fn in_order(mut locations: Vec<PartitionLocation>) -> Vec<PartitionLocation> {
    locations.sort_by_key(|location| (location.partition_id.partition_id, location.map_partition_id));
    locations
}

async fn fetch(
    relays: &Relays,
    location: PartitionLocation,
) -> Result<impl futures::Stream<Item = Result<arrow::array::RecordBatch, DataError>> + use<>, DataError> {
    let lost = |e: String| DataError::input("query", format!("rows of the answer were lost with their worker; ask again ({e})"));
    let executor = &location.executor_meta;
    let client = relays.acquire(&executor.host, executor.port, &GrpcClientConfig::default(), None).await;
    let mut client = client.map_err(|e| lost(e.to_string()))?;
    let layout = if location.is_sort_shuffle { ShuffleLayout::Sort } else { ShuffleLayout::Passthrough };
    let rows: Result<SendableRecordBatchStream, _> =
        client.fetch_partition(&executor.id, &location.partition_id, location.file_id, layout, false).await;
    Ok(rows.map_err(|e| lost(e.to_string()))?.map_err(|e| failure(&e.to_string())))
}
