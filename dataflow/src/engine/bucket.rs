//! Tells rows apart by bucket: the top bits of the canonical hash that orders materialised rows. What the engine
//! exchanges on is this number alone, so neither its own hash nor its partitioning shapes the data. Rows of buckets
//! that an earlier attempt committed are left out.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::{Stream, StreamExt};
use serde::{Deserialize, Serialize};

use super::unary::{unary, unknown};
use crate::queries::Placing;
use crate::sink;

/// Name of the column that holds the bucket.
pub(super) const BUCKET: &str = "__bucket";

/// How rows fall into buckets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Buckets {
    /// What says where rows stand.
    pub(super) by: Placing,
    /// Bits of the hash that say the bucket, 0 to 16.
    pub(super) bits: u32,
    /// Buckets that are not wanted, ascending.
    pub(super) done: Vec<u32>,
}

impl Buckets {
    /// Canonical rows of a batch that are wanted, and the bucket of each.
    fn assign(&self, batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
        let rows = sink::canonical(batch, &Arc::new(schema.project(&(0..batch.num_columns()).collect::<Vec<_>>())?));
        let rows = rows.map_err(external)?;
        let places = self.by.buckets(&rows).map_err(external)?;
        let bucket = |place: u128| place.checked_shr(128 - self.bits).unwrap_or(0) as u32;
        let buckets: UInt32Array = places.into_iter().map(bucket).collect::<Vec<u32>>().into();
        let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
        let wanted: Option<BooleanArray> =
            (!self.done.is_empty()).then(|| buckets.values().iter().map(|b| Some(self.done.binary_search(b).is_err())).collect());
        columns.push(Arc::new(buckets));
        let all = RecordBatch::try_new(Arc::clone(schema), columns)?;
        Ok(match wanted {
            Some(wanted) => filter_record_batch(&all, &wanted)?,
            None => all,
        })
    }
}

pub(super) fn external(error: impl std::error::Error + Send + Sync + 'static) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// Adds the bucket of each row as a last column.
#[derive(Debug)]
pub(super) struct BucketExec {
    input: Arc<dyn ExecutionPlan>,
    buckets: Buckets,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
}

impl BucketExec {
    pub(super) fn try_new(input: Arc<dyn ExecutionPlan>, buckets: Buckets) -> Result<Self> {
        let mut fields: Vec<Field> = input.schema().fields().iter().map(|f| f.as_ref().clone()).collect();
        if fields.is_empty() {
            return Err(DataFusionError::Plan("the query gives no columns".to_owned()));
        }
        fields.push(Field::new(BUCKET, DataType::UInt32, false));
        let schema = Arc::new(Schema::new(fields));
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            unknown(&input),
            input.properties().emission_type,
            input.properties().boundedness,
        ));
        Ok(Self { input, buckets, schema, properties })
    }

    fn with_input(&self, input: Arc<dyn ExecutionPlan>) -> Result<Self> {
        Self::try_new(input, self.buckets.clone())
    }

    pub(super) fn buckets(&self) -> &Buckets {
        &self.buckets
    }
}

impl DisplayAs for BucketExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "BucketExec: bits={}, key=[{}], done={}",
            self.buckets.bits,
            self.buckets.by.key.join(", "),
            self.buckets.done.len()
        )
    }
}

impl ExecutionPlan for BucketExec {
    unary!();

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        Ok(Box::pin(Assigned { input, buckets: self.buckets.clone(), schema: Arc::clone(&self.schema) }))
    }
}

struct Assigned {
    input: SendableRecordBatchStream,
    buckets: Buckets,
    schema: SchemaRef,
}

impl Stream for Assigned {
    type Item = Result<RecordBatch>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let batch = ready!(this.input.poll_next_unpin(context));
        Poll::Ready(batch.map(|batch| this.buckets.assign(&batch?, &this.schema)))
    }
}

impl RecordBatchStream for Assigned {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}
