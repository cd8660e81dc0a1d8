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
        let made = rows.make(&shard?)?;
        written += made.num_rows() as u64;
        writer.write(&made).map_err(|e| disk(path, e))?;
        if writer.in_progress_size() >= ROW_GROUP_BYTES {
            writer.flush().map_err(|e| disk(path, e))?;
        }
    }
    writer.close().map_err(|e| disk(path, e))?;
    Ok(written)
}

fn disk(path: &Path, error: impl std::fmt::Display) -> Fault {
    Fault { retry: true, ..Fault::internal(format!("write {}: {error}", path.display())) }
}
