//! One conformance suite over every object store that we use: in memory, local, and a real S3-compatible
//! server in this process. Then what our own store does on top: helpers, prefixes, pinned reads from S3.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{Error, GetOptions, ObjectStore, ObjectStoreExt, PutMode};
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use serde_json::json;
use sheaf_dataflow::error::DataError;
use sheaf_dataflow::stores::{S3Prefix, StoreOptions, Stores};
use support::*;

/// A server with the bucket `bucket`; it ends with the test's runtime.
async fn server(root: &std::path::Path) -> S3Prefix {
    std::fs::create_dir_all(root.join("bucket")).unwrap();
    let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root).unwrap());
    builder.set_auth(SimpleAuth::from_single("access", "secret-canary"));
    let service = builder.build();
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let service = service.clone();
            tokio::spawn(async move {
                let http = Builder::new(TokioExecutor::new());
                // A client that hangs up ends its connection, not the server.
                let _ = http.serve_connection(TokioIo::new(socket), service).await;
            });
        }
    });
    S3Prefix {
        prefix: "s3://bucket/area".into(),
        endpoint: Some(endpoint),
        region: None,
        access_key: Some("access".into()),
        secret_key: Some("secret-canary".into()),
        allow_http: true,
    }
}

async fn bytes(store: &dyn ObjectStore, path: &Path) -> Bytes {
    store.get(path).await.unwrap().bytes().await.unwrap()
}

async fn conforms(store: Arc<dyn ObjectStore>, root: Path) {
    let store = store.as_ref();
    let (one, two) = (root.clone().join("a").join("one.bin"), root.clone().join("b").join("two bin.txt"));
    assert!(matches!(store.get(&one).await, Err(Error::NotFound { .. })));
    assert!(matches!(store.head(&one).await, Err(Error::NotFound { .. })));

    store.put(&one, Bytes::from_static(b"0123456789").into()).await.unwrap();
    store.put(&two, Bytes::new().into()).await.unwrap();
    assert_eq!(bytes(store, &one).await, "0123456789");
    assert_eq!(bytes(store, &two).await, "");
    assert_eq!(store.get_range(&one, 3..6).await.unwrap(), "345");
    assert_eq!(store.get_ranges(&one, &[0..1, 8..10]).await.unwrap(), ["0", "89"]);

    let created = store.put_opts(&one, Bytes::from_static(b"x").into(), PutMode::Create.into()).await;
    assert!(matches!(created, Err(Error::AlreadyExists { .. } | Error::Precondition { .. })), "{created:?}");
    assert_eq!(bytes(store, &one).await, "0123456789");

    let before = store.head(&one).await.unwrap();
    assert_eq!((before.size, before.e_tag.is_some()), (10, true));
    let same = GetOptions { if_match: before.e_tag.clone(), ..Default::default() };
    assert_eq!(store.get_opts(&one, same.clone()).await.unwrap().meta.e_tag, before.e_tag);
    store.put(&one, Bytes::from_static(b"9876543210").into()).await.unwrap();
    let after = store.head(&one).await.unwrap();
    assert_ne!(before.e_tag, after.e_tag, "the same size, other content, another tag");
    // A server may ignore the condition, but then the answer carries the new tag.
    match store.get_opts(&one, same).await {
        Err(error) => assert!(matches!(error, Error::Precondition { .. }), "{error}"),
        Ok(result) => assert_ne!(result.meta.e_tag, before.e_tag),
    }

    let listed = |prefix: Path| async move {
        let mut paths: Vec<_> = store.list(Some(&prefix)).map_ok(|m| m.location).try_collect().await.unwrap();
        paths.sort();
        paths
    };
    assert_eq!(listed(root.clone()).await, [one.clone(), two.clone()]);
    assert_eq!(listed(root.clone().join("a")).await, std::slice::from_ref(&one));
    assert!(listed(root.clone().join("nothing")).await.is_empty());

    let mut upload = store.put_multipart(&two).await.unwrap();
    upload.put_part(vec![7u8; 6 << 20].into()).await.unwrap();
    upload.put_part(Bytes::from_static(b"end").into()).await.unwrap();
    upload.complete().await.unwrap();
    assert_eq!(store.get_range(&two, (6 << 20) - 1..(6 << 20) + 3).await.unwrap(), &b"\x07end"[..]);

    store.delete(&one).await.unwrap();
    store.delete(&two).await.unwrap();
    assert!(listed(root).await.is_empty());
}

#[tokio::test]
async fn memory_conforms() {
    conforms(Arc::new(InMemory::new()), Path::from("root")).await;
}

#[tokio::test]
async fn local_conforms() {
    let folder = Folder::new();
    let (store, root) = folder.stores.resolve(&folder.location("root")).unwrap();
    conforms(store, root).await;
}

#[tokio::test]
async fn s3_conforms() {
    let dir = tempfile::tempdir().unwrap();
    let stores = Stores::new(StoreOptions { s3: vec![server(dir.path()).await], ..StoreOptions::default() }).unwrap();
    let (store, root) = stores.resolve("s3://bucket/area/root").unwrap();
    conforms(store, root).await;
}

async fn helps(stores: &Stores, folder: &str) {
    let one = format!("{folder}/x/one");
    assert_eq!(stores.size(&one).await.unwrap(), None);
    assert!(matches!(stores.get(&one).await, Err(DataError::NotFound { .. })));
    assert!(stores.put_if_absent(&one, Bytes::from_static(b"first")).await.unwrap());
    assert!(!stores.put_if_absent(&one, Bytes::from_static(b"second")).await.unwrap());
    assert_eq!(stores.get(&one).await.unwrap(), "first");
    stores.put_atomic(&one, Bytes::from_static(b"third")).await.unwrap();
    assert_eq!(stores.get(&one).await.unwrap(), "third");
    assert_eq!(stores.size(&one).await.unwrap(), Some(5));
    stores.put_atomic(&format!("{folder}/a"), Bytes::new()).await.unwrap();
    assert_eq!(stores.list(folder).await.unwrap(), [format!("{folder}/a"), one.clone()]);
    stores.delete(&one).await.unwrap();
    stores.delete(&one).await.unwrap();
    assert_eq!(stores.delete_folder(folder).await.unwrap(), 1);
    assert!(stores.list(folder).await.unwrap().is_empty());
}

#[tokio::test]
async fn helpers_work_on_local_folders_and_s3() {
    let folder = Folder::new();
    helps(&folder.stores, &folder.stores.canonical(&folder.location("area")).unwrap()).await;
    let dir = tempfile::tempdir().unwrap();
    let stores = Stores::new(StoreOptions { s3: vec![server(dir.path()).await], ..StoreOptions::default() }).unwrap();
    helps(&stores, "s3://bucket/area").await;
}

#[tokio::test]
async fn what_somebody_was_killed_while_writing_is_no_object_and_goes_with_its_folder() {
    let folder = Folder::new();
    let jobs = folder.location("jobs");
    let log = format!("{jobs}/j/log.jsonl");
    folder.stores.put_atomic(&log, Bytes::from_static(b"line")).await.unwrap();
    // As `LocalFileSystem` names what it has not finished.
    let unfinished = format!("{log}#1");
    std::fs::write(&unfinished, "li").unwrap();
    std::fs::write(format!("{jobs}/j/kept#1a"), "an object").unwrap();
    assert_eq!(folder.stores.list(&jobs).await.unwrap(), [format!("{jobs}/j/kept#1a"), log]);
    assert_eq!(folder.stores.delete_folder(&jobs).await.unwrap(), 2);
    assert!(!std::fs::exists(&unfinished).unwrap());
}

#[tokio::test]
async fn only_one_of_many_writers_creates_an_object() {
    let folder = Folder::new();
    let location = folder.location("race");
    let writes = (0..16).map(|i| folder.stores.put_if_absent(&location, Bytes::from(vec![i; 1000])));
    let wrote = futures::future::try_join_all(writes).await.unwrap();
    assert_eq!(wrote.iter().filter(|w| **w).count(), 1);
    let winner = wrote.iter().position(|w| *w).unwrap() as u8;
    assert!(folder.stores.get(&location).await.unwrap().iter().all(|b| *b == winner));
}

#[tokio::test]
async fn a_dataset_on_s3_is_the_local_one_and_pinned() {
    let folder = Folder::new();
    write_table(&folder, "data");
    let dir = tempfile::tempdir().unwrap();
    let prefix = server(dir.path()).await;
    let stores = Stores::new(StoreOptions { s3: vec![prefix], ..StoreOptions::default() }).unwrap();
    for location in folder.stores.list(&folder.location("data")).await.unwrap() {
        let name = location.split("/data/").last().unwrap();
        let bytes = folder.stores.get(&location).await.unwrap();
        stores.put_atomic(&format!("s3://bucket/area/data/{name}"), bytes).await.unwrap();
    }
    let more = json!({"shard_rows": 64, "prepare": "SELECT * FROM t WHERE amount > 0"});
    let local = ready(&folder, &folder.job("data", more.clone())).await;
    let planned = sheaf_dataflow::plan::plan(&job("s3://bucket/area/data/", more), &stores, NOW_NS).await.unwrap();
    let remote = meet(planned, &stores, "s3://bucket/area/out").await.unwrap();
    assert_eq!(read_all(&remote, &stores).await, read_all(&local, &folder.stores).await);

    let changed = &remote.files[3].location;
    let mut bytes = stores.get(changed).await.unwrap().to_vec();
    bytes[1000] ^= 1;
    stores.put_atomic(changed, bytes.into()).await.unwrap();
    let error = read(&remote, &stores, 0..remote.shards()).await.unwrap_err();
    assert!(matches!(&error, DataError::InputChanged { file } if file == changed), "{error}");
}

#[tokio::test]
async fn secrets_do_not_show() {
    let dir = tempfile::tempdir().unwrap();
    let mut prefix = server(dir.path()).await;
    let options = StoreOptions { s3: vec![prefix.clone()], ..StoreOptions::default() };
    let stores = Stores::new(options.clone()).unwrap();
    assert!(!format!("{options:?} {stores:?}").contains("canary"), "{stores:?}");
    prefix.secret_key = Some("wrong".into());
    let stores = Stores::new(StoreOptions { s3: vec![prefix], ..StoreOptions::default() }).unwrap();
    let error = stores.get("s3://bucket/area/x").await.unwrap_err();
    assert!(!error.retryable(), "{error:?}");
}
