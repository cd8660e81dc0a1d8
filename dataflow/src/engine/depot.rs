//! Copies of exchanged rows in the object store. A task's output is copied before the task counts as done; when its
//! worker is gone, readers get the copy. So a lost worker costs the tasks that it was running and nothing else.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use crate::error::DataError;
use crate::stores::Stores;

/// The copies that this process makes and reads.
#[derive(Debug, Clone)]
pub(super) struct Depot {
    stores: Stores,
    /// Where copies that are read lie on this machine, as the engine lays out a work folder.
    local: PathBuf,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Folder of the copies, by query.
    folders: HashMap<String, String>,
    /// Files that are here or on their way.
    files: HashMap<PathBuf, Arc<OnceCell<()>>>,
}

impl Depot {
    /// With a folder of its own on this machine.
    pub(super) fn new(stores: Stores, local: PathBuf) -> Self {
        Self { stores, local, inner: Arc::default() }
    }

    /// Where copies that are read lie on this machine.
    pub(super) fn local(&self) -> &Path {
        &self.local
    }

    /// Says where the copies of a query are.
    pub(super) fn keeps(&self, job: &str, folder: &str) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.folders.entry(job.to_owned()).or_insert_with(|| folder.trim_end_matches('/').to_owned());
    }

    /// Whether this process knows copies of a query.
    pub(super) fn has(&self, job: &str) -> bool {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).folders.contains_key(job)
    }

    /// Copies a file that a task of a stage wrote.
    pub(super) async fn put(&self, job: &str, stage: usize, folder: &Path, file: &Path) -> Result<(), DataError> {
        let below = file.strip_prefix(folder).map_err(|e| DataError::internal("copy exchanged rows", e))?;
        let Some(location) = self.location(job, stage, below) else { return Ok(()) };
        self.stores.put_file(&location, file).await
    }

    /// Brings the copies of an output here; false where this query has none.
    pub(super) async fn fetch(&self, job: &str, stage: usize, below: &Path) -> Result<bool, DataError> {
        let Some(location) = self.location(job, stage, below) else { return Ok(false) };
        let file = self.local.join(job).join(stage.to_string()).join(below);
        let cell = {
            let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(inner.files.entry(file.clone()).or_default())
        };
        cell.get_or_try_init(|| self.stores.get_file(&location, &file)).await?;
        Ok(true)
    }

    /// Forgets a query and removes its files from this machine.
    pub(super) async fn forget(&self, job: &str) {
        let folder = self.local.join(job);
        {
            let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            inner.folders.remove(job);
            inner.files.retain(|file, _| !file.starts_with(&folder));
        }
        match tokio::fs::remove_dir_all(&folder).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(%error, folder = %folder.display(), "files of an ended query could not be removed");
            }
            _ => {}
        }
    }

    fn location(&self, job: &str, stage: usize, below: &Path) -> Option<String> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = inner.folders.get(job)?;
        Some(format!("{folder}/{job}/{stage}/{}", below.display()))
    }
}
