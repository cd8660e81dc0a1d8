//! Rows for people: a line a row, cut to the width of the terminal. Numbers and times are never cut; columns that find no
//! room are named below. Text cannot move the cursor: what does not print is escaped.

use super::tables::{self, Align};
use super::{Look, wrap};
use crate::rows::Cells;

/// Widest text where there is room for all.
const WIDEST: usize = 60;

/// Narrowest text that columns are cut to before the last ones are left out.
const NARROWEST: usize = 8;

/// Space between two cells.
const SPACE: usize = 3;

/// What stands for null; a text of that name stands in quotes.
const NULL: &str = "NULL";

/// The rows under their names. Ends with a line break.
pub fn rows_table(cells: &Cells, look: &Look) -> String {
    if cells.columns.is_empty() {
        return String::new();
    }
    let texts: Vec<Vec<String>> = cells.rows.iter().map(|row| row.iter().map(|cell| shown(cell.as_deref())).collect()).collect();
    let names: Vec<String> = cells.columns.iter().map(|column| escaped(&column.name)).collect();
    // One space before the first and after the last.
    let widths = fit(natural(cells, &names, &texts), look.width.saturating_sub(2) + SPACE);
    let align = |numeric| if numeric { Align::Right } else { Align::Whole };
    let heads: Vec<(String, Align)> =
        names.iter().zip(&widths).zip(&cells.columns).map(|((name, width), c)| (cut(name, *width), align(c.numeric))).collect();
    let heads: Vec<(&str, Align)> = heads.iter().map(|(name, align)| (name.as_str(), *align)).collect();
    let line = |row: &Vec<String>| row.iter().zip(&widths).map(|(text, width)| cut(text, *width)).collect();
    let mut text = tables::table(look, &heads, &texts.iter().map(line).collect::<Vec<_>>());
    if widths.len() < names.len() {
        let hidden = format!("not shown for want of room: {}", names[widths.len()..].join(", "));
        text.push_str(&format!("{}\n", wrap(&hidden, look.width, 2)));
    }
    text
}

/// Width of a column, and how far it may be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Width {
    wanted: usize,
    least: usize,
}

fn natural(cells: &Cells, names: &[String], texts: &[Vec<String>]) -> Vec<Width> {
    let column = |(at, column): (usize, &crate::rows::ColumnHead)| {
        let values = texts.iter().map(|row| length(&row[at])).max().unwrap_or(0);
        let name = length(&names[at]);
        match column.whole {
            true => Width { wanted: values.max(name.min(WIDEST)), least: values.max(name.min(NARROWEST)) },
            false => {
                let wanted = values.max(name).min(WIDEST);
                Width { wanted, least: wanted.min(NARROWEST) }
            }
        }
    };
    cells.columns.iter().enumerate().map(column).collect()
}

/// Widths of as many columns, from the first on, as fit with the space behind each: the widest give way first.
fn fit(mut columns: Vec<Width>, room: usize) -> Vec<usize> {
    let narrowest = |columns: &[Width]| columns.iter().map(|column| column.least + SPACE).sum::<usize>();
    while columns.len() > 1 && narrowest(&columns) > room {
        columns.pop();
    }
    while columns.iter().map(|column| column.wanted + SPACE).sum::<usize>() > room {
        let widest = columns.iter_mut().filter(|column| column.wanted > column.least).max_by_key(|column| column.wanted);
        let Some(widest) = widest else { break };
        widest.wanted -= 1;
    }
    columns.into_iter().map(|column| column.wanted).collect()
}

fn shown(cell: Option<&str>) -> String {
    match cell {
        None => NULL.to_owned(),
        Some(NULL) => format!("\"{NULL}\""),
        Some(text) => escaped(text),
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        // Marks that turn the direction of writing could make a row show what it does not say.
        let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        match c.is_control() || turns {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    out
}

fn length(text: &str) -> usize {
    text.chars().count()
}

fn cut(text: &str, width: usize) -> String {
    if length(text) <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::rows::{ColumnHead, samples};

    fn check(text: &str, expected: &str, width: usize) {
        assert_eq!(text, expected, "\n{text}");
        assert!(text.lines().all(|line| line.chars().count() <= width), "wider than {width}");
    }

    fn cells() -> Cells {
        let rows = samples::rows();
        let mut cells = Cells::new(&rows.schema());
        cells.add(&rows).unwrap();
        cells
    }

    #[test]
    fn rows_at_three_widths() {
        check(&rows_table(&cells(), &Look::terminal(160)), include_str!("rows/all_160.txt"), 160);
        check(&rows_table(&cells(), &Look::terminal(100)), include_str!("rows/all_100.txt"), 100);
        check(&rows_table(&cells(), &Look::plain(50)), include_str!("rows/all_50.txt"), 50);
    }

    #[test]
    fn long_text_gives_way_and_numbers_do_not() {
        let head = |name: &str| ColumnHead { name: name.into(), numeric: name != "text", whole: name != "text" };
        let columns = ["text", "a_long_name_of_a_number"].map(head);
        let rows = vec![vec![Some("x".repeat(200)), Some("123456789012345678".to_owned())]];
        let text = rows_table(&Cells { columns: columns.into(), rows }, &Look::plain(40));
        let expected = concat!(
            " text                a_long_name_of_a_…\n",
            "----------------------------------------\n",
            " xxxxxxxxxxxxxxxx…   123456789012345678\n",
        );
        check(&text, expected, 40);
    }

    #[test]
    fn nothing_in_a_row_moves_the_cursor() {
        let columns = vec![ColumnHead { name: "a\u{1b}[2J".into(), numeric: false, whole: false }];
        let rows = vec![vec![Some("\u{1b}]0;t\u{7}\r\nb\tc\u{202e}".to_owned())], vec![Some(String::new())], vec![None]];
        let text = rows_table(&Cells { columns, rows }, &Look::terminal(80));
        assert!(text.contains("\\u{1b}]0;t\\u{7}\\r\\nb\\tc\\u{202e}") && text.contains(" NULL"), "{text}");
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    }

    #[test]
    fn no_rows_still_have_names() {
        let text = rows_table(&Cells { rows: Vec::new(), ..cells() }, &Look::plain(100));
        assert!(text.starts_with(" id   x   price   flag"), "{text}");
        assert_eq!(rows_table(&Cells::default(), &Look::plain(80)), "");
    }
}
