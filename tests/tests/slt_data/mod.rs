//! The tables of the slt files: small, with ties, nulls, NaN and zeros of both signs, and the same rows however they are
//! cut into files.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;

/// How rows are cut into files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// One file a table.
    OneFile,
    /// Files of five rows, in order.
    ManyFiles,
    /// Files of eleven rows, the last first, the rows of each backwards.
    Backwards,
}

/// Rows of `sales`.
const SALES: i64 = 60;

/// Writes all tables; gives name and files of each.
pub fn write_tables(folder: &Path, layout: Layout) -> Vec<(&'static str, Vec<String>)> {
    let tables = [("sales", sales()), ("shops", shops()), ("odd", odd()), ("wide", wide()), ("nothing", nothing())];
    tables.map(|(name, rows)| (name, write(folder, name, &rows, layout))).into()
}

/// `id` is unique; `item`, `qty`, `price` and `at` have ties.
fn sales() -> RecordBatch {
    let ids = || 0..SALES;
    let shop = |i: i64| (i % 13 != 5).then_some(["north", "south", "east"][(i * 7 % 3) as usize]);
    let item = |i: i64| ["apple", "bread", "cheese", "dates"][(i * i % 4) as usize];
    let price = |i: i64| (i % 17 != 3).then_some((i * 37 % 24) as f64 + [0.5, 0.1, 0.25][(i % 3) as usize]);
    table([
        ("id", Arc::new(Int64Array::from_iter_values(ids())) as ArrayRef),
        ("shop", Arc::new(ids().map(shop).collect::<StringArray>())),
        ("item", Arc::new(StringArray::from_iter_values(ids().map(item)))),
        ("qty", Arc::new(Int64Array::from_iter_values(ids().map(|i| i * 5 % 4)))),
        ("price", Arc::new(ids().map(price).collect::<Float64Array>())),
        (
            "at",
            Arc::new(TimestampMicrosecondArray::from_iter_values(ids().map(|i| 1_790_000_000_000_000 + i / 4 * 3_600_000_000))),
        ),
        ("day", Arc::new(Date32Array::from_iter_values(ids().map(|i| 20_700 + (i / 10) as i32)))),
    ])
}

fn shops() -> RecordBatch {
    table([
        ("shop", Arc::new(StringArray::from(vec!["north", "south", "east", "west"])) as ArrayRef),
        ("city", Arc::new(StringArray::from(vec![Some("Oslo"), Some("Rome"), Some("Oslo"), None]))),
        ("area", Arc::new(Int64Array::from(vec![120, 80, 120, 40]))),
    ])
}

/// Floats that compare oddly, spread over groups and files.
fn odd() -> RecordBatch {
    let one = [f64::NAN, 1.0, -0.0, 0.0, f64::INFINITY, -2.5, f64::NEG_INFINITY];
    let value = |i: i64| match i % 4 {
        0 => Some(one[(i / 4 % 7) as usize]),
        1 => Some([0.0, -0.0][(i / 4 % 2) as usize]),
        2 => Some(if i > 6 { 3.5 } else { f64::NAN }),
        _ => (i % 8 != 3).then_some(f64::INFINITY),
    };
    table([
        ("id", Arc::new(Int64Array::from_iter_values(0..40)) as ArrayRef),
        ("g", Arc::new(Int64Array::from_iter_values((0..40).map(|i| i % 4)))),
        ("x", Arc::new((0..40).map(value).collect::<Float64Array>())),
    ])
}

/// Many columns and many equal rows.
fn wide() -> RecordBatch {
    let column = |c: i64| Arc::new(Int64Array::from_iter_values((0..30).map(|i| i / 2 * (c + 3) % 5))) as ArrayRef;
    table([
        ("a", column(0)),
        ("b", column(1)),
        ("c", column(2)),
        ("d", column(3)),
        ("e", Arc::new(StringArray::from_iter_values((0..30).map(|i| format!("e{}", i / 2))))),
    ])
}

fn nothing() -> RecordBatch {
    table([
        ("id", Arc::new(Int64Array::from(Vec::<i64>::new())) as ArrayRef),
        ("x", Arc::new(Float64Array::from(Vec::<f64>::new()))),
    ])
}

fn table<const N: usize>(columns: [(&str, ArrayRef); N]) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

fn write(folder: &Path, name: &str, rows: &RecordBatch, layout: Layout) -> Vec<String> {
    let step = match layout {
        Layout::OneFile => rows.num_rows().max(1),
        Layout::ManyFiles => 5,
        Layout::Backwards => 11,
    };
    let mut parts: Vec<_> = (0..rows.num_rows()).step_by(step).map(|i| rows.slice(i, step.min(rows.num_rows() - i))).collect();
    if parts.is_empty() {
        parts.push(rows.clone());
    }
    if layout == Layout::Backwards {
        parts = parts.iter().rev().map(backwards).collect();
    }
    let file = |(i, part): (usize, &RecordBatch)| {
        let path = folder.join(format!("{name}-{i}.parquet"));
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(16)).build();
        let mut writer = ArrowWriter::try_new(File::create(&path).unwrap(), part.schema(), Some(properties)).unwrap();
        writer.write(part).unwrap();
        writer.close().unwrap();
        path.display().to_string()
    };
    parts.iter().enumerate().map(file).collect()
}

fn backwards(rows: &RecordBatch) -> RecordBatch {
    let order = arrow::array::UInt32Array::from_iter_values((0..rows.num_rows() as u32).rev());
    arrow::compute::take_record_batch(rows, &order).unwrap()
}
