//! Logs of all programs: lines on standard error, filtered by `SHEAF_LOG`, as text for people or as JSON
//! for machines.

mod lines;

use std::str::FromStr;
use std::sync::OnceLock;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use self::lines::Lines;

/// Environment variable that names the format of log lines; processes that are started inherit it.
pub const FORMAT_VARIABLE: &str = "SHEAF_LOG_FORMAT";

/// What a log line looks like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// `2026-11-22T03:50:26.123Z INFO worker joined worker=1 threads=2`.
    #[default]
    Text,
    /// One JSON object: `ts`, `level`, `target`, `message`, then the fields of the event and of the spans
    /// around it (`job`, `phase`, `stage`, `step`, `worker` …) side by side.
    Json,
}

impl LogFormat {
    /// The name that people type.
    pub fn name(self) -> &'static str {
        match self {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        }
    }
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            other => Err(format!("`{other}` is not a log format; use text or json")),
        }
    }
}

/// The format of the program's log, once it is set up.
static CHOSEN: OnceLock<LogFormat> = OnceLock::new();

/// Sets the program's log up in a format; the first call wins. `default` applies without `SHEAF_LOG`.
pub fn init(default: &str, format: LogFormat) {
    let (filter, wrong) = match std::env::var("SHEAF_LOG") {
        Ok(text) => match EnvFilter::try_new(quiet_engine(&text)) {
            Ok(filter) => (filter, None),
            Err(error) => (EnvFilter::new(quiet_engine("warn")), Some(error)),
        },
        Err(_) => (EnvFilter::new(quiet_engine(default)), None),
    };
    let format = *CHOSEN.get_or_init(|| format);
    // A second initialisation (tests in one process) keeps the first.
    let _ = tracing_subscriber::registry().with(filter).with(Lines::new(format, std::io::stderr)).try_init();
    if let Some(error) = wrong {
        tracing::error!(%error, "SHEAF_LOG is no filter such as info or warn,sheaf_worker=debug; warnings are shown");
    }
}

/// The query engine speaks of every task, and warns of what we mend: it is heard only by who names it.
fn quiet_engine(filter: &str) -> String {
    let engine = ["ballista_core", "ballista_executor", "ballista_scheduler"];
    let quiet = engine.iter().filter(|name| !filter.contains(**name)).map(|name| format!(",{name}=off"));
    quiet.fold(filter.to_owned(), |all, one| all + &one)
}

/// The format of this program's log, for processes that it starts.
pub fn format() -> LogFormat {
    CHOSEN.get().copied().unwrap_or_default()
}
