//! Statistics against plain code over all rows at once, against numpy, and for any number of workers.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{Lcg, Rows, assert_independent_of_workers, program, run};
use serde_json::json;
use sheaf_learn::hash::physical_row_id;
use sheaf_learn::program::ProgramSpec;
use sheaf_learn::shard::{Column, EncodedShard, Segment};
use sheaf_learn::statistics::counts::CountsOutput;
use sheaf_learn::statistics::duplicates::DuplicatesOutput;
use sheaf_learn::statistics::moments::MomentsOutput;
use sheaf_learn::statistics::quantiles::QuantilesOutput;
use sheaf_learn::statistics::target_summary::TargetSummaryOutput;
use sheaf_learn::statistics::vocabulary::{VocabularyOutput, VocabularyValue};

const COLUMNS: [&str; 4] = ["amount", "small", "category", "constant"];

/// Rows with missing values, infinities, ties, heavy tails and nulls; about 60/20/20 in the segments.
fn dataset(rows: usize) -> Rows {
    let mut random = Lcg(1);
    let mut out = Rows::default();
    let (mut amount, mut small, mut category) = (Vec::new(), Vec::new(), Vec::new());
    let (mut target, mut weight, mut ids) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rows {
        out.segments.push(Segment::ALL[[0, 0, 0, 1, 2][random.below(5) as usize]]);
        let magnitude = f64::from(random.below(2_000_001)) / 7.0 - 1e5;
        amount.push(match random.below(20) {
            0 => f64::NAN,
            1 if random.below(10) == 0 => f64::INFINITY,
            2 => 0.0,
            3 => magnitude * 1e9,
            _ => magnitude,
        });
        small.push(random.below(9) as f32 - 4.0);
        let text = ["grocery", "travel", "fuel", "Zürich", ""][random.below(5) as usize];
        category.push((random.below(11) > 0).then(|| text.as_bytes().into()));
        target.push(f64::from(random.below(3)) / 2.0);
        weight.push(f64::from(random.below(8)) / 4.0);
        ids.push(physical_row_id("table", "file", u64::from(random.below(700))));
    }
    out.columns = vec![
        Column::F64(amount.into()),
        Column::F32(small.into()),
        Column::bytes_of(category),
        Column::F64(vec![0.1; rows].into()),
    ];
    (out.target, out.weight, out.row_ids) = (Some(target), Some(weight), Some(ids));
    out
}

/// Shards of 64 rows with an empty one among them.
fn shards(rows: &Rows) -> Vec<EncodedShard> {
    let mut shards = rows.shards(64);
    shards.insert(3, EncodedShard { columns: shards[0].columns.iter().map(empty).collect(), ..EncodedShard::default() });
    shards
}

fn empty(column: &Column) -> Column {
    match column {
        Column::F32(_) => Column::F32(Vec::new().into()),
        Column::Bytes { .. } => Column::bytes_of([]),
        _ => Column::F64(Vec::new().into()),
    }
}

/// Values of a column in a segment.
fn of(rows: &Rows, column: usize, segment: Segment) -> Vec<f64> {
    let picked = rows.segments.iter().enumerate().filter(|(_, s)| **s == segment);
    picked.map(|(i, _)| rows.columns[column].number(i).unwrap()).collect()
}

fn close(found: f64, expected: f64) {
    assert!((found - expected).abs() <= 1e-12 * expected.abs().max(1e-300), "{found} is not {expected}");
}

#[test]
fn moments_of_every_segment() {
    let rows = dataset(1000);
    let result = assert_independent_of_workers(&*program("moments", json!({}), &COLUMNS), &shards(&rows));
    let output: MomentsOutput = serde_json::from_value(result).unwrap();
    for segment in Segment::ALL {
        let columns = &output.segments[segment.name()];
        assert_eq!(columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["amount", "small", "constant"]);
        let all = of(&rows, 0, segment);
        let finite: Vec<f64> = all.iter().copied().filter(|v| v.is_finite()).collect();
        let mean = finite.iter().sum::<f64>() / finite.len() as f64;
        let m2 = finite.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>();
        let amount = &columns[0];
        assert_eq!(amount.rows, all.len() as u64);
        assert_eq!(amount.missing, all.iter().filter(|v| v.is_nan()).count() as u64);
        assert_eq!(amount.infinite, all.iter().filter(|v| v.is_infinite()).count() as u64);
        close(amount.mean.unwrap(), mean);
        close(amount.m2.unwrap(), m2);
        close(amount.variance.unwrap(), m2 / finite.len() as f64);
        assert_eq!(amount.min, finite.iter().copied().reduce(f64::min));
        assert_eq!(amount.max, finite.iter().copied().reduce(f64::max));
        assert_eq!((columns[2].mean, columns[2].variance), (Some(0.1), Some(0.0)));
    }
}

#[test]
fn moments_that_do_not_exist_are_absent() {
    let rows = Rows {
        segments: vec![Segment::Test; 3],
        columns: vec![Column::F64(vec![f64::NAN; 3].into()), Column::F64(vec![1e308, 1e308, -1e308].into())],
        ..Rows::default()
    };
    let output = run(&*program("moments", json!({}), &["missing", "large"]), &rows.shards(64));
    let output: MomentsOutput = serde_json::from_value(output).unwrap();
    assert_eq!(output.segments.keys().collect::<Vec<_>>(), ["test"]);
    let (missing, large) = (&output.segments["test"][0], &output.segments["test"][1]);
    assert_eq!((missing.missing, missing.mean, missing.variance, missing.min), (3, None, None, None));
    assert_eq!((large.variance, large.max), (None, Some(1e308)));
    let nothing: MomentsOutput = serde_json::from_value(run(&*program("moments", json!(null), &["a"]), &[])).unwrap();
    assert!(nothing.segments.is_empty());
}

#[test]
fn vocabulary_is_sorted_and_counted() {
    let rows = dataset(700);
    let Column::Bytes { codes, values } = &rows.columns[2] else { panic!("the third column is bytes") };
    for choice in ["train", "all"] {
        let params = json!({"segment": choice, "limit": 5});
        let result = assert_independent_of_workers(&*program("vocabulary", params, &COLUMNS), &shards(&rows));
        let output: VocabularyOutput = serde_json::from_value(result).unwrap();
        let mut expected = BTreeMap::<Vec<u8>, u64>::new();
        let mut nulls = 0;
        let row = |code: &u32| values.get(*code as usize);
        for (value, segment) in codes.iter().map(row).zip(&rows.segments) {
            match value {
                _ if choice == "train" && *segment != Segment::Train => {}
                Some(value) => *expected.entry(value.to_vec()).or_default() += 1,
                None => nulls += 1,
            }
        }
        let [column] = &output.columns[..] else { panic!("one bytes column") };
        assert_eq!((column.name.as_str(), column.nulls), ("category", nulls));
        assert_eq!(column.rows, nulls + expected.values().sum::<u64>());
        let found: Vec<_> = column.values.iter().map(|e| (e.value.0.clone(), e.count)).collect();
        assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn too_many_values_name_column_limit_and_remedy() {
    let rows = dataset(700);
    let program = program("vocabulary", json!({"limit": 4}), &COLUMNS);
    let error = sheaf_learn::program::run(&*program, &shards(&rows)).unwrap_err().to_string();
    let expected = "column `category` has more than 4 distinct values: hash it, drop it, or group rare values in SQL";
    assert_eq!(error, expected);
    let program = self::program("vocabulary", json!({"limit": 4, "advice": "keep fewer"}), &COLUMNS);
    let error = sheaf_learn::program::run(&*program, &shards(&rows)).unwrap_err().to_string();
    assert_eq!(error, "column `category` has more than 4 distinct values: keep fewer");
}

#[test]
fn vocabulary_values_survive_json() {
    for (bytes, text) in [(&b"caf\xc3\xa9"[..], "\"café\""), (b"\xff\x00a", "{\"hex\":\"ff0061\"}"), (b"", "\"\"")] {
        let value = VocabularyValue(bytes.to_vec());
        assert_eq!(serde_json::to_string(&value).unwrap(), text);
        assert_eq!(serde_json::from_str::<VocabularyValue>(text).unwrap(), value);
    }
    assert!(serde_json::from_str::<VocabularyValue>("{\"hex\":\"f\"}").is_err());
}

#[test]
fn quantiles_are_the_sorted_values() {
    let rows = dataset(1000);
    let probabilities = [0.0, 0.01, 0.25, 0.5, 0.5, 0.9, 0.999, 1.0];
    let params = json!({"probabilities": probabilities, "segment": "train"});
    let result = assert_independent_of_workers(&*program("quantiles", params, &COLUMNS), &shards(&rows));
    let output: QuantilesOutput = serde_json::from_value(result).unwrap();
    assert_eq!(output.columns.len(), 3);
    for (found, column) in output.columns.iter().zip([0, 1, 3]) {
        let all = of(&rows, column, Segment::Train);
        let mut sorted: Vec<f64> = all.iter().copied().filter(|v| !v.is_nan()).collect();
        sorted.sort_by(f64::total_cmp);
        assert_eq!((found.values, found.missing), (sorted.len() as u64, (all.len() - sorted.len()) as u64));
        for (quantile, probability) in found.quantiles.iter().zip(probabilities) {
            let at = (sorted.len() - 1) as f64 * probability;
            assert_eq!(quantile.lower, sorted[at.floor() as usize], "{} at {probability}", found.name);
            assert_eq!(quantile.upper, sorted[at.ceil() as usize]);
        }
    }
}

/// numpy 2.4.6: `np.quantile([3, 1, 4, 1, 5, 9, 2, 6], [.1, .3, .5, .75, .9])` and `np.median`.
#[test]
fn quantiles_as_numpy() {
    let values = vec![3.0, 1.0, f64::NAN, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0];
    let rows = Rows { segments: vec![Segment::Train; 9], columns: vec![Column::F64(values.into())], ..Rows::default() };
    let program = program("quantiles", json!({"probabilities": [0.1, 0.3, 0.5, 0.75, 0.9]}), &["x"]);
    for size in [1, 2, 4, 64] {
        let output: QuantilesOutput = serde_json::from_value(run(&*program, &rows.shards(size))).unwrap();
        let found: Vec<f64> = output.columns[0].quantiles.iter().map(|q| q.value).collect();
        assert_eq!(found, [1.0, 2.1, 3.5, 5.25, 6.8999999999999995]);
    }
}

#[test]
fn quantiles_of_nothing_and_of_infinities() {
    let rows = Rows {
        segments: vec![Segment::Train; 3],
        columns: vec![Column::F64(vec![f64::NAN; 3].into()), Column::F64(vec![1.0, f64::INFINITY, f64::NEG_INFINITY].into())],
        ..Rows::default()
    };
    let program = program("quantiles", json!({"probabilities": [0.0, 0.5, 1.0]}), &["nothing", "wide"]);
    let output: QuantilesOutput = serde_json::from_value(run(&*program, &rows.shards(2))).unwrap();
    assert!(output.columns[0].quantiles.is_empty());
    let found: Vec<f64> = output.columns[1].quantiles.iter().map(|q| q.value).collect();
    assert_eq!(found, [f64::NEG_INFINITY, 1.0, f64::INFINITY]);
}

#[test]
fn counts_of_rows_that_are_not_zero() {
    let rows = dataset(900);
    let result = assert_independent_of_workers(&*program("counts", json!({}), &COLUMNS), &shards(&rows));
    let output: CountsOutput = serde_json::from_value(result).unwrap();
    let expected =
        |column: usize, segment: Segment| of(&rows, column, segment).iter().filter(|v| **v != 0.0 && !v.is_nan()).count() as u64;
    for segment in Segment::ALL {
        let found = &output.segments[segment.name()];
        assert_eq!(found.rows, of(&rows, 0, segment).len() as u64);
        for (column, i) in found.columns.iter().zip([0, 1, 3]) {
            assert_eq!(column.count, expected(i, segment), "{}", column.name);
        }
    }
    assert_eq!(output.all.rows, 900);
    assert_eq!(output.all.columns[1].count, Segment::ALL.map(|s| expected(1, s)).iter().sum::<u64>());
    assert_eq!(
        serde_json::from_value::<CountsOutput>(run(&*program("counts", json!({}), &["a"]), &[])).unwrap(),
        CountsOutput::default()
    );
}

#[test]
fn duplicates_in_one_pass_and_in_many() {
    let rows = dataset(900);
    let distinct = rows.row_ids.iter().flatten().collect::<BTreeSet<_>>().len() as u64;
    for per_pass in [1, 40, 1_000_000] {
        let program = program("duplicates", json!({"per_pass": per_pass}), &COLUMNS);
        let result = assert_independent_of_workers(&*program, &shards(&rows));
        let output: DuplicatesOutput = serde_json::from_value(result).unwrap();
        assert_eq!(output, DuplicatesOutput { rows: 900, distinct, duplicates: 900 - distinct });
    }
    let without_ids = Rows { row_ids: None, ..rows };
    let program = program("duplicates", json!({}), &COLUMNS);
    assert!(sheaf_learn::program::run(&*program, &without_ids.shards(64)).is_err());
}

#[test]
fn target_summary_counts_what_would_break_a_fit() {
    let mut rows = dataset(500);
    let (target, weight) = (rows.target.as_mut().unwrap(), rows.weight.as_mut().unwrap());
    rows.segments[..5].fill(Segment::Train);
    (target[0], target[1], weight[2], weight[3], weight[4]) = (f64::NAN, f64::INFINITY, -1.0, f64::NAN, -0.5);
    let result = assert_independent_of_workers(&*program("target_summary", json!({}), &COLUMNS), &shards(&rows));
    let output: TargetSummaryOutput = serde_json::from_value(result).unwrap();
    let train = &output.segments["train"];
    let picked: Vec<usize> = (0..500).filter(|i| rows.segments[*i] == Segment::Train).collect();
    let (target, weight) = (rows.target.unwrap(), rows.weight.unwrap());
    let count = |value: f64| picked.iter().filter(|i| target[**i] == value).count() as u64;
    assert_eq!((train.rows, train.missing, train.non_finite), (picked.len() as u64, 1, 1));
    assert_eq!((train.zeros, train.ones, train.negative_weights, train.unusable_weights), (count(0.0), count(1.0), 2, 1));
    assert_eq!((train.min, train.max), (Some(0.0), Some(1.0)));
    let finite = picked.iter().map(|i| target[*i]).filter(|v| v.is_finite());
    close(train.mean.unwrap(), finite.sum::<f64>() / (picked.len() - 2) as f64);
    assert_eq!(train.weight_sum, picked.iter().map(|i| weight[*i]).filter(|w| !w.is_nan()).sum::<f64>());
}

#[test]
fn a_target_without_weights_weighs_its_rows() {
    let rows = Rows { weight: None, ..dataset(300) };
    let output: TargetSummaryOutput =
        serde_json::from_value(run(&*program("target_summary", json!({}), &COLUMNS), &rows.shards(64))).unwrap();
    assert!(output.segments.values().all(|s| s.weight_sum == s.rows as f64));
    let none = Rows { target: None, ..rows };
    let error = sheaf_learn::program::run(&*program("target_summary", json!({}), &COLUMNS), &none.shards(64)).unwrap_err();
    assert_eq!(error.to_string(), "the rows have no target: set `columns.target`");
}

#[test]
fn wrong_parameters_are_refused() {
    let build = |name: &str, params| ProgramSpec { name: name.into(), params, schema: common::schema(&["x"]) }.build().err();
    for (name, params) in [
        ("moments", json!({"segment": "train"})),
        ("vocabulary", json!({"segment": "holdout"})),
        ("quantiles", json!({})),
        ("quantiles", json!({"probabilities": [1.5]})),
        ("counts", json!({"x": 1})),
        ("duplicates", json!({"per_pass": -1})),
    ] {
        assert!(build(name, params.clone()).is_some(), "{name} takes {params}");
    }
}
