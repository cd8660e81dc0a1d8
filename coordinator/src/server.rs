//! A coordinator from options to a listening server.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use sheaf_cluster::durable::{Entry, JobState};
use sheaf_cluster::id::Millis;
use sheaf_cluster::{Engine, Event, Options as EngineOptions};
use sheaf_dataflow::stores::{StoreOptions, Stores};
use sheaf_proto::MAX_MESSAGE_BYTES;
use sheaf_proto::v1::job_service_server::JobServiceServer;
use sheaf_proto::v1::worker_service_server::WorkerServiceServer;
use sheaf_runtime::documents::Documents;
use sheaf_runtime::registry::Registry;
use sheaf_runtime::secret::{CheckSecret, Secret};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinHandle};

use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tracing::error;

use crate::consensus::{Consensus, ConsensusOptions};
use crate::context::{Context, now};
use crate::event_loop::{EventLoop, Input, channel};
use crate::feed::Feeds;
use crate::machine::Jobs as Machine;
use crate::{driver, service};

/// How a coordinator runs.
#[derive(Debug, Clone)]
pub struct CoordinatorOptions {
    /// Where it listens. Only loopback so far: other addresses need TLS.
    pub listen: SocketAddr,
    /// Folder of the durable log.
    pub state: PathBuf,
    /// Location of the store: registry, documents, job areas.
    pub store: String,
    /// Object stores that jobs may read; must cover `store`.
    pub stores: StoreOptions,
    /// Secret that every call must carry.
    pub secret: Secret,
    /// Silence after which a worker is lost.
    pub worker_timeout: Duration,
    /// Jobs that run at the same time.
    pub running_jobs: usize,
}

/// A running coordinator.
pub struct Coordinator {
    /// Where it listens.
    pub address: SocketAddr,
    log: Consensus<Machine>,
    stop: oneshot::Sender<()>,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
    tasks: [AbortHandle; 2],
}

impl Coordinator {
    /// Recovers the log, starts leading and listens.
    pub async fn start(options: CoordinatorOptions) -> anyhow::Result<Self> {
        anyhow::ensure!(
            options.listen.ip().is_loopback(),
            "refusing to listen on {}: addresses other than loopback need TLS, which is not supported yet",
            options.listen
        );
        let stores = Stores::new(options.stores.clone())?;
        let log = ConsensusOptions { dir: options.state.clone(), node_id: 1, rank: 0, snapshot_after: 1000 };
        let log: Consensus<Machine> = Consensus::open(log).await.context("open the durable log")?;
        let (events, inbox) = channel();
        let feeds = Feeds::default();
        let documents = Documents::new(stores.clone(), &options.store);
        let registry = Registry::new(stores.clone(), &options.store);
        let context =
            Context { log: log.clone(), documents, registry, stores, base: options.store.clone(), events, feeds: feeds.clone() };
        let listener = TcpListener::bind(options.listen).await.with_context(|| format!("listen on {}", options.listen))?;
        let address = listener.local_addr()?;
        context.propose(Entry::LeaderStarted { now: now() }).await?;
        let running = lead(&context, &options, feeds, inbox).await?;
        let tasks = running.each_ref().map(JoinHandle::abort_handle);
        let (stop, stopped) = oneshot::channel();
        let server = tokio::spawn(serve(context, options.secret, listener, stopped, running));
        Ok(Self { address, log, stop, server, tasks })
    }

    /// Ends the server and closes the log. Workers see their streams end.
    pub async fn stop(self) -> anyhow::Result<()> {
        // The server may have ended by itself; then its error is what matters.
        let _ = self.stop.send(());
        for task in &self.tasks {
            task.abort();
        }
        // Streams to workers have no end of their own: they are cut.
        if let Ok(result) = tokio::time::timeout(Duration::from_millis(200), self.server).await {
            result??;
        }
        self.log.shutdown().await?;
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
        EngineOptions { heartbeat_timeout: timeout, max_running_jobs: options.running_jobs, ..EngineOptions::default() },
        term,
    );
    let (orders, inbox_of_drivers) = mpsc::unbounded_channel();
    context.events.send(Input::Drivers(orders));
    let mut waiting: Vec<_> = jobs.into_iter().filter(|(_, record)| !record.has_ended()).collect();
    waiting.sort_by_key(|(_, record)| (!matches!(record.state, JobState::Running), record.submitted));
    for (job, record) in waiting {
        let (namespace, priority, deadline, submitted) = (record.namespace, record.priority, record.deadline, record.submitted);
        context.events.send(Input::Event(Event::JobQueued { job: job.clone(), namespace, priority, deadline, submitted }));
        if record.cancel_requested {
            context.events.send(Input::Event(Event::CancelRequested { job }));
        }
    }
    let heartbeat = options.worker_timeout / 10;
    let event_loop = tokio::spawn(EventLoop::new(engine, feeds, heartbeat).run(inbox));
    let drivers = tokio::spawn(driver::supervise(context.clone(), inbox_of_drivers));
    Ok([event_loop, drivers])
}

async fn serve(
    context: Context,
    secret: Secret,
    listener: TcpListener,
    stopped: oneshot::Receiver<()>,
    [event_loop, drivers]: [JoinHandle<()>; 2],
) -> Result<(), tonic::transport::Error> {
    let kernels = sheaf_learn::kernels::self_test();
    let log = context.log.clone();
    let workers = WorkerServiceServer::new(service::workers::Workers { context: context.clone(), kernels })
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let jobs = JobServiceServer::new(service::jobs::Jobs { context })
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let check = CheckSecret(secret);
    let result = Server::builder()
        .initial_stream_window_size(8 << 20)
        .initial_connection_window_size(16 << 20)
        .tcp_nodelay(true)
        .add_service(InterceptedService::new(workers, check.clone()))
        .add_service(InterceptedService::new(jobs, check))
        .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), async {
            tokio::select! {
                // Either word or a dropped sender means stop.
                _ = stopped => {}
                _ = event_loop => error!("the event loop ended"),
                _ = drivers => error!("the drivers' supervisor ended"),
                reason = log.fatal() => error!(reason, "the durable log stopped"),
            }
        })
        .await;
    if let Err(error) = &result {
        error!(%error, "the server ended");
    }
    result
}
