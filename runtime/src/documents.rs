//! Immutable documents under their content hash in the store's `objects/`. A store that fails for a
//! while is asked again; a document that is damaged is never used, and written anew when it can be.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use sheaf_dataflow::stores::Stores;

use crate::canonical::hash_bytes;
use crate::fault::Fault;
use crate::retry;

/// Documents kept in memory, and the size of the largest such.
const REMEMBERED: usize = 512;
const REMEMBERED_BYTES: usize = 256 << 10;

/// Documents of one store; cheap to clone. Keeps those it has written or read.
#[derive(Clone)]
pub struct Documents {
    stores: Stores,
    base: String,
    seen: Arc<Mutex<BTreeMap<String, Bytes>>>,
}

/// Joins a base location and a relative one.
pub fn join(base: &str, relative: &str) -> String {
    format!("{}/{relative}", base.trim_end_matches('/'))
}

impl Documents {
    /// Documents below `base` (a folder or URL prefix).
    pub fn new(stores: Stores, base: impl Into<String>) -> Self {
        Self { stores, base: base.into(), seen: Arc::default() }
    }

    /// Writes a value as JSON; gives its hash.
    pub async fn put<T: Serialize>(&self, value: &T) -> Result<String, Fault> {
        let bytes = Bytes::from(serde_json::to_vec(value).map_err(|e| Fault::internal(format!("write document: {e}")))?);
        let hash = hash_bytes(&bytes);
        self.put_bytes(&hash, bytes).await?;
        Ok(hash)
    }

    /// Writes bytes under a hash that the caller computed. It is whole in the store when this returns.
    pub async fn put_bytes(&self, hash: &str, bytes: Bytes) -> Result<(), Fault> {
        if self.remembers(hash) {
            return Ok(());
        }
        let location = self.location(hash);
        let fresh = retry::store(|| self.stores.put_if_absent(&location, bytes.clone())).await?;
        if !fresh && hash_bytes(&retry::store(|| self.stores.get(&location)).await?) != hash {
            tracing::warn!(document = hash, "a stored document was damaged and is written anew");
            retry::store(|| self.stores.put_atomic(&location, bytes.clone())).await?;
        }
        self.remember(hash, bytes);
        Ok(())
    }

    /// Reads the bytes of a document and checks them against the hash.
    pub async fn get_bytes(&self, hash: &str) -> Result<Bytes, Fault> {
        if let Some(bytes) = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(hash) {
            return Ok(bytes.clone());
        }
        if hash.len() != 64 || !hash.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Fault::internal(format!("`{hash}` is not a content hash")));
        }
        let location = self.location(hash);
        let bytes = retry::store(|| self.stores.get(&location)).await;
        let bytes = bytes.map_err(|e| Fault::from(e).context(format!("read document {hash}")))?;
        if hash_bytes(&bytes) != hash {
            return Err(Fault::internal(format!("document {hash} is damaged: its content has another hash")));
        }
        self.remember(hash, bytes.clone());
        Ok(bytes)
    }

    /// Reads a value.
    pub async fn get<T: DeserializeOwned>(&self, hash: &str) -> Result<T, Fault> {
        let bytes = self.get_bytes(hash).await?;
        serde_json::from_slice(&bytes).map_err(|e| Fault::internal(format!("read document {hash}: {e}")))
    }

    fn location(&self, hash: &str) -> String {
        join(&self.base, &format!("objects/{hash}.json"))
    }

    fn remembers(&self, hash: &str) -> bool {
        self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner).contains_key(hash)
    }

    fn remember(&self, hash: &str, bytes: Bytes) {
        if bytes.len() > REMEMBERED_BYTES {
            return;
        }
        let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if seen.len() >= REMEMBERED {
            seen.clear();
        }
        seen.insert(hash.to_owned(), bytes);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use sheaf_dataflow::stores::StoreOptions;

    use super::*;

    fn documents(folder: &std::path::Path) -> Documents {
        let stores = Stores::new(StoreOptions { local_roots: vec![folder.to_owned()], ..StoreOptions::default() }).unwrap();
        Documents::new(stores, folder.to_str().unwrap())
    }

    #[tokio::test]
    async fn a_damaged_document_is_refused_and_healed_by_who_can_write_it() {
        let folder = tempfile::tempdir().unwrap();
        let hash = documents(folder.path()).put(&"text").await.unwrap();
        let file = folder.path().join(format!("objects/{hash}.json"));
        std::fs::write(&file, "\"texu\"").unwrap();
        let error = documents(folder.path()).get::<String>(&hash).await.unwrap_err();
        assert!(error.message.contains("is damaged"), "{error}");
        assert_eq!(documents(folder.path()).put(&"text").await.unwrap(), hash);
        assert_eq!(documents(folder.path()).get::<String>(&hash).await.unwrap(), "text");
    }
}
