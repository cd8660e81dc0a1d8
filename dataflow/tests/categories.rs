//! A learner of trees takes text, declared codes and missing values as they are; its task follows from its parameters.
#![expect(clippy::unwrap_used, reason = "tests")]

mod fitting;

use std::sync::Arc;

use arrow::array::{ArrayRef, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray};
use fitting::{encode, errors, fit, job, shards};
use serde_json::{Value, json};
use sheaf_dataflow::job::Job;
use sheaf_dataflow::pipeline::Fitting;
use sheaf_dataflow::view::View;
use sheaf_learn::shard::{Column, FeatureKind};

const ROWS: usize = 300;

/// `city` and `amount` have nulls; `zone` is a code; `city` holds a value only where no row trains.
fn batch() -> RecordBatch {
    let part = (0..ROWS).map(|i| Some(if i % 10 == 9 { "test" } else { "train" }));
    let city = |i: usize| if i % 10 == 9 { "Ulm" } else { ["Zürich", "Bern", "Oslo"][i % 3] };
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("amount", Arc::new((0..ROWS).map(|i| (i % 7 != 0).then(|| (i * i % 97) as f64 / 4.0)).collect::<Float64Array>())),
        ("city", Arc::new((0..ROWS).map(|i| (i % 11 != 3).then(|| city(i))).collect::<StringArray>())),
        ("zone", Arc::new(Int64Array::from_iter_values((0..ROWS).map(|i| [40, 7, 100][i / 2 % 3])))),
        ("part", Arc::new(part.collect::<StringArray>())),
        ("born", Arc::new(Date32Array::from_iter_values((0..ROWS).map(|i| i as i32)))),
        ("y", Arc::new(Int64Array::from_iter_values((0..ROWS).map(|i| i64::from(i % 10 < 3))))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn boosted(train: Value, ignore: &[&str]) -> Job {
    let mut whole = json!({"algorithm": "gradient_boosting", "params": {"trees": 3}});
    whole["params"].as_object_mut().unwrap().extend(train.as_object().unwrap().clone());
    job(json!({
        "columns": {"target": "y", "categorical": ["zone"], "ignore": ignore},
        "split": {"by": "column", "column": "part"},
        "train": whole,
    }))
}

#[test]
fn text_and_codes_become_indices_of_their_values() {
    let job = boosted(json!({"objective": "binary"}), &["born"]);
    let (pipeline, _, _) = fit(&job, &batch(), 64).unwrap();
    let slots = |names: &[&str]| FeatureKind::Slots { names: names.iter().map(|n| (*n).to_owned()).collect() };
    let kinds: Vec<(&str, &FeatureKind)> = pipeline.schema.features.iter().map(|f| (f.name.as_str(), &f.kind)).collect();
    let (city, zone) = (slots(&["Bern", "Oslo", "Zürich"]), slots(&["100", "40", "7"]));
    assert_eq!(kinds, [("amount", &FeatureKind::Numeric { shift: 0.0, scale: 1.0 }), ("city", &city), ("zone", &zone)]);
    let encoded = encode(&View::features(&job, &pipeline), &shards(&batch(), 64)).unwrap();
    let [Column::F32(amount), Column::Code(city), Column::Code(_)] = &encoded[0].columns[..] else {
        panic!("{:?}", encoded[0].columns)
    };
    assert!(amount[0].is_nan() && city[0] == 2 && city[3] == u32::MAX, "a null is missing");
    let test = encoded[0].bounds[2];
    assert!(city[test..].iter().all(|slot| *slot == u32::MAX), "what no training row has is missing too");
    let uses = Fitting::new(&job, &batch().schema()).unwrap().roles();
    let why = |name: &str| uses.iter().find(|u| u.name == name).unwrap().why.clone();
    assert_eq!((why("city"), why("zone")), ("feature, taken as a category".into(), "feature, taken as a category".into()));
}

#[test]
fn the_task_follows_from_the_parameters() {
    let target = |train: Value| fit(&boosted(train, &["born"]), &batch(), 64).unwrap().0.target.unwrap().classes().len();
    assert_eq!(target(json!({"objective": "binary"})), 2);
    assert_eq!(target(json!({"task": "binary"})), 2);
    assert_eq!(target(json!({"objective": "poisson"})), 0);
}

#[test]
fn what_trees_cannot_take_is_still_refused() {
    let found = errors(&boosted(json!({"objective": "binary"}), &[]), &batch());
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("column `born` is date, which gradient_boosting cannot take"), "{found:?}");
}
