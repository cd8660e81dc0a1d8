//! Runs the program under test and reads what it leaves.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The program with a working folder of its own.
pub struct Sheaf {
    program: PathBuf,
    folder: tempfile::TempDir,
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Time from start to end.
    pub took: Duration,
}

impl Outcome {
    /// The one JSON object on standard output.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("standard output is not one JSON object: {e}\n{self:?}"))
    }

    /// The model hash of a result.
    pub fn sha256(&self) -> String {
        self.json()["model"]["sha256"].as_str().unwrap_or_else(|| panic!("no model hash in {}", self.stdout)).to_owned()
    }

    /// Panics unless the run succeeded.
    #[track_caller]
    pub fn succeeded(self) -> Self {
        assert_eq!(self.code, 0, "the run failed:\n{}\n{}", self.stdout, self.stderr);
        self
    }
}

impl Sheaf {
    /// A program (`env!("CARGO_BIN_EXE_sheaf-under-test")`) in a fresh folder.
    pub fn new(program: &str) -> Self {
        Self { program: PathBuf::from(program), folder: tempfile::tempdir().unwrap() }
    }

    /// The folder that the program runs in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file below the folder.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The command, not started.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).current_dir(self.folder()).stdin(Stdio::null());
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SHEAF_")) {
            command.env_remove(name);
        }
        command
    }

    /// Runs to the end; a run of more than two minutes is a hang.
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        finish(self.command(arguments))
    }

    /// `sheaf run FILE`, which must succeed: the outcome holds its result.
    #[track_caller]
    pub fn run_job(&self, file: &str, store: &str, more: &[&str]) -> Outcome {
        let mut arguments = vec!["run", file, "--store", store, "-o", "json", "--quiet"];
        arguments.extend(more);
        self.run(&arguments).succeeded()
    }

    /// Starts a run that the test looks at while it goes on.
    pub fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

/// Runs a command to its end.
pub fn finish(mut command: Command) -> Outcome {
    let began = Instant::now();
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    collect(child, began)
}

/// Waits for a started run.
pub fn collect(child: Child, began: Instant) -> Outcome {
    let pid = child.id();
    let (done, waiting) = std::sync::mpsc::channel();
    let waiter = std::thread::spawn(move || {
        let output = child.wait_with_output().unwrap();
        // The receiver is gone only if the run took too long.
        let _ = done.send(());
        output
    });
    if waiting.recv_timeout(Duration::from_secs(120)).is_err() {
        Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
        panic!("the run hangs: killed after two minutes");
    }
    let output = waiter.join().unwrap();
    Outcome {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        took: began.elapsed(),
    }
}

/// Waits for a condition, checked often; panics after a minute.
#[track_caller]
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "waited a minute for {what}");
        std::thread::yield_now();
    }
}

/// Whether a process runs (a zombie does not).
pub fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().unwrap_or_default().trim_start().chars().next();
    state.is_some_and(|state| state != 'Z')
}

/// Kernel levels that this machine has, as the program names them.
pub fn kernel_levels() -> Vec<String> {
    sheaf_learn::kernels::Level::available().into_iter().map(|level| level.name().to_owned()).collect()
}
