//! `sheaf jobs`: what the cluster's jobs are and were, and what is to become of them.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sheaf_proto::v1;
use sheaf_runtime::exit::Exit;

use super::submit::estimate_json;
pub use super::submit::watch;
use super::{print, print_json, within};
use crate::cli::{CancelArgs, Format, JobsListArgs, LogsArgs, ShowJobArgs};
use crate::connect::{connect, place};
use crate::embedded::Client;
use crate::failure::Failure;
use crate::render::jobs::{job_card, job_table, log_line};
use crate::render::{Look, Progress};
use crate::watch::{follow, interrupted, is_transient, reconnect};

/// Lines remembered so that none is printed twice; the coordinator keeps fewer.
const REMEMBERED: usize = 20_000;

/// Levels of log lines, least first.
const LEVELS: [&str; 4] = ["debug", "info", "warn", "error"];

/// Lists jobs.
pub async fn list(args: JobsListArgs) -> Result<Exit, Failure> {
    let mut client = connect(&place(&args.ask.connect)?).await?;
    let request = v1::ListJobsRequest {
        state: args.state.unwrap_or_default(),
        namespace: args.namespace.unwrap_or_default(),
        limit: args.limit,
    };
    let listed = client.list_jobs(request).await?.into_inner();
    match args.ask.output {
        Format::Json => print_json(&Value::Array(listed.jobs.iter().map(job_json).collect())),
        Format::Table => print(&job_table(&listed.jobs, listed.matched, super::setup::now_ms(), &Look::stdout())),
    }
}

/// Explains a job.
pub async fn show(args: ShowJobArgs) -> Result<Exit, Failure> {
    let mut client = connect(&place(&args.ask.connect)?).await?;
    let job = get(&mut client, &args.job).await?;
    let result = result_of(&job)?;
    let work = parsed(&job.work, &job.job)?;
    match args.ask.output {
        Format::Json => {
            let mut value = job_json(&job);
            // What is there while it runs; once it has ended its result has the same.
            value["work"] = work.or_else(|| result.as_ref().map(|r| r["work"].clone())).unwrap_or(Value::Null);
            value["result"] = result.unwrap_or(Value::Null);
            print_json(&value)
        }
        Format::Table => print(&job_card(&job, result.as_ref(), super::setup::now_ms(), &Look::stdout())),
    }
}

/// Prints log lines; followed ones through restarts of the coordinator.
pub async fn logs(args: LogsArgs) -> Result<Exit, Failure> {
    tokio::select! {
        biased;
        () = interrupted() => Ok(Exit::Interrupted),
        printed = print_lines(&args) => printed,
    }
}

async fn print_lines(args: &LogsArgs) -> Result<Exit, Failure> {
    let place = place(&args.connect)?;
    let mut client = connect(&place).await?;
    let job = get(&mut client, &args.job).await?.job;
    let mut printer = Printer::new(args);
    loop {
        let request = v1::GetJobLogRequest { job: job.clone(), follow: args.follow, tail: printer.tail() };
        let lost = match attend(&mut client, request, &mut printer).await {
            Ok(true) => return Ok(Exit::Done),
            Ok(false) => "it ended the stream of lines".to_owned(),
            Err(Gone::Lost(status)) if args.follow => status.message().to_owned(),
            Err(Gone::Lost(status)) => return Err(status.into()),
            Err(Gone::Failed(failure)) => return Err(failure),
        };
        eprintln!("the coordinator at {} is gone ({lost}); reconnecting", place.target.address);
        client = reconnect(&place, &lost).await?;
    }
}

/// Why there are no more lines.
enum Gone {
    /// The connection broke.
    Lost(tonic::Status),
    /// Trying again does not help.
    Failed(Failure),
}

impl From<tonic::Status> for Gone {
    fn from(status: tonic::Status) -> Self {
        if is_transient(&status) { Gone::Lost(status) } else { Gone::Failed(status.into()) }
    }
}

/// Prints what one connection tells. False if lines are to come that it does not tell any more.
async fn attend(client: &mut Client, request: v1::GetJobLogRequest, printer: &mut Printer) -> Result<bool, Gone> {
    let (job, follow) = (request.job.clone(), request.follow);
    let mut lines = client.get_job_log(request).await?.into_inner();
    while let Some(answer) = lines.message().await? {
        printer.print(answer.line.unwrap_or_default()).map_err(Gone::Failed)?;
    }
    if !follow {
        return Ok(true);
    }
    let job = client.get_job(v1::GetJobRequest { job }).await?.into_inner().job.unwrap_or_default();
    Ok(!matches!(job.state.as_str(), "queued" | "running"))
}

/// Prints lines of some levels, each once.
struct Printer {
    least: usize,
    output: Format,
    tail: u32,
    said: BTreeSet<(u64, String)>,
}

impl Printer {
    fn new(args: &LogsArgs) -> Self {
        let least = LEVELS.iter().position(|level| *level == args.level).unwrap_or(0);
        Self { least, output: args.output, tail: args.tail, said: BTreeSet::new() }
    }

    /// How many of the newest lines to ask for: once connected again, all that were missed.
    fn tail(&self) -> u32 {
        if self.said.is_empty() { self.tail } else { 0 }
    }

    fn print(&mut self, line: v1::LogLine) -> Result<(), Failure> {
        // Connected again, all lines come again; those before the first that was printed were not asked for.
        let early = self.tail > 0 && self.said.first().is_some_and(|(first, _)| line.time_ms < *first);
        if early || !self.said.insert((line.time_ms, line.text.clone())) {
            return Ok(());
        }
        if self.said.len() > REMEMBERED {
            self.said.pop_first();
        }
        if LEVELS.iter().position(|level| *level == line.level).is_none_or(|level| level >= self.least) {
            match self.output {
                Format::Json => print(&line_json(&line).to_string())?,
                Format::Table => print(&log_line(&line))?,
            };
        }
        Ok(())
    }
}

/// Cancels a job.
pub async fn cancel(args: CancelArgs) -> Result<Exit, Failure> {
    let place = place(&args.ask.connect)?;
    let mut client = connect(&place).await?;
    let answer = client.cancel_job(v1::CancelJobRequest { job: args.job.clone() }).await?.into_inner();
    let (job, was) = (answer.job, answer.state);
    let over = !matches!(was.as_str(), "queued" | "running");
    let now = if !over && args.wait {
        let goes_on = format!("job {job} is still being cancelled");
        within(args.patience.timeout, &goes_on, follow(&place, client.clone(), &job, &Progress::quiet())).await?;
        get(&mut connect(&place).await?, &job).await?.state
    } else {
        was.clone()
    };
    match args.ask.output {
        Format::Json => print_json(&json!({"job": job, "was": was, "state": now, "cancelling": !over})),
        Format::Table if over => print(&format!("job {job} had {was} already")),
        Format::Table if args.wait => print(&format!("job {job}: {now}")),
        Format::Table => print(&format!("job {job} is being cancelled")),
    }
}

async fn get(client: &mut Client, job: &str) -> Result<v1::JobSummary, Failure> {
    let answer = client.get_job(v1::GetJobRequest { job: job.to_owned() }).await?.into_inner();
    answer.job.ok_or_else(|| Failure::new(Exit::Failed, format!("the coordinator said nothing of job {job}")))
}

fn result_of(job: &v1::JobSummary) -> Result<Option<Value>, Failure> {
    parsed(&job.result, &job.job)
}

/// JSON that the coordinator sent; nothing for an empty text.
fn parsed(text: &str, job: &str) -> Result<Option<Value>, Failure> {
    if text.is_empty() {
        return Ok(None);
    }
    let value = serde_json::from_str(text);
    value.map(Some).map_err(|e| Failure::new(Exit::Failed, format!("read what the coordinator says of job {job}: {e}")))
}

/// A job for programs.
pub fn job_json(job: &v1::JobSummary) -> Value {
    let time = |ms: u64| if ms == 0 { Value::Null } else { json!(ms) };
    let text = |text: &str| if text.is_empty() { Value::Null } else { json!(text) };
    json!({
        "job": job.job,
        "name": job.name,
        "namespace": job.namespace,
        "priority": job.priority,
        "state": job.state,
        "phase": text(&job.phase),
        "waiting": text(&job.waiting),
        "progress": job.progress.as_ref().map(progress_json),
        "submitted_ms": job.submitted_ms,
        "started_ms": time(job.started_ms),
        "ended_ms": time(job.ended_ms),
        "deadline_ms": time(job.deadline_ms),
        "cancel_requested": job.cancel_requested,
        "restarts": job.restarts,
        "retry_of": text(&job.retry_of),
        "error": text(&job.error),
        "error_kind": text(kind_name(job.error_kind())),
        "phases": job.phases.iter().map(phase_json).collect::<Vec<_>>(),
        "estimate": job.estimate.as_ref().map(estimate_json),
    })
}

fn progress_json(p: &v1::JobProgress) -> Value {
    json!({
        "done": p.done,
        "total": p.total,
        "rows": p.rows,
        "rows_per_second": p.rows_per_second,
        "step": p.step,
        "loss": p.loss,
        "workers": p.workers,
    })
}

fn phase_json(phase: &v1::PhaseSummary) -> Value {
    let ended = (phase.ended_ms > 0).then_some(phase.ended_ms);
    let seconds = ended.map(|ended| ended.saturating_sub(phase.started_ms) as f64 / 1e3);
    json!({"phase": phase.phase, "started_ms": phase.started_ms, "ended_ms": ended, "seconds": seconds})
}

fn line_json(line: &v1::LogLine) -> Value {
    json!({
        "time_ms": line.time_ms,
        "level": line.level,
        "phase": if line.phase.is_empty() { Value::Null } else { json!(line.phase) },
        "step": line.step,
        "worker": line.worker,
        "text": line.text,
    })
}

/// A kind of failure in a word.
fn kind_name(kind: v1::FailKind) -> &'static str {
    match kind {
        v1::FailKind::Unspecified => "",
        v1::FailKind::Job => "job",
        v1::FailKind::Data => "data",
        v1::FailKind::Limit => "limit",
        v1::FailKind::Deadline => "deadline",
        v1::FailKind::Internal => "internal",
    }
}
