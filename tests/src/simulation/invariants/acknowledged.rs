//! A job that a client was told is accepted is never lost.

use std::collections::BTreeSet;

use sheaf_cluster::{Durable, JobId};

use super::{Book, Fact, Invariant};

#[derive(Default)]
pub(super) struct Acknowledged {
    jobs: BTreeSet<JobId>,
}

impl Acknowledged {
    fn check(&self, durable: &Durable) -> Result<(), String> {
        match self.jobs.iter().find(|job| !durable.jobs.contains_key(*job)) {
            Some(job) => Err(format!("{job} was acknowledged and is not in the log")),
            None => Ok(()),
        }
    }
}

impl Invariant for Acknowledged {
    fn name(&self) -> &'static str {
        "acknowledged"
    }

    fn see(&mut self, fact: &Fact<'_>, _: &Book) -> Result<(), String> {
        match fact {
            Fact::Acknowledged { job, .. } => {
                self.jobs.insert((*job).clone());
                Ok(())
            }
            Fact::Applied { durable, .. } | Fact::Recovered { durable } => self.check(durable),
            Fact::NotFound { job: Some(job) } if self.jobs.contains(*job) => {
                Err(format!("{job} was acknowledged and its client is told that it is not known"))
            }
            _ => Ok(()),
        }
    }
}
