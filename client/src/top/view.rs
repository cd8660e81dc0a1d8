//! Drawing the screen: nothing here asks, waits or keeps anything.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Clear, Paragraph, Wrap};

use super::screen::{Dialog, Pane, Screen};
use super::snapshot::Snapshot;
use super::tables::{LEGEND, fit, job_heading, job_line, log_line, short_bytes, worker_heading, worker_line};

/// Below this height tables have a line above them instead of a frame around them.
const FRAMES_FROM: u16 = 20;

/// What the keys do.
const HELP: [(&str, &str); 8] = [
    ("↑ ↓", "select"),
    ("home end", "first, last"),
    ("tab ← →", "jobs, workers"),
    ("c", "cancel the job"),
    ("d", "drain the worker"),
    ("y", "yes; any other key: no"),
    ("?", "these keys"),
    ("q esc", "leave"),
];

/// Draws everything.
pub fn draw(frame: &mut Frame, snapshot: &Snapshot, screen: &Screen) {
    let (jobs, workers) = heights(frame.area().height, snapshot);
    let areas = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(jobs),
        Constraint::Length(workers),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .split(frame.area());
    header(frame, areas[0], snapshot, screen);
    jobs_table(frame, areas[1], snapshot, screen);
    workers_table(frame, areas[2], snapshot, screen);
    log(frame, areas[3], snapshot, screen);
    footer(frame, areas[4], screen);
    match &screen.dialog {
        Dialog::None => {}
        Dialog::Help => help(frame),
        Dialog::Confirm(_, question) => confirm(frame, question),
    }
}

/// Heights of the jobs and workers with what is around them: as many as there are, at most so many shares of the
/// screen.
fn heights(height: u16, snapshot: &Snapshot) -> (u16, u16) {
    let room = height.saturating_sub(2);
    let around = if height < FRAMES_FROM { 2 } else { 3 };
    let wanted = |rows: usize| u16::try_from(rows).unwrap_or(u16::MAX).saturating_add(around);
    let least = 4.min(room / 2);
    let jobs = wanted(snapshot.jobs.len().max(1)).min(room * 2 / 5).max(least);
    let workers = wanted(snapshot.workers.len().max(1)).min(room * 7 / 20).max(least);
    (jobs, workers)
}

fn header(frame: &mut Frame, area: Rect, snapshot: &Snapshot, screen: &Screen) {
    let width = area.width as usize;
    let workers = &snapshot.workers;
    let threads: u32 = workers.iter().map(|w| w.threads).sum();
    let sum = |of: fn(&super::WorkerRow) -> u64| workers.iter().map(of).sum::<u64>();
    let (cache, memory, spilled) = (sum(|w| w.cache_bytes), sum(|w| w.memory_bytes), sum(|w| w.spilled_bytes));
    let state = if screen.away { "reconnecting" } else { "" };
    let parts = [
        snapshot.address.clone(),
        format!("{} workers, {threads} threads", workers.len()),
        format!("cache {} of {}", short_bytes(cache), short_bytes(memory)),
        format!("spilled {}", short_bytes(spilled)),
        format!("term {}", snapshot.term),
        format!("version {}", snapshot.version),
        format!("store {}", snapshot.store),
    ];
    // What does not fit is left out, the last first; that the coordinator is away is always said.
    let room = width.saturating_sub(if state.is_empty() { 0 } else { state.len() + 2 });
    let mut text = String::new();
    for part in parts {
        let gap = if text.is_empty() { "" } else { " · " };
        if text.chars().count() + gap.chars().count() + part.chars().count() <= room {
            text.extend([gap, &part]);
        }
    }
    let style = Style::new().add_modifier(Modifier::BOLD);
    let mut spans = vec![Span::styled(text, style)];
    if !state.is_empty() {
        spans.push(Span::raw("  "));
        spans.push(Span::styled(state, style.fg(Color::Red)));
    }
    frame.render_widget(Paragraph::new(Line::from(spans)), area);
}

fn jobs_table(frame: &mut Frame, area: Rect, snapshot: &Snapshot, screen: &Screen) {
    let title = format!(" jobs: {} running, {} queued ", snapshot.running_jobs, snapshot.queued_jobs);
    let inner = framed(frame, area, title, screen.pane == Pane::Jobs);
    let width = inner.width as usize;
    let lines: Vec<Line> = snapshot.jobs.iter().map(|job| job_line(job, screen, width)).collect();
    rows(frame, inner, job_heading(width), lines, screen.job_at(snapshot), "no jobs");
}

fn workers_table(frame: &mut Frame, area: Rect, snapshot: &Snapshot, screen: &Screen) {
    let legend = if area.width >= 60 { format!("  {LEGEND} ") } else { String::new() };
    let title = format!(" workers: {} {legend}", snapshot.workers.len());
    let inner = framed(frame, area, title, screen.pane == Pane::Workers);
    let width = inner.width as usize;
    let lines: Vec<Line> = snapshot.workers.iter().map(|worker| worker_line(worker, screen, width)).collect();
    let nobody = "no workers: start some with `sheaf worker --join`";
    rows(frame, inner, worker_heading(width), lines, screen.worker_at(snapshot), nobody);
}

fn log(frame: &mut Frame, area: Rect, snapshot: &Snapshot, screen: &Screen) {
    let name = screen.selected(snapshot).map_or_else(String::new, |job| format!(" of {}", job.name));
    let inner = framed(frame, area, format!(" log{name} "), false);
    let room = inner.height as usize;
    let newest = snapshot.log.iter().skip(snapshot.log.len().saturating_sub(room));
    let lines: Vec<Line> = newest.map(|line| log_line(line, inner.width as usize)).collect();
    frame.render_widget(Paragraph::new(lines), inner);
}

fn footer(frame: &mut Frame, area: Rect, screen: &Screen) {
    let keys = "q leave  ? keys  c cancel  d drain";
    let text = if screen.message.is_empty() { keys } else { &screen.message };
    let line = Line::styled(fit(text, area.width as usize, false), Style::new().fg(Color::DarkGray));
    frame.render_widget(Paragraph::new(line), area);
}

/// A frame with a title, or only a line on a low screen; what is inside.
fn framed(frame: &mut Frame, area: Rect, title: String, active: bool) -> Rect {
    let borders = if frame.area().height < FRAMES_FROM { Borders::TOP } else { Borders::ALL };
    let style = if active { Style::new().fg(Color::Cyan) } else { Style::new().fg(Color::DarkGray) };
    let title = Span::styled(title, Style::new().fg(Color::Reset));
    let block = Block::new().borders(borders).border_style(style).title(title);
    let inner = block.inner(area);
    frame.render_widget(block, area);
    inner
}

/// A heading and as many rows as fit, so that the selected one is seen.
fn rows(frame: &mut Frame, area: Rect, heading: String, lines: Vec<Line<'static>>, selected: usize, nothing: &'static str) {
    let mut shown = vec![Line::styled(heading, Style::new().fg(Color::DarkGray))];
    if lines.is_empty() {
        shown.push(Line::raw(fit(nothing, area.width as usize, false)));
    }
    let room = (area.height as usize).saturating_sub(1).max(1);
    let first = (selected + 1).saturating_sub(room);
    for (at, line) in lines.into_iter().enumerate().skip(first).take(room) {
        let style = if at == selected { line.style.add_modifier(Modifier::REVERSED) } else { line.style };
        shown.push(line.style(style));
    }
    frame.render_widget(Paragraph::new(shown), area);
}

fn help(frame: &mut Frame) {
    let lines: Vec<Line> = HELP.iter().map(|(keys, what)| Line::raw(format!(" {keys:<9} {what}"))).collect();
    dialog(frame, " keys ", 36, HELP.len() as u16 + 2, Paragraph::new(lines));
}

fn confirm(frame: &mut Frame, question: &str) {
    let lines = vec![Line::raw(question.to_owned()), Line::raw(""), Line::raw("y yes   any other key: no")];
    dialog(frame, " sure? ", 60, 7, Paragraph::new(lines).wrap(Wrap { trim: true }));
}

/// A box in the middle, no larger than the screen.
fn dialog(frame: &mut Frame, title: &'static str, width: u16, height: u16, content: Paragraph) {
    let screen = frame.area();
    let (width, height) = (width.min(screen.width), height.min(screen.height));
    let area = Rect::new((screen.width - width) / 2, (screen.height - height) / 2, width, height);
    frame.render_widget(Clear, area);
    frame.render_widget(content.block(Block::bordered().title(title)), area);
}
