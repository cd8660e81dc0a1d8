//! The fault matrix: each row is one function, run in a short form by the tests and in a long form by
//! `cargo run -p sheaf-tests --bin faults`. A row panics when its promise or its evidence fails; what it
//! returns are its figures.
//!
//! | file | rows |
//! |---|---|
//! | `workers.rs` | 1, 4, 5, 10, 17: workers that are killed, stopped, asked to leave, slow; growth; any number |
//! | `coordinator.rs` | 3, 13, 15: a coordinator that is killed in every phase, without room, around a checkpoint |
//! | `storage.rs` | 12, 19: no room to spill; a shard that ends its workers |
//! | `requests.rs` | 18 and many jobs at once |
//! | `network.rs` | 8, 9: delay, loss, cuts, one direction |
//! | `prepare.rs` | preparing by SQL: workers and coordinators lost, cancellation, more than fits into memory |

pub mod coordinator;
pub mod network;
pub mod prepare;
pub mod requests;
pub mod storage;
pub mod workers;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::cluster::{Cluster, Job};
use crate::process::Sheaf;
use crate::write_parts;

/// How a row is run.
#[derive(Debug, Clone)]
pub struct Case {
    /// The program under test.
    pub program: PathBuf,
    /// `None`: the short form. Else the long form, for at least so long.
    pub long: Option<Duration>,
}

/// What a row measured, a line each.
pub type Figures = Vec<String>;

impl Case {
    /// The short form.
    pub fn short(program: &str) -> Self {
        Self { program: PathBuf::from(program), long: None }
    }

    /// One of two values.
    pub fn pick<T>(&self, short: T, long: T) -> T {
        if self.long.is_some() { long } else { short }
    }
}

/// A training job over seven uneven files.
#[derive(Debug, Clone)]
pub struct Work {
    /// Rows in all.
    pub rows: usize,
    /// Rows of a shard.
    pub shard_rows: u32,
    /// Steps of the optimizer at most.
    pub iterations: u32,
    /// A thousand hashed columns, so that a checkpoint is an object of its own.
    pub wide: bool,
    /// What is added to `prepare`, as `, expression AS name`.
    pub also: String,
}

impl Default for Work {
    fn default() -> Self {
        Self { rows: 6000, shard_rows: 64, iterations: 30, wide: false, also: String::new() }
    }
}

impl Work {
    /// The same with twice the steps, for what needs some time.
    pub fn longer() -> Self {
        Self { iterations: 60, ..Self::default() }
    }

    /// The job file.
    pub fn text(&self) -> String {
        let Self { shard_rows, iterations, also, .. } = self;
        let wide = if self.wide { "  - hash: {columns: city, size: 4096, as: place}\n" } else { "  - one_hot: city\n" };
        format!(
            "version: 1
name: faults
seed: 3
shard_rows: {shard_rows}
tables: {{rows: data/}}
prepare: |
  SELECT id, amount, age, city, flag, label{also} FROM rows
  WHERE amount < 300 AND id NOT BETWEEN 1000 AND 1400
columns: {{target: label, key: id}}
checks:
  - {{not_null: [amount, label]}}
split: {{by: random, test: 0.2, validation: 0.1}}
features:
  - sql: {{log_amount: ln(1 + amount), square: amount * amount / 1000, inverse: 10 / (1 + amount)}}
  - impute: {{columns: age, strategy: median, indicator: true}}
  - standardize: [amount, log_amount, square, inverse, age]
{wide}train: {{algorithm: logistic_regression, solver: lbfgs, l2: 0.0000001, tolerance: 0, max_iterations: {iterations}}}
publish: {{model: faults}}
"
        )
    }

    /// Writes data and job file into a folder.
    pub fn write(&self, folder: &Path) {
        write_parts(&folder.join("data"), 11, self.rows);
        std::fs::write(folder.join("job.yaml"), self.text()).unwrap();
    }

    /// The result of `sheaf run` on one worker, where nothing happens; computed once in a process.
    pub fn undisturbed(&self, case: &Case) -> Value {
        static KNOWN: Mutex<BTreeMap<String, Value>> = Mutex::new(BTreeMap::new());
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let key = format!("{} {}", self.rows, self.text());
        known.entry(key).or_insert_with(|| run_alone(self, case)).clone()
    }
}

fn run_alone(work: &Work, case: &Case) -> Value {
    let sheaf = Sheaf::new(&case.program.display().to_string());
    work.write(sheaf.folder());
    let result = sheaf.run(&["run", "job.yaml", "--workers", "1", "--threads", "2", "-o", "json", "--quiet"]).succeeded().json();
    let steps = losses(&result).len();
    assert!(steps > 20, "the job takes {steps} steps; more than 20 are wanted");
    result
}

/// The model's hash of a result.
pub fn hash_of(result: &Value) -> String {
    result["model"]["sha256"].as_str().unwrap_or_else(|| panic!("no model hash in {result:#}")).to_owned()
}

/// The loss of each step.
pub fn losses(result: &Value) -> Vec<f64> {
    let losses = result["training"]["loss"].as_array();
    losses.unwrap_or_else(|| panic!("no losses in {result:#}")).iter().filter_map(Value::as_f64).collect()
}

/// Shards that each worker contributed to training, over all steps, by its number.
pub fn contributed(result: &Value) -> BTreeMap<u64, u64> {
    let work = result["work"].as_array().and_then(|all| all.iter().find(|w| w["phase"] == "train"));
    let shards = work.map(|w| w["shards"].clone()).unwrap_or_default();
    let shards = shards.as_object().cloned().unwrap_or_default();
    shards.iter().filter_map(|(worker, count)| Some((worker.parse().ok()?, count.as_u64()?))).collect()
}

/// The end of a job must be that of the undisturbed run: the same model, the same loss in every step.
#[track_caller]
pub fn same(cluster: &Cluster, shown: &Value, undisturbed: &Value) {
    assert_eq!(cluster.model_of(shown), hash_of(undisturbed), "the model is another one\n{}", cluster.logs());
    assert_eq!(losses(&shown["result"]), losses(undisturbed), "the losses are others");
}

/// Seconds of training per step, from the leader's clock.
pub fn seconds_per_step(job: &Job) -> f64 {
    let times = job.step_times();
    let (Some(first), Some(last)) = (times.first(), times.last()) else { return f64::NAN };
    (last.1 - first.1) as f64 / 1000.0 / (last.0 - first.0).max(1) as f64
}
