//! Scoring: features and model over prepared rows, in a worker or in a local process, through this one
//! function. A row's prediction has the same bits in every batch.

mod details;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Float64Array, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::prelude::SessionContext;
use serde::{Deserialize, Serialize};
use sheaf_learn::model::{Model, Task, likeliest};
use sheaf_learn::shard::{EncodedShard, Schema as ShardSchema};

use crate::features::columns::meant;
use crate::features::render::one_value;
use crate::features::{FitError, Type};
use crate::job::Details;
use crate::pipeline::Pipeline;
use crate::prepared::PreparedShard;
use crate::target::{TargetKind, TargetSpec};
use crate::view::{CompiledView, View};
use details::Columns;

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
    /// What is written beside the predictions.
    #[serde(default)]
    pub details: Details,
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
        // The view has no target, and so no classes.
        let features = ShardSchema { classes: self.pipeline.schema.classes.clone(), ..view.schema().clone() };
        self.model.check(&features).map_err(damaged)?;
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
        let classes = match self.model.task() {
            Task::Regression | Task::Ranking | Task::Anomaly => None,
            Task::Binary | Task::Multiclass => Some(Classes::of(self.pipeline.target.as_ref())?),
        };
        let data_type = classes.as_ref().map_or(DataType::Float64, |c| c.values.data_type().clone());
        fields.push(Field::new("prediction", data_type, true));
        let probabilities = classes.as_ref().map(Classes::columns).unwrap_or_default();
        fields.extend(probabilities.into_iter().map(|name| Field::new(name, DataType::Float64, true)));
        fields.extend(self.model.finds_anomalies().then(|| Field::new("anomaly", DataType::Boolean, true)));
        let details = Columns::new(&self.details, &self.model, &features)?;
        fields.extend(details.iter().flat_map(Columns::fields));
        unambiguous(&fields)?;
        Ok(CompiledScorer {
            inputs: self.inputs(),
            model: self.model.clone(),
            features,
            view,
            carried,
            classes,
            details,
            schema: Arc::new(Schema::new(fields)),
        })
    }
}

/// A [`Scorer`] ready for batches; shared by threads.
pub struct CompiledScorer {
    inputs: Vec<String>,
    model: Model,
    features: ShardSchema,
    view: CompiledView,
    carried: Vec<usize>,
    classes: Option<Classes>,
    details: Option<Columns>,
    schema: SchemaRef,
}

/// What a model of classes predicts.
struct Classes {
    /// The classes in the target's own type, in their order.
    values: ArrayRef,
    /// Their names, where each has its own probability; else the one that there is belongs to the second.
    many: Option<Vec<String>>,
}

impl CompiledScorer {
    /// Prepared columns that scoring reads, sorted by name.
    pub fn inputs(&self) -> &[String] {
        &self.inputs
    }

    /// Columns that come out: key, keep, `prediction`, and `probability` of the positive class of two, or of many
    /// classes the `probability_` of each; then the details.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// Rows so far whose category no training row had, by column.
    pub fn unknown_categories(&self) -> std::collections::BTreeMap<String, u64> {
        self.view.unknown_categories()
    }

    /// Rows that should be scored at once: details of many take memory. Predictions do not depend on it.
    pub fn rows_at_once(&self) -> usize {
        self.details.as_ref().map_or(usize::MAX, Columns::rows_at_once)
    }

    /// Bytes that the details of so many rows take while they are made.
    pub fn bytes_at_once(&self) -> usize {
        self.details.as_ref().map_or(0, |details| details.bytes(details.rows_at_once()))
    }

    /// Scores rows, in their order. A row with a missing feature that nothing imputes gets nulls.
    pub fn score(&self, batch: &RecordBatch) -> Result<RecordBatch, FitError> {
        let rows = batch.num_rows();
        let shard = PreparedShard { index: 0, batch: batch.clone(), row_ids: vec![0; rows] };
        let encoded: EncodedShard = self.view.encode(&shard)?;
        let scores = self.model.predict(&self.features, &encoded, 0..rows);
        let outputs = self.model.outputs(&self.features);
        let mut columns: Vec<ArrayRef> = self.carried.iter().map(|at| Arc::clone(batch.column(*at))).collect();
        columns.extend(self.classes.as_ref().map(|classes| classes.of_scores(&scores)).transpose()?);
        columns.extend((0..outputs).map(|output| {
            let numbers = scores.iter().skip(output).step_by(outputs);
            Arc::new(numbers.map(|s| (!s.is_nan()).then_some(*s)).collect::<Float64Array>()) as ArrayRef
        }));
        columns.extend(self.model.anomalies(&scores).map(|flags| Arc::new(BooleanArray::from(flags)) as ArrayRef));
        if let Some(details) = &self.details {
            columns.extend(details.make(&self.model, &self.features, &encoded)?);
        }
        let made = |source| FitError::Arrow { what: "write predictions".into(), source };
        RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(made)
    }
}

impl Classes {
    fn of(target: Option<&TargetSpec>) -> Result<Classes, FitError> {
        let target = target.filter(|target| !target.classes().is_empty()).ok_or_else(|| {
            FitError::Data("the model predicts classes, but its pipeline has none; it was changed or damaged".into())
        })?;
        let names = target.classes();
        let value = |text: &String| match target.data_type {
            // A decimal class is written as a number.
            Type::Decimal(..) => one_value(text, Type::Float64),
            ty => one_value(text, ty),
        };
        let class = |text: &String| {
            let (column, ty) = (&target.column, target.data_type.name());
            value(text).ok_or_else(|| FitError::Data(format!("class `{text}` of target `{column}` is no {ty}")))
        };
        let values = names.iter().map(class).collect::<Result<Vec<_>, _>>()?;
        let values: Vec<&dyn Array> = values.iter().map(AsRef::as_ref).collect();
        let values = arrow::compute::concat(&values).map_err(written)?;
        Ok(Classes { values, many: matches!(target.kind, TargetKind::Multiclass { .. }).then_some(names) })
    }

    /// Names of the columns of probabilities.
    fn columns(&self) -> Vec<String> {
        match &self.many {
            None => vec!["probability".into()],
            Some(names) => names.iter().map(|name| format!("probability_{name}")).collect(),
        }
    }

    /// The class of every row.
    fn of_scores(&self, scores: &[f64]) -> Result<ArrayRef, FitError> {
        let class = |row: &[f64]| match row {
            row if row.iter().any(|s| s.is_nan()) => None,
            [score] => Some(u32::from(*score >= THRESHOLD)),
            row => Some(likeliest(row) as u32),
        };
        let rows = scores.chunks_exact(self.many.as_ref().map_or(1, Vec::len));
        arrow::compute::take(&self.values, &rows.map(class).collect::<UInt32Array>(), None).map_err(written)
    }
}

fn written(source: arrow::error::ArrowError) -> FitError {
    FitError::Arrow { what: "write classes".into(), source }
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
