//! YAML 1.2 (core schema) as a tree with places. Bounded in size, depth, nodes and what aliases may
//! expand to; duplicate keys, merge keys and tags are refused. Knows nothing of jobs.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span};

use super::{Diagnostic, MAX_BYTES, Place};

/// Deepest nesting of lists and maps.
pub const MAX_DEPTH: usize = 64;
/// Most nodes, aliases expanded.
pub const MAX_NODES: usize = 100_000;
/// Most text in scalars, aliases expanded, in bytes.
const MAX_TEXT: usize = 4 * MAX_BYTES;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub place: Place,
    /// Characters of the source that the value takes, from the first to after the last.
    pub range: (usize, usize),
    pub value: Yaml,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq)]
pub enum Yaml {
    Scalar { text: String, style: Style },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// How a scalar is written; only plain ones may be anything but text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Plain,
    Quoted,
    Block,
}

/// One `key: value`.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub key: String,
    pub place: Place,
    pub value: Node,
}

/// A scalar by the core schema.
#[derive(Debug, Clone, PartialEq)]
pub enum Core {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
}

impl Node {
    /// True for `~`, `null` and nothing at all.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Yaml::Scalar { text, style: Style::Plain } if core(text) == Core::Null)
    }

    /// What the value is, for messages.
    pub fn describe(&self) -> String {
        match &self.value {
            Yaml::List(_) => "a list".into(),
            Yaml::Map(_) => "a map".into(),
            Yaml::Scalar { text, style: Style::Plain } => describe_core(&core(text)),
            Yaml::Scalar { text, .. } => describe_core(&Core::Text(text.clone())),
        }
    }
}

/// What a scalar is, for messages.
pub fn describe_core(value: &Core) -> String {
    match value {
        Core::Null => "nothing".into(),
        Core::Bool(b) => format!("`{b}`"),
        Core::Int(i) => format!("the number {i}"),
        Core::Float(f) => format!("the number {f}"),
        Core::Text(t) => format!("the text `{}`", shorten(t)),
    }
}

/// At most 40 characters, on one line.
pub fn shorten(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(40) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None if line.len() < text.trim_end().len() => format!("{line}…"),
        None => line.to_owned(),
    }
}

/// Resolves a plain scalar (YAML 1.2.2, section 10.3.2).
pub fn core(text: &str) -> Core {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Core::Null,
        "true" | "True" | "TRUE" => return Core::Bool(true),
        "false" | "False" | "FALSE" => return Core::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Core::Float(f64::NAN),
        _ => {}
    }
    number(text).unwrap_or_else(|| Core::Text(text.to_owned()))
}

fn number(text: &str) -> Option<Core> {
    if let Some(digits) = text.strip_prefix("0x") {
        return radix(digits, 16);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return radix(digits, 8);
    }
    let (negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        return Some(Core::Float(if negative { f64::NEG_INFINITY } else { f64::INFINITY }));
    }
    let digits = |s: &str| s.len() - s.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let whole = digits(unsigned);
    let mut rest = &unsigned[whole..];
    if rest.is_empty() && whole > 0 {
        // An integer too wide for 128 bits stays a number; whoever wants an integer refuses it.
        return text.parse().map(Core::Int).or_else(|_| text.parse().map(Core::Float)).ok();
    }
    let mut fraction = 0;
    if let Some(after) = rest.strip_prefix('.') {
        fraction = digits(after);
        rest = &after[fraction..];
    }
    if whole + fraction == 0 {
        return None;
    }
    if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
        let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        if exponent.is_empty() || digits(exponent) != exponent.len() {
            return None;
        }
        rest = "";
    }
    if rest.is_empty() { text.parse().map(Core::Float).ok() } else { None }
}

fn radix(digits: &str, radix: u32) -> Option<Core> {
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    i128::from_str_radix(digits, radix).map(Core::Int).ok()
}

/// Reads the one document of a text. `None` after an error that leaves no tree; other errors (duplicate
/// keys …) are recorded and the first value is kept.
pub fn parse(text: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<Node> {
    let mut builder = Builder { diagnostics, frames: Vec::new(), anchors: BTreeMap::new(), nodes: 0, text: 0, root: None };
    match builder.run(text) {
        Ok(()) => builder.root,
        Err(fatal) => {
            diagnostics.push(fatal);
            None
        }
    }
}

enum Frame {
    List {
        start: (Marker, Place),
        anchor: usize,
        items: Vec<Node>,
    },
    Map {
        start: (Marker, Place),
        anchor: usize,
        entries: Vec<Entry>,
        seen: BTreeMap<String, Place>,
        key: Option<(String, Place)>,
    },
}

struct Builder<'d> {
    diagnostics: &'d mut Vec<Diagnostic>,
    frames: Vec<Frame>,
    anchors: BTreeMap<usize, Node>,
    nodes: usize,
    text: usize,
    root: Option<Node>,
}

impl Builder<'_> {
    fn run(&mut self, text: &str) -> Result<(), Diagnostic> {
        let start = Place { line: 1, column: 1, width: 1 };
        if text.len() > MAX_BYTES {
            let message = format!("the file has {} bytes; at most {MAX_BYTES} are read", text.len());
            return Err(Diagnostic::new(Place::default(), "", message));
        }
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut parser = Parser::new_from_str(text);
        let mut documents = 0;
        while let Some(event) = parser.next_event() {
            let (event, span) = event.map_err(|e| scan_error(&e, text))?;
            if matches!(event, Event::DocumentStart(_)) {
                documents += 1;
                if documents > 1 {
                    return Err(Diagnostic::new(place(&span), "", "a job file holds one document, this is a second one"));
                }
            }
            self.event(event, &span)?;
        }
        match &self.root {
            Some(root) if !root.is_null() => Ok(()),
            _ => {
                let mut empty = Diagnostic::new(start, "", "the file is empty");
                empty.help("a job starts with `version: 1`, `name:` and `tables:`");
                Err(empty)
            }
        }
    }

    fn event(&mut self, event: Event<'_>, span: &Span) -> Result<(), Diagnostic> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let mut style = match style {
                    ScalarStyle::Plain => Style::Plain,
                    ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => Style::Quoted,
                    ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
                };
                if let Some(tag) = tag {
                    if !(tag.is_yaml_core_schema() && tag.suffix == "str") {
                        return Err(tag_error(span));
                    }
                    style = Style::Quoted;
                }
                self.scalar(text.into_owned(), style, anchor, span)
            }
            Event::SequenceStart(anchor, tag) => {
                self.open(tag.is_some(), span)?;
                self.frames.push(Frame::List { start: (span.start, place(span)), anchor, items: Vec::new() });
                Ok(())
            }
            Event::MappingStart(anchor, tag) => {
                self.open(tag.is_some(), span)?;
                let start = (span.start, place(span));
                self.frames.push(Frame::Map { start, anchor, entries: Vec::new(), seen: BTreeMap::new(), key: None });
                Ok(())
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span),
            Event::Alias(anchor) => self.alias(anchor, span),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => Ok(()),
        }
    }

    fn scalar(&mut self, text: String, style: Style, anchor: usize, span: &Span) -> Result<(), Diagnostic> {
        if let Some(Frame::Map { key: key @ None, .. }) = self.frames.last_mut() {
            if style == Style::Plain && text == "<<" {
                let mut error = Diagnostic::new(place(span), "", "merge keys (`<<`) are not supported");
                error.help("write the keys out, or use an alias (`*name`) for a whole value");
                return Err(error);
            }
            *key = Some((text, place(span)));
            return Ok(());
        }
        self.charge(1, text.len(), span)?;
        let node =
            Node { place: place(span), range: (span.start.index(), span.end.index()), value: Yaml::Scalar { text, style } };
        self.remember(anchor, &node, span)?;
        self.attach(node);
        Ok(())
    }

    fn open(&mut self, tagged: bool, span: &Span) -> Result<(), Diagnostic> {
        if tagged {
            return Err(tag_error(span));
        }
        if matches!(self.frames.last(), Some(Frame::Map { key: None, .. })) {
            return Err(Diagnostic::new(place(span), "", "a key must be plain text, not a list or a map"));
        }
        if self.frames.len() >= MAX_DEPTH {
            return Err(Diagnostic::new(place(span), "", format!("nested deeper than {MAX_DEPTH} levels")));
        }
        self.charge(1, 0, span)
    }

    fn close(&mut self, span: &Span) -> Result<(), Diagnostic> {
        let (start, place, anchor, value) = match self.frames.pop() {
            Some(Frame::List { start: (start, place), anchor, items }) => (start, place, anchor, Yaml::List(items)),
            Some(Frame::Map { start: (start, place), anchor, entries, .. }) => (start, place, anchor, Yaml::Map(entries)),
            None => return Err(Diagnostic::new(self::place(span), "", "a list or map ends that never began")),
        };
        let node = Node { place, range: (start.index(), span.end.index()), value };
        self.remember(anchor, &node, span)?;
        self.attach(node);
        Ok(())
    }

    fn alias(&mut self, anchor: usize, span: &Span) -> Result<(), Diagnostic> {
        if matches!(self.frames.last(), Some(Frame::Map { key: None, .. })) {
            return Err(Diagnostic::new(place(span), "", "a key must be plain text, not an alias"));
        }
        let Some(node) = self.anchors.get(&anchor).cloned() else {
            return Err(Diagnostic::new(place(span), "", "the alias stands inside the value that it names"));
        };
        let (nodes, text, height) = measure(&node);
        if self.frames.len() + height > MAX_DEPTH {
            return Err(Diagnostic::new(
                place(span),
                "",
                format!("with this alias expanded nested deeper than {MAX_DEPTH} levels"),
            ));
        }
        self.charge(nodes, text, span)?;
        self.attach(node);
        Ok(())
    }

    /// Keeps a copy for aliases; the copy counts, so that nested anchors cannot multiply memory.
    fn remember(&mut self, anchor: usize, node: &Node, span: &Span) -> Result<(), Diagnostic> {
        if anchor > 0 {
            let (nodes, text, _) = measure(node);
            self.charge(nodes, text, span)?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(())
    }

    fn charge(&mut self, nodes: usize, text: usize, span: &Span) -> Result<(), Diagnostic> {
        self.nodes += nodes;
        self.text += text;
        if self.nodes > MAX_NODES || self.text > MAX_TEXT {
            let message = format!("more than {MAX_NODES} values or {MAX_TEXT} bytes of text (aliases expanded)");
            return Err(Diagnostic::new(place(span), "", message));
        }
        Ok(())
    }

    fn attach(&mut self, node: Node) {
        match self.frames.last_mut() {
            None => self.root = Some(node),
            Some(Frame::List { items, .. }) => items.push(node),
            Some(Frame::Map { entries, seen, key, .. }) => {
                let (key, place) = key.take().expect("a value follows its key: a frame without key takes scalars as keys");
                match seen.get(&key) {
                    Some(first) => {
                        let message = format!("`{key}` is given twice; first on line {}, column {}", first.line, first.column);
                        let mut error = Diagnostic::new(place, key, message);
                        error.help("keep one of them");
                        self.diagnostics.push(error);
                    }
                    None => {
                        seen.insert(key.clone(), place);
                        entries.push(Entry { key, place, value: node });
                    }
                }
            }
        }
    }
}

/// Nodes, bytes of text and height of a tree.
fn measure(node: &Node) -> (usize, usize, usize) {
    let join = |(nodes, text, height): (usize, usize, usize), child: &Node, key: usize| {
        let (n, t, h) = measure(child);
        (nodes + n, text + t + key, height.max(h + 1))
    };
    match &node.value {
        Yaml::Scalar { text, .. } => (1, text.len(), 0),
        Yaml::List(items) => items.iter().fold((1, 0, 1), |sum, item| join(sum, item, 0)),
        Yaml::Map(entries) => entries.iter().fold((1, 0, 1), |sum, entry| join(sum, &entry.value, entry.key.len())),
    }
}

fn place(span: &Span) -> Place {
    let width = if span.start.line() == span.end.line() { span.len().max(1) } else { 1 };
    Place { line: span.start.line(), column: span.start.col() + 1, width }
}

fn tag_error(span: &Span) -> Diagnostic {
    let mut error = Diagnostic::new(place(span), "", "tags (`!…`) are not supported");
    error.help("quote the value if it is text");
    error
}

fn scan_error(error: &ScanError, text: &str) -> Diagnostic {
    let marker = error.marker();
    let lines = text.lines().count().max(1);
    let place = Place { line: marker.line().clamp(1, lines), column: marker.col() + 1, width: 1 };
    let mut diagnostic = Diagnostic::new(place, "", format!("not valid YAML: {}", error.info()));
    let line = text.lines().nth(place.line - 1).unwrap_or_default();
    if error.info().contains("unknown anchor") {
        diagnostic.help("`*name` repeats a value that was marked `&name` before; quote it if it is text");
    } else if error.info().contains("anchor") || error.info().contains("alias") {
        diagnostic.help("`*` and `&` have a meaning of their own at the start of a value: quote it, as in \"*\"");
    } else if error.info().contains("while parsing a flow") {
        diagnostic.help("a `{` or `[` is not closed, or a comma is missing");
    } else if error.info().contains("mapping values") || line.matches(": ").count() > 1 {
        diagnostic.help("quote a value that holds `: `");
    } else if line.contains('\t') {
        diagnostic.help("indent with spaces, not tabs");
    }
    diagnostic
}
