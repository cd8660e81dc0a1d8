//! Verdicts on blocks, and what is owed after losses, failures and second leases.

#![expect(clippy::single_range_in_vec_init, reason = "lists of ranges are meant")]

use super::*;

const W1: WorkerId = WorkerId(1);
const W2: WorkerId = WorkerId(2);
const NOW: Millis = Millis(0);

fn failed(times: u32) -> Option<Failed> {
    Some(Failed { times, missing: true })
}

fn step() -> (StepRun, Token, Token) {
    let mut tokens = Tokens::new(Term(3));
    let (old, new) = (tokens.mint(), tokens.mint());
    let mut run = StepRun::new(Step(0), 8, NOW);
    run.grant(W1, old, vec![0..4], NOW);
    run.grant(W2, old, vec![4..8], NOW);
    (run, old, new)
}

fn judge(run: &mut StepRun, worker: WorkerId, token: Token, level: u32, index: u32, digest: u64) -> Verdict {
    run.judge((worker, token), Term(3), Block { level, index }, digest, NOW)
}

#[test]
fn blocks_of_a_lease_are_taken_once() {
    let (mut run, token, _) = step();
    assert_eq!(judge(&mut run, W1, token, 2, 0, 7), Verdict::Accept);
    assert_eq!(run.owed(W1), 0);
    assert_eq!(judge(&mut run, W1, token, 2, 0, 7), Verdict::Refuse(Refusal::Repeated));
    assert_eq!(judge(&mut run, W1, token, 1, 0, 7), Verdict::Refuse(Refusal::Covered));
    assert_eq!(judge(&mut run, W1, token, 2, 0, 8), Verdict::Nondeterministic(0..4));
    assert_eq!(judge(&mut run, W1, token, 2, 1, 8), Verdict::Refuse(Refusal::NotLeased));
    assert_eq!(judge(&mut run, W2, token, 9, 0, 8), Verdict::Refuse(Refusal::NoSuchBlock { shards: 8 }));
    let stale = Token { term: Term(2), ..token };
    assert_eq!(judge(&mut run, W2, stale, 2, 1, 8), Verdict::Refuse(Refusal::OtherTerm { current: Term(3) }));
    assert_eq!(judge(&mut run, W2, token, 2, 1, 8), Verdict::Accept);
    assert!(run.is_complete());
}

#[test]
fn a_revoked_lease_leaves_what_is_not_in() {
    let (mut run, token, newer) = step();
    assert_eq!(judge(&mut run, W1, token, 0, 1, 7), Verdict::Accept);
    let all = vec![0..1, 2..4];
    assert_eq!(run.revoke(W1), Lost { owed: all.clone(), missing: all });
    run.grant(W2, newer, vec![0..1, 2..4], NOW);
    assert_eq!(judge(&mut run, W1, token, 1, 1, 7), Verdict::Refuse(Refusal::NotLeased));
    assert_eq!(judge(&mut run, W2, token, 1, 1, 7), Verdict::Refuse(Refusal::NotLeased));
    assert_eq!(judge(&mut run, W2, newer, 1, 1, 7), Verdict::Accept);
    assert_eq!(run.owed(W2), 5);
}

#[test]
fn a_failed_shard_is_owed_no_longer() {
    let (mut run, token, newer) = step();
    assert_eq!(run.fail(W1, token, 4, NOW), None);
    assert_eq!(run.fail(W1, newer, 1, NOW), None);
    assert_eq!(run.fail(W1, token, 1, NOW), failed(1));
    assert_eq!(run.fail(W1, token, 1, NOW), None);
    assert!(run.failed_on(1, W1) && !run.failed_on(1, W2));
    assert_eq!(judge(&mut run, W1, token, 1, 0, 7), Verdict::Refuse(Refusal::NotLeased));
    assert_eq!(judge(&mut run, W1, token, 0, 0, 7), Verdict::Accept);
    assert_eq!(run.owed(W1), 2);
    run.grant(W2, newer, vec![1..2], NOW);
    assert_eq!(run.fail(W2, newer, 1, NOW), failed(2));
    run.grant(W1, newer, vec![1..2], NOW);
    assert_eq!(judge(&mut run, W1, newer, 0, 1, 7), Verdict::Accept);
    assert!(!run.failed_on(1, W1));
}

#[test]
fn a_tangled_block_leaves_what_is_not_in_to_be_ordered_again() {
    let (mut run, token, newer) = step();
    assert_eq!(judge(&mut run, W1, token, 0, 1, 7), Verdict::Accept);
    assert_eq!(judge(&mut run, W2, token, 2, 0, 7), Verdict::Refuse(Refusal::Covered));
    assert_eq!(judge(&mut run, W1, token, 2, 0, 7), Verdict::Tangled(vec![0..1, 2..4]));
    assert_eq!(run.owed(W1), 0);
    assert_eq!(judge(&mut run, W1, token, 2, 0, 7), Verdict::Refuse(Refusal::Covered));
    run.grant(W1, newer, vec![0..1, 2..4], NOW);
    assert_eq!(judge(&mut run, W1, newer, 0, 0, 7), Verdict::Accept);
    assert_eq!(judge(&mut run, W1, newer, 1, 1, 7), Verdict::Accept);
}

/// W2 helps with shards 1 … 3 of W1.
fn doubled() -> (StepRun, Token, Token) {
    let (mut run, token, newer) = step();
    run.double(W2, newer, &[(W1, 1..3)], NOW);
    assert_eq!((run.owed(W1), run.owed(W2)), (4, 6));
    assert_eq!(run.sole(W1), vec![0..1, 3..4]);
    (run, token, newer)
}

#[test]
fn of_two_copies_the_first_counts() {
    let (mut run, token, newer) = doubled();
    assert_eq!(judge(&mut run, W2, newer, 0, 1, 7), Verdict::Accept);
    assert_eq!((run.owed(W1), run.owed(W2)), (3, 5));
    assert_eq!(judge(&mut run, W1, token, 0, 1, 7), Verdict::Refuse(Refusal::Repeated));
    assert_eq!(judge(&mut run, W1, token, 0, 1, 8), Verdict::Nondeterministic(1..2));
    assert_eq!(judge(&mut run, W1, token, 0, 2, 7), Verdict::Accept);
    assert_eq!((run.owed(W1), run.owed(W2)), (2, 4));
    assert_eq!(judge(&mut run, W2, newer, 0, 2, 7), Verdict::Refuse(Refusal::Repeated));
}

#[test]
fn what_overlaps_a_copy_is_owed_by_the_other() {
    let (mut run, token, newer) = doubled();
    assert_eq!(judge(&mut run, W2, newer, 0, 1, 7), Verdict::Accept);
    // Shard 2 is still owed by the helper; 0 and 3 by nobody.
    assert_eq!(judge(&mut run, W1, token, 2, 0, 7), Verdict::Tangled(vec![0..1, 3..4]));
    assert_eq!((run.owed(W1), run.owed(W2)), (0, 5));
    assert_eq!(run.revoke(W2), Lost { owed: vec![2..3, 4..8], missing: vec![2..3, 4..8] });
}

#[test]
fn a_loss_leaves_what_the_other_owes() {
    let (mut run, token, newer) = doubled();
    assert_eq!(run.fail(W2, newer, 1, NOW), Some(Failed { times: 1, missing: false }));
    assert_eq!(run.revoke(W1), Lost { owed: vec![0..4], missing: vec![0..2, 3..4] });
    assert_eq!(judge(&mut run, W1, token, 0, 2, 7), Verdict::Refuse(Refusal::NotLeased));
    assert_eq!(judge(&mut run, W2, newer, 0, 2, 7), Verdict::Accept);
    assert_eq!(run.owed(W2), 4);
}

#[test]
fn what_is_given_back_is_owed_no_longer() {
    let (mut run, token, _) = step();
    assert_eq!(judge(&mut run, W1, token, 0, 1, 7), Verdict::Accept);
    assert_eq!(run.give_back(W1, token, &[0..3, 6..7, 7..99], NOW), vec![0..1, 2..3]);
    assert_eq!(run.give_back(W1, token, &[0..3], NOW), Vec::<Range<u32>>::new());
    assert_eq!(run.owed(W1), 1);
}
