//! Which views a query reads, directly or through others: what a document of the query has to carry.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::visit_relations;

use super::{ViewText, text};

/// The views behind a query that has been planned, in their order. A WITH part of the same name counts as the view.
pub(crate) fn reached(views: &[ViewText], sql: &str) -> Vec<ViewText> {
    let mut wanted = mentioned(sql);
    let mut found = Vec::new();
    // A view sees only those before it, so one look from the last to the first finds all.
    for view in views.iter().rev() {
        if wanted.remove(&view.name) {
            wanted.extend(mentioned(&view.sql));
            found.push(view.clone());
        }
    }
    found.reverse();
    found
}

/// Names of the tables and views in a text, as they are written: no session changes their case. None in one that does not parse, which no plan comes from.
fn mentioned(sql: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let Ok(statement) = text::parse(sql, "") else { return names };
    let _ = visit_relations(&statement, |name| {
        let ident = name.0.last().and_then(|part| part.as_ident());
        names.extend(ident.map(|i| i.value.clone()));
        ControlFlow::<()>::Continue(())
    });
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_behind_views_are_reached_and_others_are_not() {
        let view = |name: &str, sql: &str| ViewText { name: name.into(), sql: sql.into(), path: String::new() };
        let views = [
            view("a", "SELECT * FROM t"),
            view("b", "SELECT * FROM a"),
            view("c", "SELECT * FROM t"),
            view("d", "SELECT * FROM b JOIN u USING (id)"),
            view("Cheap", "SELECT * FROM c"),
        ];
        let names = |sql: &str| reached(&views, sql).into_iter().map(|v| v.name).collect::<Vec<_>>();
        assert_eq!(names("SELECT * FROM d"), ["a", "b", "d"]);
        assert_eq!(names("SELECT * FROM \"c\" WHERE x IN (SELECT x FROM a)"), ["a", "c"]);
        assert_eq!(names("SELECT * FROM t"), [""; 0]);
        // Names are what is written, with quotes and without.
        assert_eq!(names("SELECT * FROM Cheap"), ["c", "Cheap"]);
        assert_eq!(names("SELECT * FROM \"Cheap\""), ["c", "Cheap"]);
        assert_eq!(names("SELECT * FROM cheap JOIN A USING (id)"), [""; 0]);
    }
}
