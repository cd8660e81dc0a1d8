//! The command line: what can be typed, with examples. Values are checked here, once.

mod cluster;
mod jobs;
mod predict;
mod rows;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use sheaf_runtime::exit::Exit;
use sheaf_runtime::memory::parse_size;
use sheaf_runtime::telemetry::LogFormat;

use crate::command::pki::PkiCommand;
use crate::generate;
use crate::render::format;
pub use cluster::{
    AskArgs, ClusterCommand, ConnectArgs, ContextAddArgs, ContextCommand, CoordinatorArgs, DrainArgs, ProofArgs, StatusArgs,
    TlsArgs, WorkerArgs,
};
pub use jobs::{CancelArgs, JobsCommand, JobsListArgs, LogsArgs, RetryArgs, ShowJobArgs, SubmitArgs, WaitArgs, WatchArgs};
pub use predict::PredictArgs;
pub use rows::{AfterArgs, DataCommand, DataSchemaArgs, HeadArgs, HeadFormat, LookArgs, RowFormat, SqlArgs, Stage, TextArgs};

const EXAMPLES: &str = "\
Examples:
  sheaf demo card-fraud                          generate data, train, evaluate, publish
  sheaf demo diabetes-risk                       the same over five tables: joins, windows, aggregates
  sheaf run job.yaml                             run a job on an embedded cluster
  sheaf run job.yaml --workers 4 -o json         four worker processes, one JSON object at the end
  sheaf plan job.yaml                            what would run, and why each column is used or not
  sheaf data head data/                          the first rows of a table
  sheaf sql 'SELECT count(*) AS n FROM t' --table t=data/ --workers 2
  sheaf models list
  sheaf predict card-fraud@latest --table transactions=new/ --to scored/

A cluster by hand, on one machine:
  sheaf coordinator --state state/ --store store/ --allow data/
  sheaf worker --join 127.0.0.1:7433             as many as wanted, at any time
  sheaf submit job.yaml --watch
  sheaf jobs list

Exit codes:
  0    done
  1    failed
  2    wrong usage, or an invalid job
  3    not found
  4    denied
  5    cluster unreachable
  6    cancelled
  7    a --timeout ran out
  8    a declared limit or check was broken
  70   a coordinator's log stopped
  130  interrupted or detached

`SHEAF_LOG=info` shows the log; `SHEAF_STORE` names the store (default `.sheaf/`).";

/// Distributed data processing and training: the same model bit for bit on any number of workers.
#[derive(Debug, Parser)]
#[command(name = "sheaf", version, after_help = EXAMPLES, propagate_version = true)]
pub struct Cli {
    /// What log lines look like; processes that are started write the same
    #[arg(long, global = true, env = "SHEAF_LOG_FORMAT", default_value = "text", value_name = "FORMAT", value_parser = log_format, hide_env_values = true)]
    pub log_format: LogFormat,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs a job file on an embedded cluster: a coordinator and worker processes on this machine
    #[command(
        after_help = "Examples:\n  sheaf run job.yaml\n  sheaf run job.yaml --set as_of=2026-10-01 --table transactions=new/ --workers 4\n\nBeside training, a job may score rows (`predict: {tables: {rows: new/}, to: scored/}`), write its stages\n(`write: {prepared: out/}`), or measure and score with a model that is there (`model: card-fraud@latest`).\nIt reads and writes below its own folder and what --allow-root names."
    )]
    Run(RunArgs),
    /// Shows what a job would do: phases, SQL plan, every column with its role, rows, memory
    #[command(after_help = "Example:\n  sheaf plan job.yaml -o json")]
    Plan(PlanArgs),
    /// Scores rows with a model into Parquet files
    #[command(
        after_help = "Examples:\n  sheaf predict card-fraud@latest --table transactions=new/ --to scored/\n  sheaf predict card-fraud@3 --input prepared.parquet --to scored/ --workers 4\n  sheaf predict card-fraud@3 --input new/ --to why/ --explain=5\n\nContributions, leaves and stages are those of models of trees. Contributions are Shapley values on the scale of the\nscore (log-odds for two classes): with `base_value` they add up to it.\nWithout --workers the scoring runs in this process, without any cluster; the bits are the same."
    )]
    Predict(PredictArgs),
    /// Lists and shows models of the registry
    #[command(subcommand, after_help = "Examples:\n  sheaf models list\n  sheaf models show card-fraud@latest")]
    Models(ModelsCommand),
    /// Answers a SELECT over tables, on a cluster
    #[command(
        after_help = "Examples:\n  sheaf sql \"SELECT category, count(*) AS n FROM t GROUP BY category ORDER BY n DESC\" --table t=data/transactions --workers 2\n  sheaf sql \"SELECT * FROM t WHERE day = \\$day\" --table t=s3://bucket/t/ --set day=2026-10-01 -o csv > day.csv\n  sheaf sql --table t=data/ --table c=customers.csv --to joined.parquet < query.sql\n\nTimes are UTC. Ctrl-C cancels the statement on the cluster."
    )]
    Sql(Box<SqlArgs>),
    /// Generates data, and shows rows and columns of data
    #[command(
        subcommand,
        after_help = "Examples:\n  sheaf data generate card-fraud --rows 1000000 --out data/transactions\n  sheaf data head data/transactions\n  sheaf data schema data/transactions"
    )]
    Data(DataCommand),
    /// Generates data and runs an example on it from end to end
    #[command(after_help = datasets("Examples:\n  sheaf demo card-fraud --rows 200000\n  sheaf demo vehicle-sensors --workers 3"))]
    Demo(DemoArgs),
    /// Submits a job file to a cluster
    #[command(
        after_help = "Examples:\n  sheaf submit job.yaml --watch\n  ID=$(sheaf submit job.yaml --set as_of=2026-10-01 --key nightly-2026-10-01)\n  sheaf submit job.yaml --wait --timeout 10m -o json\n\nWithout --watch and --wait the job's id is printed and the job goes on by itself.\nThe first Ctrl-C detaches; the job goes on, and `sheaf jobs watch ID` attaches again."
    )]
    Submit(SubmitArgs),
    /// Lists, shows, watches, cancels and retries jobs of a cluster
    #[command(subcommand, after_help = "Examples:\n  sheaf jobs list --state running\n  sheaf jobs show 01KM")]
    Jobs(JobsCommand),
    /// Shows the cluster and drains its workers
    #[command(subcommand, after_help = "Examples:\n  sheaf cluster status\n  sheaf cluster drain 3 --wait")]
    Cluster(ClusterCommand),
    /// Shows the cluster on one screen, live: jobs, workers, what they spend their time on, log lines
    #[command(
        after_help = "Examples:\n  sheaf top\n  sheaf top --once -o json\n\nKeys: arrows select, tab goes from jobs to workers, c cancels, d drains (both ask first), ? shows all, q leaves."
    )]
    Top(TopArgs),
    /// Runs a coordinator in the foreground
    #[command(
        after_help = "Examples:\n  sheaf coordinator --state state/ --store store/ --allow data/\n  sheaf coordinator --listen 0.0.0.0:7433 --state /var/lib/sheaf --store s3://bucket/sheaf --allow s3://bucket/data --tls-ca ca.pem --tls-cert node.pem --tls-key node.key --pki pki/\n\nOn loopback without TLS it has a secret that it keeps in its state folder and saves as the context\n`local`: commands and workers of the same user on this machine find it, others are refused.\nCtrl-C or SIGTERM ends it; jobs go on when it is started again with the same --state."
    )]
    Coordinator(Box<CoordinatorArgs>),
    /// Runs a worker in the foreground
    #[command(
        after_help = "Examples:\n  sheaf worker --join 127.0.0.1:7433\n  sheaf worker --join 10.0.0.5:7433 --threads 16 --memory 48GiB --spill /mnt/scratch --allow s3://bucket --tls-ca ca.pem --tls-cert worker.pem --tls-key worker.key\n  sheaf worker --join c1.example.net:7433 --token-file join.token --state /var/lib/sheaf --allow s3://bucket\n\nSIGTERM drains it: it takes nothing new, finishes what it owes and ends with 0."
    )]
    Worker(Box<WorkerArgs>),
    /// Keeps the clusters that commands talk to
    #[command(subcommand, after_help = "Examples:\n  sheaf context list\n  sheaf context use prod")]
    Context(ContextCommand),
    /// Prints the JSON Schema of job files
    #[command(subcommand, after_help = "Example:\n  sheaf schema job > job.schema.json")]
    Schema(SchemaCommand),
    /// Prints a completion script for a shell
    #[command(
        after_help = "Examples:\n  sheaf completions bash > ~/.local/share/bash-completion/completions/sheaf\n  sheaf completions zsh > ~/.zfunc/_sheaf\n  sheaf completions fish > ~/.config/fish/completions/sheaf.fish"
    )]
    Completions {
        /// Shell
        shell: clap_complete::Shell,
    },
    /// Writes manual pages: one for each command into a folder, or that of `sheaf` to standard output
    #[command(after_help = "Examples:\n  sheaf man | man -l -\n  sheaf man --dir ~/.local/share/man/man1")]
    Man {
        /// Folder for the pages of all commands; made if it is not there
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Makes certificates and join tokens for a cluster of several machines
    #[command(subcommand)]
    Pki(PkiCommand),
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Tables for people.
    Table,
    /// One JSON object.
    Json,
}

/// Whether something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// It is.
    On,
    /// It is not.
    Off,
}

impl Switch {
    /// Whether it is done.
    pub fn is_on(self) -> bool {
        self == Self::On
    }
}

/// What names the job.
#[derive(Debug, Args)]
pub struct FileArgs {
    /// Job file (YAML or JSON)
    pub file: PathBuf,
    /// Changes a declared parameter
    #[arg(long, visible_alias = "param", value_name = "NAME=VALUE", value_parser = pair)]
    pub set: Vec<(String, String)>,
    /// Reads a table from another path
    #[arg(long, value_name = "NAME=PATH", value_parser = pair)]
    pub table: Vec<(String, String)>,
}

/// What a command that runs here may read beside the job file's own folder.
#[derive(Debug, Default, Args)]
pub struct RootArgs {
    /// Also allows reading below this folder (the job file's own folder always is)
    #[arg(long, value_name = "DIR")]
    pub allow_root: Vec<PathBuf>,
}

/// The embedded cluster.
#[derive(Debug, Clone, Args)]
pub struct ClusterArgs {
    /// Memory of each worker process, such as 512MiB; shards that do not fit are spilled to disk
    #[arg(long, default_value = "1GiB", value_parser = parse_size, value_name = "SIZE")]
    pub memory: u64,
    /// Threads of each worker [default: this machine's, shared among the workers]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Help for late workers: others compute what they owe as well, and slow ones get less to do. Off: every worker keeps
    /// its full share, and a step waits for the slowest
    #[arg(long, value_enum, default_value_t = Switch::On, hide_possible_values = true, value_name = "on|off")]
    pub speculation: Switch,
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

/// What every command takes that can compute on an embedded cluster.
#[derive(Debug, Args)]
pub struct LocalArgs {
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

/// What `run` and `demo` share: they always compute on an embedded cluster.
#[derive(Debug, Args)]
pub struct EmbeddedArgs {
    /// Worker processes
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub workers: u32,
    /// The rest.
    #[command(flatten)]
    pub local: LocalArgs,
}

/// `sheaf top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Prints one snapshot and ends
    #[arg(long)]
    pub once: bool,
    /// Output format of the snapshot
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Format,
    /// The cluster.
    #[command(flatten)]
    pub connect: ConnectArgs,
}

/// `sheaf run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The job.
    #[command(flatten)]
    pub file: FileArgs,
    /// What may be read.
    #[command(flatten)]
    pub roots: RootArgs,
    /// The cluster.
    #[command(flatten)]
    pub embedded: EmbeddedArgs,
    /// Gives the job up after this time, such as 90, 15m or 2h (seconds without a unit)
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub deadline: Option<Duration>,
}

/// `sheaf plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The job.
    #[command(flatten)]
    pub file: FileArgs,
    /// What may be read.
    #[command(flatten)]
    pub roots: RootArgs,
    /// The store.
    #[command(flatten)]
    pub store: StoreArgs,
    /// Output format
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Format,
}

/// `sheaf models`.
#[derive(Debug, Subcommand)]
pub enum ModelsCommand {
    /// Lists all models
    #[command(after_help = "Example:\n  sheaf models list -o json")]
    List(ListArgs),
    /// Shows one model: metrics, coefficients, how it came to be
    #[command(after_help = "Examples:\n  sheaf models show card-fraud@latest\n  sheaf models show card-fraud@3 -o json")]
    Show(ShowArgs),
    /// Writes a model as a file that other runtimes read
    #[command(
        after_help = "The input is one table of features; `sheaf.features` in the file's metadata names its columns, and the codes of categories.\n\nExample:\n  sheaf models export card-fraud@latest --format onnx --out model.onnx"
    )]
    Export(ExportArgs),
}

/// `sheaf models export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// NAME@VERSION, NAME@ALIAS, NAME@latest or a job id
    pub model: String,
    /// Format of the file
    #[arg(long, default_value = "onnx", value_parser = ["onnx"])]
    pub format: String,
    /// File to write; one that is there is replaced
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// The store.
    #[command(flatten)]
    pub store: StoreArgs,
    /// Output format
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Format,
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

/// `sheaf data generate`.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// Dataset
    #[arg(value_parser = dataset_names())]
    pub name: String,
    /// Number of transactions, patients or readings [default: the dataset's own, below]
    #[arg(long, value_name = "N")]
    pub rows: Option<u64>,
    /// Seed of all values
    #[arg(long, default_value_t = 7)]
    pub seed: u64,
    /// Folder for the files; several tables get a folder each in it
    #[arg(long, visible_alias = "to", value_name = "DIR")]
    pub out: PathBuf,
    /// Number of Parquet files of each table
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
    /// Demo
    #[arg(value_parser = dataset_names())]
    pub name: String,
    /// Number of transactions, patients or readings to generate [default: the demo's own, below]
    #[arg(long, value_name = "N")]
    pub rows: Option<u64>,
    /// Seed of the data
    #[arg(long, default_value_t = 7)]
    pub seed: u64,
    /// Folder for the demo's data and job file
    #[arg(long, default_value = "sheaf-demo", value_name = "DIR")]
    pub dir: PathBuf,
    /// The cluster.
    #[command(flatten)]
    pub embedded: EmbeddedArgs,
}

/// `sheaf schema`.
#[derive(Debug, Subcommand)]
pub enum SchemaCommand {
    /// The JSON Schema of job files, for editors
    #[command(after_help = "Example:\n  sheaf schema job > job.schema.json")]
    Job,
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

/// What can be generated, for values, completion and errors.
fn dataset_names() -> clap::builder::PossibleValuesParser {
    let value = |d: &generate::Dataset| clap::builder::PossibleValue::new(d.name).help(d.about);
    generate::DATASETS.iter().map(value).collect::<Vec<_>>().into()
}

/// `examples`, then the usual size of each dataset.
fn datasets(examples: &str) -> String {
    let line = |d: &generate::Dataset| format!("\n  {:<16} {:>9} {}", d.name, format::count(d.rows), d.counts);
    let sizes: String = generate::DATASETS.iter().map(line).collect();
    format!("Usual sizes:{sizes}\n\n{examples}")
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    text.parse()
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is not NAME=VALUE"))?;
    if name.is_empty() {
        return Err(format!("`{text}` has no name before the equals sign"));
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// A span of time: a number with `ms`, `s`, `m`, `h` or `d`; seconds without a unit.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let wrong = || format!("`{text}` is no span of time; write 90, 500ms, 30s, 15m, 2h or 7d");
    let number: f64 = digits.trim().parse().map_err(|_| wrong())?;
    let unit = match &text[digits.len()..] {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        _ => return Err(wrong()),
    };
    // A century is more than anybody waits, and fits every clock.
    let seconds = number * unit;
    if !(seconds > 0.0 && seconds <= 3.2e9) {
        return Err(wrong());
    }
    Ok(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        fn walk(command: &clap::Command, path: &str, mute: &mut Vec<String>) {
            let path = format!("{path} {}", command.get_name());
            let shown = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            if !command.is_hide_set() && !shown.contains("Example") {
                mute.push(path.clone());
            }
            command.get_subcommands().for_each(|sub| walk(sub, &path, mute));
        }
        let mut mute = Vec::new();
        walk(&Cli::command(), "", &mut mute);
        assert!(mute.is_empty(), "no example in the help of: {mute:?}");
    }

    #[test]
    fn spans_of_time() {
        let read = |text: &str| duration(text).map(|d| d.as_millis());
        assert_eq!(read("90"), Ok(90_000));
        assert_eq!(read("500ms"), Ok(500));
        assert_eq!(read("1.5h"), Ok(5_400_000));
        assert_eq!(read("7d"), Ok(604_800_000));
        for bad in ["", "h", "-1s", "0", "1w", "1e99d", "NaN"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
