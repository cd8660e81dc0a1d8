//! What is tried: every learner of the registry with several parameters, a program of integers, and the rows for both.

use std::ops::Range;

use serde_json::{Value, json};
use sheaf_learn::kernels::Level;
use sheaf_learn::model::Task;
use sheaf_learn::program::{Program, ProgramSpec, run};
use sheaf_learn::registry::{ALGORITHMS, Entry, Kind};
use sheaf_learn::shard::{Column, EncodedShard, Feature, FeatureKind, Schema, Segment};

use crate::sums;

const ROWS: usize = 3_000;

/// Parameters with which each learner is tried.
fn variants(entry: &Entry) -> Vec<Value> {
    match entry.name {
        "linear_regression" => vec![
            json!({}),
            json!({"l2": 0.01, "solver": "lbfgs"}),
            json!({"l1": 0.01}),
            json!({"l1": 0.02, "l2": 0.01, "solver": "lbfgs", "standardization": false}),
            json!({"fit_intercept": false, "standardization": false}),
        ],
        "logistic_regression" => vec![
            json!({"l2": 0.001}),
            json!({"l2": 0.001, "solver": "lbfgs", "class_weight": "balanced"}),
            json!({"l1": 0.005, "class_weight": {"0": 1, "1": 4.5}}),
            json!({"l1": 0.01, "solver": "lbfgs"}),
            json!({"l2": 0.01, "fit_intercept": false, "solver": "newton"}),
        ],
        "gradient_boosting" => vec![
            json!({"objective": "binary", "trees": 3, "growth": "depth_wise", "max_depth": 3, "max_bins": 40, "min_samples_leaf": 5}),
            json!({"task": "binary", "trees": 3, "max_leaves": 7, "subsample": 0.7, "colsample_bytree": 0.5, "seed": 5,
                "class_weight": "balanced", "early_stopping": {"rounds": 1}}),
            json!({"objective": "binary", "trees": 2, "max_leaves": 5, "max_bins": 2, "cat_smooth": 1, "colsample_bytree": 0.6}),
            json!({"objective": "squared_error", "trees": 2, "max_leaves": 9, "colsample_bynode": 0.7, "l1": 0.1, "l2": 1.0,
                "min_split_gain": 0.01, "monotone": {"a": 1, "b": -1}, "interactions": [["a", "b", "kind"], ["c", "d", "e", "wide"]]}),
            json!({"objective": "quantile", "probability": 0.7, "trees": 2, "max_leaves": 4}),
            json!({"objective": "poisson", "trees": 2, "max_leaves": 4}),
            json!({"objective": "tweedie", "trees": 2, "max_leaves": 4}),
            json!({"objective": "huber", "trees": 2, "max_leaves": 4}),
            json!({"objective": "absolute", "trees": 2, "max_leaves": 5, "subsample": 0.8, "min_samples_leaf": 3}),
            json!({"objective": "binary", "trees": 6, "max_leaves": 4, "boosting": "dart", "drop_rate": 0.5, "skip_drop": 0.2,
                "max_drop": 3, "seed": 2}),
            json!({"objective": "absolute", "trees": 4, "max_leaves": 4, "boosting": "dart", "drop_rate": 0.6, "skip_drop": 0,
                "learning_rate": 0.5}),
            json!({"objective": "binary", "trees": 2, "max_leaves": 4, "warm_start": earlier(entry, json!({"objective": "binary",
                "trees": 2, "max_leaves": 3}))}),
            json!({"objective": "absolute", "trees": 4, "max_leaves": 4, "boosting": "dart", "skip_drop": 0, "drop_rate": 0.5,
                "warm_start": earlier(entry, json!({"objective": "absolute", "trees": 2, "max_leaves": 5}))}),
            json!({"objective": "multiclass", "trees": 4, "max_leaves": 3, "boosting": "dart", "drop_rate": 0.6, "skip_drop": 0}),
            json!({"objective": "multiclass", "trees": 2, "max_leaves": 3, "subsample": 0.8, "warm_start": earlier(entry,
                json!({"objective": "multiclass", "trees": 2, "max_leaves": 4}))}),
            json!({"objective": "lambdarank", "trees": 3, "max_leaves": 6, "truncation_level": 5, "early_stopping": {"rounds": 2}}),
            json!({"objective": "map", "trees": 2, "max_leaves": 4, "sigmoid": 2.0, "lambdarank_norm": false}),
            json!({"objective": "multiclass", "trees": 2, "max_leaves": 5, "subsample": 0.8, "class_weight": {"maybe": 2.5},
                "early_stopping": {"rounds": 1}}),
        ],
        "random_forest" => vec![
            json!({"task": "binary", "trees": 2, "max_depth": 4, "class_weight": "balanced", "seed": 3}),
            json!({"task": "multiclass", "trees": 3, "max_depth": 3, "class_weight": "balanced", "seed": 3}),
        ],
        "extra_trees" => vec![
            json!({"task": "regression", "trees": 2, "max_depth": 4}),
            json!({"task": "multiclass", "trees": 2, "max_depth": 3}),
        ],
        "decision_tree" => vec![
            json!({"task": "binary", "max_depth": 3, "max_bins": 20}),
            json!({"task": "multiclass", "max_depth": 3, "max_bins": 20}),
        ],
        "isolation_forest" => vec![
            json!({"trees": 5, "max_samples": 64, "contamination": 0.1, "seed": 2}),
            json!({"trees": 3, "max_samples": 17, "max_features": 0.5}),
        ],
        other => panic!("say with which parameters `{other}` is tried"),
    }
}

/// A model to go on from.
fn earlier(entry: &Entry, params: Value) -> Value {
    let schema = schema_of(entry, &params);
    let spec = ProgramSpec { name: entry.name.into(), params, schema };
    run(spec.build().unwrap().as_ref(), &shards_of(&spec, 1_000)).unwrap()["model"].clone()
}

fn learners() -> impl Iterator<Item = &'static Entry> {
    ALGORITHMS.iter().filter(|e| e.kind == Kind::Learner)
}

/// What is tried: a learner with parameters, or the program of integers.
pub enum Case {
    Learner(ProgramSpec),
    Sums,
}

impl Case {
    /// The dataset with the columns that the case takes.
    pub fn shards(&self, size: usize) -> Vec<EncodedShard> {
        match self {
            Case::Learner(spec) => shards_of(spec, size),
            Case::Sums => shards(size),
        }
    }

    /// Its program at a kernel level.
    pub fn build_at(&self, level: Level) -> Box<dyn Program> {
        match self {
            Case::Learner(spec) => spec.build_at(level).unwrap(),
            Case::Sums => sums::program(),
        }
    }

    /// Its program at the widest level.
    pub fn build(&self) -> Box<dyn Program> {
        self.build_at(Level::detect())
    }
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Case::Learner(spec) => write!(f, "{} {}", spec.name, spec.params),
            Case::Sums => f.write_str("sums"),
        }
    }
}

pub fn each_case(check: impl Fn(&Case)) {
    each_spec(|_| true, |spec| check(&Case::Learner(spec.clone())));
    check(&Case::Sums);
}

pub fn each_spec(filter: impl Fn(&Entry) -> bool, check: impl Fn(&ProgramSpec)) {
    for entry in learners().filter(|entry| filter(entry)) {
        for params in variants(entry) {
            check(&ProgramSpec { name: entry.name.into(), schema: schema_of(entry, &params), params });
        }
    }
}

/// Learners whose models have a coefficient per slot.
pub fn is_linear(entry: &Entry) -> bool {
    ["linear_regression", "logistic_regression"].contains(&entry.name)
}

/// A fixed number in [−1, 1).
fn number(i: usize, column: u64) -> f64 {
    let mut x = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (column + 1).wrapping_mul(0xd1b5_4a32_d192_ed03);
    x ^= x >> 31;
    x = x.wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^= x >> 29;
    (x >> 11) as f64 / 4_503_599_627_370_496.0 - 1.0
}

pub fn schema() -> Schema {
    let numeric = |name: &str, shift, scale| Feature { name: name.into(), kind: FeatureKind::Numeric { shift, scale } };
    let names = ["food", "fuel", "rent", "never"].map(str::to_owned).to_vec();
    Schema {
        features: vec![
            numeric("a", 0.0, 1.0),
            numeric("b", 0.5, 2.0),
            numeric("c", 0.0, 1.0),
            numeric("d", 0.0, 1.0),
            numeric("e", -1.0, 0.1),
            numeric("constant", 0.0, 1.0),
            Feature { name: "kind".into(), kind: FeatureKind::Slots { names } },
            numeric("wide", 1e6, 1e-3),
            Feature { name: "hashed".into(), kind: FeatureKind::Sparse { width: 8 } },
        ],
        classes: vec!["no".into(), "yes".into()],
    }
}

/// What a learner with these parameters predicts.
pub fn task_of(name: &str, params: &Value) -> Option<Task> {
    sheaf_learn::registry::task(name, &serde_json::from_value(params.clone()).unwrap())
}

/// The schema without what a learner does not read, and with its classes: trees take no sparse slots.
fn schema_of(entry: &Entry, params: &Value) -> Schema {
    let mut schema = schema();
    if task_of(entry.name, params) == Some(Task::Multiclass) {
        schema.classes.insert(1, "maybe".into());
    }
    if !is_linear(entry) {
        schema.features.retain(|f| !matches!(f.kind, FeatureKind::Sparse { .. }));
    }
    schema
}

/// The dataset with the columns of a spec's schema, which are the first ones. Where there are three classes, the second
/// ones are rows with a large `a` that would be of the first.
pub fn shards_of(spec: &ProgramSpec, size: usize) -> Vec<EncodedShard> {
    let mut shards = shards(size);
    for shard in &mut shards {
        shard.columns.truncate(spec.schema.features.len());
        if task_of(&spec.name, &spec.params) == Some(Task::Multiclass) {
            let class = |(i, y): (usize, &f64)| match shard.columns[0].number(i) {
                Some(a) if *y == 0.0 && a > 0.2 => 1.0,
                _ => 2.0 * y,
            };
            shard.target = shard.target.as_ref().map(|y| y.iter().enumerate().map(class).collect());
            shard.offset = None;
        }
    }
    shards
}

/// Rows `rows` of the dataset as one shard: about a fifth are not training rows; or all of them are of one segment.
fn shard(index: u32, rows: Range<usize>, only: Option<Segment>) -> EncodedShard {
    let segment = |i: usize| only.map_or_else(|| usize::from(number(i, 50) > 0.6) * (1 + i % 2), |segment| segment as usize);
    let mut order: Vec<usize> = rows.clone().collect();
    order.sort_by_key(|&i| segment(i));
    let n = order.len();
    let end = |s: usize| order.iter().filter(|&&i| segment(i) < s).count();
    let f32s = |column: u64| Column::F32(order.iter().map(|&i| number(i, column) as f32 * 2.0).collect());
    let f64s = |column: u64, centre: f64| Column::F64(order.iter().map(|&i| centre + number(i, column)).collect());
    let (mut offsets, mut entries) = (vec![0], Vec::new());
    for &i in &order {
        if i % 7 != 0 {
            entries.push(((i % 4) as u32, number(i, 8) as f32));
            entries.push(((4 + i % 3) as u32, 1.0));
        }
        offsets.push(entries.len() as u32);
    }
    let code = |&i: &usize| if i % 11 == 0 { u32::MAX } else { ((number(i, 6) + 1.0) * 1.5) as u32 };
    let score = |i: usize| number(i, 0) - 0.7 * number(i, 1) + 0.2 * number(i, 4) + 0.4 * number(i, 20) - 0.3;
    EncodedShard {
        index,
        rows: n,
        bounds: [0, end(1), end(2), n],
        columns: vec![
            f32s(0),
            f32s(1),
            f32s(2),
            f32s(3),
            f64s(4, 0.0),
            Column::F64(vec![0.1; n].into()),
            Column::Code(order.iter().map(code).collect()),
            f64s(7, 1e6),
            Column::Sparse { offsets: offsets.into(), entries: entries.into() },
        ],
        target: Some(order.iter().map(|&i| if score(i) > 0.0 { 1.0 } else { 0.0 }).collect()),
        weight: Some(order.iter().map(|&i| 1.0 + (i % 3) as f64 * 0.37).collect()),
        offset: Some(order.iter().map(|&i| 0.05 * number(i, 30)).collect()),
        // Up to seven rows of a segment are a query.
        query: Some((0..n).map(|at| (at / 7 + n * [end(1), end(2)].iter().filter(|end| at >= **end).count()) as u32).collect()),
        row_ids: None,
    }
}

/// The dataset in shards of `size` rows; some of them hold no training row (rows of one other segment),
/// one holds no row at all.
pub fn shards(size: usize) -> Vec<EncodedShard> {
    let mut out: Vec<EncodedShard> = Vec::new();
    for (i, at) in (0..ROWS).step_by(size).enumerate() {
        let only = match i % 10 {
            3 if size < 1_000 => Some(Segment::Test),
            7 if size < 1_000 => Some(Segment::Validation),
            _ => None,
        };
        out.push(shard(out.len() as u32, at..ROWS.min(at + size), only));
    }
    out.push(shard(out.len() as u32, 0..0, None));
    out
}
