//! What can be typed about jobs of a cluster.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::{AskArgs, ConnectArgs, FileArgs, Format, duration};

/// How long to stay with a job.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct WaitArgs {
    /// Stays no longer than this, such as 10m; then exits with 7, and the job goes on
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub timeout: Option<Duration>,
}

/// `sheaf submit`.
#[derive(Debug, Args)]
pub struct SubmitArgs {
    /// The job.
    #[command(flatten)]
    pub file: FileArgs,
    /// Replaces the job's name
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Higher runs first
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_name = "N")]
    pub priority: i32,
    /// Whose share the job counts against [env: SHEAF_NAMESPACE] [default: that of the context, or `default`]
    #[arg(long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Gives the job up after this time, such as 15m or 2h (seconds without a unit)
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub deadline: Option<Duration>,
    /// Submits at most once under this key: again with it gives the first job
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// Shows progress until the job ends; the exit code says how
    #[arg(long)]
    pub watch: bool,
    /// Waits without progress until the job ends; the exit code says how
    #[arg(long, conflicts_with = "watch")]
    pub wait: bool,
    /// How long.
    #[command(flatten)]
    pub patience: WaitArgs,
    /// Neither estimate nor progress
    #[arg(short, long)]
    pub quiet: bool,
    /// Whom it asks.
    #[command(flatten)]
    pub ask: AskArgs,
}

/// `sheaf jobs`.
#[derive(Debug, Subcommand)]
pub enum JobsCommand {
    /// Lists jobs, newest first
    #[command(after_help = "Examples:\n  sheaf jobs list\n  sheaf jobs list --state running --namespace team-a -o json")]
    List(JobsListArgs),
    /// Explains a job: state, phases, where time went, what went wrong, the result
    #[command(after_help = "Examples:\n  sheaf jobs show 01KM3F\n  sheaf jobs show 01KM3F -o json")]
    Show(ShowJobArgs),
    /// Shows a job's progress until it ends; the exit code says how
    #[command(after_help = "Examples:\n  sheaf jobs watch 01KM3F\n  sheaf jobs watch 01KM3F --timeout 10m -o json")]
    Watch(WatchArgs),
    /// Prints a job's log lines: losses, joins, tries, steps, warnings
    #[command(
        after_help = "Examples:\n  sheaf jobs logs 01KM3F\n  sheaf jobs logs 01KM3F -f --level warn\n  sheaf jobs logs 01KM3F -o json    one JSON object a line"
    )]
    Logs(LogsArgs),
    /// Cancels a job
    #[command(after_help = "Examples:\n  sheaf jobs cancel 01KM3F\n  sheaf jobs cancel 01KM3F --wait")]
    Cancel(CancelArgs),
    /// Submits the order of a failed or cancelled job again, as a new job
    #[command(after_help = "Example:\n  sheaf jobs retry 01KM3F --watch")]
    Retry(RetryArgs),
}

/// `sheaf jobs list`.
#[derive(Debug, Args)]
pub struct JobsListArgs {
    /// Only jobs in this state
    #[arg(long, value_parser = ["queued", "running", "succeeded", "failed", "cancelled"])]
    pub state: Option<String>,
    /// Only jobs of this namespace
    #[arg(long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// At most so many; 0: all
    #[arg(long, default_value_t = 50, value_name = "N")]
    pub limit: u32,
    /// Whom it asks.
    #[command(flatten)]
    pub ask: AskArgs,
}

/// `sheaf jobs show`.
#[derive(Debug, Args)]
pub struct ShowJobArgs {
    /// Id of the job, or the beginning of it
    pub job: String,
    /// Whom it asks.
    #[command(flatten)]
    pub ask: AskArgs,
}

/// `sheaf jobs watch`.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// Id of the job, or the beginning of it
    pub job: String,
    /// How long.
    #[command(flatten)]
    pub patience: WaitArgs,
    /// No progress
    #[arg(short, long)]
    pub quiet: bool,
    /// Whom it asks.
    #[command(flatten)]
    pub ask: AskArgs,
}

/// `sheaf jobs logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// Id of the job, or the beginning of it
    pub job: String,
    /// Goes on until the job ends
    #[arg(short, long)]
    pub follow: bool,
    /// Only lines of this level or above
    #[arg(long, default_value = "debug", value_parser = ["debug", "info", "warn", "error"])]
    pub level: String,
    /// Only the newest lines of what there is; 0: all
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub tail: u32,
    /// Output format; `json` prints one object a line
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Format,
    /// The cluster.
    #[command(flatten)]
    pub connect: ConnectArgs,
}

/// `sheaf jobs cancel`.
#[derive(Debug, Args)]
pub struct CancelArgs {
    /// Id of the job, or the beginning of it
    pub job: String,
    /// Waits until it has ended
    #[arg(long)]
    pub wait: bool,
    /// How long.
    #[command(flatten)]
    pub patience: WaitArgs,
    /// Whom it asks.
    #[command(flatten)]
    pub ask: AskArgs,
}

/// `sheaf jobs retry`.
#[derive(Debug, Args)]
pub struct RetryArgs {
    /// Id of the job, or the beginning of it
    pub job: String,
    /// Retries at most once under this key
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// Shows progress until the job ends; the exit code says how
    #[arg(long)]
    pub watch: bool,
    /// Neither estimate nor progress
    #[arg(short, long)]
    pub quiet: bool,
    /// Whom it asks.
    #[command(flatten)]
    pub ask: AskArgs,
}
