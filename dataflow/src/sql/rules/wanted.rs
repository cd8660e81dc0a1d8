//! Which columns of each node anyone above it reads. Rows that agree in these are interchangeable, so an order needs to
//! tell apart no others: a table of 200 columns is not sorted by 200 columns for a window over two.

use std::collections::{BTreeSet, HashMap};
use std::mem::Discriminant;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, JoinType, Result};
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan};

/// Columns of a node's output by position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Every column.
    All,
    /// These.
    Some(BTreeSet<usize>),
}

impl Wanted {
    /// True for a column that is wanted.
    pub(super) fn has(&self, column: usize) -> bool {
        match self {
            Self::All => true,
            Self::Some(columns) => columns.contains(&column),
        }
    }

    fn with(self, other: Self) -> Self {
        match (self, other) {
            (Self::Some(a), Self::Some(b)) => Self::Some(&a | &b),
            _ => Self::All,
        }
    }

    /// Those from `start` to before `end`, counted from `start`.
    fn part(&self, start: usize, end: usize) -> Self {
        match self {
            Self::All => Self::All,
            Self::Some(columns) => Self::Some(columns.range(start..end).map(|c| c - start).collect()),
        }
    }
}

/// What is wanted of every node of a plan and its subqueries, in the order in which a rewriter meets them.
pub(super) struct Plan {
    nodes: Vec<(Discriminant<LogicalPlan>, usize, Wanted)>,
    next: usize,
}

impl Plan {
    pub(super) fn of(plan: &LogicalPlan) -> Result<Self> {
        let (mut nodes, mut known) = (Vec::new(), HashMap::<*const LogicalPlan, Wanted>::new());
        plan.apply_with_subqueries(|node| {
            let wanted = known.get(&std::ptr::from_ref(node)).cloned().unwrap_or(Wanted::All);
            for (input, of_input) in node.inputs().into_iter().zip(of_inputs(node, &wanted)) {
                // A node that several others share must give what any of them wants.
                let address = std::ptr::from_ref(input);
                let all = match known.remove(&address) {
                    Some(before) => before.with(of_input),
                    None => of_input,
                };
                known.insert(address, all);
            }
            nodes.push((std::mem::discriminant(node), node.schema().fields().len(), wanted));
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(Self { nodes, next: 0 })
    }

    /// What is wanted of the next node; all if it is not the one that was met before.
    pub(super) fn next(&mut self, node: &LogicalPlan) -> Wanted {
        let found = self.nodes.get(self.next);
        self.next += 1;
        match found {
            Some((kind, width, wanted)) if *kind == std::mem::discriminant(node) && *width == node.schema().fields().len() => {
                wanted.clone()
            }
            _ => Wanted::All,
        }
    }
}

/// What a node wants of each of its inputs.
pub(super) fn of_inputs(plan: &LogicalPlan, wanted: &Wanted) -> Vec<Wanted> {
    match plan {
        LogicalPlan::Projection(node) => {
            let exprs = node.expr.iter().enumerate().filter(|(i, _)| wanted.has(*i)).map(|(_, e)| e);
            vec![columns(exprs, node.input.schema())]
        }
        LogicalPlan::Filter(node) => vec![wanted.clone().with(columns([&node.predicate], node.input.schema()))],
        LogicalPlan::Sort(node) => {
            vec![wanted.clone().with(columns(node.expr.iter().map(|s| &s.expr), node.input.schema()))]
        }
        LogicalPlan::SubqueryAlias(_) | LogicalPlan::Limit(_) | LogicalPlan::Subquery(_) => vec![wanted.clone()],
        LogicalPlan::Window(node) => {
            let schema = node.input.schema();
            vec![wanted.part(0, schema.fields().len()).with(columns(&node.window_expr, schema))]
        }
        LogicalPlan::Aggregate(node) => vec![columns(node.group_expr.iter().chain(&node.aggr_expr), node.input.schema())],
        LogicalPlan::Distinct(Distinct::On(node)) => {
            let sort = node.sort_expr.iter().flatten().map(|s| &s.expr);
            vec![columns(node.on_expr.iter().chain(&node.select_expr).chain(sort), node.input.schema())]
        }
        // What a lateral subquery on the right reads of the left stands in the subquery.
        LogicalPlan::Join(node)
            if matches!(node.join_type, JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full)
                && node.right.all_out_ref_exprs().is_empty() =>
        {
            let (left, right) = (node.left.schema(), node.right.schema());
            let width = left.fields().len();
            let keys = |side: fn(&(Expr, Expr)) -> &Expr, schema| columns(node.on.iter().map(side), schema);
            let all = match &node.filter {
                Some(filter) => wanted.clone().with(columns([filter], &node.schema)),
                None => wanted.clone(),
            };
            vec![
                all.part(0, width).with(keys(|on| &on.0, left)),
                all.part(width, width + right.fields().len()).with(keys(|on| &on.1, right)),
            ]
        }
        other => vec![Wanted::All; other.inputs().len()],
    }
}

/// Columns of a schema that expressions read; all where a subquery reads we know not which.
fn columns<'a>(exprs: impl IntoIterator<Item = &'a Expr>, schema: &DFSchema) -> Wanted {
    let mut found = BTreeSet::new();
    for expr in exprs {
        let opaque = expr.exists(|e| {
            Ok(matches!(e, Expr::Exists(_) | Expr::InSubquery(_) | Expr::ScalarSubquery(_) | Expr::SetComparison(_)))
        });
        if opaque.unwrap_or(true) {
            return Wanted::All;
        }
        for column in expr.column_refs() {
            match schema.maybe_index_of_column(column) {
                Some(index) => found.insert(index),
                None => return Wanted::All,
            };
        }
    }
    Wanted::Some(found)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion::logical_expr::{LogicalPlanBuilder, col, table_scan};

    fn some(columns: &[usize]) -> Wanted {
        Wanted::Some(columns.iter().copied().collect())
    }

    fn scan(name: &str) -> LogicalPlanBuilder {
        let fields: Vec<_> = ["a", "b", "c"].iter().map(|n| Field::new(*n, DataType::Int64, true)).collect();
        table_scan(Some(name), &Schema::new(fields), None).unwrap()
    }

    #[test]
    fn what_nobody_reads_is_not_wanted() {
        let plan = scan("t").filter(col("b").gt(col("a"))).unwrap().project([col("c"), col("a")]).unwrap();
        let plan = plan.project([col("c")]).unwrap().build().unwrap();
        let mut wanted = Plan::of(&plan).unwrap();
        let mut seen = Vec::new();
        plan.apply(|node| {
            seen.push(wanted.next(node));
            Ok(TreeNodeRecursion::Continue)
        })
        .unwrap();
        assert_eq!(seen, [Wanted::All, some(&[0]), some(&[2]), some(&[0, 1, 2])]);
    }

    #[test]
    fn a_join_hands_each_side_its_own() {
        let right = scan("u").build().unwrap();
        let plan = scan("t").join(right, JoinType::Left, (vec!["t.a"], vec!["u.b"]), None).unwrap().build().unwrap();
        assert_eq!(of_inputs(&plan, &some(&[1, 5])), [some(&[0, 1]), some(&[1, 2])]);
        assert_eq!(of_inputs(&plan, &Wanted::All), [Wanted::All, Wanted::All]);
    }
}
