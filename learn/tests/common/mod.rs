//! What several test files need: a documented generator of numbers, shards cut from rows, and a run of a
//! program as several workers would do it, with blocks that arrive in any order.

#![allow(dead_code, clippy::unwrap_used, reason = "tests; each file uses a part")]

use std::ops::Range;

use serde_json::Value;
use sheaf_learn::algorithm::Progress;
use sheaf_learn::model::Model;
use sheaf_learn::program::{Local, Program, ProgramSpec, catch_up};
use sheaf_learn::shard::{Column, EncodedShard, Feature, FeatureKind, Schema, Segment, Shared};
use sheaf_learn::tree::{Block, Merger, cover};
use sheaf_learn::trees::model::TreeModel;

/// Knuth's MMIX generator, as in the reference scripts: x ← 6364136223846793005·x + 1442695040888963407 mod 2⁶⁴;
/// a draw is the upper 32 bits.
pub struct Lcg(pub u64);

impl Lcg {
    pub fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    pub fn below(&mut self, n: u32) -> u32 {
        self.next() % n
    }
}

/// What a learner makes of shards: the model, which belongs to the schema, and the whole result.
pub fn fit(name: &str, params: Value, schema: &Schema, shards: &[EncodedShard]) -> (Model, Value) {
    let spec = ProgramSpec { name: name.into(), params, schema: schema.clone() };
    let result = sheaf_learn::program::run(spec.build().unwrap().as_ref(), shards).unwrap();
    let model: Model = serde_json::from_value(result["model"].clone()).unwrap();
    model.check(schema).unwrap();
    (model, result)
}

/// The same of a learner of trees.
pub fn fit_trees(name: &str, params: Value, schema: &Schema, shards: &[EncodedShard]) -> (TreeModel, Value) {
    match fit(name, params, schema, shards) {
        (Model::Trees(model), result) => (model, result),
        (other, _) => panic!("{other:?}"),
    }
}

/// A whole dataset before it is cut: a shard of any number of rows whose segments are not grouped yet.
#[derive(Clone, Default)]
pub struct Rows {
    pub segments: Vec<Segment>,
    pub columns: Vec<Column>,
    pub target: Option<Vec<f64>>,
    pub weight: Option<Vec<f64>>,
    pub row_ids: Option<Vec<u128>>,
}

fn pick<T: Clone>(values: &[T], rows: &[usize]) -> Shared<T> {
    rows.iter().map(|r| values[*r].clone()).collect()
}

fn pick_column(column: &Column, rows: &[usize]) -> Column {
    match column {
        Column::F32(v) => Column::F32(pick(v, rows)),
        Column::F64(v) => Column::F64(pick(v, rows)),
        Column::Code(v) => Column::Code(pick(v, rows)),
        Column::Bytes { codes, values } => Column::Bytes { codes: pick(codes, rows), values: values.clone() },
        Column::Sparse { .. } => panic!("tests of statistics have no sparse columns"),
    }
}

impl Rows {
    /// One shard of a range of rows, stably grouped by segment.
    pub fn shard(&self, index: usize, range: Range<usize>) -> EncodedShard {
        let of = |segment: Segment| range.clone().filter(move |r| self.segments[*r] == segment);
        let order: Vec<usize> = Segment::ALL.into_iter().flat_map(of).collect();
        let mut bounds = [0; 4];
        for (i, segment) in Segment::ALL.into_iter().enumerate() {
            bounds[i + 1] = bounds[i] + of(segment).count();
        }
        EncodedShard {
            index: index as u32,
            rows: order.len(),
            bounds,
            columns: self.columns.iter().map(|c| pick_column(c, &order)).collect(),
            target: self.target.as_ref().map(|v| pick(v, &order)),
            weight: self.weight.as_ref().map(|v| pick(v, &order)),
            offset: None,
            query: None,
            row_ids: self.row_ids.as_ref().map(|v| pick(v, &order)),
        }
    }

    /// Shards of `size` rows.
    pub fn shards(&self, size: usize) -> Vec<EncodedShard> {
        let starts = (0..self.segments.len()).step_by(size).enumerate();
        starts.map(|(i, start)| self.shard(i, start..(start + size).min(self.segments.len()))).collect()
    }
}

/// Numeric columns of these names.
pub fn schema(names: &[&str]) -> Schema {
    let kind = FeatureKind::Numeric { shift: 0.0, scale: 1.0 };
    let features = names.iter().map(|n| Feature { name: (*n).to_owned(), kind: kind.clone() }).collect();
    Schema { features, classes: Vec::new() }
}

pub fn program(name: &str, params: Value, names: &[&str]) -> Box<dyn Program> {
    ProgramSpec { name: name.to_owned(), params, schema: schema(names) }.build().unwrap()
}

/// Runs a program on one worker in shard order.
pub fn run(program: &dyn Program, shards: &[EncodedShard]) -> Value {
    sheaf_learn::program::run(program, shards).unwrap()
}

/// Runs a program as workers that hold the ranges between `cuts`: each reduces its range to blocks, blocks
/// arrive in an order drawn from `seed`, every partial is asked twice, and locals are lost now and then.
pub fn run_as_workers(program: &dyn Program, shards: &[EncodedShard], cuts: &[usize], seed: u64) -> Value {
    let mut random = Lcg(seed);
    let count = shards.len() as u32;
    let mut state = program.start().unwrap();
    let mut chapters = program.chapters();
    let mut locals: Vec<Local> = shards.iter().map(|_| program.local()).collect();
    loop {
        let message = program.message(&state).unwrap();
        let known = catch_up(program, &state, &mut chapters).unwrap();
        let step = program.open(&chapters, known, &message).unwrap();
        let mut blocks = Vec::new();
        for pair in cuts.windows(2) {
            let mut merger = Merger::new(count);
            let mut order: Vec<usize> = (pair[0]..pair[1]).collect();
            shuffle(&mut order, &mut random);
            for i in order {
                if random.below(3) == 0 {
                    locals[i] = program.local();
                }
                let partial = step.partial(&shards[i], &mut locals[i]);
                assert_eq!(partial, step.partial(&shards[i], &mut locals[i]), "a partial changes when asked again");
                merger.insert(Block { level: 0, index: i as u32 }, partial, |a, b| program.merge(a, b)).unwrap();
            }
            let sent = merger.into_blocks();
            assert_eq!(sent.len(), cover(pair[0] as u32..pair[1] as u32, count).len());
            blocks.extend(sent);
        }
        shuffle(&mut blocks, &mut random);
        let mut merger = Merger::new(count);
        for (block, value) in blocks {
            merger.insert(block, value, |a, b| program.merge(a, b)).unwrap();
        }
        let total = merger.total().expect("every shard is in");
        drop(step);
        if program.update(&mut state, total).unwrap() == Progress::Done {
            return program.finish(state).unwrap();
        }
    }
}

pub fn shuffle<T>(items: &mut [T], random: &mut Lcg) {
    for i in (1..items.len()).rev() {
        items.swap(i, random.below(i as u32 + 1) as usize);
    }
}

/// Asserts that 1, 2, 3, 5 and 8 workers in any order give the bits that one gives.
pub fn assert_independent_of_workers(program: &dyn Program, shards: &[EncodedShard]) -> Value {
    let expected = run(program, shards);
    for workers in [1, 2, 3, 5, 8] {
        let cuts: Vec<usize> = (0..=workers).map(|w| shards.len() * w / workers).collect();
        let found = run_as_workers(program, shards, &cuts, 17 + workers as u64);
        assert_eq!(found.to_string(), expected.to_string(), "{workers} workers");
    }
    expected
}
