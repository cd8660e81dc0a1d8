//! Evidence that a fault hit what it should: read from the coordinator's own log, which stands on disk line
//! by line, and from the job's log as people see it. A test whose fault hit nothing must fail.

use std::ops::Range;

use serde_json::Value;

/// One line of a process's JSON log.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry(Value);

impl Entry {
    /// A field by name, wherever the format puts it.
    pub fn get(&self, name: &str) -> &Value {
        match &self.0[name] {
            Value::Null => &self.0["fields"][name],
            value => value,
        }
    }

    /// A field as text; numbers are written out.
    pub fn text(&self, name: &str) -> String {
        match self.get(name) {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        }
    }

    /// A field as a number, also if it was logged as text.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.text(name).parse().ok()
    }

    /// The sentence.
    pub fn message(&self) -> String {
        self.text("message")
    }
}

/// The JSON lines of a log; others (such as what a panic leaves) are not entries.
pub fn entries(log: &str) -> Vec<Entry> {
    log.lines().filter_map(|line| serde_json::from_str(line).ok().map(Entry)).collect()
}

/// What the control engine wrote down about a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incident {
    /// `lost`, `joining`, `moved`, `doubled`, `paced`, `retried`, `suspected`, `leaving`.
    pub what: String,
    /// Phase of the job.
    pub phase: String,
    /// The step under way.
    pub step: Option<u64>,
    /// The worker's number.
    pub worker: Option<u64>,
    /// Shards that it is about.
    pub shards: Vec<Range<u32>>,
    /// The sentence.
    pub text: String,
}

impl Incident {
    /// Whether it happened within a step of training, to somebody who owed shards of it.
    pub fn hit_training(&self) -> bool {
        self.phase == "train" && self.step.is_some() && !self.shards.is_empty()
    }

    /// Shards in all.
    pub fn count(&self) -> usize {
        self.shards.iter().map(ExactSizeIterator::len).sum()
    }
}

/// Everything that the engine wrote down about a job, in order.
pub fn incidents(log: &str, job: &str) -> Vec<Incident> {
    entries(log).iter().filter(|entry| entry.text("job") == job && !entry.text("what").is_empty()).map(incident).collect()
}

fn incident(entry: &Entry) -> Incident {
    Incident {
        what: entry.text("what"),
        phase: entry.text("phase"),
        step: entry.number("step"),
        worker: entry.number("worker"),
        shards: ranges(&entry.text("shards")),
        text: entry.message(),
    }
}

/// `4..9,12..13`.
fn ranges(text: &str) -> Vec<Range<u32>> {
    let range = |part: &str| {
        let (start, end) = part.split_once("..")?;
        Some(start.parse().ok()?..end.parse().ok()?)
    };
    text.split(',').filter_map(range).collect()
}

/// The numbers that a process has had at its coordinator, oldest first.
pub fn numbers_of(log: &str, pid: u32) -> Vec<u64> {
    let joined = |entry: &Entry| entry.message() == "worker joined" && entry.number("pid") == Some(u64::from(pid));
    entries(log).iter().filter(|entry| joined(entry)).filter_map(|entry| entry.number("worker")).collect()
}

/// Whether the coordinator has given a worker up, by its number.
pub fn is_gone(log: &str, number: u64) -> bool {
    let gone = ["worker lost", "worker disconnected"];
    entries(log).iter().any(|entry| gone.contains(&entry.message().as_str()) && entry.number("worker") == Some(number))
}

/// The loss of a process while it owed shards of a step of training, if there was one.
pub fn lost_busy(log: &str, job: &str, pid: u32) -> Option<Incident> {
    let numbers = numbers_of(log, pid);
    let about = |incident: &Incident| incident.worker.is_some_and(|worker| numbers.contains(&worker));
    incidents(log, job).into_iter().find(|incident| incident.what == "lost" && about(incident) && incident.hit_training())
}

/// Incidents of a kind.
pub fn of_kind(log: &str, job: &str, what: &str) -> Vec<Incident> {
    incidents(log, job).into_iter().filter(|incident| incident.what == what).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = r#"listening on 127.0.0.1:1
{"ts":"1","level":"INFO","message":"worker joined","worker":3,"pid":77}
{"ts":"2","level":"WARN","message":"worker 3 lost","job":"J","phase":"train","step":12,"worker":3,"shards":"4..9,12..13","what":"lost"}
{"ts":"3","level":"WARN","fields":{"message":"worker 4 lost","job":"J","phase":"profile","step":1,"worker":4,"shards":"","what":"lost"}}
"#;

    #[test]
    fn a_loss_in_training_is_found_and_another_is_not() {
        let lost = lost_busy(LOG, "J", 77).unwrap();
        assert_eq!((lost.step, lost.count(), lost.shards), (Some(12), 6, vec![4..9, 12..13]));
        assert_eq!(lost_busy(LOG, "J", 78), None);
        assert_eq!(lost_busy(LOG, "K", 77), None);
        let all = of_kind(LOG, "J", "lost");
        assert_eq!(all.len(), 2);
        assert!(!all[1].hit_training());
    }
}
