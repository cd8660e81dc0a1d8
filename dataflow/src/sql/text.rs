//! The text before it is a plan: one SELECT, not too long or deep, of not too many tables, and nothing in it that the
//! planner would take and silently drop.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{
    self, GroupByExpr, LimitClause, ObjectName, SetExpr, SetOperator, SetQuantifier, TableFactor, VisitMut, VisitorMut,
};

use super::catalog::Names;
use super::message;
use crate::job::JobError;
use crate::session::{MAX_SQL_BYTES, MAX_SQL_DEPTH};
use crate::{functions, operators};

/// Tables that a query may read, each counted as often as it stands in the query, its views and its WITH parts.
pub(super) const MAX_RELATIONS: u64 = 100;

/// The one SELECT of a text.
pub(super) fn parse(sql: &str, path: &str) -> Result<ast::Statement, JobError> {
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

/// What a text mentions.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// It reads the clock.
    pub(super) clock: bool,
    /// Views that it may read.
    pub(super) views: BTreeSet<String>,
    /// Base tables that it reads, each as often as it does.
    pub(super) relations: u64,
}

/// Looks at the parsed statement for what the planner would take or drop silently. FETCH becomes LIMIT.
pub(super) fn inspect(statement: &mut ast::Statement, known: &Names, path: &str) -> Result<Seen, JobError> {
    let mut visit =
        Inspect { known, clock: false, views: BTreeSet::new(), parts: BTreeMap::new(), defined: Vec::new(), open: vec![0] };
    if let ControlFlow::Break(what) = statement.visit(&mut visit) {
        return Err(unsupported(path, what).hint("leave it out: the SQL is one SELECT over the job's tables"));
    }
    let relations = visit.open.iter().fold(0, |sum: u64, n| sum.saturating_add(*n));
    if relations > MAX_RELATIONS {
        let error = JobError::at(path, format!("the query reads {relations} tables, at most {MAX_RELATIONS} are allowed"));
        return Err(error.hint("views and WITH parts count each time they are named: split the job, or write one of them first"));
    }
    Ok(Seen { clock: visit.clock, views: visit.views, relations })
}

struct Inspect<'a> {
    known: &'a Names,
    clock: bool,
    views: BTreeSet<String>,
    /// Tables behind the WITH parts met so far, by name; where one name stands for several, the most.
    parts: BTreeMap<String, u64>,
    /// Queries that define WITH parts, by address, and the name of the part.
    defined: Vec<(*const ast::Query, String)>,
    /// Tables counted in each query that is being visited.
    open: Vec<u64>,
}

impl VisitorMut for Inspect<'_> {
    type Break = &'static str;

    fn pre_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<Self::Break> {
        if let ast::Expr::Function(call) = expr {
            let name = call.name.0.last().and_then(|part| part.as_ident());
            self.clock |= name.is_some_and(|n| functions::CLOCK.contains(&n.value.to_ascii_lowercase().as_str()));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<Self::Break> {
        self.open.push(0);
        if let Some(with) = &query.with {
            let parts =
                with.cte_tables.iter().map(|part| (std::ptr::from_ref(part.query.as_ref()), part.alias.name.value.clone()));
            self.defined.extend(parts);
        }
        if let Some(what) = dropped(query) {
            return ControlFlow::Break(what);
        }
        fetch_as_limit(query)
    }

    fn post_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<Self::Break> {
        let count = self.open.pop().unwrap_or_default();
        let address = std::ptr::from_ref(query);
        match self.defined.iter().rposition(|(defined, _)| std::ptr::eq(*defined, address)) {
            Some(i) => {
                let (_, name) = self.defined.swap_remove(i);
                let most = self.parts.entry(name).or_default();
                *most = count.max(*most);
            }
            None => self.count(count),
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<Self::Break> {
        let Some(name) = relation.0.last().and_then(|part| part.as_ident()) else { return ControlFlow::Continue(()) };
        if self.known.has(&name.value) {
            self.views.insert(name.value.clone());
        }
        let part = self.parts.get(&name.value).copied().unwrap_or_default();
        self.count(part.max(self.known.relations(&name.value)));
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Self::Break> {
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

impl Inspect<'_> {
    fn count(&mut self, relations: u64) {
        if let Some(open) = self.open.last_mut() {
            *open = open.saturating_add(relations);
        }
    }
}

/// A clause that is parsed and then lost, or that would not end.
fn dropped(query: &ast::Query) -> Option<&'static str> {
    let select = query.body.as_select();
    let found = [
        (!query.locks.is_empty(), "FOR UPDATE"),
        (query.for_clause.is_some(), "FOR XML, JSON or BROWSE"),
        (query.settings.is_some(), "SETTINGS"),
        (query.format_clause.is_some(), "FORMAT"),
        (query.with.as_ref().is_some_and(|w| w.recursive), "WITH RECURSIVE"),
        (all_occurrences(&query.body), "EXCEPT ALL or INTERSECT ALL"),
        (select.is_some_and(|s| s.prewhere.is_some()), "PREWHERE"),
        (select.is_some_and(|s| !s.connect_by.is_empty()), "CONNECT BY"),
        (select.is_some_and(|s| !s.distribute_by.is_empty()), "DISTRIBUTE BY"),
        (select.is_some_and(|s| s.value_table_mode.is_some()), "SELECT AS STRUCT or VALUE"),
        (select.is_some_and(|s| modified(&s.group_by)), "a modifier after GROUP BY"),
    ];
    found.into_iter().find(|(there, _)| *there).map(|(_, what)| what)
}

/// True for a set operation that counts occurrences: the planner would take it for one that does not.
fn all_occurrences(body: &SetExpr) -> bool {
    match body {
        SetExpr::SetOperation { op, set_quantifier: SetQuantifier::All | SetQuantifier::AllByName, .. }
            if *op != SetOperator::Union =>
        {
            true
        }
        SetExpr::SetOperation { left, right, .. } => all_occurrences(left) || all_occurrences(right),
        _ => false,
    }
}

fn modified(group_by: &GroupByExpr) -> bool {
    match group_by {
        GroupByExpr::All(modifiers) | GroupByExpr::Expressions(_, modifiers) => !modifiers.is_empty(),
    }
}

/// `FETCH FIRST n ROWS ONLY` is LIMIT n in the words of the standard.
fn fetch_as_limit(query: &mut ast::Query) -> ControlFlow<&'static str> {
    let Some(fetch) = query.fetch.take() else { return ControlFlow::Continue(()) };
    if fetch.with_ties || fetch.percent {
        return ControlFlow::Break("FETCH with PERCENT or WITH TIES");
    }
    let rows = fetch.quantity.unwrap_or_else(|| ast::Expr::value(ast::Value::Number("1".to_owned(), false)));
    let offset = match query.limit_clause.take() {
        None => None,
        Some(LimitClause::LimitOffset { limit: None, offset, limit_by }) if limit_by.is_empty() => offset,
        Some(_) => return ControlFlow::Break("FETCH together with LIMIT"),
    };
    query.limit_clause = Some(LimitClause::LimitOffset { limit: Some(rows), offset, limit_by: Vec::new() });
    ControlFlow::Continue(())
}

/// An error for what cannot be done (yet).
pub(super) fn unsupported(path: &str, what: &str) -> JobError {
    let verb = if what.ends_with('s') { "are" } else { "is" };
    JobError::at(path, format!("{what} {verb} not supported yet"))
}
