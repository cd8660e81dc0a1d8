//! Crash points, for tests of the promise only: with `SHEAF_CRASH_AT=NAME` in its environment a
//! coordinator aborts when it first reaches the point of that name, with `NAME#3` the third time.
//!
//! | point | what has just happened |
//! |---|---|
//! | `after-submit-logged` | a job is in the log, nobody was told and nothing runs |
//! | `after-journal` | what a phase gave is in the log |
//! | `after-checkpoint-object` | a checkpoint's object is in the store; nothing names it yet |
//! | `before-pointer` | a checkpoint is about to be named in the log |
//! | `after-pointer` | it is named; the one before it still lies in the store |
//! | `after-publish` | a version is in the registry; the log knows nothing of it |
//! | `after-output` | a prediction's folder is in its place; the log knows nothing of it |
//! | `before-end` | everything is done; the job's end is not in the log |
//! | `within PHASE` | a worker's block of that phase has come and is not merged yet |

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Environment variable that names the point.
pub const CRASH_VARIABLE: &str = "SHEAF_CRASH_AT";

/// The named point and at which pass of it to crash, as text.
static WANTED: LazyLock<Option<(String, String)>> = LazyLock::new(|| {
    let wanted = std::env::var(CRASH_VARIABLE).ok()?;
    let (at, pass) = wanted.split_once('#').unwrap_or((&wanted, "1"));
    Some((at.to_owned(), pass.to_owned()))
});

/// Passes of the named point so far.
static PASSES: AtomicU64 = AtomicU64::new(0);

/// Aborts the process if it is to crash here.
pub fn point(name: &str) {
    if let Some((at, pass)) = WANTED.as_ref() {
        pass_at(at == name, name, pass);
    }
}

/// Aborts the process if it is to crash within this phase.
pub fn within(phase: &str) {
    if let Some((at, pass)) = WANTED.as_ref() {
        pass_at(at.strip_prefix("within ") == Some(phase), at, pass);
    }
}

fn pass_at(here: bool, name: &str, pass: &str) {
    if here && (PASSES.fetch_add(1, Ordering::Relaxed) + 1).to_string() == pass {
        tracing::error!(point = name, "crashing, as {CRASH_VARIABLE} says");
        std::process::abort();
    }
}
