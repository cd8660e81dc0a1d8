//! A job with an existing model: its rows are prepared and checked, the model is measured and scores; nothing is trained
//! and nothing is published.

use serde_json::json;
use sheaf_dataflow::job::Job;
use sheaf_dataflow::view::View;
use sheaf_runtime::artifact::Artifact;
use sheaf_runtime::fault::Fault;
use sheaf_runtime::order::Existing;

use super::run::{self, Report};
use super::{Driver, Finish, phases, predict, stages};
use crate::validate::task_of_model;

/// Takes the job through its phases.
pub async fn run(driver: &mut Driver, existing: &Existing) -> Result<Finish, Fault> {
    let (job, model) = (&existing.job, &existing.model);
    let planned = phases::pin(driver, job).await?;
    let dataset = phases::prepare(driver, job, &planned).await?;
    let mut report = Report::of(&dataset);
    run::check(driver, job, &planned, &dataset, &mut report).await?;
    report.model = json!({
        "name": model.name, "version": model.version, "sha256": model.sha256, "reference": model.reference
    });
    if let Some(broken) = run::broken_checks(&report.checks) {
        return Ok(Finish { result: report.result(driver, job, "failed"), broken: Some(broken) });
    }
    let artifact = Artifact::load(&driver.context.documents, &model.artifact, &model.sha256).await?;
    stages::prepared(driver, job, &dataset, &mut report).await?;
    stages::features(driver, job, &artifact.pipeline, &planned, &dataset, &mut report).await?;
    if existing.evaluates() {
        let view = evaluated(job, &artifact, true);
        run::evaluate(driver, job, task_of_model(&artifact), view, &artifact, &dataset, &mut report).await?;
    }
    let broken = run::judge_limits(job, &mut report);
    let state = if broken.is_some() { "failed" } else { "succeeded" };
    let mut result = report.result(driver, job, state);
    if let (Some(section), None) = (&job.predict, &broken) {
        predict::section(driver, job, section, model.clone(), &mut result).await?;
    }
    Ok(Finish { result, broken })
}

/// What measuring an existing model reads; without `labels` its features alone. The job may call target and weight by
/// other names than the model's own job did.
pub fn evaluated(job: &Job, artifact: &Artifact, labels: bool) -> View {
    let mut view = View::features(job, &artifact.pipeline);
    if !labels {
        (view.target, view.weight) = (None, None);
    }
    if let (Some(target), Some(column)) = (&mut view.target, &job.columns.target) {
        target.column.clone_from(column);
    }
    view
}
