//! Metrics against scikit-learn (`tests/reference/metrics.json`, made by the script beside it) with ties and weights,
//! and for any number of workers. The inputs come from the same generator as in the script.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeMap;

use common::{Lcg, Rows, assert_independent_of_workers, program, run, schema};
use serde::Deserialize;
use serde_json::{Value, json};
use sheaf_learn::math;
use sheaf_learn::metrics::{MetricsOutput, known};
use sheaf_learn::model::{LinearModel, Model, Task};
use sheaf_learn::program::{Program, ProgramSpec};
use sheaf_learn::shard::{Column, EncodedShard, Schema, Segment};

#[derive(Deserialize)]
struct Reference {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    task: Task,
    seed: u64,
    rows: usize,
    #[serde(default)]
    steps: u32,
    #[serde(default)]
    one_in: u32,
    #[serde(default)]
    offset: f64,
    weights: String,
    #[serde(default)]
    positives: usize,
    #[serde(default)]
    classes: usize,
    /// Rows of each class.
    #[serde(default)]
    class_rows: Vec<usize>,
    /// The first line of the confusion matrix.
    #[serde(default)]
    confusion: Vec<f64>,
    metrics: BTreeMap<String, f64>,
}

fn reference() -> Vec<Case> {
    serde_json::from_str::<Reference>(include_str!("../../tests/reference/metrics.json")).unwrap().cases
}

impl Case {
    fn weight(&self, random: &mut Lcg) -> f64 {
        let draw = random.below(16);
        match self.weights.as_str() {
            "none" => 1.0,
            "fractions" => f64::from(draw + 1) / 8.0,
            _ => f64::from(draw.saturating_sub(3)) / 7.0,
        }
    }

    /// The program that measures the case's columns.
    fn program(&self, per_pass: u64) -> Box<dyn Program> {
        self.program_of(per_pass, &[])
    }

    /// The same of some segments.
    fn program_of(&self, per_pass: u64, segments: &[&str]) -> Box<dyn Program> {
        let mut params = json!({"metrics": known(task_name(self.task)), "per_pass": per_pass, "segments": segments});
        params["task"] = json!(self.task);
        if self.task != Task::Multiclass {
            params["scores"] = json!("score");
            return program("metrics", params, &["score"]);
        }
        let names: Vec<String> = (0..self.classes).map(|class| format!("score_{class}")).collect();
        params["scores"] = json!(names);
        program("metrics", params, &names.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn classes(&self) -> Rows {
        let mut random = Lcg(self.seed);
        let mut scores = vec![Vec::new(); self.classes];
        let (mut target, mut weight) = (Vec::new(), Vec::new());
        for _ in 0..self.rows {
            let parts: Vec<u32> = (0..self.classes).map(|_| random.below(self.steps) + 1).collect();
            let (all, mut sum) = (parts.iter().sum(), 0);
            let draw = random.below(all);
            scores.iter_mut().zip(&parts).for_each(|(column, part)| column.push(f64::from(*part) / f64::from(all)));
            let reaches = |part: &u32| {
                sum += part;
                draw < sum
            };
            target.push(parts.iter().position(reaches).unwrap() as f64);
            weight.push(self.weight(&mut random));
        }
        Rows {
            segments: vec![Segment::Test; self.rows],
            columns: scores.into_iter().map(|column| Column::F64(column.into())).collect(),
            target: Some(target),
            weight: Some(weight).filter(|_| self.weights != "none"),
            row_ids: None,
        }
    }

    /// The script's rows, all of segment test.
    fn data(&self) -> Rows {
        if self.task == Task::Multiclass {
            return self.classes();
        }
        let mut random = Lcg(self.seed);
        let (mut scores, mut target, mut weight) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.rows {
            if self.task == Task::Binary {
                let step = random.below(self.steps + 1);
                let chance = random.below(self.one_in * self.steps);
                scores.push(f64::from(step) / f64::from(self.steps));
                target.push(f64::from(u8::from(chance < step)));
            } else {
                let y = f64::from(random.below(1_000_000)) / 1000.0 + self.offset;
                let error = (f64::from(random.below(100_001)) - 50_000.0) / 300.0;
                target.push(y);
                scores.push(y + error);
            }
            weight.push(self.weight(&mut random));
        }
        Rows {
            segments: vec![Segment::Test; self.rows],
            columns: vec![Column::F64(scores.into())],
            target: Some(target),
            weight: Some(weight).filter(|_| self.weights != "none"),
            row_ids: None,
        }
    }
}

fn task_name(task: Task) -> &'static str {
    match task {
        Task::Binary => "binary",
        Task::Regression => "regression",
        Task::Multiclass => "multiclass",
        Task::Ranking => "ranking",
        Task::Anomaly => "anomaly",
    }
}

fn metrics(task: Task, per_pass: u64) -> Box<dyn Program> {
    let params = json!({"task": task, "scores": "score", "metrics": known(task_name(task)), "per_pass": per_pass});
    program("metrics", params, &["score"])
}

fn output(value: Value) -> MetricsOutput {
    serde_json::from_value(value).unwrap()
}

fn of_rows(task: Task, rows: &Rows) -> MetricsOutput {
    output(run(&*metrics(task, 1 << 20), &rows.shards(64)))
}

/// Relative to the value, or absolute below 1.
fn assert_close(found: f64, expected: f64, what: &str) {
    let error = (found - expected).abs() / expected.abs().max(1.0);
    assert!(error < 1e-12, "{what}: {found} is not {expected}");
}

#[test]
fn as_scikit_learn() {
    let cases = reference();
    assert_eq!(cases.len(), 13);
    for case in cases {
        let rows = case.data();
        let rows_of = |class: usize| rows.target.as_ref().unwrap().iter().filter(|y| **y == class as f64).count();
        for (class, expected) in case.class_rows.iter().enumerate() {
            assert_eq!(rows_of(class), *expected, "{} class {class}", case.name);
        }
        if case.task == Task::Binary {
            assert_eq!(rows.target.as_ref().unwrap().iter().filter(|y| **y == 1.0).count(), case.positives, "{}", case.name);
        }
        for (size, per_pass) in [(64, 1 << 20), (1536, 1 << 20), (100_000, 1 << 20), (512, 300)] {
            let found = output(run(&*case.program(per_pass), &rows.shards(size)));
            assert_eq!(found.rows["test"], case.rows as u64);
            assert!(found.undefined.is_empty());
            assert_eq!(found.segments["test"].len(), known(task_name(case.task)).len());
            for (metric, expected) in &case.metrics {
                let value = found.segments["test"][metric].unwrap();
                assert_close(value, *expected, &format!("{metric} of {} in shards of {size}", case.name));
            }
            for (column, expected) in case.confusion.iter().enumerate() {
                assert_close(found.confusion["test"].counts[0][column], *expected, &format!("confusion of {}", case.name));
            }
        }
    }
}

/// The usual seven-row example: ROC points (0,0)(0,.25)(1/3,.75)(2/3,.75)(1,1), so the area is 17/24.
#[test]
fn binary_example() {
    let rows = Rows {
        segments: vec![Segment::Test; 7],
        columns: vec![Column::F64(vec![0.1, 0.1, 0.4, 0.6, 0.6, 0.6, 0.8].into())],
        target: Some(vec![0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0]),
        ..Rows::default()
    };
    for size in 1..8 {
        let found = output(run(&*metrics(Task::Binary, 2), &rows.shards(size)));
        let value = |name: &str| found.segments["test"][name].unwrap();
        assert_close(value("auc"), 17.0 / 24.0, "auc");
        assert_close(value("pr_auc"), 0.25 + 0.5 * 0.75 + 0.25 * 4.0 / 7.0, "pr_auc");
        assert_eq!((value("accuracy"), value("precision"), value("recall"), value("f1")), (5.0 / 7.0, 0.75, 0.75, 0.75));
    }
}

/// The cases' rows spread over the three segments.
fn three_segments(case: &Case) -> Rows {
    let mut random = Lcg(99);
    let mut rows = case.data();
    rows.segments.iter_mut().for_each(|s| *s = Segment::ALL[[0, 0, 1, 2][random.below(4) as usize]]);
    rows
}

fn with_empty_shards(mut shards: Vec<EncodedShard>) -> Vec<EncodedShard> {
    for at in [0, 2, shards.len()] {
        let columns = vec![Column::F64(Vec::new().into())];
        shards.insert(at, EncodedShard { columns, target: Some(Vec::new().into()), ..EncodedShard::default() });
    }
    shards
}

#[test]
fn the_same_bits_for_any_workers_and_empty_shards() {
    for case in reference().iter().filter(|c| c.rows <= 3000) {
        let shards = with_empty_shards(three_segments(case).shards(64));
        for per_pass in [100, 1 << 20] {
            let found = output(assert_independent_of_workers(&*case.program(per_pass), &shards));
            assert_eq!(found.rows.values().sum::<u64>(), case.rows as u64);
            assert_eq!(found.segments.keys().collect::<Vec<_>>(), ["test", "train", "validation"]);
        }
    }
}

#[test]
fn segments_are_measured_apart() {
    let case = &reference()[3];
    let rows = three_segments(case);
    let found = of_rows(case.task, &rows);
    for segment in Segment::ALL {
        let picked: Vec<usize> = (0..case.rows).filter(|i| rows.segments[*i] == segment).collect();
        let of = |values: &[f64]| picked.iter().map(|i| values[*i]).collect::<Vec<f64>>();
        let Column::F64(scores) = &rows.columns[0] else { panic!("scores are numbers") };
        let alone = Rows {
            segments: vec![Segment::Train; picked.len()],
            columns: vec![Column::F64(of(scores).into())],
            target: rows.target.as_deref().map(of),
            weight: rows.weight.as_deref().map(of),
            row_ids: None,
        };
        let alone = of_rows(case.task, &alone);
        for (metric, value) in &found.segments[segment.name()] {
            assert_close(value.unwrap(), alone.segments["train"][metric].unwrap(), metric);
        }
    }
}

#[test]
fn segments_can_be_left_out() {
    let cases = reference();
    for case in [&cases[3], cases.iter().find(|c| c.task == Task::Multiclass).unwrap()] {
        let shards = three_segments(case).shards(64);
        let of = |segments: &[&str]| output(run(&*case.program_of(1 << 20, segments), &shards));
        let all = of(&[]);
        assert_eq!(all, of(&["test", "train", "validation"]));
        for some in [&["test"][..], &["train", "test"], &["validation"]] {
            let found = of(some);
            assert!(found.segments.keys().map(String::as_str).all(|s| some.contains(&s)) && found.segments.len() == some.len());
            assert!(found.segments.iter().all(|(segment, values)| *values == all.segments[segment]));
            assert!(found.rows.iter().all(|(segment, rows)| *rows == all.rows[segment]));
        }
    }
}

#[test]
fn bounded_passes_change_no_bit() {
    for case in reference().iter().filter(|c| c.rows <= 3000) {
        let shards = case.data().shards(512);
        let whole = run(&*case.program(1 << 20), &shards).to_string();
        for per_pass in [29, 500, 2000] {
            assert_eq!(run(&*case.program(per_pass), &shards).to_string(), whole, "{} {per_pass}", case.name);
        }
    }
}

fn small(scores: &[f64], target: &[f64], weight: Option<&[f64]>) -> Rows {
    Rows {
        segments: vec![Segment::Train; scores.len()],
        columns: vec![Column::F64(scores.to_vec().into())],
        target: Some(target.to_vec()),
        weight: weight.map(<[f64]>::to_vec),
        row_ids: None,
    }
}

#[test]
fn what_is_not_defined_says_why() {
    let reasons = |task, rows: &Rows| {
        let found = of_rows(task, rows);
        let reasons = found.undefined.get("train").cloned().unwrap_or_default();
        for (name, value) in &found.segments["train"] {
            assert_eq!(value.is_none(), reasons.contains_key(name), "{name}");
        }
        reasons.into_iter().map(|(name, reason)| format!("{name}: {reason}")).collect::<Vec<_>>()
    };
    let one_class = "auc: the segment has one class only";
    let none_positive = ["no row is positive or predicted positive", "no row is positive", "no row is predicted positive"];
    assert_eq!(
        reasons(Task::Binary, &small(&[0.1, 0.4], &[0.0, 0.0], None)),
        [
            one_class.to_owned(),
            format!("f1: {}", none_positive[0]),
            format!("pr_auc: {}", none_positive[1]),
            format!("precision: {}", none_positive[2]),
            format!("recall: {}", none_positive[1])
        ]
    );
    assert_eq!(reasons(Task::Binary, &small(&[0.7, 0.9], &[1.0, 1.0], Some(&[2.0, 0.5]))), [one_class]);
    // A class whose rows weigh nothing is not there.
    assert_eq!(reasons(Task::Binary, &small(&[0.7, 0.9], &[1.0, 0.0], Some(&[2.0, 0.0]))), [one_class]);
    assert_eq!(reasons(Task::Binary, &small(&[0.2, 0.9], &[0.0, 1.0], Some(&[0.0, 0.0]))).len(), 8);
    assert_eq!(reasons(Task::Regression, &small(&[0.2, 0.9], &[3.0, 3.0], None)), ["r2: the target is constant"]);
    let large = small(&[1e200, 0.0], &[0.0, 1.0], None);
    assert_eq!(reasons(Task::Regression, &large).len(), 3);
    assert!(of_rows(Task::Binary, &Rows::default()).segments.is_empty());
}

#[test]
fn rows_that_cannot_be_measured_are_counted() {
    let error = |task, rows: &Rows| sheaf_learn::program::run(&*metrics(task, 10), &rows.shards(2)).unwrap_err().to_string();
    let bad_target = small(&[0.1, 0.2, 0.3], &[0.0, 2.0, f64::NAN], None);
    let expected = "2 rows of segment train have a target other than 0 and 1: remove them or set `columns.positive`";
    assert_eq!(error(Task::Binary, &bad_target), expected);
    assert!(error(Task::Binary, &small(&[f64::NAN, 0.2], &[0.0, 1.0], None)).contains("no finite prediction"));
    assert!(error(Task::Regression, &small(&[0.1], &[1.0], Some(&[-1.0]))).contains("negative weight"));
    let no_target = Rows { target: None, ..small(&[0.1], &[1.0], None) };
    assert!(error(Task::Regression, &no_target).contains("no target"));
}

/// Four classes, the last of which no row has or is predicted to have.
#[test]
fn an_absent_class_leaves_the_plain_area_undefined() {
    let columns = [[0.7, 0.2, 0.1, 0.4], [0.2, 0.7, 0.2, 0.4], [0.1, 0.1, 0.7, 0.2], [0.0; 4]];
    let rows = Rows {
        segments: vec![Segment::Train; 4],
        columns: columns.map(|c| Column::F64(c.to_vec().into())).to_vec(),
        target: Some(vec![0.0, 1.0, 2.0, 1.0]),
        ..Rows::default()
    };
    let names = ["a", "b", "c", "d"];
    let params = json!({"task": "multiclass", "scores": names, "metrics": known("multiclass")});
    for size in [1, 4] {
        let found = output(run(&*program("metrics", params.clone(), &names), &rows.shards(size)));
        let reasons: Vec<_> = found.undefined["train"].iter().collect();
        assert_eq!(reasons, [(&"auc_ovr".to_owned(), &"a class has no row in the segment".to_owned())]);
        // Class 0 takes the tie of the last row; class 1 has two rows.
        assert_eq!(found.segments["train"]["accuracy"], Some(0.75));
        assert_close(found.segments["train"]["auc_ovr_weighted"].unwrap(), 1.0, "auc_ovr_weighted");
        assert_close(found.segments["train"]["f1_macro"].unwrap(), (2.0 / 3.0 + 2.0 / 3.0 + 1.0) / 3.0, "f1_macro");
        let last = &found.classes["train"][3];
        assert_eq!((last.class.as_str(), last.precision, last.recall, last.support), ("3", None, None, 0.0));
        assert_eq!(found.confusion["train"].counts[1], [1.0, 1.0, 0.0, 0.0]);
    }
}

#[test]
fn a_model_of_many_classes_is_scored_on_the_way() {
    // Without trees every row has the shares of e^base.
    let base = [0.5_f64, 0.0, -0.5];
    let model = json!({"trees": {"task": "multiclass", "link": "softmax", "base": base, "trees": []}});
    let schema = Schema { classes: ["red", "green", "blue"].map(str::to_owned).to_vec(), ..schema(&["x"]) };
    let rows = small(&[0.0; 6], &[0.0, 0.0, 1.0, 2.0, 2.0, 2.0], None);
    let params = json!({"task": "multiclass", "model": model, "metrics": ["log_loss", "accuracy", "auc_ovr"]});
    let spec = ProgramSpec { name: "metrics".into(), params, schema: schema.clone() };
    let found = output(assert_independent_of_workers(&*spec.build().unwrap(), &rows.shards(2)));
    let sum: f64 = base.iter().map(|b| math::exp(*b)).sum();
    let loss = (2.0 * base[0] + base[1] + 3.0 * base[2]) / 6.0;
    let value = |name: &str| found.segments["train"][name].unwrap();
    assert_close(value("log_loss"), math::ln(sum) - loss, "log_loss");
    assert_eq!((value("accuracy"), value("auc_ovr")), (1.0 / 3.0, 0.5));
    assert_eq!(found.classes["train"].iter().map(|c| c.class.as_str()).collect::<Vec<_>>(), ["red", "green", "blue"]);
    assert_eq!(found.confusion["train"].classes, schema.classes);
}

#[test]
fn a_model_is_scored_on_the_way() {
    let model = Model::Linear(LinearModel { task: Task::Binary, intercept: -0.5, coefficients: vec![2.0] });
    let case = &reference()[1];
    let rows = case.data();
    let shards = rows.shards(64);
    let schema = schema(&["score"]);
    let params = json!({"task": "binary", "model": model, "metrics": known("binary")});
    let spec = ProgramSpec { name: "metrics".into(), params, schema: schema.clone() };
    let found = assert_independent_of_workers(&*spec.build().unwrap(), &shards);
    let scored: Vec<EncodedShard> = shards
        .iter()
        .map(|s| EncodedShard { columns: vec![Column::F64(model.predict(&schema, s, 0..s.rows).into())], ..s.clone() })
        .collect();
    assert_eq!(found.to_string(), run(&*metrics(Task::Binary, 1 << 20), &scored).to_string());
    // The logistic function keeps the order of the scores.
    assert_close(output(found).segments["test"]["auc"].unwrap(), case.metrics["auc"], "auc");
}

#[test]
fn wrong_parameters_are_refused() {
    let model = json!({"linear": {"task": "regression", "intercept": 0.0, "coefficients": [1.0]}});
    let error = |params: Value| {
        let spec = ProgramSpec { name: "metrics".into(), params, schema: schema(&["score"]) };
        spec.build().err().map(|e| e.to_string()).unwrap()
    };
    for (params, part) in [
        (json!({"task": "binary"}), "give either `model` or `scores`"),
        (json!({"task": "binary", "scores": "x"}), "there is no column `x`"),
        (json!({"task": "binary", "scores": "score", "metrics": ["neg_log_loss"]}), "without the minus sign"),
        (json!({"task": "binary", "model": model}), "the model's task is regression, not binary"),
        (json!({"task": "clustering", "scores": "score"}), "unknown variant `clustering`"),
        (json!({"task": "ranking", "scores": "score", "metrics": ["auc"]}), "`auc` is not a metric of task ranking"),
        (json!({"task": "binary", "scores": "score", "per_pass": 0}), "must be at least 1"),
        (json!({"task": "binary", "scores": "score", "segments": ["tset"]}), "`tset` is not a segment"),
        (json!({"task": "binary", "scores": ["score", "score"]}), "task binary has one score a row"),
        (json!({"task": "multiclass", "scores": "score"}), "two scores a row or more"),
        (
            json!({"task": "multiclass", "scores": ["score", "score"], "metrics": ["f1"]}),
            "one of: f1_macro, f1_micro, f1_weighted",
        ),
    ] {
        let message = error(params);
        assert!(message.contains(part), "{message}");
    }
}
