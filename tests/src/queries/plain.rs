//! The reference: the query engine as its makers ship it, in this process alone, over the same files. Nothing
//! of ours takes part: no rules, no functions, no session of our own.

use std::path::Path;

use arrow::array::RecordBatch;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use tokio::runtime::Runtime;

use super::answer::Answer;

/// How the reference computes; no answer may depend on it.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Partitions that it splits work into.
    pub partitions: usize,
    /// Rows of a batch.
    pub batch_rows: usize,
    /// Joins by hashing; else by sorting and merging.
    pub hash_joins: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { partitions: 2, batch_rows: 8192, hash_joins: true }
    }
}

/// A session over the tables of a folder.
pub struct Plain {
    runtime: Runtime,
    session: SessionContext,
}

impl Plain {
    /// Opens every folder below `folder` as the table of its name.
    pub fn open(folder: &Path, settings: Settings) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let config = SessionConfig::new()
            .with_target_partitions(settings.partitions)
            .with_batch_size(settings.batch_rows)
            .set_bool("datafusion.optimizer.prefer_hash_join", settings.hash_joins);
        let session = SessionContext::new_with_config(config);
        for table in names(folder) {
            let path = folder.join(&table).display().to_string();
            runtime.block_on(session.register_parquet(table.as_str(), path, ParquetReadOptions::default())).unwrap();
        }
        Self { runtime, session }
    }

    /// The rows that answer a statement, as the engine gives them.
    pub fn rows(&self, sql: &str) -> Result<Vec<RecordBatch>, String> {
        let answer = async {
            let frame = self.session.sql(sql).await?;
            let schema = frame.schema().as_arrow().clone();
            let mut batches = frame.collect().await?;
            if batches.is_empty() {
                batches.push(RecordBatch::new_empty(schema.into()));
            }
            Ok(batches)
        };
        self.runtime.block_on(answer).map_err(|e: datafusion::error::DataFusionError| e.to_string())
    }

    /// The answer to a statement.
    pub fn answer(&self, sql: &str) -> Result<Answer, String> {
        self.rows(sql).map(|rows| Answer::of(&rows))
    }
}

/// Names of the tables below a folder, in order.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("read the folder {}: {e}", folder.display()));
    let mut names: Vec<String> = entries
        .map(Result::unwrap)
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
