//! What becomes of prepared rows that are written into a folder: they themselves, their features, or their scores.

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::prelude::SessionContext;
use serde::{Deserialize, Serialize};

use crate::features::FitError;
use crate::matrix::{CompiledMatrix, Matrix};
use crate::prepared::PreparedShard;
use crate::score::{CompiledScorer, Scorer};

/// What is written of prepared rows; it travels to workers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rows {
    /// All their columns.
    Prepared,
    /// The feature matrix.
    Features(Box<Matrix>),
    /// Predictions.
    Scores(Box<Scorer>),
}

impl Rows {
    /// Prepared columns that are read, sorted by name; absent: all.
    pub fn inputs(&self) -> Option<Vec<String>> {
        match self {
            Rows::Prepared => None,
            Rows::Features(matrix) => Some(matrix.inputs()),
            Rows::Scores(scorer) => Some(scorer.inputs()),
        }
    }

    /// Ready for shards of these columns.
    pub fn compile(&self, prepared: SchemaRef, session: &SessionContext) -> Result<CompiledRows, FitError> {
        Ok(match self {
            Rows::Prepared => CompiledRows::Prepared(prepared),
            Rows::Features(matrix) => CompiledRows::Features(Box::new(matrix.compile(prepared, session)?)),
            Rows::Scores(scorer) => CompiledRows::Scores(Box::new(scorer.compile(prepared, session)?)),
        })
    }
}

/// [`Rows`] ready for shards; shared by threads.
pub enum CompiledRows {
    /// All columns.
    Prepared(SchemaRef),
    /// The feature matrix.
    Features(Box<CompiledMatrix>),
    /// Predictions.
    Scores(Box<CompiledScorer>),
}

impl CompiledRows {
    /// Columns that come out.
    pub fn schema(&self) -> SchemaRef {
        match self {
            CompiledRows::Prepared(schema) => SchemaRef::clone(schema),
            CompiledRows::Features(matrix) => matrix.schema(),
            CompiledRows::Scores(scorer) => scorer.schema(),
        }
    }

    /// Rows that should be made at once; what becomes of a row does not depend on it.
    pub fn rows_at_once(&self) -> usize {
        match self {
            CompiledRows::Prepared(_) | CompiledRows::Features(_) => usize::MAX,
            CompiledRows::Scores(scorer) => scorer.rows_at_once(),
        }
    }

    /// Bytes that so many rows take beside the shard.
    pub fn bytes_at_once(&self) -> usize {
        match self {
            CompiledRows::Prepared(_) | CompiledRows::Features(_) => 0,
            CompiledRows::Scores(scorer) => scorer.bytes_at_once(),
        }
    }

    /// What becomes of a shard, in the order of its rows.
    pub fn make(&self, shard: &PreparedShard) -> Result<RecordBatch, FitError> {
        match self {
            CompiledRows::Prepared(_) => Ok(shard.batch.clone()),
            CompiledRows::Features(matrix) => matrix.make(shard),
            CompiledRows::Scores(scorer) => scorer.score(&shard.batch),
        }
    }
}
