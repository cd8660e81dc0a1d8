//! Answers and their comparison: rows as multisets, or in order where that is part of the answer; floats to a
//! relative 1e-9, everything else exactly, column names and types included.

use std::cmp::Ordering;
use std::fmt::Write as _;
use std::fs::File;
use std::path::Path;

use arrow::array::{Array, AsArray as _, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// The largest relative difference of equal floats.
pub const TOLERANCE: f64 = 1e-9;

/// Rows that a comparison shows of each kind of difference.
const SHOWN: usize = 5;

/// What a statement gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Name and type of each column; the ways to hold text are one type.
    pub columns: Vec<(String, String)>,
    /// Rows in the order in which they came.
    pub rows: Vec<Vec<Cell>>,
}

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// No value.
    Null,
    /// A float.
    Float(f64),
    /// Anything else, written out in full.
    Text(String),
}

impl Cell {
    /// Place among the values of a column that decides before floats do.
    fn kind(&self) -> (u8, &str) {
        match self {
            Cell::Null => (0, ""),
            Cell::Float(_) => (1, ""),
            Cell::Text(text) => (2, text),
        }
    }

    fn matches(&self, other: &Cell) -> bool {
        match (self, other) {
            (Cell::Float(a), Cell::Float(b)) => close(*a, *b),
            _ => self == other,
        }
    }

    fn show(&self) -> String {
        match self {
            Cell::Null => "null".to_owned(),
            Cell::Float(value) => format!("{value:?}"),
            Cell::Text(text) => format!("{text:?}").trim_matches('"').to_owned(),
        }
    }
}

/// Whether two floats are the same but for the order in which they were summed up.
fn close(a: f64, b: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= TOLERANCE * a.abs().max(b.abs())
}

impl Answer {
    /// The rows of batches of one schema.
    ///
    /// # Panics
    /// If there is no batch: also an empty answer has columns.
    pub fn of(batches: &[RecordBatch]) -> Self {
        let schema = batches.first().expect("an answer has at least one batch").schema();
        let columns = schema.fields().iter().map(|f| (f.name().clone(), type_name(f.data_type()))).collect();
        let rows = batches.iter().flat_map(rows_of).collect();
        Self { columns, rows }
    }

    /// The rows of a Parquet file.
    pub fn read_parquet(path: &Path) -> Result<Self, String> {
        let wrong = |e: &dyn std::fmt::Display| format!("read {}: {e}", path.display());
        let file = File::open(path).map_err(|e| wrong(&e))?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| wrong(&e))?;
        let empty = RecordBatch::new_empty(builder.schema().clone());
        let reader = builder.build().map_err(|e| wrong(&e))?;
        let mut batches = vec![empty];
        for batch in reader {
            batches.push(batch.map_err(|e| wrong(&e))?);
        }
        Ok(Self::of(&batches))
    }

    /// Compares with what came instead of this.
    ///
    /// # Errors
    /// What differs, for people: columns, numbers of rows, and the first rows that are not the same.
    pub fn compare(&self, other: &Answer, ordered: bool) -> Result<(), String> {
        if self.columns != other.columns {
            return Err(format!("other columns\n  expected {:?}\n  got      {:?}", self.columns, other.columns));
        }
        let mut found = Differences::default();
        if ordered {
            found.in_order(&self.rows, &other.rows);
        } else {
            found.as_sets(sorted(&self.rows), sorted(&other.rows));
        }
        match found.count {
            0 => Ok(()),
            _ => Err(found.report(self, other)),
        }
    }
}

fn rows_of(batch: &RecordBatch) -> Vec<Vec<Cell>> {
    let columns: Vec<Vec<Cell>> = batch.columns().iter().map(|column| cells_of(column)).collect();
    (0..batch.num_rows()).map(|row| columns.iter().map(|cells| cells[row].clone()).collect()).collect()
}

fn cells_of(column: &dyn Array) -> Vec<Cell> {
    let options = FormatOptions::new();
    if column.data_type().is_floating() {
        let floats = cast(column, &DataType::Float64).unwrap();
        return floats.as_primitive::<Float64Type>().iter().map(|value| value.map_or(Cell::Null, Cell::Float)).collect();
    }
    let texts = ArrayFormatter::try_new(column, &options).unwrap();
    let cell = |row| if column.is_null(row) { Cell::Null } else { Cell::Text(texts.value(row).to_string()) };
    (0..column.len()).map(cell).collect()
}

fn type_name(of: &DataType) -> String {
    match of {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text".to_owned(),
        DataType::Dictionary(_, values) => type_name(values),
        other => other.to_string(),
    }
}

/// Rows by everything but floats, then by floats: equal rows of two answers stand at the same place unless sums
/// that are equal to rounding order rows that are otherwise the same.
fn sorted(rows: &[Vec<Cell>]) -> Vec<&Vec<Cell>> {
    let mut rows: Vec<&Vec<Cell>> = rows.iter().collect();
    rows.sort_by(|a, b| order(a, b).then_with(|| order_floats(a, b)));
    rows
}

fn order(a: &[Cell], b: &[Cell]) -> Ordering {
    a.iter().map(Cell::kind).cmp(b.iter().map(Cell::kind))
}

fn order_floats(a: &[Cell], b: &[Cell]) -> Ordering {
    let one = |pair: (&Cell, &Cell)| match pair {
        (Cell::Float(a), Cell::Float(b)) => a.total_cmp(b),
        _ => Ordering::Equal,
    };
    a.iter().zip(b).map(one).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

fn same(a: &[Cell], b: &[Cell]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.matches(b))
}

/// Rows that are not the same.
#[derive(Debug, Default)]
struct Differences {
    count: usize,
    lines: Vec<String>,
}

impl Differences {
    fn add(&mut self, line: impl FnOnce() -> String) {
        self.count += 1;
        if self.count <= SHOWN {
            self.lines.push(line());
        }
    }

    fn in_order(&mut self, expected: &[Vec<Cell>], got: &[Vec<Cell>]) {
        for row in 0..expected.len().max(got.len()) {
            match (expected.get(row), got.get(row)) {
                (Some(a), Some(b)) if same(a, b) => {}
                (Some(a), Some(b)) => self.add(|| format!("row {row}:\n{}", pair(a, b))),
                (Some(a), None) => self.add(|| format!("row {row} is missing: {}", show(a))),
                (None, Some(b)) => self.add(|| format!("row {row} is too much: {}", show(b))),
                (None, None) => {}
            }
        }
    }

    fn as_sets(&mut self, expected: Vec<&Vec<Cell>>, got: Vec<&Vec<Cell>>) {
        let (mut expected, mut got) = (expected.into_iter().peekable(), got.into_iter().peekable());
        loop {
            let order = match (expected.peek(), got.peek()) {
                (Some(a), Some(b)) => order(a, b),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => return,
            };
            let a = if order.is_le() { expected.next() } else { None };
            let b = if order.is_ge() { got.next() } else { None };
            match (a, b) {
                (Some(a), Some(b)) if same(a, b) => {}
                (Some(a), Some(b)) => self.add(|| format!("other floats:\n{}", pair(a, b))),
                (Some(a), None) => self.add(|| format!("missing: {}", show(a))),
                (None, Some(b)) => self.add(|| format!("too much: {}", show(b))),
                (None, None) => unreachable!("one of the two goes on"),
            }
        }
    }

    fn report(&self, expected: &Answer, got: &Answer) -> String {
        let names: Vec<&str> = expected.columns.iter().map(|(name, _)| name.as_str()).collect();
        let (expected, got) = (expected.rows.len(), got.rows.len());
        let mut text =
            format!("{} rows differ; expected {expected} rows, got {got}\n  columns: {}", self.count, names.join(" | "));
        for line in &self.lines {
            let _ = write!(text, "\n  {line}");
        }
        if self.count > self.lines.len() {
            let _ = write!(text, "\n  … and {} more", self.count - self.lines.len());
        }
        text
    }
}

fn show(row: &[Cell]) -> String {
    row.iter().map(Cell::show).collect::<Vec<_>>().join(" | ")
}

/// Two rows below each other, with a mark at each value that differs.
fn pair(a: &[Cell], b: &[Cell]) -> String {
    let mark = |(a, b): (&Cell, &Cell)| if a.matches(b) { b.show() } else { format!("»{}«", b.show()) };
    let marked: Vec<String> = a.iter().zip(b).map(mark).collect();
    format!("    expected {}\n    got      {}", show(a), marked.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(rows: &[(Option<&str>, f64)]) -> Answer {
        let cell = |text: &Option<&str>| text.map_or(Cell::Null, |text| Cell::Text(text.to_owned()));
        let rows = rows.iter().map(|(text, float)| vec![cell(text), Cell::Float(*float)]).collect();
        Answer { columns: vec![("a".into(), "text".into()), ("x".into(), "Float64".into())], rows }
    }

    #[test]
    fn order_matters_only_where_it_is_said() {
        let (a, b) = (answer(&[(Some("u"), 1.0), (None, 2.0)]), answer(&[(None, 2.0), (Some("u"), 1.0)]));
        a.compare(&b, false).unwrap();
        assert!(a.compare(&b, true).unwrap_err().contains("2 rows differ"));
    }

    #[test]
    fn floats_may_differ_in_the_tenth_digit_and_nothing_else_may() {
        let a = answer(&[(Some("u"), 1e10), (Some("v"), f64::NAN)]);
        a.compare(&answer(&[(Some("u"), 1e10 + 1.0), (Some("v"), f64::NAN)]), true).unwrap();
        let text = a.compare(&answer(&[(Some("u"), 1e10 + 100.0), (Some("v"), f64::NAN)]), false).unwrap_err();
        assert!(text.contains("1 rows differ") && text.contains("»10000000100.0«"), "{text}");
        let null = a.compare(&answer(&[(None, 1e10), (Some("v"), f64::NAN)]), false).unwrap_err();
        assert!(null.contains("missing: u") && null.contains("too much: null"), "{null}");
    }

    #[test]
    fn a_row_too_often_or_too_seldom_is_found() {
        let (once, twice) = (answer(&[(Some("u"), 1.0)]), answer(&[(Some("u"), 1.0), (Some("u"), 1.0)]));
        for ordered in [false, true] {
            assert!(once.compare(&twice, ordered).unwrap_err().contains("too much"));
            assert!(twice.compare(&once, ordered).unwrap_err().contains("missing"));
        }
    }

    #[test]
    fn columns_are_compared_by_name_and_type() {
        let (a, mut b) = (answer(&[]), answer(&[]));
        b.columns[1].1 = "Int64".into();
        assert!(a.compare(&b, false).unwrap_err().contains("other columns"));
    }
}
