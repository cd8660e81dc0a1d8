//! Exit codes of the program: scripts rely on them, so they stand in one place.

/// How a run of the program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything was done.
    Done = 0,
    /// The job failed: its data, its deadline or a fault of ours.
    Failed = 1,
    /// Wrong usage or an invalid job.
    Usage = 2,
    /// No such model, job or file.
    NotFound = 3,
    /// Authentication or permission.
    Denied = 4,
    /// The cluster cannot be reached.
    Unreachable = 5,
    /// The job was cancelled.
    Cancelled = 6,
    /// `--wait` ran out.
    Timeout = 7,
    /// A declared limit or check was broken.
    Limit = 8,
    /// A coordinator whose durable log stopped, as on a full disk: its supervisor is to start it again.
    LogStopped = 70,
    /// Interrupted by Ctrl-C.
    Interrupted = 130,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        std::process::ExitCode::from(exit as u8)
    }
}
