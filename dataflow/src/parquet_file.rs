//! Pinned Parquet files: footers, and the columns of row groups as Arrow batches, cast to the types under which
//! SQL sees them.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader};
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use parquet::basic::Type as PhysicalType;
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};

use crate::error::DataError;
use crate::pin::{PinnedFile, PinnedObject};
use crate::rowwise::{BATCH_ROWS, cast_strict};
use crate::stores::Stores;

/// Bytes read from the end of a file in the hope that the whole footer is among them.
const FOOTER_GUESS: u64 = 64 << 10;

/// Most rows of a file, far above any real one: so many files as can be numbered add up to no overflow.
const MOST_ROWS: u64 = 1 << 48;

/// An open Parquet file with its footer.
#[derive(Debug, Clone)]
pub(crate) struct ParquetFile {
    object: PinnedObject,
    footer: ArrowReaderMetadata,
}

impl ParquetFile {
    /// Reads and checks the footer. A truncated or corrupt file is an error here, before any row is read.
    pub(crate) async fn open(stores: &Stores, file: &PinnedFile) -> Result<Self, DataError> {
        let object = file.open(stores)?;
        let mut reader = ObjectReader(object.clone());
        let options = ArrowReaderOptions::new();
        // The decoder is fed what a stranger wrote: a panic in it is a broken file, not a broken process.
        let load = std::panic::AssertUnwindSafe(ArrowReaderMetadata::load_async(&mut reader, options)).catch_unwind();
        let footer = match load.await {
            Ok(footer) => footer.and_then(with_exact_times).map_err(|e| read_error(file, e))?,
            Err(_) => return Err(corrupt(file, "the footer cannot be decoded")),
        };
        let opened = Self { object, footer };
        opened.check(file)?;
        Ok(opened)
    }

    /// Columns of the file.
    pub(crate) fn schema(&self) -> &SchemaRef {
        self.footer.schema()
    }

    /// The footer.
    pub(crate) fn metadata(&self) -> &ParquetMetaData {
        self.footer.metadata()
    }

    /// Rows of each row group.
    pub(crate) fn row_groups(&self) -> impl Iterator<Item = u64> {
        self.footer.metadata().row_groups().iter().map(|g| u64::try_from(g.num_rows()).unwrap_or_default())
    }

    fn check(&self, file: &PinnedFile) -> Result<(), DataError> {
        let rows = self.row_groups().try_fold(0u64, u64::checked_add);
        if rows.is_none_or(|rows| rows > MOST_ROWS) {
            return Err(corrupt(file, &format!("it claims more than {MOST_ROWS} rows")));
        }
        for (i, group) in self.footer.metadata().row_groups().iter().enumerate() {
            if group.num_rows() < 0 {
                return Err(corrupt(file, &format!("row group {i} has a negative number of rows")));
            }
            for column in group.columns() {
                let start = column.dictionary_page_offset().unwrap_or(column.data_page_offset()).min(column.data_page_offset());
                let end = start.checked_add(column.compressed_size());
                let fits = start >= 0 && column.compressed_size() >= 0 && end.is_some_and(|end| end as u64 <= file.size);
                if !fits {
                    return Err(corrupt(file, &format!("row group {i} lies outside the file")));
                }
            }
        }
        Ok(())
    }

    /// Bytes of columns of a row group: as they are stored, and decompressed.
    pub(crate) fn sizes(&self, group: usize, columns: &[usize]) -> (u64, u64) {
        let Some(group) = self.footer.metadata().row_groups().get(group) else { return (0, 0) };
        let roots = self.footer.parquet_schema();
        let leaves = group.columns().iter().enumerate().filter(|(leaf, _)| columns.contains(&roots.get_column_root_idx(*leaf)));
        let size = |bytes: i64| u64::try_from(bytes).unwrap_or_default();
        leaves.fold((0, 0), |(stored, plain), (_, leaf)| {
            (stored + size(leaf.compressed_size()), plain + size(leaf.uncompressed_size()))
        })
    }

    /// Fetches columns of a row group, rows from `rows.start` (a multiple of the batch size) on, and gives a
    /// reader that decodes them in batches of [`BATCH_ROWS`]. Column indices are those of the file's schema.
    pub(crate) async fn fetch(&self, group: usize, rows: Range<u64>, columns: &[usize]) -> Result<RowGroup, DataError> {
        let file = self.object.file();
        let mask = ProjectionMask::roots(self.footer.parquet_schema(), columns.iter().copied());
        let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(ObjectReader(self.object.clone()), self.footer.clone())
            .with_row_groups(vec![group])
            .with_projection(mask)
            .with_batch_size(BATCH_ROWS)
            .with_offset(rows.start as usize)
            .with_limit((rows.end - rows.start) as usize);
        let mut stream = builder.build().map_err(|e| read_error(file, e))?;
        let reader = stream.next_row_group().await.map_err(|e| read_error(file, e))?;
        let mut sorted = columns.to_vec();
        sorted.sort_unstable();
        let positions = columns.iter().map(|c| sorted.binary_search(c).expect("a wanted column is among the wanted"));
        Ok(RowGroup { reader, file: file.clone(), positions: positions.collect() })
    }
}

/// The fetched bytes of a row group; iterating decodes, which is work for a blocking thread.
pub(crate) struct RowGroup {
    reader: Option<ParquetRecordBatchReader>,
    file: PinnedFile,
    positions: Vec<usize>,
}

impl RowGroup {
    /// The next batch: number of rows and columns in the wanted order, cast to the table's types.
    pub(crate) fn next(&mut self, types: &[DataType]) -> Result<Option<(usize, Vec<ArrayRef>)>, DataError> {
        let Some(reader) = &mut self.reader else { return Ok(None) };
        let Some(batch) = reader.next() else { return Ok(None) };
        let batch = batch.map_err(|e| corrupt(&self.file, &e.to_string()))?;
        let cast = |(position, to): (&usize, &DataType)| cast_strict(batch.column(*position), to);
        let columns = self.positions.iter().zip(types).map(cast).collect::<Result<Vec<_>, _>>();
        Ok(Some((batch.num_rows(), columns.map_err(|e| corrupt(&self.file, &e.strip_backtrace()))?)))
    }
}

/// INT96 times are read as microseconds: as nanoseconds, years outside 1677 to 2262 would wrap silently. The cast
/// to the table's type then says where a value does not fit.
fn with_exact_times(footer: ArrowReaderMetadata) -> Result<ArrowReaderMetadata, ParquetError> {
    let descriptor = footer.parquet_schema();
    let is_int96 = |i: usize| {
        let root = descriptor.root_schema().get_fields().get(i);
        root.is_some_and(|t| t.is_primitive() && t.get_physical_type() == PhysicalType::INT96)
    };
    let field = |(i, field): (usize, &Arc<Field>)| match field.data_type() {
        DataType::Timestamp(TimeUnit::Nanosecond, zone) if is_int96(i) => {
            Arc::new(field.as_ref().clone().with_data_type(DataType::Timestamp(TimeUnit::Microsecond, zone.clone())))
        }
        _ => Arc::clone(field),
    };
    let schema = footer.schema();
    let fields: Vec<_> = schema.fields().iter().enumerate().map(field).collect();
    if fields.iter().zip(schema.fields().iter()).all(|(new, old)| new == old) {
        return Ok(footer);
    }
    let schema = Schema::new_with_metadata(fields, schema.metadata().clone());
    ArrowReaderMetadata::try_new(Arc::clone(footer.metadata()), ArrowReaderOptions::new().with_schema(Arc::new(schema)))
}

fn corrupt(file: &PinnedFile, message: &str) -> DataError {
    DataError::input(&file.location, format!("not a readable Parquet file: {message}"))
}

/// Errors of the store come back as they were; the rest says that the file is corrupt.
fn read_error(file: &PinnedFile, error: ParquetError) -> DataError {
    match error {
        ParquetError::External(inner) => match inner.downcast::<DataError>() {
            Ok(own) => *own,
            Err(other) => corrupt(file, &other.to_string()),
        },
        other => corrupt(file, &other.to_string()),
    }
}

/// Feeds the Parquet decoder from a pinned file.
struct ObjectReader(PinnedObject);

fn external(error: DataError) -> ParquetError {
    ParquetError::External(Box::new(error))
}

impl AsyncFileReader for ObjectReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        async move { self.0.read(range).await.map_err(external) }.boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, parquet::errors::Result<Vec<Bytes>>> {
        async move { self.0.read_ranges(&ranges).await.map_err(external) }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, parquet::errors::Result<Arc<ParquetMetaData>>> {
        async move {
            let size = self.0.file().size;
            let reader = ParquetMetaDataReader::new()
                .with_prefetch_hint(Some(FOOTER_GUESS.min(size) as usize))
                .with_offset_index_policy(PageIndexPolicy::Optional);
            Ok(Arc::new(reader.load_and_finish(self, size).await?))
        }
        .boxed()
    }
}
