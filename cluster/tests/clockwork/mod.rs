//! A cluster in simulated time around the engine, millisecond by millisecond: workers with speeds that
//! read units once and compute shards in order, drivers that step, processes that are killed, stopped
//! and started again. Nothing here is random but by the seed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

use sheaf_cluster::coverage::{Block, cover};
use sheaf_cluster::{Command, Engine, Event, JobId, Millis, Note, Options, Stage, StagePlan, Step, Term, Token, What, WorkerId};

/// What a job does: stages one after the other, each of so many steps over the same shards.
#[derive(Debug, Clone)]
pub struct Work {
    pub shards: u32,
    pub unit: u32,
    pub stages: u32,
    pub steps: u64,
    /// Milliseconds at full speed: to compute a shard, to read a unit.
    pub compute: u64,
    pub read: u64,
    /// A shard of stage 0 that ends its worker.
    pub poison: Option<u32>,
}

impl Default for Work {
    fn default() -> Self {
        Work { shards: 160, unit: 4, stages: 1, steps: 50, compute: 5, read: 40, poison: None }
    }
}

struct Job {
    work: Work,
    steps: u64,
    ended: Option<u64>,
    failed: Option<String>,
    /// When each step was complete.
    times: Vec<u64>,
}

/// Part of an order: a unit to read, then shards to compute.
#[derive(Debug, Clone)]
enum Piece {
    Read(u32),
    Shard(u32),
}

#[derive(Debug, Clone)]
struct Order {
    stage: Stage,
    /// `None`: the answer to an `OpenStage`.
    step: Option<Step>,
    token: Token,
    ranges: Vec<Range<u32>>,
    todo: VecDeque<Piece>,
    /// Thousandths of a millisecond left of the first piece.
    left: u64,
}

#[derive(Debug, Clone, Default)]
pub struct Process {
    /// Thousandths of full speed.
    pub speed: u64,
    pub stopped: bool,
    /// Speed changes by up to this many thousandths from order to order.
    pub jitter: u64,
    now: u64,
    cached: BTreeSet<(JobId, u32)>,
    orders: VecDeque<Order>,
    /// Shards that it computed of the step under way.
    pub computed: u64,
    pub units_read: u32,
}

pub struct Clockwork {
    pub engine: Engine,
    pub now: u64,
    pub processes: BTreeMap<WorkerId, Process>,
    pub notes: Vec<(u64, Note)>,
    pub losses: u32,
    jobs: BTreeMap<JobId, Job>,
    due: BTreeMap<u64, Vec<Event>>,
    returning: Vec<u64>,
    next_worker: u64,
    seed: u64,
}

impl Clockwork {
    pub fn new(workers: u64, options: Options, seed: u64) -> Self {
        let mut world = Clockwork {
            engine: Engine::new(options, Term(1)),
            now: 0,
            processes: BTreeMap::new(),
            notes: Vec::new(),
            losses: 0,
            jobs: BTreeMap::new(),
            due: BTreeMap::new(),
            returning: Vec::new(),
            next_worker: 1,
            seed: seed | 1,
        };
        (0..workers).for_each(|_| {
            world.join();
        });
        world
    }

    pub fn random(&mut self, below: u64) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed % below
    }

    pub fn join(&mut self) -> WorkerId {
        let worker = WorkerId(self.next_worker);
        self.next_worker += 1;
        self.processes.insert(worker, Process { speed: 1_000, now: 1_000, ..Process::default() });
        self.tell(Event::WorkerJoined { worker, threads: 1 });
        worker
    }

    pub fn submit(&mut self, name: &str, work: Work) {
        let job = JobId::from(name);
        self.jobs.insert(job.clone(), Job { work, steps: 0, ended: None, failed: None, times: Vec::new() });
        let (namespace, submitted) = ("n".to_owned(), Millis(self.now));
        self.tell(Event::JobQueued { job, namespace, priority: 0, deadline: None, submitted });
    }

    /// Kills a worker; another process takes its place after a second.
    pub fn kill(&mut self, worker: WorkerId) {
        if self.processes.remove(&worker).is_some() {
            self.losses += 1;
            self.returning.push(self.now + 1_000);
            self.tell(Event::WorkerLost { worker, reason: "its control stream broke".to_owned() });
        }
    }

    pub fn kill_one(&mut self) {
        let alive: Vec<WorkerId> = self.processes.keys().copied().collect();
        if !alive.is_empty() {
            let worker = alive[self.random(alive.len() as u64) as usize];
            self.kill(worker);
        }
    }

    pub fn ended(&self, job: &str) -> Option<u64> {
        self.jobs[&JobId::from(job)].ended
    }

    pub fn failed(&self, job: &str) -> Option<&str> {
        self.jobs[&JobId::from(job)].failed.as_deref()
    }

    /// When each step of the job was complete.
    pub fn times(&self, job: &str) -> &[u64] {
        &self.jobs[&JobId::from(job)].times
    }

    pub fn count(&self, what: What) -> usize {
        self.notes.iter().filter(|(_, note)| note.what == what).count()
    }

    /// Lets all jobs come to their end, at most until `limit`; gives the time.
    pub fn run(&mut self, limit: u64) -> u64 {
        while self.now < limit && self.jobs.values().any(|job| job.ended.is_none()) {
            self.tick();
        }
        assert!(self.jobs.values().all(|job| job.ended.is_some()), "not done at {limit} ms: {:?}", self.engine.stages());
        self.now
    }

    /// A millisecond.
    pub fn tick(&mut self) {
        self.now += 1;
        for event in self.due.remove(&self.now).unwrap_or_default() {
            self.tell(event);
        }
        let back = self.returning.iter().filter(|at| **at <= self.now).count();
        self.returning.retain(|at| *at > self.now);
        (0..back).for_each(|_| {
            self.join();
        });
        if self.now.is_multiple_of(100) {
            let awake: Vec<_> = self.processes.iter().filter(|(_, p)| !p.stopped).map(|(worker, _)| *worker).collect();
            awake.into_iter().for_each(|worker| self.tell(Event::Heartbeat { worker }));
            self.tell(Event::Tick);
        }
        let workers: Vec<WorkerId> = self.processes.keys().copied().collect();
        for worker in workers {
            self.work(worker);
        }
    }

    fn work(&mut self, worker: WorkerId) {
        let jitter = self.random(1 << 20);
        let Some(process) = self.processes.get_mut(&worker).filter(|process| !process.stopped) else { return };
        let mut power = process.now;
        while power > 0 {
            let Some(order) = process.orders.front_mut() else { return };
            let work = &self.jobs[&order.stage.job].work;
            let Some(piece) = order.todo.front().cloned() else {
                let order = process.orders.pop_front().expect("looked at just now");
                process.now = (process.speed + jitter % (2 * process.jitter + 1)).saturating_sub(process.jitter);
                return self.answer(worker, &order);
            };
            let key = |unit: u32| (order.stage.job.clone(), unit);
            if order.left == 0 {
                order.left = 1_000
                    * match piece {
                        Piece::Read(unit) if process.cached.contains(&key(unit)) => 0,
                        Piece::Read(_) => work.read,
                        Piece::Shard(_) => work.compute,
                    };
            }
            let done = power.min(order.left);
            (power, order.left) = (power - done, order.left - done);
            if order.left > 0 {
                return;
            }
            order.todo.pop_front();
            match piece {
                Piece::Read(unit) => process.units_read += u32::from(process.cached.insert((order.stage.job.clone(), unit))),
                Piece::Shard(shard) if work.poison == Some(shard) => return self.kill(worker),
                Piece::Shard(_) => process.computed += 1,
            }
        }
    }

    fn answer(&mut self, worker: WorkerId, order: &Order) {
        let Order { stage, step, token, ranges, .. } = order.clone();
        let Some(step) = step else { return self.later(Event::Prepared { worker, stage, token }) };
        let shards = self.jobs[&stage.job].work.shards;
        for block in ranges.into_iter().flat_map(|range| cover(range, shards)) {
            let Block { level, index } = block;
            let digest = (u64::from(level) << 40) + u64::from(index) + step.0 * 1_000_003;
            self.later(Event::BlockArrived { worker, stage: stage.clone(), step, token, block, digest });
        }
    }

    /// On the wire for a millisecond.
    fn later(&mut self, event: Event) {
        self.due.entry(self.now + 1).or_default().push(event);
    }

    fn tell(&mut self, event: Event) {
        for command in self.engine.handle(event, Millis(self.now)) {
            self.obey(command);
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::StartJob { job } => self.open(Stage { job, number: 0 }),
            Command::FailJob { job, message, .. } => {
                self.jobs.get_mut(&job).expect("it runs").failed = Some(message);
                self.end(job);
            }
            Command::OpenStage { worker, stage, token, prepare } => self.order(worker, stage, None, token, prepare),
            Command::Compute { worker, stage, step, token, ranges } => self.order(worker, stage, Some(step), token, ranges),
            Command::CloseStage { worker, stage } => {
                if let Some(process) = self.processes.get_mut(&worker) {
                    process.orders.retain(|order| order.stage != stage);
                }
            }
            Command::CompleteStep { stage, step } => self.completed(stage, step),
            Command::Disconnect { worker, .. } => {
                if self.processes.remove(&worker).is_some() {
                    self.returning.push(self.now + 1);
                }
            }
            Command::Note(note) => self.notes.push((self.now, note)),
            Command::CancelJob { .. } | Command::Accept { .. } | Command::Refuse { .. } | Command::DrainDone { .. } => {}
        }
    }

    fn order(&mut self, worker: WorkerId, stage: Stage, step: Option<Step>, token: Token, ranges: Vec<Range<u32>>) {
        let unit = self.jobs[&stage.job].work.unit;
        let Some(process) = self.processes.get_mut(&worker) else { return };
        // The stage went on: what is left of an earlier step is given up.
        process.orders.retain(|order| order.stage != stage || order.step.is_none() || order.step >= step || step.is_none());
        let mut todo = VecDeque::new();
        let mut last = None;
        for shard in ranges.iter().cloned().flatten() {
            if last != Some(shard / unit) {
                todo.push_back(Piece::Read(shard / unit));
                last = Some(shard / unit);
            }
            todo.extend(step.is_some().then_some(Piece::Shard(shard)));
        }
        process.orders.push_back(Order { stage, step, token, ranges, todo, left: 0 });
    }

    fn open(&mut self, stage: Stage) {
        let work = &self.jobs[&stage.job].work;
        let boundaries = (0..work.shards).step_by(work.unit as usize).collect();
        let plan = StagePlan::shards(work.shards, boundaries, Some(stage.job.0.len() as u64));
        self.later(Event::StageOpened { stage: stage.clone(), plan });
        self.later(Event::StepReady { stage, step: Step(0) });
    }

    fn completed(&mut self, stage: Stage, step: Step) {
        let now = self.now;
        let job = self.jobs.get_mut(&stage.job).expect("it runs");
        job.times.push(now);
        job.steps += 1;
        let (steps, stages) = (job.work.steps, job.work.stages);
        if step.0 + 1 < steps {
            return self.later(Event::StepReady { stage, step: step.next() });
        }
        self.later(Event::StageClosed { stage: stage.clone() });
        match stage.number + 1 < stages {
            true => self.open(Stage { job: stage.job, number: stage.number + 1 }),
            false => self.end(stage.job),
        }
    }

    fn end(&mut self, job: JobId) {
        self.jobs.get_mut(&job).expect("it runs").ended = Some(self.now);
        self.later(Event::JobEnded { job });
    }
}
