//! The statements: the 22 TPC-H queries with the validation parameters of the specification, a file each, and
//! `more.sql`, where each begins with `-- name: NAME`. `-- ordered` says that ORDER BY settles every row's place.

use std::path::PathBuf;

/// One statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// `q01`, or the name in the list.
    pub name: String,
    /// The text, without a semicolon at its end.
    pub sql: String,
    /// Whether the order of the rows is part of the answer.
    pub ordered: bool,
}

impl Statement {
    fn new(name: &str, text: &str) -> Self {
        let ordered = text.lines().any(|line| line.trim() == "-- ordered");
        let sql: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
        let sql = sql.join("\n").trim().trim_end_matches(';').to_owned();
        assert!(!sql.is_empty(), "statement {name} is empty");
        Self { name: name.to_owned(), sql, ordered }
    }
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/tpch")
}

fn read(name: &str) -> String {
    let path = folder().join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()))
}

/// The 22 queries of TPC-H.
pub fn standard() -> Vec<Statement> {
    let names = (1..=22).map(|number| format!("q{number:02}"));
    names.map(|name| Statement::new(&name, &read(&format!("{name}.sql")))).collect()
}

/// The statements of `more.sql`.
pub fn more() -> Vec<Statement> {
    let statements = list(&read("more.sql"));
    let names: std::collections::BTreeSet<&str> = statements.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names.len(), statements.len(), "a name stands twice in more.sql");
    statements
}

/// The statements of a list.
fn list(text: &str) -> Vec<Statement> {
    let mut parts = text.split("-- name: ");
    let head = parts.next().unwrap_or_default();
    assert!(head.lines().all(|line| line.is_empty() || line.starts_with("--")), "SQL before the first name: {head}");
    let named = parts.map(|part| part.split_once('\n').unwrap_or_else(|| panic!("no statement behind the name {part}")));
    named.map(|(name, text)| Statement::new(name.trim(), text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_cut_at_its_names() {
        let found = list("-- a list\n\n-- name: one\n-- ordered\nSELECT 1;\n\n-- name: two\nSELECT\n  2\n");
        let expected = [("one", "SELECT 1", true), ("two", "SELECT\n  2", false)];
        let expected = expected.map(|(name, sql, ordered)| Statement { name: name.into(), sql: sql.into(), ordered });
        assert_eq!(found, expected);
    }

    #[test]
    fn all_statements_can_be_read() {
        assert_eq!(standard().len(), 22);
        assert!(more().len() > 60);
        // What has no order in its text cannot be told to be in order.
        let unordered = |s: &&Statement| s.ordered && !s.sql.contains("ORDER BY");
        assert_eq!(standard().iter().chain(&more()).filter(unordered).count(), 0);
    }
}
