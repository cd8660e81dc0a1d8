//! The whole job is checked against the data before anything runs: a job with an error costs its user
//! a second, not an hour. All errors are found at once.

use serde::Serialize;
use sheaf_dataflow::checks;
use sheaf_dataflow::error::DataError;
use sheaf_dataflow::job::{Job, JobError};
use sheaf_dataflow::pipeline::{ColumnUse, Fitting};
use sheaf_dataflow::plan::{Needs, Planned, plan};
use sheaf_dataflow::stores::Stores;
use sheaf_learn::algorithm::LearnError;
use sheaf_learn::model::Task;
use sheaf_learn::{metrics, registry};
use sheaf_runtime::artifact::Artifact;
use sheaf_runtime::fault::Fault;
use sheaf_runtime::order::{Order, Predict};
use sheaf_runtime::output::Output;

use crate::context::{Context, Estimate};
use crate::driver::predict_scorer;

/// What `sheaf plan` shows.
#[derive(Debug, Serialize)]
pub struct Plan {
    /// Phases in order.
    pub phases: Vec<String>,
    /// Logical plan of the prepare SQL.
    pub sql: String,
    /// Every prepared column, its role and why it is used or not.
    pub columns: Vec<ColumnUse>,
    /// Rows before filters.
    pub rows: u64,
    /// Load units (row groups).
    pub units: u32,
    /// Canonical shards, as far as they are known before filters are counted.
    pub shards: u32,
    /// Estimate of the encoded training data in all workers, bytes.
    pub memory_bytes: u64,
    /// Fingerprint of the pinned data.
    pub data: String,
    /// Things to look at.
    pub warnings: Vec<String>,
}

/// Checks an order; the errors name their places in the job file. Gives the fingerprint of the data it
/// was checked against, and what the order will take (without what the cluster has).
pub async fn validate(context: &Context, order: &Order, now_ns: i64) -> Result<(String, Estimate), Fault> {
    match order {
        Order::Run { job } => {
            let plan = plan_job(job, &context.stores, now_ns).await?;
            let (units, shards) = (u64::from(plan.units), u64::from(plan.shards));
            let estimate = Estimate { rows: plan.rows, units, shards, encoded_bytes: plan.memory_bytes, ..Estimate::default() };
            Ok((plan.data, estimate))
        }
        Order::Predict(order) => predict(context, order, now_ns).await,
    }
}

/// Plans a job and checks all of it.
pub async fn plan_job(job: &Job, stores: &Stores, now_ns: i64) -> Result<Plan, Fault> {
    let mut errors = static_errors(job);
    let planned = match plan(job, stores, now_ns).await {
        Ok(planned) => planned,
        Err(DataError::Job(error)) => {
            errors.insert(0, error);
            return Err(Fault::job(errors));
        }
        Err(other) => return Err(other.into()),
    };
    if let Err(more) = checks::requests(job, &planned.schema) {
        errors.extend(more);
    }
    match Fitting::new(job, &planned.schema) {
        Err(more) => errors.extend(more),
        Ok(fitting) if errors.is_empty() => return Ok(describe(job, &planned, &fitting)),
        Ok(_) => {}
    }
    Err(Fault::job(errors))
}

fn describe(job: &Job, planned: &Planned, fitting: &Fitting) -> Plan {
    let columns = fitting.roles();
    let used = columns.iter().filter(|c| c.used).count() as u64;
    let rows = planned.dataset.rows();
    let mut phases = vec!["plan"];
    match planned.needs {
        Needs::Nothing => phases.push("prepare (shards point into the files)"),
        Needs::Count => phases.push("prepare (counts what the filter keeps)"),
        Needs::Materialise => phases.push("prepare (writes canonical shards)"),
    }
    phases.extend((!job.checks.is_empty()).then_some("check"));
    phases.extend(["profile", "fit features"]);
    if job.train.is_some() {
        phases.extend(["train", "evaluate", "publish"]);
    }
    Plan {
        phases: phases.into_iter().map(str::to_owned).collect(),
        sql: planned.explain.clone(),
        columns,
        rows,
        units: planned.dataset.units(),
        shards: planned.dataset.shards(),
        memory_bytes: rows * (used + 2) * 8,
        data: planned.dataset.fingerprint(),
        warnings: planned.warnings.clone(),
    }
}

/// Errors that need no data: parameters, metrics, limits.
fn static_errors(job: &Job) -> Vec<JobError> {
    let mut errors = Vec::new();
    let Some(train) = &job.train else {
        if job.publish.is_some() {
            errors.push(JobError::at("publish", "publishing fitted features without `train` is not supported yet"));
        }
        return errors;
    };
    if let Err(error) = registry::check_params(&train.algorithm, &train.params) {
        errors.push(match error {
            LearnError::Param { name, message } => JobError::at(format!("train.{name}"), message),
            other => JobError::at("train", other.to_string()),
        });
        return errors;
    }
    if job.columns.target.is_none() {
        let hint = "say which column is learnt: `columns: {target: NAME}`";
        errors.push(JobError::at("columns.target", format!("`{}` needs a target", train.algorithm)).hint(hint));
    }
    let task = task_of(&train.algorithm);
    for (i, name) in job.evaluate.metrics.iter().enumerate() {
        if !metrics::known(task).contains(&metrics::canonical_name(name)) {
            errors.push(unknown_metric(format!("evaluate.metrics[{i}]"), name, task));
        }
    }
    for limit in &job.evaluate.limits {
        let place = format!("evaluate.limits.{}.{}", limit.segment, limit.metric);
        if !metrics::known(task).contains(&metrics::canonical_name(&limit.metric)) {
            errors.push(unknown_metric(place, &limit.metric, task));
        } else if job.split.is_none() && limit.segment != "train" {
            let message = format!("there is no {} segment: the job has no `split`", limit.segment);
            errors.push(JobError::at(place, message).hint("add `split: {by: random, test: 0.2}`"));
        }
    }
    errors
}

fn unknown_metric(place: String, name: &str, task: &str) -> JobError {
    JobError::at(place, format!("`{name}` is not a metric of {task} models"))
        .hint(format!("known: {}", metrics::known(task).join(", ")))
}

/// The task of a learner: what its predictions mean.
pub fn task_of(algorithm: &str) -> &'static str {
    match registry::learner(algorithm).ok().and_then(|entry| entry.tasks.first()) {
        Some(Task::Binary) => "binary",
        Some(Task::Regression) | None => "regression",
    }
}

/// The metrics to compute: those asked for, those that limits need, or the usual ones.
pub fn metric_names(job: &Job, task: &str) -> Vec<String> {
    let mut names: Vec<String> = job.evaluate.metrics.iter().map(|m| metrics::canonical_name(m).to_owned()).collect();
    if names.is_empty() {
        names = metrics::usual(task).iter().map(|m| (*m).to_owned()).collect();
    }
    for limit in &job.evaluate.limits {
        let name = metrics::canonical_name(&limit.metric).to_owned();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

async fn predict(context: &Context, order: &Predict, now_ns: i64) -> Result<(String, Estimate), Fault> {
    let artifact = load_artifact(context, order).await?;
    let planned = plan(&order.job, &context.stores, now_ns).await?;
    let session = context.stores.session(now_ns);
    predict_scorer(artifact, order).compile(planned.schema.clone(), &session).map_err(Fault::from)?;
    // Opened and dropped: whether the folder may be written is known before anything runs.
    Output::open(&order.to, &crate::driver::predict_writer(order), "check")?;
    let dataset = &planned.dataset;
    let (units, shards) = (u64::from(dataset.units()), u64::from(dataset.shards()));
    // Scoring keeps nothing.
    let estimate = Estimate { rows: dataset.rows(), units, shards, ..Estimate::default() };
    Ok((dataset.fingerprint(), estimate))
}

/// The artifact of the model that an order names.
pub async fn load_artifact(context: &Context, order: &Predict) -> Result<Artifact, Fault> {
    Artifact::load(&context.documents, &order.artifact, &order.model).await
}
