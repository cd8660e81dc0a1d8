//! `duplicates`: how many rows have a row id that another row before them has, exactly. A first step counts ids
//! by their top 16 bits; then a step per range of ids collects the distinct ones, so no partial grows past a bound.

use serde::{Deserialize, Serialize};

use super::{Runs, merge_runs, params, runs_of_sorted};
use crate::algorithm::{Algorithm, LearnError, Merge, Progress};
use crate::program::{Erased, Program, ProgramSpec};
use crate::shard::EncodedShard;

const BIN_BITS: u32 = 16;

/// Ids that one step may collect where `per_pass` is not given.
pub const DEFAULT_PER_PASS: u64 = 1_000_000;

/// The result of `duplicates`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DuplicatesOutput {
    /// Number of rows.
    pub rows: u64,
    /// Number of different row ids.
    pub distinct: u64,
    /// rows − distinct.
    pub duplicates: u64,
}

/// What is known so far, and which ranges are still to be collected.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    rows: u64,
    distinct: u64,
    /// First and last bin of each range, the next one last.
    ranges: Vec<(u32, u32)>,
}

/// What a step asks for.
#[derive(Debug, Serialize, Deserialize)]
enum Message {
    /// Rows by the top bits of the id.
    Count,
    /// Distinct ids whose top bits lie between these, both inclusive.
    Collect(u32, u32),
}

#[derive(Debug, Serialize, Deserialize)]
enum Partial {
    /// A shard had rows but no ids.
    NoIds,
    Bins(Runs<u32, u64>),
    Ids(Runs<u128, Seen>),
}

/// Nothing to add: an id is there or not.
#[derive(Debug, Serialize, Deserialize)]
struct Seen;

impl std::ops::AddAssign for Seen {
    fn add_assign(&mut self, _: Self) {}
}

impl Merge for Partial {
    fn merge(&mut self, right: Self) {
        match (self, right) {
            (Partial::Bins(left), Partial::Bins(right)) => merge_runs(left, right),
            (Partial::Ids(left), Partial::Ids(right)) => merge_runs(left, right),
            (left, _) => *left = Partial::NoIds,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Params {
    per_pass: u64,
}

impl Default for Params {
    fn default() -> Self {
        Self { per_pass: DEFAULT_PER_PASS }
    }
}

struct Duplicates {
    params: Params,
}

fn bin(id: u128) -> u32 {
    (id >> (u128::BITS - BIN_BITS)) as u32
}

/// Neighbouring bins in ranges of at most `limit` rows (a single bin may hold more), the first range last.
fn ranges(bins: &Runs<u32, u64>, limit: u64) -> Vec<(u32, u32)> {
    let mut out: Vec<(u32, u32)> = Vec::new();
    let mut held = u64::MAX;
    for (bin, rows) in bins {
        match out.last_mut() {
            Some(range) if held.saturating_add(*rows) <= limit => {
                range.1 = *bin;
                held += rows;
            }
            _ => {
                out.push((*bin, *bin));
                held = *rows;
            }
        }
    }
    out.reverse();
    out
}

impl Algorithm for Duplicates {
    type State = State;
    type Message = Message;
    type Chapter = ();
    type Local = ();
    type Partial = Partial;
    type Output = DuplicatesOutput;

    fn start(&self) -> Result<State, LearnError> {
        Ok(State { rows: 0, distinct: 0, ranges: Vec::new() })
    }

    fn message(&self, state: &State) -> Message {
        match state.ranges.last() {
            Some((first, last)) => Message::Collect(*first, *last),
            None => Message::Count,
        }
    }

    fn partial(&self, message: &Message, _: &[()], shard: &EncodedShard, (): &()) -> Option<Partial> {
        if shard.rows == 0 {
            return None;
        }
        let Some(ids) = &shard.row_ids else { return Some(Partial::NoIds) };
        match message {
            Message::Count => {
                let mut bins: Vec<u32> = ids.iter().map(|id| bin(*id)).collect();
                bins.sort_unstable();
                Some(Partial::Bins(runs_of_sorted(bins.into_iter().map(|b| (b, 1)))))
            }
            Message::Collect(first, last) => {
                let mut wanted: Vec<u128> = ids.iter().copied().filter(|id| (*first..=*last).contains(&bin(*id))).collect();
                wanted.sort_unstable();
                Some(wanted).filter(|w| !w.is_empty()).map(|w| Partial::Ids(runs_of_sorted(w.into_iter().map(|id| (id, Seen)))))
            }
        }
    }

    fn update(&self, state: &mut State, total: Option<Partial>) -> Result<Progress, LearnError> {
        match total {
            Some(Partial::NoIds) => {
                return Err(LearnError::Data("the rows have no row ids: read them with their key".into()));
            }
            Some(Partial::Bins(bins)) => {
                state.rows = bins.iter().map(|(_, rows)| rows).sum();
                state.ranges = ranges(&bins, self.params.per_pass);
            }
            Some(Partial::Ids(ids)) => {
                state.distinct += ids.len() as u64;
                state.ranges.pop();
            }
            None => {
                state.ranges.pop();
            }
        }
        Ok(if state.ranges.is_empty() { Progress::Done } else { Progress::Continue })
    }

    fn finish(&self, state: State) -> Result<DuplicatesOutput, LearnError> {
        Ok(DuplicatesOutput { rows: state.rows, distinct: state.distinct, duplicates: state.rows - state.distinct })
    }
}

/// `duplicates` with its parameters checked: `per_pass` (rows whose ids one step collects, default 1,000,000).
pub fn build(spec: &ProgramSpec) -> Result<Box<dyn Program>, LearnError> {
    Ok(Box::new(Erased(Duplicates { params: params(spec)? })))
}
