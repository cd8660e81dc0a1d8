//! A view compiled for the batches of one prepared dataset: inputs are cast to what was planned, steps
//! run, rows are grouped by segment, and columns become plain vectors.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Decimal128Type, Float32Type, Float64Type, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::prelude::SessionContext;
use sheaf_learn::hash::ValueHasher;
use sheaf_learn::shard::{Column, EncodedShard, Schema, Segment};

use crate::features::columns::meant;
use crate::features::distinct::distinct_texts;
use crate::features::expression::{self, Compiled};
use crate::features::kinds::{cast_to, missing, numbers, type_name};
use crate::features::render::each_text;
use crate::features::run::{self, Columns, Op, Values, plain};
use crate::features::{FitError, Type};
use crate::prepared::PreparedShard;
use crate::queries;
use crate::split::{Grouped, group};
use crate::view::{Output, RowIds, Source, Test, View};

/// A [`View`] ready to encode; shared by threads.
pub struct CompiledView {
    view: View,
    schema: Schema,
    prepared: SchemaRef,
    /// Position in the batch, name, type to be read as: what steps start from.
    starts: Vec<Reading>,
    ops: Vec<Op>,
    target: Option<Reading>,
    weight: Option<Reading>,
    offset: Option<Reading>,
    query: Option<Reading>,
    split: Option<Reading>,
    ids: Vec<Reading>,
    filters: BTreeMap<String, Condition>,
}

/// A prepared column and how it is read.
struct Reading {
    at: usize,
    name: String,
    ty: Type,
}

/// A row-wise condition over prepared columns.
struct Condition {
    reads: Vec<Reading>,
    compiled: Compiled,
}

impl CompiledView {
    pub(super) fn new(view: &View, prepared: SchemaRef, session: &SessionContext) -> Result<CompiledView, FitError> {
        let (specs, inputs) = view.lowered();
        let start = |name: &String| match view.columns.iter().find(|(n, _)| n == name) {
            Some((_, ty)) => reading(&prepared, name, Some(*ty)),
            None => Err(FitError::Data(format!("the pipeline reads `{name}` but does not list it; it was changed or damaged"))),
        };
        let starts = inputs.iter().map(start).collect::<Result<_, _>>()?;
        let role = |name: Option<&str>, ty: Option<Type>| name.map(|n| reading(&prepared, n, ty)).transpose();
        let target = view.target.as_ref();
        let ids = match &view.row_ids {
            RowIds::OfColumns(columns) => columns.iter().map(|c| reading(&prepared, c, None)).collect::<Result<_, _>>()?,
            _ => Vec::new(),
        };
        Ok(CompiledView {
            schema: view.schema(),
            starts,
            ops: run::compile(specs, session)?,
            target: role(target.map(|t| t.column.as_str()), target.map(|t| t.data_type))?,
            weight: role(view.weight.as_deref(), None)?,
            offset: role(view.offset.as_deref(), None)?,
            query: role(view.query.as_deref(), None)?,
            split: role(view.split.reads(), view.split.reads_as())?,
            ids,
            filters: conditions(view, &prepared, session)?,
            view: view.clone(),
            prepared,
        })
    }

    /// The schema of the shards that come out.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Rows so far whose category no training row had, by column.
    pub fn unknown_categories(&self) -> BTreeMap<String, u64> {
        let lookups = self.ops.iter().filter_map(|op| match op {
            Op::OneHot(lookup, _) => Some(lookup.unknown()),
            _ => None,
        });
        lookups.filter(|(_, n)| *n > 0).map(|(c, n)| (c.to_string(), n)).collect()
    }

    /// Encodes one shard. Rows are grouped by segment, in their order inside each.
    pub fn encode(&self, shard: &PreparedShard) -> Result<EncodedShard, FitError> {
        if self.view.reads_row_ids() && shard.batch.num_rows() != shard.row_ids.len() {
            let (rows, ids) = (shard.batch.num_rows(), shard.row_ids.len());
            return Err(FitError::Data(format!("shard {}: {rows} rows but {ids} row ids", shard.index)));
        }
        if shard.batch.schema_ref() != &self.prepared {
            self.same_columns(&shard.batch)?;
        }
        match self.kept(&shard.batch)? {
            None => self.encode_rows(shard.index, &shard.batch, &shard.row_ids),
            Some(keep) => {
                let made = |source| FitError::Arrow { what: format!("filter shard {}", shard.index), source };
                let batch = filter_record_batch(&shard.batch, &keep).map_err(made)?;
                let ids = shard.row_ids.iter().zip(keep.values()).filter(|(_, k)| *k).map(|(id, _)| *id);
                self.encode_rows(shard.index, &batch, &ids.collect::<Vec<_>>())
            }
        }
    }

    /// Positions and types must be those the view was compiled for; names of types may differ in metadata.
    fn same_columns(&self, batch: &RecordBatch) -> Result<(), FitError> {
        let same = |(a, b): (&Arc<_>, &Arc<_>)| {
            let (a, b): (&arrow::datatypes::Field, &arrow::datatypes::Field) = (a, b);
            a.name() == b.name() && a.data_type() == b.data_type()
        };
        let (ours, theirs) = (self.prepared.fields(), batch.schema_ref().fields());
        if ours.len() == theirs.len() && ours.iter().zip(theirs.iter()).all(same) {
            return Ok(());
        }
        Err(FitError::Data("the columns of a batch are not those that the view was compiled for".into()))
    }

    /// Which rows stay; `None`: all.
    fn kept(&self, batch: &RecordBatch) -> Result<Option<BooleanArray>, FitError> {
        let mut keep = match &self.view.filter {
            Some(filter) => Some(self.condition(filter, batch)?),
            None => None,
        };
        for reading in &self.ids {
            let null = missing(&reading.read(batch)?, reading.ty);
            let here = keep.take().unwrap_or_else(|| BooleanArray::from(vec![true; batch.num_rows()]));
            keep = Some(here.values().iter().zip(null.values().iter()).map(|(k, n)| Some(k && !n)).collect());
        }
        Ok(keep)
    }

    /// True where a condition is true; null is false.
    fn condition(&self, sql: &str, batch: &RecordBatch) -> Result<BooleanArray, FitError> {
        let Some(condition) = self.filters.get(sql) else {
            return Err(FitError::Data(format!("condition `{sql}` was not compiled")));
        };
        let arrays = condition.reads.iter().map(|r| r.read(batch)).collect::<Result<_, _>>()?;
        let values = condition.compiled.evaluate(arrays, batch.num_rows())?;
        Ok(values.as_boolean().iter().map(|v| Some(v == Some(true))).collect())
    }

    fn encode_rows(&self, index: u32, batch: &RecordBatch, row_ids: &[u128]) -> Result<EncodedShard, FitError> {
        let rows = batch.num_rows();
        let mut columns = Columns::new();
        for reading in &self.starts {
            columns.insert(reading.name.clone(), Values::Plain(reading.read(batch)?, reading.ty));
        }
        run::run(&self.ops, &mut columns, rows)?;
        let text = self.split.as_ref().map(|r| r.read(batch)).transpose()?;
        let segments = self.view.split.segments(rows, row_ids, text.as_ref())?;
        let queries = self.query.as_ref().map(|query| query.queries(batch, &segments)).transpose()?;
        let grouped = group(&segments);
        let outputs = self.view.outputs.iter().map(|o| self.output(o, &columns, batch, &grouped));
        Ok(EncodedShard {
            index,
            rows,
            bounds: grouped.bounds,
            columns: outputs.collect::<Result<_, _>>()?,
            target: self.read_target(batch)?.map(|v| grouped.apply(v).into()),
            weight: self.role("weight", &self.weight, batch)?.map(|v| grouped.apply(v).into()),
            offset: self.role("offset", &self.offset, batch)?.map(|v| grouped.apply(v).into()),
            query: queries.map(|v| grouped.apply(v).into()),
            row_ids: self.read_ids(batch, row_ids)?.map(|v| grouped.apply(v).into()),
        })
    }

    fn output(&self, output: &Output, columns: &Columns, batch: &RecordBatch, grouped: &Grouped) -> Result<Column, FitError> {
        let number = |name: &str| plain(columns, name).map(|(array, ty)| numeric(&array, ty, grouped));
        match &output.source {
            Source::Number(name) => number(name),
            Source::Feature => match columns.get(&output.name) {
                Some(Values::Code(codes)) => Ok(Column::Code(grouped.pick(codes.len(), |row| codes[row]).into())),
                Some(Values::Sparse(offsets, entries)) => {
                    let (offsets, entries) = grouped.apply_sparse(offsets.clone(), entries.clone());
                    Ok(Column::Sparse { offsets: offsets.into(), entries: entries.into() })
                }
                _ => number(&output.name),
            },
            Source::Text(name) => {
                let (array, ty) = plain(columns, name)?;
                let (codes, values) = distinct_texts(&array, ty)?;
                Ok(Column::Bytes { codes: grouped.apply(codes).into(), values: values.into() })
            }
            Source::Flag { test, filter } => {
                let mut flags = flags(test, columns, batch.num_rows())?;
                if let Some(filter) = filter {
                    let here = self.condition(filter, batch)?;
                    flags.iter_mut().zip(here.values().iter()).for_each(|(f, here)| *f = if here { *f } else { 0.0 });
                }
                Ok(Column::F32(grouped.apply(flags).into()))
            }
        }
    }

    fn read_target(&self, batch: &RecordBatch) -> Result<Option<Vec<f64>>, FitError> {
        match (&self.view.target, &self.target) {
            (Some(spec), Some(reading)) => spec.read(&reading.read(batch)?).map(Some),
            _ => Ok(None),
        }
    }

    /// Weight or offset; a null is an error.
    fn role(&self, role: &str, reading: &Option<Reading>, batch: &RecordBatch) -> Result<Option<Vec<f64>>, FitError> {
        let Some(reading) = reading else { return Ok(None) };
        let values = numbers(&reading.read(batch)?, reading.ty);
        match values.iter().filter(|v| v.is_nan()).count() {
            0 => Ok(Some(values)),
            nulls => Err(role_error(role, &reading.name, nulls as u64, values.len() as u64)),
        }
    }

    fn read_ids(&self, batch: &RecordBatch, row_ids: &[u128]) -> Result<Option<Vec<u128>>, FitError> {
        match &self.view.row_ids {
            RowIds::Without => Ok(None),
            RowIds::OfRows => Ok(Some(row_ids.to_vec())),
            RowIds::OfColumns(_) => {
                let mut hashers = vec![ValueHasher::new(); batch.num_rows()];
                for reading in &self.ids {
                    hash_column(&reading.read(batch)?, reading.ty, &mut hashers);
                }
                Ok(Some(hashers.iter_mut().map(ValueHasher::finish).collect()))
            }
        }
    }
}

impl Reading {
    fn read(&self, batch: &RecordBatch) -> Result<ArrayRef, FitError> {
        cast_to(&self.name, batch.column(self.at), self.ty)
    }

    /// Number of each row's query, where no query stands in several segments.
    fn queries(&self, batch: &RecordBatch, segments: &[Segment]) -> Result<Vec<u32>, FitError> {
        let column = self.read(batch)?;
        let numbers = queries::numbers(&queries::ids(&column).map_err(|e| FitError::Data(e.to_string()))?);
        queries::check_whole(&self.name, &column, &numbers, segments)?;
        Ok(numbers)
    }
}

/// Finds a column; `ty` is the type it must be readable as, or its own.
fn reading(prepared: &SchemaRef, name: &str, ty: Option<Type>) -> Result<Reading, FitError> {
    let Some((at, field)) = prepared.column_with_name(name) else {
        let names = prepared.fields().iter().map(|f| f.name().as_str());
        let hint = meant(name, names, "the rows have");
        return Err(FitError::Data(format!("column `{name}` not found; {hint}")));
    };
    let own = Type::of(field.data_type());
    match (own, ty) {
        (Some(own), None) => Ok(Reading { at, name: name.to_string(), ty: own }),
        (Some(own), Some(ty)) if ty.accepts(own) => Ok(Reading { at, name: name.to_string(), ty }),
        (_, ty) => {
            let has = type_name(field.data_type());
            let wants = ty.map_or("a plain column".to_string(), Type::name);
            Err(FitError::Data(format!("column `{name}` is {has}, {wants} is needed; cast it in `prepare`")))
        }
    }
}

/// Compiles every filter once.
fn conditions(view: &View, prepared: &SchemaRef, session: &SessionContext) -> Result<BTreeMap<String, Condition>, FitError> {
    let mut out = BTreeMap::new();
    let flags = view.outputs.iter().filter_map(|o| match &o.source {
        Source::Flag { filter, .. } => filter.as_ref(),
        _ => None,
    });
    for sql in flags.chain(&view.filter) {
        let planned = expression::plan(session, "where", sql, &view.columns, &view.params)?;
        let typed = |name: &String| view.columns.iter().find(|(n, _)| n == name).cloned();
        let columns: Vec<(String, Type)> = planned.reads.iter().filter_map(typed).collect();
        let reads = columns.iter().map(|(n, ty)| reading(prepared, n, Some(*ty))).collect::<Result<_, _>>()?;
        let compiled = expression::compile(session, "where", sql, &columns, &view.params, Type::Bool)?;
        out.insert(sql.clone(), Condition { reads, compiled });
    }
    Ok(out)
}

/// Numbers in the order of their segments. Columns of floats are read where they stand.
fn numeric(array: &ArrayRef, ty: Type, grouped: &Grouped) -> Column {
    match ty {
        Type::Float32 => {
            let values = array.as_primitive::<Float32Type>();
            let one_nan = |v: f32| if v.is_nan() { f32::NAN } else { v };
            let raw = values.values();
            let picked = match values.nulls().filter(|nulls| nulls.null_count() > 0) {
                None => grouped.pick(raw.len(), |row| one_nan(raw[row])),
                Some(nulls) => grouped.pick(raw.len(), |row| if nulls.is_null(row) { f32::NAN } else { one_nan(raw[row]) }),
            };
            Column::F32(picked.into())
        }
        Type::Float64 if array.null_count() == 0 => {
            let raw = array.as_primitive::<Float64Type>().values();
            floats(grouped.pick(raw.len(), |row| raw[row]))
        }
        _ => floats(grouped.apply(numbers(array, ty))),
    }
}

/// f32 where every value round-trips, else f64; a missing value is the one quiet NaN.
fn floats(values: Vec<f64>) -> Column {
    if values.iter().all(|v| v.is_nan() || f64::from(*v as f32).to_bits() == v.to_bits()) {
        return Column::F32(values.into_iter().map(|v| if v.is_nan() { f32::NAN } else { v as f32 }).collect());
    }
    Column::F64(values.into_iter().map(|v| if v.is_nan() { f64::NAN } else { v }).collect())
}

fn flags(test: &Test, columns: &Columns, rows: usize) -> Result<Vec<f32>, FitError> {
    let flag = |set: bool| if set { 1.0 } else { 0.0 };
    match test {
        Test::Row => Ok(vec![1.0; rows]),
        Test::Null(column) => {
            let (array, _) = plain(columns, column)?;
            Ok((0..rows).map(|i| flag(array.is_null(i))).collect())
        }
        Test::Outside { column, min, max } => {
            let (array, ty) = plain(columns, column)?;
            let inside = |v: f64| min.is_none_or(|m| v >= m) && max.is_none_or(|m| v <= m) && !v.is_nan();
            let values = numbers(&array, ty);
            Ok(values.iter().enumerate().map(|(i, v)| flag(array.is_valid(i) && !inside(*v))).collect())
        }
    }
}

/// Appends a column's values to each row's hasher.
fn hash_column(array: &ArrayRef, ty: Type, hashers: &mut [ValueHasher]) {
    match ty {
        Type::Float32 | Type::Float64 => {
            hashers.iter_mut().zip(numbers(array, ty)).for_each(|(h, v)| h.f64(v));
        }
        Type::Decimal(_, scale) => {
            hashers.iter_mut().zip(array.as_primitive::<Decimal128Type>().values()).for_each(|(h, v)| h.decimal(*v, scale));
        }
        // The canonical text is as distinct as the value.
        _ => each_text(array, ty, |row, text| match text {
            Some(text) => hashers[row].bytes(text.as_bytes()),
            None => hashers[row].null(),
        }),
    }
}

/// The one message for null weights and offsets.
pub(crate) fn role_error(role: &str, column: &str, nulls: u64, rows: u64) -> FitError {
    FitError::Data(format!("{role} `{column}` has {nulls} nulls in {rows} rows; fill them or remove these rows in `prepare`"))
}
