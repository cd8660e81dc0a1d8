//! What services and drivers share.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sheaf_cluster::durable::{Entry, Reply};
use sheaf_cluster::id::Millis;
use sheaf_dataflow::stores::Stores;
use sheaf_runtime::documents::Documents;
use sheaf_runtime::fault::Fault;
use sheaf_runtime::order::Order;
use sheaf_runtime::registry::Registry;

use crate::consensus::Consensus;
use crate::event_loop::LoopHandle;
use crate::feed::Feeds;
use crate::machine::Jobs;

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
    /// Location of the store (registry, job areas).
    pub base: String,
    /// The event loop.
    pub events: LoopHandle,
    /// What watchers see.
    pub feeds: Feeds,
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
}

/// The leader's clock, as written into the log.
pub fn now() -> Millis {
    Millis(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64))
}

impl Context {
    /// Proposes an entry; a rejection is a fault of ours.
    pub async fn propose(&self, entry: Entry) -> Result<Reply, Fault> {
        match self.log.propose(entry).await.map_err(Fault::internal)? {
            Reply::Rejected(reason) => Err(Fault::internal(format!("the log refused an entry: {reason}"))),
            reply => Ok(reply),
        }
    }
}
