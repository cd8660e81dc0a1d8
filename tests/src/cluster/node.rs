//! One process of a cluster under test: its log in a file, signals by name, and an end that nothing can avoid.

use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Time between two looks at a condition.
pub const LOOK: Duration = Duration::from_millis(10);

/// A running process; it is killed when this is dropped, also by a panic.
#[derive(Debug)]
pub struct Node {
    /// What the test calls it.
    pub name: String,
    log: PathBuf,
    child: Child,
    ended: Option<(ExitStatus, Instant)>,
}

/// One line of a process's log that asks for attention.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// Who wrote it.
    pub node: String,
    /// The whole line.
    pub line: String,
}

impl Node {
    /// Starts a process whose output is appended to `log`.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).unwrap();
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let child = command.spawn().unwrap_or_else(|e| panic!("start {name}: {e}: {command:?}"));
        Self { name: name.to_owned(), log: log.to_owned(), child, ended: None }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to a process that has not ended.
    pub fn signal(&self, signal: Signal) {
        if self.ended.is_none() {
            kill_process(Pid::from_child(&self.child), signal).unwrap_or_else(|e| panic!("{signal:?} to {}: {e}", self.name));
        }
    }

    /// Kills it with SIGKILL and waits until it is gone.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait(Duration::from_secs(30));
    }

    /// How it ended, if it has.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().unwrap().map(|status| (status, Instant::now()));
        }
        self.ended.map(|(status, _)| status)
    }

    /// Time since its end, as far as it has been seen.
    pub fn gone_for(&self) -> Option<Duration> {
        self.ended.map(|(_, at)| at.elapsed())
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.exited() {
                return status;
            }
            assert!(began.elapsed() < limit, "{} has not ended within {limit:?}:\n{}", self.name, self.tail(40));
            std::thread::sleep(LOOK);
        }
    }

    /// Everything that it and its earlier incarnations have logged.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The last lines of its log.
    pub fn tail(&self, lines: usize) -> String {
        tail(&self.text(), lines)
    }

    /// A word about how it ended, for messages.
    pub fn ending(&mut self) -> String {
        match self.exited() {
            None => "runs".to_owned(),
            Some(status) => match status.signal() {
                Some(signal) => format!("ended by signal {signal}"),
                None => format!("ended with code {:?}", status.code()),
            },
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.ended.is_none() {
            // It may have ended by itself meanwhile: that is what is wanted.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The last lines of a log.
pub fn tail(log: &str, lines: usize) -> String {
    let all: Vec<&str> = log.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Lines of level `warn` and `error`, and whatever a panic leaves.
pub fn alarms(node: &str, log: &str) -> Vec<Alarm> {
    let alarm = |line: &str| Alarm { node: node.to_owned(), line: line.to_owned() };
    log.lines().filter(|line| is_alarm(line)).map(alarm).collect()
}

fn is_alarm(line: &str) -> bool {
    match serde_json::from_str::<Value>(line) {
        Ok(entry) => matches!(entry["level"].as_str(), Some("WARN" | "ERROR")),
        Err(_) => line.contains("panicked at"),
    }
}

#[cfg(test)]
mod tests {
    use super::is_alarm;

    #[test]
    fn warnings_errors_and_panics_are_alarms() {
        assert!(is_alarm(r#"{"level":"WARN","message":"worker lost"}"#));
        assert!(is_alarm(r#"{"level":"ERROR","message":"WARN"}"#));
        assert!(is_alarm("thread 'main' panicked at src/lib.rs:1:2:"));
        assert!(!is_alarm(r#"{"level":"INFO","message":"ERROR"}"#));
        assert!(!is_alarm("listening on 127.0.0.1:1"));
    }
}
