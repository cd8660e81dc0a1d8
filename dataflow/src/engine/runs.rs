//! Rows on their way into buckets, within the memory of their task: what does not fit goes to a temporary file in
//! runs, each a block for each bucket that it has rows of. A bucket is put together when it is written.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::{concat_batches, interleave_record_batch};
use arrow::datatypes::{Schema, SchemaRef, UInt32Type};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::disk_manager::DiskManager;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::execution::spill_file::SpillFile;

use super::bucket::external;

/// What sorting and encoding a bucket takes beside its rows, as a multiple of them.
const WORK: usize = 2;

/// The rows of a task.
pub(super) struct Runs {
    /// Columns without the bucket.
    schema: SchemaRef,
    memory: MemoryReservation,
    disk: Arc<DiskManager>,
    batches: Vec<RecordBatch>,
    spilled: Vec<Run>,
    /// Rows in memory by bucket: batch and row. Filled when all rows have come.
    places: BTreeMap<u32, Vec<(usize, usize)>>,
}

/// One temporary file.
struct Run {
    file: Arc<dyn SpillFile>,
    /// Offset and length of each bucket's block.
    blocks: BTreeMap<u32, (u64, u64)>,
}

impl Runs {
    /// For batches whose last column is the bucket.
    pub(super) fn new(schema: SchemaRef, memory: MemoryReservation, disk: Arc<DiskManager>) -> Self {
        let rows = Schema::new(schema.fields()[..schema.fields().len() - 1].to_vec());
        Self { schema: Arc::new(rows), memory, disk, batches: Vec::new(), spilled: Vec::new(), places: BTreeMap::new() }
    }

    /// Takes rows in; writes to disk what does not fit.
    pub(super) fn add(&mut self, batch: RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let bytes = batch.get_array_memory_size();
        if self.memory.try_grow(bytes).is_err() {
            self.spill()?;
            self.memory.try_grow(bytes)?;
        }
        self.batches.push(batch);
        Ok(())
    }

    /// Buckets that there are rows of. All rows must have come.
    pub(super) fn buckets(&mut self) -> Result<BTreeSet<u32>> {
        self.places = self.place();
        Ok(self.places.keys().copied().chain(self.spilled.iter().flat_map(|run| run.blocks.keys().copied())).collect())
    }

    /// The rows of a bucket, in no order. Memory for them is held until [`Runs::settle`].
    pub(super) fn take(&mut self, bucket: u32) -> Result<RecordBatch> {
        let blocks = self.blocks(bucket);
        // Rows that lie in memory are counted there already; beside them stand their copies.
        let wanted = (blocks as usize + self.held(bucket)) * WORK;
        if self.memory.try_grow(wanted).is_err() {
            self.spill()?;
            let blocks: u64 = self.blocks(bucket);
            self.memory.try_grow(blocks as usize * WORK)?;
        }
        let mut parts = Vec::new();
        if let Some(places) = self.places.get(&bucket) {
            let batches: Vec<&RecordBatch> = self.batches.iter().collect();
            let rows = interleave_record_batch(&batches, places)?;
            parts.push(rows.project(&(0..self.schema.fields().len()).collect::<Vec<_>>())?);
        }
        for run in &self.spilled {
            if let Some(block) = run.blocks.get(&bucket) {
                parts.extend(run.read(*block)?);
            }
        }
        Ok(concat_batches(&self.schema, &parts)?)
    }

    /// Gives back what a bucket took beyond the rows that stay in memory.
    pub(super) fn settle(&mut self) {
        self.memory.resize(self.batch_bytes());
    }

    fn batch_bytes(&self) -> usize {
        self.batches.iter().map(RecordBatch::get_array_memory_size).sum()
    }

    /// Bytes of a bucket's rows on disk.
    fn blocks(&self, bucket: u32) -> u64 {
        self.spilled.iter().filter_map(|run| run.blocks.get(&bucket)).map(|(_, length)| length).sum()
    }

    /// Bytes of a bucket's rows in memory, about: its share of all of them.
    fn held(&self, bucket: u32) -> usize {
        let rows: usize = self.batches.iter().map(RecordBatch::num_rows).sum();
        let here = self.places.get(&bucket).map_or(0, Vec::len);
        (self.batch_bytes() as u128 * here as u128 / rows.max(1) as u128) as usize
    }

    /// Rows in memory by bucket.
    fn place(&self) -> BTreeMap<u32, Vec<(usize, usize)>> {
        let mut places: BTreeMap<u32, Vec<(usize, usize)>> = BTreeMap::new();
        for (b, batch) in self.batches.iter().enumerate() {
            let buckets = batch.column(batch.num_columns() - 1).as_primitive::<UInt32Type>();
            for (row, bucket) in buckets.values().iter().enumerate() {
                places.entry(*bucket).or_default().push((b, row));
            }
        }
        places
    }

    /// Writes all rows in memory as one run.
    fn spill(&mut self) -> Result<()> {
        if self.batches.is_empty() {
            return Ok(());
        }
        let file = self.disk.create_tmp_file("rows on their way into shards")?;
        let mut out = BufWriter::new(File::options().write(true).open(local(file.as_ref())?)?);
        let (mut blocks, mut offset) = (BTreeMap::new(), 0);
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        let columns: Vec<usize> = (0..self.schema.fields().len()).collect();
        for (bucket, places) in self.place() {
            let rows = interleave_record_batch(&batches, &places)?.project(&columns)?;
            let mut writer = StreamWriter::try_new(Vec::new(), &self.schema)?;
            writer.write(&rows)?;
            writer.finish()?;
            let block = writer.into_inner()?;
            out.write_all(&block)?;
            blocks.insert(bucket, (offset, block.len() as u64));
            offset += block.len() as u64;
        }
        out.into_inner().map_err(external)?;
        self.spilled.push(Run { file, blocks });
        self.batches.clear();
        self.places.clear();
        self.memory.free();
        Ok(())
    }
}

impl Run {
    fn read(&self, (offset, length): (u64, u64)) -> Result<Vec<RecordBatch>> {
        let mut file = File::open(local(self.file.as_ref())?)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut block = Vec::with_capacity(length as usize);
        file.take(length).read_to_end(&mut block)?;
        Ok(StreamReader::try_new(block.as_slice(), None)?.collect::<Result<Vec<_>, _>>()?)
    }
}

fn local(file: &dyn SpillFile) -> Result<&Path> {
    file.path().ok_or_else(|| DataFusionError::Internal("spilled rows lie on no disk of this machine".to_owned()))
}
