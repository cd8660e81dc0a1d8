//! Window functions that count or pick rows need a total order; those that compare with peers must not get one.

use std::cmp::Reverse;
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::generate_sort_key;
use datafusion::logical_expr::{
    Expr, LogicalPlan, SortExpr, Window, WindowFrame, WindowFrameBound, WindowFrameUnits, WindowFunctionDefinition,
};

use super::aggregates::{Kind, kind};
use super::ties::break_by_columns;
use super::wanted::{Wanted, of_inputs};
use super::{refuse, restore};

/// Window functions that count rows or pick one.
const BY_ROW: [&str; 7] = ["first_value", "lag", "last_value", "lead", "nth_value", "ntile", "row_number"];
/// Window functions that compare a row with its peers.
const BY_PEERS: [&str; 4] = ["cume_dist", "dense_rank", "percent_rank", "rank"];

/// What a window function asks of its order.
enum Needs {
    /// Nothing: peers are the meaning, or any order gives the same.
    Nothing,
    /// A total order, whatever its frame.
    Total,
    /// A total order where its frame counts rows.
    TotalForRows,
}

/// Applies the rules to a window node. `wanted`: columns of its output that are read.
pub(super) fn rewrite(node: Window, wanted: &Wanted) -> Result<Transformed<LogicalPlan>> {
    let plan = LogicalPlan::Window(node);
    let wanted = of_inputs(&plan, wanted).pop().unwrap_or(Wanted::All);
    let LogicalPlan::Window(node) = plan else { return Ok(Transformed::no(plan)) };
    let names = NamePreserver::new_for_projection();
    let mut exprs = Vec::with_capacity(node.window_expr.len());
    for expr in &node.window_expr {
        let saved = names.save(expr);
        exprs.push(saved.restore(function(expr.clone(), &node, &wanted)?));
    }
    match exprs == node.window_expr {
        true => Ok(Transformed::no(LogicalPlan::Window(node))),
        false => Ok(Transformed::yes(rebuild(node, exprs)?)),
    }
}

fn function(expr: Expr, node: &Window, wanted: &Wanted) -> Result<Expr> {
    let mut call = match expr.unalias() {
        Expr::WindowFunction(call) => call,
        other => return Ok(other),
    };
    let total = match needs(&mut call)? {
        Needs::Nothing => false,
        Needs::Total => true,
        Needs::TotalForRows => counts_rows(&call.params.window_frame),
    };
    if total {
        order(&mut call, node, wanted)?;
    }
    Ok(Expr::WindowFunction(call))
}

fn needs(call: &mut WindowFunction) -> Result<Needs> {
    let name = call.fun.name().to_owned();
    match &call.fun {
        WindowFunctionDefinition::WindowUDF(_) => match name.as_str() {
            name if BY_ROW.contains(&name) => Ok(Needs::Total),
            name if BY_PEERS.contains(&name) => Ok(Needs::Nothing),
            _ => refuse(format!("the window function `{name}` is not known to give the same on every run"), "use another one"),
        },
        WindowFunctionDefinition::AggregateUDF(_) => match kind(&name)? {
            Kind::Commutative => Ok(Needs::TotalForRows),
            Kind::Ordered => Ok(Needs::Total),
            Kind::Exact(exact, arguments) => {
                call.fun = WindowFunctionDefinition::AggregateUDF(exact);
                call.params.args.truncate(arguments);
                Ok(Needs::TotalForRows)
            }
        },
    }
}

fn order(call: &mut WindowFunction, node: &Window, wanted: &Wanted) -> Result<()> {
    let name = call.fun.name().to_owned();
    if call.params.order_by.is_empty() {
        return refuse(
            format!("`{name}` over a window without ORDER BY depends on the order in which rows arrive"),
            format!("write {name}(…) OVER (PARTITION BY … ORDER BY …)"),
        );
    }
    let framed = !matches!(name.as_str(), "lag" | "lead" | "ntile" | "row_number");
    if framed && compares_values(&call.params.window_frame) {
        return refuse(
            format!("`{name}` over a RANGE or GROUPS frame with an offset picks arbitrarily among rows that tie"),
            "use a ROWS frame, or min and max instead",
        );
    }
    break_by_columns(&mut call.params.order_by, node.input.schema(), wanted, &call.params.partition_by)
}

/// True for a frame whose ends are so many rows away. One that spans the whole partition counts none.
fn counts_rows(frame: &WindowFrame) -> bool {
    frame.units == WindowFrameUnits::Rows && !(frame.start_bound.is_unbounded() && frame.end_bound.is_unbounded())
}

/// True for a frame whose ends lie so much away in values or groups of peers.
fn compares_values(frame: &WindowFrame) -> bool {
    let offset = |bound: &WindowFrameBound| *bound != WindowFrameBound::CurrentRow && !bound.is_unbounded();
    frame.units != WindowFrameUnits::Rows && (offset(&frame.start_bound) || offset(&frame.end_bound))
}

/// Window functions of one node must share their sort keys: each order gets a node, longest order first, so that the
/// shorter ones find their rows sorted already. A projection puts the columns back in their places.
fn rebuild(node: Window, exprs: Vec<Expr>) -> Result<LogicalPlan> {
    let before = Arc::clone(&node.schema);
    let mut groups: Vec<(SortKey, Vec<Expr>)> = Vec::new();
    for expr in exprs {
        let key = sort_key(&expr)?;
        match groups.iter_mut().find(|(k, _)| *k == key) {
            Some((_, group)) => group.push(expr),
            None => groups.push((key, vec![expr])),
        }
    }
    groups.sort_by_key(|(key, _)| Reverse(key.len()));
    let mut input = node.input;
    for (_, group) in groups {
        input = Arc::new(LogicalPlan::Window(Window::try_new(group, input)?));
    }
    restore::columns(Arc::unwrap_or_clone(input), &before)
}

/// Expressions that rows are sorted by, and which of them split the rows.
type SortKey = Vec<(SortExpr, bool)>;

fn sort_key(expr: &Expr) -> Result<SortKey> {
    match expr.clone().unalias() {
        Expr::WindowFunction(call) => generate_sort_key(&call.params.partition_by, &call.params.order_by),
        _ => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::stores::{StoreOptions, Stores};
    use datafusion::common::ScalarValue;

    #[test]
    fn every_window_function_of_the_session_has_been_thought_about() {
        let session = Stores::new(StoreOptions::default()).unwrap().session(0);
        for (name, function) in session.state().window_functions() {
            let known = BY_ROW.contains(&function.name()) || BY_PEERS.contains(&function.name());
            assert!(known, "{name}");
        }
    }

    #[test]
    fn frames_are_told_apart() {
        let frame = |units, start| WindowFrame::new_bounds(units, start, WindowFrameBound::CurrentRow);
        let unbounded = || WindowFrameBound::Preceding(ScalarValue::Null);
        let three = || WindowFrameBound::Preceding(ScalarValue::UInt64(Some(3)));
        assert!(counts_rows(&frame(WindowFrameUnits::Rows, three())) && counts_rows(&frame(WindowFrameUnits::Rows, unbounded())));
        assert!(!counts_rows(&frame(WindowFrameUnits::Range, three())));
        assert!(compares_values(&frame(WindowFrameUnits::Groups, three())));
        assert!(!compares_values(&frame(WindowFrameUnits::Range, unbounded())));
    }
}
