//! Functions that give something else on every run, or that speak of the program and its files, are refused.

use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};

use super::refuse;

/// Functions of the place where rows happen to lie, and of the build.
const OF_THE_PLACE: [&str; 3] = ["input_file_name", "file_row_index", "version"];

/// An error where an expression of the plan or its subqueries does not depend on its arguments alone.
pub(super) fn check(plan: &LogicalPlan) -> Result<()> {
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| expr.apply(check_node))?;
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

fn check_node(expr: &Expr) -> Result<TreeNodeRecursion> {
    let (name, volatility) = match expr {
        Expr::ScalarFunction(f) => (f.func.name(), f.func.signature().volatility),
        Expr::AggregateFunction(f) => (f.func.name(), f.func.signature().volatility),
        Expr::WindowFunction(f) => (f.fun.name(), f.fun.signature().volatility),
        _ => return Ok(TreeNodeRecursion::Continue),
    };
    if OF_THE_PLACE.contains(&name) {
        return refuse(
            format!("`{name}()` depends on where the data lies or on the program"),
            "keep what it would tell in a column of the data",
        );
    }
    match volatility {
        Volatility::Immutable => Ok(TreeNodeRecursion::Continue),
        Volatility::Stable | Volatility::Volatile => refuse(
            format!("`{name}()` gives other values on every run"),
            "hash_random(seed, key, …) gives numbers in [0, 1) that depend on the seed and on the key columns alone",
        ),
    }
}
