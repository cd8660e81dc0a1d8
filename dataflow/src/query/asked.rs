//! A question, planned: what a process and a cluster have in common before they run it.

use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::{ExecutionPlan, displayable};
use datafusion::prelude::SessionContext;

use super::{QueryRequest, failure};
use crate::error::DataError;
use crate::job::Table;
use crate::scan::{self, pinned};
use crate::sql::{self, Query, TableShape, ViewText};
use crate::stores::Stores;
use crate::table::{self, OpenTable};

/// A planned question.
pub(crate) struct Asked {
    tables: Vec<(String, OpenTable)>,
    query: Query,
    /// Optimised; at most the rows that are wanted.
    pub(crate) logical: LogicalPlan,
}

impl Asked {
    /// Pins the tables of a question and plans it in a session; errors of the statement name `path`.
    pub(crate) async fn plan(
        session: &SessionContext,
        stores: &Stores,
        request: &QueryRequest,
        path: &str,
    ) -> Result<Self, DataError> {
        let (named, rest): (Vec<&Table>, _) =
            request.tables.iter().filter(|table| table.sql.is_none()).partition(|table| is_named(&table.name, request));
        let mut tables = Vec::with_capacity(named.len());
        for table in named {
            tables.push((table.name.clone(), table::open(stores, table).await?));
        }
        for table in &rest {
            table::is_allowed(stores, table).await?;
        }
        let shape = |(name, open): &(String, OpenTable)| -> Result<TableShape, DataError> {
            let provider = Some(scan::provider(stores, name, open)?);
            Ok(TableShape { name: name.clone(), schema: table::planning_schema(&open.columns), provider })
        };
        let mut shapes = tables.iter().map(shape).collect::<Result<Vec<_>, _>>()?;
        // Known by their names alone, for messages and for whoever would take a name twice.
        shapes.extend(rest.iter().map(|table| TableShape {
            name: table.name.clone(),
            schema: Arc::new(Schema::empty()),
            provider: None,
        }));
        let views: Vec<_> = request.tables.iter().filter_map(view).collect();
        let query = sql::plan(session, &shapes, &views, &request.sql, &request.params, request.now_ns, path).await?;
        let logical = session.state().optimize(&limited(&query, request.stop_after)?).map_err(|e| failure(&e))?;
        Ok(Self { tables, query, logical })
    }

    /// The plan as a session would run it.
    pub(crate) async fn physical(&self, state: &SessionState) -> Result<Arc<dyn ExecutionPlan>, DataError> {
        state.query_planner().create_physical_plan(&self.logical, state).await.map_err(|e| failure(&e))
    }

    /// What deserves attention.
    pub(crate) fn warnings(&self, request: &QueryRequest) -> Vec<String> {
        // Of views nobody tells whether they are read.
        let unread = request.tables.iter().filter(|t| t.sql.is_none() && !self.query.tables.contains(&t.name));
        let unread = unread.map(|t| format!("tables.{}: the query does not read this table", t.name));
        self.query.warnings.iter().cloned().chain(unread).collect()
    }

    /// Tables and plans, for people.
    pub(crate) async fn explain(&self, state: &SessionState) -> Result<String, DataError> {
        let mut text = String::new();
        for (name, open) in &self.tables {
            let rows: u64 = open.units.iter().map(|unit| unit.source_rows).sum();
            let bytes: u64 = open.files.iter().map(|file| file.size).sum();
            text.push_str(&format!("table {name}: {} files, {rows} rows, {bytes} bytes\n", open.files.len()));
        }
        text.push_str(&format!("\n{}\n\n", self.logical.display_indent()));
        let physical = displayable(self.physical(state).await?.as_ref()).indent(false).to_string();
        let files = self.tables.iter().flat_map(|(_, table)| &table.files);
        text.push_str(files.fold(physical, |text, file| pinned::without_pin(&text, file)).trim_end());
        Ok(text)
    }
}

/// Whether a statement or a view of a question may name a table: its name stands somewhere in the text. One that cannot be
/// named is not opened, though its path has to be one that may be read.
fn is_named(name: &str, request: &QueryRequest) -> bool {
    let views = request.tables.iter().filter_map(|table| table.sql.as_deref());
    // A quote in a name stands twice in a text.
    name.contains('"') || views.chain([request.sql.as_str()]).any(|text| text.contains(name))
}

fn view(table: &Table) -> Option<ViewText> {
    let sql = table.sql.clone()?;
    Some(ViewText { name: table.name.clone(), sql, path: format!("tables.{}.sql", table.name) })
}

/// The plan of a query of which so many rows are taken.
fn limited(query: &Query, rows: Option<u64>) -> Result<LogicalPlan, DataError> {
    let Some(rows) = rows.and_then(|rows| usize::try_from(rows).ok()) else { return Ok(query.plan.clone()) };
    let limited = LogicalPlanBuilder::from(query.plan.clone()).limit(0, Some(rows)).and_then(LogicalPlanBuilder::build);
    limited.map_err(|e| failure(&e))
}
