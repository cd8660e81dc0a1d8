//! User SQL: parsed, bound, planned and held to what is supported. A query that passes is row-wise: it scans,
//! filters and projects one table, so that every row can be computed where its file lies.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, SchemaError, TableReference};
use datafusion::datasource::TableType;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{self, TableFactor, Visit, Visitor};

use crate::job::{JobError, Param};
use crate::session::{MAX_SQL_BYTES, MAX_SQL_DEPTH, read_only};
use crate::{functions, operators, params};

/// A table as SQL sees it.
#[derive(Debug, Clone)]
pub(crate) struct TableShape {
    /// Name in SQL.
    pub(crate) name: String,
    /// Columns.
    pub(crate) schema: SchemaRef,
}

/// A query that passed.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    /// The plan as written, not optimised.
    pub(crate) plan: LogicalPlan,
    /// Name of the one table it reads.
    pub(crate) table: String,
    /// True where a filter may drop rows.
    pub(crate) filtered: bool,
    /// True where the result depends on the pinned time.
    pub(crate) uses_now: bool,
    /// Parameters of the job that it takes.
    pub(crate) params: BTreeSet<String>,
}

/// Plans a query over tables; `path` names it in errors.
pub(crate) async fn plan(
    session: &SessionContext,
    tables: &[TableShape],
    sql: &str,
    values: &BTreeMap<String, Param>,
    now_ns: i64,
    path: &str,
) -> Result<Query, JobError> {
    let mut statement = parse(sql, path)?;
    let calls_clock = inspect(&statement, path)?;
    let used = params::bind(&mut statement, values, now_ns, path)?;
    for table in tables {
        let shape = Arc::new(Shape(Arc::clone(&table.schema)));
        let registered = session.register_table(TableReference::bare(table.name.as_str()), shape);
        registered.map_err(|e| JobError::at(format!("tables.{}", table.name), message(&e)))?;
    }
    let statement = Statement::Statement(Box::new(statement));
    let plan = session.state().statement_to_plan(statement).await.map_err(|e| planning_error(&e, tables, path))?;
    read_only().verify_plan(&plan).map_err(|e| JobError::at(path, message(&e)))?;
    let (mut found, mut filtered) = (Vec::new(), false);
    check_node(&plan, tables, path, &mut found, &mut filtered)?;
    match found.as_slice() {
        [table] => {
            let (table, uses_now) = (table.clone(), calls_clock || used.clock);
            Ok(Query { plan, table, filtered, uses_now, params: used.names })
        }
        _ => Err(JobError::at(path, "the query must read exactly one table")),
    }
}

/// A query for all rows of a table.
pub(crate) fn whole_table(name: &str) -> String {
    format!("SELECT * FROM \"{}\"", name.replace('"', "\"\""))
}

fn parse(sql: &str, path: &str) -> Result<ast::Statement, JobError> {
    if sql.len() > MAX_SQL_BYTES {
        return Err(JobError::at(path, format!("the SQL has {} bytes, at most {MAX_SQL_BYTES} are allowed", sql.len())));
    }
    operators::check(sql, path)?;
    let mut parser =
        DFParserBuilder::new(sql).with_recursion_limit(MAX_SQL_DEPTH).build().map_err(|e| JobError::at(path, message(&e)))?;
    let mut statements = parser.parse_statements().map_err(|e| JobError::at(path, message(&e)))?;
    let first = statements.pop_front().ok_or_else(|| JobError::at(path, "the SQL is empty"))?;
    if !statements.is_empty() {
        return Err(JobError::at(path, "more than one SQL statement").hint("keep one SELECT"));
    }
    match first {
        Statement::Statement(inner) if matches!(*inner, ast::Statement::Query(_)) => Ok(*inner),
        other => {
            let word = other.to_string().split_whitespace().next().unwrap_or("this").to_ascii_uppercase();
            Err(JobError::at(path, format!("{word} is not allowed")).hint("the SQL must be one SELECT"))
        }
    }
}

/// Looks at the parsed statement for what the planner would take or drop silently; true where it reads the clock.
fn inspect(statement: &ast::Statement, path: &str) -> Result<bool, JobError> {
    let mut visit = Inspect { clock: false };
    match statement.visit(&mut visit) {
        ControlFlow::Continue(()) => Ok(visit.clock),
        ControlFlow::Break(what) => Err(unsupported(path, what)),
    }
}

struct Inspect {
    clock: bool,
}

impl Visitor for Inspect {
    type Break = &'static str;

    fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<Self::Break> {
        if let ast::Expr::Function(call) = expr {
            let name = call.name.0.last().and_then(|part| part.as_ident());
            self.clock |= name.is_some_and(|n| functions::CLOCK.contains(&n.value.to_ascii_lowercase().as_str()));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &ast::Query) -> ControlFlow<Self::Break> {
        if !query.locks.is_empty() {
            return ControlFlow::Break("FOR UPDATE");
        }
        match query.body.as_select() {
            // A plan nests one level for each table: it is refused before there is a plan.
            Some(select) if select.from.len() > 1 || select.from.iter().any(|f| !f.joins.is_empty()) => {
                ControlFlow::Break("joins")
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Self::Break> {
        match factor {
            TableFactor::Table { args: Some(_), .. } | TableFactor::Function { .. } | TableFactor::TableFunction { .. } => {
                ControlFlow::Break("a table function")
            }
            TableFactor::Table { sample: Some(_), .. } | TableFactor::Derived { sample: Some(_), .. } => {
                ControlFlow::Break("TABLESAMPLE")
            }
            TableFactor::Table { version, partitions, with_hints, index_hints, .. }
                if version.is_some() || !partitions.is_empty() || !with_hints.is_empty() || !index_hints.is_empty() =>
            {
                ControlFlow::Break("a table hint or version")
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

fn unsupported(path: &str, what: &str) -> JobError {
    let verb = if what.ends_with('s') { "are" } else { "is" };
    JobError::at(path, format!("{what} {verb} not supported yet"))
        .hint("a query may filter rows and compute columns of one table: SELECT … FROM table WHERE …")
}

/// Walks a plan and refuses every node that is not row-wise.
fn check_node(
    plan: &LogicalPlan,
    tables: &[TableShape],
    path: &str,
    found: &mut Vec<String>,
    filtered: &mut bool,
) -> Result<(), JobError> {
    let refuse = |what| Err(unsupported(path, what));
    for expr in plan.expressions() {
        check_expr(&expr, path)?;
    }
    let input = match plan {
        LogicalPlan::Projection(p) => &p.input,
        LogicalPlan::SubqueryAlias(a) => &a.input,
        LogicalPlan::Filter(f) => {
            *filtered = true;
            &f.input
        }
        LogicalPlan::TableScan(scan) => {
            let name = scan.table_name.table().to_owned();
            if !tables.iter().any(|t| t.name == name) {
                return refuse("a table function");
            }
            found.push(name);
            return Ok(());
        }
        LogicalPlan::Join(_) => return refuse("joins"),
        LogicalPlan::Aggregate(_) => return refuse("aggregates"),
        LogicalPlan::Distinct(_) => return refuse("DISTINCT"),
        LogicalPlan::Window(_) => return refuse("window functions"),
        LogicalPlan::Union(_) => return refuse("UNION"),
        LogicalPlan::Sort(_) => return refuse("ORDER BY"),
        LogicalPlan::Limit(_) => return refuse("LIMIT"),
        LogicalPlan::Subquery(_) => return refuse("subqueries"),
        LogicalPlan::RecursiveQuery(_) => return refuse("recursive queries"),
        LogicalPlan::Unnest(_) => return refuse("UNNEST"),
        LogicalPlan::Values(_) => return refuse("VALUES"),
        LogicalPlan::EmptyRelation(_) => return refuse("a query without a table"),
        _ => return refuse("this kind of query"),
    };
    check_node(input, tables, path, found, filtered)
}

fn check_expr(expr: &Expr, path: &str) -> Result<(), JobError> {
    let mut refused = None;
    let walk = expr.apply(|node| {
        refused = match node {
            Expr::Exists(_) | Expr::InSubquery(_) | Expr::ScalarSubquery(_) | Expr::SetComparison(_) => Some("subqueries"),
            Expr::AggregateFunction(_) => Some("aggregates"),
            Expr::WindowFunction(_) => Some("window functions"),
            Expr::Unnest(_) => Some("UNNEST"),
            _ if node.is_volatile_node() => Some("functions that give other values on every run"),
            _ => None,
        };
        Ok(if refused.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    walk.map_err(|e| JobError::at(path, message(&e)))?;
    refused.map_or(Ok(()), |what| Err(unsupported(path, what)))
}

fn planning_error(error: &DataFusionError, tables: &[TableShape], path: &str) -> JobError {
    let text = message(error);
    let plain = JobError::at(path, text.clone());
    if let DataFusionError::SchemaError(inner, _) = error.find_root()
        && let SchemaError::FieldNotFound { field, .. } = inner.as_ref()
    {
        let columns: Vec<_> = tables.iter().flat_map(|t| t.schema.fields().iter().map(|f| f.name().as_str())).collect();
        return JobError::at(path, format!("column `{}` not found", field.flat_name())).hint(column_hint(field.name(), &columns));
    }
    if let Some(rest) = text.strip_prefix("table '") {
        let name = rest.split('\'').next().unwrap_or(rest).trim_start_matches("datafusion.public.");
        let names: Vec<_> = tables.iter().map(|t| t.name.as_str()).collect();
        return JobError::at(path, format!("table `{name}` not found")).hint(format!("known tables: {}", names.join(", ")));
    }
    plain
}

fn column_hint(name: &str, columns: &[&str]) -> String {
    if let Some(same) = columns.iter().find(|c| c.eq_ignore_ascii_case(name)) {
        return format!("names are case-sensitive: `{same}`");
    }
    let shown: Vec<_> = columns.iter().take(40).copied().collect();
    let more = if columns.len() > shown.len() { ", …" } else { "" };
    format!("known columns: {}{more}", shown.join(", "))
}

/// The message of a query error as ours are written: lower case, no prefix of its kind, no full stop.
pub(crate) fn message(error: &DataFusionError) -> String {
    let text = match error.find_root() {
        DataFusionError::Plan(m) | DataFusionError::NotImplemented(m) | DataFusionError::Execution(m) => m.clone(),
        DataFusionError::SQL(e, _) => e.to_string(),
        other => other.strip_backtrace(),
    };
    let first = text.split("\nbacktrace:").next().unwrap_or(&text).trim();
    let first = ["Error during planning: ", "Schema error: ", "Arrow error: ", "sql parser error: "]
        .iter()
        .fold(first, |t, prefix| t.strip_prefix(prefix).unwrap_or(t));
    let mut chars = first.trim_end_matches('.').chars();
    match chars.next() {
        Some(head) if chars.as_str().starts_with(|c: char| c.is_lowercase() || c == ' ') => {
            head.to_lowercase().chain(chars).collect()
        }
        Some(head) => std::iter::once(head).chain(chars).collect(),
        None => String::new(),
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
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        Err(DataFusionError::NotImplemented("tables are read by the shard reader".to_owned()))
    }
}
