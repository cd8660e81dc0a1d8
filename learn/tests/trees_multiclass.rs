//! Models with a score for each class: probabilities, stages, leaves, contributions and losses belong together; weights
//! of classes are weights of rows; a class that training has not met gets nothing.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use common::Lcg;
use serde_json::{Value, json};
use sheaf_learn::math;
use sheaf_learn::model::Model;
use sheaf_learn::program::ProgramSpec;
use sheaf_learn::shard::{Column, EncodedShard, Feature, FeatureKind, Schema};
use sheaf_learn::trees::importance::importance;
use sheaf_learn::trees::model::TreeModel;
use sheaf_learn::trees::objective::Link;
use sheaf_learn::trees::shap::contributions;
use sheaf_learn::trees::tree::Tree;

const SHARDS: usize = 6;
const ROWS: usize = 400;
const TRAIN: usize = 300;
const CLASSES: usize = 4;

fn schema() -> Schema {
    let numeric = |name: &str| Feature { name: name.into(), kind: FeatureKind::Numeric { shift: 0.0, scale: 1.0 } };
    let names = (0..3).map(|c| format!("kind {c}")).collect();
    let kind = Feature { name: "kind".into(), kind: FeatureKind::Slots { names } };
    let classes = ["red", "green", "blue", "violet"].map(str::to_owned).to_vec();
    Schema { features: vec![numeric("a"), numeric("b"), kind, numeric("noise")], classes }
}

/// `class(a, b, kind, draw)` with three kinds and numbers between 0 and 1; now and then `a` is missing.
fn shards(validation: bool, class: impl Fn(f64, f64, u32, f64) -> usize) -> Vec<EncodedShard> {
    let mut random = Lcg(12);
    let mut draw = || f64::from(random.next()) / 4_294_967_296.0;
    let shard = |index: usize| {
        let (mut a, mut b, mut kind, mut noise, mut y) = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROWS {
            let (x, z, k) = (draw(), draw(), (draw() * 3.0) as u32);
            y.push(class(x, z, k, draw()) as f64);
            a.push(if draw() < 0.05 { f64::NAN } else { x });
            b.push(z as f32);
            kind.push(k);
            noise.push(draw());
        }
        let train = if validation { TRAIN } else { ROWS };
        EncodedShard {
            index: index as u32,
            rows: ROWS,
            bounds: [0, train, ROWS, ROWS],
            columns: vec![Column::F64(a.into()), Column::F32(b.into()), Column::Code(kind.into()), Column::F64(noise.into())],
            target: Some(y.into()),
            ..Default::default()
        }
    };
    (0..SHARDS).map(shard).collect()
}

/// Four classes in bands of `a` and `b`, by kind; some rows are of any class.
fn bands(a: f64, b: f64, kind: u32, draw: f64) -> usize {
    if draw < 0.15 { (draw / 0.15 * 4.0) as usize } else { (a * 2.0 + b * 2.0 + f64::from(kind) * 0.4) as usize % CLASSES }
}

fn fit(name: &str, params: Value, shards: &[EncodedShard]) -> (TreeModel, Value) {
    common::fit_trees(name, params, &schema(), shards)
}

fn boost(mut params: Value, shards: &[EncodedShard]) -> (TreeModel, Value) {
    params["objective"] = json!("multiclass");
    fit("gradient_boosting", params, shards)
}

/// Probabilities of all rows of a shard, row after row.
fn probabilities(model: &TreeModel, shard: &EncodedShard) -> Vec<f64> {
    let model = Model::Trees(model.clone());
    assert_eq!(model.outputs(&schema()), CLASSES);
    let out = model.predict(&schema(), shard, 0..shard.rows);
    assert_eq!(out.len(), shard.rows * CLASSES);
    for own in out.chunks(CLASSES) {
        assert!(own.iter().all(|p| (0.0..=1.0).contains(p)) && (own.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{own:?}");
    }
    out
}

/// Share of the rows from `first` on whose own class is the most probable.
fn accuracy(model: &TreeModel, shards: &[EncodedShard], first: usize) -> f64 {
    let (mut hits, mut rows) = (0, 0);
    for shard in shards {
        let found = probabilities(model, shard);
        for (own, y) in found.chunks(CLASSES).zip(shard.target.as_ref().unwrap().iter()).skip(first) {
            hits += usize::from(own.iter().all(|p| *p <= own[*y as usize]));
            rows += 1;
        }
    }
    f64::from(hits as u32) / f64::from(rows)
}

#[test]
fn scores_stages_and_leaves_belong_together() {
    let shards = shards(false, bands);
    let (model, result) = boost(json!({"trees": 7, "max_leaves": 8}), &shards);
    let (schema, shard) = (schema(), &shards[1]);
    assert_eq!((model.trees.len(), model.outputs(), &result["iterations"]), (7 * CLASSES, CLASSES, &json!(7)));
    let count = model.trees.len();
    let leaves = model.leaves(&schema, shard, 10..80);
    let staged = model.staged(&schema, shard, 10..80);
    for rounds in [0, 1, 4, 7] {
        let scores = model.scores(&schema, shard, 10..80, rounds * CLASSES);
        for row in 0..70 {
            for class in 0..CLASSES {
                let own = (0..rounds).map(|r| r * CLASSES + class);
                let want = own.fold(model.base[class], |sum, t| sum + model.trees[t].value[leaves[row * count + t] as usize]);
                let (found, stage) = (scores[row * CLASSES + class], staged[(row * 8 + rounds) * CLASSES + class]);
                assert_eq!((found.to_bits(), stage.to_bits()), (want.to_bits(), want.to_bits()), "row {row}, class {class}");
            }
        }
    }
    let mut scores = model.scores(&schema, shard, 0..ROWS, count);
    Link::Softmax.predict(&mut scores, CLASSES);
    assert_eq!(scores, probabilities(&model, shard));
    assert!(accuracy(&model, &shards, 0) > 0.6, "{}", accuracy(&model, &shards, 0));
    let importance = importance(&model, 4);
    let splits: usize = model.trees.iter().map(Tree::splits).sum();
    assert_eq!(importance.iter().map(|i| i.splits).sum::<u64>(), splits as u64);
    assert!((0..3).all(|j| importance[j].gain > importance[3].gain), "{importance:?}");
}

#[test]
fn contributions_add_up_for_each_class() {
    let shards = shards(false, bands);
    let (model, _) = boost(json!({"trees": 4, "max_leaves": 8}), &shards);
    let (schema, shard) = (schema(), &shards[2]);
    let scores = model.scores(&schema, shard, 5..60, model.trees.len());
    let width = schema.features.len() + 1;
    let found = contributions(&model, &schema, shard, 5..60);
    assert_eq!(found.len(), scores.len() * width);
    for (own, score) in found.chunks(width).zip(&scores) {
        assert!((own.iter().sum::<f64>() - score).abs() < 1e-9, "{own:?} {score}");
    }
}

#[test]
fn losses_are_those_of_the_model_and_the_best_round_stays() {
    let shards = shards(true, bands);
    let params = json!({"trees": 200, "learning_rate": 0.4, "max_leaves": 12, "early_stopping": {"rounds": 5}});
    let (model, result) = boost(params, &shards);
    let of = |name: &str| result[name].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect::<Vec<f64>>();
    let (train, validation) = (of("train_loss"), of("validation_loss"));
    let best = (0..validation.len()).min_by(|&a, &b| validation[a].total_cmp(&validation[b])).unwrap();
    assert!(best > 1 && validation.len() < 200);
    assert_eq!((model.trees.len(), validation.len(), train.len()), (best * CLASSES, best + 6, best + 6));
    let mut loss = [0.0; 2];
    for shard in &shards {
        let found = probabilities(&model, shard);
        for (row, (own, y)) in found.chunks(CLASSES).zip(shard.target.as_ref().unwrap().iter()).enumerate() {
            loss[usize::from(row >= TRAIN)] -= math::ln(own[*y as usize]);
        }
    }
    let rows = [SHARDS * TRAIN, SHARDS * (ROWS - TRAIN)].map(|n| n as f64);
    assert!((loss[0] / rows[0] - train[best]).abs() < 1e-9 && (loss[1] / rows[1] - validation[best]).abs() < 1e-9);
}

#[test]
fn weights_of_classes_are_weights_of_rows() {
    let plain = shards(false, bands);
    let mut weighted = plain.clone();
    for shard in &mut weighted {
        let weight = |y: &f64| [1.0, 3.0, 1.0, 0.5][*y as usize];
        shard.weight = Some(shard.target.as_ref().unwrap().iter().map(weight).collect());
    }
    let params = json!({"trees": 3, "max_leaves": 6});
    let by_class = json!({"trees": 3, "max_leaves": 6, "class_weight": {"green": 3, "violet": 0.5}});
    assert_eq!(boost(params.clone(), &weighted).1.to_string(), boost(by_class, &plain).1.to_string());

    let mut rows = [0.0; CLASSES];
    plain.iter().flat_map(|s| s.target.as_ref().unwrap().iter()).for_each(|y| rows[*y as usize] += 1.0);
    let factor = |class: usize| rows.iter().sum::<f64>() / (CLASSES as f64 * rows[class]);
    let said = json!({"trees": 3, "max_leaves": 6, "class_weight":
        {"red": factor(0), "green": factor(1), "blue": factor(2), "violet": factor(3)}});
    let balanced = json!({"trees": 3, "max_leaves": 6, "class_weight": "balanced"});
    let balanced = boost(balanced, &plain);
    assert_eq!(balanced.1.to_string(), boost(said, &plain).1.to_string());
    assert!(balanced.0.base.iter().all(|b| (b - math::ln(0.25)).abs() < 1e-12), "{:?}", balanced.0.base);
    let spec = |params| ProgramSpec { name: "gradient_boosting".into(), params, schema: schema() };
    let error = spec(json!({"objective": "multiclass", "class_weight": {"1": 2}})).build().err().unwrap().to_string();
    assert!(error.contains("no class `1`; the classes are `red` and `green`"), "{error}");
}

#[test]
fn a_class_that_training_has_not_met_gets_nothing() {
    let shards = shards(false, |a, b, kind, draw| bands(a, b, kind, draw) % 3);
    for params in [json!({"trees": 5, "min_child_weight": 0}), json!({"trees": 5, "class_weight": "balanced", "l2": 1})] {
        let (model, _) = boost(params, &shards);
        for tree in model.trees.iter().skip(3).step_by(CLASSES) {
            assert_eq!((tree.splits(), tree.value.as_slice()), (0, &[0.0][..]));
        }
        assert!(model.trees.iter().enumerate().all(|(t, tree)| t % CLASSES == 3 || tree.splits() > 0));
        assert!(probabilities(&model, &shards[0]).chunks(CLASSES).all(|own| own[3] < 1e-13));
    }
    for name in ["random_forest", "decision_tree"] {
        let (model, _) = fit(name, json!({"task": "multiclass", "max_depth": 5}), &shards);
        assert!(probabilities(&model, &shards[0]).chunks(CLASSES).all(|own| own[3] == 0.0), "{name}");
    }
}

#[test]
fn forests_say_shares_of_classes() {
    let shards = shards(true, bands);
    let params = json!({"task": "multiclass", "max_depth": 3});
    let (tree, result) = fit("decision_tree", params, &shards);
    assert_eq!((tree.trees.len(), &result["iterations"]), (CLASSES, &json!(1)));
    // The score of a class is its share among the training rows of the leaf.
    let mut seen = vec![(0.0, 0.0); tree.trees[1].leaves()];
    for shard in &shards {
        let leaves = tree.leaves(&schema(), shard, 0..TRAIN);
        for (leaf, y) in leaves.chunks(CLASSES).zip(shard.target.as_ref().unwrap().iter()) {
            let own = &mut seen[leaf[1] as usize];
            (own.0, own.1) = (own.0 + f64::from(*y == 1.0), own.1 + 1.0);
        }
    }
    for ((hits, rows), value) in seen.iter().zip(&tree.trees[1].value) {
        assert!((tree.base[1] + value - hits / rows).abs() < 1e-6, "{hits} of {rows}: {}", tree.base[1] + value);
    }
    let single = accuracy(&fit("decision_tree", json!({"task": "multiclass"}), &shards).0, &shards, TRAIN);
    for name in ["random_forest", "extra_trees"] {
        let params = json!({"task": "multiclass", "trees": 25, "min_samples_leaf": 3, "class_weight": "none"});
        let (model, result) = fit(name, params, &shards);
        assert_eq!((model.trees.len(), &result["iterations"]), (25 * CLASSES, &json!(25)));
        let own = accuracy(&model, &shards, TRAIN);
        assert!(own > 0.65 && own > single - 0.02, "{name}: {own}, a single tree {single}");
    }
}
