//! Eyes: a coordinator and two workers by hand, looked at from outside. What `/metrics` counts agrees with what
//! the job says, `/readyz` knows who has lost whom, health answers, and every log line is JSON without a secret.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use sheaf_runtime::connect::{Target, Trust, connect};
use sheaf_runtime::secret::Secret;
use sheaf_tests::process::{finish, wait_for};
use sheaf_tests::{FEATURES, Sheaf, job_text, write_parts};
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

const SECRET: &str = "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00";

const PARAMETERS: &str = "solver: lbfgs, l2: 0.000001, tolerance: 0.000000000001, max_iterations: 60";

/// Processes of the test; those that still run are killed, also by a panic.
struct Processes<'s> {
    sheaf: &'s Sheaf,
    running: Vec<(String, Child)>,
}

impl Processes<'_> {
    fn start(&mut self, name: &str, arguments: &[&str]) {
        let mut command = with_environment(self.sheaf, arguments);
        command.env("SHEAF_LOG", "info,openraft=warn,sheaf_worker=debug").env("SHEAF_LOG_FORMAT", "json");
        command.stdout(Stdio::null()).stderr(File::create(log_file(self.sheaf, name)).unwrap());
        self.running.push((name.to_owned(), command.spawn().unwrap()));
    }

    fn signal(&mut self, name: &str, signal: &str) {
        let (_, child) = self.running.iter().find(|(known, _)| known == name).unwrap();
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
    }

    /// Its exit code, when it has ended.
    fn wait(&mut self, name: &str) -> Option<i32> {
        let at = self.running.iter().position(|(known, _)| known == name).unwrap();
        let child = &mut self.running[at].1;
        let status = wait_for("its end", || child.try_wait().unwrap());
        drop(self.running.remove(at));
        status.code()
    }
}

impl Drop for Processes<'_> {
    fn drop(&mut self) {
        for (name, child) in &mut self.running {
            // One that has ended already is what we want.
            let _ = child.kill();
            let _ = child.wait();
            if std::thread::panicking() {
                eprintln!("--- {name}\n{}", log(self.sheaf, name));
            }
        }
    }
}

fn with_environment(sheaf: &Sheaf, arguments: &[&str]) -> Command {
    let mut command = sheaf.command(arguments);
    // The context that the coordinator saves must not meet the user's own.
    command.env("SHEAF_SECRET", SECRET).env("HOME", sheaf.folder()).env("XDG_CONFIG_HOME", sheaf.folder().join("config"));
    command
}

fn log_file(sheaf: &Sheaf, name: &str) -> std::path::PathBuf {
    sheaf.folder().join(format!("{name}.log"))
}

fn log(sheaf: &Sheaf, name: &str) -> String {
    std::fs::read_to_string(log_file(sheaf, name)).unwrap_or_default()
}

/// Status and body of a page; `None` while nobody listens.
fn page(address: &str, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer.split_once("\r\n\r\n")?.1.to_owned()))
}

fn metrics(address: &str) -> String {
    let (status, text) = page(address, "/metrics").unwrap();
    assert_eq!(status, 200, "{text}");
    text
}

/// The value of one series.
#[track_caller]
fn value(text: &str, series: &str) -> f64 {
    let found = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("{series} is not in\n{text}")).parse().unwrap()
}

/// Names of all metrics that a page has.
fn shown(text: &str) -> BTreeSet<String> {
    text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).map(str::to_owned).collect()
}

/// Names of all metrics in the documentation, below a heading.
fn documented(heading: &str) -> BTreeSet<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs/metrics.md");
    let text = std::fs::read_to_string(file).unwrap();
    let section = text.split("\n### ").find(|section| section.starts_with(heading)).unwrap();
    let section = section.split("\n## ").next().unwrap();
    section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).map(str::to_owned).collect()
}

/// The admin port of a worker, which took a free one, as its log says.
fn admin_of(sheaf: &Sheaf, name: &str) -> String {
    wait_for("the admin port", || {
        let lines = log(sheaf, name);
        let opened = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        opened.filter(|line| line["message"] == "admin port open").find_map(|line| Some(line["address"].as_str()?.to_owned()))
    })
}

fn ready(address: &str) -> Option<()> {
    page(address, "/readyz").filter(|(status, _)| *status == 200).map(drop)
}

#[track_caller]
fn json(sheaf: &Sheaf, arguments: &[&str]) -> Value {
    finish(with_environment(sheaf, arguments)).succeeded().json()
}

fn sum(work: &Value, of: impl Fn(&Value) -> f64) -> f64 {
    work.as_array().unwrap().iter().map(of).sum()
}

fn serving(address: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let check = async |secret: &str, service: &str| {
            let trust = Trust::Secret(Secret::given(secret));
            let channel = connect(&Target { address: address.to_owned(), trust }).await.unwrap();
            HealthClient::new(channel).check(HealthCheckRequest { service: service.to_owned() }).await
        };
        for service in ["", "sheaf.v1.JobService", "sheaf.v1.WorkerService"] {
            let answer = check(SECRET, service).await.unwrap().into_inner();
            assert_eq!(answer.status, ServingStatus::Serving as i32, "{service}");
        }
        assert_eq!(check("another", "").await.unwrap_err().code(), tonic::Code::Unauthenticated);
    });
}

/// Starts a coordinator and these workers; gives its address, and the admin ports of all, its own first.
fn start(processes: &mut Processes<'_>, workers: &[&str]) -> (String, Vec<String>) {
    let sheaf = processes.sheaf;
    std::fs::create_dir_all(sheaf.folder().join("data")).unwrap();
    let start = ["coordinator", "--listen", "127.0.0.1:0", "--state", "state", "--store", "store", "--allow", "data"];
    let files = ["--address-file", "address", "--admin", "127.0.0.1:0", "--admin-file", "admin"];
    processes.start("coordinator", &[&start[..], &files[..]].concat());
    let read = |name: &str| std::fs::read_to_string(sheaf.folder().join(name)).ok().map(|text| text.trim().to_owned());
    let address = wait_for("the coordinator", || read("address"));
    let admin = wait_for("its admin port", || read("admin"));
    for name in workers {
        let join = ["worker", "--join", &address, "--allow", "data", "--threads", "1", "--name", name];
        processes.start(name, &[&join[..], &["--admin", "127.0.0.1:0"][..]].concat());
    }
    let admins: Vec<String> = std::iter::once(admin).chain(workers.iter().map(|name| admin_of(sheaf, name))).collect();
    for address in &admins {
        wait_for("everybody to be ready", || ready(address));
        assert_eq!(page(address, "/livez").unwrap().0, 200);
    }
    (address, admins)
}

#[test]
fn a_cluster_seen_from_outside() {
    let sheaf = Sheaf::new(env!("CARGO_BIN_EXE_sheaf-under-test"));
    write_parts(&sheaf.folder().join("data"), 5, 20_000);
    sheaf.write("job.yaml", &job_text("watched", FEATURES, PARAMETERS));
    let mut processes = Processes { sheaf: &sheaf, running: Vec::new() };
    let (address, admins) = start(&mut processes, &["worker-1", "worker-2"]);
    let (admin, admins) = (&admins[0], [&admins[1], &admins[2]]);
    assert_eq!(value(&metrics(admin), "sheaf_workers{state=\"active\"}"), 2.0);
    serving(&address);

    let submitted = finish(with_environment(&sheaf, &["submit", "job.yaml", "--addr", &address, "-q"])).succeeded();
    let job = submitted.stdout.trim().to_owned();
    // While it runs, or just after on a quick machine: steps are counted, the job's own split of time is there.
    wait_for("a step", || (value(&metrics(admin), "sheaf_steps_total") > 0.0).then_some(()));
    let under_way = json(&sheaf, &["jobs", "show", &job, "--addr", &address, "-o", "json"]);
    let top = json(&sheaf, &["top", "--once", "-o", "json", "--addr", &address]);
    assert_eq!(top["workers"].as_array().unwrap().len(), 2, "{top}");
    assert_eq!(top["jobs"][0]["job"], job.as_str());
    assert!(!top["log"].as_array().unwrap().is_empty(), "{top}");
    let ended = wait_for("the end of the job", || {
        let shown = json(&sheaf, &["jobs", "show", &job, "--addr", &address, "-o", "json"]);
        (shown["state"] != "running" && shown["state"] != "queued").then_some(shown)
    });
    assert_eq!(ended["state"], "succeeded", "{ended}");
    let phases = under_way["work"].as_array().unwrap();
    assert!(phases.iter().any(|phase| phase["steps"]["count"].as_u64() > Some(0)), "{under_way}");
    assert_eq!(ended["work"], ended["result"]["work"]);

    counters_agree(&ended["result"]["work"], &metrics(admin), &admins.map(|address| metrics(address)));
    names_are_documented(&metrics(admin), &metrics(admins[0]));

    // Who has lost its coordinator is alive and not ready, and says why.
    processes.signal("coordinator", "-KILL");
    assert_eq!(processes.wait("coordinator"), None);
    for address in admins {
        let (_, why) = wait_for("a worker to notice", || page(address, "/readyz").filter(|(status, _)| *status == 503));
        assert!(why.contains("lost its coordinator"), "{why}");
        assert_eq!(page(address, "/livez").unwrap().0, 200);
        assert_eq!(value(&metrics(address), "sheaf_connected"), 0.0);
    }
    drop(processes);
    for name in ["coordinator", "worker-1", "worker-2"] {
        logs_are_json(&log(&sheaf, name), name, &job);
    }
}

/// What a probe is told of a process that drains: it is alive, and gets no more work.
#[track_caller]
fn drains(address: &str, why: &str) {
    let (_, said) = wait_for("it to drain", || page(address, "/readyz").filter(|(status, _)| *status == 503));
    assert!(said.contains(why), "{said}");
    assert_eq!(page(address, "/livez").unwrap().0, 200);
}

#[test]
fn who_drains_is_not_ready() {
    let sheaf = Sheaf::new(env!("CARGO_BIN_EXE_sheaf-under-test"));
    let mut processes = Processes { sheaf: &sheaf, running: Vec::new() };
    let (address, admins) = start(&mut processes, &["worker-1"]);

    // A coordinator that is held up keeps the worker from leaving at once.
    processes.signal("coordinator", "-STOP");
    processes.signal("worker-1", "-TERM");
    drains(&admins[1], "it is draining");
    processes.signal("coordinator", "-CONT");
    assert_eq!(processes.wait("worker-1"), Some(0));

    // Somebody who watches keeps the coordinator for as long as it waits for open calls.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let target = Target { address, trust: Trust::Secret(Secret::given(SECRET)) };
        let request = HealthCheckRequest { service: "sheaf.v1.WorkerService".to_owned() };
        let mut watch = HealthClient::new(connect(&target).await.unwrap()).watch(request).await.unwrap().into_inner();
        let mut told = async || watch.message().await.unwrap().map(|answer| answer.status);
        assert_eq!(told().await, Some(ServingStatus::Serving as i32));
        processes.signal("coordinator", "-TERM");
        assert_eq!(told().await, Some(ServingStatus::NotServing as i32));
        drains(&admins[0], "it is stopping");
    });
    assert_eq!(processes.wait("coordinator"), Some(0));
}

/// What the coordinator and the workers counted is what the job's result says.
fn counters_agree(work: &Value, coordinator: &str, workers: &[String; 2]) {
    let steps = sum(work, |phase| phase["steps"]["count"].as_f64().unwrap());
    let rows = sum(work, |phase| phase["rows"].as_f64().unwrap());
    let shards = sum(work, |phase| phase["shards"].as_object().unwrap().values().map(|n| n.as_f64().unwrap()).sum());
    let blocks = sum(work, |phase| phase["blocks"].as_object().unwrap().values().map(|n| n.as_f64().unwrap()).sum());
    let bytes = sum(work, |phase| phase["bytes_read"].as_f64().unwrap());
    assert!(steps > 20.0 && rows > 20_000.0 && bytes > 10_000.0, "{work:#}");
    assert_eq!(value(coordinator, "sheaf_steps_total"), steps);
    assert_eq!(value(coordinator, "sheaf_step_seconds_count"), steps);
    assert_eq!(value(coordinator, "sheaf_rows_computed_total"), rows);
    assert_eq!(value(coordinator, "sheaf_shards_computed_total"), shards);
    assert_eq!(value(coordinator, "sheaf_blocks_accepted_total"), blocks);
    assert_eq!(value(coordinator, "sheaf_jobs_ended_total{outcome=\"succeeded\"}"), 1.0);
    assert_eq!(value(coordinator, "sheaf_job_queue_wait_seconds_count"), 1.0);
    assert!(value(coordinator, "sheaf_log_writes_total") > 5.0);
    let over = |series: &str| workers.iter().map(|text| value(text, series)).sum::<f64>();
    // A straggler's answer may come when its stage is over: the worker counts it, the job does not.
    match value(coordinator, "sheaf_speculative_leases_total") {
        0.0 => assert_eq!((over("sheaf_rows_total"), over("sheaf_read_bytes_total")), (rows, bytes)),
        _ => assert!(over("sheaf_rows_total") >= rows && over("sheaf_read_bytes_total") >= bytes),
    }
    assert_eq!(over("sheaf_joins_total"), 2.0);
    // Blocks that came too late or twice are sent and not taken in.
    assert!(over("sheaf_blocks_pushed_total") >= blocks);
    let train = work.as_array().unwrap().iter().find(|phase| phase["phase"] == "train").unwrap();
    for worker in train["workers"].as_object().unwrap().values() {
        assert!(worker["compute_s"].as_f64().unwrap() > 0.0 && worker["steps"].as_u64().unwrap() > 0, "{train:#}");
    }
    let steps = &train["steps"];
    let parts = ["broadcast_s", "compute_s", "update_s", "overhead_s"].map(|part| steps[part].as_f64().unwrap());
    assert!(parts.iter().sum::<f64>() <= steps["wall_s"].as_f64().unwrap() * 1.01 + 0.001, "{steps:#}");
}

/// Every metric that is shown is documented, and every documented one is shown.
fn names_are_documented(coordinator: &str, worker: &str) {
    let every = documented("Every process");
    let of = |heading: &str| every.union(&documented(heading)).cloned().collect::<BTreeSet<_>>();
    assert_eq!(shown(coordinator), of("Coordinator"));
    assert_eq!(shown(worker), of("Worker"));
}

/// Every line is JSON with the usual keys, some carry the job, none the secret.
fn logs_are_json(log: &str, name: &str, job: &str) {
    assert!(!log.contains(SECRET), "the secret is in the log of {name}");
    let lines: Vec<Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{name}: {e}: {line}"))).collect();
    for line in &lines {
        for key in ["ts", "level", "target", "message"] {
            assert!(line[key].is_string(), "{name}: no {key} in {line}");
        }
    }
    assert!(lines.iter().any(|line| line["job"] == job), "no line of {name} carries the job:\n{log}");
    let names_it = |line: &&Value| line.to_string().contains(job) && line["job"] != job;
    assert_eq!(lines.iter().find(names_it), None, "a line about the job does not carry it as a field");
    if name != "coordinator" {
        let answered = lines.iter().find(|line| line["message"] == "step answered").unwrap();
        assert!(answered["stage"].is_u64() && answered["step"].is_u64() && answered["worker"].is_u64(), "{answered}");
    } else {
        assert!(lines.iter().any(|line| line["phase"] == "train" && line["job"] == job), "{log}");
    }
}
