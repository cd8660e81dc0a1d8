//! What people are told: a job's log lines, and what a job failed of with the place in its data.

use sheaf_cluster::Note;
use sheaf_cluster::durable::FailKind;
use sheaf_cluster::id::{JobId, Stage};
use sheaf_proto::v1::{self, watch_job_response::Event as Watch};
use sheaf_runtime::fault::{Fault, Kind};
use tracing::{info, warn};

use super::EventLoop;
use crate::context::now;

/// A line of a job's log.
struct Line {
    trouble: bool,
    what: &'static str,
    text: String,
    phase: String,
    step: Option<u64>,
    worker: Option<u64>,
    /// `4..9,12..13`.
    shards: String,
}

impl EventLoop {
    /// Adds the file and rows of the shard that is to blame.
    pub(super) fn with_place(&self, message: String, shard: Option<(Stage, u32)>) -> String {
        let place = shard.and_then(|(stage, shard)| Some(self.stages.get(&stage)?.opening.subject.place(shard)));
        match place.filter(|place| !place.is_empty()) {
            Some(place) => format!("{message} ({place})"),
            None => message,
        }
    }

    /// Writes down what happened to a stage.
    pub(super) fn note(&self, note: Note) {
        let Note { stage, step, worker, shards, what, text } = note;
        let phase = self.stages.get(&stage).map(|entry| entry.opening.phase.clone()).unwrap_or_default();
        let (step, worker) = (step.map(|step| step.0), worker.map(|worker| worker.0));
        self.metrics.note(what.name(), shards.iter().map(|r| r.len() as u64).sum());
        let shards = shards.iter().map(|r| format!("{}..{}", r.start, r.end)).collect::<Vec<_>>().join(",");
        self.log(&stage.job, &Line { trouble: what.is_trouble(), what: what.name(), text, phase, step, worker, shards });
    }

    /// The one way into a job's log: for who watches, and for the log of the process.
    fn log(&self, job: &JobId, line: &Line) {
        let Line { trouble, what, text, phase, step, worker, shards } = line;
        match trouble {
            true => warn!(%job, phase, step, worker, shards, what, "{text}"),
            false => info!(%job, phase, step, worker, shards, what, "{text}"),
        }
        let level = if *trouble { "warn" } else { "info" }.to_owned();
        let (time_ms, phase, text) = (now().0, phase.clone(), text.clone());
        self.feeds.of(job).send(Watch::Log(v1::LogLine { time_ms, level, phase, step: *step, worker: *worker, text }));
    }

    /// Keeps the kind of a worker's own fault where the engine only knows its message.
    pub(super) fn fault_of(&self, job: &JobId, kind: FailKind, message: String) -> Fault {
        let own = self.stages.iter().filter(|(stage, _)| stage.job == *job).find_map(|(_, entry)| entry.fault.as_ref());
        let kind = match (kind, own) {
            (FailKind::Data | FailKind::Input | FailKind::Job, Some(fault)) => fault.kind,
            (FailKind::Job, None) => Kind::Job,
            (FailKind::Input | FailKind::Data, None) => Kind::Data,
            (FailKind::Limit, _) => Kind::Limit,
            (FailKind::Deadline, _) => Kind::Deadline,
            (FailKind::Internal, _) => Kind::Internal,
        };
        Fault::new(kind, message)
    }
}
