//! LIMIT and OFFSET take the first rows of an order; without a total one, which rows these are would be chance.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::{Distinct, FetchType, Limit, LogicalPlan, SkipType};

use super::refuse;
use super::ties::break_by_columns;
use super::wanted::{Wanted, of_inputs};

/// Makes the order below a limit total, or refuses a limit without one.
pub(super) fn rewrite(mut limit: Limit, wanted: &Wanted) -> Result<Transformed<LogicalPlan>> {
    match (limit.get_fetch_type()?, limit.get_skip_type()?) {
        (FetchType::Literal(Some(0)), _) => return Ok(Transformed::no(LogicalPlan::Limit(limit))),
        // Without it a correlated subquery can be turned into a join.
        (FetchType::Literal(_), SkipType::Literal(0)) if one_row(&limit.input) => {
            return Ok(Transformed::yes(Arc::unwrap_or_clone(limit.input)));
        }
        _ if one_row(&limit.input) => return Ok(Transformed::no(LogicalPlan::Limit(limit))),
        _ => {}
    }
    match total(&limit.input, wanted)? {
        Some(input) => {
            limit.input = Arc::new(input);
            Ok(Transformed::yes(LogicalPlan::Limit(limit)))
        }
        None => refuse(
            "LIMIT, OFFSET or FETCH without ORDER BY takes arbitrary rows",
            "add ORDER BY beside it; to take a sample use WHERE hash_random(seed, key) < fraction",
        ),
    }
}

/// Makes the order of the result total where it has one.
pub(super) fn total_at_the_top(plan: LogicalPlan) -> Result<LogicalPlan> {
    match matches!(plan, LogicalPlan::Sort(_) | LogicalPlan::Projection(_)) {
        true => Ok(total(&plan, &Wanted::All)?.unwrap_or(plan)),
        false => Ok(plan),
    }
}

/// The plan with a total order; `None` where it has no order of its own.
fn total(plan: &LogicalPlan, wanted: &Wanted) -> Result<Option<LogicalPlan>> {
    match plan {
        LogicalPlan::Sort(sort) => {
            let mut sort = sort.clone();
            break_by_columns(&mut sort.expr, sort.input.schema(), wanted, &[])?;
            Ok(Some(LogicalPlan::Sort(sort)))
        }
        // Its rows come out in the order of the ON expressions, and no two agree in these.
        LogicalPlan::Distinct(Distinct::On(node)) if node.sort_expr.is_some() => Ok(Some(plan.clone())),
        // Columns that only the order needs are projected away above it.
        LogicalPlan::Projection(node) => {
            let inner = of_inputs(plan, wanted).pop().unwrap_or(Wanted::All);
            let Some(input) = total(&node.input, &inner)? else { return Ok(None) };
            let mut node = node.clone();
            node.input = Arc::new(input);
            Ok(Some(LogicalPlan::Projection(node)))
        }
        _ => Ok(None),
    }
}

/// True for an aggregate over all rows: it has one row however many there are.
fn one_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Aggregate(node) => node.group_expr.is_empty(),
        LogicalPlan::EmptyRelation(_) => true,
        LogicalPlan::Projection(node) => one_row(&node.input),
        LogicalPlan::Filter(node) => one_row(&node.input),
        LogicalPlan::SubqueryAlias(node) => one_row(&node.input),
        LogicalPlan::Sort(node) => one_row(&node.input),
        _ => false,
    }
}
