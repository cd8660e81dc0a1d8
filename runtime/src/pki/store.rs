//! Files of keys and certificates: readable by their owner alone where they hold a key, never half written.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::PkiError;

/// Makes a folder that only its owner enters; one that exists stays as it is.
pub(crate) fn folder(path: &Path) -> Result<(), PkiError> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| failed(path, &e))
}

/// Writes a new file; one that exists is an error.
pub fn write_new(path: &Path, mode: u32, text: &str) -> Result<(), PkiError> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = file.map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => PkiError::Exists { path: path.to_owned() },
        _ => failed(path, &e),
    })?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(|e| failed(path, &e))
}

/// Writes a file in one piece: readers see the old content or the new one.
pub fn write_over(path: &Path, mode: u32, text: &str) -> Result<(), PkiError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let temporary = Path::new(&name);
    match std::fs::remove_file(temporary) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(temporary, &error)),
        // Left by a run that was killed here, or not there.
        _ => {}
    }
    write_new(temporary, mode, text)?;
    std::fs::rename(temporary, path).map_err(|e| failed(path, &e))
}

fn failed(path: &Path, error: &std::io::Error) -> PkiError {
    PkiError::Write { path: path.to_owned(), reason: error.to_string() }
}
