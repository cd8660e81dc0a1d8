//! What a stage cost, by worker and by step: what workers report of themselves, and the clock of each
//! step, from which follow waiting, the coordinator's own share and who was waited for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sheaf_proto::v1;

/// What a stage cost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Time from opening to end, ns.
    pub wall_ns: u64,
    /// Rows gone through in the first step.
    pub rows: u64,
    /// Each worker's part.
    pub workers: BTreeMap<u64, WorkerAccount>,
    /// All steps together.
    pub steps: StepTotals,
    /// Time that the other workers waited for this one, the slowest of a step, ns.
    pub waited_for: BTreeMap<u64, u64>,
}

/// One worker's part of a stage.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerAccount {
    /// Reading and encoding, ns.
    pub read_ns: u64,
    /// Partials, ns.
    pub compute_ns: u64,
    /// Merging, ns.
    pub merge_ns: u64,
    /// Within steps that it took part in, neither reading nor computing nor merging, ns.
    pub wait_ns: u64,
    /// Rows gone through, over all steps.
    pub rows: u64,
    /// Bytes of input read.
    pub bytes_read: u64,
    /// Blocks accepted from it.
    pub blocks: u64,
    /// Shards in those, over all steps.
    pub shards: u64,
    /// Steps that it took part in to their end.
    pub steps: u64,
    /// Bytes of those blocks.
    #[serde(default)]
    pub bytes_sent: u64,
}

impl WorkerAccount {
    /// Time that it worked.
    pub fn busy_ns(&self) -> u64 {
        self.read_ns + self.compute_ns + self.merge_ns
    }

    fn add(&mut self, other: &Self) {
        self.read_ns += other.read_ns;
        self.compute_ns += other.compute_ns;
        self.merge_ns += other.merge_ns;
        self.wait_ns += other.wait_ns;
        self.rows += other.rows;
        self.bytes_read += other.bytes_read;
        self.blocks += other.blocks;
        self.shards += other.shards;
        self.steps += other.steps;
        self.bytes_sent += other.bytes_sent;
    }
}

/// Time of steps, each ns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepTotals {
    /// Steps.
    pub count: u64,
    /// From a step's message being ready to the next one's.
    pub wall_ns: u64,
    /// Ordering the step from all workers, and the slowest worker's fetching of a message too large for
    /// the order itself.
    pub broadcast_ns: u64,
    /// What the busiest worker read, computed and merged.
    pub compute_ns: u64,
    /// Merging what was left and updating the state, after the last block came.
    pub update_ns: u64,
    /// What remains: wires, queues, waiting for a processor.
    pub overhead_ns: u64,
}

impl StepTotals {
    fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.wall_ns += other.wall_ns;
        self.broadcast_ns += other.broadcast_ns;
        self.compute_ns += other.compute_ns;
        self.update_ns += other.update_ns;
        self.overhead_ns += other.overhead_ns;
    }
}

impl Account {
    /// Takes in another stage's cost.
    pub fn add(&mut self, other: &Self) {
        self.wall_ns += other.wall_ns;
        self.rows += other.rows;
        self.steps.add(&other.steps);
        for (worker, part) in &other.workers {
            self.workers.entry(*worker).or_default().add(part);
        }
        for (worker, ns) in &other.waited_for {
            *self.waited_for.entry(*worker).or_default() += ns;
        }
    }

    /// A worker's report of its time. `first`: of the first step, in which every row is met once.
    pub fn spent(&mut self, worker: u64, spent: &v1::Spent, first: bool) {
        let part = self.workers.entry(worker).or_default();
        part.read_ns += spent.read_ns;
        part.compute_ns += spent.compute_ns;
        part.merge_ns += spent.merge_ns;
        part.rows += spent.rows;
        part.bytes_read += spent.bytes_read;
        self.rows += if first { spent.rows } else { 0 };
    }

    /// A block of so many shards and bytes was accepted from a worker.
    pub fn accepted(&mut self, worker: u64, shards: u64, bytes: u64) {
        let part = self.workers.entry(worker).or_default();
        part.blocks += 1;
        part.shards += shards;
        part.bytes_sent += bytes;
    }

    /// Workers whose blocks were accepted.
    pub fn contributors(&self) -> usize {
        self.workers.values().filter(|part| part.blocks > 0).count()
    }
}

/// The clock of one step.
#[derive(Debug, Clone)]
pub struct StepClock {
    began: Instant,
    /// When the step's orders were out.
    sent: Option<Instant>,
    /// When the last shard was in.
    complete: Option<Instant>,
    /// When each worker got its first order.
    ordered: BTreeMap<u64, Instant>,
    /// What each worker did for this step, ns.
    busy: BTreeMap<u64, u64>,
    /// The longest fetching of a message, ns.
    fetch_ns: u64,
    lost: BTreeSet<u64>,
}

impl StepClock {
    /// The step's message is ready.
    pub fn begin(now: Instant) -> Self {
        let (ordered, busy, lost) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Self { began: now, sent: None, complete: None, ordered, busy, fetch_ns: 0, lost }
    }

    /// A worker was given shards of the step.
    pub fn ordered(&mut self, worker: u64, now: Instant) {
        self.ordered.entry(worker).or_insert(now);
    }

    /// The first round of orders is out.
    pub fn sent(&mut self, now: Instant) {
        self.sent.get_or_insert(now);
    }

    /// A worker's report of its time in this step.
    pub fn spent(&mut self, worker: u64, spent: &v1::Spent) {
        *self.busy.entry(worker).or_default() += spent.read_ns + spent.compute_ns + spent.merge_ns;
        self.fetch_ns = self.fetch_ns.max(spent.fetch_ns);
    }

    /// A worker is gone: what it waited for is nobody's waiting.
    pub fn lost(&mut self, worker: u64) {
        self.lost.insert(worker);
    }

    /// Every shard is in.
    pub fn complete(&mut self, now: Instant) {
        self.complete.get_or_insert(now);
    }

    /// The state is updated: enters the step into the account. `None` if it was not complete.
    pub fn end(self, now: Instant, account: &mut Account) -> Option<EndedStep> {
        let complete = self.complete?;
        let mut waited = BTreeMap::new();
        let inside = ns(complete, self.began);
        let busiest = self.busy.values().copied().max().unwrap_or(0);
        let mut behind = 0;
        for (worker, ordered) in self.ordered.iter().filter(|(worker, _)| !self.lost.contains(worker)) {
            let busy = self.busy.get(worker).copied().unwrap_or(0);
            let part = account.workers.entry(*worker).or_default();
            let wait_ns = ns(complete, *ordered).saturating_sub(busy);
            waited.insert(*worker, wait_ns);
            part.wait_ns += wait_ns;
            part.steps += 1;
            // No more than the step lasted for this worker: one that came late did not wait before.
            behind += busiest.saturating_sub(busy).min(ns(complete, *ordered));
        }
        let slowest = self.busy.iter().max_by_key(|(worker, busy)| (**busy, std::cmp::Reverse(**worker)));
        if let (Some((worker, _)), true) = (slowest, behind > 0) {
            *account.waited_for.entry(*worker).or_default() += behind;
        }
        let broadcast_ns = self.sent.map_or(0, |sent| ns(sent, self.began)) + self.fetch_ns;
        let compute_ns = busiest.min(inside);
        let totals = StepTotals {
            count: 1,
            wall_ns: ns(now, self.began),
            broadcast_ns,
            compute_ns,
            update_ns: ns(now, complete),
            overhead_ns: inside.saturating_sub(compute_ns).saturating_sub(broadcast_ns),
        };
        account.steps.add(&totals);
        Some(EndedStep { totals, waited })
    }
}

/// A step that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedStep {
    /// What its time went into.
    pub totals: StepTotals,
    /// How long each worker waited in it, ns.
    pub waited: BTreeMap<u64, u64>,
}

impl StepTotals {
    /// The step's whole time.
    pub fn wall(&self) -> Duration {
        Duration::from_nanos(self.wall_ns)
    }

    /// The step's time without the work of the busiest worker.
    pub fn beside_compute(&self) -> Duration {
        Duration::from_nanos(self.wall_ns.saturating_sub(self.compute_ns))
    }
}

fn ns(later: Instant, earlier: Instant) -> u64 {
    later.saturating_duration_since(earlier).as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spent(compute_ns: u64) -> v1::Spent {
        v1::Spent { read_ns: 10, compute_ns, merge_ns: 5, rows: 100, bytes_read: 1000, fetch_ns: 3 }
    }

    fn at(start: Instant, ns: u64) -> Instant {
        start + Duration::from_nanos(ns)
    }

    #[test]
    fn a_step_is_split_and_the_slowest_is_named() {
        let start = Instant::now();
        let mut account = Account::default();
        let mut clock = StepClock::begin(start);
        for worker in [1, 2, 3] {
            clock.ordered(worker, at(start, 2));
        }
        clock.sent(at(start, 4));
        for (worker, compute) in [(1, 85), (2, 485)] {
            clock.spent(worker, &spent(compute));
            account.spent(worker, &spent(compute), true);
            account.accepted(worker, 4, 100);
        }
        clock.lost(3);
        clock.complete(at(start, 602));
        let step = clock.end(at(start, 652), &mut account);
        let expected =
            StepTotals { count: 1, wall_ns: 652, broadcast_ns: 7, compute_ns: 500, update_ns: 50, overhead_ns: 602 - 500 - 7 };
        assert_eq!(step, Some(EndedStep { totals: expected, waited: BTreeMap::from([(1, 500), (2, 100)]) }));
        assert_eq!(account.workers[&1].wait_ns, 600 - 100);
        assert_eq!(account.workers[&2].wait_ns, 600 - 500);
        assert!(!account.workers.contains_key(&3));
        assert_eq!(account.waited_for, BTreeMap::from([(2, 400)]));
        assert_eq!((account.rows, account.contributors()), (200, 2));
        assert_eq!(step.map(|s| s.totals.beside_compute()), Some(Duration::from_nanos(152)));
    }

    #[test]
    fn a_step_that_never_completed_is_not_counted() {
        let start = Instant::now();
        let mut account = Account::default();
        assert_eq!(StepClock::begin(start).end(at(start, 9), &mut account), None);
        assert_eq!(account, Account::default());
    }

    #[test]
    fn accounts_add_up() {
        let mut one = Account { wall_ns: 5, ..Account::default() };
        one.spent(1, &spent(1), true);
        one.waited_for.insert(1, 4);
        let mut sum = one.clone();
        sum.add(&one);
        assert_eq!((sum.wall_ns, sum.rows, sum.workers[&1].busy_ns(), sum.waited_for[&1]), (10, 200, 32, 8));
    }
}
