//! Trees side by side, and histograms in ranges of features: whatever the limits, the trees are the same; a batch takes
//! the steps of one tree.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeMap;

use common::Lcg;
use serde_json::{Value, json};
use sheaf_learn::algorithm::Progress;
use sheaf_learn::algorithms::gradient_boosting::from_params;
use sheaf_learn::kernels::Level;
use sheaf_learn::program::{Erased, Local, Program, catch_up};
use sheaf_learn::shard::{Column, EncodedShard, Feature, FeatureKind, Schema};
use sheaf_learn::trees::batch::Limits;
use sheaf_learn::trees::boosting::Boosting;
use sheaf_learn::trees::objective::{Objective, Shares};
use sheaf_learn::trees::params::Growth;

const ROWS: usize = 1_200;
const FEATURES: usize = 52;
const CLASSES: usize = 3;

fn schema() -> Schema {
    let numeric = FeatureKind::Numeric { shift: 0.0, scale: 1.0 };
    let mut features: Vec<Feature> = (0..FEATURES).map(|j| Feature { name: format!("x{j}"), kind: numeric.clone() }).collect();
    features[20].kind = FeatureKind::Slots { names: (0..6).map(|c| format!("level {c}")).collect() };
    Schema { features, classes: (0..CLASSES).map(|c| format!("class {c}")).collect() }
}

/// Classes by features that stand far apart.
fn shards() -> Vec<EncodedShard> {
    let mut random = Lcg(31);
    let shard = |index: usize| {
        let n = 200;
        let mut columns: Vec<Vec<f32>> = vec![Vec::new(); FEATURES];
        let mut target = Vec::new();
        for _ in 0..n {
            let x: Vec<f32> = (0..FEATURES).map(|_| random.below(40) as f32).collect();
            let kind = x[20] as u32 % 6;
            let score = x[1] + x[17] * 0.7 + f64::from(kind) as f32 * 4.0 - x[40] * 0.5 + random.below(15) as f32;
            target.push(if score < 30.0 {
                0.0
            } else if score < 48.0 {
                1.0
            } else {
                2.0
            });
            x.iter().zip(&mut columns).for_each(|(x, column)| column.push(*x));
        }
        let kinds = Column::Code(columns[20].iter().map(|&x| x as u32 % 6).collect());
        let mut columns: Vec<Column> = columns.into_iter().map(|x| Column::F32(x.into())).collect();
        columns[20] = kinds;
        EncodedShard {
            index: index as u32,
            rows: n,
            bounds: [0, 160, n, n],
            columns,
            target: Some(target.into()),
            ..Default::default()
        }
    };
    (0..ROWS / 200).map(shard).collect()
}

fn boosting(params: Value) -> Boosting {
    let params: BTreeMap<String, Value> = serde_json::from_value(params).unwrap();
    from_params(&params, &schema(), Level::detect()).unwrap()
}

/// The same as a forest.
fn forest(params: Value, random_thresholds: bool) -> Boosting {
    let mut out = boosting(params);
    out.objective = Objective::Shares(Shares { classes: CLASSES as u32 });
    out.settings.forest = true;
    out.settings.bootstrap = !random_thresholds;
    out.settings.random_thresholds = random_thresholds;
    out.settings.growth = Growth::DepthWise;
    out.settings.learning_rate = 1.0;
    out
}

/// The result and the number of steps; with `restart` the state goes through bytes before each step.
fn fit(boosting: &Boosting, limits: Limits, shards: &[EncodedShard], restart: bool) -> (String, usize) {
    let mut boosting = boosting.clone();
    boosting.settings.limits = limits;
    let program = Erased(boosting);
    let (mut state, mut chapters) = (program.start().unwrap(), program.chapters());
    let mut locals: Vec<Local> = shards.iter().map(|_| program.local()).collect();
    for steps in 1.. {
        if restart {
            state = program.load(&program.save(&state).unwrap()).unwrap();
        }
        let message = program.message(&state).unwrap();
        let count = catch_up(&program, &state, &mut chapters).unwrap();
        let step = program.open(&chapters, count, &message).unwrap();
        let mut total = None;
        for (i, (shard, local)) in shards.iter().zip(&mut locals).enumerate() {
            if restart && (i + steps).is_multiple_of(4) {
                *local = program.local();
            }
            step.accumulate(shard, local, &mut total).unwrap();
        }
        drop(step);
        // What comes from another process is bytes.
        let total = total.map(|t| program.read(&t.encode()).unwrap());
        if program.update(&mut state, total).unwrap() == Progress::Done {
            return (program.finish(state).unwrap().to_string(), steps);
        }
    }
    unreachable!("a fit ends")
}

fn cases() -> Vec<(&'static str, Boosting)> {
    let leaf_wise = json!({"objective": "multiclass", "trees": 3, "max_leaves": 9, "min_samples_leaf": 5});
    let drawn = json!({"objective": "multiclass", "trees": 2, "growth": "depth_wise", "max_depth": 4, "min_samples_leaf": 3,
        "subsample": 0.7, "colsample_bytree": 0.5, "colsample_bynode": 0.6, "class_weight": {"class 2": 2.5}, "seed": 4});
    let groups = json!({"objective": "multiclass", "trees": 2, "max_leaves": 6,
        "interactions": [["x1", "x17", "x20"], ["x40", "x20"], ["x2", "x3"]], "monotone": {"x1": 1}});
    let deep = json!({"objective": "multiclass", "trees": 5, "max_depth": 6, "max_leaves": 64, "min_samples_leaf": 1,
        "colsample_bynode": 0.3, "seed": 9});
    vec![
        ("leaf-wise", boosting(leaf_wise)),
        ("drawn", boosting(drawn)),
        ("groups", boosting(groups)),
        ("random forest", forest(deep.clone(), false)),
        ("extra trees", forest(deep, true)),
    ]
}

#[test]
fn limits_change_no_tree() {
    let shards = shards();
    let usual = Limits::default();
    for (name, boosting) in cases() {
        let (want, steps) = fit(&boosting, usual, &shards, false);
        let check = |what: &str, limits: Limits, restart: bool| {
            let (found, more) = fit(&boosting, limits, &shards, restart);
            assert!(found == want, "{name}: {what} gives other trees");
            assert!(more >= steps, "{name}: {what} takes {more} steps where {steps} were enough");
            more
        };
        let single = check("a tree at a time", Limits { trees: 1, ..usual }, false);
        assert!(single > steps + steps / 2, "{name}: {single} steps where a batch takes {steps}");
        check("two trees at a time", Limits { trees: 2, ..usual }, true);
        check("a histogram at a time", Limits { cells: 1, ..usual }, false);
        check("some histograms at a time, none kept", Limits { cells: 400_000, kept: 0, ..usual }, false);
        check("few histograms kept", Limits { kept: 60_000, ..usual }, true);
        for (range, count) in [(8, 7), (24, 3), (32, 2)] {
            assert_eq!(sheaf_learn::trees::ranges::ranges(FEATURES, range).len(), count);
            check("ranges", Limits { range, ..usual }, false);
            check("ranges, restarts and few histograms", Limits { range, cells: 30_000, kept: 100_000, trees: 2, ..usual }, true);
        }
    }
}

#[test]
fn a_batch_takes_the_steps_of_one_tree() {
    let shards = shards();
    let (_, many) = fit(&cases().remove(3).1, Limits::default(), &shards, false);
    // Survey, sample, gradients, six levels at most, leaves, losses.
    assert!(many <= 1 + 1 + 1 + 6 + 1 + 1, "{many}");
}
