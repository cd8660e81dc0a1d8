//! Where time went, for the result object.

use serde_json::{Value, json};

use crate::event_loop::Account;

/// One entry a phase: seconds of all workers reading, computing and merging, the time from opening to
/// end, and who contributed how many shards.
pub fn work(accounts: &[(String, Account)]) -> Vec<Value> {
    let mut phases: Vec<(String, Account)> = Vec::new();
    for (phase, account) in accounts {
        match phases.last_mut() {
            Some((last, sum)) if last == phase => add(sum, account),
            _ => phases.push((phase.clone(), account.clone())),
        }
    }
    phases.iter().map(|(phase, account)| entry(phase, account)).collect()
}

fn add(sum: &mut Account, other: &Account) {
    sum.read_ns += other.read_ns;
    sum.compute_ns += other.compute_ns;
    sum.merge_ns += other.merge_ns;
    sum.wall_ns += other.wall_ns;
    for (worker, blocks) in &other.blocks {
        *sum.blocks.entry(*worker).or_default() += blocks;
    }
    for (worker, shards) in &other.shards {
        *sum.shards.entry(*worker).or_default() += shards;
    }
}

fn entry(phase: &str, account: &Account) -> Value {
    let seconds = |ns: u64| ns as f64 / 1e9;
    let workers = account.blocks.len().max(1) as u64;
    let busy = (account.read_ns + account.compute_ns + account.merge_ns) / workers;
    json!({
        "phase": phase,
        "read_s": seconds(account.read_ns),
        "compute_s": seconds(account.compute_ns),
        "merge_s": seconds(account.merge_ns),
        "wait_s": seconds(account.wall_ns.saturating_sub(busy)),
        "wall_s": seconds(account.wall_ns),
        "blocks": account.blocks,
        "shards": account.shards,
    })
}
