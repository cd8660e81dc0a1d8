//! After every decision each shard of each step is in, owed by somebody who lives, or waits; and none
//! waits for longer than a second while somebody could take it. A suspect waits for a worker of its own: until
//! one that is kept for suspects is free, or as long as all who could be kept read what they will take over.

use std::collections::BTreeMap;

use sheaf_cluster::{Engine, Millis, Stage, WorkerId};

use super::{Book, Fact, Invariant};

/// How long shards may wait beside workers, ms.
const PATIENCE: Millis = Millis(1_000);

#[derive(Default)]
pub(super) struct NothingForgotten {
    now: Millis,
    /// Since when shards of a stage wait although workers are there.
    waits: BTreeMap<Stage, Millis>,
}

impl Invariant for NothingForgotten {
    fn name(&self) -> &'static str {
        "nothing forgotten"
    }

    fn see(&mut self, fact: &Fact<'_>, book: &Book) -> Result<(), String> {
        match fact {
            Fact::Leads { .. } => self.waits.clear(),
            Fact::Event { now, .. } => self.now = self.now.max(*now),
            Fact::Settled { engine } => {
                for stage in book.ledger.stages.keys() {
                    self.check(engine, stage, book)?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl NothingForgotten {
    fn check(&mut self, engine: &Engine, stage: &Stage, book: &Book) -> Result<(), String> {
        let ledger = &book.ledger;
        let Some(progress) = engine.progress(stage) else { return Err(format!("the engine has forgotten {stage}")) };
        let Some(open) = ledger.stages.get(stage) else { return Ok(()) };
        let Some(step) = open.step.as_ref() else { return Ok(()) };
        let nobodys: Vec<usize> =
            (0..step.counts.len()).filter(|shard| step.counts[*shard] == 0 && step.owners[*shard].is_empty()).collect();
        if nobodys.len() != progress.waiting as usize {
            let waiting = progress.waiting;
            return Err(format!("shards {nobodys:?} of {stage} step {} are nobody's; {waiting} wait", step.step));
        }
        let workers = engine.workers();
        let kept = workers.iter().any(|worker| worker.reserved.is_some());
        // Both the engine and its orders must say so.
        let reads = |own: &WorkerId| workers.iter().any(|worker| worker.worker == *own && worker.reading) && ledger.reads(*own);
        let candidates = ledger.candidates(open);
        let all_read = !candidates.is_empty() && candidates.iter().all(reads);
        if nobodys.is_empty() || kept || all_read || !ledger.somebody_takes_leases() {
            self.waits.remove(stage);
            return Ok(());
        }
        let since = *self.waits.entry(stage.clone()).or_insert(self.now);
        match self.now.since(since) > PATIENCE {
            true => Err(format!("shards {nobodys:?} of {stage} step {} wait since {since} while workers are there", step.step)),
            false => Ok(()),
        }
    }
}
