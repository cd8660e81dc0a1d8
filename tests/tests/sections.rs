//! What a job does beside training: it scores rows, measures and scores with a model that is there already, and writes
//! its stages. Folders have the same bytes on any number of workers, and appear whole or not at all.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int64Type};
use sheaf_tests::results::{bytes, names, rows};
use sheaf_tests::{Outcome, Sheaf, write_parts};

/// A job over seven files through a view, with one more section.
fn job(name: &str, more: &str) -> String {
    format!(
        "version: 1
name: {name}
shard_rows: 64
params: {{most: 300, skipped: lima}}
tables:
  rows: data/
  cheap: {{sql: \"SELECT id, amount, age, city, flag, label FROM rows WHERE amount < $most\"}}
prepare: SELECT *, amount * 2 AS double FROM cheap
columns: {{target: label, key: id, ignore: flag}}
split: {{by: random, test: 0.2}}
features:
  - impute: {{columns: age, strategy: median}}
  - standardize: [amount, age]
  - one_hot: city
train: {{algorithm: logistic_regression, l2: 0.001}}
publish: {{model: {name}}}
{more}"
    )
}

fn sheaf() -> Sheaf {
    let sheaf = Sheaf::new(env!("CARGO_BIN_EXE_sheaf-under-test"));
    write_parts(&sheaf.folder().join("data"), 7, 2000);
    write_parts(&sheaf.folder().join("new"), 8, 1500);
    sheaf
}

fn run(sheaf: &Sheaf, text: &str, more: &[&str]) -> Outcome {
    sheaf.write("job.yaml", text);
    sheaf.run(&[&["run", "job.yaml", "--quiet", "-o", "json", "--threads", "1"][..], more].concat())
}

fn ids(batch: &RecordBatch) -> Vec<i64> {
    batch.column_by_name("id").unwrap().as_primitive::<Int64Type>().values().to_vec()
}

#[test]
fn a_job_scores_rows_with_its_model() {
    let sheaf = sheaf();
    let section = "predict: {tables: {rows: new/}, where: amount < 100 AND city <> $skipped, keep: [city], to: scored/}\n";
    let mut all = Vec::new();
    for workers in ["1", "3"] {
        let outcome = run(&sheaf, &job("scored", section), &["--workers", workers]).succeeded().json();
        let made = rows(&sheaf.folder().join("scored"));
        assert_eq!(names(&made), ["id", "city", "prediction", "probability"]);
        assert_eq!(outcome["rows"]["scored"], made.num_rows() as u64);
        assert!(outcome["outputs"][0].as_str().unwrap().ends_with("/scored"), "{outcome:#}");
        let phases: Vec<_> = outcome["phases"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
        assert_eq!(phases[phases.len() - 4..], ["publish", "plan predictions", "prepare predictions", "score"]);
        all.push(bytes(&sheaf.folder().join("scored")));
    }
    assert!(all[0] == all[1], "one and three workers write different bytes");

    // The same rows as `sheaf predict` gives, narrowed.
    sheaf.run(&["predict", "scored@latest", "--table", "rows=new/", "--to", "every", "--quiet"]).succeeded();
    let (some, every) = (rows(&sheaf.folder().join("scored")), rows(&sheaf.folder().join("every")));
    let probability = |batch: &RecordBatch| -> BTreeMap<i64, u64> {
        let values = batch.column_by_name("probability").unwrap().as_primitive::<Float64Type>().clone();
        ids(batch).into_iter().zip(values.values().iter().map(|v| v.to_bits())).collect()
    };
    let (some, every) = (probability(&some), probability(&every));
    assert!(some.len() > 500 && some.len() < every.len(), "{} of {}", some.len(), every.len());
    assert!(some.iter().all(|(id, bits)| every.get(id) == Some(bits)));

    // Another job does not replace it, and says so before it trains.
    let other = run(&sheaf, &job("other", section), &[]);
    assert_eq!(other.code, 2, "{other:?}");
    assert!(other.stderr.contains("written by `predict of job scored`") && other.stderr.contains("job.yaml:"), "{other:?}");
}

#[test]
fn predictions_are_held_to_what_the_model_reads() {
    let sheaf = sheaf();
    // The view has no column `double`, which `prepare` makes.
    let lacking = run(&sheaf, &job("a", "predict: {from: cheap, to: out/}\n"), &[]);
    assert_eq!(lacking.code, 2, "{lacking:?}");
    assert!(lacking.stderr.contains("the model reads column `double`"), "{lacking:?}");
    for (section, said) in [
        ("predict: {where: \"amount < 5) OR (1 = 1\", to: out/}\n", "job.yaml:"),
        ("predict: {where: amuont < 5, to: out/}\n", "`amuont` not found"),
        ("predict: {keep: town, to: out/}\n", "`town`"),
        ("predict: {tables: {rows: nothing/}, to: out/}\n", "nothing found"),
        (
            "predict: {tables: {rows: {sql: SELECT 1 AS one}}, to: out/}\n",
            "with the tables of `predict`: column `amount` not found",
        ),
    ] {
        let refused = run(&sheaf, &job("a", section), &[]);
        assert_eq!(refused.code, 2, "{section} {refused:?}");
        assert!(refused.stderr.contains(said), "`{said}` is not said: {refused:?}");
    }
    assert!(!sheaf.folder().join("out").exists() && !sheaf.folder().join(".sheaf/models").exists());

    // A view that has all but the labels will do.
    let unlabelled = "predict: {from: features_of, tables: {rows: new/}, to: out/}\n";
    let view = "  features_of: {sql: \"SELECT id, amount, age, city, amount * 2 AS double FROM rows\"}\nprepare:";
    let text = job("a", unlabelled).replace("prepare:", view);
    let outcome = run(&sheaf, &text, &["--workers", "2"]).succeeded().json();
    assert_eq!(outcome["rows"]["scored"], 1500);
    // A broken limit leaves what was predicted before as it is.
    let before = bytes(&sheaf.folder().join("out"));
    let limited = text.replace("publish:", "evaluate: {limits: {test.auc: {min: 0.999}}}\npublish:");
    let broken = run(&sheaf, &limited.replace("from: features_of", "from: features_of, where: id < 10"), &[]);
    assert_eq!(broken.code, 8, "{broken:?}");
    assert_eq!(broken.json()["outputs"].as_array().unwrap().len(), 0);
    assert!(bytes(&sheaf.folder().join("out")) == before);
}

#[test]
fn an_existing_model_is_measured_and_scores() {
    let sheaf = sheaf();
    let trained = run(&sheaf, &job("m", ""), &[]).succeeded();
    let sha256 = trained.sha256();
    let model = |limit: &str| {
        format!(
            "version: 1
name: watch
model: m@latest
params: {{most: 200}}
tables: {{rows: new/}}
evaluate: {{metrics: [auc, log_loss], limits: {{test.auc: {limit}}}}}
predict: {{where: flag, keep: label, to: watched/}}
write: {{prepared: stages/prepared/, features: stages/features/}}
"
        )
    };
    let met = run(&sheaf, &model("{min: 0.5}"), &["--workers", "2"]).succeeded().json();
    assert_eq!(met["model"]["sha256"], sha256.as_str());
    assert_eq!((met["model"]["name"].as_str(), met["model"]["version"].as_u64()), (Some("m"), Some(1)));
    let segments: Vec<_> = met["metrics"].as_object().unwrap().keys().collect();
    assert_eq!(segments, ["test"]);
    let prepared = rows(&sheaf.folder().join("stages/prepared"));
    assert_eq!(met["rows"]["test"], prepared.num_rows() as u64);
    assert!(ids(&prepared).len() < 1500, "the model's own view has the parameter of this job");
    assert_eq!(names(&rows(&sheaf.folder().join("stages/features")))[..3], ["id", "label", "amount"]);
    assert!(rows(&sheaf.folder().join("watched")).num_rows() < prepared.num_rows());
    let listed = sheaf.run(&["models", "list", "-o", "json"]).succeeded().json();
    assert_eq!(listed.as_array().unwrap().len(), 1, "nothing is published");

    let before = bytes(&sheaf.folder().join("watched"));
    let broken = run(&sheaf, &model("{min: 0.9999}").replace("where: flag, ", ""), &[]);
    assert_eq!(broken.code, 8, "{broken:?}");
    assert_eq!(broken.json()["limits"][0]["passed"], false);
    assert!(bytes(&sheaf.folder().join("watched")) == before, "a broken limit means no prediction");

    // Scoring alone needs no labels; a model that is not there is said.
    let bare = "version: 1\nname: bare\nmodel: m@1\nprepare: SELECT id, amount, age, city, amount * 2 AS double FROM cheap\n\
                tables: {rows: new/}\npredict: {to: bare/}\n";
    let outcome = run(&sheaf, bare, &[]).succeeded().json();
    assert_eq!(outcome["rows"]["scored"], rows(&sheaf.folder().join("bare")).num_rows() as u64);
    assert_eq!(outcome["metrics"], serde_json::json!({}));
    let missing = run(&sheaf, &bare.replace("m@1", "m@9"), &[]);
    assert_eq!(missing.code, 2, "{missing:?}");
    assert!(missing.stderr.contains("no version 9") && missing.stderr.contains("job.yaml:3"), "{missing:?}");
}

#[test]
fn stages_are_written_as_they_are() {
    let sheaf = sheaf();
    let text = job("stages", "write: {prepared: out/prepared/, features: out/features}\n");
    let transform = text
        .replace("train: {algorithm: logistic_regression, l2: 0.001}\npublish: {model: stages}\n", "")
        .replace("split: {by: random, test: 0.2}\n", "")
        .replace("target: label, ", "");
    let mut all = Vec::new();
    for workers in ["1", "3"] {
        let outcome = run(&sheaf, &transform, &["--workers", workers]).succeeded().json();
        assert_eq!(outcome["outputs"].as_array().unwrap().len(), 2, "{outcome:#}");
        assert_eq!(outcome["model"], serde_json::Value::Null);
        all.push((bytes(&sheaf.folder().join("out/prepared")), bytes(&sheaf.folder().join("out/features"))));
    }
    assert!(all[0] == all[1], "one and three workers write different bytes");

    let unencoded = transform.replace("  - one_hot: city\n", "").replace("out/", "text/");
    let warnings = run(&sheaf, &unencoded, &[]).succeeded().json()["warnings"].to_string();
    assert!(warnings.contains("column `city` is left out"), "{warnings}");

    // The same rows in the order of the files.
    let (source, prepared) = (rows(&sheaf.folder().join("data")), rows(&sheaf.folder().join("out/prepared")));
    let amounts = source.column_by_name("amount").unwrap().as_primitive::<Float64Type>().clone();
    let kept: Vec<i64> = ids(&source).into_iter().zip(amounts.values()).filter(|(_, a)| **a < 300.0).map(|(id, _)| id).collect();
    assert_eq!(ids(&prepared), kept);
    assert_eq!(names(&prepared), ["id", "amount", "age", "city", "flag", "label", "double"]);

    let features = rows(&sheaf.folder().join("out/features"));
    assert_eq!(names(&features), ["id", "amount", "age", "city", "label", "double"]);
    assert_eq!(ids(&features), kept);
    assert_eq!(features.column(3), prepared.column(3), "categories keep their names");
    let amount = features.column(1).as_primitive::<Float64Type>();
    let mean = amount.values().iter().sum::<f64>() / amount.len() as f64;
    assert!(mean.abs() < 1e-9, "standardised: {mean}");
    assert_eq!(features.column(2).null_count(), 0, "imputed");

    // Beside training the target stands before the features and the segment behind them; what is written trains again.
    run(&sheaf, &text, &[]).succeeded();
    let features = rows(&sheaf.folder().join("out/features"));
    assert_eq!(names(&features), ["id", "label", "amount", "age", "city", "double", "segment"]);
    let again = "version: 1\nname: again\ntables: {rows: out/features/}\ncolumns: {target: label, key: id}\n\
                 split: {by: column, column: segment}\nfeatures: [{one_hot: city}]\ntrain: {algorithm: logistic_regression}\n";
    run(&sheaf, again, &[]).succeeded();
}
