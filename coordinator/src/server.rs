//! A coordinator from options to a listening server.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use sheaf_cluster::durable::{Entry, JobState};
use sheaf_cluster::id::Millis;
use sheaf_cluster::{Engine, Event, Options as EngineOptions};
use sheaf_dataflow::engine::Queries;
use sheaf_dataflow::stores::{StoreOptions, Stores};
use sheaf_proto::MAX_MESSAGE_BYTES;
use sheaf_proto::v1::job_service_server::JobServiceServer;
use sheaf_proto::v1::node_service_server::NodeServiceServer;
use sheaf_proto::v1::query_service_server::QueryServiceServer;
use sheaf_proto::v1::worker_service_server::WorkerServiceServer;
use sheaf_runtime::admin::{Admin, check_address};
use sheaf_runtime::auth::{Door, GuardLayer, Role};
use sheaf_runtime::connect::{self, ClusterPeers, Trust, check_listen};
use sheaf_runtime::documents::Documents;
use sheaf_runtime::listen::{Connection, accept};
use sheaf_runtime::pki::Enrolling;
use sheaf_runtime::registry::Registry;
use sheaf_runtime::tls::ServerTls;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic_health::pb::health_server::{Health as HealthService, HealthServer};
use tracing::{debug, error};

use crate::admin::CoordinatorPages;
use crate::consensus::{Consensus, ConsensusOptions};
use crate::context::{Context, now};
use crate::event_loop::{EventLoop, Input, channel};
use crate::feed::Feeds;
use crate::health::Health;
use crate::machine::Jobs as Machine;
use crate::metrics::Metrics;
use crate::service::nodes::Nodes;
use crate::{driver, joblog, service};

/// Largest message to the node service.
const MAX_NODE_MESSAGE_BYTES: usize = 16 << 10;

/// How a coordinator runs.
#[derive(Debug, Clone)]
pub struct CoordinatorOptions {
    /// Where it listens. Addresses other than loopback need [`Trust::Tls`].
    pub listen: SocketAddr,
    /// Folder of the durable log.
    pub state: PathBuf,
    /// Location of the store: registry, documents, job areas.
    pub store: String,
    /// Object stores that jobs may read; must cover `store`.
    pub stores: StoreOptions,
    /// By what it and its callers trust each other.
    pub trust: Trust,
    /// How nodes get their certificates here; needs TLS. Absent: they do not.
    pub enrolling: Option<Enrolling>,
    /// Silence after which a worker is lost.
    pub worker_timeout: Duration,
    /// Jobs that run at the same time.
    pub running_jobs: usize,
    /// Whether late workers get help and slow ones less to do.
    pub speculation: bool,
    /// Shares of namespaces in the running jobs, relative to each other; 1 for those that are not named.
    pub namespace_weights: BTreeMap<String, u32>,
    /// Jobs of a namespace that run at the same time; no limit of its own for those that are not named.
    pub namespace_limits: BTreeMap<String, usize>,
    /// Where metrics and readiness are shown, on loopback; absent: nowhere.
    pub admin: Option<SocketAddr>,
    /// Time between checkpoints: what a lost coordinator costs at most, or one step if that takes longer.
    pub checkpoint_every: Duration,
}

/// Time that streams and calls get to end when the coordinator stops.
const GRACE: Duration = Duration::from_secs(2);

/// A running coordinator.
pub struct Coordinator {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where it shows metrics and readiness, if it does.
    pub admin: Option<SocketAddr>,
    health: Health,
    _admin: Option<Admin>,
    context: Context,
    stop: oneshot::Sender<()>,
    failure: watch::Receiver<Option<String>>,
    server: JoinHandle<()>,
    tasks: [AbortHandle; 2],
}

impl Coordinator {
    /// Recovers the log, starts leading and listens.
    pub async fn start(options: CoordinatorOptions) -> anyhow::Result<Self> {
        check_listen(options.listen, &options.trust)?;
        options.admin.map(check_address).transpose()?;
        let (door, tls) = match &options.trust {
            Trust::Secret(_) if options.enrolling.is_some() => {
                anyhow::bail!("--pki needs TLS: give --tls-cert, --tls-key and --tls-ca as well");
            }
            Trust::Secret(secret) => (Door::secret(secret), None),
            Trust::Tls(files) => (Door::Certificate, Some(ServerTls::open(files.clone(), Role::Coordinator)?)),
        };
        let stores = Stores::new(options.stores.clone())?;
        let log = ConsensusOptions { dir: options.state.clone(), node_id: 1, rank: 0, snapshot_after: 1000 };
        let log: Consensus<Machine> = Consensus::open(log).await.context("open the durable log")?;
        let (events, inbox) = channel();
        let feeds = Feeds::default();
        let metrics = Metrics::new();
        let written = metrics.clone();
        log.observe_writes(move |took| written.log_written(took));
        let documents = Documents::new(stores.clone(), &options.store);
        let registry = Registry::new(stores.clone(), &options.store);
        let base = options.store.clone();
        let (checkpoint_every, closing) = (options.checkpoint_every, CancellationToken::new());
        let queries = Queries::start(stores.clone(), Arc::new(ClusterPeers::of_coordinator(options.trust.clone()))).await?;
        let context = Context {
            log,
            documents,
            registry,
            stores,
            queries,
            base,
            events,
            feeds: feeds.clone(),
            metrics,
            checkpoint_every,
            closing,
        };
        let nodes = Nodes::new(context.clone(), options.enrolling.as_ref())?;
        let listener = TcpListener::bind(options.listen).await.with_context(|| format!("listen on {}", options.listen))?;
        let address = listener.local_addr()?;
        // Not as others propose: who only starts says what is wrong.
        context.log.propose(Entry::LeaderStarted { now: now() }).await.context("write to the durable log")?;
        let running = lead(&context, &options, feeds, inbox).await?;
        let tasks = running.each_ref().map(JoinHandle::abort_handle);
        let (stop, stopped) = oneshot::channel();
        let (health, health_service) = Health::start().await;
        let pages = CoordinatorPages { context: context.clone(), readiness: health.readiness() };
        let admin = match options.admin {
            Some(listen) => Some(Admin::start(listen, Arc::new(pages)).await?),
            None => None,
        };
        health.serving().await;
        let states = (health.clone(), health_service);
        let (fail, failure) = watch::channel(None);
        let serving = serve(context.clone(), nodes, door, accept(listener, tls), states, stopped, running);
        let server = tokio::spawn(async move {
            if let Err(reason) = serving.await {
                error!(reason, "the coordinator cannot go on");
                fail.send_replace(Some(reason));
            }
        });
        let admin_address = admin.as_ref().map(|admin| admin.address);
        Ok(Self { address, admin: admin_address, health, _admin: admin, context, stop, failure, server, tasks })
    }

    /// Resolves with the reason when the coordinator cannot go on by itself, as with a full disk under its
    /// log. The process should then end with 70, so that its supervisor starts it again.
    pub fn failed(&self) -> impl Future<Output = String> + Send + use<> {
        let mut failure = self.failure.clone();
        async move {
            match failure.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone()) {
                Some(reason) => reason,
                None => std::future::pending().await,
            }
        }
    }

    /// Tells how many blocks of partials were taken in so far: whether anything gets done.
    pub fn progress(&self) -> impl Fn() -> u64 + Send + Sync + use<> {
        let metrics = self.context.metrics.clone();
        move || metrics.accepted_blocks()
    }

    /// Ends the server and closes the log. Nothing new is taken, watchers and workers see their streams
    /// end; jobs stay as the log has them and go on at the next start.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.health.not_serving("it is stopping").await;
        // The server may have ended by itself; then it has said why.
        let _ = self.stop.send(());
        for task in &self.tasks {
            task.abort();
        }
        self.server.await?;
        joblog::flush(&self.context).await;
        self.context.log.shutdown().await?;
        Ok(())
    }
}

/// Starts the loop and the drivers, and hands them the jobs that the log holds.
async fn lead(
    context: &Context,
    options: &CoordinatorOptions,
    feeds: Feeds,
    inbox: mpsc::UnboundedReceiver<Input>,
) -> anyhow::Result<[JoinHandle<()>; 2]> {
    let (term, jobs) = context.log.read(|jobs| (jobs.0.term, jobs.0.jobs.clone())).await?;
    let timeout = Millis(options.worker_timeout.as_millis() as u64);
    let engine = Engine::new(
        EngineOptions {
            heartbeat_timeout: timeout,
            max_running_jobs: options.running_jobs,
            speculate: options.speculation,
            weights: options.namespace_weights.clone(),
            namespace_limits: options.namespace_limits.clone(),
            ..EngineOptions::default()
        },
        term,
    );
    let (orders, inbox_of_drivers) = mpsc::unbounded_channel();
    context.events.send(Input::Drivers(orders));
    let ended = jobs.iter().filter(|(_, record)| record.has_ended()).map(|(job, _)| job.clone()).collect();
    let mut waiting: Vec<_> = jobs.into_iter().filter(|(_, record)| !record.has_ended()).collect();
    let open: Vec<_> = waiting.iter().map(|(job, _)| job.clone()).collect();
    joblog::restore(context, &open).await;
    waiting.sort_by_key(|(_, record)| (!matches!(record.state, JobState::Running), record.submitted));
    for (job, record) in waiting {
        let (namespace, priority, deadline, submitted) = (record.namespace, record.priority, record.deadline, record.submitted);
        context.events.send(Input::Event(Event::JobQueued { job: job.clone(), namespace, priority, deadline, submitted }));
        if record.cancel_requested {
            context.events.send(Input::Event(Event::CancelRequested { job }));
        }
    }
    let heartbeat = options.worker_timeout / 10;
    let event_loop = tokio::spawn(EventLoop::new(engine, feeds, heartbeat, context.metrics.clone()).run(inbox));
    let (context, supervised) = (context.clone(), driver::supervise(context.clone(), inbox_of_drivers));
    let drivers = tokio::spawn(async move {
        tokio::select! {
            () = supervised => {}
            () = joblog::keep(context.clone()) => {}
            () = async { driver::sweep(context.clone(), ended).await; std::future::pending().await } => {}
        }
    });
    Ok([event_loop, drivers])
}

/// Serves until it is told to stop, or until the coordinator cannot go on: then the error says why.
async fn serve(
    context: Context,
    nodes: Nodes,
    door: Door,
    connections: ReceiverStream<Result<Connection, Infallible>>,
    (health, health_service): (Health, HealthServer<impl HealthService>),
    stopped: oneshot::Receiver<()>,
    [mut event_loop, mut drivers]: [JoinHandle<()>; 2],
) -> Result<(), String> {
    let kernels = sheaf_learn::kernels::self_test();
    let (fatal, closing) = (context.log.fatal(), context.closing.clone());
    let workers = WorkerServiceServer::new(service::workers::Workers { context: context.clone(), kernels })
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let tasks = context.queries.routes();
    let queries = QueryServiceServer::new(service::queries::Queries::new(context.clone()))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let jobs = JobServiceServer::new(service::jobs::Jobs::new(context))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    // Strangers may call it: tokens and signing requests are small.
    let nodes = NodeServiceServer::new(nodes).max_decoding_message_size(MAX_NODE_MESSAGE_BYTES);
    let server = connect::server()
        .layer(GuardLayer::new(door))
        .add_routes(tasks)
        .add_service(workers)
        .add_service(jobs)
        .add_service(queries)
        .add_service(nodes)
        .add_service(health_service)
        .serve_with_incoming_shutdown(connections, closing.clone().cancelled_owned());
    let mut server = std::pin::pin!(server);
    let why = tokio::select! {
        // What follows from being told to stop is not to be taken for a failure.
        biased;
        // Either word or a dropped sender means stop.
        _ = stopped => Ok("it is stopping"),
        reason = fatal => Err(format!("the durable log stopped: {reason}")),
        _ = &mut event_loop => Err("the event loop ended".to_owned()),
        _ = &mut drivers => Err("the drivers' supervisor ended".to_owned()),
        ended = &mut server => {
            return Err(ended.map_or_else(|e| sheaf_runtime::fault::chain(&e), |()| "the server ended".to_owned()));
        }
    };
    health.not_serving(why.as_deref().unwrap_or_else(String::as_str)).await;
    closing.cancel();
    // Gone before anybody hears of it: the end of the process would look to them like faults of the store.
    for task in [drivers, event_loop] {
        task.abort();
        if !task.is_finished() {
            // Aborted, as it should be.
            let _ = task.await;
        }
    }
    match tokio::time::timeout(GRACE, server).await {
        Ok(Err(error)) => error!(%error, "the server ended"),
        Ok(Ok(())) => {}
        Err(_) => debug!("calls that did not end in time were cut"),
    }
    why.map(drop)
}
