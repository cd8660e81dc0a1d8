//! Writes a table as Parquet or CSV files, a thread per file at a time; each thread holds at most one row
//! group, encoded, and one batch.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use anyhow::Context;
use arrow::array::{Array, RecordBatch};
use arrow::datatypes::DataType;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::folder::Folder;
use super::{Layout, Table};

/// Rows of a Parquet row group.
const ROW_GROUP_ROWS: usize = 100_000;
/// Rows made at a time, about.
const BATCH_ROWS: u64 = 8_192;

/// How much is written by how many.
pub struct Plan {
    /// Units of the table.
    pub units: u64,
    /// About how many rows a unit has.
    pub rows_per_unit: u64,
    /// Files, not more than units.
    pub files: u32,
    /// Threads.
    pub threads: usize,
}

impl Plan {
    /// Names of the files.
    pub fn file_names(&self, layout: Layout) -> Vec<String> {
        (0..self.files).map(|file| format!("part-{file:05}.{}", layout.extension())).collect()
    }

    /// The units of a file: as even as whole numbers allow.
    fn units_of(&self, file: u32) -> Range<u64> {
        let edge = |file: u32| (u128::from(self.units) * u128::from(file) / u128::from(self.files)) as u64;
        edge(file)..edge(file + 1)
    }

    fn units_per_batch(&self) -> u64 {
        (BATCH_ROWS / self.rows_per_unit.max(1)).max(1)
    }
}

/// What was counted on the way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Rows.
    pub rows: u64,
    /// Size of all files.
    pub bytes: u64,
    /// Nulls by column; none for columns that cannot be null.
    pub nulls: Vec<Option<u64>>,
    /// True values by column; none for columns that are not flags.
    pub trues: Vec<Option<u64>>,
}

impl Tally {
    fn count(&mut self, batch: &RecordBatch) {
        let fields = batch.schema_ref().fields();
        let nulls = batch.columns().iter().zip(fields).map(|(c, f)| f.is_nullable().then(|| c.null_count() as u64));
        let trues = batch.columns().iter().map(|column| {
            let flags = column.as_any().downcast_ref::<arrow::array::BooleanArray>();
            flags.filter(|_| column.data_type() == &DataType::Boolean).map(|flags| flags.true_count() as u64)
        });
        self.add(&Self { rows: batch.num_rows() as u64, bytes: 0, nulls: nulls.collect(), trues: trues.collect() });
    }

    fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        self.bytes += other.bytes;
        add_counts(&mut self.nulls, &other.nulls);
        add_counts(&mut self.trues, &other.trues);
    }
}

fn add_counts(into: &mut Vec<Option<u64>>, from: &[Option<u64>]) {
    into.resize(into.len().max(from.len()), None);
    for (a, b) in into.iter_mut().zip(from) {
        *a = match (*a, *b) {
            (None, other) | (other, None) => other,
            (Some(a), Some(b)) => Some(a + b),
        };
    }
}

/// Writes all files; the first error stops the others at their next batch. `progress` is called from several
/// threads with the number of units just made.
pub fn write(table: &dyn Table, plan: &Plan, folder: &Folder, progress: &(dyn Fn(u64) + Sync)) -> anyhow::Result<Tally> {
    let next = AtomicU32::new(0);
    let stop = AtomicBool::new(false);
    let threads = plan.threads.clamp(1, plan.files as usize);
    let work = || {
        let mut tally = Tally::default();
        while !stop.load(Ordering::Relaxed) {
            let file = next.fetch_add(1, Ordering::Relaxed);
            if file >= plan.files {
                break;
            }
            let job = FileJob { table, plan, file, folder, stop: &stop, progress };
            let written = job.write().with_context(|| format!("write file {file} of {}", plan.files));
            tally.add(&written.inspect_err(|_| stop.store(true, Ordering::Relaxed))?);
        }
        anyhow::Ok(tally)
    };
    let results: Vec<anyhow::Result<Tally>> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        handles.into_iter().map(|h| h.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    let mut total = Tally::default();
    for tally in results {
        total.add(&tally?);
    }
    Ok(total)
}

struct FileJob<'a> {
    table: &'a dyn Table,
    plan: &'a Plan,
    file: u32,
    folder: &'a Folder,
    stop: &'a AtomicBool,
    progress: &'a (dyn Fn(u64) + Sync),
}

impl FileJob<'_> {
    fn write(self) -> anyhow::Result<Tally> {
        let path = self.folder.temporary(self.file);
        let file = File::create(&path).with_context(|| format!("create `{}`", path.display()))?;
        let mut output = Output::new(file, self.table)?;
        let mut tally = Tally::default();
        let units = self.plan.units_of(self.file);
        let mut start = units.start;
        while start < units.end && !self.stop.load(Ordering::Relaxed) {
            let end = (start + self.plan.units_per_batch()).min(units.end);
            let batch = self.table.batch(start..end)?;
            tally.count(&batch);
            output.write(&batch).with_context(|| format!("write `{}`", path.display()))?;
            (self.progress)(end - start);
            start = end;
        }
        output.close().with_context(|| format!("close `{}`", path.display()))?;
        tally.bytes = std::fs::metadata(&path).with_context(|| format!("look at `{}`", path.display()))?.len();
        if start == units.end {
            self.folder.publish(self.file)?;
        }
        Ok(tally)
    }
}

/// A file being written.
enum Output {
    Parquet(Box<ArrowWriter<File>>),
    Csv(Box<arrow::csv::Writer<BufWriter<File>>>),
}

impl Output {
    fn new(file: File, table: &dyn Table) -> anyhow::Result<Self> {
        Ok(match table.layout() {
            Layout::Parquet => Self::Parquet(Box::new(ArrowWriter::try_new(file, table.schema(), Some(properties()?))?)),
            Layout::Csv => Self::Csv(Box::new(arrow::csv::WriterBuilder::new().with_header(true).build(BufWriter::new(file)))),
        })
    }

    fn write(&mut self, batch: &RecordBatch) -> anyhow::Result<()> {
        match self {
            Self::Parquet(writer) => Ok(writer.write(batch)?),
            Self::Csv(writer) => Ok(writer.write(batch)?),
        }
    }

    fn close(self) -> anyhow::Result<()> {
        match self {
            Self::Parquet(writer) => Ok(writer.close().map(drop)?),
            Self::Csv(writer) => Ok(writer.into_inner().flush()?),
        }
    }
}

fn properties() -> anyhow::Result<WriterProperties> {
    let builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS));
    Ok(builder.build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_cover_all_units_once() {
        for (units, files) in [(10, 3), (7, 7), (1_000_000_000_000, 99_999), (5, 1)] {
            let plan = Plan { units, rows_per_unit: 1, files, threads: 1 };
            let mut next = 0;
            for file in 0..files {
                let range = plan.units_of(file);
                assert!(range.start == next && range.end > range.start);
                next = range.end;
            }
            assert_eq!(next, units);
        }
    }

    #[test]
    fn large_units_are_made_a_few_at_a_time() {
        let plan = |rows_per_unit| Plan { units: 1, rows_per_unit, files: 1, threads: 1 };
        assert_eq!(plan(1).units_per_batch(), 8_192);
        assert_eq!(plan(2_500).units_per_batch(), 3);
        assert_eq!(plan(1_000_000).units_per_batch(), 1);
    }
}
