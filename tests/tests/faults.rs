//! The fault matrix in its short form: real processes, each row with the undisturbed run's model and the
//! evidence that the fault hit what it should. Figures and long forms: docs/reliability.md.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Instant;

use sheaf_tests::matrix::{Case, Figures, coordinator, network, requests, storage, workers};

type Row = fn(&Case) -> Figures;

fn short(row: Row) {
    let began = Instant::now();
    let figures = row(&Case::short(env!("CARGO_BIN_EXE_sheaf-under-test")));
    figures.iter().for_each(|figure| println!("{figure}"));
    println!("{}: {:.1} s", std::thread::current().name().unwrap_or_default(), began.elapsed().as_secs_f64());
}

/// Runs rows at the same time: for those that wait longer than they compute.
fn together(rows: &[(&str, Row)]) {
    std::thread::scope(|scope| {
        let spawn = |(name, row): &(&str, Row)| {
            let (builder, row) = (std::thread::Builder::new().name((*name).to_owned()), *row);
            builder.spawn_scoped(scope, move || short(row)).unwrap()
        };
        let running: Vec<_> = rows.iter().map(spawn).collect();
        let failed: Vec<_> = running.into_iter().filter_map(|row| row.join().err()).collect();
        assert!(failed.is_empty(), "{} of {} rows failed", failed.len(), rows.len());
    });
}

#[test]
fn row_1_workers_killed_at_random() {
    short(workers::killed);
}

#[test]
fn row_3_a_coordinator_killed_in_every_phase() {
    short(coordinator::killed_in_every_phase);
}

/// A deadline, keep-alives that nobody answers, and delays.
#[test]
fn row_4_no_worker_left_row_8_a_worker_cut_off_and_silent_row_9_a_slow_and_lossy_network() {
    together(&[
        ("row 4, no worker left", workers::none_left),
        ("row 8, a worker cut off and silent in one direction", network::cut_and_silent),
        ("row 9, a slow and lossy network", network::slow_and_lossy),
    ]);
}

#[test]
fn row_5_a_worker_stopped_and_continued() {
    short(workers::stopped);
}

#[test]
fn row_10_a_worker_asked_to_leave() {
    short(workers::asked_to_leave);
}

#[test]
fn row_12_no_room_to_spill() {
    short(storage::spill_without_room);
}

#[test]
fn row_13_no_room_for_the_log() {
    short(coordinator::log_without_room);
}

#[test]
fn row_15_a_crash_around_a_checkpoint() {
    short(coordinator::around_a_checkpoint);
}

#[test]
fn row_17_a_straggler() {
    short(workers::straggler);
}

#[test]
fn row_18_a_submit_repeated() {
    short(requests::repeated_submit);
}

#[test]
fn row_19_a_shard_that_ends_its_workers() {
    short(storage::poison);
}

#[test]
fn growth_a_joiner_in_training() {
    short(workers::joiner);
}

#[test]
fn many_jobs_at_once() {
    short(requests::many_jobs);
}

#[test]
fn any_number_of_workers_by_hand() {
    short(workers::any_number);
}
