//! Clients: each submits a job, again and again until it is answered, at times in several copies; looks
//! after it; and may change its mind.

use sheaf_cluster::{JobId, JobState, Millis};

use super::agenda::{Happening, MS, Owner, SECOND};
use super::invariants::Fact;
use super::problem::{Work, problems};
use super::rng::Rng;
use super::world::World;

/// How a poison shard shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PoisonKind {
    /// It ends the worker that computes it.
    Kills,
    /// It cannot be read.
    Unreadable,
}

/// A shard that cannot be computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Poison {
    pub shard: u32,
    pub kind: PoisonKind,
}

impl Poison {
    /// It lies in the data, so it shows wherever shards are read.
    pub fn is_in(self, work: Work) -> bool {
        work.view().is_some()
    }
}

/// What is ordered.
#[derive(Debug, Clone)]
pub(super) struct JobSpec {
    pub problem: usize,
    /// Its prepare phase is one task of one worker.
    pub writes: bool,
    pub poison: Option<Poison>,
}

/// A submit.
#[derive(Debug, Clone)]
pub(super) struct Ticket {
    pub spec: JobSpec,
    pub key: Option<String>,
    pub namespace: String,
    pub priority: i32,
    pub deadline_ms: Option<u64>,
    /// When the coordinator took it.
    pub accepted: Millis,
}

/// What a client asks.
#[derive(Debug, Clone)]
pub(super) enum Request {
    Submit(Ticket),
    Show(JobId),
    Cancel(JobId),
}

/// What a client is answered.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    Accepted,
    State(JobState),
    NotFound,
    Done,
}

/// What a client does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Errand {
    Submit,
    Look,
    Cancel,
    /// Was the request of this number answered?
    Check(u64),
}

/// A client with its one job.
#[derive(Debug)]
pub(super) struct Client {
    ticket: Ticket,
    /// Copies of the first submit.
    copies: u64,
    cancels_after: Option<u64>,
    cancelled: bool,
    pub job: Option<JobId>,
    pub ended: bool,
    /// It does not try again.
    pub gave_up: bool,
    /// The request that an answer is waited for, and what it was for.
    waits: Option<(u64, Errand)>,
    next: u64,
}

impl Client {
    pub fn new(number: usize, rng: &mut Rng, poison: u64, deadlines: u64) -> Self {
        let problem = rng.below(problems().len() as u64) as usize;
        let shards = problems()[problem].shards.len() as u64;
        let kind = if rng.chance(500) { PoisonKind::Kills } else { PoisonKind::Unreadable };
        let poison = rng.chance(poison).then(|| Poison { shard: rng.below(shards) as u32, kind });
        let key = (!rng.chance(100)).then(|| format!("key{number}"));
        let ticket = Ticket {
            spec: JobSpec { problem, writes: rng.chance(300), poison },
            key,
            namespace: format!("n{}", rng.below(3)),
            priority: rng.below(3) as i32 - 1,
            deadline_ms: rng.chance(deadlines).then(|| rng.between(2_000, 60_000)),
            accepted: Millis(0),
        };
        Self {
            copies: if rng.chance(300) { rng.between(2, 5) } else { 1 },
            cancels_after: rng.chance(120).then(|| rng.below(15 * SECOND)),
            cancelled: false,
            ticket,
            job: None,
            ended: false,
            gave_up: false,
            waits: None,
            next: 1,
        }
    }

    /// Nothing is left to do.
    pub fn is_done(&self) -> bool {
        self.ended || self.gave_up
    }
}

impl World {
    pub fn client_acts(&mut self, number: usize, errand: Errand) {
        let client = &mut self.clients[number];
        if client.is_done() {
            return;
        }
        match errand {
            Errand::Submit if client.job.is_none() => {
                // Without a key a second submit would be a second job.
                let copies = if client.ticket.key.is_some() { std::mem::replace(&mut client.copies, 1) } else { 1 };
                let request = Request::Submit(client.ticket.clone());
                for copy in 0..copies {
                    if copy > 0 {
                        self.counts.fault("duplicate submit");
                    }
                    self.request(number, request.clone(), errand);
                }
            }
            Errand::Look => {
                if let Some(job) = client.job.clone() {
                    self.request(number, Request::Show(job), errand);
                }
            }
            Errand::Cancel if !client.cancelled => {
                if let Some(job) = client.job.clone() {
                    self.watch.book.cancelled(&job);
                    self.counts.fault("cancel");
                    self.request(number, Request::Cancel(job), errand);
                }
            }
            Errand::Check(asked) => self.check(number, asked),
            Errand::Submit | Errand::Cancel => {}
        }
    }

    fn request(&mut self, client: usize, request: Request, errand: Errand) {
        let number = self.clients[client].next;
        self.clients[client].next += 1;
        self.clients[client].waits = Some((number, errand));
        if self.coordinator.serving().is_some() {
            let at = self.now + self.network.delay();
            self.agenda.push(at, self.coordinator.owner(), Happening::Request { client, number, request });
        }
        let patience = 4 * SECOND + self.network.rng.below(2 * SECOND);
        self.agenda.push(self.now + patience, Owner::Nature, Happening::Client(client, Errand::Check(number)));
    }

    /// No answer: what can be asked twice is asked again.
    fn check(&mut self, number: usize, asked: u64) {
        let client = &mut self.clients[number];
        let Some((_, errand)) = client.waits.filter(|(waited, _)| *waited == asked) else { return };
        client.waits = None;
        if errand == Errand::Submit && client.ticket.key.is_none() {
            // Without a key a second submit might be a second job.
            client.gave_up = true;
            return;
        }
        self.client_acts(number, errand);
    }

    pub fn client_hears(&mut self, number: usize, asked: u64, job: Option<JobId>, answer: Answer) {
        let client = &mut self.clients[number];
        let expected = client.waits.filter(|(waited, _)| *waited == asked).map(|(_, errand)| errand);
        if expected.is_some() {
            client.waits = None;
        }
        match answer {
            Answer::Accepted => self.accepted(number, job),
            Answer::State(state) => self.saw(number, job, state, expected.is_some()),
            Answer::NotFound => {
                let fact = Fact::NotFound { job: job.as_ref() };
                self.watch.see(&fact);
            }
            Answer::Done => {
                client.cancelled = true;
                self.agenda.push(self.now + SECOND, Owner::Nature, Happening::Client(number, Errand::Look));
            }
        }
    }

    fn accepted(&mut self, number: usize, job: Option<JobId>) {
        let Some(job) = job else { return };
        let client = &mut self.clients[number];
        let key = client.ticket.key.clone();
        note!(self, "client {number} is told that its job is {job}");
        self.watch.see(&Fact::Acknowledged { job: &job, key: key.as_deref() });
        let client = &mut self.clients[number];
        if client.job.is_none() {
            client.job = Some(job);
            let cancels = client.cancels_after;
            self.agenda.push(self.now + SECOND, Owner::Nature, Happening::Client(number, Errand::Look));
            if let Some(after) = cancels {
                self.agenda.push(self.now + after, Owner::Nature, Happening::Client(number, Errand::Cancel));
            }
        }
    }

    fn saw(&mut self, number: usize, job: Option<JobId>, state: JobState, asked: bool) {
        let Some(job) = job else { return };
        let client = &mut self.clients[number];
        if let JobState::Ended(outcome) = &state {
            let first = !std::mem::replace(&mut client.ended, true);
            if first {
                self.counts.ended(outcome, client.ticket.spec.poison.is_some());
                note!(self, "client {number} sees {job} ended");
            }
        } else if asked {
            let at = self.now + SECOND + self.network.rng.below(500 * MS);
            self.agenda.push(at, Owner::Nature, Happening::Client(number, Errand::Look));
        }
    }
}
