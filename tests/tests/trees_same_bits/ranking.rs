//! The promise for rankings: rows of a query are brought together by the workers, and the model is the same for any number
//! of them, with a worker killed, one that joins, and a coordinator killed.

use std::collections::BTreeMap;
use std::path::Path;

use sheaf_tests::Sheaf;
use sheaf_tests::cluster::{Cluster, Setup};
use sheaf_tests::matrix::contributed;
use sheaf_tests::write_parts;

const ROWS: usize = 6000;

const LAMBDARANK: &str = "{algorithm: gradient_boosting, objective: lambdarank, trees: 15, max_leaves: 10, learning_rate: 0.2, \
     truncation_level: 8, early_stopping: {rounds: 8}}";
const MAP: &str = "{algorithm: gradient_boosting, objective: map, trees: 8, max_leaves: 8, subsample: 0.8}";

const GRADE: &str = "CASE WHEN price < 1 THEN 0 WHEN price < 3 THEN 1 WHEN price < 5 THEN 2 ELSE 3 END";
const RELEVANT: &str = "CASE WHEN price < 4 THEN 0 ELSE 1 END";

/// Three hundred queries, their rows spread over all files; `more` is one more column.
fn job(name: &str, grade: &str, more: &str, train: &str) -> String {
    format!(
        "version: 1
name: {name}
seed: 3
shard_rows: 64
tables: {{rows: data/}}
prepare: |
  SELECT id, id % 300 AS query, {grade} AS grade, amount, age, city, flag{more} FROM rows WHERE amount < 300
columns: {{target: grade, query: query, key: id}}
split: {{by: random, test: 0.2, validation: 0.2}}
train: {train}
publish: {{model: {name}}}
"
    )
}

fn ranked(name: &str, grade: &str, more: &str, train: &str) -> f64 {
    let sheaf = Sheaf::new(env!("CARGO_BIN_EXE_sheaf-under-test"));
    write_parts(&sheaf.folder().join("data"), 11, ROWS);
    sheaf.write("job.yaml", &job(name, grade, more, train));
    let (mut hashes, mut metrics) = (BTreeMap::new(), BTreeMap::new());
    for workers in [1, 2, 3, 5] {
        let count = workers.to_string();
        let more = ["--workers", &count, "--threads", if workers == 2 { "2" } else { "1" }, "--speculation", "off"];
        let outcome = sheaf.run_job("job.yaml", &count, &more);
        let shards = contributed(&outcome.json());
        let everybody = shards.len() == workers && shards.values().all(|count| *count > 0);
        assert!(everybody, "every worker contributes: {shards:?}");
        hashes.insert(workers, outcome.sha256());
        metrics.insert(workers, outcome.json()["metrics"].clone());
    }
    assert!(hashes.values().all(|hash| *hash == hashes[&1]), "{name}: {hashes:?}");
    assert!(metrics.values().all(|found| *found == metrics[&1]), "{name}: {metrics:?}");
    metrics[&1]["test"]["ndcg@10"].as_f64().unwrap()
}

#[test]
fn grades_for_any_number_of_workers() {
    let ndcg = ranked("grades", GRADE, "", LAMBDARANK);
    assert!(ndcg > 0.7, "something was learnt: {ndcg}");
}

/// A window makes the query general: the query engine writes the shards.
#[test]
fn average_precision_after_a_query_for_any_number_of_workers() {
    let window = ", avg(amount) OVER (PARTITION BY id % 300) AS usual";
    let ndcg = ranked("precision", RELEVANT, window, MAP);
    assert!(ndcg > 0.5, "something was learnt: {ndcg}");
}

fn prepared(folder: &Path) {
    write_parts(&folder.join("data"), 11, ROWS);
    let text = job("faults", GRADE, "", &LAMBDARANK.replace("trees: 15", "trees: 20").replace("rounds: 8", "rounds: 20"));
    std::fs::write(folder.join("job.yaml"), text).unwrap();
}

#[test]
fn a_ranking_survives_a_kill_a_join_and_a_coordinator_killed() {
    let undisturbed = {
        let sheaf = Sheaf::new(env!("CARGO_BIN_EXE_sheaf-under-test"));
        prepared(sheaf.folder());
        sheaf.run_job("job.yaml", "store", &["--workers", "1"]).sha256()
    };
    let setup = Setup::workers(2).slow().coordinator(&["--checkpoint-every", "200ms"]);
    let mut cluster = Cluster::start(Path::new(env!("CARGO_BIN_EXE_sheaf-under-test")), setup);
    prepared(cluster.folder());
    cluster.announce(&[" lost", "disconnected", "not in the cluster", "gave", "shard failed", "is tried again"]);
    let job = cluster.submit("job.yaml", &[]);
    cluster.wait_step(&job, 8);
    cluster.start_worker(3);
    cluster.wait_joined(3);
    cluster.kill_worker(1);
    cluster.wait_step(&job, 25);
    cluster.kill_coordinator();
    assert!(!job.left("train"), "training was over before the kill");
    cluster.start_coordinator();
    assert_eq!(cluster.wait_model(&job), undisturbed);
    cluster.finish();
}
