//! Bad input: each case ends soon with its documented exit code and a message that names the place and
//! the remedy; nothing is published and no process is left.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use sheaf_tests::{Rows, Sheaf, write_parts, write_table};

/// A sound job; each case breaks one thing.
const SOUND: &str = "version: 1
name: bad
tables: {rows: data/}
prepare: SELECT id, amount, age, city, flag, label FROM rows
columns: {target: label, key: id}
split: {by: random, test: 0.2}
features:
  - impute: {columns: age, strategy: mean}
  - one_hot: city
train: {algorithm: logistic_regression, l2: 0.01}
publish: {model: bad}
";

fn sheaf() -> Sheaf {
    let sheaf = Sheaf::new(env!("CARGO_BIN_EXE_sheaf-under-test"));
    write_parts(&sheaf.folder().join("job/data"), 5, 2000);
    sheaf
}

#[track_caller]
fn refused(sheaf: &Sheaf, job: &str, code: i32, said: &[&str]) {
    sheaf.write("job/job.yaml", job);
    let outcome = sheaf.run(&["run", "job/job.yaml", "--pid-file", "pids", "--quiet"]);
    let text = &outcome.stderr;
    assert_eq!(outcome.code, code, "{outcome:?}");
    for part in said {
        assert!(text.contains(part), "`{part}` is not said:\n{text}");
    }
    assert!(outcome.took < Duration::from_secs(10), "it took {:?}", outcome.took);
    assert!(!sheaf.folder().join(".sheaf/models").exists(), "something was published");
    for pid in std::fs::read_to_string(sheaf.folder().join("pids")).unwrap_or_default().lines() {
        assert!(!sheaf_tests::process::alive(pid.parse().unwrap()), "worker {pid} is left");
    }
}

fn broken(from: &str, to: &str) -> String {
    let job = SOUND.replacen(from, to, 1);
    assert_ne!(job, SOUND, "`{from}` is not in the sound job");
    job
}

#[test]
fn the_sound_job_is_sound() {
    let sheaf = sheaf();
    sheaf.write("job/job.yaml", SOUND);
    sheaf.run(&["run", "job/job.yaml", "--quiet"]).succeeded();
}

#[test]
fn wrong_keys() {
    let sheaf = sheaf();
    refused(&sheaf, &broken("split:", "splitt:"), 2, &["splitt", "split", "job.yaml:6"]);
    refused(&sheaf, &broken("version: 1\n", "version: 1\nname: twice\n"), 2, &["name", "job.yaml:3"]);
    refused(&sheaf, &broken("l2: 0.01", "C: 1"), 2, &["C", "l2"]);
    refused(&sheaf, &broken("publish:", "tune: {search: random}\npublish:"), 2, &["tune", "not supported yet"]);
}

#[test]
fn wrong_columns_and_types() {
    let sheaf = sheaf();
    refused(&sheaf, &broken("target: label", "target: lable"), 2, &["lable", "label"]);
    refused(&sheaf, &broken("one_hot: city", "one_hot: town"), 2, &["town", "job.yaml:9"]);
    refused(&sheaf, &broken("columns: age, strategy: mean", "columns: city, strategy: mean"), 2, &["city"]);
    refused(&sheaf, &broken("  - one_hot: city\n", ""), 2, &["city", "one_hot"]);
    refused(&sheaf, &broken("l2: 0.01", "l2: much"), 2, &["l2"]);
    refused(&sheaf, &broken("logistic_regression", "logistic_regresion"), 2, &["logistic_regression"]);
}

#[test]
fn wrong_sql() {
    let sheaf = sheaf();
    refused(&sheaf, &broken("SELECT id,", "SELEC id,"), 2, &["prepare"]);
    refused(&sheaf, &broken("flag, label FROM", "flag, lable FROM"), 2, &["lable"]);
    refused(&sheaf, &broken("FROM rows", "FROM rows JOIN orders USING (id)"), 2, &["orders", "rows"]);
    refused(&sheaf, &broken("FROM rows", "FROM rows LIMIT 10"), 2, &["LIMIT", "ORDER BY"]);
    refused(&sheaf, &broken("amount, age", "row_number() OVER () AS amount, age"), 2, &["row_number", "ORDER BY"]);
    refused(&sheaf, &broken("amount, age", "random() AS amount, age"), 2, &["random"]);
    refused(&sheaf, &broken("SELECT id, amount, age, city, flag, label FROM rows", "DROP TABLE rows"), 2, &["prepare"]);
}

#[test]
fn wrong_data() {
    let sheaf = sheaf();
    refused(&sheaf, &broken("FROM rows", "FROM rows WHERE amount < -1"), 2, &["no rows"]);
    refused(&sheaf, &broken("age, city", "CAST(NULL AS double) AS age, city"), 1, &["age"]);
    refused(&sheaf, &broken("FROM rows", "FROM rows WHERE label = 1"), 1, &["label", "1"]);
    refused(
        &sheaf,
        &broken("flag, label FROM", "flag, CASE WHEN id % 7 = 0 THEN NULL ELSE label END AS label FROM"),
        1,
        &["label", "null"],
    );
    refused(&sheaf, &broken("  - impute: {columns: age, strategy: mean}\n", ""), 1, &["age", "impute"]);
}

#[test]
fn broken_checks_and_limits() {
    let sheaf = sheaf();
    refused(&sheaf, &broken("split:", "checks:\n  - {not_null: [age]}\nsplit:"), 8, &["age", "null"]);
    refused(&sheaf, &broken("split:", "checks:\n  - {unique: [city]}\nsplit:"), 8, &["city"]);
    refused(&sheaf, &broken("split:", "checks:\n  - {range: {columns: amount, max: 10}}\nsplit:"), 8, &["amount"]);
    refused(&sheaf, &broken("split:", "checks:\n  - {row_count: {min: 5000}}\nsplit:"), 8, &["5000"]);
    refused(&sheaf, &broken("publish:", "evaluate: {limits: {test.auc: {min: 0.999}}}\npublish:"), 8, &["test.auc", "0.999"]);
}

#[test]
fn damaged_files() {
    let sheaf = sheaf();
    let file = sheaf.folder().join("job/data/part-0.parquet");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    refused(&sheaf, SOUND, 2, &["part-0.parquet"]);
    std::fs::write(&file, b"").unwrap();
    refused(&sheaf, SOUND, 2, &["part-0.parquet"]);
}

#[test]
fn a_file_changed_during_the_job() {
    let sheaf = sheaf();
    let file = sheaf.folder().join("job/data/part-0.parquet");
    let job = SOUND.replace("name: bad\n", "name: bad\nshard_rows: 64\n");
    sheaf.write("job/job.yaml", &job);
    let began = std::time::Instant::now();
    let progress = sheaf.folder().join("progress.txt");
    let mut command = sheaf.command(&["run", "job/job.yaml", "--paranoid"]);
    command.stderr(std::fs::File::create(&progress).unwrap());
    let child = command.spawn().unwrap();
    let said = || std::fs::read_to_string(&progress).unwrap();
    sheaf_tests::process::wait_for("the first shards", || said().contains("fit").then_some(()));
    let size = std::fs::metadata(&file).unwrap().len() as usize;
    let mut other = Rows::new(99);
    write_table(&file, &other.batch(size / 40), &[0]);
    let outcome = sheaf_tests::process::collect(child, began);
    assert_eq!(outcome.code, 1, "{}", said());
    assert!(said().contains("input changed") && said().contains("part-0.parquet"), "{}", said());
    assert!(!sheaf.folder().join(".sheaf/models").exists(), "something was published");
}

#[test]
fn nothing_outside_the_roots_is_read() {
    let sheaf = sheaf();
    std::os::unix::fs::symlink("/etc", sheaf.folder().join("job/link")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", sheaf.folder().join("job/data/linked.parquet")).unwrap();
    for path in [
        "/etc/passwd",
        "file:///etc/passwd",
        "../../../etc/passwd",
        "link/passwd",
        "data/linked.parquet",
        "http://169.254.169.254/",
        "s3://other/x.parquet",
        "data/..%2f..%2fetc/",
    ] {
        refused(&sheaf, &broken("rows: data/", &format!("rows: \"{path}\"")), 2, &["tables"]);
    }
    std::fs::remove_file(sheaf.folder().join("job/data/linked.parquet")).unwrap();
    for (path, remedy) in [("/etc/", "--allow-root DIR"), ("s3://other/", "SHEAF_S3")] {
        refused(&sheaf, &broken("rows: data/", &format!("rows: \"{path}\"")), 2, &["tables", remedy]);
    }
    for sql in [
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM \"file:///etc/passwd\"",
        "SELECT * FROM read_csv('/etc/passwd')",
        "COPY rows TO '/tmp/out.parquet'",
    ] {
        refused(
            &sheaf,
            &SOUND.replace("prepare: SELECT id, amount, age, city, flag, label FROM rows", &format!("prepare: |\n  {sql}")),
            2,
            &["prepare"],
        );
    }
}

/// Places outside the allowed folders, or that read as such in one way or another.
const OUTSIDE: [&str; 9] = [
    "/etc/passwd",
    "file:///etc/passwd",
    "../../../../../../etc/passwd",
    "link/passwd",
    "s3://other/",
    "data/..%2f..%2fetc/",
    "/etc/pass*",
    "http://169.254.169.254/",
    "link*/passwd",
];

#[test]
fn nothing_outside_the_roots_is_read_by_views_and_predictions() {
    let sheaf = sheaf();
    std::os::unix::fs::symlink("/etc", sheaf.folder().join("job/link")).unwrap();
    for path in OUTSIDE {
        let scored = format!("publish: {{model: bad}}\npredict: {{tables: {{rows: \"{path}\"}}, to: out/}}");
        refused(&sheaf, &broken("publish: {model: bad}", &scored), 2, &["job.yaml:12"]);
    }
    for sql in
        ["SELECT * FROM '/etc/passwd'", "SELECT * FROM \"http://169.254.169.254/\"", "SELECT * FROM read_parquet('/etc/x')"]
    {
        let view = format!("tables:\n  rows: data/\n  view:\n    sql: |\n      {sql}\nprepare");
        refused(&sheaf, &broken("tables: {rows: data/}\nprepare", &view), 2, &["job.yaml:6"]);
        let condition = format!("publish: {{model: bad}}\npredict:\n  to: out/\n  where: |\n    id IN ({sql})\n");
        refused(&sheaf, &broken("publish: {model: bad}", &condition), 2, &["job.yaml:14"]);
    }
    assert!(!sheaf.folder().join("job/out").exists());
}

#[test]
fn nothing_outside_the_roots_is_written() {
    let sheaf = sheaf();
    std::os::unix::fs::symlink("/etc", sheaf.folder().join("job/link")).unwrap();
    let sections = ["predict: {to", "write: {prepared", "write: {features"].into_iter().cycle();
    for (path, section) in OUTSIDE.into_iter().chain([".", "/", "link", "../beside"]).zip(sections) {
        refused(&sheaf, &format!("{SOUND}{section}: \"{path}\"}}\n"), 2, &["job.yaml:12"]);
    }
    // Nor what somebody else has put there.
    sheaf.write("job/mine/notes.txt", "keep me");
    refused(&sheaf, &format!("{SOUND}write: {{prepared: mine/}}\n"), 2, &["not replaced", "job.yaml:12"]);
    assert_eq!(std::fs::read_to_string(sheaf.folder().join("job/mine/notes.txt")).unwrap(), "keep me");
}
