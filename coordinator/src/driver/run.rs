//! A job file from accepted to published.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sheaf_dataflow::checks::{self, CheckOutcome};
use sheaf_dataflow::dataset::Dataset;
use sheaf_dataflow::job::{ExportFormat, Job, Publish, Severity, Train};
use sheaf_dataflow::pipeline::{FitRequest, Fitting, Pipeline, profile_warnings};
use sheaf_dataflow::plan::Planned;
use sheaf_dataflow::view::View;
use sheaf_learn::algorithm::Report as StepReport;
use sheaf_learn::algorithms::warm_start;
use sheaf_learn::metrics::{self, MetricsOutput};
use sheaf_learn::model::Fitted;
use sheaf_learn::program::ProgramSpec;
use sheaf_learn::registry;
use sheaf_learn::statistics::moments::{ColumnMoments, MomentsOutput};
use sheaf_runtime::artifact::Artifact;
use sheaf_runtime::fault::Fault;
use sheaf_runtime::onnx;
use sheaf_runtime::order::ModelId;
use sheaf_runtime::registry::{Export, Record};

use super::{Driver, Finish, account, phases, predict, stages};
use crate::crash;
use crate::validate::{metric_names, task_of};

/// Takes a job through its phases.
pub async fn run(driver: &mut Driver, job: &Job) -> Result<Finish, Fault> {
    let planned = phases::pin(driver, job).await?;
    let dataset = phases::prepare(driver, job, &planned).await?;
    let mut report = Report::of(&dataset);
    check(driver, job, &planned, &dataset, &mut report).await?;
    if let Some(broken) = broken_checks(&report.checks) {
        return Ok(Finish { result: report.result(driver, job, "failed"), broken: Some(broken) });
    }
    stages::prepared(driver, job, &dataset, &mut report).await?;
    profile(driver, job, &planned, &dataset, &mut report).await?;
    let earlier = earlier(driver).await?;
    let pipeline = fit(driver, job, &planned, &dataset, earlier.as_ref()).await?;
    for warning in profile_warnings(&pipeline, &json!(report.profile))? {
        driver.warn(warning);
    }
    stages::features(driver, job, &pipeline, &planned, &dataset, &mut report).await?;
    let Some(train) = &job.train else {
        return Ok(Finish { result: report.result(driver, job, "succeeded"), broken: None });
    };
    let trained = learn(driver, job, train, &pipeline, &dataset, earlier.as_ref()).await?;
    report.training = trained.summary();
    if !trained.fitted.converged {
        driver.warn("training stopped before it converged; raise `train.max_iterations`");
    }
    let artifact = Artifact::new(pipeline, trained.fitted.model);
    report.sha256 = artifact.sha256()?;
    let view = View::features(job, &artifact.pipeline);
    // What learns without a target is measured only where there is one all the same.
    if artifact.pipeline.target.is_some() {
        evaluate(driver, job, task_of(train), view, &artifact, &dataset, &mut report).await?;
    }
    let broken = judge_limits(job, &mut report);
    let mut finish = publish(driver, job, &artifact, report, broken).await?;
    if let (Some(section), None) = (&job.predict, &finish.broken) {
        let model = model_of(driver, &artifact, &finish.result).await?;
        predict::section(driver, job, section, model, &mut finish.result).await?;
    }
    Ok(finish)
}

/// The model that the job has just made, as its result names it.
async fn model_of(driver: &Driver, artifact: &Artifact, result: &Value) -> Result<ModelId, Fault> {
    let (name, version) = (result["model"]["name"].as_str(), result["model"]["version"].as_u64());
    let reference = match (name, version) {
        (Some(name), Some(version)) => format!("{name}@{version}"),
        _ => driver.job.0.clone(),
    };
    Ok(ModelId {
        reference,
        name: name.map(str::to_owned),
        version: version.and_then(|v| u32::try_from(v).ok()),
        sha256: artifact.sha256()?,
        artifact: driver.context.documents.put(artifact).await?,
    })
}

/// What the result object is made of.
#[derive(Default)]
pub struct Report {
    data: String,
    rows: u64,
    /// What the checks came to.
    pub checks: Vec<CheckOutcome>,
    profile: MomentsOutput,
    training: Value,
    metrics: Option<MetricsOutput>,
    limits: Vec<Value>,
    sha256: String,
    /// The model: `{name, version, sha256}`.
    pub model: Value,
    /// Folders that were written.
    pub outputs: Vec<String>,
}

impl Report {
    /// The report of a job over these rows.
    pub fn of(dataset: &Dataset) -> Self {
        Self { data: dataset.fingerprint(), rows: dataset.rows(), ..Self::default() }
    }

    /// Rows by segment: those profiled, and where they are known those measured.
    fn segment_rows(&self) -> BTreeMap<String, u64> {
        let first = |columns: &Vec<ColumnMoments>| columns.first().map_or(0, |column| column.rows);
        let profiled = self.profile.segments.iter().map(|(segment, columns)| (segment.clone(), first(columns)));
        let measured = self.metrics.iter().flat_map(|metrics| metrics.rows.clone());
        profiled.chain(measured).collect()
    }

    /// The result object.
    pub fn result(&self, driver: &Driver, job: &Job, state: &str) -> Value {
        let metrics = self.metrics.as_ref().map_or_else(|| json!({}), |m| json!(m.segments));
        let mut rows = json!({"prepared": self.rows});
        for (segment, count) in self.segment_rows() {
            rows[segment] = json!(count);
        }
        let mut result = json!({
            "job": driver.job.0,
            "name": job.name,
            "state": state,
            "params": job.params,
            "model": self.model,
            "metrics": metrics,
            "undefined": self.metrics.as_ref().map(|m| json!(m.undefined)),
            "slices": {},
            "limits": self.limits,
            "checks": self.checks,
            "training": self.training,
            "phases": predict::phase_list(driver),
            "work": account::work(&driver.accounts),
            "rows": rows,
            "data": self.data,
            "outputs": self.outputs,
            "warnings": driver.warnings,
        });
        if let Some(metrics) = self.metrics.as_ref().filter(|metrics| !metrics.classes.is_empty()) {
            result["classes"] = json!(metrics.classes);
            result["confusion"] = json!(metrics.confusion);
        }
        result
    }
}

/// Counts what the checks look at and judges them.
pub async fn check(
    driver: &mut Driver,
    job: &Job,
    planned: &Planned,
    dataset: &Dataset,
    report: &mut Report,
) -> Result<(), Fault> {
    if job.checks.is_empty() {
        return Ok(());
    }
    if let Some(outcomes) = driver.enter("check", &format!("{} checks", job.checks.len())).await? {
        report.checks = outcomes;
        return Ok(());
    }
    let mut results = Vec::new();
    for request in checks::requests(job, &planned.schema).map_err(Fault::job)? {
        results.push(phases::measure(driver, dataset, request, false).await?.0);
    }
    report.checks = checks::judge(job, &results)?;
    for outcome in report.checks.iter().filter(|o| !o.passed && o.severity == Severity::Warn) {
        driver.warn(format!("check `{}`: {}", outcome.name, outcome.message));
    }
    driver.finish(&report.checks).await
}

/// What the broken checks say.
pub fn broken_checks(outcomes: &[CheckOutcome]) -> Option<String> {
    let broken: Vec<String> = outcomes
        .iter()
        .filter(|o| !o.passed && o.severity == Severity::Fail)
        .map(|o| format!("check `{}` is broken: {}", o.name, o.message))
        .collect();
    (!broken.is_empty()).then(|| broken.join("\n"))
}

async fn profile(driver: &mut Driver, job: &Job, planned: &Planned, dataset: &Dataset, report: &mut Report) -> Result<(), Fault> {
    if let Some(profile) = driver.enter("profile", "").await? {
        report.profile = profile;
        return Ok(());
    }
    let (value, _) = phases::measure(driver, dataset, checks::profile(job, &planned.schema), false).await?;
    report.profile = serde_json::from_value(value).map_err(|e| Fault::internal(format!("read the profile: {e}")))?;
    driver.finish(&report.profile).await
}

/// The model that training goes on from.
async fn earlier(driver: &Driver) -> Result<Option<Artifact>, Fault> {
    match &driver.earlier {
        None => Ok(None),
        Some(model) => Ok(Some(Artifact::load(&driver.context.documents, &model.artifact, &model.sha256).await?)),
    }
}

/// Fits the features; those of an earlier model are there already.
async fn fit(
    driver: &mut Driver,
    job: &Job,
    planned: &Planned,
    dataset: &Dataset,
    earlier: Option<&Artifact>,
) -> Result<Pipeline, Fault> {
    if let Some(pipeline) = driver.enter("fit features", &format!("{} steps", job.features.len())).await? {
        return Ok(pipeline);
    }
    let fitting = match earlier {
        None => Fitting::new(job, &planned.schema),
        Some(earlier) => Fitting::frozen(job, &planned.schema, &earlier.pipeline),
    };
    let mut fitting = fitting.map_err(Fault::job)?;
    while let Some(request) = fitting.request()? {
        let (value, _) = phases::measure(driver, dataset, request, false).await?;
        fitting.supply(value)?;
    }
    let warnings = fitting.warnings().to_vec();
    let pipeline = earlier.map_or_else(|| fitting.pipeline(), |earlier| earlier.pipeline.clone());
    warnings.into_iter().for_each(|w| driver.warn(w));
    driver.finish(&pipeline).await?;
    Ok(pipeline)
}

/// A fitted model and how its loss went.
#[derive(Serialize, Deserialize)]
struct Trained {
    fitted: Fitted,
    losses: Vec<f64>,
    validation_losses: Vec<f64>,
}

impl Trained {
    fn new(fitted: Fitted, reports: &[Vec<StepReport>]) -> Self {
        let value = |report: &[StepReport], name: &str| report.iter().find(|r| r.name == name).map(|r| r.value);
        // Several steps may go into one tree; its loss is told in each of them.
        let trees = |report: &[StepReport]| value(report, "trees");
        let told = |at: &usize| *at == 0 || trees(&reports[*at]).is_none() || trees(&reports[*at]) != trees(&reports[at - 1]);
        let series = |name| (0..reports.len()).filter(told).filter_map(|at| value(&reports[at], name)).collect();
        Self { fitted, losses: series("loss"), validation_losses: series("validation_loss") }
    }

    /// What the result object says of it.
    fn summary(&self) -> Value {
        let Fitted { iterations, converged, .. } = self.fitted;
        let mut out = json!({"iterations": iterations, "converged": converged, "loss": self.losses});
        if !self.validation_losses.is_empty() {
            out["validation_loss"] = json!(self.validation_losses);
        }
        out
    }
}

/// The parameters of what is trained; one that draws at random and has no seed of its own takes the job's.
fn seeded(job: &Job, train: &Train) -> BTreeMap<String, Value> {
    let mut params = train.params.clone();
    let draws = registry::learner(&train.algorithm).is_ok_and(|entry| entry.params.iter().any(|p| p.name == "seed"));
    if draws {
        params.entry("seed".to_owned()).or_insert_with(|| json!(job.seed));
    }
    params
}

async fn learn(
    driver: &mut Driver,
    job: &Job,
    train: &Train,
    pipeline: &Pipeline,
    dataset: &Dataset,
    earlier: Option<&Artifact>,
) -> Result<Trained, Fault> {
    if let Some(trained) = driver.enter("train", &train.algorithm).await? {
        return Ok(trained);
    }
    let mut params = seeded(job, train);
    if let Some(earlier) = earlier {
        params.insert(warm_start::NAME.to_owned(), json!(earlier.model));
    }
    let params = json!(params);
    let program = ProgramSpec { name: train.algorithm.clone(), params, schema: pipeline.schema.clone() };
    let request = FitRequest { label: "train".into(), view: View::features(job, pipeline), program };
    let (value, ended) = phases::measure(driver, dataset, request, true).await?;
    let fitted: Fitted = serde_json::from_value(value).map_err(|e| Fault::internal(format!("read the fitted model: {e}")))?;
    for warning in &fitted.warnings {
        driver.warn(warning.clone());
    }
    let trained = Trained::new(fitted, &ended.reports);
    driver.finish(&trained).await?;
    Ok(trained)
}

/// Measures a model over a view of the rows.
pub async fn evaluate(
    driver: &mut Driver,
    job: &Job,
    task: &str,
    view: View,
    artifact: &Artifact,
    dataset: &Dataset,
    report: &mut Report,
) -> Result<(), Fault> {
    let names = metric_names(job, task);
    if let Some(output) = driver.enter("evaluate", &names.join(", ")).await? {
        report.metrics = Some(output);
        return Ok(());
    }
    let params = json!({"model": artifact.model, "task": task, "metrics": names, "segments": job.evaluate.segments});
    let program = ProgramSpec { name: "metrics".into(), params, schema: artifact.pipeline.schema.clone() };
    let request = FitRequest { label: "evaluate".into(), view, program };
    let (value, _) = phases::measure(driver, dataset, request, false).await?;
    let output: MetricsOutput = serde_json::from_value(value).map_err(|e| Fault::internal(format!("read metrics: {e}")))?;
    driver.finish(&output).await?;
    report.metrics = Some(output);
    Ok(())
}

/// Compares limits with metrics; gives what is broken. A metric that does not exist breaks its limit.
pub fn judge_limits(job: &Job, report: &mut Report) -> Option<String> {
    let metrics = report.metrics.as_ref();
    let mut broken = Vec::new();
    for limit in &job.evaluate.limits {
        let name = format!("{}.{}", limit.segment, metrics::canonical_name(&limit.metric));
        let value =
            metrics.and_then(|m| m.segments.get(&limit.segment)?.get(metrics::canonical_name(&limit.metric)).copied().flatten());
        let passed = value.is_some_and(|v| limit.min.is_none_or(|min| v >= min) && limit.max.is_none_or(|max| v <= max));
        report.limits.push(json!({"name": name, "value": value, "min": limit.min, "max": limit.max, "passed": passed}));
        if !passed {
            let found = value.map_or_else(|| "has no value".to_owned(), |v| format!("is {v:.6}"));
            let wanted = [limit.min.map(|m| format!("at least {m}")), limit.max.map(|m| format!("at most {m}"))];
            broken.push(format!(
                "limit {name}: it {found}, it must be {}",
                wanted.into_iter().flatten().collect::<Vec<_>>().join(" and ")
            ));
        }
    }
    (!broken.is_empty()).then(|| broken.join("\n"))
}

async fn publish(
    driver: &mut Driver,
    job: &Job,
    artifact: &Artifact,
    mut report: Report,
    broken: Option<String>,
) -> Result<Finish, Fault> {
    let state = if broken.is_some() { "failed" } else { "succeeded" };
    if let Some(result) = driver.enter::<Value>("publish", "").await? {
        return Ok(Finish { result, broken });
    }
    let document = driver.context.documents.put(artifact).await?;
    let schema = &artifact.pipeline.schema;
    let (intercept, coefficients) = artifact.model.raw_coefficients(schema).unzip();
    report.model = json!({"name": null, "version": null, "sha256": report.sha256});
    let record = Record {
        name: None,
        version: None,
        sha256: report.sha256.clone(),
        artifact: document,
        job_id: driver.job.0.clone(),
        created: created(driver.now_ns),
        job: job.clone(),
        data_fingerprint: report.data.clone(),
        numeric_version: artifact.numeric_version,
        code_version: env!("CARGO_PKG_VERSION").to_owned(),
        result: report.result(driver, job, state),
        intercept,
        coefficients,
        importances: artifact.model.importances(schema),
        warm_start: driver.earlier.clone(),
        exports: BTreeMap::new(),
    };
    let registry = driver.context.registry.clone();
    registry.keep(&record).await.map_err(Fault::internal)?;
    if let (Some(target), None) = (&job.publish, &broken) {
        let name = target.model.clone().unwrap_or_else(|| job.name.clone());
        let exports = exports(driver, target, &name, artifact).await?;
        let published = registry.publish(&name, Record { exports, ..record }).await.map_err(Fault::internal)?;
        crash::point("after-publish");
        report.model = json!({"name": name, "version": published.version, "sha256": report.sha256});
        if let (Some(alias), Some(version)) = (&target.alias, published.version) {
            registry.set_alias(&name, alias, version).await.map_err(Fault::internal)?;
        }
    }
    driver.finish(&report.result(driver, job, state)).await?;
    Ok(Finish { result: report.result(driver, job, state), broken })
}

/// Writes the model in the formats that are asked for.
async fn exports(driver: &Driver, target: &Publish, name: &str, artifact: &Artifact) -> Result<BTreeMap<String, Export>, Fault> {
    let mut out = BTreeMap::new();
    for format in &target.export {
        let whole = artifact.clone();
        let written = match format {
            ExportFormat::Onnx => tokio::task::spawn_blocking(move || onnx::export(&whole)),
        };
        let bytes = written.await.map_err(|e| Fault::internal(format!("export the model: {e}")))??;
        let export = driver.context.registry.export(name, format.name(), bytes.into()).await.map_err(Fault::internal)?;
        out.insert(format.name().to_owned(), export);
    }
    Ok(out)
}

fn created(now_ns: i64) -> String {
    chrono::DateTime::from_timestamp_nanos(now_ns).to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}
