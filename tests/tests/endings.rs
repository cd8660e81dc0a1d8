//! Endings: a deadline, an interrupt, the death of all workers. Each ends soon with its exit code; nothing
//! is published and no process is left.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::process::{Child, Command, Stdio};
use std::time::Instant;

use sheaf_tests::process::{alive, collect, wait_for};
use sheaf_tests::{Outcome, Sheaf, write_parts};

/// Paranoid workers read dropped shards again in every step, so that this takes many seconds.
const SLOW: &str = "version: 1
name: slow
shard_rows: 64
tables: {rows: data/}
prepare: SELECT id, amount, age, city, flag, label FROM rows
columns: {target: label, key: id}
split: {by: random, test: 0.2}
features:
  - sql: {log_amount: ln(1 + amount), square: amount * amount / 1000, inverse: 10 / (1 + amount)}
  - impute: {columns: age, strategy: mean}
  - one_hot: city
train: {algorithm: logistic_regression, solver: lbfgs, l2: 0.0000001, tolerance: 0.000000000000001, max_iterations: 100000}
publish: {model: slow}
";

fn sheaf() -> Sheaf {
    let sheaf = Sheaf::new(env!("CARGO_BIN_EXE_sheaf-under-test"));
    write_parts(&sheaf.folder().join("data"), 5, 40_000);
    sheaf.write("job.yaml", SLOW);
    sheaf
}

fn start(sheaf: &Sheaf, more: &[&str]) -> (Child, Instant) {
    let mut arguments = vec!["run", "job.yaml", "--paranoid", "--pid-file", "pids"];
    arguments.extend(more);
    let mut command = sheaf.command(&arguments);
    command.stdout(Stdio::piped()).stderr(std::fs::File::create(sheaf.folder().join("log.txt")).unwrap());
    (command.spawn().unwrap(), Instant::now())
}

fn said(sheaf: &Sheaf) -> String {
    std::fs::read_to_string(sheaf.folder().join("log.txt")).unwrap()
}

fn workers(sheaf: &Sheaf) -> Vec<u32> {
    let pids = wait_for("the worker processes", || std::fs::read_to_string(sheaf.folder().join("pids")).ok());
    pids.lines().map(|pid| pid.parse().unwrap()).collect()
}

#[track_caller]
fn ended(sheaf: &Sheaf, outcome: &Outcome, code: i32, part: &str) {
    let said = said(sheaf);
    assert_eq!(outcome.code, code, "{said}");
    assert!(said.contains(part), "`{part}` is not said:\n{said}");
    assert!(!sheaf.folder().join(".sheaf/models").exists(), "something was published");
    for pid in workers(sheaf) {
        assert!(!alive(pid), "worker {pid} is left");
    }
}

#[test]
fn a_deadline() {
    let sheaf = sheaf();
    let (child, began) = start(&sheaf, &["--deadline", "2"]);
    let outcome = collect(child, began);
    ended(&sheaf, &outcome, 1, "deadline");
}

#[test]
fn an_interrupt() {
    let sheaf = sheaf();
    let (child, began) = start(&sheaf, &[]);
    wait_for("the first phase", || said(&sheaf).contains("prepare: done").then_some(()));
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let outcome = collect(child, began);
    ended(&sheaf, &outcome, 130, "interrupted");
}

#[test]
fn the_death_of_all_workers() {
    let sheaf = sheaf();
    let (child, began) = start(&sheaf, &[]);
    wait_for("the first phase", || said(&sheaf).contains("prepare: done").then_some(()));
    for pid in workers(&sheaf) {
        Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
    }
    let outcome = collect(child, began);
    ended(&sheaf, &outcome, 1, "all worker processes have ended");
}
