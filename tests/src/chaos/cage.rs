//! A control group with a limit on memory: what takes more is ended by the kernel. Needs the right to make one.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A control group; it goes when this is dropped, and its processes must have ended by then.
#[derive(Debug)]
pub struct Cage {
    folder: PathBuf,
}

impl Cage {
    /// A group whose processes take no more than so many bytes together, files that they read included.
    pub fn new(bytes: u64) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("sheaf-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let (root, limit) = match Path::new("/sys/fs/cgroup/memory").is_dir() {
            true => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            false => ("/sys/fs/cgroup", "memory.max"),
        };
        let folder = Path::new(root).join(name);
        let needs = "a control group for memory needs the right to make one (root) and the controller `memory`";
        std::fs::create_dir(&folder).unwrap_or_else(|e| panic!("{needs}: {}: {e}", folder.display()));
        let cage = Self { folder };
        std::fs::write(cage.folder.join(limit), bytes.to_string()).unwrap_or_else(|e| panic!("{needs}: {limit}: {e}"));
        cage
    }

    /// The file that a process writes its id into to be held.
    pub fn procs(&self) -> PathBuf {
        self.folder.join("cgroup.procs")
    }
}

impl Drop for Cage {
    fn drop(&mut self) {
        // While a process in it has not quite ended, the kernel keeps it.
        for _ in 0..200 {
            if std::fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        eprintln!("the control group {} is left behind", self.folder.display());
    }
}
