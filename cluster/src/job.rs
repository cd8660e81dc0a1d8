//! Which job runs when: priority, then the namespace with the fewest running jobs, then age.
//!
//! ```text
//! Queued ─ StartJob ─▶ Running ─ FailJob | CancelJob ─▶ Ending ─ JobEnded ─▶ (forgotten)
//!   │                     └──────────────── JobEnded ─────────────────────▶
//!   └─ FailJob | CancelJob ─▶ Ending
//! ```
//!
//! A job takes its slot from `StartJob` to `JobEnded`, so a job that is being stopped still has it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::id::{JobId, Millis, Stage};

/// What a job waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waiting {
    /// For its turn.
    Turn {
        /// Jobs that would start before it.
        ahead: usize,
        /// Jobs that have a slot.
        running: usize,
    },
    /// For workers.
    Workers {
        /// Which stage.
        stage: Stage,
        /// Shards that nobody computes.
        shards: u32,
        /// Workers that are connected but take no new leases.
        draining: usize,
    },
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Waiting::Turn { ahead, running } => write!(f, "waits for its turn: {running} jobs run, {ahead} are ahead"),
            Waiting::Workers { stage, shards, draining: 0 } => {
                write!(f, "waits for workers: nobody is there to compute {shards} shards of stage {stage}")
            }
            Waiting::Workers { stage, shards, draining } => write!(
                f,
                "waits for workers: nobody is there to compute {shards} shards of stage {stage}, {draining} workers are leaving"
            ),
        }
    }
}

/// What the queue knows of a job.
#[derive(Debug, Clone)]
pub(crate) struct Ticket {
    pub namespace: String,
    pub priority: i32,
    pub deadline: Option<Millis>,
    pub submitted: Millis,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Queued,
    Running,
    Ending { started: bool },
}

#[derive(Debug, Clone)]
struct Job {
    ticket: Ticket,
    state: State,
}

impl Job {
    fn has_slot(&self) -> bool {
        matches!(self.state, State::Running | State::Ending { started: true })
    }
}

/// Jobs that have not ended.
#[derive(Debug, Clone, Default)]
pub(crate) struct Jobs {
    jobs: BTreeMap<JobId, Job>,
    queued: BTreeSet<JobId>,
    deadlines: BTreeSet<(Millis, JobId)>,
    slots: usize,
    slots_of: BTreeMap<String, usize>,
}

impl Jobs {
    /// Takes a job in; one that is known stays as it is.
    pub fn enqueue(&mut self, id: JobId, ticket: Ticket) {
        if self.jobs.contains_key(&id) {
            return;
        }
        if let Some(deadline) = ticket.deadline {
            self.deadlines.insert((deadline, id.clone()));
        }
        self.queued.insert(id.clone());
        self.jobs.insert(id, Job { ticket, state: State::Queued });
    }

    /// Starts the job whose turn it is, if one of `limit` slots is free.
    pub fn start_next(&mut self, limit: usize) -> Option<JobId> {
        if self.slots >= limit {
            return None;
        }
        let id = self.queued.iter().min_by_key(|id| self.turn(id))?.clone();
        self.queued.remove(&id);
        let job = self.jobs.get_mut(&id)?;
        job.state = State::Running;
        self.slots += 1;
        *self.slots_of.entry(job.ticket.namespace.clone()).or_default() += 1;
        Some(id)
    }

    /// What jobs are ordered by; the smallest starts first.
    fn turn<'a>(&'a self, id: &'a JobId) -> impl Ord + 'a {
        self.jobs.get(id).map(|job| {
            let ticket = &job.ticket;
            let share = self.slots_of.get(&ticket.namespace).copied().unwrap_or(0);
            (Reverse(ticket.priority), share, ticket.submitted, id)
        })
    }

    /// Whether stages of the job may run.
    pub fn is_running(&self, id: &JobId) -> bool {
        self.jobs.get(id).is_some_and(|job| job.state == State::Running)
    }

    /// Marks the job as ending. False if it is not known or ends already.
    pub fn stop(&mut self, id: &JobId) -> bool {
        let Some(job) = self.jobs.get_mut(id) else { return false };
        let started = match job.state {
            State::Queued => false,
            State::Running => true,
            State::Ending { .. } => return false,
        };
        job.state = State::Ending { started };
        self.queued.remove(id);
        true
    }

    /// Forgets the job and frees its slot.
    pub fn remove(&mut self, id: &JobId) {
        let Some(job) = self.jobs.remove(id) else { return };
        self.queued.remove(id);
        if let Some(deadline) = job.ticket.deadline {
            self.deadlines.remove(&(deadline, id.clone()));
        }
        if job.has_slot() {
            self.slots -= 1;
            if let Some(share) = self.slots_of.get_mut(&job.ticket.namespace) {
                *share -= 1;
                if *share == 0 {
                    self.slots_of.remove(&job.ticket.namespace);
                }
            }
        }
    }

    /// Jobs whose deadline is `now` or earlier; each is told once.
    pub fn expire(&mut self, now: Millis) -> Vec<JobId> {
        let mut expired = Vec::new();
        while self.deadlines.first().is_some_and(|(deadline, _)| *deadline <= now) {
            expired.extend(self.deadlines.pop_first().map(|(_, id)| id));
        }
        expired
    }

    /// Why a queued job waits; `None` if it is not queued.
    pub fn waiting(&self, id: &JobId) -> Option<Waiting> {
        self.queued.get(id)?;
        let ahead = self.queued.iter().filter(|other| self.turn(other) < self.turn(id)).count();
        Some(Waiting::Turn { ahead, running: self.slots })
    }

    /// Queued jobs in the order in which they would start now.
    pub fn queue(&self) -> Vec<JobId> {
        let mut queue: Vec<_> = self.queued.iter().collect();
        queue.sort_by_key(|id| self.turn(id));
        queue.into_iter().cloned().collect()
    }

    /// Jobs that have a slot.
    pub fn running(&self) -> Vec<JobId> {
        self.jobs.iter().filter(|(_, job)| job.has_slot()).map(|(id, _)| id.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(namespace: &str, priority: i32, submitted: u64) -> Ticket {
        Ticket { namespace: namespace.to_owned(), priority, deadline: None, submitted: Millis(submitted) }
    }

    fn jobs(list: &[(&str, &str, i32, u64)]) -> Jobs {
        let mut jobs = Jobs::default();
        for (id, namespace, priority, submitted) in list {
            jobs.enqueue((*id).into(), ticket(namespace, *priority, *submitted));
        }
        jobs
    }

    fn starts(jobs: &mut Jobs, limit: usize) -> Vec<String> {
        std::iter::from_fn(|| jobs.start_next(limit)).map(|id| id.0).collect()
    }

    #[test]
    fn priority_then_share_then_age() {
        let mut queue = jobs(&[("a", "x", 0, 1), ("b", "x", 0, 2), ("c", "y", 0, 3), ("d", "x", 5, 4)]);
        // d by priority; then y has nothing running; then a is older than b.
        assert_eq!(starts(&mut queue, 9), ["d", "c", "a", "b"]);
    }

    #[test]
    fn slots_are_freed_by_the_end_only() {
        let mut queue = jobs(&[("a", "x", 0, 1), ("b", "x", 0, 2), ("c", "x", 0, 3)]);
        assert_eq!(starts(&mut queue, 1), ["a"]);
        assert!(queue.stop(&"a".into()) && !queue.stop(&"a".into()));
        assert_eq!(queue.start_next(1), None);
        assert!(queue.stop(&"b".into()));
        queue.remove(&"b".into());
        assert_eq!(queue.start_next(1), None);
        queue.remove(&"a".into());
        assert_eq!(starts(&mut queue, 1), ["c"]);
    }

    #[test]
    fn deadlines_are_told_once() {
        let mut queue = Jobs::default();
        for (id, deadline) in [("a", 10), ("b", 20)] {
            queue.enqueue(id.into(), Ticket { deadline: Some(Millis(deadline)), ..ticket("x", 0, 0) });
        }
        assert_eq!(queue.expire(Millis(9)), vec![]);
        assert_eq!(queue.expire(Millis(10)), vec!["a".into()]);
        queue.remove(&"b".into());
        assert_eq!(queue.expire(Millis(99)), vec![]);
    }

    #[test]
    fn a_queued_job_says_why() {
        let mut queue = jobs(&[("a", "x", 0, 1), ("b", "x", 0, 2), ("c", "x", 9, 3)]);
        assert_eq!(starts(&mut queue, 1), ["c"]);
        assert_eq!(queue.waiting(&"b".into()), Some(Waiting::Turn { ahead: 1, running: 1 }));
        assert_eq!(queue.waiting(&"c".into()), None);
        assert_eq!(queue.queue(), vec!["a".into(), "b".into()]);
    }
}
