//! What only several snapshots show: how losses went, and what workers did of late.

use std::collections::{BTreeMap, VecDeque};

use super::snapshot::{Shares, Snapshot};

/// Losses kept of a job.
const LOSSES: usize = 240;

/// Snapshots that a worker's recent time looks back on: five seconds.
const RECENT: usize = 10;

/// Gathered since the screen was opened.
#[derive(Debug, Clone, Default)]
pub struct History {
    losses: BTreeMap<String, Vec<(u64, f64)>>,
    spent: BTreeMap<u64, VecDeque<Shares>>,
}

impl History {
    /// Takes in a snapshot; what it does not hold any more is forgotten.
    pub fn add(&mut self, snapshot: &Snapshot) {
        self.losses.retain(|job, _| snapshot.jobs.iter().any(|known| known.job == *job));
        self.spent.retain(|worker, _| snapshot.workers.iter().any(|known| known.worker == *worker));
        for job in &snapshot.jobs {
            let (Some(step), Some(loss)) = (job.step, job.loss) else { continue };
            let losses = self.losses.entry(job.job.clone()).or_default();
            if losses.last().is_none_or(|(last, _)| *last != step) {
                losses.push((step, loss));
            }
            if losses.len() > LOSSES {
                // Every second one goes, so that the curve keeps its whole length.
                let mut kept = false;
                losses.retain(|_| {
                    kept = !kept;
                    kept
                });
            }
        }
        for worker in &snapshot.workers {
            let spent = self.spent.entry(worker.worker).or_default();
            spent.push_back(worker.spent);
            if spent.len() > RECENT {
                spent.pop_front();
            }
        }
    }

    /// Losses of a job in the order of its steps.
    pub fn losses(&self, job: &str) -> Vec<f64> {
        self.losses.get(job).map(|losses| losses.iter().map(|(_, loss)| *loss).collect()).unwrap_or_default()
    }

    /// What a worker did during the last seconds; since it joined, if that is all that is known.
    pub fn recent(&self, worker: u64) -> Shares {
        let spent = self.spent.get(&worker);
        let (first, last) = (spent.and_then(VecDeque::front), spent.and_then(VecDeque::back));
        match (first, last) {
            (Some(only), _) if spent.is_some_and(|spent| spent.len() == 1) => *only,
            (Some(first), Some(last)) => last.since(first),
            _ => Shares::default(),
        }
    }
}
