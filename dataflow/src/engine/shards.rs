//! The shard writer: a node that takes rows with their buckets and writes each bucket as one Parquet file in canonical
//! order. A bucket is committed by the note about it, written after its file; both have names and contents that depend
//! on the rows alone, so an attempt that is repeated, or was given up by all but itself, changes nothing.

use std::fmt;
use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::EmissionType;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::StreamExt;
use serde::{Deserialize, Serialize};

use super::bucket::external;
use super::notes::{Note, Notes};
use super::runs::Runs;
use super::unary::{unary, unknown};
use crate::queries::Placing;
use crate::sink::Sorted;
use crate::stores::Stores;

/// What the writer needs to know beside the rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Writing {
    /// Folder of the job's prepared rows.
    pub(super) area: String,
    /// What says where rows stand.
    pub(super) by: Placing,
    /// Rows of a shard.
    pub(super) shard_rows: u32,
}

/// Writes buckets; gives one row for each that it wrote.
#[derive(Debug)]
pub(super) struct ShardsExec {
    input: Arc<dyn ExecutionPlan>,
    writing: Writing,
    properties: Arc<PlanProperties>,
}

impl ShardsExec {
    pub(super) fn new(input: Arc<dyn ExecutionPlan>, writing: Writing) -> Self {
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(written_schema()),
            unknown(&input),
            EmissionType::Final,
            input.properties().boundedness,
        ));
        Self { input, writing, properties }
    }

    fn with_input(&self, input: Arc<dyn ExecutionPlan>) -> Result<Self> {
        Ok(Self::new(input, self.writing.clone()))
    }

    pub(super) fn writing(&self) -> &Writing {
        &self.writing
    }
}

/// Bucket and rows.
fn written_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("bucket", DataType::UInt32, false), Field::new("rows", DataType::UInt64, false)]))
}

impl DisplayAs for ShardsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShardsExec: area={}", self.writing.area)
    }
}

impl ExecutionPlan for ShardsExec {
    unary!();

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, Arc::clone(&context))?;
        let stores = context.session_config().get_extension::<Stores>();
        let stores =
            stores.ok_or_else(|| DataFusionError::Internal("this process has no stores to write shards to".to_owned()))?;
        let memory = MemoryConsumer::new(format!("shards[{partition}]")).with_can_spill(true).register(context.memory_pool());
        let writer = Writer { stores: Stores::clone(&stores), writing: self.writing.clone(), memory, context };
        let written = futures::stream::once(writer.write(input));
        Ok(Box::pin(RecordBatchStreamAdapter::new(written_schema(), written)))
    }
}

/// One partition being written.
struct Writer {
    stores: Stores,
    writing: Writing,
    memory: MemoryReservation,
    context: Arc<TaskContext>,
}

impl Writer {
    async fn write(self, mut input: SendableRecordBatchStream) -> Result<RecordBatch> {
        let notes = Notes::new(&self.stores, &self.writing.area);
        let done = notes.buckets().await.map_err(external)?;
        let mut runs = Runs::new(input.schema(), self.memory, Arc::clone(&self.context.runtime_env().disk_manager));
        while let Some(batch) = input.next().await {
            runs.add(batch?)?;
        }
        let (mut buckets, mut rows) = (Vec::new(), Vec::new());
        for bucket in runs.buckets()? {
            if done.contains(&bucket) {
                continue;
            }
            let batch = runs.take(bucket)?;
            let note = write_bucket(&self.stores, &self.writing, bucket, batch).await?;
            notes.add(&note).await.map_err(external)?;
            runs.settle();
            buckets.push(bucket);
            rows.push(note.rows());
        }
        Ok(RecordBatch::try_new(written_schema(), vec![Arc::new(UInt32Array::from(buckets)), Arc::new(UInt64Array::from(rows))])?)
    }
}

async fn write_bucket(stores: &Stores, writing: &Writing, bucket: u32, batch: RecordBatch) -> Result<Note> {
    let encoded = Sorted::new(batch, &writing.by).map_err(external)?.encode(writing.shard_rows as usize).map_err(external)?;
    let name = format!("part-{bucket:05}-{:032x}.parquet", encoded.content);
    let location = stores.canonical(&format!("{}/{name}", writing.area)).map_err(external)?;
    let note = Note { bucket, name, bytes: encoded.bytes.len() as u64, groups: encoded.groups };
    stores.put_if_absent(&location, encoded.bytes.into()).await.map_err(external)?;
    Ok(note)
}
