//! Rows of the screen's tables as text that fits: columns give way in a fixed order when it gets narrow.

use ratatui::style::{Color, Style};
use ratatui::text::{Line, Span};

use super::screen::Screen;
use super::snapshot::{JobRow, LogRow, Shares, WorkerRow};
use crate::render::{Look, format, plot};

/// What the bars of workers mean.
pub const LEGEND: &str = "▒ read  █ compute  ▓ merge  ░ wait";

/// How parts of a worker's time are drawn, in the order of [`Shares::parts`].
const PARTS: [(&str, Color); 4] = [("▒", Color::Yellow), ("█", Color::Green), ("▓", Color::Cyan), ("░", Color::DarkGray)];

/// A column: its heading, its width (0: what is left), numbers to the right, and the width of the table from
/// which on it is shown.
struct Column {
    heading: &'static str,
    width: usize,
    right: bool,
    from: usize,
}

const fn column(heading: &'static str, width: usize, right: bool, from: usize) -> Column {
    Column { heading, width, right, from }
}

const JOBS: [Column; 9] = [
    column("job", 10, false, 100),
    column("name", 14, false, 0),
    column("phase", 12, false, 0),
    column("done", 8, false, 0),
    column("rows/s", 7, true, 56),
    column("step", 5, true, 64),
    column("loss", 9, true, 70),
    column("namespace", 10, false, 110),
    column("", 0, false, 0),
];

/// Place of the first column with numbers of a job.
const DONE: usize = 3;

const WORKERS: [Column; 9] = [
    column("worker", 6, true, 0),
    column("name", 12, false, 76),
    column("state", 9, false, 0),
    column("owes", 5, true, 48),
    column("threads", 7, true, 100),
    column("cache", 5, true, 54),
    column("spilled", 7, true, 62),
    column("rows/s", 7, true, 0),
    column("time", 0, false, 0),
];

/// Columns that a table of a width has, with their widths and places.
fn columns(all: &[Column], width: usize) -> Vec<(usize, usize, &Column)> {
    let shown: Vec<(usize, &Column)> = all.iter().enumerate().filter(|(_, column)| column.from <= width).collect();
    let fixed: usize = shown.iter().map(|(_, column)| column.width).sum::<usize>() + shown.len().saturating_sub(1);
    let rest = width.saturating_sub(fixed);
    shown.into_iter().map(|(at, column)| (at, if column.width == 0 { rest } else { column.width }, column)).collect()
}

/// Text cut or filled to a width.
pub fn fit(text: &str, width: usize, right: bool) -> String {
    let length = text.chars().count();
    if length > width {
        let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
        cut.extend((width > 0).then_some('…'));
        return cut;
    }
    if right { format!("{text:>width$}") } else { format!("{text:<width$}") }
}

/// `999`, `12.3k`, `4.8M`, `1.2G`.
pub fn short(n: f64) -> String {
    match n {
        n if !n.is_finite() || n < 0.0 => "-".to_owned(),
        n if n < 999.5 => format!("{n:.0}"),
        n if n < 999_950.0 => format!("{:.1}k", n / 1e3),
        n if n < 999_950_000.0 => format!("{:.1}M", n / 1e6),
        n => format!("{:.1}G", n / 1e9),
    }
}

/// A size in few columns: `999`, `600M`, `2.0G`.
pub fn short_bytes(n: u64) -> String {
    const UNITS: [&str; 6] = ["", "K", "M", "G", "T", "P"];
    let (mut value, mut unit) = (n as f64, 0);
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 || value >= 9.95 { format!("{value:.0}{}", UNITS[unit]) } else { format!("{value:.1}{}", UNITS[unit]) }
}

/// The heading of the jobs.
pub fn job_heading(width: usize) -> String {
    heading(&JOBS, width)
}

/// The heading of the workers.
pub fn worker_heading(width: usize) -> String {
    heading(&WORKERS, width)
}

fn heading(all: &[Column], width: usize) -> String {
    let cells: Vec<String> =
        columns(all, width).iter().map(|(_, width, column)| fit(column.heading, *width, column.right)).collect();
    cells.join(" ")
}

/// One job.
pub fn job_line(job: &JobRow, screen: &Screen, width: usize) -> Line<'static> {
    let mut spans = Vec::new();
    let (mut left, speaks) = (width, job.state != "running" && !job.note.is_empty());
    for (at, width, column) in columns(&JOBS, width) {
        if at == DONE && speaks {
            // There are no numbers to show: why it waits, or what went wrong, has their room.
            spans.push(Span::raw(fit(&job.note, left, false)));
            return Line::from(spans).style(Style::new().fg(job_color(job)));
        }
        left = left.saturating_sub(width + 1);
        let text = match at {
            0 => job.job.clone(),
            1 => job.name.clone(),
            2 => if job.state == "running" && !job.phase.is_empty() { &job.phase } else { &job.state }.clone(),
            3 => done(job, width),
            4 => rate(job.rows_per_second),
            5 => job.step.map_or_else(String::new, |step| step.to_string()),
            6 => job.loss.map_or_else(String::new, format::number),
            7 => job.namespace.clone(),
            _ => note(job, screen, width),
        };
        spans.push(Span::raw(fit(&text, width, column.right)));
        spans.push(Span::raw(" "));
    }
    spans.pop();
    Line::from(spans).style(Style::new().fg(job_color(job)))
}

fn job_color(job: &JobRow) -> Color {
    match job.state.as_str() {
        "failed" => Color::Red,
        "succeeded" => Color::Green,
        "running" if !job.note.is_empty() => Color::Yellow,
        "running" => Color::Reset,
        _ => Color::Gray,
    }
}

/// The bar of the current step.
fn done(job: &JobRow, width: usize) -> String {
    match job.total {
        0 => String::new(),
        total => plot::bar(job.done.min(total) as f64 / total as f64, width, &Look::terminal(80)),
    }
}

fn rate(rows_per_second: f64) -> String {
    if rows_per_second > 0.0 { short(rows_per_second) } else { String::new() }
}

/// Why it waits or what went wrong; else how the loss went.
fn note(job: &JobRow, screen: &Screen, width: usize) -> String {
    match job.note.is_empty() {
        true => plot::curve(&screen.history.losses(&job.job), width, &Look::terminal(80)),
        false => job.note.clone(),
    }
}

/// One worker.
pub fn worker_line(worker: &WorkerRow, screen: &Screen, width: usize) -> Line<'static> {
    let mut spans = Vec::new();
    let columns = columns(&WORKERS, width);
    for (at, width, column) in columns {
        let text = match at {
            0 => worker.worker.to_string(),
            1 => worker.name.clone(),
            2 => state(worker).to_owned(),
            3 => worker.owed_shards.to_string(),
            4 => worker.threads.to_string(),
            5 => short_bytes(worker.cache_bytes),
            6 => short_bytes(worker.spilled_bytes),
            7 => rate(worker.rows_per_second),
            _ => {
                spans.extend(shares(&screen.history.recent(worker.worker), width));
                continue;
            }
        };
        spans.push(Span::raw(fit(&text, width, column.right)));
        spans.push(Span::raw(" "));
    }
    Line::from(spans)
}

fn state(worker: &WorkerRow) -> &str {
    match worker.state.as_str() {
        "ready" if worker.owed_shards > 0 => "busy",
        "ready" | "" => "idle",
        other => other,
    }
}

/// A bar of what a worker did; nothing if it did nothing.
pub fn shares(shares: &Shares, width: usize) -> Vec<Span<'static>> {
    let parts = shares.parts();
    let (all, mut sum, mut drawn) = (parts.iter().sum::<u64>(), 0, 0);
    let mut spans = Vec::new();
    for (part, (sign, color)) in parts.into_iter().zip(PARTS).filter(|_| all > 0) {
        sum += part;
        let end = ((sum as f64 / all as f64) * width as f64).round() as usize;
        spans.push(Span::styled(sign.repeat(end.saturating_sub(drawn)), Style::new().fg(color)));
        drawn = drawn.max(end);
    }
    spans
}

/// One log line.
pub fn log_line(line: &LogRow, width: usize) -> Line<'static> {
    let time = chrono::DateTime::from_timestamp_millis(line.time_ms as i64).map(|t| t.format("%H:%M:%S").to_string());
    let time = time.unwrap_or_else(|| "--:--:--".to_owned());
    // One line each, whatever a message holds.
    let words: String = line.text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let text = match width {
        0..56 => format!("{time} {words}"),
        _ => format!("{time} {:<5} {:<10} {words}", line.level, line.phase),
    };
    let color = match line.level.as_str() {
        "error" => Color::Red,
        "warn" => Color::Yellow,
        "debug" => Color::DarkGray,
        _ => Color::Reset,
    };
    Line::styled(fit(&text, width, false), Style::new().fg(color))
}
