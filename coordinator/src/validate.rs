//! The whole job is checked against the data before anything runs: a job with an error costs its user
//! a second, not an hour. All errors are found at once.

mod existing;
mod sections;
mod warm;

pub use existing::task_of as task_of_model;

use serde::Serialize;
use sheaf_dataflow::checks;
use sheaf_dataflow::error::DataError;
use sheaf_dataflow::job::{FeatureStep, Job, JobError, Limit, Split, StepKind, Train};
use sheaf_dataflow::pipeline::{ColumnUse, Fitting};
use sheaf_dataflow::plan::{Needs, Planned, plan};
use sheaf_dataflow::stores::Stores;
use sheaf_learn::algorithm::LearnError;
use sheaf_learn::model::Task;
use sheaf_learn::shard::Segment;
use sheaf_learn::{metrics, registry};
use sheaf_runtime::artifact::Artifact;
use sheaf_runtime::documents::Documents;
use sheaf_runtime::fault::Fault;
use sheaf_runtime::order::{Existing, ModelId, Order, Predict};
use sheaf_runtime::output::Output;
use sheaf_runtime::registry::Registry;

use crate::context::{Context, Estimate};
use crate::driver::predict_rows;

/// What planning may look into.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// Object stores that jobs may read.
    pub stores: &'a Stores,
    /// Models.
    pub registry: &'a Registry,
    /// Documents of the store.
    pub documents: &'a Documents,
}

/// What an order was found to be.
#[derive(Debug)]
pub struct Checked {
    /// Fingerprint of the data.
    pub data: String,
    /// What the order will take, without what the cluster has.
    pub estimate: Estimate,
    /// The existing model that the job names.
    pub existing: Option<Existing>,
    /// The model that its training goes on from.
    pub earlier: Option<ModelId>,
    /// Fingerprint of the rows that its `predict` section scores.
    pub scored: Option<String>,
}

/// Models that a job names, as they were resolved before: they stay the ones.
#[derive(Debug, Default)]
pub struct Known {
    /// The existing model.
    pub existing: Option<Existing>,
    /// The model that training goes on from.
    pub earlier: Option<ModelId>,
}

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
    /// The existing model that the job names.
    #[serde(skip)]
    pub existing: Option<Existing>,
    /// The model that training goes on from.
    #[serde(skip)]
    pub earlier: Option<ModelId>,
    /// Fingerprint of the rows that the `predict` section scores.
    #[serde(skip)]
    pub scored: Option<String>,
}

/// Checks an order; the errors name their places in the job file. A model that was resolved before stays the one.
pub async fn validate(context: &Context, order: &Order, known: Known, now_ns: i64) -> Result<Checked, Fault> {
    match order {
        Order::Run { job } => {
            let sources = Sources { stores: &context.stores, registry: &context.registry, documents: &context.documents };
            let plan = plan_known(&sources, job, known, now_ns).await?;
            let (units, shards) = (u64::from(plan.units), u64::from(plan.shards));
            let estimate = Estimate { rows: plan.rows, units, shards, encoded_bytes: plan.memory_bytes, ..Estimate::default() };
            Ok(Checked { data: plan.data, estimate, existing: plan.existing, earlier: plan.earlier, scored: plan.scored })
        }
        Order::Predict(order) => predict(context, order, now_ns).await,
    }
}

/// Plans a job and checks all of it.
pub async fn plan_job(sources: &Sources<'_>, job: &Job, now_ns: i64) -> Result<Plan, Fault> {
    plan_known(sources, job, Known::default(), now_ns).await
}

async fn plan_known(sources: &Sources<'_>, job: &Job, known: Known, now_ns: i64) -> Result<Plan, Fault> {
    match (&job.model, job.warm_start()) {
        (Some(reference), _) => existing::plan_with(sources, job, reference, known.existing, now_ns).await,
        (None, Some(reference)) => warm::plan_with(sources, job, reference, known.earlier, now_ns).await,
        (None, None) => plan_training(sources.stores, job, now_ns).await,
    }
}

async fn plan_training(stores: &Stores, job: &Job, now_ns: i64) -> Result<Plan, Fault> {
    let mut errors = static_errors(job);
    errors.extend(sections::folders(stores, job));
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
    let fitting = match Fitting::new(job, &planned.schema) {
        Ok(fitting) if errors.is_empty() => fitting,
        Ok(_) => return Err(Fault::job(errors)),
        Err(more) => return Err(Fault::job([errors, more].concat())),
    };
    if let Some(error) = unfit(job, &fitting) {
        return Err(Fault::job(vec![error]));
    }
    let columns = fitting.roles();
    let scored = match &job.predict {
        Some(section) => Some(sections::plan_scored(stores, job, section, &columns, now_ns).await?),
        None => None,
    };
    Ok(describe(job, &planned, columns, scored))
}

/// What is wrong about a job now that its features are known.
fn unfit(job: &Job, fitting: &Fitting) -> Option<JobError> {
    let details = job.predict.as_ref().map(|section| &section.details);
    fitting.refused_by_learner(job).or_else(|| details?.too_wide(fitting.outline().features.len()))
}

fn describe(job: &Job, planned: &Planned, columns: Vec<ColumnUse>, scored: Option<Planned>) -> Plan {
    let used = columns.iter().filter(|c| c.used).count() as u64;
    let rows = planned.dataset.rows();
    let mut phases = vec!["plan"];
    match planned.needs {
        Needs::Nothing => phases.push("prepare (shards point into the files)"),
        Needs::Count => phases.push("prepare (counts what the filter keeps)"),
        Needs::Materialise => phases.push("prepare (writes canonical shards)"),
        Needs::Query => phases.push("prepare (runs the query on the workers and writes canonical shards)"),
    }
    phases.extend((!job.checks.is_empty()).then_some("check"));
    phases.extend(job.write.prepared.as_ref().map(|_| "write prepared"));
    phases.extend(job.model.is_none().then_some(["profile", "fit features"]).into_iter().flatten());
    phases.extend(job.write.features.as_ref().map(|_| "write features"));
    phases.extend(job.train.as_ref().map(|_| "train"));
    phases.extend(job.train.as_ref().and(job.columns.target.as_ref()).map(|_| "evaluate"));
    phases.extend(job.train.as_ref().map(|_| "publish"));
    phases.extend(scored.as_ref().map(|_| "predict"));
    let mut warnings = planned.warnings.clone();
    warnings.extend(scored.iter().flat_map(|scored| scored.warnings.clone()).map(|w| format!("predict: {w}")));
    Plan {
        phases: phases.into_iter().map(str::to_owned).collect(),
        sql: planned.explain.clone(),
        columns,
        rows,
        units: planned.dataset.units(),
        shards: planned.dataset.shards(),
        memory_bytes: rows * (used + 2) * 8,
        data: planned.dataset.fingerprint(),
        warnings,
        existing: None,
        earlier: None,
        scored: scored.map(|scored| scored.dataset.fingerprint()),
    }
}

/// Errors that need no data: parameters, metrics, limits.
fn static_errors(job: &Job) -> Vec<JobError> {
    let mut errors = Vec::new();
    let Some(train) = &job.train else {
        if job.predict.is_some() {
            let error = JobError::at("predict", "`predict` without a model");
            errors.push(error.hint("add `train`, or name an existing model: `model: NAME@latest`"));
        }
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
    if job.columns.target.is_none() && registry::learner(&train.algorithm).is_ok_and(|learner| learner.needs_target()) {
        let hint = "say which column is learnt: `columns: {target: NAME}`";
        errors.push(JobError::at("columns.target", format!("`{}` needs a target", train.algorithm)).hint(hint));
    }
    errors.extend(job.predict.as_ref().and_then(|section| section.details.refused_after(train)));
    let task = task_of(train);
    errors.extend(metric_errors(job, task));
    errors.extend(no_validation(job, train));
    errors.extend(nothing_to_measure_by(job, train));
    errors.extend(export_errors(job, train));
    for limit in job.evaluate.limits.iter().filter(|limit| job.split.is_none() && limit.segment != "train") {
        let message = format!("there is no {} segment: the job has no `split`", limit.segment);
        let error = JobError::at(place_of(limit), message);
        errors.push(error.hint("add `split: {by: random, test: 0.2}`"));
    }
    errors
}

/// Early stopping looks at validation rows: there must be some.
fn no_validation(job: &Job, train: &Train) -> Option<JobError> {
    let asked = train.params.get("early_stopping").is_some_and(|v| !v.is_null() && *v != serde_json::Value::Bool(false));
    let there = match &job.split {
        None => false,
        Some(Split::Random { validation, .. }) => *validation > 0.0,
        Some(Split::Column { .. }) => true,
    };
    let error = || JobError::at("train.early_stopping", "there is no validation segment to stop by");
    (asked && !there).then(|| error().hint("add one: `split: {by: random, validation: 0.1, test: 0.2}`"))
}

/// What is published in a format that cannot hold it, as far as the job alone says.
fn export_errors(job: &Job, train: &Train) -> Option<JobError> {
    let exports = job.publish.as_ref().is_some_and(|publish| !publish.export.is_empty());
    let takes_text = registry::learner(&train.algorithm).is_ok_and(|learner| learner.takes_text);
    let hashes = |step: &&FeatureStep| matches!(step.kind, StepKind::Hash { .. });
    let step = job.features.iter().find(hashes).filter(|_| exports && !takes_text)?;
    let message = format!("step `{}` hashes columns to sparse slots, which ONNX models here do not read", step.id);
    Some(JobError::at("publish.export", message).hint("encode them by one_hot, or leave `export` out"))
}

/// A learner without a target can be measured only where there is one all the same.
fn nothing_to_measure_by(job: &Job, train: &Train) -> Option<JobError> {
    let free = registry::learner(&train.algorithm).is_ok_and(|learner| !learner.needs_target());
    let asked = free && (!job.evaluate.metrics.is_empty() || !job.evaluate.limits.is_empty());
    let error = || JobError::at("evaluate", "there is no target to measure the scores by");
    let hint = "name a column of two classes in `columns.target`, which is never learnt, or remove `evaluate`";
    (asked && job.columns.target.is_none()).then(|| error().hint(hint))
}

/// Metrics that the task does not have.
fn metric_errors(job: &Job, task: &str) -> Vec<JobError> {
    let mut errors = Vec::new();
    for (i, name) in job.evaluate.metrics.iter().enumerate() {
        if !metrics::known(task).contains(&metrics::canonical_name(name)) {
            errors.push(unknown_metric(format!("evaluate.metrics[{i}]"), name, task));
        }
    }
    for limit in &job.evaluate.limits {
        if !metrics::known(task).contains(&metrics::canonical_name(&limit.metric)) {
            errors.push(unknown_metric(place_of(limit), &limit.metric, task));
        }
    }
    for (i, name) in job.evaluate.segments.iter().enumerate().filter(|(_, name)| Segment::of_name(name).is_none()) {
        let error = JobError::at(format!("evaluate.segments[{i}]"), format!("`{name}` is not a segment"));
        errors.push(error.hint("write train, validation or test"));
    }
    for limit in job.evaluate.limits.iter().filter(|limit| !job.evaluate.measures(&limit.segment)) {
        let error = JobError::at(place_of(limit), format!("`evaluate.segments` leaves `{}` out", limit.segment));
        errors.push(error.hint("add it there"));
    }
    errors
}

fn place_of(limit: &Limit) -> String {
    format!("evaluate.limits.{}.{}", limit.segment, limit.metric)
}

fn unknown_metric(place: String, name: &str, task: &str) -> JobError {
    JobError::at(place, format!("`{name}` is not a metric of {task} models"))
        .hint(format!("write one of: {}", metrics::instead(task, name).join(", ")))
}

/// The task of what is trained: what its predictions mean.
pub fn task_of(train: &Train) -> &'static str {
    metrics::task_name(registry::task(&train.algorithm, &train.params).unwrap_or(Task::Regression))
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

async fn predict(context: &Context, order: &Predict, now_ns: i64) -> Result<Checked, Fault> {
    let artifact = load_artifact(context, order).await?;
    let planned = plan(&order.job, &context.stores, now_ns).await?;
    let session = context.stores.session(now_ns);
    predict_rows(artifact, order).compile(planned.schema.clone(), &session).map_err(Fault::from)?;
    // Opened and dropped: whether the folder may be written is known before anything runs.
    Output::open(&context.stores, &order.to, &order.writer(), "check")?;
    let dataset = &planned.dataset;
    let (units, shards) = (u64::from(dataset.units()), u64::from(dataset.shards()));
    // Scoring keeps nothing.
    let estimate = Estimate { rows: dataset.rows(), units, shards, ..Estimate::default() };
    Ok(Checked { data: dataset.fingerprint(), estimate, existing: None, earlier: None, scored: None })
}

/// The artifact of the model that an order names.
pub async fn load_artifact(context: &Context, order: &Predict) -> Result<Artifact, Fault> {
    Artifact::load(&context.documents, &order.artifact, &order.model).await
}
