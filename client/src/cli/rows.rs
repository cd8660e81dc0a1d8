//! What can be typed about rows: questions in SQL, and a look at the rows and columns of data.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use sheaf_runtime::memory::parse_size;

use super::{ClusterArgs, ConnectArgs, Format, GenerateArgs, RootArgs, StoreArgs, datasets, pair};

/// How rows are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RowFormat {
    /// For people: cut to the width of the terminal
    Table,
    /// One JSON object a line
    Json,
    /// A header and a line a row (RFC 4180); null is an empty field
    Csv,
    /// Apache Parquet, into a file or a pipe
    Parquet,
}

/// How delimited text is written, for all such tables of the command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Delimited text")]
pub struct TextArgs {
    /// Separates fields; one ASCII character, `\t` for a tab
    #[arg(long, default_value = ",", value_parser = delimiter, hide_default_value = true, value_name = "CHAR")]
    pub delimiter: char,
    /// The first line holds no names: columns are column_1, column_2 …
    #[arg(long)]
    pub no_header: bool,
    /// Text that stands for null, beside the empty field
    #[arg(long, value_name = "TEXT")]
    pub null: Option<String>,
}

/// `sheaf sql`.
#[derive(Debug, Args)]
pub struct SqlArgs {
    /// One SELECT; absent or `-`: it is read from standard input
    pub statement: Option<String>,
    /// Table that the statement sees: a file, folder, glob or URL; can be given several times
    #[arg(long, value_name = "NAME=PATH", value_parser = pair)]
    pub table: Vec<(String, String)>,
    /// Value of `$NAME` in the statement; bound, never spliced
    #[arg(long, visible_alias = "param", value_name = "NAME=VALUE", value_parser = pair)]
    pub set: Vec<(String, String)>,
    /// What `now()`, `$now` and the like mean, such as 2026-11-01T06:00:00Z [default: the time of asking]
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub now: Option<i64>,
    /// Output format [default: by the ending of --to, else table]
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub output: Option<RowFormat>,
    /// File to write; it appears once all rows are in it
    #[arg(long, value_name = "FILE", conflicts_with = "explain")]
    pub to: Option<PathBuf>,
    /// At most so many rows; 0: all [default: 1000 for a table, else all]
    #[arg(long, value_name = "ROWS")]
    pub limit: Option<u64>,
    /// Ends with 8 where the answer has more bytes than this, such as 100MiB
    #[arg(long, value_parser = parse_size, value_name = "SIZE")]
    pub max_bytes: Option<u64>,
    /// Shows how the statement would be answered, and reads no row
    #[arg(long)]
    pub explain: bool,
    /// Partitions of exchanges
    #[arg(long, hide = true, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub target_partitions: Option<u32>,
    /// Neither progress nor warnings
    #[arg(short, long)]
    pub quiet: bool,
    /// The text of tables.
    #[command(flatten)]
    pub text: TextArgs,
    /// Worker processes of a cluster that is started for the statement; without it a running cluster is asked
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=256), conflicts_with_all = ["addr", "context", "secret_file", "tls_ca"], help_heading = "Embedded cluster")]
    pub workers: Option<u32>,
    /// Also allows reading below this folder (given paths and the current folder always are)
    #[arg(long, value_name = "DIR", requires = "workers", help_heading = "Embedded cluster")]
    pub allow_root: Vec<PathBuf>,
    /// The embedded cluster.
    #[command(flatten, next_help_heading = "Embedded cluster")]
    pub cluster: ClusterArgs,
    /// Its store.
    #[command(flatten)]
    pub store: StoreArgs,
    /// The cluster.
    #[command(flatten)]
    pub connect: ConnectArgs,
}

/// `sheaf data`.
#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// Writes a seeded dataset as Parquet and CSV: equal columns for a seed, whatever the threads and files
    #[command(
        after_help = datasets("Examples:\n  sheaf data generate card-fraud --rows 1000000 --seed 7 --out data/transactions\n  sheaf data generate diabetes-risk --rows 50000 --out data")
    )]
    Generate(GenerateArgs),
    /// Shows the first rows of data, or of what a job makes of it; no cluster is needed
    #[command(
        after_help = "Examples:\n  sheaf data head data/transactions\n  sheaf data head 'logs/2026-*/*.csv' -n 3 --delimiter ';'\n  sheaf data head job.yaml --table customers\n  sheaf data head job.yaml --after prepare -o json\n  sheaf data head job.yaml --after features -n 20\n\nRows after `features` are those after `prepare`, as write.features would write them. A job fits its steps over\nall its training rows; here they are fitted over the training rows among the first --fit-rows prepared rows, so\nthat fitted values may differ a little from those of the job."
    )]
    Head(HeadArgs),
    /// Shows the columns of data with their types, and its files, rows and bytes, or the columns of what a job makes of it;
    /// no cluster is needed
    #[command(
        after_help = "Examples:\n  sheaf data schema data/transactions\n  sheaf data schema job.yaml --table customers -o json\n  sheaf data schema job.yaml --after prepare\n  sheaf data schema job.yaml --after features -o json\n\nAfter `prepare` no row is read. After `features` steps are fitted over the training rows among the first\n--fit-rows prepared rows: a category that is none of theirs has no slot here, though it may have one in the job."
    )]
    Schema(DataSchemaArgs),
}

/// What data is looked at.
#[derive(Debug, Args)]
pub struct LookArgs {
    /// File, folder, glob or URL of data, or a job file
    pub path: String,
    /// Table of the job file [default: its only one]
    #[arg(long, value_name = "NAME")]
    pub table: Option<String>,
    /// Changes a declared parameter of the job file
    #[arg(long, visible_alias = "param", value_name = "NAME=VALUE", value_parser = pair)]
    pub set: Vec<(String, String)>,
    /// What may be read.
    #[command(flatten)]
    pub roots: RootArgs,
    /// The text.
    #[command(flatten)]
    pub text: TextArgs,
}

/// `sheaf data head`.
#[derive(Debug, Args)]
pub struct HeadArgs {
    /// The data.
    #[command(flatten)]
    pub look: LookArgs,
    /// Rows
    #[arg(short = 'n', long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000_000), value_name = "N")]
    pub rows: u32,
    /// The stage.
    #[command(flatten)]
    pub after: AfterArgs,
    /// Output format
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    pub output: HeadFormat,
}

/// What a job makes of its data.
#[derive(Debug, Args)]
pub struct AfterArgs {
    /// What a job file makes of its data is looked at: that after this stage
    #[arg(id = "after", long = "after", value_enum, conflicts_with = "table", value_name = "STAGE")]
    pub stage: Option<Stage>,
    /// With --after features: prepared rows over whose training rows steps are fitted; 0: all [default: 100000]
    #[arg(long, value_name = "ROWS", requires = "after")]
    pub fit_rows: Option<u64>,
}

/// Stages of a job that can be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Stage {
    /// The prepared rows
    Prepare,
    /// The feature matrix: key, target and weight, then what learners see of each row
    Features,
}

/// How a few rows are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum HeadFormat {
    /// For people: cut to the width of the terminal
    Table,
    /// One JSON object a line
    Json,
    /// A header and a line a row
    Csv,
}

/// `sheaf data schema`.
#[derive(Debug, Args)]
pub struct DataSchemaArgs {
    /// The data.
    #[command(flatten)]
    pub look: LookArgs,
    /// The stage.
    #[command(flatten)]
    pub after: AfterArgs,
    /// Output format
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Format,
}

/// Nanoseconds since 1970 of a time with its zone.
fn time(text: &str) -> Result<i64, String> {
    let wrong = || format!("`{text}` is no time: write it as 2026-11-01T06:00:00Z, between 1678 and 2261");
    let parsed = chrono::DateTime::parse_from_rfc3339(text).map_err(|_| wrong())?;
    parsed.timestamp_nanos_opt().ok_or_else(wrong)
}

fn delimiter(text: &str) -> Result<char, String> {
    let text = if text == "\\t" { "\t" } else { text };
    match text.as_bytes() {
        [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\n' | b'\r') => Ok(char::from(*byte)),
        _ => Err(format!("`{text}` is no delimiter: one ASCII character that is neither a quote nor a line end")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(time("1970-01-01T00:00:01.5Z"), Ok(1_500_000_000));
        assert_eq!(time("1970-01-01T02:00:00+02:00"), Ok(0));
        for bad in ["", "now", "2026-11-01", "2026-11-01T06:00:00", "9999-01-01T00:00:00Z"] {
            assert!(time(bad).is_err_and(|e| e.contains("is no time: write it as")), "{bad}");
        }
    }

    #[test]
    fn delimiters() {
        assert_eq!(delimiter(";"), Ok(';'));
        assert_eq!(delimiter("\\t"), Ok('\t'));
        for bad in ["", ";;", "ä", "\"", "\n"] {
            assert!(delimiter(bad).is_err(), "{bad}");
        }
    }
}
