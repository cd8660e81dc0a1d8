//! `impute`: replaces missing values (null and NaN) by a constant, given or found in the training rows.
//! Values are kept as canonical text, so that a fitted pipeline loses no digit in any format.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, Scalar};
use arrow::compute::kernels::zip::zip;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::features::columns::{Col, Kind};
use crate::features::fit::{self, Seen};
use crate::features::kinds::{Type, missing, numbers};
use crate::features::plan::{PlannedKind, Planner};
use crate::features::render::{float, one_value};
use crate::features::{FitError, Fitted};
use crate::job::{ImputeStrategy, JobError};

/// Most distinct values of a column whose most frequent one is looked for.
pub(crate) const MOST_DISTINCT: u64 = 1_000_000;

/// A column to be filled, before its value is known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ImputeColumn {
    pub column: String,
    /// Type of the filled column.
    pub data_type: Type,
    pub indicator: Option<String>,
}

/// Columns with their replacement values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Imputed {
    /// How the values were found.
    pub strategy: ImputeStrategy,
    /// A value per column.
    pub fills: Vec<Fill>,
}

/// The replacement value of one column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fill {
    /// The column, filled in place.
    pub column: String,
    /// Canonical text of the value.
    pub value: String,
    /// Type of the filled column.
    pub data_type: Type,
    /// The column that is 1 where a value was missing, else 0.
    pub indicator: Option<String>,
}

/// Validates the step.
pub(crate) fn plan(
    planner: &mut Planner,
    path: &str,
    columns: &[String],
    strategy: ImputeStrategy,
    fill_value: Option<&Value>,
    indicator: bool,
) -> Option<PlannedKind> {
    let given = given_value(planner, path, strategy, fill_value)?;
    let fits = |c: &Col| c.ty().is_some_and(|ty| accepts(strategy, given.as_deref(), fill_value, ty));
    let wild = |c: &Col| fits(c) && !(c.categorical && averages(strategy)) && !(c.ty() == Some(Type::Bool) && averages(strategy));
    let takes = takes(strategy, fill_value);
    let names = planner.select(&format!("{path}.columns"), columns, wild, fits, takes, false);
    let mut out = Vec::new();
    for name in names {
        let Some(ty) = planner.frame.get(&name).and_then(Col::ty) else { continue };
        let data_type = filled_type(strategy, given.as_deref(), ty);
        planner.replace(&name, Kind::Plain(data_type));
        let indicator = indicator.then(|| format!("{name}_missing"));
        if let Some(indicator) = &indicator {
            planner.add(path, Col { indicator: true, ..Col::plain(indicator, Type::Int(64)) });
        }
        out.push(ImputeColumn { column: name, data_type, indicator });
    }
    Some(match given {
        None => PlannedKind::Impute { columns: out, strategy },
        Some(value) => PlannedKind::Ready(filled(strategy, out.into_iter().map(|c| (c, value.clone())))),
    })
}

/// The value of `constant` as text: `Some(None)` for the other strategies, `None` after an error.
fn given_value(planner: &mut Planner, path: &str, strategy: ImputeStrategy, value: Option<&Value>) -> Option<Option<String>> {
    let path = format!("{path}.fill_value");
    let error = match (strategy, value) {
        (ImputeStrategy::Constant, Some(Value::Bool(v))) => return Some(Some(v.to_string())),
        (ImputeStrategy::Constant, Some(Value::String(v))) => return Some(Some(v.clone())),
        (ImputeStrategy::Constant, Some(Value::Number(v))) => {
            let whole = v.as_i64().map(|i| i.to_string()).or_else(|| v.as_u64().map(|u| u.to_string()));
            return Some(whole.or_else(|| v.as_f64().map(float)));
        }
        (ImputeStrategy::Constant, None) => JobError::at(path, "the strategy constant needs a value").hint("fill_value: 0"),
        (ImputeStrategy::Constant, Some(_)) => JobError::at(path, "the value must be a number, a text, true or false"),
        (_, None) => return Some(None),
        (_, Some(_)) => JobError::at(path, "only the strategy constant takes a value").hint("strategy: constant"),
    };
    planner.errors.push(error);
    planner.broken = true;
    None
}

fn averages(strategy: ImputeStrategy) -> bool {
    matches!(strategy, ImputeStrategy::Mean | ImputeStrategy::Median)
}

fn accepts(strategy: ImputeStrategy, given: Option<&str>, value: Option<&Value>, ty: Type) -> bool {
    match (strategy, given, value) {
        (ImputeStrategy::Mean | ImputeStrategy::Median, _, _) => ty.is_numeric_feature(),
        (ImputeStrategy::MostFrequent, _, _) => true,
        (_, _, Some(Value::Number(_))) => ty.is_number(),
        (_, _, Some(Value::Bool(_))) => ty == Type::Bool,
        (_, Some(text), _) => ty == Type::Text || (matches!(ty, Type::Date | Type::Timestamp) && one_value(text, ty).is_some()),
        _ => false,
    }
}

fn takes(strategy: ImputeStrategy, value: Option<&Value>) -> &'static str {
    match (strategy, value) {
        (ImputeStrategy::Mean | ImputeStrategy::Median, _) | (_, Some(Value::Number(_))) => "numeric columns",
        (_, Some(Value::Bool(_))) => "bool columns",
        (_, Some(_)) => "text columns, and dates and timestamps where the value is one",
        _ => "columns that are not encoded yet",
    }
}

/// Means and medians are floats; other values keep the column's type where it can hold them.
fn filled_type(strategy: ImputeStrategy, given: Option<&str>, ty: Type) -> Type {
    let keeps = match given {
        _ if averages(strategy) || matches!(ty, Type::Decimal(..)) => false,
        Some(text) => one_value(text, ty).is_some(),
        None => true,
    };
    if keeps { ty } else { Type::Float64 }
}

fn filled(strategy: ImputeStrategy, values: impl Iterator<Item = (ImputeColumn, String)>) -> Fitted {
    let fill =
        |(c, value): (ImputeColumn, String)| Fill { column: c.column, value, data_type: c.data_type, indicator: c.indicator };
    Fitted::Impute(Imputed { strategy, fills: values.map(fill).collect() })
}

/// Values from the training rows: `moments`, `quantiles` or `vocabulary`, as the strategy asks.
pub(crate) fn fit(
    place: &str,
    label: &str,
    columns: &[ImputeColumn],
    strategy: ImputeStrategy,
    result: Value,
) -> Result<Fitted, FitError> {
    let names = || columns.iter().map(|c| c.column.as_str());
    let values: Vec<String> = match strategy {
        ImputeStrategy::Mean => {
            let measured = fit::moments(label, result)?;
            names().map(|n| Ok(float(fit::measured(place, &measured, n)?.mean))).collect::<Result<_, FitError>>()?
        }
        ImputeStrategy::Median => {
            let medians = fit::medians(label, result)?;
            names().map(|n| median(place, &medians, n)).collect::<Result<_, FitError>>()?
        }
        ImputeStrategy::MostFrequent | ImputeStrategy::Constant => {
            let seen = fit::vocabulary(label, result)?;
            let value = |c: &ImputeColumn| most_frequent(place, fit::column(place, &seen, &c.column)?, c.data_type);
            columns.iter().map(value).collect::<Result<_, FitError>>()?
        }
    };
    Ok(filled(strategy, columns.iter().cloned().zip(values)))
}

fn median(place: &str, medians: &[(String, Option<f64>)], column: &str) -> Result<String, FitError> {
    let value = medians.iter().find(|(n, _)| n == column).and_then(|(_, v)| *v);
    let value = value.ok_or_else(|| fit::all_missing(place, column))?;
    fit::finite(place, column, [value, 0.0])?;
    Ok(float(value))
}

/// Highest count; of several the smallest value: by number where it is one, else bytewise.
fn most_frequent(place: &str, seen: &Seen, ty: Type) -> Result<String, FitError> {
    let top = seen.values.iter().map(|(_, n)| *n).max().ok_or_else(|| fit::all_missing(place, &seen.name))?;
    let tied = seen.values.iter().filter(|(_, n)| *n == top).map(|(v, _)| v);
    let best = if ty.is_integer() {
        tied.min_by_key(|v| v.parse::<i128>().unwrap_or(i128::MAX))
    } else if ty.is_number() {
        let number = |v: &String| v.parse::<f64>().unwrap_or(f64::INFINITY);
        tied.min_by(|a, b| number(a).total_cmp(&number(b)))
    } else {
        tied.min()
    };
    best.cloned().ok_or_else(|| fit::all_missing(place, &seen.name))
}

/// Replaces missing values of a column of type `from`.
pub(crate) fn apply(array: &ArrayRef, from: Type, fill: &Fill) -> Result<ArrayRef, FitError> {
    let made = |source| FitError::Arrow { what: format!("impute `{}`", fill.column), source };
    if fill.data_type == Type::Float64 {
        let value: f64 = fill.value.parse().map_err(|_| unreadable(fill))?;
        let filled = numbers(array, from).into_iter().map(|v| if v.is_nan() { value } else { v });
        return Ok(Arc::new(arrow::array::Float64Array::from_iter_values(filled)));
    }
    let value = one_value(&fill.value, fill.data_type).ok_or_else(|| unreadable(fill))?;
    zip(&missing(array, from), &Scalar::new(value), array).map_err(made)
}

/// 1 where a value is missing.
pub(crate) fn indicate(array: &ArrayRef, from: Type) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(missing(array, from).values().iter().map(i64::from)))
}

fn unreadable(fill: &Fill) -> FitError {
    let (column, value, ty) = (&fill.column, &fill.value, fill.data_type.name());
    FitError::Data(format!("impute `{column}`: the value `{value}` is no {ty}; the pipeline was changed or damaged"))
}
