//! What the tests of this crate share: small files, jobs, and readers that collect.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::compute::concat_batches;
use futures::TryStreamExt;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use serde_json::{Value, json};
use sheaf_dataflow::dataset::{Counted, Dataset};
use sheaf_dataflow::error::DataError;
use sheaf_dataflow::job::Job;
use sheaf_dataflow::plan::{self, Needs, Planned};
use sheaf_dataflow::prepared::PreparedShard;
use sheaf_dataflow::reader::Reader;
use sheaf_dataflow::sink;
use sheaf_dataflow::stores::{StoreOptions, Stores};

/// 2026-11-01T12:34:56Z.
pub const NOW_NS: i64 = 1_793_536_496_000_000_000;

pub struct Folder {
    pub dir: tempfile::TempDir,
    pub stores: Stores,
}

impl Folder {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions { local_roots: vec![dir.path().to_owned()], ..StoreOptions::default() };
        Self { stores: Stores::new(options).unwrap(), dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn location(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    pub fn job(&self, table: &str, more: Value) -> Job {
        job(&self.location(table), more)
    }
}

/// A job over the table `t` at a location, with more keys.
pub fn job(location: &str, more: Value) -> Job {
    let mut job = json!({"version": 1, "name": "test", "tables": [{"name": "t", "path": location}]});
    for (key, value) in more.as_object().unwrap() {
        job[key] = value.clone();
    }
    serde_json::from_value(job).unwrap()
}

/// Rows `start..start + rows` of an endless table with every kind of column.
pub fn rows(start: i64, rows: i64) -> RecordBatch {
    let ids = || start..start + rows;
    let amount = |i: i64| (i % 11 != 0).then(|| (i * 37 % 1009) as f64 / 8.0 - 20.0);
    let text = |i: i64| (i % 7 != 0).then(|| format!("c{}", i * i % 13));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from_iter_values(ids()))),
        ("amount", Arc::new(ids().map(amount).collect::<Float64Array>())),
        ("category", Arc::new(ids().map(text).collect::<StringArray>())),
        ("flag", Arc::new(ids().map(|i| Some(i % 3 == 0)).collect::<BooleanArray>())),
        ("day", Arc::new(Date32Array::from_iter_values(ids().map(|i| 20_000 + (i % 400) as i32)))),
        ("at", Arc::new(TimestampMicrosecondArray::from_iter_values(ids().map(|i| 1_700_000_000_000_000 + i * 977_000_000)))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true))).unwrap()
}

pub fn write_parquet(path: &Path, batch: &RecordBatch, group_rows: usize) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(group_rows)).build();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

/// A folder of seven files with uneven row groups; gives the number of rows.
pub fn write_table(folder: &Folder, name: &str) -> i64 {
    let files = [(700, 200), (1, 10), (1300, 333), (2048, 512), (97, 97), (3000, 1999), (10_000, 9000)];
    let mut start = 0;
    for (i, (count, group)) in files.into_iter().enumerate() {
        let sub = if i % 2 == 0 { "b" } else { "a/deep" };
        write_parquet(&folder.path(&format!("{name}/{sub}/part-{i}.parquet")), &rows(start, count), group);
        start += count;
    }
    start
}

/// Plans a job and meets its needs.
pub async fn ready(folder: &Folder, job: &Job) -> Dataset {
    let planned = plan::plan(job, &folder.stores, NOW_NS).await.unwrap();
    meet(planned, &folder.stores, &folder.location("area")).await.unwrap()
}

pub async fn meet(planned: Planned, stores: &Stores, area: &str) -> Result<Dataset, DataError> {
    match planned.needs {
        Needs::Nothing => Ok(planned.dataset),
        Needs::Materialise => sink::materialise(&planned.dataset, stores, area).await,
        Needs::Query => planned.materialise_here(stores, area).await,
        Needs::Count => {
            let reader = Reader::open(Arc::new(planned.dataset.clone()), stores.clone(), None).await?;
            let mut counts = Vec::new();
            for unit in 0..planned.dataset.units() {
                counts.push(reader.count(unit).await?);
            }
            match planned.dataset.with_counts(counts) {
                Counted::Ready(dataset) => Ok(dataset),
                Counted::Materialise(dataset) => sink::materialise(&dataset, stores, area).await,
            }
        }
    }
}

pub async fn read(dataset: &Dataset, stores: &Stores, range: std::ops::Range<u32>) -> Result<Vec<PreparedShard>, DataError> {
    let reader = Reader::open(Arc::new(dataset.clone()), stores.clone(), None).await?;
    reader.shards(range).try_collect().await
}

pub async fn read_all(dataset: &Dataset, stores: &Stores) -> Vec<PreparedShard> {
    read(dataset, stores, 0..dataset.shards()).await.unwrap()
}

/// All rows of shards as one batch.
pub fn concat(shards: &[PreparedShard]) -> RecordBatch {
    let batches: Vec<_> = shards.iter().map(|s| s.batch.clone()).collect();
    concat_batches(&batches[0].schema(), &batches).unwrap()
}

pub fn ids(shards: &[PreparedShard]) -> Vec<u128> {
    shards.iter().flat_map(|s| s.row_ids.clone()).collect()
}

/// The error of planning a job.
pub async fn plan_error(folder: &Folder, job: &Job) -> DataError {
    match plan::plan(job, &folder.stores, NOW_NS).await {
        Ok(planned) => panic!("planned: {}", planned.explain),
        Err(e) => e,
    }
}
