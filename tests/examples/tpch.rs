//! TPC-H by hand, for benches: writes tables, runs the queries in one process of the plain query engine, and
//! checks answers that another program gave.
//!
//!     tpch generate SCALE FOLDER      the tables, FOLDER/TABLE/part-N.parquet
//!     tpch statements FOLDER          the texts of the queries, FOLDER/qNN.sql
//!     tpch run FOLDER [PARTITIONS]    the queries over FOLDER; one JSON object: seconds of each
//!     tpch time FOLDER STATEMENT      one statement over FOLDER; one JSON object: its seconds
//!     tpch check FOLDER ANSWERS       ANSWERS/qNN.parquet compared with the engine's own answers
//!     tpch specified FOLDER [qNN]...  the engine's answers over FOLDER, of scale factor 1, compared with the specification's
#![expect(clippy::unwrap_used, reason = "a program for benches: a panic is the failure")]

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use serde_json::{Value, json};
use sheaf_tests::queries::{Answer, Plain, Settings, disagreements, specified, statements, tables};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["generate", scale, folder] => tables::write(Path::new(folder), scale.parse().expect("SCALE is a number")),
        ["statements", folder] => write_statements(Path::new(folder)),
        ["time", folder, sql] => println!("{}", json!({ "queries": [timed(&open(folder, 2), "statement", sql)] })),
        ["specified", folder, ref names @ ..] => return judge(&open(folder, 2), names),
        ["run", folder] => run(&open(folder, 2)),
        ["run", folder, partitions] => run(&open(folder, partitions.parse().expect("PARTITIONS is a number"))),
        ["check", folder, answers] => return check(Path::new(folder), Path::new(answers)),
        _ => {
            eprintln!("usage: tpch generate SCALE FOLDER | statements FOLDER | run FOLDER [PARTITIONS] | time FOLDER STATEMENT");
            eprintln!("       tpch check FOLDER ANSWERS | specified FOLDER");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

fn write_statements(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    for statement in statements::standard() {
        std::fs::write(folder.join(format!("{}.sql", statement.name)), statement.sql).unwrap();
    }
}

fn open(folder: &str, partitions: usize) -> Plain {
    Plain::open(Path::new(folder), Settings { partitions, ..Settings::default() })
}

fn run(plain: &Plain) {
    let queries: Vec<Value> = statements::standard().iter().map(|s| timed(plain, &s.name, &s.sql)).collect();
    println!("{}", json!({ "queries": queries }));
}

fn timed(plain: &Plain, name: &str, sql: &str) -> Value {
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let rows = plain.rows(sql).unwrap_or_else(|e| panic!("{name}: {e}"));
    json!({
        "name": name,
        "wall_s": began.elapsed().as_secs_f64(),
        "cpu_s": cpu_seconds() - cpu,
        "rows": rows.iter().map(|batch| batch.num_rows()).sum::<usize>(),
    })
}

/// CPU time of this process so far, user and system; the kernel counts in hundredths of a second.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: f64 = fields[11..13].iter().map(|field| field.parse::<f64>().unwrap()).sum();
    ticks / 100.0
}

fn check(folder: &Path, answers: &Path) -> ExitCode {
    let plain = Plain::open(folder, Settings::default());
    let read = |name: &str| Answer::read_parquet(&answers.join(format!("{name}.parquet")));
    report(disagreements(&statements::standard(), |s| plain.answer(&s.sql), |s| read(&s.name)))
}

fn judge(plain: &Plain, names: &[&str]) -> ExitCode {
    let judge = |(at, name, sql): (usize, String, String)| {
        let judged = plain.answer(&sql).and_then(|answer| specified::compare(at, &answer));
        judged.err().map(|why| format!("{name}: {why}"))
    };
    let numbered = statements::standard().into_iter().zip(1..).map(|(s, number)| (number, s.name, s.sql));
    let wanted = |name: &str| names.is_empty() || names.contains(&name);
    report(numbered.filter(|(_, name, _)| wanted(name)).filter_map(judge).collect())
}

fn report(failures: Vec<String>) -> ExitCode {
    failures.iter().for_each(|failure| eprintln!("{failure}"));
    println!("{} answers are not the same", failures.len());
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
