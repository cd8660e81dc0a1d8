//! `sheaf predict`: scores rows with a model, on an embedded cluster or in this process, through one function.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use sheaf_coordinator::driver::{chunks, predict_rows};
use sheaf_dataflow::dataset::{Counted, Dataset};
use sheaf_dataflow::job::{Details, Job, Param, Table};
use sheaf_dataflow::plan::{Needs, Planned, plan};
use sheaf_dataflow::reader::Reader;
use sheaf_dataflow::scratch::Scratch;
use sheaf_dataflow::sink::materialise;
use sheaf_dataflow::stores::Stores;
use sheaf_runtime::artifact::Artifact;
use sheaf_runtime::documents::Documents;
use sheaf_runtime::exit::Exit;
use sheaf_runtime::fault::Fault;
use sheaf_runtime::order::{Order, Predict, pin_now, scoring};
use sheaf_runtime::output::Output;
use sheaf_runtime::registry::{Record, Registry};
use sheaf_worker::chunk::{file_name, write_chunk};

use super::run::{Done, execute, finish};
use super::{print, print_json, setup};
use crate::cli::{Format, PredictArgs};
use crate::failure::Failure;
use crate::render::{Look, Progress, job_result};
use crate::watch::interrupted;

/// Scores rows.
pub async fn predict(args: PredictArgs) -> Result<Exit, Failure> {
    let store = setup::store(&args.local.store)?;
    let own = setup::stores(setup::store_options(&store, &[])?)?;
    let record = Registry::new(own, &store).resolve(&args.model).await?;
    let details = details(&args, &record)?;
    let (job, mut roots) = scoring_job(&args, &record)?;
    roots.extend(args.allow_root.iter().cloned());
    let to = setup::absolute(&args.to)?;
    let order = Predict {
        job,
        model: record.sha256.clone(),
        artifact: record.artifact.clone(),
        reference: args.model.clone(),
        to,
        keep: args.keep.clone(),
        writer: None,
        details,
    };
    roots.extend(written_root(&order.to)?);
    let options = setup::store_options(&store, &roots)?;
    let progress = if args.local.quiet { Progress::quiet() } else { Progress::stderr() };
    let Some(workers) = args.workers else {
        let scratch = Scratch::new(None, "sheaf-predict-");
        let scratch = scratch.map_err(|e| Failure::new(Exit::Failed, format!("create a temporary folder: {e}")))?;
        let mut options = options;
        options.local_roots.push(scratch.path().to_owned());
        let stores = setup::stores(options)?;
        let documents = Documents::new(stores.clone(), &store);
        return tokio::select! {
            result = local(&order, &documents, &stores, scratch.path(), &progress) => show(&args, &result?),
            () = interrupted() => Err(Failure::new(Exit::Interrupted, "interrupted; nothing was written")),
        };
    };
    let options = setup::embedded(&args.local.cluster, workers, store, options);
    match execute(options, &Order::Predict(order), None, &progress).await? {
        Done::Refused(errors) => Err(Fault::job(errors).into()),
        Done::Interrupted => Err(Failure::new(Exit::Interrupted, "interrupted; nothing was written")),
        Done::Ended(ended) => {
            if let Some(result) = &ended.result {
                show(&args, result)?;
            }
            finish(ended, |error| Fault::from(error).into())
        }
    }
}

fn show(args: &PredictArgs, result: &serde_json::Value) -> Result<Exit, Failure> {
    match args.local.output {
        Format::Json => print_json(result),
        Format::Table => print(&job_result(result, &Look::stdout())),
    }
}

/// What is written beside the predictions; a model that does not have it is told from its training already.
fn details(args: &PredictArgs, record: &Record) -> Result<Details, Failure> {
    let details = args.details();
    match record.job.train.as_ref().and_then(|train| details.refused_by(&train.algorithm)) {
        None => Ok(details),
        Some(error) => {
            let option = error.path.trim_start_matches("predict.");
            Err(Failure::usage(format!("--{option}: {}\n  hint: {}", error.message, error.hint.unwrap_or_default())))
        }
    }
}

/// The model's own job with tables replaced, nothing to check, split or train; and what it may read.
fn scoring_job(args: &PredictArgs, record: &Record) -> Result<(Job, Vec<PathBuf>), Failure> {
    let mut job = scoring(&record.job);
    // The time of training is not the time of scoring.
    job.params.remove("now");
    let mut roots =
        vec![std::env::current_dir().map_err(|e| Failure::new(Exit::Failed, format!("find the current folder: {e}")))?];
    if let Some(input) = &args.input {
        let path = setup::absolute(input)?;
        roots.extend(root_of(&path));
        job.prepare = None;
        job.tables = vec![Table::at("prepared", path)];
    }
    for (name, path) in setup::absolute_tables(&args.table)? {
        roots.extend(root_of(&path));
        let known: Vec<String> = job.tables.iter().map(|t| t.name.clone()).collect();
        let table = job.tables.iter_mut().find(|t| t.name == name);
        let table = table
            .ok_or_else(|| Failure::usage(format!("the model has no table `{name}`; its tables are {}", known.join(", "))))?;
        *table = table.replaced_by(&Table::at(name, path));
    }
    if args.input.is_none() && args.table.is_empty() {
        return Err(Failure::usage(format!(
            "say what to score: --table NAME=PATH (the model's tables are {}) or --input PATH for rows that are prepared already",
            job.tables.iter().map(|t| t.name.as_str()).collect::<Vec<_>>().join(", ")
        )));
    }
    for (name, value) in &args.set {
        let Some(param) = job.params.get_mut(name) else {
            let known: Vec<&str> = record.job.params.keys().map(String::as_str).collect();
            return Err(Failure::usage(format!("the model has no parameter `{name}`; it has {}", known.join(", "))));
        };
        *param = retyped(param, value).map_err(|e| Failure::usage(format!("--set {name}: {e}")))?;
    }
    Ok((job, roots))
}

fn retyped(old: &Param, text: &str) -> Result<Param, String> {
    let not = |what: &str| format!("`{text}` is not {what}, which the parameter is");
    Ok(match old {
        Param::Bool(_) => Param::Bool(text.parse().map_err(|_| not("true or false"))?),
        Param::Int(_) => Param::Int(text.parse().map_err(|_| not("a whole number"))?),
        Param::Float(_) => Param::Float(text.parse().map_err(|_| not("a number"))?),
        Param::Date(_) => Param::Date(text.to_owned()),
        Param::Timestamp(_) => Param::Timestamp(text.to_owned()),
        Param::Text(_) => Param::Text(text.to_owned()),
    })
}

/// The folder that a path given on the command line allows: the user named it himself.
pub fn root_of(path: &str) -> Option<PathBuf> {
    if path.contains("://") {
        return None;
    }
    let fixed = path.split(['*', '?', '[']).next().unwrap_or(path);
    let path = Path::new(fixed);
    if path.is_dir() { Some(path.to_owned()) } else { path.parent().map(Path::to_owned) }
}

/// The folder that `--to` allows to be written: the one that holds it, made if need be.
fn written_root(to: &str) -> Result<Option<PathBuf>, Failure> {
    let path = Path::new(to.strip_prefix("file://").unwrap_or(to));
    let Some(parent) = path.parent().filter(|_| path.is_absolute()) else { return Ok(None) };
    std::fs::create_dir_all(parent).map_err(|e| Failure::new(Exit::Usage, format!("create {}: {e}", parent.display())))?;
    Ok(Some(parent.to_owned()))
}

/// Scores in this process: the same planning, reading and scoring functions as a worker's.
async fn local(
    order: &Predict,
    documents: &Documents,
    stores: &Stores,
    scratch: &Path,
    progress: &Progress,
) -> Result<serde_json::Value, Failure> {
    let began = std::time::Instant::now();
    let artifact = Artifact::load(documents, &order.artifact, &order.model).await?;
    let now_ns = setup::now_ns();
    let mut job = order.job.clone();
    pin_now(&mut job, now_ns);
    let planned = plan(&job, stores, now_ns).await?;
    let output = Output::open(stores, &order.to, &order.writer(), &std::process::id().to_string())?;
    let dataset = prepared(&planned, stores, scratch).await?;
    let scored = predict_rows(artifact, order);
    let reader = Reader::open(Arc::new(dataset.clone()), stores.clone(), scored.inputs()).await?;
    let compiled = scored.compile(reader.schema(), &stores.session(planned.now_ns)).map_err(Fault::from)?;
    let chunks = chunks(dataset.boundaries(), dataset.shards());
    let phase = progress.phase("score", Some(dataset.rows()), "rows");
    let mut rows = 0;
    for (index, pair) in chunks.windows(2).enumerate() {
        let written = write_chunk(&reader, &compiled, pair[0]..pair[1], output.staging(), index as u32).await?;
        phase.advance(written);
        rows += written;
    }
    phase.finish();
    let files = (0..chunks.len() as u32 - 1).map(file_name).collect();
    let path = output.commit(rows, files)?;
    Ok(json!({
        "job": null,
        "name": order.job.name,
        "state": "succeeded",
        "params": order.job.params,
        "model": {"reference": order.reference, "sha256": order.model},
        "phases": [{"name": "score", "seconds": began.elapsed().as_secs_f64()}],
        "rows": {"scored": rows},
        "outputs": [path.to_string_lossy()],
        "warnings": planned.warnings,
    }))
}

async fn prepared(planned: &Planned, stores: &Stores, scratch: &Path) -> Result<Dataset, Failure> {
    let dataset = planned.dataset.clone();
    let write = async |dataset: Dataset| -> Result<Dataset, Failure> {
        Ok(materialise(&dataset, stores, &scratch.to_string_lossy()).await?)
    };
    match planned.needs {
        Needs::Nothing => Ok(dataset),
        Needs::Materialise => write(dataset).await,
        Needs::Query => Ok(planned.materialise_here(stores, &scratch.to_string_lossy()).await?),
        Needs::Count => {
            let reader = Reader::open(Arc::new(dataset.clone()), stores.clone(), None).await?;
            let mut counts = Vec::new();
            for unit in 0..dataset.units() {
                counts.push(reader.count(unit).await?);
            }
            match dataset.with_counts(counts) {
                Counted::Ready(dataset) => Ok(dataset),
                Counted::Materialise(dataset) => write(dataset).await,
            }
        }
    }
}
