//! Scans give the rows of our own readers, whatever the number of partitions, and only those that were pinned.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::util::pretty::pretty_format_batches;
use datafusion::execution::SessionStateBuilder;
use datafusion::physical_plan::displayable;
use datafusion::prelude::SessionContext;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;

use super::*;
use crate::job::{Format, JobError, Table};
use crate::stores::StoreOptions;

struct World {
    dir: tempfile::TempDir,
    stores: Stores,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions { local_roots: vec![dir.path().to_owned()], ..StoreOptions::default() };
        Self { stores: Stores::new(options).unwrap(), dir }
    }

    fn table(&self, path: &str) -> Table {
        let path = self.dir.path().join(path).display().to_string();
        Table { path, ..Table::at("t", "") }
    }

    fn session(&self, partitions: usize) -> SessionContext {
        let state = self.stores.session(0).state();
        let config = state.config().clone().with_target_partitions(partitions).with_repartition_file_scans(true);
        // Scans of fewer rows than a batch are not split.
        let mut config = config.with_batch_size(64);
        config.options_mut().optimizer.repartition_file_min_size = 1;
        SessionContext::new_with_state(SessionStateBuilder::new_from_existing(state).with_config(config).build())
    }

    async fn ready(&self, table: &Table, partitions: usize) -> SessionContext {
        let open = table::open(&self.stores, table).await.unwrap();
        let session = self.session(partitions);
        session.register_table("t", provider(&self.stores, "t", &open).unwrap()).unwrap();
        session
    }

    async fn ask(&self, table: &Table, partitions: usize, sql: &str) -> String {
        text(&self.ready(table, partitions).await, sql).await.unwrap()
    }
}

async fn text(session: &SessionContext, sql: &str) -> Result<String, DataFusionError> {
    let batches = session.sql(sql).await?.collect().await?;
    Ok(pretty_format_batches(&batches)?.to_string())
}

async fn physical(session: &SessionContext, sql: &str) -> String {
    let plan = session.sql(sql).await.unwrap().create_physical_plan().await.unwrap();
    displayable(plan.as_ref()).indent(false).to_string()
}

fn rows(from: i64, count: i64) -> RecordBatch {
    let ids = || from..from + count;
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from_iter_values(ids()))),
        ("x", Arc::new(ids().map(|i| if i % 10 == 0 { f64::NAN } else { i as f64 }).collect::<Float64Array>())),
        ("name", Arc::new(ids().map(|i| (i % 7 != 0).then(|| format!("n{}", i % 5))).collect::<StringArray>())),
        ("day", Arc::new(Date32Array::from_iter_values(ids().map(|i| 20_000 + i as i32)))),
        ("raw", Arc::new(BinaryArray::from_iter_values(ids().map(|i| i.to_le_bytes())))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true))).unwrap()
}

fn write(path: &Path, batch: &RecordBatch) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(100)).build();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

fn parquet(world: &World) -> Table {
    for (i, count) in [350, 1, 640].into_iter().enumerate() {
        write(&world.dir.path().join(format!("t/part {i} ä.parquet")), &rows(1000 * i as i64, count));
    }
    world.table("t")
}

#[tokio::test]
async fn parquet_gives_the_same_on_any_number_of_partitions() {
    let world = World::new();
    let table = parquet(&world);
    let sql = "SELECT count(*) AS n, sum(id) AS s, count(name) AS named, min(day) AS d FROM t WHERE id >= 300";
    let expected = "\
+-----+---------+-------+------------+
| n   | s       | named | d          |
+-----+---------+-------+------------+
| 691 | 1501705 | 592   | 2025-07-31 |
+-----+---------+-------+------------+";
    for partitions in [1, 3, 8] {
        assert_eq!(world.ask(&table, partitions, sql).await, expected);
    }
}

#[tokio::test]
async fn scans_are_split_and_push_conditions_and_columns() {
    let world = World::new();
    let session = world.ready(&parquet(&world), 8).await;
    let plan = physical(&session, "SELECT name FROM t WHERE id >= 300").await;
    assert!(plan.contains("file_groups={8 groups") && plan.contains("projection=[id, name]"), "{plan}");
    assert!(plan.contains("pruning_predicate=") && plan.contains("FilterExec"), "{plan}");
    // Answered by the footers.
    let plan = physical(&session, "SELECT count(*) FROM t").await;
    assert!(!plan.contains("DataSourceExec"), "{plan}");
    // Never answered by bounds, which leave NaN out.
    let plan = physical(&session, "SELECT max(x), min(id) FROM t").await;
    assert!(plan.contains("DataSourceExec"), "{plan}");
}

#[tokio::test]
async fn nan_is_found_though_no_footer_tells_of_it() {
    let world = World::new();
    let table = parquet(&world);
    for sql in [
        "SELECT count(*) AS n FROM t WHERE x > 1000000",
        "SELECT count(*) AS n FROM t WHERE id >= 0 AND x > 1000000",
        "SELECT count(*) AS n FROM (SELECT x FROM t ORDER BY x DESC, id LIMIT 100) WHERE isnan(x)",
    ] {
        let found = world.ask(&table, 4, sql).await;
        assert!(found.contains("| 100 |"), "{sql}\n{found}");
    }
}

#[tokio::test]
async fn columns_of_other_types_are_refused_where_they_are_read() {
    let world = World::new();
    let session = world.ready(&parquet(&world), 2).await;
    assert!(text(&session, "SELECT id, name FROM t LIMIT 1").await.is_ok());
    let error = text(&session, "SELECT raw FROM t").await.unwrap_err();
    let DataFusionError::External(error) = error.find_root() else { panic!("{error}") };
    let error = error.downcast_ref::<JobError>().unwrap();
    assert_eq!(error.to_string().lines().next().unwrap(), "tables.t: column `raw` has the type binary, which is not supported");
}

#[tokio::test]
async fn a_changed_file_is_an_error() {
    let world = World::new();
    let session = world.ready(&parquet(&world), 2).await;
    let before = text(&session, "SELECT sum(id) AS s FROM t").await.unwrap();
    write(&world.dir.path().join("t/part 1 ä.parquet"), &rows(5, 1));
    // A file that nobody pinned is not there.
    write(&world.dir.path().join("t/part 3.parquet"), &rows(9000, 10));
    let error = text(&session, "SELECT sum(id) AS s FROM t").await.unwrap_err().to_string();
    assert!(error.contains("input changed: ") && error.contains("part 1 ä.parquet"), "{before}\n{error}");
}

const TEXT: &str = "id;when;code;flag;x\r\n\
    1;2026-01-31;007;true;1.5\r\n\
    2;2026-02-01T10:00:00+02:00;NA;False;NA\r\n\
    3;;\"a;\"\"b\";TRUE;-inf\r\n\
    4;2026-02-01T10:00:00Z;\"\";NA;1e-3\r\n";

const TEXT_ROWS: &str = "\
+----+----------------------+------+-------+-------+
| id | when                 | code | flag  | x     |
+----+----------------------+------+-------+-------+
| 1  | 2026-01-31T00:00:00Z | 007  | true  | 1.5   |
| 2  | 2026-02-01T08:00:00Z |      | false |       |
| 3  |                      | a;\"b | true  | -inf  |
| 4  | 2026-02-01T10:00:00Z |      |       | 0.001 |
+----+----------------------+------+-------+-------+";

fn semicolons(world: &World, path: &str) -> Table {
    let csv = CsvOptions { delimiter: ';', header: true, null: Some("NA".into()) };
    Table { csv, ..world.table(path) }
}

#[tokio::test]
async fn text_has_the_types_and_nulls_of_our_reader() {
    let world = World::new();
    fs::write(world.dir.path().join("a.csv"), TEXT).unwrap();
    fs::write(world.dir.path().join("bom.csv"), format!("\u{feff}{TEXT}")).unwrap();
    for file in ["a.csv", "bom.csv"] {
        for partitions in [1, 4] {
            let found = world.ask(&semicolons(&world, file), partitions, "SELECT * FROM t ORDER BY id").await;
            assert_eq!(found, TEXT_ROWS, "{file}\n{found}");
        }
    }
    let counted = world.ask(&semicolons(&world, "a.csv"), 4, "SELECT count(*) AS n FROM t WHERE flag").await;
    assert!(counted.contains("| 2 |"), "{counted}");
}

#[tokio::test]
async fn text_without_names_keeps_its_first_record_after_a_mark() {
    let world = World::new();
    fs::write(world.dir.path().join("a.csv"), "\u{feff}1,x\n2,y\n").unwrap();
    let table = Table { csv: CsvOptions { header: false, ..CsvOptions::default() }, ..world.table("a.csv") };
    let found = world.ask(&table, 2, "SELECT sum(column_1) AS s, min(column_2) AS m FROM t").await;
    assert!(found.contains("| 3 | x |"), "{found}");
}

#[tokio::test]
async fn lines_within_values_are_not_records() {
    let world = World::new();
    let lines = |value: &str| (0..500).map(|i| format!("{i},\"{value}\"\n")).collect::<String>();
    fs::write(world.dir.path().join("plain.csv"), format!("id,note\n{}", lines("one, two"))).unwrap();
    fs::write(world.dir.path().join("broken.csv"), format!("id,note\n{}", lines("one\n2,\"\"two"))).unwrap();
    for (file, groups) in [("plain.csv", "file_groups={4 groups"), ("broken.csv", "file_groups={1 group:")] {
        let session = world.ready(&world.table(file), 4).await;
        let plan = physical(&session, "SELECT sum(id) AS s FROM t WHERE id >= 0").await;
        assert!(plan.contains(groups), "{file}\n{plan}");
        let found = text(&session, "SELECT count(*) AS n, sum(id) AS s, count(DISTINCT note) AS d FROM t").await.unwrap();
        assert!(found.contains("| 500 | 124750 | 1 |"), "{file}\n{found}");
    }
}

#[tokio::test]
async fn declared_types_that_do_not_fit_are_errors() {
    let world = World::new();
    fs::write(world.dir.path().join("a.txt"), "id\n1\nx\n").unwrap();
    let declared = [("id".to_owned(), "int64".to_owned())].into();
    let table = Table { format: Some(Format::Csv), schema: declared, ..world.table("a.txt") };
    let session = world.ready(&table, 2).await;
    let error = text(&session, "SELECT sum(id) FROM t").await.unwrap_err().to_string();
    assert!(error.contains("'x'") && error.contains("Int64"), "{error}");
}

#[tokio::test]
async fn plans_travel_with_their_pins() {
    let world = World::new();
    fs::write(world.dir.path().join("a.csv"), TEXT).unwrap();
    let ask = [
        (parquet(&world), "SELECT count(*) AS n, sum(id) AS s FROM t WHERE id >= 300 AND name = 'n1'"),
        (semicolons(&world, "a.csv"), "SELECT * FROM t ORDER BY id"),
    ];
    for (table, sql) in ask {
        let session = world.ready(&table, 4).await;
        let plan = session.sql(sql).await.unwrap().create_physical_plan().await.unwrap();
        let bytes = datafusion_proto::bytes::physical_plan_to_bytes(plan).unwrap();
        // Another process: the same stores, and no table.
        let elsewhere = world.session(4).task_ctx();
        let plan = datafusion_proto::bytes::physical_plan_from_bytes(&bytes, &elsewhere).unwrap();
        let found = datafusion::physical_plan::collect(plan, elsewhere).await.unwrap();
        let found = pretty_format_batches(&found).unwrap().to_string();
        assert_eq!(found, text(&session, sql).await.unwrap());
    }
}
