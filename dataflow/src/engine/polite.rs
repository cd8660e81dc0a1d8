//! Plans that stop when they are told to. The engine's writers run a plan in tasks of their own, which nobody can end
//! from outside, and a join that makes many rows of few may compute for long before it reads again: so the plan itself
//! looks whether it is still wanted, and gives way now and then. Put around nodes when a task starts, never sent anywhere.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use ballista_core::error::BallistaError;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec};
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions,
};
use futures::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;

use super::unary::unary;

/// Time after which others get their turn.
const TURN: Duration = Duration::from_millis(50);

/// A writer's plan that stops with a token: at its sources, its joins and its end.
pub(super) fn polite(writer: Arc<dyn ExecutionPlan>, token: &CancellationToken) -> Result<Arc<dyn ExecutionPlan>> {
    let around = |input| Arc::new(PoliteExec { input, token: token.clone() }) as Arc<dyn ExecutionPlan>;
    let wrapped = writer.transform_up(|node| {
        let wanted = node.children().is_empty()
            || node.is::<CrossJoinExec>()
            || node.is::<NestedLoopJoinExec>()
            || node.is::<HashJoinExec>()
            || node.is::<SortMergeJoinExec>();
        Ok(match wanted {
            true => Transformed::yes(around(node)),
            false => Transformed::no(node),
        })
    })?;
    let writer = wrapped.data;
    let ends: Vec<_> = writer.children().into_iter().map(|end| around(Arc::clone(end))).collect();
    writer.replace_children(ends, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
}

/// Passes on what its input gives, and gives way between batches.
#[derive(Debug)]
struct PoliteExec {
    input: Arc<dyn ExecutionPlan>,
    token: CancellationToken,
}

impl PoliteExec {
    fn with_input(&self, input: Arc<dyn ExecutionPlan>) -> Result<Self> {
        Ok(Self { input, token: self.token.clone() })
    }
}

impl DisplayAs for PoliteExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PoliteExec")
    }
}

impl ExecutionPlan for PoliteExec {
    unary!();

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        Ok(Box::pin(Turns { input, token: self.token.clone(), since: Instant::now() }))
    }
}

struct Turns {
    input: SendableRecordBatchStream,
    token: CancellationToken,
    /// When others last had their turn.
    since: Instant,
}

impl Stream for Turns {
    type Item = Result<RecordBatch>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.token.is_cancelled() {
            return Poll::Ready(Some(Err(DataFusionError::External(Box::new(BallistaError::Cancelled)))));
        }
        if this.since.elapsed() >= TURN {
            this.since = Instant::now();
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let polled = this.input.poll_next_unpin(context);
        if polled.is_pending() {
            this.since = Instant::now();
        }
        polled
    }
}

impl RecordBatchStream for Turns {
    fn schema(&self) -> SchemaRef {
        self.input.schema()
    }
}
