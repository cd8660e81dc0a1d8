//! No command goes to a worker that is held lost.

use sheaf_cluster::Command;

use super::{Book, Fact, Invariant};

pub(super) struct LostWorkers;

impl Invariant for LostWorkers {
    fn name(&self) -> &'static str {
        "lost workers"
    }

    fn see(&mut self, fact: &Fact<'_>, book: &Book) -> Result<(), String> {
        let Fact::Command { command, .. } = fact else { return Ok(()) };
        let to = match command {
            Command::OpenStage { worker, .. }
            | Command::Compute { worker, .. }
            | Command::CloseStage { worker, .. }
            | Command::Refuse { worker, .. }
            | Command::Disconnect { worker, .. }
            | Command::DrainDone { worker } => *worker,
            _ => return Ok(()),
        };
        if book.ledger.alive.contains(&to) { Ok(()) } else { Err(format!("worker {to} is gone and is told {command:?}")) }
    }
}
