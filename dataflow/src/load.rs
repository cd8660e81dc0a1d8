//! Load units: a row group fetched, decoded and turned into prepared rows with their ids. Decoding and
//! computing run on blocking threads; a unit's batches come through a short channel.

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use sheaf_learn::hash::FileRows;
use tokio::sync::{Mutex, OnceCell, mpsc};

use crate::dataset::{Dataset, Source, Unit};
use crate::error::DataError;
use crate::parquet_file::{ParquetFile, RowGroup};
use crate::rowwise::{self, BATCH_ROWS, Rowwise};
use crate::sql::{self, TableShape};
use crate::stores::Stores;
use crate::{rowid, table};

/// Batches that may wait between the decoder and the reader.
pub(crate) const AHEAD: usize = 2;

/// Prepared rows and their ids.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pub(crate) batch: RecordBatch,
    pub(crate) ids: Vec<u128>,
}

impl Piece {
    /// Rows `start..start + length`.
    pub(crate) fn slice(self, start: usize, length: usize) -> Self {
        if start == 0 && length == self.rows() {
            return self;
        }
        let ids = if self.ids.is_empty() { Vec::new() } else { self.ids[start..start + length].to_vec() };
        Self { batch: self.batch.slice(start, length), ids }
    }

    pub(crate) fn rows(&self) -> usize {
        self.batch.num_rows()
    }
}

/// Where row ids come from.
#[derive(Debug, Clone)]
enum Ids {
    /// Hash of these columns of the query's result.
    Keyed(Vec<usize>),
    /// Table, path and row number.
    Physical,
    /// This column of the query's result.
    Stored(usize),
    /// Nobody asks.
    Unwanted,
}

/// The compiled query of a dataset, for some of its columns.
#[derive(Debug)]
pub(crate) struct Program {
    query: Rowwise,
    types: Vec<DataType>,
    ids: Ids,
    /// Columns of the query's result that are given out.
    output: Vec<usize>,
    /// Schema of what is given out.
    pub(crate) schema: SchemaRef,
}

impl Program {
    /// Compiles for the named columns in the order of the dataset, all if absent. `ids`: whether row ids are wanted.
    pub(crate) async fn compile(
        dataset: &Dataset,
        stores: &Stores,
        columns: Option<&[String]>,
        ids: bool,
    ) -> Result<Self, DataError> {
        let wanted = wanted(dataset, columns)?;
        let key: &[String] = if ids { &dataset.key } else { &[] };
        let mut names = wanted.clone();
        names.extend(key.iter().filter(|k| !wanted.contains(k)).cloned());
        let stored = dataset.source == Source::Sink;
        let query = match stored {
            true => materialised(dataset, &names, ids)?,
            false => compile_query(dataset, stores, &names).await?,
        };
        let position = |name: &String| query.schema.index_of(name).map_err(|e| DataError::internal("prepared columns", e));
        let ids = match (ids, stored) {
            (false, _) => Ids::Unwanted,
            (true, true) => Ids::Stored(query.schema.fields().len() - 1),
            (true, false) if key.is_empty() => Ids::Physical,
            (true, false) => Ids::Keyed(key.iter().map(position).collect::<Result<_, _>>()?),
        };
        let output = wanted.iter().map(position).collect::<Result<Vec<_>, _>>()?;
        let schema = Arc::new(query.schema.project(&output).map_err(|e| DataError::internal("prepared columns", e))?);
        let all = source_types(dataset);
        let types = query.source.iter().map(|i| all[*i].clone()).collect();
        Ok(Self { query, types, ids, output, schema })
    }

    /// True where rows may be dropped.
    pub(crate) fn filters(&self) -> bool {
        self.query.filters()
    }

    /// Computes one batch of the table. `first_row` is the number in its file of the first row.
    pub(crate) fn run(&self, columns: Vec<ArrayRef>, rows: usize, file: &FileOrigin, first_row: u64) -> Result<Piece, DataError> {
        let evaluated = self.query.evaluate(columns, rows).map_err(|e| {
            let last = first_row + rows as u64;
            DataError::input(&file.location, format!("prepare fails in rows {first_row} to {last}: {}", sql::message(&e)))
        })?;
        let ids = self.row_ids(&evaluated.batch, &evaluated.kept, file, first_row)?;
        let columns = self.output.iter().map(|i| Arc::clone(evaluated.batch.column(*i))).collect();
        let rows = evaluated.batch.num_rows();
        let batch = rowwise::batch(&self.schema, columns, rows).map_err(|e| DataError::internal("prepared rows", e))?;
        Ok(Piece { batch, ids })
    }

    /// Columns of the table that it reads.
    pub(crate) fn source(&self) -> &[usize] {
        &self.query.source
    }

    fn row_ids(&self, batch: &RecordBatch, kept: &UInt32Array, file: &FileOrigin, first: u64) -> Result<Vec<u128>, DataError> {
        match &self.ids {
            Ids::Unwanted => Ok(Vec::new()),
            Ids::Keyed(columns) => rowid::keyed(batch, columns),
            Ids::Stored(column) => rowid::stored(batch.column(*column)),
            Ids::Physical => {
                let mut rows = FileRows::new(&file.table, &file.path);
                Ok(kept.values().iter().map(|row| rows.row_id(first + u64::from(*row))).collect())
            }
        }
    }
}

/// Names of a file in row ids and messages.
#[derive(Debug, Clone)]
pub(crate) struct FileOrigin {
    pub(crate) table: String,
    pub(crate) path: String,
    pub(crate) location: String,
}

impl FileOrigin {
    pub(crate) fn of(dataset: &Dataset, file: u32) -> Self {
        let pinned = &dataset.files[file as usize];
        Self { table: dataset.table.clone(), path: pinned.path.clone(), location: pinned.location.clone() }
    }
}

fn wanted(dataset: &Dataset, columns: Option<&[String]>) -> Result<Vec<String>, DataError> {
    let all = dataset.columns.iter().map(|c| c.name.clone());
    let Some(columns) = columns else { return Ok(all.collect()) };
    if let Some(unknown) = columns.iter().find(|c| dataset.columns.iter().all(|known| known.name != **c)) {
        return Err(DataError::internal("reader", format!("prepared column `{unknown}` not found")));
    }
    Ok(all.filter(|name| columns.contains(name)).collect())
}

fn source_types(dataset: &Dataset) -> Vec<DataType> {
    let schema = table::planning_schema(&dataset.table_columns);
    let mut types: Vec<_> = schema.fields().iter().map(|f| f.data_type().clone()).collect();
    if dataset.source == Source::Sink {
        types.push(DataType::FixedSizeBinary(16));
    }
    types
}

/// Files of the sink hold the prepared columns and, last, the row id.
fn materialised(dataset: &Dataset, names: &[String], ids: bool) -> Result<Rowwise, DataError> {
    let schema = dataset.schema();
    let mut source = Vec::new();
    for name in names {
        source.push(schema.index_of(name).map_err(|e| DataError::internal("prepared columns", e))?);
    }
    let mut fields: Vec<_> = source.iter().map(|i| schema.field(*i).clone()).collect();
    if ids {
        source.push(schema.fields().len());
        fields.push(Field::new(rowid::ROW_ID, DataType::FixedSizeBinary(16), false));
    }
    Ok(Rowwise::identity(source, Arc::new(Schema::new(fields))))
}

async fn compile_query(dataset: &Dataset, stores: &Stores, names: &[String]) -> Result<Rowwise, DataError> {
    let now_ns = dataset.now_ns.unwrap_or_default();
    let session = stores.session(now_ns);
    let shape =
        TableShape { name: dataset.table.clone(), schema: table::planning_schema(&dataset.table_columns), provider: None };
    let (path, text) = match &dataset.sql {
        Some(text) => ("prepare".to_owned(), text.clone()),
        None => {
            let last = dataset.views.last().map_or(&dataset.table, |view| &view.name);
            (format!("tables.{last}"), sql::whole_table(last))
        }
    };
    let views = sql::view_texts(&dataset.views);
    let query = sql::plan(&session, &[shape], &views, &text, &dataset.params, now_ns, &path).await?.unordered(&path);
    query.row_wise(&path)?;
    Rowwise::compile(&session, &query.plan, Some(names), &path)
}

/// Opens load units; footers are read once per file.
#[derive(Debug)]
pub(crate) struct Loader {
    pub(crate) dataset: Arc<Dataset>,
    stores: Stores,
    open: Mutex<BTreeMap<u32, ParquetFile>>,
    /// Reads what the filter needs and gives no columns; made when rows are counted.
    counter: OnceCell<Arc<Program>>,
}

impl Loader {
    pub(crate) fn new(dataset: Arc<Dataset>, stores: Stores) -> Self {
        Self { dataset, stores, open: Mutex::default(), counter: OnceCell::new() }
    }

    /// Starts to read the rows of a unit that the filter keeps, from the `wanted.start`th to before the `wanted.end`th.
    pub(crate) async fn load(&self, program: &Arc<Program>, unit: Unit, wanted: Range<u64>) -> Result<Batches, DataError> {
        let step = BATCH_ROWS as u64;
        let rows = match program.filters() {
            true => 0..unit.source_rows,
            false => wanted.start / step * step..wanted.end.next_multiple_of(step).min(unit.source_rows),
        };
        let skip = if program.filters() { wanted.start } else { wanted.start - rows.start };
        let file = self.file(unit.file).await?;
        let group = file.fetch(unit.group as usize, rows.clone(), program.source()).await?;
        let job = Job {
            program: Arc::clone(program),
            group,
            origin: FileOrigin::of(&self.dataset, unit.file),
            first_row: unit.first_row + rows.start,
            skip,
            take: Some(wanted.end - wanted.start),
        };
        Ok(Batches::spawn(job))
    }

    /// Starts to read all rows of a unit that the filter keeps, however many.
    pub(crate) async fn load_all(&self, program: &Arc<Program>, unit: Unit) -> Result<Batches, DataError> {
        let file = self.file(unit.file).await?;
        let group = file.fetch(unit.group as usize, 0..unit.source_rows, program.source()).await?;
        let origin = FileOrigin::of(&self.dataset, unit.file);
        Ok(Batches::spawn(Job { program: Arc::clone(program), group, origin, first_row: unit.first_row, skip: 0, take: None }))
    }

    /// Counts the rows of a unit that the filter keeps.
    pub(crate) async fn count(&self, unit: Unit) -> Result<u64, DataError> {
        let compile = || async { Program::compile(&self.dataset, &self.stores, Some(&[]), false).await.map(Arc::new) };
        let program = self.counter.get_or_try_init(compile).await?;
        if !program.filters() {
            return Ok(unit.source_rows);
        }
        let mut batches = self.load_all(program, unit).await?;
        let mut rows = 0;
        while let Some(piece) = batches.next().await? {
            rows += piece.rows() as u64;
        }
        Ok(rows)
    }

    /// Bytes of the columns that a program reads of a unit: as they are stored, and decompressed.
    pub(crate) async fn sizes(&self, program: &Program, unit: &Unit) -> Result<(u64, u64), DataError> {
        Ok(self.file(unit.file).await?.sizes(unit.group as usize, program.source()))
    }

    async fn file(&self, index: u32) -> Result<ParquetFile, DataError> {
        let mut open = self.open.lock().await;
        if let Some(file) = open.get(&index) {
            return Ok(file.clone());
        }
        let file = ParquetFile::open(&self.stores, &self.dataset.files[index as usize]).await?;
        open.insert(index, file.clone());
        Ok(file)
    }
}

struct Job {
    program: Arc<Program>,
    group: RowGroup,
    origin: FileOrigin,
    first_row: u64,
    skip: u64,
    /// Rows wanted after those skipped; absent: all there are.
    take: Option<u64>,
}

/// The batches of a load unit, as they are decoded. Dropping it stops the work.
#[derive(Debug)]
pub(crate) struct Batches {
    pieces: mpsc::Receiver<Result<Piece, DataError>>,
}

impl Batches {
    fn spawn(job: Job) -> Self {
        let (sender, pieces) = mpsc::channel(AHEAD);
        tokio::task::spawn_blocking(move || {
            let location = job.origin.location.clone();
            // A decoder that panics on what a stranger wrote has met a broken file.
            let broken = |_| Err(DataError::input(location, "not a readable Parquet file: decoding failed"));
            if let Err(e) = catch_unwind(AssertUnwindSafe(|| decode(job, &sender))).unwrap_or_else(broken) {
                // A receiver that is gone wants no error either.
                let _ = sender.blocking_send(Err(e));
            }
        });
        Self { pieces }
    }

    /// The next batch that is not empty.
    pub(crate) async fn next(&mut self) -> Result<Option<Piece>, DataError> {
        self.pieces.recv().await.transpose()
    }
}

fn decode(mut job: Job, sender: &mpsc::Sender<Result<Piece, DataError>>) -> Result<(), DataError> {
    let mut row = job.first_row;
    while job.take != Some(0) {
        let Some((rows, columns)) = job.group.next(&job.program.types)? else { break };
        let piece = job.program.run(columns, rows, &job.origin, row)?;
        row += rows as u64;
        let skipped = job.skip.min(piece.rows() as u64);
        let left = piece.rows() as u64 - skipped;
        let taken = job.take.map_or(left, |take| take.min(left));
        job.skip -= skipped;
        job.take = job.take.map(|take| take - taken);
        if taken > 0 && sender.blocking_send(Ok(piece.slice(skipped as usize, taken as usize))).is_err() {
            return Ok(());
        }
    }
    match job.take {
        None | Some(0) => Ok(()),
        Some(missing) => Err(DataError::internal(&job.origin.location, format!("{missing} rows fewer than were counted"))),
    }
}
