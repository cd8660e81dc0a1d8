//! The command line: what can be typed, with examples. Values are checked here, once.

use std::path::PathBuf;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use sheaf_runtime::exit::Exit;
use sheaf_runtime::memory::parse_size;

const EXAMPLES: &str = "\
Examples:
  sheaf demo card-fraud                          generate data, train, evaluate, publish
  sheaf run job.yaml                             run a job on an embedded cluster
  sheaf run job.yaml --workers 4 -o json         four worker processes, one JSON object at the end
  sheaf plan job.yaml                            what would run, and why each column is used or not
  sheaf models list
  sheaf predict card-fraud@latest --table transactions=new/ --to scored/

Exit codes: 0 done, 1 failed, 2 usage or invalid job, 3 not found, 4 denied, 5 cluster unreachable,
6 cancelled, 7 timeout of --wait, 8 a declared limit or check was broken, 130 interrupted.
`SHEAF_LOG=info` shows the log; `SHEAF_STORE` names the store (default `.sheaf/`).";

/// Distributed data processing and training: the same model bit for bit on any number of workers.
#[derive(Debug, Parser)]
#[command(name = "sheaf", version, after_help = EXAMPLES, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs a job file on an embedded cluster: a coordinator and worker processes on this machine
    #[command(
        after_help = "Examples:\n  sheaf run job.yaml\n  sheaf run job.yaml --set as_of=2026-10-01 --table transactions=new/ --workers 4"
    )]
    Run(RunArgs),
    /// Shows what a job would do: phases, SQL plan, every column with its role, rows, memory
    #[command(after_help = "Example:\n  sheaf plan job.yaml -o json")]
    Plan(PlanArgs),
    /// Scores rows with a model into Parquet files
    #[command(
        after_help = "Examples:\n  sheaf predict card-fraud@latest --table transactions=new/ --to scored/\n  sheaf predict card-fraud@3 --input prepared.parquet --to scored/ --workers 4\n\nWithout --workers the scoring runs in this process, without any cluster; the bits are the same."
    )]
    Predict(PredictArgs),
    /// Lists and shows models of the registry
    #[command(subcommand)]
    Models(ModelsCommand),
    /// Generates data
    #[command(subcommand)]
    Data(DataCommand),
    /// Generates data and runs an example on it from end to end
    #[command(after_help = "Example:\n  sheaf demo card-fraud --rows 200000")]
    Demo(DemoArgs),
    /// Prints the JSON Schema of job files
    #[command(subcommand)]
    Schema(SchemaCommand),
    /// Runs a worker process (started by `sheaf run`)
    #[command(hide = true)]
    Worker(WorkerArgs),
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Tables for people.
    Table,
    /// One JSON object.
    Json,
}

/// What names the job.
#[derive(Debug, Args)]
pub struct FileArgs {
    /// Job file (YAML or JSON)
    pub file: PathBuf,
    /// Changes a declared parameter
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub set: Vec<(String, String)>,
    /// Reads a table from another path
    #[arg(long, value_name = "NAME=PATH", value_parser = pair)]
    pub table: Vec<(String, String)>,
    /// Also allows reading below this folder (the job file's own folder always is)
    #[arg(long, value_name = "DIR")]
    pub allow_root: Vec<PathBuf>,
}

/// The embedded cluster.
#[derive(Debug, Clone, Args)]
pub struct ClusterArgs {
    /// Memory for cached shards of each worker, such as 512MiB; beyond it shards are spilled to disk
    #[arg(long, default_value = "1GiB", value_parser = parse_size, value_name = "SIZE")]
    pub memory: u64,
    /// Threads of each worker [default: this machine's, shared among the workers]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Computes every partial twice and drops caches at random: slow, and fails if a bit differs
    #[arg(long, hide = true)]
    pub paranoid: bool,
    /// Kernel levels of the workers in turn, such as sse2,avx2,avx512
    #[arg(long, hide = true, value_delimiter = ',')]
    pub kernel_levels: Vec<String>,
    /// Writes the ids of the worker processes here
    #[arg(long, hide = true)]
    pub pid_file: Option<PathBuf>,
}

/// Where models and job areas are kept.
#[derive(Debug, Clone, Args)]
pub struct StoreArgs {
    /// Folder or URL of the store: registry, artifacts, job areas
    #[arg(long, env = "SHEAF_STORE", default_value = ".sheaf", value_name = "URL")]
    pub store: String,
}

/// `sheaf run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The job.
    #[command(flatten)]
    pub file: FileArgs,
    /// Worker processes
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub workers: u32,
    /// The cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// The store.
    #[command(flatten)]
    pub store: StoreArgs,
    /// Output format
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Format,
    /// Gives the job up after so many seconds
    #[arg(long, value_name = "SECONDS")]
    pub deadline: Option<u64>,
    /// No progress
    #[arg(short, long)]
    pub quiet: bool,
}

/// `sheaf plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The job.
    #[command(flatten)]
    pub file: FileArgs,
    /// The store.
    #[command(flatten)]
    pub store: StoreArgs,
    /// Output format
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Format,
}

/// `sheaf predict`.
#[derive(Debug, Args)]
pub struct PredictArgs {
    /// NAME@VERSION, NAME@ALIAS, NAME@latest or a job id
    pub model: String,
    /// Replaces a table of the model; its own `prepare` runs again
    #[arg(long, value_name = "NAME=PATH", value_parser = pair, conflicts_with = "input")]
    pub table: Vec<(String, String)>,
    /// Rows that are prepared already (file, folder or glob): the model's `prepare` is skipped
    #[arg(long, value_name = "PATH")]
    pub input: Option<String>,
    /// Changes a parameter of the model's job
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub set: Vec<(String, String)>,
    /// Prepared columns to carry along
    #[arg(long, value_delimiter = ',', value_name = "COLUMNS")]
    pub keep: Vec<String>,
    /// Folder to write; replaced only if the same model's predictions are in it
    #[arg(long, value_name = "DIR")]
    pub to: String,
    /// Worker processes; without it the scoring runs in this process
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub workers: Option<u32>,
    /// Also allows reading below this folder (given paths and the current folder always are)
    #[arg(long, value_name = "DIR")]
    pub allow_root: Vec<PathBuf>,
    /// The cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// The store.
    #[command(flatten)]
    pub store: StoreArgs,
    /// Output format
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Format,
    /// No progress
    #[arg(short, long)]
    pub quiet: bool,
}

/// `sheaf models`.
#[derive(Debug, Subcommand)]
pub enum ModelsCommand {
    /// Lists all models
    List(ListArgs),
    /// Shows one model: metrics, coefficients, how it came to be
    #[command(after_help = "Examples:\n  sheaf models show card-fraud@latest\n  sheaf models show card-fraud@3 -o json")]
    Show(ShowArgs),
}

/// `sheaf models list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// The store.
    #[command(flatten)]
    pub store: StoreArgs,
    /// Output format
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Format,
}

/// `sheaf models show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// NAME@VERSION, NAME@ALIAS, NAME@latest or a job id
    pub model: String,
    /// The store.
    #[command(flatten)]
    pub store: StoreArgs,
    /// Output format
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Format,
}

/// `sheaf data`.
#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// Writes a seeded dataset as Parquet: equal columns for a seed, whatever the threads and files
    #[command(after_help = "Example:\n  sheaf data generate card-fraud --rows 1000000 --seed 7 --out data/transactions")]
    Generate(GenerateArgs),
}

/// `sheaf data generate`.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// Dataset; `card-fraud`
    pub name: String,
    /// Rows
    #[arg(long, default_value_t = 1_000_000)]
    pub rows: u64,
    /// Seed of all values
    #[arg(long, default_value_t = 7)]
    pub seed: u64,
    /// Folder for the files
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Number of files
    #[arg(long)]
    pub files: Option<u32>,
    /// Threads; 0: all
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// No progress
    #[arg(short, long)]
    pub quiet: bool,
}

/// `sheaf demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Demo; `card-fraud`
    #[arg(value_parser = ["card-fraud"])]
    pub name: String,
    /// Rows to generate
    #[arg(long, default_value_t = 1_000_000)]
    pub rows: u64,
    /// Seed of the data
    #[arg(long, default_value_t = 7)]
    pub seed: u64,
    /// Folder for the demo's data and job file
    #[arg(long, default_value = "sheaf-demo", value_name = "DIR")]
    pub dir: PathBuf,
    /// Worker processes
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub workers: u32,
    /// The cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// The store.
    #[command(flatten)]
    pub store: StoreArgs,
    /// Output format
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Format,
    /// No progress
    #[arg(short, long)]
    pub quiet: bool,
}

/// `sheaf schema`.
#[derive(Debug, Subcommand)]
pub enum SchemaCommand {
    /// The JSON Schema of job files, for editors
    Job,
}

/// `sheaf worker`.
#[derive(Debug, Args)]
pub struct WorkerArgs {
    /// Coordinator
    #[arg(long, value_name = "HOST:PORT")]
    pub join: String,
    /// Threads
    #[arg(long, default_value_t = 1)]
    pub threads: u32,
    /// Memory for cached shards
    #[arg(long, default_value = "1GiB", value_parser = parse_size)]
    pub memory: u64,
    /// Every partial twice
    #[arg(long)]
    pub paranoid: bool,
    /// Folder for spilled shards
    #[arg(long)]
    pub spill: Option<PathBuf>,
    /// Kernel level
    #[arg(long)]
    pub kernel_level: Option<String>,
}

/// Reads the arguments; help and errors are printed here.
pub fn parse() -> Result<Cli, Exit> {
    let matches = Cli::command().try_get_matches();
    matches.and_then(|m| Cli::from_arg_matches(&m)).map_err(|error| {
        // Nothing can be done about a closed terminal.
        let _ = error.print();
        if error.use_stderr() { Exit::Usage } else { Exit::Done }
    })
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is not NAME=VALUE"))?;
    if name.is_empty() {
        return Err(format!("`{text}` has no name before the equals sign"));
    }
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_is_sound() {
        Cli::command().debug_assert();
    }
}
