//! A worker's part of the query engine: it polls the scheduler for tasks over the worker's own channel, runs them within
//! the worker's memory, and serves what it wrote to other workers.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arrow_flight::flight_service_server::FlightServiceServer;
use ballista_core::BALLISTA_PROTOCOL_VERSION;
use ballista_core::registry::BallistaFunctionRegistry;
use ballista_core::serde::protobuf::ExecutorRegistration;
use ballista_core::serde::protobuf::scheduler_grpc_client::SchedulerGrpcClient;
use ballista_core::serde::scheduler::{ExecutorOperatingSystemSpecification, ExecutorSpecification};
use ballista_core::serde::{BallistaCodec, BallistaLogicalExtensionCodec};
use ballista_executor::execution_loop;
use ballista_executor::executor::Executor;
use ballista_executor::health::ExecutorHealth;
use ballista_executor::metrics::LoggingMetricsCollector;
use ballista_executor::runtime_cache::{DefaultSessionRuntimeCache, MemoryPoolPolicy};
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::prelude::SessionConfig;
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tonic::body::Body;
use tonic::codegen::{Body as HttpBody, Bytes, StdError};
use tonic::service::Routes;

use super::codec::Codec;
use super::config::{self, MAX_MESSAGE_BYTES};
use super::depot::Depot;
use super::neighbours::Neighbours;
use super::relay::{Flight, Peers, Relays};
use super::serving::{Counter, Serving};
use super::stage::{Engine, Running};
use crate::error::DataError;
use crate::stores::Stores;

/// Sessions whose footers and clients are kept between tasks.
const SESSIONS: usize = 16;

/// Memory that queries may take, held while any task runs.
pub trait QueryMemory: Send + Sync {
    /// Takes hold of as much as there is for queries: bytes, and what gives them back when dropped.
    fn hold(&self) -> (u64, Box<dyn Send + Sync>);
}

/// How a worker takes part in queries.
pub struct ExecutorOptions {
    /// Where other workers reach this one.
    pub host: String,
    /// The same.
    pub port: u16,
    /// Tasks at the same time.
    pub threads: usize,
    /// Folder for exchanged rows and what tasks spill; it belongs to the executor.
    pub folder: PathBuf,
    /// Stores that queries read and write.
    pub stores: Stores,
    /// Where connections live.
    pub runtime: Handle,
}

/// A worker's part of the query engine; cheap to clone.
#[derive(Clone)]
pub struct QueryExecutor {
    inner: Arc<Inner>,
}

struct Inner {
    options: ExecutorOptions,
    work: String,
    registry: Arc<BallistaFunctionRegistry>,
    base: Arc<RuntimeEnv>,
    policy: MemoryPoolPolicy,
    relays: Relays,
    depot: Depot,
    neighbours: Neighbours,
    running: Running,
    wake: Arc<Notify>,
    readers: Counter,
}

impl QueryExecutor {
    /// Makes the folders; nothing runs before [`QueryExecutor::stay`].
    pub fn new(options: ExecutorOptions, peers: Arc<dyn Peers>, memory: Arc<dyn QueryMemory>) -> Result<Self, DataError> {
        let spill = |action| move |source| DataError::Spill { action, source };
        let (work, copies, spilled) =
            (options.folder.join("exchange"), options.folder.join("copies"), options.folder.join("spill"));
        for folder in [&work, &copies, &spilled] {
            std::fs::create_dir_all(folder).map_err(spill("create a folder"))?;
        }
        let session = options.stores.session(0).state();
        let base = RuntimeEnvBuilder::new()
            .with_object_store_registry(Arc::clone(&session.runtime_env().object_store_registry))
            .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Directories(vec![spilled])))
            .build_arc()
            .map_err(|e| DataError::internal("query engine", e))?;
        let depot = Depot::new(options.stores.clone(), copies);
        let relays = Relays::new(peers, depot.clone(), options.runtime.clone()).map_err(spill("create a folder for sockets"))?;
        let policy = policy(memory, options.threads);
        let registry = Arc::new(BallistaFunctionRegistry::from(&session));
        let work = work.canonicalize().map_err(spill("find a folder"))?;
        let neighbours = Neighbours::new(&work, &std::env::temp_dir());
        let work = work.display().to_string();
        let (running, wake, readers) = (Running::default(), Arc::new(Notify::new()), Counter::default());
        let inner = Inner { options, work, registry, base, policy, relays, depot, neighbours, running, wake, readers };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What the worker serves on its port.
    pub fn routes(&self) -> Routes {
        let inner = &self.inner;
        let serving = Serving::new(inner.work.clone(), inner.depot.clone(), inner.readers.clone());
        let service = FlightServiceServer::new(Flight(serving))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        Routes::new(service)
    }

    /// Takes tasks from the scheduler behind a channel until the future is dropped; resolves only with what broke.
    /// `id` must be new for each stay.
    pub async fn stay<C>(&self, id: &str, channel: C) -> String
    where
        C: tonic::client::GrpcService<Body> + Clone + Send + Sync + 'static,
        C::Error: Into<StdError>,
        C::ResponseBody: HttpBody<Data = Bytes> + Send + 'static,
        <C::ResponseBody as HttpBody>::Error: Into<StdError> + Send,
    {
        self.inner.readers.open();
        // Tasks of an earlier stay are nobody's any more.
        self.inner.running.cancel_all();
        let _notice = self.inner.neighbours.notice(id);
        let scheduler = SchedulerGrpcClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let codec: BallistaCodec<LogicalPlanNode, PhysicalPlanNode> =
            BallistaCodec::new(Arc::new(BallistaLogicalExtensionCodec::default()), Arc::new(Codec::default()));
        let wake = Some(Arc::clone(&self.inner.wake));
        let ended =
            execution_loop::poll_loop(scheduler, Arc::new(self.executor(id)), codec, wake, None, ExecutorHealth::new()).await;
        ended.err().map_or_else(|| "the poll loop ended".to_owned(), |error| error.to_string())
    }

    /// Says that there may be tasks.
    pub fn wake(&self) {
        self.inner.wake.notify_one();
    }

    /// Waits until nobody reads rows from here, once no task runs here any more. Who can is turned to the copies.
    pub async fn settle(&self) {
        self.inner.readers.settle().await;
    }

    /// Stops the tasks of a query.
    pub fn cancel(&self, query: &str) {
        self.inner.running.cancel(query);
    }

    /// Removes what is left here of a query that has ended.
    pub async fn forget(&self, query: &str) {
        self.inner.running.cancel(query);
        self.inner.depot.forget(query).await;
        let folder = PathBuf::from(&self.inner.work).join(query);
        match tokio::fs::remove_dir_all(&folder).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(%error, folder = %folder.display(), "rows of an ended query could not be removed");
            }
            _ => {}
        }
        self.inner.running.forget(query);
    }

    fn executor(&self, id: &str) -> Executor {
        let inner = &self.inner;
        let metadata = ExecutorRegistration {
            id: id.to_owned(),
            host: Some(inner.options.host.clone()),
            port: u32::from(inner.options.port),
            // Tasks are cancelled by signals of ours: nobody calls a worker by the engine's own service.
            grpc_port: 0,
            specification: Some(ExecutorSpecification::default().with_vcores(inner.options.threads as u32).into()),
            os_info: Some(ExecutorOperatingSystemSpecification::default().into()),
            ballista_protocol_version: BALLISTA_PROTOCOL_VERSION,
        };
        let stores = Arc::new(inner.options.stores.clone());
        let config = move || -> SessionConfig { config::base().with_extension(Arc::clone(&stores)) };
        let base = Arc::clone(&inner.base);
        let runtime = move |_: &SessionConfig| Ok(Arc::clone(&base));
        let neighbours = inner.neighbours.clone();
        let engine = Engine::new(Arc::new(inner.relays.clone()), inner.running.clone(), inner.depot.clone(), neighbours);
        let cache = DefaultSessionRuntimeCache::new(Arc::new(runtime.clone()), Arc::clone(&inner.policy), SESSIONS);
        Executor::new(
            metadata,
            &inner.work,
            Arc::new(runtime),
            Arc::new(config),
            Arc::clone(&inner.registry),
            Arc::new(LoggingMetricsCollector::default()),
            inner.options.threads,
            Arc::new(engine),
        )
        .with_session_runtime_cache(Some(Arc::new(cache)))
    }
}

/// Gives each task its share of what queries may take; all tasks at a time hold it together.
fn policy(memory: Arc<dyn QueryMemory>, threads: usize) -> MemoryPoolPolicy {
    let held: Mutex<Weak<Held>> = Mutex::new(Weak::new());
    Arc::new(move |base, _, tasks| {
        let mut weak = held.lock().unwrap_or_else(PoisonError::into_inner);
        let held = weak.upgrade().unwrap_or_else(|| {
            let (bytes, hold) = memory.hold();
            let held = Arc::new(Held { bytes, _hold: hold });
            *weak = Arc::downgrade(&held);
            held
        });
        let share = held.bytes as usize / threads.max(1) * tasks.max(1) as usize;
        let pool = Share { pool: FairSpillPool::new(share), _held: held };
        RuntimeEnvBuilder::from_runtime_env(&base).with_memory_pool(Arc::new(pool)).build_arc()
    })
}

struct Held {
    bytes: u64,
    _hold: Box<dyn Send + Sync>,
}

/// One task's share.
struct Share {
    pool: FairSpillPool,
    _held: Arc<Held>,
}

impl std::fmt::Debug for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.pool.fmt(f)
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&self.pool, f)
    }
}

impl MemoryPool for Share {
    fn name(&self) -> &str {
        "share of the worker's memory"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.pool.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.pool.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.pool.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.pool.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> datafusion::common::Result<()> {
        self.pool.try_grow(reservation, additional)
    }

    fn reserved(&self) -> usize {
        self.pool.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.pool.memory_limit()
    }
}
