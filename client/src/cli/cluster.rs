//! What can be typed about a cluster: its coordinator, its workers, and where it is.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use sheaf_runtime::memory::parse_size;

use super::{Format, Switch, duration, pair};

/// Which cluster a command talks to.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Cluster")]
pub struct ConnectArgs {
    /// Coordinator [env: SHEAF_ADDR] [default: that of the context]
    #[arg(long, value_name = "HOST:PORT")]
    pub addr: Option<String>,
    /// Context to use, see `sheaf context list` [env: SHEAF_CONTEXT] [default: the current one]
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// The proofs.
    #[command(flatten)]
    pub proof: ProofArgs,
}

/// What every question to a cluster takes: how the answer is printed, and whom to ask.
#[derive(Debug, Args)]
pub struct AskArgs {
    /// Output format
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Format,
    /// The cluster.
    #[command(flatten)]
    pub connect: ConnectArgs,
}

/// By what a program proves who it is.
#[derive(Debug, Clone, Default, Args)]
pub struct ProofArgs {
    /// File with the secret of a cluster on loopback [env: SHEAF_SECRET_FILE, or the secret itself in SHEAF_SECRET]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["tls_ca", "tls_cert", "tls_key"])]
    pub secret_file: Option<PathBuf>,
    /// The certificates.
    #[command(flatten)]
    pub tls: TlsArgs,
}

/// Certificates; all three or none.
#[derive(Debug, Clone, Default, Args)]
pub struct TlsArgs {
    /// Certificate of the cluster's authority [env: SHEAF_TLS_CA]
    #[arg(long, value_name = "FILE", requires_all = ["tls_cert", "tls_key"])]
    pub tls_ca: Option<PathBuf>,
    /// Own certificate [env: SHEAF_TLS_CERT]
    #[arg(long, value_name = "FILE", requires_all = ["tls_ca", "tls_key"])]
    pub tls_cert: Option<PathBuf>,
    /// Own key; only its owner may read it [env: SHEAF_TLS_KEY]
    #[arg(long, value_name = "FILE", requires_all = ["tls_ca", "tls_cert"])]
    pub tls_key: Option<PathBuf>,
}

/// `sheaf coordinator`.
#[derive(Debug, Args)]
pub struct CoordinatorArgs {
    /// Where it listens; port 0 takes a free one. Addresses other than loopback need TLS
    #[arg(long, default_value = "127.0.0.1:7433", value_name = "ADDR:PORT")]
    pub listen: SocketAddr,
    /// Folder of the durable log; made if it is not there
    #[arg(long, value_name = "DIR")]
    pub state: PathBuf,
    /// Folder or URL of the store: registry, artifacts, job areas
    #[arg(long, env = "SHEAF_STORE", value_name = "LOCATION")]
    pub store: String,
    /// Folder or s3:// prefix that jobs may read and write; can be given several times
    #[arg(long, value_name = "LOCATION")]
    pub allow: Vec<String>,
    /// Jobs that run at the same time
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000), value_name = "N")]
    pub running_jobs: u32,
    /// Silence after which a worker is lost
    #[arg(long, default_value = "10s", value_parser = duration, value_name = "TIME")]
    pub worker_timeout: Duration,
    /// Help for late workers: others compute what they owe as well, and slow ones get less to do. Off: every worker keeps
    /// its full share, and a step waits for the slowest
    #[arg(long, value_enum, default_value_t = Switch::On, hide_possible_values = true, value_name = "on|off")]
    pub speculation: Switch,
    /// Time between checkpoints: what a lost coordinator costs at most, or one step if that takes longer
    #[arg(long, default_value = "5s", value_parser = duration, value_name = "TIME")]
    pub checkpoint_every: Duration,
    /// Share of a namespace in the running jobs, relative to others (1 unless given); can be given several times
    #[arg(long, value_name = "NAMESPACE=WEIGHT", value_parser = weight)]
    pub namespace_weight: Vec<(String, u32)>,
    /// Jobs of a namespace that run at the same time; can be given several times
    #[arg(long, value_name = "NAMESPACE=N", value_parser = limit)]
    pub namespace_limit: Vec<(String, usize)>,
    /// Writes HOST:PORT here once it listens
    #[arg(long, value_name = "FILE")]
    pub address_file: Option<PathBuf>,
    /// Shows metrics, liveness and readiness here; loopback only
    #[arg(long, value_name = "ADDR:PORT")]
    pub admin: Option<SocketAddr>,
    /// Writes the HOST:PORT of `--admin` here once it listens
    #[arg(long, value_name = "FILE", requires = "admin")]
    pub admin_file: Option<PathBuf>,
    /// The certificates.
    #[command(flatten)]
    pub tls: TlsArgs,
    /// Folder of the authority with its key, see `sheaf pki init`: workers with a join token get certificates here
    #[arg(long, value_name = "DIR", requires = "tls_ca")]
    pub pki: Option<PathBuf>,
}

/// `sheaf worker`.
#[derive(Debug, Args)]
pub struct WorkerArgs {
    /// Coordinator
    #[arg(long, value_name = "HOST:PORT")]
    pub join: String,
    /// Threads [default: all cores]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Memory of the process, such as 512MiB; shards that do not fit are spilled to disk
    #[arg(long, default_value = "1GiB", value_parser = parse_size, value_name = "SIZE")]
    pub memory: u64,
    /// Folder for spilled shards [default: the system's temporary folder]
    #[arg(long, value_name = "DIR")]
    pub spill: Option<PathBuf>,
    /// What people call it [default: the machine's name]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Folder or s3:// prefix that it may read and write; can be given several times [default on the coordinator's
    /// own machine: what the coordinator allows]
    #[arg(long, value_name = "LOCATION")]
    pub allow: Vec<String>,
    /// Ends after this time without a coordinator [default: tries for ever]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub give_up_after: Option<Duration>,
    /// Time to finish what is under way when asked to leave; then it is handed back
    #[arg(long, default_value = "25s", value_name = "TIME", value_parser = duration)]
    pub drain_timeout: Duration,
    /// Shows metrics, liveness and readiness here; loopback only
    #[arg(long, value_name = "ADDR:PORT")]
    pub admin: Option<SocketAddr>,
    /// Serves rows of queries to other workers here [default: a free port; on loopback unless there is TLS]
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<SocketAddr>,
    /// Host by which other workers reach this one [default: the address on the way to the coordinator]
    #[arg(long, value_name = "HOST")]
    pub advertise: Option<String>,
    /// File with a join token, see `sheaf pki token`: the worker gets a certificate for it and renews it by itself
    #[arg(long, value_name = "FILE", requires = "state", conflicts_with_all = ["secret_file", "tls_ca", "tls_cert", "tls_key"])]
    pub token_file: Option<PathBuf>,
    /// Folder for the key and certificate that a token gave; made if it is not there
    #[arg(long, value_name = "DIR", requires = "token_file")]
    pub state: Option<PathBuf>,
    /// The proofs.
    #[command(flatten)]
    pub proof: ProofArgs,
    /// Ends with this process, which must be the one that started it
    #[arg(long, hide = true, value_name = "PID")]
    pub parent: Option<u32>,
    /// Computes every partial twice and drops caches at random
    #[arg(long, hide = true)]
    pub paranoid: bool,
    /// Kernel level
    #[arg(long, hide = true)]
    pub kernel_level: Option<String>,
}

/// `sheaf cluster`.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Shows the coordinator and its workers
    #[command(after_help = "Examples:\n  sheaf cluster status\n  sheaf cluster status -o json")]
    Status(StatusArgs),
    /// Asks a worker to leave: it takes nothing new, finishes what it owes and ends
    #[command(after_help = "Examples:\n  sheaf cluster drain 3\n  sheaf cluster drain node-7 --wait --timeout 5m")]
    Drain(DrainArgs),
}

/// `sheaf cluster status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Whom it asks.
    #[command(flatten)]
    pub ask: AskArgs,
}

/// `sheaf cluster drain`.
#[derive(Debug, Args)]
pub struct DrainArgs {
    /// Number or name of the worker
    pub worker: String,
    /// Waits until it is gone
    #[arg(long)]
    pub wait: bool,
    /// Waits no longer than this, such as 5m; then exits with 7
    #[arg(long, value_name = "TIME", value_parser = duration, requires = "wait")]
    pub timeout: Option<Duration>,
    /// Whom it asks.
    #[command(flatten)]
    pub ask: AskArgs,
}

/// `sheaf context`.
#[derive(Debug, Subcommand)]
pub enum ContextCommand {
    /// Lists all contexts
    #[command(after_help = "Example:\n  sheaf context list -o json")]
    List {
        /// Output format
        #[arg(short, long, value_enum, default_value = "table")]
        output: Format,
    },
    /// Makes a context the current one
    #[command(after_help = "Example:\n  sheaf context use prod")]
    Use {
        /// Name
        name: String,
    },
    /// Adds a context, or replaces one
    #[command(
        after_help = "Examples:\n  sheaf context add prod --addr 10.0.0.5:7433 --tls-ca ca.pem --tls-cert me.pem --tls-key me.key --namespace team-a\n  sheaf context add box --addr 127.0.0.1:7433 --secret-file secret.txt"
    )]
    Add(ContextAddArgs),
    /// Removes a context
    #[command(after_help = "Example:\n  sheaf context remove old")]
    Remove {
        /// Name
        name: String,
    },
}

/// `sheaf context add`.
#[derive(Debug, Args)]
pub struct ContextAddArgs {
    /// Name
    pub name: String,
    /// Coordinator
    #[arg(long, value_name = "HOST:PORT")]
    pub addr: String,
    /// Namespace of jobs that name none
    #[arg(long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// The proofs.
    #[command(flatten)]
    pub proof: ProofArgs,
}

fn limit(text: &str) -> Result<(String, usize), String> {
    let (namespace, jobs) = pair(text)?;
    match jobs.parse() {
        Ok(jobs @ 1..=1000) => Ok((namespace, jobs)),
        _ => Err(format!("`{jobs}` is no number of jobs: a whole number from 1 to 1000")),
    }
}

fn weight(text: &str) -> Result<(String, u32), String> {
    let (namespace, weight) = pair(text)?;
    match weight.parse() {
        Ok(weight @ 1..=1_000_000) => Ok((namespace, weight)),
        _ => Err(format!("`{weight}` is no weight: a whole number from 1 to 1000000")),
    }
}
