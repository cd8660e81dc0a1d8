//! Rows of a query: side by side in shards that end between queries, whatever files they came from, and in one segment.
#![expect(clippy::unwrap_used, reason = "tests")]

mod fitting;
mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use serde_json::{Value, json};
use sheaf_dataflow::dataset::Dataset;
use sheaf_dataflow::plan::{self, Needs};
use sheaf_dataflow::prepared::PreparedShard;
use sheaf_dataflow::view::View;
use sheaf_learn::shard::{EncodedShard, Segment};
use support::{Folder, NOW_NS, concat, ids, meet, read_all, ready, write_parquet};

const ROWS: i64 = 3_000;

/// The query of a row: some ninety with unlike numbers of rows, spread over the table.
fn query(id: i64) -> i64 {
    let drawn = ((id * 2_654_435_761) >> 12) % 120;
    drawn * drawn / 120
}

fn rows(range: impl Iterator<Item = i64> + Clone) -> RecordBatch {
    let part = |id: i64| ["train", "test", "validation"][query(id) as usize / 4 % 3];
    let columns: [(&str, ArrayRef); 5] = [
        ("id", Arc::new(Int64Array::from_iter_values(range.clone()))),
        ("query", Arc::new(Int64Array::from_iter_values(range.clone().map(query)))),
        ("grade", Arc::new(Int64Array::from_iter_values(range.clone().map(|id| id % 5)))),
        ("x", Arc::new(Float64Array::from_iter_values(range.clone().map(|id| (id * 37 % 101) as f64)))),
        ("part", Arc::new(StringArray::from_iter_values(range.map(part)))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true))).unwrap()
}

fn job(folder: &Folder, table: &str, more: Value) -> sheaf_dataflow::job::Job {
    let mut parts = json!({"shard_rows": 64, "columns": {"query": "query", "target": "grade", "key": ["id"]}});
    parts.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    folder.job(table, parts)
}

/// Rows by query, each in one shard, side by side.
fn check(dataset: &Dataset, shards: &[PreparedShard]) -> BTreeMap<i64, usize> {
    assert_eq!(shards.len(), dataset.units.len());
    let mut found = BTreeMap::new();
    for shard in shards {
        let column = shard.batch.column_by_name("query").unwrap().as_primitive::<Int64Type>().clone();
        let runs: Vec<_> = column.values().chunk_by(|a, b| a == b).collect();
        assert!(column.len() <= 64 || runs.len() == 1, "{} rows of {} queries", column.len(), runs.len());
        for run in runs {
            assert!(found.insert(run[0], run.len()).is_none(), "query {} stands twice", run[0]);
        }
    }
    found
}

#[tokio::test]
async fn shards_hold_whole_queries_whatever_the_files_were() {
    let folder = Folder::new();
    write_parquet(&folder.path("one/all.parquet"), &rows(0..ROWS), 500);
    write_parquet(&folder.path("many/a.parquet"), &rows((1_000..ROWS).rev()), 77);
    write_parquet(&folder.path("many/b.parquet"), &rows(0..1_000), 400);
    let mut all = Vec::new();
    for table in ["one", "many"] {
        let planned = plan::plan(&job(&folder, table, json!({})), &folder.stores, NOW_NS).await.unwrap();
        assert_eq!(planned.needs, Needs::Query);
        let dataset = meet(planned, &folder.stores, &folder.location(&format!("area/{table}"))).await.unwrap();
        let shards = read_all(&dataset, &folder.stores).await;
        let found = check(&dataset, &shards);
        let mut wanted = BTreeMap::new();
        (0..ROWS).for_each(|id| *wanted.entry(query(id)).or_default() += 1);
        assert_eq!(found, wanted);
        let middle = dataset.shards() / 2;
        let part = support::read(&dataset, &folder.stores, middle..dataset.shards()).await.unwrap();
        assert_eq!(part, shards[middle as usize..], "shards can be read from any on");
        all.push(shards);
    }
    assert_eq!(all[0], all[1]);
    let whole = ready(&folder, &folder.job("one", json!({"columns": {"key": ["id"]}}))).await;
    let mut plain = ids(&read_all(&whole, &folder.stores).await);
    let mut grouped = ids(&all[0]);
    plain.sort_unstable();
    grouped.sort_unstable();
    assert_eq!(plain, grouped, "a row's id does not depend on where it stands");
}

#[tokio::test]
async fn a_general_query_gives_the_same_shards() {
    let folder = Folder::new();
    write_parquet(&folder.path("t/all.parquet"), &rows(0..ROWS), 500);
    let found = |prepare: &'static str, area: &'static str| {
        let folder = &folder;
        async move {
            let job = job(folder, "t", json!({"prepare": prepare}));
            let planned = plan::plan(&job, &folder.stores, NOW_NS).await.unwrap();
            assert_eq!(planned.needs, Needs::Query);
            let dataset = meet(planned, &folder.stores, &folder.location(area)).await.unwrap();
            let shards = read_all(&dataset, &folder.stores).await;
            check(&dataset, &shards);
            concat(&shards)
        }
    };
    let plain = found("SELECT id, query, grade, x FROM t WHERE id % 3 > 0", "plain").await;
    let general = "SELECT DISTINCT id, query, grade, x FROM t WHERE id % 3 > 0";
    assert_eq!(plain, found(general, "general").await);
}

#[tokio::test]
async fn columns_that_are_no_query_are_refused() {
    let folder = Folder::new();
    write_parquet(&folder.path("t/all.parquet"), &rows(0..100), 500);
    let refused = async |query: &str| {
        let job = job(&folder, "t", json!({"columns": {"query": query, "target": "grade"}}));
        plan::plan(&job, &folder.stores, NOW_NS).await.unwrap_err().to_string()
    };
    assert!(refused("x").await.starts_with("columns.query: column `x` is float64; a query is text or a whole number"));
    assert!(refused("q").await.starts_with("columns.query: column `q` is not in the prepared rows"));
    let nulls = json!({"prepare": "SELECT id, nullif(query, 0) AS query, grade FROM t"});
    let planned = plan::plan(&job(&folder, "t", nulls), &folder.stores, NOW_NS).await.unwrap();
    let error = meet(planned, &folder.stores, &folder.location("nulls")).await.unwrap_err().to_string();
    let wanted = (0..100).filter(|id| query(*id) == 0).count();
    assert!(error.starts_with(&format!("columns.query: {wanted} rows have no query")), "{error}");
}

/// What training reads of the rows.
async fn encoded(folder: &Folder, split: Value) -> Result<Vec<EncodedShard>, String> {
    let train = json!({"algorithm": "gradient_boosting", "params": {"objective": "lambdarank"}});
    let more = json!({"split": split, "train": train, "prepare": "SELECT id, query, grade, x, part FROM t"});
    let job = job(folder, "t", more);
    let dataset = ready(folder, &job).await;
    let shards = read_all(&dataset, &folder.stores).await;
    let (pipeline, _, _) = fitting::fit(&job, &concat(&shards), 64).map_err(|e| e.to_string())?;
    fitting::encode(&View::features(&job, &pipeline), &shards).map_err(|e| e.to_string())
}

#[tokio::test]
async fn a_query_is_in_one_segment() {
    let folder = Folder::new();
    write_parquet(&folder.path("t/all.parquet"), &rows(0..ROWS), 500);
    for split in [json!({"by": "random", "test": 0.3, "validation": 0.2}), json!({"by": "column", "column": "part"})] {
        let shards = encoded(&folder, split).await.unwrap();
        let (mut queries, mut rows) = (0, [0; 3]);
        for shard in &shards {
            let query = shard.query.as_deref().unwrap();
            let runs = |rows: std::ops::Range<usize>| query[rows].chunk_by(|a, b| a == b).count();
            let own = Segment::ALL.map(|segment| runs(shard.range(segment)));
            let distinct: std::collections::BTreeSet<u32> = query.iter().copied().collect();
            assert_eq!(own.iter().sum::<usize>(), distinct.len(), "a query stands in two places");
            queries += distinct.len();
            Segment::ALL.iter().zip(&mut rows).for_each(|(segment, rows)| *rows += shard.range(*segment).len());
        }
        let wanted: std::collections::BTreeSet<i64> = (0..ROWS).map(query).collect();
        assert_eq!((queries, rows.iter().sum::<usize>()), (wanted.len(), ROWS as usize));
        assert!(rows.iter().all(|rows| *rows > 100), "{rows:?}");
    }
    let cut = json!({"by": "column", "column": "part"});
    let cut = encoded_with(&folder, cut).await;
    assert!(cut.contains("has rows in") && cut.contains("the split must keep queries whole"), "{cut}");
}

/// The error of a split that follows the row and not its query.
async fn encoded_with(folder: &Folder, split: Value) -> String {
    let train = json!({"algorithm": "gradient_boosting", "params": {"objective": "lambdarank"}});
    let prepare = "SELECT id, query, grade, x, CASE WHEN id % 3 = 0 THEN 'test' ELSE 'train' END AS part FROM t";
    let job = job(folder, "t", json!({"split": split, "train": train, "prepare": prepare}));
    let planned = plan::plan(&job, &folder.stores, NOW_NS).await.unwrap();
    let dataset = meet(planned, &folder.stores, &folder.location("cut")).await.unwrap();
    let shards = read_all(&dataset, &folder.stores).await;
    let (pipeline, _, _) = fitting::fit(&job, &concat(&shards), 64).unwrap();
    fitting::encode(&View::features(&job, &pipeline), &shards).unwrap_err().to_string()
}
