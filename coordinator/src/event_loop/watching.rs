//! What the loop counts and shows: the clocks of steps, accounts of stages, and workers as people see them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use sheaf_cluster::Event;
use sheaf_cluster::id::{JobId, Stage, Step, WorkerId};
use sheaf_proto::v1;

use super::{EventLoop, StageEntry};
use crate::account::{Account, StepClock, WorkerAccount};

/// How far back a worker's speed looks.
const RATE_WINDOW: Duration = Duration::from_secs(10);

/// Jobs that have ended and whose costs are still known here.
const REMEMBERED: usize = 100;

/// What a worker has done since it joined.
#[derive(Debug, Default)]
pub(super) struct Doings {
    totals: WorkerAccount,
    beat: v1::Heartbeat,
    /// Rows by the time when they were reported.
    recent: VecDeque<(Instant, u64)>,
}

impl Doings {
    fn spent(&mut self, spent: &v1::Spent, now: Instant) {
        self.totals.read_ns += spent.read_ns;
        self.totals.compute_ns += spent.compute_ns;
        self.totals.merge_ns += spent.merge_ns;
        self.totals.rows += spent.rows;
        self.totals.bytes_read += spent.bytes_read;
        self.recent.push_back((now, spent.rows));
        self.forget(now);
    }

    fn forget(&mut self, now: Instant) {
        while self.recent.front().is_some_and(|(then, _)| now.saturating_duration_since(*then) > RATE_WINDOW) {
            self.recent.pop_front();
        }
    }

    /// Rows per second over the last seconds; a worker that reports nothing comes down to 0.
    fn rate(&self, now: Instant) -> f64 {
        let recent = || self.recent.iter().filter(|(then, _)| now.saturating_duration_since(*then) <= RATE_WINDOW);
        let Some((first, _)) = recent().next() else { return 0.0 };
        let seconds = now.saturating_duration_since(*first).as_secs_f64().max(1.0);
        recent().map(|(_, rows)| *rows).sum::<u64>() as f64 / seconds
    }
}

impl StageEntry {
    /// What the stage has cost until now.
    pub(super) fn so_far(&self) -> Account {
        Account { wall_ns: self.opened.elapsed().as_nanos() as u64, ..self.account.clone() }
    }
}

impl EventLoop {
    /// The clock of a stage's current step.
    pub(super) fn clock(&mut self, stage: &Stage) -> Option<&mut StepClock> {
        self.stages.get_mut(stage)?.clock.as_mut()
    }

    /// Enters a worker's report of its time, in the stage's account and, if it is of the current step, in
    /// the step's clock.
    pub(super) fn spent(&mut self, worker: WorkerId, stage: &Stage, step: Step, spent: &v1::Spent) {
        let Some(entry) = self.stages.get_mut(stage) else { return };
        entry.account.spent(worker.0, spent, entry.steps == entry.first);
        if let Some(clock) = entry.clock.as_mut().filter(|_| entry.step == step) {
            clock.spent(worker.0, spent);
        }
        self.metrics.spent(spent);
        if let Some(worker) = self.workers.get_mut(&worker) {
            worker.doings.spent(spent, Instant::now());
        }
    }

    /// The step that was under way is over, if one was.
    pub(super) fn end_step(&mut self, stage: &Stage) {
        let Some(entry) = self.stages.get_mut(stage) else { return };
        let Some(ended) = entry.clock.take().and_then(|clock| clock.end(Instant::now(), &mut entry.account)) else { return };
        self.metrics.step(&ended.totals);
        for (worker, ns) in ended.waited {
            if let Some(worker) = self.workers.get_mut(&WorkerId(worker)) {
                worker.doings.totals.wait_ns += ns;
            }
        }
    }

    /// A worker is gone: nobody waits for it, and it waits for nobody.
    pub(super) fn gone(&mut self, worker: WorkerId, reason: &str) {
        self.metrics.worker_left(reason);
        for clock in self.stages.values_mut().filter_map(|entry| entry.clock.as_mut()) {
            clock.lost(worker.0);
        }
    }

    /// A sign of life.
    pub(super) fn beat(&mut self, worker: WorkerId, beat: &v1::Heartbeat) {
        if let Some(entry) = self.workers.get_mut(&worker) {
            entry.doings.beat = *beat;
        }
        self.handle(Event::Heartbeat { worker });
    }

    /// A stage ends, or is given up: notes what it cost, and gives that back.
    pub(super) fn finished(&mut self, stage: &Stage) -> Account {
        let Some(entry) = self.stages.get(stage) else { return Account::default() };
        let account = entry.so_far();
        self.finished.entry(stage.job.clone()).or_default().push((entry.opening.phase.clone(), account.clone()));
        account
    }

    /// A job has ended: what it cost is known for a while.
    pub(super) fn remember(&mut self, job: &JobId) {
        if self.finished.contains_key(job) && !self.remembered.contains(job) {
            self.remembered.push_back(job.clone());
        }
        while self.remembered.len() > REMEMBERED {
            if let Some(oldest) = self.remembered.pop_front() {
                self.finished.remove(&oldest);
            }
        }
    }

    /// What the stages of a job cost until now, finished ones first.
    pub(super) fn accounts(&self, job: &JobId) -> Vec<(String, Account)> {
        let mut accounts = self.finished.get(job).cloned().unwrap_or_default();
        let open = self.stages.iter().filter(|(stage, _)| stage.job == *job);
        accounts.extend(open.map(|(_, entry)| (entry.opening.phase.clone(), entry.so_far())));
        accounts
    }

    /// Workers as people see them.
    pub(super) fn summaries(&self) -> Vec<v1::WorkerSummary> {
        let now = Instant::now();
        let statuses = self.engine.workers();
        let status = |worker: WorkerId| statuses.iter().find(|status| status.worker == worker);
        let summary = |(worker, entry): (&WorkerId, &super::WorkerEntry)| {
            let (totals, beat) = (&entry.doings.totals, &entry.doings.beat);
            let mut summary = entry.summary.clone();
            summary.cache_bytes = beat.cache_bytes;
            summary.spilled_bytes = beat.spilled_bytes;
            summary.rows = totals.rows;
            summary.read_ns = totals.read_ns;
            summary.compute_ns = totals.compute_ns;
            summary.merge_ns = totals.merge_ns;
            summary.wait_ns = totals.wait_ns;
            summary.rows_per_second = entry.doings.rate(now);
            if let Some(status) = status(*worker) {
                summary.owed_shards = u64::from(status.owed);
                summary.seen_ms = status.seen.0;
                summary.state = if status.draining { "draining" } else { "ready" }.into();
            }
            summary
        };
        self.workers.iter().map(summary).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_stops_reporting_comes_down_to_nothing() {
        let start = Instant::now();
        let mut doings = Doings::default();
        let at = |seconds| start + Duration::from_secs(seconds);
        for second in 0..30 {
            doings.spent(&v1::Spent { rows: 100, ..Default::default() }, at(second));
        }
        assert_eq!(doings.rate(at(30)), 100.0);
        assert!(doings.recent.len() <= 11);
        assert_eq!(doings.rate(at(60)), 0.0);
        assert_eq!(doings.totals.rows, 3000);
    }
}
