//! However often a job is submitted under a key, it is one job.

use std::collections::{BTreeMap, BTreeSet};

use sheaf_cluster::JobId;

use super::{Book, Fact, Invariant};

#[derive(Default)]
pub(super) struct OneJobPerKey {
    jobs: BTreeMap<String, JobId>,
}

impl Invariant for OneJobPerKey {
    fn name(&self) -> &'static str {
        "one job per key"
    }

    fn see(&mut self, fact: &Fact<'_>, _: &Book) -> Result<(), String> {
        match fact {
            Fact::Acknowledged { job, key: Some(key) } => {
                let first = self.jobs.entry((*key).to_owned()).or_insert_with(|| (*job).clone());
                if first == *job { Ok(()) } else { Err(format!("{key} gave {first} and {job}")) }
            }
            Fact::Recovered { durable } => {
                let mut keys = BTreeSet::new();
                match durable.jobs.iter().find(|(_, record)| record.key.as_ref().is_some_and(|key| !keys.insert(key))) {
                    Some((job, record)) => Err(format!("{job} is a second job under {:?}", record.key)),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}
