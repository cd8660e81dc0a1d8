//! Rows on their way out of the program: as text cells for people, as JSON lines, CSV or Parquet for programs. Values
//! are written in full; only the table for people is cut.

mod sink;
mod writer;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};

pub use sink::{Closed, Sink, write_failure};
pub use writer::Writer;

/// A column of a table for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnHead {
    /// Its name.
    pub name: String,
    /// Whether its values are numbers.
    pub numeric: bool,
    /// Whether a value cut short would say something else: numbers, dates, times, truth values.
    pub whole: bool,
}

/// Rows as text, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cells {
    /// Columns in order.
    pub columns: Vec<ColumnHead>,
    /// Values in order; none is null.
    pub rows: Vec<Vec<Option<String>>>,
}

impl Cells {
    /// No rows yet.
    pub fn new(schema: &Schema) -> Self {
        let head = |field: &FieldRef| {
            let (name, kind) = (field.name().clone(), field.data_type());
            let numeric = kind.is_numeric();
            ColumnHead { name, numeric, whole: numeric || kind.is_temporal() || *kind == DataType::Boolean }
        };
        Self { columns: schema.fields().iter().map(head).collect(), rows: Vec::new() }
    }

    /// Adds rows.
    pub fn add(&mut self, rows: &RecordBatch) -> Result<(), ArrowError> {
        let rows = in_utc(rows)?;
        let options = FormatOptions::default();
        let formatters = rows.columns().iter().map(|column| ArrayFormatter::try_new(column, &options));
        let formatters = formatters.collect::<Result<Vec<_>, _>>()?;
        for row in 0..rows.num_rows() {
            let cell = |(column, text): (&ArrayRef, &ArrayFormatter<'_>)| match column.is_null(row) {
                true => Ok(None),
                false => text.value(row).try_to_string().map(Some),
            };
            self.rows.push(rows.columns().iter().zip(&formatters).map(cell).collect::<Result<_, _>>()?);
        }
        Ok(())
    }
}

/// The same rows with every time that has a zone in UTC.
fn in_utc(rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    replaced(rows, |field| match field.data_type() {
        DataType::Timestamp(unit, Some(zone)) if zone.as_ref() != "UTC" => Some(DataType::Timestamp(*unit, Some("UTC".into()))),
        _ => None,
    })
}

/// Columns of which `to` gives another type, cast to it; text is what a person would see.
fn replaced(rows: &RecordBatch, to: impl Fn(&Field) -> Option<DataType>) -> Result<RecordBatch, ArrowError> {
    let schema = rows.schema();
    if schema.fields().iter().all(|field| to(field).is_none()) {
        return Ok(rows.clone());
    }
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for (field, column) in schema.fields().iter().zip(rows.columns()) {
        let (field, column) = match to(field) {
            None => (Arc::clone(field), Arc::clone(column)),
            Some(kind) => {
                let column = if kind == DataType::Utf8 { as_text(column)? } else { cast(column, &kind)? };
                (Arc::new(field.as_ref().clone().with_data_type(kind)), column)
            }
        };
        fields.push(field);
        columns.push(column);
    }
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    RecordBatch::try_new(schema, columns)
}

fn as_text(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let options = FormatOptions::default();
    let text = ArrayFormatter::try_new(column, &options)?;
    let value = |row| match column.is_null(row) {
        true => Ok(None),
        false => text.value(row).try_to_string().map(Some),
    };
    Ok(Arc::new((0..column.len()).map(value).collect::<Result<StringArray, ArrowError>>()?))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
pub mod samples {
    //! Rows with something of everything, for exact texts.

    use arrow::array::{
        BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, ListArray, TimestampMicrosecondArray,
        TimestampNanosecondArray,
    };
    use arrow::datatypes::Int64Type;

    use super::*;

    /// Three rows; the second is all null.
    pub fn rows() -> RecordBatch {
        let at = 1_793_536_496_000_000_000;
        let berlin = TimestampMicrosecondArray::from(vec![Some(at / 1000 + 250_000), None, Some(0)]).with_timezone("+02:00");
        let price = Decimal128Array::from(vec![Some(1_234_500), None, Some(-5)]).with_precision_and_scale(12, 2).unwrap();
        let lists = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None]), None, Some(vec![])]);
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("id", Arc::new(Int64Array::from(vec![Some(1), None, Some(-9_007_199_254_740_993)]))),
            ("x", Arc::new(Float64Array::from(vec![Some(0.1), None, Some(f64::NAN)]))),
            ("price", Arc::new(price)),
            ("flag", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
            ("note", Arc::new(StringArray::from(vec![Some("a, \"b\"\nc"), None, Some("NULL")]))),
            ("day", Arc::new(Date32Array::from(vec![Some(20_758), None, Some(0)]))),
            ("at", Arc::new(TimestampNanosecondArray::from(vec![Some(at), None, Some(1)]).with_timezone("UTC"))),
            ("seen", Arc::new(berlin)),
            ("list", Arc::new(lists)),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true))).unwrap()
    }
}
