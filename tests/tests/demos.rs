//! The demos over several tables, from generated data to predictions: joins, windows and aggregates on worker processes
//! give the same model and the same predictions whatever their number. And the one of ten classes, over stored data.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use arrow::array::AsArray as _;
use arrow::datatypes::{Float64Type, Int32Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;
use sheaf_tests::Sheaf;

fn demo(sheaf: &Sheaf, name: &str, rows: &str, workers: &str) -> Value {
    let arguments = ["demo", name, "--rows", rows, "--workers", workers, "-o", "json", "--quiet"];
    sheaf.run(&arguments).succeeded().json()
}

/// The bytes of the predictions, by file.
fn scored(sheaf: &Sheaf, name: &str) -> BTreeMap<String, Vec<u8>> {
    let folder = sheaf.folder().join("sheaf-demo").join(name).join("scored");
    let files = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let files = files.map(|e| e.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "parquet"));
    files.map(|p| (file_name(&p), std::fs::read(&p).unwrap())).collect()
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// Runs a demo on one and on three workers and compares; what the first gave.
fn same_on_one_and_three(name: &str, rows: &str) -> Value {
    let sheaf = Sheaf::new(env!("CARGO_BIN_EXE_sheaf-under-test"));
    let one = demo(&sheaf, name, rows, "1");
    let predictions = scored(&sheaf, name);
    assert!(!predictions.is_empty(), "{one:#}");
    let three = demo(&sheaf, name, rows, "3");
    assert_eq!(one["model"]["version"], 1);
    assert_eq!(three["model"]["version"], 2);
    assert_eq!(one["model"]["sha256"], three["model"]["sha256"]);
    assert_eq!(one["metrics"], three["metrics"]);
    assert!(predictions == scored(&sheaf, name), "one and three workers write different predictions");
    one
}

#[test]
fn diabetes_risk_runs_from_five_tables_to_predictions() {
    let result = same_on_one_and_three("diabetes-risk", "6000");
    assert_eq!(result["rows"]["prepared"], 6_000);
    let auc = result["metrics"]["test"]["auc"].as_f64().unwrap();
    // The true risk itself reaches about 0.82, within the noise of some 130 test patients who get diabetes.
    assert!((0.72..0.90).contains(&auc), "{auc}");
    let scored = result["rows"]["scored"].as_u64().unwrap();
    assert!((4_500..6_000).contains(&scored), "{scored} patients from forty on");
}

#[test]
fn search_ranking_runs_from_queries_to_scores() {
    let result = same_on_one_and_three("search-ranking", "400");
    let ndcg = result["metrics"]["test"]["ndcg@10"].as_f64().unwrap();
    assert!((0.7..0.98).contains(&ndcg), "{ndcg}");
    assert_eq!(result["rows"]["scored"], result["rows"]["prepared"]);
}

#[test]
fn vehicle_sensors_runs_from_windows_to_predictions() {
    let result = same_on_one_and_three("vehicle-sensors", "40000");
    // What DataFusion alone finds over the same files: a reading has a label if its belt is replaced later.
    assert_eq!(result["rows"]["prepared"], 30_102);
    assert_eq!(result["rows"]["scored"], 40_000 - 30_102);
    // scikit-learn on the same rows: Ridge over the same standardised features.
    let r2 = result["metrics"]["test"]["r2"].as_f64().unwrap();
    assert!((r2 - 0.7660).abs() < 0.005, "{r2}");
}

/// The folder of the example, with its data.
fn digits() -> Sheaf {
    let sheaf = Sheaf::new(env!("CARGO_BIN_EXE_sheaf-under-test"));
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/digits");
    std::fs::create_dir(sheaf.folder().join("data")).unwrap();
    for file in ["job.yaml", "data/digits.parquet"] {
        std::fs::copy(example.join(file), sheaf.folder().join(file)).unwrap();
    }
    sheaf
}

fn numbers(line: &Value) -> Vec<f64> {
    line.as_array().unwrap().iter().map(|n| n.as_f64().unwrap()).collect()
}

#[test]
fn digits_are_told_apart() {
    let sheaf = digits();
    let one = sheaf.run_job("job.yaml", "store", &["--workers", "1"]).json();
    let three = sheaf.run_job("job.yaml", "store", &["--workers", "3"]).json();
    assert_eq!(one["model"]["sha256"], three["model"]["sha256"]);
    let metrics = &one["metrics"]["test"];
    assert_eq!(*metrics, three["metrics"]["test"]);
    // scikit-learn over ten splits of the same sizes: 0.940 to 0.971 (examples/digits/compare_sklearn.py).
    let accuracy = metrics["accuracy"].as_f64().unwrap();
    assert!((0.935..0.985).contains(&accuracy), "{metrics}");
    assert!(metrics["auc_ovr"].as_f64().unwrap() > 0.995 && metrics["log_loss"].as_f64().unwrap() < 0.26, "{metrics}");
    // Every test row is somewhere in the matrix, and those on its diagonal are right.
    let confusion = &one["confusion"]["test"];
    let counts: Vec<Vec<f64>> = confusion["counts"].as_array().unwrap().iter().map(numbers).collect();
    let (all, right): (f64, f64) = (counts.iter().flatten().sum(), (0..10).map(|i| counts[i][i]).sum());
    assert_eq!(Some(all), one["rows"]["test"].as_f64());
    assert!((right / all - accuracy).abs() < 1e-12);
    let classes = one["classes"]["test"].as_array().unwrap();
    assert_eq!((classes.len(), &classes[9]["class"]), (10, &Value::from("9")));
    assert_eq!(classes.iter().map(|c| c["support"].as_f64().unwrap()).sum::<f64>(), all);
    let card = sheaf.run(&["models", "show", "digits@1", "--store", "store"]).succeeded().stdout;
    assert!(card.contains("test rows by class") && card.contains("confusion of test rows"), "{card}");
    predictions_of_digits(&sheaf);
    // Measured again as an existing model, over all rows: a limit that holds and one that does not.
    let again = |limit: f64| {
        let limits = format!("evaluate: {{metrics: [accuracy], limits: {{test.f1_macro: {{min: {limit}}}}}}}");
        sheaf.write("again.yaml", &format!("version: 1\nname: again\nmodel: digits@1\n{limits}\n"));
        sheaf.run(&["run", "again.yaml", "--store", "store", "-o", "json", "--quiet"])
    };
    let good = again(0.97).succeeded().json();
    assert_eq!(good["rows"]["test"], 1797);
    assert_eq!(good["metrics"]["test"].as_object().unwrap().len(), 2);
    assert_eq!(again(0.9999).code, 8);
}

/// The digit and its probabilities, by worker processes and without any.
fn predictions_of_digits(sheaf: &Sheaf) {
    let predict = |to: &str, more: &[&str]| {
        let mut arguments = vec!["predict", "digits@1", "--table", "images=data/digits.parquet", "--to", to, "--store", "store"];
        arguments.extend(["--quiet", "-o", "json"].iter().chain(more));
        assert_eq!(sheaf.run(&arguments).succeeded().json()["rows"]["scored"], 1797);
        std::fs::read(sheaf.folder().join(to).join("part-00000.parquet")).unwrap()
    };
    let local = predict("local", &[]);
    assert!(local == predict("cluster", &["--workers", "3", "--threads", "1"]), "workers write other bytes");
    let file = File::open(sheaf.folder().join("local/part-00000.parquet")).unwrap();
    let mut rows = 0;
    for batch in ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap() {
        let batch = batch.unwrap();
        let digits = batch.column_by_name("prediction").unwrap().as_primitive::<Int32Type>();
        let probability =
            |digit: usize| batch.column_by_name(&format!("probability_{digit}")).unwrap().as_primitive::<Float64Type>().values();
        let columns: Vec<&[f64]> = (0..10).map(|digit| &probability(digit)[..]).collect();
        for (row, digit) in digits.values().iter().enumerate() {
            let own: Vec<f64> = columns.iter().map(|c| c[row]).collect();
            let greatest = own.iter().position(|p| own.iter().all(|other| p >= other)).unwrap();
            assert_eq!(greatest, *digit as usize, "{own:?}");
            assert!((own.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{own:?}");
        }
        assert_eq!(batch.num_columns(), 12);
        rows += batch.num_rows();
    }
    assert_eq!(rows, 1797);
}
