//! Watching a job: its events become progress on standard error, its end becomes a result or a failure.
//! A watcher that loses the coordinator comes back to it and goes on where it was.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;
use sheaf_proto::v1::{self, watch_job_response::Event};
use sheaf_runtime::exit::Exit;
use tonic::Status;

use crate::connect::{Place, connect};
use crate::embedded::Client;
use crate::failure::Failure;
use crate::render::{Phase, Progress};

/// Time for which a watcher looks for a coordinator that went away.
const PATIENCE: Duration = Duration::from_secs(600);

/// Pause before the second try to reach it; doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Time between two looks at why a job waits.
const LOOK_EVERY: Duration = Duration::from_secs(2);

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

/// Watches a job to its end on one connection.
pub async fn watch(client: &mut Client, job: &str, progress: &Progress) -> Result<Ended, Failure> {
    let mut viewer = Viewer::new(progress);
    match attend(client, job, &mut viewer, None).await? {
        Some(end) => ended(end),
        None => Err(Failure::new(Exit::Unreachable, "the coordinator ended the stream of events before the job ended")),
    }
}

/// Watches a job to its end, through restarts of the coordinator.
pub async fn follow(place: &Place, client: Client, job: &str, progress: &Progress) -> Result<Ended, Failure> {
    let mut viewer = Viewer::new(progress);
    viewer.leaves = true;
    let mut client = client;
    loop {
        let lost = match attend(&mut client, job, &mut viewer, Some(LOOK_EVERY)).await {
            Ok(Some(end)) => return ended(end),
            Ok(None) => "it ended the stream of events".to_owned(),
            Err(status) if is_transient(&status) => status.message().to_owned(),
            Err(status) => return Err(status.into()),
        };
        viewer.note(&format!(
            "the coordinator at {} is gone ({lost}); the job goes on with it, reconnecting",
            place.target.address
        ));
        client = reconnect(place, &lost).await?;
        viewer.note("connected again");
    }
}

/// Connects again, with growing pauses.
pub async fn reconnect(place: &Place, lost: &str) -> Result<Client, Failure> {
    let (began, mut pause) = (Instant::now(), FIRST_PAUSE);
    loop {
        tokio::time::sleep(pause).await;
        match connect(place).await {
            Ok(client) => return Ok(client),
            Err(failure) if failure.exit != Exit::Unreachable => return Err(failure),
            Err(failure) if began.elapsed() > PATIENCE => {
                let message = format!("{}; it went away {} minutes ago: {lost}", failure.message, PATIENCE.as_secs() / 60);
                return Err(Failure::new(Exit::Unreachable, message));
            }
            Err(_) => pause = (pause * 2).min(LONGEST_PAUSE),
        }
    }
}

/// Whether the same call may work on another connection.
pub fn is_transient(status: &Status) -> bool {
    use tonic::Code;
    // What the transport itself says has a source; what a service says has none.
    let broken = std::error::Error::source(status).is_some();
    status.code() == Code::Unavailable || (broken && matches!(status.code(), Code::Unknown | Code::Cancelled | Code::Internal))
}

/// Takes events from one connection; gives the end if it came. Looks now and then why the job waits.
async fn attend(
    client: &mut Client,
    job: &str,
    viewer: &mut Viewer<'_>,
    look: Option<Duration>,
) -> Result<Option<v1::JobEnded>, Status> {
    let mut events = client.watch_job(v1::WatchJobRequest { job: job.to_owned() }).await?.into_inner();
    viewer.attach();
    let mut looks = tokio::time::interval(look.unwrap_or(PATIENCE));
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let event = tokio::select! {
            event = events.message() => event?,
            _ = looks.tick(), if look.is_some() => {
                let seen = client.get_job(v1::GetJobRequest { job: job.to_owned() }).await?.into_inner();
                viewer.waiting(&seen.job.unwrap_or_default().waiting);
                continue;
            }
        };
        match event.map(|event| event.event) {
            None => return Ok(None),
            Some(Some(Event::Ended(end))) => {
                viewer.end();
                return Ok(Some(end));
            }
            Some(Some(event)) => viewer.see(event),
            Some(None) => {}
        }
    }
}

/// Shows events once. Every connection tells them from the job's start: phases come in the same order
/// again, so those that were shown are counted and passed over.
struct Viewer<'a> {
    progress: &'a Progress,
    /// The phase that is shown now.
    open: Option<Phase>,
    /// Phases whose start and end were shown.
    started: usize,
    finished: usize,
    /// Phases started on this connection.
    at: usize,
    /// The last step shown of the open phase.
    step: Option<u64>,
    /// Notes and lines that were shown.
    said: BTreeSet<(u64, String)>,
    /// What the job waited for when it was last looked at.
    waits: String,
    /// Whether a viewer that is dropped leaves a job that goes on.
    leaves: bool,
}

impl Drop for Viewer<'_> {
    fn drop(&mut self) {
        if let (true, Some(phase)) = (self.leaves, self.open.take()) {
            phase.leave();
        }
    }
}

impl<'a> Viewer<'a> {
    fn new(progress: &'a Progress) -> Self {
        Viewer {
            progress,
            open: None,
            started: 0,
            finished: 0,
            at: 0,
            step: None,
            said: BTreeSet::new(),
            waits: String::new(),
            leaves: false,
        }
    }

    fn attach(&mut self) {
        self.at = 0;
    }

    fn note(&self, text: &str) {
        self.progress.note(text);
    }

    /// Says why the job waits when that has become another reason; numbers in it may change unsaid.
    fn waiting(&mut self, why: &str) {
        let reason = why.split([':', ';']).next().unwrap_or_default().trim_matches(|c: char| c.is_ascii_digit());
        if reason != self.waits {
            self.waits = reason.to_owned();
            if !why.is_empty() {
                self.note(&format!("the job {why}"));
            }
        }
    }

    /// The job has ended: a phase that is still shown ended with it.
    fn end(&mut self) {
        drop(self.open.take());
    }

    fn see(&mut self, event: Event) {
        match event {
            Event::PhaseStarted(started) => self.start(started),
            Event::PhaseProgress(p) => {
                if let Some(phase) = self.current() {
                    phase.set_total(p.total);
                    phase.set(p.done);
                    phase.set_rows(p.rows, p.workers);
                }
            }
            Event::StepFinished(step) => self.step(&step),
            Event::PhaseFinished(_) => {
                if self.at > self.finished {
                    self.finished = self.at;
                    if let Some(phase) = self.open.take() {
                        phase.finish();
                    }
                }
            }
            Event::Note(note) => self.say(0, note.text),
            Event::Log(line) if matches!(line.level.as_str(), "warn" | "error") => self.say(line.time_ms, line.text),
            Event::Log(_) | Event::Ended(_) => {}
        }
    }

    fn start(&mut self, started: v1::PhaseStarted) {
        self.at += 1;
        if self.at > self.started {
            self.started = self.at;
            self.step = None;
            let v1::PhaseStarted { phase, detail } = started;
            let name = if detail.is_empty() { phase } else { format!("{phase} ({detail})") };
            self.open = Some(self.progress.phase(&name, None, "shards"));
        }
    }

    /// The open phase, if that is where this connection has got to.
    fn current(&self) -> Option<&Phase> {
        self.open.as_ref().filter(|_| self.at == self.started)
    }

    fn step(&mut self, step: &v1::StepFinished) {
        let fresh = self.step.is_none_or(|shown| step.step > shown);
        if let (true, Some(phase), Some(loss)) = (fresh, self.current(), step.report.get("loss")) {
            phase.step(step.step, *loss);
            self.step = Some(step.step);
        }
    }

    fn say(&mut self, time_ms: u64, text: String) {
        if self.said.insert((time_ms, text.clone())) {
            self.note(&text);
        }
    }
}

fn ended(end: v1::JobEnded) -> Result<Ended, Failure> {
    let exit = exit_of(&end.state, end.kind());
    let result = match end.result.as_str() {
        "" => None,
        text => Some(serde_json::from_str(text).map_err(|e| Failure::new(Exit::Failed, format!("read the job's result: {e}")))?),
    };
    Ok(Ended { exit, message: end.message, error: end.error, result })
}

/// The exit code that says how a job ended.
pub fn exit_of(state: &str, kind: v1::FailKind) -> Exit {
    match (state, kind) {
        ("succeeded", _) => Exit::Done,
        ("cancelled", _) => Exit::Cancelled,
        (_, v1::FailKind::Job) => Exit::Usage,
        (_, v1::FailKind::Limit) => Exit::Limit,
        _ => Exit::Failed,
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::progress::caught::caught;

    fn started(phase: &str) -> Event {
        Event::PhaseStarted(v1::PhaseStarted { phase: phase.into(), detail: String::new() })
    }

    fn finished(phase: &str) -> Event {
        Event::PhaseFinished(v1::PhaseFinished { phase: phase.into(), seconds: 0.0 })
    }

    fn step(step: u64) -> Event {
        Event::StepFinished(v1::StepFinished { phase: "train".into(), step, report: [("loss".into(), 0.5)].into() })
    }

    fn warning(time_ms: u64) -> Event {
        Event::Log(v1::LogLine { time_ms, level: "warn".into(), text: "worker 1 lost".into(), ..Default::default() })
    }

    #[test]
    fn nothing_is_shown_twice() {
        let (progress, caught) = caught();
        let mut viewer = Viewer::new(&progress);
        viewer.attach();
        for event in [started("plan"), finished("plan"), started("train"), warning(5), step(1), step(2)] {
            viewer.see(event);
        }
        // The coordinator comes back and tells all from the start; training goes on at a checkpoint.
        viewer.attach();
        for event in [started("plan"), finished("plan"), started("train"), warning(5), step(2), warning(9), step(3)] {
            viewer.see(event);
        }
        assert_eq!(viewer.step, Some(3));
        viewer.see(finished("train"));
        viewer.end();
        let text = caught.text();
        let lines: Vec<&str> = text.lines().map(|l| l.split(" in ").next().unwrap_or(l)).collect();
        assert_eq!(lines, ["plan: done", "worker 1 lost", "worker 1 lost", "train: done"], "{text}");
    }

    #[test]
    fn why_a_job_waits_is_said_when_it_changes() {
        let (progress, caught) = caught();
        let mut viewer = Viewer::new(&progress);
        for why in ["", "waits for workers: 8 shards", "waits for workers: 7 shards", "", "waits for its turn: 1 ahead"] {
            viewer.waiting(why);
        }
        let text = caught.text();
        assert_eq!(text, "the job waits for workers: 8 shards\nthe job waits for its turn: 1 ahead\n");
    }

    #[test]
    fn only_broken_connections_are_tried_again() {
        assert!(is_transient(&Status::unavailable("stopping")));
        for status in [Status::not_found("x"), Status::unauthenticated("x"), Status::internal("x"), Status::unknown("x")] {
            assert!(!is_transient(&status), "{status:?}");
        }
    }
}
