//! How large a plan may be, so that planning takes a bounded time and evaluation a bounded stack. The optimiser puts the
//! expressions of one step into those of the next: `a + a AS a` in thirty nested SELECTs would become a thousand million
//! terms. So every expression is weighed as if all that it reads were put in.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion, TreeNodeVisitor};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::{Expr, LogicalPlan};

use super::message;
use crate::job::JobError;

/// Steps of a plan, views and WITH parts inlined.
const MAX_NODES: usize = 4_000;
/// Columns of one step.
const MAX_COLUMNS: usize = 20_000;
/// Columns of all steps.
const MAX_ALL_COLUMNS: usize = 1_000_000;
/// Columns of all joins, each with those of both its sides: the optimiser's time grows with their square.
const MAX_JOINED_COLUMNS: usize = 50_000;
/// Operators and calls above each other. Evaluating and printing take a few KiB of stack for each.
const MAX_DEPTH: u64 = 250;
/// Operators, calls and columns of one expression.
const MAX_TERMS: u64 = 20_000;
/// The same of all expressions of a plan.
const MAX_ALL_TERMS: u64 = 2_000_000;

/// An error where a plan is too large.
pub(super) fn check(plan: &LogicalPlan, path: &str) -> Result<(), JobError> {
    let failed = |e| JobError::at(path, message(&e));
    check_size(plan, path)?;
    let mut scales = Scales::default();
    plan.visit_with_subqueries(&mut scales).map_err(failed)?;
    let Heaviest { depth, terms, all } = scales.heaviest;
    let remedy = "compute parts of it in a job of their own, which writes them";
    if depth > MAX_DEPTH {
        let what =
            format!("too many operators above each other, with what the query's steps put in ({depth}, at most {MAX_DEPTH})");
        return Err(JobError::at(path, what).hint(remedy));
    }
    if terms > MAX_TERMS || all > MAX_ALL_TERMS {
        let what = format!("an expression has {terms} terms with what the query's steps put in, at most {MAX_TERMS} are allowed");
        let all = format!("the query's expressions have {all} terms, at most {MAX_ALL_TERMS} are allowed");
        return Err(JobError::at(path, if terms > MAX_TERMS { what } else { all }).hint(remedy));
    }
    Ok(())
}

/// Counts before anything is computed of the plan, and stops where there is too much: a plan may be a small graph with
/// many paths.
fn check_size(plan: &LogicalPlan, path: &str) -> Result<(), JobError> {
    let (mut steps, mut widest, mut columns, mut joined) = (0, 0, 0, 0);
    let walk = plan.apply_with_subqueries(|node| {
        let width = node.schema().fields().len();
        (steps, widest, columns) = (steps + 1, width.max(widest), columns + width);
        joined += if matches!(node, LogicalPlan::Join(_)) { width } else { 0 };
        let enough = steps > MAX_NODES || widest > MAX_COLUMNS || columns > MAX_ALL_COLUMNS || joined > MAX_JOINED_COLUMNS;
        Ok(if enough { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    walk.map_err(|e| JobError::at(path, message(&e)))?;
    let what = match () {
        () if steps > MAX_NODES => format!("the query has more than {MAX_NODES} steps"),
        () if widest > MAX_COLUMNS => format!("a step of the query has {widest} columns, at most {MAX_COLUMNS} are allowed"),
        () if columns > MAX_ALL_COLUMNS => format!("the steps of the query have more than {MAX_ALL_COLUMNS} columns together"),
        () if joined > MAX_JOINED_COLUMNS => {
            format!("the joins of the query have more than {MAX_JOINED_COLUMNS} columns together")
        }
        () => return Ok(()),
    };
    Err(JobError::at(path, what).hint("split it into several jobs, or select fewer columns early"))
}

/// What a column stands for.
#[derive(Debug, Clone, Copy, Default)]
struct Weight {
    depth: u64,
    terms: u64,
}

#[derive(Debug, Default)]
struct Heaviest {
    depth: u64,
    terms: u64,
    all: u64,
}

/// Weighs a plan from its leaves up.
#[derive(Default)]
struct Scales {
    /// Weights of the columns of each node that is done and whose parent is not.
    done: Vec<Vec<Weight>>,
    /// How many were done when each open node was met.
    open: Vec<usize>,
    heaviest: Heaviest,
}

impl<'n> TreeNodeVisitor<'n> for Scales {
    type Node = LogicalPlan;

    fn f_down(&mut self, _node: &'n LogicalPlan) -> Result<TreeNodeRecursion> {
        self.open.push(self.done.len());
        Ok(TreeNodeRecursion::Continue)
    }

    fn f_up(&mut self, node: &'n LogicalPlan) -> Result<TreeNodeRecursion> {
        let below = self.done.split_off(self.open.pop().unwrap_or_default());
        // Those of subqueries came first; they are read as one value.
        let inputs = &below[below.len().saturating_sub(node.inputs().len())..];
        let joined: Vec<Weight> = inputs.iter().flatten().copied().collect();
        let schema = joined_schema(node)?;
        let exprs = node.expressions();
        let mut weights = Vec::with_capacity(exprs.len());
        for expr in &exprs {
            let weight = weigh(expr, &schema, &joined)?;
            self.heaviest.depth = self.heaviest.depth.max(weight.depth);
            self.heaviest.terms = self.heaviest.terms.max(weight.terms);
            self.heaviest.all = self.heaviest.all.saturating_add(weight.terms);
            weights.push(weight);
        }
        self.done.push(outputs(node, weights, inputs, joined));
        Ok(TreeNodeRecursion::Continue)
    }
}

/// Weights of a node's columns. What an aggregate, a window or a scan gives is computed there and put in nowhere.
fn outputs(node: &LogicalPlan, exprs: Vec<Weight>, inputs: &[Vec<Weight>], joined: Vec<Weight>) -> Vec<Weight> {
    let width = node.schema().fields().len();
    let mut columns = match node {
        LogicalPlan::Projection(_) => exprs,
        LogicalPlan::Aggregate(aggregate) => exprs.into_iter().take(aggregate.group_expr.len()).collect(),
        LogicalPlan::Union(_) => {
            let heavier = |i: usize| {
                let all = inputs.iter().filter_map(|input| input.get(i));
                all.fold(Weight::default(), |a, b| Weight { depth: a.depth.max(b.depth), terms: a.terms.max(b.terms) })
            };
            (0..width).map(heavier).collect()
        }
        _ => joined,
    };
    columns.resize(width, Weight { depth: 0, terms: 1 });
    columns
}

/// Columns of all inputs, side by side.
fn joined_schema(node: &LogicalPlan) -> Result<DFSchema> {
    match node {
        LogicalPlan::Join(join) => join.left.schema().join(join.right.schema()),
        other => Ok(other.inputs().first().map_or_else(DFSchema::empty, |input| input.schema().as_ref().clone())),
    }
}

fn weigh(expr: &Expr, schema: &DFSchema, columns: &[Weight]) -> Result<Weight> {
    struct Walk<'a> {
        schema: &'a DFSchema,
        columns: &'a [Weight],
        above: u64,
        found: Weight,
    }
    impl<'n> TreeNodeVisitor<'n> for Walk<'_> {
        type Node = Expr;

        fn f_down(&mut self, expr: &'n Expr) -> Result<TreeNodeRecursion> {
            let inner = match expr {
                Expr::Column(column) => {
                    let known = self.schema.maybe_index_of_column(column).and_then(|i| self.columns.get(i));
                    known.copied().unwrap_or(Weight { depth: 0, terms: 1 })
                }
                Expr::Literal(..) | Expr::Alias(_) => Weight { depth: 0, terms: 1 },
                _ => {
                    self.above += 1;
                    Weight { depth: 0, terms: 1 }
                }
            };
            self.found.depth = self.found.depth.max(self.above.saturating_add(inner.depth));
            self.found.terms = self.found.terms.saturating_add(inner.terms);
            Ok(TreeNodeRecursion::Continue)
        }

        fn f_up(&mut self, expr: &'n Expr) -> Result<TreeNodeRecursion> {
            if !matches!(expr, Expr::Column(_) | Expr::Literal(..) | Expr::Alias(_)) {
                self.above -= 1;
            }
            Ok(TreeNodeRecursion::Continue)
        }
    }
    let mut walk = Walk { schema, columns, above: 0, found: Weight::default() };
    expr.visit(&mut walk)?;
    Ok(walk.found)
}
