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
    /// Who was asked for each shard last, under which token, and lives.
    owners: Vec<Option<(WorkerId, Token)>>,
    /// Failures of each shard since it was last accepted.
    failures: Vec<u32>,
    complete: bool,
}

struct StageModel {
    plan: StagePlan,
    token: Token,
    members: BTreeSet<WorkerId>,
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
}

impl Model {
    pub fn new(term: Term, max_running: usize) -> Self {
        let (alive, draining) = (BTreeSet::new(), BTreeSet::new());
        let (jobs, stages, closed) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Model { term, max_running, alive, draining, jobs, stages, closed, last_failures: 0 }
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
                self.bury(*worker);
                self.alive.insert(*worker);
            }
            Event::WorkerLost { worker, .. } => self.bury(*worker),
            Event::DrainRequested { worker } if self.alive.contains(worker) => {
                self.draining.insert(*worker);
            }
            Event::JobQueued { job, .. } => {
                self.jobs.insert(job.clone(), Job::Queued);
            }
            Event::StageOpened { stage, plan } if self.jobs.get(&stage.job) == Some(&Job::Running) => {
                let members = BTreeSet::new();
                let open = StageModel { plan: plan.clone(), token: Token::default(), members, step: None };
                self.stages.entry(stage.clone()).or_insert(open);
            }
            Event::StepReady { stage, step } => self.step_ready(stage, *step),
            Event::ShardFailed { worker, stage, token, shard, .. } => self.shard_failed(*worker, stage, *token, *shard),
            _ => {}
        }
    }

    fn bury(&mut self, worker: WorkerId) {
        self.alive.remove(&worker);
        self.draining.remove(&worker);
        for stage in self.stages.values_mut() {
            stage.members.remove(&worker);
            let owners = stage.step.iter_mut().flat_map(|step| step.owners.iter_mut());
            owners.filter(|owner| owner.is_some_and(|owner| owner.0 == worker)).for_each(|owner| *owner = None);
        }
    }

    fn step_ready(&mut self, stage: &Stage, step: Step) {
        let Some(open) = self.stages.get_mut(stage) else { return };
        if open.step.as_ref().is_none_or(|last| last.complete && last.step < step) {
            let shards = open.plan.shards as usize;
            let (counts, failures) = (vec![0; shards], vec![0; shards]);
            open.step = Some(StepModel { step, counts, owners: vec![None; shards], failures, complete: false });
        }
    }

    fn shard_failed(&mut self, worker: WorkerId, stage: &Stage, token: Token, shard: u32) {
        let step = self.stages.get_mut(stage).filter(|_| token.term == self.term).and_then(|open| open.step.as_mut());
        let Some(step) = step.filter(|_| self.alive.contains(&worker)) else { return };
        let shard = shard as usize;
        if step.counts[shard] == 0 && step.owners[shard] == Some((worker, token)) {
            step.owners[shard] = None;
            step.failures[shard] += 1;
            self.last_failures = step.failures[shard];
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
            Command::FailJob { job, kind, message } => {
                assert_eq!(*kind, FailKind::Data, "{message}");
                let Event::ShardFailed { shard, .. } = event else { panic!("{message} after {event:?}") };
                assert_eq!(self.last_failures, 3, "shard {shard} given up: {message}");
                self.ends(job);
            }
            Command::OpenStage { worker, stage, token } => {
                self.lives(*worker);
                assert!(!self.draining.contains(worker), "{worker} is leaving");
                self.rises(stage, *token);
                let open = self.stages.get_mut(stage).expect("rises has looked");
                assert!(open.members.insert(*worker), "{stage} opened twice on {worker}");
                let staying = open.members.difference(&self.draining).count();
                assert!(open.plan.max_workers.is_none_or(|max| staying <= max as usize), "too many workers");
            }
            Command::Compute { worker, stage, step, token, ranges } => {
                self.lives(*worker);
                assert!(!self.draining.contains(worker), "{worker} is leaving");
                self.rises(stage, *token);
                self.compute((*worker, *token), stage, *step, ranges, matches!(event, Event::StepReady { .. }));
            }
            Command::CloseStage { worker, stage } => {
                self.lives(*worker);
                let open = self.stages.get_mut(stage).expect("only open stages are closed");
                assert!(open.members.remove(worker), "{worker} never knew {stage}");
                let owners = open.step.iter_mut().flat_map(|step| step.owners.iter_mut());
                owners.filter(|owner| owner.is_some_and(|owner| owner.0 == *worker)).for_each(|owner| *owner = None);
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
            Command::Disconnect { worker, .. } => {
                self.lives(*worker);
                assert_eq!(*event, Event::Tick);
                self.bury(*worker);
            }
            Command::DrainDone { worker } => {
                assert!(self.draining.contains(worker), "{worker} did not want to leave");
                for open in self.stages.values() {
                    let owners = open.step.iter().flat_map(|step| step.owners.iter().zip(&step.counts));
                    let owes =
                        owners.filter(|(owner, count)| owner.is_some_and(|owner| owner.0 == *worker) && **count == 0).count();
                    assert_eq!(owes, 0, "{worker} owes shards and was let go");
                }
                self.bury(*worker);
            }
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

    fn compute(&mut self, owner: (WorkerId, Token), stage: &Stage, step: Step, ranges: &[Range<u32>], fresh: bool) {
        let open = self.stages.get_mut(stage).expect("rises has looked");
        assert!(open.members.contains(&owner.0), "{} does not know {stage}", owner.0);
        let current = open.step.as_mut().expect("a step is open");
        assert!(current.step == step && !current.complete);
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
                assert_eq!(current.owners[shard], None, "shard {shard} is owed twice");
                current.owners[shard] = Some(owner);
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
            assert_eq!(current.counts[shard], 1, "shard {shard} counted twice");
            assert_eq!(current.owners[shard], Some((*worker, *token)), "shard {shard} from somebody else");
        }
    }

    /// A block that its own sender owed, refused since it overlaps: the rest is nobody's until ordered again.
    fn refused(&mut self, event: &Event, worker: WorkerId, stage: &Stage, block: sheaf_cluster::Block) {
        let Event::BlockArrived { token, step: at, .. } = event else { panic!("refused after {event:?}") };
        let Some(open) = self.stages.get_mut(stage) else { return };
        let Some(step) = open.step.as_mut().filter(|step| step.step == *at) else { return };
        let range: Vec<usize> = block.range(open.plan.shards).map(|shard| shard as usize).collect();
        let covered = range.iter().any(|shard| step.counts[*shard] > 0);
        let owner = Some((worker, *token));
        if covered && range.iter().all(|shard| step.owners[*shard] == owner) {
            range.iter().filter(|shard| step.counts[**shard] == 0).for_each(|shard| step.owners[*shard] = None);
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
            let nobody = pairs.filter(|(count, owner)| **count == 0 && owner.is_none()).count();
            assert_eq!((progress.covered, progress.waiting as usize), (covered, nobody), "{stage} step {}", step.step);
            assert_eq!(step.complete, covered == open.plan.shards, "{stage}");
            if nobody > 0 {
                assert!(self.taking_leases().is_empty(), "shards of {stage} wait while workers are idle");
            }
        }
    }
}
