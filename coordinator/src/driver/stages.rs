//! Stages of a job that its `write` section has written to folders: prepared rows, and the feature matrix.

use sheaf_dataflow::dataset::Dataset;
use sheaf_dataflow::job::Job;
use sheaf_dataflow::matrix::Matrix;
use sheaf_dataflow::pipeline::{Fitting, Pipeline};
use sheaf_dataflow::plan::Planned;
use sheaf_dataflow::rows::Rows;
use sheaf_dataflow::split::SplitRule;
use sheaf_runtime::fault::Fault;
use sheaf_runtime::order::writer;

use super::Driver;
use super::folder::{self, Target};
use super::run::Report;

/// Writes the prepared rows, if the job asks for them.
pub async fn prepared(driver: &mut Driver, job: &Job, dataset: &Dataset, report: &mut Report) -> Result<(), Fault> {
    let Some(to) = &job.write.prepared else { return Ok(()) };
    let target = Target { to, writer: writer(job, "prepared"), phase: "write prepared", detail: "" };
    report.outputs.push(folder::write(driver, dataset, Rows::Prepared, &target).await?.path);
    Ok(())
}

/// Writes the feature matrix, if the job asks for it.
pub async fn features(
    driver: &mut Driver,
    job: &Job,
    pipeline: &Pipeline,
    planned: &Planned,
    dataset: &Dataset,
    report: &mut Report,
) -> Result<(), Fault> {
    let Some(to) = &job.write.features else { return Ok(()) };
    let left_out = if driver.earlier.is_some() { Vec::new() } else { left_out(job, planned)? };
    for column in left_out {
        driver.warn(format!("write.features: column `{column}` is left out: it is no number, and no step encodes it"));
    }
    let matrix = matrix(job, pipeline, dataset);
    let target = Target { to, writer: writer(job, "features"), phase: "write features", detail: "" };
    report.outputs.push(folder::write(driver, dataset, Rows::Features(Box::new(matrix)), &target).await?.path);
    Ok(())
}

/// Prepared columns that are features by the job's words and not in the matrix; an existing model has settled them.
fn left_out(job: &Job, planned: &Planned) -> Result<Vec<String>, Fault> {
    match job.model {
        None => Ok(Fitting::new(job, &planned.schema).map_err(Fault::job)?.unencoded()),
        Some(_) => Ok(Vec::new()),
    }
}

/// Key, target, weight and offset stand beside the features, as far as the rows have them.
fn matrix(job: &Job, pipeline: &Pipeline, dataset: &Dataset) -> Matrix {
    let columns = &job.columns;
    let roles = [&columns.target, &columns.weight, &columns.offset].into_iter().flatten();
    let there = |name: &&String| dataset.columns.iter().any(|column| column.name == **name);
    let carried = columns.key.iter().chain(roles).filter(there).cloned().collect();
    let split = job.split.as_ref().map(|_| SplitRule::of(job));
    Matrix { pipeline: pipeline.clone(), carried, split }
}
