//! Which job runs when: first the namespace that has the fewest running jobs for its weight, then
//! priority, then age; no namespace beyond its own limit.
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

use crate::id::{JobId, Millis};

/// What a job waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waiting {
    /// For its turn.
    Turn {
        /// Jobs that would start before it, first the next one.
        ahead: Vec<JobId>,
        /// Jobs that have a slot.
        running: Vec<JobId>,
    },
    /// For another job of its namespace, which has as many running as it may.
    Limit {
        /// Which namespace.
        namespace: String,
        /// Jobs that it may run at the same time.
        limit: usize,
    },
    /// For workers.
    Workers {
        /// What people call the stage.
        stage: String,
        /// Shards that nobody computes.
        shards: u32,
        /// Workers that are connected but take no new leases.
        draining: usize,
    },
    /// For workers that are there and open the stage.
    Preparing {
        /// What people call the stage.
        stage: String,
        /// How many.
        workers: usize,
    },
    /// For a worker that is free to compute shards alone which may have ended others.
    Alone {
        /// What people call the stage.
        stage: String,
        /// How many shards.
        shards: usize,
    },
}

/// Jobs that are named in a sentence.
const NAMED: usize = 3;

/// Some jobs by name: `a, b, c and 4 others`.
struct Names<'a>(&'a [JobId]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named: Vec<_> = self.0.iter().take(NAMED).map(|job| job.0.as_str()).collect();
        f.write_str(&named.join(", "))?;
        match self.0.len().saturating_sub(NAMED) {
            0 => Ok(()),
            1 => f.write_str(" and 1 other"),
            others => write!(f, " and {others} others"),
        }
    }
}

/// `1 shard`, `2 shards`.
fn counted(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Waiting::Turn { ahead, running } => {
                f.write_str("waits for its turn")?;
                if !running.is_empty() {
                    write!(f, ": all slots are taken, by {}", Names(running))?;
                }
                if !ahead.is_empty() {
                    write!(f, "; ahead of it in the queue: {}", Names(ahead))?;
                }
                Ok(())
            }
            Waiting::Limit { namespace, limit } => {
                write!(f, "waits for namespace {namespace}, which may run {limit} at a time and does")
            }
            Waiting::Workers { stage, shards, draining } => {
                write!(f, "waits for workers: nobody is there to compute {} of {stage}", counted(*shards as usize, "shard"))?;
                match *draining {
                    0 => Ok(()),
                    1 => f.write_str(", 1 worker is leaving"),
                    several => write!(f, ", {several} workers are leaving"),
                }
            }
            Waiting::Preparing { stage, workers } => {
                let verb = if *workers == 1 { "prepares" } else { "prepare" };
                write!(f, "waits for workers to get ready: {} {verb} {stage}", counted(*workers, "worker"))
            }
            Waiting::Alone { stage, shards } => {
                let how = if *shards == 1 { "is computed alone" } else { "are computed one at a time" };
                write!(f, "waits for a free worker: {} of {stage} may have ended others and {how}", counted(*shards, "shard"))
            }
        }
    }
}

/// How slots are shared between namespaces.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shares {
    pub weights: BTreeMap<String, u32>,
    pub limits: BTreeMap<String, usize>,
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
    shares: Shares,
}

impl Jobs {
    pub fn new(shares: Shares) -> Self {
        Self { shares, ..Self::default() }
    }

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
        let allowed = |id: &&JobId| self.jobs.get(id).is_some_and(|job| self.full(&job.ticket.namespace).is_none());
        let id = self.queued.iter().filter(allowed).min_by_key(|id| self.turn(id))?.clone();
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
            let weight = self.shares.weights.get(&ticket.namespace).copied().unwrap_or(1).max(1);
            let share = ((self.taken(&ticket.namespace) as u64) << 32) / u64::from(weight);
            (share, Reverse(ticket.priority), ticket.submitted, id)
        })
    }

    fn taken(&self, namespace: &str) -> usize {
        self.slots_of.get(namespace).copied().unwrap_or(0)
    }

    /// The limit of a namespace that has reached it.
    fn full(&self, namespace: &str) -> Option<usize> {
        self.shares.limits.get(namespace).copied().filter(|limit| self.taken(namespace) >= *limit)
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
    pub fn waiting(&self, id: &JobId, slots: usize) -> Option<Waiting> {
        self.queued.get(id)?;
        let namespace = &self.jobs.get(id)?.ticket.namespace;
        if let Some(limit) = self.full(namespace).filter(|_| self.slots < slots) {
            return Some(Waiting::Limit { namespace: namespace.clone(), limit });
        }
        let mut ahead = self.queue();
        ahead.truncate(ahead.iter().position(|other| other == id)?);
        // Whose namespace is full does not start before it, whatever its turn.
        ahead.retain(|other| self.jobs.get(other).is_some_and(|job| self.full(&job.ticket.namespace).is_none()));
        Some(Waiting::Turn { ahead, running: self.running() })
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
    fn share_then_priority_then_age() {
        let mut queue = jobs(&[("a", "x", 0, 1), ("b", "x", 0, 2), ("c", "y", 0, 3), ("d", "x", 5, 4)]);
        // d by priority; then y has nothing running; then a is older than b.
        assert_eq!(starts(&mut queue, 9), ["d", "c", "a", "b"]);
        // A high priority jumps the queue of its own namespace only.
        let mut queue = jobs(&[("a", "x", 9, 1), ("b", "x", 9, 2), ("c", "y", 0, 3)]);
        assert_eq!(starts(&mut queue, 2), ["a", "c"]);
    }

    #[test]
    fn weights_share_the_slots_and_limits_cap_them() {
        let list: Vec<(String, &str)> = (0..12).map(|i| (format!("{}{i:02}", ["x", "y"][i % 2]), ["x", "y"][i % 2])).collect();
        let list: Vec<(&str, &str, i32, u64)> = list.iter().map(|(id, namespace)| (id.as_str(), *namespace, 0, 0)).collect();
        let mut queue = jobs(&list);
        queue.shares.weights.insert("y".to_owned(), 2);
        let of_y = |ids: Vec<String>| ids.iter().filter(|id| id.starts_with('y')).count();
        assert_eq!(of_y(starts(&mut queue, 6)), 4);
        let mut queue = jobs(&list);
        queue.shares.limits.insert("x".to_owned(), 1);
        assert_eq!(starts(&mut queue, 3), ["x00", "y01", "y03"]);
        assert_eq!(queue.waiting(&"x02".into(), 4), Some(Waiting::Limit { namespace: "x".to_owned(), limit: 1 }));
        let text = queue.waiting(&"y05".into(), 3).map(|waiting| waiting.to_string());
        assert_eq!(text.as_deref(), Some("waits for its turn: all slots are taken, by x00, y01, y03"));
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
        let (ahead, running) = (vec!["a".into()], vec!["c".into()]);
        assert_eq!(queue.waiting(&"b".into(), 1), Some(Waiting::Turn { ahead, running }));
        assert_eq!(queue.waiting(&"c".into(), 1), None);
        assert_eq!(queue.queue(), vec!["a".into(), "b".into()]);
    }
}
