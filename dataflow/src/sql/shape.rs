//! What a plan needs: row-wise over one table, or anything else, and the first reason why.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan};

use super::QueryShape;

/// The shape of a plan.
pub(super) fn of(plan: &LogicalPlan) -> QueryShape {
    let mut walk = Walk::default();
    match (walk.node(plan), walk.table) {
        (Ok(()), Some(table)) => QueryShape::RowWise { table, filtered: walk.filtered },
        _ => QueryShape::General,
    }
}

/// The first thing in a plan that is not row-wise.
pub(super) fn why_general(plan: &LogicalPlan) -> &'static str {
    Walk::default().node(plan).err().unwrap_or("this kind of query")
}

/// The plan below a top-level ORDER BY that cuts nothing off; `None` where there is none.
pub(super) fn without_order(plan: &LogicalPlan) -> Option<LogicalPlan> {
    match plan {
        LogicalPlan::Sort(sort) if sort.fetch.is_none() => Some(sort.input.as_ref().clone()),
        // Columns that only the order needs are projected away above it.
        LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) => {
            let [input] = plan.inputs()[..] else { return None };
            let input = without_order(input)?;
            plan.with_new_exprs(plan.expressions(), vec![input]).ok()
        }
        _ => None,
    }
}

#[derive(Default)]
struct Walk {
    table: Option<String>,
    filtered: bool,
}

impl Walk {
    fn node(&mut self, plan: &LogicalPlan) -> Result<(), &'static str> {
        for expr in plan.expressions() {
            row_wise(&expr)?;
        }
        match plan {
            LogicalPlan::Projection(p) => self.node(&p.input),
            LogicalPlan::SubqueryAlias(a) => self.node(&a.input),
            LogicalPlan::Filter(f) => {
                self.filtered = true;
                self.node(&f.input)
            }
            LogicalPlan::TableScan(scan) => {
                self.table = Some(scan.table_name.table().to_owned());
                Ok(())
            }
            other => Err(name(other)),
        }
    }
}

fn name(plan: &LogicalPlan) -> &'static str {
    match plan {
        LogicalPlan::Join(_) => "joins",
        LogicalPlan::Aggregate(_) => "aggregates",
        LogicalPlan::Distinct(_) => "DISTINCT",
        LogicalPlan::Window(_) => "window functions",
        LogicalPlan::Union(_) => "UNION",
        LogicalPlan::Sort(_) => "ORDER BY",
        LogicalPlan::Limit(_) => "LIMIT",
        LogicalPlan::Subquery(_) => "subqueries",
        LogicalPlan::RecursiveQuery(_) => "recursive queries",
        LogicalPlan::Unnest(_) => "UNNEST",
        LogicalPlan::Values(_) => "VALUES",
        LogicalPlan::EmptyRelation(_) => "a query without a table",
        _ => "this kind of query",
    }
}

fn row_wise(expr: &Expr) -> Result<(), &'static str> {
    let mut refused = None;
    let walk = expr.apply(|node| {
        refused = match node {
            Expr::Exists(_) | Expr::InSubquery(_) | Expr::ScalarSubquery(_) | Expr::SetComparison(_) => Some("subqueries"),
            Expr::AggregateFunction(_) => Some("aggregates"),
            Expr::WindowFunction(_) => Some("window functions"),
            Expr::Unnest(_) => Some("UNNEST"),
            _ => None,
        };
        Ok(if refused.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    match (walk, refused) {
        (Ok(_), None) => Ok(()),
        (_, what) => Err(what.unwrap_or("this kind of query")),
    }
}
