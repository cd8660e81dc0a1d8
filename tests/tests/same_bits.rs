//! The promise with real processes: one model hash for any number of workers, any kernel level, a
//! second run from scratch, partials asked twice with caches dropped, spilled shards, a killed worker.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Instant;

use serde_json::Value;
use sheaf_tests::matrix::contributed;
use sheaf_tests::process::{alive, collect, wait_for};
use sheaf_tests::{Sheaf, write_parts};

const ROWS: usize = 6000;

fn sheaf() -> Sheaf {
    let sheaf = Sheaf::new(env!("CARGO_BIN_EXE_sheaf-under-test"));
    write_parts(&sheaf.folder().join("data"), 11, ROWS);
    sheaf
}

/// A job over seven files with uneven row groups; the filter keeps two thirds and empties some units.
fn job(name: &str, shard_rows: u32, target: &str, train: &str) -> String {
    format!(
        "version: 1
name: {name}
seed: 3
shard_rows: {shard_rows}
tables: {{rows: data/}}
prepare: |
  SELECT id, amount, age, city, flag, {target} FROM rows
  WHERE amount < 300 AND id NOT BETWEEN 1000 AND 1400
columns: {{target: {target}, key: id}}
split: {{by: random, test: 0.2, validation: 0.1}}
features:
  - sql: {{log_amount: ln(1 + amount), square: amount * amount / 1000, inverse: 10 / (1 + amount), wave: sin(amount / 7)}}
  - impute: {{columns: age, strategy: median, indicator: true}}
  - standardize: [amount, log_amount, square, inverse, wave, age]
  - one_hot: city
train:
{train}
publish: {{model: {name}}}
"
    )
}

const LOGISTIC: &str = "  algorithm: logistic_regression\n  solver: lbfgs\n  l2: 0.0000001";
const LINEAR: &str = "  algorithm: linear_regression\n  solver: lbfgs\n  l2: 0.0001";

fn steps(result: &Value) -> usize {
    result["training"]["loss"].as_array().unwrap().len()
}

fn same_for_any_number_of_workers(name: &str, shard_rows: u32, target: &str, train: &str) {
    let sheaf = sheaf();
    sheaf.write("job.yaml", &job(name, shard_rows, target, train));
    let mut hashes = BTreeMap::new();
    for workers in ["1", "2", "3", "5"] {
        let outcome = sheaf.run_job("job.yaml", workers, &["--workers", workers, "--threads", "1", "--speculation", "off"]);
        let result = outcome.json();
        assert!(steps(&result) > 20, "{name} took only {} steps", steps(&result));
        let shards = contributed(&result);
        if shard_rows == 64 {
            let everybody = shards.len() == workers.parse::<usize>().unwrap() && shards.values().all(|count| *count > 0);
            assert!(everybody, "every worker contributes: {shards:?}");
        }
        hashes.insert(workers, outcome.sha256());
    }
    let first = &hashes["1"];
    assert!(hashes.values().all(|hash| hash == first), "{name}, shards of {shard_rows}: {hashes:?}");
}

#[test]
fn logistic_with_shards_of_64_rows() {
    same_for_any_number_of_workers("logistic-64", 64, "label", LOGISTIC);
}

#[test]
fn logistic_with_shards_of_1536_rows() {
    same_for_any_number_of_workers("logistic-1536", 1536, "label", LOGISTIC);
}

#[test]
fn linear_with_shards_of_64_rows() {
    same_for_any_number_of_workers("linear-64", 64, "price", LINEAR);
}

#[test]
fn linear_with_shards_of_1536_rows() {
    same_for_any_number_of_workers("linear-1536", 1536, "price", LINEAR);
}

#[test]
fn kernel_levels_may_be_mixed() {
    let sheaf = sheaf();
    sheaf.write("job.yaml", &job("levels", 64, "label", LOGISTIC));
    let plain = sheaf.run_job("job.yaml", "a", &["--workers", "1"]).sha256();
    let levels = sheaf_tests::process::kernel_levels();
    let list = levels.join(",");
    let mixed = sheaf.run_job("job.yaml", "b", &["--workers", "3", "--threads", "1", "--kernel-levels", &list]);
    assert_eq!(mixed.sha256(), plain, "levels {list}");
    for level in &levels {
        assert_eq!(
            sheaf.run_job("job.yaml", level, &["--workers", "1", "--kernel-levels", level]).sha256(),
            plain,
            "level {level}"
        );
    }
}

#[test]
fn a_second_run_from_scratch_and_partials_asked_twice() {
    let sheaf = sheaf();
    sheaf.write("job.yaml", &job("again", 64, "label", LOGISTIC));
    let first = sheaf.run_job("job.yaml", "a", &["--workers", "2"]).sha256();
    assert_eq!(sheaf.run_job("job.yaml", "b", &["--workers", "2"]).sha256(), first);
    assert_eq!(sheaf.run_job("job.yaml", "c", &["--workers", "3", "--paranoid"]).sha256(), first);
    assert_eq!(sheaf.run_job("job.yaml", "d", &["--workers", "2", "--memory", "64KiB"]).sha256(), first, "spilled");
}

#[test]
fn a_worker_killed_while_training_changes_nothing() {
    let sheaf = sheaf();
    // Paranoid workers re-read dropped shards in every step, so that training takes long enough to be hit.
    sheaf.write("job.yaml", &job("killed", 64, "label", LOGISTIC));
    let plain = sheaf.run_job("job.yaml", "a", &["--workers", "1"]).sha256();
    let arguments =
        ["run", "job.yaml", "--store", "b", "-o", "json", "--workers", "3", "--threads", "1", "--paranoid", "--pid-file", "pids"];
    let began = Instant::now();
    let mut command = sheaf.command(&arguments);
    let log = sheaf.folder().join("progress.txt");
    command.stdout(std::process::Stdio::piped()).stderr(std::fs::File::create(&log).unwrap());
    command.env("SHEAF_LOG", "warn");
    let child = command.spawn().unwrap();
    let pids = wait_for("the worker processes", || std::fs::read_to_string(sheaf.folder().join("pids")).ok());
    let victim: u32 = pids.lines().nth(1).unwrap().parse().unwrap();
    wait_for("training", || std::fs::read_to_string(&log).unwrap().contains("train").then_some(()));
    Command::new("kill").args(["-9", &victim.to_string()]).status().unwrap();
    wait_for("the worker's end", || (!alive(victim)).then_some(()));
    let outcome = collect(child, began).succeeded();
    assert_eq!(outcome.sha256(), plain);
    let log = std::fs::read_to_string(&log).unwrap();
    assert!(log.contains("worker lost"), "the coordinator saw the loss: {log}");
    for pid in pids.lines() {
        assert!(!alive(pid.parse().unwrap()), "worker {pid} is left");
    }
}

#[test]
fn test_rows_change_no_fitted_value() {
    let sheaf = sheaf();
    let split = "split: {by: column, column: part}";
    let text = job("held-out", 64, "label", LOGISTIC)
        .replace("flag, label", "flag, label, part")
        .replace("split: {by: random, test: 0.2, validation: 0.1}", split);
    sheaf.write("a.yaml", &text);
    // The same rows, but what stands in the test rows is another world.
    let other = text
        .replace("SELECT id, amount,", "SELECT id, CASE WHEN part = 'test' THEN amount * 1000 + 7 ELSE amount END AS amount,");
    let other = other.replace(", label, part", ", CASE WHEN part = 'test' THEN 1 - label ELSE label END AS label, part");
    sheaf.write("b.yaml", &other);
    let a = sheaf.run_job("a.yaml", "a", &[]).json();
    let b = sheaf.run_job("b.yaml", "b", &[]).json();
    assert_eq!(a["model"]["sha256"], b["model"]["sha256"]);
    assert_ne!(a["metrics"]["test"], b["metrics"]["test"]);
    assert_eq!(a["metrics"]["train"], b["metrics"]["train"]);
}

/// Rows of a CSV table with a key; `other` changes everything about the test rows but their key.
fn csv(other: bool) -> String {
    let mut rows = sheaf_tests::Rows::new(21);
    let mut text = String::from("id,x,y,part\n");
    for id in 0..1500 {
        let (x, noise) = (rows.uniform(), rows.uniform());
        let test = id % 5 == 0;
        let (x, y) = if other && test { (x * 100.0 - 3.0, noise) } else { (x, 2.0 * x + noise) };
        text.push_str(&format!("{id},{x},{y},{}\n", if test { "test" } else { "train" }));
    }
    text
}

#[test]
fn test_rows_change_no_fitted_value_of_a_table_that_is_written_first() {
    let sheaf = Sheaf::new(env!("CARGO_BIN_EXE_sheaf-under-test"));
    let job = |file: &str| {
        format!(
            "version: 1\nname: csv\nshard_rows: 64\ntables: {{rows: {file}}}\nprepare: SELECT id, x, x * x AS square, y, part FROM rows\n\
             columns: {{target: y, key: id}}\nsplit: {{by: column, column: part}}\nfeatures: [{{standardize: \"*\"}}]\n\
             train: {{algorithm: linear_regression}}\n"
        )
    };
    for (name, other) in [("a", false), ("b", true)] {
        sheaf.write(&format!("{name}.csv"), &csv(other));
        sheaf.write(&format!("{name}.yaml"), &job(&format!("{name}.csv")));
    }
    let a = sheaf.run_job("a.yaml", "a", &["--workers", "3", "--threads", "1"]).json();
    let b = sheaf.run_job("b.yaml", "b", &["--workers", "2"]).json();
    assert_eq!(a["model"]["sha256"], b["model"]["sha256"]);
    assert_ne!(a["metrics"]["test"], b["metrics"]["test"]);
}
