//! The event loop: the one owner of the engine. Inputs become events, commands are carried out in
//! order. It never computes and never waits.

mod explaining;
mod inputs;
mod watching;

pub use inputs::{Blocks, DriverOrder, Ended, Input, LoopHandle, Opening, Stop, channel};

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sheaf_cluster::coverage::Block;
use sheaf_cluster::id::{JobId, Stage, Step, Token, WorkerId};
use sheaf_cluster::{Command, Engine, Event};
use sheaf_learn::algorithm::Report;
use sheaf_proto::v1::{self, join_cluster_response::Command as Wire, watch_job_response::Event as Watch};
use sheaf_runtime::fault::Fault;
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, info, warn};

use crate::account::{Account, StepClock};
use crate::context::now;
use crate::crash;
use crate::feed::Feeds;
use crate::host::Product;
use crate::metrics::Metrics;

/// Messages up to this size travel on the control stream.
const INLINE_MESSAGE: usize = 64 << 10;

/// Bytes of chapters in one answer; a single larger chapter goes alone.
const CHAPTERS_AT_ONCE: usize = 32 << 20;

struct WorkerEntry {
    instance: u64,
    commands: mpsc::UnboundedSender<Result<v1::JoinClusterResponse, tonic::Status>>,
    summary: v1::WorkerSummary,
    doings: watching::Doings,
}

struct StageEntry {
    opening: Opening,
    opened: Instant,
    step: Step,
    message: Bytes,
    chapters: Vec<Bytes>,
    clock: Option<StepClock>,
    covered: u64,
    /// Steps that an earlier leader took.
    first: u64,
    steps: u64,
    reports: Vec<Vec<Report>>,
    account: Account,
    shown: Instant,
    fault: Option<Fault>,
}

/// The loop's state.
pub struct EventLoop {
    engine: Engine,
    feeds: Feeds,
    workers: BTreeMap<WorkerId, WorkerEntry>,
    stages: BTreeMap<Stage, StageEntry>,
    drivers: Option<mpsc::UnboundedSender<DriverOrder>>,
    next_worker: u64,
    heartbeat: Duration,
    metrics: Metrics,
    /// What the finished stages of jobs cost, by phase.
    finished: BTreeMap<JobId, Vec<(String, Account)>>,
    /// Jobs that have ended and are still in there.
    remembered: VecDeque<JobId>,
}

fn wire_ranges(ranges: Vec<Range<u32>>) -> Vec<v1::ShardRange> {
    ranges.into_iter().map(|r| v1::ShardRange { start: r.start, end: r.end }).collect()
}

/// Chapters of `range` as far as one answer takes them; at least one. Nothing if they are not all there.
fn some_chapters(chapters: &[Bytes], range: Range<u32>) -> Option<Vec<Bytes>> {
    let wanted = chapters.get(range.start as usize..range.end as usize)?;
    let mut bytes = 0;
    let few = wanted.iter().enumerate().take_while(|(i, chapter)| {
        bytes += chapter.len();
        *i == 0 || bytes <= CHAPTERS_AT_ONCE
    });
    Some(few.map(|(_, chapter)| chapter.clone()).collect())
}

impl EventLoop {
    /// A loop around an engine.
    pub fn new(engine: Engine, feeds: Feeds, heartbeat: Duration, metrics: Metrics) -> Self {
        Self {
            engine,
            feeds,
            workers: BTreeMap::new(),
            stages: BTreeMap::new(),
            drivers: None,
            next_worker: 1,
            heartbeat,
            metrics,
            finished: BTreeMap::new(),
            remembered: VecDeque::new(),
        }
    }

    /// Runs until every handle is gone.
    pub async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Input>) {
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                input = inbox.recv() => match input {
                    Some(input) => self.take(input),
                    None => return,
                },
                _ = ticks.tick() => self.handle(Event::Tick),
            }
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Event(event) => self.event(event),
            Input::Joined { hello, address, commands, reply } => self.joined(hello, address, commands, reply),
            Input::Blocks(blocks) => self.blocks(blocks),
            Input::ShardFailed { worker, stage, token, shard, fault } => self.shard_failed(worker, stage, token, shard, fault),
            Input::OpenStage(opening) => self.open_stage(*opening),
            Input::StepReady { stage, step, message, chapters, state, report } => {
                if let Some(entry) = self.stages.get_mut(&stage) {
                    entry.chapters.extend(chapters);
                }
                self.step_ready(&stage, step, message, state, report);
            }
            Input::StageDone { stage, product, report } => self.stage_done(&stage, product, report),
            Input::StageFailed { stage, fault } => {
                self.finished(&stage);
                self.end_stage(&stage, |_| Err(fault));
            }
            Input::FetchMessage { stage, step, reply } => {
                let entry = self.stages.get(&stage).filter(|entry| entry.step == step);
                // The asker may have gone; its stream tells.
                let _ = reply.send(entry.map(|entry| entry.message.clone()));
            }
            Input::FetchChapters { stage, range, reply } => {
                // The asker may have gone; its stream tells.
                let _ = reply.send(self.stages.get(&stage).and_then(|entry| some_chapters(&entry.chapters, range)));
            }
            Input::Drivers(drivers) => self.drivers = Some(drivers),
            Input::Workers(reply) => {
                let _ = reply.send(self.summaries());
            }
            Input::Beat(worker, beat) => self.beat(worker, &beat),
            Input::Observe(reply) => {
                self.metrics.observe(&self.engine);
                let _ = reply.send(());
            }
            Input::Accounts(job, reply) => {
                let _ = reply.send(self.accounts(&job));
            }
            Input::WhyWaiting(job, reply) => {
                let _ = reply.send(self.engine.waiting(&job).map(|w| w.to_string()));
            }
        }
    }

    fn event(&mut self, event: Event) {
        if let Event::WorkerLost { worker, reason } = &event
            && self.workers.remove(worker).is_some()
        {
            warn!(worker = worker.0, reason, "worker lost");
            self.gone(*worker, "stream");
        }
        if let Event::StageClosed { stage } = &event {
            self.finished(stage);
            self.stages.remove(stage);
        }
        if let Event::JobEnded { job } = &event {
            self.remember(job);
        }
        self.handle(event);
    }

    fn handle(&mut self, event: Event) {
        let mut payload = None;
        self.handle_with(event, &mut payload);
    }

    fn handle_with(&mut self, event: Event, payload: &mut Option<(WorkerId, Option<Bytes>)>) {
        self.metrics.event(&event);
        let began = Instant::now();
        let commands = self.engine.handle(event, now());
        self.metrics.decided(began.elapsed(), &commands);
        for command in commands {
            self.execute(command, payload);
        }
    }

    fn joined(
        &mut self,
        hello: v1::Hello,
        address: String,
        commands: mpsc::UnboundedSender<Result<v1::JoinClusterResponse, tonic::Status>>,
        reply: oneshot::Sender<WorkerId>,
    ) {
        let earlier = self
            .workers
            .iter()
            .find(|(_, entry)| entry.instance != 0 && entry.instance == hello.instance)
            .map(|(worker, _)| *worker);
        if let Some(worker) = earlier {
            // Its old stream may be silent for a while yet.
            self.event(Event::WorkerLost { worker, reason: "it joined again".to_owned() });
        }
        let worker = WorkerId(self.next_worker);
        self.next_worker += 1;
        let (instance, pid, threads, memory_bytes) = (hello.instance, hello.pid, hello.threads, hello.memory_bytes);
        let summary = v1::WorkerSummary {
            worker: worker.0,
            pid,
            threads,
            memory_bytes,
            level: hello.level,
            name: hello.name,
            address,
            joined_ms: now().0,
            ..Default::default()
        };
        info!(worker = worker.0, pid, threads, kernels = summary.level, "worker joined");
        self.workers.insert(worker, WorkerEntry { instance, commands, summary, doings: Default::default() });
        let _ = reply.send(worker);
        let heartbeat_ms = self.heartbeat.as_millis() as u64;
        self.tell(worker, Wire::Welcome(v1::Welcome { worker: worker.0, term: self.engine.term().0, heartbeat_ms }));
        self.handle(Event::WorkerJoined { worker, threads });
    }

    fn blocks(&mut self, blocks: Blocks) {
        let Blocks { worker, stage, step, token, blocks, spent } = blocks;
        self.spent(worker, &stage, step, &spent);
        for (block, value) in blocks {
            self.metrics.received(value.as_ref().map_or(0, Bytes::len) as u64);
            let digest = xxhash_rust::xxh3::xxh3_64_with_seed(value.as_deref().unwrap_or_default(), u64::from(value.is_some()));
            let event = Event::BlockArrived { worker, stage: stage.clone(), step, token, block, digest };
            self.handle_with(event, &mut Some((worker, value)));
        }
        self.show(&stage, false);
    }

    fn shard_failed(&mut self, worker: WorkerId, stage: Stage, token: Token, shard: u32, fault: Fault) {
        let (retry, message) = (fault.retry, fault.message.clone());
        self.metrics.shard_failed(retry);
        if let Some(entry) = self.stages.get_mut(&stage) {
            entry.fault = Some(fault);
        }
        let event = Event::ShardFailed { worker, stage: stage.clone(), token, shard, retry, message };
        self.handle(event);
        // It tells the kind of the failure that follows at once, and of no later one.
        if let Some(entry) = self.stages.get_mut(&stage) {
            entry.fault = None;
        }
    }

    fn open_stage(&mut self, opening: Opening) {
        let (stage, plan) = (opening.stage.clone(), opening.plan.clone());
        let taken = opening.position.as_ref().map(|position| position.borrow().clone()).unwrap_or_default();
        let entry = StageEntry {
            opening,
            opened: Instant::now(),
            step: Step(0),
            message: Bytes::new(),
            chapters: Vec::new(),
            clock: None,
            covered: 0,
            first: taken.step,
            steps: taken.step,
            reports: taken.reports,
            account: Account::default(),
            shown: Instant::now(),
            fault: None,
        };
        self.stages.insert(stage.clone(), entry);
        self.handle(Event::StageOpened { stage: stage.clone(), plan });
        if let Some(entry) = self.stages.get(&stage) {
            entry.opening.host.begin();
        }
    }

    fn step_ready(&mut self, stage: &Stage, step: Step, message: Bytes, state: Option<Vec<u8>>, report: Vec<Report>) {
        self.end_step(stage);
        let Some(entry) = self.stages.get_mut(stage) else { return };
        entry.step = step;
        entry.message = message;
        entry.clock = Some(StepClock::begin(Instant::now()));
        entry.covered = 0;
        if let Some(position) = &entry.opening.position {
            position.send_if_modified(|position| position.advance(step.0, state, &report));
        }
        self.note_report(stage, report);
        self.handle(Event::StepReady { stage: stage.clone(), step });
        if let Some(clock) = self.clock(stage) {
            clock.sent(Instant::now());
        }
    }

    fn stage_done(&mut self, stage: &Stage, product: Product, report: Vec<Report>) {
        self.end_step(stage);
        self.note_report(stage, report);
        self.show(stage, true);
        let account = self.finished(stage);
        self.end_stage(stage, |entry| {
            Ok(Ended { product, steps: entry.steps, reports: std::mem::take(&mut entry.reports), account })
        });
    }

    fn end_stage(&mut self, stage: &Stage, result: impl FnOnce(&mut StageEntry) -> Result<Ended, Fault>) {
        let Some(mut entry) = self.stages.remove(stage) else { return };
        let result = result(&mut entry);
        // A driver that was stopped does not wait any more.
        let _ = entry.opening.reply.send(result);
        self.handle(Event::StageClosed { stage: stage.clone() });
    }

    fn note_report(&mut self, stage: &Stage, report: Vec<Report>) {
        let Some(entry) = self.stages.get_mut(stage) else { return };
        // Training's first step only surveys the rows and reports no loss; it is a step all the same.
        let trains = entry.opening.position.is_some() && entry.steps > entry.first;
        if report.is_empty() && !trains {
            return;
        }
        let values = report.iter().map(|r| (r.name.clone(), r.value)).collect();
        let finished = v1::StepFinished { phase: entry.opening.phase.clone(), step: entry.steps, report: values };
        if !report.is_empty() {
            entry.reports.push(report);
        }
        self.feeds.of(&stage.job).send(Watch::StepFinished(finished));
    }

    fn execute(&mut self, command: Command, payload: &mut Option<(WorkerId, Option<Bytes>)>) {
        match command {
            Command::StartJob { job } => {
                self.metrics.job_started(&job, now());
                self.order(DriverOrder::Start(job));
            }
            Command::FailJob { job, kind, message, shard } => {
                let message = self.with_place(message, shard);
                let fault = self.fault_of(&job, kind, message);
                self.order(DriverOrder::Stop(job, Stop::Fail(fault)));
            }
            Command::CancelJob { job } => self.order(DriverOrder::Stop(job, Stop::Cancel)),
            Command::OpenStage { worker, stage, token, prepare } => {
                let Some(entry) = self.stages.get(&stage) else { return };
                let (work, prepare) = (entry.opening.work.clone(), wire_ranges(prepare));
                let (stage, token) = (Some((&stage).into()), Some(token.into()));
                self.tell(worker, Wire::OpenStage(v1::OpenStage { stage, token, work, prepare }));
            }
            Command::Note(note) => self.note(note),
            Command::Compute { worker, stage, step, token, ranges } => self.compute(worker, &stage, step, token, ranges),
            Command::CloseStage { worker, stage } => {
                self.tell(worker, Wire::CloseStage(v1::CloseStage { stage: Some((&stage).into()) }))
            }
            Command::Accept { stage, block, .. } => self.accept(&stage, block, payload.take()),
            Command::Refuse { worker, stage, step, block, reason } => {
                *payload = None;
                self.metrics.refused(&reason);
                debug!(job = %stage.job, stage = stage.number, step = step.0, worker = worker.0, ?block, reason, "block refused");
            }
            Command::CompleteStep { stage, .. } => {
                if let Some(entry) = self.stages.get_mut(&stage) {
                    entry.steps += 1;
                    entry.clock.iter_mut().for_each(|clock| clock.complete(Instant::now()));
                    entry.opening.host.complete();
                }
            }
            Command::Disconnect { worker, reason } => {
                self.gone(worker, "silent");
                self.dismiss(worker, reason, true);
            }
            Command::DrainDone { worker } => {
                self.gone(worker, "drained");
                self.dismiss(worker, "drained".to_owned(), false);
            }
        }
    }

    fn compute(&mut self, worker: WorkerId, stage: &Stage, step: Step, token: Token, ranges: Vec<Range<u32>>) {
        let Some(entry) = self.stages.get_mut(stage) else { return };
        entry.clock.iter_mut().for_each(|clock| clock.ordered(worker.0, Instant::now()));
        self.metrics.message_sent(entry.message.len());
        let fetch = entry.message.len() > INLINE_MESSAGE;
        let message = if fetch { Bytes::new() } else { entry.message.clone() };
        let (ranges, chapters) = (wire_ranges(ranges), entry.chapters.len() as u32);
        let (stage, token) = (Some(stage.into()), Some(token.into()));
        self.tell(worker, Wire::Compute(v1::Compute { stage, step: step.0, token, ranges, message, fetch, chapters }));
        if let Some(entry) = self.workers.get_mut(&worker) {
            entry.summary.steps += 1;
        }
    }

    fn accept(&mut self, stage: &Stage, block: Block, payload: Option<(WorkerId, Option<Bytes>)>) {
        let (Some(entry), Some((worker, value))) = (self.stages.get_mut(stage), payload) else { return };
        crash::within(&entry.opening.phase);
        let shards = block.range(entry.opening.plan.shards).len() as u64;
        entry.covered += shards;
        entry.account.accepted(worker.0, shards, value.as_ref().map_or(0, Bytes::len) as u64);
        self.metrics.accepted(shards);
        let block = sheaf_learn::tree::Block { level: block.level, index: block.index };
        entry.opening.host.merge(block, value);
        if let Some(worker) = self.workers.get_mut(&worker) {
            worker.summary.blocks += 1;
        }
    }

    fn dismiss(&mut self, worker: WorkerId, reason: String, broken: bool) {
        if broken {
            warn!(worker = worker.0, reason, "worker disconnected");
        }
        self.tell(worker, Wire::Leave(v1::Leave { reason, rejoin: broken }));
        self.workers.remove(&worker);
    }

    fn order(&self, order: DriverOrder) {
        if let Some(drivers) = &self.drivers {
            // Drivers end with the coordinator.
            let _ = drivers.send(order);
        }
    }

    fn tell(&self, worker: WorkerId, command: Wire) {
        if let Some(entry) = self.workers.get(&worker) {
            // A stream that broke is reported as a loss by the service.
            let _ = entry.commands.send(Ok(v1::JoinClusterResponse { command: Some(command) }));
        }
    }

    fn show(&mut self, stage: &Stage, last: bool) {
        let Some(entry) = self.stages.get_mut(stage) else { return };
        if !last && entry.shown.elapsed() < Duration::from_millis(100) {
            return;
        }
        entry.shown = Instant::now();
        let progress = v1::PhaseProgress {
            phase: entry.opening.phase.clone(),
            done: entry.covered,
            total: u64::from(entry.opening.plan.shards),
            rows: entry.account.rows,
            workers: entry.account.contributors() as u32,
        };
        self.feeds.of(&stage.job).send(Watch::PhaseProgress(progress));
    }
}
