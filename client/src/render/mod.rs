//! What people see: progress on stderr, results on stdout. Everything but [`progress`] is a pure
//! function from values to text.

mod classes;
pub mod format;
pub mod jobs;
pub mod models;
pub mod plot;
pub mod progress;
pub mod report;
pub mod rows;
pub mod tables;
pub mod timing;
mod value;

use std::io::IsTerminal;

pub use self::models::{model_card, models_table};
pub use self::progress::{Phase, Progress};
pub use self::report::job_result;
pub use self::rows::rows_table;
pub use self::tables::{Align, facts, table};
pub use self::timing::{conclusion, timing};

/// Where text goes to: how wide, and with what means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Columns of the terminal, at least 40.
    pub width: usize,
    /// No terminal: ASCII instead of bars and marks.
    pub plain: bool,
    /// ANSI colours.
    pub color: bool,
}

impl Look {
    /// Standard output as it is: terminal or file, its width, `NO_COLOR`.
    pub fn stdout() -> Self {
        let terminal = std::io::stdout().is_terminal();
        let width = comfy_table::Table::new().width().map_or(100, usize::from);
        let color = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { width: width.clamp(40, 160), plain: !terminal, color }
    }

    /// Text for a file or a pipe of a width.
    pub fn plain(width: usize) -> Self {
        Self { width: width.max(40), plain: true, color: false }
    }

    /// Text for a terminal of a width, without colours.
    pub fn terminal(width: usize) -> Self {
        Self { width: width.max(40), plain: false, color: false }
    }

    fn paint(&self, text: &str, code: &str) -> String {
        if self.color { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// A heading.
    fn bold(&self, text: &str) -> String {
        self.paint(text, "1")
    }

    /// The mark of something that holds, warns or is broken.
    fn mark(&self, mark: Mark) -> String {
        let (plain, sign, code) = match mark {
            Mark::Good => ("ok  ", "✓", "32"),
            Mark::Warn => ("warn", "!", "33"),
            Mark::Bad => ("FAIL", "✗", "31"),
        };
        if self.plain { plain.to_owned() } else { self.paint(sign, code) }
    }
}

/// How something went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Good,
    Warn,
    Bad,
}

/// Breaks text at spaces so that no line is wider than `width`; lines after the first are indented by
/// `indent`. A word that is wider by itself is left whole.
fn wrap(text: &str, width: usize, indent: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    for paragraph in text.lines() {
        let mut line = if lines.is_empty() { String::new() } else { " ".repeat(indent) };
        let mut empty = true;
        for word in paragraph.split_whitespace() {
            if !empty && line.chars().count() + 1 + word.chars().count() > width {
                lines.push(std::mem::replace(&mut line, " ".repeat(indent)));
                empty = true;
            }
            if !empty {
                line.push(' ');
            }
            line.push_str(word);
            empty = false;
        }
        lines.push(line);
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wraps_at_spaces_and_keeps_long_words() {
        assert_eq!(wrap("a bb ccc dddd", 8, 2), "a bb ccc\n  dddd");
        assert_eq!(wrap("averyveryverylongword b", 8, 2), "averyveryverylongword\n  b");
        assert_eq!(wrap("one\ntwo", 80, 2), "one\n  two");
        assert_eq!(wrap("", 80, 2), "");
    }

    #[test]
    fn colors_only_where_asked() {
        assert_eq!(Look::terminal(80).bold("x"), "x");
        assert_eq!(Look { color: true, ..Look::terminal(80) }.bold("x"), "\u{1b}[1mx\u{1b}[0m");
        assert_eq!(Look::plain(80).mark(Mark::Bad), "FAIL");
        assert_eq!(Look::terminal(80).mark(Mark::Good), "✓");
    }
}
