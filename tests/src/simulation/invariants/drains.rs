//! Workers that leave get no new leases, and are let go when they owe nothing.

use sheaf_cluster::Command;

use super::{Book, Fact, Invariant};

pub(super) struct Drains;

impl Invariant for Drains {
    fn name(&self) -> &'static str {
        "drains"
    }

    fn see(&mut self, fact: &Fact<'_>, book: &Book) -> Result<(), String> {
        let Fact::Command { command, .. } = fact else { return Ok(()) };
        let ledger = &book.ledger;
        match command {
            Command::OpenStage { worker, .. } | Command::Compute { worker, .. } if ledger.draining.contains(worker) => {
                Err(format!("worker {worker} leaves and is told {command:?}"))
            }
            Command::DrainDone { worker } if !ledger.draining.contains(worker) => {
                Err(format!("worker {worker} is let go and did not want to leave"))
            }
            Command::DrainDone { worker } if ledger.owed(*worker) > 0 => {
                Err(format!("worker {worker} is let go and owes {} shards", ledger.owed(*worker)))
            }
            _ => Ok(()),
        }
    }
}
