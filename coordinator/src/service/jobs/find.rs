//! Finding jobs: by id or a prefix that only one job has, and by what listings ask for.

use std::cmp::Reverse;

use sheaf_cluster::durable::{JobRecord, JobState, Outcome};
use sheaf_cluster::id::{JobId, Millis};
use sheaf_proto::v1;
use tonic::Status;

use super::unavailable;
use crate::context::Context;

/// Jobs named when a prefix is ambiguous.
const NAMED: usize = 5;

/// The states that can be asked for.
const STATES: &[&str] = &["queued", "running", "succeeded", "failed", "cancelled"];

/// The job with this id, or the only one whose id begins so.
pub async fn find(context: &Context, text: &str) -> Result<(JobId, JobRecord), Status> {
    if text.is_empty() || text.len() > 64 {
        return Err(Status::not_found(format!("`{text}` is no job id: give an id or the beginning of one")));
    }
    let prefix = text.to_ascii_uppercase();
    let begin = JobId(prefix.clone());
    let found = context.log.read(move |jobs| {
        let jobs = jobs.0.jobs.range(begin..).take_while(|(id, _)| id.0.starts_with(&prefix)).take(NAMED + 1);
        jobs.map(|(id, record)| (id.clone(), record.clone())).collect::<Vec<_>>()
    });
    let mut found = found.await.map_err(unavailable)?;
    match found.len() {
        0 => Err(Status::not_found(format!("job {text} not found; `sheaf jobs list` shows the jobs there are"))),
        1 => Ok(found.remove(0)),
        more => {
            let mut names: Vec<&str> = found.iter().take(NAMED).map(|(id, _)| id.0.as_str()).collect();
            if more > NAMED {
                names.push("…");
            }
            Err(Status::not_found(format!("{text} is the beginning of several jobs ({}); give more of the id", names.join(", "))))
        }
    }
}

/// The newest jobs that a listing asks for, and how many there are in all.
pub async fn matching(context: &Context, request: v1::ListJobsRequest) -> Result<(Vec<(JobId, JobRecord)>, u32), Status> {
    let v1::ListJobsRequest { state, namespace, limit } = request;
    if !state.is_empty() && !STATES.contains(&state.as_str()) {
        return Err(Status::invalid_argument(format!("`{state}` is no state of jobs; there are {}", STATES.join(", "))));
    }
    let limit = if limit == 0 { usize::MAX } else { limit as usize };
    let read = context.log.read(move |jobs| {
        let fits = |record: &JobRecord| {
            (state.is_empty() || name(&record.state) == state) && (namespace.is_empty() || record.namespace == namespace)
        };
        let mut found: Vec<(Reverse<Millis>, Reverse<&JobId>, &JobRecord)> = Vec::new();
        found.extend(jobs.0.jobs.iter().filter(|(_, r)| fits(r)).map(|(id, r)| (Reverse(r.submitted), Reverse(id), r)));
        found.sort_by_key(|(submitted, id, _)| (*submitted, *id));
        let shown = found.iter().take(limit).map(|(_, id, record)| (id.0.clone(), (*record).clone())).collect();
        (shown, found.len() as u32)
    });
    read.await.map_err(unavailable)
}

/// A state's name for people and programs.
pub fn name(state: &JobState) -> &'static str {
    match state {
        JobState::Queued => "queued",
        JobState::Running => "running",
        JobState::Ended(Outcome::Succeeded { .. }) => "succeeded",
        JobState::Ended(Outcome::Failed { .. }) => "failed",
        JobState::Ended(Outcome::Cancelled) => "cancelled",
    }
}
