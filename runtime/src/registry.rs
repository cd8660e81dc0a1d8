//! The registry: `models/NAME/000003.json`, written if absent, is the readable truth, so that models
//! can be listed and used without a coordinator. A model that was not published stays under its job.
//!
//! A job publishes once, through any failure: before it writes a version it notes under its own id which
//! one that will be, and whoever goes on with the job looks there first.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sheaf_dataflow::error::DataError;
use sheaf_dataflow::job::Job;
use sheaf_dataflow::stores::Stores;
use sheaf_learn::trees::importance::Importance;

use crate::canonical::hash_bytes;
use crate::documents::join;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::order::ModelId;
use crate::retry;

/// How a model came to be, and where it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Registry name; absent: not published.
    pub name: Option<String>,
    /// Version, from 1; absent: not published.
    pub version: Option<u32>,
    /// The model hash.
    pub sha256: String,
    /// Hash of the artifact document.
    pub artifact: String,
    /// The job that made it.
    pub job_id: String,
    /// When, RFC 3339 UTC.
    pub created: String,
    /// The job itself.
    pub job: Job,
    /// Fingerprint of the pinned data and its layout.
    pub data_fingerprint: String,
    /// Version of the arithmetic.
    pub numeric_version: u32,
    /// Version of the program.
    pub code_version: String,
    /// Everything the result object says (metrics, rows, checks, training …).
    pub result: Value,
    /// Intercept on the raw scale of the features, for linear models.
    pub intercept: Option<f64>,
    /// Coefficients on the raw scale of the features, for linear models.
    pub coefficients: Option<BTreeMap<String, f64>>,
    /// What each feature counts for, for models of trees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub importances: Option<BTreeMap<String, Importance>>,
    /// The model that training went on from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_start: Option<ModelId>,
    /// The model in formats of others, by the format's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub exports: BTreeMap<String, Export>,
}

/// A file that holds a model in a format of others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Export {
    /// Where it is, below the registry's base.
    pub file: String,
    /// Its size.
    pub bytes: u64,
    /// Hash of its content.
    pub sha256: String,
}

/// Why a model reference does not lead to a model.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// There is no such model, version or alias.
    #[error("{0}")]
    NotFound(String),
    /// The reference is no reference.
    #[error("{0}")]
    Usage(String),
    /// The store failed.
    #[error("{0}")]
    Store(#[from] Fault),
}

impl RegistryError {
    /// The exit code that it ends the program with.
    pub fn exit(&self) -> Exit {
        match self {
            RegistryError::NotFound(_) => Exit::NotFound,
            RegistryError::Usage(_) => Exit::Usage,
            RegistryError::Store(_) => Exit::Failed,
        }
    }
}

impl From<DataError> for RegistryError {
    fn from(error: DataError) -> Self {
        Self::Store(error.into())
    }
}

/// The version that a job is about to write, or has written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Claim {
    name: String,
    version: u32,
}

/// The registry of one store; cheap to clone.
#[derive(Clone)]
pub struct Registry {
    stores: Stores,
    base: String,
    /// Aliases are read, changed and written.
    aliasing: Arc<tokio::sync::Mutex<()>>,
}

impl Registry {
    /// The registry below `base`.
    pub fn new(stores: Stores, base: impl Into<String>) -> Self {
        Self { stores, base: base.into(), aliasing: Arc::default() }
    }

    /// Publishes under the next free version; gives the record as written. Two publishers never get the
    /// same version, since a record is only written if absent, and a job that publishes again, as after a
    /// crash, gets what it has published already.
    pub async fn publish(&self, name: &str, record: Record) -> Result<Record, RegistryError> {
        let claim_location = join(&self.base, &format!("jobs/{}/published.json", record.job_id));
        let earlier: Option<Claim> = self.read(&claim_location).await?;
        let mut version = match earlier.filter(|claim| claim.name == name) {
            Some(claim) => claim.version,
            None => self.versions(name).await?.last().copied().unwrap_or(0) + 1,
        };
        loop {
            let claim = Claim { name: name.to_owned(), version };
            self.write(&claim_location, &claim).await?;
            let record = Record { name: Some(name.to_owned()), version: Some(version), ..record.clone() };
            let (location, bytes) = (self.version_location(name, version), to_bytes(&record)?);
            if retry::store(|| self.stores.put_if_absent(&location, bytes.clone())).await? {
                return Ok(record);
            }
            // Ours, if a crash or a store that answered late lies between; else another job's.
            let there: Option<Record> = self.read(&location).await?;
            if let Some(there) = there.filter(|there| there.job_id == record.job_id) {
                return Ok(there);
            }
            version += 1;
        }
    }

    /// Writes a model in a format of others beside the versions of `name`, before there is a record that points to it.
    /// The file is called by its content: written again, as after a crash, it is the same.
    pub async fn export(&self, name: &str, format: &str, bytes: Bytes) -> Result<Export, RegistryError> {
        let sha256 = hash_bytes(&bytes);
        let file = format!("models/{name}/{}.{format}", &sha256[..16]);
        let export = Export { file, bytes: bytes.len() as u64, sha256 };
        let location = join(&self.base, &export.file);
        retry::store(|| self.stores.put_atomic(&location, bytes.clone())).await?;
        Ok(export)
    }

    /// Keeps a model with its job: readable as `JOB`.
    pub async fn keep(&self, record: &Record) -> Result<(), RegistryError> {
        let location = join(&self.base, &format!("jobs/{}/model.json", record.job_id));
        self.write(&location, record).await
    }

    /// Points an alias to a version.
    pub async fn set_alias(&self, name: &str, alias: &str, version: u32) -> Result<(), RegistryError> {
        let _one_at_a_time = self.aliasing.lock().await;
        let mut aliases = self.aliases(name).await?;
        aliases.insert(alias.to_owned(), version);
        self.write(&self.aliases_location(name), &aliases).await
    }

    /// Aliases of a model.
    pub async fn aliases(&self, name: &str) -> Result<BTreeMap<String, u32>, RegistryError> {
        Ok(self.read(&self.aliases_location(name)).await?.unwrap_or_default())
    }

    /// Versions of a model, ascending.
    pub async fn versions(&self, name: &str) -> Result<Vec<u32>, RegistryError> {
        let folder = join(&self.base, &format!("models/{name}"));
        let files = retry::store(|| self.stores.list(&folder)).await?;
        let number = |path: &String| path.rsplit('/').next()?.strip_suffix(".json")?.parse().ok();
        let mut versions: Vec<u32> = files.iter().filter_map(number).collect();
        versions.sort_unstable();
        Ok(versions)
    }

    /// Names of all models.
    pub async fn names(&self) -> Result<Vec<String>, RegistryError> {
        let files = self.stores.list(&join(&self.base, "models")).await?;
        let name = |path: &String| path.rsplit('/').nth(1).map(str::to_owned);
        let mut names: Vec<String> = files.iter().filter_map(name).collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// Every version of every model, by name, then version.
    pub async fn list(&self) -> Result<Vec<Record>, RegistryError> {
        let mut all = Vec::new();
        for name in self.names().await? {
            for version in self.versions(&name).await? {
                all.extend(self.read(&self.version_location(&name, version)).await?);
            }
        }
        Ok(all)
    }

    /// The record of `name@version`, `name@alias`, `name@latest`, `name` (latest) or a job id.
    pub async fn resolve(&self, reference: &str) -> Result<Record, RegistryError> {
        let (name, wanted) = reference.split_once('@').unwrap_or((reference, "latest"));
        if name.is_empty() || wanted.is_empty() || !reference.chars().all(|c| c.is_ascii_alphanumeric() || "@._-".contains(c)) {
            return Err(RegistryError::Usage(format!(
                "`{reference}` is not a model; write NAME@VERSION, NAME@ALIAS or NAME@latest"
            )));
        }
        let versions = self.versions(name).await?;
        let Some(last) = versions.last().copied() else { return self.of_job(reference).await };
        let version = match wanted.parse::<u32>() {
            Ok(version) => version,
            Err(_) if wanted == "latest" => last,
            Err(_) => *self.aliases(name).await?.get(wanted).ok_or_else(|| {
                RegistryError::NotFound(format!("model `{name}` has no alias `{wanted}`; its versions are {}", spans(&versions)))
            })?,
        };
        let record = self.read(&self.version_location(name, version)).await?;
        record.ok_or_else(|| {
            RegistryError::NotFound(format!("model `{name}` has no version {version}; it has {}", spans(&versions)))
        })
    }

    async fn of_job(&self, reference: &str) -> Result<Record, RegistryError> {
        if let Some(record) = self.read(&join(&self.base, &format!("jobs/{reference}/model.json"))).await? {
            return Ok(record);
        }
        let names = self.names().await?;
        let known =
            if names.is_empty() { "the registry is empty".to_owned() } else { format!("known models: {}", names.join(", ")) };
        Err(RegistryError::NotFound(format!("model `{reference}` not found in {}; {known}", self.base)))
    }

    async fn read<T: serde::de::DeserializeOwned>(&self, location: &str) -> Result<Option<T>, RegistryError> {
        let bytes = match retry::store(|| self.stores.get(location)).await {
            Ok(bytes) => bytes,
            Err(DataError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let value = serde_json::from_slice(&bytes).map_err(|e| Fault::internal(format!("read {location}: {e}")))?;
        Ok(Some(value))
    }

    async fn write<T: Serialize>(&self, location: &str, value: &T) -> Result<(), RegistryError> {
        let bytes = to_bytes(value)?;
        Ok(retry::store(|| self.stores.put_atomic(location, bytes.clone())).await?)
    }

    fn version_location(&self, name: &str, version: u32) -> String {
        join(&self.base, &format!("models/{name}/{version:06}.json"))
    }

    fn aliases_location(&self, name: &str) -> String {
        join(&self.base, &format!("models/{name}/aliases.json"))
    }
}

fn spans(versions: &[u32]) -> String {
    match versions {
        [first, .., last] => format!("versions {first} to {last}"),
        [only] => format!("version {only}"),
        [] => "no version".to_owned(),
    }
}

fn to_bytes<T: Serialize>(value: &T) -> Result<Bytes, Fault> {
    serde_json::to_vec_pretty(value).map(Bytes::from).map_err(|e| Fault::internal(format!("write record: {e}")))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;
    use sheaf_dataflow::stores::StoreOptions;

    use super::*;

    fn registry(folder: &std::path::Path) -> Registry {
        let stores = Stores::new(StoreOptions { local_roots: vec![folder.to_owned()], ..StoreOptions::default() }).unwrap();
        Registry::new(stores, folder.to_str().unwrap())
    }

    fn record(job: &str) -> Record {
        let text = json!({
            "name": null, "version": null, "sha256": "s", "artifact": "a", "job_id": job, "created": "now",
            "job": {"version": 1, "name": "m", "tables": []}, "data_fingerprint": "d", "numeric_version": 1,
            "code_version": "0", "result": {}, "intercept": null, "coefficients": null,
        });
        serde_json::from_value(text).unwrap()
    }

    #[tokio::test]
    async fn a_job_publishes_once() {
        let folder = tempfile::tempdir().unwrap();
        let registry = registry(folder.path());
        assert_eq!(registry.publish("m", record("a")).await.unwrap().version, Some(1));
        assert_eq!(registry.publish("m", record("b")).await.unwrap().version, Some(2));
        assert_eq!(registry.publish("m", record("a")).await.unwrap().version, Some(1));
        assert_eq!(registry.publish("m", record("c")).await.unwrap().version, Some(3));
        assert_eq!(registry.versions("m").await.unwrap(), [1, 2, 3]);
    }

    #[tokio::test]
    async fn an_export_stands_beside_the_versions_and_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let registry = registry(folder.path());
        let export = registry.export("m", "onnx", Bytes::from_static(b"model")).await.unwrap();
        assert_eq!(registry.export("m", "onnx", Bytes::from_static(b"model")).await.unwrap(), export);
        assert_eq!(std::fs::read(folder.path().join(&export.file)).unwrap(), b"model");
        let exports = BTreeMap::from([("onnx".to_owned(), export)]);
        let published = registry.publish("m", Record { exports, ..record("a") }).await.unwrap();
        assert_eq!((registry.versions("m").await.unwrap(), registry.names().await.unwrap()), (vec![1], vec!["m".to_owned()]));
        assert_eq!(registry.resolve("m").await.unwrap(), published);
    }

    #[tokio::test]
    async fn a_crash_between_claim_and_record_leaves_no_gap_and_takes_nobodys_version() {
        let folder = tempfile::tempdir().unwrap();
        let registry = registry(folder.path());
        let claim = Claim { name: "m".into(), version: 1 };
        registry.write(&join(&registry.base, "jobs/a/published.json"), &claim).await.unwrap();
        // Another job was faster.
        assert_eq!(registry.publish("m", record("b")).await.unwrap().version, Some(1));
        assert_eq!(registry.publish("m", record("a")).await.unwrap().version, Some(2));
        assert_eq!(registry.publish("m", record("a")).await.unwrap().version, Some(2));
        assert_eq!(registry.versions("m").await.unwrap(), [1, 2]);
    }
}
