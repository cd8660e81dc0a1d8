//! What is known of a cluster at one moment.

use serde::Serialize;
use sheaf_proto::v1;

use crate::embedded::Client;

/// Jobs that are asked for: those that have not ended come first, then the newest.
const JOBS: u32 = 200;

/// Jobs that have ended and are still shown.
const ENDED: usize = 20;

/// Log lines of the selected job.
const LINES: u32 = 100;

/// The whole cluster. Also what `sheaf top --once -o json` prints.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Snapshot {
    /// Where the coordinator listens.
    pub address: String,
    /// Its version.
    pub version: String,
    /// Its term.
    pub term: u64,
    /// Where models and job areas are.
    pub store: String,
    /// Jobs, those that run first.
    pub jobs: Vec<JobRow>,
    /// Jobs that wait for their turn.
    pub queued_jobs: u64,
    /// Jobs that run.
    pub running_jobs: u64,
    /// Workers by number.
    pub workers: Vec<WorkerRow>,
    /// Newest log lines of one job.
    pub log: Vec<LogRow>,
}

/// One job.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct JobRow {
    /// Id.
    pub job: String,
    /// Name.
    pub name: String,
    /// Whose share it counts against.
    pub namespace: String,
    /// queued, running, succeeded, failed or cancelled.
    pub state: String,
    /// The open phase.
    pub phase: String,
    /// Shards of the current step that are in.
    pub done: u64,
    /// Shards of the current step.
    pub total: u64,
    /// Rows per second over the phase.
    pub rows_per_second: f64,
    /// Steps done.
    pub step: Option<u64>,
    /// Loss after the last one.
    pub loss: Option<f64>,
    /// Why it waits, or what went wrong.
    pub note: String,
}

/// One worker.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct WorkerRow {
    /// Number.
    pub worker: u64,
    /// What people call it.
    pub name: String,
    /// preparing, ready or draining.
    pub state: String,
    /// Compute threads.
    pub threads: u32,
    /// Budget for cached shards.
    pub memory_bytes: u64,
    /// Encoded shards in memory.
    pub cache_bytes: u64,
    /// Encoded shards on disk.
    pub spilled_bytes: u64,
    /// Shards that it owes now.
    pub owed_shards: u64,
    /// Rows per second over the last seconds.
    pub rows_per_second: f64,
    /// Since it joined.
    pub spent: Shares,
}

/// Where a worker's time went, ns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Shares {
    /// Reading and encoding.
    pub read_ns: u64,
    /// Partials.
    pub compute_ns: u64,
    /// Merging.
    pub merge_ns: u64,
    /// Waiting within steps.
    pub wait_ns: u64,
}

impl Shares {
    /// In the order read, compute, merge, wait.
    pub fn parts(&self) -> [u64; 4] {
        [self.read_ns, self.compute_ns, self.merge_ns, self.wait_ns]
    }

    /// What came after `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            read_ns: self.read_ns.saturating_sub(earlier.read_ns),
            compute_ns: self.compute_ns.saturating_sub(earlier.compute_ns),
            merge_ns: self.merge_ns.saturating_sub(earlier.merge_ns),
            wait_ns: self.wait_ns.saturating_sub(earlier.wait_ns),
        }
    }
}

/// A line of a job's log.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct LogRow {
    /// Milliseconds since 1970 UTC.
    pub time_ms: u64,
    /// debug, info, warn or error.
    pub level: String,
    /// Phase.
    pub phase: String,
    /// What happened.
    pub text: String,
}

/// Asks a cluster how it is. `selected`: the job whose log lines are wanted; without one, that of the first job.
pub async fn take(client: &mut Client, address: &str, selected: Option<&str>) -> Result<Snapshot, tonic::Status> {
    let cluster = client.get_cluster(v1::GetClusterRequest {}).await?.into_inner();
    let listed = client.list_jobs(v1::ListJobsRequest { limit: JOBS, ..Default::default() }).await?.into_inner();
    let jobs = job_rows(listed.jobs);
    let wanted = selected.filter(|id| jobs.iter().any(|job| job.job == *id)).or(jobs.first().map(|job| job.job.as_str()));
    let log = match wanted {
        Some(job) => lines(client, job).await?,
        None => Vec::new(),
    };
    Ok(Snapshot {
        address: address.to_owned(),
        version: cluster.version,
        term: cluster.term,
        store: cluster.store,
        jobs,
        queued_jobs: cluster.queued_jobs,
        running_jobs: cluster.running_jobs,
        workers: cluster.workers.into_iter().map(worker_row).collect(),
        log,
    })
}

async fn lines(client: &mut Client, job: &str) -> Result<Vec<LogRow>, tonic::Status> {
    let request = v1::GetJobLogRequest { job: job.to_owned(), follow: false, tail: LINES };
    let mut stream = client.get_job_log(request).await?.into_inner();
    let mut rows = Vec::new();
    while let Some(response) = stream.message().await? {
        if let Some(line) = response.line {
            rows.push(LogRow { time_ms: line.time_ms, level: line.level, phase: line.phase, text: line.text });
        }
    }
    Ok(rows)
}

/// Running jobs first, then queued ones, then a few that have ended, each newest first.
fn job_rows(jobs: Vec<v1::JobSummary>) -> Vec<JobRow> {
    let rank = |state: &str| match state {
        "running" => 0,
        "queued" => 1,
        _ => 2,
    };
    let mut jobs: Vec<JobRow> = jobs.into_iter().map(job_row).collect();
    jobs.sort_by_key(|job| rank(&job.state));
    let open = jobs.iter().filter(|job| rank(&job.state) < 2).count();
    jobs.truncate(open + ENDED);
    jobs
}

fn job_row(job: v1::JobSummary) -> JobRow {
    let progress = job.progress.unwrap_or_default();
    let note = if job.waiting.is_empty() { job.error } else { job.waiting };
    JobRow {
        job: job.job,
        name: job.name,
        namespace: job.namespace,
        state: job.state,
        phase: job.phase,
        done: progress.done,
        total: progress.total,
        rows_per_second: progress.rows_per_second,
        step: progress.step,
        loss: progress.loss,
        note,
    }
}

fn worker_row(worker: v1::WorkerSummary) -> WorkerRow {
    WorkerRow {
        worker: worker.worker,
        name: worker.name,
        state: worker.state,
        threads: worker.threads,
        memory_bytes: worker.memory_bytes,
        cache_bytes: worker.cache_bytes,
        spilled_bytes: worker.spilled_bytes,
        owed_shards: worker.owed_shards,
        rows_per_second: worker.rows_per_second,
        spent: Shares {
            read_ns: worker.read_ns,
            compute_ns: worker.compute_ns,
            merge_ns: worker.merge_ns,
            wait_ns: worker.wait_ns,
        },
    }
}
