//! The job file: one YAML (or JSON) text becomes the job message, or a list of everything that is
//! wrong with it, each with its place. Pure: the caller reads the file and gives clock, environment
//! and folder. What the product does not do yet is refused by name, never ignored.
//!
//! `yaml` makes a tree with places, `read` holds the getters and collects errors, `params` substitutes
//! `$name`, each file in `sections` reads one section and keeps its JSON Schema, `render` shows errors.

mod params;
mod read;
mod render;
mod schema;
mod sections;
mod suggest;
mod yaml;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use sheaf_dataflow::job::{Job, JobError};

pub use params::given_param;
pub use render::render;
pub use schema::schema;

/// Largest job file, in bytes.
pub const MAX_BYTES: usize = 1 << 20;

/// Most errors that one reading gives.
const MAX_DIAGNOSTICS: usize = 100;

/// A job file's name (shown in messages) and text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// As the user wrote it.
    pub name: String,
    /// The whole text.
    pub text: String,
}

impl Source {
    /// Takes bytes as they were read; the error says where they stop being UTF-8.
    pub fn from_bytes(name: impl Into<String>, bytes: &[u8]) -> Result<Self, Diagnostic> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Self { name: name.into(), text: text.to_owned() }),
            Err(e) => {
                let before = String::from_utf8_lossy(&bytes[..e.valid_up_to()]);
                let line = before.matches('\n').count() + 1;
                let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) + 1;
                let mut diagnostic = Diagnostic::new(Place { line, column, width: 1 }, "", "the file is not UTF-8 text");
                diagnostic.help("save it as UTF-8");
                Err(diagnostic)
            }
        }
    }
}

/// Looks up an environment variable by name.
pub type Environment = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// What comes from outside the file.
pub struct Overrides {
    /// `--set name=value`, in order.
    pub set: Vec<(String, String)>,
    /// `--table name=PATH`, in order. A relative path is taken as relative to `base`, so a caller that
    /// means the current folder makes it absolute first.
    pub tables: Vec<(String, String)>,
    /// `$now`: nanoseconds since 1970-01-01 UTC.
    pub now_ns: i64,
    /// Looks up an environment variable for `{env: NAME}`.
    pub env: Environment,
    /// The job file's folder, absolute.
    pub base: PathBuf,
}

impl Default for Overrides {
    /// Nothing set, no environment, the clock at 1970, paths below `/`.
    fn default() -> Self {
        Self { set: Vec::new(), tables: Vec::new(), now_ns: 0, env: Box::new(|_| None), base: PathBuf::from("/") }
    }
}

impl fmt::Debug for Overrides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Overrides")
            .field("set", &self.set)
            .field("tables", &self.tables)
            .field("now_ns", &self.now_ns)
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}

/// A piece of one line of the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// From 1; 0 means no place in the file (the command line, or the whole job).
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// Characters to underline, at least 1.
    pub width: usize,
}

/// Where each part of the job stands in the file, by its path (`features[1].one_hot.columns`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spans(BTreeMap<String, Place>);

impl Spans {
    /// The place of exactly this path.
    pub fn get(&self, path: &str) -> Option<Place> {
        self.0.get(path).copied()
    }

    /// The place of the path or of the closest part of the job that holds it.
    pub fn nearest(&self, path: &str) -> Option<Place> {
        let mut path = path;
        loop {
            if let Some(place) = self.get(path) {
                return Some(place);
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }

    pub(crate) fn insert(&mut self, path: impl Into<String>, place: Place) {
        self.0.insert(path.into(), place);
    }
}

/// One thing that is wrong with the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Path in the job, as written in the file; empty for the whole job.
    pub path: String,
    /// From 1; 0 when it is not in the file.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// Characters to underline.
    pub width: usize,
    /// What is wrong; lower case, no full stop.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Diagnostic {
    pub(crate) fn new(place: Place, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            line: place.line,
            column: place.column,
            width: place.width.max(1),
            message: message.into(),
            hint: None,
        }
    }

    /// Says what to do about it.
    pub fn help(&mut self, hint: impl Into<String>) {
        self.hint = Some(hint.into());
    }
}

/// A job with the places of its parts.
#[derive(Debug, Clone, PartialEq)]
pub struct JobFile {
    /// The message that travels.
    pub job: Job,
    /// Where its parts stand.
    pub spans: Spans,
}

impl JobFile {
    /// Gives an error that was found later (by planning, or by the coordinator) its place in the file.
    pub fn diagnose(&self, error: &JobError) -> Diagnostic {
        let place = self.spans.nearest(&error.path);
        // What is not in the file cannot be shown there: then the path says where it would be.
        let message = match place {
            None if !error.path.is_empty() => format!("{}: {}", error.path, error.message),
            _ => error.message.clone(),
        };
        let mut diagnostic = Diagnostic::new(place.unwrap_or_default(), error.path.clone(), message);
        diagnostic.hint.clone_from(&error.hint);
        diagnostic
    }
}

/// Reads a job file. The error is everything that is wrong, in the order of the file.
pub fn read(source: &Source, overrides: &Overrides) -> Result<JobFile, Vec<Diagnostic>> {
    let mut reader = read::Reader::new(&source.text, overrides);
    let job = match yaml::parse(&source.text, &mut reader.diagnostics) {
        Some(root) => sections::job(&mut reader, &root),
        None => None,
    };
    let (mut diagnostics, spans) = reader.finish();
    diagnostics.sort_by(|a, b| (a.line, a.column, &a.path, &a.message).cmp(&(b.line, b.column, &b.path, &b.message)));
    diagnostics.dedup();
    if diagnostics.len() > MAX_DIAGNOSTICS {
        let more = diagnostics.len() - MAX_DIAGNOSTICS;
        diagnostics.truncate(MAX_DIAGNOSTICS);
        diagnostics.push(Diagnostic::new(Place::default(), "", format!("{more} more errors are not shown")));
    }
    match job {
        Some(job) if diagnostics.is_empty() => Ok(JobFile { job, spans }),
        _ if diagnostics.is_empty() => {
            Err(vec![Diagnostic::new(Place::default(), "", "the job cannot be read, and no reason was recorded")])
        }
        _ => Err(diagnostics),
    }
}
