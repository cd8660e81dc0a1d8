//! The whole-system simulation: seeds that must hold, the same seed twice, and deliberate faults of the
//! system that must be found, which proves that the checks can fail. `simulate` runs more of it.

use sheaf_tests::simulation::{Mutation, many, run};

/// Seeds of a test run; `cargo run -p sheaf-tests --bin simulate -- --seeds 10000` runs more.
const SEEDS: u64 = 300;

#[test]
fn whatever_happens_every_invariant_holds() {
    let summary = many(1, SEEDS, 1, None, false);
    let failures: Vec<String> = summary.failures.iter().map(ToString::to_string).collect();
    assert!(failures.is_empty(), "{}\n{summary}", failures.join("\n\n"));
    let (counts, ended) = (&summary.counts, summary.counts.ends.get("succeeded").copied().unwrap_or(0));
    // A storm that hits nothing would prove nothing.
    assert!(counts.coordinator_restarts > 50 && counts.resumed > 0 && counts.refused > 50 && ended > SEEDS, "{summary}");
    assert!(counts.faults.len() > 20, "every kind of fault is met: {summary}");
}

#[test]
fn a_seed_replays_identically() {
    for seed in (1..=SEEDS).step_by(10) {
        assert_eq!(run(seed, None, false), run(seed, None, false), "seed {seed}");
    }
    assert_ne!(run(1, None, false).hash, run(2, None, false).hash);
}

#[test]
fn deliberate_faults_are_found() {
    for mutation in Mutation::ALL {
        let summary = many(1, SEEDS, 1, Some(mutation), true);
        let Some(failure) = summary.failures.first() else { panic!("{} is not found in {SEEDS} seeds", mutation.name()) };
        let caught = mutation.caught_by().contains(&failure.invariant);
        assert!(caught, "{} is found by `{}`: {failure}", mutation.name(), failure.invariant);
        let again = run(failure.seed, Some(mutation), false);
        assert_eq!(again.failure.as_ref(), Some(failure), "a failing seed fails again in the same way");
    }
}
