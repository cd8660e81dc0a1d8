//! The getters that sections are read with. Each records what is wrong with its place and returns
//! `None`, so that one reading shows every error.

use std::collections::BTreeMap;

use serde_json::Value;
use sheaf_learn::suggest::nearest;

use super::params::Params;
use super::suggest::{did_you_mean, folded};
use super::yaml::{Core, Entry, Node, Style, Yaml, core, describe_core, shorten};
use super::{Diagnostic, Overrides, Place, Spans};

/// The keys of one map in the grammar.
pub struct Grammar {
    /// What the map is, for messages.
    pub what: &'static str,
    /// Keys that are read.
    pub keys: &'static [&'static str],
    /// Keys that are read and not talked about.
    pub hidden: &'static [&'static str],
    /// Keys of the grammar that this build refuses.
    pub later: &'static [&'static str],
    /// Other tools' names with the answer.
    pub peers: &'static [(&'static str, &'static str)],
}

/// A map whose keys have been checked.
pub struct Fields<'n> {
    /// Path of the map in the job.
    pub path: String,
    /// Where to point when a key is missing.
    pub place: Place,
    /// Some key was refused: do not complain about what may have been meant by it.
    pub refused: bool,
    entries: BTreeMap<&'n str, &'n Entry>,
}

impl<'n> Fields<'n> {
    /// The value of a key, if it is there and not refused.
    pub fn get(&self, key: &str) -> Option<&'n Node> {
        self.entries.get(key).map(|e| &e.value)
    }

    /// The key with its place.
    pub fn entry(&self, key: &str) -> Option<&'n Entry> {
        self.entries.get(key).copied()
    }

    /// The path of a key.
    pub fn at(&self, key: &str) -> String {
        join(&self.path, key)
    }
}

/// Path of a key in a map.
pub fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Where an error about an entry points: at its value if that stands beside the key.
fn entry_place(entry: &Entry) -> Place {
    let block = match &entry.value.value {
        Yaml::Scalar { style, text } => *style == Style::Block || (text.is_empty() && *style == Style::Plain),
        Yaml::List(_) | Yaml::Map(_) => false,
    };
    if block || entry.value.place.line != entry.place.line { entry.place } else { entry.value.place }
}

/// The state of one reading.
pub struct Reader<'s> {
    text: &'s str,
    pub overrides: &'s Overrides,
    pub params: Params,
    pub diagnostics: Vec<Diagnostic>,
    pub spans: Spans,
}

impl<'s> Reader<'s> {
    pub fn new(text: &'s str, overrides: &'s Overrides) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self { text, overrides, params: Params::default(), diagnostics: Vec::new(), spans: Spans::default() }
    }

    pub fn finish(self) -> (Vec<Diagnostic>, Spans) {
        (self.diagnostics, self.spans)
    }

    /// Records an error; the returned diagnostic takes the hint.
    pub fn error(&mut self, place: Place, path: &str, message: impl Into<String>) -> &mut Diagnostic {
        self.diagnostics.push(Diagnostic::new(place, path, message));
        self.diagnostics.last_mut().expect("pushed on the line above")
    }

    /// Where errors about a path point.
    pub fn place(&self, path: &str, node: &Node) -> Place {
        self.spans.get(path).unwrap_or(node.place)
    }

    /// Records that a value has the wrong shape or type.
    pub fn expected(&mut self, node: &Node, path: &str, what: &str) -> &mut Diagnostic {
        let place = self.place(path, node);
        let subject = if path.is_empty() { "the job".to_owned() } else { format!("`{path}`") };
        let message = format!("{subject} must be {what}, found {}", node.describe());
        self.error(place, path, message)
    }

    /// Records that a required key is missing.
    pub fn missing(&mut self, fields: &Fields<'_>, key: &str) -> &mut Diagnostic {
        let path = fields.at(key);
        self.error(fields.place, &path, format!("`{path}` is missing"))
    }

    /// Records that something of the grammar is not there yet.
    pub fn not_yet(&mut self, place: Place, path: &str, what: &str) -> &mut Diagnostic {
        self.error(place, path, format!("{what} is not supported yet"))
    }

    /// A map with the keys of a grammar. Refused keys are recorded and left out, and so are keys without a value.
    pub fn fields<'n>(&mut self, node: &'n Node, path: &str, grammar: &Grammar) -> Option<Fields<'n>> {
        let Yaml::Map(entries) = &node.value else {
            self.expected(node, path, "a map (`key: value`)");
            return None;
        };
        let place = self.place(path, node);
        let mut fields = Fields { path: path.to_owned(), place, refused: false, entries: BTreeMap::new() };
        for (i, entry) in entries.iter().enumerate() {
            let at = join(path, &entry.key);
            self.spans.insert(&at, entry_place(entry));
            if path.is_empty() && entry.key.starts_with("x-") {
                continue;
            }
            if !grammar.keys.contains(&entry.key.as_str()) && !grammar.hidden.contains(&entry.key.as_str()) {
                fields.refused = true;
                self.refuse_key(entries, i, &at, grammar);
            } else if entry.value.is_null() {
                fields.refused = true;
                self.no_value(entries, i, &at);
            } else {
                fields.entries.insert(&entry.key, entry);
            }
        }
        Some(fields)
    }

    fn refuse_key(&mut self, entries: &[Entry], i: usize, at: &str, grammar: &Grammar) {
        let entry = &entries[i];
        let key = shorten(&entry.key);
        if grammar.later.contains(&entry.key.as_str()) {
            self.not_yet(entry.place, at, &format!("`{key}`"));
            return;
        }
        if entry.value.is_null() && self.cut_expression(entries, i, at) {
            return;
        }
        let peer = grammar.peers.iter().find(|(name, _)| folded(name) == folded(&entry.key));
        let known: Vec<&str> = grammar.keys.iter().chain(grammar.later).copied().collect();
        let hint = match peer {
            Some((_, answer)) => (*answer).to_owned(),
            None => match nearest(&entry.key, known) {
                Some(candidate) => format!("did you mean `{candidate}`?"),
                None => format!("{} takes: {}", grammar.what, grammar.keys.join(", ")),
            },
        };
        self.error(entry.place, at, format!("unknown key `{key}`")).help(hint);
    }

    /// Records that a key has no value.
    pub fn no_value(&mut self, entries: &[Entry], i: usize, at: &str) {
        if self.cut_expression(entries, i, at) {
            return;
        }
        let place = entries[i].place;
        self.error(place, at, format!("`{}` has no value", shorten(&entries[i].key))).help("give it one, or remove the key");
    }

    /// `{x: ln(1 + a, 2)}` is the value `ln(1 + a` and the key `2)` to YAML, and `{sql: SELECT a, b}` is cut alike. It
    /// is said once, at the first piece that was cut off.
    fn cut_expression(&mut self, entries: &[Entry], i: usize, at: &str) -> bool {
        let Some(whole) = entries[..i].iter().rposition(|e| !e.value.is_null()) else { return false };
        let Yaml::Scalar { text, style: Style::Plain } = &entries[whole].value.value else { return false };
        let open = |s: &str| s.matches('(').count() as i64 - s.matches(')').count() as i64;
        let is_sql = matches!(entries[whole].key.as_str(), "sql" | "where" | "prepare");
        if !is_sql && open(text) <= 0 && open(&entries[i].key) >= 0 {
            return false;
        }
        if whole + 1 < i {
            return true;
        }
        let rest = entries[i..].iter().take_while(|e| e.value.is_null());
        let pieces: Vec<String> = rest.map(|e| shorten(&e.key)).collect();
        let hint = format!("quote the whole expression: {}: \"{text}, {}\"", shorten(&entries[whole].key), pieces.join(", "));
        let key = shorten(&entries[i].key);
        self.error(entries[i].place, at, format!("`{key}` looks like the rest of a value that was cut at a comma")).help(hint);
        true
    }

    /// The entries of a map with free keys (names of tables, columns, parameters …).
    pub fn entries<'n>(&mut self, node: &'n Node, path: &str) -> Option<&'n [Entry]> {
        let Yaml::Map(entries) = &node.value else {
            self.expected(node, path, "a map (`name: value`)");
            return None;
        };
        for (i, entry) in entries.iter().enumerate() {
            let at = join(path, &entry.key);
            self.spans.insert(&at, entry_place(entry));
            if entry.value.is_null() {
                self.no_value(entries, i, &at);
            }
        }
        Some(entries)
    }

    /// A scalar with `$name` substituted. A value that is nothing but `$name` has the parameter's type.
    pub fn scalar(&mut self, node: &Node, path: &str) -> Option<Core> {
        match &node.value {
            Yaml::Scalar { text, style } => {
                let written = if *style == Style::Plain { core(text) } else { Core::Text(text.clone()) };
                let Core::Text(text) = written else { return Some(written) };
                match self.params.substitute(&text) {
                    Ok(value) => Some(value),
                    Err((message, hint)) => {
                        let place = self.place(path, node);
                        self.error(place, path, message).help(hint);
                        None
                    }
                }
            }
            Yaml::List(_) | Yaml::Map(_) => {
                self.expected(node, path, "a single value");
                None
            }
        }
    }

    /// Text; numbers and truth values must be quoted, or come from a parameter.
    pub fn text(&mut self, node: &Node, path: &str) -> Option<String> {
        let Yaml::Scalar { text, style } = &node.value else {
            self.expected(node, path, "text");
            return None;
        };
        if *style == Style::Plain && !matches!(core(text), Core::Text(_)) {
            let error = self.expected(node, path, "text");
            if !node.is_null() {
                error.help(format!("quote it: \"{text}\""));
            }
            return None;
        }
        match self.scalar(node, path)? {
            Core::Text(text) => Some(text),
            Core::Null => None,
            Core::Bool(b) => Some(b.to_string()),
            Core::Int(i) => Some(i.to_string()),
            Core::Float(f) => Some(f.to_string()),
        }
    }

    /// Text that must not be empty.
    pub fn name(&mut self, node: &Node, path: &str) -> Option<String> {
        let text = self.text(node, path)?;
        if text.trim().is_empty() {
            let place = self.place(path, node);
            self.error(place, path, format!("`{path}` is empty"));
            return None;
        }
        Some(text)
    }

    /// SQL: taken as written, its `$name` must be declared.
    pub fn sql(&mut self, node: &Node, path: &str) -> Option<String> {
        let Yaml::Scalar { text, style } = &node.value else {
            self.expected(node, path, "SQL text");
            return None;
        };
        // `1` and `true` are expressions too, so a plain number is not refused here.
        if text.trim().is_empty() {
            let place = self.place(path, node);
            self.error(place, path, format!("`{path}` is empty"));
            return None;
        }
        if *style == Style::Plain && matches!(core(text), Core::Null) {
            self.expected(node, path, "SQL text");
            return None;
        }
        for (name, message, hint) in self.params.undeclared(text) {
            let place = self.locate(node, &name).unwrap_or_else(|| self.place(path, node));
            self.error(place, path, message).help(hint);
        }
        Some(text.trim().to_owned())
    }

    /// Where a piece of a scalar stands in the source.
    fn locate(&self, node: &Node, needle: &str) -> Option<Place> {
        let byte = |index: usize| self.text.char_indices().nth(index).map_or(self.text.len(), |(b, _)| b);
        let start = byte(node.range.0);
        let end = byte(node.range.1).max(start);
        let ends_there = |at: usize| {
            let next = self.text[at + needle.len()..].chars().next();
            !next.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        let at = self.text[start..end].match_indices(needle).map(|(i, _)| start + i).find(|at| ends_there(*at))?;
        let before = &self.text[..at];
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Some(Place { line: before.matches('\n').count() + 1, column, width: needle.chars().count() })
    }

    /// true or false.
    pub fn boolean(&mut self, node: &Node, path: &str) -> Option<bool> {
        match self.scalar(node, path)? {
            Core::Bool(b) => Some(b),
            Core::Text(t) if matches!(t.to_lowercase().as_str(), "yes" | "on" | "no" | "off") => {
                let word = if matches!(t.to_lowercase().as_str(), "yes" | "on") { "true" } else { "false" };
                self.expected(node, path, "true or false").help(format!("in YAML 1.2 `{t}` is text: write `{word}`"));
                None
            }
            other => {
                self.found(node, path, "true or false", &other);
                None
            }
        }
    }

    /// A whole number within bounds, both inclusive.
    pub fn integer(&mut self, node: &Node, path: &str, min: i128, max: i128) -> Option<i128> {
        let what = format!("a whole number from {min} to {max}");
        match self.scalar(node, path)? {
            Core::Int(i) if (min..=max).contains(&i) => Some(i),
            other => {
                self.found(node, path, &what, &other);
                None
            }
        }
    }

    /// A finite number.
    pub fn number(&mut self, node: &Node, path: &str) -> Option<f64> {
        match self.scalar(node, path)? {
            Core::Int(i) => Some(i as f64),
            Core::Float(f) if f.is_finite() => Some(f),
            other => {
                self.found(node, path, "a finite number", &other);
                None
            }
        }
    }

    /// Records a wrong scalar, as it is after substitution.
    pub fn found(&mut self, node: &Node, path: &str, what: &str, value: &Core) -> &mut Diagnostic {
        let place = self.place(path, node);
        self.error(place, path, format!("`{path}` must be {what}, found {}", describe_core(value)))
    }

    /// One word of a closed set; `later` words are known and refused.
    pub fn word(&mut self, node: &Node, path: &str, known: &[&'static str], later: &[&str]) -> Option<&'static str> {
        let word = self.text(node, path)?;
        let found = known.iter().find(|k| **k == word).copied();
        if found.is_none() {
            let place = self.place(path, node);
            if later.contains(&word.as_str()) {
                self.not_yet(place, path, &format!("`{word}`"));
            } else {
                let hint = did_you_mean(&word, known);
                self.error(place, path, format!("`{path}` cannot be `{}`", shorten(&word))).help(hint);
            }
        }
        found
    }

    /// A scalar or a list of scalars, each with its path.
    pub fn items<'n>(&mut self, node: &'n Node, path: &str) -> Vec<(String, &'n Node)> {
        match &node.value {
            Yaml::List(items) => {
                let items: Vec<_> = items.iter().enumerate().map(|(i, n)| (format!("{path}[{i}]"), n)).collect();
                for (at, item) in &items {
                    self.spans.insert(at, item.place);
                }
                items
            }
            Yaml::Scalar { .. } | Yaml::Map(_) => vec![(path.to_owned(), node)],
        }
    }

    /// Names (of columns, metrics …): one or several, none twice, at least one.
    pub fn names(&mut self, node: &Node, path: &str) -> Option<Vec<String>> {
        let items = self.items(node, path);
        if items.is_empty() {
            let place = self.place(path, node);
            self.error(place, path, format!("`{path}` is empty")).help("name at least one, or remove the key");
            return None;
        }
        let mut names: Vec<String> = Vec::new();
        let mut good = true;
        for (at, item) in items {
            match self.name(item, &at) {
                Some(name) if names.contains(&name) => {
                    let place = self.place(&at, item);
                    self.error(place, &at, format!("`{name}` is given twice"));
                    good = false;
                }
                Some(name) => names.push(name),
                None => good = false,
            }
        }
        good.then_some(names)
    }

    /// Any value as JSON.
    pub fn json(&mut self, node: &Node, path: &str) -> Option<Value> {
        match &node.value {
            Yaml::Scalar { .. } => {
                let value = self.scalar(node, path)?;
                self.json_scalar(node, path, &value)
            }
            Yaml::List(_) => {
                let items = self.items(node, path);
                let values: Vec<_> = items.into_iter().map(|(at, n)| self.json(n, &at)).collect();
                values.into_iter().collect::<Option<Vec<_>>>().map(Value::Array)
            }
            Yaml::Map(_) => {
                let entries = self.entries(node, path)?;
                let values: Vec<_> =
                    entries.iter().map(|e| Some((e.key.clone(), self.json(&e.value, &join(path, &e.key))?))).collect();
                values.into_iter().collect::<Option<serde_json::Map<_, _>>>().map(Value::Object)
            }
        }
    }

    fn json_scalar(&mut self, node: &Node, path: &str, value: &Core) -> Option<Value> {
        let number = match value {
            Core::Null => None,
            Core::Bool(b) => Some(Value::Bool(*b)),
            Core::Text(t) => Some(Value::String(t.clone())),
            Core::Int(i) => i64::try_from(*i).map(Value::from).or_else(|_| u64::try_from(*i).map(Value::from)).ok(),
            Core::Float(f) => serde_json::Number::from_f64(*f).map(Value::Number),
        };
        if number.is_none() {
            self.found(node, path, "text, true, false or a finite 64-bit number", value);
        }
        number
    }

    /// A path of the file made absolute, `..` folded by name; URLs stay as they are. What may be read is judged
    /// elsewhere, by what comes out here.
    pub fn absolute(&self, path: &str) -> String {
        if is_url(path) {
            return path.to_owned();
        }
        let relative = path.strip_prefix("./").unwrap_or(path);
        fold(&self.overrides.base.join(relative).to_string_lossy())
    }
}

/// A path without `..`: each takes the name before it away. Nothing stands above the root.
fn fold(path: &str) -> String {
    if !path.split('/').any(|name| name == "..") {
        return path.to_owned();
    }
    let mut kept: Vec<&str> = Vec::new();
    for name in path.split('/').filter(|name| !matches!(*name, "" | ".")) {
        match name {
            ".." => drop(kept.pop()),
            name => kept.push(name),
        }
    }
    let end = if path.ends_with('/') && !kept.is_empty() { "/" } else { "" };
    format!("/{}{end}", kept.join("/"))
}

/// `scheme://…`
pub fn is_url(path: &str) -> bool {
    path.split_once("://").is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '.' | '-'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_above_the_job_file_are_folded_by_name() {
        assert_eq!(fold("/jobs/a/../data/x.csv"), "/jobs/data/x.csv");
        assert_eq!(fold("/jobs/a/../../../../etc/passwd"), "/etc/passwd");
        assert_eq!(fold("/jobs/./a/../data/"), "/jobs/data/");
        assert_eq!(fold("/jobs/.."), "/");
        assert_eq!(fold("/jobs/..a/b..//c"), "/jobs/..a/b..//c");
        assert_eq!(fold("C/no"), "C/no");
    }
}
