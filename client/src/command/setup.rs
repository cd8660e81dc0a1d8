//! What several commands need: the job file read and checked, the store made absolute, the roots that
//! may be read.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use sheaf_dataflow::job::JobError;
use sheaf_dataflow::stores::{StoreOptions, Stores};
use sheaf_runtime::exit::Exit;
use sheaf_runtime::fault::Fault;

use crate::cli::{ClusterArgs, FileArgs, StoreArgs};
use crate::embedded::EmbeddedOptions;
use crate::failure::{Failure, exit_of};
use crate::jobfile::{self, Diagnostic, JobFile, Overrides, Source};

/// What allows more to a command that reads here.
const HERE: &str = "allow its folder with `--allow-root DIR`; access to s3:// locations is given in SHEAF_S3";

/// A job file as read.
pub struct Loaded {
    /// Its text.
    pub source: Source,
    /// Job and places.
    pub file: JobFile,
    /// The folder it lies in.
    pub folder: PathBuf,
}

/// Reads a job file; everything wrong with it is shown at once.
pub fn load(args: &FileArgs) -> Result<Loaded, Failure> {
    let name = args.file.display().to_string();
    let bytes = std::fs::read(&args.file).map_err(|e| {
        let exit = if e.kind() == std::io::ErrorKind::NotFound { Exit::NotFound } else { Exit::Usage };
        Failure::new(exit, format!("read job file {name}: {e}"))
    })?;
    let folder = folder_of(&args.file)?;
    let source = Source::from_bytes(name.clone(), &bytes).map_err(|d| Failure::usage(format!("{name}: {}", d.message)))?;
    let overrides = Overrides {
        set: args.set.clone(),
        tables: absolute_tables(&args.table)?,
        now_ns: now_ns(),
        env: Box::new(|name| std::env::var(name).ok()),
        base: folder.clone(),
    };
    match jobfile::read(&source, &overrides) {
        Ok(file) => Ok(Loaded { source, file, folder }),
        Err(diagnostics) => Err(shown(&source, &diagnostics)),
    }
}

impl Loaded {
    /// Shows errors of the coordinator at their places in the file.
    pub fn show(&self, fault: Fault) -> Failure {
        if fault.errors.is_empty() {
            return fault.into();
        }
        self.show_errors(&fault.errors, exit_of(fault.kind))
    }

    /// Shows job errors at their places.
    pub fn show_errors(&self, errors: &[JobError], exit: Exit) -> Failure {
        let diagnostics: Vec<Diagnostic> = errors.iter().map(|e| self.file.diagnose(e)).collect();
        Failure { exit, ..shown(&self.source, &diagnostics) }
    }
}

fn shown(source: &Source, diagnostics: &[Diagnostic]) -> Failure {
    use std::io::IsTerminal as _;
    eprint!("{}", jobfile::render(source, diagnostics, std::io::stderr().is_terminal()));
    Failure::new(Exit::Usage, "")
}

/// `--table` paths are relative to the current folder; URLs stay.
pub fn absolute_tables(tables: &[(String, String)]) -> Result<Vec<(String, String)>, Failure> {
    tables.iter().map(|(name, path)| Ok((name.clone(), absolute(path)?))).collect()
}

/// A path from the current folder as an absolute one; URLs stay.
pub fn absolute(path: &str) -> Result<String, Failure> {
    if path.contains("://") {
        return Ok(path.to_owned());
    }
    let absolute = std::path::absolute(path).map_err(|e| Failure::usage(format!("{path}: {e}")))?;
    Ok(absolute.to_string_lossy().into_owned())
}

/// The folder of a file, absolute, links followed.
pub fn folder_of(file: &Path) -> Result<PathBuf, Failure> {
    let absolute = std::fs::canonicalize(file).map_err(|e| Failure::usage(format!("{}: {e}", file.display())))?;
    Ok(absolute.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned))
}

/// The clock in nanoseconds since 1970 UTC.
pub fn now_ns() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as i64)
}

/// The clock in milliseconds since 1970 UTC.
pub fn now_ms() -> u64 {
    u64::try_from(now_ns() / 1_000_000).unwrap_or(0)
}

/// The store as an absolute location, made if it is a folder.
pub fn store(args: &StoreArgs) -> Result<String, Failure> {
    let location = absolute(&args.store)?;
    if !location.contains("://") {
        std::fs::create_dir_all(&location)
            .map_err(|e| Failure::new(Exit::Failed, format!("create the store {location}: {e}")))?;
    }
    Ok(location)
}

/// What may be read and written: the store and the given roots. Access to object stores comes from the
/// operator: `SHEAF_S3_PREFIX` with `AWS_…` as usual.
pub fn store_options(store: &str, roots: &[PathBuf]) -> Result<StoreOptions, Failure> {
    let mut local_roots: Vec<PathBuf> = roots.to_vec();
    if !store.contains("://") {
        local_roots.push(PathBuf::from(store));
    }
    Ok(StoreOptions { local_roots, s3: s3_prefixes()?, remedy: HERE.to_owned() })
}

/// What `--allow` names: folders, and prefixes of object stores that the operator gave access to. `remedy` says
/// whoever is refused which process has to be started with more of it.
pub fn allowed(locations: &[String], remedy: &str) -> Result<StoreOptions, Failure> {
    let s3 = s3_prefixes()?;
    let mut local_roots = Vec::new();
    for location in locations {
        if location.starts_with("s3://") {
            if !s3.iter().any(|known| location.starts_with(&known.prefix)) {
                let message =
                    format!("--allow {location}: SHEAF_S3 names no prefix that covers it; it holds the access to object stores");
                return Err(Failure::usage(message));
            }
            continue;
        }
        if location.contains("://") {
            return Err(Failure::usage(format!("--allow {location}: neither a folder nor an s3:// prefix")));
        }
        let folder = PathBuf::from(absolute(location)?);
        if !folder.is_dir() {
            let exit = if folder.exists() { Exit::Usage } else { Exit::NotFound };
            return Err(Failure::new(exit, format!("--allow {location}: there is no such folder")));
        }
        local_roots.push(folder);
    }
    Ok(StoreOptions { local_roots, s3, remedy: remedy.to_owned() })
}

fn s3_prefixes() -> Result<Vec<sheaf_dataflow::stores::S3Prefix>, Failure> {
    let Ok(text) = std::env::var("SHEAF_S3") else { return Ok(Vec::new()) };
    serde_json::from_str(&text)
        .map_err(|e| Failure::usage(format!("SHEAF_S3 is not a JSON list of prefixes with their access: {e}")))
}

/// Opens stores in this process.
pub fn stores(options: StoreOptions) -> Result<Stores, Failure> {
    Ok(Stores::new(options)?)
}

/// The embedded cluster of a command.
pub fn embedded(cluster: &ClusterArgs, workers: u32, store: String, stores: StoreOptions) -> EmbeddedOptions {
    EmbeddedOptions {
        workers,
        threads: cluster.threads,
        memory_bytes: cluster.memory,
        store,
        stores,
        speculation: cluster.speculation.is_on(),
        paranoid: cluster.paranoid,
        kernel_levels: cluster.kernel_levels.clone(),
        pid_file: cluster.pid_file.clone(),
    }
}
