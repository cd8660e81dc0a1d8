//! Targets of many classes: their order, what is refused, and predictions in the target's own type.
#![expect(clippy::unwrap_used, reason = "tests")]

mod fitting;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Float64Type, Int32Type};
use fitting::{encode, errors, fit, job, session, shards};
use serde_json::{Value, json};
use sheaf_dataflow::job::Details;
use sheaf_dataflow::job::Job;
use sheaf_dataflow::score::{CompiledScorer, Scorer};
use sheaf_dataflow::view::View;
use sheaf_learn::model::Model;
use sheaf_learn::program::ProgramSpec;

const ROWS: usize = 600;

/// One of thirty numbers, ten for each class.
fn x(i: usize) -> usize {
    i * 7 % 30
}

/// A class that follows from `x`: three numbers, three words, a whole number as float, a truth value.
fn batch() -> RecordBatch {
    let third = |i: usize| x(i) / 10;
    let words = (0..ROWS).map(|i| Some(["mid", "high", "Low"][third(i)]));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("x", Arc::new(Float64Array::from_iter_values((0..ROWS).map(|i| x(i) as f64)))),
        ("half", Arc::new(Float64Array::from_iter_values((0..ROWS).map(|i| third(i) as f64 / 2.0)))),
        ("grade", Arc::new(Int32Array::from_iter_values((0..ROWS).map(|i| [10, -3, 4][third(i)])))),
        ("word", Arc::new(words.collect::<StringArray>())),
        ("whole", Arc::new(Float64Array::from_iter_values((0..ROWS).map(|i| [2.0, 100.0, 30.0][third(i)])))),
        ("flag", Arc::new(BooleanArray::from_iter((0..ROWS).map(|i| Some(third(i) == 1))))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn of(target: &str, params: Value) -> Job {
    let mut all = json!({"task": "multiclass", "trees": 5, "min_samples_leaf": 5, "max_leaves": 6, "learning_rate": 0.5});
    all.as_object_mut().unwrap().extend(params.as_object().unwrap().clone());
    job(json!({
        "columns": {"target": target},
        "features": [{"keep": {"columns": ["x"]}}],
        "train": {"algorithm": "gradient_boosting", "params": all},
    }))
}

fn train(job: &Job, batch: &RecordBatch) -> CompiledScorer {
    let (pipeline, _, _) = fit(job, batch, 64).unwrap();
    let params = serde_json::to_value(&job.train.as_ref().unwrap().params).unwrap();
    let program = ProgramSpec { name: "gradient_boosting".into(), params, schema: pipeline.schema.clone() }.build().unwrap();
    let encoded = encode(&View::features(job, &pipeline), &shards(batch, 64)).unwrap();
    let output = sheaf_learn::program::run(program.as_ref(), &encoded).unwrap();
    let model: Model = serde_json::from_value(output["model"].clone()).unwrap();
    let scorer = Scorer { pipeline, model, key: Vec::new(), keep: Vec::new(), details: Details::default() };
    scorer.compile(batch.schema(), &session()).unwrap()
}

fn names(batch: &RecordBatch) -> Vec<String> {
    batch.schema().fields().iter().map(|f| f.name().clone()).collect()
}

#[test]
fn a_prediction_has_the_type_of_the_target() {
    let batch = batch();
    for (target, classes) in [
        ("grade", &["-3", "4", "10"][..]),
        ("word", &["Low", "high", "mid"]),
        ("whole", &["2", "30", "100"]),
        ("flag", &["false", "true"]),
    ] {
        let scored = train(&of(target, json!({})), &batch).score(&batch).unwrap();
        let columns: Vec<String> = classes.iter().map(|class| format!("probability_{class}")).collect();
        assert_eq!(names(&scored), [&["prediction".to_owned()][..], &columns].concat());
        let truth = batch.column_by_name(target).unwrap();
        let predicted = scored.column_by_name("prediction").unwrap();
        assert_eq!(predicted.data_type(), truth.data_type());
        assert_eq!(predicted, truth, "`x` tells the class of every row");
        for row in 0..ROWS {
            let p: Vec<f64> = columns.iter().map(|c| scored[c.as_str()].as_primitive::<Float64Type>().value(row)).collect();
            assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-12 && p.iter().all(|p| (0.0..=1.0).contains(p)), "{p:?}");
        }
    }
}

#[test]
fn of_equally_likely_classes_the_first_is_predicted() {
    let batch = batch();
    let (pipeline, _, _) = fit(&of("grade", json!({})), &batch, 64).unwrap();
    let model = json!({"trees": {"task": "multiclass", "link": "softmax", "base": [-1.0, 0.5, 0.5], "trees": []}});
    let model: Model = serde_json::from_value(model).unwrap();
    let mut scorer = Scorer { pipeline, model, key: Vec::new(), keep: Vec::new(), details: Details::default() };
    let scored = scorer.compile(batch.schema(), &session()).unwrap().score(&batch).unwrap();
    assert!(scored["prediction"].as_primitive::<Int32Type>().values().iter().all(|grade| *grade == 4));
    assert_eq!(scored["prediction"].data_type(), &DataType::Int32);
    let empty = scorer.compile(batch.schema(), &session()).unwrap().score(&batch.slice(0, 0)).unwrap();
    assert_eq!((empty.num_rows(), empty.num_columns()), (0, 4));
    // A model of another number of classes than its pipeline is damaged.
    scorer.pipeline.schema.classes.pop();
    let error = scorer.compile(batch.schema(), &session()).err().unwrap().to_string();
    assert!(error.starts_with("the model does not fit its features"), "{error}");
}

#[test]
fn a_class_that_the_model_does_not_know_is_named() {
    let batch = batch();
    let job = of("grade", json!({}));
    let (pipeline, _, _) = fit(&job, &batch, 64).unwrap();
    assert_eq!(pipeline.schema.classes, ["-3", "4", "10"]);
    let mut columns = batch.columns().to_vec();
    columns[2] = Arc::new(Int32Array::from_iter_values((0..ROWS).map(|i| if i == 70 { 7 } else { 4 })));
    let other = RecordBatch::try_new(batch.schema(), columns).unwrap();
    let error = encode(&View::features(&job, &pipeline), &shards(&other, 64)).unwrap_err().to_string();
    assert_eq!(error, "target `grade` has the value `7`, which is no class of the model: `-3`, `4`, `10`");
}

#[test]
fn what_has_no_classes_is_refused() {
    let batch = batch();
    let error = fit(&of("half", json!({})), &batch, 64).unwrap_err().to_string();
    assert!(error.contains("classes are text, truth values or whole numbers"), "{error}");
    let wide = Int32Array::from_iter_values((0..1_200).map(|i| i % 1_001));
    let x = Float64Array::from_iter_values((0..1_200).map(|i| x(i) as f64));
    let wide = RecordBatch::try_from_iter([("grade", Arc::new(wide) as ArrayRef), ("x", Arc::new(x) as ArrayRef)]).unwrap();
    let error = fit(&of("grade", json!({})), &wide, 64).unwrap_err().to_string();
    assert!(error.contains("column `grade` has more than 1000 distinct values: a target has at most so many classes"), "{error}");
    let mut positive = of("grade", json!({}));
    positive.columns.positive = Some(json!(4));
    positive.columns.offset = Some("whole".into());
    let found = errors(&positive, &batch);
    assert_eq!(
        found,
        [
            "columns.positive: gradient_boosting learns many classes here, none of which is positive\n  hint: remove it, or learn two classes: `task: binary`",
            "columns.offset: gradient_boosting learns many classes here and takes no offset\n  hint: remove it"
        ]
    );
}
