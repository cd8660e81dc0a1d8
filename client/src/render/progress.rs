//! Progress on stderr: a bar per phase on a terminal, plain lines in a log. Nothing here is ever written
//! to stdout.

use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::format;

/// Least time between two lines of a phase in a log.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Where progress is shown.
#[derive(Clone)]
pub struct Progress(Output);

#[derive(Clone)]
enum Output {
    Bars(MultiProgress),
    Lines(Arc<Mutex<Box<dyn Write + Send>>>),
    Quiet,
}

impl Progress {
    /// Bars if stderr is a terminal, else lines on stderr.
    pub fn stderr() -> Self {
        if std::io::stderr().is_terminal() {
            Self(Output::Bars(MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(8))))
        } else {
            Self::lines(Box::new(std::io::stderr()))
        }
    }

    /// Plain lines to a writer. A line that cannot be written is lost: progress is no result.
    pub fn lines(writer: Box<dyn Write + Send>) -> Self {
        Self(Output::Lines(Arc::new(Mutex::new(writer))))
    }

    /// Nothing at all (`--quiet`).
    pub fn quiet() -> Self {
        Self(Output::Quiet)
    }

    /// Starts a phase: `total` of `unit` (`rows`, `steps` …) are to be done, if that is known.
    pub fn phase(&self, name: &str, total: Option<u64>, unit: &'static str) -> Phase {
        let state = State { done: 0, total, step: None, last_line: None, finished: false };
        let bar = match &self.0 {
            Output::Bars(bars) => {
                let bar = bars.add(new_bar(name, total, unit));
                bar.enable_steady_tick(Duration::from_millis(200));
                Some(bar)
            }
            Output::Lines(_) | Output::Quiet => None,
        };
        let inner = Inner { name: name.to_owned(), unit, started: Instant::now(), bar, output: self.0.clone() };
        Phase { inner, state: Mutex::new(state) }
    }

    /// A line of text among the bars, such as a warning.
    pub fn note(&self, text: &str) {
        match &self.0 {
            // A terminal that went away is no reason to stop the job.
            Output::Bars(bars) => drop(bars.println(text)),
            Output::Lines(writer) => write_line(writer, text),
            Output::Quiet => {}
        }
    }
}

/// One phase. May be told from any thread. Dropped without [`Phase::finish`], it is shown as broken off.
pub struct Phase {
    inner: Inner,
    state: Mutex<State>,
}

struct Inner {
    name: String,
    unit: &'static str,
    started: Instant,
    bar: Option<ProgressBar>,
    output: Output,
}

#[derive(Debug, Clone, PartialEq)]
struct State {
    done: u64,
    total: Option<u64>,
    step: Option<(u64, f64)>,
    last_line: Option<Instant>,
    finished: bool,
}

impl Phase {
    /// So many more are done.
    pub fn advance(&self, by: u64) {
        self.change(|state| state.done += by);
    }

    /// So many are done in all.
    pub fn set(&self, done: u64) {
        self.change(|state| state.done = done);
    }

    /// The total has become known, or has changed.
    pub fn set_total(&self, total: u64) {
        self.change(|state| state.total = Some(total));
    }

    /// A training step ended with this loss.
    pub fn step(&self, step: u64, loss: f64) {
        self.change(|state| state.step = Some((step, loss)));
    }

    /// The phase is over.
    pub fn finish(self) {
        let mut state = self.lock();
        state.finished = true;
        let line = finished_line(&self.inner, &state, self.inner.started.elapsed().as_secs_f64());
        drop(state);
        self.end(&line);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Counters stay sensible whatever a panicking thread was doing.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        if let Some(bar) = &self.inner.bar {
            if let Some(total) = state.total {
                if bar.length().is_none() {
                    bar.set_style(style(true, self.inner.unit));
                }
                bar.set_length(total);
            }
            bar.set_position(state.done);
            bar.set_message(step_text(&state));
        }
        if let Output::Lines(writer) = &self.inner.output {
            let now = Instant::now();
            if now - state.last_line.unwrap_or(self.inner.started) >= LINE_EVERY {
                state.last_line = Some(now);
                write_line(writer, &running_line(&self.inner, &state, self.inner.started.elapsed().as_secs_f64()));
            }
        }
    }

    fn end(&self, line: &str) {
        match &self.inner.output {
            Output::Bars(bars) => {
                if let Some(bar) = &self.inner.bar {
                    bar.finish_and_clear();
                    bars.remove(bar);
                }
                // A terminal that went away is no reason to stop the job.
                drop(bars.println(line));
            }
            Output::Lines(writer) => write_line(writer, line),
            Output::Quiet => {}
        }
    }
}

impl Drop for Phase {
    fn drop(&mut self) {
        let state = self.lock().clone();
        if !state.finished {
            let seconds = self.inner.started.elapsed().as_secs_f64();
            self.end(&format!("{}: broken off after {}", self.inner.name, format::seconds(seconds)));
        }
    }
}

fn write_line(writer: &Mutex<Box<dyn Write + Send>>, line: &str) {
    let mut writer = writer.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    // A log that cannot be written (a closed pipe, a full disk) is no reason to stop the job.
    drop(writeln!(writer, "{line}").and_then(|()| writer.flush()));
}

fn step_text(state: &State) -> String {
    state.step.map(|(step, loss)| format!("step {step}, loss {}", format::number(loss))).unwrap_or_default()
}

/// `prepare: 250,000 of 1,000,000 rows (25 %), 310,000 rows/s`, `train: step 12, loss 0.0123, 20 steps/s`.
fn running_line(phase: &Inner, state: &State, seconds: f64) -> String {
    let amount = match state.total {
        _ if state.step.is_some() => step_text(state),
        Some(total) if total > 0 => {
            let share = format::percent(state.done.min(total) as f64 / total as f64);
            format!("{} of {} {} ({share})", format::count(state.done), format::count(total), phase.unit)
        }
        _ if state.done > 0 => amount(state.done, phase.unit),
        _ => return format!("{}: running", phase.name),
    };
    with_rate(format!("{}: {amount}", phase.name), phase, state, seconds)
}

/// `prepare: done in 3.2 s, 1,000,000 rows, 310,000 rows/s`.
fn finished_line(phase: &Inner, state: &State, seconds: f64) -> String {
    let line = format!("{}: done in {}", phase.name, format::seconds(seconds));
    match state.done {
        _ if state.step.is_some() => with_rate(format!("{line}, {}", step_text(state)), phase, state, seconds),
        0 => line,
        done => with_rate(format!("{line}, {}", amount(done, phase.unit)), phase, state, seconds),
    }
}

/// Adds how fast it goes: steps if there are any, each of which goes over all shards, else what is done.
fn with_rate(line: String, phase: &Inner, state: &State, seconds: f64) -> String {
    let rate = match state.step {
        Some((step, _)) => format::rate(step, seconds, "steps"),
        None if state.done > 0 => format::rate(state.done, seconds, phase.unit),
        None => String::new(),
    };
    if rate.is_empty() { line } else { format!("{line}, {rate}") }
}

/// `1 shard`, `2 shards`.
fn amount(n: u64, unit: &str) -> String {
    format!("{} {}", format::count(n), if n == 1 { unit.trim_end_matches('s') } else { unit })
}

fn new_bar(name: &str, total: Option<u64>, unit: &'static str) -> ProgressBar {
    // Hidden until it stands among the others, or it draws a line of its own that stays.
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
    bar.set_style(style(total.is_some(), unit));
    bar.set_prefix(name.to_owned());
    bar
}

/// A bar once the total is known, a spinner before.
fn style(known: bool, unit: &'static str) -> ProgressStyle {
    let per_second = move |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        let rate = format::rate(state.pos(), state.elapsed().as_secs_f64(), unit);
        // Drawing again is the only remedy, and it happens anyway.
        let _ = out.write_str(if state.pos() > 0 { &rate } else { "" });
    };
    let template = match known {
        true => "{prefix:<12} {bar:28.cyan} {human_pos}/{human_len} {rate} {msg}",
        false => "{prefix:<12} {spinner} {human_pos} {rate} {msg}",
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.with_key("rate", per_second).progress_chars("█▉▊▋▌▍▎▏ ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phase(name: &str, unit: &'static str) -> Inner {
        Inner { name: name.to_owned(), unit, started: Instant::now(), bar: None, output: Output::Quiet }
    }

    #[test]
    fn lines_say_what_is_known() {
        let state = |done, total, step| State { done, total, step, last_line: None, finished: false };
        let prepare = phase("prepare", "rows");
        let line = |state: &State| running_line(&prepare, state, 2.0);
        assert_eq!(line(&state(250_000, Some(1_000_000), None)), "prepare: 250,000 of 1,000,000 rows (25 %), 125,000 rows/s");
        assert_eq!(line(&state(10, None, None)), "prepare: 10 rows, 5.0 rows/s");
        assert_eq!(line(&state(1, None, None)), "prepare: 1 row, 0.5 rows/s");
        assert_eq!(line(&state(0, None, None)), "prepare: running");
        assert_eq!(
            finished_line(&phase("train", "shards"), &state(2, Some(2), Some((34, 0.01234))), 1.7),
            "train: done in 1.7 s, step 34, loss 0.01234, 20 steps/s"
        );
    }

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("no test thread panics").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn phases_end_with_a_line() {
        let shared = Shared::default();
        let progress = Progress::lines(Box::new(shared.clone()));
        let done = progress.phase("prepare", Some(10), "rows");
        done.advance(4);
        done.set(10);
        done.finish();
        drop(progress.phase("train", None, "steps"));
        progress.note("a note");
        let text = String::from_utf8(shared.0.lock().expect("no test thread panics").clone()).expect("text is UTF-8");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[0].starts_with("prepare: done in ") && lines[0].contains(", 10 rows"), "{}", lines[0]);
        assert!(lines[1].starts_with("train: broken off after "), "{}", lines[1]);
        assert_eq!(lines[2], "a note");
    }
}
