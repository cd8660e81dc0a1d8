//! The shard reader: canonical shards of a dataset, in order, on any worker. Each load unit is fetched and
//! decoded once per call; the last shard of a range also takes the head of the unit after it.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use futures::StreamExt;
use futures::stream::{BoxStream, try_unfold};

use crate::dataset::{Dataset, Source};
use crate::error::DataError;
use crate::load::{AHEAD, Batches, Loader, Piece, Program};
use crate::prepared::PreparedShard;
use crate::rowwise::{self, BATCH_ROWS};
use crate::stores::Stores;
use crate::view::View;

/// Bytes of pages that a decoder has open at a time, over all columns.
const MOST_PAGES: u64 = 64 << 20;

/// Reads the shards of a dataset.
#[derive(Debug, Clone)]
pub struct Reader {
    loader: Arc<Loader>,
    program: Arc<Program>,
}

impl Reader {
    /// Opens a dataset for some of its prepared columns, all if absent, and row ids. No row is read yet.
    pub async fn open(dataset: Arc<Dataset>, stores: Stores, columns: Option<Vec<String>>) -> Result<Self, DataError> {
        Self::open_with(dataset, stores, columns, true).await
    }

    /// Opens a dataset for what a view reads: without row ids where it asks for none.
    pub async fn open_view(dataset: Arc<Dataset>, stores: Stores, view: &View) -> Result<Self, DataError> {
        Self::open_with(dataset, stores, Some(view.inputs()), view.reads_row_ids()).await
    }

    async fn open_with(
        dataset: Arc<Dataset>,
        stores: Stores,
        columns: Option<Vec<String>>,
        ids: bool,
    ) -> Result<Self, DataError> {
        dataset.validate()?;
        if matches!(dataset.source, Source::Csv(_) | Source::Query(_)) {
            return Err(DataError::internal("reader", "delimited text and queries are materialised before they are read"));
        }
        let program = Program::compile(&dataset, &stores, columns.as_deref(), ids).await?;
        let loader = Loader::new(dataset, stores);
        Ok(Self { loader: Arc::new(loader), program: Arc::new(program) })
    }

    /// Columns of the shards, in the order of the prepared schema.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.program.schema)
    }

    /// Rows that the filter keeps in a load unit.
    pub async fn count(&self, unit: u32) -> Result<u64, DataError> {
        let missing = || DataError::internal("reader", format!("load unit {unit} not found"));
        let unit = *self.loader.dataset.units.get(unit as usize).ok_or_else(missing)?;
        self.loader.count(unit).await
    }

    /// Most bytes that reading the shards of a range takes at a time, beside what becomes of them: the bytes of a row
    /// group as they are stored, its pages and batches under way, and the rows of a shard before and after they are
    /// put together.
    pub async fn working_bytes(&self, range: Range<u32>) -> Result<u64, DataError> {
        let dataset = &self.loader.dataset;
        let (size, wanted) = (dataset.most_rows(), dataset.rows_of(range));
        let (mut first, mut most) = (0, 0);
        for unit in &dataset.units {
            let rows = first..first + unit.rows;
            first = rows.end;
            if rows.start >= wanted.end || rows.end <= wanted.start {
                continue;
            }
            let (stored, plain) = self.loader.sizes(&self.program, unit).await?;
            let a_row = plain.div_ceil(unit.source_rows.max(1)) + size_of::<u128>() as u64;
            let in_flight = 2 * size + (AHEAD as u64 + 2) * BATCH_ROWS as u64;
            most = most.max(stored + plain.min(MOST_PAGES) + a_row * in_flight);
        }
        Ok(most)
    }

    /// Shards of the range that exist, in order. The dataset must be counted.
    pub fn shards(&self, range: Range<u32>) -> BoxStream<'static, Result<PreparedShard, DataError>> {
        let cursor = Cursor::new(Arc::clone(&self.loader), Arc::clone(&self.program), range);
        try_unfold(cursor, |mut cursor| async move { Ok(cursor.next().await?.map(|shard| (shard, cursor))) }).boxed()
    }
}

/// Walks over load units and cuts shards.
struct Cursor {
    loader: Arc<Loader>,
    program: Arc<Program>,
    shard: u32,
    end: u32,
    /// Global number of the first row of `shard`.
    first: u64,
    /// Global numbers of the rows that are still to be loaded.
    rows: Range<u64>,
    unit: usize,
    /// Global number of the first row of `unit`.
    unit_start: u64,
    batches: Option<Batches>,
    pending: VecDeque<Piece>,
    pending_rows: usize,
}

impl Cursor {
    fn new(loader: Arc<Loader>, program: Arc<Program>, range: Range<u32>) -> Self {
        let dataset = &loader.dataset;
        let end = range.end.min(dataset.shards());
        let rows = dataset.rows_of(range.start..end);
        let first = rows.start;
        Self {
            loader,
            program,
            shard: range.start,
            end,
            first,
            rows,
            unit: 0,
            unit_start: 0,
            batches: None,
            pending: VecDeque::new(),
            pending_rows: 0,
        }
    }

    async fn next(&mut self) -> Result<Option<PreparedShard>, DataError> {
        let dataset = Arc::clone(&self.loader.dataset);
        if self.shard >= self.end {
            return Ok(None);
        }
        if !dataset.counted {
            return Err(DataError::internal("reader", "the rows that the filter keeps were not counted"));
        }
        let rows = dataset.rows_at(self.shard, self.first) as usize;
        while self.pending_rows < rows {
            let piece = self.load().await?;
            self.pending_rows += piece.rows();
            self.pending.push_back(piece);
        }
        let shard = self.cut(rows)?;
        self.shard += 1;
        self.first += rows as u64;
        Ok(Some(shard))
    }

    /// The next piece of the rows that are still to be loaded.
    async fn load(&mut self) -> Result<Piece, DataError> {
        loop {
            if let Some(batches) = &mut self.batches {
                if let Some(piece) = batches.next().await? {
                    self.rows.start += piece.rows() as u64;
                    return Ok(piece);
                }
                self.batches = None;
                self.skip_unit();
            }
            let Some(unit) = self.loader.dataset.units.get(self.unit).copied() else {
                return Err(DataError::internal("reader", "the load units hold fewer rows than the dataset"));
            };
            let end = self.unit_start + unit.rows;
            if end <= self.rows.start {
                self.skip_unit();
                continue;
            }
            let wanted = self.rows.start - self.unit_start..self.rows.end.min(end) - self.unit_start;
            self.batches = Some(self.loader.load(&self.program, unit, wanted).await?);
        }
    }

    fn skip_unit(&mut self) {
        self.unit_start += self.loader.dataset.units[self.unit].rows;
        self.unit += 1;
    }

    /// Takes `rows` rows from the pending pieces.
    fn cut(&mut self, rows: usize) -> Result<PreparedShard, DataError> {
        let (mut batches, mut row_ids) = (Vec::new(), Vec::with_capacity(rows));
        let mut missing = rows;
        while missing > 0 {
            let piece = self.pending.pop_front().expect("as many rows are pending as the shard has");
            let taken = missing.min(piece.rows());
            if taken < piece.rows() {
                self.pending.push_front(piece.clone().slice(taken, piece.rows() - taken));
            }
            let piece = piece.slice(0, taken);
            missing -= taken;
            row_ids.extend_from_slice(&piece.ids);
            batches.push(piece.batch);
        }
        self.pending_rows -= rows;
        Ok(PreparedShard { index: self.shard, batch: join(&self.program.schema, &batches, rows)?, row_ids })
    }
}

fn join(schema: &SchemaRef, batches: &[RecordBatch], rows: usize) -> Result<RecordBatch, DataError> {
    let joined = match schema.fields().is_empty() {
        true => rowwise::batch(schema, Vec::new(), rows),
        false => concat_batches(schema, batches).map_err(Into::into),
    };
    joined.map_err(|e| DataError::internal("shard", e))
}
