//! Rankings: metrics against scikit-learn, rankers against LightGBM at equal parameters (NDCG@10 within 0.5 % of what it
//! reaches on the same rows), and metrics for any number of workers (`tests/reference/make_ranking_reference.py`).

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests read reference files")]

mod common;

use common::Lcg;
use serde_json::{Value, json};
use sheaf_learn::program::{ProgramSpec, run};
use sheaf_learn::query::{Ranked, runs};
use sheaf_learn::shard::{Column, EncodedShard, Feature, FeatureKind, Schema};

const QUERIES: u32 = 800;
const NUMERIC: usize = 8;

/// Rows of queries, number for number those of the script.
#[derive(Default)]
struct Data {
    numeric: Vec<Vec<f32>>,
    label: Vec<f64>,
    score: Vec<f64>,
    query: Vec<u32>,
    weight: Vec<f64>,
}

fn draw(random: &mut Lcg) -> f64 {
    f64::from(random.next()) / 4_294_967_296.0
}

impl Data {
    fn queries() -> Self {
        let mut random = Lcg(4242);
        let mut out = Self { numeric: vec![Vec::new(); NUMERIC], ..Self::default() };
        for q in 0..QUERIES {
            let rows = 5 + (draw(&mut random) * 56.0) as u32;
            let scale = 0.5 + 2.0 * draw(&mut random);
            for _ in 0..rows {
                let mut u: Vec<f64> = (0..NUMERIC).map(|_| draw(&mut random)).collect();
                let noise = draw(&mut random) + draw(&mut random) + draw(&mut random) - 1.5;
                u[2] = (u[2] * 10.0).floor() / 10.0;
                let s = 2.0 * u[0] * u[1] + 0.8 * u[2] - u[3] * u[4] + 0.6 * u[5] + 0.6 * noise;
                out.label.push([0.9, 1.4, 1.9, 2.4].iter().filter(|edge| s >= **edge).count() as f64);
                u[0] *= scale;
                u[1] *= scale;
                u.iter().zip(&mut out.numeric).for_each(|(x, column)| column.push(*x as f32));
                out.query.push(q);
                out.weight.push(1.0 + (out.weight.len() % 3) as f64);
            }
        }
        out
    }

    fn scored() -> Self {
        let mut random = Lcg(77);
        let mut out = Self::default();
        for q in 0..100 {
            let rows = 1 + (draw(&mut random) * 30.0) as u32;
            let weight = f64::from(1 + (draw(&mut random) * 8.0) as u32) / 4.0;
            for _ in 0..rows {
                let grade = (draw(&mut random) * 7.0).floor() - 2.0;
                out.label.push(grade.max(0.0));
                out.score.push(draw(&mut random) + 0.1 * grade);
                out.query.push(q);
                out.weight.push(weight);
            }
        }
        out
    }

    /// Whole queries that are wanted as shards of at least `least` rows, all of one segment.
    fn shards(&self, least: usize, wanted: impl Fn(u32) -> bool, weighted: bool, test: bool) -> Vec<EncodedShard> {
        let mut cuts: Vec<Vec<usize>> = vec![Vec::new()];
        for run in runs(&self.query, 0..self.query.len()).filter(|run| wanted(self.query[run.start])) {
            if cuts.last().unwrap().len() >= least {
                cuts.push(Vec::new());
            }
            cuts.last_mut().unwrap().extend(run);
        }
        let shard = |(index, rows): (usize, Vec<usize>)| {
            let n = rows.len();
            let columns = match self.score.is_empty() {
                true => self.numeric.iter().map(|x| Column::F32(rows.iter().map(|&i| x[i]).collect())).collect(),
                false => vec![Column::F64(rows.iter().map(|&i| self.score[i]).collect())],
            };
            EncodedShard {
                index: index as u32,
                rows: n,
                bounds: if test { [0, 0, 0, n] } else { [0, n, n, n] },
                columns,
                target: Some(rows.iter().map(|&i| self.label[i]).collect()),
                weight: weighted.then(|| rows.iter().map(|&i| self.weight[i]).collect()),
                query: Some(rows.iter().map(|&i| self.query[i]).collect()),
                ..EncodedShard::default()
            }
        };
        cuts.into_iter().enumerate().map(shard).collect()
    }
}

fn schema(names: impl Iterator<Item = String>) -> Schema {
    let kind = FeatureKind::Numeric { shift: 0.0, scale: 1.0 };
    Schema { features: names.map(|name| Feature { name, kind: kind.clone() }).collect(), classes: Vec::new() }
}

fn reference() -> Value {
    let path = format!("{}/../tests/reference/ranking.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn measured(names: &[&str], shards: &[EncodedShard]) -> Value {
    let params = json!({"task": "ranking", "scores": "score", "metrics": names});
    let spec = ProgramSpec { name: "metrics".into(), params, schema: schema(["score".to_owned()].into_iter()) };
    run(spec.build().unwrap().as_ref(), shards).unwrap()["segments"]["test"].clone()
}

#[test]
fn metrics_agree_with_scikit_learn() {
    let (data, reference) = (Data::scored(), reference()["metrics"].clone());
    let names = ["ndcg@1", "ndcg@3", "ndcg@5", "ndcg@10", "ndcg", "map", "mrr", "recall@10"];
    let check = |name: &str, found: &Value, want: &Value| {
        let (found, want) = (found.as_f64().unwrap(), want.as_f64().unwrap());
        assert!((found - want).abs() < 1e-12, "{name}: {found}, scikit-learn has {want}");
    };
    let whole = measured(&names, &data.shards(100_000, |_| true, false, true));
    for name in &names[..6] {
        check(name, &whole[name], &reference[name]);
    }
    assert!(whole["mrr"].as_f64().unwrap() > whole["map"].as_f64().unwrap() && whole["recall@10"].as_f64().unwrap() < 1.0);
    let cut = measured(&names, &data.shards(64, |_| true, false, true));
    names.iter().for_each(|name| check(name, &cut[name], &whole[name]));
    let weighted = measured(&["ndcg@5"], &data.shards(64, |_| true, true, true));
    check("weighted ndcg@5", &weighted["ndcg@5"], &reference["weighted ndcg@5"]);
}

#[test]
fn what_cannot_be_ranked_is_said() {
    let data = Data::scored();
    let build = |shards: &[EncodedShard]| {
        let params = json!({"task": "ranking", "scores": "score"});
        let spec = ProgramSpec { name: "metrics".into(), params, schema: schema(["score".to_owned()].into_iter()) };
        run(spec.build().unwrap().as_ref(), shards).unwrap_err().to_string()
    };
    let mut shards = data.shards(64, |_| true, false, true);
    shards[1].target = Some(vec![0.5; shards[1].rows].into());
    assert!(build(&shards).contains("no whole number from 0 to 31"), "{}", build(&shards));
    shards[0].query = None;
    assert!(build(&shards).contains("no target or query"), "{}", build(&shards));
}

/// NDCG@10 of all queries, each scored by the model of the other three quarters.
fn ndcg(data: &Data, params: &Value, weighted: bool) -> f64 {
    let schema = schema((0..NUMERIC).map(|j| format!("x{j}")));
    let (mut sum, mut queries, mut ranked) = (0.0, 0.0, Ranked::default());
    for fold in 0..4 {
        let train = data.shards(4_096, |q| q % 4 != fold, weighted, false);
        let (model, _) = common::fit("gradient_boosting", params.clone(), &schema, &train);
        for shard in data.shards(4_096, |q| q % 4 == fold, false, false) {
            let scores = model.predict(&schema, &shard, 0..shard.rows);
            for run in runs(shard.query.as_deref().unwrap(), 0..shard.rows) {
                ranked.rank(&scores[run.clone()], &shard.target.as_deref().unwrap()[run]);
                sum += ranked.ndcg(10);
                queries += 1.0;
            }
        }
    }
    sum / queries
}

#[test]
fn queries_are_ranked_as_well_as_by_lightgbm() {
    let (data, reference) = (Data::queries(), reference()["rankers"].clone());
    let check = |name: &str, params: Value, weighted: bool| {
        let (found, want) = (ndcg(&data, &params, weighted), reference[name].as_f64().unwrap());
        println!("{name}: {found} where LightGBM has {want}");
        assert!(found > want * 0.995, "{name}: {found}, LightGBM has {want}");
    };
    check("lambdarank_ndcg@10", json!({"task": "ranking", "trees": 60}), false);
    let plain = json!({"objective": "lambdarank", "trees": 60, "truncation_level": 10, "lambdarank_norm": false, "sigmoid": 2});
    check("lambdarank_plain_ndcg@10", plain, false);
    check("lambdarank_weighted_ndcg@10", json!({"objective": "lambdarank", "trees": 60}), true);
}

/// Average precision of labels above 2 gets better by boosting it than by chance, and its loss falls.
#[test]
fn average_precision_is_learnt() {
    let mut data = Data::queries();
    data.label.iter_mut().for_each(|label| *label = f64::from(*label > 2.0));
    let schema = schema((0..NUMERIC).map(|j| format!("x{j}")));
    let spec = ProgramSpec { name: "gradient_boosting".into(), params: json!({"objective": "map", "trees": 20}), schema };
    let result = run(spec.build().unwrap().as_ref(), &data.shards(4_096, |_| true, false, false)).unwrap();
    let losses: Vec<f64> = result["train_loss"].as_array().unwrap().iter().map(|l| l.as_f64().unwrap()).collect();
    assert!(losses[20] < 0.6 * losses[0] && losses[0] < 1.0, "{losses:?}");
}
