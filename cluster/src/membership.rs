//! Who is there: workers, when they were last heard of, and who is leaving.
//!
//! ```text
//! (joined) ─▶ Active ─ DrainRequested ─▶ Draining ─ owes nothing ─▶ (forgotten: DrainDone)
//!               └── lost, or silent for the timeout ──┴───────────▶ (forgotten)
//! ```

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{Millis, Stage, WorkerId};
use crate::pace::{Judgement, Pace};

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
    /// What it turned out to do of what its threads promise, in parts of 1,024: its share of shards.
    pub pace: u32,
    /// The stage for which it computes a suspect, and nothing else meanwhile.
    pub reserved: Option<Stage>,
    /// Whether it reads what it would take over in some stage: until it is done it gets no suspect.
    pub reading: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Worker {
    pub threads: u32,
    pub seen: Millis,
    pub draining: bool,
    /// It is about to be lost: nothing is ordered from it any more.
    pub silent: bool,
    pub pace: Pace,
}

/// A worker that is kept for a shard that must be computed alone.
#[derive(Debug, Clone)]
pub(crate) struct Reservation {
    pub stage: Stage,
    /// The shard that it computes; `None` until it owes nothing else.
    pub shard: Option<u32>,
}

/// Workers that are there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Workers {
    workers: BTreeMap<WorkerId, Worker>,
    draining: BTreeSet<WorkerId>,
    reserved: BTreeMap<WorkerId, Reservation>,
    last_tick: Option<Millis>,
}

impl Workers {
    pub fn join(&mut self, id: WorkerId, threads: u32, now: Millis) {
        self.remove(id);
        let (threads, pace) = (threads.max(1), Pace::new(now));
        self.workers.insert(id, Worker { threads, seen: now, draining: false, silent: false, pace });
    }

    /// Forgets a worker. False if it was not there.
    pub fn remove(&mut self, id: WorkerId) -> bool {
        self.draining.remove(&id);
        self.reserved.remove(&id);
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

    /// Threads times pace of a worker that takes new leases.
    pub fn weight(&self, id: WorkerId) -> Option<u64> {
        let worker = self.workers.get(&id).filter(|worker| !worker.draining && !worker.silent)?;
        Some(u64::from(worker.threads) * u64::from(worker.pace.share()))
    }

    /// The same of one that is not kept for something else.
    pub fn free_weight(&self, id: WorkerId) -> Option<u64> {
        self.weight(id).filter(|_| !self.reserved.contains_key(&id))
    }

    /// Workers that take new leases.
    pub fn taking(&self) -> usize {
        self.workers.len() - self.draining.len()
    }

    /// Weight and pace of a worker, leaving or not.
    pub fn pace(&self, id: WorkerId) -> Option<(u64, u32)> {
        let worker = self.workers.get(&id)?;
        let pace = worker.pace.share();
        Some((u64::from(worker.threads) * u64::from(pace), pace))
    }

    /// Takes in how a worker did. True if its weight changed.
    pub fn judge(&mut self, id: WorkerId, judgement: Judgement, now: Millis) -> bool {
        self.workers.get_mut(&id).is_some_and(|worker| worker.pace.judge(judgement, now))
    }

    /// Gives slow workers that were not measured for a while more to do. Returns them.
    pub fn recover(&mut self, first: Millis, after: Millis, now: Millis) -> Vec<WorkerId> {
        let recovers = |worker: &mut Worker| worker.pace.recover(first, after, now);
        self.workers.iter_mut().filter_map(|(id, worker)| recovers(worker).then_some(*id)).collect()
    }

    /// Workers that are kept for suspects.
    pub fn reserved(&self) -> &BTreeMap<WorkerId, Reservation> {
        &self.reserved
    }

    pub fn reserve(&mut self, id: WorkerId, stage: Stage, shard: Option<u32>) {
        self.reserved.insert(id, Reservation { stage, shard });
    }

    pub fn release(&mut self, id: WorkerId) {
        self.reserved.remove(&id);
    }

    pub fn iter(&self) -> impl Iterator<Item = (WorkerId, &Worker)> {
        self.workers.iter().map(|(id, worker)| (*id, worker))
    }

    /// Workers that were silent for longer than `timeout`. A leader that itself slept for that long (a
    /// suspended machine, a stopped process) cannot tell their silence from its own: they get one more
    /// timeout. They are given nothing any more: what the first of them owed must not go to the second.
    pub fn silent(&mut self, now: Millis, timeout: Millis) -> Vec<WorkerId> {
        let slept = self.last_tick.is_some_and(|last| now.since(last) > timeout);
        self.last_tick = Some(now);
        if slept {
            for worker in self.workers.values_mut() {
                worker.seen = worker.seen.max(now);
            }
        }
        for worker in self.workers.values_mut() {
            worker.silent = now.since(worker.seen) > timeout;
        }
        self.iter().filter(|(_, worker)| worker.silent).map(|(id, _)| id).collect()
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
        assert_eq!(workers.weight(WorkerId(2)), Some(1024));
        assert!(workers.drain(WorkerId(2)));
        assert_eq!((workers.weight(WorkerId(2)), workers.taking()), (None, 1));
        assert_eq!(workers.free_weight(WorkerId(1)), Some(4096));
        assert!(!workers.drain(WorkerId(3)));
    }

    #[test]
    fn a_reserved_worker_keeps_its_weight_and_gets_nothing_new() {
        let mut workers = two();
        workers.reserve(WorkerId(1), Stage { job: "a".into(), number: 0 }, None);
        assert_eq!((workers.weight(WorkerId(1)), workers.free_weight(WorkerId(1))), (Some(4096), None));
        workers.release(WorkerId(1));
        assert_eq!(workers.free_weight(WorkerId(1)), Some(4096));
    }
}
