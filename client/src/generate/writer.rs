//! Writes a dataset as Parquet files, a thread per file at a time; each thread holds at most one row
//! group, encoded, and one batch.

use std::fs::File;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use anyhow::Context;
use arrow::array::{Array, RecordBatch};
use arrow::datatypes::DataType;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::Dataset;
use super::folder::Folder;

/// Rows of a Parquet row group.
const ROW_GROUP_ROWS: usize = 100_000;
/// Rows made at a time.
const BATCH_ROWS: u64 = 8_192;

/// How much is written by how many.
pub struct Plan {
    /// Rows of the dataset.
    pub rows: u64,
    /// Files, not more than rows.
    pub files: u32,
    /// Threads.
    pub threads: usize,
}

impl Plan {
    /// The rows of a file: as even as whole numbers allow.
    fn rows_of(&self, file: u32) -> Range<u64> {
        let edge = |file: u32| (u128::from(self.rows) * u128::from(file) / u128::from(self.files)) as u64;
        edge(file)..edge(file + 1)
    }
}

/// What was counted on the way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
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
        self.add(&Self { bytes: 0, nulls: nulls.collect(), trues: trues.collect() });
    }

    fn add(&mut self, other: &Self) {
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

/// Writes all files; the first error stops the others at their next batch.
pub fn write(dataset: &dyn Dataset, plan: &Plan, folder: &Folder, progress: &(dyn Fn(u64) + Sync)) -> anyhow::Result<Tally> {
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
            let job = FileJob { dataset, rows: plan.rows_of(file), file, folder, stop: &stop, progress };
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
    dataset: &'a dyn Dataset,
    rows: Range<u64>,
    file: u32,
    folder: &'a Folder,
    stop: &'a AtomicBool,
    progress: &'a (dyn Fn(u64) + Sync),
}

impl FileJob<'_> {
    fn write(self) -> anyhow::Result<Tally> {
        let path = self.folder.temporary(self.file);
        let file = File::create(&path).with_context(|| format!("create `{}`", path.display()))?;
        let mut writer = ArrowWriter::try_new(file, self.dataset.schema(), Some(properties()?))?;
        let mut tally = Tally::default();
        let mut start = self.rows.start;
        while start < self.rows.end && !self.stop.load(Ordering::Relaxed) {
            let end = (start + BATCH_ROWS).min(self.rows.end);
            let batch = self.dataset.batch(start..end)?;
            tally.count(&batch);
            writer.write(&batch).with_context(|| format!("write `{}`", path.display()))?;
            (self.progress)(end - start);
            start = end;
        }
        writer.close().with_context(|| format!("close `{}`", path.display()))?;
        tally.bytes = std::fs::metadata(&path).with_context(|| format!("look at `{}`", path.display()))?.len();
        if start == self.rows.end {
            self.folder.publish(self.file)?;
        }
        Ok(tally)
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
    fn files_cover_all_rows_once() {
        for (rows, files) in [(10, 3), (7, 7), (1_000_000_000_000, 99_999), (5, 1)] {
            let plan = Plan { rows, files, threads: 1 };
            let mut next = 0;
            for file in 0..files {
                let range = plan.rows_of(file);
                assert!(range.start == next && range.end > range.start);
                next = range.end;
            }
            assert_eq!(next, rows);
        }
    }
}
