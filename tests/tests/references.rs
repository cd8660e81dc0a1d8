//! Whole runs against references from elsewhere: CSV through the shard writer, two worker processes,
//! small shards, and the coefficients that scikit-learn and a proximal Newton in numpy gave
//! (`tests/reference/linear.json` holds them with the command that made them). And the examples.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

use serde_json::Value;
use sheaf_tests::Sheaf;

/// Agreement asked for, on the scale of standardized features.
const LIMIT: f64 = 1e-6;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn sheaf() -> Sheaf {
    Sheaf::new(env!("CARGO_BIN_EXE_sheaf-under-test"))
}

/// A CSV file as its header and rows of numbers.
fn read_csv(path: &Path) -> (Vec<String>, Vec<Vec<f64>>) {
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    let header = lines.next().unwrap().split(',').map(str::to_owned).collect();
    let rows = lines.map(|line| line.split(',').map(|field| field.parse().unwrap()).collect()).collect();
    (header, rows)
}

fn deviation(rows: &[Vec<f64>], column: usize) -> f64 {
    let n = rows.len() as f64;
    let mean = rows.iter().map(|r| r[column]).sum::<f64>() / n;
    (rows.iter().map(|r| (r[column] - mean).powi(2)).sum::<f64>() / n).sqrt()
}

fn agrees(case: &Value) {
    let sheaf = sheaf();
    let file = case["data"].as_str().unwrap();
    let (header, rows) = read_csv(&root().join(file));
    let target = header.last().unwrap();
    std::fs::copy(root().join(file), sheaf.folder().join("rows.csv")).unwrap();
    let mut train = case["params"].as_object().unwrap().clone();
    train.insert("algorithm".into(), case["algorithm"].clone());
    let job = serde_json::json!({
        "version": 1, "name": "reference", "shard_rows": 64, "tables": {"rows": "rows.csv"}, "columns": {"target": target},
        "train": train, "publish": {"model": "reference"},
    });
    sheaf.write("job.json", &job.to_string());
    sheaf.run(&["run", "job.json", "--quiet"]).succeeded();
    let shown = sheaf.run(&["models", "show", "reference@latest", "-o", "json"]).succeeded().json();
    for (column, expected) in case["coefficients"].as_array().unwrap().iter().enumerate() {
        let name = &header[column];
        let found = shown["coefficients"][name].as_f64().unwrap_or_else(|| panic!("no coefficient of {name} in {shown}"));
        let error = (found - expected.as_f64().unwrap()).abs() * deviation(&rows, column);
        assert!(error < LIMIT, "{job}: {name} is {found}, not {expected} ({error:e} off)");
    }
}

#[test]
fn fits_agree_with_scikit_learn() {
    let text = std::fs::read_to_string(root().join("tests/reference/linear.json")).unwrap();
    let reference: Value = serde_json::from_str(&text).unwrap();
    let wanted = [
        r#"{}"#,
        r#"{"l2":0.1}"#,
        r#"{"l1":0.5}"#,
        r#"{"l2":0.0001}"#,
        r#"{"l1":0.01}"#,
        r#"{"l2":0.01,"standardization":false}"#,
    ];
    let cases = reference["cases"].as_array().unwrap().iter().filter(|c| c["weights"].is_null());
    let chosen: Vec<&Value> = cases.filter(|c| wanted.contains(&c["params"].to_string().as_str())).collect();
    assert!(chosen.len() >= 6, "only {} cases", chosen.len());
    chosen.into_iter().for_each(agrees);
}

#[test]
fn the_examples_run() {
    for name in ["breast-cancer", "diabetes", "digits"] {
        let sheaf = sheaf();
        let file = root().join("examples").join(name).join("job.yaml");
        let result = sheaf.run(&["run", file.to_str().unwrap(), "-o", "json", "--quiet"]).succeeded().json();
        assert_eq!(result["model"]["name"], *name, "{result}");
        assert_eq!(result["model"]["version"], 1);
    }
}

#[test]
fn the_demo_runs_from_data_to_predictions() {
    let sheaf = sheaf();
    let result = sheaf.run(&["demo", "card-fraud", "--rows", "40000", "-o", "json", "--quiet"]).succeeded().json();
    assert_eq!(result["rows"]["prepared"], 40_000);
    assert!(result["metrics"]["test"]["auc"].as_f64().unwrap() > 0.85, "{result}");
    let table = "transactions=sheaf-demo/card-fraud/data/transactions";
    let scored = sheaf
        .run(&["predict", "card-fraud@latest", "--table", table, "--to", "scored", "-o", "json", "--quiet"])
        .succeeded()
        .json();
    assert_eq!(scored["rows"]["scored"], 40_000);
    // A second time in the same folder: the data is made again, and the model gets the next version with the same hash.
    let again =
        sheaf.run(&["demo", "card-fraud", "--rows", "40000", "-o", "json", "--quiet", "--workers", "3"]).succeeded().json();
    assert_eq!(again["model"]["version"], 2);
    assert_eq!(again["model"]["sha256"], result["model"]["sha256"]);
}
