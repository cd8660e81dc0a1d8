//! A shard of a step is owed by one worker, and by a second one only where the engine
//! speculates (on a tick, with an idle worker); what is in is not ordered again.

use sheaf_cluster::{Command, Event};

use super::{Book, Fact, Invariant};

pub(super) struct OneOrder;

impl Invariant for OneOrder {
    fn name(&self) -> &'static str {
        "one order"
    }

    fn see(&mut self, fact: &Fact<'_>, book: &Book) -> Result<(), String> {
        let Fact::Command { event, command: Command::Compute { worker, stage, step, ranges, .. } } = fact else { return Ok(()) };
        let Some(now) = book.ledger.step(stage, *step) else { return Err(format!("{stage} is not at step {step}")) };
        let knows = book.ledger.stages.get(stage).is_some_and(|open| open.members.contains(worker));
        if now.complete || !knows {
            return Err(format!("worker {worker} is ordered for {stage} step {step}: complete {}, open {knows}", now.complete));
        }
        // It speculates on a tick, with workers that have nothing else to do in the step.
        let speculates = **event == Event::Tick && !now.owes(*worker);
        for shard in ranges.iter().cloned().flatten() {
            let Some(owners) = now.owners.get(shard as usize) else { return Err(format!("{stage} has no shard {shard}")) };
            if now.counts[shard as usize] > 0 {
                return Err(format!("shard {shard} of {stage} step {step} is in and is ordered from worker {worker}"));
            }
            if let Some((owner, token)) = owners.first()
                && !(speculates && owners.len() == 1)
            {
                return Err(format!(
                    "shard {shard} of {stage} step {step} is ordered from worker {worker} while {owner} owes it under {token}"
                ));
            }
        }
        Ok(())
    }
}
