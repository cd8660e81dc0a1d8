//! Feature steps against scikit-learn and pandas (`tests/reference/make_features_reference.py`).
#![expect(clippy::unwrap_used, reason = "tests")]

mod fitting;

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Date32Array, Float64Array, Int64Array, StringArray, TimestampNanosecondArray};
use arrow::record_batch::RecordBatch;
use fitting::{encode, fit, job, shards};
use serde_json::{Value, json};
use sheaf_dataflow::features::Fitted;
use sheaf_dataflow::pipeline::Pipeline;
use sheaf_dataflow::view::View;
use sheaf_learn::shard::{Column, FeatureKind};

fn reference() -> Value {
    serde_json::from_str(include_str!("../../tests/reference/features.json")).unwrap()
}

fn list<T>(values: &Value, read: impl Fn(&Value) -> T) -> Vec<T> {
    values.as_array().unwrap().iter().map(read).collect()
}

fn batch(reference: &Value) -> RecordBatch {
    let input = &reference["input"];
    let floats = |name: &str| Arc::new(Float64Array::from(list(&input[name], Value::as_f64))) as ArrayRef;
    let columns = [
        ("amount", floats("amount")),
        ("small", floats("small")),
        ("gaps", floats("gaps")),
        ("count", Arc::new(Int64Array::from(list(&input["count"], Value::as_i64))) as ArrayRef),
        ("city", Arc::new(StringArray::from(list(&input["city"], |v| v.as_str().map(String::from)))) as ArrayRef),
        ("flag", Arc::new(BooleanArray::from(list(&input["flag"], Value::as_bool))) as ArrayRef),
        ("at", Arc::new(TimestampNanosecondArray::from(list(&input["stamp_ns"], Value::as_i64))) as ArrayRef),
        ("day", Arc::new(Date32Array::from(list(&input["day"], |v| v.as_i64().map(|d| d as i32)))) as ArrayRef),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

/// Fits `features`; values of feature `name` in row order, as a kernel sees them.
fn column(features: Value, keep: &[&str], shard_rows: usize) -> (Pipeline, Vec<Column>, Vec<FeatureKind>) {
    let mut features = features;
    features.as_array_mut().unwrap().push(json!({"keep": {"columns": keep}}));
    let job = job(json!({"features": features}));
    let batch = batch(&reference());
    let (pipeline, _, _) = fit(&job, &batch, shard_rows).unwrap();
    let view = View::features(&job, &pipeline);
    let encoded = encode(&view, &shards(&batch, batch.num_rows())).unwrap();
    let kinds = view.schema().features.into_iter().map(|f| f.kind).collect();
    (pipeline, encoded[0].columns.clone(), kinds)
}

fn scaled(column: &Column, kind: &FeatureKind) -> Vec<f64> {
    let FeatureKind::Numeric { shift, scale } = kind else { panic!("{kind:?}") };
    let rows = match column {
        Column::F32(v) => v.len(),
        Column::F64(v) => v.len(),
        other => panic!("{other:?}"),
    };
    (0..rows).map(|i| (column.number(i).unwrap() - shift) * scale).collect()
}

fn close(a: &[f64], b: &[Option<f64>], tolerance: f64) {
    assert_eq!(a.len(), b.len());
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        match b {
            None => assert!(a.is_nan(), "row {i}: {a}"),
            Some(b) => assert!((a - b).abs() <= tolerance * b.abs().max(1.0), "row {i}: {a} {b}"),
        }
    }
}

#[test]
fn scaling_agrees_with_scikit_learn() {
    let reference = reference();
    for (step, how) in [("standardize", "standardize"), ("min_max", "min_max")] {
        for name in ["amount", "small", "gaps", "count"] {
            // What is close together loses digits in both: 1e-6 apart around 5.
            let tolerance = if name == "small" { 1e-8 } else { 1e-12 };
            let (_, columns, kinds) = column(json!([{step: {"columns": [name]}}]), &[name], 64);
            close(&scaled(&columns[0], &kinds[0]), &list(&reference[how][name]["out"], Value::as_f64), tolerance);
        }
    }
}

#[test]
fn imputed_values_agree_with_scikit_learn() {
    let reference = reference();
    for strategy in ["mean", "median", "most_frequent"] {
        let (pipeline, columns, _) = column(json!([{"impute": {"columns": ["gaps"], "strategy": strategy}}]), &["gaps"], 64);
        let expected = reference["impute"]["gaps"][strategy].as_f64().unwrap();
        let Fitted::Impute(imputed) = &pipeline.steps[0].fitted else { panic!() };
        let found: f64 = imputed.fills[0].value.parse().unwrap();
        assert!((found - expected).abs() <= 1e-14 * expected.abs(), "{strategy}: {found} {expected}");
        let filled = list(&reference["input"]["gaps"], |v| Some(v.as_f64().unwrap_or(found)));
        close(&scaled(&columns[0], &FeatureKind::Numeric { shift: 0.0, scale: 1.0 }), &filled, 0.0);
    }
    let (pipeline, _, _) = column(
        json!([{"impute": {"columns": ["city"], "strategy": "most_frequent"}}, {"one_hot": {"columns": ["city"]}}]),
        &["city"],
        64,
    );
    let Fitted::Impute(imputed) = &pipeline.steps[0].fitted else { panic!() };
    assert_eq!(imputed.fills[0].value, reference["impute"]["city"]["most_frequent"].as_str().unwrap());
}

#[test]
fn categories_agree_with_scikit_learn() {
    let reference = reference();
    for name in ["city", "count", "flag"] {
        let (_, columns, kinds) = column(json!([{"one_hot": {"columns": [name]}}]), &[name], 64);
        let FeatureKind::Slots { names } = &kinds[0] else { panic!() };
        let expected: Vec<String> = list(&reference["one_hot"][name], |v| v.as_str().unwrap().to_string());
        assert_eq!(names, &expected);
        let Column::Code(codes) = &columns[0] else { panic!() };
        let input = list(&reference["input"][name], |v| match v {
            Value::String(s) => Some(s.clone()),
            Value::Null => None,
            other => Some(other.to_string()),
        });
        for (code, value) in codes.iter().zip(input) {
            assert_eq!(names.get(*code as usize), value.as_ref());
        }
    }
}

#[test]
fn hashing_agrees_with_scikit_learn() {
    let reference = reference();
    let step = json!([{"hash": {"columns": ["city", "count"], "size": 64, "output": "h"}}]);
    let (_, columns, kinds) = column(step, &["h"], 64);
    assert_eq!(kinds[0], FeatureKind::Sparse { width: 64 });
    let Column::Sparse { offsets, entries } = &columns[0] else { panic!() };
    let expected =
        list(&reference["hash"]["rows"], |row| list(row, |e| (e[0].as_u64().unwrap() as u32, e[1].as_f64().unwrap() as f32)));
    for (i, row) in expected.iter().enumerate() {
        assert_eq!(&entries[offsets[i] as usize..offsets[i + 1] as usize], row.as_slice(), "row {i}");
    }
}

#[test]
fn date_parts_agree_with_pandas() {
    let reference = reference();
    let whole = ["year", "month", "day", "hour", "minute", "day_of_week", "day_of_year", "is_weekend"];
    let of_date: Vec<&str> = whole.into_iter().filter(|p| !["hour", "minute"].contains(p)).collect();
    for (source, expected, parts) in [("at", "timestamp_parts", whole.to_vec()), ("day", "date_parts", of_date)] {
        let names: Vec<String> = parts.iter().map(|p| format!("{source}_{p}")).collect();
        let keep: Vec<&str> = names.iter().map(String::as_str).collect();
        let (_, columns, kinds) = column(json!([{"date_parts": {"columns": [source], "parts": parts}}]), &keep, 64);
        for ((part, column), kind) in parts.iter().zip(&columns).zip(&kinds) {
            close(&scaled(column, kind), &list(&reference[expected][part], Value::as_f64), 0.0);
        }
    }
}
