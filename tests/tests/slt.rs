//! SQL by its answers: every file of `slt/` is run by engines that differ in what must not matter, and must give what
//! the file says: one part or eight, files cut and ordered otherwise, long and short batches, one process or a coordinator
//! with two workers. The runner knows an engine only as something that takes SQL and gives rows.
//!
//! `SHEAF_SLT_UPDATE=1 cargo test --test slt` writes the answers of the first engine into the files: read them before
//! you keep them.
#![expect(clippy::unwrap_used, reason = "tests")]

mod slt_cluster;
mod slt_data;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use sheaf_dataflow::job::Param;
use sheaf_dataflow::sql::Local;
use sheaf_dataflow::stores::{StoreOptions, Stores};
use sheaf_tests::{Cluster, Setup};
use slt_cluster::{Asking, Distributed};
use slt_data::{Layout, write_tables};
use sqllogictest::{ColumnType, DB, DBOutput, Runner};

/// Something that runs a query.
trait Engine: Send + Sync {
    /// Columns and rows of a query, or the whole error as people read it.
    fn run(&self, sql: &str) -> Result<(SchemaRef, Vec<RecordBatch>), String>;
}

/// 2026-11-01T12:34:56.789Z.
const NOW_NS: i64 = 1_793_536_496_789_000_000;

/// Views that every engine sees, over the tables of [`slt_data`].
const VIEWS: [(&str, &str); 3] = [
    ("cheap", "SELECT id, shop, price FROM sales WHERE price < $limit ORDER BY id"),
    ("by_shop", "SELECT shop, count(*) AS n, max(price) AS top FROM cheap GROUP BY shop"),
    ("clocked", "SELECT id, now() AS seen FROM sales"),
];

/// Values of `$name`.
fn params() -> [(String, Param); 3] {
    let param = |name: &str, value| (name.to_owned(), value);
    [param("limit", Param::Float(20.0)), param("shop", Param::Text("north".to_owned())), param("most", Param::Int(3))]
}

/// What a run is told apart by; none of it may change an answer.
#[derive(Debug, Clone, Copy)]
struct Variant {
    name: &'static str,
    partitions: usize,
    batch_rows: usize,
    layout: Layout,
}

const VARIANTS: [Variant; 3] = [
    Variant { name: "one part", partitions: 1, batch_rows: 8192, layout: Layout::OneFile },
    Variant { name: "eight parts of many files in short batches", partitions: 8, batch_rows: 7, layout: Layout::ManyFiles },
    Variant { name: "three parts, files backwards", partitions: 3, batch_rows: 64, layout: Layout::Backwards },
];

/// The planner and the operators in this process.
struct Single {
    local: Local,
    runtime: tokio::runtime::Runtime,
    _folder: tempfile::TempDir,
}

impl Single {
    fn new(variant: Variant) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = StoreOptions { local_roots: vec![folder.path().to_owned()], ..StoreOptions::default() };
        let stores = Stores::new(options).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_stack_size(16 << 20)
            .enable_all()
            .build()
            .unwrap();
        let mut local = Local::new(&stores, variant.partitions, variant.batch_rows, NOW_NS);
        for (name, files) in write_tables(folder.path(), variant.layout) {
            runtime.block_on(local.table(name, &files)).unwrap();
        }
        VIEWS.into_iter().for_each(|(name, sql)| local.view(name, sql));
        params().into_iter().for_each(|(name, value)| local.param(&name, value));
        Self { local, runtime, _folder: folder }
    }
}

impl Engine for Single {
    fn run(&self, sql: &str) -> Result<(SchemaRef, Vec<RecordBatch>), String> {
        // On a thread of its own, because the caller may stand in another runtime; what is not optimised needs more stack.
        let run = || {
            let answer = self.runtime.block_on(self.local.run(sql)).map_err(|e| e.to_string())?;
            Ok((answer.schema, answer.batches))
        };
        let thread = std::thread::Builder::new().stack_size(16 << 20);
        std::thread::scope(|threads| thread.spawn_scoped(threads, run).unwrap().join().unwrap())
    }
}

/// What an slt file writes for a column's type.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Column {
    Boolean,
    Date,
    Float,
    Integer,
    Text,
    Time,
    Other,
}

impl Column {
    fn of(data_type: &DataType) -> Self {
        match data_type {
            DataType::Boolean => Self::Boolean,
            DataType::Date32 => Self::Date,
            t if t.is_integer() => Self::Integer,
            t if t.is_floating() || t.is_decimal() => Self::Float,
            t if t.is_string() => Self::Text,
            DataType::Timestamp(_, _) => Self::Time,
            _ => Self::Other,
        }
    }
}

impl ColumnType for Column {
    fn from_char(value: char) -> Option<Self> {
        let all = [Self::Boolean, Self::Date, Self::Float, Self::Integer, Self::Text, Self::Time, Self::Other];
        all.into_iter().find(|c| c.to_char() == value)
    }

    fn to_char(&self) -> char {
        match self {
            Self::Boolean => 'B',
            Self::Date => 'D',
            Self::Float => 'R',
            Self::Integer => 'I',
            Self::Text => 'T',
            Self::Time => 'P',
            Self::Other => '?',
        }
    }
}

#[derive(Debug)]
struct Failed(String);

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failed {}

struct Database(Arc<dyn Engine>);

impl DB for Database {
    type Error = Failed;
    type ColumnType = Column;

    fn run(&mut self, sql: &str) -> Result<DBOutput<Column>, Failed> {
        let (schema, batches) = self.0.run(sql).map_err(Failed)?;
        let types = schema.fields().iter().map(|f| Column::of(f.data_type())).collect();
        let rows = batches.iter().flat_map(rows).collect();
        Ok(DBOutput::Rows { types, rows })
    }

    fn engine_name(&self) -> &str {
        "sheaf"
    }
}

fn rows(batch: &RecordBatch) -> Vec<Vec<String>> {
    let options = FormatOptions::default().with_null("NULL");
    let columns: Vec<_> = batch.columns().iter().map(|c| ArrayFormatter::try_new(c.as_ref(), &options).unwrap()).collect();
    let text = |column: &ArrayFormatter, row: usize| match column.value(row).to_string() {
        empty if empty.is_empty() => "(empty)".to_owned(),
        text => text,
    };
    (0..batch.num_rows()).map(|row| columns.iter().map(|c| text(c, row)).collect()).collect()
}

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("slt");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "slt"));
    files.sort();
    files
}

/// Runs all files by an engine; gives what went wrong.
fn run_all(engine: &Arc<dyn Engine>, name: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for file in files() {
        let mut runner = Runner::new(|| async { Ok(Database(Arc::clone(engine))) });
        runner.with_column_validator(sqllogictest::strict_column_validator);
        if let Err(e) = runner.run_file(&file) {
            wrong.push(format!("{name}: {}: {}", file.display(), e.display(false)));
        }
    }
    wrong
}

#[test]
fn answers_are_those_of_the_files_however_the_work_is_divided() {
    let files = files();
    assert!(files.len() >= 20, "{files:?}");
    if std::env::var_os("SHEAF_SLT_UPDATE").is_some() {
        return update();
    }
    let mut wrong = Vec::new();
    for variant in VARIANTS {
        let engine: Arc<dyn Engine> = Arc::new(Single::new(variant));
        wrong.extend(run_all(&engine, variant.name));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn a_cluster_answers_and_refuses_as_the_files_say() {
    let cluster = Cluster::start(Path::new(env!("CARGO_BIN_EXE_sheaf-under-test")), Setup::workers(2));
    let mut wrong = Vec::new();
    for asking in [
        Asking { name: "a cluster, one part", partitions: 1, layout: Layout::OneFile },
        Asking { name: "a cluster, five parts of many files", partitions: 5, layout: Layout::ManyFiles },
    ] {
        let began = Instant::now();
        let engine: Arc<dyn Engine> = Arc::new(Distributed::new(&cluster, asking));
        wrong.extend(run_all(&engine, asking.name));
        println!("{}: {:.1} s", asking.name, began.elapsed().as_secs_f64());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    cluster.finish();
}

fn update() {
    let engine: Arc<dyn Engine> = Arc::new(Single::new(VARIANTS[0]));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for file in files() {
        let mut runner = Runner::new(|| async { Ok(Database(Arc::clone(&engine))) });
        let (validator, normalizer) = (sqllogictest::default_validator, sqllogictest::default_normalizer);
        let columns = sqllogictest::strict_column_validator;
        runtime.block_on(runner.update_test_file(&file, " ", validator, normalizer, columns)).unwrap();
    }
}
