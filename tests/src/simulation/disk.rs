//! The coordinator's disk and the object store: what survives a crash. The log is written in batches;
//! what was not synced when the process died is there in part, or not at all.

use std::collections::BTreeMap;
use std::sync::Arc;

use sheaf_cluster::{Durable, Entry};

use super::agenda::MS;
use super::rng::{FNV, Rng, fnv};

/// Entries between snapshots of the log.
const SNAPSHOT_AFTER: usize = 50;

/// The folder of the log.
#[derive(Debug)]
pub(super) struct Disk {
    pub rng: Rng,
    snapshot: Durable,
    entries: Vec<Entry>,
    /// Written and not synced.
    unsynced: Vec<Entry>,
    /// Nothing more can be written.
    pub full: bool,
    /// A sync takes this much longer than usual.
    pub slow: u64,
}

impl Disk {
    pub fn new(rng: Rng) -> Self {
        Self { rng, snapshot: Durable::default(), entries: Vec::new(), unsynced: Vec::new(), full: false, slow: 1 }
    }

    /// Appends a batch. The time until it is synced, µs; `None` if there is no room.
    pub fn write(&mut self, batch: Vec<Entry>) -> Option<u64> {
        if self.full {
            return None;
        }
        self.unsynced.extend(batch);
        Some((200 + self.rng.below(3 * MS)) * self.slow)
    }

    /// What was written is safe. `state` is what applying all of it gives.
    pub fn synced(&mut self, state: &Durable) {
        self.entries.append(&mut self.unsynced);
        if self.entries.len() >= SNAPSHOT_AFTER {
            self.snapshot = state.clone();
            self.entries.clear();
        }
    }

    /// The process died: of what was not synced a part may have got to the disk, from its start.
    pub fn crash(&mut self) {
        let kept = self.rng.below(self.unsynced.len() as u64 + 1) as usize;
        self.unsynced.truncate(kept);
        self.entries.append(&mut self.unsynced);
    }

    /// The state as the next process finds it.
    pub fn recover(&self) -> Durable {
        let mut state = self.snapshot.clone();
        for entry in &self.entries {
            state.apply(entry.clone());
        }
        state
    }
}

/// Objects under their content hash.
#[derive(Debug)]
pub(super) struct Store {
    pub rng: Rng,
    objects: BTreeMap<String, Arc<Vec<u8>>>,
    /// Model versions: the job that published each.
    pub versions: Vec<String>,
}

impl Store {
    pub fn new(rng: Rng) -> Self {
        Self { rng, objects: BTreeMap::new(), versions: Vec::new() }
    }

    /// Writes an object; it is there, whole, before the writer hears of it.
    pub fn put(&mut self, bytes: Vec<u8>) -> String {
        let hash = format!("{:016x}", fnv(FNV, &bytes));
        self.objects.insert(hash.clone(), Arc::new(bytes));
        hash
    }

    /// An object, if it is there and is what its name says.
    pub fn get(&self, hash: &str) -> Option<Arc<Vec<u8>>> {
        let bytes = self.objects.get(hash)?;
        (format!("{:016x}", fnv(FNV, bytes)) == hash).then(|| Arc::clone(bytes))
    }

    /// A bit of an object flips.
    pub fn damage(&mut self, hash: &str) {
        if let Some(bytes) = self.objects.get_mut(hash) {
            let mut changed = bytes.to_vec();
            match changed.first_mut() {
                Some(byte) => *byte ^= 1,
                None => changed.push(0),
            }
            *bytes = Arc::new(changed);
        }
    }

    /// Removes an object.
    pub fn remove(&mut self, hash: &str) {
        self.objects.remove(hash);
    }

    /// Publishes a version of a job, unless it has one.
    pub fn publish(&mut self, job: &str) -> usize {
        let known = self.versions.iter().position(|by| by == job);
        known.unwrap_or_else(|| {
            self.versions.push(job.to_owned());
            self.versions.len() - 1
        })
    }

    /// Time that an operation takes, µs.
    pub fn delay(&mut self) -> u64 {
        MS + self.rng.below(30 * MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_cluster::{Millis, Term};

    fn leader(now: u64) -> Entry {
        Entry::LeaderStarted { now: Millis(now) }
    }

    #[test]
    fn what_was_synced_survives_and_the_rest_may() {
        let mut disk = Disk::new(Rng::new(1, "disk"));
        assert!(disk.write(vec![leader(1)]).is_some());
        disk.synced(&Durable::default());
        assert!(disk.write(vec![leader(2), leader(3)]).is_some());
        disk.crash();
        assert!((1..=3).contains(&disk.recover().term.0));
        disk.full = true;
        assert_eq!(disk.write(vec![leader(4)]), None);
    }

    #[test]
    fn snapshots_change_nothing() {
        let mut disk = Disk::new(Rng::new(1, "disk"));
        let mut state = Durable::default();
        for now in 0..120 {
            assert!(disk.write(vec![leader(now)]).is_some());
            state.apply(leader(now));
            disk.synced(&state);
            assert_eq!(disk.recover(), state);
        }
        assert_eq!(state.term, Term(120));
    }

    #[test]
    fn damage_is_seen() {
        let mut store = Store::new(Rng::new(1, "store"));
        let hash = store.put(vec![1, 2, 3]);
        assert!(store.get(&hash).is_some());
        store.damage(&hash);
        assert!(store.get(&hash).is_none());
        assert_eq!((store.publish("a"), store.publish("b"), store.publish("a")), (0, 1, 0));
    }
}
