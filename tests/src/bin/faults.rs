//! The fault matrix in its long form, with figures: `cargo run -p sheaf-tests --bin faults -- row1 --minutes 10`.
//! Asked for anything but a row it is the program under test itself, so that nothing else need be built.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use sheaf_tests::matrix::{Case, Figures, coordinator, network, prepare, requests, storage, workers};

type Row = (&'static str, &'static str, fn(&Case) -> Figures);

/// Rows by name. No name may be a command of `sheaf`: this program starts itself as `sheaf jobs …` and the like.
const ROWS: &[Row] = &[
    ("row1", "kill -9 a random of four workers every 2 s, started again after 1 s (--minutes)", workers::killed),
    ("row3", "kill -9 the coordinator in every phase", coordinator::killed_in_every_phase),
    ("row4", "all workers die, none returns", workers::none_left),
    ("row5", "SIGSTOP a worker for 30 s, then SIGCONT", workers::stopped),
    ("row8", "a worker cut off, and silent in one direction", network::cut_and_silent),
    ("row9", "delay of 25 to 75 ms, 5 % and 20 % loss", network::slow_and_lossy),
    ("row10", "SIGTERM a worker", workers::asked_to_leave),
    ("row12", "disk full in a worker's spill folder", storage::spill_without_room),
    ("row13", "disk full under the coordinator's log", coordinator::log_without_room),
    ("row15", "crashes around the upload of a checkpoint", coordinator::around_a_checkpoint),
    ("row17", "a straggler at a tenth of its speed", workers::straggler),
    ("row18", "the same submit 1,000 times", requests::repeated_submit),
    ("row19", "a shard that ends its workers", storage::poison),
    ("growth", "a worker joins in training", workers::joiner),
    ("many", "six jobs in two namespaces", requests::many_jobs),
    ("exchange", "kill -9 a worker before and after it has written what others read", prepare::killed_around_exchange),
    ("prepare-coordinator", "kill -9 the coordinator while rows are prepared", prepare::coordinator_killed_in_prepare),
    ("prepare-kills", "kill -9 a worker every 10 s while rows are prepared", prepare::killed_while_preparing),
    ("cancel", "a query that counts for hours is cancelled", prepare::cancelled),
    ("larger", "a join of four times the memory of workers in control groups", prepare::larger_than_memory),
    ("numbers", "1, 2, 3 and 5 workers by hand", workers::any_number),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let first = arguments.first().map_or("", String::as_str);
    match first {
        "" | "rows" => list(),
        "all" => ROWS.iter().for_each(|row| run(row, minutes(&arguments))),
        _ => match ROWS.iter().find(|(name, _, _)| *name == first) {
            Some(row) => run(row, minutes(&arguments)),
            None => return sheaf_client::main(),
        },
    }
    ExitCode::SUCCESS
}

fn list() {
    println!("usage: faults ROW|all [--minutes N] [--short]\n");
    for (name, what, _) in ROWS {
        println!("  {name:8} {what}");
    }
}

/// The least time of the rows that go on for long; `None` is the short form.
fn minutes(arguments: &[String]) -> Option<f64> {
    if arguments.iter().any(|argument| argument == "--short") {
        return None;
    }
    let at = arguments.iter().position(|argument| argument == "--minutes");
    let given = at.and_then(|at| arguments.get(at + 1)).map(|text| text.parse().expect("--minutes takes a number"));
    Some(given.unwrap_or(10.0))
}

fn run((name, what, row): &Row, minutes: Option<f64>) {
    println!("{name}: {what}");
    let program = std::env::current_exe().expect("this program has a path");
    let case = Case { program, long: minutes.map(|minutes| Duration::from_secs_f64(minutes * 60.0)) };
    let began = Instant::now();
    for figure in row(&case) {
        println!("  {figure}");
    }
    println!("  held, {:.0} s", began.elapsed().as_secs_f64());
}
