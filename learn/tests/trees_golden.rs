//! Boosted trees against LightGBM at equal parameters: test metrics within 0.001 AUC or 0.5 % of what it reaches on the
//! same rows (see `tests/reference/make_trees_reference.py`).

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests read reference files")]

mod common;

use common::Lcg;
use serde_json::{Value, json};
use sheaf_learn::shard::{Column, EncodedShard, Feature, FeatureKind, Schema};

const ROWS: usize = 16_000;
const NUMERIC: usize = 8;
const LEVELS: usize = 24;
const SHARD: usize = 1_536;

/// The rows of the reference script, number for number.
struct Data {
    numeric: Vec<Vec<f32>>,
    category: Vec<u32>,
    score: Vec<f64>,
    noise: Vec<f64>,
}

impl Data {
    fn new() -> Self {
        let mut random = Lcg(2024);
        let mut draw = || f64::from(random.next()) / 4_294_967_296.0;
        let mut out = Self { numeric: vec![Vec::new(); NUMERIC], category: Vec::new(), score: Vec::new(), noise: Vec::new() };
        for _ in 0..ROWS {
            let mut u: Vec<f64> = (0..NUMERIC).map(|_| draw()).collect();
            let c = (draw() * LEVELS as f64) as u32;
            let noise = draw() + draw() + draw() - 1.5;
            u[2] = (u[2] * 10.0).floor() / 10.0;
            let mut score =
                2.0 * u[0] * u[1] + (u[2] - 0.5) * (u[2] - 0.5) * 4.0 + 0.8 * u[3] - u[4] * u[5] + 0.5 * f64::from(c % 5) * u[6];
            if u[7] < 0.15 {
                score += 0.7;
                u[3] = f64::NAN;
            }
            u.iter().zip(&mut out.numeric).for_each(|(x, column)| column.push(*x as f32));
            out.category.push(c);
            out.score.push(score);
            out.noise.push(noise);
        }
        out
    }

    /// Rows as shards, three of four of them to train on, or the others.
    fn shards(&self, target: &[f64], categories: bool, train: bool) -> Vec<EncodedShard> {
        let rows: Vec<usize> = (0..ROWS).filter(|i| (i % 4 != 0) == train).collect();
        let shard = |(index, rows): (usize, &[usize])| {
            let numeric = self.numeric.iter().map(|x| Column::F32(rows.iter().map(|&i| x[i]).collect()));
            let category = categories.then(|| Column::Code(rows.iter().map(|&i| self.category[i]).collect()));
            let n = rows.len();
            EncodedShard {
                index: index as u32,
                rows: n,
                bounds: [0, n, n, n],
                columns: numeric.chain(category).collect(),
                target: Some(rows.iter().map(|&i| target[i]).collect()),
                ..Default::default()
            }
        };
        rows.chunks(SHARD).enumerate().map(shard).collect()
    }
}

fn schema(categories: bool) -> Schema {
    let kind = FeatureKind::Numeric { shift: 0.0, scale: 1.0 };
    let numeric = (0..NUMERIC).map(|j| Feature { name: format!("x{j}"), kind: kind.clone() });
    let names = (0..LEVELS).map(|c| format!("level {c}")).collect();
    let category = categories.then_some(Feature { name: "c".into(), kind: FeatureKind::Slots { names } });
    Schema { features: numeric.chain(category).collect(), classes: Vec::new() }
}

/// Targets and predictions of the rows that were kept back; of classes row after row.
fn fit(data: &Data, target: &[f64], categories: bool, params: Value) -> (Vec<f64>, Vec<f64>) {
    let mut schema = schema(categories);
    if params["objective"] == "multiclass" {
        schema.classes = (0..5).map(|c| c.to_string()).collect();
    }
    let (model, _) = common::fit("gradient_boosting", params, &schema, &data.shards(target, categories, true));
    let (mut wanted, mut found) = (Vec::new(), Vec::new());
    for shard in data.shards(target, categories, false) {
        wanted.extend_from_slice(shard.target.as_deref().unwrap());
        found.extend(model.predict(&schema, &shard, 0..shard.rows));
    }
    (wanted, found)
}

fn reference() -> Value {
    let path = format!("{}/../tests/reference/trees.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Share of pairs of a positive and a negative row that stand in order; ties count half.
fn auc((target, score): (Vec<f64>, Vec<f64>)) -> f64 {
    let mut order: Vec<usize> = (0..score.len()).collect();
    order.sort_by(|&a, &b| score[a].total_cmp(&score[b]));
    let (mut below, mut sum, mut positives) = (0.0, 0.0, 0.0);
    for run in order.chunk_by(|&a, &b| score[a] == score[b]) {
        let own: f64 = run.iter().map(|&i| target[i]).sum();
        let negatives = run.len() as f64 - own;
        sum += own * (below + negatives * 0.5);
        below += negatives;
        positives += own;
    }
    sum / (below * positives)
}

fn mean(pairs: &(Vec<f64>, Vec<f64>), of: impl Fn(f64, f64) -> f64) -> f64 {
    pairs.0.iter().zip(&pairs.1).map(|(y, p)| of(*y, *p)).sum::<f64>() / pairs.0.len() as f64
}

fn rmse(pairs: (Vec<f64>, Vec<f64>)) -> f64 {
    mean(&pairs, |y, p| (p - y) * (p - y)).sqrt()
}

fn poisson_deviance(pairs: (Vec<f64>, Vec<f64>)) -> f64 {
    2.0 * mean(&pairs, |y, p| if y > 0.0 { y * (y / p).ln() - y + p } else { p })
}

/// Higher is better, up to 0.001.
fn at_least(name: &str, found: f64) {
    let want = reference()[name].as_f64().unwrap();
    println!("{name}: {found} where LightGBM has {want}");
    assert!(found > want - 0.001, "{name}: {found}, LightGBM has {want}");
}

/// Lower is better, up to half a percent.
fn at_most(name: &str, found: f64) {
    let want = reference()[name].as_f64().unwrap();
    println!("{name}: {found} where LightGBM has {want}");
    assert!(found < want * 1.005, "{name}: {found}, LightGBM has {want}");
}

/// Mean of −ln of the probability of the row's own class, and the share of rows whose own class has the largest one.
fn of_classes((target, found): (Vec<f64>, Vec<f64>)) -> (f64, f64) {
    let (mut loss, mut hits) = (0.0, 0.0);
    for (y, p) in target.iter().zip(found.chunks(found.len() / target.len())) {
        assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{p:?}");
        let own = p[*y as usize];
        loss -= own.ln();
        hits += f64::from(p.iter().all(|q| *q <= own));
    }
    (loss / target.len() as f64, hits / target.len() as f64)
}

fn leaf_wise(objective: &str) -> Value {
    json!({"objective": objective, "trees": 100, "max_leaves": 31})
}

#[test]
fn two_classes_are_told_apart_as_well() {
    let data = Data::new();
    let target: Vec<f64> = data.score.iter().zip(&data.noise).map(|(s, n)| f64::from(s + 1.5 * n > 1.6)).collect();
    at_least("binary_leaf_wise_auc", auc(fit(&data, &target, false, leaf_wise("binary"))));
    let depth_wise = json!({"objective": "binary", "trees": 100, "growth": "depth_wise", "max_depth": 6});
    at_least("binary_depth_wise_auc", auc(fit(&data, &target, false, depth_wise)));
    at_least("binary_category_auc", auc(fit(&data, &target, true, leaf_wise("binary"))));
}

#[test]
fn many_classes_are_told_apart_as_well() {
    let data = Data::new();
    let class = |(s, n): (&f64, &f64)| ((s + n) * 1.2).floor().clamp(0.0, 4.0);
    let target: Vec<f64> = data.score.iter().zip(&data.noise).map(class).collect();
    let depth_wise = json!({"objective": "multiclass", "trees": 100, "growth": "depth_wise", "max_depth": 6});
    for (name, params) in [("multiclass", leaf_wise("multiclass")), ("multiclass_depth_wise", depth_wise)] {
        let (loss, accuracy) = of_classes(fit(&data, &target, false, params));
        at_most(&format!("{name}_log_loss"), loss);
        // A row is 0.00025 of the rows that were kept back: these are sixteen of them.
        assert!(accuracy > reference()[format!("{name}_accuracy")].as_f64().unwrap() - 0.004, "{name}: {accuracy}");
    }
}

#[test]
fn numbers_are_predicted_as_well() {
    let data = Data::new();
    let target: Vec<f64> = data.score.iter().zip(&data.noise).map(|(s, n)| s + n).collect();
    at_most("squared_error_rmse", rmse(fit(&data, &target, false, leaf_wise("squared_error"))));
    at_most("squared_error_category_rmse", rmse(fit(&data, &target, true, leaf_wise("squared_error"))));
    at_most("huber_rmse", rmse(fit(&data, &target, false, leaf_wise("huber"))));
}

/// What the quantile of a probability is measured by.
fn pinball(probability: f64) -> impl Fn((Vec<f64>, Vec<f64>)) -> f64 {
    move |pairs| mean(&pairs, |y, p| if y > p { probability * (y - p) } else { (1.0 - probability) * (p - y) })
}

/// The mean over some numbers of bins: these metrics move by 0.3 % with the bins alone.
fn over_bins(params: &Value, of: impl Fn(Value) -> f64) -> f64 {
    let with = |bins: u32| {
        let mut params = params.clone();
        params["max_bins"] = json!(bins);
        of(params)
    };
    [255, 245, 235, 225].map(with).iter().sum::<f64>() / 4.0
}

#[test]
fn medians_and_quantiles_are_predicted_as_well() {
    let data = Data::new();
    let target: Vec<f64> = data.score.iter().zip(&data.noise).map(|(s, n)| s + n).collect();
    // Few far targets, which a median does not see.
    let wild: Vec<f64> = target.iter().enumerate().map(|(i, y)| if i % 37 == 0 { 1000.0 * y } else { *y }).collect();
    let absolute = leaf_wise("absolute");
    for (name, target, categories) in
        [("absolute_mae", &target, false), ("absolute_category_mae", &target, true), ("absolute_wild_mae", &wild, false)]
    {
        let mae = |params| 2.0 * pinball(0.5)(fit(&data, target, categories, params));
        at_most(name, over_bins(&absolute, mae));
    }
    let mut quantile = leaf_wise("quantile");
    for (probability, name) in [(0.8, "quantile_pinball"), (0.1, "quantile_low_pinball")] {
        quantile["probability"] = json!(probability);
        at_most(name, over_bins(&quantile, |params| pinball(probability)(fit(&data, &target, false, params))));
    }
}

#[test]
fn trees_that_are_dropped_for_a_while_predict_as_well() {
    let data = Data::new();
    let target: Vec<f64> = data.score.iter().zip(&data.noise).map(|(s, n)| s + n).collect();
    let dart = |seed: u32| {
        let mut params = leaf_wise("squared_error");
        (params["boosting"], params["seed"]) = (json!("dart"), json!(seed));
        rmse(fit(&data, &target, false, params))
    };
    // Which trees are dropped is drawn: means of ten seeds, each with a standard error of 0.25 %.
    let found = (0..10).map(dart).sum::<f64>() / 10.0;
    let want = reference()["dart_rmse"].as_f64().unwrap();
    println!("dart_rmse: {found} where LightGBM has {want}");
    assert!((found / want - 1.0).abs() < 0.01, "{found}, LightGBM has {want}");
}

#[test]
fn counts_are_predicted_as_well() {
    let data = Data::new();
    let count = |(s, n): (&f64, &f64)| (s * s * 0.5 * (1.0 + n * 0.5)).floor().max(0.0);
    let target: Vec<f64> = data.score.iter().zip(&data.noise).map(count).collect();
    at_most("poisson_deviance", poisson_deviance(fit(&data, &target, false, leaf_wise("poisson"))));
    at_most("tweedie_deviance", poisson_deviance(fit(&data, &target, false, leaf_wise("tweedie"))));
}
