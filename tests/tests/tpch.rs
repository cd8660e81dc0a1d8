//! Queries: the 22 of TPC-H and a list of everything else that a plan can take apart wrongly, each compared with
//! one process of the plain query engine over the same files.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use sheaf_tests::cluster::LOOK;
use sheaf_tests::queries::{Answer, Plain, Settings, Statement, disagreements, plain, readings, statements, tables};
use sheaf_tests::{Cluster, Setup};

/// Tables of a scale factor, and the odd ones.
fn write_tables(folder: &Path, scale: f64) {
    let began = Instant::now();
    tables::write(folder, scale);
    readings::write(folder);
    println!("tables of scale factor {scale}: {:.1} s", began.elapsed().as_secs_f64());
}

fn all() -> Vec<Statement> {
    [statements::standard(), statements::more()].concat()
}

/// If this fails a statement has more than one answer, or the comparison is too strict: then no gate means anything.
#[test]
fn the_reference_does_not_depend_on_its_settings() {
    let folder = tempfile::tempdir().unwrap();
    let scale = std::env::var("TPCH_SCALE").map_or(0.01, |text| text.parse().unwrap());
    write_tables(folder.path(), scale);
    let one = Plain::open(folder.path(), Settings::default());
    let other = Plain::open(folder.path(), Settings { partitions: 7, batch_rows: 1000, hash_joins: false });
    let began = Instant::now();
    let failures = disagreements(&all(), |s| one.answer(&s.sql), |s| other.answer(&s.sql));
    println!("{} statements: {:.1} s", all().len(), began.elapsed().as_secs_f64());
    assert!(failures.is_empty(), "{} statements:\n\n{}", failures.len(), failures.join("\n\n"));
}

#[test]
fn a_cluster_answers_tpch_as_one_process_does() {
    gate(&statements::standard(), 0.1);
}

#[test]
fn a_cluster_answers_every_kind_of_query_as_one_process_does() {
    gate(&statements::more(), 0.01);
}

/// Asks a coordinator with two workers, with 1 and with 16 partitions, over tables of a scale factor.
fn gate(statements: &[Statement], scale: f64) {
    let setup = Setup { memory: "512MiB".to_owned(), ..Setup::workers(2) };
    let cluster = Cluster::start(Path::new(env!("CARGO_BIN_EXE_sheaf-under-test")), setup);
    let folder = cluster.folder().join("data");
    write_tables(&folder, scale);
    let plain = Plain::open(&folder, Settings::default());
    let expected: BTreeMap<&str, Result<Answer, String>> =
        statements.iter().map(|statement| (statement.name.as_str(), plain.answer(&statement.sql))).collect();
    let mut failures = Vec::new();
    for partitions in ["1", "16"] {
        let began = Instant::now();
        let asked = |statement: &Statement| ask(&cluster, &folder, statement, partitions);
        let found = disagreements(statements, |statement| expected[statement.name.as_str()].clone(), asked);
        failures.extend(found.into_iter().map(|failure| format!("{partitions} partitions, {failure}")));
        println!("{} statements with {partitions} partitions: {:.1} s", statements.len(), began.elapsed().as_secs_f64());
    }
    assert!(failures.is_empty(), "{} statements:\n\n{}", failures.len(), failures.join("\n\n"));
    cluster.finish();
}

/// The cluster's answer, as `sheaf sql` writes it.
fn ask(cluster: &Cluster, data: &Path, statement: &Statement, partitions: &str) -> Result<Answer, String> {
    let file: PathBuf = cluster.folder().join(format!("{}-{partitions}.parquet", statement.name));
    let tables = plain::names(data).into_iter().filter(|table| statement.sql.contains(table.as_str()));
    let tables: Vec<String> = tables.map(|table| format!("{table}={}", data.join(&table).display())).collect();
    let mut arguments = vec!["sql", &statement.sql, "--target-partitions", partitions, "-o", "parquet", "--quiet", "--to"];
    let path = file.display().to_string();
    arguments.push(&path);
    arguments.extend(tables.iter().flat_map(|table| ["--table", table]));
    match run(cluster, &arguments)? {
        (Some(0), _) => Answer::read_parquet(&file),
        (code, said) => Err(format!("exit code {code:?}: {}", said.trim())),
    }
}

/// The longest that one statement may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs a command to its end: its exit code and what it said. One that hangs is ended and is an error.
fn run(cluster: &Cluster, arguments: &[&str]) -> Result<(Option<i32>, String), String> {
    let said = cluster.folder().join("said.txt");
    let mut command = cluster.command(arguments);
    command.stdout(Stdio::null()).stderr(File::create(&said).unwrap());
    let (mut child, began) = (command.spawn().unwrap(), Instant::now());
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > LIMIT {
            child.kill().unwrap();
            child.wait().unwrap();
            let log = cluster.log();
            let panics: Vec<&str> = log.lines().skip_while(|line| !line.contains("panicked at")).take(3).collect();
            return Err(format!("it hangs: ended after {LIMIT:?}; the coordinator's panics: {panics:?}"));
        }
        std::thread::sleep(LOOK);
    }
    Ok((child.wait().unwrap().code(), std::fs::read_to_string(&said).unwrap()))
}
