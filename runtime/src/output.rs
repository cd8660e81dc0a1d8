//! A folder of result files that appears at once: written beside its place, then moved there. A
//! folder that we did not write is never replaced.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

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
    /// Prepares to write `target` for `writer`; refuses a folder that someone else wrote.
    pub fn open(target: &str, writer: &str, token: &str) -> Result<Self, Fault> {
        let target = local(target)?;
        check_replaceable(&target, writer)?;
        let name = target
            .file_name()
            .ok_or_else(|| Fault::new(Kind::Job, format!("{} is not a folder that can be written", target.display())))?;
        let staging = target.with_file_name(format!(".{}.{token}.tmp", name.to_string_lossy()));
        std::fs::create_dir_all(&staging).map_err(|e| Fault::new(Kind::Job, format!("create {}: {e}", staging.display())))?;
        Ok(Self { target, staging, writer: writer.to_owned(), token: token.to_owned() })
    }

    /// What this very run has written to `target` already, if it got so far before it broke off.
    pub fn written(target: &str, writer: &str, token: &str) -> Result<Option<(PathBuf, Marker)>, Fault> {
        let target = local(target)?;
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

/// The absolute path of a local folder.
fn local(target: &str) -> Result<PathBuf, Fault> {
    let path = target.strip_prefix("file://").unwrap_or(target);
    if path.contains("://") {
        return Err(Fault::new(
            Kind::Job,
            format!("{target}: results can only be written to local folders so far; object stores are not supported yet"),
        ));
    }
    std::path::absolute(path).map_err(|e| Fault::new(Kind::Job, format!("{path}: {e}")))
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
    use super::*;

    fn write(target: &Path, writer: &str, text: &str) -> Result<PathBuf, Fault> {
        let output = Output::open(target.to_str().unwrap(), writer, "t")?;
        std::fs::write(output.staging().join("part.txt"), text).unwrap();
        output.commit(1, vec!["part.txt".into()])
    }

    #[test]
    fn a_run_that_broke_off_finds_what_it_wrote() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("out");
        let name = target.to_str().unwrap();
        assert!(Output::written(name, "a", "t").unwrap().is_none());
        write(&target, "a", "one").unwrap();
        let (path, marker) = Output::written(name, "a", "t").unwrap().unwrap();
        assert_eq!((path, marker.rows), (target.clone(), 1));
        assert!(Output::written(name, "a", "later").unwrap().is_none());
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
}
