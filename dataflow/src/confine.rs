//! A store that serves only an allowed area: some local folders, or some prefixes of a bucket. Every call is
//! checked, symlinks followed first; this is the last door, whatever path led here.

use std::fmt;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};

/// What a [`Confined`] store may serve.
#[derive(Debug, Clone)]
pub(crate) enum Area {
    /// Local folders, canonical.
    Folders(Arc<[PathBuf]>),
    /// Key prefixes of one bucket.
    Prefixes(Arc<[Path]>),
}

/// A store and the area it serves.
#[derive(Debug, Clone)]
pub(crate) struct Confined {
    inner: Arc<dyn ObjectStore>,
    area: Area,
}

impl fmt::Display for Confined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "confined {}", self.inner)
    }
}

impl Confined {
    /// Local folders; they must be canonical.
    pub(crate) fn local(folders: Vec<PathBuf>) -> Self {
        Self { inner: Arc::new(LocalFileSystem::new()), area: Area::Folders(folders.into()) }
    }

    /// Prefixes of one bucket.
    pub(crate) fn bucket(inner: Arc<dyn ObjectStore>, prefixes: Vec<Path>) -> Self {
        Self { inner, area: Area::Prefixes(prefixes.into()) }
    }

    fn check(&self, location: &Path) -> Result<()> {
        let allowed = match &self.area {
            Area::Folders(folders) => within(folders, &local_path(location)?).is_some(),
            Area::Prefixes(prefixes) => prefixes.iter().any(|p| location.prefix_matches(p)),
        };
        if allowed { Ok(()) } else { Err(refused(location)) }
    }

    /// Reading a device or a pipe would block or lie, so only regular files are opened.
    fn check_read(&self, location: &Path) -> Result<()> {
        self.check(location)?;
        if let Area::Folders(_) = self.area
            && let Ok(meta) = std::fs::metadata(local_path(location)?)
            && !meta.is_file()
        {
            let source = format!("{location} is not a regular file").into();
            return Err(Error::NotFound { path: location.to_string(), source });
        }
        Ok(())
    }
}

fn refused(location: &Path) -> Error {
    Error::PermissionDenied { path: location.to_string(), source: "outside the allowed folders".into() }
}

fn local_path(location: &Path) -> Result<PathBuf> {
    LocalFileSystem::new().path_to_filesystem(location)
}

/// The path with symlinks followed as far as it exists, if that lies in one of the folders.
pub(crate) fn within(folders: &[PathBuf], path: &FsPath) -> Option<PathBuf> {
    let canonical = canonical(path)?;
    folders.iter().any(|f| canonical.starts_with(f)).then_some(canonical)
}

/// Follows symlinks of the part of the path that exists; `None` for paths that cannot be judged.
fn canonical(path: &FsPath) -> Option<PathBuf> {
    let (mut missing, mut looks) = (Vec::new(), 0);
    let mut existing = path;
    loop {
        if let Ok(mut found) = std::fs::canonicalize(existing) {
            found.extend(missing.iter().rev());
            return Some(found);
        }
        match std::fs::symlink_metadata(existing) {
            Err(_) => {
                missing.push(existing.file_name()?.to_owned());
                existing = existing.parent()?;
            }
            // A dangling symlink would be followed by a write: what cannot be resolved is refused.
            Ok(meta) if meta.is_symlink() || looks == MOST_LOOKS => return None,
            // Somebody has just made it, as two jobs do that write the same object.
            Ok(_) => looks += 1,
        }
    }
}

/// How often a path is looked at again that is there and still has no canonical form.
const MOST_LOOKS: u32 = 8;

/// What lies below a folder.
#[derive(Debug, Default)]
pub(crate) struct Walked {
    /// Files under the names that lead to them, in byte order.
    pub(crate) files: Vec<Path>,
    /// Symlinks that lead out of the folders: their target, and whether it is a folder.
    pub(crate) leaving: Vec<(Path, bool)>,
    /// Objects that somebody is writing, or has not written to the end.
    pub(crate) unfinished: Vec<PathBuf>,
}

/// Whether a file is where `LocalFileSystem` writes an object before it gets its name: `NAME#1`, `NAME#2` … It is no
/// object, and cannot be asked for as one. Who is killed while writing leaves it behind.
fn is_unfinished(path: &FsPath) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy());
    let digits = name.as_deref().and_then(|name| name.split_once('#')).map(|(_, digits)| digits);
    digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

/// Most folders of a listing: links can lead to one folder by many ways.
const MOST_FOLDERS: usize = 100_000;

/// Files below a folder, symlinks inside the folders followed. Hidden entries are left out. A file that is reached
/// by two ways is there twice; a link to a folder above it ends there.
pub(crate) fn walk(folders: &[PathBuf], prefix: &Path) -> Result<Walked> {
    let start = local_path(prefix)?;
    let Some(real) = within(folders, &start) else { return Err(refused_local(&start)) };
    let (mut found, mut visited) = (Walked::default(), 0);
    let mut open = vec![(start, vec![real])];
    while let Some((folder, above)) = open.pop() {
        visited += 1;
        if visited > MOST_FOLDERS {
            return Err(generic(std::io::Error::other(format!("more than {MOST_FOLDERS} folders below {prefix}"))));
        }
        for path in entries(&folder)? {
            // A link to nothing holds no rows.
            let Ok(meta) = std::fs::metadata(&path) else { continue };
            match within(folders, &path) {
                None => found.leaving.push((Path::from_absolute_path(&path)?, meta.is_dir())),
                Some(real) if meta.is_dir() && !above.contains(&real) => {
                    let above = above.iter().cloned().chain([real]).collect();
                    open.push((path, above));
                }
                Some(_) if meta.is_file() && is_unfinished(&path) => found.unfinished.push(path),
                Some(_) if meta.is_file() => found.files.push(Path::from_absolute_path(&path)?),
                Some(_) => {}
            }
        }
    }
    found.files.sort();
    Ok(found)
}

/// Entries of a folder that are not hidden, sorted; none if there is no such folder.
fn entries(folder: &FsPath) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(e) => return Err(generic(e)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let entry = entry.map_err(generic)?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

fn refused_local(path: &FsPath) -> Error {
    let source = "a symlink leads out of the allowed folders".into();
    Error::PermissionDenied { path: path.display().to_string(), source }
}

fn generic(source: std::io::Error) -> Error {
    Error::Generic { store: "LocalFileSystem", source: Box::new(source) }
}

#[async_trait]
impl ObjectStore for Confined {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.check(location)?;
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.check(location)?;
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.check_read(location)?;
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let guard = self.clone();
        let checked = locations.map(move |location| {
            let location = location?;
            guard.check(&location)?;
            Ok(location)
        });
        self.inner.delete_stream(checked.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let prefix = prefix.cloned().unwrap_or_default();
        if let Err(e) = self.check(&prefix) {
            return futures::stream::once(async { Err(e) }).boxed();
        }
        let Area::Folders(folders) = &self.area else { return self.inner.list(Some(&prefix)) };
        let (folders, inner) = (Arc::clone(folders), Arc::clone(&self.inner));
        let files = async move {
            let walked = tokio::task::spawn_blocking(move || walk(&folders, &prefix)).await??;
            match walked.leaving.first() {
                None => Ok(futures::stream::iter(walked.files.into_iter().map(Ok::<_, Error>))),
                Some((link, _)) => Err(refused_local(&local_path(link)?)),
            }
        };
        let metas = futures::stream::once(files).try_flatten();
        metas.try_filter_map(move |path| head(Arc::clone(&inner), path)).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let prefix = prefix.cloned().unwrap_or_default();
        self.check(&prefix)?;
        let mut listed = self.inner.list_with_delimiter(Some(&prefix)).await?;
        listed.objects.retain(|meta| self.check(&meta.location).is_ok());
        listed.common_prefixes.retain(|path| self.check(path).is_ok());
        Ok(listed)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.check_read(from)?;
        self.check(to)?;
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.check_read(from)?;
        self.check(to)?;
        self.inner.rename_opts(from, to, options).await
    }
}

/// What is known of a file that was listed; nothing if it was removed since.
async fn head(inner: Arc<dyn ObjectStore>, path: Path) -> Result<Option<ObjectMeta>> {
    match inner.head(&path).await {
        Ok(meta) => Ok(Some(meta)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn what_comes_and_goes_meanwhile_stays_within() {
        let folder = tempfile::tempdir().unwrap();
        let roots = [folder.path().canonicalize().unwrap()];
        let (object, over) = (roots[0].join("object"), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    std::fs::write(&object, "").unwrap();
                    std::fs::remove_file(&object).unwrap();
                }
            });
            let lost = (0..20_000).filter(|_| within(&roots, &object).as_ref() != Some(&object)).count();
            over.store(true, Ordering::Relaxed);
            assert_eq!(lost, 0);
        });
    }

    #[test]
    fn dangling_symlinks_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::os::unix::fs::symlink("nowhere", root.join("link")).unwrap();
        assert_eq!(within(std::slice::from_ref(&root), &root.join("link")), None);
        assert_eq!(within(std::slice::from_ref(&root), &root.join("link/below")), None);
        assert_eq!(within(std::slice::from_ref(&root), &root.join("a/b")), Some(root.join("a/b")));
    }
}
