//! Feature pipelines from end to end without a cluster: fitting, views, static validation, checks.
#![expect(clippy::unwrap_used, reason = "tests")]

mod fitting;

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, StringArray, TimestampNanosecondArray,
};
use arrow::record_batch::RecordBatch;
use fitting::{encode, errors, fit, job, measure, session, shards};
use serde_json::{Value, json};
use sheaf_dataflow::checks;
use sheaf_dataflow::features::{FitError, Fitted};
use sheaf_dataflow::job::Job;
use sheaf_dataflow::pipeline::{Fitting, Pipeline, profile_warnings};
use sheaf_dataflow::view::{Source, View};
use sheaf_learn::shard::{Column, FeatureKind, Segment};

const ROWS: usize = 400;

/// Rows with everything that may be wrong with them.
fn batch() -> RecordBatch {
    let row = |f: &dyn Fn(usize) -> f64| (0..ROWS).map(f).collect::<Vec<_>>();
    let amount = (0..ROWS).map(|i| (i % 7 != 0).then(|| (i * i % 97) as f64 / 4.0));
    let city = (0..ROWS).map(|i| (i % 11 != 3).then(|| ["Oslo", "Bern", "Zürich"][i * 7 % 3]));
    let at = TimestampNanosecondArray::from_iter_values((0..ROWS).map(|i| i as i64 * 3_600_000_000_000)).with_timezone("UTC");
    let part = (0..ROWS).map(|i| Some(["train", "train", "validation", "test"][i % 4]));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from_iter_values((0..ROWS).map(|i| (i * 3 % ROWS) as i64)))),
        ("amount", Arc::new(amount.collect::<Float64Array>())),
        ("age", Arc::new(Int64Array::from_iter_values((0..ROWS).map(|i| (i % 50) as i64)))),
        ("merchant", Arc::new(Int64Array::from_iter_values((0..ROWS).map(|i| (i % 5) as i64)))),
        ("city", Arc::new(city.collect::<StringArray>())),
        ("member", Arc::new((0..ROWS).map(|i| Some(i % 3 == 0)).collect::<BooleanArray>())),
        ("at", Arc::new(at)),
        ("born", Arc::new(Date32Array::from_iter_values((0..ROWS).map(|i| i as i32)))),
        (
            "price",
            Arc::new(Decimal128Array::from_iter_values((0..ROWS).map(|i| i as i128)).with_precision_and_scale(10, 2).unwrap()),
        ),
        ("constant", Arc::new(Float64Array::from(row(&|_| 0.1)))),
        ("empty", Arc::new(Float64Array::from(vec![None; ROWS]))),
        ("weight", Arc::new(Float64Array::from(row(&|i| 1.0 + (i % 3) as f64)))),
        ("shift", Arc::new(Float64Array::from(row(&|i| i as f64 / 1000.0)))),
        ("part", Arc::new(part.collect::<StringArray>())),
        ("y", Arc::new(Int64Array::from_iter_values((0..ROWS).map(|i| i64::from(i * 13 % 10 < 3))))),
        ("label", Arc::new((0..ROWS).map(|i| Some(if i % 10 < 3 { "bad" } else { "good" })).collect::<StringArray>())),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn logistic(parts: Value) -> Job {
    let mut whole = json!({"columns": {"target": "y"}, "train": {"algorithm": "logistic_regression"}});
    whole.as_object_mut().unwrap().extend(parts.as_object().unwrap().clone());
    job(whole)
}

fn numbers(column: &Column) -> Vec<f64> {
    match column {
        Column::F32(v) => v.iter().map(|v| f64::from(*v)).collect(),
        Column::F64(v) => v.to_vec(),
        other => panic!("{other:?}"),
    }
}

fn kept(features: Value, keep: &[&str]) -> Job {
    let mut features = features;
    features.as_array_mut().unwrap().push(json!({"keep": {"columns": keep}}));
    logistic(json!({"features": features, "split": {"by": "random", "test": 0.25, "validation": 0.1}}))
}

fn fitted(job: &Job) -> (Pipeline, Vec<String>, Vec<String>) {
    fit(job, &batch(), 64).unwrap()
}

/// The static errors of a job with these features.
fn check(features: Value, expected: &[&str]) {
    let found = errors(&kept(features, &["age"]), &batch());
    assert_eq!(found, expected);
}

#[test]
fn steps_see_what_earlier_ones_made() {
    let features = json!([
        {"sql": {"expressions": [["twice", "amount * 2"], ["log_age", "ln(age + 1)"]]}},
        {"impute": {"columns": ["twice"], "strategy": "median", "indicator": true}},
        {"standardize": {"columns": ["twice", "log_age"]}},
        {"one_hot": {"columns": ["city"], "drop_first": true}},
        {"rename": {"names": [["twice", "double"]]}},
    ]);
    let job = kept(features, &["double", "twice_missing", "log_age", "city"]);
    let (pipeline, warnings, labels) = fitted(&job);
    assert_eq!(labels, ["check target y", "fit impute (median) twice", "fit standardize twice, log_age", "fit one_hot city"]);
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(
        pipeline.inputs,
        [("amount".into(), "float64".into()), ("age".into(), "int64".into()), ("city".into(), "utf8".into())]
            as [(String, String); 3]
    );
    let names: Vec<&str> = pipeline.schema.features.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(names, ["city", "double", "log_age", "twice_missing"]);
    assert_eq!(pipeline.schema.classes, ["0", "1"]);
    assert_eq!(pipeline.schema.features[0].kind, FeatureKind::Slots { names: vec!["Oslo".into(), "Zürich".into()] });
    let FeatureKind::Numeric { shift, scale } = pipeline.schema.features[1].kind else { panic!() };
    assert!(shift > 0.0 && scale > 0.0);

    let view = View::features(&job, &pipeline);
    assert_eq!(view.inputs(), ["age", "amount", "city", "y"]);
    let batch = batch();
    let encoded = encode(&view, &shards(&batch, ROWS)).unwrap();
    let shard = &encoded[0];
    assert_eq!((shard.rows, shard.bounds[3]), (ROWS, ROWS));
    // Standardised over training rows: their mean is 0 and their variance 1.
    let rows = shard.range(Segment::Train);
    let values: Vec<f64> = numbers(&shard.columns[1])[rows].iter().map(|x| (x - shift) * scale).collect();
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / values.len() as f64;
    assert!(mean.abs() < 1e-12 && (variance - 1.0).abs() < 1e-12, "{mean} {variance}");
    // Raw doubled amounts round-trip through f32; logarithms do not.
    assert!(matches!(shard.columns[1], Column::F32(_)) && matches!(shard.columns[2], Column::F64(_)));
    assert_eq!(numbers(&shard.columns[3]).iter().sum::<f64>(), ROWS.div_ceil(7) as f64);
}

#[test]
fn only_training_rows_shape_features() {
    let features = json!([
        {"impute": {"columns": ["amount"], "strategy": "mean"}},
        {"standardize": {"columns": ["age", "amount"]}},
        {"one_hot": {"columns": ["city"]}},
    ]);
    let mut job = kept(features, &["age", "amount", "city"]);
    job.split = serde_json::from_value(json!({"by": "column", "column": "part"})).unwrap();
    let batch = batch();
    let (before, _, labels) = fit(&job, &batch, 64).unwrap();
    assert_eq!(labels[0], "check split part");
    // Rows that are not train change wildly.
    let outside = |i: usize| i % 4 >= 2;
    let age = (0..ROWS).map(|i| if outside(i) { 1_000_000 } else { (i % 50) as i64 });
    let city = (0..ROWS).map(|i| match outside(i) {
        true => Some("Atlantis"),
        false => (i % 11 != 3).then(|| ["Oslo", "Bern", "Zürich"][i * 7 % 3]),
    });
    let mut columns = batch.columns().to_vec();
    columns[2] = Arc::new(Int64Array::from_iter_values(age));
    columns[4] = Arc::new(city.collect::<StringArray>());
    let changed = RecordBatch::try_new(batch.schema(), columns).unwrap();
    let (after, _, _) = fit(&job, &changed, 64).unwrap();
    assert_eq!(before, after);

    let compiled = View::features(&job, &after).compile(changed.schema(), &session()).unwrap();
    let shard = compiled.encode(&shards(&changed, ROWS)[0]).unwrap();
    assert_eq!(shard.bounds, [0, ROWS / 2, ROWS * 3 / 4, ROWS]);
    assert_eq!(compiled.unknown_categories(), [("city".to_string(), ROWS as u64 / 2)].into());
    let Column::Code(codes) = &shard.columns[2] else { panic!("{:?}", shard.columns) };
    assert!(codes[ROWS / 2..].iter().all(|c| *c == u32::MAX));
}

#[test]
fn shards_hold_the_same_rows_at_any_size() {
    let features = json!([
        {"impute": {"columns": ["*"], "strategy": "constant", "fill_value": -1}},
        {"hash": {"columns": ["city", "merchant"], "size": 32, "output": "h"}},
        {"date_parts": {"columns": ["at"], "parts": ["hour", "is_weekend"]}},
    ]);
    let job = kept(features, &["amount", "h", "at_hour", "at_is_weekend"]);
    let batch = batch();
    let (pipeline, _, _) = fit(&job, &batch, 64).unwrap();
    let rows_of = |size: usize| {
        let encoded = encode(&View::features(&job, &pipeline), &shards(&batch, size)).unwrap();
        let mut rows: Vec<(Segment, String)> = Vec::new();
        for shard in &encoded {
            for (segment, i) in Segment::ALL.into_iter().flat_map(|s| shard.range(s).map(move |i| (s, i))) {
                let cells = shard.columns.iter().map(|c| match c {
                    Column::Sparse { offsets, entries } => {
                        format!("{:?}", &entries[offsets[i] as usize..offsets[i + 1] as usize])
                    }
                    other => format!("{}", other.number(i).unwrap()),
                });
                rows.push((segment, format!("{:?} {}", cells.collect::<Vec<_>>(), shard.target.as_ref().unwrap()[i])));
            }
        }
        rows.sort_by_key(|(s, _)| *s);
        rows
    };
    let whole = rows_of(ROWS);
    assert_eq!(rows_of(64), whole);
    assert_eq!(rows_of(7), whole);
}

#[test]
fn a_pipeline_does_not_depend_on_the_split_of_exact_statistics() {
    let features = json!([
        {"impute": {"columns": ["amount"], "strategy": "median"}},
        {"min_max": {"columns": ["amount", "age", "price"]}},
        {"one_hot": {"columns": ["*"]}},
    ]);
    let job = kept(features, &["amount", "age", "price", "city", "member"]);
    let (a, _, _) = fit(&job, &batch(), 64).unwrap();
    let (b, _, _) = fit(&job, &batch(), 1000).unwrap();
    assert_eq!(a, b);
    let text = serde_json::to_string(&a).unwrap();
    assert_eq!(serde_json::from_str::<Pipeline>(&text).unwrap(), a);
}

#[test]
fn constants_become_zero_with_a_warning() {
    for step in ["standardize", "min_max"] {
        let job = kept(json!([{step: {"columns": ["constant"]}}]), &["constant", "age"]);
        let (pipeline, warnings, _) = fitted(&job);
        assert_eq!(
            warnings,
            [format!("features[0].{step}: column `constant` is constant in the training rows; as a feature it is 0")]
        );
        let constant = pipeline.schema.features.iter().find(|f| f.name == "constant").unwrap();
        assert_eq!(constant.kind, FeatureKind::Numeric { shift: 0.1, scale: 0.0 });
    }
}

#[test]
fn imputation_keeps_types_and_takes_the_smallest_of_ties() {
    let features = json!([
        {"impute": {"columns": ["city", "merchant", "member", "born", "at"], "strategy": "most_frequent"}},
        {"one_hot": {"columns": ["merchant", "member", "born"]}},
    ]);
    let (pipeline, _, _) = fitted(&kept(features, &["merchant", "age"]));
    let Fitted::Impute(imputed) = &pipeline.steps[0].fitted else { panic!() };
    assert_eq!(imputed.fills[3].value, "1970-01-01");
    assert_eq!(imputed.fills[1].data_type.name(), "int64");
    let error =
        fit(&kept(json!([{"impute": {"columns": ["empty"], "strategy": "mean"}}]), &["empty"]), &batch(), 64).unwrap_err();
    assert!(error.to_string().contains("column `empty` has no value in any training row"), "{error}");
}

#[test]
fn affine_steps_that_are_read_later_are_applied() {
    let features = json!([
        {"min_max": {"columns": ["age"]}},
        {"sql": {"expressions": [["square", "age * age"]]}},
        {"standardize": {"columns": ["age"]}},
    ]);
    let job = kept(features, &["age", "square"]);
    let (pipeline, _, _) = fitted(&job);
    let encoded = encode(&View::features(&job, &pipeline), &shards(&batch(), ROWS)).unwrap();
    let age = numbers(&encoded[0].columns[0]);
    let highest = age.iter().copied().fold(0.0, f64::max);
    assert!(age.iter().all(|a| *a >= 0.0) && (highest - 1.0).abs() < 1e-15);
    let square = numbers(&encoded[0].columns[1]);
    assert!(age.iter().zip(&square).all(|(a, s)| a * a == *s));
    let FeatureKind::Numeric { shift, scale } = pipeline.schema.features[0].kind else { panic!() };
    // What kernels make of the stored column is what all steps applied give.
    let mut eager = View::features(&job, &pipeline);
    eager.outputs[0].source = Source::Number("age".into());
    let applied = numbers(&encode(&eager, &shards(&batch(), ROWS)).unwrap()[0].columns[0]);
    assert!(shift != 0.0 && age.iter().zip(&applied).all(|(a, b)| ((a - shift) * scale - b).abs() < 1e-12));
}

#[test]
fn names_can_be_swapped_and_used_again() {
    let features = json!([
        {"rename": {"names": [["age", "price"], ["price", "age"]]}},
        {"drop": {"columns": ["price"]}},
        {"sql": {"expressions": [["price", "age * 10"]]}},
    ]);
    let job = kept(features, &["price", "age"]);
    let (pipeline, _, _) = fitted(&job);
    assert_eq!(pipeline.inputs, [("price".to_string(), "decimal(10,2)".to_string())]);
    let encoded = encode(&View::features(&job, &pipeline), &shards(&batch(), 5)).unwrap();
    let order: Vec<f64> = numbers(&encoded[0].columns[0]);
    let mut sorted = order.clone();
    sorted.sort_by(f64::total_cmp);
    assert_eq!(sorted, [0.0, 0.01, 0.02, 0.03, 0.04]);
}

#[test]
fn sql_is_row_wise_and_bound() {
    let mut ok = kept(json!([{"sql": {"expressions": [["late", "CASE WHEN at >= $since THEN 1 ELSE 0 END"]]}}]), &["late"]);
    ok.params.insert("since".into(), serde_json::from_value(json!({"timestamp": "1970-01-02T00:00:00"})).unwrap());
    let (pipeline, _, _) = fitted(&ok);
    let encoded = encode(&View::features(&ok, &pipeline), &shards(&batch(), ROWS)).unwrap();
    assert_eq!(numbers(&encoded[0].columns[0]).iter().sum::<f64>(), (ROWS - 24) as f64);

    let refused =
        |expression: &str| errors(&kept(json!([{"sql": {"expressions": [["x", expression]]}}]), &["age"]), &batch()).join("\n");
    for (expression, part) in [
        ("sum(age)", "features[0].sql.x: aggregate `sum` in a feature expression"),
        ("row_number() over ()", "window function `row_number`"),
        ("(SELECT 1)", "subquery in a feature expression"),
        ("random()", "random() gives other values"),
        ("now()", "`now()` in a feature expression"),
        ("current_date", "in a feature expression"),
        ("aeg + 1", "column `aeg` not found in `aeg + 1`\n  hint: did you mean `age`?"),
        ("y + 1", "the expression reads the target `y`"),
        ("$nothing", "parameter `$nothing` is not known"),
        ("age +", "cannot be planned"),
        ("age, 1", "cannot be planned"),
        ("[age]", "cannot"),
    ] {
        let text = refused(expression);
        assert!(text.contains(part), "{expression}: {text}");
    }
}

#[test]
fn a_failing_expression_is_named() {
    let job =
        kept(json!([{"sql": {"expressions": [["n", "CAST(city AS BIGINT)"]]}}, {"standardize": {"columns": ["n"]}}]), &["n"]);
    let error = fit(&job, &batch(), 64).unwrap_err();
    assert!(matches!(error, FitError::Expression { .. }), "{error}");
    assert!(error.to_string().starts_with("`CAST(city AS BIGINT)` failed"), "{error}");
}

#[test]
fn steps_are_validated_as_a_whole() {
    check(
        json!([
            {"standardize": {"columns": ["amuont"]}},
            {"one_hot": {"columns": ["amount"]}},
            {"impute": {"columns": ["city"], "strategy": "mean"}},
            {"date_parts": {"columns": ["born"], "parts": ["hour"]}},
            {"hash": {"columns": ["city"], "size": 0, "output": "age"}},
        ]),
        &[
            "features[0].standardize.columns: column `amuont` not found\n  hint: did you mean `amount`?",
            "features[1].one_hot.columns: column `amount` is float64; this takes text, bool, integer and date columns\n  hint: leave it out, or cast it in a sql step before",
            "features[2].impute.columns: column `city` is utf8; this takes numeric columns\n  hint: leave it out, or cast it in a sql step before",
            "features[3].date_parts.parts: `born` is a date and has no hour\n  hint: remove the part, or name timestamps only",
            "features[4].hash.size: 0 slots\n  hint: 1 to 16777216; a power of two spreads best",
            "features[4].hash.output: the step makes `age`, but such a column is already there, or the name is empty\n  hint: choose another name",
        ],
    );
    check(
        json!([{"standardize": {"columns": ["y"]}}]),
        &[
            "features[0].standardize.columns: column `y` has the role target and is no feature\n  hint: a role column is never a feature; name feature columns only, or make a new column in a sql step",
        ],
    );
    check(
        json!([{"drop": {"columns": ["price"]}}, {"standardize": {"columns": ["price"]}}]),
        &["features[1].standardize.columns: column `price` was removed by features[0].drop\n  hint: move this step before it"],
    );
    check(
        json!([{"one_hot": {"columns": ["city"]}}, {"sql": {"expressions": [["c", "upper(city)"]]}}]),
        &[
            "features[1].sql.c: column `city` is one-hot encoded and cannot be read by an expression\n  hint: move the expression before the step that encodes it",
        ],
    );
    check(
        json!([{"impute": {"columns": ["amount"], "strategy": "constant"}}]),
        &["features[0].impute.fill_value: the strategy constant needs a value\n  hint: fill_value: 0"],
    );
}

#[test]
fn what_no_learner_takes_is_an_error() {
    let found = errors(&logistic(json!({"columns": {"target": "y", "categorical": ["merchant"]}})), &batch());
    assert_eq!(
        found,
        [
            "features: column `merchant` is categorical, which logistic_regression cannot take\n  hint: its integers are codes: encode it with one_hot or hash, or drop it",
            "features: column `city` is utf8, which logistic_regression cannot take\n  hint: encode it with one_hot or hash, list it in columns.ignore, or drop it",
            "features: column `at` is timestamp, which logistic_regression cannot take\n  hint: take it apart with date_parts, list it in columns.ignore, or drop it",
            "features: column `born` is date, which logistic_regression cannot take\n  hint: take it apart with date_parts, list it in columns.ignore, or drop it",
            "features: column `part` is utf8, which logistic_regression cannot take\n  hint: encode it with one_hot or hash, list it in columns.ignore, or drop it",
            "features: column `label` is utf8, which logistic_regression cannot take\n  hint: encode it with one_hot or hash, list it in columns.ignore, or drop it",
        ]
    );
}

#[test]
fn roles_clash_with_a_message() {
    let roles =
        |columns: Value| errors(&logistic(json!({"columns": columns, "features": [{"keep": {"columns": ["age"]}}]})), &batch());
    assert_eq!(
        roles(json!({"target": "y", "weight": "y"})),
        ["columns.weight: column `y` cannot be weight and target at once\n  hint: name another column, or remove columns.target"]
    );
    assert_eq!(
        roles(json!({"target": "y", "weight": "city"})),
        ["columns.weight: column `city` is utf8; a weight is a number\n  hint: cast it in `prepare`"]
    );
    assert_eq!(roles(json!({"target": "yy"})), ["columns.target: column `yy` not found\n  hint: did you mean `y`?"]);
    assert_eq!(
        roles(json!({})),
        ["columns.target: logistic_regression needs a target\n  hint: name the column that is to be learnt"]
    );
    assert_eq!(
        roles(json!({"target": "at"})),
        [
            "columns.target: column `at` is timestamp; the target of logistic_regression is text, bool or numeric\n  hint: cast it in `prepare`, or name another column"
        ]
    );
    assert_eq!(
        roles(json!({"target": "y", "categorical": ["amount"]})),
        [
            "columns.categorical[0]: column `amount` is float64; only integers can be codes\n  hint: cast it in `prepare`, or remove it from the list"
        ]
    );
    assert_eq!(
        roles(json!({"target": "y", "key": "id".split(' ').collect::<Vec<_>>(), "group": "id", "time": "at", "ignore": ["id"]})),
        Vec::<String>::new()
    );
}

#[test]
fn targets_are_judged_before_features() {
    let of = |columns: Value, algorithm: &str, batch: &RecordBatch| {
        let parts = json!({"columns": columns, "train": {"algorithm": algorithm}, "features": [{"keep": {"columns": ["age"]}}]});
        fit(&job(parts), batch, 64).map(|(p, w, _)| (p.target.unwrap(), w)).map_err(|e| e.to_string())
    };
    let batch = batch();
    let positive = of(json!({"target": "label", "positive": "bad"}), "logistic_regression", &batch).unwrap();
    assert_eq!(positive.0.classes(), ["good", "bad"]);
    let error = of(json!({"target": "label"}), "logistic_regression", &batch).unwrap_err();
    assert!(error.contains("columns.positive: target `label` has the values `bad` and `good`"), "{error}");
    let error = of(json!({"target": "merchant"}), "logistic_regression", &batch).unwrap_err();
    assert!(error.contains("target `merchant` has 5 values, two are learnt here; write `task: multiclass`"), "{error}");
    let error = of(json!({"target": "constant"}), "logistic_regression", &batch).unwrap_err();
    assert!(error.contains("target `constant` has the single class `0.1` in all 400 rows"), "{error}");
    let error = of(json!({"target": "amount"}), "linear_regression", &batch).unwrap_err();
    assert_eq!(error, "target `amount` has 58 nulls in 400 rows; remove these rows in `prepare`");
    let (_, warnings) = of(json!({"target": "constant"}), "linear_regression", &batch).unwrap();
    assert_eq!(warnings, ["target `constant` is constant in the training rows"]);
    let error = of(json!({"target": "price", "weight": "amount"}), "linear_regression", &batch).unwrap_err();
    assert!(error.starts_with("weight `amount` has 58 nulls in 400 rows"), "{error}");
    let fine = of(json!({"target": "price", "weight": "weight", "offset": "shift"}), "linear_regression", &batch).unwrap();
    assert_eq!(fine.0.classes(), Vec::<String>::new());
}

#[test]
fn a_strange_split_value_ends_the_fit() {
    let parts =
        json!({"split": {"by": "column", "column": "part", "test": "holdout"}, "features": [{"keep": {"columns": ["age"]}}]});
    let error = fit(&logistic(parts), &batch(), 64).unwrap_err().to_string();
    assert!(
        error.starts_with("split column `part` is `test` in 100 of 400 rows; it must be `train`, `validation` or `holdout`"),
        "{error}"
    );
}

#[test]
fn weight_offset_and_ids_follow_the_rows() {
    let parts = json!({
        "columns": {"target": "y", "weight": "weight", "offset": "shift"},
        "split": {"by": "column", "column": "part"},
        "features": [{"keep": {"columns": ["age"]}}],
    });
    let job = logistic(parts);
    let (pipeline, _, _) = fitted(&job);
    let mut view = View::features(&job, &pipeline);
    view.row_ids = sheaf_dataflow::view::RowIds::OfRows;
    let prepared = shards(&batch(), 100);
    let encoded = encode(&view, &prepared).unwrap();
    let shard = &encoded[1];
    for i in 0..shard.rows {
        let row = (shard.offset.as_ref().unwrap()[i] * 1000.0).round() as usize;
        assert_eq!(shard.row_ids.as_ref().unwrap()[i], prepared[1].row_ids[row - 100]);
        assert_eq!(shard.weight.as_ref().unwrap()[i], 1.0 + (row % 3) as f64);
        assert_eq!(numbers(&shard.columns[0])[i], (row % 50) as f64);
    }
    assert_eq!(shard.bounds, [0, 50, 75, 100]);
}

#[test]
fn column_uses_are_explained() {
    let parts = json!({
        "columns": {"target": "y", "key": ["id"], "time": "at", "ignore": ["label"]},
        "features": [
            {"date_parts": {"columns": ["at"], "parts": ["hour"]}},
            {"one_hot": {"columns": ["city"]}},
            {"drop": {"columns": ["part", "born", "empty"]}},
        ],
    });
    let fitting = Fitting::new(&logistic(parts), &batch().schema()).unwrap();
    let roles = fitting.roles();
    let of = |name: &str| roles.iter().find(|r| r.name == name).map(|r| (r.role.as_str(), r.used, r.why.as_str())).unwrap();
    assert_eq!(of("y"), ("target", true, "logistic_regression learns it"));
    assert_eq!(of("id"), ("key", true, "identifies the row"));
    assert_eq!(of("at"), ("time", true, "never a feature, but a step reads it"));
    assert_eq!(of("label"), ("ignore", false, "listed in columns.ignore"));
    assert_eq!(of("city"), ("feature", true, "feature, one-hot encoded"));
    assert_eq!(of("born"), ("feature", false, "removed by features[2].drop"));
    assert_eq!(of("age"), ("feature", true, "feature"));
}

#[test]
fn checks_count_what_breaks_them() {
    let parts = json!({"checks": [
        {"name": "filled", "rule": {"not_null": {"columns": ["amount", "age"]}}},
        {"name": "young", "severity": "warn", "where": "member", "rule": {"range": {"columns": ["age"], "min": 0.0, "max": 40.0}}},
        {"name": "ids", "rule": {"unique": {"columns": ["id"]}}},
        {"name": "merchants", "where": "age < $n", "rule": {"unique": {"columns": ["merchant", "age"]}}},
        {"name": "size", "rule": {"row_count": {"min": 1000, "max": null}}},
    ], "params": {"n": {"int": 10}}});
    let job = job(parts);
    let batch = batch();
    let requests = checks::requests(&job, &batch.schema()).unwrap();
    assert_eq!(
        requests.iter().map(|r| r.label.as_str()).collect::<Vec<_>>(),
        ["check rows", "check unique id", "check unique merchant, age"]
    );
    let prepared = shards(&batch, 64);
    let results: Vec<Value> = requests.iter().map(|r| measure(r, &prepared).unwrap()).collect();
    let outcomes = checks::judge(&job, &results).unwrap();
    let found: Vec<(&str, bool, u64, u64, &str)> =
        outcomes.iter().map(|o| (o.name.as_str(), o.passed, o.violations, o.rows, o.message.as_str())).collect();
    let old = (0..ROWS).filter(|i| i % 3 == 0 && i % 50 > 40).count() as u64;
    assert_eq!(
        found,
        [
            ("filled", false, 58, 400, "`amount` has 58 nulls in 400 rows"),
            ("young", false, old, 134, format!("`age` is not between 0 and 40 in {old} of 134 rows").as_str()),
            ("ids", true, 0, 400, "holds in 400 rows"),
            ("merchants", false, 70, 80, "`merchant`, `age` repeats in 70 of 80 rows"),
            ("size", false, 1, 400, "400 rows, which is not at least 1000"),
        ]
    );
}

#[test]
fn checks_are_validated() {
    let parts = json!({"checks": [
        {"name": "a", "rule": {"not_null": {"columns": ["agee"]}}},
        {"name": "b", "rule": {"range": {"columns": ["city"], "min": 1.0, "max": 0.0}}},
        {"name": "c", "where": "age", "rule": {"row_count": {"min": 1, "max": 2}}},
    ]});
    let errors = checks::requests(&job(parts), &batch().schema()).unwrap_err();
    assert_eq!(
        errors.iter().map(|e| e.to_string()).collect::<Vec<_>>(),
        [
            "checks[0].not_null: column `agee` not found\n  hint: did you mean `age`?",
            "checks[1].range: column `city` is utf8; this check takes numbers\n  hint: cast it in `prepare`, or remove it from the check",
            "checks[1].range: min is above max",
            "checks[2].where: `age` is int64, not a condition\n  hint: write a comparison, for example amount > 0",
        ]
    );
}

#[test]
fn the_profile_finds_columns_that_count_rows() {
    let job = kept(json!([]), &["id", "age"]);
    let (pipeline, warnings, _) = fitted(&job);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].starts_with("feature `id` looks like an identifier"));
    let request = checks::profile(&job, &batch().schema());
    let profile = measure(&request, &shards(&batch(), 64)).unwrap();
    let found = profile_warnings(&pipeline, &profile).unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("feature `id` has another value in every row"));
}

#[test]
fn long_operator_chains_in_expressions_and_conditions_are_refused() {
    let long = format!("amount{}", " + 1".repeat(3000));
    let found = errors(&logistic(json!({"features": [{"sql": {"expressions": [["x", long]]}}]})), &batch());
    assert!(found.iter().any(|e| e.contains("too many operators in one SQL text (3000, at most 250)")), "{found:?}");
    let condition = format!("amount > 0{}", " OR amount > 1".repeat(3000));
    let check = json!({"name": "c", "severity": "warn", "rule": {"not_null": {"columns": ["amount"]}}, "where": condition});
    let found = checks::requests(&job(json!({"checks": [check]})), &batch().schema()).unwrap_err();
    assert!(found[0].message.contains("too many operators"), "{found:?}");
    let short = format!("amount{}", " + 1".repeat(250));
    let fits = logistic(json!({"features": [{"sql": {"expressions": [["x", short]]}}, {"drop": {"columns": ["*"]}}]}));
    assert!(errors(&fits, &batch()).iter().all(|e| !e.contains("operators")));
}

#[test]
fn nulls_in_the_key_are_refused_before_a_split_is_drawn_by_it() {
    let keyed = |key: &[&str], split: Value| {
        let mut parts = json!({
            "columns": {"target": "y", "key": key},
            "features": [{"keep": {"columns": ["age"]}}],
        });
        if !split.is_null() {
            parts["split"] = split;
        }
        fit(&logistic(parts), &batch(), 64).map(|(_, _, labels)| labels)
    };
    let random = json!({"by": "random", "test": 0.2, "validation": 0.1});
    let error = keyed(&["id", "city"], random.clone()).unwrap_err().to_string();
    let nulls = (0..ROWS).filter(|i| i % 11 == 3).count();
    assert_eq!(
        error,
        format!("key `city` is null in {nulls} of {ROWS} rows; filter them out in `prepare`, or leave `columns.key` out")
    );
    assert_eq!(keyed(&["id", "at"], random).unwrap()[0], "check key id, at");
    assert_eq!(keyed(&["id", "city"], Value::Null).unwrap()[0], "check target y", "without a split nulls do no harm");
}
