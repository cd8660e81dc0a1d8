//! The fault matrix in its short form: real processes, each row with the undisturbed run's model and the
//! evidence that the fault hit what it should. Figures and long forms: docs/reliability.md.

use sheaf_tests::matrix::{Case, Figures, coordinator, network, requests, storage, workers};

fn short(row: fn(&Case) -> Figures) {
    for figure in row(&Case::short(env!("CARGO_BIN_EXE_sheaf-under-test"))) {
        println!("{figure}");
    }
}

#[test]
fn row_1_workers_killed_at_random() {
    short(workers::killed);
}

#[test]
fn row_3_a_coordinator_killed_in_every_phase() {
    short(coordinator::killed_in_every_phase);
}

#[test]
fn row_4_no_worker_left() {
    short(workers::none_left);
}

#[test]
fn row_5_a_worker_stopped_and_continued() {
    short(workers::stopped);
}

#[test]
fn row_8_a_worker_cut_off_and_silent_in_one_direction() {
    short(network::cut_and_silent);
}

#[test]
fn row_9_a_slow_and_lossy_network() {
    short(network::slow_and_lossy);
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
