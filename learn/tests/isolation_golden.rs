//! Isolation forests against scikit-learn's on the same rows (see `tests/reference/make_isolation_reference.py`): the same
//! order of scores, the same mean, the same area under the curve; and what is missing, unseen or asked for.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests read reference files")]

mod common;

use common::Lcg;
use serde_json::{Value, json};
use sheaf_learn::model::Model;
use sheaf_learn::program::{ProgramSpec, run};
use sheaf_learn::shard::{Column, EncodedShard, Feature, FeatureKind, Schema};

const ROWS: usize = 4_000;
const FEATURES: usize = 6;
const EVERY: usize = 8;
const SHARD: usize = 640;

/// The rows of the reference script, number for number: a column each, and which are anomalies.
fn data() -> (Vec<Vec<f32>>, Vec<bool>) {
    let mut random = Lcg(77);
    let mut draw = || f64::from(random.next()) / 4_294_967_296.0;
    let (mut columns, mut anomalies) = (vec![Vec::new(); FEATURES], Vec::new());
    for _ in 0..ROWS {
        let kind = draw();
        for (j, column) in columns.iter_mut().enumerate() {
            let bell = draw() + draw() + draw() - 1.5;
            let x = match kind {
                k if k < 0.02 => bell * 3.0 + 0.5,
                k if k < 0.4 => bell * 0.5 + 0.2 * j as f64,
                _ => bell + 1.5,
            };
            column.push(x as f32);
        }
        anomalies.push(kind < 0.02);
    }
    (columns, anomalies)
}

fn schema(categories: &[&str]) -> Schema {
    let kind = FeatureKind::Numeric { shift: 0.0, scale: 1.0 };
    let numeric = (0..FEATURES).map(|j| Feature { name: format!("x{j}"), kind: kind.clone() });
    let names = categories.iter().map(|&c| c.to_owned()).collect();
    let category = (!categories.is_empty()).then_some(Feature { name: "c".into(), kind: FeatureKind::Slots { names } });
    Schema { features: numeric.chain(category).collect(), classes: Vec::new() }
}

fn shards(columns: &[Column]) -> Vec<EncodedShard> {
    let part = |column: &Column, rows: &[usize]| match column {
        Column::F32(x) => Column::F32(rows.iter().map(|&i| x[i]).collect()),
        Column::Code(x) => Column::Code(rows.iter().map(|&i| x[i]).collect()),
        _ => panic!("numbers and codes"),
    };
    let rows: Vec<usize> = (0..ROWS).collect();
    let shard = |(index, rows): (usize, &[usize])| EncodedShard {
        index: index as u32,
        rows: rows.len(),
        bounds: [0, rows.len(), rows.len(), rows.len()],
        columns: columns.iter().map(|c| part(c, rows)).collect(),
        ..Default::default()
    };
    rows.chunks(SHARD).enumerate().map(shard).collect()
}

fn fit(schema: &Schema, shards: &[EncodedShard], params: Value) -> (Model, Vec<f64>) {
    let (model, _) = common::fit("isolation_forest", params, schema, shards);
    let scores = shards.iter().flat_map(|shard| model.predict(schema, shard, 0..shard.rows)).collect();
    (model, scores)
}

fn plain(columns: &[Vec<f32>]) -> Vec<Column> {
    columns.iter().map(|x| Column::F32(x.clone().into())).collect()
}

/// Share of pairs of an anomaly and another row that stand in order.
fn auc(scores: &[f64], anomalies: &[bool]) -> f64 {
    let of = |kind: bool| scores.iter().zip(anomalies).filter(move |(_, a)| **a == kind).map(|(s, _)| *s);
    let (high, low): (Vec<f64>, Vec<f64>) = (of(true).collect(), of(false).collect());
    let value = |h: f64, l: f64| f64::from(u8::from(h > l)) + 0.5 * f64::from(u8::from(h == l));
    let sum: f64 = high.iter().flat_map(|&h| low.iter().map(move |&l| value(h, l))).sum();
    sum / (high.len() * low.len()) as f64
}

/// Places in ascending order; equal values share theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let (mut out, mut before) = (vec![0.0; values.len()], 0);
    for run in order.chunk_by(|&a, &b| values[a] == values[b]) {
        run.iter().for_each(|&i| out[i] = before as f64 + (run.len() - 1) as f64 / 2.0);
        before += run.len();
    }
    out
}

fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
    let (ma, mb) = (mean(a), mean(b));
    let product = |x: &[f64], mx: f64, y: &[f64], my: f64| x.iter().zip(y).map(|(x, y)| (x - mx) * (y - my)).sum::<f64>();
    product(a, ma, b, mb) / (product(a, ma, a, ma) * product(b, mb, b, mb)).sqrt()
}

#[test]
fn scores_stand_in_the_order_of_scikit_learns() {
    let path = format!("{}/../tests/reference/isolation.json", env!("CARGO_MANIFEST_DIR"));
    let reference: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let (columns, anomalies) = data();
    let (_, scores) = fit(&schema(&[]), &shards(&plain(&columns)), json!({"trees": 300, "seed": 1}));
    let theirs: Vec<f64> =
        reference["scores_of_every_eighth_row"].as_array().unwrap().iter().map(|s| s.as_f64().unwrap()).collect();
    let ours: Vec<f64> = scores.iter().copied().step_by(EVERY).collect();
    let spearman = correlation(&ranks(&ours), &ranks(&theirs));
    let (found, want) = (auc(&scores, &anomalies), reference["auc"].as_f64().unwrap());
    let (mean, their_mean) = (scores.iter().sum::<f64>() / ROWS as f64, reference["mean"].as_f64().unwrap());
    println!("rank correlation {spearman}; auc {found}, scikit-learn {want}; mean {mean}, scikit-learn {their_mean}");
    assert!(spearman >= 0.95, "{spearman}");
    assert!((found - want).abs() <= 0.01, "{found} {want}");
    assert!((mean - their_mean).abs() <= 0.01, "{mean} {their_mean}");
    assert!(scores.iter().all(|s| *s > 0.0 && *s < 1.0));
}

#[test]
fn a_share_of_the_training_rows_lies_above_the_threshold() {
    let (columns, _) = data();
    let shards = shards(&plain(&columns));
    for (share, want) in [(0.05, 200), (0.0199, 79), (0.0001, 0)] {
        let (model, scores) = fit(&schema(&[]), &shards, json!({"trees": 50, "contamination": share}));
        let Model::Isolation(model) = model else { panic!("an isolation forest") };
        let threshold = model.threshold.unwrap();
        assert!(scores.contains(&threshold));
        let above = scores.iter().filter(|s| **s > threshold).count();
        let at = scores.iter().filter(|s| **s == threshold).count();
        assert!(above <= want && above + at > want, "{share}: {above} above, {at} at the threshold, {want} wanted");
    }
}

#[test]
fn rare_categories_and_rare_gaps_are_anomalies() {
    let (columns, _) = data();
    let mut numeric = columns.clone();
    for i in (0..ROWS).step_by(400) {
        numeric[2][i] = f32::NAN;
    }
    let code = |i: usize| if i % 400 == 7 { 2 } else { u32::from(i.is_multiple_of(2)) };
    let mut all = plain(&numeric);
    all.push(Column::Code((0..ROWS).map(code).collect()));
    let params = json!({"trees": 300, "max_samples": 1024});
    let (_, scores) = fit(&schema(&["even", "odd", "rare"]), &shards(&all), params);
    let mean = |rows: &dyn Fn(usize) -> bool| {
        let own: Vec<f64> = (0..ROWS).filter(|&i| rows(i)).map(|i| scores[i]).collect();
        own.iter().sum::<f64>() / own.len() as f64
    };
    let (rare, gap, other) = (mean(&|i| i % 400 == 7), mean(&|i| i % 400 == 0), mean(&|i| i % 400 == 100));
    println!("a rare category {rare}, a gap {gap}, others {other}");
    assert!(rare > other + 0.02 && gap > other + 0.02, "{rare} {gap} {other}");
}

#[test]
fn equal_rows_have_one_score_and_a_warning() {
    let same = vec![Column::F32(vec![1.5; ROWS].into()); FEATURES];
    let spec =
        ProgramSpec { name: "isolation_forest".into(), params: json!({"trees": 3, "max_samples": 8000}), schema: schema(&[]) };
    let result = run(spec.build().unwrap().as_ref(), &shards(&same)).unwrap();
    let warnings = result["warnings"].as_array().unwrap();
    assert!(warnings[0].as_str().unwrap().contains("all sampled rows are equal"), "{result}");
    assert!(warnings[1].as_str().unwrap().contains("4000 training rows"), "{result}");
    let model: Model = serde_json::from_value(result["model"].clone()).unwrap();
    let shards = shards(&same);
    assert!(model.predict(&schema(&[]), &shards[0], 0..10).iter().all(|s| (*s - 0.5).abs() < 1e-12));
}
