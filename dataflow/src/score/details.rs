//! Columns beside the predictions of a model of trees: contributions, leaves, stages. All numbers are those of the
//! model's own functions; here they become columns.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array, ListArray, StringArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use sheaf_learn::model::Model;
use sheaf_learn::shard::{EncodedShard, Schema};
use sheaf_learn::trees::model::TreeModel;
use sheaf_learn::trees::shap::contributions;

use crate::features::FitError;
use crate::job::{Details, Explain, not_of_trees};

/// Bytes of the columns that are made at once, about.
const AT_ONCE: usize = 32 << 20;
/// Fewest rows that are scored at once.
const FEWEST: usize = 64;

/// The columns that are asked for.
pub(super) struct Columns {
    details: Details,
    features: Vec<String>,
    /// What tells the columns of one output from those of another: nothing, or the class.
    outputs: Vec<String>,
    /// Bytes of a row while its columns are made.
    bytes: usize,
}

impl Columns {
    /// Columns of a model that was checked against its schema; `None` where nothing is asked for.
    pub fn new(details: &Details, model: &Model, schema: &Schema) -> Result<Option<Self>, FitError> {
        let Some(key) = details.asked().first().copied() else { return Ok(None) };
        let refused = |message: String, hint: String| FitError::Data(format!("{message}; {hint}"));
        let Model::Trees(trees) = model else {
            let refusal = not_of_trees(key, "another kind");
            return Err(refused(refusal.message, refusal.hint));
        };
        if let Some(error) = details.too_wide(schema.features.len() * trees.outputs()) {
            return Err(refused(error.message, error.hint.unwrap_or_default()));
        }
        if let Some((_, refusal)) = details.too_many(trees.trees.len(), trees.trees.len() / trees.outputs()) {
            return Err(refused(refusal.message, refusal.hint));
        }
        let outputs = match trees.outputs() {
            1 => vec![String::new()],
            _ => schema.classes.iter().map(|class| format!("_{class}")).collect(),
        };
        let features: Vec<String> = schema.features.iter().map(|feature| feature.name.clone()).collect();
        let explained = details.explain.map_or(0, |_| outputs.len() * (features.len() + 1));
        let entries = usize::from(details.leaves) + 4 * usize::from(details.staged.is_some());
        let bytes = 16 * explained + 8 * entries * (trees.trees.len() + outputs.len());
        Ok(Some(Self { details: details.clone(), features, outputs, bytes: bytes.max(1) }))
    }

    /// Rows that are scored at once.
    pub fn rows_at_once(&self) -> usize {
        (AT_ONCE / self.bytes).max(FEWEST)
    }

    /// Bytes that so many rows take.
    pub fn bytes(&self, rows: usize) -> usize {
        rows.saturating_mul(self.bytes)
    }

    /// The columns, in order.
    pub fn fields(&self) -> Vec<Field> {
        let number = |name: String| Field::new(name, DataType::Float64, false);
        let mut out = Vec::new();
        for output in &self.outputs {
            match self.details.explain {
                Some(Explain::All) => {
                    let middle = if output.is_empty() { String::new() } else { format!("{}_", &output[1..]) };
                    out.extend(self.features.iter().map(|feature| number(format!("contribution_{middle}{feature}"))));
                }
                Some(Explain::Largest(_)) => {
                    out.push(Field::new(format!("contributions{output}"), DataType::List(largest()), false));
                    out.push(number(format!("contribution_rest{output}")));
                }
                None => {}
            }
            out.extend(self.details.explain.map(|_| number(format!("base_value{output}"))));
        }
        out.extend(self.details.leaves.then(|| Field::new("leaf", DataType::List(item(DataType::Int32)), false)));
        let staged = self.outputs.iter().filter(|_| self.details.staged.is_some());
        let list = DataType::List(item(DataType::Float64));
        out.extend(staged.map(|output| Field::new(format!("staged_prediction{output}"), list.clone(), false)));
        out
    }

    /// The columns of all rows of a shard.
    pub fn make(&self, model: &Model, schema: &Schema, shard: &EncodedShard) -> Result<Vec<ArrayRef>, FitError> {
        let Model::Trees(trees) = model else {
            return Err(FitError::Data("the model is another one than the columns beside its predictions were made for".into()));
        };
        let mut out = Vec::new();
        if let Some(explain) = self.details.explain {
            let all = contributions(trees, schema, shard, 0..shard.rows);
            for output in 0..self.outputs.len() {
                let own = Contributions { all: &all, features: self.features.len(), outputs: self.outputs.len(), output };
                out.extend(self.explained(explain, &own)?);
            }
        }
        if self.details.leaves {
            let leaves = trees.leaves(schema, shard, 0..shard.rows).into_iter().map(|leaf| leaf as i32);
            let values: ArrayRef = Arc::new(Int32Array::from_iter_values(leaves));
            out.push(lists(item(DataType::Int32), shard.rows, values)?);
        }
        if let Some(step) = self.details.staged {
            out.extend(self.staged(trees, schema, shard, step.max(1) as usize)?);
        }
        Ok(out)
    }

    fn explained(&self, explain: Explain, own: &Contributions<'_>) -> Result<Vec<ArrayRef>, FitError> {
        let column = |at: usize| Arc::new(Float64Array::from_iter_values(own.rows().map(|row| row[at]))) as ArrayRef;
        let base = column(self.features.len());
        let Explain::Largest(count) = explain else {
            return Ok((0..self.features.len()).map(column).chain([base]).collect());
        };
        let count = (count as usize).min(self.features.len());
        let rows = own.rows().len();
        let (mut names, mut values) = (Vec::with_capacity(rows * count), Vec::with_capacity(rows * count));
        let mut rests = Vec::with_capacity(rows);
        let mut order: Vec<usize> = Vec::new();
        for row in own.rows() {
            order.clear();
            order.extend(0..self.features.len());
            // Of equally large ones the first feature.
            let by_size = |a: &usize, b: &usize| row[*b].abs().total_cmp(&row[*a].abs()).then(a.cmp(b));
            if count < order.len() {
                order.select_nth_unstable_by(count, by_size);
                order[count..].sort_unstable();
            }
            order[..count].sort_unstable_by(by_size);
            names.extend(order[..count].iter().map(|at| self.features[*at].as_str()));
            values.extend(order[..count].iter().map(|at| row[*at]));
            rests.push(order[count..].iter().fold(0.0, |sum, at| sum + row[*at]));
        }
        let entries: Vec<ArrayRef> = vec![Arc::new(StringArray::from(names)), Arc::new(Float64Array::from(values))];
        let entries: ArrayRef = Arc::new(StructArray::try_new(entry(), entries, None).map_err(made)?);
        Ok(vec![lists(largest(), rows, entries)?, Arc::new(Float64Array::from(rests)), base])
    }

    /// Predictions after every `step` rounds, and after the last.
    fn staged(&self, trees: &TreeModel, schema: &Schema, shard: &EncodedShard, step: usize) -> Result<Vec<ArrayRef>, FitError> {
        let outputs = self.outputs.len();
        let rounds = trees.trees.len() / outputs;
        let kept: Vec<usize> = (1..=rounds).filter(|round| round % step == 0 || *round == rounds).collect();
        let scores = trees.staged(schema, shard, 0..shard.rows);
        let mut picked = Vec::with_capacity(shard.rows * kept.len() * outputs);
        for row in scores.chunks_exact((rounds + 1) * outputs) {
            picked.extend(kept.iter().flat_map(|round| &row[round * outputs..(round + 1) * outputs]));
        }
        trees.link.predict(&mut picked, outputs);
        let list = |output: usize| {
            let values = Float64Array::from_iter_values(picked.iter().skip(output).step_by(outputs).copied());
            lists(item(DataType::Float64), shard.rows, Arc::new(values))
        };
        (0..outputs).map(list).collect()
    }
}

/// What features contribute to one output.
struct Contributions<'a> {
    all: &'a [f64],
    features: usize,
    outputs: usize,
    output: usize,
}

impl<'a> Contributions<'a> {
    /// The contributions of each row, and, last, its expected score.
    fn rows(&self) -> impl ExactSizeIterator<Item = &'a [f64]> + use<'a> {
        let width = self.features + 1;
        let from = self.output * width;
        self.all.chunks_exact(self.outputs * width).map(move |row| &row[from..from + width])
    }
}

/// Lists of equal lengths.
fn lists(field: FieldRef, rows: usize, values: ArrayRef) -> Result<ArrayRef, FitError> {
    let length = values.len().checked_div(rows).unwrap_or(0);
    let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(length, rows));
    Ok(Arc::new(ListArray::try_new(field, offsets, values, None).map_err(made)?))
}

fn item(kind: DataType) -> FieldRef {
    Arc::new(Field::new_list_field(kind, false))
}

fn largest() -> FieldRef {
    item(DataType::Struct(entry()))
}

fn entry() -> Fields {
    vec![Field::new("feature", DataType::Utf8, false), Field::new("contribution", DataType::Float64, false)].into()
}

fn made(source: arrow::error::ArrowError) -> FitError {
    FitError::Arrow { what: "write what stands beside predictions".into(), source }
}
