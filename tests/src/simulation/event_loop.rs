//! The one owner of the engine: inputs become events, commands are carried out in order. It mirrors
//! `event_loop.rs` of the coordinator.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use sheaf_cluster::durable::INLINE_LIMIT;
use sheaf_cluster::{Command, Entry, Event, FailKind, JobId, Outcome, Pointer, Reply, Stage, StagePlan, Step, Token, WorkerId};

use super::agenda::{Happening, SECOND};
use super::coordinator::Then;
use super::host::{Host, Order};
use super::invariants::Fact;
use super::lines;
use super::mutation::Mutation;
use super::network::{Blocks, Down};
use super::problem::{Payload, Work, digest};
use super::world::World;

/// Time between checkpoints.
const CHECKPOINT_EVERY: u64 = 5 * SECOND;

/// A stage as the loop knows it.
#[derive(Debug)]
pub(super) struct StageEntry {
    pub work: Work,
    pub step: Step,
    pub message: Arc<Vec<u8>>,
    /// Of the driver that opened it.
    pub life: u64,
    pub host: Host,
    /// Writes checkpoints, where the stage has any.
    pub saver: Option<Saver>,
}

/// The driver's task that writes checkpoints.
#[derive(Debug)]
pub(super) struct Saver {
    last: u64,
    busy: bool,
    states: VecDeque<(u64, Vec<u8>)>,
}

impl Saver {
    pub fn new(now: u64) -> Self {
        Self { last: now, busy: false, states: VecDeque::new() }
    }
}

impl World {
    /// The one way to the engine: all that it is told and says is looked at, then carried out.
    pub fn tell_engine(&mut self, event: Event, payload: Option<(WorkerId, Payload)>) {
        self.inbox.push_back((event, payload));
        if self.inbox.len() > 1 {
            // Carrying out a command led here: its turn comes when the commands before it are done.
            return;
        }
        while let Some((event, payload)) = self.inbox.front().cloned() {
            self.decide(event, payload);
            self.inbox.pop_front();
        }
    }

    fn decide(&mut self, event: Event, mut payload: Option<(WorkerId, Payload)>) {
        let now = self.clock();
        let Some(mind) = self.coordinator.process.as_mut().and_then(|leader| leader.mind.as_mut()) else { return };
        self.counts.decisions += 1;
        if !matches!(event, Event::Tick | Event::Heartbeat { .. } | Event::BlockArrived { .. }) {
            note!(self, "event: {}", lines::event(&event));
        }
        self.watch.see(&Fact::Event { event: &event, now });
        let commands = mind.handle(event.clone(), now);
        let incarnation = self.coordinator.incarnation;
        for command in commands {
            self.watch.see(&Fact::Command { event: &event, command: &command });
            note!(self, "command: {}", lines::command(&command));
            self.execute(command, &mut payload);
            if self.coordinator.process.is_none() || self.coordinator.incarnation != incarnation {
                return;
            }
        }
        if let Some(mind) = self.coordinator.process.as_ref().and_then(|leader| leader.mind.as_ref()) {
            self.watch.see(&Fact::Settled { engine: &mind.engine });
        }
    }

    fn execute(&mut self, command: Command, payload: &mut Option<(WorkerId, Payload)>) {
        match command {
            Command::StartJob { job } => self.order_driver(Then::StartDriver { job }),
            Command::FailJob { job, kind, message, .. } => {
                if self.mutation == Some(Mutation::TellsTooEarly) {
                    self.tell_watchers(&job, &Outcome::Cancelled);
                }
                let outcome = Outcome::Failed { kind, message, result: None };
                self.order_driver(Then::StopDriver { job, outcome });
            }
            Command::CancelJob { job } => self.order_driver(Then::StopDriver { job, outcome: Outcome::Cancelled }),
            Command::OpenStage { worker, stage, token, prepare } => {
                let Some(entry) = self.leader().and_then(|leader| leader.stages.get(&stage)) else { return };
                let work = entry.work;
                self.tell_worker(worker, Down::Open { stage, token, prepare, work });
            }
            Command::Compute { worker, stage, step, token, ranges } => self.compute(worker, stage, step, token, ranges),
            Command::CloseStage { worker, stage } => self.tell_worker(worker, Down::Close { stage }),
            Command::Accept { stage, block, .. } => {
                if let Some((_, value)) = payload.clone() {
                    let block = sheaf_learn::tree::Block { level: block.level, index: block.index };
                    self.host(&stage, Order::Merge(block, value));
                }
            }
            Command::Refuse { .. } => {
                self.counts.refused += 1;
                *payload = None;
            }
            Command::CompleteStep { stage, .. } => self.host(&stage, Order::Complete),
            Command::Note(_) => {}
            Command::Disconnect { worker, .. } => self.dismiss(worker, false),
            Command::DrainDone { worker } => self.dismiss(worker, true),
        }
    }

    /// Drivers are tasks of their own: they hear of it a moment later, in order.
    fn order_driver(&mut self, order: Then) {
        self.drivers_free = self.drivers_free.max(self.now) + self.network.rng.below(300);
        self.agenda.push(self.drivers_free, self.coordinator.owner(), Happening::Done(order));
    }

    fn compute(&mut self, worker: WorkerId, stage: Stage, step: Step, token: Token, ranges: Vec<Range<u32>>) {
        let limit = self.character.inline_message;
        let Some(entry) = self.leader().and_then(|leader| leader.stages.get(&stage)) else { return };
        let message = (entry.message.len() <= limit).then(|| entry.message.clone());
        self.tell_worker(worker, Down::Compute { stage, step, token, ranges, message });
    }

    fn tell_worker(&mut self, worker: WorkerId, frame: Down) {
        let connection = self.leader().and_then(|leader| leader.sessions.get(&worker)).copied();
        if let Some(connection) = connection {
            self.send_down(connection, frame);
        }
    }

    fn dismiss(&mut self, worker: WorkerId, drained: bool) {
        let Some(connection) = self.leader().and_then(|leader| leader.sessions.remove(&worker)) else { return };
        self.send_down(connection, Down::Leave { drained });
        self.hang_up(connection, false, false);
    }

    pub fn blocks(&mut self, blocks: Blocks) {
        let Blocks { worker, stage, step, token, blocks } = blocks;
        for (block, value) in blocks {
            let block = sheaf_cluster::Block { level: block.level, index: block.index };
            let digest = digest(&value);
            let event = Event::BlockArrived { worker, stage: stage.clone(), step, token, block, digest };
            self.tell_engine(event, Some((worker, value)));
        }
    }

    pub fn open_stage(&mut self, stage: Stage, work: Work, host: Host, life: u64, checkpoints: bool) {
        let now = self.now;
        let Some(leader) = self.leader() else { return };
        let saver = checkpoints.then(|| Saver::new(now));
        let entry = StageEntry { work, step: Step(0), message: Arc::default(), life, host, saver };
        leader.stages.insert(stage.clone(), entry);
        let (problem, leaves) = (work.problem(), work.leaves());
        let plan = match work {
            Work::Count(_) => StagePlan::tasks(leaves),
            Work::Write(_) => StagePlan::one_task(),
            Work::Train(number) | Work::Profile(number) => {
                StagePlan::shards(leaves, problem.boundaries.clone(), Some(number as u64))
            }
        };
        self.tell_engine(Event::StageOpened { stage: stage.clone(), plan }, None);
        self.host(&stage, Order::Begin);
    }

    /// The stage's driver is done with it, or gone.
    pub fn close_stage(&mut self, stage: &Stage) {
        if let Some(leader) = self.leader() {
            leader.stages.remove(stage);
        }
        self.tell_engine(Event::StageClosed { stage: stage.clone() }, None);
    }

    pub fn step_ready(&mut self, stage: &Stage, step: u64, message: Vec<u8>, state: Vec<u8>) {
        let Some(entry) = self.leader().and_then(|leader| leader.stages.get_mut(stage)) else { return };
        entry.step = Step(step);
        entry.message = Arc::new(message);
        if let Some(saver) = &mut entry.saver {
            saver.states.push_back((step, state));
        }
        self.save_next(stage);
        self.tell_engine(Event::StepReady { stage: stage.clone(), step: Step(step) }, None);
    }

    pub fn stage_done(&mut self, stage: &Stage, product: String) {
        let Some(entry) = self.leader().and_then(|leader| leader.stages.remove(stage)) else { return };
        self.tell_engine(Event::StageClosed { stage: stage.clone() }, None);
        self.stage_gave(&stage.job, entry.life, product);
    }

    /// Takes the next state that is due for a checkpoint.
    fn save_next(&mut self, stage: &Stage) {
        let (now, inline) = (self.now, self.character.inline_state);
        let Some(entry) = self.coordinator.process.as_mut().and_then(|leader| leader.stages.get_mut(stage)) else { return };
        let life = entry.life;
        let Some(saver) = entry.saver.as_mut().filter(|saver| !saver.busy) else { return };
        while let Some((step, state)) = saver.states.pop_front() {
            if step == 0 || now - saver.last < CHECKPOINT_EVERY {
                continue;
            }
            (saver.last, saver.busy) = (now, true);
            if state.len() <= inline.min(INLINE_LIMIT) {
                return self.state_stored(stage.clone(), life, step, Pointer::Inline(state));
            }
            let bytes = state.len() as u64;
            let hash = self.store.put(state);
            let then = Then::StateStored { stage: stage.clone(), life, step, state: Pointer::Object { hash, bytes } };
            return self.after_store(then);
        }
    }

    pub fn state_stored(&mut self, stage: Stage, life: u64, step: u64, state: Pointer) {
        if self.is_open(&stage, life) {
            let entry = Entry::Checkpoint { job: stage.job.clone(), stage: stage.number, step, state, now: self.clock() };
            self.propose(entry, Then::Saved { stage, life });
        }
    }

    pub fn saved(&mut self, stage: &Stage, life: u64, reply: Option<Reply>) {
        if !self.is_open(stage, life) {
            return;
        }
        if let Some(Reply::Rejected(reason)) = reply {
            return self.violated("protocol", format!("a checkpoint of {stage} was refused: {reason}"));
        }
        self.counts.checkpoints += 1;
        if let Some(saver) = self.leader().and_then(|leader| leader.stages.get_mut(stage)).and_then(|entry| entry.saver.as_mut())
        {
            saver.busy = false;
        }
        self.save_next(stage);
    }

    fn is_open(&self, stage: &Stage, life: u64) -> bool {
        let entry = self.coordinator.process.as_ref().and_then(|leader| leader.stages.get(stage));
        entry.is_some_and(|entry| entry.life == life)
    }

    /// A driver's phase failed in the coordinator itself.
    pub fn fail_driver(&mut self, job: JobId, message: String) {
        self.stop_driver(job, Outcome::Failed { kind: FailKind::Internal, message, result: None });
    }
}
