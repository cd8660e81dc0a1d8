//! Errors of planning in our words: what was not found, what is known instead, lower case and without prefixes.

use datafusion::common::{DataFusionError, SchemaError};

use super::catalog::Scope;
use crate::job::JobError;

pub(super) fn planning_error(error: &DataFusionError, scope: &Scope, path: &str) -> JobError {
    let text = message(error);
    if let DataFusionError::SchemaError(inner, _) = error.find_root()
        && let SchemaError::FieldNotFound { field, .. } = inner.as_ref()
    {
        let columns: Vec<_> = scope.columns.iter().flat_map(|(_, s)| s.fields().iter().map(|f| f.name().as_str())).collect();
        return JobError::at(path, format!("column `{}` not found", field.flat_name())).hint(column_hint(field.name(), &columns));
    }
    if let Some(rest) = text.strip_prefix("table '") {
        let name = rest.split('\'').next().unwrap_or(rest).trim_start_matches("datafusion.public.");
        let names: Vec<_> = scope.columns.iter().map(|(name, _)| name.as_str()).collect();
        return JobError::at(path, format!("table `{name}` not found")).hint(format!("known tables: {}", names.join(", ")));
    }
    JobError::at(path, text)
}

fn column_hint(name: &str, columns: &[&str]) -> String {
    if let Some(same) = columns.iter().find(|c| c.eq_ignore_ascii_case(name)) {
        return format!("names are case-sensitive: `{same}`");
    }
    let shown: Vec<_> = columns.iter().take(40).copied().collect();
    let more = if columns.len() > shown.len() { ", …" } else { "" };
    format!("known columns: {}{more}", shown.join(", "))
}

/// The message of a query error as ours are written: lower case, no prefix of its kind, no full stop.
pub(crate) fn message(error: &DataFusionError) -> String {
    let text = match error.find_root() {
        DataFusionError::Plan(m) | DataFusionError::NotImplemented(m) | DataFusionError::Execution(m) => m.clone(),
        DataFusionError::SQL(e, _) => e.to_string(),
        other => other.strip_backtrace(),
    };
    in_our_words(&text)
}

/// The same for an error that came as text, its kind cut off.
pub(crate) fn in_our_words(text: &str) -> String {
    let first = text.split("\nbacktrace:").next().unwrap_or(text).trim();
    let first = ["Error during planning: ", "Schema error: ", "Arrow error: ", "sql parser error: "]
        .iter()
        .fold(first, |t, prefix| t.strip_prefix(prefix).unwrap_or(t));
    if first.contains("does not support logical expression") && (first.contains("Subquery") || first.contains("OuterReference")) {
        return "a subquery that refers to the outer query in this way is not supported yet: write it as a join, or with a window"
            .to_owned();
    }
    let mut chars = first.trim_end_matches('.').chars();
    match chars.next() {
        Some(head) if chars.as_str().starts_with(|c: char| c.is_lowercase() || c == ' ') => {
            head.to_lowercase().chain(chars).collect()
        }
        Some(head) => std::iter::once(head).chain(chars).collect(),
        None => String::new(),
    }
}
