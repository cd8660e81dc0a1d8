//! Exported models run in another runtime, onnxruntime: every row takes the same path to the same leaf of every tree, and
//! what is predicted differs by the rounding of 32-bit sums at most. tract, a runtime in Rust, has no
//! `TreeEnsembleRegressor`; so this needs a Python with onnxruntime, and says how to get one.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use sheaf_dataflow::pipeline::Pipeline;
use sheaf_learn::model::{Model, Task};
use sheaf_learn::program::{ProgramSpec, run};
use sheaf_learn::shard::{Column, EncodedShard, Feature, FeatureKind, Schema};
use sheaf_learn::trees::bins::round_up;
use sheaf_learn::trees::model::TreeModel;
use sheaf_learn::trees::objective::Link;
use sheaf_runtime::artifact::Artifact;
use sheaf_runtime::onnx;

const ROWS: usize = 1_500;
const INSTALL: &str =
    "python3 -m venv .venv && .venv/bin/pip install onnxruntime==1.32.0 && export SHEAF_PYTHON=$PWD/.venv/bin/python";

/// A number in [0, 1): Knuth's MMIX generator.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn schema() -> Schema {
    let number = |name: &str, shift, scale| Feature { name: name.into(), kind: FeatureKind::Numeric { shift, scale } };
    let slots = |name: &str, count: usize| {
        let names = (0..count).map(|i| format!("{name} {i}")).collect();
        Feature { name: name.into(), kind: FeatureKind::Slots { names } }
    };
    let features =
        vec![number("a", 0.0, 1.0), slots("few", 4), number("b", 3.0, 0.5), number("gaps", 0.0, 1.0), slots("many", 400)];
    Schema { features, classes: vec!["no".into(), "yes".into()] }
}

/// The schema of a model of trees.
fn schema_of(name: &str) -> Schema {
    let many = ["many", "shares"].contains(&name);
    let classes: &[&str] = if many { &["low", "middle", "high"] } else { &["no", "yes"] };
    Schema { classes: classes.iter().map(|&c| c.to_owned()).collect(), ..schema() }
}

/// Rows with gaps, infinities, codes that have no slot, and f64 numbers that are no f32; with a target of this kind.
fn shard(target: impl Fn(f64, f64) -> f64) -> EncodedShard {
    let mut draw = Draw(41);
    let (mut a, mut b, mut gaps, mut few, mut many, mut y) = (vec![], vec![], vec![], vec![], vec![], vec![]);
    for i in 0..ROWS {
        let (u, v, w) = (draw.next(), draw.next(), draw.next());
        let (c, m) = ((draw.next() * 4.0) as u32, (draw.next() * 400.0) as u32);
        a.push(if i % 97 == 0 { f64::INFINITY } else { u * 10.0 - 3.0 });
        b.push((v * 4.0) as f32);
        gaps.push(if i % 7 == 0 { f64::NAN } else { w });
        few.push(if i % 50 == 0 { u32::MAX } else { c });
        many.push(if i % 41 == 0 { u32::MAX } else { m });
        let score = u * v + if c == 2 { 0.7 } else { 0.0 } + f64::from(m % 3) * 0.2 + if i % 7 == 0 { 0.3 } else { w * 0.1 };
        y.push(target(score, draw.next()));
    }
    EncodedShard {
        index: 0,
        rows: ROWS,
        bounds: [0, ROWS, ROWS, ROWS],
        columns: vec![
            Column::F64(a.into()),
            Column::Code(few.into()),
            Column::F32(b.into()),
            Column::F64(gaps.into()),
            Column::Code(many.into()),
        ],
        target: Some(y.into()),
        ..Default::default()
    }
}

fn artifact(schema: &Schema, model: Model, offset: bool) -> Artifact {
    let offset = offset.then(|| "exposure".to_owned());
    let pipeline = Pipeline { steps: Vec::new(), schema: schema.clone(), target: None, inputs: Vec::new(), offset };
    Artifact::new(pipeline, model)
}

fn fit(algorithm: &str, params: Value, schema: &Schema, shard: &EncodedShard) -> Model {
    let spec = ProgramSpec { name: algorithm.into(), params, schema: schema.clone() };
    let result = run(spec.build().unwrap().as_ref(), std::slice::from_ref(shard)).unwrap();
    serde_json::from_value(result["model"].clone()).unwrap()
}

/// What goes in, row after row: numbers as they are or rounded up to f32, codes as numbers.
fn features(shard: &EncodedShard, row: usize) -> Vec<f64> {
    let of = |column: &Column| match column {
        Column::Code(x) if x[row] == u32::MAX => f64::NAN,
        Column::Code(x) => f64::from(x[row]),
        other => other.number(row).unwrap(),
    };
    shard.columns.iter().map(of).collect()
}

fn narrow(x: f64) -> f32 {
    if x.is_infinite() { x as f32 } else { round_up(x) }
}

/// Models to be run, a folder each.
struct Cases {
    folder: tempfile::TempDir,
    names: Vec<String>,
}

impl Cases {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), names: Vec::new() }
    }

    fn add(&mut self, name: &str, artifact: &Artifact, shard: &EncodedShard) {
        let folder = self.folder.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        let bytes = onnx::export(artifact).unwrap();
        assert_eq!(onnx::export(artifact).unwrap(), bytes, "{name}: the bytes are a function of the model");
        std::fs::write(folder.join("model.onnx"), bytes).unwrap();
        let double = matches!(artifact.model, Model::Linear(_));
        let bytes_of = |x: f64| if double { x.to_le_bytes().to_vec() } else { narrow(x).to_le_bytes().to_vec() };
        let bytes: Vec<u8> = (0..shard.rows).flat_map(|row| features(shard, row)).flat_map(bytes_of).collect();
        std::fs::write(folder.join("features.bin"), bytes).unwrap();
        if let Some(offset) = &shard.offset {
            let bytes_of = |x: &f64| if double { x.to_le_bytes().to_vec() } else { (*x as f32).to_le_bytes().to_vec() };
            std::fs::write(folder.join("offset.bin"), offset.iter().flat_map(bytes_of).collect::<Vec<u8>>()).unwrap();
        }
        let case = json!({"columns": shard.columns.len(), "type": if double { "<f8" } else { "<f4" }});
        std::fs::write(folder.join("case.json"), case.to_string()).unwrap();
        self.names.push(name.to_owned());
    }

    /// What comes out of each.
    fn run(&self) -> BTreeMap<String, Value> {
        let python = std::env::var("SHEAF_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let known = Command::new(&python).args(["-c", "import onnxruntime"]).output();
        let there = known.is_ok_and(|output| output.status.success());
        assert!(there, "`{python}` has no onnxruntime, in which exported models are tried; get one by\n  {INSTALL}");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx/run.py");
        let folders = self.names.iter().map(|name| self.folder.path().join(name));
        let output = Command::new(&python).arg(script).args(folders).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let read = |name: &String| {
            let text = std::fs::read_to_string(self.folder.path().join(name).join("out.json")).unwrap();
            (name.clone(), serde_json::from_str(&text).unwrap())
        };
        self.names.iter().map(read).collect()
    }
}

fn numbers(result: &Value, output: &str) -> Vec<f64> {
    result["outputs"][output].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

/// Both agree up to `tolerance` of the larger one of the expected value and `unit`.
fn close(name: &str, found: &[f64], expected: &[f64], tolerance: f64, unit: f64) {
    assert_eq!(found.len(), expected.len(), "{name}");
    let error = |(found, expected): (&f64, &f64)| (found - expected).abs() / expected.abs().max(unit);
    let worst = found.iter().zip(expected).map(error).fold(0.0, f64::max);
    println!("{name}: differs by {worst:.1e} at most");
    assert!(worst <= tolerance, "{name}: {worst}");
}

/// Name, algorithm, parameters and how the target is made of a model of trees.
type Trees = (&'static str, &'static str, Value, fn(f64, f64) -> f64);

fn trees() -> Vec<Trees> {
    let boosted =
        |objective: &str| json!({"objective": objective, "trees": 60, "max_leaves": 24, "min_samples_leaf": 5, "cat_smooth": 1});
    let number = |score: f64, noise: f64| score + 0.3 * noise;
    let class = |score: f64, noise: f64| f64::from(u8::from(score + noise > 1.2));
    let count = |score: f64, noise: f64| (3.0 * score * noise).floor();
    let third = |score: f64, noise: f64| (1.3 * score + 0.5 * noise).floor().min(2.0);
    vec![
        ("regression", "gradient_boosting", boosted("squared_error"), number),
        ("binary", "gradient_boosting", boosted("binary"), class),
        ("poisson", "gradient_boosting", boosted("poisson"), count),
        ("forest", "random_forest", json!({"task": "binary", "trees": 20, "max_depth": 8, "cat_smooth": 1}), class),
        ("extra", "extra_trees", json!({"task": "regression", "trees": 20, "max_depth": 6}), number),
        ("tree", "decision_tree", json!({"task": "regression", "max_depth": 3}), number),
        ("many", "gradient_boosting", json!({"task": "multiclass", "trees": 12, "max_leaves": 12}), third),
        ("shares", "random_forest", json!({"task": "multiclass", "trees": 8, "max_depth": 6}), third),
        ("constant", "gradient_boosting", boosted("squared_error"), |_, _| 2.5),
    ]
}

/// Probabilities and labels of classes; of two, those of the second are expected.
fn check_classes(name: &str, result: &Value, classes: &[String], expected: &[f64]) {
    let all: Vec<f64> = match classes.len() {
        2 => expected.iter().flat_map(|p| [1.0 - p, *p]).collect(),
        _ => expected.to_vec(),
    };
    assert_eq!(result["shapes"]["probabilities"], json!([ROWS, classes.len()]), "{name}");
    close(name, &numbers(result, "probabilities"), &all, 1e-5, 0.1);
    let labels = result["outputs"]["label"].as_array().unwrap();
    assert_eq!(labels.len(), ROWS, "{name}");
    for (label, row) in labels.iter().zip(all.chunks(classes.len())) {
        let most = row.iter().copied().fold(0.0, f64::max);
        let own = classes.iter().position(|class| label == class).unwrap();
        // Where two are within the rounding either may win.
        assert!(row[own] > most - 1e-6, "{name}: {label} of {row:?}");
    }
}

#[test]
fn trees_predict_the_same_in_another_runtime() {
    let (mut cases, mut models) = (Cases::new(), BTreeMap::new());
    for (name, algorithm, params, target) in trees() {
        let schema = schema_of(name);
        let shard = shard(target);
        let model = fit(algorithm, params, &schema, &shard);
        cases.add(name, &artifact(&schema, model.clone(), false), &shard);
        models.insert(name.to_owned(), (model, shard));
    }
    let results = cases.run();
    for (name, (model, shard)) in &models {
        let schema = schema_of(name);
        let (result, expected) = (&results[name], model.predict(&schema, shard, 0..ROWS));
        if model.task() == Task::Regression {
            assert_eq!(result["shapes"]["prediction"], json!([ROWS, 1]), "{name}");
            close(name, &numbers(result, "prediction"), &expected, 1e-5, 0.1);
            continue;
        }
        check_classes(name, result, &schema.classes, &expected);
    }
    let metadata = |key: &str| serde_json::from_str::<Value>(results["binary"]["metadata"][key].as_str().unwrap()).unwrap();
    assert_eq!(metadata("sheaf.classes"), json!(["no", "yes"]));
    assert_eq!(metadata("sheaf.features")[1]["values"], json!(["few 0", "few 1", "few 2", "few 3"]));
    assert_eq!(
        metadata("sheaf.model")["sha256"],
        artifact(&schema_of("binary"), models["binary"].0.clone(), false).sha256().unwrap()
    );
}

/// The number of the leaf in every tree, by a model that predicts just that.
fn numbered(model: &TreeModel, schema: &Schema) -> (Schema, Model) {
    let mut trees = model.trees.clone();
    trees.iter_mut().flat_map(|tree| tree.value.iter_mut().enumerate()).for_each(|(leaf, value)| *value = leaf as f64);
    let classes = (0..trees.len()).map(|t| format!("tree {t}")).collect();
    let model = TreeModel { task: Task::Multiclass, link: Link::Identity, base: vec![0.0; trees.len()], trees };
    (Schema { classes, ..schema.clone() }, Model::Trees(model))
}

#[test]
fn every_row_comes_to_the_same_leaf_of_every_tree() {
    let (mut cases, mut leaves) = (Cases::new(), BTreeMap::new());
    let isolation = json!({"trees": 30, "max_samples": 200, "seed": 5});
    for (name, algorithm, params, target) in
        trees().into_iter().chain([("isolation", "isolation_forest", isolation, trees()[0].3)])
    {
        let (schema, shard) = (schema_of(name), shard(target));
        let model = match fit(algorithm, params, &schema, &shard) {
            Model::Trees(model) => model,
            Model::Isolation(model) => model.forest,
            Model::Linear(_) => panic!("{name} is made of trees"),
        };
        if model.trees.is_empty() {
            continue;
        }
        leaves.insert(name.to_owned(), model.leaves(&schema, &shard, 0..ROWS));
        let (schema, numbered) = numbered(&model, &schema);
        cases.add(name, &artifact(&schema, numbered, false), &shard);
    }
    assert!(leaves.len() > 5, "most models have trees");
    for (name, result) in cases.run() {
        let found: Vec<u32> = numbers(&result, "probabilities").into_iter().map(|x| x as u32).collect();
        assert_eq!(found.len(), leaves[&name].len(), "{name}");
        let others = found.iter().zip(&leaves[&name]).filter(|(a, b)| a != b).count();
        assert_eq!(others, 0, "{name}: {others} of {} leaves are others", found.len());
    }
}

#[test]
fn anomalies_are_found_in_another_runtime() {
    let (schema, mut cases, shard) = (schema(), Cases::new(), shard(|score, _| score));
    let params = json!({"trees": 50, "contamination": 0.05, "seed": 9});
    let model = fit("isolation_forest", params, &schema, &shard);
    cases.add("anomalies", &artifact(&schema, model.clone(), false), &shard);
    let result = &cases.run()["anomalies"];
    let expected = model.predict(&schema, &shard, 0..ROWS);
    close("anomalies", &numbers(result, "prediction"), &expected, 1e-5, 0.1);
    let Model::Isolation(forest) = &model else { panic!("an isolation forest") };
    let (threshold, flags) = (forest.threshold.unwrap(), result["outputs"]["anomaly"].as_array().unwrap());
    let clear = |score: f64| (score - threshold).abs() > 1e-6;
    assert!(flags.iter().zip(&expected).all(|(flag, score)| !clear(*score) || *flag == json!(*score > threshold)));
}

#[test]
fn offsets_are_added_before_the_link() {
    let (schema, mut cases) = (schema(), Cases::new());
    let mut shard = shard(|score, noise| (3.0 * score * noise).floor());
    shard.offset = Some((0..ROWS).map(|i| (i % 5) as f64 * 0.25).collect());
    let model = fit("gradient_boosting", json!({"objective": "poisson", "trees": 20}), &schema, &shard);
    cases.add("offset", &artifact(&schema, model.clone(), true), &shard);
    close("offset", &numbers(&cases.run()["offset"], "prediction"), &model.predict(&schema, &shard, 0..ROWS), 1e-5, 0.1);
}

#[test]
fn linear_models_predict_in_double_precision() {
    let (schema, mut cases, mut models) = (schema(), Cases::new(), BTreeMap::new());
    let finite = |class: bool| {
        let mut shard = shard(if class { trees()[1].3 } else { trees()[0].3 });
        let plain = |x: &mut f64| *x = if x.is_finite() { *x } else { 0.5 };
        for column in &mut shard.columns {
            if let Column::F64(x) = column {
                x.iter_mut().for_each(plain);
            }
        }
        shard
    };
    for (name, algorithm, class) in [("linear", "linear_regression", false), ("logistic", "logistic_regression", true)] {
        let shard = finite(class);
        let model = fit(algorithm, json!({"l2": 0.01}), &schema, &shard);
        cases.add(name, &artifact(&schema, model.clone(), false), &shard);
        models.insert(name, (model, shard));
    }
    let results = cases.run();
    let expected = |name: &str| models[name].0.predict(&schema, &models[name].1, 0..ROWS);
    close("linear", &numbers(&results["linear"], "prediction"), &expected("linear"), 1e-12, 0.1);
    let both: Vec<f64> = expected("logistic").iter().flat_map(|p| [1.0 - p, *p]).collect();
    close("logistic", &numbers(&results["logistic"], "probabilities"), &both, 1e-12, 0.1);
}

#[test]
fn what_cannot_be_exported_is_refused() {
    let hashed = Feature { name: "words".into(), kind: FeatureKind::Sparse { width: 2 } };
    let schema = Schema { features: vec![hashed], classes: Vec::new() };
    let model = sheaf_learn::model::LinearModel { task: Task::Regression, intercept: 0.0, coefficients: vec![1.0, 2.0] };
    let error = onnx::export(&artifact(&schema, Model::Linear(model), false)).unwrap_err().to_string();
    assert!(error.contains("feature `words` is hashed") && error.contains("one_hot"), "{error}");
}
