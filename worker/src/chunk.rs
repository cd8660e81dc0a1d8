//! Writing what becomes of a run of shards into one Parquet file: the one function behind predictions and written
//! stages, on workers and without any cluster. The bytes depend on the rows alone.

use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::StreamExt as _;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use sheaf_dataflow::prepared::PreparedShard;
use sheaf_dataflow::reader::Reader;
use sheaf_dataflow::rows::CompiledRows;
use sheaf_runtime::fault::Fault;

/// Attempts of this process so far.
static ATTEMPTS: AtomicU64 = AtomicU64::new(0);

/// Rows written together into one row group.
const ROW_GROUP_ROWS: usize = 1 << 20;

/// Bytes of a row group, as they stand before they are written, from which on it is closed early.
pub const ROW_GROUP_BYTES: usize = 64 << 20;

/// Name of the file of a chunk.
pub fn file_name(chunk: u32) -> String {
    format!("part-{chunk:05}.parquet")
}

/// Writes `shards` into `folder` as the file of `chunk`; gives the rows written. The file appears whole.
pub async fn write_chunk(
    reader: &Reader,
    rows: &CompiledRows,
    shards: Range<u32>,
    folder: &Path,
    chunk: u32,
) -> Result<u64, Fault> {
    let target = folder.join(file_name(chunk));
    // No two attempts share a file, not even in one process.
    let attempt = ATTEMPTS.fetch_add(1, Ordering::Relaxed);
    let temporary = target.with_extension(format!("{}-{attempt}.tmp", std::process::id()));
    let written = write(reader, rows, shards, &temporary).await;
    let written = match written {
        Ok(written) => written,
        Err(fault) => {
            // The file may not exist yet; either way nothing refers to it.
            let _ = std::fs::remove_file(&temporary);
            return Err(fault);
        }
    };
    std::fs::rename(&temporary, &target).map_err(|e| disk(&target, e))?;
    Ok(written)
}

async fn write(reader: &Reader, rows: &CompiledRows, shards: Range<u32>, path: &Path) -> Result<u64, Fault> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .build();
    let file = File::create(path).map_err(|e| disk(path, e))?;
    let mut writer = ArrowWriter::try_new(file, rows.schema(), Some(properties)).map_err(|e| disk(path, e))?;
    let mut written = 0;
    let mut stream = std::pin::pin!(reader.shards(shards));
    while let Some(shard) = stream.next().await {
        for piece in pieces(&shard?, rows.rows_at_once()) {
            let made = rows.make(&piece)?;
            written += made.num_rows() as u64;
            writer.write(&made).map_err(|e| disk(path, e))?;
            if writer.in_progress_size() >= ROW_GROUP_BYTES {
                writer.flush().map_err(|e| disk(path, e))?;
            }
        }
    }
    writer.close().map_err(|e| disk(path, e))?;
    Ok(written)
}

/// A shard in pieces of at most so many rows.
fn pieces(shard: &PreparedShard, most: usize) -> impl Iterator<Item = PreparedShard> {
    let rows = shard.batch.num_rows();
    (0..rows).step_by(most).map(move |first| {
        let count = most.min(rows - first);
        let (batch, row_ids) = (shard.batch.slice(first, count), shard.row_ids[first..first + count].to_vec());
        PreparedShard { index: shard.index, batch, row_ids }
    })
}

fn disk(path: &Path, error: impl std::fmt::Display) -> Fault {
    Fault { retry: true, ..Fault::internal(format!("write {}: {error}", path.display())) }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::sync::Arc;

    use arrow::array::{Int64Array, RecordBatch};
    use arrow::compute::concat_batches;

    use super::*;

    #[test]
    fn pieces_are_the_shard_in_order() {
        let batch = RecordBatch::try_from_iter([("a", Arc::new(Int64Array::from_iter_values(0..10)) as _)]).unwrap();
        let shard = PreparedShard { index: 3, batch, row_ids: (100..110).collect() };
        for (most, count) in [(1, 10), (4, 3), (10, 1), (usize::MAX, 1)] {
            let found: Vec<PreparedShard> = pieces(&shard, most).collect();
            assert_eq!(found.len(), count);
            let whole = concat_batches(&shard.batch.schema(), found.iter().map(|piece| &piece.batch)).unwrap();
            assert_eq!(
                (whole, found.iter().flat_map(|p| p.row_ids.clone()).collect()),
                (shard.batch.clone(), shard.row_ids.clone())
            );
        }
        let empty = PreparedShard { batch: shard.batch.slice(0, 0), row_ids: Vec::new(), ..shard };
        assert_eq!(pieces(&empty, 5).count(), 0);
    }
}
