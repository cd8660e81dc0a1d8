//! A cluster by hand: `sheaf coordinator`, `sheaf worker --join`, `sheaf submit` and what people do to jobs,
//! with the exit codes that scripts rely on.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use sheaf_client::connect::Place;
use sheaf_proto::v1;
use sheaf_runtime::connect::{Target, Trust};
use sheaf_runtime::secret::Secret;
use sheaf_tests::process::{Outcome, collect, finish, wait_for};
use sheaf_tests::{Cluster, Setup, Sheaf, write_parts};

const PROGRAM: &str = env!("CARGO_BIN_EXE_sheaf-under-test");

/// A job over seven files that ends after some steps.
fn job(name: &str, iterations: u32) -> String {
    format!(
        "version: 1
name: {name}
seed: 3
shard_rows: 64
params: {{rate: 1}}
tables: {{rows: data/}}
prepare: SELECT id, amount, age, city, flag, label FROM rows WHERE amount < 300
columns: {{target: label, key: id}}
split: {{by: random, test: 0.2}}
features:
  - sql: {{log_amount: ln(1 + amount), square: amount * amount / 1000, inverse: 10 / (1 + amount)}}
  - impute: {{columns: age, strategy: mean}}
  - one_hot: city
train: {{algorithm: logistic_regression, solver: lbfgs, l2: 0.0000001, tolerance: 0.000000000000001, max_iterations: {iterations}}}
publish: {{model: {name}}}
"
    )
}

fn cluster(setup: Setup, rows: usize) -> Cluster {
    let cluster = Cluster::start(Path::new(PROGRAM), setup);
    write_parts(&cluster.folder().join("data"), 5, rows);
    cluster.write("job.yaml", &job("by-hand", 30));
    // With paranoid workers this takes longer than any test.
    cluster.write("endless.yaml", &job("endless", 1_000_000));
    cluster
}

#[track_caller]
fn exits(outcome: &Outcome, code: i32, part: &str) {
    assert_eq!(outcome.code, code, "{outcome:?}");
    assert!(outcome.stderr.contains(part), "`{part}` is not said:\n{outcome:?}");
}

/// Starts a command whose output is read while it runs.
fn start(cluster: &Cluster, arguments: &[&str], said: &Path) -> (Child, Instant) {
    let mut command = cluster.command(arguments);
    command.stdout(Stdio::piped()).stderr(std::fs::File::create(said).unwrap());
    (command.spawn().unwrap(), Instant::now())
}

fn signal(child: &Child, name: &str) {
    Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
}

fn text(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_default()
}

/// Submits and gives the id.
fn submitted(cluster: &Cluster, arguments: &[&str]) -> String {
    let outcome = cluster.run(&[&["submit"], arguments].concat()).succeeded();
    let id = outcome.stdout.trim().to_owned();
    assert_eq!(id.len(), 26, "{outcome:?}");
    id
}

#[test]
fn a_job_by_hand_is_the_job_of_run() {
    let cluster = cluster(Setup::workers(2), 3000);
    let here = cluster.run(&["run", "job.yaml", "--store", "own", "-o", "json", "--quiet"]).succeeded().sha256();
    let watched = cluster.run(&["submit", "job.yaml", "--watch", "-o", "json"]).succeeded();
    assert_eq!(watched.sha256(), here);
    assert!(watched.stderr.contains("estimate: 3,000 rows before filters"), "{}", watched.stderr);
    assert!(watched.stderr.contains("train (logistic_regression): done in"), "{}", watched.stderr);

    // Waiting says the same without progress.
    let waited = cluster.run(&["submit", "job.yaml", "--wait", "-o", "json", "--name", "other"]).succeeded();
    assert_eq!(waited.sha256(), here);
    assert!(!waited.stderr.contains("train"), "{}", waited.stderr);
    listings(&cluster);
    ids(&cluster);
    // What may be read is the cluster's to say, not this command's.
    cluster.write("outside.yaml", &job("outside", 1).replace("data/", "/etc/"));
    let outside = cluster.run(&["submit", "outside.yaml"]);
    exits(&outside, 2, "the coordinator and its workers have to be started with `--allow`");
    assert!(!outside.stderr.contains("--allow-root"), "{outside:?}");
    drained(cluster);
}

/// Every listing is a table for people and JSON for programs.
fn listings(cluster: &Cluster) {
    let jobs = cluster.run(&["jobs", "list", "-o", "json"]).succeeded().json();
    let names: Vec<&str> = jobs.as_array().unwrap().iter().map(|job| job["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["other", "by-hand"], "newest first");
    let id = jobs[1]["job"].as_str().unwrap();
    assert_eq!(jobs[1]["state"], "succeeded");
    assert!(jobs[1]["ended_ms"].as_u64() >= jobs[1]["started_ms"].as_u64(), "{jobs:#}");
    let phases: Vec<&str> = jobs[1]["phases"].as_array().unwrap().iter().map(|p| p["phase"].as_str().unwrap()).collect();
    assert_eq!(phases, ["plan", "prepare", "profile", "fit features", "train", "evaluate", "publish"]);
    for (state, count) in [("succeeded", 2), ("running", 0)] {
        let listed = cluster.run(&["jobs", "list", "--state", state, "-o", "json"]).succeeded().json();
        assert_eq!(listed.as_array().unwrap().len(), count, "{state}");
    }
    let one = cluster.run(&["jobs", "list", "--limit", "1"]).succeeded().stdout;
    assert!(one.contains("other") && one.contains("1 older job"), "{one}");

    let shown = cluster.run(&["jobs", "show", id, "-o", "json"]).succeeded().json();
    assert!(shown["result"]["model"]["sha256"].is_string() && shown["work"].is_array(), "{shown:#}");
    let card = cluster.run(&["jobs", "show", id]).succeeded().stdout;
    assert!(card.contains(id) && card.contains("where the time went"), "{card}");

    let lines = cluster.run(&["jobs", "logs", id, "-o", "json"]).succeeded().stdout;
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().filter(|line| line["step"].is_u64()).count() > 20, "{lines:?}");
    assert_eq!(lines.last().unwrap()["text"], "job succeeded");
    let tail = cluster.run(&["jobs", "logs", id, "--tail", "1"]).succeeded().stdout;
    assert!(tail.ends_with("info  job succeeded\n") && tail.lines().count() == 1, "{tail}");
    let quiet = cluster.run(&["jobs", "logs", id, "--level", "error"]).succeeded().stdout;
    assert_eq!(quiet.trim(), "");

    let status = cluster.run(&["cluster", "status", "-o", "json"]).succeeded().json();
    assert_eq!(status["workers"].as_array().unwrap().len(), 2);
    assert!(status["workers"][0]["address"].as_str().unwrap().starts_with("127.0.0.1:"), "{status:#}");
    assert!(cluster.run(&["cluster", "status"]).succeeded().stdout.contains("2 with 2 threads"));
    let contexts = cluster.run(&["context", "list", "-o", "json"]).succeeded().json();
    assert_eq!((&contexts[0]["name"], &contexts[0]["current"]), (&Value::from("local"), &Value::from(true)));
    assert!(!contexts.to_string().contains("secret\":\"") && contexts[0]["proof"] == "secret");
}

/// Ids may be shortened; what is unclear or unknown is said, with its exit code.
fn ids(cluster: &Cluster) {
    let jobs = cluster.run(&["jobs", "list", "-o", "json"]).succeeded().json();
    let (one, other) = (jobs[0]["job"].as_str().unwrap(), jobs[1]["job"].as_str().unwrap());
    let common = one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    let short = &one[..=common];
    assert_eq!(cluster.run(&["jobs", "show", &short.to_lowercase(), "-o", "json"]).succeeded().json()["job"], one);
    exits(&cluster.run(&["jobs", "show", &one[..common]]), 3, other);
    for command in ["show", "watch", "logs", "cancel", "retry"] {
        exits(&cluster.run(&["jobs", command, "ZZZ"]), 3, "job ZZZ not found");
    }
    exits(&cluster.run(&["cluster", "drain", "99"]), 3, "worker 99 not found");
    exits(&cluster.run(&["jobs", "retry", one]), 2, "only a failed or cancelled job");
    exits(&cluster.run(&["submit", "nothing.yaml"]), 3, "nothing.yaml");
    exits(&cluster.run(&["submit", "job.yaml", "--namespace", "Team A"]), 2, "is no namespace");
    exits(&cluster.run(&["submit", "job.yaml", "--timeout", "1s"]), 2, "--wait or --watch");
    cluster.write("wrong.yaml", &job("wrong", 3).replace("target: label", "target: lable"));
    exits(&cluster.run(&["submit", "wrong.yaml"]), 2, "lable");
    assert_eq!(cluster.run(&["jobs", "cancel", one, "-o", "json"]).succeeded().json()["was"], "succeeded");
}

/// A drained worker ends with 0, and the others go on.
fn drained(mut cluster: Cluster) {
    let gone = cluster.run(&["cluster", "drain", "1", "--wait", "--timeout", "1m", "-o", "json"]).succeeded();
    assert_eq!(gone.json()["state"], "gone");
    let ended = |cluster: &mut Cluster| {
        let (one, two) = (cluster.worker(1).exited(), cluster.worker(2).exited());
        one.or(two).map(|status| status.code())
    };
    let code = cluster.until("the drained worker's end", ended);
    assert_eq!(code, Some(0));
    let status = cluster.run(&["cluster", "status", "-o", "json"]).succeeded().json();
    assert_eq!(status["workers"].as_array().unwrap().len(), 1);
    cluster.run(&["submit", "job.yaml", "--wait"]).succeeded();
    cluster.finish();
}

#[test]
fn jobs_are_left_taken_up_cancelled_and_tried_again() {
    let flags = ["--namespace-limit", "team=1", "--namespace-weight", "team=2"];
    let mut cluster = cluster(Setup::workers(2).slow().coordinator(&flags), 3000);
    limited(&mut cluster);
    let said = cluster.folder().join("said.txt");
    let (child, began) = start(&cluster, &["submit", "endless.yaml", "--watch", "--key", "night"], &said);
    wait_for("the first phase", || text(&said).contains("prepare: done").then_some(()));
    signal(&child, "-INT");
    assert_eq!(collect(child, began).code, 130, "{}", text(&said));
    let said = text(&said);
    let id = said.lines().next().unwrap().strip_prefix("job ").unwrap().to_owned();
    assert!(said.contains(&format!("`sheaf jobs watch {id}` attaches again")), "{said}");

    // The same key is the same job; another order under it is refused.
    assert_eq!(submitted(&cluster, &["endless.yaml", "--key", "night"]), id);
    exits(&cluster.run(&["submit", "job.yaml", "--key", "night"]), 2, "belongs to job");
    exits(&cluster.run(&["jobs", "watch", &id, "--timeout", "200ms"]), 7, "the job goes on");
    exits(&cluster.run(&["submit", "endless.yaml", "--key", "night", "--wait", "--timeout", "200ms"]), 7, "the job goes on");
    let shown = cluster.run(&["jobs", "show", &id, "-o", "json"]).succeeded().json();
    assert_eq!(shown["state"], "running", "{shown:#}");
    cluster.run(&["jobs", "show", &id]).succeeded();

    // Who watches sees the end that another gives it.
    let file = cluster.folder().join("watched.txt");
    let (watching, began) = start(&cluster, &["jobs", "watch", &id], &file);
    wait_for("the watcher's first line", || text(&file).contains("prepare: done").then_some(()));
    let cancelled = cluster.run(&["jobs", "cancel", &id[..25], "--wait", "-o", "json"]).succeeded().json();
    assert_eq!((&cancelled["job"], &cancelled["state"]), (&Value::from(id.as_str()), &Value::from("cancelled")));
    assert_eq!(collect(watching, began).code, 6, "{}", text(&file));
    exits(&cluster.run(&["jobs", "watch", &id]), 6, "");

    let retried = cluster.run(&["jobs", "retry", &id, "-o", "json"]).succeeded().json();
    let again = retried["job"].as_str().unwrap();
    assert_eq!((retried["retry_of"].as_str(), &retried["fresh"]), (Some(id.as_str()), &Value::from(true)));
    let shown = cluster.run(&["jobs", "show", again, "-o", "json"]).succeeded().json();
    assert_eq!((shown["retry_of"].as_str(), shown["name"].as_str()), (Some(id.as_str()), Some("endless")));
    cluster.run(&["jobs", "cancel", again, "--wait"]).succeeded();

    let late = submitted(&cluster, &["endless.yaml", "--deadline", "1s", "-q"]);
    exits(&cluster.run(&["jobs", "watch", &late]), 1, "deadline");
    let card = cluster.run(&["jobs", "show", &late]).succeeded().stdout;
    assert!(card.starts_with("FAIL deadline"), "{card}");
    cluster.finish();
}

/// A namespace that may run one job lets its second one wait, and says so.
fn limited(cluster: &mut Cluster) {
    let submit = |cluster: &Cluster| submitted(cluster, &["endless.yaml", "--namespace", "team", "--param", "rate=2", "-q"]);
    let (first, second) = (submit(cluster), submit(cluster));
    let waits = cluster.until("the second job to wait", |cluster| {
        let job = cluster.run(&["jobs", "show", &second, "-o", "json"]).succeeded().json();
        job["waiting"].as_str().map(str::to_owned)
    });
    assert!(waits.contains("namespace team"), "{waits}");
    let listed = cluster.run(&["jobs", "list", "--namespace", "team"]).succeeded().stdout;
    assert!(listed.contains("waits for namespace team"), "{listed}");
    let others = cluster.run(&["jobs", "list", "--namespace", "nobody", "-o", "json"]).succeeded().json();
    assert_eq!(others.as_array().unwrap().len(), 0);
    for job in [second, first] {
        cluster.run(&["jobs", "cancel", &job, "--wait"]).succeeded();
    }
}

#[test]
fn a_watcher_survives_the_coordinators_restart() {
    let mut cluster = cluster(Setup::workers(2).slow(), 3000);
    let plain = cluster.run(&["run", "job.yaml", "--store", "own", "-o", "json", "--quiet"]).succeeded().sha256();
    let said = cluster.folder().join("said.txt");
    let (child, began) = start(&cluster, &["submit", "job.yaml", "--watch", "-o", "json"], &said);
    wait_for("a phase before the last", || text(&said).contains("fit features (3 steps): done").then_some(()));
    cluster.announce(&["not in the cluster", "control stream", "lost", "resumed", "transport error"]);
    cluster.kill_coordinator();
    wait_for("the watcher to notice", || text(&said).contains("reconnecting").then_some(()));
    cluster.start_coordinator();
    let outcome = collect(child, began);
    assert_eq!(outcome.code, 0, "{}", text(&said));
    assert_eq!(outcome.sha256(), plain);
    let said = text(&said);
    assert!(said.contains("connected again"), "{said}");
    for phase in ["plan", "prepare", "profile", "fit features (3 steps)", "train (logistic_regression)"] {
        assert_eq!(said.matches(&format!("{phase}: done")).count(), 1, "{phase} is shown once:\n{said}");
    }

    // What happened is still known after one more restart.
    let id = said.lines().next().unwrap().strip_prefix("job ").unwrap().to_owned();
    cluster.kill_coordinator();
    cluster.start_coordinator();
    let lines = cluster.run(&["jobs", "logs", &id]).succeeded().stdout;
    assert!(lines.contains("prepare: phase done") && lines.ends_with("job succeeded\n"), "{lines}");
    assert_eq!(cluster.run(&["jobs", "watch", &id, "-o", "json"]).succeeded().sha256(), plain);
    cluster.finish();
}

#[test]
fn a_thousand_submits_with_one_key_are_one_job() {
    let cluster = cluster(Setup::workers(1), 600);
    let first = submitted(&cluster, &["job.yaml", "--key", "same", "--deadline", "1h"]);
    let order = cluster.order("job.yaml");
    let contexts = text(&cluster.folder().join("config/contexts.json"));
    let contexts: Value = serde_json::from_str(&contexts).unwrap();
    let secret = contexts["contexts"]["local"]["secret"].as_str().unwrap();
    let target = Target { address: cluster.address().to_string(), trust: Trust::Secret(Secret::given(secret)) };
    let place = Place { target, namespace: "default".into(), allow: Vec::new() };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let answers: Vec<(String, bool)> = runtime.block_on(async {
        let client = sheaf_client::connect::connect(&place).await.unwrap();
        let submit = |key: &str| {
            let (mut client, order, key) = (client.clone(), order.clone(), key.to_owned());
            tokio::spawn(async move {
                let request = v1::SubmitJobRequest { idempotency_key: key, order, ..Default::default() };
                let answer = client.submit_job(request).await.unwrap().into_inner();
                (answer.job, answer.fresh)
            })
        };
        let mut answers = Vec::new();
        for task in (0..1000).map(|_| submit("fresh")).collect::<Vec<_>>() {
            answers.push(task.await.unwrap());
        }
        answers
    });
    assert_eq!(answers.iter().filter(|(_, fresh)| *fresh).count(), 1);
    assert!(answers.iter().all(|(job, _)| *job == answers[0].0 && *job != first));
    let jobs = cluster.run(&["jobs", "list", "-o", "json"]).succeeded().json();
    assert_eq!(jobs.as_array().unwrap().len(), 2, "{jobs:#}");
    cluster.finish();
}

#[test]
fn a_cluster_that_cannot_be_reached_or_does_not_know_us() {
    let mut cluster = cluster(Setup::workers(1), 600);
    cluster.announce(&["call refused"]);
    let config = cluster.folder().join("config");
    let mut wrong = cluster.command(&["jobs", "list"]);
    wrong.env("SHEAF_SECRET", "somebody-else");
    exits(&finish(wrong), 4, "secret");
    let mut stranger = cluster.command(&["jobs", "list", "--addr", &cluster.address().to_string()]);
    stranger.env("SHEAF_CONFIG_DIR", cluster.folder().join("nobody")).env_remove("SHEAF_SECRET");
    exits(&finish(stranger), 4, "nothing proves you");
    let mut lost = cluster.command(&["jobs", "list"]);
    lost.env("SHEAF_CONFIG_DIR", cluster.folder().join("nobody")).env_remove("SHEAF_SECRET");
    exits(&finish(lost), 2, "no cluster is known");
    exits(&cluster.run(&["jobs", "list", "--context", "prod"]), 3, "context `prod` not found");

    // A port where nobody listens: known at once.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for arguments in [&["jobs", "list"][..], &["submit", "job.yaml"], &["cluster", "status"]] {
        let mut command = cluster.command(arguments);
        command.env("SHEAF_ADDR", free.to_string()).env("SHEAF_SECRET", "any");
        let outcome = finish(command);
        exits(&outcome, 5, "cannot be reached");
        assert!(outcome.took < Duration::from_secs(10), "{outcome:?}");
    }

    let file = config.join("contexts.json");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    exits(&cluster.run(&["jobs", "list"]), 4, "chmod 600");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    cluster.run(&["jobs", "list"]).succeeded();
    cluster.finish();
}

/// A coordinator that is killed when the test is over, whatever its end.
struct Alone(Child);

impl Drop for Alone {
    fn drop(&mut self) {
        // One that has ended already is what we want.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn one_user_of_one_machine_needs_no_settings() {
    let sheaf = Sheaf::new(PROGRAM);
    let start = || {
        let mut command = sheaf.command(&["coordinator", "--listen", "127.0.0.1:0", "--state", "state", "--store", "store"]);
        command.args(["--address-file", "address"]).env("SHEAF_CONFIG_DIR", sheaf.folder().join("config"));
        let log = std::fs::File::create(sheaf.folder().join("coordinator.log")).unwrap();
        Alone(command.stdout(Stdio::null()).stderr(log).spawn().unwrap())
    };
    let status = || {
        let mut command = sheaf.command(&["cluster", "status", "-o", "json"]);
        command.env("SHEAF_CONFIG_DIR", sheaf.folder().join("config"));
        finish(command)
    };
    let address = || wait_for("the address", || std::fs::read_to_string(sheaf.folder().join("address")).ok());
    let mut first = start();
    let at = address();
    assert_eq!(status().succeeded().json()["address"], at.trim());
    for (path, mode) in [("state/secret", 0o600), ("state", 0o700), ("config", 0o700), ("config/contexts.json", 0o600)] {
        let found = std::fs::metadata(sheaf.folder().join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{path} has mode {found:03o}");
    }
    let secret = text(&sheaf.folder().join("state/secret"));
    signal(&first.0, "-TERM");
    assert_eq!(first.0.wait().unwrap().code(), Some(0), "{}", text(&sheaf.folder().join("coordinator.log")));
    assert_eq!(status().code, 5);

    // Started again it is the same cluster: whoever knew it, knows it.
    std::fs::remove_file(sheaf.folder().join("address")).unwrap();
    let _second = start();
    address();
    status().succeeded();
    assert_eq!(text(&sheaf.folder().join("state/secret")), secret);
    assert!(!text(&sheaf.folder().join("coordinator.log")).contains(secret.trim()));

    let refused = sheaf.run(&["coordinator", "--listen", "0.0.0.0:0", "--state", "other", "--store", "store"]);
    exits(&refused, 2, "without TLS");
}

#[test]
fn contexts_are_kept_and_chosen() {
    let sheaf = Sheaf::new(PROGRAM);
    let run = |arguments: &[&str]| {
        let mut command = sheaf.command(arguments);
        command.env("SHEAF_CONFIG_DIR", sheaf.folder().join("config"));
        finish(command)
    };
    let secret = sheaf.write("secret.txt", "abc\n");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644)).unwrap();
    exits(&run(&["context", "add", "one", "--addr", "127.0.0.1:1", "--secret-file", "secret.txt"]), 4, "chmod 600");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    run(&["context", "add", "one", "--addr", "127.0.0.1:1", "--secret-file", "secret.txt"]).succeeded();
    run(&["context", "add", "two", "--addr", "127.0.0.1:2", "--namespace", "team"]).succeeded();
    exits(&run(&["context", "add", "three", "--addr", "nowhere"]), 2, "HOST:PORT");
    run(&["context", "use", "two"]).succeeded();
    exits(&run(&["context", "use", "four"]), 3, "there are one, two");
    let listed = run(&["context", "list", "-o", "json"]).succeeded();
    assert!(!listed.stdout.contains("abc"), "{}", listed.stdout);
    let current: Vec<bool> = listed.json().as_array().unwrap().iter().map(|c| c["current"] == true).collect();
    assert_eq!(current, [false, true]);
    run(&["context", "remove", "two"]).succeeded();
    let table = run(&["context", "list"]).succeeded().stdout;
    assert!(table.contains("127.0.0.1:1") && !table.contains("team"), "{table}");
    exits(&run(&["jobs", "list", "--context", "one"]), 5, "cannot be reached");
}

#[test]
fn completions_and_manual_pages_come_for_every_command() {
    let sheaf = Sheaf::new(PROGRAM);
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = sheaf.run(&["completions", shell]).succeeded().stdout;
        for word in ["coordinator", "submit", "priority", "drain"] {
            assert!(script.contains(word), "{shell} does not know {word}");
        }
    }
    exits(&sheaf.run(&["completions", "tcsh"]), 2, "tcsh");
    sheaf.run(&["man", "--dir", "man/man1"]).succeeded();
    let pages: Vec<String> = std::fs::read_dir(sheaf.folder().join("man/man1"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    for command in commands(&sheaf, &[]) {
        let page = format!("sheaf-{}.1", command.join("-"));
        assert!(pages.contains(&page), "there is no {page} among {pages:?}");
    }
    assert!(sheaf.run(&["man"]).succeeded().stdout.contains(".TH sheaf 1"));
}

/// All commands that the help shows, each with an example in its own help.
fn commands(sheaf: &Sheaf, above: &[String]) -> Vec<Vec<String>> {
    let mut arguments: Vec<&str> = above.iter().map(String::as_str).collect();
    arguments.push("--help");
    let help = sheaf.run(&arguments).succeeded().stdout;
    assert!(help.contains("Example"), "no example:\n{help}");
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| line.starts_with("  "));
    // Descriptions that go on are indented further than names.
    let names = listed.filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next());
    let mut found = Vec::new();
    for name in names.filter(|name| *name != "help") {
        let command = [above, &[name.to_owned()]].concat();
        found.extend(commands(sheaf, &command));
        found.push(command);
    }
    found
}
