//! DISTINCT ON keeps the first row of each key: which one that is must not be chance.

use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::{Distinct, DistinctOn, LogicalPlan};

use super::refuse;
use super::ties::break_by_exprs;

/// Breaks the ties of its order by what is selected, or refuses it without an order.
pub(super) fn rewrite(mut node: DistinctOn) -> Result<Transformed<LogicalPlan>> {
    let Some(order) = &mut node.sort_expr else {
        return refuse(
            "DISTINCT ON without ORDER BY keeps arbitrary rows",
            "add ORDER BY with the expressions of ON first, then what decides which row is kept",
        );
    };
    break_by_exprs(order, &node.select_expr, node.input.schema())?;
    Ok(Transformed::yes(LogicalPlan::Distinct(Distinct::On(node))))
}
