//! Queries planned as jobs' are and run in this process, over Parquet files below the stores' roots. It is for tests and
//! gates, which compare any engine with it; nothing here is distributed and nothing spills.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::common::{DataFusionError, Result as QueryResult};
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::execution::SessionStateBuilder;
use datafusion::physical_plan::collect;
use datafusion::prelude::SessionContext;

use super::{TableShape, ViewText, message, plan};
use crate::error::DataError;
use crate::job::{JobError, Param};
use crate::stores::Stores;

/// A session over some tables.
pub struct Local {
    session: SessionContext,
    tables: Vec<TableShape>,
    views: Vec<ViewText>,
    params: BTreeMap<String, Param>,
    now_ns: i64,
}

/// What a query gave.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Columns.
    pub schema: SchemaRef,
    /// Rows; in the order of ORDER BY, else in any.
    pub batches: Vec<RecordBatch>,
    /// What deserves attention.
    pub warnings: Vec<String>,
    /// Tables that it read.
    pub tables: BTreeSet<String>,
}

impl Local {
    /// A session without tables. `partitions`: parts of a query that run beside each other; `batch_rows`: rows that go
    /// from one step to the next at a time; `now_ns`: the time of `now()`, nanoseconds since 1970.
    pub fn new(stores: &Stores, partitions: usize, batch_rows: usize, now_ns: i64) -> Self {
        let state = stores.session(now_ns).state();
        let config = state.config().clone().with_target_partitions(partitions).with_batch_size(batch_rows);
        let state = SessionStateBuilder::new_from_existing(state).with_config(config).build();
        let session = SessionContext::new_with_state(state);
        Self { session, tables: Vec::new(), views: Vec::new(), params: BTreeMap::new(), now_ns }
    }

    /// Adds a table of Parquet files by their locations; rows come in the order of the files.
    pub async fn table(&mut self, name: &str, files: &[String]) -> Result<(), DataError> {
        let failed = |e: DataFusionError| DataError::from(JobError::at(format!("tables.{name}"), message(&e)));
        let provider = self.scan(files).await.map_err(failed)?;
        self.tables.push(TableShape { name: name.to_owned(), schema: provider.schema(), provider: Some(provider) });
        Ok(())
    }

    /// Adds a view over the tables and views before it.
    pub fn view(&mut self, name: &str, sql: &str) {
        self.views.push(ViewText { name: name.to_owned(), sql: sql.to_owned(), path: format!("tables.{name}.sql") });
    }

    /// Sets a parameter.
    pub fn param(&mut self, name: &str, value: Param) {
        self.params.insert(name.to_owned(), value);
    }

    /// Runs a query.
    pub async fn run(&self, sql: &str) -> Result<Answer, DataError> {
        let query = plan(&self.session, &self.tables, &self.views, sql, &self.params, self.now_ns, "sql").await?;
        let schema = Arc::clone(query.plan.schema().inner());
        let run = async {
            let physical = self.session.state().create_physical_plan(&query.plan).await?;
            collect(physical, self.session.task_ctx()).await
        };
        let batches = run.await.map_err(|e| DataError::from(JobError::at("sql", message(&e))))?;
        Ok(Answer { schema, batches, warnings: query.warnings, tables: query.tables })
    }

    async fn scan(&self, files: &[String]) -> QueryResult<Arc<dyn TableProvider>> {
        let urls = files.iter().map(ListingTableUrl::parse).collect::<QueryResult<Vec<_>>>()?;
        let options = ListingOptions::new(Arc::new(ParquetFormat::default().with_force_view_types(false)));
        let config = ListingTableConfig::new_with_multi_paths(urls).with_listing_options(options);
        let config = config.infer_schema(&self.session.state()).await?;
        Ok(Arc::new(ListingTable::try_new(config)?))
    }
}
