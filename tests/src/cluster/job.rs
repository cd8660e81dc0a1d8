//! A job as its user sees it: the lines of `sheaf jobs logs --follow`, read while they come, across restarts
//! of the coordinator.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

/// One line of a job's log.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Leader's clock.
    pub time_ms: u64,
    /// `debug`, `info`, `warn` or `error`.
    pub level: String,
    /// Phase of the job.
    pub phase: String,
    /// Step, if it is about one.
    pub step: Option<u64>,
    /// The sentence.
    pub text: String,
    /// When it was read here.
    pub seen: Instant,
}

/// A submitted job whose log is followed until this is dropped.
#[derive(Debug)]
pub struct Job {
    /// Its id.
    pub id: String,
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    lines: Mutex<Vec<Line>>,
    child: Mutex<Option<Child>>,
    done: AtomicBool,
}

impl Job {
    /// Follows a job with the given command, which is started again when it ends before the job.
    pub fn follow(id: &str, command: Command) -> Self {
        let shared = Arc::new(Shared::default());
        let inside = Arc::clone(&shared);
        let reader = std::thread::spawn(move || read(command, &inside));
        Self { id: id.to_owned(), shared, reader: Some(reader) }
    }

    /// The lines so far.
    pub fn lines(&self) -> Vec<Line> {
        self.shared.lines().clone()
    }

    /// The newest step of training.
    pub fn step(&self) -> u64 {
        let lines = self.shared.lines();
        lines.iter().filter(|line| line.phase == "train").filter_map(|line| line.step).max().unwrap_or(0)
    }

    /// Whether a phase has begun.
    pub fn entered(&self, phase: &str) -> bool {
        self.shared.lines().iter().any(|line| line.phase == phase)
    }

    /// Whether a phase is over.
    pub fn left(&self, phase: &str) -> bool {
        self.shared.lines().iter().any(|line| line.phase == phase && line.text.starts_with("phase done"))
    }

    /// The line that says how the job ended, if it has.
    pub fn end(&self) -> Option<String> {
        self.shared.end()
    }

    /// Leader's times at which steps of training were done, ascending by step; of a repeated one the last.
    pub fn step_times(&self) -> Vec<(u64, u64)> {
        let lines = self.shared.lines();
        let steps = lines.iter().filter(|line| line.phase == "train" && line.text.contains("done"));
        let times: std::collections::BTreeMap<u64, u64> = steps.filter_map(|l| l.step.map(|step| (step, l.time_ms))).collect();
        times.into_iter().collect()
    }
}

impl Shared {
    fn lines(&self) -> std::sync::MutexGuard<'_, Vec<Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kill(&self) {
        if let Some(child) = self.child().as_mut() {
            // It may have ended by itself.
            let _ = child.kill();
        }
    }

    fn end(&self) -> Option<String> {
        let ended =
            |line: &&Line| ["succeeded", "failed", "cancelled"].iter().any(|s| line.text.starts_with(&format!("job {s}")));
        self.lines().iter().find(ended).map(|line| line.text.clone())
    }

    /// Takes a line in, unless an earlier reader of the same log saw it.
    fn take(&self, text: &str) {
        let Ok(value) = serde_json::from_str::<Value>(text) else { return };
        let text_of = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        let line = Line {
            time_ms: value["time_ms"].as_u64().unwrap_or(0),
            level: text_of("level"),
            phase: text_of("phase"),
            step: value["step"].as_u64(),
            text: text_of("text"),
            seen: Instant::now(),
        };
        let mut lines = self.lines();
        let known = |other: &Line| other.time_ms == line.time_ms && other.text == line.text && other.phase == line.phase;
        if !lines.iter().rev().any(known) {
            lines.push(line);
        }
    }
}

fn read(mut command: Command, shared: &Shared) {
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    while !shared.done.load(Ordering::Relaxed) && shared.end().is_none() {
        let mut child = command.spawn().unwrap();
        let output = child.stdout.take().unwrap();
        *shared.child() = Some(child);
        if shared.done.load(Ordering::Relaxed) {
            // Dropped between the look above and now: nobody else will end it.
            shared.kill();
        }
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            shared.take(&line);
        }
        if let Some(mut child) = shared.child().take() {
            let _ = child.wait();
        }
        // The coordinator may be away: there is no point in asking faster.
        std::thread::sleep(Duration::from_millis(50));
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.shared.done.store(true, Ordering::Relaxed);
        self.shared.kill();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}
