//! Folders that a job writes: what becomes of the rows of a dataset, a Parquet file per chunk of shards, in canonical
//! order. A folder appears at once, and once, through any failure.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sheaf_cluster::stage::StagePlan;
use sheaf_dataflow::dataset::Dataset;
use sheaf_dataflow::rows::Rows;
use sheaf_runtime::fault::Fault;
use sheaf_runtime::output::Output;
use sheaf_runtime::work::Work;

use super::{Driver, phases};
use crate::crash;

/// A folder to be written.
pub struct Target<'a> {
    /// Where it is.
    pub to: &'a str,
    /// Who may replace it.
    pub writer: String,
    /// The phase that writes it.
    pub phase: &'a str,
    /// What the phase is about, for people.
    pub detail: &'a str,
}

/// A folder that was written.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Written {
    /// Where it is.
    pub path: String,
    /// Rows in it.
    pub rows: u64,
}

/// Writes a folder as a phase of its own.
pub async fn write(driver: &mut Driver, dataset: &Dataset, rows: Rows, target: &Target<'_>) -> Result<Written, Fault> {
    if let Some(written) = driver.enter(target.phase, target.detail).await? {
        return Ok(written);
    }
    // An earlier leader may have come as far as the folder, and not to the journal.
    let stores = driver.context.stores.clone();
    let (path, rows) = match Output::written(&stores, target.to, &target.writer, &driver.job.0)? {
        Some((path, marker)) => (path, marker.rows),
        None => run(driver, dataset, rows, target).await?,
    };
    crash::point("after-output");
    let written = Written { path: path.to_string_lossy().into_owned(), rows };
    driver.finish(&written).await?;
    Ok(written)
}

async fn run(driver: &mut Driver, dataset: &Dataset, rows: Rows, target: &Target<'_>) -> Result<(PathBuf, u64), Fault> {
    let output = Output::open(&driver.context.stores, target.to, &target.writer, &driver.job.0)?;
    let chunks = chunks(dataset.boundaries(), dataset.shards());
    let to = output.staging().to_string_lossy().into_owned();
    let files = (0..chunks.len() as u32 - 1).map(file_name).collect();
    let plan = StagePlan::tasks(chunks.len() as u32 - 1);
    let ended = driver.stage(plan, Work::Write { dataset: dataset.clone(), rows, chunks, to }, false).await?;
    let rows: u64 = phases::outputs::<u64>(&ended)?.into_iter().sum();
    if rows != dataset.rows() {
        return Err(Fault::internal(format!("{rows} rows were written, {} were prepared", dataset.rows())));
    }
    Ok((output.commit(rows, files)?, rows))
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
