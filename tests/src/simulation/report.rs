//! What a run comes to: counts, the failure if there is one, and the sum over many seeds.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use sheaf_cluster::{FailKind, Outcome};

use super::mutation::Mutation;
use super::world::run;

/// Failures that a summary keeps of each invariant.
const KEEP: usize = 3;

/// What happened in a run, counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Things that happened.
    pub events: u64,
    /// Events that the engine was told.
    pub decisions: u64,
    /// Steps that were completed.
    pub steps: u64,
    /// Blocks that were refused.
    pub refused: u64,
    /// Checkpoints that were committed.
    pub checkpoints: u64,
    /// Jobs that went on from one.
    pub resumed: u64,
    /// Coordinators that were killed and started again.
    pub coordinator_restarts: u64,
    /// Simulated time, µs.
    pub simulated: u64,
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Ends of jobs by kind.
    pub ends: BTreeMap<&'static str, u64>,
}

impl Counts {
    /// Counts a fault.
    pub(super) fn fault(&mut self, kind: &'static str) {
        *self.faults.entry(kind).or_default() += 1;
    }

    /// Counts a job's end. `poisoned`: it had a poison shard.
    pub(super) fn ended(&mut self, outcome: &Outcome, poisoned: bool) {
        let kind = match outcome {
            Outcome::Succeeded { .. } => "succeeded",
            Outcome::Cancelled => "cancelled",
            Outcome::Failed { kind: FailKind::Deadline, .. } => "failed by its deadline",
            Outcome::Failed { kind: FailKind::Data, .. } if poisoned => "failed for its poison shard",
            Outcome::Failed { kind: FailKind::Data, message, .. } if message.contains("ended") => "failed for a shard by chance",
            Outcome::Failed { kind: FailKind::Data, .. } => "failed for a shard without room",
            Outcome::Failed { .. } => "failed otherwise",
        };
        *self.ends.entry(kind).or_default() += 1;
    }

    fn add(&mut self, other: &Counts) {
        self.events += other.events;
        self.decisions += other.decisions;
        self.steps += other.steps;
        self.refused += other.refused;
        self.checkpoints += other.checkpoints;
        self.resumed += other.resumed;
        self.coordinator_restarts += other.coordinator_restarts;
        self.simulated += other.simulated;
        for (kind, count) in &other.faults {
            *self.faults.entry(kind).or_default() += count;
        }
        for (kind, count) in &other.ends {
            *self.ends.entry(kind).or_default() += count;
        }
    }
}

/// What a run comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Its seed.
    pub seed: u64,
    /// What kind of run the seed gives.
    pub character: &'static str,
    /// Hash of its whole trace.
    pub hash: u64,
    /// Lines of its trace.
    pub lines: u64,
    /// What happened.
    pub counts: Counts,
    /// The first breach of an invariant.
    pub failure: Option<Failure>,
}

/// An invariant that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What kind of run it gives.
    pub character: &'static str,
    /// Which invariant.
    pub invariant: &'static str,
    /// What broke it.
    pub what: String,
    /// When, in µs of simulated time.
    pub at: u64,
    /// What was broken on purpose.
    pub mutation: Option<Mutation>,
    /// The last lines of the trace.
    pub last: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.last {
            writeln!(f, "{line}")?;
        }
        let seconds = self.at as f64 / 1e6;
        writeln!(f, "seed {} ({}) breaks `{}` after {seconds:.3} s: {}", self.seed, self.character, self.invariant, self.what)?;
        let mutation = self.mutation.map_or_else(String::new, |mutation| format!(" --mutation {}", mutation.name()));
        write!(f, "replay: cargo run -p sheaf-tests --bin simulate -- --seed {}{mutation} --trace", self.seed)
    }
}

/// Many runs.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Runs.
    pub runs: u64,
    /// Runs by character.
    pub characters: BTreeMap<&'static str, u64>,
    /// The sum of what happened.
    pub counts: Counts,
    /// The longest time from start to the end of everything, µs.
    pub longest: u64,
    /// Runs that failed, by invariant.
    pub failed: BTreeMap<&'static str, u64>,
    /// The first of them by seed, a few of each invariant.
    pub failures: Vec<Failure>,
}

impl Summary {
    fn add(&mut self, verdict: Verdict) {
        self.runs += 1;
        *self.characters.entry(verdict.character).or_default() += 1;
        self.counts.add(&verdict.counts);
        self.longest = self.longest.max(verdict.counts.simulated);
        if let Some(failure) = verdict.failure {
            *self.failed.entry(failure.invariant).or_default() += 1;
            self.failures.push(failure);
            self.failures.sort_by_key(|failure| failure.seed);
            let mut kept: BTreeMap<&'static str, usize> = BTreeMap::new();
            self.failures.retain(|failure| {
                let count = kept.entry(failure.invariant).or_default();
                *count += 1;
                *count <= KEEP
            });
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.counts;
        let hours = counts.simulated as f64 / 3.6e9;
        let mut line = |name: &str, value: String| writeln!(f, "  {name:<40} {value:>14}");
        line("runs", self.runs.to_string())?;
        line("failed runs", self.failed.values().sum::<u64>().to_string())?;
        for (invariant, count) in &self.failed {
            line(&format!("  breaking `{invariant}`"), count.to_string())?;
        }
        line("events", counts.events.to_string())?;
        line("decisions of the engine", counts.decisions.to_string())?;
        line("steps completed", counts.steps.to_string())?;
        line("blocks refused", counts.refused.to_string())?;
        line("checkpoints committed", counts.checkpoints.to_string())?;
        line("jobs resumed from a checkpoint", counts.resumed.to_string())?;
        line("coordinator restarts", counts.coordinator_restarts.to_string())?;
        line("simulated time, hours", format!("{hours:.1}"))?;
        line("longest run, simulated seconds", format!("{:.1}", self.longest as f64 / 1e6))?;
        line("faults injected", counts.faults.values().sum::<u64>().to_string())?;
        for (kind, count) in &counts.faults {
            line(&format!("  {kind}"), count.to_string())?;
        }
        line("jobs ended", counts.ends.values().sum::<u64>().to_string())?;
        for (kind, count) in &counts.ends {
            line(&format!("  {kind}"), count.to_string())?;
        }
        for (kind, count) in &self.characters {
            line(&format!("runs of character {kind}"), count.to_string())?;
        }
        Ok(())
    }
}

/// Runs the seeds `first`, `first + 1` … on so many threads, each run in one of them. Stops early when
/// `until_failure` is set and a run fails.
pub fn many(first: u64, runs: u64, threads: usize, mutation: Option<Mutation>, until_failure: bool) -> Summary {
    let (next, stop) = (AtomicU64::new(first), AtomicBool::new(false));
    let summary = Mutex::new(Summary::default());
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + runs {
                return;
            }
            let verdict = run(seed, mutation, false);
            stop.fetch_or(until_failure && verdict.failure.is_some(), Ordering::Relaxed);
            summary.lock().unwrap_or_else(std::sync::PoisonError::into_inner).add(verdict);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(work);
        }
    });
    summary.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}
