//! A world around the engine, driven by random operations: worker processes with their orders, drivers
//! of jobs, the network's memory of what was sent. What must hold is checked in `model.rs`.

mod model;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use model::Model;
use sheaf_cluster::coverage::cover;
use sheaf_cluster::{Block, Command, Engine, Event, JobId, Millis, Options, Stage, StagePlan, Step, Term, Token, WorkerId};

/// One thing that happens. Numbers pick among what is there.
#[derive(Debug, Clone)]
pub enum Op {
    /// A new worker with so many threads.
    Join(u32),
    /// A process dies and its stream breaks.
    Kill(u16),
    /// A worker, dead or alive, opens a new stream under its old id.
    Rejoin(u16),
    /// A worker wants to leave.
    Drain(u16),
    /// A process stops for a while.
    Stall(u16),
    /// … and goes on.
    Resume(u16),
    /// A worker answers its `OpenStage`s.
    Prepare(u16),
    /// A worker delivers one block.
    Deliver(u16, u16),
    /// A worker delivers everything.
    DeliverAll(u16),
    /// Something sent before arrives again.
    Repeat(u16),
    /// The parent or a child of a block sent before arrives under its token.
    Overlap(u16, u16),
    /// A block sent before arrives from another worker.
    Forge(u16, u16),
    /// A worker cannot compute one of its shards.
    FailShard(u16, u16),
    /// A worker gives the rest of an order back.
    Return(u16),
    /// Time passes; those who can send heartbeats.
    Tick(u64),
    /// A job of a namespace with a priority.
    Queue(u8, i32),
    /// Someone cancels a job.
    Cancel(u16),
    /// A driver does the next thing: open a stage, step, close, end.
    Drive(u16, u16),
    /// A driver that was told to stop has stopped.
    Finish(u16),
    /// Events that fit nothing.
    Nonsense(u16),
    /// Another leader takes over.
    NewLeader,
}

/// An order as a worker process sees it.
#[derive(Debug, Clone)]
struct Order {
    stage: Stage,
    step: Step,
    token: Token,
    shards: u32,
    todo: Vec<Block>,
}

#[derive(Debug, Clone, Default)]
struct Process {
    threads: u32,
    stalled: bool,
    to_prepare: Vec<(Stage, Token)>,
    orders: Vec<Order>,
}

/// A block as the network carried it.
#[derive(Debug, Clone)]
struct Sent {
    worker: WorkerId,
    stage: Stage,
    step: Step,
    token: Token,
    shards: u32,
    block: Block,
}

pub struct World {
    engine: Engine,
    model: Model,
    now: u64,
    history: Vec<(Event, Millis, Vec<Command>)>,
    /// Processes that exist, whatever the engine believes of them.
    processes: BTreeMap<WorkerId, Process>,
    sent: Vec<Sent>,
    next_worker: u64,
    next_job: u32,
}

const MAX_RUNNING: usize = 2;

fn options() -> Options {
    Options { max_running_jobs: MAX_RUNNING, remembered_views: 2, ..Options::default() }
}

fn pick<T: Clone>(from: impl IntoIterator<Item = T>, number: u16) -> Option<T> {
    let all: Vec<T> = from.into_iter().collect();
    (!all.is_empty()).then(|| all[usize::from(number) % all.len()].clone())
}

/// What everybody computes for these shards.
fn digest(stage: &Stage, step: Step, range: &Range<u32>) -> u64 {
    let seed = u64::from(stage.number) * 1_000_003 + step.0;
    (seed * 1_000_003 + u64::from(range.start)) * 1_000_003 + u64::from(range.end)
}

fn plan(number: u16) -> StagePlan {
    let shards = [1, 2, 7, 16, 33, 64, 0][usize::from(number) % 7];
    let unit = [1, 3, 8, 100][usize::from(number / 7) % 4];
    let boundaries = (0..shards).step_by(unit).collect();
    let max_workers = [None, None, None, Some(1), Some(2)][usize::from(number / 28) % 5];
    let sticky = [None, Some(1), Some(2)][usize::from(number / 140) % 3];
    StagePlan { max_workers, ..StagePlan::shards(shards, boundaries, sticky) }
}

impl World {
    pub fn new(term: Term) -> Self {
        World {
            engine: Engine::new(options(), term),
            model: Model::new(term, MAX_RUNNING),
            now: 0,
            history: Vec::new(),
            processes: BTreeMap::new(),
            sent: Vec::new(),
            next_worker: 1,
            next_job: 0,
        }
    }

    pub fn act(&mut self, op: Op) {
        match op {
            Op::Join(threads) => self.join_new(threads),
            Op::Kill(n) => self.with_worker(n, |world, worker| {
                world.processes.remove(&worker);
                world.tell(Event::WorkerLost { worker, reason: "killed".to_owned() });
            }),
            Op::Rejoin(n) => self.with_worker(n, World::rejoin),
            Op::Drain(n) => self.with_worker(n, |world, worker| world.tell(Event::DrainRequested { worker })),
            Op::Stall(n) => self.with_worker(n, |world, worker| world.process(worker).stalled = true),
            Op::Resume(n) => self.with_worker(n, |world, worker| world.process(worker).stalled = false),
            Op::Prepare(n) => self.with_worker(n, World::prepare),
            Op::Deliver(n, block) => self.with_worker(n, |world, worker| {
                world.deliver(worker, block);
            }),
            Op::DeliverAll(n) => self.with_worker(n, |world, worker| while world.deliver(worker, 0) {}),
            Op::Repeat(n) => {
                if let Some(sent) = pick(&self.sent, n).cloned() {
                    self.arrive(sent);
                }
            }
            Op::Overlap(n, piece) => self.overlap(n, piece),
            Op::Forge(n, other) => {
                if let (Some(sent), Some(worker)) = (pick(&self.sent, n).cloned(), pick(self.processes.keys(), other)) {
                    let worker = *worker;
                    self.arrive(Sent { worker, ..sent });
                }
            }
            Op::FailShard(n, shard) => self.with_worker(n, |world, worker| world.fail_shard(worker, shard)),
            Op::Return(n) => self.with_worker(n, World::give_back),
            Op::Tick(span) => self.tick(span),
            Op::Queue(namespace, priority) => self.queue(namespace, priority),
            Op::Cancel(n) => {
                if let Some(job) = pick(self.model.jobs(), n) {
                    self.tell(Event::CancelRequested { job });
                }
            }
            Op::Drive(n, number) => {
                if let Some(job) = pick(self.model.running(), n) {
                    self.drive(job, number);
                }
            }
            Op::Finish(n) => {
                if let Some(job) = pick(self.model.ending(), n) {
                    self.tell(Event::JobEnded { job });
                }
            }
            Op::Nonsense(n) => self.nonsense(n),
            Op::NewLeader => self.new_leader(),
        }
    }

    /// The network calms: whoever is there works, drivers go on, and every job must come to its end.
    pub fn calm(&mut self) {
        for process in self.processes.values_mut() {
            process.stalled = false;
        }
        // Streams that the engine gave up are opened again.
        let cut_off: Vec<_> = self.processes.keys().copied().filter(|worker| !self.model.is_alive(*worker)).collect();
        cut_off.into_iter().for_each(|worker| self.rejoin(worker));
        if self.model.taking_leases().is_empty() {
            self.join_new(2);
        }
        for _round in 0..200 {
            self.tick(100);
            let workers: Vec<_> = self.processes.keys().copied().collect();
            for worker in workers {
                self.prepare(worker);
                while self.deliver(worker, 0) {}
            }
            self.model.ending().into_iter().for_each(|job| self.tell(Event::JobEnded { job }));
            self.model.running().into_iter().for_each(|job| self.drive(job, 3));
            if self.model.jobs().is_empty() {
                return;
            }
        }
        panic!("jobs {:?} never end in a calm network: {:?}", self.model.jobs(), self.engine.stages());
    }

    /// A fresh engine that is told the same says the same.
    pub fn replay(self) {
        let mut engine = Engine::new(options(), self.model.term);
        for (event, now, commands) in self.history {
            assert_eq!(engine.handle(event, now), commands);
        }
    }

    fn with_worker(&mut self, number: u16, then: impl FnOnce(&mut World, WorkerId)) {
        if let Some(worker) = pick(self.processes.keys().copied(), number) {
            then(self, worker);
        }
    }

    fn process(&mut self, worker: WorkerId) -> &mut Process {
        self.processes.get_mut(&worker).expect("picked among the processes")
    }

    /// The one way to the engine: everything it says is checked, then executed.
    fn tell(&mut self, event: Event) {
        self.model.before(&event);
        let commands = self.engine.handle(event.clone(), Millis(self.now));
        self.model.after(&event, &commands, &self.engine);
        for command in &commands {
            self.execute(command);
        }
        self.history.push((event, Millis(self.now), commands));
    }

    fn execute(&mut self, command: &Command) {
        match command {
            Command::OpenStage { worker, stage, token, .. } => {
                if let Some(process) = self.processes.get_mut(worker) {
                    process.to_prepare.push((stage.clone(), *token));
                }
            }
            Command::Compute { worker, stage, step, token, ranges } => {
                let shards = self.model.shards(stage);
                let todo = ranges.iter().flat_map(|range| cover(range.clone(), shards)).collect();
                let order = Order { stage: stage.clone(), step: *step, token: *token, shards, todo };
                if let Some(process) = self.processes.get_mut(worker) {
                    process.orders.push(order);
                }
            }
            Command::CloseStage { worker, stage } => {
                if let Some(process) = self.processes.get_mut(worker) {
                    process.orders.retain(|order| order.stage != *stage);
                }
            }
            Command::DrainDone { worker } => {
                self.processes.remove(worker);
            }
            _ => {}
        }
    }

    fn join_new(&mut self, threads: u32) {
        let worker = WorkerId(self.next_worker);
        self.next_worker += 1;
        self.processes.insert(worker, Process { threads, ..Process::default() });
        self.tell(Event::WorkerJoined { worker, threads });
    }

    /// The process is new: it has forgotten everything.
    fn rejoin(&mut self, worker: WorkerId) {
        let process = Process { threads: self.process(worker).threads, ..Process::default() };
        let threads = process.threads;
        self.processes.insert(worker, process);
        self.tell(Event::WorkerJoined { worker, threads });
    }

    fn prepare(&mut self, worker: WorkerId) {
        // Who was leaving may have left since it was picked: with the last shard that somebody else took over.
        let Some(process) = self.processes.get_mut(&worker).filter(|process| !process.stalled) else { return };
        for (stage, token) in std::mem::take(&mut process.to_prepare) {
            self.tell(Event::Prepared { worker, stage, token });
        }
    }

    /// Delivers a block of the worker's first order; false if it has none.
    fn deliver(&mut self, worker: WorkerId, number: u16) -> bool {
        let Some(process) = self.processes.get_mut(&worker) else { return false };
        process.orders.retain(|order| !order.todo.is_empty());
        let Some(order) = process.orders.first_mut().filter(|_| !process.stalled) else { return false };
        let block = order.todo.remove(usize::from(number) % order.todo.len());
        let Order { stage, step, token, shards, .. } = order.clone();
        let sent = Sent { worker, stage, step, token, shards, block };
        self.sent.push(sent.clone());
        self.arrive(sent);
        true
    }

    fn arrive(&mut self, sent: Sent) {
        let Sent { worker, stage, step, token, shards, block } = sent;
        let digest = digest(&stage, step, &block.range(shards));
        self.tell(Event::BlockArrived { worker, stage, step, token, block, digest });
    }

    fn overlap(&mut self, number: u16, piece: u16) {
        let Some(sent) = pick(&self.sent, number).cloned() else { return };
        let Block { level, index } = sent.block;
        let block = match piece % 3 {
            0 => Block { level: level + 1, index: index / 2 },
            side if level > 0 => Block { level: level - 1, index: index * 2 + u32::from(side) - 1 },
            _ => Block { level, index: index + 1 },
        };
        self.arrive(Sent { block, ..sent });
    }

    /// The worker computes the rest of the order all the same.
    fn fail_shard(&mut self, worker: WorkerId, number: u16) {
        let process = self.process(worker);
        let Some(order) = process.orders.iter_mut().find(|order| !order.todo.is_empty()) else { return };
        let block = order.todo.remove(usize::from(number) % order.todo.len());
        let range = block.range(order.shards);
        let shard = range.start + u32::from(number) % (range.end - range.start);
        order.todo.extend(cover(range.start..shard, order.shards));
        order.todo.extend(cover(shard + 1..range.end, order.shards));
        let (stage, token) = (order.stage.clone(), order.token);
        let event = Event::ShardFailed { worker, stage, token, shard, retry: true, message: "disk full".to_owned() };
        self.tell(event.clone());
        if number.is_multiple_of(5) {
            self.tell(event);
        }
    }

    fn give_back(&mut self, worker: WorkerId) {
        let process = self.process(worker);
        let Some(order) = process.orders.iter_mut().find(|order| !order.todo.is_empty()) else { return };
        let mut ranges: Vec<Range<u32>> = order.todo.drain(..).map(|block| block.range(order.shards)).collect();
        ranges.sort_by_key(|range| range.start);
        let (stage, token) = (order.stage.clone(), order.token);
        self.tell(Event::ShardsReturned { worker, stage, token, ranges });
    }

    fn tick(&mut self, span: u64) {
        self.now += span;
        let alive: Vec<_> = self.processes.iter().filter(|(_, p)| !p.stalled).map(|(worker, _)| *worker).collect();
        alive.into_iter().for_each(|worker| self.tell(Event::Heartbeat { worker }));
        self.tell(Event::Tick);
    }

    fn queue(&mut self, namespace: u8, priority: i32) {
        self.next_job += 1;
        let job = JobId(format!("job{}", self.next_job));
        self.tell(queued(job, namespace, priority, self.now));
    }

    /// The driver: two stages of three steps each, then the end.
    fn drive(&mut self, job: JobId, number: u16) {
        match self.model.next_of(&job) {
            model::Next::Open(stage) => self.tell(Event::StageOpened { stage, plan: plan(number) }),
            model::Next::Step(stage, step) => self.tell(Event::StepReady { stage, step }),
            model::Next::Close(stage) => self.tell(Event::StageClosed { stage }),
            model::Next::Wait => {}
            model::Next::End => self.tell(Event::JobEnded { job }),
        }
    }

    fn nonsense(&mut self, number: u16) {
        let stage = Stage { job: JobId(format!("job{}", number % 5)), number: 77 };
        let (worker, token) = (WorkerId(1_000_000 + u64::from(number)), Token::default());
        let open = pick(self.model.stages(), number);
        let event = match number % 9 {
            0 => Event::StepReady { stage, step: Step(0) },
            1 => Event::StageClosed { stage },
            2 => Event::Prepared { worker, stage, token },
            3 => Event::DrainRequested { worker },
            4 => Event::WorkerLost { worker, reason: String::new() },
            5 => Event::JobEnded { job: "nobody's".into() },
            6 => Event::CancelRequested { job: "nobody's".into() },
            7 => Event::StageOpened { stage: Stage { job: "nobody's".into(), number: 0 }, plan: plan(number) },
            // A driver that repeats itself, or runs ahead.
            _ => match open {
                Some(stage) => Event::StepReady { stage, step: Step(u64::from(number / 9 % 4)) },
                None => Event::Heartbeat { worker },
            },
        };
        self.tell(event);
    }

    /// The old engine is gone; workers find the new one, running jobs start again from their checkpoint.
    fn new_leader(&mut self) {
        let term = Term(self.model.term.0 + 1);
        let jobs = self.model.new_leader(term);
        self.engine = Engine::new(options(), term);
        self.history.clear();
        let workers: BTreeSet<_> = self.processes.keys().copied().collect();
        workers.into_iter().for_each(|worker| self.rejoin(worker));
        jobs.into_iter().for_each(|job| self.tell(queued(job, 0, 0, self.now)));
    }
}

fn queued(job: JobId, namespace: u8, priority: i32, now: u64) -> Event {
    Event::JobQueued { job, namespace: format!("n{namespace}"), priority, deadline: None, submitted: Millis(now) }
}
