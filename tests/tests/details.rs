//! What predictions say beside themselves: contributions that add up to the score, leaves and stages that belong to
//! it; the same bytes with and without a cluster, from a job and from the command line.
#![expect(clippy::unwrap_used, reason = "tests")]

use arrow::array::{Array, AsArray, Float64Array, ListArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int32Type};
use sheaf_tests::results::{bytes, names, rows};
use sheaf_tests::{Sheaf, write_parts};

const FEATURES: [&str; 4] = ["amount", "age", "city", "flag"];
const TREES: usize = 12;

fn job(name: &str, train: &str, predict: &str) -> String {
    format!(
        "version: 1
name: {name}
shard_rows: 64
tables: {{rows: data/}}
prepare: SELECT id, amount, age, city, flag, label FROM rows
columns: {{target: label, key: id}}
split: {{by: random, test: 0.2}}
train: {train}
publish: {{model: {name}}}
{predict}"
    )
}

const BOOSTED: &str = "{algorithm: gradient_boosting, objective: binary, trees: 12, max_leaves: 8, min_samples_leaf: 5}";

fn sheaf() -> Sheaf {
    let sheaf = Sheaf::new(env!("CARGO_BIN_EXE_sheaf-under-test"));
    write_parts(&sheaf.folder().join("data"), 7, 2000);
    write_parts(&sheaf.folder().join("new"), 8, 900);
    sheaf
}

fn numbers(batch: &RecordBatch, name: &str) -> Float64Array {
    let column = batch.column_by_name(name).unwrap_or_else(|| panic!("no column `{name}` in {:?}", names(batch)));
    assert_eq!(column.null_count(), 0, "{name}");
    column.as_primitive::<Float64Type>().clone()
}

fn list(batch: &RecordBatch, name: &str) -> ListArray {
    batch.column_by_name(name).unwrap().as_list::<i32>().clone()
}

/// The score of every row, from its probability.
fn scores(batch: &RecordBatch) -> Vec<f64> {
    numbers(batch, "probability").values().iter().map(|p| (p / (1.0 - p)).ln()).collect()
}

#[test]
fn contributions_leaves_and_stages_belong_to_the_prediction() {
    let sheaf = sheaf();
    let section = "predict: {tables: {rows: new/}, to: why/, explain: true, leaves: true, staged: true}\n";
    sheaf.write("job.yaml", &job("boosted", BOOSTED, section));
    let mut all = Vec::new();
    for workers in ["1", "3"] {
        sheaf.run(&["run", "job.yaml", "--quiet", "--workers", workers, "--threads", "2"]).succeeded();
        all.push(bytes(&sheaf.folder().join("why")));
    }
    assert!(all[0] == all[1], "one and three workers write different bytes");

    let found = rows(&sheaf.folder().join("why"));
    let mut expected: Vec<String> = ["id", "prediction", "probability"].map(str::to_owned).to_vec();
    expected.extend(FEATURES.map(|feature| format!("contribution_{feature}")));
    expected.extend(["base_value", "leaf", "staged_prediction"].map(str::to_owned));
    assert_eq!(names(&found), expected);

    let contributions = FEATURES.map(|feature| numbers(&found, &format!("contribution_{feature}")));
    let base = numbers(&found, "base_value");
    assert!(base.values().iter().all(|b| b == base.values().first().unwrap()), "one model, one expectation");
    for (row, score) in scores(&found).into_iter().enumerate() {
        let sum: f64 = base.value(row) + contributions.iter().map(|c| c.value(row)).sum::<f64>();
        assert!((sum - score).abs() < 1e-9, "row {row}: {sum} {score}");
    }
    assert!(contributions[0].values().iter().any(|c| c.abs() > 0.1), "the amount decides much");

    let (leaves, stages, probability) = (list(&found, "leaf"), list(&found, "staged_prediction"), numbers(&found, "probability"));
    for row in 0..found.num_rows() {
        let (leaves, stages) = (leaves.value(row), stages.value(row));
        assert!(leaves.as_primitive::<Int32Type>().values().iter().all(|leaf| (0..8).contains(leaf)));
        assert_eq!((leaves.len(), stages.len()), (TREES, TREES));
        let last = stages.as_primitive::<Float64Type>().values()[TREES - 1];
        assert_eq!(last.to_bits(), probability.value(row).to_bits(), "row {row}");
    }

    // The command line: the same bytes without any cluster, and fewer of the details.
    let predict = |to: &str, more: &[&str]| {
        let arguments = ["predict", "boosted@latest", "--table", "rows=new/", "--to", to, "--quiet"];
        sheaf.run(&[&arguments[..], more].concat()).succeeded();
        sheaf.folder().join(to)
    };
    let local = predict("local", &["--explain", "--leaves", "--staged"]);
    assert!(bytes(&local) == all[0], "`sheaf predict` writes other bytes than the job");
    let cluster = predict("cluster", &["--explain=2", "--staged=5", "--workers", "2", "--threads", "1"]);
    let some = predict("some", &["--explain=2", "--staged=5"]);
    assert!(bytes(&some) == bytes(&cluster), "with and without a cluster");
    largest_are_the_largest(&found, &rows(&some));
}

/// Lists of two contributions and every fifth stage, beside all of them.
fn largest_are_the_largest(all: &RecordBatch, some: &RecordBatch) {
    let expected = ["id", "prediction", "probability", "contributions", "contribution_rest", "base_value", "staged_prediction"];
    assert_eq!(names(some), expected);
    let (lists, rest) = (list(some, "contributions"), numbers(some, "contribution_rest"));
    let columns = FEATURES.map(|feature| numbers(all, &format!("contribution_{feature}")));
    let (every, fifth) = (list(all, "staged_prediction"), list(some, "staged_prediction"));
    for row in 0..some.num_rows() {
        let entries = lists.value(row);
        let entries = entries.as_struct();
        let found_names = entries.column_by_name("feature").unwrap().as_string::<i32>().clone();
        let found = entries.column_by_name("contribution").unwrap().as_primitive::<Float64Type>().clone();
        let mut wanted: Vec<(&str, f64)> = FEATURES.iter().zip(&columns).map(|(f, c)| (*f, c.value(row))).collect();
        wanted.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
        for (i, (name, value)) in wanted[..2].iter().enumerate() {
            assert_eq!((found_names.value(i), found.value(i)), (*name, *value), "row {row}");
        }
        assert!((wanted[2].1 + wanted[3].1 - rest.value(row)).abs() < 1e-12);
        let stages = |lists: &ListArray| lists.value(row).as_primitive::<Float64Type>().values().to_vec();
        let every = stages(&every);
        assert_eq!(stages(&fifth), [every[4], every[9], every[11]], "after 5, 10 and all 12 trees");
    }
}

#[test]
fn what_a_model_does_not_have_is_said_before_anything_runs() {
    let sheaf = sheaf();
    let refused = |train: &str, predict: &str, parts: &[&str]| {
        sheaf.write("job.yaml", &job("refused", train, predict));
        let outcome = sheaf.run(&["run", "job.yaml", "--quiet"]);
        assert_eq!(outcome.code, 2, "{outcome:?}");
        assert!(parts.iter().all(|part| outcome.stderr.contains(part)), "{parts:?}: {}", outcome.stderr);
    };
    let linear = "{algorithm: logistic_regression}\nfeatures: [{one_hot: city}, {impute: [age]}, {drop: flag}]";
    refused(linear, "predict: {to: out/, explain: true}\n", &["job.yaml:", "models of trees", "sheaf models show"]);
    let forest = "{algorithm: random_forest, task: binary, trees: 3}";
    refused(forest, "predict: {to: out/, staged: true}\n", &["job.yaml:", "has no stages"]);
    refused(BOOSTED, "predict: {to: out/, explain: 0}\n", &["a whole number from 1 to 2000"]);
    let constrained = |more: &str| BOOSTED.replace("trees: 12", &format!("trees: 12, {more}"));
    refused(&constrained("monotone: {amuont: 1}"), "", &["job.yaml:", "no feature `amuont`", "did you mean `amount`?"]);
    refused(&constrained("monotone: {city: 1}"), "", &["feature `city` has no order"]);
    refused(&constrained("interactions: [[amount, agee]]"), "", &["no feature `agee`", "did you mean `age`?"]);
    let look = sheaf.run(&["data", "schema", "job.yaml", "--after", "features"]);
    assert!(look.stderr.contains("no feature `agee`"), "{look:?}");

    sheaf.write("job.yaml", &job("forest", forest, ""));
    sheaf.run(&["run", "job.yaml", "--quiet"]).succeeded();
    let predict = |more: &[&str]| {
        let arguments = ["predict", "forest@1", "--table", "rows=new/", "--to", "out", "--quiet"];
        sheaf.run(&[&arguments[..], more].concat())
    };
    let staged = predict(&["--staged"]);
    assert_eq!(staged.code, 2, "{staged:?}");
    assert!(staged.stderr.contains("--staged: `random_forest` has no stages"), "{staged:?}");
    predict(&["--explain", "--leaves"]).succeeded();
    assert_eq!(rows(&sheaf.folder().join("out")).num_rows(), 900);
    let existing = "version: 1\nname: watch\nmodel: forest@1\ntables: {rows: new/}\npredict: {to: watched/, staged: 2}\n";
    sheaf.write("watch.yaml", existing);
    let outcome = sheaf.run(&["run", "watch.yaml", "--quiet"]);
    assert!(outcome.code == 2 && outcome.stderr.contains("has no stages"), "{outcome:?}");
}
