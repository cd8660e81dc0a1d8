//! Tables: borderless, numbers to the right, never wider than the look's width.

use comfy_table::{Cell, CellAlignment, ColumnConstraint, ContentArrangement, Table, TableComponent, presets};

use super::Look;

/// How a column stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
    /// Text that is never wrapped; others make room.
    Whole,
}

/// A table with a header line; each column with its alignment. Cells that do not fit are wrapped. Ends
/// with a line break.
pub fn table(look: &Look, columns: &[(&str, Align)], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(u16::try_from(look.width).unwrap_or(u16::MAX));
    table.force_no_tty();
    let line = if look.plain { '-' } else { '─' };
    for part in [TableComponent::HeaderLines, TableComponent::MiddleHeaderIntersections] {
        table.set_style(part, line);
    }
    table.set_header(columns.iter().map(|(name, align)| Cell::new(name).set_alignment(alignment(*align))));
    for row in rows {
        table.add_row(row.iter().zip(columns).map(|(text, (_, align))| Cell::new(text).set_alignment(alignment(*align))));
    }
    for (column, (_, align)) in table.column_iter_mut().zip(columns) {
        if *align == Align::Whole {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

fn alignment(align: Align) -> CellAlignment {
    match align {
        Align::Left | Align::Whole => CellAlignment::Left,
        Align::Right => CellAlignment::Right,
    }
}

/// Lines of `name  value` with the values under each other, indented by two. Ends with a line break.
pub fn facts(facts: &[(String, String)], look: &Look) -> String {
    let names = facts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let line = |(name, value): &(String, String)| {
        let indent = names + 4;
        let text = super::wrap(value, look.width.saturating_sub(indent).max(20), 0);
        let text = text.replace('\n', &format!("\n{}", " ".repeat(indent)));
        format!("  {name}{}  {text}\n", " ".repeat(names - name.chars().count()))
    };
    facts.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<String>> {
        let name = "a name that goes on and on and on and on and on".to_owned();
        vec![vec![name, "1.5".into(), "########".into()], vec!["b".into(), "-10.25".into(), "#".into()]]
    }

    const COLUMNS: [(&str, Align); 3] = [("name", Align::Left), ("value", Align::Right), ("", Align::Whole)];

    #[test]
    fn text_makes_room_for_what_is_whole() {
        let expected = concat!(
            " name                  value\n",
            "----------------------------------------\n",
            " a name that goes        1.5   ########\n",
            " on and on and on\n",
            " and on and on\n",
            " b                    -10.25   #\n",
        );
        let text = table(&Look::plain(40), &COLUMNS, &rows());
        assert_eq!(text, expected, "\n{text}");
        assert!(table(&Look::terminal(80), &COLUMNS, &rows()).lines().all(|l| l.chars().count() < 80));
    }

    #[test]
    fn values_stand_under_each_other() {
        let facts = |width| super::facts(&[("a".into(), "one".into()), ("long".into(), "x ".repeat(20))], &Look::plain(width));
        assert_eq!(facts(80), "  a     one\n  long  x x x x x x x x x x x x x x x x x x x x\n");
        assert_eq!(facts(40), "  a     one\n  long  x x x x x x x x x x x x x x x x\n        x x x x\n");
    }
}
