//! The end of a job: settled once, written into the log, told to the engine and to who watches.

use std::collections::BTreeSet;

use sheaf_cluster::Event;
use sheaf_cluster::durable::{Entry, FailKind, Outcome};
use sheaf_cluster::id::JobId;
use sheaf_proto::v1::{self, watch_job_response::Event as Watch};
use sheaf_runtime::documents::join;
use sheaf_runtime::fault::{Fault, Kind};
use sheaf_runtime::retry;
use tracing::{error, info, warn};

use super::{Finish, checkpoint};
use crate::context::{Context, now};
use crate::crash;
use crate::event_loop::{Input, Stop};
use crate::joblog;

/// Ends a job.
pub async fn end(context: &Context, job: &JobId, result: Result<Finish, Stop>) {
    let (outcome, mut ended) = match settle(context, result).await {
        Ok(settled) => settled,
        Err(fault) => {
            error!(%job, error = %fault, "the job's result could not be stored");
            failed(fault)
        }
    };
    store_log(context, job).await;
    crash::point("before-end");
    if let Err(fault) = context.propose(Entry::JobEnded { job: job.clone(), outcome, now: now() }).await {
        error!(%job, error = %fault, "the job's end is not in the log");
        ended = failed(fault.context("record the job's end")).1;
    }
    context.metrics.job_ended(job, &ended.state);
    info!(%job, state = ended.state, "job ended");
    clean(context, job).await;
    context.events.send(Input::Event(Event::JobEnded { job: job.clone() }));
    context.feeds.of(job).send(Watch::Ended(ended));
    // Once more, with its last line.
    store_log(context, job).await;
}

/// Removes what a job needed only while it ran.
async fn clean(context: &Context, job: &JobId) {
    checkpoint::forget(context, job).await;
    for kind in ["prepared", "exchange"] {
        let area = join(&context.base, &format!("jobs/{job}/{kind}"));
        if let Err(error) = retry::store(|| context.stores.delete_folder(&area)).await {
            warn!(%job, area, %error, "what the job wrote on its way is left behind");
        }
    }
}

/// Removes what jobs left that an earlier leader ended without coming so far.
pub async fn sweep(context: Context, ended: BTreeSet<JobId>) {
    let jobs = join(&context.base, "jobs");
    let objects = match context.stores.list(&jobs).await {
        Ok(objects) => objects,
        Err(error) => return warn!(jobs, error = %Fault::from(error), "what ended jobs may have left is not looked for"),
    };
    let left = |object: &String| {
        let mut parts = object.rsplit_once("/jobs/")?.1.split('/');
        let (job, kind) = (JobId(parts.next()?.to_owned()), parts.next()?);
        (matches!(kind, "prepared" | "exchange" | "checkpoints") && ended.contains(&job)).then_some(job)
    };
    let jobs: BTreeSet<JobId> = objects.iter().filter_map(left).collect();
    for job in jobs {
        info!(%job, "removing what the job left");
        clean(&context, &job).await;
    }
}

/// A job whose log lines cannot be stored has ended all the same.
async fn store_log(context: &Context, job: &JobId) {
    if let Err(fault) = joblog::store(context, job).await {
        warn!(%job, error = %fault, "the job's log lines cannot be stored");
    }
}

async fn settle(context: &Context, result: Result<Finish, Stop>) -> Result<(Outcome, v1::JobEnded), Fault> {
    let mut ended = v1::JobEnded::default();
    match result {
        Ok(Finish { result, broken: None }) => {
            let document = context.documents.put(&result).await?;
            ended.state = "succeeded".into();
            ended.result = result.to_string();
            Ok((Outcome::Succeeded { result: document }, ended))
        }
        Ok(Finish { result, broken: Some(message) }) => {
            let document = context.documents.put(&result).await?;
            ended.state = "failed".into();
            ended.kind = v1::FailKind::Limit.into();
            ended.message = message.clone();
            ended.result = result.to_string();
            Ok((Outcome::Failed { kind: FailKind::Limit, message, result: Some(document) }, ended))
        }
        Err(Stop::Cancel) => {
            ended.state = "cancelled".into();
            Ok((Outcome::Cancelled, ended))
        }
        Err(Stop::Fail(fault)) => Ok(failed(fault)),
    }
}

fn failed(fault: Fault) -> (Outcome, v1::JobEnded) {
    let kind = log_kind(fault.kind);
    let ended = v1::JobEnded {
        state: "failed".into(),
        kind: crate::service::jobs::wire_kind(kind).into(),
        message: fault.message.clone(),
        error: fault.errors.first().map(crate::service::jobs::wire_error),
        result: String::new(),
    };
    (Outcome::Failed { kind, message: fault.message, result: None }, ended)
}

fn log_kind(kind: Kind) -> FailKind {
    match kind {
        Kind::Job => FailKind::Job,
        Kind::Data => FailKind::Data,
        Kind::Limit => FailKind::Limit,
        Kind::Deadline => FailKind::Deadline,
        Kind::Internal => FailKind::Internal,
    }
}
