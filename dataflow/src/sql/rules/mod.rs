//! The rules that make a query's result a function of its inputs: not of partitions, hash seeds, arrival order, clocks or
//! chance. One analyzer rule, a file for each part of it; applying it again changes nothing.
//!
//! | SQL | what happens | where |
//! |---|---|---|
//! | `random()`, `uuid()`, whatever is volatile | refused; `hash_random(seed, key…)` is offered | `volatile` |
//! | `now()`, `current_…`, `$now` | stand at the job's time | `functions` |
//! | time zones | UTC in every session; a named zone in AT TIME ZONE is that zone of the built-in database | `session` |
//! | LIMIT, OFFSET, FETCH | need ORDER BY; all other columns that anyone reads break its ties | `limit` |
//! | DISTINCT ON | needs ORDER BY; the selected columns break its ties | `distinct_on` |
//! | `row_number`, `ntile`, `lag`, `lead`, `first_value`, `last_value`, `nth_value`, `array_agg`, `string_agg` and ROWS frames as windows | need ORDER BY; all other columns that anyone reads break its ties | `windows` |
//! | `rank`, `dense_rank`, `percent_rank`, `cume_dist`, RANGE and GROUPS frames of other functions | peers are the meaning: untouched | `windows` |
//! | the first six of them that exist as aggregates | need ORDER BY; their arguments break its ties | `aggregates` |
//! | `any_value` | the smallest | `aggregates` |
//! | `approx_percentile_cont`, `approx_median` | exact, same type; weighted: refused (t-digests depend on the order of merging) | `aggregates` |
//! | `approx_distinct` | kept: registers merge by maximum and the hash has a fixed seed | `aggregates` |
//! | `min`, `max` of floats | ours: one order of all floats; DataFusion's keep a NaN or a zero's sign by arrival | `functions::extremes` |
//! | `sum`, `avg`, `var…` … of floats | ours, exact in any order; never split into sums of sums | `functions`, `optimizer` |
//! | `median`, `percentile_cont`, `bit_…`, `bool_…`, `count` | kept: they order values by their bits or commute | |
//! | GROUP BY, DISTINCT, UNION, INTERSECT, EXCEPT on floats | kept: −0.0 becomes 0.0 before rows are grouped | |
//! | ORDER BY in a subquery without LIMIT | no meaning, dropped; `array_agg` over it still needs its own | |
//! | ORDER BY at the top | total, like that of LIMIT; stored rows drop it with a warning | `limit` |
//! | a LIMIT in a correlated subquery, a view or a WITH part | as everywhere: the rule walks through all of them | |
//! | WITH RECURSIVE | refused: its end depends on its rows | `text` |
//! | map, struct and array functions | kept: they keep the order of their input | |
//! | `md5`, `sha…`, `digest` | kept: fixed functions. There is no seeded hash but `hash_random` | |
//! | `version()`, `input_file_name()`, `file_row_index()` | refused: they speak of the program and of where files lie | `volatile` |
//! | an aggregate or window function that is not named here | refused | `aggregates`, `windows` |
//!
//! Whether an error such as a division by zero is met may depend on the plan: it ends the job and changes no result.

mod aggregates;
mod distinct_on;
mod limit;
mod restore;
mod ties;
mod volatile;
mod wanted;
mod windows;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNodeRewriter};
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::{Distinct, LogicalPlan};
use datafusion::optimizer::AnalyzerRule;

use super::message;
use crate::job::JobError;
use wanted::{Plan, Wanted};

/// All rules, as one analyzer rule.
#[derive(Debug)]
struct Reproducible;

impl AnalyzerRule for Reproducible {
    fn name(&self) -> &str {
        "reproducible"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        volatile::check(&plan)?;
        let mut rules = Rules { wanted: Plan::of(&plan)?, open: Vec::new() };
        let plan = plan.rewrite_with_subqueries(&mut rules)?.data;
        limit::total_at_the_top(plan)
    }
}

/// A plan whose result depends on its inputs alone, or an error that names the remedy.
pub(super) fn apply(plan: LogicalPlan, config: &ConfigOptions, path: &str) -> Result<LogicalPlan, JobError> {
    Reproducible.analyze(plan, config).map_err(|e| match e.find_root() {
        DataFusionError::External(inner) => match inner.downcast_ref::<Refusal>() {
            Some(refusal) => JobError::at(path, &refusal.what).hint(&refusal.remedy),
            None => JobError::at(path, message(&e)),
        },
        _ => JobError::at(path, message(&e)),
    })
}

/// What cannot be made reproducible, and what to write instead.
#[derive(Debug, thiserror::Error)]
#[error("{what}; {remedy}")]
struct Refusal {
    what: String,
    remedy: String,
}

/// An error that says what to write instead.
fn refuse<T>(what: impl Into<String>, remedy: impl Into<String>) -> Result<T> {
    Err(DataFusionError::External(Box::new(Refusal { what: what.into(), remedy: remedy.into() })))
}

struct Rules {
    wanted: Plan,
    /// Columns wanted of the nodes above the one at hand, outermost first.
    open: Vec<Wanted>,
}

impl TreeNodeRewriter for Rules {
    type Node = LogicalPlan;

    fn f_down(&mut self, node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
        self.open.push(self.wanted.next(&node));
        Ok(Transformed::no(node))
    }

    fn f_up(&mut self, node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
        let wanted = self.open.pop().unwrap_or(Wanted::All);
        match node {
            LogicalPlan::Limit(node) => limit::rewrite(node, &wanted),
            LogicalPlan::Distinct(Distinct::On(node)) => distinct_on::rewrite(node),
            LogicalPlan::Aggregate(node) => aggregates::rewrite(node),
            LogicalPlan::Window(node) => windows::rewrite(node, &wanted),
            other => Ok(Transformed::no(other)),
        }
    }
}
