//! The same with real processes: a cluster as the documentation sets it up, what commands say to the wrong
//! people, and that nothing secret is left in logs or state.

use std::path::Path;
use std::time::Duration;

use sheaf_tests::cluster::Node;
use sheaf_tests::process::wait_for;
use sheaf_tests::{Outcome, Sheaf, write_parts};

/// Commands to the cluster, by one who has a client's certificate.
const ADA: [&str; 6] = ["--tls-ca", "ca.pem", "--tls-cert", "ada.pem", "--tls-key", "ada.key"];

const JOB: &str = "version: 1
name: guarded
seed: 3
shard_rows: 64
tables: {rows: data/}
prepare: SELECT id, amount, age, flag, label FROM rows WHERE amount < 300
columns: {target: label, key: id}
split: {by: random, test: 0.2}
features:
  - impute: {columns: age, strategy: median}
  - standardize: [amount, age]
train: {algorithm: logistic_regression, l2: 0.001}
publish: {model: guarded}
";

fn sheaf() -> Sheaf {
    let sheaf = Sheaf::new(env!("CARGO_BIN_EXE_sheaf-under-test"));
    write_parts(&sheaf.folder().join("data"), 3, 2000);
    sheaf.write("job.yaml", JOB);
    sheaf
}

fn run(sheaf: &Sheaf, arguments: &[&str]) -> Outcome {
    let mut command = sheaf.command(arguments);
    command.env("HOME", sheaf.folder()).env("XDG_CONFIG_HOME", sheaf.folder().join("config"));
    sheaf_tests::process::finish(command)
}

/// Starts a part of the cluster whose log, of all levels, is `NAME.log`. It ends with the value.
fn start(sheaf: &Sheaf, name: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Node {
    let mut command = sheaf.command(arguments);
    command.env("HOME", sheaf.folder()).env("XDG_CONFIG_HOME", sheaf.folder().join("config"));
    command.env("SHEAF_LOG", "trace").envs(environment.iter().copied());
    Node::start(name, command, &sheaf.folder().join(format!("{name}.log")))
}

/// The port that a coordinator listens on.
fn port(sheaf: &Sheaf, coordinator: &mut Node) -> u16 {
    wait_for("the coordinator's address", || {
        assert!(coordinator.exited().is_none(), "the coordinator ended:\n{}", coordinator.tail(30));
        let text = std::fs::read_to_string(sheaf.folder().join("address")).ok()?;
        text.trim().rsplit(':').next()?.parse().ok()
    })
}

/// Files below a folder that hold these bytes.
fn holding(folder: &Path, needle: &[u8], found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            holding(&path, needle, found);
        } else if std::fs::read(&path).unwrap_or_default().windows(needle.len()).any(|window| window == needle) {
            found.push(path.file_name().unwrap().to_string_lossy().into_owned());
        }
    }
}

/// A coordinator that serves everywhere, behind TLS, and two workers that enrolled with tokens.
pub struct Guarded {
    pub sheaf: Sheaf,
    pub tokens: Vec<String>,
    address: String,
    coordinator: Node,
    workers: Vec<Node>,
}

impl Guarded {
    /// As the documentation sets it up; both workers have joined.
    pub fn start() -> Self {
        let sheaf = sheaf();
        run(&sheaf, &["pki", "init"]).succeeded();
        run(&sheaf, &["pki", "issue", "--role", "coordinator", "--name", "c1", "--host", "127.0.0.1"]).succeeded();
        run(&sheaf, &["pki", "issue", "--role", "client", "--name", "ada", "--days", "2"]).succeeded();
        let token = |_| run(&sheaf, &["pki", "token", "--ttl", "10m"]).succeeded().stdout;
        let tokens: Vec<String> = (1..=2).map(token).collect();
        for (number, token) in tokens.iter().enumerate() {
            sheaf.write(&format!("token-{}", number + 1), token);
        }
        let served = "coordinator --listen 0.0.0.0:0 --state state --store store --allow data --address-file address \
                      --tls-cert c1.pem --tls-key c1.key --tls-ca ca.pem --pki pki";
        let mut coordinator = start(&sheaf, "coordinator", &served.split_whitespace().collect::<Vec<_>>(), &[]);
        let address = format!("127.0.0.1:{}", port(&sheaf, &mut coordinator));
        let mut guarded = Self { sheaf, tokens, address, coordinator, workers: Vec::new() };
        for number in 1..=2 {
            let arguments = guarded.join(number, &format!("token-{number}"));
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            guarded.workers.push(start(&guarded.sheaf, &format!("worker-{number}"), &arguments, &[]));
        }
        wait_for("both workers to join", || {
            let status = guarded.ask(&["cluster", "status", "-o", "json"]).succeeded();
            (status.json()["workers"].as_array()?.len() == 2).then_some(())
        });
        guarded
    }

    /// Arguments of a worker that joins with the token in a file.
    fn join(&self, number: usize, token: &str) -> Vec<String> {
        let (name, state) = (format!("w{number}"), format!("node-{number}"));
        let join = ["worker", "--join", &self.address, "--token-file", token, "--state", &state, "--name", &name];
        let allowed = ["--threads", "1", "--allow", "data", "--allow", "store"];
        join.into_iter().chain(allowed).map(str::to_owned).collect()
    }

    /// A command to the cluster by one who has a client's certificate.
    pub fn ask(&self, arguments: &[&str]) -> Outcome {
        self.ask_as(&ADA, arguments)
    }

    /// A command to the cluster with another proof.
    fn ask_as(&self, proof: &[&str], arguments: &[&str]) -> Outcome {
        run(&self.sheaf, &[arguments, proof, &["--addr", &self.address]].concat())
    }

    /// What a part of the cluster has logged so far.
    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.sheaf.folder().join(format!("{name}.log"))).unwrap()
    }

    /// Asks all to end, workers first, and waits for it.
    pub fn end(self) -> Sheaf {
        for mut node in self.workers.into_iter().chain([self.coordinator]) {
            node.signal(rustix::process::Signal::TERM);
            assert!(node.wait(Duration::from_secs(60)).success(), "{}", node.tail(30));
        }
        self.sheaf
    }
}

#[test]
fn a_job_over_tls_with_enrolled_workers_gives_the_plain_model_and_leaves_no_secret() {
    let guarded = Guarded::start();
    let tokens = guarded.tokens.clone();
    let trained = guarded.ask(&["submit", "job.yaml", "--watch", "-o", "json", "--quiet"]).succeeded();
    let plain = run(&guarded.sheaf, &["run", "job.yaml", "--store", "plain", "-o", "json", "--quiet"]).succeeded();
    assert_eq!(trained.sha256(), plain.sha256());

    // A token that was used does not let a third one in.
    let third = guarded.join(3, "token-1");
    let refused = run(&guarded.sheaf, &third.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(refused.stderr.contains("the join token has been used already"), "{refused:?}");
    // Nor does a worker's certificate, or none, open the job service.
    let node = ["--tls-ca", "node-1/ca.pem", "--tls-cert", "node-1/node.pem", "--tls-key", "node-1/node.pem"];
    let wrong = guarded.ask_as(&node, &["jobs", "list"]);
    assert_eq!(wrong.code, 4, "{wrong:?}");
    assert!(wrong.stderr.contains("is for the role client; `w1` has worker"), "{wrong:?}");
    assert_eq!(guarded.ask_as(&[], &["jobs", "list"]).code, 4);

    let sheaf = guarded.end();
    let folder = sheaf.folder();
    for token in &tokens {
        let signature = token.trim().rsplit('.').next().unwrap();
        let mut found = Vec::new();
        holding(folder, signature.as_bytes(), &mut found);
        found.sort();
        assert_eq!(found.len(), 1, "a token stands where it should not: {found:?}");
        assert!(found[0].starts_with("token-"), "{found:?}");
        assert!(!refused.stderr.contains(signature));
    }
    // Keys stand in their own files alone.
    for key in ["pki/ca.key", "c1.key", "ada.key"] {
        let text = std::fs::read_to_string(folder.join(key)).unwrap();
        let mut found = Vec::new();
        holding(folder, text.lines().nth(1).unwrap().as_bytes(), &mut found);
        assert_eq!(found.len(), 1, "{key}: {found:?}");
    }
}

#[test]
fn the_secret_of_a_loopback_cluster_is_in_no_log() {
    let sheaf = sheaf();
    let canary = "canary-5f1d0e7a9b3c";
    let secret = [("SHEAF_SECRET", canary)];
    let served = "coordinator --listen 127.0.0.1:0 --state state --store store --allow data --address-file address";
    let mut coordinator = start(&sheaf, "coordinator", &served.split_whitespace().collect::<Vec<_>>(), &secret);
    let address = format!("127.0.0.1:{}", port(&sheaf, &mut coordinator));
    let joins = format!("worker --join {address} --threads 1 --allow data --allow store");
    let _worker = start(&sheaf, "worker", &joins.split_whitespace().collect::<Vec<_>>(), &secret);
    let ask = |arguments: &str, secret: &str| {
        let arguments: Vec<&str> = arguments.split_whitespace().chain(["--addr", &address]).collect();
        let mut command = sheaf.command(&arguments);
        command.env("HOME", sheaf.folder()).env("SHEAF_SECRET", secret).env("SHEAF_LOG", "trace");
        sheaf_tests::process::finish(command)
    };
    let watched = ask("submit job.yaml --watch -o json", canary).succeeded();
    let wrong = ask("jobs list", "another-canary-77");
    assert_eq!(wrong.code, 4, "{wrong:?}");
    assert!(wrong.stderr.contains("this cluster's secret is missing or wrong"), "{wrong:?}");
    let logs = ["coordinator", "worker"].map(|name| std::fs::read_to_string(sheaf.folder().join(format!("{name}.log"))).unwrap());
    assert!(logs.iter().all(|log| log.contains("TRACE")), "the logs are to be of all levels");
    for text in logs.iter().chain([&watched.stderr, &watched.stdout, &wrong.stderr]) {
        let line = text.lines().find(|line| line.contains("canary"));
        assert_eq!(line, None);
    }
}

#[test]
fn a_coordinator_that_others_could_reach_does_not_start_without_tls() {
    let sheaf = sheaf();
    for listen in ["0.0.0.0:0", "[::]:0"] {
        let served = ["coordinator", "--listen", listen, "--state", "state", "--store", "store"];
        let outcome = run(&sheaf, &served);
        assert_eq!(outcome.code, 2, "{outcome:?}");
        assert!(outcome.stderr.contains(&format!("refusing to listen on {listen} without TLS")), "{outcome:?}");
        assert!(outcome.stderr.contains("sheaf pki init"), "{outcome:?}");
    }
    run(&sheaf, &["pki", "init"]).succeeded();
    run(&sheaf, &["pki", "issue", "--role", "worker", "--name", "w"]).succeeded();
    let wrong = "coordinator --listen 0.0.0.0:0 --state state --store store --tls-cert w.pem --tls-key w.key --tls-ca ca.pem";
    let outcome = run(&sheaf, &wrong.split_whitespace().collect::<Vec<_>>());
    assert_eq!(outcome.code, 2, "{outcome:?}");
    assert!(outcome.stderr.contains("of `w` is for the role worker, not coordinator"), "{outcome:?}");
}

#[test]
fn pki_commands_say_what_they_made_and_what_is_in_the_way() {
    let sheaf = sheaf();
    let none = run(&sheaf, &["pki", "token"]);
    assert_eq!(none.code, 3, "{none:?}");
    assert!(none.stderr.contains("there is no authority in pki; make one with `sheaf pki init`"), "{none:?}");
    run(&sheaf, &["pki", "init", "--name", "acme"]).succeeded();
    let again = run(&sheaf, &["pki", "init"]);
    assert_eq!(again.code, 2, "{again:?}");
    assert!(again.stderr.contains("an authority is never overwritten"), "{again:?}");

    let nowhere = run(&sheaf, &["pki", "issue", "--role", "coordinator", "--name", "c1"]);
    assert_eq!(nowhere.code, 2, "{nowhere:?}");
    assert!(nowhere.stderr.contains("give --host"), "{nowhere:?}");
    let issue = ["pki", "issue", "--role", "coordinator", "--name", "c1", "--host", "c1.example.net", "--host", "::1"];
    run(&sheaf, &issue).succeeded();
    let there = run(&sheaf, &issue);
    assert_eq!(there.code, 2, "{there:?}");
    assert!(there.stderr.contains("c1.key exists already") || there.stderr.contains("c1.pem exists already"), "{there:?}");
    run(&sheaf, &[&issue[..], &["--replace"]].concat()).succeeded();

    let shown = run(&sheaf, &["pki", "show", "c1.pem", "pki/ca.pem", "-o", "json"]).succeeded().json();
    let shown = shown["certificates"].as_array().unwrap();
    assert_eq!((&shown[0]["name"], &shown[0]["role"]), (&"c1".into(), &"coordinator".into()));
    assert_eq!(shown[0]["hosts"], serde_json::json!(["c1.example.net", "::1"]));
    assert_eq!((&shown[1]["name"], shown[1]["role"].is_null()), (&"acme".into(), true));
    let table = run(&sheaf, &["pki", "show", "c1.pem"]).succeeded().stdout;
    assert!(table.contains("role     coordinator") && table.contains(" days left)"), "{table}");
    let long = run(&sheaf, &["pki", "token", "--ttl", "30d"]);
    assert_eq!(long.code, 2, "{long:?}");
}
