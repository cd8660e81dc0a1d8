//! A worker that is asked to leave while it works on a query: it finishes its tasks, gets no new ones, and nothing is
//! computed twice.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use serde_json::Value;
use sheaf_tests::process::collect;
use sheaf_tests::{Cluster, Setup, write_parts};

/// Tasks that take their time, in two exchanges.
const SLOW: &str = "SELECT a.city, count(*) AS n, sum(levenshtein(repeat(a.city, 6), repeat(b.part, 6))) AS d \
     FROM t a JOIN t b ON a.id % 50 = b.id % 50 GROUP BY a.city ORDER BY a.city";

/// Tasks of queries that a worker has started and done, each with the query's name.
#[derive(Debug, Default)]
struct Tasks {
    queries: BTreeSet<String>,
    started: usize,
    done: usize,
}

impl Tasks {
    /// What a worker's log tells after its first so many lines.
    fn of(cluster: &Cluster, worker: usize, skip: usize) -> Self {
        let mut tasks = Self::default();
        for line in log(cluster, worker).lines().skip(skip) {
            let Ok(entry) = serde_json::from_str::<Value>(line) else { continue };
            match entry["message"].as_str() {
                Some("query task started") => tasks.started += 1,
                Some("query task done") => tasks.done += 1,
                _ => continue,
            }
            tasks.queries.extend(entry["query"].as_str().map(str::to_owned));
        }
        tasks
    }

    /// Those of both workers.
    fn of_both(cluster: &Cluster, skip: [usize; 2]) -> Self {
        let [one, other] = [1, 2].map(|worker| Self::of(cluster, worker, skip[worker - 1]));
        Self {
            queries: one.queries.union(&other.queries).cloned().collect(),
            started: one.started + other.started,
            done: one.done + other.done,
        }
    }
}

fn log(cluster: &Cluster, worker: usize) -> String {
    std::fs::read_to_string(cluster.folder().join(format!("logs/worker-{worker}.log"))).unwrap()
}

fn lines(cluster: &Cluster) -> [usize; 2] {
    [1, 2].map(|worker| log(cluster, worker).lines().count())
}

fn cluster() -> Cluster {
    let cluster = Cluster::start(Path::new(super::PROGRAM), Setup::workers(2));
    write_parts(&cluster.folder().join("data/parts"), 5, 3000);
    cluster
}

/// Waits until worker 1 works on a task, asks it to leave, and waits for its end.
fn leave_within_a_task(cluster: &mut Cluster, skip: [usize; 2]) {
    cluster.until("worker 1 to work on a task", |cluster| {
        let tasks = Tasks::of(cluster, 1, skip[0]);
        (tasks.started > tasks.done).then_some(())
    });
    let status = cluster.terminate_worker(1);
    assert!(status.success(), "{}", cluster.logs());
    let tasks = Tasks::of(cluster, 1, skip[0]);
    assert!(tasks.done > 0 && tasks.started == tasks.done, "worker 1 left a task unfinished: {tasks:?}\n{}", cluster.logs());
}

#[test]
fn a_worker_that_leaves_finishes_its_tasks_of_a_question_and_keeps_its_rows_until_they_are_read() {
    let mut cluster = cluster();
    let asked = ["sql", SLOW, "--table", "t=data/parts/", "--target-partitions", "6", "-o", "csv", "--quiet"];
    let before = lines(&cluster);
    let expected = cluster.run(&asked).succeeded().stdout;
    let usual = Tasks::of_both(&cluster, before);
    assert!(usual.queries.len() == 1 && usual.done >= 6, "{usual:?}");

    let (before, began) = (lines(&cluster), Instant::now());
    let child = cluster.command(&asked).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    leave_within_a_task(&mut cluster, before);
    assert_eq!(collect(child, began).succeeded().stdout, expected);
    let tasks = Tasks::of_both(&cluster, before);
    assert_eq!(tasks.queries.len(), 1, "the question started over: {tasks:?}\n{}", cluster.logs());
    assert_eq!((tasks.started, tasks.done), (usual.started, usual.done), "tasks were run twice\n{}", cluster.logs());
    cluster.finish();
}

/// What a job's query exchanges is copied, so that the worker may go as soon as its own tasks are done.
#[test]
fn a_worker_that_leaves_finishes_its_tasks_of_a_job() {
    let mut cluster = cluster();
    cluster.write("job.yaml", &job());
    let before = lines(&cluster);
    let first = cluster.submit("job.yaml", &[]);
    let expected = cluster.wait_model(&first);
    let usual = Tasks::of_both(&cluster, before);
    assert!(usual.queries.len() == 1 && usual.done >= 2, "{usual:?}");

    let before = lines(&cluster);
    let job = cluster.submit("job.yaml", &[]);
    leave_within_a_task(&mut cluster, before);
    assert_eq!(cluster.wait_model(&job), expected);
    let tasks = Tasks::of_both(&cluster, before);
    assert_eq!(tasks.queries.len(), 1, "the query started over: {tasks:?}\n{}", cluster.logs());
    assert_eq!((tasks.started, tasks.done), (usual.started, usual.done), "tasks were run twice\n{}", cluster.logs());
    cluster.finish();
}

fn job() -> String {
    "version: 1
name: leaving
seed: 3
shard_rows: 64
tables: {t: data/parts/}
prepare: >
  SELECT a.id, max(a.amount) AS amount, max(a.label) AS label,
         sum(levenshtein(repeat(a.city, 6), repeat(b.part, 6))) AS d
  FROM t a JOIN t b ON a.id % 50 = b.id % 50 GROUP BY a.id
columns: {target: label, key: id}
features:
  - impute: {columns: [amount, d], strategy: mean}
  - standardize: \"*\"
train: {algorithm: logistic_regression, l2: 0.01}
"
    .to_owned()
}
