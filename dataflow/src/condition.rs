//! A condition that a job gives as text, before it becomes part of a query: one expression and nothing else, so that in
//! parentheses it means what it says.

use datafusion::sql::parser::DFParserBuilder;

use crate::job::JobError;
use crate::operators;
use crate::session::{MAX_SQL_BYTES, MAX_SQL_DEPTH};
use crate::sql::message;

/// An error unless the text is one SQL expression. What it names is judged when the query is planned.
pub fn check(sql: &str, path: &str) -> Result<(), JobError> {
    if sql.len() > MAX_SQL_BYTES {
        return Err(JobError::at(path, format!("the SQL has {} bytes, at most {MAX_SQL_BYTES} are allowed", sql.len())));
    }
    operators::check(sql, path)?;
    let refused = |e| JobError::at(path, message(&e)).hint("write one condition, as in `amount > 0 AND city = 'bern'`");
    let mut parser = DFParserBuilder::new(sql).with_recursion_limit(MAX_SQL_DEPTH).build().map_err(refused)?;
    match parser.parse_into_expr().map_err(refused)?.alias {
        None => Ok(()),
        Some(alias) => Err(JobError::at(path, format!("a condition takes no name: `AS {alias}`"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_expression_passes_and_nothing_else() {
        for good in ["a > 1", "at >= $as_of AND (b IS NULL OR c LIKE 'x%')", "a > 1 -- why", "x IN (SELECT x FROM t)"] {
            assert_eq!(check(good, "p"), Ok(()), "{good}");
        }
        for bad in
            ["", "a >", "a > 1) OR (1 = 1", "a > 1; SELECT 2", "a > 1 UNION SELECT 2", "a > 1 AS b", "a /* b", "a ORDER BY b"]
        {
            assert!(check(bad, "p").is_err(), "{bad}");
        }
    }
}
