//! What a client submits: a training (or check) job, or a prediction with a model. Travels as JSON.

use serde::{Deserialize, Serialize};
use sheaf_dataflow::job::{Job, Param};

/// An order to the cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Runs a job file.
    Run {
        /// The job.
        job: Job,
    },
    /// Scores rows with a model.
    Predict(Predict),
}

/// Scores rows with a model and writes them to Parquet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Predict {
    /// The model's own tables (some replaced), prepare, params and roles; nothing trains.
    pub job: Job,
    /// Content hash of the model.
    pub model: String,
    /// Hash of its artifact document.
    pub artifact: String,
    /// How the user named it.
    pub reference: String,
    /// Folder to write.
    pub to: String,
    /// Prepared columns carried along beside the key.
    pub keep: Vec<String>,
}

impl Order {
    /// Pins `$now`: the time of acceptance is a parameter like any other from here on.
    #[must_use]
    pub fn with_now(mut self, now_ns: i64) -> Self {
        match &mut self {
            Order::Run { job } => pin_now(job, now_ns),
            Order::Predict(predict) => pin_now(&mut predict.job, now_ns),
        }
        self
    }

    /// The job that says what to read.
    pub fn job(&self) -> &Job {
        match self {
            Order::Run { job } => job,
            Order::Predict(predict) => &predict.job,
        }
    }
}

/// Sets the parameter `now`, unless the job declares one of its own.
pub fn pin_now(job: &mut Job, now_ns: i64) {
    let text = chrono::DateTime::from_timestamp_nanos(now_ns).to_rfc3339_opts(chrono::SecondsFormat::Nanos, true);
    job.params.entry("now".to_owned()).or_insert(Param::Timestamp(text));
}
