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

use std::sync::atomic::{AtomicU64, Ordering};

/// Environment variable that names the point.
pub const CRASH_VARIABLE: &str = "SHEAF_CRASH_AT";

/// Passes of the named point so far.
static PASSES: AtomicU64 = AtomicU64::new(0);

/// Aborts the process if it is to crash here.
pub fn point(name: &str) {
    let Ok(wanted) = std::env::var(CRASH_VARIABLE) else { return };
    let (at, pass) = wanted.split_once('#').unwrap_or((&wanted, "1"));
    if at == name && (PASSES.fetch_add(1, Ordering::Relaxed) + 1).to_string() == pass {
        tracing::error!(point = name, "crashing, as {CRASH_VARIABLE} says");
        std::process::abort();
    }
}
