//! Scoring: the same bits for every batch size, in training's own encoding, without the columns that
//! only training needs.
#![expect(clippy::unwrap_used, reason = "tests")]

mod fitting;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int32Array, Int64Array, StringArray};
use arrow::datatypes::{DataType, Float64Type};
use arrow::record_batch::RecordBatch;
use fitting::{encode, fit, job, session, shards};
use serde_json::{Value, json};
use sheaf_dataflow::job::{Details, Job};
use sheaf_dataflow::score::Scorer;
use sheaf_dataflow::view::View;
use sheaf_learn::model::Model;
use sheaf_learn::program::ProgramSpec;
use sheaf_learn::shard::Segment;

const ROWS: usize = 10_000;

fn batch() -> RecordBatch {
    let noise = |i: usize, k: usize| ((i * 7919 + k * 104_729) % 10_007) as f64 / 10_007.0;
    let amount = (0..ROWS).map(|i| (i % 9 != 0).then(|| noise(i, 1) * 100.0));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from_iter_values(0..ROWS as i64))),
        ("amount", Arc::new(amount.collect::<Float64Array>())),
        ("age", Arc::new(Int64Array::from_iter_values((0..ROWS).map(|i| (noise(i, 2) * 80.0) as i64)))),
        ("city", Arc::new((0..ROWS).map(|i| Some(["Oslo", "Bern", "Zürich", "Lyon"][i % 4])).collect::<StringArray>())),
        ("part", Arc::new((0..ROWS).map(|i| Some(if i % 5 == 0 { "test" } else { "train" })).collect::<StringArray>())),
        ("weight", Arc::new(Float64Array::from_iter_values((0..ROWS).map(|i| 1.0 + (i % 2) as f64)))),
        (
            "label",
            Arc::new(
                (0..ROWS).map(|i| Some(if noise(i, 2) + noise(i, 3) > 1.1 { "bad" } else { "good" })).collect::<StringArray>(),
            ),
        ),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn the_job(unknown: &str) -> Job {
    job(json!({
        "columns": {"target": "label", "positive": "bad", "key": ["id"], "weight": "weight"},
        "split": {"by": "column", "column": "part"},
        "features": [
            {"sql": {"expressions": [["log_amount", "ln(amount + 1)"]]}},
            {"impute": {"columns": ["amount", "log_amount"], "strategy": "median", "indicator": true}},
            {"standardize": {"columns": ["*"]}},
            {"hash": {"columns": ["city"], "size": 16, "output": "h"}},
            {"one_hot": {"columns": ["city"], "unknown": unknown}},
        ],
        "train": {"algorithm": "logistic_regression", "params": {"l2": 0.001}},
    }))
}

fn train(job: &Job, batch: &RecordBatch) -> Scorer {
    let (pipeline, _, _) = fit(job, batch, 1536).unwrap();
    let train = job.train.as_ref().unwrap();
    let params = serde_json::to_value(&train.params).unwrap();
    let program = ProgramSpec { name: train.algorithm.clone(), params, schema: pipeline.schema.clone() }.build().unwrap();
    let encoded = encode(&View::features(job, &pipeline), &shards(batch, 1536)).unwrap();
    let output = sheaf_learn::program::run(program.as_ref(), &encoded).unwrap();
    let model: Model = serde_json::from_value(output["model"].clone()).unwrap();
    let scorer = Scorer { pipeline, model, key: vec!["id".into()], keep: vec!["city".into()], details: Details::default() };
    serde_json::from_str(&serde_json::to_string(&scorer).unwrap()).unwrap()
}

fn without(batch: &RecordBatch, names: &[&str]) -> RecordBatch {
    let keep: Vec<usize> =
        (0..batch.num_columns()).filter(|i| !names.contains(&batch.schema().field(*i).name().as_str())).collect();
    batch.project(&keep).unwrap()
}

fn bits(batch: &RecordBatch) -> Vec<u64> {
    let column = batch.column_by_name("probability").unwrap();
    column.as_primitive::<Float64Type>().values().iter().map(|v| v.to_bits()).collect()
}

#[test]
fn bits_do_not_depend_on_the_batch() {
    let batch = batch();
    let job = the_job("zero");
    let scorer = train(&job, &batch);
    assert_eq!(scorer.inputs(), ["age", "amount", "city", "id"]);
    let bare = without(&batch, &["part", "weight", "label"]);
    let compiled = scorer.compile(bare.schema(), &session()).unwrap();
    let whole = compiled.score(&bare).unwrap();
    let schema = compiled.schema();
    let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    assert_eq!(names, ["id", "city", "prediction", "probability"]);
    assert_eq!(whole.num_rows(), ROWS);
    for size in [1, 7, 8191] {
        let limit = if size == 1 { 300 } else { ROWS };
        let mut found = Vec::new();
        for start in (0..limit).step_by(size) {
            found.extend(bits(&compiled.score(&bare.slice(start, size.min(limit - start))).unwrap()));
        }
        assert_eq!(found, bits(&whole)[..limit], "batches of {size}");
    }
    // The classes are the target's own values, from 0.5 on positive.
    let classes = whole.column_by_name("prediction").unwrap().as_string::<i32>().clone();
    let probability = whole.column_by_name("probability").unwrap().as_primitive::<Float64Type>().clone();
    assert!(classes.iter().zip(probability.iter()).all(|(c, p)| c == Some(if p.unwrap() >= 0.5 { "bad" } else { "good" })));
    // And it has learnt something.
    let truth = batch.column_by_name("label").unwrap().as_string::<i32>();
    let right = truth.iter().zip(classes.iter()).filter(|(a, b)| a == b).count();
    assert!(right * 10 > ROWS * 7, "{right}");
}

#[test]
fn training_and_scoring_encode_alike() {
    let batch = batch();
    let job = the_job("zero");
    let scorer = train(&job, &batch);
    let compiled = scorer.compile(batch.schema(), &session()).unwrap();
    let scored = bits(&compiled.score(&batch).unwrap());
    let view = View::features(&job, &scorer.pipeline);
    let encoded = encode(&view, &shards(&batch, 1536)).unwrap();
    let segments = (0..ROWS).map(|i| if i % 5 == 0 { Segment::Test } else { Segment::Train });
    let mut next: Vec<[usize; 3]> = encoded.iter().map(|s| [s.bounds[0], s.bounds[1], s.bounds[2]]).collect();
    for (i, segment) in segments.enumerate() {
        let shard = i / 1536;
        let row = next[shard][segment as usize];
        next[shard][segment as usize] += 1;
        let p = scorer.model.predict(&view.schema(), &encoded[shard], row..row + 1);
        assert_eq!(p[0].to_bits(), scored[i], "row {i}");
    }
}

#[test]
fn types_may_differ_where_no_value_does() {
    let batch = batch();
    let scorer = train(&the_job("zero"), &batch);
    let expected = bits(&scorer.compile(batch.schema(), &session()).unwrap().score(&batch).unwrap());
    let replace = |name: &str, array: ArrayRef| {
        let schema = batch.schema();
        let columns = schema
            .fields()
            .iter()
            .zip(batch.columns())
            .map(|(f, c)| (f.name().clone(), if f.name() == name { Arc::clone(&array) } else { Arc::clone(c) }));
        RecordBatch::try_from_iter(columns.collect::<Vec<_>>()).unwrap()
    };
    let age = batch.column_by_name("age").unwrap();
    let narrow = replace("age", arrow::compute::cast(age, &DataType::Int32).unwrap());
    assert!(narrow.column_by_name("age").unwrap().as_any().is::<Int32Array>());
    assert_eq!(bits(&scorer.compile(narrow.schema(), &session()).unwrap().score(&narrow).unwrap()), expected);
    let view = replace("city", arrow::compute::cast(batch.column_by_name("city").unwrap(), &DataType::Utf8View).unwrap());
    assert_eq!(bits(&scorer.compile(view.schema(), &session()).unwrap().score(&view).unwrap()), expected);

    let text = replace("age", arrow::compute::cast(age, &DataType::Utf8).unwrap());
    let error = scorer.compile(text.schema(), &session()).err().unwrap().to_string();
    assert_eq!(error, "column `age` is utf8, int64 is needed; cast it in `prepare`");
    let gone = without(&batch, &["age"]);
    let error = scorer.compile(gone.schema(), &session()).err().unwrap().to_string();
    assert!(error.starts_with("column `age` not found; the rows have `id`"), "{error}");
}

#[test]
fn unknown_categories_are_counted_or_refused() {
    let batch = batch();
    let strange = {
        let mut columns = batch.columns().to_vec();
        columns[3] = Arc::new((0..ROWS).map(|i| Some(if i == 17 { "Atlantis" } else { "Oslo" })).collect::<StringArray>());
        RecordBatch::try_new(batch.schema(), columns).unwrap()
    };
    let lenient = train(&the_job("zero"), &batch).compile(batch.schema(), &session()).unwrap();
    lenient.score(&strange).unwrap();
    assert_eq!(lenient.unknown_categories(), [("city".to_string(), 1)].into());
    let strict = train(&the_job("error"), &batch).compile(batch.schema(), &session()).unwrap();
    let error = strict.score(&strange).unwrap_err().to_string();
    assert!(error.starts_with("column `city` holds the category `Atlantis`, which no training row has"), "{error}");
}

#[test]
fn regression_predicts_numbers_and_adds_the_offset() {
    let batch = batch();
    let parts: Value = json!({
        "columns": {"target": "amount", "offset": "weight", "key": ["id"]},
        "features": [{"keep": {"columns": ["age"]}}],
        "train": {"algorithm": "linear_regression"},
    });
    let full = arrow::compute::filter_record_batch(
        &batch,
        &arrow::compute::is_not_null(batch.column_by_name("amount").unwrap()).unwrap(),
    )
    .unwrap();
    let scorer = train(&job(parts), &full);
    assert_eq!(scorer.inputs(), ["age", "city", "id", "weight"]);
    let scored = scorer.compile(full.schema(), &session()).unwrap().score(&full).unwrap();
    assert_eq!(scored.num_columns(), 3);
    let mean = |b: &RecordBatch, name: &str| {
        let values = b.column_by_name(name).unwrap().as_primitive::<Float64Type>();
        values.iter().flatten().sum::<f64>() / values.len() as f64
    };
    // With an intercept the mean prediction is the mean target.
    assert!((mean(&scored, "prediction") - mean(&full, "amount")).abs() < 1e-9);
    let empty = scorer.compile(full.schema(), &session()).unwrap().score(&full.slice(0, 0)).unwrap();
    assert_eq!(empty.num_rows(), 0);
}
