//! Parameters of a job in its SQL. `$name` becomes a typed literal *node* of the parsed statement, so a value
//! is never read as SQL; text never goes into text.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use chrono::{DateTime, NaiveDate, SecondsFormat};
use datafusion::sql::sqlparser::ast::{
    CastKind, DataType, ExactNumberInfo, Expr, Statement, TimezoneInfo, Value, visit_expressions_mut,
};

use crate::job::{JobError, Param};

/// The parameter that holds the job's time, beside those of the job.
pub(crate) const NOW: &str = "now";

/// What a statement took.
#[derive(Debug, Default)]
pub(crate) struct Used {
    /// Parameters of the job.
    pub(crate) names: BTreeSet<String>,
    /// `$now` from the job's clock.
    pub(crate) clock: bool,
}

/// Replaces every placeholder by its value; `path` names the SQL in errors.
pub(crate) fn bind(
    statement: &mut Statement,
    params: &BTreeMap<String, Param>,
    now_ns: i64,
    path: &str,
) -> Result<Used, JobError> {
    let mut used = Used::default();
    let flow = visit_expressions_mut(statement, |expr| match replacement(expr, params, now_ns, &mut used) {
        Ok(None) => ControlFlow::Continue(()),
        Ok(Some(bound)) => {
            *expr = bound;
            ControlFlow::Continue(())
        }
        Err(e) => ControlFlow::Break(e),
    });
    match flow {
        ControlFlow::Continue(()) => Ok(used),
        ControlFlow::Break((message, hint)) => Err(JobError::at(path, message).hint(hint)),
    }
}

fn replacement(
    expr: &Expr,
    params: &BTreeMap<String, Param>,
    now_ns: i64,
    used: &mut Used,
) -> Result<Option<Expr>, (String, String)> {
    let Expr::Value(value) = expr else { return Ok(None) };
    let Value::Placeholder(id) = &value.value else { return Ok(None) };
    let name = id.trim_start_matches(['$', ':', '@']);
    match params.get(name) {
        Some(param) => {
            used.names.insert(name.to_owned());
            literal(param).map(Some).map_err(|m| (format!("parameter `${name}`: {m}"), "fix the parameter".into()))
        }
        None if name == NOW => {
            used.clock = true;
            let now = DateTime::from_timestamp_nanos(now_ns).to_rfc3339_opts(SecondsFormat::Nanos, true);
            Ok(Some(cast(now, DataType::Timestamp(None, TimezoneInfo::None))))
        }
        None => Err((format!("unknown parameter `{id}`"), known(params))),
    }
}

fn known(params: &BTreeMap<String, Param>) -> String {
    let names: Vec<_> = params.keys().map(|k| format!("${k}")).chain([format!("${NOW}")]).collect();
    format!("known parameters: {}", names.join(", "))
}

fn literal(param: &Param) -> Result<Expr, String> {
    Ok(match param {
        Param::Bool(value) => Expr::value(Value::Boolean(*value)),
        Param::Int(value) => cast(value.to_string(), DataType::BigInt(None)),
        // `{:?}` writes the shortest text that reads back as the same bits.
        Param::Float(value) => cast(format!("{value:?}"), DataType::Double(ExactNumberInfo::None)),
        Param::Text(value) => text(value),
        Param::Date(value) => {
            NaiveDate::parse_from_str(value, "%Y-%m-%d").map_err(|e| format!("`{value}` is not a date: {e}"))?;
            cast(value.clone(), DataType::Date)
        }
        Param::Timestamp(value) => {
            arrow::compute::kernels::cast_utils::string_to_timestamp_nanos(value)
                .map_err(|e| format!("`{value}` is not a time: {e}"))?;
            cast(value.clone(), DataType::Timestamp(None, TimezoneInfo::None))
        }
    })
}

fn text(value: &str) -> Expr {
    Expr::value(Value::SingleQuotedString(value.to_owned()))
}

fn cast(value: String, data_type: DataType) -> Expr {
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(text(&value)), data_type, array: false, format: None }
}
