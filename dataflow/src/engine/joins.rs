//! Which joins build a hash table and which sort, and which give one side whole to every task. A hash join is several
//! times cheaper than sorting, but its built side must fit the memory of a task: it cannot spill. So joins whose built side
//! is estimated to be larger sort both sides and merge them; and where an estimate was wrong the query is planned again
//! with joins that all sort.

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{Field, Schema};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DataFusionError, JoinSide, JoinType, Result};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{HashJoinExec, PartitionMode, SortMergeJoinExec};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::statistics::StatisticsContext;
use datafusion::physical_plan::{ExecutionPlan, StatisticsArgs};

use super::config::QuerySettings;

/// Name of the rule that decides whether a join's side is given to all tasks or both are cut alike.
const BEFORE: &str = "join_selection";

/// Bytes that a value without a width of its own is taken to have, as the scheduler takes it.
const TEXT_BYTES: usize = 32;

/// The optimizer's rules, with ours where it belongs: joins have their mode by then, and no order of rows yet.
pub(super) fn rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = PhysicalOptimizer::new().rules;
    let at = rules.iter().position(|rule| rule.name() == BEFORE).map_or(0, |at| at + 1);
    rules.insert(at, Arc::new(ChooseJoins));
    rules
}

/// Cuts both sides of a join alike unless every task can have one of them whole; then makes sort-merge joins of those
/// whose built side would not fit.
#[derive(Debug)]
struct ChooseJoins;

impl PhysicalOptimizerRule for ChooseJoins {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let limit = config.extensions.get::<QuerySettings>().map_or(0, |settings| settings.build_bytes);
        let partitions = config.execution.target_partitions.max(1);
        let whole = config.optimizer.hash_join_single_partition_threshold;
        let chosen = plan.transform_up(|node| {
            let Some(join) = node.downcast_ref::<HashJoinExec>() else { return Ok(Transformed::no(node)) };
            // A null-aware join exists as a hash join in one task only.
            if join.null_aware || join.contains_projection() {
                return Ok(Transformed::no(node));
            }
            let cut = (partitions > 1 && *join.partition_mode() == PartitionMode::CollectLeft && !spreads(join, whole)?)
                .then(|| join.builder().with_partition_mode(PartitionMode::Partitioned).build())
                .transpose()?;
            let join = cut.as_ref().unwrap_or(join);
            Ok(match (fits(join, partitions, limit)?, cut.is_some()) {
                (false, _) => Transformed::yes(Arc::new(sorting(join)?)),
                (true, true) => Transformed::yes(Arc::new(join.builder().build()?)),
                (true, false) => Transformed::no(node),
            })
        });
        Ok(chosen?.data)
    }

    fn name(&self) -> &str {
        "choose_joins"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Whether every task may have the built side whole: only rows of the other side then decide what comes out, and it is
/// small. The scheduler would cut the join otherwise, too, but exchange rows for it that lie right already.
fn spreads(join: &HashJoinExec, whole: usize) -> Result<bool> {
    let probe_decides = matches!(
        join.join_type(),
        JoinType::Inner | JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark
    );
    Ok(probe_decides && (1..whole).contains(&whole_bytes(join.left().as_ref())?))
}

/// Bytes of a side that every task would have: the largest of the guesses that there are; 0: nobody knows. When the
/// scheduler looks again the plan is another, a projection may have become part of the filter below it, and the guess is
/// that of the filter.
fn whole_bytes(side: &dyn ExecutionPlan) -> Result<usize> {
    let known = StatisticsContext::new().compute(side, &StatisticsArgs::new())?;
    let by_rows = known.num_rows.get_value().map_or(0, |rows| rows.saturating_mul(row_bytes(side)));
    let by_bytes = known.total_byte_size.get_value().copied().unwrap_or(0);
    let below = match side.downcast_ref::<ProjectionExec>() {
        Some(projection) => whole_bytes(projection.input().as_ref())?,
        None => 0,
    };
    Ok(by_rows.max(by_bytes).max(below))
}

/// Whether what one task builds of a join fits.
fn fits(join: &HashJoinExec, partitions: usize, limit: usize) -> Result<bool> {
    let parts = match join.partition_mode() {
        PartitionMode::CollectLeft => 1,
        PartitionMode::Partitioned | PartitionMode::Auto => partitions,
    };
    Ok(limit > 0 && built_bytes(join.left().as_ref())? / parts <= limit)
}

fn sorting(join: &HashJoinExec) -> Result<SortMergeJoinExec> {
    SortMergeJoinExec::try_new(
        Arc::clone(join.left()),
        Arc::clone(join.right()),
        join.on().to_vec(),
        join.filter().map(left_first).transpose()?,
        *join.join_type(),
        vec![SortOptions::default(); join.on().len()],
        join.null_equality(),
    )
}

/// The same condition over columns of the left side, then of the right: a sort-merge join takes them so, whatever order they
/// are said to have, and a join whose sides were swapped has them the other way.
fn left_first(filter: &JoinFilter) -> Result<JoinFilter> {
    let indices = filter.column_indices();
    let mut order: Vec<usize> = (0..indices.len()).collect();
    order.sort_by_key(|&at| indices[at].side != JoinSide::Left);
    let place = |old: usize| order.iter().position(|&at| at == old);
    let expression = Arc::clone(filter.expression()).transform_up(|expr| {
        let Some(column) = expr.downcast_ref::<Column>() else { return Ok(Transformed::no(expr)) };
        let at = place(column.index());
        let at =
            at.ok_or_else(|| DataFusionError::Internal(format!("the condition of a join has no column {}", column.index())))?;
        Ok(Transformed::yes(Arc::new(Column::new(column.name(), at)) as Arc<dyn PhysicalExpr>))
    })?;
    let fields: Vec<Field> = order.iter().map(|&at| filter.schema().field(at).clone()).collect();
    let indices = order.iter().map(|&at| indices[at].clone()).collect();
    Ok(JoinFilter::new(expression.data, indices, Arc::new(Schema::new(fields))))
}

/// Bytes of a row, about.
fn row_bytes(node: &dyn ExecutionPlan) -> usize {
    node.schema().fields().iter().map(|field| field.data_type().primitive_width().unwrap_or(TEXT_BYTES)).sum()
}

/// Bytes of all rows that a node gives, as far as statistics tell; where they do not, those of the tables below it.
fn built_bytes(node: &dyn ExecutionPlan) -> Result<usize> {
    let known = StatisticsContext::new().compute(node, &StatisticsArgs::new())?;
    if let Some(bytes) = known.total_byte_size.get_value() {
        return Ok(*bytes);
    }
    if let Some(rows) = known.num_rows.get_value() {
        return Ok(rows.saturating_mul(row_bytes(node)));
    }
    let below = node.children().into_iter().map(|child| built_bytes(child.as_ref())).collect::<Result<Vec<_>>>()?;
    Ok(below.into_iter().fold(0, usize::saturating_add))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use arrow::datatypes::DataType;
    use datafusion::logical_expr::Operator;
    use datafusion::physical_expr::expressions::BinaryExpr;
    use datafusion::physical_plan::joins::utils::ColumnIndex;

    use super::*;

    /// Under another name of the rule before it ours would run first, and find no join that has its mode.
    #[test]
    fn joins_are_chosen_right_after_they_have_their_mode() {
        let rules = rules();
        let at = rules.iter().position(|rule| rule.name() == BEFORE).unwrap();
        assert_eq!(rules[at + 1].name(), ChooseJoins.name());
    }

    #[test]
    fn a_condition_whose_sides_were_swapped_is_put_in_order() {
        let column = |name: &str, at| Arc::new(Column::new(name, at)) as Arc<dyn PhysicalExpr>;
        let condition = Arc::new(BinaryExpr::new(column("size", 0), Operator::Lt, column("brand", 1)));
        let index = |index, side| ColumnIndex { index, side };
        let fields = vec![Field::new("size", DataType::Int32, true), Field::new("brand", DataType::Utf8, true)];
        let swapped = vec![index(7, JoinSide::Right), index(3, JoinSide::Left)];
        let filter = left_first(&JoinFilter::new(condition, swapped, Arc::new(Schema::new(fields)))).unwrap();
        assert_eq!(filter.expression().to_string(), "size@1 < brand@0");
        assert_eq!(filter.column_indices(), [index(3, JoinSide::Left), index(7, JoinSide::Right)]);
        assert_eq!(filter.schema().field(0).data_type(), &DataType::Utf8);
    }
}
