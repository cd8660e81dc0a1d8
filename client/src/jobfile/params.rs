//! Parameters: the only thing that `--set` may change. Typed by value, substituted in strings and
//! only *checked* in SQL, where they are bound when the query is planned.

use std::collections::BTreeMap;

use chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime, SecondsFormat, Utc};
use serde_json::{Value, json};
use sheaf_dataflow::job::Param;

use super::Place;
use super::read::{Grammar, Reader, join};
use super::suggest::did_you_mean;
use super::yaml::{Core, Entry, Node, Style, Yaml, core, shorten};

const ENVIRONMENT: Grammar = Grammar {
    what: "a parameter from the environment",
    keys: &["env", "default"],
    hidden: &[],
    later: &[],
    peers: &[("value", "write the value itself: `name: value`"), ("type", "a parameter has the type of its value")],
};

/// The built-in parameter.
const NOW: &str = "now";

/// Declared parameters and `$now`.
#[derive(Debug, Default)]
pub struct Params {
    pub declared: BTreeMap<String, Param>,
    /// Names whose value could not be read: their use is no second error.
    broken: Vec<String>,
    now: String,
}

type Refusal = (String, String);

impl Params {
    fn known(&self) -> Vec<&str> {
        self.declared.keys().map(String::as_str).chain([NOW]).collect()
    }

    fn refusal(&self, name: &str) -> Option<Refusal> {
        let known = self.known();
        if known.contains(&name) || self.broken.iter().any(|b| b == name) {
            return None;
        }
        Some((format!("`${name}` is not a declared parameter"), did_you_mean(name, &known)))
    }

    /// The undeclared names in SQL: `$name` as written, message and hint.
    pub fn undeclared(&self, sql: &str) -> Vec<(String, String, String)> {
        let mut found = Vec::new();
        for name in placeholders(sql) {
            if let Some(bare) = name.strip_prefix('{') {
                let message = format!("`${{{bare}}}` is not SQL");
                found.push((format!("${{{bare}"), message, format!("in SQL write `${bare}`; its value is bound, never spliced")));
            } else if let Some((message, hint)) = self.refusal(&name) {
                found.push((format!("${name}"), message, hint));
            }
        }
        found.dedup();
        found
    }

    /// Replaces `$name` and `${name}`; `$$` is a dollar. A text that is one parameter alone takes its type.
    pub fn substitute(&self, text: &str) -> Result<Core, Refusal> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            let after = &rest[at + 1..];
            if let Some(tail) = after.strip_prefix('$') {
                out.push('$');
                rest = tail;
                continue;
            }
            let (name, tail) = match after.strip_prefix('{') {
                Some(inner) => inner
                    .split_once('}')
                    .filter(|(name, _)| identifier(name) == name.len() && !name.is_empty())
                    .ok_or_else(|| {
                        (
                            format!("`${{` without a name and `}}` in `{}`", shorten(text)),
                            "write `${name}`, or `$${` for the characters themselves".to_owned(),
                        )
                    })?,
                None => after.split_at(identifier(after)),
            };
            if name.is_empty() {
                out.push('$');
                rest = after;
                continue;
            }
            if let Some(refusal) = self.refusal(name) {
                return Err(refusal);
            }
            let value = self.value(name);
            if at == 0 && tail.is_empty() && rest.len() == text.len() {
                return Ok(value);
            }
            out.push_str(&as_text(&value));
            rest = tail;
        }
        out.push_str(rest);
        Ok(Core::Text(out))
    }

    fn value(&self, name: &str) -> Core {
        match self.declared.get(name) {
            None if name == NOW => Core::Text(self.now.clone()),
            // Broken: its own error is recorded already.
            None => Core::Text(String::from("?")),
            Some(Param::Bool(b)) => Core::Bool(*b),
            Some(Param::Int(i)) => Core::Int(i128::from(*i)),
            Some(Param::Float(f)) => Core::Float(*f),
            Some(Param::Date(t) | Param::Timestamp(t) | Param::Text(t)) => Core::Text(t.clone()),
        }
    }
}

fn as_text(value: &Core) -> String {
    match value {
        Core::Null => String::new(),
        Core::Bool(b) => b.to_string(),
        Core::Int(i) => i.to_string(),
        Core::Float(f) => f.to_string(),
        Core::Text(t) => t.clone(),
    }
}

/// Bytes at the start of the text that make a name.
fn identifier(text: &str) -> usize {
    if !text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        return 0;
    }
    text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len())
}

/// The `$name`s of SQL outside strings, quoted names and comments; `${name}` comes as `{name`.
fn placeholders(sql: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = sql;
    while let Some(at) = rest.find(['\'', '"', '-', '/', '$']) {
        let here = &rest[at..];
        let skip = |open: usize, close: &str| here[open..].find(close).map_or(here.len(), |end| open + end + close.len());
        let step = match here.as_bytes() {
            [b'\'', ..] => skip(1, "'"),
            [b'"', ..] => skip(1, "\""),
            [b'-', b'-', ..] => skip(2, "\n"),
            [b'/', b'*', ..] => skip(2, "*/"),
            [b'$', b'$', ..] => skip(2, "$$"),
            [b'$', b'{', ..] => {
                let length = identifier(&here[2..]);
                names.push(format!("{{{}", &here[2..2 + length]));
                2 + length
            }
            [b'$', ..] => {
                let length = here[1..].find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(here.len() - 1);
                if length > 0 {
                    names.push(here[1..=length].to_owned());
                }
                1 + length
            }
            _ => 1,
        };
        rest = &here[step..];
    }
    names
}

/// Reads the `params` section with its overrides into the reader.
pub fn read(reader: &mut Reader<'_>, node: Option<&Node>) {
    reader.params.now =
        DateTime::<Utc>::from_timestamp_nanos(reader.overrides.now_ns).to_rfc3339_opts(SecondsFormat::AutoSi, true);
    if let Some(entries) = node.and_then(|n| reader.entries(n, "params")) {
        for entry in entries.iter().filter(|e| !e.value.is_null()) {
            match declare(reader, entry) {
                Some(param) => {
                    reader.params.declared.insert(entry.key.clone(), param);
                }
                None => reader.params.broken.push(entry.key.clone()),
            }
        }
    }
    refuse_undeclared_sets(reader);
}

fn declare(reader: &mut Reader<'_>, entry: &Entry) -> Option<Param> {
    let path = join("params", &entry.key);
    let key = shorten(&entry.key);
    if identifier(&entry.key) != entry.key.len() || entry.key.is_empty() {
        reader
            .error(entry.place, &path, format!("`{key}` cannot name a parameter"))
            .help("use letters, digits and underscores, not starting with a digit");
        return None;
    }
    if entry.key == NOW {
        reader.error(entry.place, &path, "`now` is built in: the time of submission").help("choose another name");
        return None;
    }
    if looks_secret(&entry.key) {
        reader
            .error(entry.place, &path, format!("`{key}` looks like a secret, and a job is stored with its parameters"))
            .help("credentials belong to the operator's configuration, per URL prefix; a job never names a key");
        return None;
    }
    let declared = match &entry.value.value {
        Yaml::Map(_) => from_environment(reader, &entry.value, &path)?,
        Yaml::Scalar { .. } => Some(literal(reader, &entry.value, &path)?),
        Yaml::List(_) => {
            reader.expected(&entry.value, &path, "a single value or {env: NAME, default: value}");
            return None;
        }
    };
    set(reader, entry, &path, declared)
}

/// The last `--set` of this parameter, in its declared type; else the declared value.
fn set(reader: &mut Reader<'_>, entry: &Entry, path: &str, declared: Option<Param>) -> Option<Param> {
    let Some((_, text)) = reader.overrides.set.iter().rev().find(|(name, _)| *name == entry.key) else {
        if declared.is_none() {
            let place = reader.place(path, &entry.value);
            reader
                .error(place, path, format!("`{path}` has neither its environment variable nor a default"))
                .help(format!("set the variable, add `default:`, or give --set {}=…", entry.key));
        }
        return declared;
    };
    let converted = match &declared {
        Some(declared) => convert(text, declared).ok_or_else(|| format!("`{path}` must be {}", kind(declared))),
        None => typed(core(text), text),
    };
    match converted {
        Ok(param) => Some(param),
        Err(why) => {
            let message = format!("--set {}={}: {why}", entry.key, shorten(text));
            reader.error(Place::default(), path, message).help("a set value keeps the declared type");
            None
        }
    }
}

fn literal(reader: &mut Reader<'_>, node: &Node, path: &str) -> Option<Param> {
    let Yaml::Scalar { text, style } = &node.value else {
        reader.expected(node, path, "a single value");
        return None;
    };
    let value = if *style == Style::Plain { core(text) } else { Core::Text(text.clone()) };
    match typed(value, text) {
        Ok(param) => Some(param),
        Err(message) => {
            let place = reader.place(path, node);
            reader.error(place, path, message);
            None
        }
    }
}

/// `Some(None)`: well-formed, but the variable is not set and there is no default.
fn from_environment(reader: &mut Reader<'_>, node: &Node, path: &str) -> Option<Option<Param>> {
    let fields = reader.fields(node, path, &ENVIRONMENT)?;
    if fields.refused {
        return None;
    }
    let Some(env) = fields.get("env") else {
        reader.missing(&fields, "env");
        return None;
    };
    let Yaml::Scalar { text: variable, .. } = &env.value else {
        reader.expected(env, &fields.at("env"), "the name of an environment variable");
        return None;
    };
    let default = match fields.get("default") {
        Some(node) => Some(literal(reader, node, &fields.at("default"))?),
        None => None,
    };
    let Some(text) = (reader.overrides.env)(variable) else { return Some(default) };
    let value = match &default {
        Some(default) => convert(&text, default).ok_or_else(|| format!("it must be {}", kind(default))),
        None => typed(core(&text), &text),
    };
    match value {
        Ok(param) => Some(Some(param)),
        Err(why) => {
            let place = reader.place(&fields.at("env"), env);
            // The value is not shown: it may be anything that stands in an environment.
            reader.error(place, path, format!("the environment variable {variable} does not fit: {why}"));
            None
        }
    }
}

fn refuse_undeclared_sets(reader: &mut Reader<'_>) {
    let known: Vec<String> = reader.params.declared.keys().chain(&reader.params.broken).cloned().collect();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    for (name, _) in &reader.overrides.set {
        if !known.contains(&name.as_str()) {
            let hint = if known.is_empty() { "the job declares no `params`".into() } else { did_you_mean(name, &known) };
            reader.error(Place::default(), "params", format!("--set {name}: `{name}` is not a declared parameter")).help(hint);
        }
    }
}

/// A parameter that no job file declares, typed by its value.
pub fn given_param(name: &str, text: &str) -> Result<Param, String> {
    if name == NOW {
        return Err("`now` is built in: the time of the question".to_owned());
    }
    if identifier(name) != name.len() {
        return Err(format!(
            "`{}` cannot name a parameter: letters, digits and underscores, not starting with a digit",
            shorten(name)
        ));
    }
    typed(core(text), text)
}

/// A parameter typed by its value.
fn typed(value: Core, text: &str) -> Result<Param, String> {
    match value {
        Core::Null => Ok(Param::Text(String::new())),
        Core::Bool(b) => Ok(Param::Bool(b)),
        Core::Int(i) => i64::try_from(i).map(Param::Int).map_err(|_| format!("{i} does not fit into 64 bits")),
        Core::Float(f) if f.is_finite() => Ok(Param::Float(f)),
        Core::Float(_) => Err(format!("`{text}` is not a finite number")),
        Core::Text(text) => temporal(&text).unwrap_or(Ok(Param::Text(text))),
    }
}

/// `None` if the text does not look like a date or a timestamp.
fn temporal(text: &str) -> Option<Result<Param, String>> {
    let bytes = text.as_bytes();
    let looks = bytes.len() >= 10
        && bytes[..10].iter().enumerate().all(|(i, b)| match i {
            4 | 7 => *b == b'-',
            _ => b.is_ascii_digit(),
        });
    let looks = looks && matches!(bytes.get(10), None | Some(b'T' | b't' | b' '));
    // `2026-10-01 and more` is text.
    if !looks || (bytes.len() > 10 && !bytes.get(11).is_some_and(u8::is_ascii_digit)) {
        return None;
    }
    if bytes.len() == 10 {
        let date = NaiveDate::parse_from_str(text, "%Y-%m-%d");
        return Some(date.map(|_| Param::Date(text.to_owned())).map_err(|_| format!("`{text}` is not a date of the calendar")));
    }
    let utc = timestamp(text).map(|t| Param::Timestamp(t.to_rfc3339_opts(SecondsFormat::AutoSi, true)));
    Some(utc.ok_or_else(|| format!("`{}` is not an ISO date and time", shorten(text))))
}

/// An ISO 8601 date and time; without an offset it is UTC.
fn timestamp(text: &str) -> Option<DateTime<Utc>> {
    let text = text.replacen(['t', ' '], "T", 1).replace('z', "Z");
    for format in ["%Y-%m-%dT%H:%M:%S%.f%:z", "%Y-%m-%dT%H:%M%:z"] {
        let zoned = text.strip_suffix('Z').map_or_else(|| text.clone(), |t| format!("{t}+00:00"));
        if let Ok(t) = DateTime::<FixedOffset>::parse_from_str(&zoned, format) {
            return Some(t.with_timezone(&Utc));
        }
    }
    ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M"]
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(&text, format).ok())
        .map(|t| t.and_utc())
}

/// A text in the type of a declared parameter.
fn convert(text: &str, like: &Param) -> Option<Param> {
    let param = typed(core(text), text).ok()?;
    match (like, param) {
        (Param::Text(_), _) => Some(Param::Text(text.to_owned())),
        (Param::Float(_), Param::Int(i)) => Some(Param::Float(i as f64)),
        (Param::Bool(_), p @ Param::Bool(_))
        | (Param::Int(_), p @ Param::Int(_))
        | (Param::Float(_), p @ Param::Float(_))
        | (Param::Date(_), p @ Param::Date(_))
        | (Param::Timestamp(_), p @ Param::Timestamp(_)) => Some(p),
        _ => None,
    }
}

fn kind(param: &Param) -> &'static str {
    match param {
        Param::Bool(_) => "true or false",
        Param::Int(_) => "a whole number",
        Param::Float(_) => "a number",
        Param::Date(_) => "a date (YYYY-MM-DD)",
        Param::Timestamp(_) => "a date and time (YYYY-MM-DDTHH:MM:SSZ)",
        Param::Text(_) => "text",
    }
}

fn looks_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let part =
        |p: &str| matches!(p, "password" | "passwd" | "secret" | "secrets" | "credential" | "credentials" | "token" | "apikey");
    name.split('_').any(part) || ["api_key", "access_key", "private_key"].iter().any(|k| name.ends_with(k))
}

/// JSON Schema of the section.
pub fn schema() -> Value {
    let value = json!({"type": ["boolean", "number", "string"]});
    json!({
        "type": "object",
        "description": "The only things --set may change; `$name` in strings, bound as $name in SQL",
        "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$", "not": {"const": NOW}},
        "additionalProperties": {"anyOf": [value, {
            "type": "object",
            "properties": {"env": {"type": "string"}, "default": value},
            "required": ["env"],
            "additionalProperties": false
        }]}
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn values_give_the_type() {
        let read = |text: &str| typed(core(text), text).unwrap();
        assert_eq!(read("2026-10-01"), Param::Date("2026-10-01".into()));
        assert_eq!(read("2026-10-01T12:30:00+02:00"), Param::Timestamp("2026-10-01T10:30:00Z".into()));
        assert_eq!(read("2026-10-01 12:30"), Param::Timestamp("2026-10-01T12:30:00Z".into()));
        assert_eq!(read("2026-10-01T12:30:00.25Z"), Param::Timestamp("2026-10-01T12:30:00.250Z".into()));
        assert_eq!(read("2026-10-01 report"), Param::Text("2026-10-01 report".into()));
        assert_eq!(read("7"), Param::Int(7));
        assert_eq!(read("1e-3"), Param::Float(0.001));
        assert_eq!(read("yes"), Param::Text("yes".into()));
        assert!(typed(core("2026-02-30"), "2026-02-30").is_err());
        assert!(typed(core("2026-10-01T25:00"), "2026-10-01T25:00").is_err());
    }

    #[test]
    fn placeholders_are_found_outside_of_strings_and_comments() {
        let sql = "SELECT '$a', \"$b\", $c -- $d\n/* $e */ WHERE x < $f_1 AND $$ $g $$ AND ${h}";
        assert_eq!(placeholders(sql), ["c", "f_1", "{h"]);
    }

    #[test]
    fn strings_take_values_and_whole_values_take_the_type() {
        let mut params = Params::default();
        params.declared.insert("n".into(), Param::Int(3));
        assert_eq!(params.substitute("$n").unwrap(), Core::Int(3));
        assert_eq!(params.substitute("a/$n/${n}b $$n 5$").unwrap(), Core::Text("a/3/3b $n 5$".into()));
        assert!(params.substitute("$m").is_err());
        assert!(params.substitute("${n").is_err());
    }
}
