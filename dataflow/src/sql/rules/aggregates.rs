//! Aggregates: those that depend on the order of their rows get a total one, approximations become exact, and what is
//! not known to be reproducible is refused.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::functions_aggregate::{median, percentile_cont};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Aggregate, AggregateUDF, Expr, LogicalPlan};

use super::ties::break_by_exprs;
use super::{refuse, restore};
use crate::functions;

/// Aggregates whose result depends on the order of their rows.
pub(super) const ORDERED: [&str; 5] = ["array_agg", "string_agg", "first_value", "last_value", "nth_value"];

/// Aggregates that give the same for their rows in any order and any grouping, floats included.
const COMMUTATIVE: [&str; 30] = [
    "approx_distinct",
    "avg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bool_and",
    "bool_or",
    "corr",
    "count",
    "covar_pop",
    "covar_samp",
    "grouping",
    "max",
    "median",
    "min",
    "percentile_cont",
    "regr_avgx",
    "regr_avgy",
    "regr_count",
    "regr_intercept",
    "regr_r2",
    "regr_slope",
    "regr_sxx",
    "regr_sxy",
    "regr_syy",
    "stddev",
    "stddev_pop",
    "sum",
    "var",
    "var_pop",
];

/// What is done with an aggregate function.
pub(super) enum Kind {
    /// Any order gives the same.
    Commutative,
    /// It needs a total order.
    Ordered,
    /// Another function says the same exactly; it takes the first so many arguments.
    Exact(Arc<AggregateUDF>, usize),
}

/// What is done with an aggregate function, by its name.
pub(super) fn kind(name: &str) -> Result<Kind> {
    match name {
        _ if ORDERED.contains(&name) => Ok(Kind::Ordered),
        _ if COMMUTATIVE.contains(&name) => Ok(Kind::Commutative),
        "any_value" => Ok(Kind::Exact(functions::extremes::min(), 1)),
        "approx_median" => Ok(Kind::Exact(median::median_udaf(), 1)),
        "approx_percentile_cont" => Ok(Kind::Exact(percentile_cont::percentile_cont_udaf(), 2)),
        "approx_percentile_cont_with_weight" => refuse(
            "`approx_percentile_cont_with_weight` depends on the order in which its parts are merged",
            "use percentile_cont over rows that stand as often as their weight says",
        ),
        other => refuse(format!("the aggregate `{other}` is not known to give the same on every run"), "use another one"),
    }
}

/// Applies the rules to the functions of an aggregate node. Names and types of its columns stay.
pub(super) fn rewrite(node: Aggregate) -> Result<Transformed<LogicalPlan>> {
    let names = NamePreserver::new_for_projection();
    let mut exprs = Vec::with_capacity(node.aggr_expr.len());
    for expr in &node.aggr_expr {
        let saved = names.save(expr);
        exprs.push(saved.restore(function(expr.clone(), &node)?));
    }
    if exprs == node.aggr_expr {
        return Ok(Transformed::no(LogicalPlan::Aggregate(node)));
    }
    let before = Arc::clone(&node.schema);
    let node = Aggregate::try_new(node.input, node.group_expr, exprs)?;
    Ok(Transformed::yes(restore::columns(LogicalPlan::Aggregate(node), &before)?))
}

fn function(expr: Expr, node: &Aggregate) -> Result<Expr> {
    let mut call = match expr.unalias() {
        Expr::AggregateFunction(call) => call,
        other => return Ok(other),
    };
    match kind(call.func.name())? {
        Kind::Commutative => {}
        Kind::Ordered => order(&mut call, node)?,
        Kind::Exact(exact, arguments) => {
            call.func = exact;
            call.params.args.truncate(arguments);
        }
    }
    Ok(Expr::AggregateFunction(call))
}

/// Rows that agree in the order and in the arguments are interchangeable to the function.
fn order(call: &mut AggregateFunction, node: &Aggregate) -> Result<()> {
    if call.params.order_by.is_empty() {
        let name = call.func.name();
        let distinct = if call.params.distinct { "DISTINCT " } else { "" };
        return refuse(
            format!("`{name}` without ORDER BY depends on the order in which rows arrive"),
            format!("write {name}({distinct}x … ORDER BY x …)"),
        );
    }
    break_by_exprs(&mut call.params.order_by, &call.params.args, node.input.schema())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::stores::{StoreOptions, Stores};

    #[test]
    fn every_aggregate_of_the_session_has_been_thought_about() {
        let session = Stores::new(StoreOptions::default()).unwrap().session(0);
        for (name, function) in session.state().aggregate_functions() {
            let refused = kind(function.name()).is_err();
            assert_eq!(refused, function.name() == "approx_percentile_cont_with_weight", "{name}");
        }
    }
}
