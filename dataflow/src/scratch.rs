//! Folders for what a process keeps on disk only while it lives. Each holds a file that its process keeps locked: the system
//! lets go of the lock however the process ends, so whoever makes a folder like it next knows the dead ones, and removes
//! them. It never touches a folder without such a file, or one of another user.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tracing::{debug, info, warn};

/// The file that is locked for as long as the folder is somebody's.
const OWNER: &str = "owner";
/// Its name until it is locked: nobody takes a folder for dead that is only being made.
const UNLOCKED: &str = "owner.new";

/// A folder of this process alone; removed when dropped, or by the next process that makes one like it.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    /// Absent where files cannot be locked: then nobody removes the folder of a killed process.
    _owner: Option<File>,
}

impl Scratch {
    /// Makes a folder below `parent`, or below the system's folder for temporary files, and removes those that killed
    /// processes left there under the same prefix. No two uses may share a prefix, or the beginning of one.
    pub fn new(parent: Option<&Path>, prefix: &str) -> io::Result<Self> {
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_owned);
        // Before the new one is made: a full disk may have room then.
        sweep(&parent, prefix);
        let folder = tempfile::Builder::new().prefix(prefix).permissions(Permissions::from_mode(0o700)).tempdir_in(&parent)?;
        let owner = own(folder.path())?;
        Ok(Self { path: folder.keep(), _owner: owner })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        match remove(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                debug!(%error, folder = %self.path.display(), "a folder is left to be removed by the next process");
            }
            _ => {}
        }
    }
}

/// Locks the owner's file of a new folder; it gets its name last.
fn own(folder: &Path) -> io::Result<Option<File>> {
    let unlocked = folder.join(UNLOCKED);
    let owner = File::create_new(&unlocked)?;
    match owner.try_lock() {
        Ok(()) => {
            fs::rename(&unlocked, folder.join(OWNER))?;
            Ok(Some(owner))
        }
        Err(error) => {
            debug!(%error, folder = %folder.display(), "files cannot be locked here");
            Ok(None)
        }
    }
}

/// Removes what killed processes left. Nothing that goes wrong here is a reason not to start.
fn sweep(parent: &Path, prefix: &str) {
    // Whoever makes a folder here next says what is wrong with the place.
    let Ok(entries) = fs::read_dir(parent) else { return };
    let alike = |name: &OsStr| name.as_encoded_bytes().starts_with(prefix.as_bytes());
    for folder in entries.flatten().filter(|entry| alike(&entry.file_name())).map(|entry| entry.path()) {
        // Held until the folder is gone: of several processes that look, one removes it.
        let Some(_lock) = left(&folder) else { continue };
        match remove(&folder) {
            Ok(()) => info!(folder = %folder.display(), "removed what a killed process had left"),
            // Its remover was done between our look and our lock.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => warn!(%error, folder = %folder.display(), "what a killed process had left cannot be removed"),
        }
    }
}

/// The lock of a folder of ours whose process has ended; nothing of any other.
fn left(folder: &Path) -> Option<File> {
    let (facts, owner) = (fs::symlink_metadata(folder).ok()?, folder.join(OWNER));
    if !facts.is_dir() || facts.uid() != rustix::process::geteuid().as_raw() {
        return None;
    }
    // Opening anything but a file may wait for ever.
    fs::symlink_metadata(&owner).ok().filter(fs::Metadata::is_file)?;
    // For writing: a network file system locks nothing else exclusively.
    let owner = File::options().read(true).write(true).open(owner).ok()?;
    match owner.try_lock() {
        Ok(()) => Some(owner),
        Err(TryLockError::WouldBlock) => None,
        Err(TryLockError::Error(error)) => {
            debug!(%error, folder = %folder.display(), "nobody can tell whether the folder is in use");
            None
        }
    }
}

/// Removes a folder, the owner's file last: if it ends half-way, the rest is still known for what it is.
fn remove(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name() == OWNER {
            continue;
        }
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    fs::remove_dir_all(folder)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const PREFIX: &str = "sheaf-test-";

    /// A scratch folder with something in it.
    fn made(parent: &Path) -> Scratch {
        let scratch = Scratch::new(Some(parent), PREFIX).unwrap();
        fs::create_dir(scratch.path().join("below")).unwrap();
        fs::write(scratch.path().join("below/file"), "rows").unwrap();
        symlink("nowhere", scratch.path().join("link")).unwrap();
        scratch
    }

    /// As a killed process leaves it: its lock is gone, its folder is not.
    fn killed(parent: &Path) -> PathBuf {
        let mut scratch = made(parent);
        // What is dropped is nobody's folder.
        let path = std::mem::replace(&mut scratch.path, parent.join("none"));
        assert!(path.join(OWNER).exists());
        path
    }

    #[test]
    fn a_folder_is_private_and_goes_with_its_owner() {
        let parent = tempfile::tempdir().unwrap();
        let scratch = made(parent.path());
        let facts = fs::metadata(scratch.path()).unwrap();
        assert_eq!(facts.mode() & 0o777, 0o700);
        assert!(scratch.path().file_name().unwrap().to_str().unwrap().starts_with(PREFIX));
        drop(scratch);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_a_killed_process_left_is_removed() {
        let parent = tempfile::tempdir().unwrap();
        let (first, second) = (killed(parent.path()), parent.path().join("sheaf-test-empty"));
        fs::create_dir(&second).unwrap();
        fs::write(second.join(OWNER), "").unwrap();
        let _scratch = made(parent.path());
        assert!(!first.exists() && !second.exists());
    }

    #[test]
    fn a_folder_in_use_stays() {
        let parent = tempfile::tempdir().unwrap();
        let (first, second) = (made(parent.path()), made(parent.path()));
        for scratch in [&first, &second] {
            assert_eq!(fs::read_to_string(scratch.path().join("below/file")).unwrap(), "rows");
        }
    }

    #[test]
    fn what_is_not_like_it_stays() {
        let parent = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let target = killed(elsewhere.path());
        let at = |name: &str| parent.path().join(name);
        symlink(&target, at("sheaf-test-link")).unwrap();
        fs::write(at("sheaf-test-file"), "").unwrap();
        // Just being made, or not by us.
        fs::create_dir(at("sheaf-test-young")).unwrap();
        fs::write(at("sheaf-test-young").join(UNLOCKED), "").unwrap();
        fs::create_dir_all(at("sheaf-test-odd").join(OWNER)).unwrap();
        // Another use.
        fs::create_dir(at("sheaf-other-1")).unwrap();
        fs::write(at("sheaf-other-1").join(OWNER), "").unwrap();
        drop(made(parent.path()));
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 5);
        assert!(target.join("below/file").exists());
    }

    #[test]
    fn several_may_sweep_at_once() {
        let parent = tempfile::tempdir().unwrap();
        let left: Vec<PathBuf> = (0..20).map(|_| killed(parent.path())).collect();
        let start = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    start.wait();
                    for _ in 0..10 {
                        let scratch = made(parent.path());
                        assert!(scratch.path().join("below/file").exists());
                    }
                });
            }
        });
        assert!(left.iter().all(|folder| !folder.exists()));
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_place_that_is_not_there_is_an_error() {
        let parent = tempfile::tempdir().unwrap();
        assert!(Scratch::new(Some(&parent.path().join("none")), PREFIX).is_err());
    }
}
