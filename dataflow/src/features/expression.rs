//! Row-wise SQL expressions: planned once against the types of the columns they read, evaluated batch
//! by batch. Anything whose value depends on other rows, on time or on chance is refused.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DataFusionError, ScalarValue};
use datafusion::logical_expr::{Expr, Volatility};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::prelude::SessionContext;

use crate::features::FitError;
use crate::features::columns::{listed, meant};
use crate::features::kinds::{Type, cast_to, type_name};
use crate::functions::CLOCK;
use crate::job::{JobError, Param};
use crate::operators;
use crate::stores::{StoreOptions, Stores};
use crate::types::UTC;

/// Longest expression in bytes: deeper ones are refused before they are parsed.
const LONGEST: usize = 64 * 1024;

/// An expression as planned: what it reads and gives.
pub(crate) struct Planned {
    /// Columns in the order of first appearance.
    pub reads: Vec<String>,
    /// Names of the parameters it uses.
    pub params: Vec<String>,
    /// Type of the values.
    pub ty: Type,
}

/// An expression ready to run.
pub(crate) struct Compiled {
    text: String,
    schema: SchemaRef,
    physical: Arc<dyn PhysicalExpr>,
    ty: Type,
}

/// Plans `sql` over the readable `columns` to learn what it reads and gives.
pub(crate) fn plan(
    session: &SessionContext,
    path: &str,
    sql: &str,
    columns: &[(String, Type)],
    params: &BTreeMap<String, Param>,
) -> Result<Planned, JobError> {
    let schema = schema_of(columns);
    let (expr, used) = bind(session, path, sql, &schema, params)?;
    let mut reads: Vec<String> = Vec::new();
    expr.apply(|e| {
        if let Expr::Column(column) = e
            && !reads.contains(&column.name)
        {
            reads.push(column.name.clone());
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .map_err(|e| planning(path, sql, &e, columns))?;
    let physical = lower(session, expr, &schema).map_err(|e| planning(path, sql, &e, columns))?;
    let data_type = physical.data_type(&schema).map_err(|e| planning(path, sql, &e, columns))?;
    let ty = Type::of(&data_type).ok_or_else(|| {
        JobError::at(path, format!("`{sql}` gives {}, which features cannot use", type_name(&data_type)))
            .hint("cast it: CAST(… AS DOUBLE), CAST(… AS VARCHAR)")
    })?;
    Ok(Planned { reads, params: used, ty })
}

/// Compiles `sql` over exactly the columns that it reads; its values are cast to `ty`.
pub(crate) fn compile(
    session: &SessionContext,
    path: &str,
    sql: &str,
    columns: &[(String, Type)],
    params: &BTreeMap<String, Param>,
    ty: Type,
) -> Result<Compiled, FitError> {
    let schema = schema_of(columns);
    let (expr, _) = bind(session, path, sql, &schema, params)?;
    let physical = lower(session, expr, &schema).map_err(|e| planning(path, sql, &e, columns))?;
    Ok(Compiled { text: sql.to_string(), schema, physical, ty })
}

impl Compiled {
    /// Values for `rows` rows of the columns it was compiled over, in that order.
    pub(crate) fn evaluate(&self, arrays: Vec<ArrayRef>, rows: usize) -> Result<ArrayRef, FitError> {
        let failed = |source| FitError::Expression { expression: self.text.clone(), source: Box::new(source) };
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)
            .map_err(|e| failed(DataFusionError::from(e)))?;
        let array = self.physical.evaluate(&batch).and_then(|v| v.into_array(rows)).map_err(failed)?;
        cast_to(&self.text, &array, self.ty)
    }
}

fn schema_of(columns: &[(String, Type)]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(|(n, t)| Field::new(n, t.arrow(), true)).collect::<Vec<_>>()))
}

/// Parses, refuses what is not row-wise, and puts parameters in as values.
fn bind(
    session: &SessionContext,
    path: &str,
    sql: &str,
    schema: &SchemaRef,
    params: &BTreeMap<String, Param>,
) -> Result<(Expr, Vec<String>), JobError> {
    if sql.len() > LONGEST {
        return Err(JobError::at(path, format!("expression of {} bytes is too long", sql.len())).hint("at most 64 KiB"));
    }
    operators::check(sql, path)?;
    let columns: Vec<(String, Type)> =
        schema.fields().iter().filter_map(|f| Some((f.name().clone(), Type::of(f.data_type())?))).collect();
    let df_schema = DFSchema::try_from(Arc::clone(schema)).map_err(|e| planning(path, sql, &e, &columns))?;
    let expr = session.parse_sql_expr(sql, &df_schema).map_err(|e| planning(path, sql, &e, &columns))?;
    let mut refused = None;
    expr.apply(|e| {
        refused = refused.take().or_else(|| refusal(e));
        Ok(if refused.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })
    .map_err(|e| planning(path, sql, &e, &columns))?;
    if let Some((message, hint)) = refused {
        return Err(JobError::at(path, message).hint(hint));
    }
    substitute(expr, path, sql, params, &columns)
}

fn substitute(
    expr: Expr,
    path: &str,
    sql: &str,
    params: &BTreeMap<String, Param>,
    columns: &[(String, Type)],
) -> Result<(Expr, Vec<String>), JobError> {
    let (mut used, mut unknown) = (Vec::new(), None);
    let bound = expr.transform(|e| {
        let Expr::Placeholder(placeholder) = &e else { return Ok(Transformed::no(e)) };
        let name = placeholder.id.trim_start_matches('$').to_string();
        let Some(value) = params.get(&name).and_then(literal) else {
            unknown = Some(name);
            return Ok(Transformed::no(e));
        };
        if !used.contains(&name) {
            used.push(name);
        }
        Ok(Transformed::yes(Expr::Literal(value, None)))
    });
    let bound = bound.map_err(|e| planning(path, sql, &e, columns))?.data;
    match unknown {
        None => Ok((bound, used)),
        Some(name) => {
            let known = listed(params.keys().map(String::as_str));
            let known = if known.is_empty() { "the job declares none".to_string() } else { format!("known: {known}") };
            Err(JobError::at(path, format!("parameter `${name}` is not known, or is no value of its type")).hint(known))
        }
    }
}

/// Why an expression is not row-wise, and what to do.
fn refusal(expr: &Expr) -> Option<(String, &'static str)> {
    let row_wise = "a feature expression sees one row at a time; compute it in `prepare`";
    let clock = "use the parameter $now, which is pinned when the job is accepted, or compute it in `prepare`";
    match expr {
        Expr::AggregateFunction(f) => Some((format!("aggregate `{}` in a feature expression", f.func.name()), row_wise)),
        Expr::WindowFunction(f) => Some((format!("window function `{}` in a feature expression", f.fun.name()), row_wise)),
        Expr::Exists(_) | Expr::InSubquery(_) | Expr::ScalarSubquery(_) | Expr::SetComparison(_) => {
            Some(("subquery in a feature expression".into(), row_wise))
        }
        Expr::Unnest(_) => Some(("unnest in a feature expression".into(), row_wise)),
        // The session pins the clock, but each process has another session.
        Expr::ScalarFunction(f) if CLOCK.contains(&f.func.name()) => {
            Some((format!("`{}()` in a feature expression", f.func.name()), clock))
        }
        Expr::ScalarFunction(f) => match f.func.signature().volatility {
            Volatility::Immutable => None,
            Volatility::Stable => Some((format!("`{}` depends on when it runs", f.func.name()), clock)),
            Volatility::Volatile => {
                Some((format!("`{}` gives another value each time", f.func.name()), "remove it: a model must be reproducible"))
            }
        },
        _ => None,
    }
}

fn lower(session: &SessionContext, expr: Expr, schema: &SchemaRef) -> Result<Arc<dyn PhysicalExpr>, DataFusionError> {
    session.create_physical_expr(expr, &DFSchema::try_from(Arc::clone(schema))?)
}

/// DataFusion's words, without its prefixes and stack, at our place.
fn planning(path: &str, sql: &str, error: &DataFusionError, columns: &[(String, Type)]) -> JobError {
    let names = columns.iter().map(|(n, _)| n.as_str());
    if let DataFusionError::SchemaError(schema, _) = error.find_root()
        && let datafusion::common::SchemaError::FieldNotFound { field, .. } = schema.as_ref()
    {
        let out = JobError::at(path, format!("column `{}` not found in `{sql}`", field.name));
        return out.hint(meant(&field.name, names, "columns here:"));
    }
    let text = error.strip_backtrace();
    let text = text.lines().next().unwrap_or_default();
    JobError::at(path, format!("`{sql}` cannot be planned: {text}"))
}

/// A parameter as SQL value; `None` for a date or time that does not parse.
fn literal(param: &Param) -> Option<ScalarValue> {
    Some(match param {
        Param::Bool(v) => ScalarValue::Boolean(Some(*v)),
        Param::Int(v) => ScalarValue::Int64(Some(*v)),
        Param::Float(v) => ScalarValue::Float64(Some(*v)),
        Param::Text(v) => ScalarValue::Utf8(Some(v.clone())),
        Param::Date(v) => {
            let date = v.parse::<chrono::NaiveDate>().ok()?;
            ScalarValue::Date32(Some(i32::try_from(date.signed_duration_since(chrono::NaiveDate::default()).num_days()).ok()?))
        }
        Param::Timestamp(v) => {
            let text = v.trim_end_matches('Z').replace(' ', "T");
            let time = text.parse::<chrono::NaiveDateTime>().ok()?;
            ScalarValue::TimestampNanosecond(Some(time.and_utc().timestamp_nanos_opt()?), Some(UTC.into()))
        }
    })
}

/// The session that static validation plans with: that of the one session builder, without any store.
pub(crate) fn planning_session() -> SessionContext {
    static SESSION: LazyLock<SessionContext> =
        LazyLock::new(|| Stores::new(StoreOptions::default()).expect("no store is configured, so none can be wrong").session(0));
    SESSION.clone()
}

/// Columns that a condition reads.
pub(crate) fn mentioned(sql: &str, columns: &[(String, Type)], params: &BTreeMap<String, Param>) -> Vec<String> {
    match plan(&planning_session(), "where", sql, columns, params) {
        Ok(planned) => planned.reads,
        // What cannot be planned is refused when it is compiled.
        Err(_) => Vec::new(),
    }
}
