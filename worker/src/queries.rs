//! A worker's part in queries: it serves rows to others on a port of its own, and for as long as a stay lasts it takes
//! tasks and hears what is new about queries.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use sheaf_dataflow::engine::{ExecutorOptions, QueryExecutor, QueryMemory};
use sheaf_dataflow::stores::Stores;
use sheaf_proto::v1::follow_queries_response::Signal;
use sheaf_proto::v1::{FollowQueriesRequest, FollowQueriesResponse, LeaveQueriesRequest};
use sheaf_runtime::auth::{Door, GuardLayer, Role};
use sheaf_runtime::connect::{self, Channel, ClusterPeers, Target, Trust, check_listen};
use sheaf_runtime::listen::accept;
use sheaf_runtime::tls::ServerTls;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;
use tonic::Streaming;
use tracing::{debug, info, warn};

use crate::cache::ShardCache;
use crate::life::WorkerOptions;
use crate::session::Client;

/// Pause before a worker that is out of the query engine tries to be in it again.
const PAUSE: Duration = Duration::from_millis(500);
/// Part of the memory budget that queries may take: half.
const SHARE: u64 = 2;
/// Least memory that tasks are given, bytes: with less nothing can be sorted.
const LEAST: u64 = 32 << 20;

/// Number of the stay, so that no name comes twice.
static STAY: AtomicU64 = AtomicU64::new(0);

/// The worker's part in queries; cheap to clone.
#[derive(Clone)]
pub struct Queries {
    executor: QueryExecutor,
    threads: u32,
    memory: u64,
    /// The stay under way.
    stay: Arc<Mutex<Part>>,
    _server: Arc<AbortOnDropHandle<()>>,
}

/// This worker among the members of the query engine.
#[derive(Debug, Default)]
struct Part {
    /// Its name there, while it is one.
    name: Option<String>,
    /// It leaves, and does not come back.
    leaving: bool,
}

impl Queries {
    /// Listens for other workers; takes no tasks before [`Queries::take_part`].
    pub async fn start(options: &WorkerOptions, cache: &ShardCache, stores: &Stores, folder: &Path) -> anyhow::Result<Self> {
        let trust = &options.join.trust;
        let listen = options.listen.unwrap_or_else(|| default_listen(trust));
        check_listen(listen, trust)?;
        let (door, tls) = match trust {
            Trust::Secret(secret) => (Door::secret(secret), None),
            Trust::Tls(files) => (Door::Certificate, Some(ServerTls::open(files.clone(), Role::Worker)?)),
        };
        let listener = TcpListener::bind(listen).await.with_context(|| format!("listen on {listen}"))?;
        let address = listener.local_addr()?;
        let host = match &options.advertise {
            Some(host) => host.clone(),
            None => reachable(&options.join, address.ip())?.to_string(),
        };
        let executor = ExecutorOptions {
            host: host.clone(),
            port: address.port(),
            threads: options.threads,
            folder: folder.join("queries"),
            stores: stores.clone(),
            runtime: tokio::runtime::Handle::current(),
        };
        let peers = Arc::new(ClusterPeers::of_worker(trust.clone()));
        let executor = QueryExecutor::new(executor, peers, Arc::new(Share { cache: cache.clone() }))?;
        let routes = executor.routes();
        let serving = async move {
            let served = connect::server().layer(GuardLayer::new(door)).add_routes(routes);
            if let Err(error) = served.serve_with_incoming(accept(listener, tls)).await {
                warn!(%error, "rows of queries cannot be served any more");
            }
        };
        info!(%address, host, "serving rows of queries to other workers");
        let server = Arc::new(AbortOnDropHandle::new(tokio::spawn(serving)));
        let (threads, memory) = (options.threads as u32, cache.budget().limit());
        Ok(Self { executor, threads, memory, stay: Arc::default(), _server: server })
    }

    /// Takes part in queries until dropped.
    pub async fn take_part(self, instance: u64, worker: u64, mut client: Client, channel: Channel) {
        loop {
            let name = format!("{instance:016x}-{worker}-{}", STAY.fetch_add(1, Ordering::Relaxed));
            if !self.enter(&name) {
                return;
            }
            let request = FollowQueriesRequest { name: name.clone(), threads: self.threads, memory_bytes: self.memory };
            let why = match client.follow_queries(request).await {
                Ok(signals) => tokio::select! {
                    why = self.executor.stay(&name, channel.clone()) => why,
                    why = self.follow(signals.into_inner()) => why,
                },
                Err(status) => status.message().to_owned(),
            };
            self.part().name = None;
            // The control stream tells whether the worker is still in the cluster; this one only follows it.
            debug!(why, "out of the query engine; trying again");
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn part(&self) -> MutexGuard<'_, Part> {
        self.stay.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the name of a new stay; false for a worker that leaves.
    fn enter(&self, name: &str) -> bool {
        let mut part = self.part();
        part.name = Some(name.to_owned()).filter(|_| !part.leaving);
        part.name.is_some()
    }

    /// Leaves in order: takes no more tasks, finishes those that it has, and waits until nobody reads its rows.
    pub async fn leave(self, mut client: Client) {
        let name = {
            let mut part = self.part();
            part.leaving = true;
            part.name.clone()
        };
        let Some(name) = name else { return };
        match client.leave_queries(LeaveQueriesRequest { name }).await {
            Ok(_) => self.executor.settle().await,
            // Without the coordinator there is nobody to finish for.
            Err(status) => debug!(why = status.message(), "left the query engine without its coordinator"),
        }
        debug!("no query needs this worker any more");
    }

    async fn follow(&self, mut signals: Streaming<FollowQueriesResponse>) -> String {
        loop {
            match signals.message().await {
                Ok(Some(FollowQueriesResponse { signal })) => match signal {
                    Some(Signal::Work(_)) => self.executor.wake(),
                    Some(Signal::Cancelled(query)) => self.executor.cancel(&query),
                    Some(Signal::Ended(query)) => self.executor.forget(&query).await,
                    None => {}
                },
                Ok(None) => return "the coordinator ended the stream".to_owned(),
                Err(status) => return status.message().to_owned(),
            }
        }
    }
}

/// Loopback where a secret is the trust, else all addresses.
fn default_listen(trust: &Trust) -> SocketAddr {
    match trust {
        Trust::Secret(_) => SocketAddr::from(([127, 0, 0, 1], 0)),
        Trust::Tls(_) => SocketAddr::from(([0, 0, 0, 0], 0)),
    }
}

/// The address by which others in the cluster reach a listener: its own, or that of the way to the coordinator.
fn reachable(join: &Target, listening: IpAddr) -> anyhow::Result<IpAddr> {
    if !listening.is_unspecified() {
        return Ok(listening);
    }
    let coordinator = join.address.to_socket_addrs().context("resolve the coordinator's address")?.next();
    let coordinator = coordinator.context("the coordinator's address resolves to nothing")?;
    let any: SocketAddr = if coordinator.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    // Connecting a datagram socket sends nothing: it asks the system for the way.
    let socket = UdpSocket::bind(any).context("open a socket")?;
    socket.connect(coordinator).context("find the way to the coordinator; give --advertise HOST")?;
    Ok(socket.local_addr()?.ip())
}

/// Memory for queries, from the budget that cached shards keep to as well.
struct Share {
    cache: ShardCache,
}

impl QueryMemory for Share {
    fn hold(&self) -> (u64, Box<dyn Send + Sync>) {
        let mut wanted = (self.cache.budget().limit() / SHARE).max(LEAST);
        loop {
            if let Some(grant) = self.cache.make_room(wanted) {
                return (wanted, Box::new(grant));
            }
            if wanted <= LEAST {
                // Shards in use are not given up; tasks that wait for ever would be worse than a little too much.
                return (LEAST, Box::new(self.cache.budget().take(LEAST)));
            }
            wanted = (wanted / 2).max(LEAST);
        }
    }
}
