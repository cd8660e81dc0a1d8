//! Generated data on disk: the same columns for any number of threads and files, folders of others left
//! alone, interrupted runs repeatable.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use sheaf_client::generate::{DATASETS, GenerateOptions, Generated, generate};

fn options(out: &Path) -> GenerateOptions {
    GenerateOptions { name: "card-fraud".into(), rows: 20_011, seed: 7, out: out.into(), files: None, threads: 1 }
}

fn quietly(options: &GenerateOptions) -> anyhow::Result<Generated> {
    generate(options, &|_| {})
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|p| p.extension().is_some_and(|e| e == "parquet"));
    files.sort();
    files
}

/// All rows of a folder, in the order of the files' names.
fn read(folder: &Path) -> RecordBatch {
    let mut batches = Vec::new();
    for file in files(folder) {
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(file).unwrap()).unwrap().build().unwrap();
        batches.extend(reader.map(|batch| batch.unwrap()));
    }
    concat_batches(&batches[0].schema(), &batches).unwrap()
}

#[test]
fn columns_do_not_depend_on_threads_or_files() {
    let folder = tempfile::tempdir().unwrap();
    let one = folder.path().join("one");
    let written = quietly(&GenerateOptions { files: Some(1), ..options(&one) }).unwrap();
    assert_eq!((written.rows, written.files), (20_011, 1));
    let expected = read(&one);
    assert_eq!(expected.num_rows(), 20_011);
    for (files, threads) in [(None, 1), (Some(7), 3), (Some(13), 0)] {
        let out = folder.path().join(format!("{files:?}-{threads}"));
        let written = quietly(&GenerateOptions { files, threads, ..options(&out) }).unwrap();
        assert_eq!(written.files as usize, self::files(&out).len());
        assert_eq!(read(&out), expected, "{files:?} files, {threads} threads");
    }
    let other = folder.path().join("other");
    quietly(&GenerateOptions { seed: 8, ..options(&other) }).unwrap();
    assert_ne!(read(&other), expected);
}

/// A change of any value is another dataset, and figures that were published for it no longer hold.
#[test]
fn values_are_pinned() {
    let folder = tempfile::tempdir().unwrap();
    quietly(&options(folder.path())).unwrap();
    let rows = read(folder.path());
    let column = |name: &str| rows.column_by_name(name).unwrap();
    let whole = |name: &str| column(name).as_primitive::<Int64Type>().values();
    let scaled = |name: &str, by: f64| -> i64 {
        column(name).as_primitive::<Float64Type>().iter().flatten().map(|v| (v * by).round() as i64).sum()
    };
    assert_eq!(whole("transaction_id")[12_345], 12_346);
    assert_eq!(column("at").as_primitive::<TimestampMicrosecondType>().value(12_345), 1_776_878_731_776_175);
    assert_eq!(column("category").as_string::<i32>().value(12_345), "electronics");
    assert_eq!(whole("merchant_id").iter().sum::<i64>(), 260_502_590);
    assert_eq!(whole("card_id").iter().sum::<i64>(), 8_012_350_893);
    assert_eq!(scaled("amount", 100.0), 110_615_536);
    assert_eq!(scaled("distance_km", 10.0), 19_510_322);
    assert_eq!(scaled("device_score", 1_000.0), 14_112_180);
    assert_eq!(column("is_fraud").as_boolean().true_count(), 63);
}

#[test]
fn facts_say_what_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let seen = AtomicU64::new(0);
    let count = |rows: u64| {
        seen.fetch_add(rows, Ordering::Relaxed);
    };
    let written = generate(&GenerateOptions { threads: 2, ..options(folder.path()) }, &count).unwrap();
    assert_eq!(seen.into_inner(), 20_011);
    let bytes: u64 = files(folder.path()).iter().map(|f| f.metadata().unwrap().len()).sum();
    assert_eq!(written.bytes, bytes);
    let names: Vec<&str> = written.facts.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "rows",
            "files",
            "size",
            "seed",
            "is_foreign",
            "is_fraud",
            "customer_age null",
            "distance_km null",
            "minutes_since_last null",
            "device_score null",
        ]
    );
    let rows = read(folder.path());
    let frauds = rows.column_by_name("is_fraud").unwrap().as_boolean().true_count();
    let share = frauds as f64 / 20_011.0;
    assert!((0.002..0.005).contains(&share), "{share}");
    assert_eq!(written.facts[5].1, format!("{:.2} %", share * 100.0));
}

#[test]
fn own_folders_are_replaced_and_those_of_others_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("data");
    quietly(&GenerateOptions { files: Some(5), ..options(&out) }).unwrap();
    quietly(&GenerateOptions { files: Some(2), rows: 100, ..options(&out) }).unwrap();
    assert_eq!(files(&out).len(), 2);
    fs::write(out.join("notes.txt"), "mine").unwrap();
    let error = quietly(&options(&out)).unwrap_err().to_string();
    assert!(error.contains("holds `notes.txt`, which no run of `sheaf data generate` wrote"), "{error}");
    assert_eq!(read(&out).num_rows(), 100, "nothing was touched");

    let foreign = folder.path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("part-00000.parquet"), "not ours").unwrap();
    let error = quietly(&options(&foreign)).unwrap_err().to_string();
    assert!(error.contains("holds `part-00000.parquet`"), "{error}");

    let file = folder.path().join("file");
    fs::write(&file, "a file").unwrap();
    let error = format!("{:#}", quietly(&options(&file)).unwrap_err());
    assert!(error.contains("create folder"), "{error}");
}

#[test]
fn an_interrupted_run_can_be_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let stopped = std::panic::catch_unwind(|| generate(&options(folder.path()), &|_| panic!("power cut")));
    assert!(stopped.is_err());
    let left: Vec<String> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert!(left.iter().any(|name| name.ends_with(".tmp")), "{left:?}");
    assert!(files(folder.path()).is_empty(), "no half file has its final name");
    quietly(&options(folder.path())).unwrap();
    assert_eq!(read(folder.path()).num_rows(), 20_011);
    let left = fs::read_dir(folder.path()).unwrap().filter(|e| e.as_ref().unwrap().path().extension().unwrap() == "tmp");
    assert_eq!(left.count(), 0);
}

#[test]
fn bad_options_are_refused_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |change: &dyn Fn(&mut GenerateOptions), message: &str| {
        let mut options = options(&folder.path().join("never"));
        change(&mut options);
        let error = quietly(&options).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
        assert!(!options.out.exists(), "nothing is created for options that are refused");
    };
    refused(&|o| o.rows = 0, "cannot generate 0 transactions: give a number from 1 to 1,000,000,000,000");
    refused(
        &|o| o.name = "card-frauds".into(),
        "dataset `card-frauds` is not known: there are card-fraud, diabetes-risk, search-ranking, vehicle-sensors",
    );
    refused(&|o| o.files = Some(0), "cannot write 20,011 rows into 0 files");
    refused(&|o| (o.rows, o.files) = (3, Some(4)), "cannot write 3 rows into 4 files");
    refused(
        &|o| (o.name, o.files) = ("vehicle-sensors".into(), Some(11)),
        "cannot write 10 vehicles into 11 files: give 1 to 99999 files and not more than there are vehicles",
    );
}

#[test]
fn small_sizes_work() {
    let folder = tempfile::tempdir().unwrap();
    for rows in [1, 2, 3, 5] {
        let out = folder.path().join(rows.to_string());
        let written = quietly(&GenerateOptions { rows, ..options(&out) }).unwrap();
        assert_eq!(u64::from(written.files), rows.min(4));
        assert_eq!(read(&out).num_rows() as u64, rows);
    }
}

fn several(name: &str, rows: u64, out: &Path) -> GenerateOptions {
    GenerateOptions { name: name.into(), rows, ..options(out) }
}

/// Every file below a folder with its bytes, by path.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(
                contents(&path).into_iter().map(|(inner, bytes)| (Path::new(path.file_name().unwrap()).join(inner), bytes)),
            );
        } else {
            found.insert(path.file_name().unwrap().into(), fs::read(&path).unwrap());
        }
    }
    found
}

#[test]
fn tables_do_not_depend_on_threads_or_files() {
    for (name, rows) in [("diabetes-risk", 1_003), ("vehicle-sensors", 12_007)] {
        let folder = tempfile::tempdir().unwrap();
        let (one, four, other) = (folder.path().join("one"), folder.path().join("four"), folder.path().join("other"));
        let written = quietly(&several(name, rows, &one)).unwrap();
        quietly(&GenerateOptions { threads: 4, ..several(name, rows, &four) }).unwrap();
        assert!(contents(&one) == contents(&four), "{name}: other bytes with four threads");
        quietly(&GenerateOptions { threads: 3, files: Some(7), ..several(name, rows, &other) }).unwrap();
        let dataset = DATASETS.iter().find(|d| d.name == name).unwrap();
        let mut all = 0;
        for table in dataset.tables {
            let parquet = files(&one.join(table));
            if parquet.is_empty() {
                let csv = |folder: &Path| fs::read_to_string(folder.join(table).join("part-00000.csv")).unwrap();
                assert_eq!(csv(&one), csv(&other));
                all += csv(&one).lines().count() as u64 - 1;
                continue;
            }
            assert_eq!((parquet.len(), files(&other.join(table)).len()), (4, 7));
            let rows = read(&one.join(table));
            assert_eq!(rows, read(&other.join(table)), "{name}: other rows of {table} in seven files");
            all += rows.num_rows() as u64;
        }
        assert_eq!(written.rows, all);
        quietly(&GenerateOptions { seed: 8, ..several(name, rows, &other) }).unwrap();
        assert!(contents(&one) != contents(&other));
    }
}

#[test]
fn facts_of_several_tables_say_which() {
    let folder = tempfile::tempdir().unwrap();
    let written = quietly(&several("diabetes-risk", 500, folder.path())).unwrap();
    let names: Vec<&str> = written.facts.iter().map(|(name, _)| name.as_str()).collect();
    let tables = ["patients", "visits", "lab_results", "medications", "diagnoses"];
    assert_eq!(names[..5], tables);
    assert_eq!(
        names[5..],
        [
            "size",
            "seed",
            "patients.family_history",
            "patients.family_history null",
            "visits.systolic null",
            "visits.diastolic null",
            "visits.weight_kg null",
            "lab_results.value null",
            "medications.stopped_on null",
        ]
    );
    assert_eq!(written.facts[0].1, "500 rows in 1 file");
    let rows = read(&folder.path().join("visits")).num_rows();
    assert_eq!(written.facts[1].1.replace(',', ""), format!("{rows} rows in 4 files"));
}

/// A table's folder that holds something else is refused before any table is touched.
#[test]
fn a_table_of_somebody_else_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("data");
    fs::create_dir_all(out.join("diagnoses")).unwrap();
    fs::write(out.join("diagnoses/notes.txt"), "mine").unwrap();
    let error = quietly(&several("diabetes-risk", 100, &out)).unwrap_err().to_string();
    assert!(error.contains("holds `notes.txt`"), "{error}");
    assert!(files(&out.join("visits")).is_empty());
}

/// Like `values_are_pinned`: figures in the examples' texts were measured on these values.
#[test]
fn values_of_several_tables_are_pinned() {
    let folder = tempfile::tempdir().unwrap();
    quietly(&several("diabetes-risk", 1_000, folder.path())).unwrap();
    quietly(&several("vehicle-sensors", 12_000, folder.path())).unwrap();
    let table = |name: &str| read(&folder.path().join(name));
    let ids = |name: &str| -> i64 { table(name).column(0).as_primitive::<Int64Type>().values().iter().sum() };
    let hundredths = |name: &str, column: &str| -> i64 {
        let rows = table(name);
        let values = rows.column_by_name(column).unwrap().as_primitive::<Float64Type>();
        values.iter().flatten().map(|v| (v * 100.0).round() as i64).sum()
    };
    assert_eq!((ids("visits"), hundredths("visits", "weight_kg")), (3_402_467_437, 50_642_170));
    assert_eq!((ids("lab_results"), hundredths("lab_results", "value")), (62_567_837_456, 84_230_640));
    assert_eq!((ids("medications"), ids("diagnoses")), (32_078_535, 44_392_212));
    assert_eq!(hundredths("readings", "odometer_km"), 234_572_701_130);
    assert_eq!(hundredths("readings", "vibration"), 4_309_819);
    assert_eq!((ids("maintenance"), hundredths("maintenance", "cost")), (25_900_152, 1_685_037));
    let csv = |name: &str| fs::read_to_string(folder.path().join(name).join("part-00000.csv")).unwrap();
    assert_eq!(csv("patients").lines().nth(2), Some("2,1980-08-09,male,west,never,173.0,"));
    assert_eq!(csv("vehicles").lines().nth(4), Some("4,atlas,2022,centre,1200"));
}
