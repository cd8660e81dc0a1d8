//! Vote and log entries, as openraft's log store.
//!
//! Every write is durable when it returns. The last committed log id is the exception: it rides along
//! with the next write, since a stale one only means that a few entries are committed again.

use std::fmt::Debug;
use std::ops::RangeBounds;
use std::sync::{Arc, Mutex, PoisonError};

use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{AnyError, LogId, LogState, OptionalSend, RaftLogReader, StorageError, StorageIOError, Vote};

use crate::consensus::state_machine::{StoredSnapshot, Types};
use crate::consensus::store::{COMMITTED, PURGED, SNAPSHOT, Store, StoreError, VOTE};

type Entry = openraft::Entry<Types>;
type Result<T> = std::result::Result<T, StorageError<u64>>;

/// The log of one member; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct LogStore {
    store: Arc<Store>,
    committed: Arc<Mutex<Option<LogId<u64>>>>,
}

impl LogStore {
    /// The log in a store, after reading all of it once: a record that is damaged, missing or beyond
    /// the snapshot is found now and not in the middle of a job.
    pub(crate) fn open(store: Arc<Store>) -> std::result::Result<Self, StoreError> {
        let purged: Option<LogId<u64>> = store.get(PURGED)?;
        let snapshot = store.get::<StoredSnapshot>(SNAPSHOT)?.and_then(|snapshot| snapshot.meta.last_log_id);
        store.get::<Vote<u64>>(VOTE)?;
        if purged > snapshot {
            return Err(StoreError::Corrupt("the log was shortened but the snapshot of that part is missing".into()));
        }
        let next = purged.map_or(0, |id| id.index + 1);
        let entries = store.entries(..)?;
        if let Some(first) = entries.first().filter(|entry| entry.log_id.index != next) {
            return Err(StoreError::Corrupt(format!("the log starts at entry {} and not at {next}", first.log_id.index)));
        }
        let committed = store.get(COMMITTED)?;
        let last = entries.last().map(|entry| entry.log_id).max(purged).max(snapshot);
        if committed > last {
            return Err(StoreError::Corrupt("the log ends before the last committed entry".into()));
        }
        Ok(Self { store, committed: Arc::new(Mutex::new(committed)) })
    }

    /// Forgets that this member led, which openraft would simply continue: without this, a restarted
    /// leader goes on in its old term, and the term could not fence off what the old process sent.
    pub(crate) async fn step_down(&mut self) -> Result<()> {
        match self.read_vote().await? {
            Some(vote) if vote.is_committed() => {
                let follower = Vote::new(vote.leader_id.term, vote.leader_id.node_id);
                self.save_vote(&follower).await
            }
            _ => Ok(()),
        }
    }

    fn committed(&self) -> Option<LogId<u64>> {
        *self.committed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>> {
        Ok(self.store.entries(range).map_err(reading_logs)?)
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>> {
        let last_purged_log_id = self.store.get(PURGED).map_err(reading_logs)?;
        let last = self.store.last_entry().map_err(reading_logs)?;
        Ok(LogState { last_purged_log_id, last_log_id: last.map(|entry| entry.log_id).or(last_purged_log_id) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Result<()> {
        let vote = *vote;
        let saved = self.store.write(move |changes| changes.put(VOTE, &vote)).await;
        Ok(saved.map_err(|error| StorageIOError::write_vote(AnyError::error(error)))?)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<u64>>> {
        Ok(self.store.get(VOTE).map_err(|error| StorageIOError::read_vote(AnyError::error(error)))?)
    }

    async fn save_committed(&mut self, committed: Option<LogId<u64>>) -> Result<()> {
        *self.committed.lock().unwrap_or_else(PoisonError::into_inner) = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId<u64>>> {
        Ok(self.committed())
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types>) -> Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let committed = self.committed();
        let written = self.store.write(move |changes| {
            entries.iter().try_for_each(|entry| changes.insert(entry))?;
            committed.map_or(Ok(()), |id| changes.put(COMMITTED, &id))
        });
        written.await.map_err(writing_logs)?;
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId<u64>) -> Result<()> {
        let removed = self.store.write(move |changes| changes.remove(log_id.index..)).await;
        Ok(removed.map_err(writing_logs)?)
    }

    async fn purge(&mut self, log_id: LogId<u64>) -> Result<()> {
        let removed = self.store.write(move |changes| {
            changes.put(PURGED, &log_id)?;
            changes.remove(..=log_id.index)
        });
        Ok(removed.await.map_err(writing_logs)?)
    }
}

fn reading_logs(error: StoreError) -> StorageIOError<u64> {
    StorageIOError::read_logs(AnyError::error(error))
}

fn writing_logs(error: StoreError) -> StorageIOError<u64> {
    StorageIOError::write_logs(AnyError::error(error))
}
