//! Who is there: workers, when they were last heard of, and who is leaving.
//!
//! ```text
//! (joined) ─▶ Active ─ DrainRequested ─▶ Draining ─ owes nothing ─▶ (forgotten: DrainDone)
//!               └── lost, or silent for the timeout ──┴───────────▶ (forgotten)
//! ```

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{Millis, WorkerId};

/// A worker, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerStatus {
    /// Who.
    pub worker: WorkerId,
    /// Compute threads.
    pub threads: u32,
    /// When it was last heard of.
    pub seen: Millis,
    /// Whether it is leaving.
    pub draining: bool,
    /// Shards that it owes, over all stages.
    pub owed: u32,
}

#[derive(Debug, Clone)]
pub(crate) struct Worker {
    pub threads: u32,
    pub seen: Millis,
    pub draining: bool,
}

/// Workers that are there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Workers {
    workers: BTreeMap<WorkerId, Worker>,
    draining: BTreeSet<WorkerId>,
    last_tick: Option<Millis>,
}

impl Workers {
    pub fn join(&mut self, id: WorkerId, threads: u32, now: Millis) {
        self.draining.remove(&id);
        self.workers.insert(id, Worker { threads: threads.max(1), seen: now, draining: false });
    }

    /// Forgets a worker. False if it was not there.
    pub fn remove(&mut self, id: WorkerId) -> bool {
        self.draining.remove(&id);
        self.workers.remove(&id).is_some()
    }

    /// Notes a sign of life. False if the worker is not there.
    pub fn touch(&mut self, id: WorkerId, now: Millis) -> bool {
        let Some(worker) = self.workers.get_mut(&id) else { return false };
        worker.seen = worker.seen.max(now);
        true
    }

    /// Marks a worker as leaving. False if it is not there.
    pub fn drain(&mut self, id: WorkerId) -> bool {
        let Some(worker) = self.workers.get_mut(&id) else { return false };
        worker.draining = true;
        self.draining.insert(id);
        true
    }

    pub fn draining(&self) -> &BTreeSet<WorkerId> {
        &self.draining
    }

    /// Threads of a worker that takes new leases.
    pub fn takes_leases(&self, id: WorkerId) -> Option<u32> {
        self.workers.get(&id).filter(|worker| !worker.draining).map(|worker| worker.threads)
    }

    pub fn iter(&self) -> impl Iterator<Item = (WorkerId, &Worker)> {
        self.workers.iter().map(|(id, worker)| (*id, worker))
    }

    /// Workers that were silent for longer than `timeout`. A leader that itself slept for that long (a
    /// suspended machine, a stopped process) cannot tell their silence from its own: they get one more
    /// timeout.
    pub fn silent(&mut self, now: Millis, timeout: Millis) -> Vec<WorkerId> {
        let slept = self.last_tick.is_some_and(|last| now.since(last) > timeout);
        self.last_tick = Some(now);
        if slept {
            for worker in self.workers.values_mut() {
                worker.seen = worker.seen.max(now);
            }
        }
        self.iter().filter(|(_, worker)| now.since(worker.seen) > timeout).map(|(id, _)| id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Millis = Millis(10);

    fn two() -> Workers {
        let mut workers = Workers::default();
        workers.join(WorkerId(1), 4, Millis(0));
        workers.join(WorkerId(2), 0, Millis(0));
        workers
    }

    #[test]
    fn silence_is_noticed_after_the_timeout() {
        let mut workers = two();
        assert_eq!(workers.silent(Millis(5), TIMEOUT), vec![]);
        assert!(workers.touch(WorkerId(1), Millis(9)));
        assert_eq!(workers.silent(Millis(10), TIMEOUT), vec![]);
        assert_eq!(workers.silent(Millis(11), TIMEOUT), vec![WorkerId(2)]);
        assert!(workers.remove(WorkerId(2)) && !workers.touch(WorkerId(2), Millis(12)));
    }

    #[test]
    fn a_leader_that_slept_gives_grace_once() {
        let mut workers = two();
        assert_eq!(workers.silent(Millis(1), TIMEOUT), vec![]);
        assert_eq!(workers.silent(Millis(100), TIMEOUT), vec![]);
        assert_eq!(workers.silent(Millis(110), TIMEOUT), vec![]);
        assert_eq!(workers.silent(Millis(111), TIMEOUT), vec![WorkerId(1), WorkerId(2)]);
    }

    #[test]
    fn leaving_workers_take_no_leases() {
        let mut workers = two();
        assert_eq!(workers.takes_leases(WorkerId(2)), Some(1));
        assert!(workers.drain(WorkerId(2)));
        assert_eq!(workers.takes_leases(WorkerId(2)), None);
        assert_eq!(workers.takes_leases(WorkerId(1)), Some(4));
        assert!(!workers.drain(WorkerId(3)));
    }
}
