//! Who owes what, kept as plainly as possible from what the engine was told and what it ordered: a list
//! of owners for each shard, a counter for each shard, sets of who lives. Slow and obvious.

use std::collections::{BTreeMap, BTreeSet};

use sheaf_cluster::{Block, Command, Event, JobId, Stage, StagePlan, Step, Term, Token, WorkerId};

use super::Fact;

/// A step under way.
#[derive(Debug)]
pub(crate) struct StepBook {
    pub step: Step,
    /// How often each shard was accepted.
    pub counts: Vec<u32>,
    /// Who was asked for each shard and not been relieved of it, under which token.
    pub owners: Vec<Vec<(WorkerId, Token)>>,
    pub complete: bool,
}

impl StepBook {
    /// Whether a worker owes shards that are not in.
    pub fn owes(&self, worker: WorkerId) -> bool {
        let mut shards = self.owners.iter().zip(&self.counts);
        shards.any(|(owners, count)| *count == 0 && owners.iter().any(|(owner, _)| *owner == worker))
    }
}

/// An `OpenStage` that was not answered.
#[derive(Debug)]
pub(crate) struct Opening {
    token: Token,
    /// The worker reads something for it.
    reads: bool,
    /// A step had begun: the worker is not ready before it answers.
    late: bool,
}

/// An open stage.
#[derive(Debug)]
pub(crate) struct StageBook {
    pub plan: StagePlan,
    pub members: BTreeSet<WorkerId>,
    openings: BTreeMap<WorkerId, Opening>,
    pub step: Option<StepBook>,
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub term: Term,
    pub alive: BTreeSet<WorkerId>,
    pub draining: BTreeSet<WorkerId>,
    running: BTreeSet<JobId>,
    pub stages: BTreeMap<Stage, StageBook>,
    /// Workers that were lost with each shard in hand since it was last in.
    pub losses: BTreeMap<(Stage, u32), u32>,
}

impl Ledger {
    /// The step of a stage, if it is this one.
    pub fn step(&self, stage: &Stage, step: Step) -> Option<&StepBook> {
        self.stages.get(stage)?.step.as_ref().filter(|book| book.step == step)
    }

    /// Shards that a worker owes and that are not in.
    pub fn owed(&self, worker: WorkerId) -> usize {
        let steps = self.stages.values().filter_map(|stage| stage.step.as_ref());
        let shards = steps.flat_map(|step| step.owners.iter().zip(&step.counts));
        shards.filter(|(owners, count)| **count == 0 && owners.iter().any(|(owner, _)| *owner == worker)).count()
    }

    /// Whether a worker reads what it would take over in some stage.
    pub fn reads(&self, worker: WorkerId) -> bool {
        self.stages.values().any(|open| open.openings.get(&worker).is_some_and(|opening| opening.reads))
    }

    /// Members of a stage that may be given its shards: the ready ones; everybody while nobody is ready.
    pub fn candidates(&self, open: &StageBook) -> Vec<WorkerId> {
        let ready = |worker: &WorkerId| open.openings.get(worker).is_none_or(|opening| !opening.late);
        let members: Vec<WorkerId> = open
            .members
            .iter()
            .copied()
            .filter(|worker| self.alive.contains(worker) && !self.draining.contains(worker))
            .collect();
        match members.iter().any(ready) {
            true => members.into_iter().filter(ready).collect(),
            false => members,
        }
    }

    /// Whether anybody takes new leases.
    pub fn somebody_takes_leases(&self) -> bool {
        self.alive.difference(&self.draining).next().is_some()
    }

    pub fn take(&mut self, fact: &Fact<'_>) {
        match fact {
            Fact::Leads { term } => *self = Self { term: *term, ..Self::default() },
            Fact::Event { event, .. } => self.told(event),
            Fact::Command { event, command } => self.wanted(event, command),
            _ => {}
        }
    }

    fn told(&mut self, event: &Event) {
        match event {
            Event::WorkerJoined { worker, .. } => {
                self.bury(*worker);
                self.alive.insert(*worker);
            }
            Event::WorkerLost { worker, .. } => self.bury(*worker),
            Event::DrainRequested { worker } if self.alive.contains(worker) => {
                self.draining.insert(*worker);
            }
            Event::StageOpened { stage, plan } if self.running.contains(&stage.job) => {
                let (members, openings) = (BTreeSet::new(), BTreeMap::new());
                let open = StageBook { plan: plan.clone(), members, openings, step: None };
                self.stages.entry(stage.clone()).or_insert(open);
            }
            Event::StageClosed { stage } => {
                self.stages.remove(stage);
            }
            Event::Prepared { worker, stage, token } => {
                if let Some(open) = self.stages.get_mut(stage) {
                    open.openings.retain(|who, opening| (who, opening.token) != (worker, *token));
                }
            }
            Event::StepReady { stage, step } => self.begin(stage, *step),
            Event::ShardFailed { worker, stage, token, shard, .. } => {
                self.unprepared(*worker, *token, stage);
                self.relieve(*worker, *token, stage, *shard);
            }
            Event::ShardsReturned { worker, stage, token, ranges } => {
                ranges.iter().cloned().flatten().for_each(|shard| self.relieve(*worker, *token, stage, shard));
            }
            Event::JobEnded { job } => self.end(job),
            _ => {}
        }
    }

    fn begin(&mut self, stage: &Stage, step: Step) {
        let Some(open) = self.stages.get_mut(stage) else { return };
        if open.step.as_ref().is_none_or(|last| last.complete && last.step < step) {
            let shards = open.plan.shards as usize;
            open.step = Some(StepBook { step, counts: vec![0; shards], owners: vec![Vec::new(); shards], complete: false });
        }
    }

    /// A worker that could not read what it was to take over has stopped trying for a while.
    fn unprepared(&mut self, worker: WorkerId, token: Token, stage: &Stage) {
        let opening = self.stages.get_mut(stage).and_then(|open| open.openings.get_mut(&worker));
        if let Some(opening) = opening.filter(|opening| opening.token == token) {
            opening.reads = false;
        }
    }

    /// The worker has failed the shard or given it back.
    fn relieve(&mut self, worker: WorkerId, token: Token, stage: &Stage, shard: u32) {
        let step = self.stages.get_mut(stage).and_then(|open| open.step.as_mut());
        if let Some(owners) = step.and_then(|step| step.owners.get_mut(shard as usize)) {
            owners.retain(|owner| *owner != (worker, token));
        }
    }

    fn bury(&mut self, worker: WorkerId) {
        for (stage, open) in self.stages.iter().filter(|_| self.alive.contains(&worker)) {
            let Some(step) = &open.step else { continue };
            for (shard, owners) in step.owners.iter().enumerate() {
                if step.counts[shard] == 0 && owners.iter().any(|(owner, _)| *owner == worker) {
                    *self.losses.entry((stage.clone(), shard as u32)).or_default() += 1;
                }
            }
        }
        self.alive.remove(&worker);
        self.draining.remove(&worker);
        for stage in self.stages.values_mut() {
            stage.members.remove(&worker);
            stage.openings.remove(&worker);
            disown(stage, worker);
        }
    }

    fn end(&mut self, job: &JobId) {
        self.running.remove(job);
        self.stages.retain(|stage, _| stage.job != *job);
    }

    fn wanted(&mut self, event: &Event, command: &Command) {
        match command {
            Command::StartJob { job } => {
                self.running.insert(job.clone());
            }
            Command::FailJob { job, .. } | Command::CancelJob { job } => self.end(job),
            Command::OpenStage { worker, stage, token, prepare } => {
                if let Some(open) = self.stages.get_mut(stage) {
                    let late = open.openings.get(worker).map_or(open.step.is_some(), |earlier| earlier.late);
                    open.openings.insert(*worker, Opening { token: *token, reads: !prepare.is_empty(), late });
                    open.members.insert(*worker);
                }
            }
            Command::CloseStage { worker, stage } => {
                if let Some(open) = self.stages.get_mut(stage) {
                    open.members.remove(worker);
                    open.openings.remove(worker);
                    disown(open, *worker);
                }
            }
            Command::Compute { worker, stage, token, ranges, .. } => {
                let Some(step) = self.stages.get_mut(stage).and_then(|open| open.step.as_mut()) else { return };
                for shard in ranges.iter().cloned().flatten() {
                    step.owners[shard as usize].push((*worker, *token));
                }
            }
            Command::Accept { stage, block, .. } => {
                let Some(open) = self.stages.get_mut(stage) else { return };
                let range = block.range(open.plan.shards);
                for shard in range {
                    self.losses.remove(&(stage.clone(), shard));
                    if let Some(step) = open.step.as_mut() {
                        step.counts[shard as usize] += 1;
                    }
                }
            }
            Command::Refuse { worker, stage, step, block, .. } => self.refused(event, *worker, stage, *step, *block),
            Command::CompleteStep { stage, .. } => {
                if let Some(step) = self.stages.get_mut(stage).and_then(|open| open.step.as_mut()) {
                    step.complete = true;
                }
            }
            Command::Disconnect { worker, .. } | Command::DrainDone { worker } => self.bury(*worker),
            Command::Note(_) => {}
        }
    }

    /// A block that its sender owed and that overlaps what is in: the sender sends the rest no more.
    fn refused(&mut self, event: &Event, worker: WorkerId, stage: &Stage, step: Step, block: Block) {
        let Event::BlockArrived { token, .. } = event else { return };
        let Some(open) = self.stages.get_mut(stage) else { return };
        let range = block.range(open.plan.shards);
        let Some(book) = open.step.as_mut().filter(|book| book.step == step) else { return };
        let shards: Vec<usize> = range.map(|shard| shard as usize).collect();
        let owner = (worker, *token);
        let covered = shards.iter().any(|shard| book.counts[*shard] > 0);
        if covered && shards.iter().all(|shard| book.owners[*shard].contains(&owner)) {
            for shard in shards.into_iter().filter(|shard| book.counts[*shard] == 0).collect::<Vec<_>>() {
                book.owners[shard].retain(|other| *other != owner);
            }
        }
    }
}

fn disown(stage: &mut StageBook, worker: WorkerId) {
    let owners = stage.step.iter_mut().flat_map(|step| step.owners.iter_mut());
    owners.for_each(|owners| owners.retain(|(owner, _)| *owner != worker));
}
