//! Every step takes each shard exactly once: as the engine orders it, and as the stage's thread merges.

use std::collections::BTreeMap;

use sheaf_cluster::{Command, Stage};

use super::{Book, Fact, Invariant};

#[derive(Default)]
pub(super) struct ExactSteps {
    /// Step of each stage and how often each shard was merged.
    merged: BTreeMap<Stage, (u64, BTreeMap<u32, u32>)>,
}

impl ExactSteps {
    fn command(command: &Command, book: &Book) -> Result<(), String> {
        match command {
            Command::Accept { stage, step, block } => {
                let Some(now) = book.ledger.step(stage, *step) else { return Err(format!("{stage} is not at step {step}")) };
                let range = block.range(now.counts.len() as u32);
                match range.clone().find(|shard| now.counts[*shard as usize] > 0) {
                    Some(shard) => Err(format!("shard {shard} of {stage} step {step} is accepted a second time")),
                    None if range.is_empty() => Err(format!("{block:?} of {stage} covers nothing")),
                    None => Ok(()),
                }
            }
            Command::CompleteStep { stage, step } => match book.ledger.step(stage, *step) {
                Some(now) if now.complete => Err(format!("{stage} step {step} completes twice")),
                Some(now) if now.counts.iter().any(|count| *count != 1) => {
                    Err(format!("{stage} step {step} completes with {:?}", now.counts))
                }
                Some(_) => Ok(()),
                None => Err(format!("{stage} is not at step {step}")),
            },
            _ => Ok(()),
        }
    }
}

impl Invariant for ExactSteps {
    fn name(&self) -> &'static str {
        "exact steps"
    }

    fn see(&mut self, fact: &Fact<'_>, book: &Book) -> Result<(), String> {
        match fact {
            Fact::Leads { .. } => self.merged.clear(),
            Fact::Command { command, .. } => return Self::command(command, book),
            Fact::Merged { stage, step, range } => {
                let (at, counts) = self.merged.entry((*stage).clone()).or_default();
                if at != step {
                    (*at, *counts) = (*step, BTreeMap::new());
                }
                for shard in range.clone() {
                    let count = counts.entry(shard).or_default();
                    *count += 1;
                    if *count > 1 {
                        return Err(format!("shard {shard} of {stage} was merged twice into step {step}"));
                    }
                }
            }
            Fact::Totalled { stage, step, shards } => {
                let merged = self.merged.get(*stage).filter(|(at, _)| at == step).map_or(0, |(_, counts)| counts.len());
                if merged != *shards as usize {
                    return Err(format!("{stage} step {step} was totalled with {merged} of {shards} shards"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
