//! What is lost while rows are prepared by SQL, in the short form: workers before and behind what they exchange, the
//! coordinator, a worker again and again; a query that is cancelled; a join of more than the workers' memory. Long
//! forms: `cargo run -p sheaf-tests --bin faults -- rows`.

use std::time::Instant;

use sheaf_tests::matrix::{Case, Figures, prepare};

fn short(row: fn(&Case) -> Figures) {
    let began = Instant::now();
    let figures = row(&Case::short(env!("CARGO_BIN_EXE_sheaf-under-test")));
    figures.iter().for_each(|figure| println!("{figure}"));
    println!("{}: {:.1} s", std::thread::current().name().unwrap_or_default(), began.elapsed().as_secs_f64());
}

#[test]
fn a_worker_killed_before_and_after_it_has_written_what_others_read() {
    short(prepare::killed_around_exchange);
}

#[test]
fn a_coordinator_killed_while_rows_are_prepared() {
    short(prepare::coordinator_killed_in_prepare);
}

#[test]
fn a_worker_killed_again_and_again_while_rows_are_prepared() {
    short(prepare::killed_while_preparing);
}

#[test]
fn a_query_that_is_cancelled_stops_and_gives_its_memory_back() {
    short(prepare::cancelled);
}

#[test]
fn a_join_of_more_than_the_workers_memory() {
    short(prepare::larger_than_memory);
}
