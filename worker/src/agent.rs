//! The agent: joins the coordinator, reports, and carries out its commands until told to leave, the
//! stream breaks or the process is asked to stop.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use sheaf_cluster::id::{Stage, Token};
use sheaf_dataflow::stores::{StoreOptions, Stores};
use sheaf_learn::kernels::Level;
use sheaf_proto::MAX_MESSAGE_BYTES;
use sheaf_proto::convert::{StageOf, TokenOf};
use sheaf_proto::v1::worker_service_client::WorkerServiceClient;
use sheaf_proto::v1::{self, join_cluster_request::Report, join_cluster_response::Command};
use sheaf_runtime::fault::{Fault, Kind};
use sheaf_runtime::memory::MemoryBudget;
use sheaf_runtime::secret::{AddSecret, Secret};
use sheaf_runtime::work::Work;
use tokio::sync::{OnceCell, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tracing::{debug, info, warn};

use crate::cache::ShardCache;
use crate::push::{Address, push};
use crate::stage::{Bench, ShardFault, StageRunner};

type Client = WorkerServiceClient<InterceptedService<Channel, AddSecret>>;

/// How a worker runs.
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    /// Coordinator, `HOST:PORT`.
    pub join: String,
    /// Secret of the run.
    pub secret: Secret,
    /// Threads that read and compute; at least 1.
    pub threads: usize,
    /// Budget for cached shards, bytes.
    pub memory_bytes: u64,
    /// Folder for spilled shards; a temporary one of the process's own if absent.
    pub spill: Option<PathBuf>,
    /// Object stores that may be read.
    pub stores: StoreOptions,
    /// Every partial is computed twice and caches are dropped at random.
    pub paranoid: bool,
    /// Instruction set of the kernels; absent: the best that this machine has. The bits are the same.
    pub kernel_level: Option<String>,
}

/// Runs a worker to its end. Control and computing have runtimes of their own.
pub fn run(options: WorkerOptions) -> anyhow::Result<()> {
    let threads = options.threads.max(1);
    let control = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().thread_name("control").build()?;
    let reading =
        tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().thread_name("reading").build()?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(|i| format!("compute-{i}")).build()?;
    let spill = match &options.spill {
        Some(folder) => tempfile::Builder::new().prefix("sheaf-spill-").tempdir_in(folder),
        None => tempfile::Builder::new().prefix("sheaf-spill-").tempdir(),
    }
    .context("create the spill folder")?;
    let level = match &options.kernel_level {
        Some(name) => Level::named(name)?,
        None => Level::detect(),
    };
    let bench = Bench {
        stores: Stores::new(options.stores.clone())?,
        cache: ShardCache::new(MemoryBudget::new(options.memory_bytes), spill.path()),
        pool: Arc::new(pool),
        reading: reading.handle().clone(),
        threads,
        paranoid: options.paranoid,
        level,
    };
    let result = control.block_on(serve(options, bench));
    reading.shutdown_timeout(Duration::from_secs(1));
    control.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn serve(options: WorkerOptions, bench: Bench) -> anyhow::Result<()> {
    let endpoint = Endpoint::from_shared(format!("http://{}", options.join))?
        .connect_timeout(Duration::from_secs(5))
        .initial_stream_window_size(8 << 20)
        .initial_connection_window_size(16 << 20)
        .tcp_nodelay(true);
    let channel = endpoint.connect().await.with_context(|| format!("join the coordinator at {}", options.join))?;
    let client = WorkerServiceClient::with_interceptor(channel, AddSecret(options.secret.clone()))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let (reports, outgoing) = mpsc::channel(64);
    reports.send(report(Report::Hello(hello(&options, bench.level)))).await?;
    let mut commands = client.clone().join_cluster(ReceiverStream::new(outgoing)).await.map_err(refused)?.into_inner();
    let mut agent: Option<Agent> = None;
    let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    loop {
        let command = tokio::select! {
            command = commands.message() => command,
            _ = interrupt.recv() => {
                info!("asked to stop; leaving after what is under way");
                reports.send(report(Report::Leaving(v1::Leaving {}))).await?;
                continue;
            }
        };
        match command.map_err(refused)?.and_then(|c| c.command) {
            None => anyhow::bail!("the coordinator closed the control stream"),
            Some(Command::Leave(leave)) => {
                info!(reason = leave.reason, "leaving");
                return Ok(());
            }
            Some(Command::Welcome(welcome)) => {
                info!(worker = welcome.worker, "joined");
                tokio::spawn(beat(reports.clone(), bench.cache.clone(), Duration::from_millis(welcome.heartbeat_ms.max(10))));
                let (client, reports, bench) = (client.clone(), reports.clone(), bench.clone());
                agent = Some(Agent { worker: welcome.worker, client, reports, bench, stages: BTreeMap::new() });
            }
            Some(other) => match &mut agent {
                Some(agent) => agent.obey(other)?,
                None => anyhow::bail!("the coordinator sent a command before its welcome"),
            },
        }
    }
}

fn refused(status: tonic::Status) -> anyhow::Error {
    anyhow::anyhow!("the coordinator ended the control stream: {}", status.message())
}

fn hello(options: &WorkerOptions, level: Level) -> v1::Hello {
    v1::Hello {
        build: env!("CARGO_PKG_VERSION").to_owned(),
        kernels: sheaf_learn::kernels::self_test_at(level),
        threads: options.threads as u32,
        memory_bytes: options.memory_bytes,
        pid: std::process::id(),
        level: level.name().to_owned(),
    }
}

fn report(report: Report) -> v1::JoinClusterRequest {
    v1::JoinClusterRequest { report: Some(report) }
}

async fn beat(reports: mpsc::Sender<v1::JoinClusterRequest>, cache: ShardCache, every: Duration) {
    let mut ticks = tokio::time::interval(every);
    loop {
        ticks.tick().await;
        let (cache_bytes, spilled_bytes) = cache.sizes();
        if reports.send(report(Report::Heartbeat(v1::Heartbeat { cache_bytes, spilled_bytes }))).await.is_err() {
            return;
        }
    }
}

/// A worker that has joined.
struct Agent {
    worker: u64,
    client: Client,
    reports: mpsc::Sender<v1::JoinClusterRequest>,
    bench: Bench,
    stages: BTreeMap<Stage, Arc<OpenStage>>,
}

/// A stage that was opened; its document is fetched when it is first needed.
struct OpenStage {
    work: String,
    runner: OnceCell<Arc<StageRunner>>,
    closed: tokio_util::sync::CancellationToken,
}

/// One `Compute` command, decoded.
struct Request {
    stage: Stage,
    step: u64,
    token: Token,
    ranges: Vec<Range<u32>>,
    message: Vec<u8>,
    fetch: bool,
}

impl Agent {
    fn obey(&mut self, command: Command) -> anyhow::Result<()> {
        match command {
            Command::OpenStage(open) => {
                let StageOf(stage) = open.stage.try_into()?;
                let TokenOf(token) = open.token.try_into()?;
                let fresh =
                    || Arc::new(OpenStage { work: open.work.clone(), runner: OnceCell::new(), closed: Default::default() });
                let opened = Arc::clone(self.stages.entry(stage.clone()).or_insert_with(fresh));
                self.spawn_prepared(stage, token, opened);
            }
            Command::Compute(compute) => {
                let StageOf(stage) = compute.stage.try_into()?;
                let TokenOf(token) = compute.token.try_into()?;
                let ranges = compute.ranges.iter().map(|r| r.start..r.end).collect();
                let request =
                    Request { stage, step: compute.step, token, ranges, message: compute.message, fetch: compute.fetch };
                match self.stages.get(&request.stage) {
                    Some(opened) => self.spawn_compute(request, Arc::clone(opened)),
                    None => anyhow::bail!("the coordinator asked for stage {} before opening it", request.stage),
                }
            }
            Command::CloseStage(close) => {
                let StageOf(stage) = close.stage.try_into()?;
                if let Some(opened) = self.stages.remove(&stage) {
                    opened.closed.cancel();
                    if let Some(runner) = opened.runner.get() {
                        runner.close();
                    }
                }
            }
            Command::Welcome(_) | Command::Leave(_) => anyhow::bail!("a welcome or leave arrived twice"),
        }
        Ok(())
    }

    fn spawn_prepared(&self, stage: Stage, token: Token, opened: Arc<OpenStage>) {
        let hand = self.hand();
        tokio::spawn(async move {
            match hand.runner(&opened).await {
                Ok(_) => {
                    hand.tell(Report::Prepared(v1::Prepared { stage: Some((&stage).into()), token: Some(token.into()) })).await
                }
                Err(fault) => hand.fail(&stage, token, ShardFault { shard: 0, fault: fault.context("open the stage") }).await,
            }
        });
    }

    fn spawn_compute(&self, request: Request, opened: Arc<OpenStage>) {
        let hand = self.hand();
        tokio::spawn(async move {
            let closed = opened.closed.clone();
            tokio::select! {
                () = hand.compute(request, &opened) => {}
                () = closed.cancelled() => {}
            }
        });
    }

    fn hand(&self) -> Hand {
        Hand { worker: self.worker, client: self.client.clone(), reports: self.reports.clone(), bench: self.bench.clone() }
    }
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
        // Nothing of this order was sent, so all its shards are given back: the one that failed first.
        let (guilty, fault) = (failed.shard, failed.fault.clone());
        self.fail(&stage, token, failed).await;
        if fault.retry {
            for shard in ranges.into_iter().flatten().filter(|shard| *shard != guilty) {
                self.report_failure(&stage, token, shard, &fault).await;
            }
        }
    }

    async fn answer(&mut self, mut request: Request, runner: Arc<StageRunner>) -> Result<(), ShardFault> {
        let first = request.ranges.first().map_or(0, |r| r.start);
        if request.fetch {
            let fetch = v1::FetchMessageRequest { stage: Some((&request.stage).into()), step: request.step };
            let fetched = self.client.fetch_message(fetch).await;
            request.message = fetched
                .map_err(|s| ShardFault { shard: first, fault: lost("fetch the step's message", &s) })?
                .into_inner()
                .message;
        }
        let (ranges, message) = (request.ranges, request.message);
        // Not here: this runtime has the heartbeats.
        let computing = self.bench.reading.spawn(async move { runner.compute(&ranges, &message).await });
        let computed = AbortOnDropHandle::new(computing).await;
        let answer =
            computed.map_err(|e| ShardFault { shard: first, fault: retryable(format!("computing broke off: {e}")) })??;
        debug!(stage = %request.stage, step = request.step, blocks = answer.blocks.len(), "step answered");
        let address = Address { worker: self.worker, stage: request.stage, step: request.step, token: request.token };
        push(&mut self.client, &address, answer).await.map_err(|s| ShardFault { shard: first, fault: lost("send partials", &s) })
    }

    async fn runner(&self, opened: &OpenStage) -> Result<Arc<StageRunner>, Fault> {
        let open = || async {
            let request = v1::FetchDocumentRequest { hash: opened.work.clone() };
            let document = self.client.clone().fetch_document(request).await.map_err(|s| lost("fetch the work document", &s))?;
            let document = document.into_inner().document;
            let work: Work =
                serde_json::from_slice(&document).map_err(|e| Fault::internal(format!("read the work document: {e}")))?;
            let opening = self.bench.reading.spawn(StageRunner::open(work, self.bench.clone()));
            AbortOnDropHandle::new(opening).await.map_err(|e| retryable(format!("opening broke off: {e}")))?.map(Arc::new)
        };
        opened.runner.get_or_try_init(open).await.map(Arc::clone)
    }

    async fn fail(&self, stage: &Stage, token: Token, failed: ShardFault) {
        let ShardFault { shard, fault } = failed;
        warn!(%stage, shard, retry = fault.retry, error = %fault, "shard failed");
        self.report_failure(stage, token, shard, &fault).await;
    }

    async fn report_failure(&self, stage: &Stage, token: Token, shard: u32, fault: &Fault) {
        let (kind, message) = (wire_kind(fault.kind).into(), fault.message.clone());
        let failed =
            v1::ShardFailed { stage: Some(stage.into()), token: Some(token.into()), shard, retry: fault.retry, kind, message };
        self.tell(Report::ShardFailed(failed)).await;
    }

    async fn tell(&self, what: Report) {
        // When the stream is gone the agent's loop ends the process; there is nobody to tell.
        let _ = self.reports.send(report(what)).await;
    }
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
