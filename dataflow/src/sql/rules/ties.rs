//! Ties of an order, broken by what else can tell two rows apart.

use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::logical_expr::{Expr, SortExpr};

use super::refuse;
use super::wanted::Wanted;

/// Appends the wanted columns of a schema that neither stand in the order yet nor are the same for all rows that are
/// ordered together (`fixed`). Afterwards only rows that agree in every wanted column can tie.
pub(super) fn break_by_columns(order: &mut Vec<SortExpr>, schema: &DFSchema, wanted: &Wanted, fixed: &[Expr]) -> Result<()> {
    let columns = schema.iter().enumerate().filter(|(i, _)| wanted.has(*i)).map(|(_, field)| field);
    for (qualifier, field) in columns {
        let column = Expr::Column(Column::from((qualifier, field)));
        add(order, column, field.data_type(), fixed)?;
    }
    Ok(())
}

/// The same for expressions over a schema.
pub(super) fn break_by_exprs<'a>(
    order: &mut Vec<SortExpr>,
    exprs: impl IntoIterator<Item = &'a Expr>,
    schema: &DFSchema,
) -> Result<()> {
    use datafusion::logical_expr::ExprSchemable;
    for expr in exprs {
        let expr = expr.clone().unalias();
        let data_type = expr.get_type(schema)?;
        add(order, expr, &data_type, &[])?;
    }
    Ok(())
}

fn add(order: &mut Vec<SortExpr>, expr: Expr, data_type: &DataType, fixed: &[Expr]) -> Result<()> {
    let known = order.iter().any(|s| s.expr == expr) || fixed.contains(&expr);
    if known || data_type.is_null() || matches!(expr, Expr::Literal(..)) {
        return Ok(());
    }
    if !RowConverter::supports_fields(&[SortField::new(data_type.clone())]) {
        return refuse(
            format!(
                "`{}` has the type {data_type}, which has no order, so the order of the rows is not determined",
                expr.schema_name()
            ),
            "leave it out, or select the parts of it that you need",
        );
    }
    order.push(expr.sort(true, false));
    Ok(())
}
