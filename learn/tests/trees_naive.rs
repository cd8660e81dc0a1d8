//! Boosted trees against a plain reading of the definition: every threshold of every feature is tried over all rows,
//! in f64, without bins, histograms or rounding. Structure and predictions must be the same.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use common::Lcg;
use serde_json::json;
use sheaf_learn::model::Model;
use sheaf_learn::program::{ProgramSpec, run};
use sheaf_learn::shard::{Column, EncodedShard, Feature, FeatureKind, Schema};
use sheaf_learn::trees::tree::Tree;

const ROWS: usize = 700;
const FEATURES: usize = 5;
const RATE: f64 = 0.5;
const L2: f64 = 1.0;
const LEAST: usize = 10;

struct Rows {
    x: Vec<[f64; FEATURES]>,
    y: Vec<f64>,
}

/// Few distinct values, so that sums differ clearly; some are missing.
fn rows() -> Rows {
    let mut random = Lcg(77);
    let (mut x, mut y) = (Vec::new(), Vec::new());
    for i in 0..ROWS {
        let mut row = [0.0; FEATURES];
        row.iter_mut().enumerate().for_each(|(j, x)| *x = f64::from(random.below(6 + 5 * j as u32)));
        let noise = f64::from(random.below(1_000)) / 500.0;
        y.push(row[0] * 1.3 - (row[1] - 4.0).abs() + if row[2] > 9.0 { row[3] * 0.4 } else { 2.0 } + noise);
        if i % 6 == 0 {
            row[1] = f64::NAN;
        }
        x.push(row);
    }
    Rows { x, y }
}

/// What decides at a node, or the leaf's value.
enum Node {
    Split { feature: usize, threshold: f64, missing_left: bool, left: Box<Node>, right: Box<Node> },
    Leaf(f64),
}

fn worth(rows: &[usize], gradients: &[f64]) -> f64 {
    let g: f64 = rows.iter().map(|&i| gradients[i]).sum();
    g * g / (rows.len() as f64 + L2)
}

fn grow(data: &Rows, gradients: &[f64], rows: &[usize], depth: usize) -> Node {
    let value = || -RATE * rows.iter().map(|&i| gradients[i]).sum::<f64>() / (rows.len() as f64 + L2);
    if depth == 0 {
        return Node::Leaf(value());
    }
    let mut best = (1e-9, None);
    for feature in 0..FEATURES {
        let mut values: Vec<f64> = data.x.iter().map(|x| x[feature]).filter(|x| !x.is_nan()).collect();
        values.sort_by(f64::total_cmp);
        values.dedup();
        let has_missing = rows.iter().any(|&i| data.x[i][feature].is_nan());
        let mut thresholds: Vec<f64> = values.windows(2).map(|w| (w[0] + w[1]) / 2.0).collect();
        if has_missing {
            thresholds.push(f64::from(f32::MAX));
        }
        for missing_left in [false, true] {
            for &threshold in &thresholds {
                let goes = |i: usize| {
                    let x = data.x[i][feature];
                    if x.is_nan() { missing_left } else { x <= threshold }
                };
                let (left, right): (Vec<usize>, Vec<usize>) = rows.iter().partition(|&&i| goes(i));
                if left.len() < LEAST || right.len() < LEAST || (missing_left && !has_missing) {
                    continue;
                }
                let gain = worth(&left, gradients) + worth(&right, gradients) - worth(rows, gradients);
                // Sums of rounded gradients tell no smaller difference.
                if gain > best.0 * (1.0 + 1e-6) {
                    let missing_left = if has_missing { missing_left } else { left.len() >= right.len() };
                    best = (gain, Some((feature, threshold, missing_left, left, right)));
                }
            }
        }
    }
    match best.1 {
        None => Node::Leaf(value()),
        Some((feature, threshold, missing_left, left, right)) => Node::Split {
            feature,
            threshold,
            missing_left,
            left: Box::new(grow(data, gradients, &left, depth - 1)),
            right: Box::new(grow(data, gradients, &right, depth - 1)),
        },
    }
}

impl Node {
    fn predict(&self, x: &[f64; FEATURES]) -> f64 {
        match self {
            Node::Leaf(value) => *value,
            Node::Split { feature, threshold, missing_left, left, right } => {
                let goes = if x[*feature].is_nan() { *missing_left } else { x[*feature] <= *threshold };
                if goes { left.predict(x) } else { right.predict(x) }
            }
        }
    }

    /// The same splits and values as a tree of a model.
    fn check(&self, tree: &Tree, child: i32, place: &str) {
        match (self, usize::try_from(child)) {
            (Node::Leaf(value), Err(_)) => {
                let found = tree.value[!child as usize];
                assert!((value - found).abs() < 1e-4, "{place}: {value} {found}");
            }
            (Node::Split { feature, threshold, missing_left, left, right }, Ok(i)) => {
                let found = (tree.feature[i] as usize, tree.threshold[i], tree.missing_left[i]);
                assert_eq!(found, (*feature, *threshold, *missing_left), "{place}");
                left.check(tree, tree.left[i], &format!("{place}l"));
                right.check(tree, tree.right[i], &format!("{place}r"));
            }
            _ => panic!("{place}: a leaf here is a split there"),
        }
    }
}

#[test]
fn trees_are_those_of_the_definition() {
    let data = rows();
    let kind = FeatureKind::Numeric { shift: 0.0, scale: 1.0 };
    let features = (0..FEATURES).map(|j| Feature { name: format!("x{j}"), kind: kind.clone() }).collect();
    let schema = Schema { features, classes: Vec::new() };
    let column = |j: usize, from: usize, to: usize| Column::F64(data.x[from..to].iter().map(|x| x[j]).collect());
    let shards: Vec<EncodedShard> = (0..ROWS)
        .step_by(64)
        .enumerate()
        .map(|(index, from)| {
            let to = ROWS.min(from + 64);
            EncodedShard {
                index: index as u32,
                rows: to - from,
                bounds: [0, to - from, to - from, to - from],
                columns: (0..FEATURES).map(|j| column(j, from, to)).collect(),
                target: Some(data.y[from..to].to_vec().into()),
                ..Default::default()
            }
        })
        .collect();
    let params = json!({"objective": "squared_error", "trees": 4, "growth": "depth_wise", "max_depth": 3,
        "learning_rate": RATE, "l2": L2, "min_samples_leaf": LEAST});
    let spec = ProgramSpec { name: "gradient_boosting".into(), params, schema: schema.clone() };
    let result = run(spec.build().unwrap().as_ref(), &shards).unwrap();
    let model: Model = serde_json::from_value(result["model"].clone()).unwrap();
    let Model::Trees(trees) = &model else { panic!("a model of trees") };

    let base = data.y.iter().sum::<f64>() / ROWS as f64;
    assert!((trees.base[0] - base).abs() < 1e-12);
    let mut scores = vec![base; ROWS];
    assert_eq!(trees.trees.len(), 4);
    for (t, tree) in trees.trees.iter().enumerate() {
        let gradients: Vec<f64> = scores.iter().zip(&data.y).map(|(s, y)| s - y).collect();
        let all: Vec<usize> = (0..ROWS).collect();
        let naive = grow(&data, &gradients, &all, 3);
        naive.check(tree, if tree.splits() == 0 { -1 } else { 0 }, &format!("tree {t} "));
        scores.iter_mut().zip(&data.x).for_each(|(s, x)| *s += naive.predict(x));
    }
    let found = shards.iter().flat_map(|s| model.predict(&schema, s, 0..s.rows));
    assert!(found.zip(&scores).all(|(a, b)| (a - b).abs() < 1e-3));
}
