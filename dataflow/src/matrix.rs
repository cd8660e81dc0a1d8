//! The feature matrix as columns: what a learner sees of every row, beside what identifies the row and its roles. A
//! number is what the last step left, `(x − shift) · scale`; a category is its name; hashed features are the entries of
//! their row. A missing value and a category without a slot are null.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float32Array, Float64Array, ListArray, RecordBatch, StringArray, StringBuilder, StructArray, UInt32Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use datafusion::prelude::SessionContext;
use serde::{Deserialize, Serialize};
use sheaf_learn::shard::{Column, EncodedShard, Feature, FeatureKind, Segment};

use crate::features::FitError;
use crate::features::kinds::cast_to;
use crate::pipeline::Pipeline;
use crate::prepared::PreparedShard;
use crate::score::{position, unambiguous};
use crate::split::SplitRule;
use crate::view::{CompiledView, View};

/// Name of the column that says the part of the split.
pub(crate) const SEGMENT: &str = "segment";

/// Everything that making the matrix needs; it travels to workers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Matrix {
    /// Features.
    pub pipeline: Pipeline,
    /// Prepared columns written before them as they are: key, target, weight.
    pub carried: Vec<String>,
    /// Where rows stand; absent: no column says so.
    pub split: Option<SplitRule>,
}

impl Matrix {
    /// Prepared columns that are read, sorted by name.
    pub fn inputs(&self) -> Vec<String> {
        let mut out = View::scoring(&self.pipeline).inputs();
        out.extend(self.carried.iter().cloned());
        out.extend(self.split.as_ref().and_then(SplitRule::reads).map(str::to_owned));
        out.sort();
        out.dedup();
        out
    }

    /// Ready for shards of these columns.
    pub fn compile(&self, prepared: SchemaRef, session: &SessionContext) -> Result<CompiledMatrix, FitError> {
        let view = View::scoring(&self.pipeline).compile(Arc::clone(&prepared), session)?;
        let (mut fields, mut carried) = (Vec::new(), Vec::new());
        for name in &self.carried {
            let at = position(&prepared, name)?;
            if !carried.contains(&at) {
                carried.push(at);
                fields.push(prepared.field(at).clone());
            }
        }
        fields.extend(view.schema().features.iter().map(field));
        fields.extend(self.split.as_ref().map(|_| Field::new(SEGMENT, DataType::Utf8, false)));
        unambiguous(&fields)?;
        let split_column = match self.split.as_ref().and_then(SplitRule::reads) {
            Some(name) => Some((position(&prepared, name)?, name.to_owned())),
            None => None,
        };
        Ok(CompiledMatrix { view, carried, split: self.split.clone(), split_column, schema: Arc::new(Schema::new(fields)) })
    }
}

/// A [`Matrix`] ready for shards; shared by threads.
pub struct CompiledMatrix {
    view: CompiledView,
    carried: Vec<usize>,
    split: Option<SplitRule>,
    split_column: Option<(usize, String)>,
    schema: SchemaRef,
}

impl CompiledMatrix {
    /// Columns that come out: those carried, features, `segment`.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// The matrix of a shard, in the order of its rows.
    pub fn make(&self, shard: &PreparedShard) -> Result<RecordBatch, FitError> {
        let encoded = self.view.encode(shard)?;
        let mut columns: Vec<ArrayRef> = self.carried.iter().map(|at| Arc::clone(shard.batch.column(*at))).collect();
        let features = &self.view.schema().features;
        for (feature, column) in features.iter().zip(&encoded.columns) {
            columns.push(array(feature, column, &encoded)?);
        }
        if let Some(split) = &self.split {
            columns.push(self.segments(split, shard)?);
        }
        let made = |source| FitError::Arrow { what: format!("write features of shard {}", shard.index), source };
        RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(made)
    }

    fn segments(&self, split: &SplitRule, shard: &PreparedShard) -> Result<ArrayRef, FitError> {
        let text = match &self.split_column {
            Some((at, name)) => {
                let column = shard.batch.column(*at);
                Some(split.reads_as().map_or_else(|| Ok(Arc::clone(column)), |ty| cast_to(name, column, ty))?)
            }
            None => None,
        };
        let segments = split.segments(shard.batch.num_rows(), &shard.row_ids, text.as_ref())?;
        Ok(Arc::new(segments.into_iter().map(Segment::name).map(Some).collect::<StringArray>()))
    }
}

fn field(feature: &Feature) -> Field {
    let data_type = match &feature.kind {
        FeatureKind::Numeric { .. } => DataType::Float64,
        FeatureKind::Slots { .. } => DataType::Utf8,
        FeatureKind::Sparse { .. } => DataType::List(Arc::new(Field::new("item", DataType::Struct(entry()), false))),
    };
    Field::new(&feature.name, data_type, !matches!(feature.kind, FeatureKind::Sparse { .. }))
}

/// An entry of a hashed feature.
fn entry() -> Fields {
    Fields::from(vec![Field::new("slot", DataType::UInt32, false), Field::new("value", DataType::Float32, false)])
}

fn array(feature: &Feature, column: &Column, shard: &EncodedShard) -> Result<ArrayRef, FitError> {
    match (&feature.kind, column) {
        (FeatureKind::Numeric { shift, scale }, Column::F32(_) | Column::F64(_)) => {
            let number = |row| column.number(row).filter(|x| !x.is_nan()).map(|x| (x - shift) * scale);
            Ok(Arc::new((0..shard.rows).map(number).collect::<Float64Array>()))
        }
        (FeatureKind::Slots { names }, Column::Code(codes)) => {
            let mut out = StringBuilder::new();
            codes.iter().for_each(|code| out.append_option(names.get(*code as usize)));
            Ok(Arc::new(out.finish()))
        }
        (FeatureKind::Sparse { .. }, Column::Sparse { offsets, entries }) => sparse(offsets, entries),
        _ => Err(FitError::Data(format!("feature `{}` is not encoded as its schema says", feature.name))),
    }
}

fn sparse(offsets: &[u32], entries: &[(u32, f32)]) -> Result<ArrayRef, FitError> {
    let made = |source| FitError::Arrow { what: "write hashed features".into(), source };
    let slots: ArrayRef = Arc::new(entries.iter().map(|(slot, _)| Some(*slot)).collect::<UInt32Array>());
    let values: ArrayRef = Arc::new(entries.iter().map(|(_, value)| Some(*value)).collect::<Float32Array>());
    let items = StructArray::try_new(entry(), vec![slots, values], None).map_err(made)?;
    let lengths = offsets.windows(2).map(|pair| (pair[1] - pair[0]) as usize);
    let item = Arc::new(Field::new("item", DataType::Struct(entry()), false));
    let list = ListArray::try_new(item, OffsetBuffer::from_lengths(lengths), Arc::new(items), None).map_err(made)?;
    Ok(Arc::new(list))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::{Float64Type, Int64Type};
    use sheaf_learn::shard::Schema as Encoded;

    use super::*;
    use crate::stores::{StoreOptions, Stores};

    /// A number that is scaled and an id, split by chance.
    fn matrix() -> Matrix {
        let kind = FeatureKind::Numeric { shift: 0.0, scale: 1.0 };
        let pipeline = Pipeline {
            steps: Vec::new(),
            schema: Encoded { features: vec![Feature { name: "x".into(), kind }], classes: Vec::new() },
            target: None,
            inputs: vec![("x".into(), "float64".into())],
            offset: None,
        };
        Matrix {
            pipeline,
            carried: vec!["id".into()],
            split: Some(SplitRule::Random { seed: 1, test: 0.5, validation: 0.0, query: None }),
        }
    }

    #[test]
    fn numbers_keys_and_segments_stand_in_the_order_of_the_rows() {
        let schema =
            Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("x", DataType::Float64, true)]));
        let ids: ArrayRef = Arc::new((0..100).map(Some).collect::<arrow::array::Int64Array>());
        let numbers: ArrayRef = Arc::new((0..100).map(|i| (i % 10 != 0).then_some(f64::from(i))).collect::<Float64Array>());
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![ids, numbers]).unwrap();
        let row_ids = (0..100u128).map(|i| i << 120 | i << 60).collect();
        let session = Stores::new(StoreOptions::default()).unwrap().session(0);
        let compiled = matrix().compile(schema, &session).unwrap();
        let made = compiled.make(&PreparedShard { index: 0, batch, row_ids }).unwrap();
        let names: Vec<_> = made.schema().fields().iter().map(|f| f.name().clone()).collect();
        assert_eq!(names, ["id", "x", "segment"]);
        assert!(made.column(0).as_primitive::<Int64Type>().values().iter().copied().eq(0..100));
        let x = made.column(1).as_primitive::<Float64Type>();
        assert!((0..100).all(|i| x.is_null(i) == (i % 10 == 0) && (x.is_null(i) || x.value(i) == i as f64)));
        let segments: Vec<_> = made.column(2).as_string::<i32>().iter().flatten().collect();
        assert!(segments.contains(&"train") && segments.contains(&"test") && segments.len() == 100);
        assert_eq!(matrix().inputs(), ["id", "x"]);
    }

    #[test]
    fn hashed_features_are_the_entries_of_their_rows() {
        let made = sparse(&[0, 2, 2, 3], &[(1, 1.0), (7, -1.0), (3, 2.0)]).unwrap();
        let lists = made.as_list::<i32>();
        assert_eq!((lists.value_length(0), lists.value_length(1), lists.value_length(2)), (2, 0, 1));
        let feature = Feature { name: "h".into(), kind: FeatureKind::Sparse { width: 8 } };
        assert_eq!(made.data_type(), field(&feature).data_type());
    }
}
