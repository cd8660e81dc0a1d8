//! Sending blocks: apart from the control stream, in messages of bounded size.

use bytes::Bytes;
use sheaf_cluster::id::{Stage, Token};
use sheaf_learn::tree::Block;
use sheaf_proto::v1::{self, worker_service_client::WorkerServiceClient};

use crate::metrics::Metrics;
use crate::stage::Answer;

/// Bytes of blocks in one message; a single larger block goes alone.
const BATCH_BYTES: usize = 32 << 20;

/// Names what the blocks belong to.
pub struct Address {
    /// The sender.
    pub worker: u64,
    /// Stage.
    pub stage: Stage,
    /// Step of the stage.
    pub step: u64,
    /// The lease that they were computed under.
    pub token: Token,
}

/// Sends all blocks of an answer; the time spent goes with the first message.
pub async fn push<T>(
    client: &mut WorkerServiceClient<T>,
    address: &Address,
    answer: Answer,
    metrics: &Metrics,
) -> Result<(), tonic::Status>
where
    T: tonic::client::GrpcService<tonic::body::Body>,
    T::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    T::ResponseBody: tonic::codegen::Body<Data = Bytes> + Send + 'static,
    <T::ResponseBody as tonic::codegen::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    let mut spent = Some(v1::Spent {
        read_ns: answer.read_ns,
        compute_ns: answer.compute_ns,
        merge_ns: answer.merge_ns,
        rows: answer.rows,
        bytes_read: answer.bytes_read,
        fetch_ns: answer.fetch_ns,
    });
    // The blocks' memory is counted until the last of them is sent.
    let Answer { blocks, grant: _grant, .. } = answer;
    for blocks in batches(blocks) {
        let (count, bytes) = (blocks.len(), blocks.iter().map(|block| block.value.len()).sum());
        let request = v1::PushBlocksRequest {
            worker: address.worker,
            stage: Some((&address.stage).into()),
            step: address.step,
            token: Some(address.token.into()),
            blocks,
            spent: spent.take(),
        };
        // Before the answer: the block that ends the stage closes it, and this task with it.
        metrics.pushed(count, bytes);
        client.push_blocks(request).await?;
    }
    Ok(())
}

fn batches(blocks: Vec<(Block, Option<Vec<u8>>)>) -> Vec<Vec<v1::BlockValue>> {
    let mut out: Vec<Vec<v1::BlockValue>> = Vec::new();
    let mut bytes = usize::MAX;
    for (block, value) in blocks {
        let size = value.as_ref().map_or(0, Vec::len);
        if bytes.saturating_add(size) > BATCH_BYTES {
            out.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        let block = v1::Block { level: block.level, index: block.index };
        let (present, value) = (value.is_some(), value.map(Bytes::from).unwrap_or_default());
        let value = v1::BlockValue { block: Some(block), present, value };
        if let Some(last) = out.last_mut() {
            last.push(value);
        }
    }
    out
}
