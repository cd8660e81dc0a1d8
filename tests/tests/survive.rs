//! What survives: a job whose coordinator dies behind every journal entry, around its checkpoints and
//! while it is asked to stop; what workers keep meanwhile; and what ends when nothing can go on.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use sheaf_tests::cluster::PATIENCE;
use sheaf_tests::process::wait_for;
use sheaf_tests::{Cluster, Setup, Sheaf, write_parts};

/// What processes say while their coordinator is away.
const AWAY: &[&str] = &[
    "not in the cluster",
    "crashing",
    "lost",
    "disconnected",
    "cannot be used, training starts over",
    "vote changed",
    "shard failed",
];

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_sheaf-under-test"))
}

fn job(city: &str, iterations: u32) -> String {
    format!(
        "version: 1
name: survivor
seed: 3
shard_rows: 64
tables: {{rows: data/}}
prepare: SELECT id, amount, age, city, flag, label FROM rows WHERE amount < 300
columns: {{target: label, key: id}}
checks:
  - {{not_null: [amount, label]}}
split: {{by: random, test: 0.2}}
features:
  - sql: {{log_amount: ln(1 + amount), square: amount * amount / 1000, inverse: 10 / (1 + amount)}}
  - impute: {{columns: age, strategy: median, indicator: true}}
  - standardize: [amount, log_amount, square, inverse, age]
  - {city}
train: {{algorithm: logistic_regression, solver: lbfgs, l2: 0.0000001, max_iterations: {iterations}, tolerance: 0}}
publish: {{model: survivor, alias: best}}
"
    )
}

/// A small checkpoint, which stands in the log itself.
const NARROW: &str = "one_hot: city";
/// A wide one, which is an object in the store.
const WIDE: &str = "hash: {columns: city, size: 4096, as: place}";

fn cluster(workers: usize, job_text: &str) -> Cluster {
    let mut cluster = Cluster::start(program(), Setup::workers(workers).coordinator(&["--checkpoint-every", "1ms"]));
    cluster.announce(AWAY);
    write_parts(&cluster.folder().join("data"), 11, 3000);
    cluster.write("job.yaml", job_text);
    cluster
}

/// The same job on the same cluster, and nothing happens.
fn undisturbed(cluster: &mut Cluster) -> Value {
    let job = cluster.submit("job.yaml", &[]);
    let shown = cluster.wait_end(&job);
    cluster.model_of(&shown);
    shown
}

/// Everything that a result says, but for times, who did it, and which job it was.
fn essence(cluster: &Cluster, shown: &Value) -> Value {
    cluster.model_of(shown);
    let mut result = shown["result"].clone();
    let fields = result.as_object_mut().unwrap();
    for passing in ["job", "params", "phases", "work"] {
        fields.remove(passing).unwrap_or_else(|| panic!("no `{passing}` in a result"));
    }
    result["model"]["version"].take();
    result
}

fn files(folder: PathBuf) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn versions(cluster: &Cluster) -> usize {
    let numbered = |file: &PathBuf| file.file_stem().unwrap().to_string_lossy().parse::<u32>().is_ok();
    files(cluster.folder().join("store/models/survivor")).iter().filter(|file| numbered(file)).count()
}

fn phase<'v>(shown: &'v Value, name: &str) -> &'v Value {
    shown["result"]["work"].as_array().unwrap().iter().find(|work| work["phase"] == name).unwrap()
}

/// A process that is ended whatever happens.
struct Killed(Child);

impl Killed {
    fn end(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        self.end();
    }
}

#[test]
fn a_coordinator_that_dies_behind_every_journal_entry() {
    let mut cluster = cluster(2, &job(NARROW, 150));
    let expected = undisturbed(&mut cluster);
    assert_eq!(versions(&cluster), 1);
    let pids = [cluster.worker(1).pid(), cluster.worker(2).pid()];

    // Once more in good order, with a state folder that nobody else gets meanwhile.
    let state = cluster.folder().join("state").to_string_lossy().into_owned();
    let second = cluster.run(&["coordinator", "--listen", "127.0.0.1:0", "--state", &state, "--store", "store"]);
    assert_ne!(second.code, 0);
    assert!(second.stderr.contains("in use by another process"), "{second:?}");
    cluster.coordinator().signal(Signal::TERM);
    assert_eq!(cluster.coordinator().wait(PATIENCE).code(), Some(0));

    cluster.start_coordinator_with(&[("SHEAF_CRASH_AT", "after-submit-logged")]);
    let submit = ["submit", "job.yaml", "--key", "once", "-o", "json"];
    let mut client = Killed(cluster.command(&submit).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    cluster.coordinator().wait(PATIENCE);
    client.end();
    for point in [&["after-journal"; 7][..], &["after-publish", "after-journal", "before-end"]].concat() {
        cluster.start_coordinator_with(&[("SHEAF_CRASH_AT", point)]);
        cluster.until(&format!("a crash at {point}"), |cluster| cluster.coordinator().exited());
    }
    cluster.start_coordinator();
    // The key is in the log since before the first crash.
    let again = cluster.run(&submit).succeeded().json();
    assert_eq!(again["fresh"], false, "{again}");
    let job = cluster.follow(again["job"].as_str().unwrap());
    let shown = cluster.wait_end(&job);
    assert_eq!(essence(&cluster, &shown), essence(&cluster, &expected));
    assert_eq!(shown["restarts"], 10, "{shown:#}");
    assert_eq!(versions(&cluster), 2, "the job published once, as the one before it did");
    assert_eq!([cluster.worker(1).pid(), cluster.worker(2).pid()], pids, "the workers lived through it");
    cluster.finish();
}

/// Name and bytes of every file of results below `more/`.
fn written(cluster: &Cluster) -> Vec<(PathBuf, Vec<u8>)> {
    let folders = ["prepared", "features", "scored"].map(|name| cluster.folder().join("more").join(name));
    let parts = folders.into_iter().flat_map(files).filter(|file| file.extension().is_some_and(|e| e == "parquet"));
    let mut parts: Vec<_> = parts.map(|file| (file.clone(), std::fs::read(file).unwrap())).collect();
    parts.sort();
    parts
}

#[test]
fn a_coordinator_that_dies_around_what_the_job_writes() {
    let sections = "predict: {where: amount < 100, keep: city, to: more/scored/}
write: {prepared: more/prepared/, features: more/features/}\n";
    let mut cluster = cluster(2, &(job(NARROW, 20) + sections));
    let expected = undisturbed(&mut cluster);
    let first = written(&cluster);
    assert_eq!(expected["result"]["outputs"].as_array().unwrap().len(), 3, "{expected:#}");
    assert!(first.len() > 20, "{} files", first.len());

    cluster.kill_coordinator();
    cluster.start_coordinator_with(&[("SHEAF_CRASH_AT", "after-output")]);
    let job = cluster.submit("job.yaml", &[]);
    cluster.until("a crash at after-output", |cluster| cluster.coordinator().exited());
    for point in ["after-journal", "after-output", "after-journal", "within score", "after-output", "before-end"] {
        cluster.start_coordinator_with(&[("SHEAF_CRASH_AT", point)]);
        cluster.until(&format!("a crash at {point}"), |cluster| cluster.coordinator().exited());
    }
    cluster.start_coordinator();
    let shown = cluster.wait_end(&job);
    assert_eq!(essence(&cluster, &shown), essence(&cluster, &expected));
    assert!(written(&cluster) == first, "other bytes");
    let left = files(cluster.folder().join("more")).into_iter().filter(|f| f.file_name().unwrap().as_encoded_bytes()[0] == b'.');
    assert_eq!(left.count(), 0, "temporary folders are left");
    cluster.finish();
}

#[test]
fn training_goes_on_from_a_checkpoint_with_what_workers_have_cached() {
    let mut cluster = cluster(1, &job(NARROW, 150));
    cluster.kill_coordinator();
    cluster.start_coordinator_with(&[("SHEAF_CRASH_AT", "after-pointer#2")]);
    let job = cluster.submit("job.yaml", &[]);
    cluster.coordinator().wait(PATIENCE);
    cluster.start_coordinator();
    let shown = cluster.wait_end(&job);
    let from = job.lines().into_iter().find(|line| line.text.starts_with("goes on from the checkpoint")).unwrap();
    assert!(from.step >= Some(2), "{from:?}");
    assert_eq!(phase(&shown, "train")["bytes_read"], 0, "the worker had everything: {shown:#}");
    let expected = undisturbed(&mut cluster);
    assert_eq!(essence(&cluster, &shown), essence(&cluster, &expected));
    assert!(shown["result"]["training"]["loss"].as_array().unwrap().len() > 20);
    cluster.finish();
}

#[test]
fn a_damaged_checkpoint_is_noticed_and_none_is_left_behind() {
    let mut cluster = cluster(2, &job(WIDE, 60));
    let expected = undisturbed(&mut cluster);
    cluster.kill_coordinator();
    for (point, damaged) in [("after-pointer#2", true), ("after-checkpoint-object#2", false)] {
        cluster.start_coordinator_with(&[("SHEAF_CRASH_AT", point)]);
        let job = cluster.submit("job.yaml", &[]);
        cluster.coordinator().wait(PATIENCE);
        let folder = cluster.folder().join(format!("store/jobs/{}/checkpoints", job.id));
        // What the log names, and what came before it or was to come after it.
        let objects = files(folder.clone());
        assert_eq!(objects.len(), 2, "{objects:?}");
        for object in objects.iter().filter(|_| damaged) {
            let mut bytes = std::fs::read(object).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(object, bytes).unwrap();
        }
        cluster.start_coordinator();
        let shown = cluster.wait_end(&job);
        let said = |text: &str| job.lines().iter().any(|line| line.text.contains(text));
        assert_eq!(said("training starts over"), damaged, "{:#?}", job.lines());
        assert_eq!(said("goes on from the checkpoint"), !damaged, "{:#?}", job.lines());
        assert_eq!(files(folder), Vec::<PathBuf>::new());
        assert_eq!(essence(&cluster, &shown), essence(&cluster, &expected));
        cluster.kill_coordinator();
    }
    cluster.finish();
}

#[test]
fn a_worker_that_cannot_join_says_so_with_its_exit_code() {
    let sheaf = Sheaf::new(env!("CARGO_BIN_EXE_sheaf-under-test"));
    let worker = |more: &[&str]| {
        let mut command = sheaf.command(&["worker", "--join", "127.0.0.1:1"]);
        command.args(more).env("SHEAF_SECRET", "00".repeat(32)).env("SHEAF_CONFIG_DIR", sheaf.folder());
        sheaf_tests::process::finish(command)
    };
    let outcome = worker(&["--give-up-after", "1s"]);
    assert_eq!(outcome.code, 5, "{outcome:?}");
    assert!(outcome.stderr.contains("gave up after 1 s without a coordinator"), "{outcome:?}");
    let outcome = worker(&["--parent", "1"]);
    assert_eq!(outcome.code, 1, "{outcome:?}");
    assert!(outcome.stderr.contains("process 1, with which this worker was to end, is gone"), "{outcome:?}");
}

#[test]
fn a_worker_that_waits_for_its_coordinator_leaves_when_asked() {
    let sheaf = Sheaf::new(env!("CARGO_BIN_EXE_sheaf-under-test"));
    let mut command = sheaf.command(&["worker", "--join", "127.0.0.1:1"]);
    let log = sheaf.folder().join("log");
    command.env("SHEAF_SECRET", "00".repeat(32)).env("SHEAF_CONFIG_DIR", sheaf.folder()).env("SHEAF_LOG", "info");
    command.stdout(Stdio::piped()).stderr(std::fs::File::create(&log).unwrap());
    let (child, began) = (command.spawn().unwrap(), std::time::Instant::now());
    wait_for("the worker to try", || std::fs::read_to_string(&log).unwrap().contains("not in the cluster").then_some(()));
    Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    let outcome = sheaf_tests::process::collect(child, began);
    assert_eq!(outcome.code, 0, "{}", std::fs::read_to_string(&log).unwrap());
    assert!(outcome.took < Duration::from_secs(30));
}
