//! Prediction: a cluster of any size and a process without any cluster give the same bits, and a
//! folder of results appears whole or not at all.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use arrow::array::{Array, Float64Array, Int64Array};
use sheaf_tests::results::batches;
use sheaf_tests::{Sheaf, write_parts};

const JOB: &str = "version: 1
name: scored
shard_rows: 64
params: {most: 300}
tables: {rows: data/}
prepare: SELECT id, amount, age, city, flag, label FROM rows WHERE amount < $most
columns: {target: label, key: id}
split: {by: random, test: 0.2}
features:
  - impute: {columns: age, strategy: median}
  - standardize: [amount, age]
  - one_hot: city
train: {algorithm: logistic_regression, l2: 0.001}
publish: {model: scored, alias: candidate}
";

fn trained() -> Sheaf {
    let sheaf = Sheaf::new(env!("CARGO_BIN_EXE_sheaf-under-test"));
    write_parts(&sheaf.folder().join("data"), 7, 3000);
    write_parts(&sheaf.folder().join("new"), 8, 2000);
    sheaf.write("job.yaml", JOB);
    sheaf.run(&["run", "job.yaml", "--quiet"]).succeeded();
    sheaf
}

/// (id, probability bits) of all files in name order.
fn scores(folder: &Path) -> Vec<(i64, u64)> {
    let mut out = Vec::new();
    for batch in batches(folder) {
        let ids = batch.column_by_name("id").unwrap().as_any().downcast_ref::<Int64Array>().unwrap().clone();
        let values = batch.column_by_name("probability").unwrap().as_any().downcast_ref::<Float64Array>().unwrap().clone();
        out.extend((0..ids.len()).map(|i| (ids.value(i), values.value(i).to_bits())));
    }
    out
}

#[test]
fn cluster_and_local_give_the_same_bits() {
    let sheaf = trained();
    let score = |to: &str, more: &[&str]| {
        let mut arguments = vec!["predict", "scored@latest", "--table", "rows=new/", "--to", to, "--quiet", "-o", "json"];
        arguments.extend(more);
        let result = sheaf.run(&arguments).succeeded().json();
        let scores = scores(&sheaf.folder().join(to));
        assert_eq!(result["rows"]["scored"], scores.len() as u64);
        scores
    };
    let local = score("local", &[]);
    assert!(local.len() > 1500, "{} rows", local.len());
    for workers in ["1", "2", "3", "5"] {
        assert_eq!(score(workers, &["--workers", workers, "--threads", "1"]), local, "{workers} workers");
    }
    let fewer = score("fewer", &["--set", "most=50"]);
    assert!(fewer.len() < local.len() && fewer.iter().all(|row| local.contains(row)));
}

#[test]
fn rows_that_are_prepared_already_skip_the_prepare() {
    let sheaf = trained();
    let run = |arguments: &[&str]| sheaf.run(arguments).succeeded();
    run(&["predict", "scored@1", "--input", "new/", "--to", "all", "--quiet"]);
    run(&["predict", "scored@candidate", "--table", "rows=new/", "--to", "kept", "--quiet"]);
    let all = scores(&sheaf.folder().join("all"));
    let kept = scores(&sheaf.folder().join("kept"));
    assert_eq!(all.len(), 2000);
    assert!(kept.len() < all.len() && kept.iter().all(|row| all.contains(row)));
}

#[test]
fn only_the_same_model_replaces_its_predictions() {
    let sheaf = trained();
    let predict = |to: &str| sheaf.run(&["predict", "scored@latest", "--table", "rows=new/", "--to", to, "--quiet"]);
    predict("out").succeeded();
    predict("out").succeeded();
    sheaf.write("mine/notes.txt", "keep me");
    let refused = predict("mine");
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains("not replaced"), "{refused:?}");
    assert_eq!(std::fs::read_to_string(sheaf.folder().join("mine/notes.txt")).unwrap(), "keep me");
}

#[test]
fn what_cannot_be_scored_is_said() {
    let sheaf = trained();
    let run = |arguments: &[&str]| sheaf.run(arguments);
    let missing = run(&["predict", "nobody@latest", "--input", "new/", "--to", "out"]);
    assert_eq!(missing.code, 3, "{missing:?}");
    assert!(missing.stderr.contains("scored"), "known models are named: {missing:?}");
    let version = run(&["predict", "scored@9", "--input", "new/", "--to", "out"]);
    assert_eq!(version.code, 3, "{version:?}");
    let table = run(&["predict", "scored@1", "--table", "other=new/", "--to", "out"]);
    assert_eq!(table.code, 2, "{table:?}");
    let nothing = run(&["predict", "scored@1", "--to", "out"]);
    assert_eq!(nothing.code, 2, "{nothing:?}");
    assert!(!sheaf.folder().join("out").exists());
}
