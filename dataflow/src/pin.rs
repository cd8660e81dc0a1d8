//! Pinned files: what a file was when the job was accepted, and reads that fail once it is something else.
//! Every byte of input is read here, with If-Match; a local file is looked at again after each read, so
//! that a rewrite during the read is seen too. A local file counts as the same by inode, time of change
//! (microseconds, as fine as the file system keeps it) and size.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};

use crate::error::DataError;
use crate::stores::Stores;

/// A file as it was when the job was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinnedFile {
    /// Path below the table's root; part of row ids and of the global order.
    pub path: String,
    /// Canonical location.
    pub location: String,
    /// Bytes.
    pub size: u64,
    /// The store's tag of the content; of local files inode, time of change and size.
    pub etag: Option<String>,
    /// Time of the last change, nanoseconds since 1970.
    pub modified_ns: i64,
}

impl PinnedFile {
    /// Pins the object at a canonical location.
    pub(crate) async fn pin(stores: &Stores, location: &str, path: String) -> Result<Self, DataError> {
        let (store, key) = stores.resolve(location)?;
        let meta = store.head(&key).await.map_err(|e| DataError::store("read", location, e))?;
        Ok(Self {
            path,
            location: location.to_owned(),
            size: meta.size,
            etag: meta.e_tag,
            modified_ns: meta.last_modified.timestamp_nanos_opt().unwrap_or_default(),
        })
    }

    /// Opens the file for reading; nothing is read yet.
    pub(crate) fn open(&self, stores: &Stores) -> Result<PinnedObject, DataError> {
        let (store, path) = stores.resolve(&self.location)?;
        Ok(self.open_in(store, path, stores.meter()))
    }

    /// Opens the file in the store that its location resolves to, under its path there; bytes read are counted in
    /// `meter`.
    pub(crate) fn open_in(&self, store: Arc<dyn ObjectStore>, path: Path, meter: Arc<AtomicU64>) -> PinnedObject {
        let local = !self.location.contains("://");
        PinnedObject { store, path, local, file: Arc::new(self.clone()), meter }
    }
}

/// An open pinned file.
#[derive(Debug, Clone)]
pub(crate) struct PinnedObject {
    store: Arc<dyn ObjectStore>,
    path: Path,
    local: bool,
    file: Arc<PinnedFile>,
    meter: Arc<AtomicU64>,
}

impl PinnedObject {
    /// What is pinned.
    pub(crate) fn file(&self) -> &PinnedFile {
        &self.file
    }

    /// Bytes of a range.
    pub(crate) async fn read(&self, range: Range<u64>) -> Result<Bytes, DataError> {
        let bytes = self.fetch(range).await?;
        self.look_again().await?;
        Ok(bytes)
    }

    /// Bytes of several ranges; near ones are fetched together.
    pub(crate) async fn read_ranges(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, DataError> {
        let fetch = |range| self.fetch(range);
        let found = object_store::coalesce_ranges(ranges, fetch, object_store::OBJECT_STORE_COALESCE_DEFAULT).await?;
        self.look_again().await?;
        Ok(found)
    }

    async fn fetch(&self, range: Range<u64>) -> Result<Bytes, DataError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let wanted = range.end - range.start;
        let options = GetOptions { range: Some(GetRange::Bounded(range)), ..self.conditions() };
        let result = self.store.get_opts(&self.path, options).await.map_err(|e| self.error(e))?;
        self.compare(result.meta.size, result.meta.e_tag.as_deref())?;
        let bytes = result.bytes().await.map_err(|e| self.error(e))?;
        self.meter.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        match bytes.len() as u64 == wanted {
            true => Ok(bytes),
            false => Err(self.changed()),
        }
    }

    async fn look_again(&self) -> Result<(), DataError> {
        if !self.local {
            return Ok(());
        }
        let options = GetOptions { head: true, ..self.conditions() };
        let result = self.store.get_opts(&self.path, options).await.map_err(|e| self.error(e))?;
        self.compare(result.meta.size, result.meta.e_tag.as_deref())
    }

    fn conditions(&self) -> GetOptions {
        let if_match = self.file.etag.clone();
        // Stores without tags still refuse what is newer.
        let if_unmodified_since = match if_match {
            Some(_) => None,
            None => Some(chrono::DateTime::from_timestamp_nanos(self.file.modified_ns)),
        };
        GetOptions { if_match, if_unmodified_since, ..Default::default() }
    }

    fn compare(&self, size: u64, etag: Option<&str>) -> Result<(), DataError> {
        let same = size == self.file.size && (self.file.etag.is_none() || self.file.etag.as_deref() == etag);
        if same { Ok(()) } else { Err(self.changed()) }
    }

    fn changed(&self) -> DataError {
        DataError::InputChanged { file: self.file.location.clone() }
    }

    fn error(&self, source: object_store::Error) -> DataError {
        match source {
            object_store::Error::Precondition { .. } | object_store::Error::NotFound { .. } => self.changed(),
            other => DataError::store("read", &self.file.location, other),
        }
    }
}
