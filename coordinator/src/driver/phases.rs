//! Phases that training and prediction share: planning, counting, materialising, and stages over views.

use serde::de::DeserializeOwned;
use sheaf_cluster::stage::StagePlan;
use sheaf_dataflow::dataset::{Counted, Dataset};
use sheaf_dataflow::engine::Preparing;
use sheaf_dataflow::job::{Job, JobError};
use sheaf_dataflow::pipeline::FitRequest;
use sheaf_dataflow::plan::{MATERIALISED_SPLIT_WARNING, Needs, Planned, plan};
use sheaf_dataflow::query::QueryProgress;
use sheaf_proto::v1::{self, watch_job_response::Event as Watch};
use sheaf_runtime::documents::join;
use sheaf_runtime::fault::{Fault, Kind};
use sheaf_runtime::work::{Work, decode_outputs};

use super::Driver;
use crate::event_loop::Ended;
use crate::host::Product;

/// Plans the job against the data as it is now and refuses what changed since it was accepted.
pub async fn pin(driver: &mut Driver, job: &Job) -> Result<Planned, Fault> {
    let known: Option<String> = driver.enter("plan", "").await?;
    let planned = plan(job, &driver.context.stores, driver.now_ns).await?;
    let fingerprint = planned.dataset.fingerprint();
    if fingerprint != driver.data {
        let message = "input changed: the tables are not what they were when the job was accepted; submit it again";
        return Err(Fault::new(Kind::Data, message));
    }
    if known.is_none() {
        driver.finish(&fingerprint).await?;
    }
    for warning in &planned.warnings {
        driver.warn(warning.clone());
    }
    Ok(planned)
}

/// Brings the planned rows into canonical shards: counts what filters keep, writes what must be written.
pub async fn prepare(driver: &mut Driver, job: &Job, planned: &Planned) -> Result<Dataset, Fault> {
    if let Some(dataset) = driver.enter::<Dataset>("prepare", "").await? {
        return Ok(dataset);
    }
    let source = planned.dataset.clone();
    let dataset = match planned.needs {
        Needs::Nothing => source,
        Needs::Materialise => materialise(driver, source).await?,
        Needs::Query => compute(driver, planned).await?,
        Needs::Count => {
            let plan = StagePlan::tasks(source.units());
            let ended = driver.stage(plan, Work::Count { dataset: source.clone() }, false).await?;
            let counts: Vec<u64> = outputs(&ended)?;
            match source.with_counts(counts) {
                Counted::Ready(dataset) => dataset,
                Counted::Materialise(dataset) => {
                    if job.split.is_some() && job.columns.key.is_empty() {
                        driver.warn(MATERIALISED_SPLIT_WARNING);
                    }
                    materialise(driver, dataset).await?
                }
            }
        }
    };
    if dataset.rows() == 0 {
        let hint = "look at the tables' paths and at the conditions of `prepare`";
        return Err(JobError::at("prepare", "the prepared data has no rows").hint(hint).into());
    }
    driver.finish(&dataset).await?;
    Ok(dataset)
}

async fn materialise(driver: &mut Driver, dataset: Dataset) -> Result<Dataset, Fault> {
    let area = join(&driver.context.base, &driver.area());
    let ended = driver.stage(StagePlan::one_task(), Work::Materialise { dataset, area }, false).await?;
    let mut written: Vec<Dataset> = outputs(&ended)?;
    written.pop().ok_or_else(|| Fault::internal("writing the shards gave nothing"))
}

/// Has the query engine compute the rows and write them.
async fn compute(driver: &mut Driver, planned: &Planned) -> Result<Dataset, Fault> {
    let copies = format!("jobs/{}/exchange/{}", driver.job, driver.phase);
    let (area, copies) = (join(&driver.context.base, &driver.area()), join(&driver.context.base, &copies));
    let preparing = Preparing { area, copies, partitions: None };
    let (queries, mut waiting) = (driver.context.queries.clone(), false);
    let mut shown = QueryProgress::default();
    let prepared = queries.prepare(planned, &preparing, |progress: QueryProgress| {
        if progress == QueryProgress::default() && !waiting {
            driver.log("info", None, "waiting for a worker to run the query".to_owned());
            waiting = true;
        }
        if progress != shown {
            shown = progress;
            let (done, total) = (u64::from(progress.tasks_done), u64::from(progress.tasks));
            let phase = "prepare".to_owned();
            driver.show(Watch::PhaseProgress(v1::PhaseProgress { phase, done, total, ..Default::default() }));
        }
    });
    Ok(prepared.await?)
}

/// Outputs of a stage of tasks, in task order.
pub fn outputs<T: DeserializeOwned>(ended: &Ended) -> Result<Vec<T>, Fault> {
    let Product::Outputs(bytes) = &ended.product else { return Err(Fault::internal("a stage of tasks gave no outputs")) };
    let outputs = decode_outputs(bytes)?;
    outputs
        .into_iter()
        .map(|o| serde_json::from_str(&o.output).map_err(|e| Fault::internal(format!("read output of task {}: {e}", o.task))))
        .collect()
}

/// Runs a program over a view of the dataset.
pub async fn measure(
    driver: &mut Driver,
    dataset: &Dataset,
    request: FitRequest,
    checkpoints: bool,
) -> Result<(serde_json::Value, Ended), Fault> {
    let sticky = u64::from_str_radix(&dataset.fingerprint()[..16], 16).ok();
    let plan = StagePlan::shards(dataset.shards(), dataset.boundaries(), sticky);
    let work = Work::Steps { dataset: dataset.clone(), view: Box::new(request.view), program: request.program };
    let label = request.label;
    let ended = driver
        .stage(plan, work, checkpoints)
        .await
        .map_err(|fault| if fault.errors.is_empty() { fault.context(&label) } else { fault })?;
    let Product::Value(value) = &ended.product else { return Err(Fault::internal("a stage of steps gave no result")) };
    Ok((value.clone(), ended))
}
