//! What jobs compute: small regressions by the real learners over generated shards, whose numbers lie so
//! far apart that the order of additions shows in the last bits, and the undisturbed run of each.

use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};
use sheaf_learn::algorithm::{LearnError, Progress};
use sheaf_learn::program::{Program, ProgramSpec};
use sheaf_learn::shard::{Column, EncodedShard, Feature, FeatureKind, Schema};
use sheaf_learn::tree::{Block, Merger, reduce};

use super::rng::{FNV, Rng, fnv};

const FEATURES: usize = 3;

/// A stage's document: what its shards or tasks are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Work {
    /// One-off tasks, one for each load unit.
    Count(usize),
    /// One task of one worker.
    Write(usize),
    /// A learner over the shards.
    Train(usize),
    /// A statistic over the shards.
    Profile(usize),
}

/// A program and its undisturbed run.
pub(super) struct Solved {
    pub program: Box<dyn Program>,
    /// Digest of each step's message.
    pub messages: Vec<u64>,
    /// The result, as text (floats keep their bits).
    pub result: String,
}

/// A data set and what is done with it.
pub(super) struct Problem {
    pub shards: Vec<EncodedShard>,
    /// First shards of the load units.
    pub boundaries: Vec<u32>,
    pub train: Solved,
    pub profile: Solved,
}

/// All problems; solved once.
pub(super) fn problems() -> &'static [Problem] {
    static PROBLEMS: OnceLock<Vec<Problem>> = OnceLock::new();
    PROBLEMS.get_or_init(|| {
        let recipes = [
            Recipe { learner: "linear_regression", solver: "lbfgs", shards: 12, unit: 1 },
            Recipe { learner: "logistic_regression", solver: "lbfgs", shards: 21, unit: 3 },
            Recipe { learner: "logistic_regression", solver: "newton", shards: 33, unit: 1 },
            Recipe { learner: "linear_regression", solver: "lbfgs", shards: 1, unit: 1 },
            Recipe { learner: "linear_regression", solver: "lbfgs", shards: 40, unit: 5 },
            Recipe { learner: "logistic_regression", solver: "lbfgs", shards: 7, unit: 1 },
        ];
        recipes.iter().enumerate().map(|(number, recipe)| recipe.cook(number as u64)).collect()
    })
}

/// A problem by its number.
pub(super) fn problem(number: usize) -> &'static Problem {
    &problems()[number % problems().len()]
}

struct Recipe {
    learner: &'static str,
    solver: &'static str,
    shards: u32,
    unit: u32,
}

impl Recipe {
    fn cook(&self, number: u64) -> Problem {
        let mut rng = Rng::new(number, "data");
        let shards: Vec<EncodedShard> = (0..self.shards).map(|index| self.shard(index, &mut rng)).collect();
        let params = json!({"solver": self.solver, "l2": 0.0001, "max_iterations": 14});
        Problem {
            boundaries: (0..self.shards).step_by(self.unit as usize).collect(),
            train: solve(self.learner, params, self.schema(), &shards),
            profile: solve("moments", json!({}), self.schema(), &shards),
            shards,
        }
    }

    fn is_binary(&self) -> bool {
        self.learner == "logistic_regression"
    }

    fn schema(&self) -> Schema {
        let feature = |i| Feature { name: format!("x{i}"), kind: FeatureKind::Numeric { shift: 0.0, scale: 1.0 } };
        let classes = if self.is_binary() { vec!["no".to_owned(), "yes".to_owned()] } else { Vec::new() };
        Schema { features: (0..FEATURES).map(feature).collect(), classes }
    }

    /// A few rows; every fifth shard has none.
    fn shard(&self, index: u32, rng: &mut Rng) -> EncodedShard {
        let rows = if index % 5 == 3 { 0 } else { rng.between(3, 9) as usize };
        let mut columns = vec![Vec::new(); FEATURES];
        let mut target = Vec::with_capacity(rows);
        for _ in 0..rows {
            let x: Vec<f64> = (0..FEATURES).map(|i| rng.signed() * [1.0, 1e3, 1e-3][i]).collect();
            let y = x[0] + x[1] * 1e-3 - x[2] * 5e2 + rng.signed();
            target.push(if self.is_binary() { f64::from(u8::from(y > 0.0)) } else { y });
            columns.iter_mut().zip(x).for_each(|(column, value)| column.push(value));
        }
        EncodedShard {
            index,
            rows,
            bounds: [0, rows, rows, rows],
            columns: columns.into_iter().map(|column| Column::F64(column.into())).collect(),
            target: Some(target.into()),
            ..EncodedShard::default()
        }
    }
}

/// The undisturbed run: one process, shard after shard, along the fixed tree.
fn solve(name: &str, params: Value, schema: Schema, shards: &[EncodedShard]) -> Solved {
    let spec = ProgramSpec { name: name.to_owned(), params, schema };
    let program = spec.build().expect("the recipes name programs of the registry");
    let (messages, result) = undisturbed(program.as_ref(), shards).expect("the generated data can be learnt from");
    Solved { program, messages, result: result.to_string() }
}

fn undisturbed(program: &dyn Program, shards: &[EncodedShard]) -> Result<(Vec<u64>, Value), LearnError> {
    let (mut state, mut messages) = (program.start()?, Vec::new());
    loop {
        let message = program.message(&state)?;
        messages.push(fnv(FNV, &message));
        let chapters = program.chapters();
        let step = program.open(&chapters, 0, &message)?;
        let leaves = shards.iter().map(|shard| step.partial(shard, &mut program.local())).collect();
        let total = reduce(leaves, |a, b| program.merge(a, b))?;
        drop(step);
        if program.update(&mut state, total)? == Progress::Done {
            return Ok((messages, program.finish(state)?));
        }
    }
}

impl Work {
    pub fn problem(self) -> &'static Problem {
        let (Work::Count(number) | Work::Write(number) | Work::Train(number) | Work::Profile(number)) = self;
        problem(number)
    }

    pub fn solved(self) -> Option<&'static Solved> {
        match self {
            Work::Train(_) => Some(&self.problem().train),
            Work::Profile(_) => Some(&self.problem().profile),
            Work::Count(_) | Work::Write(_) => None,
        }
    }

    pub fn program(self) -> Option<&'static dyn Program> {
        self.solved().map(|solved| solved.program.as_ref())
    }

    /// What its encoded shards are kept under.
    pub fn view(self) -> Option<usize> {
        match self {
            Work::Train(number) | Work::Profile(number) => Some(number),
            Work::Count(_) | Work::Write(_) => None,
        }
    }

    /// Shards or tasks.
    pub fn leaves(self) -> u32 {
        match self {
            Work::Count(_) => self.problem().boundaries.len() as u32,
            Work::Write(_) => 1,
            Work::Train(_) | Work::Profile(_) => self.problem().shards.len() as u32,
        }
    }

    /// What one task of [`Work::Count`] or [`Work::Write`] gives.
    pub fn output(self, task: u32) -> Vec<u8> {
        task.to_le_bytes().to_vec()
    }

    /// Two neighbours become one.
    pub fn merge(self, left: Vec<u8>, right: Vec<u8>) -> Result<Vec<u8>, LearnError> {
        match self.program() {
            Some(program) => Ok(program.merge(program.read(&left)?, program.read(&right)?)?.encode()),
            None => Ok([left, right].concat()),
        }
    }

    /// What a worker sends for these shards: partials merged into complete, aligned blocks.
    pub fn answer(self, ranges: &[std::ops::Range<u32>], message: &[u8]) -> Result<Vec<(Block, Payload)>, LearnError> {
        let program = self.program();
        // None of these learners has chapters.
        let chapters = program.map(|program| program.chapters());
        let step = program.zip(chapters.as_ref()).map(|(program, chapters)| program.open(chapters, 0, message)).transpose()?;
        let mut blocks = Vec::new();
        for range in ranges {
            let mut merger = Merger::new(self.leaves());
            for index in range.clone() {
                let value = match (&step, program) {
                    (Some(step), Some(program)) => {
                        step.partial(&self.problem().shards[index as usize], &mut program.local()).map(|p| p.encode())
                    }
                    _ => Some(self.output(index)),
                };
                merger.insert(Block { level: 0, index }, value, |a, b| self.merge(a, b))?;
            }
            blocks.extend(merger.into_blocks().into_iter().map(|(block, value)| (block, value.map(Arc::new))));
        }
        Ok(blocks)
    }
}

/// Bytes of a block; `None` is the empty leaf.
pub(super) type Payload = Option<Arc<Vec<u8>>>;

/// Digest of a block's bytes.
pub(super) fn digest(value: &Payload) -> u64 {
    value.as_ref().map_or(0, |bytes| fnv(FNV, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn learners_take_many_steps() {
        let steps: Vec<usize> = problems().iter().map(|problem| problem.train.messages.len()).collect();
        assert!(steps.iter().filter(|steps| **steps >= 10).count() >= 4, "{steps:?}");
    }

    #[test]
    fn the_order_of_additions_shows() {
        let solved = &problem(0).train;
        let message = solved.program.message(&solved.program.start().unwrap()).unwrap();
        let chapters = solved.program.chapters();
        let step = solved.program.open(&chapters, 0, &message).unwrap();
        let partials = || problem(0).shards.iter().filter_map(|shard| step.partial(shard, &mut solved.program.local()));
        let merge = |a, b| solved.program.merge(a, b).unwrap();
        assert_ne!(partials().reduce(merge), partials().rev().reduce(merge));
    }

    #[test]
    fn blocks_of_any_ranges_give_the_undisturbed_total() {
        let work = Work::Train(0);
        let solved = &problem(0).train;
        let message = solved.program.message(&solved.program.start().unwrap()).unwrap();
        let whole = work.answer(std::slice::from_ref(&(0..12)), &message).unwrap();
        let mut merger = Merger::new(12);
        for range in [7..12, 0..2, 2..7] {
            for (block, value) in work.answer(&[range], &message).unwrap() {
                merger.insert(block, value, |a, b| work.merge(a.to_vec(), b.to_vec()).map(Arc::new)).unwrap();
            }
        }
        assert_eq!(merger.total(), Some(whole[0].1.clone()));
    }
}
