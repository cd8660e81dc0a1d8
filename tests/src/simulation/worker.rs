//! A worker machine and its process: joins, beats, opens stages, computes orders with the real learner,
//! pushes blocks, leaves when asked to, and comes back when its connection breaks. It mirrors the agent.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use sheaf_cluster::{Stage, Step, Token, WorkerId};
use sheaf_learn::tree::Block;

use super::agenda::{Happening, MS, Mend, Owner, SECOND};
use super::clients::PoisonKind;
use super::network::{Ask, Blocks, Call, Down, Path, Reply, Up};
use super::problem::{Payload, Work};
use super::world::World;

/// Time between heartbeats, µs.
pub(super) const HEARTBEAT: u64 = SECOND;
/// How long a leaving worker waits for its leave.
const DRAIN_TIMEOUT: u64 = 25 * SECOND;

/// A machine that can run a worker.
#[derive(Debug, Default)]
pub(super) struct Machine {
    pub incarnation: u32,
    pub process: Option<Process>,
    /// While the process is stopped: what waits for it.
    pub backlog: Option<Vec<(Owner, Happening)>>,
    pub path: Path,
    /// It computes this many times slower than usual.
    pub slowness: u64,
    /// Its heartbeats come at this per mille of their time.
    pub drift: u64,
    /// Its spill folder has no room.
    pub spill_full: bool,
    pub threads: u32,
}

/// A worker process.
#[derive(Debug, Default)]
pub(super) struct Process {
    session: Option<Session>,
    pub leaving: bool,
    /// Encoded shards, by the work's problem.
    cache: BTreeSet<(usize, u32)>,
    next: u64,
}

/// What a process has while it is joined.
#[derive(Debug)]
struct Session {
    connection: u64,
    worker: Option<WorkerId>,
    stages: BTreeMap<Stage, Open>,
    tasks: BTreeMap<u64, Task>,
    calls: BTreeMap<u64, For>,
}

/// What a call's answer is for.
#[derive(Debug, Clone)]
enum For {
    Stage(Stage),
    Message(u64),
    Push(u64),
}

#[derive(Debug, Default)]
struct Open {
    work: Option<Work>,
    /// Opens that wait for the document.
    asked: Vec<(Token, Vec<Range<u32>>)>,
    /// Tasks that wait for the document.
    waiting: Vec<u64>,
    /// Tasks that wait for their turn: one computes at a time.
    queue: VecDeque<u64>,
    busy: bool,
}

#[derive(Debug)]
struct Task {
    stage: Stage,
    step: Step,
    token: Token,
    ranges: Vec<Range<u32>>,
    message: Option<Arc<Vec<u8>>>,
    pushes: VecDeque<Vec<(Block, Payload)>>,
}

impl Machine {
    pub fn new(threads: u32, drift: u64) -> Self {
        Self { threads, drift, slowness: 1, ..Self::default() }
    }

    pub fn is_up(&self) -> bool {
        self.process.is_some()
    }

    fn session(&mut self) -> Option<&mut Session> {
        self.process.as_mut()?.session.as_mut()
    }

    /// The session over a connection, if it is still that one.
    fn session_over(&mut self, connection: u64) -> Option<&mut Session> {
        self.session().filter(|session| session.connection == connection)
    }

    /// The connection of the process, if it has one.
    pub fn connection(&self) -> Option<u64> {
        Some(self.process.as_ref()?.session.as_ref()?.connection)
    }
}

/// Life and death.
impl World {
    pub fn owner(&self, machine: usize) -> Owner {
        Owner::Worker(machine, self.machines[machine].incarnation)
    }

    pub fn boot_worker(&mut self, machine: usize) {
        let place = &mut self.machines[machine];
        if place.is_up() {
            return;
        }
        place.incarnation += 1;
        place.process = Some(Process::default());
        place.backlog = None;
        let at = self.now + 20 * MS + self.network.delay();
        note!(self, "worker process starts on machine {machine}");
        self.agenda.push(at, self.owner(machine), Happening::Connect);
    }

    /// The process is gone, at once. `silent`: its machine as well, so that nobody resets its connections.
    pub fn kill_worker(&mut self, machine: usize, silent: bool) {
        let connection = self.machines[machine].connection();
        self.machines[machine].process = None;
        self.machines[machine].backlog = None;
        if let Some(connection) = connection {
            self.hang_up(connection, true, silent);
        }
        if self.is_calm {
            // In calm every machine has a worker; the storm's faults bring theirs back themselves.
            self.agenda.push(self.now + SECOND, Owner::Nature, Happening::Mend(Mend::Worker(machine)));
        }
    }

    pub fn dial(&mut self, machine: usize) {
        let Some(process) = self.machines[machine].process.as_ref().filter(|process| process.session.is_none()) else { return };
        if process.leaving {
            return self.kill_worker(machine, false);
        }
        let owner = self.owner(machine);
        let Some(incarnation) = self.coordinator.serving().filter(|_| !self.machines[machine].path.is_cut()) else {
            let at = self.now + 100 * MS + self.network.rng.below(2 * SECOND);
            return self.agenda.push(at, owner, Happening::Connect);
        };
        let connection = self.connect(machine, owner, Owner::Coordinator(incarnation));
        let threads = self.machines[machine].threads;
        if let Some(process) = self.machines[machine].process.as_mut() {
            let (stages, tasks, calls) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
            process.session = Some(Session { connection, worker: None, stages, tasks, calls });
        }
        self.send_up(connection, Up::Hello { threads });
    }

    /// The session is over: orders are forgotten, shards are kept, and the worker dials again.
    pub fn drop_session(&mut self, machine: usize, connection: u64) {
        let owner = self.owner(machine);
        let Some(process) = self.machines[machine].process.as_mut() else { return };
        if process.session.as_ref().is_some_and(|session| session.connection == connection) {
            process.session = None;
            let leaving = process.leaving;
            self.hang_up(connection, true, false);
            if leaving {
                return self.kill_worker(machine, false);
            }
            let at = self.now + 50 * MS + self.network.rng.below(500 * MS);
            self.agenda.push(at, owner, Happening::Connect);
        }
    }

    pub fn beat(&mut self, machine: usize, connection: u64) {
        if self.machines[machine].session_over(connection).is_none() {
            return;
        }
        self.send_up(connection, Up::Heartbeat);
        let at = self.now + HEARTBEAT * self.machines[machine].drift / 1000;
        self.agenda.push(at, self.owner(machine), Happening::Beat { connection });
    }

    /// SIGTERM.
    pub fn drain_worker(&mut self, machine: usize) {
        let owner = self.owner(machine);
        let Some(process) = self.machines[machine].process.as_mut().filter(|process| !process.leaving) else { return };
        process.leaving = true;
        match process.session.as_ref().map(|session| (session.connection, session.worker)) {
            Some((connection, Some(_))) => {
                self.send_up(connection, Up::Leaving);
                self.agenda.push(self.now + DRAIN_TIMEOUT, owner, Happening::GiveUp);
            }
            _ => self.kill_worker(machine, false),
        }
    }
}

/// The agent.
impl World {
    pub fn worker_hears(&mut self, machine: usize, connection: u64, frame: Down) {
        let Some(session) = self.machines[machine].session_over(connection) else { return };
        match frame {
            Down::Welcome { worker } => {
                session.worker = Some(worker);
                let leaving = self.machines[machine].process.as_ref().is_some_and(|process| process.leaving);
                self.beat(machine, connection);
                if leaving {
                    self.send_up(connection, Up::Leaving);
                }
            }
            Down::Open { stage, token, prepare, work } => self.open_stage_here(machine, stage, token, prepare, work),
            Down::Compute { stage, step, token, ranges, message } => {
                if !session.stages.contains_key(&stage) {
                    return self.violated("protocol", format!("{stage} was ordered from machine {machine} before it was opened"));
                }
                let task = Task { stage: stage.clone(), step, token, ranges, message, pushes: VecDeque::new() };
                let number = self.number(machine);
                if let Some(session) = self.machines[machine].session() {
                    session.tasks.insert(number, task);
                }
                self.task_goes_on(machine, number);
            }
            Down::Close { stage } => {
                session.stages.remove(&stage);
                session.tasks.retain(|_, task| task.stage != stage);
            }
            Down::Leave { drained } => {
                if drained {
                    note!(self, "machine {machine} leaves");
                    return self.kill_worker(machine, false);
                }
                self.drop_session(machine, connection);
            }
        }
    }

    fn number(&mut self, machine: usize) -> u64 {
        self.machines[machine].process.as_mut().map_or(0, |process| {
            process.next += 1;
            process.next
        })
    }

    fn call(&mut self, machine: usize, ask: Ask, purpose: For) {
        let number = self.number(machine);
        let Some(session) = self.machines[machine].session() else { return };
        let connection = session.connection;
        session.calls.insert(number, purpose);
        self.send_call(Call { machine, connection, number, ask });
    }

    fn open_stage_here(&mut self, machine: usize, stage: Stage, token: Token, prepare: Vec<Range<u32>>, work: Work) {
        let Some(session) = self.machines[machine].session() else { return };
        let fresh = !session.stages.contains_key(&stage);
        let open = session.stages.entry(stage.clone()).or_default();
        open.asked.push((token, prepare));
        if fresh {
            self.call(machine, Ask::Document { work }, For::Stage(stage));
        } else if open.work.is_some() {
            self.get_ready(machine, &stage);
        }
    }

    /// The document is here: prepares what was asked for, then reports.
    fn get_ready(&mut self, machine: usize, stage: &Stage) {
        let owner = self.owner(machine);
        let Some(session) = self.machines[machine].session() else { return };
        let connection = session.connection;
        let Some(open) = session.stages.get_mut(stage) else { return };
        let Some(work) = open.work else { return };
        for (token, prepare) in std::mem::take(&mut open.asked) {
            let cost = self.encoding(machine, work, &prepare);
            let at = self.now + 5 * MS + cost;
            self.agenda.push(at, owner, Happening::Opened { connection, stage: stage.clone(), token });
        }
    }

    pub fn stage_opened(&mut self, machine: usize, connection: u64, stage: Stage, token: Token) {
        let here = self.machines[machine].session_over(connection).is_some_and(|session| session.stages.contains_key(&stage));
        if here {
            self.send_up(connection, Up::Prepared { stage, token });
        }
    }

    pub fn reply_arrives(&mut self, machine: usize, connection: u64, call: u64, reply: Reply) {
        let Some(session) = self.machines[machine].session_over(connection) else { return };
        let Some(purpose) = session.calls.remove(&call) else { return };
        match (purpose, reply) {
            (For::Stage(stage), Reply::Document(work)) => {
                let Some(open) = session.stages.get_mut(&stage) else { return };
                open.work = Some(work);
                let waiting = std::mem::take(&mut open.waiting);
                self.get_ready(machine, &stage);
                waiting.into_iter().for_each(|task| self.task_goes_on(machine, task));
            }
            (For::Message(task), Reply::Message(Some(message))) => {
                if let Some(task) = session.tasks.get_mut(&task) {
                    task.message = Some(message);
                }
                self.task_goes_on(machine, task);
            }
            (For::Message(task), Reply::Message(None)) => {
                let first = session.tasks.get(&task).and_then(|task| task.ranges.first()).map_or(0, |range| range.start);
                self.fail_task(machine, task, first, "fetch the step's message: the step is over", false);
            }
            (For::Push(task), Reply::Pushed) => self.push_next(machine, task),
            (purpose, reply) => self.violated("protocol", format!("{purpose:?} was answered {reply:?}")),
        }
    }

    /// Brings a task as far as it gets: document, message, its turn.
    fn task_goes_on(&mut self, machine: usize, number: u64) {
        let Some(session) = self.machines[machine].session() else { return };
        let Some(task) = session.tasks.get(&number) else { return };
        let Some(open) = session.stages.get_mut(&task.stage) else { return };
        if open.work.is_none() {
            open.waiting.push(number);
        } else if task.message.is_none() {
            let ask = Ask::Message { stage: task.stage.clone(), step: task.step };
            self.call(machine, ask, For::Message(number));
        } else {
            open.queue.push_back(number);
            let stage = task.stage.clone();
            self.next_turn(machine, &stage);
        }
    }

    fn next_turn(&mut self, machine: usize, stage: &Stage) {
        let owner = self.owner(machine);
        let Some(session) = self.machines[machine].session() else { return };
        let connection = session.connection;
        let Some(open) = session.stages.get_mut(stage).filter(|open| !open.busy) else { return };
        let Some(task) = open.queue.pop_front() else { return };
        let (Some(work), Some(ranges)) = (open.work, session.tasks.get(&task).map(|task| task.ranges.clone())) else { return };
        open.busy = true;
        let encoding = self.encoding(machine, work, &ranges);
        let shards: u64 = ranges.iter().map(|range| u64::from(range.end - range.start)).sum();
        let cost =
            shards * self.character.shard_cost * self.machines[machine].slowness / u64::from(self.machines[machine].threads);
        self.agenda.push(self.now + MS + encoding + cost, owner, Happening::Computed { connection, task });
    }

    /// Time to read and encode what the cache lacks; it has it from then on.
    fn encoding(&mut self, machine: usize, work: Work, ranges: &[Range<u32>]) -> u64 {
        let Some(view) = work.view() else { return 0 };
        let place = &mut self.machines[machine];
        let Some(process) = place.process.as_mut() else { return 0 };
        let fresh = ranges.iter().cloned().flatten().filter(|shard| process.cache.insert((view, *shard))).count() as u64;
        fresh * 4 * self.character.shard_cost * place.slowness / u64::from(place.threads)
    }

    pub fn computed(&mut self, machine: usize, connection: u64, number: u64) {
        let Some(session) = self.machines[machine].session_over(connection) else { return };
        let Some(task) = session.tasks.get(&number) else { return };
        let stage = task.stage.clone();
        let Some(open) = session.stages.get_mut(&stage) else { return };
        open.busy = false;
        let Some(work) = open.work else { return };
        let (ranges, message) = (task.ranges.clone(), task.message.clone().unwrap_or_default());
        if self.meets_poison(machine, number, &stage, work, &ranges) {
            return;
        }
        if self.machines[machine].spill_full && work.view().is_some() && self.chaos.chance(500) {
            let shards: Vec<u32> = ranges.into_iter().flatten().collect();
            let shard = self.chaos.pick(&shards).unwrap_or(0);
            self.counts.fault("shard failed for want of room");
            self.fail_task(machine, number, shard, "spill a shard: no space left on device", true);
            return self.next_turn(machine, &stage);
        }
        match work.answer(&ranges, &message) {
            Ok(blocks) => {
                let pushes = self.batches(blocks);
                if let Some(task) = self.machines[machine].session().and_then(|session| session.tasks.get_mut(&number)) {
                    task.pushes = pushes;
                }
                self.push_next(machine, number);
            }
            Err(error) => self.violated("learner", format!("{stage} on machine {machine}: {error}")),
        }
        self.next_turn(machine, &stage);
    }

    fn batches(&mut self, blocks: Vec<(Block, Payload)>) -> VecDeque<Vec<(Block, Payload)>> {
        let mut batches: VecDeque<Vec<(Block, Payload)>> = VecDeque::new();
        for block in blocks {
            match batches.back_mut() {
                Some(batch) if !self.network.rng.chance(300) => batch.push(block),
                _ => batches.push_back(vec![block]),
            }
        }
        batches
    }

    fn push_next(&mut self, machine: usize, number: u64) {
        let Some(session) = self.machines[machine].session() else { return };
        let (Some(worker), Some(task)) = (session.worker, session.tasks.get_mut(&number)) else { return };
        match task.pushes.pop_front() {
            Some(blocks) => {
                let (stage, step, token) = (task.stage.clone(), task.step, task.token);
                self.call(machine, Ask::Push(Blocks { worker, stage, step, token, blocks }), For::Push(number));
            }
            None => {
                session.tasks.remove(&number);
            }
        }
    }

    /// Nothing of the order was sent: the guilty shard is reported, the others are given back.
    fn fail_task(&mut self, machine: usize, number: u64, guilty: u32, message: &str, counts: bool) {
        let Some(session) = self.machines[machine].session() else { return };
        let connection = session.connection;
        let Some(Task { stage, token, ranges, .. }) = session.tasks.remove(&number) else { return };
        if counts {
            self.watch.book.shard_failed(&stage, guilty);
        }
        let rest = without(ranges, guilty);
        self.send_up(connection, Up::Failed { stage: stage.clone(), token, shard: guilty, message: message.to_owned() });
        if !rest.is_empty() {
            self.send_up(connection, Up::Returned { stage, token, shards: rest });
        }
    }

    /// A poison shard ends its worker, or cannot be read.
    fn meets_poison(&mut self, machine: usize, task: u64, stage: &Stage, work: Work, ranges: &[Range<u32>]) -> bool {
        let Some(poison) = self.watch.book.poison(&stage.job).filter(|poison| poison.is_in(work)) else { return false };
        if !ranges.iter().any(|range| range.contains(&poison.shard)) {
            return false;
        }
        self.counts.fault("poison shard met");
        match poison.kind {
            PoisonKind::Kills => {
                note!(self, "shard {} of {stage} kills machine {machine}", poison.shard);
                self.watch.book.shard_failed(stage, poison.shard);
                self.kill_worker(machine, false);
                let at = self.now + 200 * MS + self.chaos.below(SECOND);
                self.agenda.push(at, Owner::Nature, Happening::Mend(Mend::Worker(machine)));
            }
            PoisonKind::Unreadable => {
                self.fail_task(machine, task, poison.shard, "read a shard: malformed page", true);
                self.next_turn(machine, stage);
            }
        }
        true
    }
}

/// Ranges less one shard.
fn without(ranges: Vec<Range<u32>>, shard: u32) -> Vec<Range<u32>> {
    let cut = |range: Range<u32>| match range.contains(&shard) {
        true => [range.start..shard, shard + 1..range.end],
        false => [range, 0..0],
    };
    ranges.into_iter().flat_map(cut).filter(|range| !range.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::without;

    #[test]
    fn a_shard_is_cut_out() {
        assert_eq!(without(vec![0..4, 6..8], 2), vec![0..2, 3..4, 6..8]);
        assert_eq!(without(vec![0..4, 6..7], 6), vec![0..4]);
    }
}
