//! Rows for programs. JSON: one object a line, numbers as numbers, NaN and infinities as null, times as ISO texts in
//! UTC, nulls written out. CSV: a header, quotes where they are needed, null as an empty field, lists as text. Parquet:
//! the rows as they are.

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::csv;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::WriterBuilder;
use arrow::json::writer::{LineDelimited, Writer as JsonWriter};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::{in_utc, replaced, write_failure};
use crate::cli::RowFormat;
use crate::failure::Failure;

/// Writes rows in a format.
pub enum Writer<W: Write + Send> {
    /// One object a line.
    Json(Box<JsonWriter<W, LineDelimited>>),
    /// A header and a line a row.
    Csv(Box<csv::Writer<W>>),
    /// A Parquet file.
    Parquet(Box<ArrowWriter<W>>),
}

impl<W: Write + Send> Writer<W> {
    /// Starts a file of rows. A table for people is none.
    pub fn new(format: RowFormat, schema: &SchemaRef, sink: W) -> Result<Self, Failure> {
        match format {
            RowFormat::Table => Err(Failure::usage("a table is printed, not written")),
            RowFormat::Json => Ok(Self::Json(Box::new(WriterBuilder::new().with_explicit_nulls(true).build(sink)))),
            RowFormat::Csv => {
                let mut writer = csv::WriterBuilder::new().with_header(true).build(sink);
                // Names stand there even where no rows follow.
                writer
                    .write(&flat(&RecordBatch::new_empty(SchemaRef::clone(schema))).map_err(write_failure)?)
                    .map_err(write_failure)?;
                Ok(Self::Csv(Box::new(writer)))
            }
            RowFormat::Parquet => {
                let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
                let writer = ArrowWriter::try_new(sink, SchemaRef::clone(schema), Some(properties));
                Ok(Self::Parquet(Box::new(writer.map_err(write_failure)?)))
            }
        }
    }

    /// Writes rows.
    pub fn write(&mut self, rows: &RecordBatch) -> Result<(), Failure> {
        match self {
            Self::Json(writer) => in_utc(rows).and_then(|rows| writer.write(&rows)).map_err(write_failure),
            Self::Csv(writer) => flat(rows).and_then(|rows| writer.write(&rows)).map_err(write_failure),
            Self::Parquet(writer) => writer.write(rows).map_err(write_failure),
        }
    }

    /// Ends the file and gives the sink back.
    pub fn finish(self) -> Result<W, Failure> {
        match self {
            Self::Json(mut writer) => writer.finish().map(|()| writer.into_inner()).map_err(write_failure),
            Self::Csv(writer) => Ok(writer.into_inner()),
            Self::Parquet(writer) => writer.into_inner().map_err(write_failure),
        }
    }
}

/// Rows that stand on one line each: lists and their kin as text.
fn flat(rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let plain = |kind: &DataType| !kind.is_nested() && !matches!(kind, DataType::Dictionary(..) | DataType::Interval(_));
    replaced(&in_utc(rows)?, |field| (!plain(field.data_type())).then_some(DataType::Utf8))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;
    use crate::rows::samples;

    fn written(format: RowFormat, rows: &[RecordBatch]) -> Vec<u8> {
        let mut writer = Writer::new(format, &samples::rows().schema(), Vec::new()).unwrap();
        rows.iter().for_each(|rows| writer.write(rows).unwrap());
        writer.finish().unwrap()
    }

    #[test]
    fn json_lines() {
        let expected = concat!(
            r#"{"id":1,"x":0.1,"price":12345.00,"flag":true,"note":"a, \"b\"\nc","day":"2026-11-01","at":"2026-11-01T12:34:56Z","seen":"2026-11-01T12:34:56.250Z","list":[1,null]}"#,
            "\n",
            r#"{"id":null,"x":null,"price":null,"flag":null,"note":null,"day":null,"at":null,"seen":null,"list":null}"#,
            "\n",
            r#"{"id":-9007199254740993,"x":null,"price":-0.05,"flag":false,"note":"NULL","day":"1970-01-01","at":"1970-01-01T00:00:00.000000001Z","seen":"1970-01-01T00:00:00Z","list":[]}"#,
            "\n",
        );
        let text = String::from_utf8(written(RowFormat::Json, &[samples::rows()])).unwrap();
        assert_eq!(text, expected, "\n{text}");
        assert!(text.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
        assert!(written(RowFormat::Json, &[]).is_empty());
    }

    #[test]
    fn csv_with_names_even_without_rows() {
        let header = "id,x,price,flag,note,day,at,seen,list\n";
        let expected = concat!(
            "1,0.1,12345.00,true,\"a, \"\"b\"\"\nc\",2026-11-01,2026-11-01T12:34:56Z,2026-11-01T12:34:56.250Z,\"[1, ]\"\n",
            ",,,,,,,,\n",
            "-9007199254740993,NaN,-0.05,false,NULL,1970-01-01,1970-01-01T00:00:00.000000001Z,1970-01-01T00:00:00Z,[]\n",
        );
        let text = String::from_utf8(written(RowFormat::Csv, &[samples::rows()])).unwrap();
        assert_eq!(text, format!("{header}{expected}"), "\n{text}");
        assert_eq!(written(RowFormat::Csv, &[]), header.as_bytes());
    }

    #[test]
    fn parquet_gives_the_rows_back() {
        for rows in [vec![samples::rows(), samples::rows()], vec![]] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&written(RowFormat::Parquet, &rows)).unwrap();
            let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
            let found: Vec<RecordBatch> = reader.collect::<Result<_, _>>().unwrap();
            let whole = |batches: &[RecordBatch]| arrow::compute::concat_batches(&samples::rows().schema(), batches).unwrap();
            assert_eq!(whole(&found), whole(&rows));
        }
    }
}
