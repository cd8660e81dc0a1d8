//! Leases stay in few pieces: when a step begins each worker gets one order for it, whose ranges rise and do
//! not touch, so that a range of `n` shards takes at most `2 log2 n` blocks; orders that come on top do so too.

use std::collections::BTreeSet;

use sheaf_cluster::coverage::cover;
use sheaf_cluster::{Command, Event, Stage, WorkerId};

use super::{Book, Fact, Invariant};

#[derive(Default)]
pub(super) struct BoundedBlocks {
    ordered: BTreeSet<(WorkerId, Stage)>,
}

impl Invariant for BoundedBlocks {
    fn name(&self) -> &'static str {
        "bounded blocks"
    }

    fn see(&mut self, fact: &Fact<'_>, book: &Book) -> Result<(), String> {
        let (worker, stage, ranges, begins) = match fact {
            Fact::Event { .. } => {
                self.ordered.clear();
                return Ok(());
            }
            Fact::Command { event, command: Command::Compute { worker, stage, ranges, .. } } => {
                (worker, stage, ranges, matches!(event, Event::StepReady { .. }))
            }
            _ => return Ok(()),
        };
        if !self.ordered.insert((*worker, stage.clone())) && begins {
            return Err(format!("worker {worker} gets two orders of {stage} at once"));
        }
        if let Some(pair) = ranges.windows(2).find(|pair| pair[0].end >= pair[1].start) {
            return Err(format!("an order of {stage} has the ranges {pair:?}, which touch or do not rise"));
        }
        let Some(open) = book.ledger.stages.get(stage) else { return Ok(()) };
        let shards = open.plan.shards;
        let height = u64::from(shards.max(1)).next_power_of_two().trailing_zeros() as usize;
        let blocks: usize = ranges.iter().map(|range| cover(range.clone(), shards).len()).sum();
        let bound = ranges.len() * (2 * height).max(1);
        if blocks > bound {
            return Err(format!("worker {worker} owes {blocks} blocks of {stage} in {} ranges", ranges.len()));
        }
        Ok(())
    }
}
