//! `sheaf sql`: a question to a cluster, and its rows as they come. Whoever stops listening stops the work.

use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use serde_json::json;
use sheaf_dataflow::job::{CsvOptions, Param, Table};
use sheaf_dataflow::query::wire::Decoder;
use sheaf_proto::v1::{self, run_query_response::Part};
use sheaf_runtime::exit::Exit;
use sheaf_runtime::fault::Fault;
use tonic::Streaming;

use super::answer::{Answer, Outcome};
use super::predict::root_of;
use super::run::domain_error;
use super::{print, print_json, setup};
use crate::cli::{RowFormat, SqlArgs, TextArgs};
use crate::connect::{connect_to_ask, place};
use crate::embedded::{Embedded, QueryClient};
use crate::failure::Failure;
use crate::jobfile::given_param;
use crate::render::{Phase, Progress, format};
use crate::watch::interrupted;

/// Rows of a table for people, unless more are asked for.
const TABLE_ROWS: u64 = 1_000;

/// Longest statement that is read: longer ones are refused by the cluster, which says why.
const MOST_SQL: u64 = 2 << 20;

/// Asks a question.
pub async fn sql(args: SqlArgs) -> Result<Exit, Failure> {
    let format = format_of(args.output, args.to.as_deref())?;
    if format == RowFormat::Parquet && args.to.is_none() && !args.explain && std::io::stdout().is_terminal() {
        return Err(Failure::usage("Parquet is not for a terminal: give --to FILE, or send it into a pipe"));
    }
    let request = request(&args, format)?;
    let mut answer = Answer::new(format, args.to.as_deref())?;
    match ask(&args, request, &mut answer, &progress(&args, format)).await? {
        End::Plan(plan) if format == RowFormat::Json => print_json(&json!({"plan": plan})),
        End::Plan(plan) => print(&plan),
        End::Gone => Ok(Exit::Done),
        End::Rows(end) => finish(&args, answer, &end),
    }
}

/// Says what is to be said once all rows are in.
fn finish(args: &SqlArgs, answer: Answer, end: &v1::QueryEnd) -> Result<Exit, Failure> {
    if end.cut() == v1::QueryCut::Bytes {
        let most = format::bytes(args.max_bytes.unwrap_or_default());
        let message = format!("the answer has more than {most}: take fewer columns or rows, or give a larger --max-bytes");
        return Err(Failure::new(Exit::Limit, message));
    }
    let more = end.cut() == v1::QueryCut::Rows;
    answer.finish(&Outcome { rows: end.rows, more, seconds: end.seconds })?;
    if !args.quiet {
        end.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    }
    Ok(Exit::Done)
}

/// By what is asked for, else by the ending of the file.
fn format_of(asked: Option<RowFormat>, to: Option<&Path>) -> Result<RowFormat, Failure> {
    let ending = to.and_then(|path| path.extension()).map(|ending| ending.to_string_lossy().to_ascii_lowercase());
    match (asked, to, ending.as_deref()) {
        (Some(asked), ..) => Ok(asked),
        (None, None, _) => Ok(RowFormat::Table),
        (None, _, Some("csv")) => Ok(RowFormat::Csv),
        (None, _, Some("json" | "jsonl" | "ndjson")) => Ok(RowFormat::Json),
        (None, _, Some("parquet" | "pq")) => Ok(RowFormat::Parquet),
        (None, Some(path), _) => {
            let message = format!("the ending of {} says no format: give -o csv, json, parquet or table", path.display());
            Err(Failure::usage(message))
        }
    }
}

fn request(args: &SqlArgs, format: RowFormat) -> Result<v1::RunQueryRequest, Failure> {
    let tables: Vec<Table> = setup::absolute_tables(&args.table)?.into_iter().map(|t| table(t, &args.text)).collect();
    let param = |(name, value): &(String, String)| -> Result<(String, Param), Failure> {
        let param = given_param(name, value).map_err(|e| Failure::usage(format!("--set {name}: {e}")))?;
        Ok((name.clone(), param))
    };
    let params = args.set.iter().map(param).collect::<Result<std::collections::BTreeMap<_, _>, _>>()?;
    let as_json = |e: serde_json::Error| Failure::new(Exit::Failed, format!("write the request: {e}"));
    let usual = if format == RowFormat::Table { TABLE_ROWS } else { 0 };
    Ok(v1::RunQueryRequest {
        sql: statement(args.statement.as_deref())?,
        tables: serde_json::to_string(&tables).map_err(as_json)?,
        params: serde_json::to_string(&params).map_err(as_json)?,
        max_rows: args.limit.unwrap_or(usual),
        max_bytes: args.max_bytes.unwrap_or(0),
        explain: args.explain,
        partitions: args.target_partitions.unwrap_or(0),
        now_ns: args.now,
    })
}

/// A table of the command line; how text is written matters only where there is text.
pub fn table((name, path): (String, String), text: &TextArgs) -> Table {
    let csv = CsvOptions { delimiter: text.delimiter, header: !text.no_header, null: text.null.clone() };
    Table { csv, ..Table::at(name, path) }
}

/// The statement of the command line, or what standard input says.
fn statement(given: Option<&str>) -> Result<String, Failure> {
    if let Some(text) = given.filter(|text| *text != "-") {
        return Ok(text.to_owned());
    }
    let input = std::io::stdin();
    if given.is_none() && input.is_terminal() {
        return Err(Failure::usage("give a statement: sheaf sql \"SELECT …\", or send one to standard input"));
    }
    let mut text = String::new();
    let read = input.lock().take(MOST_SQL).read_to_string(&mut text);
    read.map_err(|e| Failure::usage(format!("read the statement from standard input: {e}")))?;
    Ok(text)
}

/// Bars on a terminal, unless rows are shown on it at the same time.
fn progress(args: &SqlArgs, format: RowFormat) -> Progress {
    let shares = args.to.is_none() && format != RowFormat::Table && std::io::stdout().is_terminal();
    if args.quiet || args.explain || shares || !std::io::stderr().is_terminal() { Progress::quiet() } else { Progress::stderr() }
}

/// How a question went.
enum End {
    /// All rows that were wanted are in.
    Rows(v1::QueryEnd),
    /// How it would be answered.
    Plan(String),
    /// Nobody reads any more.
    Gone,
}

async fn ask(args: &SqlArgs, request: v1::RunQueryRequest, answer: &mut Answer, progress: &Progress) -> Result<End, Failure> {
    let Some(workers) = args.workers else {
        let place = place(&args.connect).map_err(|failure| match failure.exit {
            Exit::Usage => Failure::usage(format!("{}; or --workers N for a cluster of this command's own", failure.message)),
            _ => failure,
        })?;
        let client = connect_to_ask(&place).await?;
        return tokio::select! {
            end = listen(client, request, answer, progress) => end,
            () = interrupted() => Err(cancelled()),
        };
    };
    let store = setup::store(&args.store)?;
    let stores = setup::store_options(&store, &roots(args)?)?;
    let mut cluster = Embedded::start(setup::embedded(&args.cluster, workers, store, stores)).await?;
    let listened = match cluster.query_client().await {
        Err(error) => Err(error.into()),
        Ok(client) => tokio::select! {
            biased;
            end = listen(client, request, answer, progress) => end,
            why = cluster.given_up() => Err(Failure::new(Exit::Failed, why)),
            // The cluster is ended below, so that no process is left.
            () = interrupted() => Err(cancelled()),
        },
    };
    let stopped = cluster.stop().await;
    let end = listened?;
    stopped?;
    Ok(end)
}

/// A call that is dropped cancels its query.
fn cancelled() -> Failure {
    Failure::new(Exit::Interrupted, "interrupted; the query was cancelled")
}

/// What the embedded cluster may read.
fn roots(args: &SqlArgs) -> Result<Vec<PathBuf>, Failure> {
    let here = std::env::current_dir().map_err(|e| Failure::new(Exit::Failed, format!("find the current folder: {e}")))?;
    let tables = setup::absolute_tables(&args.table)?;
    let given = tables.iter().filter_map(|(_, path)| root_of(path));
    Ok(std::iter::once(here).chain(args.allow_root.iter().cloned()).chain(given).collect())
}

/// Takes in an answer.
async fn listen(
    mut client: QueryClient,
    request: v1::RunQueryRequest,
    answer: &mut Answer,
    progress: &Progress,
) -> Result<End, Failure> {
    let mut parts: Streaming<v1::RunQueryResponse> = client.run_query(request).await?.into_inner();
    let (mut decoder, mut plan) = (Decoder::default(), None);
    let phase = progress.phase("query", None, "tasks");
    let end = loop {
        let Some(part) = parts.message().await? else {
            return Err(Failure::new(Exit::Unreachable, "the coordinator ended the answer before its end"));
        };
        match part.part {
            Some(Part::Rows(piece)) => {
                for rows in decoder.decode(piece)? {
                    answer.add(&rows)?;
                }
                if let Some(schema) = decoder.schema() {
                    answer.start(&schema)?;
                }
                if answer.is_unwanted() {
                    break End::Gone;
                }
            }
            Some(Part::Progress(told)) => show(&phase, &told),
            Some(Part::Plan(text)) => plan = Some(text),
            Some(Part::End(v1::QueryEnd { error: Some(error), .. })) => return Err(Fault::from(domain_error(error)).into()),
            Some(Part::End(end)) => break plan.map_or(End::Rows(end), End::Plan),
            // A newer coordinator may say more.
            None => {}
        }
    };
    phase.leave();
    Ok(end)
}

fn show(phase: &Phase, told: &v1::QueryProgress) {
    phase.set_total(u64::from(told.tasks));
    phase.set(u64::from(told.tasks_done));
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_ending_says_the_format_where_nothing_else_does() {
        let of = |asked, to: Option<&str>| format_of(asked, to.map(Path::new)).map_err(|failure| failure.exit);
        assert_eq!(of(None, None), Ok(RowFormat::Table));
        assert_eq!(of(None, Some("a.CSV")), Ok(RowFormat::Csv));
        assert_eq!(of(None, Some("a.jsonl")), Ok(RowFormat::Json));
        assert_eq!(of(None, Some("x/a.parquet")), Ok(RowFormat::Parquet));
        assert_eq!(of(Some(RowFormat::Json), Some("a.csv")), Ok(RowFormat::Json));
        assert_eq!(of(None, Some("a.txt")), Err(Exit::Usage));
    }

    #[test]
    fn parameters_are_typed_by_value() {
        let param = |name: &str, value: &str| given_param(name, value);
        assert_eq!(param("n", "7").unwrap(), Param::Int(7));
        assert_eq!(param("day", "2026-10-01").unwrap(), Param::Date("2026-10-01".into()));
        assert!(param("now", "1").unwrap_err().contains("built in"));
        assert!(param("1x", "1").unwrap_err().contains("cannot name"));
    }
}
