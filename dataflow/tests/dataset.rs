//! Canonical shards: they equal a plain read, whatever ranges they are read in; files are pinned; what is
//! materialised depends on the rows alone.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::io::{Seek, Write};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::Int64Type;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use futures::{StreamExt, TryStreamExt};
use serde_json::{Value, json};
use sheaf_dataflow::dataset::Dataset;
use sheaf_dataflow::error::DataError;
use sheaf_dataflow::plan::{self, Needs};
use sheaf_dataflow::reader::Reader;
use sheaf_dataflow::sink;
use sheaf_learn::hash;
use support::*;

const QUERY: &str = "SELECT id, amount * 2 + 1 AS twice, upper(category) AS category, flag, day, at, \
     extract(hour FROM at) AS hour, CASE WHEN amount < 0 THEN 'low' ELSE category END AS kind \
     FROM t WHERE id >= 701 AND (category = 'c1' OR amount > 3.5)";

/// The same query in a plain session over each file in path order, cast to the prepared types.
async fn plain(folder: &Folder, dataset: &Dataset, query: &str) -> RecordBatch {
    let mut batches = Vec::new();
    for file in &dataset.files {
        let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
        let path = folder.location(&format!("data/{}", file.path));
        context.register_parquet("t", path, ParquetReadOptions::default()).await.unwrap();
        batches.extend(context.sql(query).await.unwrap().collect().await.unwrap());
    }
    let schema = dataset.schema();
    let prepared = |batch: &RecordBatch| {
        let columns = batch.columns().iter().zip(schema.fields()).map(|(c, f)| cast(c, f.data_type()).unwrap());
        RecordBatch::try_new(schema.clone(), columns.collect()).unwrap()
    };
    concat_batches(&schema, &batches.iter().map(prepared).collect::<Vec<_>>()).unwrap()
}

#[tokio::test]
async fn shards_are_the_rows_of_a_plain_read() {
    let folder = Folder::new();
    write_table(&folder, "data");
    for query in [None, Some(QUERY)] {
        for shard_rows in [Some(64), Some(1536), None] {
            let job = folder.job("data", json!({"prepare": query, "shard_rows": shard_rows}));
            let dataset = ready(&folder, &job).await;
            let shards = read_all(&dataset, &folder.stores).await;
            let expected = plain(&folder, &dataset, query.unwrap_or("SELECT * FROM t")).await;
            assert_eq!(concat(&shards), expected);
            assert_eq!(dataset.rows(), expected.num_rows() as u64);
            assert_eq!(shards.len() as u32, dataset.shards());
            for (i, shard) in shards.iter().enumerate() {
                assert_eq!(shard.index, i as u32);
                let full = i + 1 < shards.len();
                assert!(!full || shard.batch.num_rows() == dataset.shard_rows as usize);
                assert_eq!(shard.row_ids.len(), shard.batch.num_rows());
            }
        }
    }
}

#[tokio::test]
async fn every_partition_of_the_shards_gives_the_same_shards() {
    let folder = Folder::new();
    write_table(&folder, "data");
    for query in [None, Some(QUERY)] {
        let job = folder.job("data", json!({"prepare": query, "shard_rows": 64}));
        let dataset = ready(&folder, &job).await;
        assert!(query.is_none() || dataset.units.iter().any(|u| u.rows == 0), "the filter empties a unit");
        let whole = read_all(&dataset, &folder.stores).await;
        let shards = dataset.shards();
        let mut cuts = vec![dataset.boundaries(), (0..8).collect()];
        for step in [7, 50] {
            cuts.push((0..shards).step_by(step).collect());
        }
        for mut cut in cuts {
            cut.push(shards);
            let mut found = Vec::new();
            for range in cut.windows(2) {
                found.extend(read(&dataset, &folder.stores, range[0]..range[1]).await.unwrap());
            }
            assert_eq!(found, whole);
        }
    }
}

#[tokio::test]
async fn a_reader_gives_only_the_wanted_columns_in_prepared_order() {
    let folder = Folder::new();
    write_table(&folder, "data");
    let job = folder.job("data", json!({"prepare": QUERY, "shard_rows": 64, "columns": {"key": ["id"]}}));
    let dataset = ready(&folder, &job).await;
    let whole = read_all(&dataset, &folder.stores).await;
    let wanted = Some(vec!["hour".to_owned(), "twice".to_owned()]);
    let reader = Reader::open(Arc::new(dataset.clone()), folder.stores.clone(), wanted).await.unwrap();
    let names: Vec<_> = reader.schema().fields().iter().map(|f| f.name().clone()).collect();
    assert_eq!(names, ["twice", "hour"]);
    let narrow: Vec<_> = reader.shards(0..dataset.shards()).try_collect().await.unwrap();
    for (narrow, wide) in narrow.iter().zip(&whole) {
        assert_eq!(narrow.row_ids, wide.row_ids);
        assert_eq!(narrow.batch.column(0), wide.batch.column_by_name("twice").unwrap());
    }
    let none = Reader::open(Arc::new(dataset.clone()), folder.stores.clone(), Some(Vec::new())).await.unwrap();
    let shard = none.shards(1..2).next().await.unwrap().unwrap();
    assert_eq!((shard.batch.num_columns(), shard.batch.num_rows()), (0, 64));
}

#[tokio::test]
async fn row_ids_are_physical_or_keyed_and_know_no_shards() {
    let folder = Folder::new();
    let rows = write_table(&folder, "data");
    let physical = ready(&folder, &folder.job("data", json!({"shard_rows": 64}))).await;
    let shards = read_all(&physical, &folder.stores).await;
    let first = &physical.files[0];
    assert_eq!(first.path, "a/deep/part-1.parquet");
    assert_eq!(shards[0].row_ids[0], hash::physical_row_id("t", &first.path, 0));
    // The second file has row groups of 512 rows; its row 600 stands in the second of them.
    assert_eq!(ids(&shards)[1 + 600], hash::physical_row_id("t", "a/deep/part-3.parquet", 600));
    let other = ready(&folder, &folder.job("data", json!({"shard_rows": 1536}))).await;
    assert_eq!(ids(&shards), ids(&read_all(&other, &folder.stores).await));

    let filtered = ready(&folder, &folder.job("data", json!({"prepare": QUERY, "shard_rows": 64}))).await;
    let kept = read_all(&filtered, &folder.stores).await;
    let all: std::collections::BTreeMap<_, _> = ids(&shards).into_iter().zip(0..).collect();
    let places: Vec<i64> = ids(&kept).iter().map(|id| all[id]).collect();
    assert!(places.windows(2).all(|w| w[0] < w[1]), "a filter keeps ids and order");

    let keyed = ready(&folder, &folder.job("data", json!({"shard_rows": 64, "columns": {"key": ["id"]}}))).await;
    let shards = read_all(&keyed, &folder.stores).await;
    let mut hasher = hash::ValueHasher::new();
    hasher.i64(concat(&shards).column(0).as_primitive::<Int64Type>().value(5));
    assert_eq!(ids(&shards)[5], hasher.finish());
    let distinct: std::collections::BTreeSet<_> = ids(&shards).into_iter().collect();
    assert_eq!(distinct.len() as i64, rows);
}

/// Rewrites bytes in the middle of a file and makes sure that its time of change shows it.
fn rewrite(path: &std::path::Path) {
    let mut file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.seek(std::io::SeekFrom::Start(1000)).unwrap();
    file.write_all(b"other bytes").unwrap();
    file.set_modified(SystemTime::now() + Duration::from_secs(5)).unwrap();
}

#[tokio::test]
async fn a_file_that_changes_during_the_read_ends_it() {
    let folder = Folder::new();
    write_table(&folder, "data");
    let dataset = ready(&folder, &folder.job("data", json!({"shard_rows": 64}))).await;
    let size = std::fs::metadata(folder.path("data/b/part-6.parquet")).unwrap().len();
    let reader = Reader::open(Arc::new(dataset.clone()), folder.stores.clone(), None).await.unwrap();
    let mut shards = Box::pin(reader.shards(0..dataset.shards()));
    shards.next().await.unwrap().unwrap();
    rewrite(&folder.path("data/b/part-6.parquet"));
    assert_eq!(std::fs::metadata(folder.path("data/b/part-6.parquet")).unwrap().len(), size);
    let error = loop {
        match shards.next().await.expect("the read ends with an error") {
            Ok(_) => {}
            Err(e) => break e,
        }
    };
    assert!(matches!(&error, DataError::InputChanged { file } if file.ends_with("b/part-6.parquet")), "{error}");
    assert!(error.to_string().starts_with("input changed: "));
}

#[tokio::test]
async fn a_file_that_is_replaced_or_removed_is_seen() {
    for replace in [true, false] {
        let folder = Folder::new();
        write_table(&folder, "data");
        let dataset = ready(&folder, &folder.job("data", json!({"shard_rows": 64}))).await;
        let (path, copy) = (folder.path("data/b/part-0.parquet"), folder.path("copy.parquet"));
        let changed = std::fs::metadata(&path).unwrap().modified().unwrap();
        if replace {
            // The same bytes and time, another file.
            std::fs::copy(&path, &copy).unwrap();
            std::fs::File::options().write(true).open(&copy).unwrap().set_modified(changed).unwrap();
            std::fs::rename(&copy, &path).unwrap();
        } else {
            std::fs::remove_file(&path).unwrap();
        }
        let error = read(&dataset, &folder.stores, 0..dataset.shards()).await.unwrap_err();
        assert!(matches!(error, DataError::InputChanged { .. }), "{error}");
    }
}

/// Shards of a job over `data` that needs materialising.
async fn written(folder: &Folder, table: &str, more: Value) -> (Dataset, Vec<sheaf_dataflow::prepared::PreparedShard>) {
    let planned = plan::plan(&folder.job(table, more), &folder.stores, NOW_NS).await.unwrap();
    let fingerprint = planned.dataset.fingerprint();
    let dataset = meet(planned, &folder.stores, &folder.location(&format!("area-{table}"))).await.unwrap();
    assert_eq!(dataset.fingerprint(), fingerprint);
    let shards = read_all(&dataset, &folder.stores).await;
    (dataset, shards)
}

#[tokio::test]
async fn a_filter_that_keeps_little_is_written_once_whatever_the_layout() {
    let folder = Folder::new();
    let rows_written = write_table(&folder, "data");
    // The same rows in other files, backwards, some of them twice as small.
    let mut start = rows_written;
    for i in 0.. {
        let count = (500 + 700 * (i % 3)).min(start);
        start -= count;
        write_parquet(&folder.path(&format!("other/x{i:02}.parquet")), &rows(start, count), 250);
        if start == 0 {
            break;
        }
    }
    let query = json!({"prepare": "SELECT id % 5 AS five, amount FROM t WHERE id % 10 = 3", "shard_rows": 64});
    let (dataset, shards) = written(&folder, "data", query.clone()).await;
    let (_, other) = written(&folder, "other", query).await;
    assert_eq!(dataset.rows(), (rows_written as u64).div_ceil(10));
    assert!(dataset.boundaries().len() == dataset.units.len());
    assert_eq!(shards, other);
    let distinct: std::collections::BTreeSet<_> = ids(&shards).into_iter().collect();
    assert_eq!(distinct.len() as u64, dataset.rows(), "equal rows are told apart");
}

fn csv(folder: &Folder, name: &str, rows: impl IntoIterator<Item = i64>) {
    let path = folder.path(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut text = "id,amount,name,at\n".to_owned();
    for i in rows {
        let amount = if i % 9 == 0 { "NA".to_owned() } else { format!("{}", i as f64 / 4.0) };
        text += &format!("{i},{amount},\"n, {}\",2026-01-{:02}T10:00:00\n", i % 17, i % 28 + 1);
    }
    std::fs::write(path, text).unwrap();
}

fn csv_job() -> Value {
    json!({"shard_rows": 64, "prepare": "SELECT *, extract(day FROM at) AS day FROM t WHERE id < 3900"})
}

fn with_null(folder: &Folder, table: &str) -> sheaf_dataflow::job::Job {
    let mut job = folder.job(table, csv_job());
    job.tables[0].csv.null = Some("NA".into());
    job
}

#[tokio::test]
async fn delimited_text_gives_the_same_shards_for_every_file_order_and_cut() {
    let folder = Folder::new();
    csv(&folder, "one/all.csv", 0..4001);
    csv(&folder, "many/a.csv", (2000..4001).rev());
    csv(&folder, "many/b.csv", 0..1);
    csv(&folder, "many/c.csv", 1..2000);
    let mut found = Vec::new();
    for (table, bucket) in [("one", 1 << 30), ("many", 1 << 30), ("many", 20_000)] {
        let planned = plan::plan(&with_null(&folder, table), &folder.stores, NOW_NS).await.unwrap();
        assert_eq!(planned.needs, Needs::Materialise);
        let area = folder.location(&format!("area/{table}-{bucket}"));
        let dataset = sink::materialise_in(&planned.dataset, &folder.stores, &area, bucket).await.unwrap();
        assert_eq!(dataset.files.len() > 1, bucket == 20_000);
        let again = sink::materialise_in(&planned.dataset, &folder.stores, &area, bucket).await.unwrap();
        assert_eq!(dataset, again, "an attempt that is repeated leaves the files of the first");
        found.push(read_all(&dataset, &folder.stores).await);
    }
    assert_eq!(found[0], found[1]);
    assert_eq!(found[0], found[2]);
    let all = concat(&found[0]);
    assert_eq!(all.num_rows(), 3900);
    assert_eq!(all.column_by_name("amount").unwrap().null_count(), 3900_usize.div_ceil(9));
    assert!(all.column_by_name("name").unwrap().as_string::<i32>().value(0).starts_with("n, "));
}

/// A table of every supported type with the values that are hard to keep.
fn every_type(key: &[i64]) -> RecordBatch {
    use arrow::array::*;
    use arrow::datatypes::DataType;
    let at = |i: usize| key[i] as usize;
    let pick = |values: [f64; 5]| (0..key.len()).map(|i| values[at(i) % 5]).collect::<Vec<_>>();
    let floats = pick([0.0, -0.0, f64::NAN, -f64::NAN, 1.5]);
    let singles: Vec<f32> = floats.iter().map(|v| *v as f32).collect();
    let bits = (0..key.len()).map(|i| (at(i) % 4 != 0).then_some(u64::MAX - at(i) as u64));
    let decimals = (0..key.len()).map(|i| Some(at(i) as i128 * 10_i128.pow(20)));
    let seconds: ArrayRef = Arc::new(TimestampSecondArray::from_iter_values(key.iter().map(|k| 1_700_000_000 + k)));
    let zoned = cast(&seconds, &DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, Some("+02:00".into()))).unwrap();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("key", Arc::new(Int64Array::from(key.to_vec()))),
        ("small", Arc::new(Int8Array::from_iter_values(key.iter().map(|k| (k % 100) as i8 - 50)))),
        ("big", Arc::new(bits.collect::<UInt64Array>())),
        ("double", Arc::new(Float64Array::from(floats))),
        ("single", Arc::new(Float32Array::from(singles))),
        ("money", Arc::new(decimals.collect::<Decimal128Array>().with_precision_and_scale(38, 4).unwrap())),
        ("second", seconds),
        ("zoned", zoned),
        ("large", Arc::new(LargeStringArray::from_iter_values(key.iter().map(|k| format!("é{k}"))))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true))).unwrap()
}

#[tokio::test]
async fn every_type_keeps_its_values_and_is_canonical_when_written() {
    let folder = Folder::new();
    let keys: Vec<i64> = (0..500).collect();
    let back: Vec<i64> = (0..500).rev().collect();
    write_parquet(&folder.path("a/x.parquet"), &every_type(&keys), 99);
    write_parquet(&folder.path("b/x.parquet"), &every_type(&back), 500);
    let mut found = Vec::new();
    for table in ["a", "b"] {
        let job = folder.job(table, json!({"shard_rows": 64, "columns": {"key": ["key"]}}));
        let dataset = ready(&folder, &job).await;
        let names: Vec<_> = dataset.columns.iter().map(|c| c.kind.as_str()).collect();
        let types = ["int64", "int8", "uint64", "float64", "float32", "decimal(38,4)", "timestamp", "timestamp", "utf8"];
        assert_eq!(names, types);
        let plain = read_all(&dataset, &folder.stores).await;
        let signs = concat(&plain).column(3).as_primitive::<arrow::datatypes::Float64Type>().clone();
        assert_eq!(signs.value(if table == "a" { 1 } else { 498 }).to_bits(), (-0.0_f64).to_bits(), "the source as it is");
        let written = sink::materialise(&dataset, &folder.stores, &folder.location(&format!("out-{table}"))).await.unwrap();
        let shards = read_all(&written, &folder.stores).await;
        let sorted = |shards| ids(shards).into_iter().collect::<std::collections::BTreeSet<_>>();
        assert_eq!(sorted(&shards), sorted(&plain), "keyed ids do not change");
        found.push(concat(&shards));
    }
    assert_eq!(found[0], found[1]);
    let doubles = found[0].column(3).as_primitive::<arrow::datatypes::Float64Type>();
    let bits: std::collections::BTreeSet<_> = doubles.values().iter().map(|v| v.to_bits()).collect();
    assert_eq!(bits, [0.0_f64.to_bits(), 1.5_f64.to_bits(), 0x7ff8_0000_0000_0000].into());
}

/// Names are case-sensitive: a document carries the views that are meant, and no others.
#[tokio::test]
async fn views_are_found_by_their_names_as_they_are_written() {
    let folder = Folder::new();
    write_parquet(&folder.path("t.parquet"), &rows(0, 100), 30);
    let tables = json!([
        {"name": "t", "path": folder.location("t.parquet")},
        {"name": "cheap", "sql": "SELECT id FROM t WHERE id < 27"},
        {"name": "Cheap", "sql": "SELECT id FROM t WHERE id < 40"},
        {"name": "Few", "sql": "SELECT id FROM Cheap WHERE id % 2 = 0"},
    ]);
    for (prepare, views, rows) in [("SELECT id FROM Few", vec!["Cheap", "Few"], 20), ("SELECT id FROM cheap", vec!["cheap"], 27)]
    {
        let dataset = ready(&folder, &folder.job("t.parquet", json!({"tables": tables, "prepare": prepare}))).await;
        let names: Vec<_> = dataset.views.iter().map(|view| view.name.as_str()).collect();
        assert_eq!((names, dataset.rows()), (views, rows), "{prepare}");
    }
}

#[tokio::test]
async fn rows_that_cannot_be_written_end_the_sink_with_their_error() {
    let folder = Folder::new();
    csv(&folder, "d/a.csv", 0..50_000);
    let job = folder.job("d", json!({"prepare": "SELECT 1 / (id - 20000) AS x FROM t"}));
    let planned = plan::plan(&job, &folder.stores, NOW_NS).await.unwrap();
    let error = sink::materialise(&planned.dataset, &folder.stores, &folder.location("out")).await.unwrap_err();
    assert!(matches!(error, DataError::Input { .. }), "{error:?}");
    assert!(folder.stores.list(&folder.location("out")).await.unwrap().is_empty());
}

#[tokio::test]
async fn rows_that_are_larger_than_their_files_are_spilled_and_keep_their_order() {
    let folder = Folder::new();
    let text = "long ".repeat(200);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from_iter_values(0..3000))),
        ("text", Arc::new(StringArray::from_iter_values((0..3000).map(|_| &text)))),
    ];
    write_parquet(&folder.path("t.parquet"), &RecordBatch::try_from_iter(columns).unwrap(), 500);
    let dataset = ready(&folder, &folder.job("t.parquet", json!({"shard_rows": 64}))).await;
    assert!(dataset.files[0].size < 100_000);
    let mut found = Vec::new();
    for (bucket, spilled) in [(1 << 30, false), (100_000, true)] {
        let area = folder.location(&format!("area/{bucket}"));
        let written = sink::materialise_in(&dataset, &folder.stores, &area, bucket).await.unwrap();
        assert_eq!(written.files.len() > 1, spilled);
        found.push(read_all(&written, &folder.stores).await);
    }
    assert_eq!(found[0], found[1]);
    // Many small values in a tiny file: the rows say how many buckets there are from the start.
    let ones: ArrayRef = Arc::new(Int64Array::from_iter_values((0..20_000).map(|i| i / 10_000)));
    write_parquet(&folder.path("u.parquet"), &RecordBatch::try_from_iter([("one", ones)]).unwrap(), 20_000);
    let dataset = ready(&folder, &folder.job("u.parquet", json!({}))).await;
    let written = sink::materialise_in(&dataset, &folder.stores, &folder.location("area/u"), 50_000).await.unwrap();
    assert_eq!((written.rows(), written.files.len()), (20_000, 2));
}
