//! The end of a job: settled once, written into the log, told to the engine and to who watches.

use sheaf_cluster::Event;
use sheaf_cluster::durable::{Entry, FailKind, Outcome};
use sheaf_cluster::id::JobId;
use sheaf_proto::v1::{self, watch_job_response::Event as Watch};
use sheaf_runtime::documents::join;
use sheaf_runtime::fault::{Fault, Kind};
use tracing::{error, info, warn};

use super::Finish;
use crate::context::{Context, now};
use crate::event_loop::{Input, Stop};

/// Ends a job.
pub async fn end(context: &Context, job: &JobId, result: Result<Finish, Stop>) {
    let (outcome, mut ended) = match settle(context, result).await {
        Ok(settled) => settled,
        Err(fault) => {
            error!(%job, error = %fault, "the job's result could not be stored");
            failed(fault)
        }
    };
    if let Err(fault) = context.propose(Entry::JobEnded { job: job.clone(), outcome, now: now() }).await {
        error!(%job, error = %fault, "the job's end is not in the log");
        ended = failed(fault.context("record the job's end")).1;
    }
    info!(%job, state = ended.state, "job ended");
    let area = join(&context.base, &format!("jobs/{job}/prepared"));
    if let Err(error) = context.stores.delete_folder(&area).await {
        warn!(%job, area, %error, "the job's prepared shards are left behind");
    }
    context.events.send(Input::Event(Event::JobEnded { job: job.clone() }));
    context.feeds.of(job).send(Watch::Ended(ended));
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
