//! Pins that travel in a plan. The path of a scanned file starts with its size, time and tag when it was pinned, and
//! the store of such paths reads that content or fails: wherever a plan is taken, no other bytes get into it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::DateTime;
use datafusion::execution::object_store::ObjectStoreUrl;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::path::Path;
use object_store::{
    Attributes, CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use crate::error::DataError;
use crate::pin::{PinnedFile, PinnedObject};
use crate::stores::{Stores, locate};

/// Schemes of pinned files and of the stores that hold them.
const SCHEMES: [(&str, &str); 2] = [("pinned-file", "file"), ("pinned-s3", "s3")];

/// Bytes of a file that are read at once where all of it is wanted.
const CHUNK: u64 = 4 << 20;

/// True for the scheme of a store of pinned files.
pub(crate) fn is_scheme(scheme: &str) -> bool {
    SCHEMES.iter().any(|(pinned, _)| *pinned == scheme)
}

/// The store of pinned files behind a URL of [`url`]; `None` where the plain store is not there.
pub(crate) fn store(stores: &Stores, url: &url::Url) -> Option<Arc<dyn ObjectStore>> {
    let (_, plain) = SCHEMES.iter().find(|(pinned, _)| *pinned == url.scheme())?;
    let root = format!("{plain}://{}/", url.host_str().unwrap_or_default());
    let inner = stores.by_url(&url::Url::parse(&root).ok()?)?;
    Some(Arc::new(PinnedStore { inner, root, meter: stores.meter() }))
}

/// URL of the store of a pinned file.
pub(crate) fn url(file: &PinnedFile) -> std::result::Result<ObjectStoreUrl, DataError> {
    let url = match file.location.strip_prefix("s3://") {
        Some(rest) => format!("pinned-s3://{}/", rest.split('/').next().unwrap_or(rest)),
        None => "pinned-file:///".to_owned(),
    };
    ObjectStoreUrl::parse(url).map_err(|e| DataError::internal(&file.location, e))
}

/// What a query engine knows a pinned file by: the path holds the pin.
pub(crate) fn meta(stores: &Stores, file: &PinnedFile) -> std::result::Result<ObjectMeta, DataError> {
    let (_, path) = stores.resolve(&file.location)?;
    let location = Path::parse(format!("{}/{path}", pin(file))).map_err(|e| DataError::internal(&file.location, e))?;
    let last_modified = DateTime::from_timestamp_nanos(file.modified_ns);
    Ok(ObjectMeta { location, last_modified, size: file.size, e_tag: file.etag.clone(), version: None })
}

/// `SIZE.TIME.TAG`, the tag in hexadecimal after a `t`; `n` where there is none.
fn pin(file: &PinnedFile) -> String {
    let hex = |tag: &String| tag.bytes().map(|b| format!("{b:02x}")).collect::<String>();
    let tag = file.etag.as_ref().map_or_else(|| "n".to_owned(), |tag| format!("t{}", hex(tag)));
    format!("{}.{}.{tag}", file.size, file.modified_ns)
}

/// Text about a plan with a file's pin taken out, for people.
pub(crate) fn without_pin(text: &str, file: &PinnedFile) -> String {
    text.replace(&format!("{}/", pin(file)), "/")
}

/// Reads a pin; the location stays empty.
fn parse_pin(text: &str) -> Option<PinnedFile> {
    let (size, rest) = text.split_once('.')?;
    let (time, tag) = rest.split_once('.')?;
    let etag = match tag.strip_prefix('t') {
        None if tag == "n" => None,
        None => return None,
        Some(hex) => Some(from_hex(hex)?),
    };
    let (size, modified_ns) = (size.parse().ok()?, time.parse().ok()?);
    Some(PinnedFile { path: String::new(), location: String::new(), size, etag, modified_ns })
}

fn from_hex(hex: &str) -> Option<String> {
    if !hex.len().is_multiple_of(2) || !hex.is_ascii() {
        return None;
    }
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).ok();
    let bytes = (0..hex.len()).step_by(2).map(byte).collect::<Option<Vec<u8>>>()?;
    String::from_utf8(bytes).ok()
}

/// Reads pinned files by paths that hold the pin; there is nothing else in it.
#[derive(Debug)]
struct PinnedStore {
    inner: Arc<dyn ObjectStore>,
    /// `file:///` or `s3://BUCKET/`.
    root: String,
    meter: Arc<AtomicU64>,
}

impl fmt::Display for PinnedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pinned {}", self.inner)
    }
}

impl PinnedStore {
    fn open(&self, location: &Path) -> Result<PinnedObject> {
        let unpinned = || Error::NotFound { path: location.to_string(), source: "the path holds no pin".into() };
        let (pin, path) = location.as_ref().split_once('/').ok_or_else(unpinned)?;
        let file = parse_pin(pin).ok_or_else(unpinned)?;
        let path = Path::parse(path).map_err(|source| Error::InvalidPath { source })?;
        let file = PinnedFile { location: locate(&self.root, &path), ..file };
        Ok(file.open_in(Arc::clone(&self.inner), path, Arc::clone(&self.meter)))
    }
}

/// An error of a pinned file as stores have them; the text of a changed input stays as it is.
fn store_error(error: DataError) -> Error {
    let changed = match &error {
        DataError::InputChanged { file } => Some(file.clone()),
        _ => None,
    };
    match (error, changed) {
        (DataError::Store { source, .. }, _) => source,
        (error, Some(path)) => Error::Precondition { path, source: Box::new(error) },
        (error, None) => Error::Generic { store: "pinned", source: Box::new(error) },
    }
}

fn read_only(operation: &str) -> Error {
    Error::NotSupported { source: format!("pinned files are only read: {operation}").into() }
}

/// Bytes of a range, read in pieces.
fn pieces(object: PinnedObject, range: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
    stream::try_unfold((object, range), |(object, range)| async move {
        if range.is_empty() {
            return Ok(None);
        }
        let end = range.end.min(range.start + CHUNK);
        let bytes = object.read(range.start..end).await.map_err(store_error)?;
        Ok(Some((bytes, (object, end..range.end))))
    })
    .boxed()
}

fn bounds(range: Option<&GetRange>, size: u64) -> Range<u64> {
    match range {
        None => 0..size,
        Some(GetRange::Bounded(range)) => range.start.min(size)..range.end.min(size),
        Some(GetRange::Offset(from)) => (*from).min(size)..size,
        Some(GetRange::Suffix(last)) => size.saturating_sub(*last)..size,
    }
}

#[async_trait]
impl ObjectStore for PinnedStore {
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let object = self.open(location)?;
        let file = object.file();
        let last_modified = DateTime::from_timestamp_nanos(file.modified_ns);
        let (size, e_tag) = (file.size, file.etag.clone());
        let meta = ObjectMeta { location: location.clone(), last_modified, size, e_tag, version: None };
        let range = if options.head { 0..0 } else { bounds(options.range.as_ref(), size) };
        let payload = GetResultPayload::Stream(pieces(object, range.clone()));
        Ok(GetResult { payload, meta, range, attributes: Attributes::default() })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.open(location)?.read_ranges(ranges).await.map_err(store_error)
    }

    async fn put_opts(&self, _: &Path, _: PutPayload, _: PutOptions) -> Result<PutResult> {
        Err(read_only("put"))
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(read_only("put"))
    }

    fn delete_stream(&self, _: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        stream::once(async { Err(read_only("delete")) }).boxed()
    }

    fn list(&self, _: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        stream::once(async { Err(read_only("list")) }).boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        Err(read_only("list"))
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(read_only("copy"))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn file(etag: Option<&str>, modified_ns: i64) -> PinnedFile {
        PinnedFile { path: String::new(), location: String::new(), size: 17, etag: etag.map(str::to_owned), modified_ns }
    }

    #[test]
    fn pins_round_trip() {
        for file in [file(None, 5), file(Some("W/\"a b/c\""), -7), file(Some(""), 0), file(Some("é"), i64::MAX)] {
            let text = pin(&file);
            assert!(Path::parse(&text).is_ok() && !text.contains('/'), "{text}");
            assert_eq!(parse_pin(&text).unwrap(), file);
        }
        for bad in ["", "1", "1.2", "1.2.x", "1.2.t0", "1.2.tzz", "x.2.n", "1.2.3.n"] {
            assert_eq!(parse_pin(bad), None, "{bad}");
        }
    }

    #[test]
    fn ranges_stay_inside_the_file() {
        let of = |range| bounds(Some(&range), 10);
        assert_eq!(bounds(None, 10), 0..10);
        assert_eq!(of(GetRange::Bounded(2..5)), 2..5);
        assert_eq!(of(GetRange::Bounded(8..50)), 8..10);
        assert_eq!(of(GetRange::Offset(12)), 10..10);
        assert_eq!(of(GetRange::Suffix(3)), 7..10);
        assert_eq!(of(GetRange::Suffix(30)), 0..10);
    }
}
