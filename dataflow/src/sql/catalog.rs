//! What a text may name: a catalog of its own for each query, with the job's tables and the views planned so far. Nothing
//! that a session happens to know besides is visible.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::memory::{MemoryCatalogProvider, MemoryCatalogProviderList, MemorySchemaProvider};
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, Session, TableProvider};
use datafusion::common::{DataFusionError, Result as QueryResult};
use datafusion::datasource::{TableType, ViewTable};
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionContext;

use super::{Planned, TableShape, ViewText, message};
use crate::job::JobError;

/// A session state that sees some tables and views, and no others.
pub(super) struct Scope {
    /// Plans over them.
    pub(super) state: SessionState,
    /// Names and columns, for messages.
    pub(super) columns: Vec<(String, SchemaRef)>,
    schema: Arc<MemorySchemaProvider>,
}

impl Scope {
    pub(super) fn new(session: &SessionContext, tables: &[TableShape]) -> Result<Self, JobError> {
        let schema = Arc::new(MemorySchemaProvider::new());
        let state = state(session, Arc::clone(&schema)).map_err(|e| JobError::at("tables", message(&e)))?;
        let mut scope = Self { state, columns: Vec::new(), schema };
        for table in tables {
            let shape = || Arc::new(Shape(Arc::clone(&table.schema))) as Arc<dyn TableProvider>;
            let provider = table.provider.clone().unwrap_or_else(shape);
            scope.add(&table.name, provider, &format!("tables.{}", table.name))?;
        }
        Ok(scope)
    }

    /// Makes a planned view visible to what comes after it.
    pub(super) fn add_view(&mut self, view: &ViewText, plan: LogicalPlan) -> Result<(), JobError> {
        let fields = plan.schema().fields();
        for (i, field) in fields.iter().enumerate() {
            if fields.iter().take(i).any(|f| f.name() == field.name()) {
                return Err(JobError::at(&view.path, format!("column `{}` stands twice in the view", field.name()))
                    .hint("name one of them with AS"));
            }
        }
        self.add(&view.name, Arc::new(ViewTable::new(plan, None)), &view.path)
    }

    fn add(&mut self, name: &str, provider: Arc<dyn TableProvider>, path: &str) -> Result<(), JobError> {
        if self.schema.table_exist(name) {
            return Err(JobError::at(path, "the table name stands twice"));
        }
        self.columns.push((name.to_owned(), provider.schema()));
        let added = self.schema.register_table(name.to_owned(), provider);
        added.map(|_| ()).map_err(|e| JobError::at(path, message(&e)))
    }
}

fn state(session: &SessionContext, schema: Arc<MemorySchemaProvider>) -> QueryResult<SessionState> {
    let state = session.state();
    let names = state.config_options().catalog.clone();
    let (catalog, list) = (MemoryCatalogProvider::new(), MemoryCatalogProviderList::new());
    catalog.register_schema(&names.default_schema, schema)?;
    list.register_catalog(names.default_catalog, Arc::new(catalog));
    Ok(SessionStateBuilder::new_from_existing(state).with_catalog_list(Arc::new(list)).build())
}

/// What is known of the views planned so far, beside their plans.
#[derive(Default)]
pub(super) struct Names {
    views: BTreeMap<String, View>,
}

/// What a query takes over from the views that it reads.
#[derive(Debug, Clone, Default)]
pub(super) struct View {
    relations: u64,
    pub(super) uses_now: bool,
    pub(super) params: BTreeSet<String>,
    pub(super) warnings: Vec<String>,
}

impl Names {
    pub(super) fn add(&mut self, view: &ViewText, planned: &Planned) {
        let query = &planned.query;
        let (params, warnings) = (query.params.clone(), query.warnings.clone());
        let entry = View { relations: planned.relations, uses_now: query.uses_now, params, warnings };
        self.views.insert(view.name.clone(), entry);
    }

    /// True for the name of a view.
    pub(super) fn has(&self, name: &str) -> bool {
        self.views.contains_key(name)
    }

    /// How many base tables stand behind a name.
    pub(super) fn relations(&self, name: &str) -> u64 {
        self.views.get(name).map_or(1, |v| v.relations)
    }

    /// All that some views take.
    pub(super) fn of(&self, names: &BTreeSet<String>) -> View {
        let mut all = View::default();
        for view in names.iter().filter_map(|n| self.views.get(n)) {
            all.uses_now |= view.uses_now;
            all.params.extend(view.params.iter().cloned());
            all.warnings.extend(view.warnings.iter().filter(|w| !all.warnings.contains(w)).cloned().collect::<Vec<_>>());
        }
        all
    }
}

/// A table that can be planned over and not read.
#[derive(Debug)]
struct Shape(SchemaRef);

#[async_trait]
impl TableProvider for Shape {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.0)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        _projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> QueryResult<Arc<dyn ExecutionPlan>> {
        Err(DataFusionError::NotImplemented("tables are read by the shard reader".to_owned()))
    }
}
