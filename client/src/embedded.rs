//! The embedded cluster behind `sheaf run`: a coordinator in this process, worker *processes* on
//! loopback, a secret and a state folder of the run's own. The same code paths as a real cluster.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use sheaf_coordinator::{Coordinator, CoordinatorOptions};
use sheaf_dataflow::stores::StoreOptions;
use sheaf_proto::MAX_MESSAGE_BYTES;
use sheaf_proto::v1::job_service_client::JobServiceClient;
use sheaf_runtime::secret::{AddSecret, SECRET_VARIABLE, Secret};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};

/// Environment variable that carries the allowed stores to worker processes.
pub const STORES_VARIABLE: &str = "SHEAF_STORES";

/// A client of the coordinator.
pub type Client = JobServiceClient<InterceptedService<Channel, AddSecret>>;

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
    /// Workers compute every partial twice.
    pub paranoid: bool,
    /// Kernel levels of the workers in turn.
    pub kernel_levels: Vec<String>,
    /// File that gets the ids of the worker processes.
    pub pid_file: Option<PathBuf>,
}

/// A running embedded cluster.
pub struct Embedded {
    coordinator: Coordinator,
    secret: Secret,
    workers: Vec<Child>,
    _state: TempDir,
}

impl Embedded {
    /// Starts the coordinator and the worker processes; does not wait for them to join.
    pub async fn start(options: EmbeddedOptions) -> anyhow::Result<Self> {
        let secret = Secret::generate().context("draw the run's secret")?;
        let state = tempfile::Builder::new().prefix("sheaf-run-").tempdir().context("create the run's state folder")?;
        let coordinator = CoordinatorOptions {
            listen: ([127, 0, 0, 1], 0).into(),
            state: state.path().join("log"),
            store: options.store.clone(),
            stores: options.stores.clone(),
            secret: secret.clone(),
            worker_timeout: Duration::from_secs(10),
            running_jobs: 1,
        };
        let coordinator = Coordinator::start(coordinator).await?;
        let mut cluster = Self { coordinator, secret, workers: Vec::new(), _state: state };
        for index in 0..options.workers {
            cluster.workers.push(cluster.spawn(&options, index)?);
        }
        if let Some(file) = &options.pid_file {
            let pids: Vec<String> = cluster.workers.iter().filter_map(Child::id).map(|pid| pid.to_string()).collect();
            let temporary = file.with_extension("tmp");
            std::fs::write(&temporary, pids.join("\n"))
                .and_then(|()| std::fs::rename(&temporary, file))
                .context("write the pid file")?;
        }
        Ok(cluster)
    }

    /// A client of the coordinator, over the wire like any other.
    pub async fn client(&self) -> anyhow::Result<Client> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.coordinator.address))?.tcp_nodelay(true);
        let channel = endpoint.connect().await.context("connect to the embedded coordinator")?;
        Ok(JobServiceClient::with_interceptor(channel, AddSecret(self.secret.clone()))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES))
    }

    /// Resolves when every worker process has ended, with what they said: then nothing will ever go on.
    pub async fn all_gone(&mut self) -> String {
        let mut endings = Vec::new();
        for worker in &mut self.workers {
            let ending = match worker.wait().await {
                Ok(status) => status.to_string(),
                Err(error) => error.to_string(),
            };
            endings.push(ending);
        }
        format!("all worker processes have ended ({}); run with SHEAF_LOG=info to see why", endings.join(", "))
    }

    /// Ends the workers and the coordinator; no process is left.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        for worker in &mut self.workers {
            // One that has ended already is what we want.
            let _ = worker.start_kill();
        }
        for worker in &mut self.workers {
            worker.wait().await.context("wait for a worker to end")?;
        }
        self.coordinator.stop().await
    }

    fn spawn(&self, options: &EmbeddedOptions, index: u32) -> anyhow::Result<Child> {
        let program = std::env::current_exe().context("find this program")?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as u32;
        let threads = options.threads.unwrap_or_else(|| cores.div_ceil(options.workers.max(1)).max(1));
        let mut command = Command::new(program);
        command.arg("worker").arg("--join").arg(self.coordinator.address.to_string());
        command.arg("--threads").arg(threads.to_string()).arg("--memory").arg(options.memory_bytes.to_string());
        // Below the run's own folder: whatever a killed worker leaves goes with it.
        command.arg("--spill").arg(self._state.path());
        if options.paranoid {
            command.arg("--paranoid");
        }
        if !options.kernel_levels.is_empty() {
            command.arg("--kernel-level").arg(&options.kernel_levels[index as usize % options.kernel_levels.len()]);
        }
        command.env(SECRET_VARIABLE, self.secret.expose());
        command.env(STORES_VARIABLE, serde_json::to_string(&options.stores)?);
        // Ctrl-C in a terminal reaches this process alone: it ends the workers when the job has ended.
        command.process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true);
        command.spawn().context("start a worker process")
    }
}
