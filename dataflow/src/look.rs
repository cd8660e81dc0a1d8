//! A look at what a job makes of its data, in this process: prepared columns with their roles, and the feature matrix of
//! the first prepared rows. A job fits its steps over all training rows; a look takes the first ones. Nothing is written.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{Schema, SchemaRef};
use futures::TryStreamExt;
use serde::Serialize;
use serde_json::Value;
use sheaf_learn::hash::ValueHasher;
use sheaf_learn::program;
use sheaf_learn::shard::{EncodedShard, Feature, FeatureKind};

use crate::error::DataError;
use crate::features::kinds::type_name;
use crate::features::{FitError, roles};
use crate::job::{Job, JobError};
use crate::matrix::{CompiledMatrix, Matrix, SEGMENT};
use crate::pipeline::{FitRequest, Fitting, Pipeline};
use crate::plan;
use crate::prepared::PreparedShard;
use crate::query::QueryRows;
use crate::query::local::Local;
use crate::rowid::{self, RowValues};
use crate::split::SplitRule;
use crate::stores::Stores;

/// Rows of a shard of a job that does not say.
const SHARD_ROWS: u32 = 65_536;

/// Why a job cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// The job file must be changed: everything that is wrong, each with its place.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Job(Vec<JobError>),
    /// Anything else.
    #[error(transparent)]
    Data(#[from] DataError),
}

impl From<FitError> for LookError {
    fn from(error: FitError) -> Self {
        LookError::Data(error.into())
    }
}

/// A column after a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StageColumn {
    /// Its name.
    pub name: String,
    /// Name of its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// `feature`, `target`, `key`, `segment`, …; several are separated by commas.
    pub role: String,
    /// How a feature is encoded; empty for other columns and for prepared ones.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub encoding: String,
}

/// The columns that `prepare` gives, with their roles. No row is read.
pub async fn prepared_columns(stores: &Stores, job: &Job, now_ns: i64) -> Result<Vec<StageColumn>, LookError> {
    let planned = plan::plan(job, stores, now_ns).await?;
    roles_of(job, &planned.schema)
}

fn roles_of(job: &Job, prepared: &Schema) -> Result<Vec<StageColumn>, LookError> {
    let mut errors = Vec::new();
    let frame = roles::frame(job, prepared, &mut errors);
    if !errors.is_empty() {
        return Err(LookError::Job(errors));
    }
    let column = |field: &arrow::datatypes::FieldRef| StageColumn {
        name: field.name().clone(),
        kind: type_name(field.data_type()),
        role: frame.get(field.name()).and_then(|col| col.role.clone()).unwrap_or_else(|| "feature".to_owned()),
        encoding: String::new(),
    };
    Ok(prepared.fields().iter().map(column).collect())
}

/// Over which rows the steps of a look were fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct FittedOver {
    /// Prepared rows that were read.
    pub rows: u64,
    /// Those of them that train, which steps are fitted on; absent where no step learns anything.
    pub training_rows: Option<u64>,
    /// Whether the job has more rows.
    pub more: bool,
}

/// The feature matrix of the first prepared rows.
pub struct FeatureLook {
    /// Columns in order.
    pub columns: Vec<StageColumn>,
    /// Over which rows steps were fitted.
    pub fitted: FittedOver,
    /// What deserves attention.
    pub warnings: Vec<String>,
    matrix: CompiledMatrix,
    shards: Vec<PreparedShard>,
}

impl FeatureLook {
    /// Fits the steps of a job over the training rows among the first `most` prepared rows; absent: among all of them.
    pub async fn fit(local: &Local, stores: &Stores, job: &Job, now_ns: i64, most: Option<u64>) -> Result<Self, LookError> {
        let frozen = [("model", job.model.is_some()), ("train.warm_start", job.warm_start().is_some())];
        if let Some((place, _)) = frozen.into_iter().find(|(_, frozen)| *frozen) {
            let error = JobError::at(place, "the features of this job are those of its model");
            return Err(LookError::Job(vec![error.hint("look at the job that trained it, or write them: write.features")]));
        }
        let read = local.prepared(job, now_ns, most.map(|most| most.saturating_add(1))).await?;
        let mut warnings = read.warnings.clone();
        let (batch, more) = gather(read, most).await?;
        let shards = shards(job, &batch)?;
        let mut fitting = Fitting::new(job, &batch.schema()).map_err(LookError::Job)?.without_facts();
        if let Some(error) = fitting.refused_by_learner(job) {
            return Err(LookError::Job(vec![error]));
        }
        warnings.extend(
            fitting
                .unencoded()
                .iter()
                .map(|column| format!("column `{column}` is left out: it is no number, and no step encodes it")),
        );
        let mut training_rows = None;
        while let Some(request) = fitting.request()? {
            let (value, rows) = measure(stores, now_ns, &request, &batch.schema(), &shards)?;
            fitting.supply(value)?;
            training_rows = Some(rows);
        }
        warnings.extend(fitting.warnings().iter().cloned());
        let matrix = matrix(job, fitting.pipeline(), &batch.schema());
        let columns = matrix_columns(job, &matrix, &batch.schema())?;
        let matrix = matrix.compile(batch.schema(), &stores.session(now_ns))?;
        let fitted = FittedOver { rows: batch.num_rows() as u64, training_rows, more };
        Ok(Self { columns, fitted, warnings, matrix, shards })
    }

    /// The matrix of the first rows.
    pub fn head(&self, rows: usize) -> Result<QueryRows, LookError> {
        let (mut made, mut left) = (Vec::new(), rows);
        for shard in &self.shards {
            let taken = left.min(shard.batch.num_rows());
            if taken == 0 {
                break;
            }
            left -= taken;
            let row_ids = shard.row_ids[..taken].to_vec();
            made.push(self.matrix.make(&PreparedShard { index: shard.index, batch: shard.batch.slice(0, taken), row_ids })?);
        }
        let (schema, rows) = (self.matrix.schema(), futures::stream::iter(made.into_iter().map(Ok::<_, DataError>)));
        Ok(QueryRows { schema, rows: Box::pin(rows), warnings: Vec::new() })
    }
}

/// The first `most` rows as one batch, and whether there are more.
async fn gather(read: QueryRows, most: Option<u64>) -> Result<(RecordBatch, bool), DataError> {
    let schema = Arc::clone(&read.schema);
    let batches: Vec<RecordBatch> = read.rows.try_collect().await?;
    let batch = concat_batches(&schema, &batches).map_err(|e| DataError::internal("prepared rows", e))?;
    let taken = most.and_then(|most| usize::try_from(most).ok()).map_or(batch.num_rows(), |most| most.min(batch.num_rows()));
    Ok((batch.slice(0, taken), taken < batch.num_rows()))
}

/// Cuts the rows as a job would and gives each its id: of the key where the job has one, else of all its values.
fn shards(job: &Job, batch: &RecordBatch) -> Result<Vec<PreparedShard>, DataError> {
    let schema = batch.schema();
    let key: Vec<usize> = job.columns.key.iter().filter_map(|name| schema.index_of(name).ok()).collect();
    let row_ids = match key.is_empty() {
        false => rowid::keyed(batch, &key)?,
        true => {
            let (values, mut hasher) = (RowValues::new(batch.columns())?, ValueHasher::new());
            (0..batch.num_rows()).map(|row| values.hash(&mut hasher, row)).collect()
        }
    };
    let size = job.shard_rows.unwrap_or(SHARD_ROWS).max(1) as usize;
    let starts = (0..batch.num_rows()).step_by(size);
    let shard = |(index, start): (usize, usize)| {
        let rows = size.min(batch.num_rows() - start);
        PreparedShard { index: index as u32, batch: batch.slice(start, rows), row_ids: row_ids[start..start + rows].to_vec() }
    };
    Ok(starts.enumerate().map(shard).collect())
}

/// The result of a request over the rows, and how many of them train.
fn measure(
    stores: &Stores,
    now_ns: i64,
    request: &FitRequest,
    schema: &SchemaRef,
    shards: &[PreparedShard],
) -> Result<(Value, u64), FitError> {
    let view = request.view.compile(Arc::clone(schema), &stores.session(now_ns))?;
    let encoded = shards.iter().map(|shard| view.encode(shard)).collect::<Result<Vec<_>, _>>()?;
    let failed = |e: sheaf_learn::algorithm::LearnError| FitError::Data(format!("{}: {e}", request.label));
    let value = program::run(request.program.build().map_err(failed)?.as_ref(), &encoded).map_err(failed)?;
    let training = |shard: &EncodedShard| (shard.bounds[1] - shard.bounds[0]) as u64;
    Ok((value, encoded.iter().map(training).sum()))
}

/// What `write.features` writes: key, target, weight and offset beside the features, and the segment of a job with a split.
fn matrix(job: &Job, pipeline: Pipeline, prepared: &Schema) -> Matrix {
    let roles = &job.columns;
    let single = [&roles.target, &roles.weight, &roles.offset].into_iter().flatten();
    let there = |name: &&String| prepared.index_of(name).is_ok();
    let carried = roles.key.iter().chain(single).filter(there).cloned().collect();
    Matrix { pipeline, carried, split: job.split.as_ref().map(|_| SplitRule::of(job)) }
}

fn matrix_columns(job: &Job, matrix: &Matrix, prepared: &Schema) -> Result<Vec<StageColumn>, LookError> {
    let roles = roles_of(job, prepared)?;
    let mut columns: Vec<StageColumn> = Vec::new();
    for name in &matrix.carried {
        let known = columns.iter().any(|column| column.name == *name);
        columns.extend(roles.iter().find(|column| column.name == *name && !known).cloned());
    }
    columns.extend(matrix.pipeline.schema.features.iter().map(feature));
    columns.extend(matrix.split.as_ref().map(|_| StageColumn {
        name: SEGMENT.to_owned(),
        kind: "utf8".to_owned(),
        role: "segment".to_owned(),
        encoding: String::new(),
    }));
    Ok(columns)
}

fn feature(feature: &Feature) -> StageColumn {
    let (kind, encoding) = match &feature.kind {
        FeatureKind::Numeric { shift, scale } if (*shift, *scale) == (0.0, 1.0) => ("float64", "a number".to_owned()),
        FeatureKind::Numeric { shift, scale } => ("float64", format!("(x − {shift}) · {scale}")),
        FeatureKind::Slots { names } => ("utf8", format!("one-hot, {} slots", names.len())),
        FeatureKind::Sparse { width } => ("list", format!("hashed into {width} slots")),
    };
    StageColumn { name: feature.name.clone(), kind: kind.to_owned(), role: "feature".to_owned(), encoding }
}
