//! `sheaf sql` on clusters of real processes, by hand and embedded: every output format, parameters, limits, errors with
//! their exit codes, and a Ctrl-C that stops the work. Beside it `sheaf data head` and `sheaf data schema`.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "sql_command/drain.rs"]
mod drain;

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};
use sheaf_tests::process::{Outcome, collect, finish, wait_for};
use sheaf_tests::{Cluster, Setup, Sheaf, write_parts};

const PROGRAM: &str = env!("CARGO_BIN_EXE_sheaf-under-test");

const CITIES: &str = "city;country;since\nbern;ch;1191-01-01\nlima;pe;1535-01-18\noslo;no;NA\n";

const JOIN: &str = "SELECT c.country, count(*) AS n, min(t.id) AS first FROM t JOIN c USING (city) GROUP BY c.country ORDER BY 1";

fn write_data(folder: &Path) {
    write_parts(&folder.join("data/parts"), 5, 3000);
    std::fs::write(folder.join("data/cities.csv"), CITIES).unwrap();
}

fn cluster() -> Cluster {
    let cluster = Cluster::start(Path::new(PROGRAM), Setup::workers(2));
    write_data(cluster.folder());
    cluster
}

#[track_caller]
fn exits(outcome: &Outcome, code: i32, part: &str) {
    assert_eq!(outcome.code, code, "{outcome:?}");
    assert!(outcome.stderr.contains(part), "`{part}` is not said:\n{outcome:?}");
}

/// Arguments of a question over both tables.
fn ask<'a>(sql: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let tables = ["--table", "t=data/parts/", "--table", "c=data/cities.csv", "--delimiter", ";", "--null", "NA"];
    [&["sql", sql], &tables[..], more].concat()
}

fn lines(outcome: &Outcome) -> Vec<Value> {
    outcome.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn read_parquet(path: &Path) -> Vec<RecordBatch> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap().build().unwrap();
    reader.map(Result::unwrap).collect()
}

#[test]
fn a_cluster_answers_in_every_format() {
    let cluster = cluster();
    let table = cluster.run(&ask(JOIN, &[])).succeeded();
    assert!(table.stdout.starts_with(" country      n   first\n--------"), "{table:?}");
    assert!(table.stdout.contains("\n3 rows in "), "{table:?}");
    assert!(table.stderr.is_empty(), "{table:?}");

    let rows = lines(&cluster.run(&ask(JOIN, &["-o", "json"])).succeeded());
    assert_eq!(rows.iter().map(|row| row["country"].clone()).collect::<Vec<_>>(), [json!("ch"), json!("no"), json!("pe")]);
    let as_csv = |row: &Value| format!("{},{},{}\n", row["country"].as_str().unwrap(), row["n"], row["first"]);
    let csv = cluster.run(&ask(JOIN, &["-o", "csv"])).succeeded().stdout;
    assert_eq!(csv, format!("country,n,first\n{}", rows.iter().map(as_csv).collect::<String>()));

    // Into a file by its ending, and into a pipe: the same bytes but for nothing.
    cluster.run(&ask(JOIN, &["--to", "out.parquet"])).succeeded();
    let written = read_parquet(&cluster.folder().join("out.parquet"));
    assert_eq!(written.iter().map(RecordBatch::num_rows).sum::<usize>(), 3);
    let mut command = cluster.command(&ask(JOIN, &["-o", "parquet"]));
    command.stdout(File::create(cluster.folder().join("piped.parquet")).unwrap());
    assert!(command.status().unwrap().success());
    assert_eq!(read_parquet(&cluster.folder().join("piped.parquet")), written);

    let plan = cluster.run(&ask(JOIN, &["--explain"])).succeeded().stdout;
    assert!(plan.contains("TableScan: t") && plan.contains("TableScan: c"), "{plan}");
    statements(&cluster);
    limits(&cluster);
    errors(&cluster);
    cluster.finish();
}

/// Statements from standard input, and parameters.
fn statements(cluster: &Cluster) {
    let mut command = cluster.command(&["sql", "--table", "t=data/parts/", "--set", "most=2", "-o", "csv"]);
    let began = Instant::now();
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"SELECT id FROM t\nWHERE id < $most -- few\nORDER BY id;\n").unwrap();
    assert_eq!(collect(child, began).succeeded().stdout, "id\n0\n1\n");
    let found = cluster.run(&ask(
        "SELECT '$x' AS a, $x AS b, $now > $day AS c",
        &["--set", "x=O'Neill", "--set", "day=2020-01-01", "-o", "json"],
    ));
    assert_eq!(lines(&found.succeeded()), [json!({"a": "$x", "b": "O'Neill", "c": true})]);
    let then = ask("SELECT now() = $now AS same, current_date AS day", &["--now", "2026-11-01T01:34:56+02:00", "-o", "json"]);
    assert_eq!(lines(&cluster.run(&then).succeeded()), [json!({"same": true, "day": "2026-10-31"})]);
}

fn limits(cluster: &Cluster) {
    let many = "SELECT id, city FROM t ORDER BY id";
    let shown = cluster.run(&ask(many, &["-q"])).succeeded().stdout;
    assert!(shown.ends_with("\n1,000 rows and more: use --limit, or -o csv for all\n"), "{}", &shown[shown.len() - 200..]);
    assert_eq!(shown.lines().count(), 1_003);
    let count = |more: &[&str]| cluster.run(&ask(many, more)).succeeded().stdout.lines().count();
    assert_eq!(count(&["-o", "csv"]), 3_001);
    assert_eq!(count(&["-o", "json", "--limit", "7"]), 7);
    assert_eq!(count(&["--limit", "0"]), 3_003);
    let over = cluster.run(&ask(many, &["--to", "much.csv", "--max-bytes", "10KiB"]));
    exits(&over, 8, "the answer has more than 10.0 KiB: take fewer columns or rows, or give a larger --max-bytes");
    assert!(!cluster.folder().join("much.csv").exists());
    // Whoever stops reading is no error.
    let mut child = cluster.command(&ask(many, &["-o", "csv"])).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}

fn errors(cluster: &Cluster) {
    let refused = |sql: &str, code: i32, part: &str| exits(&cluster.run(&ask(sql, &[])), code, part);
    refused("SELECT nothing FROM t", 2, "sql: column `nothing` not found");
    refused("SELECT * FROM u", 2, "sql: table `u` not found\n  hint: known tables: t, c");
    refused("DROP TABLE t", 2, "sql: DROP is not allowed");
    refused("SELECT random() AS x FROM t", 2, "random");
    refused("SELECT id, CAST(city AS BIGINT) AS x FROM t", 1, "query: ");
    let outside = cluster.run(&["sql", "SELECT 1 AS x", "--table", "p=/etc/passwd"]);
    exits(&outside, 2, "the coordinator and its workers have to be started with `--allow`");
    exits(&cluster.run(&ask("SELECT 1 AS x", &["--to", "none/out.csv"])), 3, "--to none/out.csv: ");
    exits(&cluster.run(&ask("SELECT 1 AS x", &["--to", "out.txt"])), 2, "says no format");
    exits(&cluster.run(&ask("SELECT 1 AS x", &["--set", "now=1"])), 2, "--set now: `now` is built in");
    exits(&cluster.run(&ask("SELECT 1 AS x", &["--now", "yesterday"])), 2, "is no time: write it as 2026-11-01T06:00:00Z");
    let changed = "SELECT count(*) AS n FROM t WHERE id >= 0";
    assert_eq!(lines(&cluster.run(&ask(changed, &["-o", "json"])).succeeded()), [json!({"n": 3000})]);
}

#[test]
fn an_embedded_cluster_answers_the_same() {
    let sheaf = Sheaf::new(PROGRAM);
    write_data(sheaf.folder());
    let embedded = sheaf.run(&ask(JOIN, &["--workers", "2", "-o", "csv", "--pid-file", "pids"])).succeeded();
    assert!(embedded.stdout.starts_with("country,n,first\nch,") && embedded.stdout.lines().count() == 4, "{embedded:?}");
    for pid in std::fs::read_to_string(sheaf.folder().join("pids")).unwrap().lines() {
        assert!(!sheaf_tests::process::alive(pid.parse().unwrap()), "worker {pid} is left");
    }
    let mut command = sheaf.command(&ask(JOIN, &[]));
    // No context of whoever runs the tests.
    command.env("SHEAF_CONFIG_DIR", sheaf.folder().join("none"));
    let none = finish(command);
    exits(&none, 2, "or --workers N for a cluster of this command's own");
}

/// Processor time of a process so far, in clock ticks.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn ctrl_c_stops_the_work() {
    let mut cluster = cluster();
    // Work that comes in small steps: an engine can stop between two batches, not within one.
    let step = "SELECT sum(levenshtein(repeat(city, 30), repeat(part, 30))) AS n FROM t";
    let endless = vec![step; 90].join(" UNION ALL ");
    let nodes = [cluster.coordinator().pid(), cluster.worker(1).pid(), cluster.worker(2).pid()];
    let used = || nodes.iter().map(|pid| ticks(*pid)).sum::<u64>();
    let (before, began) = (used(), Instant::now());
    let child = cluster.command(&["sql", &endless, "--table", "t=data/parts/"]);
    let child = { child }.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("the query to run", || (used() > before + 50).then_some(()));
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    exits(&collect(child, began), 130, "interrupted; the query was cancelled");
    // A tenth of a second in which nobody computes.
    wait_for("the work to stop", || {
        let before = used();
        std::thread::sleep(Duration::from_millis(100));
        (used() <= before + 2).then_some(())
    });
    cluster.finish();
}

const JOB: &str = "version: 1
name: looked-at
params: {most: 3}
tables:
  rows: data/parts/
  cities: {path: data/cities.csv, csv: {delimiter: \";\", null: NA}}
prepare: SELECT id, city, amount > 10 AS high FROM rows WHERE id < $most
columns: {target: high}
train: {algorithm: logistic_regression}
";

#[test]
fn data_is_looked_at_without_a_cluster() {
    let sheaf = Sheaf::new(PROGRAM);
    write_data(sheaf.folder());
    sheaf.write("job.yaml", JOB);
    let head = sheaf.run(&["data", "head", "data/cities.csv", "--delimiter", ";", "--null", "NA"]).succeeded().stdout;
    let expected = concat!(
        " city   country   since\n",
        "-----------------------------\n",
        " bern   ch        1191-01-01\n",
        " lima   pe        1535-01-18\n",
        " oslo   no        NULL\n",
        "3 rows in "
    );
    assert!(head.starts_with(expected), "{head}");
    let rows = lines(&sheaf.run(&["data", "head", "data/parts", "-n", "2", "-o", "json"]).succeeded());
    assert_eq!(rows.iter().map(|row| row["id"].clone()).collect::<Vec<_>>(), [json!(0), json!(1)]);
    let prepared =
        sheaf.run(&["data", "head", "job.yaml", "--after", "prepare", "--set", "most=5", "-o", "csv"]).succeeded().stdout;
    assert!(prepared.starts_with("id,city,high\n0,") && prepared.lines().count() == 6, "{prepared}");
    let table = sheaf.run(&["data", "head", "job.yaml", "--table", "cities", "-o", "csv"]).succeeded().stdout;
    assert_eq!(table, "city,country,since\nbern,ch,1191-01-01\nlima,pe,1535-01-18\noslo,no,\n");

    let schema = sheaf.run(&["data", "schema", "data/parts/*.parquet", "-o", "json"]).succeeded().json();
    assert_eq!((schema["files"].clone(), schema["rows"].clone()), (json!(7), json!(3000)));
    assert_eq!(schema["columns"][0], json!({"name": "id", "type": "int64", "nulls": 0, "readable": true}));
    assert!(schema["columns"][2]["nulls"].as_u64().unwrap() > 0, "{schema}");
    let schema = sheaf.run(&["data", "schema", "job.yaml", "--table", "cities"]).succeeded().stdout;
    assert!(schema.contains("delimited text, 1 file, 3 rows, ") && schema.contains("\n since     date       1\n"), "{schema}");
}

const FEATURES: &str = "version: 1
name: seen
shard_rows: 64
tables: {rows: data/parts/}
prepare: SELECT id, amount, age, city, label FROM rows
columns: {target: label, key: id}
split: {by: random, test: 0.25}
features:
  - impute: {columns: age, strategy: mean}
  - standardize: amount
  - one_hot: city
train: {algorithm: logistic_regression}
write: {features: out/matrix/}
";

/// What `data head --after features` shows is what `write.features` writes, where steps are fitted over all rows.
#[test]
fn features_are_looked_at_as_they_are_written() {
    let sheaf = Sheaf::new(PROGRAM);
    write_data(sheaf.folder());
    sheaf.write("seen.yaml", FEATURES);
    sheaf.run(&["run", "seen.yaml", "--workers", "1", "--quiet"]).succeeded();
    let read = ["sql", "SELECT * FROM m ORDER BY id", "--table", "m=out/matrix/", "--workers", "1", "-o", "json", "-q"];
    let written = lines(&sheaf.run(&read).succeeded());
    let all = sheaf.run(&["data", "head", "seen.yaml", "--after", "features", "-n", "3000", "-o", "json"]).succeeded();
    assert!(all.stderr.starts_with("steps fitted over all 2,2"), "{}", all.stderr);
    let mut seen = lines(&all);
    seen.sort_by_key(|row| row["id"].as_i64());
    assert_eq!(seen.len(), 3000);
    assert_eq!(seen, written);

    let few = ["data", "head", "seen.yaml", "--after", "features", "-n", "2", "--fit-rows", "500", "-o", "csv"];
    let few = sheaf.run(&few).succeeded();
    assert!(few.stdout.starts_with("id,label,amount,age,city,segment\n") && few.stdout.lines().count() == 3, "{few:?}");
    assert!(few.stderr.contains("training rows among the first 500 prepared rows (--fit-rows); the job takes all"), "{few:?}");

    let columns = |after: &str| {
        let schema = sheaf.run(&["data", "schema", "seen.yaml", "--after", after, "-o", "json"]).succeeded().json();
        let column = |c: &Value| ["name", "type", "role"].map(|key| c[key].as_str().unwrap().to_owned()).join(" ");
        (schema["columns"].as_array().unwrap().iter().map(column).collect::<Vec<_>>(), schema)
    };
    let (prepared, _) = columns("prepare");
    let expected = ["id int64 key", "amount float64 feature", "age float64 feature", "city utf8 feature", "label int64 target"];
    assert_eq!(prepared, expected);
    let (features, schema) = columns("features");
    let expected = [
        "id int64 key",
        "label int64 target",
        "amount float64 feature",
        "age float64 feature",
        "city utf8 feature",
        "segment utf8 segment",
    ];
    assert_eq!(features, expected);
    assert_eq!(schema["columns"][4]["encoding"], "one-hot, 5 slots");
    assert_eq!((&schema["fitted_over"]["rows"], &schema["fitted_over"]["more"]), (&json!(3000), &json!(false)));
    let table = sheaf.run(&["data", "schema", "seen.yaml", "--after", "features"]).succeeded().stdout;
    assert!(table.starts_with(" column    type      role      encoding\n"), "{table}");
}

#[test]
fn looks_at_bad_input_say_what_is_wrong() {
    let sheaf = Sheaf::new(PROGRAM);
    write_data(sheaf.folder());
    sheaf.write("job.yaml", JOB);
    sheaf.write("cut.parquet", "PAR1 and no more");
    sheaf.write("ragged.csv", "a,b\n1,2\n3\n");
    sheaf.write("wrong.yaml", &JOB.replace("id, city,", "id, town,"));
    std::os::unix::fs::symlink("/etc", sheaf.folder().join("data/parts/out")).unwrap();
    let refused = |arguments: &[&str], code: i32, part: &str| exits(&sheaf.run(&[&["data"], arguments].concat()), code, part);
    refused(&["head", "nowhere"], 2, "nothing found at ");
    refused(&["head", "cut.parquet"], 1, "not a readable Parquet file");
    refused(&["head", "ragged.csv"], 1, "not readable as delimited text");
    refused(&["head", "data/parts"], 2, "a symlink leads out of the allowed folders");
    refused(&["schema", "data/cities.csv", "--delimiter", ";;"], 2, "is no delimiter");
    refused(&["head", "job.yaml"], 2, "the job has several tables: give --table NAME or --after prepare (rows, cities)");
    refused(&["head", "job.yaml", "--table", "towns"], 2, "the job has no table `towns`; it has rows, cities");
    refused(&["schema", "job.yaml", "--table", "cities", "--null", "x"], 2, "a job file says itself how its text is written");
    refused(&["head", "data/parts", "--after", "prepare"], 2, "--after is for job files");
    refused(&["schema", "data/parts", "--after", "prepare"], 2, "--after is for job files");
    refused(&["head", "data/parts", "--after", "features"], 2, "--after is for job files");
    refused(&["head", "job.yaml", "--after", "train"], 2, "invalid value 'train'");
    refused(&["head", "job.yaml", "--after", "features", "--table", "rows"], 2, "cannot be used with");
    refused(&["head", "job.yaml", "--after", "prepare", "--fit-rows", "9"], 2, "--fit-rows is for --after features");
    refused(&["head", "job.yaml", "--fit-rows", "9"], 2, "--after");
    refused(&["head", "missing.yaml"], 3, "read job file missing.yaml");
    std::fs::remove_file(sheaf.folder().join("data/parts/out")).unwrap();
    refused(&["head", "wrong.yaml", "--after", "prepare"], 2, "column `town` not found");
    refused(&["head", "wrong.yaml", "--after", "prepare"], 2, "wrong.yaml:7");
    refused(&["head", "job.yaml", "--after", "features"], 2, "column `city` is utf8, which logistic_regression cannot take");
    sheaf.write("steps.yaml", &FEATURES.replace("standardize: amount", "standardize: amonut"));
    refused(&["head", "steps.yaml", "--after", "features"], 2, "did you mean `amount`?");
    refused(&["schema", "steps.yaml", "--after", "features"], 2, "steps.yaml:");
    sheaf.run(&["data", "schema", "steps.yaml", "--after", "prepare"]).succeeded();
    sheaf.write("roles.yaml", &FEATURES.replace("target: label", "target: lable"));
    refused(&["schema", "roles.yaml", "--after", "prepare"], 2, "did you mean `label`?");
    sheaf.write("model.yaml", "version: 1\nname: scored\nmodel: seen@1\ntables: {rows: data/parts/}\npredict: {to: out/}\n");
    refused(&["head", "model.yaml", "--after", "features"], 2, "the features of this job are those of its model");
}
