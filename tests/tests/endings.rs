//! Endings: a deadline, an interrupt, workers that cannot live, a killed parent. Each ends soon with its exit
//! code; nothing is published, no process is left, and no folder for long. And what is no ending: the death of all workers.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use sheaf_tests::process::{alive, collect, wait_for};
use sheaf_tests::{CURVES, FEATURES, Outcome, Sheaf, job_text, write_parts};

/// Paranoid workers read dropped shards again in every step, so that this takes many seconds.
fn slow(iterations: u32) -> String {
    let parameters = format!("solver: lbfgs, l2: 0.0000001, tolerance: 0.000000000000001, max_iterations: {iterations}");
    job_text("slow", &format!("{CURVES}{FEATURES}"), &parameters)
}

fn sheaf() -> Sheaf {
    let sheaf = Sheaf::new(env!("CARGO_BIN_EXE_sheaf-under-test"));
    write_parts(&sheaf.folder().join("data"), 5, 40_000);
    sheaf.write("job.yaml", &slow(100_000));
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
fn all_workers_are_killed_twice_and_the_model_is_the_same() {
    let sheaf = sheaf();
    sheaf.write("short.yaml", &slow(40));
    let expected = sheaf.run(&["run", "short.yaml", "--store", "other", "-o", "json", "--quiet"]).succeeded().sha256();
    let mut command = sheaf.command(&["run", "short.yaml", "--paranoid", "--pid-file", "pids", "-o", "json"]);
    command.stdout(Stdio::piped()).stderr(std::fs::File::create(sheaf.folder().join("log.txt")).unwrap());
    let (child, began) = (command.spawn().unwrap(), Instant::now());
    wait_for("the first phase", || said(&sheaf).contains("prepare: done").then_some(()));
    for _ in 0..2 {
        let killed = workers(&sheaf);
        for pid in &killed {
            Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
        }
        wait_for("other workers", || {
            let now = workers(&sheaf);
            now.iter().all(|pid| !killed.contains(pid) && alive(*pid)).then_some(())
        });
    }
    let outcome = collect(child, began);
    assert_eq!(outcome.code, 0, "{}", said(&sheaf));
    assert_eq!(outcome.sha256(), expected);
    for pid in workers(&sheaf) {
        assert!(!alive(pid), "worker {pid} is left");
    }
}

#[test]
fn workers_that_never_get_anything_done_end_the_run() {
    let sheaf = sheaf();
    let (child, began) = start(&sheaf, &["--kernel-levels", "abacus"]);
    let outcome = collect(child, began);
    ended(&sheaf, &outcome, 1, "worker processes keep ending");
}

#[test]
fn workers_end_with_the_run_that_started_them() {
    let sheaf = sheaf();
    let (child, began) = start(&sheaf, &[]);
    wait_for("the first phase", || said(&sheaf).contains("prepare: done").then_some(()));
    let left = workers(&sheaf);
    // One that is stopped cannot look around for itself.
    Command::new("kill").args(["-STOP", &left[0].to_string()]).status().unwrap();
    Command::new("kill").args(["-9", &child.id().to_string()]).status().unwrap();
    collect(child, began);
    wait_for("the workers to end", || left.iter().all(|pid| !alive(*pid)).then_some(()));
}

/// A worker that finds no coordinator, once it has made its folders below `temporary`.
fn waiting_worker(sheaf: &Sheaf, temporary: &Path) -> Child {
    let mut command = sheaf.command(&["worker", "--join", "127.0.0.1:1"]);
    command.env("SHEAF_SECRET", "00".repeat(32)).env("SHEAF_CONFIG_DIR", sheaf.folder()).env("TMPDIR", temporary);
    command.stdout(Stdio::null()).stderr(std::fs::File::create(sheaf.folder().join("log.txt")).unwrap());
    let child = command.spawn().unwrap();
    wait_for("the worker to try", || said(sheaf).contains("not in the cluster").then_some(()));
    child
}

/// The folders of processes below `temporary`; where workers find each other is nobody's own.
fn scratch(temporary: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(temporary).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<_> = entries.filter(|path| !path.to_string_lossy().contains("sheaf-exchange-")).collect();
    folders.sort();
    folders
}

#[test]
fn what_a_killed_worker_leaves_goes_with_the_next_one() {
    let sheaf = Sheaf::new(env!("CARGO_BIN_EXE_sheaf-under-test"));
    let temporary = sheaf.folder().join("temporary");
    std::fs::create_dir(&temporary).unwrap();
    let mut killed = waiting_worker(&sheaf, &temporary);
    killed.kill().unwrap();
    killed.wait().unwrap();
    let left = scratch(&temporary);
    assert_eq!(left.len(), 2, "shards and sockets: {left:?}");
    let next = waiting_worker(&sheaf, &temporary);
    let now = scratch(&temporary);
    Command::new("kill").args(["-TERM", &next.id().to_string()]).status().unwrap();
    assert_eq!(collect(next, Instant::now()).code, 0, "{}", said(&sheaf));
    assert_eq!(now.len(), 2, "{now:?}");
    assert!(left.iter().all(|folder| !now.contains(folder)), "{left:?} and then {now:?}");
    assert_eq!(scratch(&temporary), Vec::<PathBuf>::new());
}
