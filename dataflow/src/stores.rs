//! The object stores of a process. Only what the operator configured resolves: local folders, and S3 prefixes
//! with their credentials. Nothing else exists, for jobs as for SQL.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Component, Path as FsPath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, RetryConfig, WriteMultipart};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::confine::{self, Confined};
use crate::error::DataError;
use crate::scan::pinned;

/// Bytes of a file that are sent at once, and pieces on their way at the same time.
const PIECE: usize = 8 << 20;
const PIECES: usize = 4;

/// Which locations a process may read and write.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreOptions {
    /// Local folders; symlinks that lead out of them are refused.
    pub local_roots: Vec<PathBuf>,
    /// S3 prefixes with their credentials.
    pub s3: Vec<S3Prefix>,
    /// How this process is made to allow more, for people whose location is refused; may be empty.
    pub remedy: String,
}

/// A prefix of a bucket in S3 or a compatible store. Serialising it writes the secret: keep such a file private.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3Prefix {
    /// `s3://bucket` or `s3://bucket/path`.
    pub prefix: String,
    /// URL of the service; absent: AWS.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// Region; absent: us-east-1.
    #[serde(default)]
    pub region: Option<String>,
    /// Access key; absent with `secret_key`: unsigned requests.
    #[serde(default)]
    pub access_key: Option<String>,
    /// Secret key.
    #[serde(default)]
    pub secret_key: Option<String>,
    /// Allows an `http://` endpoint.
    #[serde(default)]
    pub allow_http: bool,
}

impl fmt::Debug for S3Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Prefix")
            .field("prefix", &self.prefix)
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("access_key", &self.access_key.as_ref().map(|_| "…"))
            .field("secret_key", &self.secret_key.as_ref().map(|_| "…"))
            .field("allow_http", &self.allow_http)
            .finish()
    }
}

/// The stores of a process; cheap to clone.
#[derive(Debug, Clone)]
pub struct Stores {
    inner: Arc<Inner>,
    /// Bytes of pinned input read through this handle and its clones.
    read: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Inner {
    roots: Vec<PathBuf>,
    remedy: String,
    local: Arc<dyn ObjectStore>,
    buckets: BTreeMap<String, Bucket>,
}

#[derive(Debug)]
struct Bucket {
    store: Arc<dyn ObjectStore>,
    prefixes: Vec<Path>,
}

impl Stores {
    /// Opens the stores. Local roots must exist; two prefixes of one bucket must agree in everything else.
    pub fn new(options: StoreOptions) -> Result<Self, DataError> {
        let roots = options.local_roots.iter().map(|root| canonical_root(root)).collect::<Result<Vec<_>, _>>()?;
        let mut grouped: BTreeMap<String, (S3Prefix, Vec<Path>)> = BTreeMap::new();
        for entry in options.s3 {
            let (bucket, key) = split_s3(&entry.prefix).map_err(|reason| option_error(&entry.prefix, &reason))?;
            let group = grouped.entry(bucket).or_insert_with(|| (entry.clone(), Vec::new()));
            if (S3Prefix { prefix: entry.prefix.clone(), ..group.0.clone() }) != entry {
                return Err(option_error(&entry.prefix, "another prefix of this bucket has other settings"));
            }
            group.1.push(key);
        }
        let mut buckets = BTreeMap::new();
        for (name, (options, prefixes)) in grouped {
            let store: Arc<dyn ObjectStore> = Arc::new(Confined::bucket(s3(&name, &options)?, prefixes.clone()));
            buckets.insert(name, Bucket { store, prefixes });
        }
        let local: Arc<dyn ObjectStore> = Arc::new(Confined::local(roots.clone()));
        Ok(Self { inner: Arc::new(Inner { roots, remedy: options.remedy, local, buckets }), read: Arc::default() })
    }

    /// The same stores with a meter of their own.
    pub fn metered(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), read: Arc::default() }
    }

    /// Bytes of pinned input read through this handle and its clones since this was last asked.
    pub fn take_bytes_read(&self) -> u64 {
        self.read.swap(0, Ordering::Relaxed)
    }

    /// Where reads of pinned input are counted.
    pub(crate) fn meter(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.read)
    }

    /// Store and path of a location: an absolute path, a `file://` URL or an `s3://` URL. Symlinks of a local
    /// path are followed first; what lies outside the configured folders and prefixes is refused.
    pub fn resolve(&self, location: &str) -> Result<(Arc<dyn ObjectStore>, Path), DataError> {
        if location.starts_with("s3://") {
            plain_text(location)?;
            return self.resolve_s3(location);
        }
        let real = self.folder(location)?;
        let path = Path::from_absolute_path(&real).map_err(|e| DataError::denied(location, e.to_string()))?;
        Ok((Arc::clone(&self.inner.local), path))
    }

    /// What a location means on this machine, symlinks followed as far as it exists: a place inside the configured
    /// folders. Object stores have none.
    pub fn folder(&self, location: &str) -> Result<PathBuf, DataError> {
        plain_text(location)?;
        match location.split_once("://") {
            None => self.confined(location, FsPath::new(location)),
            Some(("file", rest)) => {
                let path = Path::from_url_path(rest).map_err(|e| DataError::denied(location, e.to_string()))?;
                match rest.starts_with('/') {
                    true => self.confined(location, &FsPath::new("/").join(path.as_ref())),
                    false => Err(DataError::denied(location, "a file URL must not name a host")),
                }
            }
            Some((scheme, _)) => {
                Err(DataError::denied(location, format!("{scheme}:// is not supported; use a path, file:// or s3://")))
            }
        }
    }

    fn confined(&self, location: &str, path: &FsPath) -> Result<PathBuf, DataError> {
        if !path.is_absolute() {
            return Err(DataError::denied(location, "not an absolute path or URL"));
        }
        if path.components().any(|c| matches!(c, Component::ParentDir)) {
            return Err(DataError::denied(location, "`..` is not allowed"));
        }
        confine::within(&self.inner.roots, path)
            .ok_or_else(|| DataError::not_allowed(location, "outside the allowed folders", &self.inner.remedy))
    }

    fn resolve_s3(&self, location: &str) -> Result<(Arc<dyn ObjectStore>, Path), DataError> {
        let (name, path) = split_s3(location).map_err(|reason| DataError::denied(location, reason))?;
        let found = self.inner.buckets.get(&name).filter(|b| b.prefixes.iter().any(|p| path.prefix_matches(p)));
        match found {
            Some(bucket) => Ok((Arc::clone(&bucket.store), path)),
            None => {
                let reason = "no configured prefix covers this bucket and path";
                Err(DataError::not_allowed(location, reason, &self.inner.remedy))
            }
        }
    }

    /// How this process is made to allow more; empty if nobody said.
    pub(crate) fn remedy(&self) -> &str {
        &self.inner.remedy
    }

    /// The canonical form of a location, which resolves to the same object: an absolute path or an S3 URL.
    pub fn canonical(&self, location: &str) -> Result<String, DataError> {
        let (_, path) = self.resolve(location)?;
        Ok(locate(location, &path))
    }

    /// The store of a scheme and host, for engines that ask by URL; it stays confined. Schemes of pinned files give
    /// a store that reads nothing else.
    pub(crate) fn by_url(&self, url: &url::Url) -> Option<Arc<dyn ObjectStore>> {
        match url.scheme() {
            scheme if pinned::is_scheme(scheme) => pinned::store(self, url),
            "file" => Some(Arc::clone(&self.inner.local)),
            "s3" => self.inner.buckets.get(url.host_str()?).map(|b| Arc::clone(&b.store)),
            _ => None,
        }
    }

    /// The whole object.
    pub async fn get(&self, location: &str) -> Result<Bytes, DataError> {
        let (store, path) = self.resolve(location)?;
        let read = async { store.get(&path).await?.bytes().await };
        read.await.map_err(|e| DataError::store("read", location, e))
    }

    /// Size of the object in bytes; `None` where there is none.
    pub async fn size(&self, location: &str) -> Result<Option<u64>, DataError> {
        let (store, path) = self.resolve(location)?;
        match store.head(&path).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(DataError::store("read", location, e)),
        }
    }

    /// Writes the object unless one is there; says whether it wrote. Readers see all of it or nothing.
    pub async fn put_if_absent(&self, location: &str, bytes: Bytes) -> Result<bool, DataError> {
        let (store, path) = self.resolve(location)?;
        match store.put_opts(&path, bytes.into(), PutMode::Create.into()).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(false),
            Err(e) => Err(DataError::store("write", location, e)),
        }
    }

    /// Writes the object, replacing one that is there. Readers see the old one or the new one.
    pub async fn put_atomic(&self, location: &str, bytes: Bytes) -> Result<(), DataError> {
        let (store, path) = self.resolve(location)?;
        store
            .put_opts(&path, bytes.into(), PutMode::Overwrite.into())
            .await
            .map_err(|e| DataError::store("write", location, e))?;
        Ok(())
    }

    /// Writes a file of this machine as an object, replacing one that is there.
    pub(crate) async fn put_file(&self, location: &str, file: &FsPath) -> Result<(), DataError> {
        let (store, path) = self.resolve(location)?;
        let failed = |e| DataError::store("write", location, e);
        let mut from = tokio::fs::File::open(file).await.map_err(|source| DataError::Spill { action: "read rows", source })?;
        let mut upload = WriteMultipart::new_with_chunk_size(store.put_multipart(&path).await.map_err(failed)?, PIECE);
        let mut piece = BytesMut::with_capacity(PIECE);
        loop {
            piece.reserve(PIECE);
            let read = from.read_buf(&mut piece).await.map_err(|source| DataError::Spill { action: "read rows", source })?;
            if read == 0 {
                break;
            }
            upload.wait_for_capacity(PIECES).await.map_err(failed)?;
            upload.put(piece.split().freeze());
        }
        upload.finish().await.map_err(failed)?;
        Ok(())
    }

    /// Brings an object into a file of this machine, of which others see all or nothing.
    pub(crate) async fn get_file(&self, location: &str, file: &FsPath) -> Result<(), DataError> {
        let (store, path) = self.resolve(location)?;
        let failed = |e| DataError::store("read", location, e);
        let spilled = |source| DataError::Spill { action: "write rows", source };
        let folder = file.parent().unwrap_or(FsPath::new("/"));
        tokio::fs::create_dir_all(folder).await.map_err(spilled)?;
        let mut pieces = store.get(&path).await.map_err(failed)?.into_stream();
        let part = file.with_extension("part");
        let mut out = tokio::fs::File::create(&part).await.map_err(spilled)?;
        while let Some(piece) = pieces.try_next().await.map_err(failed)? {
            out.write_all(&piece).await.map_err(spilled)?;
        }
        out.flush().await.map_err(spilled)?;
        tokio::fs::rename(&part, file).await.map_err(spilled)
    }

    /// Canonical locations of all objects below a folder, in byte order; empty where there is no such folder.
    pub async fn list(&self, folder: &str) -> Result<Vec<String>, DataError> {
        let (store, path) = self.resolve(folder)?;
        let metas: Vec<_> = store.list(Some(&path)).try_collect().await.map_err(|e| DataError::store("list", folder, e))?;
        let mut found: Vec<_> = metas.iter().map(|meta| locate(folder, &meta.location)).collect();
        found.sort();
        Ok(found)
    }

    /// As [`Stores::list`], beside it symlinks that lead out of the allowed folders, each with whether it leads to a
    /// folder: whether they matter is for the caller to say.
    pub(crate) async fn list_with_leaving(&self, folder: &str) -> Result<(Vec<String>, Vec<(String, bool)>), DataError> {
        let Some(walked) = self.walk(folder).await? else { return Ok((self.list(folder).await?, Vec::new())) };
        let mut files: Vec<_> = walked.files.iter().map(|file| locate(folder, file)).collect();
        files.sort();
        let leaving = walked.leaving.iter().map(|(link, is_folder)| (locate(folder, link), *is_folder));
        Ok((files, leaving.collect()))
    }

    /// What lies below a folder of this machine; nothing for other stores.
    async fn walk(&self, folder: &str) -> Result<Option<confine::Walked>, DataError> {
        let (_, path) = self.resolve(folder)?;
        if folder.starts_with("s3://") {
            return Ok(None);
        }
        let roots = self.inner.roots.clone();
        let walk = tokio::task::spawn_blocking(move || confine::walk(&roots, &path)).await;
        let walked = walk.map_err(|e| DataError::internal("listing", e))?;
        walked.map(Some).map_err(|e| DataError::store("list", folder, e))
    }

    /// Removes the object; one that is not there is as good as removed.
    pub async fn delete(&self, location: &str) -> Result<(), DataError> {
        let (store, path) = self.resolve(location)?;
        match store.delete(&path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(DataError::store("delete", location, e)),
        }
    }

    /// Removes all objects below a folder, and what is left of those that somebody was killed while writing; says how
    /// many objects there were. Nobody may be writing there.
    pub async fn delete_folder(&self, folder: &str) -> Result<usize, DataError> {
        for file in self.walk(folder).await?.into_iter().flat_map(|walked| walked.unfinished) {
            match tokio::fs::remove_file(&file).await {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    let source = object_store::Error::Generic { store: "LocalFileSystem", source: Box::new(e) };
                    return Err(DataError::store("delete", &file.display().to_string(), source));
                }
                _ => {}
            }
        }
        let found = self.list(folder).await?;
        for location in &found {
            self.delete(location).await?;
        }
        Ok(found.len())
    }
}

/// Canonical location of a path in the store that `like` resolved to.
pub(crate) fn locate(like: &str, path: &Path) -> String {
    match like.strip_prefix("s3://") {
        Some(rest) => format!("s3://{}/{path}", rest.split('/').next().unwrap_or(rest)),
        None => format!("/{path}"),
    }
}

/// Refuses characters that make a location read as another one.
fn plain_text(location: &str) -> Result<(), DataError> {
    if location.chars().any(char::is_control) {
        return Err(DataError::denied(location.escape_default().to_string(), "control characters are not allowed"));
    }
    let lower = location.to_ascii_lowercase();
    match ["%2f", "%5c", "%2e", "%00"].iter().any(|escape| lower.contains(escape)) {
        true => Err(DataError::denied(location, "escaped separators and dots are not allowed")),
        false => Ok(()),
    }
}

fn canonical_root(root: &FsPath) -> Result<PathBuf, DataError> {
    let found = std::fs::canonicalize(root).map_err(|e| option_error(&root.display().to_string(), &e.to_string()))?;
    match found.is_dir() {
        true => Ok(found),
        false => Err(option_error(&root.display().to_string(), "not a folder")),
    }
}

fn option_error(option: &str, message: &str) -> DataError {
    DataError::Options { option: option.to_owned(), message: message.to_owned() }
}

/// Bucket and key of an S3 URL. Segments must be plain: `.`, `..` and empty ones are refused.
fn split_s3(location: &str) -> Result<(String, Path), String> {
    let rest = location.strip_prefix("s3://").ok_or("not an s3:// URL")?;
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if bucket.is_empty() || !bucket.chars().all(plain) {
        return Err("no bucket name".to_owned());
    }
    let path = Path::parse(key).map_err(|e| e.to_string())?;
    Ok((bucket.to_owned(), path))
}

fn s3(bucket: &str, options: &S3Prefix) -> Result<Arc<dyn ObjectStore>, DataError> {
    let retry = RetryConfig { max_retries: 8, retry_timeout: Duration::from_secs(60), ..Default::default() };
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(options.region.as_deref().unwrap_or("us-east-1"))
        .with_allow_http(options.allow_http)
        .with_retry(retry);
    if let Some(endpoint) = &options.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    builder = match (&options.access_key, &options.secret_key) {
        (Some(access), Some(secret)) => builder.with_access_key_id(access).with_secret_access_key(secret),
        (None, None) => builder.with_skip_signature(true),
        _ => return Err(option_error(&options.prefix, "access_key and secret_key belong together")),
    };
    let store = builder.build().map_err(|e| option_error(&options.prefix, &e.to_string()))?;
    Ok(Arc::new(store))
}
