//! Sessions of the query engine: one builder for the scheduler, the executors and whoever plans, so that all three
//! know the same functions, stores and settings.

use std::any::Any;
use std::sync::Arc;

use ballista_core::extension::{SessionConfigExt, SessionConfigHelperExt};
use datafusion::common::config::{ConfigEntry, ConfigExtension, ExtensionOptions};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::prelude::SessionConfig;

use super::codec::Codec;
use crate::stores::Stores;
use crate::types;

/// Largest message between scheduler, executors and whoever reads results, bytes.
pub(super) const MAX_MESSAGE_BYTES: usize = 128 << 20;
/// Name of the setting for copies.
const COPIES: &str = "copies";

/// Settings of ours that travel with every task of a query.
#[derive(Debug, Clone, Default)]
pub(super) struct QuerySettings {
    /// Folder for copies of exchanged rows: with them a lost worker costs only the tasks it was running; empty: there are
    /// none.
    pub(super) copies: String,
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
            other => return Err(DataFusionError::Configuration(format!("`{other}` is no setting of a query"))),
        }
        Ok(())
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        let key = format!("{}.{COPIES}", Self::PREFIX);
        vec![ConfigEntry { key, value: Some(self.copies.clone()), description: "folder for copies of exchanged rows" }]
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
    /// Whether joins and partition counts are chosen from what earlier stages measured.
    pub(super) adaptive: bool,
    /// Memory of one task on the smallest worker, bytes.
    pub(super) task_bytes: usize,
    /// Folder for copies of exchanged rows; absent: none.
    pub(super) copies: Option<String>,
}

/// Settings as every part of the engine has them before those of a query.
pub(super) fn base() -> SessionConfig {
    let mut config = SessionConfig::new_with_ballista()
        .with_information_schema(false)
        .with_option_extension(QuerySettings::default())
        .with_ballista_physical_extension_codec(Arc::new(Codec::default()))
        // The rule that merges small partitions is off: it panics on some plans of 55.0.0, and the scheduler with it.
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
    let mut config = base()
        .with_target_partitions(tuning.partitions)
        .with_ballista_adaptive_query_planner(tuning.adaptive)
        // The built side of a hash join cannot spill; what is exchanged is counted beside the memory of the task.
        .with_ballista_hash_join_max_build_partition_bytes(tuning.task_bytes / 4)
        .set_usize("ballista.shuffle.sort_based.memory_limit_per_task_bytes", tuning.task_bytes / 4)
        .ballista_restricted_configuration()
        .with_batch_size(batch_rows(tuning.task_bytes));
    config.options_mut().execution.sort_spill_reservation_bytes = (tuning.task_bytes / 32).clamp(256 << 10, 10 << 20);
    if let (Some(copies), Some(settings)) = (&tuning.copies, config.options_mut().extensions.get_mut::<QuerySettings>()) {
        settings.copies = copies.clone();
    }
    config
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
        .with_optimizer_rules(ballista_core::optimizer::ballista_default_optimizer_rules())
        .with_physical_optimizer_rules(PhysicalOptimizer::new().rules)
        .build()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn settings_of_ours_reach_a_task() {
        let tuning = Tuning { partitions: 3, adaptive: false, task_bytes: 1 << 20, copies: Some("/store/copies".to_owned()) };
        let task = base().update_from_key_value_pair(&of(&tuning).to_key_value_pairs());
        assert_eq!(task.options().extensions.get::<QuerySettings>().unwrap().copies, "/store/copies");
        assert_eq!(task.target_partitions(), 3);
        assert_eq!(task.batch_size(), 1024);
        assert!(!task.options().execution.enable_file_stream_work_stealing);
    }
}
