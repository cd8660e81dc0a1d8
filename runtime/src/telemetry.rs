//! Logs: to standard error, filtered by `SHEAF_LOG`, as JSON lines when asked for.

use tracing_subscriber::EnvFilter;

/// Sets the program's log up; the first call wins. `default` applies without `SHEAF_LOG`.
pub fn init(default: &str) {
    let filter = EnvFilter::try_from_env("SHEAF_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let json = std::env::var("SHEAF_LOG_FORMAT").is_ok_and(|v| v == "json");
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // A second initialisation (tests in one process) keeps the first.
    let _ = if json { builder.json().try_init() } else { builder.compact().try_init() };
}
