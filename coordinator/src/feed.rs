//! What watchers of a job see: all events from its start, then new ones as they come.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use sheaf_cluster::id::JobId;
use sheaf_proto::v1::{self, watch_job_response::Event};
use tokio::sync::watch;

/// Events kept for a job; beyond it progress is no longer recorded.
const KEEP: usize = 20_000;

/// Events of one job.
#[derive(Debug)]
pub struct Feed {
    events: Mutex<Vec<v1::WatchJobResponse>>,
    length: watch::Sender<usize>,
}

impl Feed {
    fn new() -> Self {
        Self { events: Mutex::default(), length: watch::Sender::new(0) }
    }

    /// Appends an event.
    pub fn send(&self, event: Event) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if events.len() >= KEEP && matches!(event, Event::PhaseProgress(_) | Event::StepFinished(_)) {
            return;
        }
        events.push(v1::WatchJobResponse { event: Some(event) });
        self.length.send_replace(events.len());
    }

    /// Events from `start`, as far as they are there.
    pub fn since(&self, start: usize) -> Vec<v1::WatchJobResponse> {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.get(start..).map(<[_]>::to_vec).unwrap_or_default()
    }

    /// Tells when there are more events.
    pub fn changes(&self) -> watch::Receiver<usize> {
        self.length.subscribe()
    }
}

/// Feeds of all jobs; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Feeds {
    feeds: Arc<Mutex<BTreeMap<JobId, Arc<Feed>>>>,
}

impl Feeds {
    /// The feed of a job, made when first asked for.
    pub fn of(&self, job: &JobId) -> Arc<Feed> {
        let mut feeds = self.feeds.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(feeds.entry(job.clone()).or_insert_with(|| Arc::new(Feed::new())))
    }
}
