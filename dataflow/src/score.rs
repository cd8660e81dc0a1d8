//! Scoring: features and model over prepared rows, in a worker or in a local process, through this one
//! function. A row's prediction has the same bits in every batch.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::prelude::SessionContext;
use serde::{Deserialize, Serialize};
use sheaf_learn::model::{Model, Task};
use sheaf_learn::shard::EncodedShard;

use crate::features::columns::meant;
use crate::features::render::one_value;
use crate::features::{FitError, Type};
use crate::pipeline::Pipeline;
use crate::prepared::PreparedShard;
use crate::target::{TargetKind, TargetSpec};
use crate::view::{CompiledView, View};

/// Probability from which a row is predicted to be of the positive class.
pub const THRESHOLD: f64 = 0.5;

/// Everything that scoring needs; it travels to workers and stands in the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scorer {
    /// Features.
    pub pipeline: Pipeline,
    /// What predicts from them.
    pub model: Model,
    /// Columns that identify a row; written first.
    pub key: Vec<String>,
    /// Columns written beside them.
    pub keep: Vec<String>,
}

impl Scorer {
    /// Prepared columns that scoring reads, sorted by name.
    pub fn inputs(&self) -> Vec<String> {
        let mut out = View::scoring(&self.pipeline).inputs();
        out.extend(self.key.iter().chain(&self.keep).cloned());
        out.sort();
        out.dedup();
        out
    }

    /// Ready for batches of these columns. Target, weight and split columns need not be there.
    pub fn compile(&self, prepared: SchemaRef, session: &SessionContext) -> Result<CompiledScorer, FitError> {
        let view = View::scoring(&self.pipeline).compile(Arc::clone(&prepared), session)?;
        let damaged = |e: sheaf_learn::algorithm::LearnError| FitError::Data(format!("the model does not fit its features: {e}"));
        self.model.check(view.schema()).map_err(damaged)?;
        let mut fields: Vec<Field> = Vec::new();
        let mut carried = Vec::new();
        for name in self.key.iter().chain(&self.keep) {
            if fields.iter().any(|f| f.name() == name) {
                continue;
            }
            let at = position(&prepared, name)?;
            carried.push(at);
            fields.push(prepared.field(at).clone());
        }
        let binary = (self.model.task() == Task::Binary).then(|| Classes::of(self.pipeline.target.as_ref())).transpose()?;
        let data_type = binary.as_ref().map_or(DataType::Float64, |c| c.data_type.clone());
        fields.push(Field::new("prediction", data_type, true));
        fields.extend(binary.as_ref().map(|_| Field::new("probability", DataType::Float64, true)));
        unambiguous(&fields)?;
        Ok(CompiledScorer {
            inputs: self.inputs(),
            model: self.model.clone(),
            view,
            carried,
            binary,
            schema: Arc::new(Schema::new(fields)),
        })
    }
}

/// A [`Scorer`] ready for batches; shared by threads.
pub struct CompiledScorer {
    inputs: Vec<String>,
    model: Model,
    view: CompiledView,
    carried: Vec<usize>,
    binary: Option<Classes>,
    schema: SchemaRef,
}

/// The two predicted values of a binary model, in the target's own type.
struct Classes {
    data_type: DataType,
    negative: ArrayRef,
    positive: ArrayRef,
}

impl CompiledScorer {
    /// Prepared columns that scoring reads, sorted by name.
    pub fn inputs(&self) -> &[String] {
        &self.inputs
    }

    /// Columns that come out: key, keep, `prediction`, and `probability` of the positive class for a
    /// binary model.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// Rows so far whose category no training row had, by column.
    pub fn unknown_categories(&self) -> std::collections::BTreeMap<String, u64> {
        self.view.unknown_categories()
    }

    /// Scores rows, in their order. A row with a missing feature that nothing imputes gets nulls.
    pub fn score(&self, batch: &RecordBatch) -> Result<RecordBatch, FitError> {
        let rows = batch.num_rows();
        let shard = PreparedShard { index: 0, batch: batch.clone(), row_ids: vec![0; rows] };
        let encoded: EncodedShard = self.view.encode(&shard)?;
        let scores = self.model.predict(self.view.schema(), &encoded, 0..rows);
        let mut columns: Vec<ArrayRef> = self.carried.iter().map(|at| Arc::clone(batch.column(*at))).collect();
        let numbers: ArrayRef = Arc::new(scores.iter().map(|s| (!s.is_nan()).then_some(*s)).collect::<Float64Array>());
        columns.extend(self.binary.as_ref().map(|classes| classes.of_scores(&scores)).transpose()?);
        columns.push(numbers);
        let made = |source| FitError::Arrow { what: "write predictions".into(), source };
        RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(made)
    }
}

impl Classes {
    fn of(target: Option<&TargetSpec>) -> Result<Classes, FitError> {
        let Some(TargetSpec { data_type, kind: TargetKind::Binary { negative, positive }, column }) = target else {
            return Err(FitError::Data(
                "the model predicts classes, but its pipeline has none; it was changed or damaged".into(),
            ));
        };
        let value = |text: &str| match data_type {
            // A decimal class is written as a number.
            Type::Decimal(..) => one_value(text, Type::Float64),
            ty => one_value(text, *ty),
        };
        let class = |text: &str| {
            value(text).ok_or_else(|| FitError::Data(format!("class `{text}` of target `{column}` is no {}", data_type.name())))
        };
        let (negative, positive) = (class(negative)?, class(positive)?);
        Ok(Classes { data_type: positive.data_type().clone(), negative, positive })
    }

    /// The class of every score.
    fn of_scores(&self, scores: &[f64]) -> Result<ArrayRef, FitError> {
        let made = |source| FitError::Arrow { what: "write classes".into(), source };
        let indices: arrow::array::UInt32Array =
            scores.iter().map(|s| (!s.is_nan()).then_some(u32::from(*s >= THRESHOLD))).collect();
        let both = arrow::compute::concat(&[self.negative.as_ref(), self.positive.as_ref()]).map_err(made)?;
        arrow::compute::take(&both, &indices, None).map_err(made)
    }
}

pub(crate) fn position(prepared: &SchemaRef, name: &str) -> Result<usize, FitError> {
    prepared.column_with_name(name).map(|(at, _)| at).ok_or_else(|| {
        let names = prepared.fields().iter().map(|f| f.name().as_str());
        let hint = meant(name, names, "the rows have");
        FitError::Data(format!("column `{name}`, which is to be written, not found; {hint}"))
    })
}

pub(crate) fn unambiguous(fields: &[Field]) -> Result<(), FitError> {
    match fields.iter().enumerate().find(|(i, f)| fields[..*i].iter().any(|g| g.name() == f.name())) {
        None => Ok(()),
        Some((_, field)) => {
            let message =
                format!("two columns called `{}` cannot be written; rename the prepared one in `prepare`", field.name());
            Err(FitError::Data(message))
        }
    }
}
