//! The thread of a stage: owns the program's state, merges accepted blocks along the tree, updates the
//! state when a step is complete. It mirrors `host.rs` of the coordinator; it takes its orders one
//! after the other, each a while after it was given.

use std::collections::VecDeque;

use sheaf_cluster::Stage;
use sheaf_learn::algorithm::{LearnError, Progress};
use sheaf_learn::program::State;
use sheaf_learn::tree::{Block, Merger};

use super::agenda::Happening;
use super::invariants::Fact;
use super::mutation::Mutation;
use super::problem::{Payload, Work};
use super::world::World;

/// Where a stage starts from.
#[derive(Debug, Clone, Default)]
pub(super) struct Resume {
    pub step: u64,
    pub state: Option<Vec<u8>>,
}

/// An order to the thread.
#[derive(Debug)]
pub(super) enum Order {
    Begin,
    Merge(Block, Payload),
    Complete,
}

/// The thread.
#[derive(Debug)]
pub(super) struct Host {
    work: Work,
    /// Absent for tasks, which have none.
    state: Option<State>,
    step: u64,
    merger: Merger<Vec<u8>>,
    inbox: VecDeque<Order>,
    free: u64,
    /// The sum in order of arrival, for the mutation that takes that one.
    arrival: Option<Vec<u8>>,
}

/// What an order led to.
enum Turn {
    Nothing,
    Announce(Vec<u8>),
    Done(String),
}

impl Host {
    pub fn new(work: Work, resume: Resume) -> Result<Self, LearnError> {
        let state = match (resume.state, work.program()) {
            (Some(state), Some(program)) => Some(program.load(&state)?),
            (None, Some(program)) => Some(program.start()?),
            (_, None) => None,
        };
        let (merger, inbox) = (Merger::new(work.leaves()), VecDeque::new());
        Ok(Self { work, state, step: resume.step, merger, inbox, free: 0, arrival: None })
    }

    fn take(&mut self, order: Order, mutation: Option<Mutation>) -> Result<Turn, LearnError> {
        match order {
            Order::Begin => self.announce(),
            Order::Merge(block, value) => {
                let (work, value) = (self.work, value.map(|bytes| bytes.to_vec()));
                if mutation == Some(Mutation::MergesAsTheyCome)
                    && let Some(bytes) = &value
                {
                    self.arrival = Some(match self.arrival.take() {
                        Some(sum) => work.merge(sum, bytes.clone())?,
                        None => bytes.clone(),
                    });
                }
                self.merger.insert(block, value, |a, b| work.merge(a, b))?;
                Ok(Turn::Nothing)
            }
            Order::Complete => self.update(mutation),
        }
    }

    fn announce(&self) -> Result<Turn, LearnError> {
        let message = self.work.program().zip(self.state.as_ref()).map(|(program, state)| program.message(state)).transpose()?;
        Ok(Turn::Announce(message.unwrap_or_default()))
    }

    fn update(&mut self, mutation: Option<Mutation>) -> Result<Turn, LearnError> {
        let merger = std::mem::replace(&mut self.merger, Merger::new(self.work.leaves()));
        let total = merger.total().ok_or_else(|| LearnError::Data("a step was complete before all shards were in".into()))?;
        let arrival = self.arrival.take();
        let total = if mutation == Some(Mutation::MergesAsTheyCome) { arrival } else { total };
        let (Some(program), Some(mut state)) = (self.work.program(), self.state.take()) else {
            return Ok(Turn::Done(format!("{:?}", total.unwrap_or_default())));
        };
        let total = total.map(|bytes| program.read(&bytes)).transpose()?;
        let progress = program.update(&mut state, total)?;
        self.step += 1;
        match progress {
            Progress::Continue => {
                self.state = Some(state);
                self.announce()
            }
            Progress::Done => Ok(Turn::Done(program.finish(state)?.to_string())),
        }
    }

    /// The state as a checkpoint has it.
    fn saved(&self) -> Result<Vec<u8>, LearnError> {
        let state = self.work.program().zip(self.state.as_ref()).map(|(program, state)| program.save(state)).transpose()?;
        Ok(state.unwrap_or_default())
    }
}

impl World {
    /// Gives the stage's thread an order.
    pub fn host(&mut self, stage: &Stage, order: Order) {
        let (now, owner) = (self.now, self.coordinator.owner());
        let pause = 20 + self.network.rng.below(400);
        let Some(entry) = self.coordinator.process.as_mut().and_then(|leader| leader.stages.get_mut(stage)) else { return };
        entry.host.inbox.push_back(order);
        entry.host.free = entry.host.free.max(now) + pause;
        let what = Happening::Host { stage: stage.clone(), life: entry.life };
        self.agenda.push(entry.host.free, owner, what);
    }

    pub fn host_turns(&mut self, stage: &Stage, life: u64) {
        let mutation = self.mutation;
        let leader = self.coordinator.process.as_mut();
        let Some(entry) = leader.and_then(|leader| leader.stages.get_mut(stage)).filter(|entry| entry.life == life) else {
            return;
        };
        let host = &mut entry.host;
        let (work, step) = (host.work, host.step);
        let Some(order) = host.inbox.pop_front() else { return };
        match &order {
            Order::Merge(block, _) => self.watch.see(&Fact::Merged { stage, step, range: block.range(work.leaves()) }),
            Order::Complete => self.watch.see(&Fact::Totalled { stage, step, shards: work.leaves() }),
            Order::Begin => {}
        }
        if matches!(order, Order::Complete) {
            self.counts.steps += 1;
        }
        match host.take(order, mutation) {
            Ok(Turn::Nothing) => {}
            Ok(Turn::Announce(message)) => {
                let (step, state) = match host.saved() {
                    Ok(state) => (host.step, state),
                    Err(error) => return self.violated("learner", format!("{stage} step {step}: {error}")),
                };
                self.watch.see(&Fact::Message { stage, work, step, message: &message });
                self.step_ready(stage, step, message, state);
            }
            Ok(Turn::Done(product)) => {
                self.watch.see(&Fact::Product { stage, work, product: &product });
                self.stage_done(stage, product);
            }
            Err(error) => self.violated("learner", format!("{stage} step {step}: {error}")),
        }
    }
}
