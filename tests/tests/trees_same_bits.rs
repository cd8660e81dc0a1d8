//! The promise for boosted trees with real processes: one model hash for any number of workers and kernel levels, asked
//! twice with caches dropped, spilled, with a worker killed, one that joins, a coordinator killed; text and missing
//! values go in as they are; what is published predicts.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array as _, AsArray as _, RecordBatch, StringArray};
use arrow::datatypes::Float64Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use sheaf_tests::cluster::{Cluster, Setup};
use sheaf_tests::matrix::contributed;
use sheaf_tests::{Rows, Sheaf, write_parts, write_table};

const ROWS: usize = 6000;

const BINARY: &str = "{algorithm: gradient_boosting, objective: binary, trees: 12, max_leaves: 12, learning_rate: 0.2, early_stopping: {rounds: 5}}";
const DEEP: &str = "{algorithm: gradient_boosting, task: regression, trees: 8, growth: depth_wise, max_depth: 5, subsample: 0.7, \
     colsample_bytree: 0.8, max_bins: 60}";

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

fn sheaf() -> Sheaf {
    let sheaf = Sheaf::new(env!("CARGO_BIN_EXE_sheaf-under-test"));
    write_parts(&sheaf.folder().join("data"), 11, ROWS);
    sheaf
}

fn same_for_any_number_of_workers(name: &str, shard_rows: u32, target: &str, train: &str) {
    let sheaf = sheaf();
    sheaf.write("job.yaml", &job(name, shard_rows, target, train));
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
        hashes.insert(workers, outcome.sha256());
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

fn new_rows() -> RecordBatch {
    let batch = Rows::new(12).batch(1000);
    let at = batch.schema().index_of("city").unwrap();
    let cities: StringArray = (0..1000).map(|i| (i % 3 > 0).then_some(if i % 3 == 1 { "atlantis" } else { "lima" })).collect();
    let mut columns = batch.columns().to_vec();
    columns[at] = Arc::new(cities);
    RecordBatch::try_new(batch.schema(), columns).unwrap()
}

/// Probabilities of all files in name order; each row has one.
fn scores(folder: &Path) -> Vec<f64> {
    let files = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let mut files: Vec<_> = files.filter(|p| p.extension().is_some_and(|e| e == "parquet")).collect();
    files.sort();
    let mut out = Vec::new();
    for file in files {
        for batch in ParquetRecordBatchReaderBuilder::try_new(File::open(file).unwrap()).unwrap().build().unwrap() {
            let batch = batch.unwrap();
            let column = batch.column_by_name("probability").unwrap().as_primitive::<Float64Type>().clone();
            assert_eq!(column.null_count(), 0);
            out.extend(column.values().iter().copied());
        }
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
    let metric = plain("{algorithm: gradient_boosting, objective: squared_error, trees: 5}") + "evaluate: {metrics: [auc]}\n";
    refused("another task's metric", &metric, &["auc", "not a metric"]);
    let unsplit = plain(BINARY).replace("split: {by: random, test: 0.2, validation: 0.1}\n", "");
    refused("nothing to stop by", &unsplit, &["early_stopping", "validation"]);
}

// ---- faults

fn faults(folder: &Path) {
    write_parts(&folder.join("data"), 11, ROWS);
    let text = job("faults", 64, "label", &BINARY.replace("trees: 12", "trees: 20"));
    std::fs::write(folder.join("job.yaml"), text).unwrap();
}

/// The model of the undisturbed run on one worker.
fn undisturbed() -> String {
    let sheaf = Sheaf::new(env!("CARGO_BIN_EXE_sheaf-under-test"));
    faults(sheaf.folder());
    sheaf.run_job("job.yaml", "store", &["--workers", "1"]).sha256()
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
    assert_eq!(cluster.wait_model(&job), undisturbed());
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
    assert_eq!(hash, undisturbed());
    cluster.finish();
}
