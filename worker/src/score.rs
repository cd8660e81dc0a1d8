//! Scoring a run of shards into one Parquet file: the one function behind `predict`, on workers and
//! without any cluster.

use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::StreamExt as _;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use sheaf_dataflow::reader::Reader;
use sheaf_dataflow::score::CompiledScorer;
use sheaf_runtime::fault::Fault;

/// Attempts of this process so far.
static ATTEMPTS: AtomicU64 = AtomicU64::new(0);

/// Rows written together into one row group.
const ROW_GROUP_ROWS: usize = 1 << 20;

/// Name of the file of a chunk.
pub fn file_name(chunk: u32) -> String {
    format!("part-{chunk:05}.parquet")
}

/// Scores `shards` into `folder` as the file of `chunk`; gives the rows written. The file appears whole.
pub async fn score_chunk(
    reader: &Reader,
    scorer: &CompiledScorer,
    shards: Range<u32>,
    folder: &Path,
    chunk: u32,
) -> Result<u64, Fault> {
    let target = folder.join(file_name(chunk));
    // No two attempts share a file, not even in one process.
    let attempt = ATTEMPTS.fetch_add(1, Ordering::Relaxed);
    let temporary = target.with_extension(format!("{}-{attempt}.tmp", std::process::id()));
    let rows = write(reader, scorer, shards, &temporary).await;
    let rows = match rows {
        Ok(rows) => rows,
        Err(fault) => {
            // The file may not exist yet; either way nothing refers to it.
            let _ = std::fs::remove_file(&temporary);
            return Err(fault);
        }
    };
    std::fs::rename(&temporary, &target).map_err(|e| disk(&target, e))?;
    Ok(rows)
}

async fn write(reader: &Reader, scorer: &CompiledScorer, shards: Range<u32>, path: &Path) -> Result<u64, Fault> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .build();
    let file = File::create(path).map_err(|e| disk(path, e))?;
    let mut writer = ArrowWriter::try_new(file, scorer.schema(), Some(properties)).map_err(|e| disk(path, e))?;
    let mut rows = 0;
    let mut stream = std::pin::pin!(reader.shards(shards));
    while let Some(shard) = stream.next().await {
        let scored = scorer.score(&shard?.batch)?;
        rows += scored.num_rows() as u64;
        writer.write(&scored).map_err(|e| disk(path, e))?;
    }
    writer.close().map_err(|e| disk(path, e))?;
    Ok(rows)
}

fn disk(path: &Path, error: impl std::fmt::Display) -> Fault {
    Fault { retry: true, ..Fault::internal(format!("write {}: {error}", path.display())) }
}
