//! What watchers of a job see: all events from its start, then new ones as they come; beside them the
//! job's log lines. Bounded: long jobs lose old progress and old steps, never phases or their end.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use sheaf_cluster::id::JobId;
use sheaf_proto::v1::{self, watch_job_response::Event};
use tokio::sync::watch;

use crate::context::now;

/// Steps kept for late watchers; of later ones only the newest.
const KEEP_STEPS: usize = 20_000;

/// Log lines kept of a job; the least important old ones go first.
const KEEP_LINES: usize = 4_000;

/// Feeds kept of jobs that have ended; older ones are read from the log and the store.
const KEEP_ENDED: usize = 200;

/// Events of one job.
#[derive(Debug)]
pub struct Feed {
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    /// Number of the newest event or line; they count together, from 1.
    newest: u64,
    events: Vec<(u64, Event)>,
    /// What only its newest matters of: progress, and steps beyond those kept.
    passing: BTreeMap<&'static str, (u64, Event)>,
    steps: usize,
    lines: VecDeque<Line>,
    ended: bool,
    phase: Option<(String, Instant)>,
    step: Option<v1::StepFinished>,
}

#[derive(Debug)]
struct Line {
    number: u64,
    /// Made from an event that watchers see anyway.
    derived: bool,
    line: v1::LogLine,
}

impl Feed {
    fn new() -> Self {
        Self { state: Mutex::default(), changes: watch::Sender::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Appending leaves no half-made state behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends an event; after the job's end nothing more.
    pub fn send(&self, event: Event) {
        let mut state = self.lock();
        if !state.ended {
            state.take(event);
            let newest = state.newest;
            drop(state);
            self.changes.send_replace(newest);
        }
    }

    /// Takes in the lines that an earlier leader stored, before anything else.
    pub fn restore(&self, lines: Vec<v1::LogLine>) {
        let mut state = self.lock();
        if state.lines.is_empty() {
            lines.into_iter().for_each(|line| state.line(line, true));
        }
    }

    /// Events and log lines behind `cursor` (0: all), in order, and the cursor behind them.
    pub fn since(&self, cursor: u64) -> (Vec<v1::WatchJobResponse>, u64) {
        let state = self.lock();
        let start = state.events.partition_point(|(number, _)| *number <= cursor);
        let mut found: Vec<(u64, Event)> = state.events[start..].to_vec();
        found.extend(state.passing.values().filter(|(number, _)| *number > cursor).cloned());
        let own = state.lines.iter().filter(|l| l.number > cursor && !l.derived);
        found.extend(own.map(|l| (l.number, Event::Log(l.line.clone()))));
        // The end is the last word, whatever was said at the same time.
        found.sort_by_key(|(number, event)| (matches!(event, Event::Ended(_)), *number));
        let events = found.into_iter().map(|(_, event)| v1::WatchJobResponse { event: Some(event) }).collect();
        (events, state.newest)
    }

    /// Log lines behind `cursor` (0: all), the cursor behind them, and whether the job has ended.
    pub fn lines_since(&self, cursor: u64) -> (Vec<v1::LogLine>, u64, bool) {
        let state = self.lock();
        let lines = state.lines.iter().filter(|l| l.number > cursor).map(|l| l.line.clone()).collect();
        (lines, state.newest, state.ended)
    }

    /// Whether there is nothing for watchers yet.
    pub fn is_empty(&self) -> bool {
        self.lock().events.is_empty()
    }

    /// Tells when there is more.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Where the open phase stands.
    pub fn progress(&self) -> Option<v1::JobProgress> {
        let state = self.lock();
        let (phase, began) = state.phase.as_ref()?;
        let shown = match state.passing.get(PROGRESS) {
            Some((_, Event::PhaseProgress(shown))) => shown.clone(),
            _ => v1::PhaseProgress::default(),
        };
        let step = state.step.as_ref().filter(|step| step.phase == *phase);
        let rounds = step.map_or(1, |step| step.step.max(1));
        let seconds = began.elapsed().as_secs_f64().max(0.001);
        Some(v1::JobProgress {
            done: shown.done,
            total: shown.total,
            rows: shown.rows,
            rows_per_second: shown.rows as f64 * rounds as f64 / seconds,
            step: step.map(|step| step.step),
            loss: step.and_then(|step| step.report.get("loss").copied()),
            workers: shown.workers,
        })
    }

    fn has_ended(&self) -> bool {
        self.lock().ended
    }
}

const PROGRESS: &str = "progress";
const STEP: &str = "step";

impl State {
    fn take(&mut self, event: Event) {
        if let Some(line) = derived(&event) {
            self.line(line, true);
        }
        match event {
            Event::Log(line) => self.line(line, false),
            Event::PhaseProgress(_) => self.pass(PROGRESS, event),
            Event::StepFinished(finished) => {
                self.step = Some(finished.clone());
                self.steps += 1;
                match self.steps > KEEP_STEPS {
                    true => self.pass(STEP, Event::StepFinished(finished)),
                    false => self.keep(Event::StepFinished(finished)),
                }
            }
            Event::PhaseStarted(ref started) => {
                self.phase = Some((started.phase.clone(), Instant::now()));
                self.passing.remove(PROGRESS);
                self.step = None;
                self.keep(event);
            }
            Event::PhaseFinished(_) => {
                self.phase = None;
                self.keep(event);
                self.passing.clear();
            }
            Event::Ended(_) => {
                self.ended = true;
                self.keep(event);
            }
            Event::Note(_) => self.keep(event),
        }
    }

    fn number(&mut self) -> u64 {
        self.newest += 1;
        self.newest
    }

    fn keep(&mut self, event: Event) {
        let number = self.number();
        self.events.push((number, event));
    }

    fn pass(&mut self, kind: &'static str, event: Event) {
        let number = self.number();
        self.passing.insert(kind, (number, event));
    }

    fn line(&mut self, mut line: v1::LogLine, derived: bool) {
        if line.time_ms == 0 {
            line.time_ms = now().0;
        }
        if line.phase.is_empty() {
            line.phase = self.phase.as_ref().map_or_else(String::new, |(phase, _)| phase.clone());
        }
        let number = self.number();
        self.lines.push_back(Line { number, derived, line });
        if self.lines.len() > KEEP_LINES {
            self.shorten();
        }
    }

    /// Makes room: the steps of the older half go first, then whatever is oldest.
    fn shorten(&mut self) {
        let (before, half) = (self.lines.len(), KEEP_LINES / 2);
        let mut index = 0;
        self.lines.retain(|line| {
            index += 1;
            index > half || line.line.level != "debug"
        });
        let spare = KEEP_LINES - KEEP_LINES / 8;
        let excess = self.lines.len().saturating_sub(spare);
        self.lines.drain(..excess);
        let dropped = before - self.lines.len();
        if let Some(first) = self.lines.front_mut()
            && !first.line.text.starts_with("(older lines were dropped")
        {
            first.line.text = format!("(older lines were dropped: {dropped} for the first time) {}", first.line.text);
        }
    }
}

/// The log line of an event that is not one itself.
fn derived(event: &Event) -> Option<v1::LogLine> {
    let line = |level: &str, phase: &str, step: Option<u64>, text: String| {
        Some(v1::LogLine { level: level.to_owned(), phase: phase.to_owned(), step, text, ..Default::default() })
    };
    match event {
        Event::PhaseStarted(e) if e.detail.is_empty() => line("info", &e.phase, None, "phase started".to_owned()),
        Event::PhaseStarted(e) => line("info", &e.phase, None, format!("phase started: {}", e.detail)),
        Event::PhaseFinished(e) => line("info", &e.phase, None, format!("phase done in {:.3} s", e.seconds)),
        Event::StepFinished(e) => {
            let values: BTreeMap<&String, &f64> = e.report.iter().collect();
            let values: Vec<String> = values.iter().map(|(name, value)| format!("{name} {value}")).collect();
            let colon = if values.is_empty() { "" } else { ": " };
            line("debug", &e.phase, Some(e.step), format!("step {} done{colon}{}", e.step, values.join(", ")))
        }
        Event::Note(e) => match e.text.strip_prefix("warning: ") {
            Some(text) => line("warn", "", None, text.to_owned()),
            None => line("info", "", None, e.text.clone()),
        },
        Event::Ended(e) => {
            let level = if e.state == "failed" { "error" } else { "info" };
            let why = if e.message.is_empty() { String::new() } else { format!(": {}", e.message) };
            line(level, "", None, format!("job {}{why}", e.state))
        }
        Event::PhaseProgress(_) | Event::Log(_) => None,
    }
}

/// Feeds of all jobs; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Feeds {
    feeds: Arc<Mutex<BTreeMap<JobId, Arc<Feed>>>>,
    storing: Arc<tokio::sync::Mutex<()>>,
}

impl Feeds {
    /// Held while log lines are written, so that an earlier state never replaces a later one.
    pub async fn storing(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.storing.lock().await
    }

    /// The feed of a job, made when first asked for.
    pub fn of(&self, job: &JobId) -> Arc<Feed> {
        let mut feeds = self.feeds.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(feed) = feeds.get(job) {
            return Arc::clone(feed);
        }
        let ended: Vec<JobId> = feeds.iter().filter(|(_, feed)| feed.has_ended()).map(|(job, _)| job.clone()).collect();
        // Ids are in the order of time.
        for old in ended.iter().take(ended.len().saturating_sub(KEEP_ENDED)) {
            feeds.remove(old);
        }
        let feed = Arc::new(Feed::new());
        feeds.insert(job.clone(), Arc::clone(&feed));
        feed
    }

    /// All feeds there are.
    pub fn all(&self) -> Vec<(JobId, Arc<Feed>)> {
        let feeds = self.feeds.lock().unwrap_or_else(PoisonError::into_inner);
        feeds.iter().map(|(job, feed)| (job.clone(), Arc::clone(feed))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(number: u64) -> Event {
        Event::StepFinished(v1::StepFinished { phase: "train".into(), step: number, report: [("loss".into(), 0.5)].into() })
    }

    fn log(text: &str) -> Event {
        Event::Log(v1::LogLine { level: "warn".into(), text: text.into(), ..Default::default() })
    }

    fn started(phase: &str) -> Event {
        Event::PhaseStarted(v1::PhaseStarted { phase: phase.into(), detail: String::new() })
    }

    #[test]
    fn watchers_see_events_and_lines_in_order() {
        let feed = Feed::new();
        feed.send(started("train"));
        feed.send(log("worker 1 lost"));
        feed.send(Event::StepFinished(v1::StepFinished { phase: "train".into(), step: 1, report: Default::default() }));
        feed.send(step(2));
        let (events, cursor) = feed.since(0);
        let kinds: Vec<bool> = events.iter().map(|e| matches!(e.event, Some(Event::Log(_)))).collect();
        assert_eq!(kinds, [false, true, false, false]);
        feed.send(Event::Ended(v1::JobEnded { state: "succeeded".into(), ..Default::default() }));
        feed.send(log("too late"));
        let (events, _) = feed.since(cursor);
        assert!(matches!(&events[..], [v1::WatchJobResponse { event: Some(Event::Ended(_)) }]), "{events:?}");
        let (lines, _, ended) = feed.lines_since(0);
        let texts: Vec<&str> = lines.iter().map(|l| l.text.as_str()).collect();
        assert_eq!(texts, ["phase started", "worker 1 lost", "step 1 done", "step 2 done: loss 0.5", "job succeeded"]);
        assert!(ended && lines.iter().all(|l| l.time_ms > 0));
        assert_eq!(lines[1].phase, "train");
    }

    #[test]
    fn only_the_newest_progress_is_kept() {
        let feed = Feed::new();
        feed.send(started("train"));
        for done in 0..100 {
            feed.send(Event::PhaseProgress(v1::PhaseProgress { phase: "train".into(), done, ..Default::default() }));
        }
        assert_eq!(feed.since(0).0.len(), 2);
        assert_eq!(feed.progress().map(|p| p.done), Some(99));
        feed.send(Event::PhaseFinished(v1::PhaseFinished { phase: "train".into(), seconds: 1.0 }));
        assert_eq!(feed.progress(), None);
    }

    #[test]
    fn steps_give_way_to_what_matters() {
        let feed = Feed::new();
        feed.send(started("train"));
        feed.send(log("worker 1 lost"));
        (1..10_000).for_each(|number| feed.send(step(number)));
        let (lines, _, _) = feed.lines_since(0);
        assert!(lines.len() <= KEEP_LINES);
        assert!(lines.iter().any(|l| l.text.ends_with("worker 1 lost")), "{:?}", lines.first());
        assert_eq!(lines.last().and_then(|l| l.step), Some(9_999));
    }
}
