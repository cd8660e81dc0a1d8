//! A job with an existing model: the model resolved once, and all that the job wants of it checked against the data.

use sheaf_dataflow::checks;
use sheaf_dataflow::error::DataError;
use sheaf_dataflow::job::{Job, JobError};
use sheaf_dataflow::pipeline::ColumnUse;
use sheaf_dataflow::plan::{Planned, plan};
use sheaf_dataflow::types::ColumnSpec;
use sheaf_learn::metrics;
use sheaf_runtime::artifact::Artifact;
use sheaf_runtime::fault::{Fault, Kind};
use sheaf_runtime::order::{Existing, of_section};
use sheaf_runtime::registry::{Record, RegistryError};

use super::{Plan, Sources, describe, metric_errors, place_of, sections};
use crate::driver::{evaluated, predict_rows};

/// Plans a job with the model that `reference` names, or with the one that was resolved before.
pub async fn plan_with(
    sources: &Sources<'_>,
    job: &Job,
    reference: &str,
    known: Option<Existing>,
    now_ns: i64,
) -> Result<Plan, Fault> {
    let existing = match known {
        Some(existing) => existing,
        None => resolve(sources, job, reference).await?,
    };
    let artifact = Artifact::load(sources.documents, &existing.model.artifact, &existing.model.sha256).await?;
    let merged = &existing.job;
    let mut errors = static_errors(job, &artifact);
    errors.extend(measurable(&existing, &artifact));
    errors.extend(sections::folders(sources.stores, merged));
    let planned = match plan(merged, sources.stores, now_ns).await {
        Ok(planned) => planned,
        Err(DataError::Job(error)) => {
            errors.insert(0, of_model(job, reference, error));
            return Err(Fault::job(errors));
        }
        Err(other) => return Err(other.into()),
    };
    if let Err(more) = checks::requests(merged, &planned.schema) {
        errors.extend(more);
    }
    errors.extend(fits(sources, &existing, &artifact, &planned, now_ns).err());
    if !errors.is_empty() {
        return Err(Fault::job(errors));
    }
    let scored = scored(sources, &existing, artifact.clone(), now_ns).await?;
    let mut plan = describe(merged, &planned, uses(&artifact, &planned), scored);
    if existing.evaluates() {
        let at = plan.phases.iter().position(|phase| phase == "predict").unwrap_or(plan.phases.len());
        plan.phases.insert(at, "evaluate".to_owned());
    }
    Ok(Plan { existing: Some(existing), ..plan })
}

async fn resolve(sources: &Sources<'_>, job: &Job, reference: &str) -> Result<Existing, Fault> {
    match sources.registry.resolve(reference).await {
        Ok(record) => match refused(job, &record) {
            None => Ok(Existing::new(job, reference, &record)),
            Some(error) => Err(error.into()),
        },
        Err(RegistryError::Store(fault)) => Err(fault),
        Err(other) => Err(JobError::at("model", other.to_string()).into()),
    }
}

/// What the job wants written beside predictions that a model of this record does not have.
fn refused(job: &Job, record: &Record) -> Option<JobError> {
    job.predict.as_ref()?.details.refused_by(&record.job.train.as_ref()?.algorithm)
}

/// An error that points at what came from the model's record points at the model.
fn of_model(job: &Job, reference: &str, error: JobError) -> JobError {
    let own = match error.path.split('.').collect::<Vec<_>>().as_slice() {
        ["prepare", ..] => job.prepare.is_some(),
        ["tables", name, ..] => job.tables.iter().any(|t| t.name == *name),
        ["columns", "key"] => !job.columns.key.is_empty(),
        _ => true,
    };
    match own {
        true => error,
        false => JobError {
            message: format!("{} of {reference}: {}", error.path, error.message),
            path: "model".to_owned(),
            hint: error.hint,
        },
    }
}

/// A model that was trained without a target cannot be measured.
fn measurable(existing: &Existing, artifact: &Artifact) -> Option<JobError> {
    let error = || JobError::at("model", "the model was trained without a target: there is nothing to measure it by");
    let missing = existing.evaluates() && artifact.pipeline.target.is_none();
    missing.then(|| error().hint("let it score rows: add `predict`, and remove `evaluate`"))
}

/// Errors that need no data.
fn static_errors(job: &Job, artifact: &Artifact) -> Vec<JobError> {
    let beside = [
        ("split", job.split.is_some()),
        ("features", !job.features.is_empty()),
        ("train", job.train.is_some()),
        ("publish", job.publish.is_some()),
        ("columns.positive", job.columns.positive.is_some()),
        ("columns.offset", job.columns.offset.is_some()),
    ];
    let refused =
        |path: &str| JobError::at(path, format!("`{path}` beside `model`: the model is as it is, and every row is `test`"));
    let mut errors: Vec<JobError> = beside.iter().filter(|(_, there)| *there).map(|(path, _)| refused(path)).collect();
    errors.extend(metric_errors(job, task_of(artifact)));
    if !job.evaluate.measures("test") {
        let error = JobError::at("evaluate.segments", "there is nothing to measure: with `model` every row is `test`");
        errors.push(error.hint("remove `segments`"));
    }
    for limit in job.evaluate.limits.iter().filter(|limit| limit.segment != "test") {
        let message = format!("there is no {} segment: with `model` every row is `test`", limit.segment);
        errors.push(JobError::at(place_of(limit), message).hint(format!("write `test.{}`", limit.metric)));
    }
    errors
}

/// The task of a model, as metrics know it.
pub fn task_of(artifact: &Artifact) -> &'static str {
    metrics::task_name(artifact.model.task())
}

/// Whether the prepared rows have what measuring the model and writing its features read.
fn fits(sources: &Sources<'_>, existing: &Existing, artifact: &Artifact, planned: &Planned, now_ns: i64) -> Result<(), JobError> {
    if !existing.evaluates() && existing.job.write.features.is_none() {
        return Ok(());
    }
    let session = sources.stores.session(now_ns);
    let view = evaluated(&existing.job, artifact, existing.evaluates());
    let compiled = view.compile(planned.schema.clone(), &session);
    compiled.map(drop).map_err(|error| JobError::at("model", Fault::from(error).message))
}

/// The rows of the `predict` section, with what the model reads of them.
async fn scored(sources: &Sources<'_>, existing: &Existing, artifact: Artifact, now_ns: i64) -> Result<Option<Planned>, Fault> {
    let Some(section) = &existing.job.predict else { return Ok(None) };
    let planned = sections::plan_rows(sources.stores, &existing.job, section, now_ns).await?;
    let order = of_section(&existing.job, section, existing.model.clone())?;
    let session = sources.stores.session(now_ns);
    match predict_rows(artifact, &order).compile(planned.schema.clone(), &session).map_err(Fault::from) {
        Ok(_) => Ok(Some(planned)),
        Err(fault) if fault.kind == Kind::Data => Err(JobError::at("predict", fault.message).into()),
        Err(fault) => Err(fault),
    }
}

/// Every prepared column, and whether the model reads it.
pub(super) fn uses(artifact: &Artifact, planned: &Planned) -> Vec<ColumnUse> {
    let target = artifact.pipeline.target.as_ref().map(|target| target.column.as_str());
    let of = |column: &ColumnSpec| {
        let name = &column.name;
        let read = artifact.pipeline.inputs.iter().any(|(input, _)| input == name);
        let is_target = target == Some(name.as_str());
        let (role, why) = match (read, is_target) {
            (true, _) => ("feature", "the model reads it"),
            (_, true) => ("target", "the model is measured by it"),
            _ => ("", "the model does not read it"),
        };
        let data_type = column.kind.clone();
        ColumnUse { name: name.clone(), data_type, role: role.into(), used: read || is_target, why: why.into() }
    };
    planned.dataset.columns.iter().map(of).collect()
}
