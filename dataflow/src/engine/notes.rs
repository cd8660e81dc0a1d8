//! Notes about buckets that are written: one small object each, beside the files. The notes are the truth about what is
//! committed; a file that none names is garbage.

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use crate::error::DataError;
use crate::stores::Stores;

/// Notes that are read at the same time.
const PARALLEL: usize = 16;

/// A committed bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Note {
    /// Number of the bucket.
    pub(super) bucket: u32,
    /// Name of its file; it holds the hash of the rows.
    pub(super) name: String,
    /// Bytes of the file.
    pub(super) bytes: u64,
    /// Rows of each row group.
    pub(super) groups: Vec<u64>,
}

impl Note {
    /// Rows of the bucket.
    pub(super) fn rows(&self) -> u64 {
        self.groups.iter().sum()
    }
}

/// The notes of a job's area.
#[derive(Debug, Clone)]
pub(super) struct Notes {
    stores: Stores,
    folder: String,
}

impl Notes {
    /// Of the area at a location.
    pub(super) fn new(stores: &Stores, area: &str) -> Self {
        Self { stores: stores.clone(), folder: format!("{}/buckets", area.trim_end_matches('/')) }
    }

    /// Commits a bucket. One that is committed already must be the same: rows depend on the job alone.
    pub(super) async fn add(&self, note: &Note) -> Result<(), DataError> {
        let location = format!("{}/{:05}.json", self.folder, note.bucket);
        let bytes = serde_json::to_vec(note).map_err(|e| DataError::internal(&location, e))?;
        if self.stores.put_if_absent(&location, bytes.into()).await? {
            return Ok(());
        }
        let found = self.read(&location).await?;
        // The bytes of a Parquet file are not part of the promise.
        match (&found.name, &found.groups) == (&note.name, &note.groups) {
            true => Ok(()),
            false => {
                let message = format!("two attempts wrote other rows: {} and {}", found.name, note.name);
                Err(DataError::internal(location, message))
            }
        }
    }

    /// Numbers of the committed buckets.
    pub(super) async fn buckets(&self) -> Result<BTreeSet<u32>, DataError> {
        let number = |location: &String| location.rsplit('/').next()?.strip_suffix(".json")?.parse().ok();
        Ok(self.stores.list(&self.folder).await?.iter().filter_map(number).collect())
    }

    /// All notes by bucket.
    pub(super) async fn all(&self) -> Result<Vec<Note>, DataError> {
        let found = self.stores.list(&self.folder).await?;
        let read = found.into_iter().map(|location| async move { self.read(&location).await });
        let mut notes: Vec<Note> = futures::stream::iter(read).buffered(PARALLEL).try_collect().await?;
        notes.sort_by_key(|note| note.bucket);
        Ok(notes)
    }

    /// Takes all commits back.
    pub(super) async fn clear(&self) -> Result<(), DataError> {
        self.stores.delete_folder(&self.folder).await.map(drop)
    }

    async fn read(&self, location: &str) -> Result<Note, DataError> {
        let bytes = self.stores.get(location).await?;
        serde_json::from_slice(&bytes).map_err(|e| DataError::internal(location, e))
    }
}
