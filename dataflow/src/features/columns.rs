//! The columns as static validation sees them: which exist after each step, of what type, and whether
//! they are features; and the patterns (`*`, `prefix_*`, `-name`) that name several of them.

use serde::{Deserialize, Serialize};
use sheaf_learn::suggest::nearest;

use crate::features::kinds::Type;
use crate::job::JobError;

/// What a column holds between two steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Values that steps can read.
    Plain(Type),
    /// An Arrow type that features cannot use.
    Other(String),
    /// One-hot encoded: nothing but drop, keep and rename.
    Slots,
    /// Hashed, with its width.
    Sparse(u32),
}

impl Kind {
    /// As messages show it.
    pub(crate) fn name(&self) -> String {
        match self {
            Kind::Plain(ty) => ty.name(),
            Kind::Other(name) => name.clone(),
            Kind::Slots => "one-hot encoded".into(),
            Kind::Sparse(_) => "hashed".into(),
        }
    }
}

/// One column between two steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Col {
    pub name: String,
    pub kind: Kind,
    /// `target`, `key`, …: a role column is never a feature.
    pub role: Option<String>,
    /// Whether it is in the feature set now.
    pub feature: bool,
    /// Integer codes by declaration.
    pub categorical: bool,
    /// Who removed it, where it was removed for good (`features[3].drop`).
    pub gone: Option<String>,
    /// Made by `impute` to say where values were missing.
    pub indicator: bool,
}

impl Col {
    pub(crate) fn plain(name: &str, ty: Type) -> Col {
        let (name, kind) = (name.to_string(), Kind::Plain(ty));
        Col { name, kind, role: None, feature: true, categorical: false, gone: None, indicator: false }
    }

    pub(crate) fn ty(&self) -> Option<Type> {
        match self.kind {
            Kind::Plain(ty) => Some(ty),
            _ => None,
        }
    }
}

/// All columns in order: prepared ones first, then those that steps made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Frame {
    pub cols: Vec<Col>,
}

impl Frame {
    pub(crate) fn get(&self, name: &str) -> Option<&Col> {
        self.cols.iter().find(|c| c.name == name && c.gone.is_none())
    }

    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut Col> {
        self.cols.iter_mut().find(|c| c.name == name && c.gone.is_none())
    }

    /// Columns whose values can be read, with their types.
    pub(crate) fn inputs(&self) -> Vec<(String, Type)> {
        self.cols.iter().filter(|c| c.gone.is_none()).filter_map(|c| Some((c.name.clone(), c.ty()?))).collect()
    }

    /// Features in order.
    pub(crate) fn features(&self) -> impl Iterator<Item = &Col> {
        self.cols.iter().filter(|c| c.feature && c.gone.is_none())
    }

    /// Where a column stands.
    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.cols.iter().position(|c| c.name == name && c.gone.is_none())
    }

    /// Adds a column at the end, or puts it in the place of one of that name.
    pub(crate) fn put(&mut self, col: Col) {
        match self.position(&col.name) {
            Some(at) => self.cols[at] = col,
            None => self.cols.push(col),
        }
    }

    /// The error for a name that is not there.
    pub(crate) fn unknown(&self, path: &str, name: &str) -> JobError {
        if let Some(by) = self.cols.iter().find(|c| c.name == name).and_then(|c| c.gone.as_deref()) {
            return JobError::at(path, format!("column `{name}` was removed by {by}")).hint("move this step before it");
        }
        let there = self.cols.iter().filter(|c| c.gone.is_none()).map(|c| c.name.as_str());
        JobError::at(path, format!("column `{name}` not found")).hint(meant(name, there, "columns here:"))
    }

    /// Resolves patterns to names of columns. Wildcards take features for which `accept` holds;
    /// exact names may be any column that is there (the caller checks whether it fits).
    pub(crate) fn select(&self, path: &str, patterns: &[String], accept: impl Fn(&Col) -> bool, takes: &str) -> Selected {
        let mut picked: Vec<String> = Vec::new();
        let mut errors = Vec::new();
        for (i, pattern) in patterns.iter().enumerate() {
            let place = if patterns.len() == 1 { path.to_string() } else { format!("{path}[{i}]") };
            let exact = self.get(pattern).is_some();
            match pattern.strip_prefix('-') {
                Some(removed) if !exact => self.unselect(&place, removed, &mut picked, &mut errors),
                _ if pattern.ends_with('*') && !exact => {
                    let found = self.matching(&pattern[..pattern.len() - 1], &accept);
                    if found.is_empty() {
                        let message = format!("`{pattern}` matches no feature column here; it takes {takes}");
                        errors.push(JobError::at(&place, message).hint("remove it, or name the columns"));
                    }
                    extend(&mut picked, found);
                }
                _ if exact => extend(&mut picked, vec![pattern.clone()]),
                _ => errors.push(self.unknown(&place, pattern)),
            }
        }
        if picked.is_empty() && errors.is_empty() {
            errors.push(JobError::at(path, "no column is left").hint(format!("name columns, or use \"*\" for all {takes}")));
        }
        Selected { picked, errors }
    }

    fn matching(&self, prefix: &str, accept: impl Fn(&Col) -> bool) -> Vec<String> {
        self.features().filter(|c| c.name.starts_with(prefix) && accept(c)).map(|c| c.name.clone()).collect()
    }

    fn unselect(&self, place: &str, removed: &str, picked: &mut Vec<String>, errors: &mut Vec<JobError>) {
        let known = match removed.strip_suffix('*') {
            Some(prefix) => self.cols.iter().any(|c| c.gone.is_none() && c.name.starts_with(prefix)),
            None => self.get(removed).is_some(),
        };
        if !known {
            errors.push(self.unknown(place, removed));
        } else if picked.is_empty() {
            let message = format!("`-{removed}` has nothing to take away from");
            errors.push(JobError::at(place, message).hint(format!("write \"*\" before it: [\"*\", -{removed}]")));
        }
        match removed.strip_suffix('*') {
            Some(prefix) => picked.retain(|name| !name.starts_with(prefix)),
            None => picked.retain(|name| name != removed),
        }
    }
}

/// What patterns came to.
pub(crate) struct Selected {
    pub picked: Vec<String>,
    pub errors: Vec<JobError>,
}

fn extend(picked: &mut Vec<String>, more: Vec<String>) {
    for name in more {
        if !picked.contains(&name) {
            picked.push(name);
        }
    }
}

/// `a`, `b`, `c` … at most twelve.
pub(crate) fn listed<'a>(names: impl Iterator<Item = &'a str> + Clone) -> String {
    let total = names.clone().count();
    let shown: Vec<String> = names.take(12).map(|n| format!("`{n}`")).collect();
    let more = if total > shown.len() { format!(" and {} more", total - shown.len()) } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

/// What to say of a name that is not there: the one that was meant, or else, after `intro`, those there are.
pub(crate) fn meant<'a>(name: &str, there: impl Iterator<Item = &'a str> + Clone, intro: &str) -> String {
    match nearest(name, there.clone()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("{intro} {}", listed(there)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> Frame {
        let mut frame = Frame::default();
        for (name, ty) in [("amt_in", Type::Float64), ("amt_out", Type::Float64), ("city", Type::Text), ("age", Type::Int(64))] {
            frame.put(Col::plain(name, ty));
        }
        frame.put(Col { role: Some("key".into()), feature: false, ..Col::plain("amt_id", Type::Int(64)) });
        frame
    }

    fn check(patterns: &[&str], expected: &[&str], errors: &[&str]) {
        let patterns: Vec<String> = patterns.iter().map(|p| p.to_string()).collect();
        let out = frame().select("p", &patterns, |c| c.ty().is_some_and(Type::is_number), "numeric columns");
        assert_eq!(out.picked, expected);
        let messages: Vec<String> = out.errors.iter().map(|e| e.to_string()).collect();
        assert_eq!(messages, errors);
    }

    #[test]
    fn patterns_resolve_in_column_order() {
        check(&["*"], &["amt_in", "amt_out", "age"], &[]);
        check(&["*", "-age"], &["amt_in", "amt_out"], &[]);
        check(&["amt_*", "city"], &["amt_in", "amt_out", "city"], &[]);
        check(&["age", "*"], &["age", "amt_in", "amt_out"], &[]);
        check(&["*", "-amt_*"], &["age"], &[]);
    }

    #[test]
    fn slips_are_answered() {
        check(&["amt_inn"], &[], &["p: column `amt_inn` not found\n  hint: did you mean `amt_in`?"]);
        check(
            &["zip_*"],
            &[],
            &["p: `zip_*` matches no feature column here; it takes numeric columns\n  hint: remove it, or name the columns"],
        );
        check(&["-age"], &[], &["p: `-age` has nothing to take away from\n  hint: write \"*\" before it: [\"*\", -age]"]);
    }
}
