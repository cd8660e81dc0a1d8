//! How our nodes travel in plans: a line of JSON behind a mark of ours; everything else is the engine's own.

use std::sync::Arc;

use ballista_core::serde::BallistaPhysicalExtensionCodec;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF, WindowUDF};
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalProtoConverterExtension};
use serde::{Deserialize, Serialize};

use super::bucket::{BucketExec, Buckets};
use super::shards::{ShardsExec, Writing};

/// What an encoded node of ours begins with; no protobuf message begins so.
const MARK: &[u8] = b"\xff\xffsheaf:";

/// A node of ours, without its input.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Node {
    Bucket(Buckets),
    Shards(Writing),
}

/// Wraps the engine's codec.
#[derive(Debug, Default)]
pub(super) struct Codec {
    inner: BallistaPhysicalExtensionCodec,
}

impl PhysicalExtensionCodec for Codec {
    fn try_decode(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        ctx: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(node) = buf.strip_prefix(MARK) else { return self.inner.try_decode(buf, inputs, ctx, converter) };
        let node: Node = serde_json::from_slice(node).map_err(|e| DataFusionError::External(Box::new(e)))?;
        let [input] = inputs else {
            return Err(DataFusionError::Internal(format!("a node of ours came with {} inputs", inputs.len())));
        };
        let input = Arc::clone(input);
        Ok(match node {
            Node::Bucket(buckets) => Arc::new(BucketExec::try_new(input, buckets)?),
            Node::Shards(writing) => Arc::new(ShardsExec::new(input, writing)),
        })
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        let ours = if let Some(bucket) = node.downcast_ref::<BucketExec>() {
            Node::Bucket(bucket.buckets().clone())
        } else if let Some(shards) = node.downcast_ref::<ShardsExec>() {
            Node::Shards(shards.writing().clone())
        } else {
            return self.inner.try_encode(node, buf, converter);
        };
        buf.extend_from_slice(MARK);
        serde_json::to_writer(buf, &ours).map_err(|e| DataFusionError::External(Box::new(e)))
    }

    fn try_decode_udf(&self, name: &str, buf: &[u8]) -> Result<Arc<ScalarUDF>> {
        self.inner.try_decode_udf(name, buf)
    }

    fn try_encode_udf(&self, node: &ScalarUDF, buf: &mut Vec<u8>) -> Result<()> {
        self.inner.try_encode_udf(node, buf)
    }

    fn try_decode_udaf(&self, name: &str, buf: &[u8]) -> Result<Arc<AggregateUDF>> {
        self.inner.try_decode_udaf(name, buf)
    }

    fn try_encode_udaf(&self, node: &AggregateUDF, buf: &mut Vec<u8>) -> Result<()> {
        self.inner.try_encode_udaf(node, buf)
    }

    fn try_decode_udwf(&self, name: &str, buf: &[u8]) -> Result<Arc<WindowUDF>> {
        self.inner.try_decode_udwf(name, buf)
    }

    fn try_encode_udwf(&self, node: &WindowUDF, buf: &mut Vec<u8>) -> Result<()> {
        self.inner.try_encode_udwf(node, buf)
    }
}
