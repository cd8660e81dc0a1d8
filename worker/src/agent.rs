//! The agent: carries out the coordinator's commands during one stay in the cluster. When the stay ends,
//! so does everything under way; what the cache holds remains for the next one.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use sheaf_cluster::id::{Stage, Token};
use sheaf_proto::convert::{StageOf, TokenOf};
use sheaf_proto::v1::{self, join_cluster_request::Report, join_cluster_response::Command};
use sheaf_runtime::fault::{Fault, Kind};
use sheaf_runtime::work::Work;
use tokio::sync::{OnceCell, mpsc, watch};
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument as _, Span, debug, error_span, warn};

use crate::push::{Address, push};
use crate::session::{Client, report};
use crate::stage::{Bench, ShardFault, StageRunner, nanos};
use crate::steps::Told;

/// A worker that has joined.
pub(crate) struct Agent {
    worker: u64,
    client: Client,
    reports: mpsc::Sender<v1::JoinClusterRequest>,
    bench: Bench,
    stages: BTreeMap<Stage, Arc<OpenStage>>,
}

impl Drop for Agent {
    fn drop(&mut self) {
        std::mem::take(&mut self.stages).into_values().for_each(|opened| opened.close());
    }
}

/// A stage that was opened; its document is fetched when it is first needed.
struct OpenStage {
    work: String,
    runner: OnceCell<Arc<StageRunner>>,
    closed: tokio_util::sync::CancellationToken,
    /// The latest step that something was asked for.
    newest: watch::Sender<u64>,
}

impl OpenStage {
    /// Breaks off what is under way and forgets what was kept per shard.
    fn close(&self) {
        self.closed.cancel();
        if let Some(runner) = self.runner.get() {
            runner.close();
        }
    }
}

/// One `Compute` command, decoded.
struct Request {
    stage: Stage,
    step: u64,
    token: Token,
    ranges: Vec<Range<u32>>,
    message: Bytes,
    fetch: bool,
    chapters: u32,
}

impl Agent {
    /// An agent under the number that the coordinator gave it.
    pub(crate) fn new(worker: u64, client: Client, reports: mpsc::Sender<v1::JoinClusterRequest>, bench: Bench) -> Self {
        Self { worker, client, reports, bench, stages: BTreeMap::new() }
    }

    /// Carries out a command.
    pub(crate) fn obey(&mut self, command: Command) -> anyhow::Result<()> {
        match command {
            Command::OpenStage(open) => {
                let StageOf(stage) = open.stage.try_into()?;
                let TokenOf(token) = open.token.try_into()?;
                let fresh = || {
                    let (runner, closed, newest) = (OnceCell::new(), Default::default(), watch::Sender::new(0));
                    Arc::new(OpenStage { work: open.work.clone(), runner, closed, newest })
                };
                let opened = Arc::clone(self.stages.entry(stage.clone()).or_insert_with(fresh));
                let ranges = open.prepare.iter().map(|r| r.start..r.end).collect();
                self.spawn_prepared(stage, token, opened, ranges);
            }
            Command::Compute(compute) => {
                let StageOf(stage) = compute.stage.try_into()?;
                let TokenOf(token) = compute.token.try_into()?;
                let ranges = compute.ranges.iter().map(|r| r.start..r.end).collect();
                let v1::Compute { step, message, fetch, chapters, .. } = compute;
                let request = Request { stage, step, token, ranges, message, fetch, chapters };
                match self.stages.get(&request.stage) {
                    Some(opened) => {
                        opened.newest.send_if_modified(|newest| {
                            let newer = *newest < request.step;
                            *newest = request.step.max(*newest);
                            newer
                        });
                        self.spawn_compute(request, Arc::clone(opened));
                    }
                    None => anyhow::bail!("the coordinator asked for stage {} before opening it", request.stage),
                }
            }
            Command::CloseStage(close) => {
                let StageOf(stage) = close.stage.try_into()?;
                if let Some(opened) = self.stages.remove(&stage) {
                    opened.close();
                }
            }
            Command::Welcome(_) | Command::Leave(_) => anyhow::bail!("a welcome or leave arrived twice"),
        }
        Ok(())
    }

    fn spawn_prepared(&self, stage: Stage, token: Token, opened: Arc<OpenStage>, ranges: Vec<Range<u32>>) {
        let (hand, span) = (self.hand(), stage_span(self.worker, &stage));
        let closed = opened.closed.clone();
        let work = closed.run_until_cancelled_owned(async move {
            match hand.prepare(&opened, ranges).await {
                Ok(()) => {
                    hand.tell(Report::Prepared(v1::Prepared { stage: Some((&stage).into()), token: Some(token.into()) })).await
                }
                Err(failed) => hand.fail(&stage, token, failed).await,
            }
        });
        tokio::spawn(work.instrument(span));
    }

    fn spawn_compute(&self, request: Request, opened: Arc<OpenStage>) {
        let hand = self.hand();
        let span = stage_span(self.worker, &request.stage);
        let work = async move {
            let closed = opened.closed.clone();
            let step = request.step;
            let mut newest = opened.newest.subscribe();
            tokio::select! {
                () = hand.compute(request, &opened) => {}
                () = closed.cancelled() => {}
                // Others were quicker and the stage went on: nobody wants this answer any more.
                _ = newest.wait_for(|newest| *newest > step) => debug!(step, "step given up: the stage went on without it"),
            }
        };
        tokio::spawn(work.instrument(span));
    }

    fn hand(&self) -> Hand {
        Hand { worker: self.worker, client: self.client.clone(), reports: self.reports.clone(), bench: self.bench.clone() }
    }
}

/// What the log lines of a stage carry; an error's span, so that no filter takes it away.
fn stage_span(worker: u64, stage: &Stage) -> Span {
    error_span!("stage", job = %stage.job, stage = stage.number, worker)
}

/// What a task of the agent works with.
struct Hand {
    worker: u64,
    client: Client,
    reports: mpsc::Sender<v1::JoinClusterRequest>,
    bench: Bench,
}

impl Hand {
    async fn compute(mut self, request: Request, opened: &OpenStage) {
        let (stage, token, ranges) = (request.stage.clone(), request.token, request.ranges.clone());
        let first = ranges.first().map_or(0, |r| r.start);
        let result = match self.runner(opened).await {
            Ok(runner) => self.answer(request, runner).await,
            Err(fault) => Err(ShardFault { shard: first, fault: fault.context("open the stage") }),
        };
        let Err(failed) = result else { return };
        // Nothing of this order was sent, so all its shards are given back: the others without blame, and
        // first, so that one that failed for good does not close the stage before.
        let rest = without(ranges, failed.shard);
        if failed.fault.retry && !rest.is_empty() {
            let ranges = rest.into_iter().map(|r| v1::ShardRange { start: r.start, end: r.end }).collect();
            let (stage, token) = (Some((&stage).into()), Some(token.into()));
            self.tell(Report::ShardsReturned(v1::ShardsReturned { stage, token, ranges })).await;
        }
        self.fail(&stage, token, failed).await;
    }

    /// Opens the stage and reads what the worker would take over.
    async fn prepare(&self, opened: &OpenStage, ranges: Vec<Range<u32>>) -> Result<(), ShardFault> {
        let first = ranges.first().map_or(0, |r| r.start);
        let runner = self.runner(opened).await;
        let runner = runner.map_err(|fault| ShardFault { shard: first, fault: fault.context("open the stage") })?;
        if ranges.is_empty() {
            return Ok(());
        }
        let preparing = AbortOnDropHandle::new(self.bench.reading.spawn(async move { runner.prepare(&ranges).await }));
        preparing.await.map_err(|e| ShardFault { shard: first, fault: retryable(format!("preparing broke off: {e}")) })?
    }

    /// The chapters that the stage lacks for this step, and the step's message.
    async fn told(&mut self, request: &mut Request, runner: &StageRunner) -> Result<Told, Fault> {
        let lacking = runner.lacking(request.chapters).await;
        let (first, mut fetched) = (lacking.start, Vec::new());
        loop {
            let (from, to) = (first + fetched.len() as u32, request.chapters);
            if from >= to {
                break;
            }
            let fetch = v1::FetchChaptersRequest { stage: Some((&request.stage).into()), from, to };
            let answer = self.client.fetch_chapters(fetch).await.map_err(|s| lost("fetch chapters", &s))?.into_inner();
            if answer.chapters.is_empty() {
                return Err(retryable(format!("fetch chapters: the coordinator sent none from {from} to {to}")));
            }
            fetched.extend(answer.chapters);
        }
        let mut message = std::mem::take(&mut request.message);
        if request.fetch {
            let fetch = v1::FetchMessageRequest { stage: Some((&request.stage).into()), step: request.step };
            let fetched = self.client.fetch_message(fetch).await;
            message = fetched.map_err(|s| lost("fetch the step's message", &s))?.into_inner().message;
        }
        Ok(Told { message, chapters: request.chapters, first, fetched })
    }

    async fn answer(&mut self, mut request: Request, runner: Arc<StageRunner>) -> Result<(), ShardFault> {
        let first = request.ranges.first().map_or(0, |r| r.start);
        let began = Instant::now();
        let told = self.told(&mut request, &runner).await.map_err(|fault| ShardFault { shard: first, fault })?;
        let fetch_ns = if request.fetch || !told.fetched.is_empty() { nanos(began) } else { 0 };
        let ranges = request.ranges;
        // Not here: this runtime has the heartbeats.
        let computing = self.bench.reading.spawn(async move { runner.compute(&ranges, told).await });
        let computed = AbortOnDropHandle::new(computing).await;
        let mut answer =
            computed.map_err(|e| ShardFault { shard: first, fault: retryable(format!("computing broke off: {e}")) })??;
        answer.fetch_ns = fetch_ns;
        self.bench.metrics.answered(&answer);
        debug!(step = request.step, blocks = answer.blocks.len(), "step answered");
        let address = Address { worker: self.worker, stage: request.stage, step: request.step, token: request.token };
        let pushed = push(&mut self.client, &address, answer, &self.bench.metrics).await;
        pushed.map_err(|s| ShardFault { shard: first, fault: lost("send partials", &s) })
    }

    async fn runner(&self, opened: &OpenStage) -> Result<Arc<StageRunner>, Fault> {
        let open = || async {
            let request = v1::FetchDocumentRequest { hash: opened.work.clone() };
            let document = self.client.clone().fetch_document(request).await.map_err(|s| lost("fetch the work document", &s))?;
            let document = document.into_inner().document;
            let work: Work =
                serde_json::from_slice(&document).map_err(|e| Fault::internal(format!("read the work document: {e}")))?;
            let opening = self.bench.reading.spawn(StageRunner::open(work, self.bench.clone()));
            let runner = AbortOnDropHandle::new(opening).await.map_err(|e| retryable(format!("opening broke off: {e}")))??;
            debug!("stage opened");
            Ok(Arc::new(runner))
        };
        opened.runner.get_or_try_init(open).await.map(Arc::clone)
    }

    async fn fail(&self, stage: &Stage, token: Token, failed: ShardFault) {
        let ShardFault { shard, fault } = failed;
        self.bench.metrics.shard_failed(fault.retry);
        warn!(shard, retry = fault.retry, error = %fault, "shard failed");
        self.report_failure(stage, token, shard, &fault).await;
    }

    async fn report_failure(&self, stage: &Stage, token: Token, shard: u32, fault: &Fault) {
        let (kind, message) = (wire_kind(fault.kind).into(), fault.message.clone());
        let failed =
            v1::ShardFailed { stage: Some(stage.into()), token: Some(token.into()), shard, retry: fault.retry, kind, message };
        self.tell(Report::ShardFailed(failed)).await;
    }

    async fn tell(&self, what: Report) {
        // When the stream is gone the stay is over; there is nobody to tell.
        let _ = self.reports.send(report(what)).await;
    }
}

/// Ranges with one shard taken out.
fn without(ranges: Vec<Range<u32>>, shard: u32) -> Vec<Range<u32>> {
    let parts = |r: Range<u32>| match r.contains(&shard) {
        true => [r.start..shard, shard + 1..r.end],
        false => [r.clone(), r.end..r.end],
    };
    ranges.into_iter().flat_map(parts).filter(|r| !r.is_empty()).collect()
}

fn wire_kind(kind: Kind) -> v1::FailKind {
    match kind {
        Kind::Job => v1::FailKind::Job,
        Kind::Data => v1::FailKind::Data,
        Kind::Limit => v1::FailKind::Limit,
        Kind::Deadline => v1::FailKind::Deadline,
        Kind::Internal => v1::FailKind::Internal,
    }
}

fn lost(what: &str, status: &tonic::Status) -> Fault {
    retryable(format!("{what}: {}", status.message()))
}

fn retryable(message: String) -> Fault {
    Fault { retry: true, ..Fault::internal(message) }
}
