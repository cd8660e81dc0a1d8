//! A job ends once: nobody is told two ends, or an end that the log does not hold for good.

use std::collections::BTreeMap;

use sheaf_cluster::{Durable, Entry, JobId, JobState, Outcome, Reply};

use super::{Book, Fact, Invariant};

#[derive(Default)]
pub(super) struct EndedOnce {
    logged: BTreeMap<JobId, Outcome>,
    told: BTreeMap<JobId, Outcome>,
}

impl EndedOnce {
    fn keeps(&self, durable: &Durable) -> Result<(), String> {
        for (job, outcome) in self.logged.iter().chain(&self.told) {
            let now = durable.jobs.get(job).map(|record| &record.state);
            if now != Some(&JobState::Ended(outcome.clone())) {
                return Err(format!("{job} had ended with {outcome:?} and is {now:?} now"));
            }
        }
        Ok(())
    }

    fn told(&mut self, job: &JobId, state: &JobState) -> Result<(), String> {
        let JobState::Ended(outcome) = state else {
            return match self.told.get(job) {
                Some(known) => Err(format!("{job} was told to have ended with {known:?}, then to be {state:?}")),
                None => Ok(()),
            };
        };
        if self.logged.get(job) != Some(outcome) {
            return Err(format!("{job} was told to have ended with {outcome:?}; the log says {:?}", self.logged.get(job)));
        }
        match self.told.insert(job.clone(), outcome.clone()) {
            Some(known) if known != *outcome => Err(format!("{job} was told to have ended with {known:?} and with {outcome:?}")),
            _ => Ok(()),
        }
    }
}

impl Invariant for EndedOnce {
    fn name(&self) -> &'static str {
        "ended once"
    }

    fn see(&mut self, fact: &Fact<'_>, _: &Book) -> Result<(), String> {
        match fact {
            Fact::Applied { entry: Entry::JobEnded { job, outcome, .. }, reply, durable } => {
                if let Reply::Rejected(reason) = reply {
                    return Err(format!("{job} was to end twice: {reason}"));
                }
                self.logged.entry(job.clone()).or_insert_with(|| outcome.clone());
                self.keeps(durable)
            }
            Fact::Recovered { durable } => {
                // An end that was on its way to the disk when the process died may have got there.
                for (job, record) in &durable.jobs {
                    if let JobState::Ended(outcome) = &record.state {
                        self.logged.entry(job.clone()).or_insert_with(|| outcome.clone());
                    }
                }
                self.keeps(durable)
            }
            Fact::Told { job, state } => self.told(job, state),
            _ => Ok(()),
        }
    }
}
