//! A stale token changes nothing: what is accepted was ordered from this worker under this very token,
//! in this term and step, and has not been taken from it since.

use sheaf_cluster::{Command, Event};

use super::{Book, Fact, Invariant};

pub(super) struct StaleTokens;

impl Invariant for StaleTokens {
    fn name(&self) -> &'static str {
        "stale tokens"
    }

    fn see(&mut self, fact: &Fact<'_>, book: &Book) -> Result<(), String> {
        let Fact::Command { event, command: Command::Accept { stage, step, block } } = fact else { return Ok(()) };
        let Event::BlockArrived { worker, stage: of, step: at, token, block: sent, .. } = event else {
            return Err(format!("{block:?} of {stage} is accepted after {event:?}"));
        };
        if (of, at, sent) != (stage, step, block) {
            return Err(format!("{sent:?} of {of} step {at} arrived, {block:?} of {stage} step {step} is accepted"));
        }
        if token.term != book.ledger.term {
            return Err(format!("{block:?} of {stage} is accepted under {token} in term {}", book.ledger.term));
        }
        let Some(now) = book.ledger.step(stage, *step) else { return Err(format!("{stage} is not at step {step}")) };
        let foreign = |shard: &u32| !now.owners[*shard as usize].contains(&(*worker, *token));
        match block.range(now.counts.len() as u32).find(foreign) {
            Some(shard) => {
                Err(format!("shard {shard} of {stage} is accepted from worker {worker}, who does not owe it under {token}"))
            }
            None => Ok(()),
        }
    }
}
