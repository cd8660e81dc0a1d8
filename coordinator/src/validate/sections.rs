//! What a job writes and scores, checked before it runs: folders that may be replaced, and rows that have what the
//! model reads.

use sheaf_dataflow::condition;
use sheaf_dataflow::error::DataError;
use sheaf_dataflow::job::{Job, JobError, PredictSection};
use sheaf_dataflow::pipeline::ColumnUse;
use sheaf_dataflow::plan::{Planned, plan};
use sheaf_dataflow::stores::Stores;
use sheaf_runtime::fault::Fault;
use sheaf_runtime::order::{ModelId, in_section, of_section, writer};
use sheaf_runtime::output::Output;

/// Folders of the job that it may not write or replace.
pub fn folders(stores: &Stores, job: &Job) -> Vec<JobError> {
    let all = [
        ("predict", "predict.to", job.predict.as_ref().map(|section| &section.to)),
        ("prepared", "write.prepared", job.write.prepared.as_ref()),
        ("features", "write.features", job.write.features.as_ref()),
    ];
    let refused = all.into_iter().filter_map(|(section, path, to)| {
        // Written by the same section of the same job, and by nobody else.
        Output::check(stores, to?, &writer(job, section), path).err()
    });
    refused.collect()
}

/// Plans the rows that the section scores; they must have the columns that the model reads, by their use in training.
pub async fn plan_scored(
    stores: &Stores,
    job: &Job,
    section: &PredictSection,
    columns: &[ColumnUse],
    now_ns: i64,
) -> Result<Planned, Fault> {
    let planned = plan_rows(stores, job, section, now_ns).await?;
    let features = columns.iter().filter(|c| c.used && c.role.split(", ").all(|role| !BESIDE.contains(&role)));
    let read: Vec<&str> = features.map(|c| c.name.as_str()).collect();
    has_columns(&planned, &read, job, section).map_err(Fault::job)?;
    Ok(planned)
}

/// Roles that only training needs.
const BESIDE: [&str; 4] = ["target", "weight", "split", "key"];

/// Plans the rows that the section scores.
pub async fn plan_rows(stores: &Stores, job: &Job, section: &PredictSection, now_ns: i64) -> Result<Planned, Fault> {
    if let Some(condition) = &section.filter {
        condition::check(condition, "predict.where")?;
    }
    // Which model scores them makes no difference to the rows.
    let order = of_section(job, section, ModelId::default())?;
    plan(&order.job, stores, now_ns).await.map_err(|error| match error {
        DataError::Job(error) => in_section(section, error).into(),
        other => Fault::from(other).context("predict"),
    })
}

/// Errors for columns that the rows lack: those that the model reads, the key, and those to keep.
fn has_columns(planned: &Planned, read: &[&str], job: &Job, section: &PredictSection) -> Result<(), Vec<JobError>> {
    let names: Vec<&str> = planned.dataset.columns.iter().map(|c| c.name.as_str()).collect();
    let missing = |name: &str| !names.contains(&name);
    let hint = format!("the rows have: {}", names.join(", "));
    let at = if section.from.is_some() { "predict.from" } else { "predict" };
    let read = read.iter().filter(|name| missing(name)).map(|name| (at, format!("the model reads column `{name}`")));
    let key = job.columns.key.iter().filter(|name| missing(name)).map(|name| (at, format!("the key has column `{name}`")));
    let keep =
        section.keep.iter().filter(|name| missing(name)).map(|name| ("predict.keep", format!("column `{name}` is to be kept")));
    let errors: Vec<JobError> = read
        .chain(key)
        .chain(keep)
        .map(|(path, what)| JobError::at(path, format!("{what}, which the rows to be scored do not have")).hint(&hint))
        .collect();
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}
