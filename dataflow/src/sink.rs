//! The sink: writes prepared rows once, in an order that depends on their content alone. Rows fall into buckets
//! by the top bits of their hash; each bucket is sorted by hash, then content, and becomes one Parquet file.
//! The hash is that of the declared key, so that a changed row moves no other; without a key it is that of the
//! content. With a query column, rows stand by the hash of their query first, so that those of a query stand side by side,
//! and a row group is a shard. File order, row groups and chunks of the input leave no trace.

use std::fs::File;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use futures::StreamExt;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use sheaf_learn::hash::{self, ValueHasher};
use tokio::sync::mpsc;

use crate::csv::Typed;
use crate::dataset::{Dataset, Source, Unit};
use crate::error::DataError;
use crate::job::CsvOptions;
use crate::load::{FileOrigin, Loader, Program};
use crate::pin::PinnedFile;
use crate::queries::{self, Placing};
use crate::rowid::{self, RowValues};
use crate::rowwise;
use crate::stores::Stores;
use crate::table;

/// Bytes of the snapshot that one bucket takes.
const BUCKET_BYTES: u64 = 256 << 20;
/// Rows of a row group of the sink, as a multiple of the shard size not below it.
const GROUP_ROWS: usize = 65_536;
/// Batches that may wait between reading and filling buckets.
const AHEAD: usize = 4;
/// Buckets, a power of two, of rows that were expected to fit one and do not.
const UNEXPECTED_BUCKETS: usize = 64;
/// Most buckets: each is an open file while rows are spilled.
const MAX_BUCKETS: u64 = 512;

/// Writes the rows of a dataset below a folder and gives the dataset that reads them.
pub async fn materialise(dataset: &Dataset, stores: &Stores, area: &str) -> Result<Dataset, DataError> {
    materialise_in(dataset, stores, area, BUCKET_BYTES).await
}

/// The same with another size of buckets, in bytes of the snapshot. Files differ with it, the order of rows does not:
/// a bucket holds the rows of one prefix of the hash that sorts them.
pub async fn materialise_in(dataset: &Dataset, stores: &Stores, area: &str, bucket_bytes: u64) -> Result<Dataset, DataError> {
    dataset.validate()?;
    if dataset.counted {
        dataset.check_rows()?;
    }
    let count = expected_bytes(dataset).div_ceil(bucket_bytes.max(1)).clamp(1, MAX_BUCKETS).next_power_of_two();
    let program = Arc::new(Program::compile(dataset, stores, None, false).await?);
    let mut buckets = Buckets::new(dataset.schema(), Placing::of(dataset), count as usize, bucket_bytes)?;
    let (sender, mut rows) = mpsc::channel::<Input>(AHEAD);
    let fill = tokio::task::spawn_blocking({
        let program = Arc::clone(&program);
        move || {
            while let Some(input) = rows.blocking_recv() {
                buckets.add(&input.prepared(&program)?)?;
            }
            buckets.finish()
        }
    });
    let read = match &dataset.source {
        Source::Csv(options) => read_text(dataset, options, stores, &program, &sender).await,
        Source::Parquet | Source::Sink => read_units(dataset, stores, &program, &sender).await,
        Source::Query(_) => Err(failed("rows of a query are written by the query engine")),
    };
    drop(sender);
    let filled = fill.await.map_err(failed)?;
    read?;
    write_buckets(dataset, stores, area, filled?).await
}

/// Writes prepared rows that somebody else computes, as a stream of batches.
pub(crate) async fn materialise_rows(
    dataset: &Dataset,
    stores: &Stores,
    area: &str,
    rows: impl futures::Stream<Item = Result<RecordBatch, DataError>>,
) -> Result<Dataset, DataError> {
    let mut buckets = Buckets::new(dataset.schema(), Placing::of(dataset), 1, BUCKET_BYTES)?;
    let mut rows = std::pin::pin!(rows);
    while let Some(batch) = rows.next().await {
        buckets.add(&batch?)?;
    }
    write_buckets(dataset, stores, area, buckets.finish()?).await
}

async fn write_buckets(dataset: &Dataset, stores: &Stores, area: &str, buckets: Vec<Bucket>) -> Result<Dataset, DataError> {
    let mut written = Written::new(dataset, area);
    for bucket in buckets {
        let (rows, by, size) = (bucket, Placing::of(dataset), dataset.shard_rows as usize);
        let sorted = blocking(move || Sorted::new(rows.read()?, &by)?.encode(size)).await?;
        written.add(stores, sorted).await?;
    }
    let result = written.dataset;
    result.check_rows()?;
    Ok(result)
}

/// What the rows may take: as much as their files, or as so many numbers. Files that shrink text well take more;
/// [`Buckets`] sees that as it comes.
fn expected_bytes(dataset: &Dataset) -> u64 {
    let files = dataset.files.iter().fold(0, |bytes, f| u64::saturating_add(bytes, f.size));
    files.max(dataset.rows().saturating_mul(16 + 8 * dataset.columns.len() as u64))
}

/// What the reading side hands to the buckets.
enum Input {
    /// Prepared rows.
    Rows(RecordBatch),
    /// Columns of the table that the query still has to turn into prepared rows.
    Columns { columns: Vec<ArrayRef>, rows: usize, origin: FileOrigin, first_row: u64 },
}

impl Input {
    fn prepared(self, program: &Program) -> Result<RecordBatch, DataError> {
        match self {
            Input::Rows(batch) => Ok(batch),
            Input::Columns { columns, rows, origin, first_row } => Ok(program.run(columns, rows, &origin, first_row)?.batch),
        }
    }
}

/// Sends until the end, or until the buckets failed and their error is the one to report.
async fn read_units(
    dataset: &Dataset,
    stores: &Stores,
    program: &Arc<Program>,
    out: &mpsc::Sender<Input>,
) -> Result<(), DataError> {
    let loader = Loader::new(Arc::new(dataset.clone()), stores.clone());
    for unit in &dataset.units {
        let mut batches = loader.load_all(program, *unit).await?;
        while let Some(piece) = batches.next().await? {
            if out.send(Input::Rows(piece.batch)).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

async fn read_text(
    dataset: &Dataset,
    options: &CsvOptions,
    stores: &Stores,
    program: &Arc<Program>,
    out: &mpsc::Sender<Input>,
) -> Result<(), DataError> {
    let schema = table::planning_schema(&dataset.table_columns);
    for (i, file) in dataset.files.iter().enumerate() {
        let mut typed = Typed::open(stores, file, options, Arc::clone(&schema)).await?;
        let mut first_row = 0;
        while let Some(columns) = typed.next().await? {
            let rows = columns.first().map_or(0, |c| c.len());
            let columns = program.source().iter().map(|c| Arc::clone(&columns[*c])).collect();
            let origin = FileOrigin::of(dataset, i as u32);
            if out.send(Input::Columns { columns, rows, origin, first_row }).await.is_err() {
                return Ok(());
            }
            first_row += rows as u64;
        }
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, DataError> + Send + 'static) -> Result<T, DataError> {
    tokio::task::spawn_blocking(work).await.map_err(|e| DataError::internal("sink", e))?
}

fn failed(error: impl ToString) -> DataError {
    DataError::internal("sink", error)
}

fn spill(action: &'static str) -> impl FnOnce(std::io::Error) -> DataError {
    move |source| DataError::Spill { action, source }
}

fn spill_arrow(error: ArrowError) -> DataError {
    match error {
        ArrowError::IoError(_, source) => DataError::Spill { action: "write rows", source },
        other => failed(other),
    }
}

/// Rows by bucket. One bucket stays in memory while it is small, several are spilled to local files.
struct Buckets {
    schema: SchemaRef,
    by: Placing,
    memory: Vec<RecordBatch>,
    /// Bytes of the rows in memory, and how many may be there.
    bytes: u64,
    limit: u64,
    spilled: Vec<StreamWriter<File>>,
}

/// Rows of one bucket, not sorted yet.
enum Bucket {
    Memory(SchemaRef, Vec<RecordBatch>),
    Spilled(SchemaRef, File),
}

impl Buckets {
    fn new(schema: SchemaRef, by: Placing, count: usize, limit: u64) -> Result<Self, DataError> {
        let mut buckets = Self { schema, by, memory: Vec::new(), bytes: 0, limit, spilled: Vec::new() };
        if count > 1 {
            buckets.open(count)?;
        }
        Ok(buckets)
    }

    fn open(&mut self, count: usize) -> Result<(), DataError> {
        for _ in 0..count {
            // The file has no name: it is gone with the process, whatever ends it.
            let file = tempfile::tempfile().map_err(spill("create a file"))?;
            self.spilled.push(StreamWriter::try_new(file, &self.schema).map_err(spill_arrow)?);
        }
        Ok(())
    }

    fn add(&mut self, batch: &RecordBatch) -> Result<(), DataError> {
        let batch = canonical(batch, &self.schema)?;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        if !self.spilled.is_empty() {
            return self.spill(&batch);
        }
        self.bytes = self.bytes.saturating_add(size(&batch)?);
        self.memory.push(batch);
        if self.bytes > self.limit {
            self.open(UNEXPECTED_BUCKETS)?;
            for batch in std::mem::take(&mut self.memory) {
                self.spill(&batch)?;
            }
        }
        Ok(())
    }

    fn spill(&mut self, batch: &RecordBatch) -> Result<(), DataError> {
        let bits = self.spilled.len().trailing_zeros();
        let mut rows = vec![Vec::new(); self.spilled.len()];
        for (row, hash) in self.by.buckets(batch)?.into_iter().enumerate() {
            rows[(hash >> (128 - bits)) as usize].push(row as u32);
        }
        for (writer, rows) in self.spilled.iter_mut().zip(rows) {
            if !rows.is_empty() {
                let part = take_record_batch(batch, &UInt32Array::from(rows)).map_err(failed)?;
                writer.write(&part).map_err(spill_arrow)?;
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Vec<Bucket>, DataError> {
        if self.spilled.is_empty() {
            return Ok(vec![Bucket::Memory(self.schema, self.memory)]);
        }
        let mut buckets = Vec::new();
        for mut writer in self.spilled {
            writer.finish().map_err(spill_arrow)?;
            let file = writer.into_inner().map_err(spill_arrow)?;
            buckets.push(Bucket::Spilled(Arc::clone(&self.schema), file));
        }
        Ok(buckets)
    }
}

impl Bucket {
    fn read(self) -> Result<RecordBatch, DataError> {
        let (schema, batches) = match self {
            Bucket::Memory(schema, batches) => (schema, batches),
            Bucket::Spilled(schema, mut file) => {
                std::io::Seek::rewind(&mut file).map_err(spill("read rows"))?;
                let reader = StreamReader::try_new_buffered(file, None).map_err(spill_arrow)?;
                (schema, reader.collect::<Result<Vec<_>, _>>().map_err(spill_arrow)?)
            }
        };
        concat_batches(&schema, &batches).map_err(failed)
    }
}

/// Bytes that the rows of a batch take, whatever they share with other batches.
fn size(batch: &RecordBatch) -> Result<u64, DataError> {
    let bytes = |array: &ArrayRef| array.to_data().get_slice_memory_size().map(|bytes| bytes as u64).map_err(failed);
    batch.columns().iter().map(bytes).sum()
}

/// Values as they are stored: −0.0 becomes 0.0, every NaN the one NaN.
pub(crate) fn canonical(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, DataError> {
    let column = |array: &ArrayRef| -> ArrayRef {
        match array.data_type() {
            DataType::Float64 => Arc::new(array.as_primitive::<Float64Type>().unary::<_, Float64Type>(hash::canonical_f64)),
            DataType::Float32 => {
                let canonical = |v: f32| if v.is_nan() { f32::from_bits(0x7fc0_0000) } else { v + 0.0 };
                Arc::new(array.as_primitive::<Float32Type>().unary::<_, Float32Type>(canonical))
            }
            _ => Arc::clone(array),
        }
    };
    let columns = batch.columns().iter().map(column).collect();
    rowwise::batch(schema, columns, batch.num_rows()).map_err(failed)
}

fn hashes(batch: &RecordBatch) -> Result<Vec<u128>, DataError> {
    let values = RowValues::new(batch.columns())?;
    let mut hasher = ValueHasher::new();
    Ok((0..batch.num_rows()).map(|row| values.hash(&mut hasher, row)).collect())
}

/// The hash that says where a row stands: of its key, or of its content where there is none.
pub(crate) fn places(batch: &RecordBatch, key: &[String]) -> Result<Vec<u128>, DataError> {
    if key.is_empty() {
        return hashes(batch);
    }
    let columns = key.iter().map(|k| batch.schema().index_of(k)).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    rowid::keyed(batch, &columns)
}

/// A bucket in canonical order, with row ids.
pub(crate) struct Sorted {
    batch: RecordBatch,
    ids: Vec<u128>,
    /// The query of each row.
    queries: Option<Vec<u128>>,
    content: u128,
}

impl Sorted {
    pub(crate) fn new(batch: RecordBatch, by: &Placing) -> Result<Self, DataError> {
        let (key, places) = (&by.key, places(&batch, &by.key)?);
        let order = match &by.query {
            None => order(&batch, &places)?,
            Some(_) => order(&batch, &by.buckets(&batch)?.into_iter().zip(places).collect::<Vec<_>>())?,
        };
        let sorted = take_record_batch(&batch, &UInt32Array::from(order)).map_err(failed)?;
        let queries = by.query.as_ref().map(|query| queries::ids_of(&sorted, query)).transpose()?;
        if let (Some(query), Some(ids)) = (&by.query, &queries) {
            queries::check_rows(&sorted, query, ids)?;
        }
        let ordered = hashes(&sorted)?;
        let ids = match key.is_empty() {
            true => occurrences(&ordered),
            false => self::places(&sorted, key)?,
        };
        let mut all = ValueHasher::new();
        ordered.iter().chain(&ids).for_each(|h| all.bytes(&h.to_le_bytes()));
        Ok(Self { batch: sorted, ids, queries, content: all.finish() })
    }

    /// Parquet bytes in row groups of a whole number of shards; of one where rows of a query stay together.
    pub(crate) fn encode(self, shard_rows: usize) -> Result<Encoded, DataError> {
        let rows = self.batch.num_rows();
        let group_rows = GROUP_ROWS.div_ceil(shard_rows) * shard_rows;
        let groups = match &self.queries {
            None => (0..rows).step_by(group_rows).map(|start| group_rows.min(rows - start)).collect(),
            Some(ids) => queries::shards(ids, shard_rows),
        };
        let mut fields: Vec<Field> = self.batch.schema().fields().iter().map(|f| f.as_ref().clone()).collect();
        fields.push(Field::new(rowid::ROW_ID, DataType::FixedSizeBinary(16), false));
        let schema = Arc::new(Schema::new(fields));
        let mut columns = self.batch.columns().to_vec();
        columns.push(rowid::store(&self.ids).map_err(failed)?);
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns).map_err(failed)?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_max_row_group_row_count(Some(groups.iter().copied().max().unwrap_or(0).max(group_rows)))
            .build();
        let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties)).map_err(failed)?;
        let mut first = 0;
        for group in &groups {
            writer.write(&batch.slice(first, *group)).map_err(failed)?;
            writer.flush().map_err(failed)?;
            first += group;
        }
        let bytes = writer.into_inner().map_err(failed)?;
        let groups = groups.into_iter().map(|rows| rows as u64).collect();
        Ok(Encoded { bytes, groups, content: self.content })
    }
}

/// Row numbers by the hash of their place, then by content.
fn order<T: Ord>(batch: &RecordBatch, hashes: &[T]) -> Result<Vec<u32>, DataError> {
    let values = RowValues::new(batch.columns())?;
    let rows = u32::try_from(hashes.len()).map_err(|_| failed("a bucket has more than 2^32 rows"))?;
    let mut order: Vec<u32> = (0..rows).collect();
    let (mut left, mut right) = (ValueHasher::new(), ValueHasher::new());
    order.sort_by(|a, b| {
        let (a, b) = (*a as usize, *b as usize);
        hashes[a].cmp(&hashes[b]).then_with(|| {
            left.clear();
            right.clear();
            values.append(&mut left, a);
            values.append(&mut right, b);
            left.content().cmp(right.content())
        })
    });
    Ok(order)
}

/// Row ids of sorted content hashes: equal rows are told apart by their number.
fn occurrences(sorted: &[u128]) -> Vec<u128> {
    let mut ids = Vec::with_capacity(sorted.len());
    let mut occurrence = 0;
    for (i, hash) in sorted.iter().enumerate() {
        occurrence = if i > 0 && sorted[i - 1] == *hash { occurrence + 1 } else { 0 };
        ids.push(hash::content_row_id(*hash, occurrence));
    }
    ids
}

/// A bucket as it is stored.
pub(crate) struct Encoded {
    /// The file.
    pub(crate) bytes: Vec<u8>,
    /// Rows of each row group.
    pub(crate) groups: Vec<u64>,
    /// Hash of all rows in their order.
    pub(crate) content: u128,
}

/// The dataset as its files are written.
pub(crate) struct Written {
    pub(crate) dataset: Dataset,
    area: String,
}

impl Written {
    pub(crate) fn new(from: &Dataset, area: &str) -> Self {
        let dataset = Dataset {
            source: Source::Sink,
            files: Vec::new(),
            table_columns: from.columns.clone(),
            sql: None,
            views: Vec::new(),
            params: Default::default(),
            now_ns: None,
            counted: true,
            units: Vec::new(),
            origin: Some(from.fingerprint()),
            ..from.clone()
        };
        Self { dataset, area: area.trim_end_matches('/').to_owned() }
    }

    /// Writes a bucket unless an earlier attempt did: the name holds the hash of the rows.
    async fn add(&mut self, stores: &Stores, bucket: Encoded) -> Result<(), DataError> {
        if bucket.groups.is_empty() {
            return Ok(());
        }
        let name = format!("part-{:05}-{:032x}.parquet", self.dataset.files.len(), bucket.content);
        let location = stores.canonical(&format!("{}/{name}", self.area))?;
        stores.put_if_absent(&location, bucket.bytes.into()).await?;
        self.file(PinnedFile::pin(stores, &location, name).await?, &bucket.groups);
        Ok(())
    }

    /// Location of a file by its name.
    pub(crate) fn location(&self, stores: &Stores, name: &str) -> Result<String, DataError> {
        stores.canonical(&format!("{}/{name}", self.area))
    }

    /// Takes in the next file, which is there; rows of each of its row groups.
    pub(crate) fn file(&mut self, pinned: PinnedFile, groups: &[u64]) {
        let file = self.dataset.files.len() as u32;
        self.dataset.files.push(pinned);
        let mut first_row = 0;
        for (group, rows) in groups.iter().copied().enumerate() {
            self.dataset.units.push(Unit { file, group: group as u32, first_row, source_rows: rows, rows });
            first_row += rows;
        }
    }
}
