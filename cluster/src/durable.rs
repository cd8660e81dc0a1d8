//! The replicated half: what was promised to clients. It changes only when a log entry is applied, every
//! replica applies the same entries, and applying has no effect outside this value.
//!
//! ```text
//! (JobSubmitted) ─▶ Queued ─ JobStarted ─▶ Running ─ JobEnded ─▶ Ended(outcome)
//!                     └────────────────── JobEnded ───────────────▶
//! ```
//!
//! Entries carry the leader's time; the clock here never goes back. [`Durable::apply`] is total: an entry
//! that does not fit is answered with [`Reply::Rejected`] and changes nothing but the clock.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::id::{JobId, Millis, Term};

/// Largest checkpoint that stands in the log itself, in bytes; wider states are objects in the store.
pub const INLINE_LIMIT: usize = 64 * 1024;

/// Ended jobs that are remembered, with their idempotency keys; beyond it those that ended first are forgotten.
pub const ENDED_LIMIT: usize = 10_000;

/// For how long an ended job is remembered at most: 30 days.
pub const ENDED_FOR: Millis = Millis(30 * 24 * 3_600 * 1_000);

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// A leader took over: the term rises.
    LeaderStarted {
        /// Leader's time.
        now: Millis,
    },
    /// A client's job, validated.
    JobSubmitted {
        /// Id given to it; not used if the key is known.
        job: JobId,
        /// Idempotency key: a second submit with it gives the first job.
        key: Option<String>,
        /// Pointer to the job message: its content hash.
        spec: String,
        /// Higher runs first.
        priority: i32,
        /// Whose share it counts against.
        namespace: String,
        /// When it fails at the latest.
        deadline: Option<Millis>,
        /// Leader's time.
        now: Millis,
    },
    /// Its driver starts; again after a change of leaders.
    JobStarted {
        /// Which.
        job: JobId,
        /// Leader's time.
        now: Millis,
    },
    /// A phase begins.
    PhaseEntered {
        /// Which job.
        job: JobId,
        /// Name of the phase.
        phase: String,
        /// Its number; rises in a job.
        number: u32,
        /// Leader's time.
        now: Millis,
    },
    /// A phase's result is fixed.
    PhaseFinished {
        /// Which job.
        job: JobId,
        /// Which phase.
        number: u32,
        /// Pointer to the result or a small inline JSON text.
        document: String,
        /// Leader's time.
        now: Millis,
    },
    /// State to resume training from.
    Checkpoint {
        /// Which job.
        job: JobId,
        /// Which stage.
        stage: u32,
        /// The step that comes next.
        step: u64,
        /// The state.
        state: Pointer,
        /// Leader's time.
        now: Millis,
    },
    /// Someone wants the job stopped.
    CancelRequested {
        /// Which.
        job: JobId,
        /// Leader's time.
        now: Millis,
    },
    /// A job is over, once and for all.
    JobEnded {
        /// Which.
        job: JobId,
        /// How.
        outcome: Outcome,
        /// Leader's time.
        now: Millis,
    },
    /// A node joins with a one-time token. The text of the token is nowhere in the log.
    TokenUsed {
        /// Digest that names the token.
        token: String,
        /// Digest of the node's public key.
        key: String,
        /// When the token ends: it is remembered until then.
        expires: Millis,
        /// Leader's time.
        now: Millis,
    },
}

/// Where bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pointer {
    /// Here; at most [`INLINE_LIMIT`].
    Inline(Vec<u8>),
    /// In the object store.
    Object {
        /// Content hash, which is also the name.
        hash: String,
        /// Size in bytes.
        bytes: u64,
    },
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Everything was done.
    Succeeded {
        /// Pointer to the result or a small inline JSON text.
        result: String,
    },
    /// It was given up.
    Failed {
        /// Why, for programs.
        kind: FailKind,
        /// Why, for people.
        message: String,
        /// What there is to read all the same: metrics of a model that broke a limit.
        result: Option<String>,
    },
    /// It was stopped on demand.
    Cancelled,
}

/// Why a job failed; the client maps it to an exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailKind {
    /// The job itself is at fault: it asks for what cannot be.
    Job,
    /// Its input is missing, unreadable or changed.
    Input,
    /// Its data do not fit: a failed check, a poison shard.
    Data,
    /// A declared limit was broken.
    Limit,
    /// It was not done in time.
    Deadline,
    /// The cluster is at fault.
    Internal,
}

/// Where a job is in its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobState {
    /// Accepted, not started.
    Queued,
    /// Started.
    Running,
    /// Over.
    Ended(Outcome),
}

/// A phase of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseRecord {
    /// Its name.
    pub name: String,
    /// When it began.
    pub entered: Millis,
    /// When it ended, and with what.
    pub finished: Option<Finished>,
}

/// The end of a phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    /// When.
    pub at: Millis,
    /// Pointer to the result or a small inline JSON text.
    pub document: String,
}

/// The newest checkpoint of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointRecord {
    /// Which stage.
    pub stage: u32,
    /// The step that comes next.
    pub step: u64,
    /// The state.
    pub state: Pointer,
    /// When it was committed.
    pub at: Millis,
}

/// All that is remembered of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Where it is in its life.
    pub state: JobState,
    /// Pointer to the job message: its content hash.
    pub spec: String,
    /// Idempotency key it came with.
    pub key: Option<String>,
    /// Higher runs first.
    pub priority: i32,
    /// Whose share it counts against.
    pub namespace: String,
    /// When it fails at the latest.
    pub deadline: Option<Millis>,
    /// When it was submitted.
    pub submitted: Millis,
    /// When its driver first started.
    pub started: Option<Millis>,
    /// How often it was taken up again by a new leader.
    pub restarts: u32,
    /// When it ended.
    pub ended: Option<Millis>,
    /// Term of the leader that last started it.
    pub term: Term,
    /// Whether someone wants it stopped.
    pub cancel_requested: bool,
    /// Phases by number.
    pub phases: BTreeMap<u32, PhaseRecord>,
    /// Newest checkpoint; dropped when the job ends.
    pub checkpoint: Option<CheckpointRecord>,
}

/// The replicated state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Durable {
    /// Term of the newest leader; 0 before the first.
    pub term: Term,
    /// Jobs by id.
    pub jobs: BTreeMap<JobId, JobRecord>,
    /// Jobs by idempotency key.
    pub keys: BTreeMap<String, JobId>,
    /// Ended jobs by the time of their end, so that the oldest can be forgotten.
    pub ended: BTreeSet<(Millis, JobId)>,
    /// Largest time seen in an entry.
    pub clock: Millis,
    /// Join tokens that were used, by their digests, until they end.
    pub tokens: BTreeMap<String, UsedToken>,
}

/// A join token that was used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsedToken {
    /// Digest of the public key of the node that used it.
    pub key: String,
    /// When it ends.
    pub expires: Millis,
}

/// Answer to whoever proposed an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// The job stands in the log.
    Submitted {
        /// Its id: the earlier one if the key was known.
        job: JobId,
        /// Whether this entry made it.
        fresh: bool,
    },
    /// Done, or done before.
    Ok,
    /// The entry did not fit; nothing changed. The text says why.
    Rejected(String),
}

impl Durable {
    /// Applies the next entry of the log.
    pub fn apply(&mut self, entry: Entry) -> Reply {
        match self.change(entry) {
            Ok(reply) => reply,
            Err(reason) => Reply::Rejected(reason),
        }
    }

    fn change(&mut self, entry: Entry) -> Result<Reply, String> {
        match entry {
            Entry::LeaderStarted { now } => {
                self.tick(now);
                self.term = Term(self.term.0.saturating_add(1));
                Ok(Reply::Ok)
            }
            Entry::JobSubmitted { job, key, spec, priority, namespace, deadline, now } => {
                let submitted = self.tick(now);
                self.forget();
                self.submit(job, JobRecord::queued(key, spec, priority, namespace, deadline, submitted))
            }
            Entry::JobStarted { job, now } => {
                let term = self.term;
                self.with(&job, now, |record, now| record.start(term, now))
            }
            Entry::PhaseEntered { job, phase, number, now } => {
                self.with(&job, now, |record, now| record.enter(phase, number, now))
            }
            Entry::PhaseFinished { job, number, document, now } => {
                self.with(&job, now, |record, now| record.finish(number, document, now))
            }
            Entry::Checkpoint { job, stage, step, state, now } => {
                self.with(&job, now, |record, now| record.save(CheckpointRecord { stage, step, state, at: now }))
            }
            Entry::CancelRequested { job, now } => self.with(&job, now, |record, _| record.cancel()),
            Entry::JobEnded { job, outcome, now } => {
                let reply = self.with(&job, now, |record, now| record.end(outcome, now))?;
                self.note_end(job);
                Ok(reply)
            }
            Entry::TokenUsed { token, key, expires, now } => self.use_token(token, UsedToken { key, expires }, now),
        }
    }

    fn tick(&mut self, now: Millis) -> Millis {
        self.clock = self.clock.max(now);
        self.clock
    }

    fn note_end(&mut self, job: JobId) {
        if let Some(at) = self.jobs.get(&job).and_then(|record| record.ended) {
            self.ended.insert((at, job));
        }
        self.forget();
    }

    /// Forgets ended jobs beyond the limits, the earliest first. Every replica does so at the same entry.
    fn forget(&mut self) {
        while let Some((at, _)) = self.ended.first()
            && (self.ended.len() > ENDED_LIMIT || self.clock.since(*at) > ENDED_FOR)
        {
            let Some((_, job)) = self.ended.pop_first() else { return };
            let key = self.jobs.remove(&job).and_then(|record| record.key);
            if let Some(key) = key.filter(|key| self.keys.get(key) == Some(&job)) {
                self.keys.remove(&key);
            }
        }
    }

    fn with(
        &mut self,
        job: &JobId,
        now: Millis,
        change: impl FnOnce(&mut JobRecord, Millis) -> Result<(), String>,
    ) -> Result<Reply, String> {
        let now = self.tick(now);
        let record = self.jobs.get_mut(job).ok_or_else(|| format!("job {job} not found"))?;
        change(record, now).map_err(|reason| format!("job {job}: {reason}"))?;
        Ok(Reply::Ok)
    }

    /// A token works once: for one key, so that a node that got no answer may ask again. By this clock,
    /// which never goes back, a token that is forgotten has ended.
    fn use_token(&mut self, token: String, used: UsedToken, now: Millis) -> Result<Reply, String> {
        let now = self.tick(now);
        if used.expires <= now {
            return Err("the join token has expired by the cluster's clock; make a new one".to_owned());
        }
        if let Some(known) = self.tokens.get(&token) {
            let same = known.key == used.key;
            return same
                .then_some(Reply::Ok)
                .ok_or("the join token has been used already: each works once; make a new one".to_owned());
        }
        self.tokens.retain(|_, known| known.expires > now);
        self.tokens.insert(token, used);
        Ok(Reply::Ok)
    }

    fn submit(&mut self, job: JobId, record: JobRecord) -> Result<Reply, String> {
        if let Some(earlier) = record.key.as_ref().and_then(|key| self.keys.get(key)) {
            return Ok(Reply::Submitted { job: earlier.clone(), fresh: false });
        }
        if let Some(known) = self.jobs.get(&job) {
            // The same proposal applied twice (a client that got no answer) is the same job.
            let same = known.spec == record.spec && known.key == record.key;
            return if same {
                Ok(Reply::Submitted { job, fresh: false })
            } else {
                Err(format!("job {job} exists already with another specification: submit under a new id"))
            };
        }
        if let Some(key) = &record.key {
            self.keys.insert(key.clone(), job.clone());
        }
        self.jobs.insert(job.clone(), record);
        Ok(Reply::Submitted { job, fresh: true })
    }
}

impl JobRecord {
    fn queued(
        key: Option<String>,
        spec: String,
        priority: i32,
        namespace: String,
        deadline: Option<Millis>,
        submitted: Millis,
    ) -> Self {
        Self {
            state: JobState::Queued,
            spec,
            key,
            priority,
            namespace,
            deadline,
            submitted,
            started: None,
            restarts: 0,
            ended: None,
            term: Term(0),
            cancel_requested: false,
            phases: BTreeMap::new(),
            checkpoint: None,
        }
    }

    /// Whether the job is over.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, JobState::Ended(_))
    }

    fn running(&self) -> Result<(), String> {
        match self.state {
            JobState::Running => Ok(()),
            JobState::Queued => Err("not started yet".to_owned()),
            JobState::Ended(_) => Err("already ended".to_owned()),
        }
    }

    fn start(&mut self, term: Term, now: Millis) -> Result<(), String> {
        if self.has_ended() {
            return Err("already ended".to_owned());
        }
        self.state = JobState::Running;
        match self.started {
            None => self.started = Some(now),
            // The same entry twice is one start.
            Some(_) if self.term < term => self.restarts = self.restarts.saturating_add(1),
            Some(_) => {}
        }
        self.term = term;
        Ok(())
    }

    fn enter(&mut self, name: String, number: u32, now: Millis) -> Result<(), String> {
        self.running()?;
        if let Some(known) = self.phases.get(&number) {
            // A new leader enters the phase that it found open once more.
            return match (known.name == name, &known.finished) {
                (true, None) => Ok(()),
                (true, Some(_)) => Err(format!("phase {number} ({name}) has already finished")),
                (false, _) => Err(format!("phase {number} is {}, not {name}", known.name)),
            };
        }
        if let Some((last, _)) = self.phases.last_key_value()
            && *last > number
        {
            return Err(format!("phase {number} ({name}) comes after phase {last}: phases only go forward"));
        }
        self.phases.insert(number, PhaseRecord { name, entered: now, finished: None });
        Ok(())
    }

    fn finish(&mut self, number: u32, document: String, now: Millis) -> Result<(), String> {
        self.running()?;
        let phase = self.phases.get_mut(&number).ok_or_else(|| format!("phase {number} was never entered"))?;
        match &phase.finished {
            None => {
                phase.finished = Some(Finished { at: now, document });
                Ok(())
            }
            Some(known) if known.document == document => Ok(()),
            Some(_) => Err(format!("phase {number} has already finished with another result")),
        }
    }

    fn save(&mut self, new: CheckpointRecord) -> Result<(), String> {
        self.running()?;
        if let Pointer::Inline(bytes) = &new.state
            && bytes.len() > INLINE_LIMIT
        {
            return Err(format!("checkpoint of {} bytes is too wide for the log: store it as an object", bytes.len()));
        }
        // An earlier step of the same stage comes from a leader that found the newest checkpoint damaged.
        if let Some(known) = &self.checkpoint
            && known.stage > new.stage
        {
            return Err(format!("checkpoint of stage {} is older than that of stage {}", new.stage, known.stage));
        }
        self.checkpoint = Some(new);
        Ok(())
    }

    fn cancel(&mut self) -> Result<(), String> {
        if self.has_ended() {
            return Err("already ended".to_owned());
        }
        self.cancel_requested = true;
        Ok(())
    }

    fn end(&mut self, outcome: Outcome, now: Millis) -> Result<(), String> {
        match &self.state {
            JobState::Ended(known) if *known == outcome => Ok(()),
            JobState::Ended(_) => Err("already ended with another outcome".to_owned()),
            JobState::Queued | JobState::Running => {
                self.state = JobState::Ended(outcome);
                self.ended = Some(now);
                self.checkpoint = None;
                Ok(())
            }
        }
    }
}
