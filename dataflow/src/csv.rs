//! Delimited text: types from all rows of all files, so that they depend neither on file order nor on chunks,
//! and typed batches whose errors name file, record and column. An empty field is null, quoted or not.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::csv::ReaderBuilder;
use arrow::csv::reader::{Decoder, Format as HeaderFormat};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;

use crate::error::DataError;
use crate::job::{CsvOptions, JobError};
use crate::pin::{PinnedFile, PinnedObject};
use crate::rowwise::BATCH_ROWS;
use crate::stores::Stores;
use crate::types::{self, ColumnSpec};

/// Bytes of a file that are read at once.
const CHUNK: u64 = 4 << 20;
/// Longest header line.
const HEADER: u64 = 1 << 20;

/// What a pass over all files found.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) columns: Vec<ColumnSpec>,
    /// Rows of each file.
    pub(crate) rows: Vec<u64>,
    /// Nulls of each column.
    pub(crate) nulls: Vec<u64>,
    /// True where some name or value holds a line break: then lines are not records.
    pub(crate) multiline: bool,
}

/// Reads all files once: names, types of undeclared columns, number of rows.
pub(crate) async fn scan(
    stores: &Stores,
    files: &[PinnedFile],
    options: &CsvOptions,
    declared: &[(String, DataType)],
    at: &str,
) -> Result<Scan, DataError> {
    let mut names: Option<(Vec<String>, &PinnedFile)> = None;
    let (mut guesses, mut rows): (Vec<Guess>, Vec<u64>) = (Vec::new(), Vec::new());
    let (mut nulls, mut multiline) = (Vec::new(), false);
    for file in files {
        let mut text = Text::open(stores, file, options).await?;
        match &names {
            None => {
                guesses = vec![Guess::default(); text.names.len()];
                nulls = vec![0; text.names.len()];
                names = Some((text.names.clone(), file));
            }
            Some((expected, first)) if *expected != text.names => {
                let message = format!("the columns {} are not those of {}", text.names.join(", "), first.location);
                return Err(DataError::input(&file.location, message));
            }
            Some(_) => {}
        }
        let mut count = 0;
        while let Some(batch) = text.next().await? {
            count += batch.num_rows() as u64;
            for ((guess, nulls), column) in guesses.iter_mut().zip(&mut nulls).zip(batch.columns()) {
                guess.see_all(column.as_string());
                *nulls += column.null_count() as u64;
            }
        }
        rows.push(count);
        multiline |= text.multiline;
    }
    let names = names.map(|(names, _)| names).unwrap_or_default();
    for (name, _) in declared {
        if !names.contains(name) {
            let error = JobError::at(format!("{at}.schema.{name}"), format!("column `{name}` is not in the files"));
            return Err(error.hint(format!("columns: {}", names.join(", "))).into());
        }
    }
    let spec = |(name, guess): (&String, &Guess)| {
        let declared = declared.iter().find(|(n, _)| n == name).map(|(_, t)| t.clone());
        ColumnSpec { name: name.clone(), kind: types::name(&declared.unwrap_or_else(|| guess.data_type())) }
    };
    Ok(Scan { columns: names.iter().zip(&guesses).map(spec).collect(), rows, nulls, multiline })
}

/// Which types all values of a column could have.
#[derive(Debug, Clone, Copy)]
struct Guess {
    seen: bool,
    bool: bool,
    int: bool,
    float: bool,
    date: bool,
    timestamp: bool,
}

impl Default for Guess {
    fn default() -> Self {
        Self { seen: false, bool: true, int: true, float: true, date: true, timestamp: true }
    }
}

impl Guess {
    fn see_all(&mut self, values: &StringArray) {
        values.iter().flatten().for_each(|v| self.see(v));
    }

    fn see(&mut self, value: &str) {
        self.seen = true;
        self.bool = self.bool && matches!(value.to_ascii_lowercase().as_str(), "true" | "false");
        self.int = self.int && plain_int(value);
        self.float = self.float && plain_float(value);
        self.date = self.date && plain_date(value);
        self.timestamp = self.timestamp && (plain_date(value) || plain_timestamp(value));
    }

    fn data_type(&self) -> DataType {
        match self {
            Guess { seen: false, .. } => DataType::Utf8,
            Guess { bool: true, .. } => DataType::Boolean,
            Guess { int: true, .. } => DataType::Int64,
            Guess { float: true, .. } => DataType::Float64,
            Guess { date: true, .. } => DataType::Date32,
            Guess { timestamp: true, .. } => types::timestamp_utc(),
            _ => DataType::Utf8,
        }
    }
}

/// A whole number without leading zeros: `007` is a code, not a quantity.
fn plain_int(value: &str) -> bool {
    let digits = value.strip_prefix(['-', '+']).unwrap_or(value);
    (digits == "0" || !digits.starts_with('0')) && value.parse::<i64>().is_ok()
}

fn plain_float(value: &str) -> bool {
    let digits = value.strip_prefix(['-', '+']).unwrap_or(value);
    let code = digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
    let number = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let word = matches!(digits.to_ascii_lowercase().as_str(), "nan" | "inf" | "infinity");
    !code && (number || word) && value.parse::<f64>().is_ok()
}

fn plain_date(value: &str) -> bool {
    value.len() == 10 && chrono::NaiveDate::parse_from_str(value, "%Y-%m-%d").is_ok()
}

fn plain_timestamp(value: &str) -> bool {
    value.len() > 10 && arrow::compute::kernels::cast_utils::string_to_timestamp_nanos(value).is_ok()
}

/// One file as batches of text columns; the null text is null.
pub(crate) struct Text {
    object: PinnedObject,
    names: Vec<String>,
    decoder: Decoder,
    null: Option<String>,
    pending: Bytes,
    position: u64,
    record: u64,
    ended: bool,
    /// True once a name or value held a line break.
    multiline: bool,
}

impl Text {
    /// Opens a file and reads the names of its columns.
    pub(crate) async fn open(stores: &Stores, file: &PinnedFile, options: &CsvOptions) -> Result<Self, DataError> {
        let object = file.open(stores)?;
        let head = object.read(0..file.size.min(HEADER)).await?;
        let start = if head.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        let (names, multiline) = names(&head[start..], options).map_err(|m| DataError::input(&file.location, m))?;
        let field = |name: &String| Field::new(name, DataType::Utf8, true);
        let schema = Arc::new(Schema::new(names.iter().map(field).collect::<Vec<_>>()));
        let decoder = ReaderBuilder::new(schema)
            .with_delimiter(options.delimiter as u8)
            .with_header(options.header)
            .with_batch_size(BATCH_ROWS)
            .build_decoder();
        let null = options.null.clone();
        let position = start as u64;
        Ok(Self { object, names, decoder, null, pending: Bytes::new(), position, record: 0, ended: false, multiline })
    }

    /// The next rows; none at the end of the file.
    pub(crate) async fn next(&mut self) -> Result<Option<RecordBatch>, DataError> {
        loop {
            let size = self.object.file().size;
            if self.pending.is_empty() && self.position < size {
                let end = size.min(self.position + CHUNK);
                self.pending = self.object.read(self.position..end).await?;
                self.position = end;
            }
            // At the end of the file the decoder is told so by an empty buffer.
            self.ended = self.pending.is_empty();
            let used = self.decoder.decode(&self.pending).map_err(|e| self.error(&e.to_string()))?;
            self.pending = self.pending.slice(used..);
            if self.decoder.capacity() == 0 || self.ended {
                let batch = self.decoder.flush().map_err(|e| self.error(&e.to_string()))?;
                return match batch {
                    Some(batch) => self.with_nulls(batch).map(Some),
                    None if self.ended => Ok(None),
                    None => continue,
                };
            }
        }
    }

    fn with_nulls(&mut self, batch: RecordBatch) -> Result<RecordBatch, DataError> {
        self.record += batch.num_rows() as u64;
        self.multiline |= batch.columns().iter().any(|c| c.as_string::<i32>().values().contains(&b'\n'));
        let Some(null) = &self.null else { return Ok(batch) };
        let replace = |column: &ArrayRef| -> ArrayRef {
            Arc::new(column.as_string::<i32>().iter().map(|v| v.filter(|v| v != null)).collect::<StringArray>())
        };
        let columns = batch.columns().iter().map(replace).collect();
        RecordBatch::try_new(batch.schema(), columns).map_err(|e| self.error(&e.to_string()))
    }

    fn error(&self, message: &str) -> DataError {
        let plain = message.strip_prefix("Csv error: ").or_else(|| message.strip_prefix("Parser error: ")).unwrap_or(message);
        DataError::input(&self.object.file().location, format!("not readable as delimited text: {plain}"))
    }
}

/// Names of the columns, and whether one of them goes over several lines.
fn names(head: &[u8], options: &CsvOptions) -> Result<(Vec<String>, bool), String> {
    let format = HeaderFormat::default().with_delimiter(options.delimiter as u8).with_header(options.header);
    let records = if options.header { 0 } else { 1 };
    let (schema, _) = format.infer_schema(std::io::Cursor::new(head), Some(records)).map_err(|e| e.to_string())?;
    let multiline = schema.fields().iter().any(|f| f.name().contains('\n'));
    let names: Vec<_> = schema.fields().iter().map(|f| f.name().trim().to_owned()).collect();
    if names.is_empty() {
        return Err("the file is empty".to_owned());
    }
    for (i, name) in names.iter().enumerate() {
        if name.is_empty() {
            return Err(format!("column {} has no name", i + 1));
        }
        if names[..i].contains(name) {
            return Err(format!("column `{name}` stands twice in the header"));
        }
    }
    Ok((names, multiline))
}

/// One file as batches of typed columns.
pub(crate) struct Typed {
    text: Text,
    schema: SchemaRef,
}

impl Typed {
    /// Opens a file whose columns have the types of `schema`.
    pub(crate) async fn open(
        stores: &Stores,
        file: &PinnedFile,
        options: &CsvOptions,
        schema: SchemaRef,
    ) -> Result<Self, DataError> {
        Ok(Self { text: Text::open(stores, file, options).await?, schema })
    }

    /// The next rows as columns of the table.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<ArrayRef>>, DataError> {
        let first = self.text.record;
        let Some(batch) = self.text.next().await? else { return Ok(None) };
        let cast = |(column, field): (&ArrayRef, &Arc<Field>)| self.cast(column, field, first);
        batch.columns().iter().zip(self.schema.fields()).map(cast).collect::<Result<Vec<_>, _>>().map(Some)
    }

    fn cast(&self, column: &ArrayRef, field: &Field, first: u64) -> Result<ArrayRef, DataError> {
        let to = field.data_type();
        let failed = |m: String| DataError::input(&self.text.object.file().location, m);
        let typed = convert(column, to).map_err(|e| failed(format!("column `{}`: {e}", field.name())))?;
        if typed.null_count() == column.null_count() {
            return Ok(typed);
        }
        let bad = (0..column.len()).find(|i| typed.is_null(*i) && column.is_valid(*i)).unwrap_or_default();
        let value = column.as_string::<i32>().value(bad);
        let line = first + bad as u64 + 1;
        let message = format!("record {line}, column `{}`: `{value}` is not of the type {}", field.name(), types::name(to));
        Err(failed(message))
    }
}

/// Text to a type; what does not fit becomes null and is found by the caller.
fn convert(column: &ArrayRef, to: &DataType) -> Result<ArrayRef, arrow::error::ArrowError> {
    let options = CastOptions { safe: true, ..Default::default() };
    match to {
        DataType::Timestamp(TimeUnit::Nanosecond, Some(_)) => {
            let plain = cast_with_options(column, &DataType::Timestamp(TimeUnit::Nanosecond, None), &options)?;
            cast_with_options(&plain, to, &options)
        }
        _ => cast_with_options(column, to, &options),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guess(values: &[&str]) -> DataType {
        let mut guess = Guess::default();
        values.iter().for_each(|v| guess.see(v));
        guess.data_type()
    }

    #[test]
    fn types_take_the_narrowest_that_all_values_have() {
        assert_eq!(guess(&["1", "-2"]), DataType::Int64);
        assert_eq!(guess(&["1", "2.5", "nan", "-inf", "1e-3"]), DataType::Float64);
        assert_eq!(guess(&["true", "False"]), DataType::Boolean);
        assert_eq!(guess(&["2026-01-31", "2026-02-01"]), DataType::Date32);
        assert_eq!(guess(&["2026-01-31", "2026-02-01T10:00:00Z"]), types::timestamp_utc());
        assert_eq!(guess(&["1", "x"]), DataType::Utf8);
        assert_eq!(guess(&["2026-01-31", "7"]), DataType::Utf8);
        assert_eq!(guess(&[]), DataType::Utf8);
    }

    #[test]
    fn codes_with_leading_zeros_stay_text() {
        assert_eq!(guess(&["007", "123"]), DataType::Utf8);
        assert_eq!(guess(&["0", "0.5"]), DataType::Float64);
    }
}
