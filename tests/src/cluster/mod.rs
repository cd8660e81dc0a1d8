//! A cluster by hand, as people run it: `sheaf coordinator`, `sheaf worker --join`, `sheaf submit`, each a real
//! process with a log of its own. Everything is below one temporary folder; every process is killed when the
//! cluster is dropped, also by a panic, and then all logs are shown.

pub mod job;
pub mod node;
mod options;
pub mod usage;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use sheaf_client::connect::Place;
use sheaf_client::jobfile::{self, Overrides, Source};
use sheaf_runtime::auth::Role;
use sheaf_runtime::connect::{Target, Trust};
use sheaf_runtime::order::Order;
use sheaf_runtime::secret::{SECRET_VARIABLE, Secret};

use crate::evidence::{self, Incident};
use crate::process::{Outcome, finish};

pub use job::{Job, Line};
pub use node::{Alarm, LOOK, Node};
pub use options::{Launch, Setup};

/// The longest that a test waits for anything, unless it says another time.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    program: PathBuf,
    folder: tempfile::TempDir,
    setup: Setup,
    secret: Secret,
    address: SocketAddr,
    coordinator: Option<Node>,
    workers: BTreeMap<usize, Seat>,
    announced: Vec<String>,
    finished: bool,
}

/// A place for a worker: what runs there, and how to start it again.
#[derive(Debug)]
struct Seat {
    node: Option<Node>,
    launch: Launch,
    starts: usize,
    /// Ends of earlier incarnations, as a shell would say them.
    endings: Vec<String>,
}

impl Cluster {
    /// Starts a coordinator and the workers, and waits until all have joined.
    pub fn start(program: &Path, setup: Setup) -> Self {
        let folder = tempfile::Builder::new().prefix("sheaf-faults-").tempdir().unwrap();
        for name in ["logs", "state", "store", "spill", "data", "more"] {
            std::fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        let mut cluster = Self {
            program: program.to_owned(),
            folder,
            setup,
            secret: Secret::generate().unwrap(),
            address: ([127, 0, 0, 1], 0).into(),
            coordinator: None,
            workers: BTreeMap::new(),
            announced: Vec::new(),
            finished: false,
        };
        cluster.start_coordinator();
        for number in 1..=cluster.setup.workers {
            cluster.start_worker(number);
        }
        for number in 1..=cluster.setup.workers {
            cluster.wait_joined(number);
        }
        cluster
    }

    /// The folder that everything is in; `data` and `more` below it are what jobs may read.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where the coordinator listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Writes a file below the folder.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Log lines with this text may be warnings or errors.
    pub fn announce(&mut self, parts: &[&str]) {
        self.announced.extend(parts.iter().map(|part| (*part).to_owned()));
    }

    // ---- the coordinator

    /// Starts the coordinator: on a free port the first time, later on the same one.
    pub fn start_coordinator(&mut self) {
        self.start_coordinator_with(&[]);
    }

    /// Starts the coordinator with more environment variables.
    pub fn start_coordinator_with(&mut self, environment: &[(&str, &str)]) {
        let file = self.folder().join("address");
        // One of an earlier incarnation would be believed.
        let _ = std::fs::remove_file(&file);
        let program = self.program.clone();
        let (mut command, state) = match &self.setup.state_disk {
            Some((disk, state)) => (disk.command(&program, self.folder()), state.clone()),
            None => (self.plain(&program), self.folder().join("state")),
        };
        command.args(["coordinator", "--listen", &self.address.to_string()]);
        command.arg("--state").arg(state).arg("--store").arg(self.folder().join("store"));
        command.arg("--allow").arg(self.folder().join("data")).arg("--allow").arg(self.folder().join("more"));
        command.arg("--address-file").arg(&file);
        command.args(&self.setup.coordinator);
        self.environment(&mut command);
        command.envs(environment.iter().copied());
        let log = self.log_of("coordinator");
        self.coordinator = Some(Node::start("coordinator", command, &log));
        self.address = self.until("the coordinator's address", |cluster| {
            // One that has crashed since, as it was told to, has been there all the same.
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            if let Ok(address) = text.trim().parse() {
                return Some(address);
            }
            if let Some(status) = cluster.coordinator().exited() {
                panic!("the coordinator ended with {status}:\n{}", cluster.coordinator().tail(40));
            }
            None
        });
    }

    /// The coordinator's process.
    pub fn coordinator(&mut self) -> &mut Node {
        self.coordinator.as_mut().expect("the coordinator was started")
    }

    /// Kills the coordinator with SIGKILL.
    pub fn kill_coordinator(&mut self) {
        self.coordinator().kill();
    }

    /// The coordinator's log, of all its incarnations.
    pub fn log(&self) -> String {
        std::fs::read(self.log_of("coordinator")).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
    }

    // ---- workers

    /// Starts worker `number` as the cluster's workers are.
    pub fn start_worker(&mut self, number: usize) {
        let launch = self.workers.get(&number).map(|seat| seat.launch.clone()).unwrap_or_default();
        self.start_worker_with(number, launch);
    }

    /// Starts worker `number` in its own way; it is started again in that way.
    pub fn start_worker_with(&mut self, number: usize, launch: Launch) {
        let name = format!("worker-{number}");
        let join = launch.through.unwrap_or(self.address).to_string();
        let mut command = match (&launch.disk, launch.address_space, &launch.cage) {
            (Some(disk), _, _) => disk.command(&self.program, self.folder()),
            (None, Some(bytes), _) => self.behind(&format!("ulimit -v {}", bytes / 1024)),
            (None, None, Some(processes)) => self.behind(&format!("echo $$ > '{}'", processes.display())),
            (None, None, None) => self.plain(&self.program),
        };
        command.args(["worker", "--join", &join, "--name", &name, "--threads", &self.setup.threads.to_string()]);
        command.args(["--memory", launch.memory.as_deref().unwrap_or(&self.setup.memory)]);
        let spill = launch.spill.clone().unwrap_or_else(|| self.folder().join("spill"));
        command.arg("--spill").arg(spill);
        for folder in ["data", "more", "store"] {
            command.arg("--allow").arg(self.folder().join(folder));
        }
        command.args(self.setup.paranoid.then_some("--paranoid"));
        // Half of the workers see no neighbours on this machine: rows go by both ways, as files and over the network.
        if number.is_multiple_of(2) {
            let alone = self.folder().join(format!("temporary-{number}"));
            std::fs::create_dir_all(&alone).unwrap();
            command.env("TMPDIR", alone);
        }
        self.environment(&mut command);
        let log = self.log_of(&name);
        let node = Node::start(&name, command, &log);
        let seat = self.workers.entry(number).or_insert_with(|| Seat {
            node: None,
            launch: Launch::default(),
            starts: 0,
            endings: Vec::new(),
        });
        if let Some(mut earlier) = seat.node.take() {
            seat.endings.push(earlier.ending());
        }
        (seat.node, seat.launch) = (Some(node), launch);
        seat.starts += 1;
    }

    /// The process of a worker.
    pub fn worker(&mut self, number: usize) -> &mut Node {
        let node = self.workers.get_mut(&number).and_then(|seat| seat.node.as_mut());
        node.unwrap_or_else(|| panic!("worker {number} was not started"))
    }

    /// Kills a worker with SIGKILL; gives the process id that it had.
    pub fn kill_worker(&mut self, number: usize) -> u32 {
        self.worker(number).kill();
        self.worker(number).pid()
    }

    /// Stops a worker's process where it is (SIGSTOP).
    pub fn stop_worker(&mut self, number: usize) {
        self.worker(number).signal(Signal::STOP);
    }

    /// Lets a stopped worker go on (SIGCONT).
    pub fn resume_worker(&mut self, number: usize) {
        self.worker(number).signal(Signal::CONT);
    }

    /// Asks a worker to leave (SIGTERM) and waits for its end.
    pub fn terminate_worker(&mut self, number: usize) -> ExitStatus {
        self.worker(number).signal(Signal::TERM);
        self.worker(number).wait(Duration::from_secs(60))
    }

    /// How often a worker was started.
    pub fn starts(&self, number: usize) -> usize {
        self.workers.get(&number).map_or(0, |seat| seat.starts)
    }

    /// How the incarnations of a worker have ended so far.
    pub fn endings(&mut self, number: usize) -> Vec<String> {
        let Some(seat) = self.workers.get_mut(&number) else { return Vec::new() };
        let mut endings = seat.endings.clone();
        endings.extend(seat.node.as_mut().and_then(|node| node.exited().is_some().then(|| node.ending())));
        endings
    }

    /// Waits until the newest incarnation of a worker has joined; gives its number at the coordinator.
    #[track_caller]
    pub fn wait_joined(&mut self, number: usize) -> u64 {
        let pid = self.worker(number).pid();
        self.until(&format!("worker {number} to join"), |cluster| {
            if let Some(status) = cluster.worker(number).exited() {
                panic!("worker {number} ended with {status}:\n{}", cluster.worker(number).tail(40));
            }
            evidence::numbers_of(&cluster.log(), pid).last().copied()
        })
    }

    /// Starts workers again that have been dead for as long as the setup says.
    pub fn tend(&mut self) {
        let Some(after) = self.setup.restart_after else { return };
        let mut due = Vec::new();
        for (number, seat) in &mut self.workers {
            let Some(node) = seat.node.as_mut() else { continue };
            if node.exited().is_some() && node.gone_for().is_some_and(|gone| gone >= after) {
                due.push(*number);
            }
        }
        for number in due {
            self.start_worker(number);
        }
    }

    /// How many workers were started.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    // ---- jobs

    /// Runs a command of the program to its end, as the cluster's user.
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        finish(self.command(arguments))
    }

    /// A command of the program, not started.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.plain(&self.program);
        command.args(arguments);
        self.environment(&mut command);
        command.env("SHEAF_LOG", "warn").stdin(Stdio::null());
        command
    }

    /// Submits a job file and follows its log.
    #[track_caller]
    pub fn submit(&self, file: &str, more: &[&str]) -> Job {
        let mut arguments = vec!["submit", file, "-o", "json"];
        arguments.extend(more);
        let accepted = self.run(&arguments).succeeded().json();
        let id = accepted["job"].as_str().unwrap_or_else(|| panic!("no job id in {accepted}"));
        self.follow(id)
    }

    /// The order that the client makes of a job file.
    pub fn order(&self, file: &str) -> String {
        let folder = std::fs::canonicalize(self.folder()).unwrap();
        let bytes = std::fs::read(folder.join(file)).unwrap();
        let source = Source::from_bytes(file, &bytes).unwrap();
        let job = jobfile::read(&source, &Overrides { base: folder, ..Overrides::default() }).unwrap().job;
        serde_json::to_string(&Order::Run { job }).unwrap()
    }

    /// Where a client within this process finds the cluster, and its proof.
    pub fn place(&self) -> Place {
        let target = Target { address: self.address.to_string(), trust: Trust::Secret(self.secret.of(Role::Client)) };
        Place { target, namespace: "default".into(), allow: Vec::new() }
    }

    /// Follows the log of a job.
    pub fn follow(&self, id: &str) -> Job {
        Job::follow(id, self.command(&["jobs", "logs", id, "--follow", "-o", "json"]))
    }

    /// What `sheaf jobs show` says of a job.
    #[track_caller]
    pub fn show(&self, job: &Job) -> Value {
        self.run(&["jobs", "show", &job.id, "-o", "json"]).succeeded().json()
    }

    /// What `sheaf jobs list` says of all jobs.
    #[track_caller]
    pub fn list(&self) -> Vec<Value> {
        let listed = self.run(&["jobs", "list", "-o", "json"]).succeeded().json();
        let jobs = if listed.is_array() { &listed } else { &listed["jobs"] };
        jobs.as_array().unwrap_or_else(|| panic!("no list of jobs in {listed}")).clone()
    }

    /// Waits until a job has done so many steps of training.
    #[track_caller]
    pub fn wait_step(&mut self, job: &Job, step: u64) {
        self.until(&format!("step {step} of training"), |cluster| {
            if let Some(end) = job.end() {
                panic!("the job ended before step {step}: {end}\n{}", cluster.logs());
            }
            (job.step() >= step).then_some(())
        });
    }

    /// Waits until a job is in a phase.
    #[track_caller]
    pub fn wait_phase(&mut self, job: &Job, phase: &str) {
        self.until(&format!("the phase {phase}"), |_| job.entered(phase).then_some(()));
    }

    /// Waits for the end of a job and gives what `sheaf jobs show` says of it.
    #[track_caller]
    pub fn wait_end(&mut self, job: &Job) -> Value {
        self.wait_end_for(job, PATIENCE)
    }

    /// The same with another patience.
    #[track_caller]
    pub fn wait_end_for(&mut self, job: &Job, limit: Duration) -> Value {
        self.until_within("the job's end", limit, |_| job.end());
        self.show(job)
    }

    /// Waits for a success and gives the model's hash.
    #[track_caller]
    pub fn wait_model(&mut self, job: &Job) -> String {
        let shown = self.wait_end(job);
        self.model_of(&shown)
    }

    /// The model's hash of a job that succeeded.
    #[track_caller]
    pub fn model_of(&self, shown: &Value) -> String {
        assert_eq!(shown["state"], "succeeded", "the job did not succeed: {shown:#}\n{}", self.logs());
        let hash = shown["result"]["model"]["sha256"].as_str();
        hash.unwrap_or_else(|| panic!("no model hash in {shown:#}")).to_owned()
    }

    /// What the engine wrote down about a job.
    pub fn incidents(&self, job: &Job) -> Vec<Incident> {
        evidence::incidents(&self.log(), &job.id)
    }

    // ---- waiting and ending

    /// Waits for a condition; dead workers are started again meanwhile if the setup says so.
    #[track_caller]
    pub fn until<T>(&mut self, what: &str, look: impl FnMut(&mut Self) -> Option<T>) -> T {
        self.until_within(what, PATIENCE, look)
    }

    /// The same with another patience.
    #[track_caller]
    pub fn until_within<T>(&mut self, what: &str, limit: Duration, mut look: impl FnMut(&mut Self) -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            assert!(began.elapsed() < limit, "waited {limit:?} for {what}");
            self.tend();
            std::thread::sleep(LOOK);
        }
    }

    /// Ends the cluster in good order. A warning or error in a log that nobody announced is a failure.
    pub fn finish(mut self) {
        let mut alarms: Vec<Alarm> = Vec::new();
        for name in self.names() {
            let log = std::fs::read(self.log_of(&name)).unwrap_or_default();
            alarms.extend(node::alarms(&name, &String::from_utf8_lossy(&log)));
        }
        alarms.retain(|alarm| !self.announced.iter().any(|part| alarm.line.contains(part.as_str())));
        let lines: Vec<String> = alarms.iter().take(20).map(|alarm| format!("{}: {}", alarm.node, alarm.line)).collect();
        assert!(alarms.is_empty(), "{} log lines that nobody announced:\n{}", alarms.len(), lines.join("\n"));
        self.finished = true;
    }

    /// The last lines of all logs.
    pub fn logs(&self) -> String {
        let show = |name: String| {
            let log = std::fs::read(self.log_of(&name)).unwrap_or_default();
            format!("---- {name}\n{}", node::tail(&String::from_utf8_lossy(&log), 60))
        };
        self.names().into_iter().map(show).collect::<Vec<_>>().join("\n")
    }

    fn names(&self) -> Vec<String> {
        let workers = self.workers.keys().map(|number| format!("worker-{number}"));
        std::iter::once("coordinator".to_owned()).chain(workers).collect()
    }

    fn log_of(&self, name: &str) -> PathBuf {
        self.folder().join("logs").join(format!("{name}.log"))
    }

    /// The program behind a command of the shell that must succeed.
    fn behind(&self, first: &str) -> Command {
        let mut shell = self.plain(Path::new("sh"));
        shell.args(["-c", &format!("{first} && exec \"$0\" \"$@\"")]).arg(&self.program);
        shell
    }

    fn plain(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.folder());
        command
    }

    /// What every process of the cluster sees: nothing of the user's own settings.
    fn environment(&self, command: &mut Command) {
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SHEAF_")) {
            command.env_remove(name);
        }
        command.env("SHEAF_CONFIG_DIR", self.folder().join("config"));
        command
            .env("SHEAF_LOG", "info,sheaf_coordinator::event_loop=debug,sheaf_dataflow::engine=debug")
            .env("SHEAF_LOG_FORMAT", "json");
        command.env("NO_COLOR", "1").env(SECRET_VARIABLE, self.secret.expose());
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.finished {
            eprintln!("the cluster's logs:\n{}", self.logs());
        }
        // Workers first: they would warn about the coordinator's end.
        self.workers.clear();
        self.coordinator = None;
    }
}
