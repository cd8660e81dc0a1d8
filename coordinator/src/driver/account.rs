//! Where time went, as people's programs get it: the `work` of the result object, and of a job under way.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::account::{Account, StepTotals, WorkerAccount};

/// One entry a phase, in the order in which they ran.
pub fn work(accounts: &[(String, Account)]) -> Vec<Value> {
    let mut phases: Vec<(&str, Account)> = Vec::new();
    for (phase, account) in accounts {
        match phases.last_mut() {
            Some((last, sum)) if *last == phase => sum.add(account),
            _ => phases.push((phase, account.clone())),
        }
    }
    phases.iter().map(|(phase, account)| entry(phase, account)).collect()
}

/// Seconds over all workers, each worker's own, how they differ, who was waited for, and what steps are made of.
fn entry(phase: &str, account: &Account) -> Value {
    let sum = |part: fn(&WorkerAccount) -> u64| account.workers.values().map(part).sum::<u64>();
    let contributed = |part: fn(&WorkerAccount) -> u64| -> BTreeMap<u64, u64> {
        account.workers.iter().filter(|(_, w)| w.blocks > 0).map(|(worker, w)| (*worker, part(w))).collect()
    };
    let workers: BTreeMap<u64, Value> = account.workers.iter().map(|(worker, w)| (*worker, of_worker(w))).collect();
    let waited_for: BTreeMap<u64, f64> = account.waited_for.iter().map(|(worker, ns)| (*worker, seconds(*ns))).collect();
    json!({
        "phase": phase,
        "wall_s": seconds(account.wall_ns),
        "read_s": seconds(sum(|w| w.read_ns)),
        "compute_s": seconds(sum(|w| w.compute_ns)),
        "merge_s": seconds(sum(|w| w.merge_ns)),
        "wait_s": seconds(sum(|w| w.wait_ns)),
        "rows": sum(|w| w.rows),
        "bytes_read": sum(|w| w.bytes_read),
        "bytes_sent": sum(|w| w.bytes_sent),
        "steps": of_steps(&account.steps),
        "workers": workers,
        "skew": skew(account),
        "waited_for": waited_for,
        "blocks": contributed(|w| w.blocks),
        "shards": contributed(|w| w.shards),
    })
}

fn of_worker(worker: &WorkerAccount) -> Value {
    json!({
        "read_s": seconds(worker.read_ns),
        "compute_s": seconds(worker.compute_ns),
        "merge_s": seconds(worker.merge_ns),
        "wait_s": seconds(worker.wait_ns),
        "rows": worker.rows,
        "bytes_read": worker.bytes_read,
        "bytes_sent": worker.bytes_sent,
        "shards": worker.shards,
        "blocks": worker.blocks,
        "steps": worker.steps,
    })
}

fn of_steps(steps: &StepTotals) -> Value {
    json!({
        "count": steps.count,
        "wall_s": seconds(steps.wall_ns),
        "broadcast_s": seconds(steps.broadcast_ns),
        "compute_s": seconds(steps.compute_ns),
        "update_s": seconds(steps.update_ns),
        "overhead_s": seconds(steps.overhead_ns),
    })
}

/// The least, the middle and the most that workers were busy.
fn skew(account: &Account) -> Value {
    let mut busy: Vec<u64> = account.workers.values().map(WorkerAccount::busy_ns).collect();
    busy.sort_unstable();
    match (busy.first(), busy.get(busy.len() / 2), busy.last()) {
        (Some(min), Some(median), Some(max)) => {
            json!({"min_s": seconds(*min), "median_s": seconds(*median), "max_s": seconds(*max)})
        }
        _ => Value::Null,
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn account(worker: u64, compute_ns: u64) -> Account {
        let mut account = Account { wall_ns: 2_000_000_000, ..Account::default() };
        let part = WorkerAccount { compute_ns, wait_ns: 500_000_000, rows: 10, blocks: 1, shards: 2, ..Default::default() };
        account.workers.insert(worker, part);
        account
    }

    #[test]
    fn stages_of_one_phase_are_one_entry() {
        let stages = [("profile", account(1, 1)), ("train", account(1, 1_000_000_000)), ("train", account(2, 3_000_000_000))];
        let work = work(&stages.map(|(phase, account)| (phase.to_owned(), account)));
        assert_eq!(work.len(), 2);
        let train = &work[1];
        assert_eq!((train["phase"].as_str(), train["wall_s"].as_f64()), (Some("train"), Some(4.0)));
        assert_eq!((train["compute_s"].as_f64(), train["wait_s"].as_f64()), (Some(4.0), Some(1.0)));
        assert_eq!(train["workers"]["2"]["compute_s"].as_f64().unwrap(), 3.0);
        assert_eq!(train["shards"], json!({"1": 2, "2": 2}));
        assert_eq!(train["skew"], json!({"min_s": 1.0, "median_s": 3.0, "max_s": 3.0}));
        assert_eq!(entry("plan", &Account::default())["skew"], Value::Null);
    }
}
