//! The replicated state under any sequence of entries: it never panics, replicas agree, a snapshot at any
//! point followed by the rest gives the same as applying everything, and what was promised stays so.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use sheaf_cluster::durable::{ENDED_FOR, ENDED_LIMIT, INLINE_LIMIT};
use sheaf_cluster::{Durable, Entry, FailKind, JobId, JobState, Millis, Outcome, Pointer, Reply, Term};

fn job() -> impl Strategy<Value = JobId> {
    (0_u8..4).prop_map(|n| JobId(format!("job{n}")))
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        Just(Outcome::Succeeded { result: "r".to_owned() }),
        Just(Outcome::Failed { kind: FailKind::Limit, message: "auc".to_owned(), result: Some("r".to_owned()) }),
        Just(Outcome::Cancelled),
    ]
}

fn pointer() -> impl Strategy<Value = Pointer> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..4).prop_map(Pointer::Inline),
        Just(Pointer::Inline(vec![0; INLINE_LIMIT + 1])),
        any::<u64>().prop_map(|bytes| Pointer::Object { hash: "h".to_owned(), bytes }),
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    let now = || (0_u64..100).prop_map(Millis);
    let key = || prop::option::of((0_u8..3).prop_map(|n| format!("key{n}")));
    let spec = || (0_u8..2).prop_map(|n| format!("spec{n}"));
    prop_oneof![
        1 => now().prop_map(|now| Entry::LeaderStarted { now }),
        4 => (job(), key(), spec(), now()).prop_map(|(job, key, spec, now)| Entry::JobSubmitted {
            job, key, spec, priority: 0, namespace: "n".to_owned(), deadline: None, now
        }),
        4 => (job(), now()).prop_map(|(job, now)| Entry::JobStarted { job, now }),
        3 => (job(), 0_u32..3, 0_u8..4, now()).prop_map(|(job, number, name, now)| {
            let phase = format!("phase{}", if name == 0 { 9 } else { number });
            Entry::PhaseEntered { job, phase, number, now }
        }),
        3 => (job(), 0_u32..3, any::<bool>(), now()).prop_map(|(job, number, other, now)| {
            Entry::PhaseFinished { job, number, document: format!("{other}"), now }
        }),
        3 => (job(), 0_u32..2, 0_u64..4, pointer(), now()).prop_map(|(job, stage, step, state, now)| {
            Entry::Checkpoint { job, stage, step, state, now }
        }),
        1 => (job(), now()).prop_map(|(job, now)| Entry::CancelRequested { job, now }),
        2 => (job(), outcome(), now()).prop_map(|(job, outcome, now)| Entry::JobEnded { job, outcome, now }),
        2 => (0_u8..3, 0_u8..2, now(), now()).prop_map(|(token, key, expires, now)| Entry::TokenUsed {
            token: format!("token{token}"), key: format!("key{key}"), expires, now
        }),
    ]
}

/// What can never be taken back: submitted jobs and their keys, ends, the clock, the term.
fn promises_hold(before: &Durable, after: &Durable) {
    assert!(after.clock >= before.clock && after.term >= before.term);
    for (key, job) in &before.keys {
        assert_eq!(after.keys.get(key), Some(job));
    }
    for (token, used) in before.tokens.iter().filter(|(_, used)| used.expires > after.clock) {
        assert_eq!(after.tokens.get(token), Some(used), "token {token} may be used again");
    }
    for (id, old) in &before.jobs {
        let new = &after.jobs[id];
        assert_eq!((&old.spec, old.submitted), (&new.spec, new.submitted));
        if old.has_ended() {
            assert_eq!(old, new, "job {id} changed after its end");
        }
        assert!(old.state == JobState::Queued || new.state != JobState::Queued, "job {id} is queued again");
        for (number, phase) in &old.phases {
            assert!(phase.finished.is_none() || new.phases[number] == *phase);
        }
        if let (Some(old), Some(new)) = (&old.checkpoint, &new.checkpoint) {
            // An earlier step of the same stage may come from a leader that found the newest checkpoint damaged.
            assert!(new.stage >= old.stage, "job {id} fell back");
        }
    }
}

proptest! {
    #[test]
    fn a_snapshot_and_the_rest_equal_the_whole(
        entries in prop::collection::vec(entry(), 0..60),
        at in any::<prop::sample::Index>(),
    ) {
        let mut whole = Durable::default();
        let replies: Vec<Reply> = entries.iter().cloned().map(|entry| whole.apply(entry)).collect();

        let cut = at.index(entries.len() + 1);
        let mut prefix = Durable::default();
        entries[..cut].iter().cloned().for_each(|entry| { prefix.apply(entry); });
        let packed = postcard::to_stdvec(&prefix).unwrap();
        let readable = serde_json::to_string(&prefix).unwrap();
        for mut restored in [postcard::from_bytes::<Durable>(&packed).unwrap(), serde_json::from_str(&readable).unwrap()] {
            let rest: Vec<Reply> = entries[cut..].iter().cloned().map(|entry| restored.apply(entry)).collect();
            prop_assert_eq!(&restored, &whole);
            prop_assert_eq!(&rest, &replies[cut..]);
        }
    }

    #[test]
    fn promises_are_kept_and_rejections_change_nothing(entries in prop::collection::vec(entry(), 0..60)) {
        let mut state = Durable::default();
        let mut keys: BTreeMap<String, JobId> = BTreeMap::new();
        for entry in entries {
            let before = state.clone();
            let reply = state.apply(entry.clone());
            promises_hold(&before, &state);
            if let Reply::Rejected(reason) = &reply {
                prop_assert!(!reason.is_empty());
                prop_assert_eq!(&state, &Durable { clock: state.clock, ..before.clone() });
            }
            if let (Entry::JobSubmitted { key: Some(key), .. }, Reply::Submitted { job, fresh }) = (&entry, &reply) {
                prop_assert_eq!(*fresh, !keys.contains_key(key) && !before.jobs.contains_key(job));
                prop_assert_eq!(keys.entry(key.clone()).or_insert_with(|| job.clone()), job);
            }
        }
    }

    /// Whoever got no answer proposes again: the second time changes nothing but the clock.
    #[test]
    fn proposals_can_be_repeated(entries in prop::collection::vec(entry(), 0..40)) {
        let mut state = Durable::default();
        for entry in entries.into_iter().filter(|entry| !matches!(entry, Entry::LeaderStarted { .. } | Entry::Checkpoint { .. })) {
            let first = state.apply(entry.clone());
            let once = state.clone();
            let second = state.apply(entry.clone());
            prop_assert_eq!(&state, &once);
            match (first, second) {
                (Reply::Submitted { job, .. }, again) => prop_assert_eq!(again, Reply::Submitted { job, fresh: false }),
                // A phase that was left open is entered again, one that has finished is not.
                (first, again) => prop_assert_eq!(again, first),
            }
        }
    }
}

fn submit(job: &str, key: Option<&str>, spec: &str, now: u64) -> Entry {
    let (job, key, spec, now) = (job.into(), key.map(str::to_owned), spec.to_owned(), Millis(now));
    Entry::JobSubmitted { job, key, spec, priority: 0, namespace: "n".to_owned(), deadline: None, now }
}

/// Applies entries and compares the replies.
#[track_caller]
fn check(script: &[(Entry, Reply)]) -> Durable {
    let mut state = Durable::default();
    for (entry, expected) in script {
        assert_eq!(state.apply(entry.clone()), *expected, "{entry:?}");
    }
    state
}

fn rejected(reason: &str) -> Reply {
    Reply::Rejected(reason.to_owned())
}

fn fresh(job: &str) -> Reply {
    Reply::Submitted { job: job.into(), fresh: true }
}

#[test]
fn a_key_makes_one_job() {
    let known = Reply::Submitted { job: "a".into(), fresh: false };
    let state = check(&[
        (submit("a", Some("k"), "s", 5), fresh("a")),
        (submit("b", Some("k"), "s", 3), known.clone()),
        (submit("a", Some("k"), "s", 3), known),
        (submit("b", None, "s", 4), fresh("b")),
        (submit("b", None, "t", 4), rejected("job b exists already with another specification: submit under a new id")),
    ]);
    assert_eq!((state.jobs.len(), state.clock), (2, Millis(5)));
    assert_eq!(state.jobs[&JobId("b".to_owned())].submitted, Millis(5));
}

#[test]
fn a_job_lives_once() {
    let now = Millis(1);
    let job = || JobId("a".to_owned());
    let started = || Entry::JobStarted { job: job(), now };
    let entered = |number, phase: &str| Entry::PhaseEntered { job: job(), phase: phase.to_owned(), number, now };
    let finished = |number| Entry::PhaseFinished { job: job(), number, document: "d".to_owned(), now };
    let saved = |step, state| Entry::Checkpoint { job: job(), stage: 0, step, state, now };
    let ended = |outcome| Entry::JobEnded { job: job(), outcome, now };
    let inline = || Pointer::Inline(vec![1]);
    let state = check(&[
        (Entry::LeaderStarted { now }, Reply::Ok),
        (started(), rejected("job a not found")),
        (submit("a", None, "s", 1), fresh("a")),
        (entered(0, "prepare"), rejected("job a: not started yet")),
        (started(), Reply::Ok),
        (entered(0, "prepare"), Reply::Ok),
        (entered(0, "prepare"), Reply::Ok),
        (entered(0, "train"), rejected("job a: phase 0 is prepare, not train")),
        (finished(1), rejected("job a: phase 1 was never entered")),
        (finished(0), Reply::Ok),
        (entered(0, "prepare"), rejected("job a: phase 0 (prepare) has already finished")),
        (saved(4, inline()), Reply::Ok),
        (saved(3, inline()), Reply::Ok),
        (
            saved(5, Pointer::Inline(vec![0; INLINE_LIMIT + 1])),
            rejected("job a: checkpoint of 65537 bytes is too wide for the log: store it as an object"),
        ),
        (Entry::LeaderStarted { now }, Reply::Ok),
        (started(), Reply::Ok),
        (Entry::CancelRequested { job: job(), now }, Reply::Ok),
        (ended(Outcome::Cancelled), Reply::Ok),
        (ended(Outcome::Cancelled), Reply::Ok),
        (ended(Outcome::Succeeded { result: String::new() }), rejected("job a: already ended with another outcome")),
        (Entry::CancelRequested { job: job(), now }, rejected("job a: already ended")),
        (started(), rejected("job a: already ended")),
    ]);
    let record = &state.jobs[&job()];
    assert_eq!((state.term, record.cancel_requested, record.checkpoint.is_none()), (Term(2), true, true));
    assert_eq!(record.restarts, 1);
}

fn end(job: &str, now: u64) -> Entry {
    Entry::JobEnded { job: job.into(), outcome: Outcome::Cancelled, now: Millis(now) }
}

#[test]
fn ended_jobs_are_forgotten_after_a_month_with_their_keys() {
    let mut state = check(&[
        (submit("a", Some("k"), "s", 0), fresh("a")),
        (submit("b", Some("l"), "s", 0), fresh("b")),
        (submit("c", None, "s", 0), fresh("c")),
        (end("a", 5), Reply::Ok),
        (end("b", 6), Reply::Ok),
        (submit("d", None, "s", 5 + ENDED_FOR.0), fresh("d")),
    ]);
    assert_eq!(state.jobs.len(), 4);
    state.apply(submit("e", Some("k"), "s", 6 + ENDED_FOR.0));
    // The queued one stays; the key of `a` is free again.
    assert_eq!(state.jobs.keys().map(|job| job.0.as_str()).collect::<Vec<_>>(), ["b", "c", "d", "e"]);
    assert_eq!(state.keys.keys().collect::<Vec<_>>(), ["k", "l"]);
}

#[test]
fn the_earliest_ended_are_forgotten_beyond_the_limit() {
    let mut state = Durable::default();
    for number in 0..ENDED_LIMIT as u64 + 2 {
        let job = format!("job{number:06}");
        state.apply(submit(&job, Some(&format!("key{number:06}")), "s", number));
        state.apply(end(&job, number));
    }
    assert_eq!((state.jobs.len(), state.keys.len(), state.ended.len()), (ENDED_LIMIT, ENDED_LIMIT, ENDED_LIMIT));
    assert_eq!(state.jobs.keys().next().map(|job| job.0.as_str()), Some("job000002"));
}

#[test]
fn a_token_works_once() {
    let used = |token: &str, key: &str, expires, now| Entry::TokenUsed {
        token: token.to_owned(),
        key: key.to_owned(),
        expires: Millis(expires),
        now: Millis(now),
    };
    let again = || rejected("the join token has been used already: each works once; make a new one");
    let late = || rejected("the join token has expired by the cluster's clock; make a new one");
    let state = check(&[
        (used("a", "k", 10, 1), Reply::Ok),
        // The node got no answer and asks again.
        (used("a", "k", 10, 2), Reply::Ok),
        (used("a", "l", 10, 2), again()),
        (used("b", "k", 20, 3), Reply::Ok),
        (used("c", "k", 30, 12), Reply::Ok),
        // Forgotten by now, and over; also for a leader whose clock is behind.
        (used("a", "l", 10, 5), late()),
        (used("b", "l", 20, 5), again()),
    ]);
    assert_eq!(state.tokens.keys().collect::<Vec<_>>(), ["b", "c"]);
}
