//! Drives fitting in one process: shards of a batch, programs along the fixed tree. For tests.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses a part of these helpers")]

use arrow::record_batch::RecordBatch;
use datafusion::prelude::SessionContext;
use serde_json::{Value, json};
use sheaf_dataflow::features::FitError;
use sheaf_dataflow::job::Job;
use sheaf_dataflow::pipeline::{FitRequest, Fitting, Pipeline};
use sheaf_dataflow::prepared::PreparedShard;
use sheaf_dataflow::stores::{StoreOptions, Stores};
use sheaf_dataflow::view::View;
use sheaf_learn::hash::physical_row_id;
use sheaf_learn::shard::EncodedShard;

/// A job with these parts over the usual ones.
pub fn job(parts: Value) -> Job {
    let mut whole = json!({"version": 1, "name": "test", "seed": 7, "tables": []});
    let whole_object = whole.as_object_mut().unwrap();
    for (key, value) in parts.as_object().unwrap() {
        whole_object.insert(key.clone(), value.clone());
    }
    let steps = whole.get_mut("features").and_then(Value::as_array_mut);
    for (i, step) in steps.into_iter().flatten().enumerate() {
        *step = json!({"id": format!("s{i}"), "kind": step.clone()});
    }
    serde_json::from_value(whole).unwrap()
}

/// The session that workers have.
pub fn session() -> SessionContext {
    Stores::new(StoreOptions::default()).unwrap().session(0)
}

/// The batch in shards of so many rows.
pub fn shards(batch: &RecordBatch, shard_rows: usize) -> Vec<PreparedShard> {
    let starts = (0..batch.num_rows()).step_by(shard_rows);
    let shard = |(index, start): (usize, usize)| {
        let rows = shard_rows.min(batch.num_rows() - start);
        let row_ids = (start..start + rows).map(|i| physical_row_id("t", "f", i as u64)).collect();
        PreparedShard { index: index as u32, batch: batch.slice(start, rows), row_ids }
    };
    starts.enumerate().map(shard).collect()
}

/// All shards of a view.
pub fn encode(view: &View, shards: &[PreparedShard]) -> Result<Vec<EncodedShard>, FitError> {
    let compiled = view.compile(shards[0].batch.schema(), &session())?;
    shards.iter().map(|s| compiled.encode(s)).collect()
}

/// The result of a request.
pub fn measure(request: &FitRequest, shards: &[PreparedShard]) -> Result<Value, FitError> {
    // A request must survive the journey to a worker.
    let text = serde_json::to_string(request).unwrap();
    let request: FitRequest = serde_json::from_str(&text).unwrap();
    let read = request.view.inputs();
    // A worker reads only the columns that the view names.
    let projected: Vec<PreparedShard> = shards
        .iter()
        .map(|s| {
            let keep: Vec<usize> =
                (0..s.batch.num_columns()).filter(|i| read.contains(s.batch.schema().field(*i).name())).collect();
            PreparedShard { batch: s.batch.project(&keep).unwrap(), ..s.clone() }
        })
        .collect();
    let encoded = encode(&request.view, &projected)?;
    let program = request.program.build().map_err(|e| FitError::Data(e.to_string()))?;
    sheaf_learn::program::run(program.as_ref(), &encoded).map_err(|e| FitError::Data(e.to_string()))
}

/// Fits a job's features over a batch; gives the pipeline, the warnings and the labels of the requests.
pub fn fit(job: &Job, batch: &RecordBatch, shard_rows: usize) -> Result<(Pipeline, Vec<String>, Vec<String>), FitError> {
    let shards = shards(batch, shard_rows);
    let mut fitting = Fitting::new(job, &batch.schema()).map_err(|e| FitError::Job(e[0].clone()))?;
    let mut labels = Vec::new();
    while let Some(request) = fitting.request()? {
        labels.push(request.label.clone());
        fitting.supply(measure(&request, &shards)?)?;
        // Fitting is journalled between two requests.
        fitting = serde_json::from_str(&serde_json::to_string(&fitting).unwrap()).unwrap();
    }
    let warnings = fitting.warnings().to_vec();
    Ok((fitting.pipeline(), warnings, labels))
}

/// All messages of the static validation.
pub fn errors(job: &Job, batch: &RecordBatch) -> Vec<String> {
    match Fitting::new(job, &batch.schema()) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.iter().map(|e| e.to_string()).collect(),
    }
}
