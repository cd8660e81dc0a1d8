//! What must hold, a file each. An invariant is shown every fact of a run, in order, and says which one
//! breaks it; it never looks into the engine to learn what the engine should have done.

mod acknowledged;
mod bounded_blocks;
mod drains;
mod ended_once;
mod exact_steps;
mod ledger;
mod lost_workers;
mod nothing_forgotten;
mod one_job_per_key;
mod one_order;
mod outcomes;
mod progress;
mod published_once;
mod rising;
mod same_bits;
mod stale_tokens;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use sheaf_cluster::{Command, Durable, Engine, Entry, Event, JobId, JobState, Millis, Reply, Stage, Term};

use super::clients::{JobSpec, Poison};
use super::problem::Work;
pub(super) use ledger::Ledger;

/// Something that is so.
pub(super) enum Fact<'a> {
    /// A coordinator process read its log.
    Recovered { durable: &'a Durable },
    /// A coordinator leads, with a fresh engine.
    Leads { term: Term },
    /// The engine is told something.
    Event { event: &'a Event, now: Millis },
    /// It wants something done.
    Command { event: &'a Event, command: &'a Command },
    /// All that it wants is done.
    Settled { engine: &'a Engine },
    /// An entry of the log was applied.
    Applied { entry: &'a Entry, reply: &'a Reply, durable: &'a Durable },
    /// A client was told that its job is accepted.
    Acknowledged { job: &'a JobId, key: Option<&'a str> },
    /// A client was told how its job stands.
    Told { job: &'a JobId, state: &'a JobState },
    /// A client was told that its job is not known.
    NotFound { job: Option<&'a JobId> },
    /// A stage's thread announced a step.
    Message { stage: &'a Stage, work: Work, step: u64, message: &'a [u8] },
    /// It took in a block.
    Merged { stage: &'a Stage, step: u64, range: Range<u32> },
    /// It took a step's total.
    Totalled { stage: &'a Stage, step: u64, shards: u32 },
    /// It gave its product.
    Product { stage: &'a Stage, work: Work, product: &'a str },
    /// A model version was published.
    Published { versions: &'a [String] },
    /// The run is over; who has not come to an end is named.
    Over { unfinished: &'a [String] },
}

/// An invariant.
pub(super) trait Invariant {
    /// Its name.
    fn name(&self) -> &'static str;
    /// Looks at a fact; `book` is as it was before.
    fn see(&mut self, fact: &Fact<'_>, book: &Book) -> Result<(), String>;
}

fn all() -> Vec<Box<dyn Invariant>> {
    vec![
        Box::new(acknowledged::Acknowledged::default()),
        Box::new(bounded_blocks::BoundedBlocks::default()),
        Box::new(drains::Drains),
        Box::new(ended_once::EndedOnce::default()),
        Box::new(exact_steps::ExactSteps::default()),
        Box::new(lost_workers::LostWorkers),
        Box::new(nothing_forgotten::NothingForgotten::default()),
        Box::new(one_job_per_key::OneJobPerKey::default()),
        Box::new(one_order::OneOrder),
        Box::new(outcomes::Outcomes::default()),
        Box::new(progress::Progress),
        Box::new(published_once::PublishedOnce),
        Box::new(rising::Rising::default()),
        Box::new(same_bits::SameBits),
        Box::new(stale_tokens::StaleTokens),
    ]
}

/// What is known of a run apart from the system under test.
#[derive(Debug, Default)]
pub(super) struct Book {
    specs: BTreeMap<JobId, JobSpec>,
    cancelled: BTreeSet<JobId>,
    failures: BTreeMap<(Stage, u32), u32>,
    pub ledger: Ledger,
}

impl Book {
    pub fn ordered(&mut self, job: &JobId, spec: JobSpec) {
        self.specs.insert(job.clone(), spec);
    }

    pub fn spec(&self, job: &JobId) -> Option<&JobSpec> {
        self.specs.get(job)
    }

    pub fn poison(&self, job: &JobId) -> Option<Poison> {
        self.specs.get(job)?.poison
    }

    pub fn cancelled(&mut self, job: &JobId) {
        self.cancelled.insert(job.clone());
    }

    pub fn was_cancelled(&self, job: &JobId) -> bool {
        self.cancelled.contains(job)
    }

    /// A shard failed on a worker, for a reason of its own.
    pub fn shard_failed(&mut self, stage: &Stage, shard: u32) {
        *self.failures.entry((stage.clone(), shard)).or_default() += 1;
    }
}

/// The first breach of an invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Breach {
    pub invariant: &'static str,
    pub what: String,
}

/// Shows facts to all invariants.
pub(super) struct Watch {
    pub book: Book,
    invariants: Vec<Box<dyn Invariant>>,
    pub breach: Option<Breach>,
}

impl Default for Watch {
    fn default() -> Self {
        Self { book: Book::default(), invariants: all(), breach: None }
    }
}

impl Watch {
    pub fn see(&mut self, fact: &Fact<'_>) {
        if self.breach.is_some() {
            return;
        }
        for invariant in &mut self.invariants {
            if let Err(what) = invariant.see(fact, &self.book) {
                self.breach = Some(Breach { invariant: invariant.name(), what });
                return;
            }
        }
        self.book.ledger.take(fact);
    }
}
