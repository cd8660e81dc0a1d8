//! What a finished phase leaves for who goes on after it: its result, and all that the job's own result
//! object says about it, so that a job that was interrupted tells the same as one that was not.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sheaf_cluster::durable::PhaseRecord;
use sheaf_cluster::id::Millis;

use crate::account::Account;

/// A phase's document.
#[derive(Debug, Serialize, Deserialize)]
pub struct Journalled<T> {
    /// What it gave.
    pub value: T,
    /// Warnings that came up in it.
    pub warnings: Vec<String>,
    /// What its stages cost.
    pub accounts: Vec<(String, Account)>,
    /// How long it took.
    pub seconds: f64,
}

/// What an earlier leader logged of the phases, by number.
#[derive(Debug, Default)]
pub struct Journal {
    phases: BTreeMap<u32, PhaseRecord>,
}

impl Journal {
    /// The journal of a job.
    pub fn new(phases: BTreeMap<u32, PhaseRecord>) -> Self {
        Self { phases }
    }

    /// The document of a phase that has finished.
    pub fn document(&self, phase: u32) -> Option<&String> {
        self.phases.get(&phase)?.finished.as_ref().map(|finished| &finished.document)
    }

    /// When a phase was entered that has not finished.
    pub fn entered(&self, phase: u32) -> Option<Millis> {
        self.phases.get(&phase).filter(|record| record.finished.is_none()).map(|record| record.entered)
    }

    /// Phases that have finished.
    pub fn finished(&self) -> usize {
        self.phases.values().filter(|record| record.finished.is_some()).count()
    }
}
