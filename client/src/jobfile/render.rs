//! Errors as a person reads them: message, place, the line with carets, and what to do.

use std::fmt::Write as _;

use super::{Diagnostic, Source};

/// Widest piece of a source line that is shown, in characters.
const WINDOW: usize = 120;

struct Style {
    error: &'static str,
    frame: &'static str,
    bold: &'static str,
    off: &'static str,
}

const PLAIN: Style = Style { error: "", frame: "", bold: "", off: "" };
const COLOR: Style = Style { error: "\x1b[1;31m", frame: "\x1b[1;34m", bold: "\x1b[1m", off: "\x1b[0m" };

/// All diagnostics, a blank line between them; ends with a line end. Control characters of the file are
/// never passed on to the terminal.
pub fn render(source: &Source, diagnostics: &[Diagnostic], color: bool) -> String {
    let style = if color { &COLOR } else { &PLAIN };
    let lines: Vec<&str> = source.text.strip_prefix('\u{feff}').unwrap_or(&source.text).lines().collect();
    let mut out = String::new();
    for (i, diagnostic) in diagnostics.iter().enumerate() {
        if i > 0 {
            out.push('\n');
        }
        one(&mut out, &source.name, &lines, diagnostic, style);
    }
    out
}

fn one(out: &mut String, name: &str, lines: &[&str], diagnostic: &Diagnostic, style: &Style) {
    let Style { error, frame, bold, off } = style;
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{error}error{off}{bold}: {}{off}", clean(&diagnostic.message, 0));
    let line = diagnostic.line.checked_sub(1).and_then(|l| lines.get(l));
    let margin = " ".repeat(diagnostic.line.to_string().len());
    if let Some(line) = line {
        let (text, before, width) = window(line, diagnostic.column, diagnostic.width);
        let _ = writeln!(out, "{margin}{frame}-->{off} {}:{}:{}", clean(name, 0), diagnostic.line, diagnostic.column);
        let _ = writeln!(out, "{margin} {frame}|{off}");
        let _ = writeln!(out, "{frame}{} |{off} {text}", diagnostic.line);
        let _ = writeln!(out, "{margin} {frame}|{off} {}{error}{}{off}", " ".repeat(before), "^".repeat(width));
    } else {
        let _ = writeln!(out, "{margin}{frame}-->{off} {}", clean(name, 0));
    }
    if let Some(hint) = &diagnostic.hint {
        let _ = writeln!(out, "{margin} {frame}={off} {bold}help{off}: {}", clean(hint, margin.len() + 3));
    }
}

/// The piece of a line around a place; columns before the place in it; how much to underline.
fn window(line: &str, column: usize, width: usize) -> (String, usize, usize) {
    let characters: Vec<char> = line.chars().collect();
    let at = column.saturating_sub(1).min(characters.len());
    let start = if characters.len() <= WINDOW { 0 } else { at.saturating_sub(WINDOW / 3).min(characters.len() - WINDOW) };
    let end = characters.len().min(start + WINDOW);
    let mut text: String = characters[start..end].iter().copied().map(printable).collect();
    let mut before = at - start;
    if start > 0 {
        text.insert(0, '…');
        before += 1;
    }
    if end < characters.len() {
        text.push('…');
    }
    (text, before, width.clamp(1, (end - at).max(1)))
}

fn printable(c: char) -> char {
    // Direction overrides can make a line read as another one.
    let direction = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if c == '\t' {
        ' '
    } else if c.is_control() || direction {
        '\u{fffd}'
    } else {
        c
    }
}

/// Printable text; further lines are indented.
fn clean(text: &str, indent: usize) -> String {
    let lines: Vec<String> = text.lines().map(|l| l.chars().map(printable).collect()).collect();
    lines.join(&format!("\n{}", " ".repeat(indent)))
}
