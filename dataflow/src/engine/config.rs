//! Sessions of the query engine: one builder for the scheduler, the executors and whoever plans, so that all three
//! know the same functions, stores and settings.

use std::any::Any;
use std::sync::Arc;

use ballista_core::extension::{SessionConfigExt, SessionConfigHelperExt};
use datafusion::common::config::{ConfigEntry, ConfigExtension, ExtensionOptions};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::prelude::SessionConfig;

use super::codec::Codec;
use super::joins;
use crate::stores::Stores;
use crate::{optimizer, types};

/// Largest message between scheduler, executors and whoever reads results, bytes.
pub(super) const MAX_MESSAGE_BYTES: usize = 128 << 20;
/// Name of the setting for copies.
const COPIES: &str = "copies";
/// Name of the setting for hash joins.
const BUILD_BYTES: &str = "build_bytes";

/// Largest side of a join that every task gets whole, bytes.
const BROADCAST_BYTES: usize = 10 << 20;

/// Rows to be exchanged that a task holds before it writes them, bytes.
const EXCHANGE_BYTES: usize = 32 << 20;
/// Memory of a task from which it may build hash tables and exchange large batches, bytes: below it every row that is held
/// beside what is counted matters.
const AMPLE_BYTES: usize = 256 << 20;

/// Settings of ours that travel with every task of a query.
#[derive(Debug, Clone, Default)]
pub(super) struct QuerySettings {
    /// Folder for copies of exchanged rows: with them a lost worker costs only the tasks it was running; empty: there are
    /// none.
    pub(super) copies: String,
    /// Largest part of a join's built side that is kept in memory, bytes; 0: joins sort.
    pub(super) build_bytes: usize,
}

/// By hand: what the usual macro writes loses the prefix of its keys on the way to executors.
impl ExtensionOptions for QuerySettings {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        match key {
            COPIES => value.clone_into(&mut self.copies),
            BUILD_BYTES => {
                let wrong = |_| DataFusionError::Configuration(format!("`{value}` is no number of bytes"));
                self.build_bytes = value.parse().map_err(wrong)?;
            }
            other => return Err(DataFusionError::Configuration(format!("`{other}` is no setting of a query"))),
        }
        Ok(())
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        let entry = |key: &str, value: String, description| {
            let key = format!("{}.{key}", Self::PREFIX);
            ConfigEntry { key, value: Some(value), description }
        };
        vec![
            entry(COPIES, self.copies.clone(), "folder for copies of exchanged rows"),
            entry(BUILD_BYTES, self.build_bytes.to_string(), "largest part of a join's built side in memory"),
        ]
    }
}

impl ConfigExtension for QuerySettings {
    const PREFIX: &'static str = "sheaf";
}

/// How a query is run.
#[derive(Debug, Clone)]
pub(super) struct Tuning {
    /// Partitions of exchanges: tasks that can run at the same time.
    pub(super) partitions: usize,
    /// Memory of one task on the smallest worker, bytes.
    pub(super) task_bytes: usize,
    /// Whether joins may build hash tables, which cannot spill.
    pub(super) hash_joins: bool,
    /// Folder for copies of exchanged rows; absent: none.
    pub(super) copies: Option<String>,
}

/// Settings as every part of the engine has them before those of a query.
pub(super) fn base() -> SessionConfig {
    let mut config = SessionConfig::new_with_ballista()
        .with_information_schema(false)
        .with_option_extension(QuerySettings::default())
        .with_ballista_physical_extension_codec(Arc::new(Codec::default()))
        // Off: in 55.0.0 it gives rows of a UNION ALL twice, and its rule that merges small partitions panics on some plans,
        // and the scheduler with it.
        .with_ballista_adaptive_query_planner(false)
        .with_ballista_coalesce_enabled(false)
        .with_ballista_grpc_client_max_message_size(MAX_MESSAGE_BYTES);
    let options = config.options_mut();
    options.execution.time_zone = Some(types::UTC.to_owned());
    // On by default, and wrong here: a task would take files of its siblings.
    options.execution.enable_file_stream_work_stealing = false;
    options.sql_parser.enable_ident_normalization = false;
    config
        .set_usize("ballista.client.io_retries_times", 2)
        .set_usize("ballista.client.io_retry_wait_time_ms", 200)
        // One task for one partition: placement was uneven otherwise.
        .set_usize("ballista.scheduler.max_partitions_per_task", 1)
}

/// Settings of one query.
pub(super) fn of(tuning: &Tuning) -> SessionConfig {
    let hash_joins = tuning.hash_joins && tuning.task_bytes >= AMPLE_BYTES;
    let broadcast = BROADCAST_BYTES.min(tuning.task_bytes / 16);
    let mut config = base()
        .with_target_partitions(tuning.partitions)
        // What is exchanged is counted beside the memory of the task. Runs of this size are put in order in the caches of a
        // core, and copied behind each other by the system.
        .set_usize("ballista.shuffle.sort_based.memory_limit_per_task_bytes", EXCHANGE_BYTES.min(tuning.task_bytes / 4))
        .set_usize("ballista.shuffle.sort_based.batch_size", exchange_rows(tuning.task_bytes))
        .ballista_restricted_configuration()
        .with_batch_size(batch_rows(tuning.task_bytes))
        .set_bool("datafusion.optimizer.prefer_hash_join", hash_joins)
        // Packing costs more than a machine's own disk and a fast network do; what is copied to a store is packed.
        .set_str("ballista.shuffle.compression.codec", if tuning.copies.is_some() { "lz4" } else { "none" })
        .with_ballista_broadcast_join_threshold_bytes(broadcast)
        .set_usize("datafusion.optimizer.hash_join_single_partition_threshold", broadcast);
    config.options_mut().execution.sort_spill_reservation_bytes = (tuning.task_bytes / 32).clamp(256 << 10, 10 << 20);
    if let Some(settings) = config.options_mut().extensions.get_mut::<QuerySettings>() {
        settings.copies = tuning.copies.clone().unwrap_or_default();
        settings.build_bytes = if hash_joins { tuning.task_bytes / 4 } else { 0 };
    }
    config
}

/// Rows of a batch that is exchanged: fewer batches cost less.
fn exchange_rows(task_bytes: usize) -> usize {
    let batches = if task_bytes >= AMPLE_BYTES { 4 } else { 1 };
    batches * batch_rows(task_bytes)
}

/// Rows of a batch: several are held at a time, by each of several nodes, and rows may be wide.
fn batch_rows(task_bytes: usize) -> usize {
    match task_bytes >> 20 {
        0..64 => 1024,
        64..256 => 4096,
        _ => 8192,
    }
}

/// A session over `stores` whose clock stands at `now_ns`: the one that all SQL is planned with, made distributable.
pub(super) fn state(stores: &Stores, config: SessionConfig, now_ns: i64) -> SessionState {
    SessionStateBuilder::new_from_existing(stores.session(now_ns).state())
        .with_config(config)
        .with_optimizer_rules(optimizer::exact(ballista_core::optimizer::ballista_default_optimizer_rules()))
        .with_physical_optimizer_rules(joins::rules())
        .build()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn settings_of_ours_reach_a_task() {
        let tuning = Tuning { partitions: 3, task_bytes: 1 << 20, hash_joins: true, copies: Some("/store/copies".to_owned()) };
        let task = base().update_from_key_value_pair(&of(&tuning).to_key_value_pairs());
        assert_eq!(task.options().extensions.get::<QuerySettings>().unwrap().copies, "/store/copies");
        assert_eq!(task.target_partitions(), 3);
        assert_eq!(task.batch_size(), 1024);
        assert!(!task.options().execution.enable_file_stream_work_stealing);
    }
}
