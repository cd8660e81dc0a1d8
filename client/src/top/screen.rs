//! What is selected and what is asked, and what keys do about it.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::history::History;
use super::snapshot::{JobRow, Snapshot, WorkerRow};

/// Which table has the keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pane {
    /// Jobs.
    #[default]
    Jobs,
    /// Workers.
    Workers,
}

/// What a key asks for beyond the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Leave.
    Quit,
    /// Cancel a job.
    Cancel(String),
    /// Drain a worker.
    Drain(u64),
}

/// What stands over the tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Dialog {
    /// Nothing.
    #[default]
    None,
    /// The keys.
    Help,
    /// A question before an order is given.
    Confirm(Order, String),
}

/// The state of the screen, beside the cluster's.
#[derive(Debug, Clone, Default)]
pub struct Screen {
    /// Which table has the keys.
    pub pane: Pane,
    /// Id of the selected job; the first one if there is none of this id.
    pub job: Option<String>,
    /// Number of the selected worker; the first one if there is none of this number.
    pub worker: Option<u64>,
    /// What stands over the tables.
    pub dialog: Dialog,
    /// What the last order came to, or that the coordinator is away.
    pub message: String,
    /// Whether the coordinator is away.
    pub away: bool,
    /// Gathered from earlier snapshots.
    pub history: History,
}

impl Screen {
    /// Place of the selected job.
    pub fn job_at(&self, snapshot: &Snapshot) -> usize {
        let at = |id: &String| snapshot.jobs.iter().position(|job| job.job == *id);
        self.job.as_ref().and_then(at).unwrap_or(0)
    }

    /// Place of the selected worker.
    pub fn worker_at(&self, snapshot: &Snapshot) -> usize {
        let at = |number: u64| snapshot.workers.iter().position(|worker| worker.worker == number);
        self.worker.and_then(at).unwrap_or(0)
    }

    /// The selected job.
    pub fn selected<'s>(&self, snapshot: &'s Snapshot) -> Option<&'s JobRow> {
        snapshot.jobs.get(self.job_at(snapshot))
    }

    fn selected_worker<'s>(&self, snapshot: &'s Snapshot) -> Option<&'s WorkerRow> {
        snapshot.workers.get(self.worker_at(snapshot))
    }

    /// Takes a key; gives the order that it means, if it means one.
    pub fn key(&mut self, key: KeyEvent, snapshot: &Snapshot) -> Option<Order> {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return matches!(key.code, KeyCode::Char('c' | 'd')).then_some(Order::Quit);
        }
        match std::mem::take(&mut self.dialog) {
            Dialog::Confirm(order, _) => return matches!(key.code, KeyCode::Char('y' | 'Y')).then_some(order),
            // Any key closes the help.
            Dialog::Help => return None,
            Dialog::None => {}
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Some(Order::Quit),
            KeyCode::Tab | KeyCode::BackTab | KeyCode::Left | KeyCode::Right => {
                self.pane = if self.pane == Pane::Jobs { Pane::Workers } else { Pane::Jobs };
            }
            KeyCode::Up | KeyCode::Char('k') => self.step(snapshot, |at, _| at.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.step(snapshot, |at, last| (at + 1).min(last)),
            KeyCode::Home | KeyCode::Char('g') => self.step(snapshot, |_, _| 0),
            KeyCode::End | KeyCode::Char('G') => self.step(snapshot, |_, last| last),
            KeyCode::Char('?' | 'h') => self.dialog = Dialog::Help,
            KeyCode::Char('c') => self.ask_cancel(snapshot),
            KeyCode::Char('d') => self.ask_drain(snapshot),
            _ => {}
        }
        None
    }

    fn step(&mut self, snapshot: &Snapshot, to: impl Fn(usize, usize) -> usize) {
        match self.pane {
            Pane::Jobs => {
                let at = to(self.job_at(snapshot), snapshot.jobs.len().saturating_sub(1));
                self.job = snapshot.jobs.get(at).map(|job| job.job.clone());
            }
            Pane::Workers => {
                let at = to(self.worker_at(snapshot), snapshot.workers.len().saturating_sub(1));
                self.worker = snapshot.workers.get(at).map(|worker| worker.worker);
            }
        }
    }

    fn ask_cancel(&mut self, snapshot: &Snapshot) {
        match self.selected(snapshot) {
            Some(job) if matches!(job.state.as_str(), "queued" | "running") => {
                let question = format!("Cancel job {} ({})?", job.name, job.job);
                self.dialog = Dialog::Confirm(Order::Cancel(job.job.clone()), question);
            }
            Some(job) => self.message = format!("job {} has {} already", job.name, job.state),
            None => self.message = "there is no job to cancel".to_owned(),
        }
    }

    fn ask_drain(&mut self, snapshot: &Snapshot) {
        match self.selected_worker(snapshot) {
            Some(worker) if worker.state != "draining" => {
                let question = format!("Drain worker {} {}? It finishes what it owes and leaves.", worker.worker, worker.name);
                self.dialog = Dialog::Confirm(Order::Drain(worker.worker), question);
            }
            Some(worker) => self.message = format!("worker {} is draining already", worker.worker),
            None => self.message = "there is no worker to drain".to_owned(),
        }
    }
}
