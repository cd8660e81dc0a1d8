//! The promise for boosted trees with real processes: one model hash for any number of workers and kernel levels, asked
//! twice with caches dropped, spilled, with a worker killed, one that joins, a coordinator killed; text and missing
//! values go in as they are; what is published predicts.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "trees_same_bits/objectives.rs"]
mod objectives;
#[path = "trees_same_bits/ranking.rs"]
mod ranking;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array as _, AsArray as _, RecordBatch, StringArray};
use arrow::datatypes::Float64Type;
use serde_json::json;
use sheaf_tests::cluster::{Cluster, Setup};
use sheaf_tests::matrix::contributed;
use sheaf_tests::results::batches;
use sheaf_tests::{Rows, Sheaf, write_parts, write_table};

const ROWS: usize = 6000;

const BINARY: &str = "{algorithm: gradient_boosting, objective: binary, trees: 12, max_leaves: 12, learning_rate: 0.2, early_stopping: {rounds: 5}}";
const DEEP: &str = "{algorithm: gradient_boosting, task: regression, trees: 8, growth: depth_wise, max_depth: 5, subsample: 0.7, \
     colsample_bytree: 0.8, max_bins: 60}";
const MANY: &str = "{algorithm: gradient_boosting, task: multiclass, trees: 8, max_leaves: 8, learning_rate: 0.3, class_weight: balanced, \
     early_stopping: {rounds: 4}}";

const ISOLATION: &str = "{algorithm: isolation_forest, trees: 20, max_samples: 64, contamination: 0.05}";

/// A job over seven files with uneven row groups: `age` has missing values, `city` is text, `zone` a code.
fn job(name: &str, shard_rows: u32, target: &str, train: &str) -> String {
    format!(
        "version: 1
name: {name}
seed: 3
shard_rows: {shard_rows}
tables: {{rows: data/}}
prepare: |
  SELECT id, amount, age, city, flag, id % 7 AS zone, {target} FROM rows
  WHERE amount < 300 AND id NOT BETWEEN 1000 AND 1400
columns: {{target: {target}, key: id, categorical: zone}}
split: {{by: random, test: 0.2, validation: 0.1}}
train: {train}
publish: {{model: {name}}}
"
    )
}

/// The same with a target of four classes in words.
fn many(name: &str, shard_rows: u32) -> String {
    let tier = "CASE WHEN price < 1 THEN 'low' WHEN price < 2.5 THEN 'mid' WHEN price < 4 THEN 'high' ELSE 'top' END AS tier";
    let metrics = "evaluate: {metrics: [log_loss, f1_macro, auc_ovr], limits: {test.accuracy: {min: 0.4}}}\n";
    job(name, shard_rows, "tier", MANY).replace("tier FROM rows", &format!("{tier} FROM rows")) + metrics
}

fn sheaf() -> Sheaf {
    let sheaf = Sheaf::new(env!("CARGO_BIN_EXE_sheaf-under-test"));
    write_parts(&sheaf.folder().join("data"), 11, ROWS);
    sheaf
}

fn same_for_any_number_of_workers(name: &str, shard_rows: u32, target: &str, train: &str) {
    same_for_any_number(name, shard_rows, &job(name, shard_rows, target, train));
}

fn same_for_any_number(name: &str, shard_rows: u32, text: &str) {
    let sheaf = sheaf();
    sheaf.write("job.yaml", text);
    let mut hashes = BTreeMap::new();
    for workers in [1, 2, 3, 5] {
        let count = workers.to_string();
        let more = ["--workers", &count, "--threads", if workers == 2 { "2" } else { "1" }, "--speculation", "off"];
        let outcome = sheaf.run_job("job.yaml", &count, &more);
        if shard_rows == 64 {
            let shards = contributed(&outcome.json());
            let everybody = shards.len() == workers && shards.values().all(|count| *count > 0);
            assert!(everybody, "every worker contributes: {shards:?}");
        }
        let result = outcome.json();
        hashes.insert(workers, [outcome.sha256(), result["metrics"].to_string(), result["confusion"].to_string()]);
    }
    assert!(hashes.values().all(|hash| *hash == hashes[&1]), "{name}, shards of {shard_rows}: {hashes:?}");
}

#[test]
fn classes_with_shards_of_64_rows() {
    same_for_any_number_of_workers("classes-64", 64, "label", BINARY);
}

#[test]
fn numbers_with_shards_of_1536_rows() {
    same_for_any_number_of_workers("numbers-1536", 1536, "price", DEEP);
}

#[test]
fn many_classes_with_shards_of_64_rows() {
    same_for_any_number("many-64", 64, &many("many-64", 64));
}

#[test]
fn anomalies_with_shards_of_64_rows() {
    same_for_any_number_of_workers("anomalies-64", 64, "label", ISOLATION);
}

#[test]
fn asked_twice_spilled_and_at_any_kernel_level() {
    let sheaf = sheaf();
    sheaf.write("job.yaml", &job("again", 64, "label", BINARY));
    let plain = sheaf.run_job("job.yaml", "a", &["--workers", "1"]);
    let hash = plain.sha256();
    assert_eq!(sheaf.run_job("job.yaml", "b", &["--workers", "3", "--paranoid"]).sha256(), hash, "paranoid");
    assert_eq!(sheaf.run_job("job.yaml", "c", &["--workers", "2", "--memory", "64KiB"]).sha256(), hash, "spilled");
    let levels = sheaf_tests::process::kernel_levels().join(",");
    let mixed = sheaf.run_job("job.yaml", "d", &["--workers", "3", "--threads", "1", "--kernel-levels", &levels]);
    assert_eq!(mixed.sha256(), hash, "levels {levels}");
}

#[test]
fn a_model_of_trees_is_shown_and_predicts() {
    let sheaf = sheaf();
    sheaf.write("job.yaml", &job("shown", 1536, "label", BINARY));
    let result = sheaf.run_job("job.yaml", "store", &["--workers", "2"]).json();
    let auc = result["metrics"]["test"]["auc"].as_f64().unwrap();
    assert!(auc > 0.7, "the trees have learnt something: {result}");
    let series = |name: &str| result["training"][name].as_array().unwrap().len() as u64;
    let trees = result["training"]["iterations"].as_u64().unwrap();
    assert!(trees >= 1 && series("loss") > trees && series("validation_loss") == series("loss"), "{result}");
    let shown = sheaf.run(&["models", "show", "shown@1", "--store", "store", "-o", "json"]).succeeded().json();
    let importances = shown["importances"].as_object().unwrap();
    assert!(shown["coefficients"].is_null() && importances.contains_key("city"), "{shown}");
    assert!(importances.values().all(|i| i["gain"].as_f64().unwrap() > 0.0 && i["splits"].as_u64().unwrap() > 0), "{shown}");
    let card = sheaf.run(&["models", "show", "shown@1", "--store", "store"]).succeeded();
    assert!(card.stdout.contains("gain") && card.stdout.contains("amount"), "{}", card.stdout);
    // New rows have a city that no training row has.
    write_table(&sheaf.folder().join("new/rows.parquet"), &new_rows(), &[300, 1, 0]);
    let score = |to: &str, more: &[&str]| {
        let mut predict =
            vec!["predict", "shown@1", "--table", "rows=new/", "--to", to, "--store", "store", "--quiet", "-o", "json"];
        predict.extend(more);
        let scored = sheaf.run(&predict).succeeded().json()["rows"]["scored"].as_u64();
        let found = scores(&sheaf.folder().join(to));
        assert_eq!(scored, Some(found.len() as u64));
        assert!(found.len() > 500 && found.iter().all(|p| (0.0..=1.0).contains(p)), "every row has a prediction");
        found.into_iter().map(f64::to_bits).collect::<Vec<_>>()
    };
    let local = score("local", &[]);
    assert_eq!(score("cluster", &["--workers", "3", "--threads", "1"]), local);
}

#[test]
fn anomalies_are_learnt_without_a_target_scored_and_exported() {
    let sheaf = sheaf();
    let text = job("odd", 1536, "label", ISOLATION).replace("target: label, ", "").replace(", label FROM", " FROM");
    sheaf.write("job.yaml", &text.replace("{model: odd}", "{model: odd, export: [onnx]}"));
    let result = sheaf.run_job("job.yaml", "store", &["--workers", "2"]).json();
    assert_eq!((&result["metrics"], &result["training"]["iterations"]), (&json!({}), &json!(20)), "{result}");
    // What a target measures is what is learnt without it.
    sheaf.write("measured.yaml", &job("measured", 1536, "label", ISOLATION));
    let measured = sheaf.run_job("measured.yaml", "store", &["--workers", "1"]).json();
    assert!((0.0..=1.0).contains(&measured["metrics"]["test"]["auc"].as_f64().unwrap()), "{measured}");
    write_table(&sheaf.folder().join("new/rows.parquet"), &new_rows(), &[300, 1, 0]);
    sheaf.run(&["predict", "odd@1", "--table", "rows=new/", "--to", "scored", "--store", "store", "--quiet"]).succeeded();
    let batches = batches(&sheaf.folder().join("scored"));
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let above = |batch: &RecordBatch| batch.column_by_name("anomaly").unwrap().as_boolean().true_count();
    let anomalies: usize = batches.iter().map(above).sum();
    assert!(anomalies > 0 && anomalies < rows / 3, "{anomalies} of {rows}");
    // The registry's file is the one that is exported.
    let shown = sheaf.run(&["models", "show", "odd@1", "--store", "store", "-o", "json"]).succeeded().json();
    let published = sheaf.folder().join("store").join(shown["exports"]["onnx"]["file"].as_str().unwrap());
    let export = sheaf.run(&["models", "export", "odd@1", "--out", "odd.onnx", "--store", "store", "-o", "json"]).succeeded();
    assert_eq!(export.json()["bytes"], shown["exports"]["onnx"]["bytes"]);
    assert_eq!(std::fs::read(published).unwrap(), std::fs::read(sheaf.folder().join("odd.onnx")).unwrap());
    let card = sheaf.run(&["models", "show", "odd@1", "--store", "store"]).succeeded();
    assert!(card.stdout.contains("onnx"), "{}", card.stdout);
}

fn new_rows() -> RecordBatch {
    let batch = Rows::new(12).batch(1000);
    let at = batch.schema().index_of("city").unwrap();
    let cities: StringArray = (0..1000).map(|i| (i % 3 > 0).then_some(if i % 3 == 1 { "atlantis" } else { "lima" })).collect();
    let mut columns = batch.columns().to_vec();
    columns[at] = Arc::new(cities);
    RecordBatch::try_new(batch.schema(), columns).unwrap()
}

/// The probability of each row.
fn scores(folder: &Path) -> Vec<f64> {
    let mut out = Vec::new();
    for batch in batches(folder) {
        let column = batch.column_by_name("probability").unwrap().as_primitive::<Float64Type>().clone();
        assert_eq!(column.null_count(), 0);
        out.extend(column.values().iter().copied());
    }
    out
}

#[test]
fn what_cannot_be_is_refused_before_anything_runs() {
    let sheaf = sheaf();
    let refused = |name: &str, text: &str, parts: &[&str]| {
        sheaf.write("job.yaml", text);
        let outcome = sheaf.run(&["run", "job.yaml", "--store", "store", "-o", "json", "--quiet"]);
        assert_eq!(outcome.code, 2, "{name}: {outcome:?}");
        let said = format!("{}{}", outcome.stdout, outcome.stderr);
        assert!(parts.iter().all(|part| said.contains(part)), "{name}: {said}");
    };
    let plain = |train: &str| job("refused", 64, "label", train);
    refused("no objective", &plain("{algorithm: gradient_boosting, trees: 5}"), &["train", "objective", "never guessed"]);
    let wrong = "{algorithm: gradient_boosting, objective: binary, trees: 0}";
    refused("no trees", &plain(wrong), &["train.trees", "whole number"]);
    let peer = "{algorithm: gradient_boosting, objective: binary, n_estimators: 5}";
    refused("a peer's name", &plain(peer), &["n_estimators", "`trees`"]);
    let weighed = job("refused", 64, "label", ISOLATION).replace("key: id", "key: id, weight: amount");
    refused("weights of what draws rows alike", &weighed, &["columns.weight", "takes no weight"]);
    let unmeasured = job("refused", 64, "label", ISOLATION).replace("target: label, ", "") + "evaluate: {metrics: [auc]}\n";
    refused("nothing to measure by", &unmeasured, &["evaluate", "columns.target"]);
    let hashed = plain("{algorithm: logistic_regression}").replace("{model: refused}", "{export: onnx}");
    let hashed = hashed + "features: [impute: age, one_hot: zone, {hash: {columns: city, size: 16}}]\n";
    refused("an export of hashed columns", &hashed, &["hashes columns", "ONNX", "one_hot"]);
    let metric = plain("{algorithm: gradient_boosting, objective: squared_error, trees: 5}") + "evaluate: {metrics: [auc]}\n";
    refused("another task's metric", &metric, &["auc", "not a metric"]);
    let f1 = many("refused", 64).replace("metrics: [log_loss,", "metrics: [f1,");
    refused("an average that is not named", &f1, &["f1", "f1_macro, f1_micro, f1_weighted"]);
    let positive = many("refused", 64).replace("key: id,", "key: id, positive: top,");
    refused("a positive class of many", &positive, &["positive", "many classes"]);
    let unsplit = plain(BINARY).replace("split: {by: random, test: 0.2, validation: 0.1}\n", "");
    refused("nothing to stop by", &unsplit, &["early_stopping", "validation"]);
}

// ---- faults

/// The data, and a job of two classes and one of many.
fn faults(folder: &Path) {
    write_parts(&folder.join("data"), 11, ROWS);
    let text = job("faults", 64, "label", &BINARY.replace("trees: 12", "trees: 20"));
    std::fs::write(folder.join("job.yaml"), text).unwrap();
    std::fs::write(folder.join("many.yaml"), many("faults-many", 64)).unwrap();
}

/// The model of the undisturbed run on one worker.
fn undisturbed(file: &str) -> String {
    let sheaf = Sheaf::new(env!("CARGO_BIN_EXE_sheaf-under-test"));
    faults(sheaf.folder());
    sheaf.run_job(file, "store", &["--workers", "1"]).sha256()
}

fn cluster(more: &[&str]) -> Cluster {
    let cluster = Cluster::start(Path::new(env!("CARGO_BIN_EXE_sheaf-under-test")), Setup::workers(2).slow().coordinator(more));
    faults(cluster.folder());
    cluster
}

#[test]
fn a_worker_killed_and_another_that_joins() {
    let mut cluster = cluster(&[]);
    cluster.announce(&[" lost", "disconnected", "not in the cluster", "gave", "shard failed"]);
    let job = cluster.submit("job.yaml", &[]);
    cluster.wait_step(&job, 8);
    cluster.start_worker(3);
    cluster.wait_joined(3);
    cluster.kill_worker(1);
    assert!(!job.left("train"), "training was over before the kill");
    assert_eq!(cluster.wait_model(&job), undisturbed("job.yaml"));
    cluster.finish();
}

#[test]
fn a_coordinator_killed_goes_on_from_its_checkpoint() {
    let mut cluster = cluster(&["--checkpoint-every", "200ms"]);
    cluster.announce(&["not in the cluster", " lost", "disconnected", "gave", "shard failed", "is tried again"]);
    let job = cluster.submit("job.yaml", &[]);
    for step in [12, 30] {
        cluster.wait_step(&job, step);
        cluster.kill_coordinator();
        assert!(!job.left("train"), "training was over before the kill");
        cluster.start_coordinator();
    }
    let hash = cluster.wait_model(&job);
    let resumed = job.lines().iter().filter(|line| line.text.contains("goes on from the checkpoint")).count();
    assert!(resumed >= 1, "no checkpoint was used\n{}", cluster.logs());
    assert_eq!(hash, undisturbed("job.yaml"));
    cluster.finish();
}

#[test]
fn many_classes_survive_a_kill_a_join_and_a_new_coordinator() {
    let mut cluster = cluster(&["--checkpoint-every", "200ms"]);
    cluster.announce(&["not in the cluster", " lost", "disconnected", "gave", "shard failed", "is tried again"]);
    let job = cluster.submit("many.yaml", &[]);
    cluster.wait_step(&job, 8);
    cluster.start_worker(3);
    cluster.wait_joined(3);
    cluster.kill_worker(1);
    cluster.wait_step(&job, 20);
    cluster.kill_coordinator();
    assert!(!job.left("train"), "training was over before the kill");
    cluster.start_coordinator();
    assert_eq!(cluster.wait_model(&job), undisturbed("many.yaml"));
    cluster.finish();
}
