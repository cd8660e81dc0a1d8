//! The optimizer's rules, and what has to be held back of them so that sums over floats stay exact: a rule may not
//! split an aggregate into sums of sums, since each would be rounded.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::{Aggregate, Expr, ExprSchemable, LogicalPlan};
use datafusion::optimizer::single_distinct_to_groupby::SingleDistinctToGroupBy;
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

type Rule = Arc<dyn OptimizerRule + Send + Sync>;
type Rules = Vec<Rule>;

/// The same rules in their order, with [`ExactBesideDistinct`] in place of the rule that it holds back.
pub(crate) fn exact(rules: Rules) -> Rules {
    let held_back = SingleDistinctToGroupBy::new();
    let replace = |rule: Rule| -> Rule {
        match rule.name() == held_back.name() {
            true => Arc::new(ExactBesideDistinct(SingleDistinctToGroupBy::new())),
            false => rule,
        }
    };
    rules.into_iter().map(replace).collect()
}

/// `sum(y), count(DISTINCT x)` becomes sums of `y` for each `x`, and then a sum of these: right for integers and
/// decimals. A sum of floats would be rounded once for each `x` and once more, so aggregates with one stay whole.
#[derive(Debug)]
struct ExactBesideDistinct(SingleDistinctToGroupBy);

impl OptimizerRule for ExactBesideDistinct {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match &plan {
            LogicalPlan::Aggregate(aggregate) if sums_floats(aggregate)? => Ok(Transformed::no(plan)),
            _ => self.0.rewrite(plan, config),
        }
    }
}

/// Whether it has a sum over all rows, not over distinct values, that is a float.
fn sums_floats(aggregate: &Aggregate) -> Result<bool> {
    for expr in &aggregate.aggr_expr {
        if let Expr::AggregateFunction(call) = expr
            && call.func.name() == "sum"
            && !call.params.distinct
            && expr.get_type(aggregate.input.schema())?.is_floating()
        {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use datafusion::optimizer::Optimizer;
    use datafusion::prelude::SessionContext;

    use super::*;
    use crate::stores::{StoreOptions, Stores};

    async fn plan(sql: &str) -> String {
        let session: SessionContext = Stores::new(StoreOptions::default()).unwrap().session(0);
        let frame = session.sql(&format!("{sql} FROM (VALUES (1, 2, 0.5), (1, 3, 1.5)) AS v (g, x, y) GROUP BY g")).await;
        frame.unwrap().into_optimized_plan().unwrap().display_indent().to_string()
    }

    #[tokio::test]
    async fn sums_of_floats_are_not_split_and_others_are() {
        let whole = plan("SELECT sum(y), count(DISTINCT x)").await;
        assert_eq!(whole.matches("Aggregate:").count(), 1, "{whole}");
        for split in ["SELECT sum(g), count(DISTINCT x)", "SELECT max(y), count(DISTINCT x)", "SELECT sum(DISTINCT y)"] {
            let split = plan(split).await;
            assert_eq!(split.matches("Aggregate:").count(), 2, "{split}");
        }
    }

    /// Under another name the rule would come back unseen.
    #[test]
    fn the_rule_that_is_held_back_is_among_the_rules() {
        let names = |rules: &Rules| rules.iter().map(|rule| rule.name().to_owned()).collect::<Vec<_>>();
        let usual = Optimizer::default().rules;
        let ours = exact(usual.clone());
        assert_eq!(names(&usual), names(&ours));
        let replaced = ours.iter().filter(|rule| format!("{rule:?}").starts_with("ExactBesideDistinct"));
        assert_eq!(replaced.count(), 1);
        let distributed = exact(ballista_core::optimizer::ballista_default_optimizer_rules());
        assert_eq!(distributed.iter().filter(|rule| format!("{rule:?}").starts_with("ExactBesideDistinct")).count(), 1);
    }
}
