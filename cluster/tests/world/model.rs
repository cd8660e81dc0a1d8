//! What must hold, kept as plainly as possible: an array of counters per step, an array of owners, sets
//! of who lives. Slow and obvious where the engine is quick.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use sheaf_cluster::{Command, Engine, Event, FailKind, JobId, Stage, StagePlan, Step, Term, Token, WorkerId};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Job {
    Queued,
    Running,
    Ending,
}

/// What a driver does next.
pub enum Next {
    Open(Stage),
    Step(Stage, Step),
    Close(Stage),
    Wait,
    End,
}

struct StepModel {
    step: Step,
    /// How often each shard was accepted.
    counts: Vec<u32>,
    /// Who was asked for each shard, under which token, and lives: one, or two if the first is late.
    owners: Vec<Vec<(WorkerId, Token)>>,
    /// Workers lost with each shard in hand since it was last accepted.
    losses: Vec<u32>,
    /// Failures of each shard since it was last accepted.
    failures: Vec<u32>,
    complete: bool,
}

/// An `OpenStage` that was not answered.
struct Opening {
    token: Token,
    /// The worker reads something for it.
    reads: bool,
    /// A step had begun: the worker is not ready before it answers.
    late: bool,
}

struct StageModel {
    plan: StagePlan,
    token: Token,
    members: BTreeSet<WorkerId>,
    openings: BTreeMap<WorkerId, Opening>,
    step: Option<StepModel>,
}

pub struct Model {
    pub term: Term,
    max_running: usize,
    alive: BTreeSet<WorkerId>,
    draining: BTreeSet<WorkerId>,
    jobs: BTreeMap<JobId, Job>,
    stages: BTreeMap<Stage, StageModel>,
    closed: BTreeMap<JobId, u32>,
    /// Failures of the shard that failed last.
    last_failures: u32,
    /// What the worker that was lost last owed, with the number of losses of each shard.
    last_loss: Vec<(Stage, u32, u32)>,
}

impl Model {
    pub fn new(term: Term, max_running: usize) -> Self {
        let (alive, draining) = (BTreeSet::new(), BTreeSet::new());
        let (jobs, stages, closed) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Model { term, max_running, alive, draining, jobs, stages, closed, last_failures: 0, last_loss: Vec::new() }
    }

    pub fn is_alive(&self, worker: WorkerId) -> bool {
        self.alive.contains(&worker)
    }

    pub fn taking_leases(&self) -> Vec<WorkerId> {
        self.alive.difference(&self.draining).copied().collect()
    }

    pub fn jobs(&self) -> Vec<JobId> {
        self.jobs.keys().cloned().collect()
    }

    pub fn running(&self) -> Vec<JobId> {
        self.in_state(Job::Running)
    }

    pub fn ending(&self) -> Vec<JobId> {
        self.in_state(Job::Ending)
    }

    fn in_state(&self, state: Job) -> Vec<JobId> {
        self.jobs.iter().filter(|(_, job)| **job == state).map(|(id, _)| id.clone()).collect()
    }

    pub fn stages(&self) -> Vec<Stage> {
        self.stages.keys().cloned().collect()
    }

    pub fn shards(&self, stage: &Stage) -> u32 {
        self.stages[stage].plan.shards
    }

    /// Two stages of three steps.
    pub fn next_of(&self, job: &JobId) -> Next {
        let closed = self.closed.get(job).copied().unwrap_or(0);
        let stage = Stage { job: job.clone(), number: closed };
        match self.stages.get(&stage).map(|open| open.step.as_ref()) {
            None if closed >= 2 => Next::End,
            None => Next::Open(stage),
            Some(None) => Next::Step(stage, Step(0)),
            Some(Some(step)) if !step.complete => Next::Wait,
            Some(Some(step)) if step.step >= Step(2) => Next::Close(stage),
            Some(Some(step)) => Next::Step(stage, step.step.next()),
        }
    }

    /// Forgets what a leader knows alone. Returns the jobs to queue again, those that ran first.
    pub fn new_leader(&mut self, term: Term) -> Vec<JobId> {
        self.term = term;
        self.alive.clear();
        self.draining.clear();
        self.stages.clear();
        let (mut first, queued) = (self.running(), self.in_state(Job::Queued));
        first.extend(self.ending());
        first.extend(queued);
        self.jobs.clear();
        first
    }

    /// The model's own view of an event, before the engine says anything.
    pub fn before(&mut self, event: &Event) {
        match event {
            Event::WorkerJoined { worker, .. } => {
                self.lose(*worker);
                self.alive.insert(*worker);
            }
            Event::WorkerLost { worker, .. } => self.lose(*worker),
            Event::ShardsReturned { worker, stage, token, ranges } if token.term == self.term => {
                self.take(*worker, stage, *token, ranges.iter().cloned().flatten());
            }
            Event::DrainRequested { worker } if self.alive.contains(worker) => {
                self.draining.insert(*worker);
            }
            Event::JobQueued { job, .. } => {
                self.jobs.insert(job.clone(), Job::Queued);
            }
            Event::StageOpened { stage, plan } if self.jobs.get(&stage.job) == Some(&Job::Running) => {
                let (members, openings) = (BTreeSet::new(), BTreeMap::new());
                let open = StageModel { plan: plan.clone(), token: Token::default(), members, openings, step: None };
                self.stages.entry(stage.clone()).or_insert(open);
            }
            Event::Prepared { worker, stage, token } => {
                if let Some(open) = self.stages.get_mut(stage) {
                    open.openings.retain(|who, opening| (who, opening.token) != (worker, *token));
                }
            }
            Event::StepReady { stage, step } => self.step_ready(stage, *step),
            Event::ShardFailed { worker, stage, token, shard, .. } => self.shard_failed(*worker, stage, *token, *shard),
            _ => {}
        }
    }

    /// A worker that lived and was not leaving is gone: the shards that it owed have one more loss.
    fn lose(&mut self, worker: WorkerId) {
        if self.alive.contains(&worker) && !self.draining.contains(&worker) {
            self.last_loss.clear();
            for (stage, open) in &mut self.stages {
                let Some(step) = &mut open.step else { continue };
                for shard in 0..step.counts.len() {
                    if step.counts[shard] == 0 && step.owners[shard].iter().any(|owner| owner.0 == worker) {
                        step.losses[shard] += 1;
                        self.last_loss.push((stage.clone(), shard as u32, step.losses[shard]));
                    }
                }
            }
        }
        self.bury(worker);
    }

    /// Takes shards from a worker as far as it owes them under this token. Returns how many those were.
    fn take(&mut self, worker: WorkerId, stage: &Stage, token: Token, shards: impl Iterator<Item = u32>) -> usize {
        let step = self.stages.get_mut(stage).and_then(|open| open.step.as_mut());
        let Some(step) = step.filter(|_| self.alive.contains(&worker)) else { return 0 };
        let mut taken = 0;
        for shard in shards.map(|shard| shard as usize).filter(|shard| *shard < step.counts.len()) {
            let before = step.owners[shard].len();
            if step.counts[shard] == 0 {
                step.owners[shard].retain(|owner| *owner != (worker, token));
            }
            taken += before - step.owners[shard].len();
        }
        taken
    }

    fn bury(&mut self, worker: WorkerId) {
        self.alive.remove(&worker);
        self.draining.remove(&worker);
        for stage in self.stages.values_mut() {
            stage.members.remove(&worker);
            stage.openings.remove(&worker);
            let owners = stage.step.iter_mut().flat_map(|step| step.owners.iter_mut());
            owners.for_each(|owners| owners.retain(|owner| owner.0 != worker));
        }
    }

    fn step_ready(&mut self, stage: &Stage, step: Step) {
        let Some(open) = self.stages.get_mut(stage) else { return };
        if open.step.as_ref().is_none_or(|last| last.complete && last.step < step) {
            let shards = open.plan.shards as usize;
            let (counts, failures, losses) = (vec![0; shards], vec![0; shards], vec![0; shards]);
            let owners = vec![Vec::new(); shards];
            open.step = Some(StepModel { step, counts, owners, losses, failures, complete: false });
        }
    }

    fn shard_failed(&mut self, worker: WorkerId, stage: &Stage, token: Token, shard: u32) {
        if token.term == self.term && self.take(worker, stage, token, std::iter::once(shard)) > 0 {
            let step = self.stages.get_mut(stage).and_then(|open| open.step.as_mut()).expect("a shard was taken from it");
            step.failures[shard as usize] += 1;
            self.last_failures = step.failures[shard as usize];
        }
    }

    /// Checks the commands in order, then the whole.
    pub fn after(&mut self, event: &Event, commands: &[Command], engine: &Engine) {
        for command in commands {
            self.command(event, command);
        }
        match event {
            Event::StageClosed { stage } if self.stages.remove(stage).is_some() => {
                *self.closed.entry(stage.job.clone()).or_default() += 1;
            }
            Event::JobEnded { job } => {
                self.jobs.remove(job);
                self.stages.retain(|stage, _| stage.job != *job);
            }
            _ => {}
        }
        self.whole(engine);
    }

    fn command(&mut self, event: &Event, command: &Command) {
        match command {
            Command::StartJob { job } => {
                assert_eq!(self.jobs.insert(job.clone(), Job::Running), Some(Job::Queued), "{job} started again");
            }
            Command::CancelJob { job } => self.ends(job),
            Command::FailJob { job, kind, message, shard } => {
                assert_eq!(*kind, FailKind::Data, "{message}");
                self.justified(event, shard.as_ref().expect("a shard is to blame"), message);
                self.ends(job);
            }
            Command::OpenStage { worker, stage, token, prepare } => {
                self.lives(*worker);
                assert!(!self.draining.contains(worker), "{worker} is leaving");
                self.rises(stage, *token);
                let open = self.stages.get_mut(stage).expect("rises has looked");
                assert!(open.members.insert(*worker), "{stage} opened twice on {worker}");
                let opening = Opening { token: *token, reads: !prepare.is_empty(), late: open.step.is_some() };
                open.openings.insert(*worker, opening);
                let staying = open.members.difference(&self.draining).count();
                assert!(open.plan.max_workers.is_none_or(|max| staying <= max as usize), "too many workers");
            }
            Command::Compute { worker, stage, step, token, ranges } => {
                self.lives(*worker);
                assert!(!self.draining.contains(worker), "{worker} is leaving");
                self.rises(stage, *token);
                self.compute((*worker, *token), stage, *step, ranges, event);
            }
            Command::CloseStage { worker, stage } => {
                self.lives(*worker);
                let open = self.stages.get_mut(stage).expect("only open stages are closed");
                assert!(open.members.remove(worker), "{worker} never knew {stage}");
                open.openings.remove(worker);
                let owners = open.step.iter_mut().flat_map(|step| step.owners.iter_mut());
                owners.for_each(|owners| owners.retain(|owner| owner.0 != *worker));
            }
            Command::Accept { stage, step, block } => self.accept(event, stage, *step, *block),
            Command::Refuse { worker, stage, block, .. } => {
                self.lives(*worker);
                self.refused(event, *worker, stage, *block);
            }
            Command::CompleteStep { stage, step } => {
                let current = self.stages.get_mut(stage).and_then(|open| open.step.as_mut()).expect("a step is open");
                assert_eq!(current.step, *step);
                assert!(!current.complete, "{stage} step {step} completed twice");
                assert!(current.counts.iter().all(|count| *count == 1), "{:?}", current.counts);
                current.complete = true;
            }
            Command::Note(_) => {}
            Command::Disconnect { worker, .. } => {
                self.lives(*worker);
                assert_eq!(*event, Event::Tick);
                self.lose(*worker);
            }
            Command::DrainDone { worker } => {
                assert!(self.draining.contains(worker), "{worker} did not want to leave");
                for open in self.stages.values() {
                    let owners = open.step.iter().flat_map(|step| step.owners.iter().zip(&step.counts));
                    let owes =
                        owners.filter(|(owners, count)| owners.iter().any(|owner| owner.0 == *worker) && **count == 0).count();
                    assert_eq!(owes, 0, "{worker} owes shards and was let go");
                }
                self.bury(*worker);
            }
        }
    }

    /// A job fails for a shard that failed three times, or was alone with the last of at least three workers.
    fn justified(&self, event: &Event, shard: &(Stage, u32), message: &str) {
        match event {
            Event::ShardFailed { stage, shard: failed, .. } => {
                assert_eq!(*shard, (stage.clone(), *failed));
                assert_eq!(self.last_failures, 3, "{shard:?} given up: {message}");
            }
            Event::WorkerLost { .. } | Event::WorkerJoined { .. } | Event::Tick => {
                let [(stage, alone, losses)] = self.last_loss.as_slice() else {
                    panic!("{message}: the worker owed {:?}", self.last_loss)
                };
                assert_eq!(*shard, (stage.clone(), *alone));
                assert!(*losses >= 3, "{shard:?} given up after {losses} losses: {message}");
            }
            _ => panic!("{message} after {event:?}"),
        }
    }

    fn lives(&self, worker: WorkerId) {
        assert!(self.alive.contains(&worker), "a command for {worker}, who is gone");
    }

    fn ends(&mut self, job: &JobId) {
        let before = self.jobs.insert(job.clone(), Job::Ending);
        assert!(matches!(before, Some(Job::Queued | Job::Running)), "{job} ends twice: {before:?}");
        self.stages.retain(|stage, _| stage.job != *job);
    }

    fn rises(&mut self, stage: &Stage, token: Token) {
        let open = self.stages.get_mut(stage).unwrap_or_else(|| panic!("{stage} is not open"));
        assert!(token.term == self.term && token >= open.token, "{token} after {}", open.token);
        open.token = token;
    }

    fn compute(&mut self, owner: (WorkerId, Token), stage: &Stage, step: Step, ranges: &[Range<u32>], event: &Event) {
        let fresh = matches!(event, Event::StepReady { stage: of, .. } if of == stage);
        let open = self.stages.get_mut(stage).expect("rises has looked");
        assert!(open.members.contains(&owner.0), "{} does not know {stage}", owner.0);
        let current = open.step.as_mut().expect("a step is open");
        assert!(current.step == step && !current.complete);
        let owed = |owners: &Vec<(WorkerId, Token)>| owners.iter().any(|of| of.0 == owner.0);
        let idle = !current.owners.iter().zip(&current.counts).any(|(owners, count)| *count == 0 && owed(owners));
        let mut last = None;
        for range in ranges {
            assert!(range.start < range.end && range.end <= open.plan.shards, "{range:?}");
            assert!(last.is_none_or(|end| end < range.start), "{ranges:?} do not rise or touch");
            last = Some(range.end);
            if fresh {
                let cut = |at: &u32| *at == open.plan.shards || *at == 0 || open.plan.boundaries.contains(at);
                assert!(cut(&range.start) && cut(&range.end), "{range:?} is not cut at a boundary");
            }
            for shard in range.clone() {
                let shard = shard as usize;
                assert_eq!(current.counts[shard], 0, "shard {shard} is in and was ordered again");
                let owners = &mut current.owners[shard];
                if !owners.is_empty() {
                    assert!(*event == Event::Tick && idle && owners.len() == 1, "shard {shard} is owed by {owners:?} already");
                }
                owners.push(owner);
            }
        }
    }

    fn accept(&mut self, event: &Event, stage: &Stage, step: Step, block: sheaf_cluster::Block) {
        let Event::BlockArrived { worker, stage: of, step: at, block: sent, token, .. } = event else {
            panic!("accepted after {event:?}")
        };
        assert_eq!((of, *at, *sent, token.term), (stage, step, block, self.term));
        self.lives(*worker);
        let open = self.stages.get_mut(stage).expect("only open stages accept");
        let current = open.step.as_mut().expect("a step is open");
        assert_eq!(current.step, step);
        let range = block.range(open.plan.shards);
        assert!(!range.is_empty());
        for shard in range {
            let shard = shard as usize;
            current.counts[shard] += 1;
            current.failures[shard] = 0;
            current.losses[shard] = 0;
            assert_eq!(current.counts[shard], 1, "shard {shard} counted twice");
            assert!(current.owners[shard].contains(&(*worker, *token)), "shard {shard} from somebody else");
        }
    }

    /// A block that its own sender owed, refused since it overlaps: the rest is nobody's until ordered again.
    fn refused(&mut self, event: &Event, worker: WorkerId, stage: &Stage, block: sheaf_cluster::Block) {
        let Event::BlockArrived { token, step: at, .. } = event else { panic!("refused after {event:?}") };
        let Some(open) = self.stages.get(stage) else { return };
        let Some(step) = open.step.as_ref().filter(|step| step.step == *at) else { return };
        let range = block.range(open.plan.shards);
        let covered = range.clone().any(|shard| step.counts[shard as usize] > 0);
        let owner = (worker, *token);
        if covered && range.clone().all(|shard| step.owners[shard as usize].contains(&owner)) {
            self.take(worker, stage, *token, range);
        }
    }

    /// Every shard of every step under way is in, owed by somebody who lives, or waits for somebody to come.
    fn whole(&self, engine: &Engine) {
        let holding = self.jobs.values().filter(|job| **job == Job::Running).count();
        assert!(holding <= self.max_running);
        assert_eq!(engine.stages().len(), self.stages.len());
        for (stage, open) in &self.stages {
            let progress = engine.progress(stage).expect("the engine knows the open stages");
            let Some(step) = &open.step else { continue };
            let covered = step.counts.iter().sum::<u32>();
            let pairs = step.counts.iter().zip(&step.owners);
            let nobody = pairs.filter(|(count, owners)| **count == 0 && owners.is_empty()).count();
            assert_eq!((progress.covered, progress.waiting as usize), (covered, nobody), "{stage} step {}", step.step);
            assert_eq!(step.complete, covered == open.plan.shards, "{stage}");
            if nobody > 0 {
                // Or for somebody who is kept for a suspect, or since all who could be kept for one read ahead.
                let kept = engine.workers().iter().any(|worker| worker.reserved.is_some());
                let excused = kept || self.all_read_ahead(open, engine) || self.taking_leases().is_empty();
                assert!(excused, "shards of {stage} wait while workers are idle");
            }
        }
    }

    /// Whether everybody who may be given a suspect of this stage reads what it would take over in some stage.
    fn all_read_ahead(&self, open: &StageModel, engine: &Engine) -> bool {
        let status = engine.workers();
        let reads = |worker: &WorkerId| {
            let said = status.iter().any(|status| status.worker == *worker && status.reading);
            said && self.stages.values().any(|open| open.openings.get(worker).is_some_and(|opening| opening.reads))
        };
        let ready = |worker: &WorkerId| open.openings.get(worker).is_none_or(|opening| !opening.late);
        let members: Vec<WorkerId> = self.taking_leases().into_iter().filter(|worker| open.members.contains(worker)).collect();
        // As long as nobody is ready everybody counts.
        let nobody_is_ready = !members.iter().any(ready);
        let mut candidates = members.iter().filter(|worker| nobody_is_ready || ready(worker)).peekable();
        candidates.peek().is_some() && candidates.all(reads)
    }
}
