//! `standardize` and `min_max`: `(x − shift) · scale` in f64, with constants from the training rows.
//! A column that is constant there gets scale 0, so that it is 0 everywhere.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::features::columns::{Col, Kind};
use crate::features::fit::{self, Measured};
use crate::features::plan::{PlannedKind, Planner};
use crate::features::{FitError, Fitted, Type};

/// Which of the two steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scaling {
    /// shift = mean, scale = 1 / standard deviation (ddof 0), as scikit-learn's `StandardScaler`.
    Standardize,
    /// shift = min, scale = 1 / (max − min), as scikit-learn's `MinMaxScaler`.
    MinMax,
}

impl Scaling {
    /// Name as written in the job file.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Scaling::Standardize => "standardize",
            Scaling::MinMax => "min_max",
        }
    }
}

/// `(x − shift) · scale` of one column. Missing values stay missing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Affine {
    /// The column, changed in place.
    pub column: String,
    /// Subtracted first.
    pub shift: f64,
    /// Multiplied then.
    pub scale: f64,
}

/// Validates the step: numbers; `*` leaves out declared codes.
pub(crate) fn plan(planner: &mut Planner, path: &str, columns: &[String], how: Scaling) -> Option<PlannedKind> {
    let wild = |c: &Col| c.ty().is_some_and(Type::is_number) && !c.categorical;
    let fits = |c: &Col| c.ty().is_some_and(Type::is_numeric_feature);
    let names = planner.select(&format!("{path}.columns"), columns, wild, fits, "numeric columns", false);
    let mut out = Vec::new();
    for name in names {
        let quiet = planner.frame.get(&name).is_some_and(|c| c.indicator);
        planner.replace(&name, Kind::Plain(Type::Float64));
        out.push((name, quiet));
    }
    Some(PlannedKind::Affine { columns: out, how })
}

/// Constants from the `moments` of the training rows; the bool of a column silences its warning.
pub(crate) fn fit(
    place: &str,
    label: &str,
    columns: &[(String, bool)],
    how: Scaling,
    result: Value,
    warnings: &mut Vec<String>,
) -> Result<Fitted, FitError> {
    let measured = fit::moments(label, result)?;
    let mut out = Vec::with_capacity(columns.len());
    for (name, quiet) in columns {
        let m = fit::measured(place, &measured, name)?;
        if m.min == m.max && !quiet {
            warnings.push(format!("{place}: column `{name}` is constant in the training rows; as a feature it is 0"));
        }
        let (shift, scale) = constants(how, &m);
        fit::finite(place, name, [shift, scale])?;
        out.push(Affine { column: name.clone(), shift, scale });
    }
    Ok(Fitted::Affine { how, columns: out })
}

fn constants(how: Scaling, m: &Measured) -> (f64, f64) {
    match how {
        _ if m.min == m.max => (m.min, 0.0),
        Scaling::Standardize => (m.mean, 1.0 / m.variance.sqrt()),
        Scaling::MinMax => (m.min, 1.0 / (m.max - m.min)),
    }
}

/// Applies the step in f64.
pub(crate) fn apply(values: Vec<f64>, shift: f64, scale: f64) -> Vec<f64> {
    values.into_iter().map(|x| (x - shift) * scale).collect()
}
