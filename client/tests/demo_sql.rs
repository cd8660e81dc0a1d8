//! The SQL of the demos, run by DataFusion alone over small generated data and compared with what a few loops say.
//! The views are taken from the job files as they are written.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::prelude::{CsvReadOptions, ParquetReadOptions, SessionConfig, SessionContext};
use sheaf_client::generate::{DATASETS, GenerateOptions, generate};

/// 2021-01-01, the day of `diabetes-risk`, as days since 1970.
const AS_OF: i64 = 18_628;

/// A demo's data and its session with all tables and views of the job.
struct Demo {
    session: SessionContext,
    prepare: String,
}

impl Demo {
    async fn new(name: &str, folder: &Path, partitions: usize) -> Self {
        let dataset = DATASETS.iter().find(|d| d.name == name).unwrap();
        let mut config = SessionConfig::new().with_target_partitions(partitions);
        config.options_mut().sql_parser.enable_ident_normalization = false;
        config.options_mut().execution.time_zone = Some("UTC".into());
        let session = SessionContext::new_with_config(config);
        for table in dataset.tables {
            let path = folder.join(table);
            let text = path.to_str().unwrap();
            if path.join("part-00000.csv").exists() {
                session.register_csv(*table, text, CsvReadOptions::new()).await.unwrap();
            } else {
                session.register_parquet(*table, text, ParquetReadOptions::default()).await.unwrap();
            }
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name).join("job.yaml");
        let (views, prepare) = statements(&std::fs::read_to_string(path).unwrap());
        for (view, sql) in views {
            let planned = session.sql(&sql).await.unwrap_or_else(|e| panic!("{view}: {e}"));
            session.register_table(view.as_str(), planned.into_view()).unwrap();
        }
        Self { session, prepare }
    }

    async fn rows(&self, sql: &str) -> Rows {
        let frame = self.session.sql(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        let batches = frame.collect().await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        Rows(concat_batches(&batches[0].schema(), &batches).unwrap())
    }
}

/// The views of a job file by name, in order, and its `prepare`; the parameter is bound as text.
fn statements(job: &str) -> (Vec<(String, String)>, String) {
    let lines: Vec<&str> = job.lines().collect();
    let block = |at: usize, indent: usize| {
        let inside = |line: &&&str| line.trim().is_empty() || line.starts_with(&" ".repeat(indent));
        let text: Vec<&str> = lines[at + 1..].iter().take_while(inside).copied().collect();
        text.join("\n").replace("$as_of", "DATE '2021-01-01'")
    };
    let mut views = Vec::new();
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| **line == "    sql: |") {
        let name = lines[at - 1].trim().split(':').next().unwrap();
        assert!(!line.is_empty() && !name.is_empty());
        views.push((name.to_owned(), block(at, 6)));
    }
    let prepare = lines.iter().position(|line| *line == "prepare: |").unwrap();
    assert!(!views.is_empty());
    (views, block(prepare, 2))
}

/// Rows with their columns by name.
#[derive(Debug, PartialEq)]
struct Rows(RecordBatch);

impl Rows {
    fn len(&self) -> usize {
        self.0.num_rows()
    }

    fn column(&self, name: &str, data_type: &DataType) -> arrow::array::ArrayRef {
        cast(self.0.column_by_name(name).unwrap_or_else(|| panic!("no column {name}")), data_type).unwrap()
    }

    fn numbers(&self, name: &str) -> Vec<Option<f64>> {
        self.column(name, &DataType::Float64).as_primitive::<Float64Type>().iter().collect()
    }

    fn whole(&self, name: &str) -> Vec<i64> {
        let column = self.column(name, &DataType::Int64);
        assert_eq!(column.null_count(), 0, "{name}");
        column.as_primitive::<Int64Type>().values().to_vec()
    }

    fn texts(&self, name: &str) -> Vec<Option<String>> {
        self.column(name, &DataType::Utf8).as_string::<i32>().iter().map(|v| v.map(str::to_owned)).collect()
    }

    /// Microseconds since 1970.
    fn moments(&self, name: &str) -> Vec<i64> {
        self.whole(name)
    }
}

fn made(name: &str, rows: u64) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_owned();
    generate(&GenerateOptions { name: name.into(), rows, seed: 7, out, files: None, threads: 1 }, &|_: u64| {}).unwrap();
    folder
}

fn close(a: Option<f64>, b: Option<f64>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => (a - b).abs() <= 1e-9 * (1.0 + a.abs()),
        (a, b) => a == b,
    }
}

/// The latest known value of a test for each patient, by a loop.
async fn latest(demo: &Demo, test: &str) -> BTreeMap<i64, f64> {
    let labs = demo.rows("SELECT * FROM lab_results").await;
    let (patients, moments, ids) = (labs.whole("patient_id"), labs.moments("at"), labs.whole("lab_id"));
    let (tests, values) = (labs.texts("test"), labs.numbers("value"));
    let mut best: BTreeMap<i64, ((i64, i64), f64)> = BTreeMap::new();
    for row in 0..labs.len() {
        let Some(value) = values[row] else { continue };
        if tests[row].as_deref() != Some(test) || moments[row] >= AS_OF * 86_400_000_000 {
            continue;
        }
        let when = (moments[row], ids[row]);
        let best = best.entry(patients[row]).or_insert((when, value));
        if when > best.0 {
            *best = (when, value);
        }
    }
    best.into_iter().map(|(patient, (_, value))| (patient, value)).collect()
}

#[tokio::test]
async fn diabetes_risk_prepares_what_it_says() {
    let folder = made("diabetes-risk", 1_000);
    let demo = Demo::new("diabetes-risk", folder.path(), 1).await;
    let rows = demo.rows(&format!("SELECT * FROM ({}) ORDER BY patient_id", demo.prepare)).await;
    let ids = rows.whole("patient_id");
    assert_eq!(ids, (1..=1_000).collect::<Vec<i64>>());
    for test in ["hba1c", "glucose", "hdl", "triglycerides"] {
        let expected = latest(&demo, test).await;
        assert!(expected.len() > 700, "{} patients have {test}", expected.len());
        let found = rows.numbers(test);
        assert!(ids.iter().zip(&found).all(|(id, value)| expected.get(id).copied() == *value), "{test}");
    }
    let sick = demo.rows("SELECT patient_id, code, diagnosed_on FROM diagnoses").await;
    let days = sick.whole("diagnosed_on");
    let codes = sick.texts("code");
    let within = |row: &usize| codes[*row].as_deref() == Some("E11") && (AS_OF..20_454).contains(&days[*row]);
    let expected: BTreeSet<i64> = (0..sick.len()).filter(within).map(|row| sick.whole("patient_id")[row]).collect();
    let found: BTreeSet<i64> = ids.iter().zip(rows.whole("diabetes")).filter(|(_, d)| *d == 1).map(|(id, _)| *id).collect();
    assert_eq!(found, expected);
    assert!((60..160).contains(&found.len()), "{} of 1000 get diabetes", found.len());
    let within = |name: &str, low: f64, high: f64| {
        let values = rows.numbers(name);
        assert!(values.iter().flatten().all(|v| (low..=high).contains(v)), "{name} is not in {low}..={high}");
    };
    within("age", 29.0, 86.0);
    within("bmi", 14.0, 60.0);
    within("systolic_spread", 0.0, 60.0);
    within("visits", 0.0, 30.0);
    within("drugs", 0.0, 5.0);
}

#[tokio::test]
async fn vehicle_sensors_prepares_what_it_says() {
    let folder = made("vehicle-sensors", 30_000);
    let demo = Demo::new("vehicle-sensors", folder.path(), 1).await;
    let rows = demo.rows("SELECT * FROM belt_readings ORDER BY reading_id").await;
    assert_eq!(rows.whole("reading_id"), (1..=30_000).collect::<Vec<i64>>(), "each reading has one belt");
    let raw = demo.rows("SELECT * FROM readings ORDER BY reading_id").await;
    let (vehicles, vibration, faults) = (raw.whole("vehicle_id"), raw.numbers("vibration"), raw.texts("fault_code"));
    let (mean, count) = (rows.numbers("vibration_recent"), rows.whole("faults_last_week"));
    let (last_shift, odometer) = (rows.numbers("km_last_shift"), raw.numbers("odometer_km"));
    for row in 0..rows.len() {
        let before = |n: usize| (row.saturating_sub(n)..=row).filter(|r| vehicles[*r] == vehicles[row]);
        let known: Vec<f64> = before(11).filter_map(|r| vibration[r]).collect();
        let expected = (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64);
        assert!(close(mean[row], expected), "row {row}: {:?} is not {expected:?}", mean[row]);
        assert_eq!(count[row], before(134).filter(|r| faults[*r].is_some()).count() as i64, "row {row}");
        let earlier = row.checked_sub(27).filter(|r| vehicles[*r] == vehicles[row]);
        assert!(close(last_shift[row], earlier.map(|r| odometer[row].unwrap() - odometer[r].unwrap())), "row {row}");
    }
    let events = demo.rows("SELECT * FROM maintenance WHERE work = 'drive_belt' ORDER BY event_id").await;
    let (owners, moments, km) = (events.whole("vehicle_id"), events.moments("at"), events.numbers("odometer_km"));
    let (at, found) = (raw.moments("at"), rows.numbers("remaining_km"));
    for row in 0..rows.len() {
        let next = (0..events.len()).find(|e| owners[*e] == vehicles[row] && moments[*e] > at[row]);
        assert!(close(found[row], next.map(|e| km[e].unwrap() - odometer[row].unwrap())), "row {row}");
    }
    assert!(rows.numbers("belt_km").iter().flatten().all(|km| (0.0..60_000.0).contains(km)));
    let labelled = demo.rows(&format!("SELECT count(*) AS n FROM ({})", demo.prepare)).await.whole("n")[0];
    assert!((12_000..30_000).contains(&labelled), "{labelled} readings have a label");
}

/// Windows have total orders and sums few terms: more partitions change nothing but last digits.
#[tokio::test]
async fn partitions_do_not_matter() {
    for (name, rows, key) in [("diabetes-risk", 600, "patient_id"), ("vehicle-sensors", 26_000, "reading_id")] {
        let folder = made(name, rows);
        let (one, eight) = (Demo::new(name, folder.path(), 1).await, Demo::new(name, folder.path(), 8).await);
        let sql = format!("SELECT * FROM ({}) ORDER BY {key}", one.prepare);
        let (one, eight) = (one.rows(&sql).await, eight.rows(&sql).await);
        assert_eq!((one.len(), one.0.schema()), (eight.len(), eight.0.schema()));
        for (field, (a, b)) in one.0.schema().fields().iter().zip(one.0.columns().iter().zip(eight.0.columns())) {
            if field.data_type() == &DataType::Float64 {
                let (a, b) = (one.numbers(field.name()), eight.numbers(field.name()));
                assert!(a.into_iter().zip(b).all(|(a, b)| close(a, b)), "{name}: {}", field.name());
            } else {
                assert_eq!(a, b, "{name}: {}", field.name());
            }
        }
    }
}
