//! Scoring rows with a model, distributed, into a folder of Parquet files that appears at once.

use std::path::PathBuf;

use serde_json::{Value, json};
use sheaf_cluster::stage::StagePlan;
use sheaf_dataflow::dataset::Dataset;
use sheaf_dataflow::score::Scorer;
use sheaf_runtime::artifact::Artifact;
use sheaf_runtime::fault::Fault;
use sheaf_runtime::order::Predict;
use sheaf_runtime::output::Output;
use sheaf_runtime::work::Work;

use super::{Driver, Finish, account, phases};
use crate::crash;
use crate::validate::load_artifact;

/// Takes a prediction through its phases.
pub async fn run(driver: &mut Driver, order: &Predict) -> Result<Finish, Fault> {
    let planned = phases::pin(driver, &order.job).await?;
    let dataset = phases::prepare(driver, &order.job, &planned).await?;
    let artifact = load_artifact(&driver.context, order).await?;
    let known: Option<Value> = driver.enter("score", &order.reference).await?;
    let written = match known {
        Some(written) => written,
        None => {
            // An earlier leader may have come as far as the folder, and not to the journal.
            let (path, rows) = match Output::written(&order.to, &writer(order), &driver.job.0)? {
                Some((path, marker)) => (path, marker.rows),
                None => score(driver, order, &dataset, artifact).await?,
            };
            crash::point("after-output");
            let written = json!({"path": path.to_string_lossy(), "rows": rows});
            driver.finish(&written).await?;
            written
        }
    };
    let phases: Vec<Value> = driver.seconds.iter().map(|(name, seconds)| json!({"name": name, "seconds": seconds})).collect();
    let result = json!({
        "job": driver.job.0,
        "name": order.job.name,
        "state": "succeeded",
        "params": order.job.params,
        "model": {"reference": order.reference, "sha256": order.model},
        "phases": phases,
        "work": account::work(&driver.accounts),
        "rows": {"scored": dataset.rows()},
        "outputs": [written["path"]],
        "warnings": driver.warnings,
    });
    Ok(Finish { result, broken: None })
}

/// Scores all rows into the folder, which appears at once; gives its path and the rows.
async fn score(driver: &mut Driver, order: &Predict, dataset: &Dataset, artifact: Artifact) -> Result<(PathBuf, u64), Fault> {
    let output = Output::open(&order.to, &writer(order), &driver.job.0)?;
    let chunks = chunks(dataset.boundaries(), dataset.shards());
    let to = output.staging().to_string_lossy().into_owned();
    let files = (0..chunks.len() as u32 - 1).map(file_name).collect();
    let plan = StagePlan::tasks(chunks.len() as u32 - 1);
    let scorer = scorer(artifact, order);
    let ended = driver.stage(plan, Work::Score { dataset: dataset.clone(), scorer, chunks, to }, false).await?;
    let rows: u64 = phases::outputs::<u64>(&ended)?.into_iter().sum();
    if rows != dataset.rows() {
        return Err(Fault::internal(format!("{rows} rows were scored, {} were prepared", dataset.rows())));
    }
    Ok((output.commit(rows, files)?, rows))
}

/// Whoever may replace the folder: the same model name scoring again.
pub fn writer(order: &Predict) -> String {
    format!("predict {}", order.reference.split('@').next().unwrap_or(&order.reference))
}

/// Features and model with what is carried along.
pub fn scorer(artifact: Artifact, order: &Predict) -> Scorer {
    Scorer { pipeline: artifact.pipeline, model: artifact.model, key: order.job.columns.key.clone(), keep: order.keep.clone() }
}

/// First shard of each file and, last, the number of shards: a file per load unit with rows of its own.
pub fn chunks(mut boundaries: Vec<u32>, shards: u32) -> Vec<u32> {
    if boundaries.first() != Some(&0) {
        boundaries.insert(0, 0);
    }
    boundaries.retain(|b| *b < shards);
    boundaries.push(shards);
    boundaries
}

/// Name of a chunk's file.
fn file_name(chunk: u32) -> String {
    format!("part-{chunk:05}.parquet")
}
