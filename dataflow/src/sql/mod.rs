//! User SQL: parsed, bound, planned, held to what is supported, and rewritten so that its result depends on its inputs
//! alone. [`plan`] is the only way from a text to a plan; views are inlined, parameters are values, the clock stands still.
//! It never reads a row.

mod catalog;
mod limits;
mod local;
mod message;
mod reached;
mod rules;
mod shape;
#[cfg(test)]
mod tests;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement;

use crate::job::{JobError, Param};
use crate::params;
use crate::session::read_only;
use catalog::{Names, Scope};
pub use local::{Answer, Local};
use message::planning_error;
pub(crate) use message::{in_our_words, message};
pub(crate) use reached::reached;

/// A table as SQL sees it.
#[derive(Debug, Clone)]
pub(crate) struct TableShape {
    /// Name in SQL.
    pub(crate) name: String,
    /// Columns.
    pub(crate) schema: SchemaRef,
    /// What reads the table; absent: it can be planned over and not read.
    pub(crate) provider: Option<Arc<dyn TableProvider>>,
}

/// A table that is SQL over earlier tables and views.
#[derive(Debug, Clone)]
pub(crate) struct ViewText {
    /// Name in SQL.
    pub(crate) name: String,
    /// The query.
    pub(crate) sql: String,
    /// Its place in the job file, for errors.
    pub(crate) path: String,
}

/// Views of a document as they are planned.
pub(crate) fn view_texts(views: &[crate::dataset::View]) -> Vec<ViewText> {
    let text = |view: &crate::dataset::View| ViewText {
        name: view.name.clone(),
        sql: view.sql.clone(),
        path: format!("tables.{}.sql", view.name),
    };
    views.iter().map(text).collect()
}

/// What a query needs to be computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum QueryShape {
    /// It scans, filters and projects one table: every row can be computed where its file lies.
    RowWise {
        /// The table.
        table: String,
        /// True where a filter may drop rows.
        filtered: bool,
    },
    /// Anything else.
    General,
}

/// A query that passed.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    /// The plan as written, views inlined, made reproducible, not optimised.
    pub(crate) plan: LogicalPlan,
    /// What it needs.
    pub(crate) shape: QueryShape,
    /// Base tables that it reads.
    pub(crate) tables: BTreeSet<String>,
    /// True where the result depends on the pinned time.
    pub(crate) uses_now: bool,
    /// Parameters of the job that it takes.
    pub(crate) params: BTreeSet<String>,
    /// What deserves attention and stops nothing; each begins with its place.
    pub(crate) warnings: Vec<String>,
}

/// Plans a query over tables and views; `path` names it in errors. A view sees the tables and the views before it. The
/// order of a top-level ORDER BY is kept: whoever stores rows drops it with [`Query::unordered`].
pub(crate) async fn plan(
    session: &SessionContext,
    tables: &[TableShape],
    views: &[ViewText],
    sql: &str,
    values: &BTreeMap<String, Param>,
    now_ns: i64,
    path: &str,
) -> Result<Query, JobError> {
    let mut scope = Scope::new(session, tables)?;
    let mut known = Names::default();
    for view in views {
        let Planned { query, relations } = one(&scope, &known, &view.sql, values, now_ns, &view.path).await?;
        let planned = Planned { query: query.unordered(&view.path), relations };
        known.add(view, &planned);
        scope.add_view(view, planned.query.plan)?;
    }
    let planned = one(&scope, &known, sql, values, now_ns, path).await?;
    Ok(planned.query)
}

/// A planned text, and how much it weighs.
struct Planned {
    query: Query,
    /// Base tables that it reads, each as often as it does.
    relations: u64,
}

async fn one(
    scope: &Scope,
    known: &Names,
    sql: &str,
    values: &BTreeMap<String, Param>,
    now_ns: i64,
    path: &str,
) -> Result<Planned, JobError> {
    let mut statement = text::parse(sql, path)?;
    let seen = text::inspect(&mut statement, known, path)?;
    let used = params::bind(&mut statement, values, now_ns, path)?;
    let statement = Statement::Statement(Box::new(statement));
    let plan = scope.state.statement_to_plan(statement).await.map_err(|e| planning_error(&e, scope, path))?;
    read_only().verify_plan(&plan).map_err(|e| JobError::at(path, message(&e)))?;
    limits::check(&plan, path)?;
    let plan = rules::apply(plan, scope.state.config_options(), path)?;
    let inherited = known.of(&seen.views);
    let mut query = Query {
        shape: shape::of(&plan),
        tables: base_tables(&plan).map_err(|e| JobError::at(path, message(&e)))?,
        plan,
        uses_now: seen.clock || used.clock || inherited.uses_now,
        params: inherited.params,
        warnings: inherited.warnings,
    };
    query.params.extend(used.names);
    Ok(Planned { query, relations: seen.relations })
}

impl Query {
    /// The same rows without an order of their own. Stored rows have the canonical order, and a view has none: a
    /// top-level ORDER BY without LIMIT is dropped with a warning.
    pub(crate) fn unordered(mut self, path: &str) -> Self {
        if let Some(plan) = shape::without_order(&self.plan) {
            self.shape = shape::of(&plan);
            self.plan = plan;
            self.warnings.push(format!("{path}: ORDER BY without LIMIT has no effect: stored rows have an order of their own"));
        }
        self
    }

    /// The one table of a row-wise query, or why it is none.
    pub(crate) fn row_wise(&self, path: &str) -> Result<&str, JobError> {
        match &self.shape {
            QueryShape::RowWise { table, .. } => Ok(table),
            QueryShape::General => {
                let error = text::unsupported(path, shape::why_general(&self.plan));
                Err(error.hint("a query may filter rows and compute columns of one table: SELECT … FROM table WHERE …"))
            }
        }
    }

    /// True where a row-wise query may drop rows.
    pub(crate) fn filtered(&self) -> bool {
        matches!(self.shape, QueryShape::RowWise { filtered: true, .. })
    }
}

fn base_tables(plan: &LogicalPlan) -> Result<BTreeSet<String>, datafusion::common::DataFusionError> {
    let mut tables = BTreeSet::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            tables.insert(scan.table_name.table().to_owned());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(tables)
}

/// A query for all rows of a table.
pub(crate) fn whole_table(name: &str) -> String {
    format!("SELECT * FROM \"{}\"", name.replace('"', "\"\""))
}
