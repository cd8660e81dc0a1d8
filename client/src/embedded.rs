//! The embedded cluster behind `sheaf run`: a coordinator in this process, worker *processes* on
//! loopback, a secret and a state folder of the run's own. The same code paths as a real cluster.
//! A worker that dies is started again; workers that keep dying while nothing gets done end the run.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use sheaf_coordinator::{CHECKPOINT_EVERY, Coordinator, CoordinatorOptions};
use sheaf_dataflow::scratch::Scratch;
use sheaf_dataflow::stores::StoreOptions;
use sheaf_proto::MAX_MESSAGE_BYTES;
use sheaf_proto::v1::job_service_client::JobServiceClient;
use sheaf_proto::v1::query_service_client::QueryServiceClient;
use sheaf_runtime::auth::Role;
use sheaf_runtime::connect::{Channel, Target, Trust, connect};
use sheaf_runtime::retry::Backoff;
use sheaf_runtime::secret::{SECRET_VARIABLE, Secret};
use sheaf_runtime::shutdown::{Asked, Shutdown};
use sheaf_runtime::telemetry;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::warn;

/// Environment variable that carries the allowed stores to worker processes.
pub const STORES_VARIABLE: &str = "SHEAF_STORES";

/// A client of the coordinator.
pub type Client = JobServiceClient<Channel>;

/// A client of the coordinator that asks questions in SQL.
pub type QueryClient = QueryServiceClient<Channel>;

/// How the cluster is made.
#[derive(Debug, Clone)]
pub struct EmbeddedOptions {
    /// Worker processes.
    pub workers: u32,
    /// Threads of each.
    pub threads: Option<u32>,
    /// Memory for shards of each, bytes.
    pub memory_bytes: u64,
    /// Location of the store, absolute.
    pub store: String,
    /// What may be read and written.
    pub stores: StoreOptions,
    /// Whether late workers get help and slow ones less to do.
    pub speculation: bool,
    /// Workers compute every partial twice.
    pub paranoid: bool,
    /// Kernel levels of the workers in turn.
    pub kernel_levels: Vec<String>,
    /// File that gets the ids of the worker processes.
    pub pid_file: Option<PathBuf>,
}

/// Deaths within this time are counted together.
const DEATH_WINDOW: Duration = Duration::from_secs(20);

/// So many deaths in that time, and more with more workers, end the run if nothing gets done between them. A
/// shard that ends its workers is known before.
const DEATHS: usize = 8;

/// A running embedded cluster.
pub struct Embedded {
    coordinator: Coordinator,
    secret: Secret,
    slots: JoinSet<anyhow::Result<()>>,
    stop: watch::Sender<Asked>,
    given_up: watch::Receiver<Option<String>>,
    _state: Scratch,
}

impl Embedded {
    /// Starts the coordinator and the worker processes; does not wait for them to join.
    pub async fn start(options: EmbeddedOptions) -> anyhow::Result<Self> {
        let secret = Secret::generate().context("draw the run's secret")?;
        let state = Scratch::new(None, "sheaf-run-").context("create the run's state folder")?;
        let coordinator = CoordinatorOptions {
            listen: ([127, 0, 0, 1], 0).into(),
            state: state.path().join("log"),
            store: options.store.clone(),
            stores: options.stores.clone(),
            trust: Trust::Secret(secret.clone()),
            enrolling: None,
            worker_timeout: Duration::from_secs(10),
            running_jobs: 1,
            speculation: options.speculation,
            namespace_weights: Default::default(),
            namespace_limits: Default::default(),
            admin: None,
            checkpoint_every: CHECKPOINT_EVERY,
        };
        let coordinator = Coordinator::start(coordinator).await?;
        let (give_up, given_up) = watch::channel(None);
        let starter = Starter {
            coordinator: coordinator.address,
            secret: secret.of(Role::Worker),
            spill: state.path().to_owned(),
            pids: Mutex::new(vec![None; options.workers as usize]),
            deaths: Mutex::default(),
            progress: Box::new(coordinator.progress()),
            give_up,
            options,
        };
        let (starter, (stop, stopped)) = (Arc::new(starter), Shutdown::by_hand());
        let first: anyhow::Result<Vec<Child>> = (0..starter.options.workers).map(|slot| starter.spawn(slot)).collect();
        let mut slots = JoinSet::new();
        for (slot, child) in (0..).zip(first?) {
            slots.spawn(keep(Arc::clone(&starter), slot, child, stopped.clone()));
        }
        starter.write_pids()?;
        Ok(Self { coordinator, secret, slots, stop, given_up, _state: state })
    }

    /// A client of the coordinator, over the wire like any other.
    pub async fn client(&self) -> anyhow::Result<Client> {
        Ok(JobServiceClient::new(self.channel().await?)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES))
    }

    /// A client of the coordinator that asks questions in SQL.
    pub async fn query_client(&self) -> anyhow::Result<QueryClient> {
        Ok(QueryServiceClient::new(self.channel().await?)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES))
    }

    async fn channel(&self) -> anyhow::Result<Channel> {
        let trust = Trust::Secret(self.secret.of(Role::Client));
        let target = Target { address: self.coordinator.address.to_string(), trust };
        Ok(connect(&target).await?)
    }

    /// Resolves, with the reason, when nothing will ever go on: workers die faster than they get anything
    /// done, or the coordinator has stopped by itself.
    pub async fn given_up(&mut self) -> String {
        let given_up = async {
            match self.given_up.wait_for(Option::is_some).await.ok().and_then(|why| why.clone()) {
                Some(why) => why,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            why = given_up => why,
            reason = self.coordinator.failed() => format!("the coordinator cannot go on: {reason}"),
        }
    }

    /// Ends the workers and the coordinator; no process is left.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.stop.send_replace(Asked::ToStop);
        let mut ended = Ok(());
        while let Some(slot) = self.slots.join_next().await {
            ended = ended.and(slot.context("end a worker").flatten());
        }
        self.coordinator.stop().await?;
        ended
    }
}

/// Starts worker processes, and remembers how they ended.
struct Starter {
    coordinator: SocketAddr,
    secret: Secret,
    /// The run's own folder: whatever a killed worker leaves goes with it.
    spill: PathBuf,
    options: EmbeddedOptions,
    pids: Mutex<Vec<Option<u32>>>,
    deaths: Mutex<Deaths>,
    progress: Box<dyn Fn() -> u64 + Send + Sync>,
    give_up: watch::Sender<Option<String>>,
}

/// Endings of workers since anything last got done.
#[derive(Default)]
struct Deaths {
    progress: u64,
    recent: VecDeque<(Instant, String)>,
}

impl Deaths {
    /// Takes in a death. Gives how all of them ended when there are too many of them.
    fn note(&mut self, ending: String, progress: u64, limit: usize) -> Option<String> {
        if std::mem::replace(&mut self.progress, progress) != progress {
            self.recent.clear();
        }
        self.recent.retain(|(when, _)| when.elapsed() < DEATH_WINDOW);
        self.recent.push_back((Instant::now(), ending));
        let endings = || self.recent.iter().map(|(_, ending)| ending.as_str()).collect::<Vec<_>>().join(", ");
        (self.recent.len() >= limit).then(endings)
    }
}

impl Starter {
    /// Takes in that a worker has ended; says so when it is one too many.
    fn ended(&self, slot: u32, pid: Option<u32>, ending: String) -> bool {
        warn!(slot, pid, ending, "a worker process ended; it is started again");
        let limit = DEATHS.max(2 * self.options.workers as usize);
        let mut deaths = self.deaths.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(endings) = deaths.note(ending, (self.progress)(), limit) else { return false };
        let why = format!(
            "worker processes keep ending ({endings}): {limit} within {} s, and nothing got done between them; run with SHEAF_LOG=info to see why",
            DEATH_WINDOW.as_secs()
        );
        self.give_up.send_replace(Some(why));
        true
    }

    fn spawn(&self, slot: u32) -> anyhow::Result<Child> {
        let options = &self.options;
        let program = std::env::current_exe().context("find this program")?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as u32;
        let threads = options.threads.unwrap_or_else(|| cores.div_ceil(options.workers.max(1)).max(1));
        let mut command = Command::new(program);
        command.arg("worker").arg("--join").arg(self.coordinator.to_string());
        command.arg("--threads").arg(threads.to_string()).arg("--memory").arg(options.memory_bytes.to_string());
        command.arg("--spill").arg(&self.spill);
        command.arg("--parent").arg(std::process::id().to_string());
        if options.paranoid {
            command.arg("--paranoid");
        }
        if !options.kernel_levels.is_empty() {
            command.arg("--kernel-level").arg(&options.kernel_levels[slot as usize % options.kernel_levels.len()]);
        }
        command.env(SECRET_VARIABLE, self.secret.expose());
        command.env(telemetry::FORMAT_VARIABLE, telemetry::format().name());
        command.env(STORES_VARIABLE, serde_json::to_string(&options.stores)?);
        // Ctrl-C in a terminal reaches this process alone: it ends the workers when the job has ended.
        command.process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true);
        let child = command.spawn().context("start a worker process")?;
        self.pids.lock().unwrap_or_else(PoisonError::into_inner)[slot as usize] = child.id();
        Ok(child)
    }

    fn write_pids(&self) -> anyhow::Result<()> {
        let Some(file) = &self.options.pid_file else { return Ok(()) };
        // Held while writing, so that an older list never replaces a newer one.
        let pids = self.pids.lock().unwrap_or_else(PoisonError::into_inner);
        let lines: Vec<String> = pids.iter().flatten().map(u32::to_string).collect();
        let temporary = file.with_extension("tmp");
        std::fs::write(&temporary, lines.join("\n"))
            .and_then(|()| std::fs::rename(&temporary, file))
            .context("write the pid file")
    }
}

/// Keeps a worker process in a slot until the cluster stops: one that ended is followed by another.
async fn keep(starter: Arc<Starter>, slot: u32, mut child: Child, mut stop: Shutdown) -> anyhow::Result<()> {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
    loop {
        let (pid, began) = (child.id(), Instant::now());
        let ending = tokio::select! {
            ending = child.wait() => ending,
            _ = stop.asked(Asked::ToStop) => {
                // One that has ended already is what we want.
                let _ = child.start_kill();
                child.wait().await.context("wait for a worker to end")?;
                return Ok(());
            }
        };
        if starter.ended(slot, pid, ending.map_or_else(|e| e.to_string(), |status| status.to_string())) {
            return Ok(());
        }
        if began.elapsed() >= DEATH_WINDOW {
            backoff.reset();
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.pause()) => {}
            _ = stop.asked(Asked::ToStop) => return Ok(()),
        }
        child = starter.spawn(slot)?;
        starter.write_pids()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deaths_count_until_something_gets_done() {
        let mut deaths = Deaths::default();
        for _ in 0..4 {
            assert_eq!(deaths.note("killed".into(), 0, 5), None);
        }
        assert_eq!(deaths.note("killed".into(), 1, 5), None);
        for _ in 0..3 {
            assert_eq!(deaths.note("killed".into(), 1, 5), None);
        }
        assert_eq!(deaths.note("gone".into(), 1, 5).as_deref(), Some("killed, killed, killed, killed, gone"));
    }
}
