//! A job fails for a reason of its own: a poison shard, which it names, a shard that really failed as
//! often as it may or that as many lost workers had in hand (in a storm chance can do that), its deadline,
//! its client's wish. Nothing else ends it, and poison ends no other job.

use sheaf_cluster::{Entry, FailKind, JobId, Millis, Options, Outcome};

use super::super::clients::JobSpec;
use super::{Book, Fact, Invariant};

#[derive(Default)]
pub(super) struct Outcomes {
    now: Millis,
}

impl Outcomes {
    fn judge(&self, job: &JobId, outcome: &Outcome, deadline: Option<Millis>, book: &Book) -> Result<(), String> {
        let Some(spec) = book.spec(job) else { return Err(format!("{job} ended and nobody ordered it")) };
        match outcome {
            Outcome::Succeeded { .. } if spec.poison.is_some() => Err(format!("{job} has a poison shard and succeeded")),
            Outcome::Succeeded { .. } => Ok(()),
            Outcome::Cancelled if book.was_cancelled(job) => Ok(()),
            Outcome::Cancelled => Err(format!("{job} was cancelled and nobody asked for it")),
            Outcome::Failed { kind: FailKind::Deadline, .. } => match deadline {
                Some(deadline) if deadline <= self.now => Ok(()),
                _ => Err(format!("{job} failed by its deadline {deadline:?} at {}", self.now)),
            },
            Outcome::Failed { kind: FailKind::Data, message, .. } => shard_failed(job, spec, message, book),
            Outcome::Failed { kind, message, .. } => Err(format!("{job} failed ({kind:?}): {message}")),
        }
    }
}

fn shard_failed(job: &JobId, spec: &JobSpec, message: &str, book: &Book) -> Result<(), String> {
    if let Some(poison) = spec.poison
        && message.contains(&format!("shard {} of stage {job}/", poison.shard))
    {
        return Ok(());
    }
    let tries = Options::default().max_attempts;
    let often = |((stage, shard), count): (&(sheaf_cluster::Stage, u32), &u32)| {
        stage.job == *job && *count >= tries && message.contains(&format!("shard {shard} of stage {stage} "))
    };
    match book.failures.iter().any(often) || book.ledger.losses.iter().any(often) {
        true => Ok(()),
        false => Err(format!("{job} failed for a shard that did not fail {tries} times: {message}")),
    }
}

impl Invariant for Outcomes {
    fn name(&self) -> &'static str {
        "outcomes"
    }

    fn see(&mut self, fact: &Fact<'_>, book: &Book) -> Result<(), String> {
        match fact {
            Fact::Event { now, .. } => {
                // The leader's clock may be set back; what it was is what counted.
                self.now = self.now.max(*now);
                Ok(())
            }
            Fact::Applied { entry: Entry::JobEnded { job, outcome, .. }, durable, .. } => {
                let deadline = durable.jobs.get(job).and_then(|record| record.deadline);
                self.judge(job, outcome, deadline, book)
            }
            _ => Ok(()),
        }
    }
}
