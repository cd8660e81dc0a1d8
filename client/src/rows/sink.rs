//! Where rows go: standard output, or a file that appears under its name once it is whole.

use std::fs::Permissions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sheaf_runtime::exit::Exit;
use tempfile::NamedTempFile;

use crate::failure::Failure;

/// Bytes that are written at once.
const BUFFER: usize = 1 << 18;

/// A place for bytes.
pub struct Sink {
    inner: Inner,
    closed: Closed,
}

/// Whether whoever read has gone, as `head` does: what follows is written to nobody.
#[derive(Debug, Clone, Default)]
pub struct Closed(Arc<AtomicBool>);

impl Closed {
    /// Whether it is so.
    pub fn is_closed(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

enum Inner {
    Stdout(BufWriter<io::Stdout>),
    File { path: PathBuf, file: BufWriter<NamedTempFile> },
}

impl Sink {
    /// Standard output.
    pub fn stdout() -> Self {
        Self { inner: Inner::Stdout(BufWriter::with_capacity(BUFFER, io::stdout())), closed: Closed::default() }
    }

    /// A file, replaced as a whole by [`Sink::commit`]; until then nothing is there under its name.
    pub fn file(path: &Path) -> Result<Self, Failure> {
        let refused = |e: io::Error| {
            let exit = if e.kind() == io::ErrorKind::NotFound { Exit::NotFound } else { Exit::Usage };
            Failure::new(exit, format!("--to {}: {e}", path.display()))
        };
        if path.is_dir() {
            return Err(Failure::usage(format!("--to {}: it is a folder; name a file", path.display())));
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut builder = tempfile::Builder::new();
        // As any new file; the process's mask takes away from it.
        let file = builder.prefix(".sheaf-").permissions(Permissions::from_mode(0o666)).tempfile_in(folder).map_err(refused)?;
        let file = BufWriter::with_capacity(BUFFER, file);
        Ok(Self { inner: Inner::File { path: path.to_owned(), file }, closed: Closed::default() })
    }

    /// Tells, also once the sink is in other hands, whether anybody still reads.
    pub fn closed(&self) -> Closed {
        self.closed.clone()
    }

    /// Writes what is left, and gives the file its name.
    pub fn commit(mut self) -> Result<(), Failure> {
        match self.flush() {
            Err(_) if self.closed.is_closed() => return Ok(()),
            flushed => flushed.map_err(write_failure)?,
        }
        let Inner::File { path, file } = self.inner else { return Ok(()) };
        let file = file.into_inner().map_err(|e| write_failure(e.into_error()))?;
        file.as_file().sync_all().map_err(write_failure)?;
        file.persist(&path).map_err(|e| Failure::new(Exit::Failed, format!("write {}: {}", path.display(), e.error)))?;
        Ok(())
    }

    fn note(&mut self, result: io::Result<usize>) -> io::Result<usize> {
        if matches!(&result, Err(e) if e.kind() == io::ErrorKind::BrokenPipe) {
            self.closed.0.store(true, Ordering::Relaxed);
        }
        result
    }
}

/// What it means that bytes cannot be written.
pub fn write_failure(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Failed, format!("write the rows: {error}"))
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = match &mut self.inner {
            Inner::Stdout(out) => out.write(bytes),
            Inner::File { file, .. } => file.write(bytes),
        };
        self.note(result)
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = match &mut self.inner {
            Inner::Stdout(out) => out.flush(),
            Inner::File { file, .. } => file.flush(),
        };
        self.note(result.map(|()| 0)).map(drop)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_file_appears_as_a_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.csv");
        std::fs::write(&path, "old").unwrap();
        let mut broken_off = Sink::file(&path).unwrap();
        broken_off.write_all(b"half").unwrap();
        drop(broken_off);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
        let mut sink = Sink::file(&path).unwrap();
        sink.write_all(b"new").unwrap();
        sink.commit().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o600, 0o600);
    }

    #[test]
    fn a_place_that_is_none_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let error = |path: &Path| Sink::file(path).map(drop).unwrap_err();
        assert!(error(folder.path()).message.ends_with("it is a folder; name a file"));
        assert_eq!(error(&folder.path().join("none/out.csv")).exit, Exit::NotFound);
    }
}
