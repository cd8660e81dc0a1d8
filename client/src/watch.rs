//! Watching a job: its events become progress on standard error, its end becomes a result or a failure.

use std::time::Duration;

use serde_json::Value;
use sheaf_proto::v1::{self, watch_job_response::Event};
use sheaf_runtime::exit::Exit;

use crate::embedded::Client;
use crate::failure::Failure;
use crate::render::{Phase, Progress};

/// How a job ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code that says it.
    pub exit: Exit,
    /// What went wrong, if something did.
    pub message: String,
    /// Where the job file is wrong, if it is.
    pub error: Option<v1::JobError>,
    /// The result object, if there is one.
    pub result: Option<Value>,
}

/// Watches a job to its end.
pub async fn watch(client: &mut Client, job: &str, progress: &Progress) -> Result<Ended, Failure> {
    let mut events = client.watch_job(v1::WatchJobRequest { job: job.to_owned() }).await?.into_inner();
    let mut phase: Option<Phase> = None;
    while let Some(event) = events.message().await? {
        match event.event {
            Some(Event::PhaseStarted(started)) => {
                let name =
                    if started.detail.is_empty() { started.phase } else { format!("{} ({})", started.phase, started.detail) };
                phase = Some(progress.phase(&name, None, "shards"));
            }
            Some(Event::PhaseProgress(p)) => {
                if let Some(phase) = &phase {
                    phase.set_total(p.total);
                    phase.set(p.done);
                }
            }
            Some(Event::StepFinished(step)) => {
                if let (Some(phase), Some(loss)) = (&phase, step.report.get("loss")) {
                    phase.step(step.step, *loss);
                }
            }
            Some(Event::PhaseFinished(_)) => {
                if let Some(phase) = phase.take() {
                    phase.finish();
                }
            }
            Some(Event::Note(note)) => progress.note(&note.text),
            Some(Event::Ended(end)) => return ended(end),
            None => {}
        }
    }
    Err(Failure::new(Exit::Unreachable, "the coordinator ended the stream of events before the job ended"))
}

fn ended(end: v1::JobEnded) -> Result<Ended, Failure> {
    let exit = match (end.state.as_str(), end.kind()) {
        ("succeeded", _) => Exit::Done,
        ("cancelled", _) => Exit::Cancelled,
        (_, v1::FailKind::Job) => Exit::Usage,
        (_, v1::FailKind::Limit) => Exit::Limit,
        _ => Exit::Failed,
    };
    let result = match end.result.as_str() {
        "" => None,
        text => Some(serde_json::from_str(text).map_err(|e| Failure::new(Exit::Failed, format!("read the job's result: {e}")))?),
    };
    Ok(Ended { exit, message: end.message, error: end.error, result })
}

/// Resolves at the first Ctrl-C or request to terminate.
pub async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) else {
        // Without signals nobody can interrupt.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// Time given to a cancelled job to end.
pub const CANCEL_GRACE: Duration = Duration::from_secs(5);
