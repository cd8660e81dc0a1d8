//! `sql`: row-wise expressions that make new columns or replace old ones. Each expression sees what
//! those before it made. It may read role columns, but never the target.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::features::Fitted;
use crate::features::columns::{Col, Kind};
use crate::features::expression;
use crate::features::kinds::Type;
use crate::features::plan::{PlannedKind, Planner};
use crate::job::{JobError, Param};

/// A column made by an expression.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SqlColumn {
    /// The column made or replaced.
    pub column: String,
    /// The expression as written.
    pub expression: String,
    /// Values of the parameters that it uses.
    pub params: BTreeMap<String, Param>,
    /// Columns that it reads.
    pub reads: Vec<String>,
    /// Type of its values.
    pub data_type: Type,
}

/// Validates one expression and adds its column.
pub(crate) fn plan(planner: &mut Planner, path: &str, column: &str, expression: &str) -> Option<PlannedKind> {
    let path = format!("{path}.{column}");
    if column.is_empty() {
        planner.errors.push(JobError::at(path, "a column needs a name"));
        return None;
    }
    let readable = planner.frame.inputs();
    let planned = match expression::plan(&planner.session, &path, expression, &readable, &planner.job.params) {
        Ok(planned) => planned,
        Err(error) => {
            let error = explain(planner, &path, error);
            planner.errors.push(error);
            // A column of an unknown type would only make errors that follow from this one.
            planner.broken = true;
            return None;
        }
    };
    check_reads(planner, &path, &planned.reads);
    replace(planner, &path, column, planned.ty);
    let params = planned.params.iter().filter_map(|p| Some((p.clone(), planner.job.params.get(p)?.clone()))).collect();
    Some(PlannedKind::Ready(Fitted::Sql(SqlColumn {
        column: column.to_string(),
        expression: expression.to_string(),
        params,
        reads: planned.reads,
        data_type: planned.ty,
    })))
}

/// A column that exists but cannot be read is not "not found".
fn explain(planner: &Planner, path: &str, error: JobError) -> JobError {
    let Some(name) = error.message.strip_prefix("column `").and_then(|m| m.split('`').next()) else { return error };
    let Some(col) = planner.frame.cols.iter().find(|c| c.name == name) else { return error };
    match (&col.gone, &col.kind) {
        (Some(_), _) => planner.frame.unknown(path, name),
        (None, Kind::Plain(_)) => error,
        (None, kind) => JobError::at(path, format!("column `{name}` is {} and cannot be read by an expression", kind.name()))
            .hint("move the expression before the step that encodes it"),
    }
}

fn check_reads(planner: &mut Planner, path: &str, reads: &[String]) {
    for name in reads {
        if planner.frame.get(name).and_then(|c| c.role.as_deref()) == Some("target") {
            let error = JobError::at(path, format!("the expression reads the target `{name}`"));
            planner.errors.push(error.hint("a feature made from the target cannot be computed when scoring"));
        }
    }
}

fn replace(planner: &mut Planner, path: &str, column: &str, ty: Type) {
    let old = planner.frame.get(column);
    if let Some(role) = old.and_then(|c| c.role.clone()) {
        let error = JobError::at(path, format!("`{column}` has the role {role} and cannot be replaced by a feature"));
        planner.errors.push(error.hint("give the new column another name"));
        return;
    }
    let categorical = old.is_some_and(|c| c.categorical) && ty.is_integer();
    planner.frame.put(Col { categorical, ..Col::plain(column, ty) });
}
