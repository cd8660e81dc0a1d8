//! What all nodes of ours say alike: they have one input, whose rows they take as they come, and no expressions.

use std::sync::Arc;

use datafusion::common::{DataFusionError, Result};
use datafusion::physical_plan::{ExecutionPlan, Partitioning};

/// The methods of an [`ExecutionPlan`] with one `input` that is made anew by `with_input`.
macro_rules! unary {
    () => {
        fn name(&self) -> &str {
            Self::static_name()
        }

        fn benefits_from_input_partitioning(&self) -> Vec<bool> {
            vec![false]
        }

        fn children(&self) -> Vec<&std::sync::Arc<dyn datafusion::physical_plan::ExecutionPlan>> {
            vec![&self.input]
        }

        fn apply_expressions(
            &self,
            _: &mut dyn FnMut(
                &std::sync::Arc<dyn datafusion::physical_expr::PhysicalExpr>,
            ) -> datafusion::common::Result<datafusion::common::tree_node::TreeNodeRecursion>,
        ) -> datafusion::common::Result<datafusion::common::tree_node::TreeNodeRecursion> {
            Ok(datafusion::common::tree_node::TreeNodeRecursion::Continue)
        }

        fn replace_children(
            self: std::sync::Arc<Self>,
            children: Vec<std::sync::Arc<dyn datafusion::physical_plan::ExecutionPlan>>,
            _: datafusion::physical_plan::ReplaceChildrenOptions,
        ) -> datafusion::common::Result<std::sync::Arc<dyn datafusion::physical_plan::ExecutionPlan>> {
            Ok(std::sync::Arc::new(self.with_input($crate::engine::unary::only(children)?)?))
        }

        fn with_new_children(
            self: std::sync::Arc<Self>,
            children: Vec<std::sync::Arc<dyn datafusion::physical_plan::ExecutionPlan>>,
        ) -> datafusion::common::Result<std::sync::Arc<dyn datafusion::physical_plan::ExecutionPlan>> {
            let mode = datafusion::physical_plan::ChildrenPropertiesMode::Recompute;
            self.replace_children(children, datafusion::physical_plan::ReplaceChildrenOptions::new(mode))
        }
    };
}
pub(super) use unary;

/// The one child of a node that has one.
pub(super) fn only(mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
    match (children.pop(), children.is_empty()) {
        (Some(child), true) => Ok(child),
        _ => Err(DataFusionError::Internal("a node of ours has one input".to_owned())),
    }
}

/// As many partitions as the input has, of which nothing is known.
pub(super) fn unknown(input: &Arc<dyn ExecutionPlan>) -> Partitioning {
    Partitioning::UnknownPartitioning(input.properties().partitioning.partition_count())
}
