//! The coordinator's process: recovers its log, takes the lead, serves workers and clients, writes the
//! log. It mirrors `server.rs`, `context.rs` and the services; the event loop, drivers and stage
//! threads are in files of their own.

use std::collections::{BTreeMap, BTreeSet};

use sheaf_cluster::{
    Durable, Engine, Entry, Event, JobId, JobState, Millis, Options, Outcome, Pointer, Reply as LogReply, Stage, WorkerId,
};

use super::agenda::{Happening, MS, Mend, Owner, SECOND};
use super::clients::{Answer, Request, Ticket};
use super::disk::Disk;
use super::driver::Driver;
use super::event_loop::StageEntry;
use super::invariants::Fact;
use super::lines;
use super::mind::Mind;
use super::mutation::Mutation;
use super::network::{Ask, Call, Reply, Up};
use super::world::World;

/// Time between ticks of the event loop.
pub(super) const TICK: u64 = 100 * MS;

/// What happens when something that was waited for is there.
#[derive(Debug, Clone)]
pub(super) enum Then {
    /// The term has risen: lead.
    Lead,
    /// A job message is stored: propose the job.
    SpecStored { client: usize, number: u64, ticket: Ticket },
    /// The job is in the log: queue and answer.
    Submitted { client: usize, number: u64, ticket: Ticket },
    /// The wish to cancel is in the log.
    Cancelled { client: usize, number: u64, job: JobId },
    /// The engine starts a job.
    StartDriver { job: JobId },
    /// It ends one.
    StopDriver { job: JobId, outcome: Outcome },
    /// A driver goes on.
    Driver { job: JobId, life: u64 },
    /// A checkpoint's object is stored: propose its pointer.
    StateStored { stage: Stage, life: u64, step: u64, state: Pointer },
    /// A checkpoint is committed.
    Saved { stage: Stage, life: u64 },
    /// A result is stored: log the end.
    ResultStored { job: JobId, outcome: Outcome },
    /// A job's end is in the log.
    Ended { job: JobId, outcome: Outcome },
}

/// The coordinator's machine.
#[derive(Debug)]
pub(super) struct Coordinator {
    pub incarnation: u32,
    pub process: Option<Leader>,
    /// While the process is stopped: what waits for it.
    pub backlog: Option<Vec<(Owner, Happening)>>,
    /// How far its clock is off, ms.
    pub skew: i64,
    pub disk: Disk,
}

/// The process.
#[derive(Debug, Default)]
pub(super) struct Leader {
    /// There once it leads.
    pub mind: Option<Mind>,
    pub durable: Durable,
    proposed: Vec<(Entry, Then)>,
    syncing: Vec<(Entry, Then)>,
    pub next_worker: u64,
    pub sessions: BTreeMap<WorkerId, u64>,
    pub stages: BTreeMap<Stage, StageEntry>,
    pub drivers: BTreeMap<JobId, Driver>,
    /// Jobs whose driver has been started and not been stopped.
    pub stops: BTreeSet<JobId>,
    pub lives: u64,
    /// Clients that watch.
    pub watchers: BTreeSet<(JobId, usize)>,
}

impl Coordinator {
    pub fn new(disk: Disk) -> Self {
        Self { incarnation: 0, process: None, backlog: None, skew: 0, disk }
    }

    /// The incarnation, if it takes connections.
    pub fn serving(&self) -> Option<u32> {
        self.process.as_ref().and_then(|leader| leader.mind.as_ref()).map(|_| self.incarnation)
    }

    pub fn owner(&self) -> Owner {
        Owner::Coordinator(self.incarnation)
    }
}

/// Life and death.
impl World {
    /// The leader's clock.
    pub fn clock(&self) -> Millis {
        Millis((1_700_000_000_000 + self.now as i64 / 1000 + self.coordinator.skew) as u64)
    }

    pub fn boot_coordinator(&mut self) {
        if self.coordinator.process.is_some() {
            return;
        }
        self.coordinator.incarnation += 1;
        self.coordinator.backlog = None;
        let durable = self.coordinator.disk.recover();
        note!(self, "coordinator {} starts with {} jobs in its log", self.coordinator.incarnation, durable.jobs.len());
        self.watch.see(&Fact::Recovered { durable: &durable });
        self.coordinator.process = Some(Leader { durable, next_worker: 1, ..Leader::default() });
        let now = self.clock();
        self.propose(Entry::LeaderStarted { now }, Then::Lead);
    }

    /// The process is gone, at once.
    pub fn kill_coordinator(&mut self, silent: bool) {
        if self.coordinator.process.take().is_none() {
            return;
        }
        self.coordinator.backlog = None;
        self.coordinator.disk.crash();
        // What the loop has not decided yet is never decided; the first is in hand.
        self.inbox.truncate(1);
        let own = self.coordinator.owner();
        let open: Vec<u64> =
            self.network.connections.iter().filter(|(_, wire)| wire.coordinator == own).map(|(number, _)| *number).collect();
        open.into_iter().for_each(|connection| self.hang_up(connection, false, silent));
    }

    pub fn leader(&mut self) -> Option<&mut Leader> {
        self.coordinator.process.as_mut()
    }

    fn lead(&mut self) {
        let Some(leader) = self.coordinator.process.as_mut() else { return };
        let term = leader.durable.term;
        let options = Options {
            max_running_jobs: self.character.running_jobs,
            heartbeat_timeout: Millis(self.character.worker_timeout / MS),
            ..Options::default()
        };
        leader.mind = Some(Mind::new(Engine::new(options, term), self.mutation));
        note!(self, "coordinator {} leads in term {term}", self.coordinator.incarnation);
        self.watch.see(&Fact::Leads { term });
        let mut jobs: Vec<_> = leader.durable.jobs.iter().filter(|(_, record)| !record.has_ended()).collect();
        jobs.sort_by_key(|(_, record)| (!matches!(record.state, JobState::Running), record.submitted));
        let mut events = Vec::new();
        for (job, record) in jobs {
            let (namespace, priority, submitted) = (record.namespace.clone(), record.priority, record.submitted);
            events.push(Event::JobQueued { job: job.clone(), namespace, priority, deadline: record.deadline, submitted });
            if record.cancel_requested {
                events.push(Event::CancelRequested { job: job.clone() });
            }
        }
        events.into_iter().for_each(|event| self.tell_engine(event, None));
        let owner = self.coordinator.owner();
        self.agenda.push(self.now + TICK, owner, Happening::Tick);
    }

    pub fn tick(&mut self) {
        self.tell_engine(Event::Tick, None);
        let owner = self.coordinator.owner();
        self.agenda.push(self.now + TICK, owner, Happening::Tick);
    }
}

/// The log.
impl World {
    pub fn propose(&mut self, entry: Entry, then: Then) {
        let early = self.mutation == Some(Mutation::AnswersBeforeSync);
        let Some(leader) = self.coordinator.process.as_mut() else { return };
        if early && matches!(entry, Entry::JobSubmitted { .. } | Entry::JobEnded { .. }) {
            leader.proposed.push((entry.clone(), Then::Lead));
            self.write();
            return self.apply(entry, then);
        }
        leader.proposed.push((entry, then));
        self.write();
    }

    /// Starts a batch unless one is on its way.
    fn write(&mut self) {
        let owner = self.coordinator.owner();
        let Some(leader) = self.coordinator.process.as_mut() else { return };
        if !leader.syncing.is_empty() || leader.proposed.is_empty() {
            return;
        }
        leader.syncing = std::mem::take(&mut leader.proposed);
        let batch = leader.syncing.iter().map(|(entry, _)| entry.clone()).collect();
        match self.coordinator.disk.write(batch) {
            Some(delay) => self.agenda.push(self.now + delay, owner, Happening::Synced),
            None => {
                note!(self, "the log's disk is full: the coordinator ends");
                self.kill_coordinator(false);
                let at = self.now + SECOND + self.chaos.below(SECOND);
                self.agenda.push(at, Owner::Nature, Happening::Mend(Mend::Coordinator));
            }
        }
    }

    pub fn synced(&mut self) {
        let early = self.mutation == Some(Mutation::AnswersBeforeSync);
        let incarnation = self.coordinator.incarnation;
        let Some(leader) = self.coordinator.process.as_mut() else { return };
        let batch = std::mem::take(&mut leader.syncing);
        let mut after = leader.durable.clone();
        for (entry, _) in &batch {
            after.apply(entry.clone());
        }
        self.coordinator.disk.synced(&after);
        for (entry, then) in batch {
            let applied = early && matches!(entry, Entry::JobSubmitted { .. } | Entry::JobEnded { .. });
            if !applied {
                self.apply(entry, then);
            }
            // What follows an entry may end the process.
            if self.coordinator.process.is_none() || self.coordinator.incarnation != incarnation {
                return;
            }
        }
        self.write();
    }

    fn apply(&mut self, entry: Entry, then: Then) {
        let mutation = self.mutation;
        let Some(leader) = self.coordinator.process.as_mut() else { return };
        let reply = leader.durable.apply(mutate(mutation, entry.clone()));
        if mutation == Some(Mutation::KeepsItsTerm) && leader.durable.term.0 > 1 {
            leader.durable.term.0 = 1;
        }
        note!(self, "log: {} -> {}", lines::entry(&entry), lines::reply(&reply));
        self.watch.see(&Fact::Applied { entry: &entry, reply: &reply, durable: &leader.durable });
        self.go_on(then, Some(reply));
    }

    /// What was waited for is there.
    pub fn go_on(&mut self, then: Then, reply: Option<LogReply>) {
        match then {
            Then::Lead => self.lead(),
            Then::SpecStored { client, number, ticket } => self.spec_stored(client, number, ticket),
            Then::Submitted { client, number, ticket } => self.submitted(client, number, ticket, reply),
            Then::Cancelled { client, number, job } => {
                self.tell_engine(Event::CancelRequested { job: job.clone() }, None);
                self.answer(client, number, Some(job), Answer::Done);
            }
            Then::StartDriver { job } => self.start_driver(job),
            Then::StopDriver { job, outcome } => self.stop_driver(job, outcome),
            Then::Driver { job, life } => self.driver_goes_on(&job, life, reply),
            Then::StateStored { stage, life, step, state } => self.state_stored(stage, life, step, state),
            Then::Saved { stage, life } => self.saved(&stage, life, reply),
            Then::ResultStored { job, outcome } => self.log_end(job, outcome),
            Then::Ended { job, outcome } => self.ended(job, outcome, reply),
        }
    }

    /// Goes on after a store operation.
    pub fn after_store(&mut self, then: Then) {
        let at = self.now + self.store.delay();
        self.agenda.push(at, self.coordinator.owner(), Happening::Done(then));
    }
}

/// The services.
impl World {
    pub fn coordinator_hears(&mut self, connection: u64, frame: Up) {
        let Some(wire) = self.network.connections.get(&connection) else { return };
        let machine = wire.machine;
        match (wire.id, frame) {
            (None, Up::Hello { threads }) => self.joined(connection, machine, threads),
            (Some(worker), Up::Heartbeat) => self.tell_engine(Event::Heartbeat { worker }, None),
            (Some(worker), Up::Leaving) => self.tell_engine(Event::DrainRequested { worker }, None),
            (Some(worker), Up::Prepared { stage, token }) => {
                self.tell_engine(Event::Prepared { worker, stage, token }, None);
            }
            (Some(worker), Up::Failed { stage, token, shard, message }) => {
                self.tell_engine(Event::ShardFailed { worker, stage, token, shard, retry: true, message }, None);
            }
            (Some(worker), Up::Returned { stage, token, shards }) => {
                self.tell_engine(Event::ShardsReturned { worker, stage, token, ranges: shards }, None);
            }
            (id, frame) => self.violated("protocol", format!("worker {id:?} says {frame:?} out of turn")),
        }
    }

    fn joined(&mut self, connection: u64, machine: usize, threads: u32) {
        let Some(leader) = self.coordinator.process.as_mut() else { return };
        let worker = WorkerId(leader.next_worker);
        leader.next_worker += 1;
        leader.sessions.insert(worker, connection);
        if let Some(wire) = self.network.connections.get_mut(&connection) {
            wire.id = Some(worker);
        }
        note!(self, "machine {machine} joins as worker {worker}");
        self.send_down(connection, super::network::Down::Welcome { worker });
        self.tell_engine(Event::WorkerJoined { worker, threads }, None);
    }

    pub fn stream_broke(&mut self, connection: u64) {
        let id = self.network.connections.get(&connection).and_then(|wire| wire.id);
        self.hang_up(connection, false, false);
        let (Some(worker), Some(leader)) = (id, self.coordinator.process.as_mut()) else { return };
        leader.sessions.remove(&worker);
        self.tell_engine(Event::WorkerLost { worker, reason: "its control stream broke".to_owned() }, None);
    }

    pub fn called(&mut self, call: Call) {
        if self.coordinator.serving().is_none() {
            return;
        }
        match call.ask.clone() {
            Ask::Document { work } => self.send_reply(&call, Reply::Document(work)),
            Ask::Message { stage, step } => {
                let entry = self.leader().and_then(|leader| leader.stages.get(&stage));
                let message = entry.filter(|entry| entry.step == step).map(|entry| entry.message.clone());
                self.send_reply(&call, Reply::Message(message));
            }
            Ask::Push(blocks) => {
                self.blocks(blocks);
                self.send_reply(&call, Reply::Pushed);
            }
        }
    }

    pub fn requested(&mut self, client: usize, number: u64, request: Request) {
        if self.coordinator.serving().is_none() {
            return;
        }
        match request {
            Request::Submit(ticket) => {
                let ticket = Ticket { accepted: self.clock(), ..ticket };
                self.after_store(Then::SpecStored { client, number, ticket });
            }
            Request::Show(job) => {
                let Some(leader) = self.leader() else { return };
                let state = leader.durable.jobs.get(&job).map(|record| record.state.clone());
                leader.watchers.insert((job.clone(), client));
                self.answer(client, number, Some(job), state.map_or(Answer::NotFound, Answer::State));
            }
            Request::Cancel(job) => {
                let now = self.clock();
                let Some(record) = self.leader().and_then(|leader| leader.durable.jobs.get(&job)) else {
                    return self.answer(client, number, Some(job), Answer::NotFound);
                };
                if record.has_ended() {
                    return self.answer(client, number, Some(job), Answer::Done);
                }
                self.propose(Entry::CancelRequested { job: job.clone(), now }, Then::Cancelled { client, number, job });
            }
        }
    }

    fn spec_stored(&mut self, client: usize, number: u64, ticket: Ticket) {
        let job = JobId(format!("J{:04}", self.next_job));
        self.next_job += 1;
        let (accepted, key) = (ticket.accepted, ticket.key.clone());
        self.watch.book.ordered(&job, ticket.spec.clone());
        let entry = Entry::JobSubmitted {
            job,
            key,
            spec: format!("client {client}"),
            priority: ticket.priority,
            namespace: ticket.namespace.clone(),
            deadline: ticket.deadline_ms.map(|span| accepted.plus(Millis(span))),
            now: accepted,
        };
        self.propose(entry, Then::Submitted { client, number, ticket });
    }

    fn submitted(&mut self, client: usize, number: u64, ticket: Ticket, reply: Option<LogReply>) {
        let Some(LogReply::Submitted { job, fresh }) = reply else {
            return self.violated("protocol", format!("a submit was answered {reply:?}"));
        };
        if fresh {
            let deadline = ticket.deadline_ms.map(|span| ticket.accepted.plus(Millis(span)));
            let (namespace, priority, submitted) = (ticket.namespace, ticket.priority, ticket.accepted);
            self.tell_engine(Event::JobQueued { job: job.clone(), namespace, priority, deadline, submitted }, None);
        }
        self.answer(client, number, Some(job), Answer::Accepted);
    }

    pub fn answer(&mut self, client: usize, number: u64, job: Option<JobId>, answer: Answer) {
        if let (Some(job), Answer::State(state)) = (&job, &answer) {
            self.watch.see(&Fact::Told { job, state });
        }
        let at = self.now + self.network.delay();
        self.agenda.push(at, Owner::Nature, Happening::Answer { client, number, job, answer });
    }
}

fn mutate(mutation: Option<Mutation>, entry: Entry) -> Entry {
    match (mutation, entry) {
        (Some(Mutation::IgnoresKeys), Entry::JobSubmitted { job, key: _, spec, priority, namespace, deadline, now }) => {
            Entry::JobSubmitted { job, key: None, spec, priority, namespace, deadline, now }
        }
        (_, entry) => entry,
    }
}
