//! Workers on one machine read each other's exchanged rows as files. Each says on a board, a folder of this machine that
//! belongs to its user alone, where its rows lie; before a task starts, what it reads of a neighbour is linked into the
//! worker's own folder, where the engine finds it. Whatever cannot be linked comes over the network as ever.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use ballista_core::execution_plans::ShuffleReaderExec;
use ballista_core::serde::scheduler::PartitionLocation;
use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::physical_plan::ExecutionPlan;
use std::sync::Arc;

/// Where workers of this machine find each other.
#[derive(Debug, Clone)]
pub(super) struct Neighbours {
    /// Rows of this worker.
    work: PathBuf,
    /// Absent where there is no folder that is the user's alone.
    board: Option<PathBuf>,
}

/// A worker's line on the board, until dropped.
#[derive(Debug)]
pub(super) struct Notice(Option<PathBuf>);

impl Drop for Notice {
    fn drop(&mut self) {
        if let Some(line) = self.0.take() {
            remove(&line);
        }
    }
}

impl Neighbours {
    /// For rows in `work`; the board is below a folder for temporary files.
    pub(super) fn new(work: &Path, temporary: &Path) -> Self {
        let board = board(work, temporary);
        if let Err(error) = &board {
            tracing::info!(%error, "rows of workers on this machine come over the network, too");
        }
        Self { work: work.to_owned(), board: board.ok() }
    }

    /// Says that the rows of an executor lie here.
    pub(super) fn notice(&self, executor: &str) -> Notice {
        let Some(board) = &self.board else { return Notice(None) };
        self.clear(board);
        let line = board.join(executor);
        match symlink(&self.work, &line) {
            Ok(()) => Notice(Some(line)),
            Err(error) => {
                tracing::info!(%error, "other workers of this machine get rows over the network");
                Notice(None)
            }
        }
    }

    /// Removes lines that lead nowhere, and those of earlier stays: processes that were killed left them.
    fn clear(&self, board: &Path) {
        let Ok(lines) = fs::read_dir(board) else { return };
        for line in lines.flatten().map(|line| line.path()) {
            if fs::read_link(&line).is_ok_and(|to| to == self.work || !to.exists()) {
                remove(&line);
            }
        }
    }

    /// Links what a plan reads of neighbours.
    pub(super) fn link(&self, plan: &Arc<dyn ExecutionPlan>) -> Result<()> {
        let Some(board) = &self.board else { return Ok(()) };
        plan.apply(|node| {
            if let Some(reader) = node.downcast_ref::<ShuffleReaderExec>() {
                for location in reader.partition.iter().flatten() {
                    self.link_file(board, location)?;
                }
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(())
    }

    fn link_file(&self, board: &Path, location: &PartitionLocation) -> Result<()> {
        let here = location.path(&self.work.display().to_string())?;
        let there = location.path(&board.join(&location.executor_meta.id).display().to_string())?;
        if here.exists() || !there.exists() {
            return Ok(());
        }
        // Readers look for the rows: their index comes first.
        let index = |data: &Path| data.with_extension("arrow.index");
        let linked = match location.is_sort_shuffle {
            true => link(&index(&there), &index(&here)).and_then(|()| link(&there, &here)),
            false => link(&there, &here),
        };
        if let Err(error) = linked {
            tracing::debug!(%error, file = %there.display(), "rows of a neighbour come over the network");
        }
        Ok(())
    }
}

fn link(there: &Path, here: &Path) -> io::Result<()> {
    if let Some(folder) = here.parent() {
        fs::create_dir_all(folder)?;
    }
    match fs::hard_link(there, here) {
        // Another task of this worker was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    }
}

fn remove(line: &Path) {
    match fs::remove_file(line) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::debug!(%error, line = %line.display(), "a line stays on the board");
        }
        _ => {}
    }
}

/// The folder of this user; whoever could write to it could give us rows.
fn board(work: &Path, temporary: &Path) -> io::Result<PathBuf> {
    let user = fs::metadata(work)?.uid();
    let board = temporary.join(format!("sheaf-exchange-{user}"));
    match fs::DirBuilder::new().mode(0o700).create(&board) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let facts = fs::symlink_metadata(&board)?;
    match facts.is_dir() && facts.uid() == user && facts.mode() & 0o077 == 0 {
        true => Ok(board),
        false => Err(io::Error::other(format!("{} is open to other users", board.display()))),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use ballista_core::JobId;
    use ballista_core::serde::scheduler::{
        ExecutorMetadata, ExecutorOperatingSystemSpecification, ExecutorSpecification, PartitionId, PartitionStats,
    };
    use std::os::unix::fs::PermissionsExt;

    fn location(executor: &str, sorted: bool) -> PartitionLocation {
        PartitionLocation {
            map_partition_id: 0,
            partition_id: PartitionId::new(&JobId::from("job"), 1, 0),
            executor_meta: ExecutorMetadata {
                id: executor.to_owned(),
                host: String::new(),
                port: 0,
                grpc_port: 0,
                specification: ExecutorSpecification::default(),
                os_info: ExecutorOperatingSystemSpecification::default(),
            },
            partition_stats: PartitionStats::default(),
            file_id: Some(3),
            is_sort_shuffle: sorted,
        }
    }

    fn neighbours(root: &Path, name: &str) -> Neighbours {
        let work = root.join(name);
        fs::create_dir_all(&work).unwrap();
        Neighbours::new(&work, root)
    }

    #[test]
    fn rows_of_a_neighbour_are_linked_until_it_leaves() {
        let root = tempfile::tempdir().unwrap();
        let (ours, theirs) = (neighbours(root.path(), "ours"), neighbours(root.path(), "theirs"));
        let notice = theirs.notice("them");
        let board = ours.board.clone().unwrap();
        for sorted in [true, false] {
            let location = location("them", sorted);
            let there = location.path(&theirs.work.display().to_string()).unwrap();
            let here = location.path(&ours.work.display().to_string()).unwrap();
            ours.link_file(&board, &location).unwrap();
            assert!(!here.exists(), "nothing was written yet");
            fs::create_dir_all(there.parent().unwrap()).unwrap();
            fs::write(there.with_extension("arrow.index"), "index").unwrap();
            fs::write(&there, "rows").unwrap();
            ours.link_file(&board, &location).unwrap();
            fs::remove_dir_all(there.parent().unwrap()).unwrap();
            assert_eq!(fs::read_to_string(&here).unwrap(), "rows");
            assert_eq!(here.with_extension("arrow.index").exists(), sorted);
        }
        drop(notice);
        assert_eq!(fs::read_dir(&board).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_others_can_open_is_no_board() {
        let root = tempfile::tempdir().unwrap();
        let board = neighbours(root.path(), "ours").board.unwrap();
        fs::set_permissions(&board, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(neighbours(root.path(), "ours").board.is_none());
    }

    #[test]
    fn lines_of_the_dead_are_cleared() {
        let root = tempfile::tempdir().unwrap();
        let (ours, theirs) = (neighbours(root.path(), "ours"), neighbours(root.path(), "theirs"));
        std::mem::forget((ours.notice("killed"), theirs.notice("gone")));
        fs::remove_dir_all(&theirs.work).unwrap();
        let _notice = ours.notice("alive");
        let board = ours.board.clone().unwrap();
        let lines: Vec<_> = fs::read_dir(board).unwrap().map(|line| line.unwrap().file_name()).collect();
        assert_eq!(lines, ["alive"]);
    }
}
