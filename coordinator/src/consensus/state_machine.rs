//! Applying committed entries to the [`Machine`], and its snapshots.
//!
//! The state lives in memory. A snapshot is durable before the log that it replaces is shortened, and
//! what follows the snapshot is applied again at the next start.

#![expect(clippy::result_large_err, reason = "the error type is openraft's own")]

use std::fmt::{self, Debug, Formatter};
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use openraft::storage::RaftStateMachine;
use openraft::{
    AnyError, BasicNode, EntryPayload, LogId, OptionalSend, RaftSnapshotBuilder, Snapshot, SnapshotMeta, StorageError,
    StorageIOError, StoredMembership,
};
use serde::{Deserialize, Serialize};

use crate::consensus::store::{SNAPSHOT, Store, StoreError};
use crate::consensus::{ConsensusError, Machine};

type Entry = openraft::Entry<Types>;
type Result<T> = std::result::Result<T, StorageError<u64>>;

openraft::declare_raft_types!(
    /// What openraft moves about. Entries and replies stay encoded, so that it is one set of types for
    /// every [`Machine`], and sizes are known before anything is proposed.
    pub(crate) Types:
        D = Batch,
        R = Replies,
        NodeId = u64,
        Node = BasicNode,
        Entry = openraft::Entry<Types>,
        SnapshotData = Cursor<Vec<u8>>,
);

/// One log entry: encoded machine entries that are applied together.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Batch(pub(crate) Vec<Vec<u8>>);

impl Debug for Batch {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "Batch({} entries, {} B)", self.0.len(), self.0.iter().map(Vec::len).sum::<usize>())
    }
}

/// The encoded replies of a batch, in its order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Replies(pub(crate) Vec<Vec<u8>>);

/// A snapshot as it stands in its slot.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StoredSnapshot {
    /// What it covers.
    pub(crate) meta: SnapshotMeta<u64, BasicNode>,
    /// What [`Machine::snapshot`] wrote.
    pub(crate) data: Vec<u8>,
}

impl From<StoredSnapshot> for Snapshot<Types> {
    fn from(stored: StoredSnapshot) -> Self {
        Self { meta: stored.meta, snapshot: Box::new(Cursor::new(stored.data)) }
    }
}

/// The state and how far the log went into it.
#[derive(Debug)]
pub(crate) struct Applied<M> {
    /// The caller's state.
    pub(crate) machine: M,
    last: Option<LogId<u64>>,
    membership: StoredMembership<u64, BasicNode>,
}

/// The state machine of one member; clones share the state.
pub(crate) struct StateMachine<M> {
    store: Arc<Store>,
    applied: Arc<RwLock<Applied<M>>>,
}

impl<M> Clone for StateMachine<M> {
    fn clone(&self) -> Self {
        Self { store: Arc::clone(&self.store), applied: Arc::clone(&self.applied) }
    }
}

impl<M: Machine> StateMachine<M> {
    /// The state of the last snapshot; the empty state if there is none.
    pub(crate) fn open(store: Arc<Store>) -> std::result::Result<Self, StoreError> {
        let applied = match store.get::<StoredSnapshot>(SNAPSHOT)? {
            Some(stored) => Applied {
                machine: M::restore(&stored.data).map_err(|why| StoreError::Corrupt(format!("snapshot: {why}")))?,
                last: stored.meta.last_log_id,
                membership: stored.meta.last_membership,
            },
            None => Applied { machine: M::default(), last: None, membership: StoredMembership::default() },
        };
        Ok(Self { store, applied: Arc::new(RwLock::new(applied)) })
    }

    /// The state, for reading. Held only briefly: applying entries waits for it.
    pub(crate) fn read(&self) -> std::result::Result<RwLockReadGuard<'_, Applied<M>>, ConsensusError> {
        self.applied.read().map_err(|_| ConsensusError::Stopped { reason: POISONED.into() })
    }

    fn write(&self) -> Result<RwLockWriteGuard<'_, Applied<M>>> {
        Ok(self.applied.write().map_err(|_| StorageIOError::write_state_machine(AnyError::error(POISONED)))?)
    }

    /// Writes a snapshot unless a newer one stands there already.
    async fn save(&self, snapshot: StoredSnapshot) -> Result<()> {
        let written = self.store.write(move |changes| match changes.get::<StoredSnapshot>(SNAPSHOT)? {
            Some(newer) if newer.meta.last_log_id > snapshot.meta.last_log_id => Ok(()),
            _ => changes.put(SNAPSHOT, &snapshot),
        });
        Ok(written.await.map_err(|error| StorageIOError::write_snapshot(None, AnyError::error(error)))?)
    }
}

const POISONED: &str = "the state is unusable since applying an entry panicked";

impl<M: Machine> RaftSnapshotBuilder<Types> for StateMachine<M> {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>> {
        let stored = {
            let applied = self.read().map_err(|error| StorageIOError::read_state_machine(AnyError::error(error)))?;
            let snapshot_id = applied.last.map_or_else(|| "empty".to_string(), |id| id.to_string());
            StoredSnapshot {
                meta: SnapshotMeta { last_log_id: applied.last, last_membership: applied.membership.clone(), snapshot_id },
                data: applied.machine.snapshot(),
            }
        };
        self.save(stored.clone()).await?;
        Ok(stored.into())
    }
}

impl<M: Machine> RaftStateMachine<Types> for StateMachine<M> {
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId<u64>>, StoredMembership<u64, BasicNode>)> {
        let applied = self.write()?;
        Ok((applied.last, applied.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Replies>>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut applied = self.write()?;
        entries.into_iter().map(|entry| apply_entry(&mut applied, entry)).collect()
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>> {
        Ok(Box::default())
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta<u64, BasicNode>, snapshot: Box<Cursor<Vec<u8>>>) -> Result<()> {
        let stored = StoredSnapshot { meta: meta.clone(), data: snapshot.into_inner() };
        let machine = M::restore(&stored.data)
            .map_err(|why| StorageIOError::read_snapshot(Some(meta.signature()), AnyError::error(why)))?;
        self.save(stored).await?;
        let mut applied = self.write()?;
        *applied = Applied { machine, last: meta.last_log_id, membership: meta.last_membership.clone() };
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>> {
        let stored = self.store.get::<StoredSnapshot>(SNAPSHOT);
        let stored = stored.map_err(|error| StorageIOError::read_snapshot(None, AnyError::error(error)))?;
        Ok(stored.map(Snapshot::from))
    }
}

/// Applies one log entry. A panic of the machine becomes an error that stops the log: openraft would
/// not notice a lost task, and proposers would wait for ever.
fn apply_entry<M: Machine>(applied: &mut Applied<M>, entry: Entry) -> Result<Replies> {
    let replies = match entry.payload {
        EntryPayload::Blank => Ok(Vec::new()),
        EntryPayload::Membership(membership) => {
            applied.membership = StoredMembership::new(Some(entry.log_id), membership);
            Ok(Vec::new())
        }
        EntryPayload::Normal(batch) => catch_unwind(AssertUnwindSafe(|| apply_batch(&mut applied.machine, &batch)))
            .unwrap_or_else(|_| Err(AnyError::error("the machine panicked"))),
    };
    applied.last = Some(entry.log_id);
    Ok(Replies(replies.map_err(|why| StorageIOError::apply(entry.log_id, why))?))
}

fn apply_batch<M: Machine>(machine: &mut M, batch: &Batch) -> std::result::Result<Vec<Vec<u8>>, AnyError> {
    // Decoded as a whole first: a batch is applied entirely or not at all.
    let entries: std::result::Result<Vec<M::Entry>, _> = batch.0.iter().map(|bytes| postcard::from_bytes(bytes)).collect();
    let entries = entries.map_err(AnyError::error)?;
    let replies = entries.into_iter().map(|entry| postcard::to_stdvec(&machine.apply(entry)));
    replies.collect::<std::result::Result<_, _>>().map_err(AnyError::error)
}
