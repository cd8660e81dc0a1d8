//! A folder of result files that appears at once: written beside its place, then moved there. A
//! folder that we did not write is never replaced.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sheaf_dataflow::error::DataError;
use sheaf_dataflow::job::JobError;
use sheaf_dataflow::stores::Stores;

use crate::fault::{Fault, Kind};

const MARKER: &str = "_sheaf.json";

/// What stands in the marker file of a written folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Marker {
    /// The experiment that wrote it: only the same one may replace it.
    pub writer: String,
    /// The run of it that wrote it.
    #[serde(default)]
    pub token: String,
    /// Rows written.
    pub rows: u64,
    /// Files, in order.
    pub files: Vec<String>,
}

/// A folder being written.
#[derive(Debug)]
pub struct Output {
    target: PathBuf,
    staging: PathBuf,
    writer: String,
    token: String,
}

impl Output {
    /// Prepares to write `target` for `writer`; refuses a place that may not be written and a folder that someone else
    /// wrote.
    pub fn open(stores: &Stores, target: &str, writer: &str, token: &str) -> Result<Self, Fault> {
        let target = local(stores, target)?;
        check_replaceable(&target, writer)?;
        let staging = staging(stores, &target, token)?;
        std::fs::create_dir_all(&staging).map_err(|e| Fault::new(Kind::Job, format!("create {}: {e}", staging.display())))?;
        Ok(Self { target, staging, writer: writer.to_owned(), token: token.to_owned() })
    }

    /// Whether [`Output::open`] would refuse; `path` names the place in the job. Nothing is made.
    pub fn check(stores: &Stores, target: &str, writer: &str, path: &str) -> Result<(), JobError> {
        let located = |fault: Fault| match fault.errors.into_iter().next() {
            Some(error) => JobError { path: path.to_owned(), ..error },
            None => JobError::at(path, fault.message),
        };
        let target = local(stores, target).map_err(located)?;
        staging(stores, &target, "check").map_err(located)?;
        check_replaceable(&target, writer).map_err(located)
    }

    /// What this very run has written to `target` already, if it got so far before it broke off.
    pub fn written(stores: &Stores, target: &str, writer: &str, token: &str) -> Result<Option<(PathBuf, Marker)>, Fault> {
        let target = local(stores, target)?;
        let marker = read_marker(&target).filter(|marker| marker.writer == writer && marker.token == token);
        Ok(marker.map(|marker| (target, marker)))
    }

    /// Folder that the files are written to before they appear.
    pub fn staging(&self) -> &Path {
        &self.staging
    }

    /// Removes what a killed worker left half-written.
    fn sweep(&self, files: &[String]) -> Result<(), Fault> {
        let at = |e: std::io::Error| Fault::internal(format!("clean {}: {e}", self.staging.display()));
        for entry in std::fs::read_dir(&self.staging).map_err(at)? {
            let entry = entry.map_err(at)?;
            if !files.iter().any(|file| entry.file_name() == file.as_str()) {
                let folder = entry.file_type().map_err(at)?.is_dir();
                let removed = if folder { std::fs::remove_dir_all(entry.path()) } else { std::fs::remove_file(entry.path()) };
                removed.map_err(at)?;
            }
        }
        Ok(())
    }

    /// Makes the files appear. What was there before is gone only once they have.
    pub fn commit(self, rows: u64, files: Vec<String>) -> Result<PathBuf, Fault> {
        self.sweep(&files)?;
        let marker = Marker { writer: self.writer.clone(), token: self.token.clone(), rows, files };
        let text = serde_json::to_vec_pretty(&marker).map_err(Fault::internal)?;
        let at = |path: &Path, e: std::io::Error| Fault::internal(format!("write {}: {e}", path.display()));
        std::fs::write(self.staging.join(MARKER), text).map_err(|e| at(&self.staging, e))?;
        check_replaceable(&self.target, &self.writer)?;
        let old = self.staging.with_extension("old");
        if self.target.exists() {
            remove_if_there(&old)?;
            std::fs::rename(&self.target, &old).map_err(|e| at(&old, e))?;
            if let Err(error) = std::fs::rename(&self.staging, &self.target) {
                std::fs::rename(&old, &self.target).map_err(|e| at(&self.target, e))?;
                return Err(at(&self.target, error));
            }
        } else {
            std::fs::rename(&self.staging, &self.target).map_err(|e| at(&self.target, e))?;
        }
        // Moved aside just now, or by a run of this job that was killed between the two moves.
        remove_if_there(&old)?;
        Ok(self.target.clone())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // After a commit there is nothing here; after a failure this is rubbish that nobody refers to.
        if self.staging.exists()
            && let Err(error) = std::fs::remove_dir_all(&self.staging)
        {
            tracing::warn!(folder = %self.staging.display(), %error, "temporary results not removed");
        }
    }
}

/// The absolute path of a folder of this machine that may be written, links followed.
fn local(stores: &Stores, target: &str) -> Result<PathBuf, Fault> {
    if target.contains("://") && !target.starts_with("file://") {
        let message = format!("{target}: results are written to local folders; object stores are not supported yet");
        return Err(Fault::new(Kind::Job, message));
    }
    stores.folder(target).map_err(|error| match error {
        DataError::Denied { location, reason, remedy } => {
            let error = JobError::at("", format!("{location}: {reason}"));
            Fault::job(vec![JobError { hint: remedy, ..error }])
        }
        other => other.into(),
    })
}

/// Where the files are gathered: beside the folder, so that one move makes them appear.
fn staging(stores: &Stores, target: &Path, token: &str) -> Result<PathBuf, Fault> {
    let refused = || Fault::new(Kind::Job, format!("{} is not a folder that can be written", target.display()));
    let name = target.file_name().ok_or_else(refused)?;
    let staging = target.with_file_name(format!(".{}.{token}.tmp", name.to_string_lossy()));
    // A root itself cannot be replaced: its neighbours are outside.
    stores.folder(&staging.to_string_lossy()).map_err(|_| {
        let message = format!("{} is the allowed folder itself, which is not replaced; name a folder in it", target.display());
        Fault::new(Kind::Job, message)
    })
}

fn read_marker(target: &Path) -> Option<Marker> {
    std::fs::read(target.join(MARKER)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok())
}

fn remove_if_there(folder: &Path) -> Result<(), Fault> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Fault::internal(format!("remove {}: {error}", folder.display())))
        }
        _ => Ok(()),
    }
}

fn check_replaceable(target: &Path, writer: &str) -> Result<(), Fault> {
    let refuse =
        |why: String| Err(Fault::new(Kind::Job, format!("{} is not replaced: {why}; name another folder", target.display())));
    match std::fs::read_dir(target).map(Iterator::count) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => refuse(e.to_string()),
        Ok(0) => Ok(()),
        Ok(_) => match read_marker(target) {
            Some(marker) if marker.writer == writer => Ok(()),
            Some(marker) => refuse(format!("it was written by `{}`", marker.writer)),
            None => refuse("it holds files that no such job wrote".to_owned()),
        },
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use sheaf_dataflow::stores::StoreOptions;

    use super::*;

    fn stores(folder: &Path) -> Stores {
        Stores::new(StoreOptions { local_roots: vec![folder.to_owned()], ..StoreOptions::default() }).unwrap()
    }

    fn write(target: &Path, writer: &str, text: &str) -> Result<PathBuf, Fault> {
        let output = Output::open(&stores(target.parent().unwrap()), target.to_str().unwrap(), writer, "t")?;
        std::fs::write(output.staging().join("part.txt"), text).unwrap();
        output.commit(1, vec!["part.txt".into()])
    }

    #[test]
    fn a_run_that_broke_off_finds_what_it_wrote() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("out");
        let (stores, name) = (stores(folder.path()), target.to_str().unwrap());
        assert!(Output::written(&stores, name, "a", "t").unwrap().is_none());
        write(&target, "a", "one").unwrap();
        let (path, marker) = Output::written(&stores, name, "a", "t").unwrap().unwrap();
        assert_eq!((path, marker.rows), (target.clone(), 1));
        assert!(Output::written(&stores, name, "a", "later").unwrap().is_none());
        // Killed between the two moves: what was there before is aside, and goes when the new one has come.
        std::fs::rename(&target, folder.path().join(".out.t.old")).unwrap();
        write(&target, "a", "two").unwrap();
        assert_eq!(std::fs::read_to_string(target.join("part.txt")).unwrap(), "two");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn only_the_same_writer_replaces() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("out");
        write(&target, "a", "one").unwrap();
        write(&target, "a", "two").unwrap();
        assert_eq!(std::fs::read_to_string(target.join("part.txt")).unwrap(), "two");
        assert!(write(&target, "b", "three").unwrap_err().message.contains("written by `a`"));
        let foreign = folder.path().join("foreign");
        std::fs::create_dir(&foreign).unwrap();
        std::fs::write(foreign.join("x"), "x").unwrap();
        assert!(write(&foreign, "a", "no").is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "no temporary folder is left");
    }

    #[test]
    fn only_folders_below_the_allowed_ones_are_written() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        std::fs::create_dir(&root).unwrap();
        std::os::unix::fs::symlink("/etc", root.join("link")).unwrap();
        let stores = stores(&root);
        let here = |name: &str| root.join(name).to_string_lossy().into_owned();
        let outside = [
            "/etc/out".to_owned(),
            "file:///etc/out".to_owned(),
            "out".to_owned(),
            "s3://other/out".to_owned(),
            "http://169.254.169.254/".to_owned(),
            here("link/out"),
            here("../out"),
            here("..%2fout"),
            here(""),
            "/".to_owned(),
        ];
        for target in outside {
            let error = Output::check(&stores, &target, "a", "write.prepared").unwrap_err();
            assert_eq!(error.path, "write.prepared", "{target}");
            assert!(Output::open(&stores, &target, "a", "t").is_err(), "{target}");
        }
        assert_eq!(Output::check(&stores, &here("new/out/"), "a", "write.prepared"), Ok(()));
        assert_eq!(std::fs::read_dir(&root).unwrap().count(), 1, "a check makes nothing");
    }
}
