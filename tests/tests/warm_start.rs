//! Training that goes on from a published model: the same model as if it had never stopped, for any number of workers;
//! features, columns and classes stay the model's; what cannot go on is refused before anything runs. Medians in the
//! leaves and trees that are dropped for a while come through kills as they do without.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use sheaf_tests::cluster::{Cluster, Setup};
use sheaf_tests::{Outcome, Sheaf, write_parts};

/// A job with text, a code, missing values and a fitted feature, and the rest of the file.
fn job(name: &str, rows: &str, columns: &str, rest: &str) -> String {
    format!(
        "version: 1
name: {name}
seed: 4
shard_rows: 64
tables: {{rows: {rows}}}
prepare: SELECT id, amount, age, city, flag, id % 7 AS zone, label, price FROM rows
columns: {{key: id, {columns}}}
split: {{by: random, test: 0.2, validation: 0.1}}
{rest}
publish: {{model: {name}}}
"
    )
}

const OF_LABEL: &str = "target: label, categorical: zone, ignore: price";
const FEATURES: &str = "features: [{impute: {columns: age, strategy: median, indicator: true}}]";

fn train(trees: u32, more: &str) -> String {
    format!(
        "train: {{algorithm: gradient_boosting, objective: binary, trees: {trees}, max_leaves: 8, subsample: 0.8, colsample_bytree: 0.8{more}}}"
    )
}

fn sheaf() -> Sheaf {
    let sheaf = Sheaf::new(env!("CARGO_BIN_EXE_sheaf-under-test"));
    write_parts(&sheaf.folder().join("data"), 11, 3000);
    write_parts(&sheaf.folder().join("more"), 12, 2000);
    sheaf
}

fn run(sheaf: &Sheaf, text: &str, more: &[&str]) -> Outcome {
    sheaf.write("job.yaml", text);
    sheaf.run(&[&["run", "job.yaml", "--store", "store", "-o", "json", "--quiet", "--threads", "1"], more].concat())
}

#[test]
fn training_goes_on_as_if_it_had_never_stopped() {
    let sheaf = sheaf();
    let fit = |name: &str, rest: &str, workers: &str| {
        run(&sheaf, &job(name, "data/", OF_LABEL, rest), &["--workers", workers]).succeeded()
    };
    let whole = fit("whole", &format!("{FEATURES}\n{}", train(50, "")), "2");
    let half = fit("half", &format!("{FEATURES}\n{}", train(25, "")), "1");
    let more = train(25, ", warm_start: half@1");
    for workers in ["1", "3"] {
        // The model's own columns and features need not be said again.
        sheaf.write("short.yaml", &job("both", "data/", "target: label", &more));
        let both = sheaf.run_job("short.yaml", "store", &["--workers", workers]);
        assert_eq!(both.sha256(), whole.sha256(), "{workers} workers");
        assert_eq!(both.json()["metrics"], whole.json()["metrics"]);
        let training = &both.json()["training"];
        assert_eq!((training["iterations"].as_u64(), training["loss"].as_array().map(Vec::len)), (Some(50), Some(26)));
    }
    let said_again = fit("both", &format!("{FEATURES}\n{more}"), "2");
    assert_eq!(said_again.sha256(), whole.sha256());
    let shown = sheaf.run(&["models", "show", "both@2", "--store", "store", "-o", "json"]).succeeded().json();
    let earlier = &shown["warm_start"];
    assert_eq!((earlier["name"].as_str(), earlier["version"].as_u64()), (Some("half"), Some(1)));
    assert_eq!(earlier["sha256"].as_str(), Some(half.sha256().as_str()));
    let card = sheaf.run(&["models", "show", "both@2", "--store", "store"]).succeeded();
    assert!(card.stdout.contains("goes on from") && card.stdout.contains("half@1"), "{}", card.stdout);
}

#[test]
fn a_model_goes_on_with_other_rows_and_scores_them() {
    let sheaf = sheaf();
    run(&sheaf, &job("old", "data/", OF_LABEL, &format!("{FEATURES}\n{}", train(10, ""))), &["--workers", "1"]).succeeded();
    let section = "predict: {tables: {rows: more/}, to: scored/}";
    let rest = format!("{}\n{section}", train(10, ", learning_rate: 0.05, warm_start: old@latest, early_stopping: {rounds: 10}"));
    let newer = job("new", "more/", "target: label", &rest);
    let hashes: Vec<String> = ["1", "3"].map(|n| run(&sheaf, &newer, &["--workers", n]).succeeded().sha256()).to_vec();
    assert_eq!(hashes[0], hashes[1]);
    assert!(sheaf.folder().join("scored/_sheaf.json").exists());
    // An alias leads to the model that it meant when the job was accepted, and says which one that was.
    let shown = sheaf.run(&["models", "show", "new@1", "--store", "store", "-o", "json"]).succeeded().json();
    assert_eq!(
        (shown["warm_start"]["reference"].as_str(), shown["warm_start"]["version"].as_u64()),
        (Some("old@latest"), Some(1))
    );
    let third = train(5, ", warm_start: new@2");
    let result = run(&sheaf, &job("third", "data/", "target: label", &third), &["--workers", "1"]).succeeded().json();
    assert_eq!(result["training"]["loss"].as_array().map(Vec::len), Some(6), "{result}");
}

#[test]
fn what_cannot_go_on_is_refused_before_anything_runs() {
    let sheaf = sheaf();
    run(&sheaf, &job("old", "data/", OF_LABEL, &format!("{FEATURES}\n{}", train(3, ""))), &["--workers", "1"]).succeeded();
    let linear = "features: [{drop: [age, city, flag, zone]}]\ntrain: {algorithm: logistic_regression}";
    run(&sheaf, &job("linear", "data/", OF_LABEL, linear), &["--workers", "1"]).succeeded();
    let refused = |columns: &str, rest: &str, said: &[&str]| {
        let outcome = run(&sheaf, &job("no", "data/", columns, rest), &["--workers", "1"]);
        assert_eq!(outcome.code, 2, "{outcome:?}");
        for part in said {
            assert!(outcome.stderr.contains(part), "`{part}` is not said:\n{}", outcome.stderr);
        }
    };
    let go_on = |more: &str| train(3, &format!(", warm_start: old@1{more}"));
    refused(OF_LABEL, &train(3, ", warm_start: nothing@3"), &["`nothing@3` not found", "known models: linear, old"]);
    refused(OF_LABEL, &train(3, ", warm_start: old@7"), &["no version 7"]);
    refused(OF_LABEL, &train(3, ", warm_start: linear@1"), &["was trained with `logistic_regression`"]);
    let linear = "train: {algorithm: logistic_regression, warm_start: old@1}";
    refused(OF_LABEL, linear, &["warm_start", "not supported yet"]);
    refused(OF_LABEL, "train: {algorithm: random_forest, task: binary, warm_start: old@1}", &["not supported yet"]);
    refused(OF_LABEL, &go_on("").replace("binary", "squared_error"), &["old@1", "another objective"]);
    refused("target: flag, ignore: price", &go_on(""), &["the target is `flag`, that of old@1 is `label`"]);
    refused("target: label, offset: price", &go_on(""), &["the offset is `price`, that of old@1 is none"]);
    refused("target: label, ignore: [price, city]", &go_on(""), &["`columns.ignore` is not that of old@1"]);
    refused(OF_LABEL, &format!("features: [{{drop: city}}]\n{}", go_on("")), &["`features` is not that of old@1"]);
    let narrow = job("no", "data/", OF_LABEL, &go_on("")).replace("amount, age, city,", "amount, city,");
    let outcome = run(&sheaf, &narrow, &["--workers", "1"]);
    assert!(outcome.code == 2 && outcome.stderr.contains("age"), "{outcome:?}");
}

// ---- faults

const OF_PRICE: &str = "target: price, categorical: zone, ignore: label";

fn faults(folder: &Path) {
    write_parts(&folder.join("data"), 11, 6000);
    let absolute = "train: {algorithm: gradient_boosting, objective: absolute, max_leaves: 8, learning_rate: 0.3, trees:";
    let old = job("old", "data/", OF_PRICE, &format!("{FEATURES}\n{absolute} 4}}"));
    let dropped = format!("{absolute} 16, boosting: dart, drop_rate: 0.3, skip_drop: 0.2, warm_start: old@1}}");
    std::fs::write(folder.join("old.yaml"), old).unwrap();
    std::fs::write(folder.join("job.yaml"), job("new", "data/", "target: price", &dropped)).unwrap();
}

#[test]
fn medians_and_dropped_trees_come_through_kills() {
    let sheaf = Sheaf::new(env!("CARGO_BIN_EXE_sheaf-under-test"));
    faults(sheaf.folder());
    let undisturbed = |workers: &str| {
        let store = format!("store-{workers}");
        sheaf.run_job("old.yaml", &store, &["--workers", workers]);
        sheaf.run_job("job.yaml", &store, &["--workers", workers, "--threads", "1"]).sha256()
    };
    let expected = undisturbed("1");
    assert_eq!(undisturbed("3"), expected);
    let setup = Setup::workers(2).slow().coordinator(&["--checkpoint-every", "200ms"]);
    let mut cluster = Cluster::start(Path::new(env!("CARGO_BIN_EXE_sheaf-under-test")), setup);
    faults(cluster.folder());
    cluster.announce(&["not in the cluster", " lost", "disconnected", "gave", "shard failed", "is tried again"]);
    let old = cluster.submit("old.yaml", &[]);
    cluster.wait_model(&old);
    let job = cluster.submit("job.yaml", &[]);
    cluster.wait_step(&job, 20);
    cluster.start_worker(3);
    cluster.wait_joined(3);
    cluster.kill_worker(1);
    assert!(!job.left("train"), "training was over before the kill");
    cluster.wait_step(&job, 50);
    cluster.kill_coordinator();
    assert!(!job.left("train"), "training was over before the kill");
    cluster.start_coordinator();
    assert_eq!(cluster.wait_model(&job), expected);
    cluster.finish();
}
