//! Scoring rows with a model, distributed: an order of its own, or the `predict` section of a job.

use serde_json::{Value, json};
use sheaf_dataflow::dataset::Dataset;
use sheaf_dataflow::job::{Job, PredictSection};
use sheaf_dataflow::rows::Rows;
use sheaf_dataflow::score::Scorer;
use sheaf_runtime::artifact::Artifact;
use sheaf_runtime::fault::Fault;
use sheaf_runtime::order::{ModelId, Predict, of_section};

use super::folder::{self, Target, Written};
use super::{Driver, Finish, Part, account, phases};
use crate::validate::load_artifact;

/// Takes a prediction through its phases.
pub async fn run(driver: &mut Driver, order: &Predict) -> Result<Finish, Fault> {
    let (dataset, written) = score(driver, order).await?;
    let result = json!({
        "job": driver.job.0,
        "name": order.job.name,
        "state": "succeeded",
        "params": order.job.params,
        "model": {"reference": order.reference, "sha256": order.model},
        "phases": phase_list(driver),
        "work": account::work(&driver.accounts),
        "rows": {"scored": dataset.rows()},
        "outputs": [written.path],
        "warnings": driver.warnings,
    });
    Ok(Finish { result, broken: None })
}

/// Scores the rows of a job's `predict` section with its model; the job's result says so afterwards.
pub async fn section(
    driver: &mut Driver,
    job: &Job,
    section: &PredictSection,
    model: ModelId,
    result: &mut Value,
) -> Result<(), Fault> {
    let accepted = driver.scored.clone();
    driver.data = accepted.ok_or_else(|| Fault::internal("the rows to be scored were not planned when the job was accepted"))?;
    driver.part = Part::Prediction;
    let (_, written) = score(driver, &of_section(job, section, model)?).await?;
    if let Some(outputs) = result["outputs"].as_array_mut() {
        outputs.push(json!(written.path));
    }
    result["rows"]["scored"] = json!(written.rows);
    result["phases"] = json!(phase_list(driver));
    result["work"] = json!(account::work(&driver.accounts));
    result["warnings"] = json!(driver.warnings);
    Ok(())
}

async fn score(driver: &mut Driver, order: &Predict) -> Result<(Dataset, Written), Fault> {
    let planned = phases::pin(driver, &order.job).await?;
    let dataset = phases::prepare(driver, &order.job, &planned).await?;
    let artifact = load_artifact(&driver.context, order).await?;
    let target = Target { to: &order.to, writer: order.writer(), phase: "score", detail: &order.reference };
    let written = folder::write(driver, &dataset, rows(artifact, order), &target).await?;
    Ok((dataset, written))
}

/// Features and model with what is carried along.
pub fn rows(artifact: Artifact, order: &Predict) -> Rows {
    let (key, keep) = (order.job.columns.key.clone(), order.keep.clone());
    let details = order.details.clone();
    Rows::Scores(Box::new(Scorer { pipeline: artifact.pipeline, model: artifact.model, key, keep, details }))
}

/// The finished phases with their seconds, as results tell them.
pub fn phase_list(driver: &Driver) -> Vec<Value> {
    driver.seconds.iter().map(|(name, seconds)| json!({"name": name, "seconds": seconds})).collect()
}
