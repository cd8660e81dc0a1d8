//! Log lines of jobs in the store, one JSON object a line below `jobs/ID/`: written while a job runs and
//! when it ends, read when its feed is gone.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sheaf_cluster::id::JobId;
use sheaf_proto::v1::{self, watch_job_response::Event as Watch};
use sheaf_runtime::documents::join;
use sheaf_runtime::fault::Fault;
use tracing::warn;

use crate::context::Context;

/// Time between two looks for new lines: the most that a lost leader's log lacks.
const EVERY: Duration = Duration::from_secs(2);

/// One line as stored.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    time_ms: u64,
    level: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    phase: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    step: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    worker: Option<u64>,
    text: String,
}

fn location(context: &Context, job: &JobId) -> String {
    join(&context.base, &format!("jobs/{job}/log.jsonl"))
}

/// Writes the lines that a job has so far.
pub async fn store(context: &Context, job: &JobId) -> Result<(), Fault> {
    let _guard = context.feeds.storing().await;
    let (lines, _, _) = context.feeds.of(job).lines_since(0);
    let mut text = String::new();
    for v1::LogLine { time_ms, level, phase, step, worker, text: what } in lines {
        let line = Stored { time_ms, level, phase, step, worker, text: what };
        text.push_str(&serde_json::to_string(&line).map_err(|e| Fault::internal(format!("write log line: {e}")))?);
        text.push('\n');
    }
    Ok(context.stores.put_atomic(&location(context, job), Bytes::from(text)).await?)
}

/// Reads the lines of a job; none where none were stored.
pub async fn load(context: &Context, job: &JobId) -> Result<Vec<v1::LogLine>, Fault> {
    let location = location(context, job);
    if context.stores.size(&location).await?.is_none() {
        return Ok(Vec::new());
    }
    let bytes = context.stores.get(&location).await?;
    let text = std::str::from_utf8(&bytes).map_err(|e| Fault::internal(format!("read {location}: {e}")))?;
    text.lines()
        .enumerate()
        .map(|(index, line)| {
            let Stored { time_ms, level, phase, step, worker, text } =
                serde_json::from_str(line).map_err(|e| Fault::internal(format!("read {location}: line {}: {e}", index + 1)))?;
            Ok(v1::LogLine { time_ms, level, phase, step, worker, text })
        })
        .collect()
}

/// Gives the feeds of jobs that an earlier leader ran the lines that it stored. A log that cannot be read
/// is said and left behind: it is no reason not to go on with the job.
pub async fn restore(context: &Context, jobs: &[JobId]) {
    for job in jobs {
        let feed = context.feeds.of(job);
        match load(context, job).await {
            Ok(lines) => feed.restore(lines),
            Err(fault) => warn!(%job, error = %fault, "the job's earlier log lines cannot be read"),
        }
        let text = "a coordinator has started and takes the job up".to_owned();
        feed.send(Watch::Log(v1::LogLine { level: "info".to_owned(), text, ..Default::default() }));
    }
}

/// Stores the lines of all open jobs, when the coordinator ends in good order.
pub async fn flush(context: &Context) {
    for (job, feed) in context.feeds.all() {
        let (lines, _, ended) = feed.lines_since(0);
        if !ended && !lines.is_empty() {
            said(&job, store(context, &job).await);
        }
    }
}

/// Log lines are no reason to stop a job or a coordinator.
fn said(job: &JobId, stored: Result<(), Fault>) {
    if let Err(fault) = stored {
        warn!(%job, error = %fault, "the job's log lines cannot be stored");
    }
}

/// Stores new lines of all jobs every few seconds, as long as the coordinator leads.
pub async fn keep(context: Context) {
    let mut stored: BTreeMap<JobId, u64> = BTreeMap::new();
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let feeds = context.feeds.all();
        stored.retain(|job, _| feeds.iter().any(|(known, _)| known == job));
        for (job, feed) in feeds {
            let (lines, newest, ended) = feed.lines_since(stored.get(&job).copied().unwrap_or(0));
            if ended || lines.is_empty() {
                // Its end stores all lines; there is nothing to do for a job without new ones.
                continue;
            }
            match store(&context, &job).await {
                Ok(()) => drop(stored.insert(job, newest)),
                Err(fault) => warn!(%job, error = %fault, "the job's log lines cannot be stored"),
            }
        }
    }
}
