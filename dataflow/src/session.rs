//! The one place that builds DataFusion sessions: our stores, UTC, our functions, nothing that writes. A
//! session plans queries; data is read by our own readers.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::{DataFusionError, Result as QueryResult};
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::object_store::ObjectStoreRegistry;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::optimizer::Optimizer;
use datafusion::prelude::{SQLOptions, SessionConfig, SessionContext};
use object_store::ObjectStore;

use crate::stores::Stores;
use crate::{functions, optimizer, types};

/// Bytes of SQL that one query may have.
pub const MAX_SQL_BYTES: usize = 1 << 20;
/// Levels of nesting that one query may have.
pub const MAX_SQL_DEPTH: usize = 50;

impl Stores {
    /// A session whose clock stands at `now_ns` (nanoseconds since 1970, UTC). Names are case-sensitive as they
    /// are written.
    pub fn session(&self, now_ns: i64) -> SessionContext {
        let runtime = RuntimeEnvBuilder::new().with_object_store_registry(Arc::new(Registry(self.clone()))).build_arc();
        let runtime = runtime.expect("a runtime without disk or memory limits has nothing that can fail");
        let state = SessionStateBuilder::new()
            .with_config(config())
            .with_runtime_env(runtime)
            .with_default_features()
            .with_table_factories(HashMap::new())
            .with_file_formats(Vec::new())
            .with_table_functions(HashMap::new())
            .with_optimizer_rules(optimizer::exact(Optimizer::default().rules))
            .build();
        let context = SessionContext::new_with_state(state);
        for function in functions::all(now_ns) {
            context.register_udf(function);
        }
        for function in functions::aggregates().into_iter().chain([functions::extremes::min(), functions::extremes::max()]) {
            context.register_udaf(Arc::unwrap_or_clone(function));
        }
        context
    }
}

/// What user SQL may be: queries only.
pub fn read_only() -> SQLOptions {
    SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false)
}

fn config() -> SessionConfig {
    let mut config =
        SessionConfig::new().with_target_partitions(1).with_repartition_file_scans(false).with_information_schema(false);
    let options = config.options_mut();
    options.execution.time_zone = Some(types::UTC.to_owned());
    options.execution.enable_file_stream_work_stealing = false;
    // Filters that grow while a query runs skip row groups by footers, which leave NaN out: `ORDER BY x DESC LIMIT n`
    // lost rows so, as many as timing had it.
    options.optimizer.enable_dynamic_filter_pushdown = false;
    options.optimizer.enable_topk_dynamic_filter_pushdown = false;
    options.optimizer.enable_join_dynamic_filter_pushdown = false;
    options.optimizer.enable_aggregate_dynamic_filter_pushdown = false;
    options.sql_parser.enable_ident_normalization = false;
    // Filters that are found while a query runs skip row groups by statistics that leave NaN out: what is skipped, and so
    // the result, would depend on which part came first.
    options.optimizer.enable_topk_dynamic_filter_pushdown = false;
    options.optimizer.enable_aggregate_dynamic_filter_pushdown = false;
    config
}

/// Serves the configured stores and registers nothing of its own.
#[derive(Debug)]
struct Registry(Stores);

impl ObjectStoreRegistry for Registry {
    fn register_store(&self, _url: &url::Url, _store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        None
    }

    fn get_store(&self, url: &url::Url) -> QueryResult<Arc<dyn ObjectStore>> {
        let missing = || DataFusionError::Plan(format!("{url} is outside the allowed folders and prefixes"));
        self.0.by_url(url).ok_or_else(missing)
    }
}
