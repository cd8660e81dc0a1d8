//! A job whose training goes on from a model (`train.warm_start`): the model resolved once, its features, columns and
//! classes taken as they are, and all that would change them refused before anything runs.

use sheaf_dataflow::checks;
use sheaf_dataflow::error::DataError;
use sheaf_dataflow::job::{Job, JobError, Train};
use sheaf_dataflow::pipeline::Fitting;
use sheaf_dataflow::plan::{Planned, plan};
use sheaf_dataflow::view::View;
use sheaf_learn::algorithm::LearnError;
use sheaf_learn::algorithms::warm_start;
use sheaf_learn::model::Model;
use sheaf_runtime::artifact::Artifact;
use sheaf_runtime::fault::Fault;
use sheaf_runtime::order::ModelId;
use sheaf_runtime::registry::{Record, RegistryError};

use super::existing::uses;
use super::{Plan, Sources, describe, sections, static_errors, unfit};

/// Where the model is named.
const PLACE: &str = "train.warm_start";

/// Plans a job that goes on from the model that `reference` names, or from the one that was resolved before.
pub async fn plan_with(
    sources: &Sources<'_>,
    job: &Job,
    reference: &str,
    known: Option<ModelId>,
    now_ns: i64,
) -> Result<Plan, Fault> {
    let mut errors = static_errors(job);
    errors.extend(sections::folders(sources.stores, job));
    let wanted = known.as_ref().map_or_else(|| reference.to_owned(), pinned);
    let record = match sources.registry.resolve(&wanted).await {
        Ok(record) => record,
        Err(RegistryError::Store(fault)) => return Err(fault),
        Err(other) => {
            errors.push(JobError::at(PLACE, other.to_string()));
            return Err(Fault::job(errors));
        }
    };
    let artifact = Artifact::load(sources.documents, &record.artifact, &record.sha256).await?;
    errors.extend(job.train.iter().flat_map(|train| of_training(train, &record, &artifact, reference)));
    errors.extend(of_columns(job, &record, &artifact, reference));
    let planned = match plan(job, sources.stores, now_ns).await {
        Ok(planned) => planned,
        Err(DataError::Job(error)) => {
            errors.insert(0, error);
            return Err(Fault::job(errors));
        }
        Err(other) => return Err(other.into()),
    };
    errors.extend(checks::requests(job, &planned.schema).err().into_iter().flatten());
    match Fitting::frozen(job, &planned.schema, &artifact.pipeline) {
        Ok(fitting) => errors.extend(unfit(job, &fitting)),
        Err(more) => errors.extend(more),
    }
    if errors.is_empty() {
        errors.extend(fits(sources, job, &artifact, &planned, now_ns).err());
    }
    if !errors.is_empty() {
        return Err(Fault::job(errors));
    }
    let columns = uses(&artifact, &planned);
    let scored = match &job.predict {
        Some(section) => Some(sections::plan_scored(sources.stores, job, section, &columns, now_ns).await?),
        None => None,
    };
    Ok(Plan { earlier: Some(model_id(reference, &record)), ..describe(job, &planned, columns, scored) })
}

/// A reference that always leads to the same model.
fn pinned(model: &ModelId) -> String {
    match (&model.name, model.version) {
        (Some(name), Some(version)) => format!("{name}@{version}"),
        _ => model.reference.clone(),
    }
}

fn model_id(reference: &str, record: &Record) -> ModelId {
    ModelId {
        reference: reference.to_owned(),
        name: record.name.clone(),
        version: record.version,
        sha256: record.sha256.clone(),
        artifact: record.artifact.clone(),
    }
}

/// What is trained must be what was trained.
fn of_training(train: &Train, record: &Record, artifact: &Artifact, reference: &str) -> Option<JobError> {
    let before = record.job.train.as_ref();
    let algorithm = before.map_or("no algorithm", |before| before.algorithm.as_str());
    if algorithm != train.algorithm || !matches!(artifact.model, Model::Trees(_)) {
        let message = format!("{reference} was trained with `{algorithm}`: `{}` cannot go on from it", train.algorithm);
        return Some(JobError::at(PLACE, message).hint("name a model of the same algorithm, or leave `warm_start` out"));
    }
    match warm_start::may_continue(&train.params, &before?.params) {
        Ok(()) => None,
        Err(LearnError::Param { message, .. }) => Some(JobError::at(PLACE, format!("{reference}: {message}"))),
        Err(other) => Some(JobError::at(PLACE, format!("{reference}: {other}"))),
    }
}

/// Columns and features stay as they were.
fn of_columns(job: &Job, record: &Record, artifact: &Artifact, reference: &str) -> Vec<JobError> {
    let (own, before) = (&job.columns, &record.job.columns);
    let target = artifact.pipeline.target.as_ref().map(|target| &target.column);
    let mut errors = Vec::new();
    let mut refuse = |path: &str, message: String| errors.push(JobError::at(path, message));
    if own.target.is_some() && own.target.as_ref() != target {
        let (own, target) = (own.target.as_deref().unwrap_or_default(), target.map_or("nothing", String::as_str));
        refuse("columns.target", format!("the target is `{own}`, that of {reference} is `{target}`: it must stay the same"));
    }
    if own.offset != artifact.pipeline.offset {
        let name = |offset: &Option<String>| offset.as_ref().map_or_else(|| "none".to_owned(), |name| format!("`{name}`"));
        let (own, offset) = (name(&own.offset), name(&artifact.pipeline.offset));
        refuse("columns.offset", format!("the offset is {own}, that of {reference} is {offset}: it must stay the same"));
    }
    // What is as it was may be said again, so that the model's own job file can be run with `warm_start`.
    let changed = [
        ("features", !job.features.is_empty() && job.features != record.job.features),
        ("columns.positive", own.positive.is_some() && own.positive != before.positive),
        ("columns.categorical", !own.categorical.is_empty() && own.categorical != before.categorical),
        ("columns.ignore", !own.ignore.is_empty() && own.ignore != before.ignore),
    ];
    for (path, _) in changed.into_iter().filter(|(_, changed)| *changed) {
        refuse(path, format!("`{path}` is not that of {reference}: training goes on with the model's own, leave it out"));
    }
    errors
}

/// Whether the prepared rows have what the model's features, the target and the weights are read from.
fn fits(sources: &Sources<'_>, job: &Job, artifact: &Artifact, planned: &Planned, now_ns: i64) -> Result<(), JobError> {
    let session = sources.stores.session(now_ns);
    let compiled = View::features(job, &artifact.pipeline).compile(planned.schema.clone(), &session);
    compiled.map(drop).map_err(|error| JobError::at(PLACE, Fault::from(error).message))
}
