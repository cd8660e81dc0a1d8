//! A rewritten step gives the columns that it gave before: same places, names and types.

use std::sync::Arc;

use datafusion::common::{Column, DFSchema, Result};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Projection, cast};

/// The plan, with a projection above it where its columns are others than before or stand elsewhere.
pub(super) fn columns(plan: LogicalPlan, before: &DFSchema) -> Result<LogicalPlan> {
    let mut types = before.fields().iter().zip(plan.schema().fields());
    if before.columns() == plan.schema().columns() && types.all(|(a, b)| a.data_type() == b.data_type()) {
        return Ok(plan);
    }
    let mut exprs = Vec::with_capacity(before.fields().len());
    for (qualifier, field) in before.iter() {
        let column = Expr::Column(Column::from((qualifier, field)));
        // An exact function may give a wider type than the approximation that it stands for.
        exprs.push(match column.get_type(plan.schema())? == *field.data_type() {
            true => column,
            false => cast(column, field.data_type().clone()).alias_qualified(qualifier.cloned(), field.name()),
        });
    }
    Ok(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(plan))?))
}
