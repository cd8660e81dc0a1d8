//! The life of a worker process: it joins, works, and joins again whenever it was cut off, with what its
//! cache holds, until it is asked to leave or told to give up.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use sheaf_dataflow::scratch::Scratch;
use sheaf_dataflow::stores::{StoreOptions, Stores};
use sheaf_learn::kernels::Level;
use sheaf_runtime::admin::{Admin, check_address};
use sheaf_runtime::connect::{ConnectError, Target};
use sheaf_runtime::exit::Exit;
use sheaf_runtime::memory::MemoryBudget;
use sheaf_runtime::retry::Backoff;
use sheaf_runtime::shutdown::{Asked, Shutdown};
use tracing::{debug, info, warn};

use crate::cache::ShardCache;
use crate::metrics::{Metrics, WorkerPages};
use crate::queries::Queries;
use crate::session::{Ending, stay};
use crate::stage::Bench;

/// Time that a worker takes to leave in order unless it is told otherwise.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(25);

/// A stay of this length was a good one: the next pause is a short one again.
const GOOD_STAY: Duration = Duration::from_secs(2);

/// While the coordinator is away this often a line says so.
const REMIND: Duration = Duration::from_secs(10);

/// How a worker runs.
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    /// The coordinator, and by what to trust it.
    pub join: Target,
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
    /// What people call the worker.
    pub name: String,
    /// Time without a coordinator after which the worker ends; absent: it tries for ever.
    pub give_up_after: Option<Duration>,
    /// Time to finish what is under way when asked to leave; then it is handed back.
    pub drain_timeout: Duration,
    /// Process with which the worker ends, however that one ends; absent: it lives by itself.
    pub parent: Option<u32>,
    /// Where metrics and readiness are shown, on loopback; absent: nowhere.
    pub admin: Option<SocketAddr>,
    /// Where rows of queries are served to other workers; absent: a free port, on loopback where a secret is the trust.
    pub listen: Option<SocketAddr>,
    /// Host by which other workers reach this one; absent: the address on the way to the coordinator.
    pub advertise: Option<String>,
}

/// How a worker ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It left in order, asked by a signal or by the coordinator.
    Left,
    /// It was asked twice and ended at once.
    Stopped,
}

/// Why a worker cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The coordinator cannot be asked, or is not who it should be.
    #[error(transparent)]
    Connect(ConnectError),
    /// The coordinator does not take this build or machine.
    #[error("{0}")]
    Refused(String),
    /// The coordinator does not accept the credentials.
    #[error("{0}")]
    Denied(String),
    /// The coordinator was away for too long.
    #[error("gave up after {after_s} s without a coordinator: {last}")]
    GaveUp {
        /// How long.
        after_s: u64,
        /// What went wrong last.
        last: String,
    },
    /// The process that this one was to end with has ended.
    #[error("process {0}, with which this worker was to end, is gone")]
    Orphan(u32),
}

impl WorkerError {
    /// What a program exits with.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Connect(error) => error.exit(),
            Self::Denied(_) => Exit::Denied,
            Self::GaveUp { .. } => Exit::Unreachable,
            Self::Refused(_) | Self::Orphan(_) => Exit::Failed,
        }
    }
}

/// Runs a worker to its end. Control and computing have runtimes of their own.
pub fn run(options: WorkerOptions) -> anyhow::Result<Ended> {
    if let Some(parent) = options.parent {
        end_with(parent)?;
    }
    options.admin.map(check_address).transpose()?;
    let threads = options.threads.max(1);
    let control = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().thread_name("control").build()?;
    let reading =
        tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().thread_name("reading").build()?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(|i| format!("compute-{i}")).build()?;
    let spill = Scratch::new(options.spill.as_deref(), "sheaf-spill-").context("create the spill folder")?;
    let level = match &options.kernel_level {
        Some(name) => Level::named(name)?,
        None => Level::detect(),
    };
    let budget = MemoryBudget::of_process(options.memory_bytes);
    let bench = Bench {
        stores: Stores::new(options.stores.clone())?,
        cache: ShardCache::new(budget.clone(), spill.path()),
        pool: Arc::new(pool),
        reading: reading.handle().clone(),
        threads,
        paranoid: options.paranoid,
        level,
        metrics: Metrics::new(),
    };
    let result = control.block_on(async {
        let shutdown = Shutdown::listen().context("listen for signals")?;
        let pages = WorkerPages { metrics: bench.metrics.clone(), cache: bench.cache.clone(), budget };
        let _admin = match options.admin {
            Some(listen) => Some(Admin::start(listen, Arc::new(pages)).await?),
            None => None,
        };
        let queries = Queries::start(&options, &bench.cache, &bench.stores, spill.path()).await?;
        live(&options, &bench, &queries, shutdown).await
    });
    reading.shutdown_timeout(Duration::from_secs(1));
    control.shutdown_timeout(Duration::from_secs(1));
    result
}

/// Joins again and again. What is cached stays; orders of an earlier stay are broken off.
async fn live(options: &WorkerOptions, bench: &Bench, queries: &Queries, mut shutdown: Shutdown) -> anyhow::Result<Ended> {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
    let mut away = Away::default();
    let mut welcome = false;
    loop {
        let began = Instant::now();
        let ending = stay(options, bench, queries, &mut shutdown).await;
        bench.metrics.left(ending.why());
        let (why, joined) = match ending {
            Ending::Left => return Ok(Ended::Left),
            Ending::Stopped => return Ok(Ended::Stopped),
            // Who was welcome before is only early: credentials are being exchanged, or it is another's port for now.
            Ending::Refused(error) if welcome && error.exit() == Exit::Denied => (error.to_string(), false),
            Ending::Refused(error) => return Err(error.into()),
            Ending::Broken { why, joined } => (why, joined),
        };
        if shutdown.so_far() > Asked::No {
            info!("asked to leave while cut off from the coordinator");
            return Ok(Ended::Left);
        }
        welcome |= joined;
        if joined && began.elapsed() >= GOOD_STAY {
            backoff.reset();
        }
        if joined {
            away = Away::default();
        }
        if let Some(after) = options.give_up_after.filter(|after| away.since.elapsed() >= *after) {
            return Err(WorkerError::GaveUp { after_s: after.as_secs(), last: why }.into());
        }
        let pause = backoff.pause();
        away.say(&why, pause);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = shutdown.asked(Asked::ToLeave) => {}
        }
    }
}

/// A time without a coordinator.
struct Away {
    since: Instant,
    said: Option<Instant>,
}

impl Default for Away {
    fn default() -> Self {
        Self { since: Instant::now(), said: None }
    }
}

impl Away {
    /// Says once, and then now and then, that the coordinator is away.
    fn say(&mut self, why: &str, pause: Duration) {
        let (away_s, pause_ms) = (self.since.elapsed().as_secs(), pause.as_millis() as u64);
        if self.said.is_none_or(|said| said.elapsed() >= REMIND) {
            self.said = Some(Instant::now());
            warn!(why, away_s, pause_ms, "not in the cluster; trying again");
        } else {
            debug!(why, away_s, pause_ms, "not in the cluster; trying again");
        }
    }
}

/// Has the system end this process when `parent` ends, even if this one is stopped then.
#[cfg(target_os = "linux")]
fn end_with(parent: u32) -> anyhow::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .context("ask the system to end this process with its parent")?;
    // It may have ended before it could be watched.
    is_parent(parent)
}

/// Elsewhere this process looks for itself, twice a second.
#[cfg(not(target_os = "linux"))]
fn end_with(parent: u32) -> anyhow::Result<()> {
    is_parent(parent)?;
    let watch = move || {
        while is_parent(parent).is_ok() {
            std::thread::sleep(Duration::from_millis(500));
        }
        std::process::abort();
    };
    std::thread::Builder::new().name("parent".into()).spawn(watch).context("watch the parent process")?;
    Ok(())
}

fn is_parent(parent: u32) -> anyhow::Result<()> {
    anyhow::ensure!(std::os::unix::process::parent_id() == parent, WorkerError::Orphan(parent));
    Ok(())
}
