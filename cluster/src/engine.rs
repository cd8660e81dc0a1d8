//! The leader's mind: one door, [`Engine::handle`], events in and commands out. It is volatile: a new
//! leader starts an empty one under a higher term and tells it of jobs and workers as they come.
//!
//! Same events, same times: same commands, whatever the machine. Nothing here fails; what does not fit
//! (late, repeated, unknown) changes nothing, and what cannot go on ends the job with a reason.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::command::Command;
use crate::coverage::Block;
use crate::durable::FailKind;
use crate::event::Event;
use crate::id::{JobId, Millis, Stage, Step, Term, Token, WorkerId};
use crate::job::{Jobs, Ticket, Waiting};
use crate::lease::{LeaseStatus, Refusal, StepRun, Tokens, Verdict};
use crate::membership::{WorkerStatus, Workers};
use crate::placement::Memory;
use crate::run::{Context, StageRun};
use crate::stage::{StagePlan, StageProgress};

/// What can be set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// A worker that is silent for longer is lost.
    pub heartbeat_timeout: Millis,
    /// Tries of a shard before the job is failed; 0 counts as 1.
    pub max_attempts: u32,
    /// Jobs that run at the same time.
    pub max_running_jobs: usize,
    /// Views whose placement is remembered for later stages.
    pub remembered_views: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { heartbeat_timeout: Millis(10_000), max_attempts: 3, max_running_jobs: 4, remembered_views: 128 }
    }
}

/// The control engine of one leader.
#[derive(Debug, Clone)]
pub struct Engine {
    options: Options,
    now: Millis,
    tokens: Tokens,
    workers: Workers,
    jobs: Jobs,
    stages: BTreeMap<Stage, StageRun>,
    memory: Memory,
}

impl Engine {
    /// An engine that knows nobody and nothing, for the leader of `term`.
    pub fn new(options: Options, term: Term) -> Engine {
        let memory = Memory::new(options.remembered_views);
        Engine {
            options,
            now: Millis(0),
            tokens: Tokens::new(term),
            workers: Workers::default(),
            jobs: Jobs::default(),
            stages: BTreeMap::new(),
            memory,
        }
    }

    /// Takes in what happened, at `now` on the leader's clock (an earlier time than before counts as
    /// that one), and says what is to be done, in order.
    pub fn handle(&mut self, event: Event, now: Millis) -> Vec<Command> {
        self.now = self.now.max(now);
        let mut out = Vec::new();
        match event {
            Event::WorkerJoined { worker, threads } => self.join(worker, threads, &mut out),
            Event::WorkerLost { worker, reason: _ } => self.lose(worker, &mut out),
            Event::Heartbeat { worker } => {
                self.workers.touch(worker, self.now);
            }
            Event::DrainRequested { worker } => self.drain(worker, &mut out),
            Event::JobQueued { job, namespace, priority, deadline, submitted } => {
                self.jobs.enqueue(job, Ticket { namespace, priority, deadline, submitted });
                self.start_jobs(&mut out);
            }
            Event::CancelRequested { job } => {
                if self.stop(&job, &mut out) {
                    out.push(Command::CancelJob { job });
                }
            }
            Event::JobEnded { job } => {
                self.close_stages(&job, &mut out);
                self.finish_drains(&mut out);
                self.jobs.remove(&job);
                self.start_jobs(&mut out);
            }
            Event::StageOpened { stage, plan } => self.open(stage, plan, &mut out),
            Event::StepReady { stage, step } => self.begin(&stage, step, &mut out),
            Event::Prepared { worker, stage, token } => self.prepared(worker, &stage, token, &mut out),
            Event::BlockArrived { worker, stage, step, token, block, digest } => {
                self.block(Sender { worker, stage, token }, step, block, digest, &mut out);
            }
            Event::ShardFailed { worker, stage, token, shard, retry, message } => {
                self.shard_failed(Sender { worker, stage, token }, shard, retry, &message, &mut out);
            }
            Event::StageClosed { stage } => {
                self.close(&stage, &mut out);
                self.finish_drains(&mut out);
            }
            Event::Tick => self.tick(&mut out),
        }
        out
    }

    fn join(&mut self, worker: WorkerId, threads: u32, out: &mut Vec<Command>) {
        self.lose(worker, out);
        self.workers.join(worker, threads, self.now);
        let stages: Vec<Stage> = self.stages.keys().cloned().collect();
        for stage in stages {
            self.recruit(&stage, &[worker], out);
        }
    }

    fn lose(&mut self, worker: WorkerId, out: &mut Vec<Command>) {
        if self.workers.remove(worker) {
            self.withdraw(worker, out);
        }
    }

    /// Takes a worker that is gone out of every stage and fills the places that have a limit.
    fn withdraw(&mut self, worker: WorkerId, out: &mut Vec<Command>) {
        for run in self.stages.values_mut() {
            run.lose(worker, &mut Context { workers: &self.workers, tokens: &mut self.tokens, out });
        }
        self.refill(out);
    }

    /// Stages for few workers get another one for each that left or leaves.
    fn refill(&mut self, out: &mut Vec<Command>) {
        let limited = |(stage, run): (&Stage, &StageRun)| run.is_limited().then(|| stage.clone());
        let stages: Vec<Stage> = self.stages.iter().filter_map(limited).collect();
        for stage in stages {
            self.recruit(&stage, &self.everybody(), out);
        }
    }

    fn everybody(&self) -> Vec<WorkerId> {
        self.workers.iter().map(|(worker, _)| worker).collect()
    }

    fn recruit(&mut self, stage: &Stage, from: &[WorkerId], out: &mut Vec<Command>) {
        // Out of the map, so that what a worker owes elsewhere can be asked for.
        let Some(mut run) = self.stages.remove(stage) else { return };
        let owed = |worker| self.stages.values().map(|other| other.owed(worker)).sum();
        run.recruit(from, owed, &mut Context { workers: &self.workers, tokens: &mut self.tokens, out });
        self.stages.insert(stage.clone(), run);
    }

    fn drain(&mut self, worker: WorkerId, out: &mut Vec<Command>) {
        if !self.workers.touch(worker, self.now) || !self.workers.drain(worker) {
            return;
        }
        for run in self.stages.values_mut() {
            run.drained(worker);
        }
        self.refill(out);
        self.finish_drains(out);
    }

    /// Lets those go that are leaving and owe nothing.
    fn finish_drains(&mut self, out: &mut Vec<Command>) {
        let leaving: Vec<WorkerId> = self.workers.draining().iter().copied().collect();
        for worker in leaving {
            if self.owed(worker) == 0 {
                out.push(Command::DrainDone { worker });
                self.lose(worker, out);
            }
        }
    }

    fn owed(&self, worker: WorkerId) -> u32 {
        self.stages.values().map(|run| run.owed(worker)).sum()
    }

    fn start_jobs(&mut self, out: &mut Vec<Command>) {
        while let Some(job) = self.jobs.start_next(self.options.max_running_jobs) {
            out.push(Command::StartJob { job });
        }
    }

    /// Ends what the job does in the cluster. False if the job is unknown or ends already.
    fn stop(&mut self, job: &JobId, out: &mut Vec<Command>) -> bool {
        let stops = self.jobs.stop(job);
        if stops {
            self.close_stages(job, out);
            self.finish_drains(out);
        }
        stops
    }

    fn fail(&mut self, job: &JobId, kind: FailKind, message: String, out: &mut Vec<Command>) {
        if self.stop(job, out) {
            out.push(Command::FailJob { job: job.clone(), kind, message });
        }
    }

    fn open(&mut self, stage: Stage, plan: StagePlan, out: &mut Vec<Command>) {
        if !self.jobs.is_running(&stage.job) || self.stages.contains_key(&stage) {
            return;
        }
        let cuts = match plan.cuts() {
            Ok(cuts) => cuts,
            Err(error) => return self.fail(&stage.job, FailKind::Internal, format!("stage {stage}: {error}"), out),
        };
        let home = self.memory.recall(plan.sticky, &cuts);
        let run = StageRun::new(stage.clone(), cuts, home, plan.sticky, plan.max_workers);
        self.stages.insert(stage.clone(), run);
        self.recruit(&stage, &self.everybody(), out);
    }

    fn begin(&mut self, stage: &Stage, step: Step, out: &mut Vec<Command>) {
        if let Some(run) = self.stages.get_mut(stage) {
            run.begin(step, &mut Context { workers: &self.workers, tokens: &mut self.tokens, out });
        }
    }

    fn prepared(&mut self, worker: WorkerId, stage: &Stage, token: Token, out: &mut Vec<Command>) {
        if !self.workers.touch(worker, self.now) {
            return;
        }
        if let Some(run) = self.stages.get_mut(stage) {
            run.prepared(worker, token, &mut Context { workers: &self.workers, tokens: &mut self.tokens, out });
        }
    }

    fn block(&mut self, from: Sender, step: Step, block: Block, digest: u64, out: &mut Vec<Command>) {
        let Sender { worker, stage, token } = from;
        if !self.workers.touch(worker, self.now) {
            return;
        }
        let Some(run) = self.stages.get_mut(&stage) else { return };
        let term = self.tokens.term();
        let verdict = match run.step.as_mut() {
            None => Verdict::Refuse(Refusal::NoStep),
            Some(now) if now.step != step => Verdict::Refuse(Refusal::OtherStep { current: now.step }),
            Some(now) => now.judge(worker, term, token, block, digest),
        };
        match verdict {
            Verdict::Accept => {
                let complete = run.step.as_ref().is_some_and(StepRun::is_complete);
                out.push(Command::Accept { stage: stage.clone(), step, block });
                if complete {
                    out.push(Command::CompleteStep { stage, step });
                }
                if self.workers.draining().contains(&worker) {
                    self.finish_drains(out);
                }
            }
            Verdict::Refuse(refusal) => {
                out.push(Command::Refuse { worker, stage, step, block, reason: refusal.to_string() });
            }
            Verdict::Tangled(missing) => {
                let reason = Refusal::Covered.to_string();
                out.push(Command::Refuse { worker, stage, step, block, reason });
                run.spread(missing, &mut Context { workers: &self.workers, tokens: &mut self.tokens, out });
                self.finish_drains(out);
            }
            Verdict::Nondeterministic(shards) => {
                let message = format!(
                    "nondeterministic partial: shards {}..{} of stage {stage} step {step} gave two results, the last on worker {worker}",
                    shards.start, shards.end
                );
                self.fail(&stage.job, FailKind::Internal, message, out);
            }
        }
    }

    fn shard_failed(&mut self, from: Sender, shard: u32, retry: bool, message: &str, out: &mut Vec<Command>) {
        let Sender { worker, stage, token } = from;
        if !self.workers.touch(worker, self.now) {
            return;
        }
        let Some(run) = self.stages.get_mut(&stage) else { return };
        let Some(tries) = run.step.as_mut().and_then(|step| step.fail(worker, token, shard)) else { return };
        if retry && tries < self.options.max_attempts {
            run.retry(shard, &mut Context { workers: &self.workers, tokens: &mut self.tokens, out });
            self.finish_drains(out);
            return;
        }
        let message = match tries {
            1 => format!("shard {shard} of stage {stage} failed on worker {worker}: {message}"),
            _ => format!("shard {shard} of stage {stage} failed {tries} times, the last on worker {worker}: {message}"),
        };
        self.fail(&stage.job, FailKind::Data, message, out);
    }

    fn close(&mut self, stage: &Stage, out: &mut Vec<Command>) {
        let Some(run) = self.stages.remove(stage) else { return };
        if let Some((key, layout)) = run.memory() {
            self.memory.store(key, run.shards(), &layout);
        }
        out.extend(run.members().map(|worker| Command::CloseStage { worker, stage: stage.clone() }));
    }

    fn close_stages(&mut self, job: &JobId, out: &mut Vec<Command>) {
        let number = |number| Stage { job: job.clone(), number };
        let stages: Vec<Stage> = self.stages.range(number(0)..=number(u32::MAX)).map(|(stage, _)| stage.clone()).collect();
        for stage in stages {
            self.close(&stage, out);
        }
    }

    fn tick(&mut self, out: &mut Vec<Command>) {
        let timeout = self.options.heartbeat_timeout;
        for worker in self.workers.silent(self.now, timeout) {
            out.push(Command::Disconnect { worker, reason: format!("worker {worker} was silent for {timeout} ms") });
            self.lose(worker, out);
        }
        for job in self.jobs.expire(self.now) {
            let why = self.waiting(&job).map_or_else(String::new, |waiting| format!(": the job {waiting}"));
            self.fail(&job, FailKind::Deadline, format!("deadline passed{why}"), out);
        }
    }
}

/// Reading, for status pages.
impl Engine {
    /// Whose engine it is.
    pub fn term(&self) -> Term {
        self.tokens.term()
    }

    /// Workers that are there.
    pub fn workers(&self) -> Vec<WorkerStatus> {
        let status = |(worker, known): (WorkerId, &crate::membership::Worker)| WorkerStatus {
            worker,
            threads: known.threads,
            seen: known.seen,
            draining: known.draining,
            owed: self.owed(worker),
        };
        self.workers.iter().map(status).collect()
    }

    /// Open stages.
    pub fn stages(&self) -> Vec<StageProgress> {
        self.stages.values().map(StageRun::progress).collect()
    }

    /// Where a stage stands; `None` if it is not open.
    pub fn progress(&self, stage: &Stage) -> Option<StageProgress> {
        self.stages.get(stage).map(StageRun::progress)
    }

    /// Leases of the current step of a stage, with the shards still owed under each.
    pub fn leases(&self, stage: &Stage) -> Vec<LeaseStatus> {
        let step = self.stages.get(stage).and_then(|run| run.step.as_ref());
        step.map(|step| step.leases(stage)).unwrap_or_default()
    }

    /// What a job waits for; `None` if it goes on, or is not known.
    pub fn waiting(&self, job: &JobId) -> Option<Waiting> {
        let turn = self.jobs.waiting(job);
        turn.or_else(|| {
            let stages = self.stages.values().map(StageRun::progress);
            let stuck = stages.into_iter().find(|progress| progress.stage.job == *job && progress.waiting > 0)?;
            let draining = self.workers.draining().len();
            Some(Waiting::Workers { stage: stuck.stage, shards: stuck.waiting, draining })
        })
    }

    /// Queued jobs in the order in which they would start now.
    pub fn queue(&self) -> Vec<JobId> {
        self.jobs.queue()
    }

    /// Jobs that have a slot: they run, or they are being stopped.
    pub fn running(&self) -> Vec<JobId> {
        self.jobs.running()
    }
}

/// Whom a report comes from, and what it answers.
struct Sender {
    worker: WorkerId,
    stage: Stage,
    token: Token,
}

#[cfg(test)]
mod tests;
