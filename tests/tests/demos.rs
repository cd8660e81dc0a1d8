//! The demos over several tables, from generated data to predictions: joins, windows and aggregates on worker processes
//! give the same model and the same predictions whatever their number.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::path::Path;

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
fn vehicle_sensors_runs_from_windows_to_predictions() {
    let result = same_on_one_and_three("vehicle-sensors", "40000");
    // What DataFusion alone finds over the same files: a reading has a label if its belt is replaced later.
    assert_eq!(result["rows"]["prepared"], 30_102);
    assert_eq!(result["rows"]["scored"], 40_000 - 30_102);
    // scikit-learn on the same rows: Ridge over the same standardised features.
    let r2 = result["metrics"]["test"]["r2"].as_f64().unwrap();
    assert!((r2 - 0.7660).abs() < 0.005, "{r2}");
}
