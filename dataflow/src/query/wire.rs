//! Rows of an answer as bytes: the pieces of one Arrow IPC stream, each small enough for a message, so that whoever
//! reads them needs nothing but their order.

use arrow::array::{Array, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::StreamEncoder;

use super::QueryRows;
use crate::error::DataError;

/// Bytes that a piece is meant to have; only a single row that is larger makes a larger one.
pub const PIECE_BYTES: usize = 4 << 20;

/// Turns rows into pieces.
pub struct Encoder(StreamEncoder);

impl Encoder {
    /// For the rows of an answer.
    pub fn new(answer: &QueryRows) -> Result<Self, DataError> {
        Self::of(&answer.schema)
    }

    fn of(schema: &Schema) -> Result<Self, DataError> {
        Ok(Self(StreamEncoder::try_new(schema).map_err(encoding)?))
    }

    /// The next piece, of rows that [`slices`] gave.
    pub fn encode(&mut self, rows: &RecordBatch) -> Result<Vec<u8>, DataError> {
        self.0.encode(rows).map(|buffers| concat(&buffers)).map_err(encoding)
    }

    /// The last piece; of an answer without rows the only one, which holds its columns.
    pub fn finish(self) -> Result<Vec<u8>, DataError> {
        self.0.finish().map(|buffers| concat(&buffers)).map_err(encoding)
    }
}

fn concat(buffers: &[Buffer]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(buffers.iter().map(Buffer::len).sum());
    buffers.iter().for_each(|buffer| bytes.extend_from_slice(buffer));
    bytes
}

fn encoding(error: ArrowError) -> DataError {
    DataError::input("query", format!("the rows cannot be sent: {error}"))
}

/// Cuts rows into slices of about [`PIECE_BYTES`].
pub fn slices(rows: &RecordBatch) -> Vec<RecordBatch> {
    let count = rows.num_rows();
    // What cannot be measured is taken for large.
    let size = |column: &dyn Array| column.to_data().get_slice_memory_size().unwrap_or(PIECE_BYTES);
    let bytes: usize = rows.columns().iter().map(|column| size(column.as_ref())).sum();
    let step = (count / bytes.div_ceil(PIECE_BYTES).max(1)).max(1);
    (0..count).step_by(step).map(|start| rows.slice(start, step.min(count - start))).collect()
}

/// Turns pieces into rows.
#[derive(Debug, Default)]
pub struct Decoder(StreamDecoder);

impl Decoder {
    /// Rows of the next piece.
    pub fn decode(&mut self, piece: Vec<u8>) -> Result<Vec<RecordBatch>, DataError> {
        let mut buffer = Buffer::from(piece);
        let mut found = Vec::new();
        while !buffer.is_empty() {
            found.extend(self.0.decode(&mut buffer).map_err(|e| DataError::internal("rows of the query", e))?);
        }
        Ok(found)
    }

    /// Columns of the rows, once the first piece was decoded.
    pub fn schema(&self) -> Option<arrow::datatypes::SchemaRef> {
        self.0.schema()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::sync::Arc;

    use arrow::array::{ArrayRef, DictionaryArray, Int64Array, StringArray};
    use arrow::compute::concat_batches;
    use arrow::datatypes::Int8Type;

    use super::*;

    fn batch(from: i64, rows: i64) -> RecordBatch {
        let kind: DictionaryArray<Int8Type> = (from..from + rows).map(|i| if i % 2 == 0 { "even" } else { "odd" }).collect();
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("id", Arc::new(Int64Array::from_iter_values(from..from + rows))),
            ("kind", Arc::new(kind)),
            ("text", Arc::new(StringArray::from_iter((0..rows).map(|i| (i % 3 > 0).then(|| "x".repeat(1000)))))),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    #[test]
    fn rows_come_back_from_pieces_that_fit_a_message() {
        let (mut encoder, mut decoder) = (Encoder::of(&batch(0, 1).schema()).unwrap(), Decoder::default());
        let (sent, mut found, mut pieces) = ([batch(0, 20_000), batch(20_001, 3)], Vec::new(), 0);
        for batch in &sent {
            for slice in slices(batch) {
                let piece = encoder.encode(&slice).unwrap();
                assert!(piece.len() < 2 * PIECE_BYTES, "{}", piece.len());
                found.extend(decoder.decode(piece).unwrap());
                pieces += 1;
            }
        }
        found.extend(decoder.decode(encoder.finish().unwrap()).unwrap());
        assert!(pieces > 3, "{pieces} pieces");
        let schema = decoder.schema().unwrap();
        assert_eq!(concat_batches(&schema, &found).unwrap(), concat_batches(&schema, &sent).unwrap());
    }

    #[test]
    fn no_rows_still_have_columns() {
        let schema = batch(0, 1).schema();
        let mut decoder = Decoder::default();
        assert!(decoder.decode(Encoder::of(&schema).unwrap().finish().unwrap()).unwrap().is_empty());
        assert_eq!(decoder.schema().unwrap(), schema);
        assert!(Decoder::default().decode(b"\xff\xff\xff\xff\x08\0\0\0garbage!".to_vec()).is_err());
        assert!(slices(&batch(0, 1).slice(0, 0)).is_empty());
    }
}
