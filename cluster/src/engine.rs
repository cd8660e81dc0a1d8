//! The leader's mind: one door, [`Engine::handle`], events in and commands out. It is volatile: a new
//! leader starts an empty one under a higher term and tells it of jobs and workers as they come.
//!
//! Same events, same times: same commands, whatever the machine. Nothing here fails; what does not fit
//! (late, repeated, unknown) changes nothing, and what cannot go on ends the job with a reason.

mod losing;
mod view;

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::command::Command;
use crate::coverage::Block;
use crate::durable::FailKind;
use crate::event::Event;
use crate::id::{JobId, Millis, Stage, Step, Term, Token, WorkerId};
use crate::job::{Jobs, Shares, Ticket};
use crate::lease::{Refusal, StepRun, Tokens, Verdict};
use crate::membership::Workers;
use crate::pace::{Judgement, first_chance};
use crate::placement::Memory;
use crate::run::{Context, StageRun};
use crate::stage::StagePlan;
use crate::suspect::Losses;

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
    /// Weights of namespaces: a namespace of weight 2 may run twice as many jobs as one of weight 1, which
    /// is the weight of those not listed.
    pub weights: BTreeMap<String, u32>,
    /// Most jobs of a namespace that run at the same time; those not listed have no limit of their own.
    pub namespace_limits: BTreeMap<String, usize>,
    /// Whether late workers get help and slow ones less to do. Without it everybody keeps a full share, and
    /// what a worker owes is asked of nobody else until it is lost.
    pub speculate: bool,
    /// A worker that owes shards for longer than this many percent of what the step took the others is
    /// late: who has nothing to do computes its shards too.
    pub speculate_percent: u32,
    /// No worker is late before this.
    pub speculate_floor: Millis,
    /// Steps are put together until they took this long before workers are compared.
    pub pace_window: Millis,
    /// A slow worker that was not measured for this long is given more to do again; where steps are short it
    /// gets its first chances sooner, from an eighth of this time on.
    pub pace_recovery: Millis,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            heartbeat_timeout: Millis(10_000),
            max_attempts: 3,
            max_running_jobs: 4,
            remembered_views: 128,
            weights: BTreeMap::new(),
            namespace_limits: BTreeMap::new(),
            speculate: true,
            speculate_percent: 200,
            speculate_floor: Millis(250),
            pace_window: Millis(500),
            pace_recovery: Millis(10_000),
        }
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
    losses: Losses,
    /// Stages with a step under way, as of the last event that may have changed it.
    under_way: u32,
}

/// What a stage needs to act, from an engine whose stages are borrowed apart.
macro_rules! context {
    ($engine:expr, $out:expr) => {
        &mut Context {
            workers: &$engine.workers,
            tokens: &mut $engine.tokens,
            options: &$engine.options,
            rivals: $engine.under_way.max(1),
            now: $engine.now,
            out: $out,
        }
    };
}
use context;

impl Engine {
    /// An engine that knows nobody and nothing, for the leader of `term`.
    pub fn new(options: Options, term: Term) -> Engine {
        let memory = Memory::new(options.remembered_views);
        let jobs = Jobs::new(Shares { weights: options.weights.clone(), limits: options.namespace_limits.clone() });
        Engine {
            options,
            now: Millis(0),
            tokens: Tokens::new(term),
            workers: Workers::default(),
            jobs,
            stages: BTreeMap::new(),
            memory,
            losses: Losses::default(),
            under_way: 0,
        }
    }

    /// Takes in what happened, at `now` on the leader's clock (an earlier time than before counts as
    /// that one), and says what is to be done, in order.
    pub fn handle(&mut self, event: Event, now: Millis) -> Vec<Command> {
        self.now = self.now.max(now);
        // Never many: as many as jobs run at the same time.
        self.under_way = self.stages.values().filter(|run| run.is_under_way()).count() as u32;
        let mut out = Vec::new();
        self.take(event, &mut out);
        self.serve_suspects(&mut out);
        out
    }

    fn take(&mut self, event: Event, out: &mut Vec<Command>) {
        match event {
            Event::WorkerJoined { worker, threads } => self.join(worker, threads, out),
            Event::WorkerLost { worker, reason } => self.lose(worker, &reason, out),
            Event::Heartbeat { worker } => {
                self.workers.touch(worker, self.now);
            }
            Event::DrainRequested { worker } => self.drain(worker, out),
            Event::JobQueued { job, namespace, priority, deadline, submitted } => {
                self.jobs.enqueue(job, Ticket { namespace, priority, deadline, submitted });
                self.start_jobs(out);
            }
            Event::CancelRequested { job } => {
                if self.stop(&job, out) {
                    out.push(Command::CancelJob { job });
                }
            }
            Event::JobEnded { job } => {
                self.close_stages(&job, out);
                self.finish_drains(out);
                self.jobs.remove(&job);
                self.start_jobs(out);
            }
            Event::StageOpened { stage, plan } => self.open(stage, plan, out),
            Event::StepReady { stage, step } => self.begin(&stage, step, out),
            Event::Prepared { worker, stage, token } => self.prepared(worker, &stage, token, out),
            Event::BlockArrived { worker, stage, step, token, block, digest } => {
                self.block(Sender { worker, stage, token }, step, block, digest, out);
            }
            Event::ShardFailed { worker, stage, token, shard, retry, message } => {
                self.shard_failed(Sender { worker, stage, token }, shard, retry, &message, out);
            }
            Event::ShardsReturned { worker, stage, token, ranges } => {
                self.returned(Sender { worker, stage, token }, &ranges, out);
            }
            Event::StageClosed { stage } => {
                self.close(&stage, out);
                self.finish_drains(out);
            }
            Event::Tick => self.tick(out),
        }
    }

    fn join(&mut self, worker: WorkerId, threads: u32, out: &mut Vec<Command>) {
        self.lose(worker, "it joined anew", out);
        self.workers.join(worker, threads, self.now);
        let stages: Vec<Stage> = self.stages.keys().cloned().collect();
        for stage in stages {
            self.recruit(&stage, &[worker], out);
        }
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
        run.recruit(from, owed, context!(self, out));
        self.stages.insert(stage.clone(), run);
    }

    fn drain(&mut self, worker: WorkerId, out: &mut Vec<Command>) {
        if !self.workers.touch(worker, self.now) || !self.workers.drain(worker) {
            return;
        }
        for run in self.stages.values_mut() {
            run.drained(worker, context!(self, out));
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
                self.withdraw(worker, None, out);
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
        self.give_up(job, kind, message, None, out);
    }

    fn give_up(&mut self, job: &JobId, kind: FailKind, message: String, shard: Option<(Stage, u32)>, out: &mut Vec<Command>) {
        if self.stop(job, out) {
            out.push(Command::FailJob { job: job.clone(), kind, message, shard });
        }
    }

    fn open(&mut self, stage: Stage, plan: StagePlan, out: &mut Vec<Command>) {
        if !self.jobs.is_running(&stage.job) || self.stages.contains_key(&stage) {
            return;
        }
        let cuts = match plan.cuts() {
            Ok(cuts) => cuts,
            Err(error) => {
                let message = format!("{}: {error}", plan.name(&stage));
                return self.fail(&stage.job, FailKind::Internal, message, out);
            }
        };
        let home = self.memory.recall(plan.sticky, &cuts);
        let run = StageRun::new(stage.clone(), &plan, cuts, home);
        self.stages.insert(stage.clone(), run);
        self.recruit(&stage, &self.everybody(), out);
    }

    fn begin(&mut self, stage: &Stage, step: Step, out: &mut Vec<Command>) {
        if let Some(run) = self.stages.get_mut(stage) {
            run.begin(step, context!(self, out));
        }
    }

    fn prepared(&mut self, worker: WorkerId, stage: &Stage, token: Token, out: &mut Vec<Command>) {
        if !self.workers.touch(worker, self.now) {
            return;
        }
        if let Some(run) = self.stages.get_mut(stage) {
            run.prepared(worker, token, context!(self, out));
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
            Some(now) => now.judge((worker, token), term, block, digest, self.now),
        };
        match verdict {
            Verdict::Accept => {
                let complete = run.step.as_ref().is_some_and(StepRun::is_complete);
                out.push(Command::Accept { stage: stage.clone(), step, block });
                if complete {
                    let judged = run.finished(context!(self, &mut *out));
                    out.push(Command::CompleteStep { stage: stage.clone(), step });
                    self.judge(&stage, judged, out);
                }
                if !self.workers.draining().is_empty() {
                    self.finish_drains(out);
                }
            }
            Verdict::Refuse(refusal) => {
                out.push(Command::Refuse { worker, stage, step, block, reason: refusal.to_string() });
            }
            Verdict::Tangled(missing) => {
                let reason = Refusal::Covered.to_string();
                out.push(Command::Refuse { worker, stage, step, block, reason });
                run.again(missing, None, context!(self, &mut *out));
                self.finish_drains(out);
            }
            Verdict::Nondeterministic(shards) => {
                let message = format!(
                    "nondeterministic partial: shards {}..{} of {} step {step} gave two results, the last on worker {worker}",
                    shards.start,
                    shards.end,
                    run.name()
                );
                self.fail(&stage.job, FailKind::Internal, message, out);
            }
        }
    }

    /// Takes in what a step said of its workers.
    fn judge(&mut self, stage: &Stage, judged: Vec<(WorkerId, Judgement)>, out: &mut Vec<Command>) {
        for (worker, judgement) in judged {
            if self.workers.judge(worker, judgement, self.now) {
                self.reweigh(worker, out);
            }
            if matches!(judgement, Judgement::Overtaken(_))
                && let Some(run) = self.stages.get_mut(stage)
            {
                run.hand_over(worker, &self.workers);
            }
        }
    }

    fn reweigh(&mut self, worker: WorkerId, out: &mut Vec<Command>) {
        let pace = self.workers.pace(worker).map_or(0, |(_, pace)| pace);
        for run in self.stages.values_mut() {
            run.reweigh(worker);
            run.note_pace(worker, pace, context!(self, &mut *out));
        }
    }

    fn shard_failed(&mut self, from: Sender, shard: u32, retry: bool, message: &str, out: &mut Vec<Command>) {
        let Sender { worker, stage, token } = from;
        if !self.workers.touch(worker, self.now) {
            return;
        }
        let Some(run) = self.stages.get_mut(&stage) else { return };
        if run.unprepared(worker, token, message, context!(self, &mut *out)) {
            return;
        }
        let Some(failed) = run.step.as_mut().and_then(|step| step.fail(worker, token, shard, self.now)) else { return };
        if retry && failed.times < self.options.max_attempts {
            if failed.missing {
                run.retry(shard, worker, message, context!(self, &mut *out));
            }
            self.finish_drains(out);
            return;
        }
        let times = match failed.times {
            1 => format!("on worker {worker}"),
            times => format!("{times} times, the last on worker {worker}"),
        };
        let message = format!("shard {shard} of {} failed {times}: {message}", run.name());
        self.give_up(&stage.job.clone(), FailKind::Data, message, Some((stage, shard)), out);
    }

    fn returned(&mut self, from: Sender, ranges: &[Range<u32>], out: &mut Vec<Command>) {
        let Sender { worker, stage, token } = from;
        if !self.workers.touch(worker, self.now) {
            return;
        }
        let Some(run) = self.stages.get_mut(&stage) else { return };
        let now = self.now;
        let missing = run.step.as_mut().map(|step| step.give_back(worker, token, ranges, now)).unwrap_or_default();
        run.returned(worker, missing, context!(self, &mut *out));
        self.finish_drains(out);
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
            let reason = format!("worker {worker} was silent for {timeout} ms");
            out.push(Command::Disconnect { worker, reason });
            self.lose(worker, &format!("it was silent for {timeout} ms"), out);
        }
        let after = self.options.pace_recovery;
        let step = self.stages.values().filter(|run| run.is_under_way()).filter_map(StageRun::usual).max();
        for worker in self.workers.recover(first_chance(step, after), after, self.now) {
            self.reweigh(worker, out);
        }
        for run in self.stages.values_mut() {
            run.ask_again(context!(self, &mut *out));
            run.straggle(context!(self, &mut *out));
        }
        for job in self.jobs.expire(self.now) {
            let why = self.waiting(&job).map_or_else(String::new, |waiting| format!(": the job {waiting}"));
            self.fail(&job, FailKind::Deadline, format!("deadline passed{why}"), out);
        }
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
