//! Nothing outside the configured folders and prefixes is reached: not by a table's path, not by SQL, not by a
//! link, not through DataFusion.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::os::unix::fs::symlink;

use serde_json::json;
use sheaf_dataflow::error::DataError;
use sheaf_dataflow::stores::{S3Prefix, StoreOptions, Stores};
use support::*;

fn with_bucket(folder: &Folder) -> Stores {
    let prefix = S3Prefix {
        prefix: "s3://bucket/mine".into(),
        endpoint: Some("http://127.0.0.1:9".into()),
        region: None,
        access_key: None,
        secret_key: None,
        allow_http: true,
    };
    Stores::new(StoreOptions { local_roots: vec![folder.dir.path().to_owned()], s3: vec![prefix], ..StoreOptions::default() })
        .unwrap()
}

#[tokio::test]
async fn locations_outside_are_denied() {
    let folder = Folder::new();
    let stores = with_bucket(&folder);
    let inside = folder.dir.path().display().to_string();
    for location in [
        "/etc/passwd",
        "file:///etc/passwd",
        "file://localhost/etc/passwd",
        "file:/etc/passwd",
        "etc/passwd",
        "s3://other/x.parquet",
        "s3://bucket/x.parquet",
        "s3://bucket/mine-not/x.parquet",
        "s3://bucket/mine/../x.parquet",
        "s3://bucket/mine/..%2fx.parquet",
        "s3://user@bucket/mine/x",
        "http://169.254.169.254/latest/meta-data/",
        "https://example.com/x.parquet",
        "ftp://x/y",
        "",
        "/",
        &format!("{inside}/../x"),
        &format!("{inside}/..%2fx"),
        &format!("{inside}/..%2F..%2Fetc/passwd"),
        &format!("{inside}/a/../../x"),
        &format!("file://{inside}/../x"),
        &format!("file://{inside}/%2e%2e/x"),
        &format!("{inside}/a\0b"),
    ] {
        let result = stores.resolve(location);
        assert!(matches!(result, Err(DataError::Denied { .. })), "{location}: {result:?}");
    }
    for location in [format!("{inside}/x.parquet"), format!("file://{inside}/x.parquet"), "s3://bucket/mine/x".into()] {
        stores.resolve(&location).unwrap();
    }
}

#[tokio::test]
async fn links_out_of_a_folder_are_denied() {
    let folder = Folder::new();
    let outside = tempfile::tempdir().unwrap();
    write_parquet(&outside.path().join("secret.parquet"), &rows(0, 5), 5);
    write_parquet(&folder.path("data/ok.parquet"), &rows(0, 5), 5);
    symlink(outside.path(), folder.path("folder")).unwrap();
    symlink(outside.path().join("secret.parquet"), folder.path("file.parquet")).unwrap();
    symlink("/etc/does-not-exist-yet", folder.path("dangling")).unwrap();
    for name in ["folder/secret.parquet", "folder", "folder/new", "file.parquet", "dangling"] {
        let result = folder.stores.resolve(&folder.location(name));
        assert!(matches!(result, Err(DataError::Denied { .. })), "{name}: {result:?}");
    }
    // A link among the files of a table ends the listing; it is not followed and not left out silently.
    symlink(outside.path(), folder.path("data/more")).unwrap();
    for path in ["data", "data/**/*.parquet", "*/*/*.parquet"] {
        let error = plan_error(&folder, &folder.job(path, json!({}))).await;
        let DataError::Job(error) = error else { panic!("{path}: {error:?}") };
        assert_eq!(error.path, "tables.t");
        assert!(error.message.contains("outside") || error.message.contains("leads out"), "{error}");
    }
    // A link that the table cannot mean does not matter.
    assert_eq!(ready(&folder, &folder.job("data/*.parquet", json!({}))).await.rows(), 5);
    // A link that stays inside is fine.
    std::fs::remove_file(folder.path("data/more")).unwrap();
    symlink(folder.path("data/ok.parquet"), folder.path("data/again.parquet")).unwrap();
    assert_eq!(ready(&folder, &folder.job("data", json!({}))).await.rows(), 10);
}

#[tokio::test]
async fn links_out_that_no_table_means_and_hidden_folders_do_not_refuse_a_job() {
    let folder = Folder::new();
    write_parquet(&folder.path("data/x.parquet"), &rows(0, 5), 5);
    for name in ["data/.venv/bin", "data/venv/bin"] {
        std::fs::create_dir_all(folder.path(name)).unwrap();
        symlink("/etc/passwd", folder.path(name).join("python")).unwrap();
    }
    std::fs::write(folder.path("data/.venv/hidden.parquet"), "no parquet").unwrap();
    for path in ["data", "data/*.parquet", "data/**/*.parquet", "**/*.parquet"] {
        assert_eq!(ready(&folder, &folder.job(path, json!({}))).await.rows(), 5, "{path}");
    }
    symlink("/etc/passwd", folder.path("data/linked.parquet")).unwrap();
    for path in ["data", "data/*.parquet", "data/linked.parquet"] {
        let error = plan_error(&folder, &folder.job(path, json!({}))).await;
        assert!(matches!(&error, DataError::Job(e) if e.path == "tables.t"), "{path}: {error:?}");
    }
}

#[tokio::test]
async fn row_ids_come_from_names_as_given_and_in_their_order() {
    let ids_of = |names: [&'static str; 2]| async move {
        let folder = Folder::new();
        write_parquet(&folder.path("real/x.parquet"), &rows(0, 5), 5);
        std::fs::create_dir(folder.path("data")).unwrap();
        for name in names {
            symlink(folder.path("real"), folder.path("data").join(name)).unwrap();
        }
        symlink(folder.path("data"), folder.path("real/up")).unwrap();
        symlink(folder.path("real/x.parquet"), folder.path("today.parquet")).unwrap();
        symlink(folder.path("real/x.parquet"), folder.path("other.pq")).unwrap();
        let mut found = Vec::new();
        for path in ["data", "today.parquet", "other.pq", "real/x.parquet"] {
            let dataset = ready(&folder, &folder.job(path, json!({}))).await;
            found.push(ids(&read_all(&dataset, &folder.stores).await));
        }
        found
    };
    let (one, two) = (ids_of(["a", "b"]).await, ids_of(["b", "a"]).await);
    assert_eq!(one, two);
    assert!(one[0].len() >= 10, "a folder that is reached by two ways is read twice: {}", one[0].len());
    let [_, today, other, real] = one.as_slice() else { panic!() };
    assert!(today != real && today != other && other != real, "a symlink has its own name");
}

#[tokio::test]
async fn wildcard_characters_in_names_that_exist_are_plain() {
    let folder = Folder::new();
    write_parquet(&folder.path("[a] *?/x[1].parquet"), &rows(0, 5), 5);
    write_parquet(&folder.path("[a] *?/y.parquet"), &rows(0, 7), 5);
    write_parquet(&folder.path("a/y.parquet"), &rows(0, 11), 5);
    let cases =
        [("[a] *?/x[1].parquet", 5), ("[a] *?", 12), ("[a] *?/*.parquet", 12), ("[a]/*.parquet", 11), ("[a] *?/[xy]*", 12)];
    for (path, expected) in cases {
        assert_eq!(ready(&folder, &folder.job(path, json!({}))).await.rows(), expected, "{path}");
    }
}

#[tokio::test]
async fn a_link_that_appears_later_is_not_followed() {
    let folder = Folder::new();
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret.parquet");
    write_parquet(&secret, &rows(0, 5), 5);
    write_parquet(&folder.path("data/x.parquet"), &rows(0, 5), 5);
    let dataset = ready(&folder, &folder.job("data", json!({}))).await;
    let (store, path) = folder.stores.resolve(&folder.location("data/x.parquet")).unwrap();
    std::fs::remove_file(folder.path("data/x.parquet")).unwrap();
    symlink(&secret, folder.path("data/x.parquet")).unwrap();
    assert!(read(&dataset, &folder.stores, 0..1).await.is_err());
    let error = object_store::ObjectStoreExt::get(store.as_ref(), &path).await.unwrap_err();
    assert!(matches!(error, object_store::Error::PermissionDenied { .. }), "{error}");
    assert!(matches!(
        folder.stores.put_atomic(&folder.location("data/x.parquet"), "x".into()).await,
        Err(DataError::Denied { .. })
    ));
    assert!(std::fs::metadata(secret).unwrap().len() > 100);
}

#[tokio::test]
async fn tables_outside_are_errors_of_the_job() {
    let folder = Folder::new();
    for path in [
        "/etc/passwd",
        "file:///etc/passwd",
        "s3://other/x.parquet",
        "/etc/*",
        "/etc/../etc/pass*",
        "http://169.254.169.254/latest/",
        &folder.location("../*.parquet"),
        &folder.location("*/../../../etc/*"),
        &folder.location("..%2f*"),
    ] {
        let error = plan_error(&folder, &job(path, json!({}))).await;
        let DataError::Job(error) = error else { panic!("{path}: {error:?}") };
        assert_eq!(error.path, "tables.t", "{path}");
        assert!(!error.message.contains("root:"), "{error}");
    }
}

#[tokio::test]
async fn sql_reads_no_files_and_writes_none() {
    let folder = Folder::new();
    write_parquet(&folder.path("t.parquet"), &rows(0, 5), 5);
    let target = folder.location("stolen.csv");
    for sql in [
        "SELECT * FROM '/etc/passwd'".to_owned(),
        "SELECT * FROM \"/etc/passwd\"".to_owned(),
        "SELECT * FROM 'file:///etc/passwd'".to_owned(),
        "SELECT * FROM \"file:///etc/passwd\"".to_owned(),
        format!("SELECT * FROM '{}'", folder.location("t.parquet")),
        "SELECT * FROM 'http://169.254.169.254/latest/meta-data'".to_owned(),
        "SELECT * FROM 's3://other/x.parquet'".to_owned(),
        "SELECT * FROM read_csv('/etc/passwd')".to_owned(),
        "SELECT * FROM read_parquet('/etc/passwd')".to_owned(),
        "SELECT * FROM parquet_metadata('/etc/passwd')".to_owned(),
        "SELECT * FROM information_schema.tables".to_owned(),
        "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'".to_owned(),
        "CREATE TABLE x AS SELECT * FROM t".to_owned(),
        "CREATE VIEW x AS SELECT * FROM t".to_owned(),
        format!("COPY t TO '{target}'"),
        "INSERT INTO t SELECT * FROM t".to_owned(),
        "DROP TABLE t".to_owned(),
        "DELETE FROM t".to_owned(),
        "SET datafusion.execution.time_zone = 'Europe/Berlin'".to_owned(),
        "SHOW TABLES".to_owned(),
        "EXPLAIN SELECT * FROM t".to_owned(),
        "PREPARE p AS SELECT * FROM t".to_owned(),
        "SELECT * FROM t; SELECT * FROM t".to_owned(),
    ] {
        let error = plan_error(&folder, &folder.job("t.parquet", json!({"prepare": sql}))).await;
        let DataError::Job(error) = error else { panic!("{sql}: {error:?}") };
        assert_eq!(error.path, "prepare", "{sql}");
        assert!(!error.message.contains("root:"), "{error}");
    }
    assert!(!std::path::Path::new(&target).exists());
}

#[tokio::test]
async fn a_session_serves_only_the_configured_stores() {
    let folder = Folder::new();
    write_parquet(&folder.path("t.parquet"), &rows(0, 5), 5);
    let session = with_bucket(&folder).session(NOW_NS);
    let read = |location: String| {
        let session = session.clone();
        async move {
            let frame = session.read_parquet(location, Default::default()).await?;
            frame.count().await
        }
    };
    assert_eq!(read(folder.location("t.parquet")).await.unwrap(), 5);
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret.parquet");
    write_parquet(&secret, &rows(0, 5), 5);
    for location in [secret.display().to_string(), "s3://other/x.parquet".to_owned()] {
        assert!(read(location.clone()).await.is_err(), "{location}");
    }
}
