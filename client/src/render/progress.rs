//! Progress on stderr: a bar per phase on a terminal, as wide as that is, plain lines in a log. Nothing here
//! is ever written to stdout.

#[cfg(test)]
pub mod caught;

use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::{Look, format, plot};

/// Least time between two lines of a phase in a log.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Least time between two lines of a phase that tell of a step: the first, the second, the fourth and so on.
const STEP_LINE_EVERY: Duration = Duration::from_secs(1);

/// Least and greatest width of a bar.
const BAR: (usize, usize) = (8, 28);

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
        let state = Arc::new(Mutex::new(State { total, ..State::default() }));
        let inner = Inner { name: name.to_owned(), unit, started: Instant::now(), output: self.0.clone() };
        let bar = match &self.0 {
            Output::Bars(bars) => Some(bars.add(new_bar(&inner, &state))),
            Output::Lines(_) | Output::Quiet => None,
        };
        bar.iter().for_each(|bar| bar.enable_steady_tick(Duration::from_millis(200)));
        Phase { inner, bar, state }
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
    bar: Option<ProgressBar>,
    state: Arc<Mutex<State>>,
}

#[derive(Clone)]
struct Inner {
    name: String,
    unit: &'static str,
    started: Instant,
    output: Output,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct State {
    done: u64,
    total: Option<u64>,
    /// Rows of one round over the data.
    rows: u64,
    workers: u32,
    step: Option<(u64, f64)>,
    last_line: Option<Instant>,
    finished: bool,
}

impl State {
    /// Rows gone through: each step is a round over the data.
    fn rows_in_all(&self) -> u64 {
        self.rows.saturating_mul(self.step.map_or(1, |(step, _)| step.max(1)))
    }
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

    /// Rows of one round over the data, and who takes part.
    pub fn set_rows(&self, rows: u64, workers: u32) {
        self.change(|state| (state.rows, state.workers) = (rows, workers));
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

    /// Nobody looks on any more, and nothing is said of how it goes on.
    pub fn leave(self) {
        self.lock().finished = true;
        if let (Output::Bars(bars), Some(bar)) = (&self.inner.output, &self.bar) {
            bar.finish_and_clear();
            bars.remove(bar);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        let before = state.step;
        change(&mut state);
        let Output::Lines(writer) = &self.inner.output else { return };
        let now = Instant::now();
        let since = now - state.last_line.unwrap_or(self.inner.started);
        let told = state.step != before && state.step.is_some_and(|(step, _)| step.is_power_of_two());
        if since >= LINE_EVERY || (told && since >= STEP_LINE_EVERY) {
            state.last_line = Some(now);
            write_line(writer, &running_line(&self.inner, &state, self.inner.started.elapsed().as_secs_f64()));
        }
    }

    fn end(&self, line: &str) {
        match &self.inner.output {
            Output::Bars(bars) => {
                if let Some(bar) = &self.bar {
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

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // Counters stay sensible whatever a panicking thread was doing.
    state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
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
    let line = with_rate(format!("{}: {amount}", phase.name), phase, state, seconds);
    if state.workers > 0 { format!("{line}, {}", amount_of_workers(state.workers)) } else { line }
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

/// Adds how fast it goes: steps if there are any, each of which goes over all shards, else what is done; then
/// rows, where they are known.
fn with_rate(line: String, phase: &Inner, state: &State, seconds: f64) -> String {
    let rate = match state.step {
        Some((step, _)) => format::rate(step, seconds, "steps"),
        None if state.done > 0 && state.rows == 0 => format::rate(state.done, seconds, phase.unit),
        None => String::new(),
    };
    let rows = if state.rows > 0 { format::rate(state.rows_in_all(), seconds, "rows") } else { String::new() };
    [line, rate, rows].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}

/// `1 shard`, `2 shards`.
fn amount(n: u64, unit: &str) -> String {
    format!("{} {}", format::count(n), if n == 1 { unit.trim_end_matches('s') } else { unit })
}

fn amount_of_workers(workers: u32) -> String {
    amount(u64::from(workers), "workers")
}

/// A line with a bar for a terminal of a width: what matters most is kept, the bar gets what is left.
fn bar_line(phase: &Inner, state: &State, seconds: f64, width: usize) -> String {
    let name: String = phase.name.chars().take(width / 3).collect();
    let known = state.total.filter(|total| *total > 0);
    let share = known.map(|total| state.done.min(total) as f64 / total as f64);
    let done = match known {
        Some(total) => format!("{}/{} {}", format::count(state.done), format::count(total), phase.unit),
        None if state.done > 0 => amount(state.done, phase.unit),
        None => format::seconds(seconds),
    };
    let rate = match state.rows {
        0 if state.done > 0 => format::rate(state.done, seconds, phase.unit),
        0 => String::new(),
        _ => format::rate(state.rows_in_all(), seconds, "rows"),
    };
    let workers = if state.workers > 0 { amount_of_workers(state.workers) } else { String::new() };
    // In the order of their places; which are left out first stands behind.
    let parts = [(done, 1), (rate, 2), (step_text(state), 0), (workers, 3)];
    let mut room = width.saturating_sub(name.chars().count().max(12) + 1 + if share.is_some() { BAR.0 } else { 0 });
    let mut kept = [false; 4];
    for importance in 0..parts.len() {
        let Some(at) = parts.iter().position(|(text, rank)| *rank == importance && !text.is_empty()) else { continue };
        let length = parts[at].0.chars().count() + 2;
        if length <= room {
            room -= length;
            kept[at] = true;
        }
    }
    let bar_width = (BAR.0 + room).min(BAR.1);
    let bar =
        share.map_or_else(String::new, |share| format!(" {:<bar_width$}", plot::bar(share, bar_width, &Look::terminal(80))));
    let texts = parts.iter().zip(kept).filter(|(_, kept)| *kept).map(|((text, _), _)| format!("  {text}"));
    format!("{name:<12}{bar}{}", texts.collect::<String>()).trim_end().to_owned()
}

/// A bar that draws its line anew at every tick.
fn new_bar(phase: &Inner, state: &Arc<Mutex<State>>) -> ProgressBar {
    // Hidden until it stands among the others, or it draws a line of its own that stays.
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    let (phase, state) = (phase.clone(), Arc::clone(state));
    let line = move |_: &ProgressState, out: &mut dyn std::fmt::Write| {
        let width = comfy_table::Table::new().width().map_or(80, usize::from);
        let line = bar_line(&phase, &lock(&state), phase.started.elapsed().as_secs_f64(), width.saturating_sub(1));
        // Drawing again is the only remedy, and it happens anyway.
        let _ = out.write_str(&line);
    };
    let style = ProgressStyle::with_template("{line}").unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.set_style(style.with_key("line", line));
    bar
}

#[cfg(test)]
mod tests {
    use super::caught::caught;
    use super::*;

    fn phase(name: &str, unit: &'static str) -> Inner {
        Inner { name: name.to_owned(), unit, started: Instant::now(), output: Output::Quiet }
    }

    #[test]
    fn lines_say_what_is_known() {
        let state = |done, total, step| State { done, total, step, ..State::default() };
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

    #[test]
    fn a_bar_line_keeps_what_matters_most() {
        let train = phase("train (logistic_regression)", "shards");
        let state = State { done: 20, total: Some(31), rows: 800_000, workers: 2, step: Some((12, 0.0123)), ..State::default() };
        let line = |width| bar_line(&train, &state, 2.0, width);
        assert_eq!(line(30), "train (log   ███████████");
        assert_eq!(line(60), "train (logistic_regr ██████████▍       step 12, loss 0.01230");
        for width in [30, 40, 50, 60, 80, 120, 200] {
            assert!(line(width).chars().count() <= width.max(30), "wider than {width}: {}", line(width));
        }
        let wide = line(140);
        for part in ["20/31 shards", "4,800,000 rows/s", "step 12, loss 0.01230", "2 workers"] {
            assert!(wide.contains(part), "{part} is not in {wide}");
        }
        let unknown = State { total: None, ..State::default() };
        assert_eq!(bar_line(&phase("plan", "shards"), &unknown, 1.5, 60), "plan          1.5 s");
        let running = running_line(&phase("train", "shards"), &state, 2.0);
        assert_eq!(running, "train: step 12, loss 0.01230, 6.0 steps/s, 4,800,000 rows/s, 2 workers");
    }

    #[test]
    fn phases_end_with_a_line() {
        let (progress, caught) = caught();
        let done = progress.phase("prepare", Some(10), "rows");
        done.advance(4);
        done.set(10);
        done.finish();
        drop(progress.phase("train", None, "steps"));
        progress.note("a note");
        let text = caught.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[0].starts_with("prepare: done in ") && lines[0].contains(", 10 rows"), "{}", lines[0]);
        assert!(lines[1].starts_with("train: broken off after "), "{}", lines[1]);
        assert_eq!(lines[2], "a note");
    }
}
