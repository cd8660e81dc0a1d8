//! How a cluster under test is made, and how its workers may differ.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::chaos::SmallDisk;

/// How a cluster is made.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Workers at the start.
    pub workers: usize,
    /// Threads of each.
    pub threads: u32,
    /// Memory of each for shards.
    pub memory: String,
    /// Workers compute everything twice and read much again: slow enough to be hit.
    pub paranoid: bool,
    /// More arguments of the coordinator.
    pub coordinator: Vec<String>,
    /// A dead worker is started again after so long.
    pub restart_after: Option<Duration>,
    /// Disk that the coordinator sees, and its state folder there.
    pub state_disk: Option<(Arc<SmallDisk>, PathBuf)>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            workers: 2,
            threads: 1,
            memory: "256MiB".to_owned(),
            paranoid: false,
            coordinator: Vec::new(),
            restart_after: None,
            state_disk: None,
        }
    }
}

impl Setup {
    /// So many workers of one thread.
    pub fn workers(workers: usize) -> Self {
        Self { workers, ..Self::default() }
    }

    /// Workers that take their time.
    #[must_use]
    pub fn slow(self) -> Self {
        Self { paranoid: true, ..self }
    }

    /// Dead workers come back.
    #[must_use]
    pub fn restarting(self, after: Duration) -> Self {
        Self { restart_after: Some(after), ..self }
    }

    /// Everybody keeps a full share, however late it is: each worker contributes.
    #[must_use]
    pub fn equal(self) -> Self {
        self.coordinator(&["--speculation", "off"])
    }

    /// More arguments of the coordinator.
    #[must_use]
    pub fn coordinator(mut self, arguments: &[&str]) -> Self {
        self.coordinator.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }
}

/// How one worker differs from the others.
#[derive(Debug, Clone, Default)]
pub struct Launch {
    /// It dials this address instead of the coordinator's own.
    pub through: Option<SocketAddr>,
    /// It sees this disk.
    pub disk: Option<Arc<SmallDisk>>,
    /// It spills here.
    pub spill: Option<PathBuf>,
    /// Its memory for shards.
    pub memory: Option<String>,
    /// It is held by the control group whose file of processes this is.
    pub cage: Option<PathBuf>,
    /// It may map so many bytes: what it allocates beyond ends it.
    pub address_space: Option<u64>,
}
