//! A program whose partials are integers, with chapters and locals that count: in every round it halves the
//! rows' remainders by an edge that it learns from the sums of the round before.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sheaf_learn::algorithm::{Algorithm, Exchange, LearnError, Merge, Progress};
use sheaf_learn::program::{Erased, Program};
use sheaf_learn::shard::{EncodedShard, Segment};

const ROUNDS: usize = 4;
/// Steps of a round: the first asks for sums, the second for counts beside the edge.
const STEPS: usize = 2;
const CELLS: usize = 32;

#[derive(Serialize, Deserialize)]
struct State {
    edges: Vec<i64>,
    step: usize,
    sums: Vec<i64>,
    /// Sums so far per edge: made again from nothing, since the edges say it all.
    #[serde(skip)]
    remembered: BTreeMap<usize, i64>,
}

#[derive(Serialize, Deserialize)]
struct Message {
    step: usize,
}

/// What a worker keeps: the rows' keys after so many edges.
#[derive(Default)]
struct Keys {
    edges: Vec<i64>,
    keys: Option<Vec<i64>>,
}

#[derive(Serialize, Deserialize)]
struct Cells(Vec<i64>);

impl Merge for Cells {
    fn merge(&mut self, right: Self) {
        self.0.iter_mut().zip(right.0).for_each(|(a, b)| *a += b);
    }
}

struct Sums;

fn key(shard: &EncodedShard, row: usize) -> i64 {
    let value = shard.columns.first().and_then(|column| column.number(row)).unwrap_or_default();
    (value * 1_000_000.0) as i64
}

impl Algorithm for Sums {
    type State = State;
    type Message = Message;
    type Chapter = i64;
    type Local = Keys;
    type Partial = Cells;
    type Output = Vec<i64>;

    fn exchange(&self) -> Exchange {
        Exchange::Sum
    }

    fn start(&self) -> Result<State, LearnError> {
        Ok(State { edges: Vec::new(), step: 0, sums: Vec::new(), remembered: BTreeMap::new() })
    }

    fn message(&self, state: &State) -> Message {
        Message { step: state.step }
    }

    fn chapter(&self, state: &State, index: usize) -> Option<i64> {
        state.edges.get(index).copied()
    }

    fn advance(&self, _: &Message, chapters: &[i64], shard: &EncodedShard, local: &mut Keys) {
        // What is newer than the message is of no use.
        if local.keys.is_none() || !chapters.starts_with(&local.edges) {
            let rows = shard.range(Segment::Train);
            *local = Keys { edges: Vec::new(), keys: Some(rows.map(|row| key(shard, row)).collect()) };
        }
        let Some(keys) = &mut local.keys else { return };
        for edge in &chapters[local.edges.len()..] {
            keys.iter_mut().for_each(|key| *key = if *key <= *edge { *key * 3 + 1 } else { *key / 2 - edge });
            local.edges.push(*edge);
        }
    }

    fn reads_columns(&self, _: &Message, local: &Keys) -> bool {
        // A local that is newer than the message reads them too, and it is not seen here: it never leaves this out.
        local.keys.is_none() || !local.edges.is_empty()
    }

    fn local_bytes(&self, local: &Keys) -> usize {
        local.keys.as_ref().map_or(0, |keys| keys.len() * size_of::<i64>())
    }

    fn partial(&self, message: &Message, _: &[i64], _: &EncodedShard, local: &Keys) -> Option<Cells> {
        let keys = local.keys.as_deref().filter(|keys| !keys.is_empty())?;
        let mut cells = vec![0; CELLS];
        for key in keys {
            let cell = key.rem_euclid(CELLS as i64) as usize;
            cells[cell] += if message.step.is_multiple_of(STEPS) { *key } else { 1 };
        }
        Some(Cells(cells))
    }

    fn update(&self, state: &mut State, total: Option<Cells>) -> Result<Progress, LearnError> {
        let total = total.ok_or_else(|| LearnError::Data("no training rows".into()))?;
        if state.step.is_multiple_of(STEPS) {
            state.sums = total.0;
        } else {
            let mean = |(sum, count): (&i64, &i64)| if *count == 0 { 0 } else { sum / count };
            let edge = state.sums.iter().zip(&total.0).map(mean).sum::<i64>() / CELLS as i64;
            state.remembered.insert(state.edges.len(), edge);
            state.edges.push(edge);
        }
        state.step += 1;
        Ok(if state.edges.len() == ROUNDS { Progress::Done } else { Progress::Continue })
    }

    fn finish(&self, state: State) -> Result<Vec<i64>, LearnError> {
        let known = state.remembered.iter().all(|(index, edge)| state.edges.get(*index) == Some(edge));
        if known { Ok(state.edges) } else { Err(LearnError::Data("edges changed".into())) }
    }
}

/// The program.
pub fn program() -> Box<dyn Program> {
    Box::new(Erased(Sums))
}
