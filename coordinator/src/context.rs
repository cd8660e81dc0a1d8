//! What services and drivers share.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sheaf_cluster::durable::{Entry, Reply};
use sheaf_cluster::id::Millis;
use sheaf_dataflow::engine::Queries;
use sheaf_dataflow::stores::Stores;
use sheaf_proto::v1;
use sheaf_runtime::documents::Documents;
use sheaf_runtime::fault::Fault;
use sheaf_runtime::order::{Existing, ModelId, Order};
use sheaf_runtime::registry::Registry;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::consensus::{Consensus, ConsensusError};
use crate::event_loop::LoopHandle;
use crate::feed::Feeds;
use crate::machine::Jobs;
use crate::metrics::Metrics;

/// Shared by services and drivers; cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// The durable log.
    pub log: Consensus<Jobs>,
    /// Documents of the store.
    pub documents: Documents,
    /// Models.
    pub registry: Registry,
    /// Object stores that jobs may read.
    pub stores: Stores,
    /// The query engine.
    pub queries: Queries,
    /// Location of the store (registry, job areas).
    pub base: String,
    /// The event loop.
    pub events: LoopHandle,
    /// What watchers see.
    pub feeds: Feeds,
    /// What is counted.
    pub metrics: Metrics,
    /// Time between checkpoints.
    pub checkpoint_every: Duration,
    /// Set when the coordinator stops: nothing new is taken, streams end.
    pub closing: CancellationToken,
}

/// What the log points to for a job: the order and the time that `now()` means in it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spec {
    /// What was ordered.
    pub order: Order,
    /// Pinned time, ns since 1970 UTC.
    pub now_ns: i64,
    /// Fingerprint of the data that the order was checked against.
    pub data: String,
    /// The existing model that the job names, and what the job is with it.
    #[serde(default)]
    pub existing: Option<Existing>,
    /// The model that the job's training goes on from.
    #[serde(default)]
    pub earlier: Option<ModelId>,
    /// Fingerprint of the rows that a job with a `predict` section scores.
    #[serde(default)]
    pub scored: Option<String>,
    /// The job that this one tries again.
    #[serde(default)]
    pub retry_of: Option<String>,
    /// What was expected of it when it was accepted.
    #[serde(default)]
    pub estimate: Estimate,
}

/// What a job will take, as far as it is known before it starts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Estimate {
    /// Rows before filters.
    pub rows: u64,
    /// Row groups to be read.
    pub units: u64,
    /// Canonical shards.
    pub shards: u64,
    /// Encoded training data over all workers, bytes.
    pub encoded_bytes: u64,
    /// Workers that were there.
    pub workers: u32,
    /// Their memory for encoded data, bytes.
    pub memory_bytes: u64,
}

impl From<&Estimate> for v1::JobEstimate {
    fn from(estimate: &Estimate) -> Self {
        let Estimate { rows, units, shards, encoded_bytes, workers, memory_bytes } = *estimate;
        let spills = workers > 0 && encoded_bytes > memory_bytes;
        v1::JobEstimate { rows, units, shards, encoded_bytes, workers, memory_bytes, spills }
    }
}

/// The leader's clock, as written into the log.
pub fn now() -> Millis {
    Millis(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64))
}

impl Context {
    /// Proposes an entry; a rejection is a fault of ours. With a log that has stopped it never returns: the
    /// process is about to end, and nothing may go on as if the entry had been refused. An entry that is on
    /// its way is written whether or not its proposer waits for it.
    pub async fn propose(&self, entry: Entry) -> Result<Reply, Fault> {
        let log = self.log.clone();
        let proposed = tokio::spawn(async move { log.propose(entry).await });
        match proposed.await.map_err(|e| Fault::internal(format!("proposing an entry broke off: {e}")))? {
            Ok(Reply::Rejected(reason)) => Err(Fault::internal(format!("the log refused an entry: {reason}"))),
            Ok(reply) => Ok(reply),
            Err(ConsensusError::Stopped { .. }) => std::future::pending().await,
            Err(error) => Err(Fault::internal(error)),
        }
    }

    /// Reads the state behind the log; as [`Context::propose`], it outlives no log.
    pub async fn read<T>(&self, read: impl FnOnce(&Jobs) -> T + Send) -> Result<T, Fault> {
        match self.log.read(read).await {
            Ok(value) => Ok(value),
            Err(ConsensusError::Stopped { .. }) => std::future::pending().await,
            Err(error) => Err(Fault::internal(error)),
        }
    }

    /// Refuses what is new when the coordinator is stopping.
    pub fn accepting(&self) -> Result<(), Status> {
        match self.closing.is_cancelled() {
            true => Err(stopping()),
            false => Ok(()),
        }
    }
}

/// What callers of a coordinator that stops are told; their jobs go on when it is back.
pub fn stopping() -> Status {
    Status::unavailable("the coordinator is stopping; its jobs go on when it is back")
}
