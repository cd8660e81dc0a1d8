//! A job's query to canonical shards: planned over the pinned tables, exchanged on our buckets, written by our node. A
//! bucket that is committed is never computed again, whoever starts the query over.

use std::sync::Arc;
use std::time::Duration;

use ballista_scheduler::scheduler_server::event::SubmitPlan;
use datafusion::common::DataFusionError;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{ExecutionPlan, Partitioning};
use datafusion::prelude::SessionContext;

use super::bucket::{BUCKET, BucketExec, Buckets};
use super::config::{self, Tuning};
use super::notes::{Note, Notes};
use super::shards::{ShardsExec, Writing};
use super::{Member, Queries};
use crate::dataset::{Dataset, Source};
use crate::error::DataError;
use crate::pin::PinnedFile;
use crate::plan::Planned;
use crate::queries::Placing;
use crate::query::QueryProgress;
use crate::sink::Written;

/// Bytes of the snapshot that one bucket takes.
const BUCKET_BYTES: u64 = 16 << 20;
/// Fewest buckets, so that several workers can write.
const FEWEST: u64 = 8;
/// Most buckets.
const MOST: u64 = 4096;
/// What is said before a query is planned again.
pub(super) const NO_HASH_JOINS: &str = "a query needs more memory than was estimated; it is run again with joins that sort";
/// What a query may take of a worker's memory: half.
const QUERY_SHARE: u64 = 2;

/// How a job's query is run.
#[derive(Debug, Clone)]
pub struct Preparing {
    /// Folder of the prepared rows.
    pub area: String,
    /// Folder for copies of exchanged rows, removed when the query has ended.
    pub copies: String,
    /// Partitions of exchanges; absent: as many as tasks can run at the same time.
    pub partitions: Option<usize>,
}

impl Queries {
    /// Computes the rows of a planned query and writes them; gives the dataset that reads them. Without a worker it waits
    /// for one: `report` hears so as no task at all.
    pub async fn prepare(
        &self,
        planned: &Planned,
        preparing: &Preparing,
        mut report: impl FnMut(QueryProgress) + Send,
    ) -> Result<Dataset, DataError> {
        let notes = Notes::new(&self.stores, &preparing.area);
        let (mut again, mut hash_joins) = (true, true);
        loop {
            let done = notes.all().await?;
            let written = match self.run(planned, preparing, &done, hash_joins, &mut report).await {
                Err(DataError::Memory { message, .. }) if hash_joins => {
                    tracing::info!(message, "{NO_HASH_JOINS}");
                    hash_joins = false;
                    continue;
                }
                written => written?,
            };
            let all = notes.all().await?;
            let rows = |notes: &[Note]| notes.iter().map(Note::rows).sum::<u64>();
            // What the writers were given, and what was there before, is what must be there now.
            if rows(&all) == rows(&done) + written {
                let dataset = self.dataset(&planned.dataset, preparing, &all).await?;
                self.stores.delete_folder(&preparing.copies).await?;
                return Ok(dataset);
            }
            let message = format!("{} rows were committed, {} were expected", rows(&all), rows(&done) + written);
            if !std::mem::take(&mut again) {
                return Err(DataError::internal("prepared rows", message));
            }
            tracing::warn!(message, "the prepared rows are not complete; they are computed again from the start");
            notes.clear().await?;
        }
    }

    /// Runs the query for the buckets that are not there yet; gives the rows that the writers were given.
    async fn run(
        &self,
        planned: &Planned,
        preparing: &Preparing,
        done: &[Note],
        hash_joins: bool,
        report: &mut (impl FnMut(QueryProgress) + Send),
    ) -> Result<u64, DataError> {
        let members = self.workers(report).await;
        let tuning = Tuning {
            partitions: preparing.partitions.unwrap_or_else(|| threads(&members)),
            task_bytes: task_bytes(&members),
            hash_joins,
            copies: Some(preparing.copies.clone()),
        };
        let general = planned.general.as_ref().ok_or_else(|| DataError::internal("prepare", "no query was planned"))?;
        let state = config::state(&self.stores, config::of(&tuning), general.now_ns());
        let context = SessionContext::new_with_state(state);
        let logical = general.plan(&context, &self.stores, &planned.dataset).await?;
        let rows = context.state().create_physical_plan(&logical).await.map_err(|e| crate::query::failure(&e))?;
        let plan = writing(rows, &planned.dataset, preparing, done, tuning.partitions).map_err(|e| crate::query::failure(&e))?;
        let mut query = self.scheduler.submit("prepare", context, &SubmitPlan::Physical(plan)).await?;
        query.wait(report).await?;
        query.exchanged().await
    }

    /// The workers, as soon as there is one.
    pub(super) async fn workers(&self, report: &mut (impl FnMut(QueryProgress) + Send)) -> Vec<Member> {
        let mut changes = self.scheduler.changes();
        loop {
            let members = self.scheduler.members().await;
            if !members.is_empty() {
                return members;
            }
            report(QueryProgress::default());
            // The scheduler lives as long as this does; the time is for whoever watches.
            drop(tokio::time::timeout(Duration::from_secs(1), changes.changed()).await);
        }
    }

    async fn dataset(&self, from: &Dataset, preparing: &Preparing, notes: &[Note]) -> Result<Dataset, DataError> {
        let mut written = Written::new(from, &preparing.area);
        for note in notes.iter().filter(|note| note.rows() > 0) {
            let location = written.location(&self.stores, &note.name)?;
            let pinned = PinnedFile::pin(&self.stores, &location, note.name.clone()).await?;
            if pinned.size != note.bytes {
                let message = format!("it has {} bytes, its note says {}", pinned.size, note.bytes);
                return Err(DataError::internal(location, message));
            }
            written.file(pinned, &note.groups);
        }
        written.dataset.check_rows()?;
        Ok(written.dataset)
    }
}

/// Tasks that workers can run at the same time.
pub(super) fn threads(members: &[Member]) -> usize {
    members.iter().map(|member| member.threads as usize).sum::<usize>().max(1)
}

/// Memory of one task on the smallest worker, bytes.
pub(super) fn task_bytes(members: &[Member]) -> usize {
    let share = |member: &Member| member.memory / QUERY_SHARE / u64::from(member.threads.max(1));
    members.iter().map(share).min().unwrap_or_default().max(1 << 20) as usize
}

/// Bits that say the bucket; they depend on the snapshot alone.
fn bits(dataset: &Dataset) -> u32 {
    let Source::Query(tables) = &dataset.source else { return 0 };
    let bytes = tables.iter().flat_map(|table| &table.files).fold(0, |bytes, file| u64::saturating_add(bytes, file.size));
    bytes.div_ceil(BUCKET_BYTES).clamp(FEWEST, MOST).next_power_of_two().trailing_zeros()
}

fn writing(
    rows: Arc<dyn ExecutionPlan>,
    dataset: &Dataset,
    preparing: &Preparing,
    done: &[Note],
    partitions: usize,
) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
    let bits = bits(dataset);
    let buckets = Buckets { by: Placing::of(dataset), bits, done: done.iter().map(|note| note.bucket).collect() };
    let bucketed: Arc<dyn ExecutionPlan> = Arc::new(BucketExec::try_new(rows, buckets)?);
    let bucket = Column::new_with_schema(BUCKET, &bucketed.schema())?;
    let spread = Partitioning::Hash(vec![Arc::new(bucket)], partitions.min(1 << bits));
    let exchanged = Arc::new(RepartitionExec::try_new(bucketed, spread)?);
    let writing = Writing { area: preparing.area.clone(), by: Placing::of(dataset), shard_rows: dataset.shard_rows };
    Ok(Arc::new(ShardsExec::new(exchanged, writing)))
}
