//! A disk that is full when the test says so: a small tmpfs in a mount namespace of its own, held by a
//! process that waits. Processes that should see the disk are started inside.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What is needed where the disk cannot be made.
const NEEDED: &str = "this test needs `unshare` and `nsenter` (util-linux) and the right to mount a tmpfs in a mount \
    namespace of its own: run it as root, or allow unprivileged user namespaces \
    (sysctl kernel.apparmor_restrict_unprivileged_userns=0)";

/// A small file system, visible at its folder to the processes started through [`SmallDisk::command`].
#[derive(Debug)]
pub struct SmallDisk {
    folder: PathBuf,
    holder: Child,
    as_root: bool,
}

impl SmallDisk {
    /// A disk of `size` bytes at `folder`, which is made.
    pub fn new(folder: &Path, size: u64) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let as_root = rustix::process::geteuid().is_root();
        let ready = folder.with_extension("mounted");
        let script = format!("mount -t tmpfs -o size={size} sheaf-test \"$0\" && : > \"$1\" && exec sleep 3600");
        let mut command = Command::new("unshare");
        command.arg("--mount").args((!as_root).then_some("--map-root-user"));
        command.args(["sh", "-c", &script]).arg(folder).arg(&ready).stdin(Stdio::null());
        let mut holder = command.spawn().unwrap_or_else(|e| panic!("{NEEDED}: {e}"));
        let began = Instant::now();
        while !ready.exists() {
            let ended = holder.try_wait().unwrap();
            assert!(ended.is_none(), "{NEEDED}: it ended with {ended:?}");
            assert!(began.elapsed() < Duration::from_secs(20), "{NEEDED}: nothing was mounted in 20 s");
            std::thread::sleep(Duration::from_millis(5));
        }
        Self { folder: folder.to_owned(), holder, as_root }
    }

    /// `program` where the disk is seen, run in `folder`; arguments may be added. No process stands in between.
    pub fn command(&self, program: &Path, folder: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("--target").arg(self.holder.id().to_string()).arg("--mount");
        command.args((!self.as_root).then_some(["--user", "--preserve-credentials"]).into_iter().flatten());
        command.arg(format!("--wdns={}", folder.display())).arg("--").arg(program);
        command
    }

    /// Fills what is free with a file, to the last byte.
    pub fn fill(&self) {
        // `dd` fails when the disk is full, which is what is wanted; that it is full is looked at.
        self.shell("cat /dev/zero > \"$0/filler\" 2>/dev/null; test \"$(df --output=avail \"$0\" | tail -n 1 | tr -d ' ')\" = 0");
    }

    /// Makes room again.
    pub fn free(&self) {
        self.shell("rm -f \"$0/filler\"");
    }

    /// Files on the disk, as the processes inside see them.
    pub fn files(&self) -> Vec<String> {
        let listing = self.shell("find \"$0\" -type f");
        listing.lines().map(str::to_owned).collect()
    }

    fn shell(&self, script: &str) -> String {
        let mut command = self.command(Path::new("sh"), Path::new("/"));
        let output = command.args(["-c", script]).arg(&self.folder).output().unwrap();
        assert!(output.status.success(), "`{script}` on the small disk: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The namespace and its disk go with the last process inside.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::SmallDisk;

    #[test]
    fn it_is_full_when_told_and_has_room_again() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("small");
        let disk = SmallDisk::new(&place, 256 << 10);
        let write = |name: &str| {
            let file = place.join(name);
            let status = disk
                .command("sh".as_ref(), "/".as_ref())
                .args(["-c", "head -c 9000 /dev/zero > \"$0\" 2>/dev/null"])
                .arg(file)
                .status();
            status.unwrap().success()
        };
        assert!(write("a"));
        disk.fill();
        assert!(!write("b"));
        disk.free();
        assert!(write("c"));
        assert!(std::fs::read_dir(&place).unwrap().next().is_none(), "nobody else sees it");
        assert!(disk.files().iter().any(|name| name.ends_with("/a")));
    }
}
