//! `checks`: expectations on prepared rows. One kind each, with name, severity and condition.

use serde_json::{Value, json};
use sheaf_dataflow::job::{Check, Rule, Severity};

use super::columns_schema;
use crate::jobfile::Place;
use crate::jobfile::read::{Fields, Grammar, Reader};
use crate::jobfile::yaml::{Node, Yaml, shorten};

const KINDS: &[&str] = &["not_null", "range", "row_count", "unique"];

const CHECK: Grammar = Grammar {
    what: "a check",
    keys: &["not_null", "range", "row_count", "unique", "name", "severity", "table", "where"],
    hidden: &[],
    later: &["null_fraction", "in_set", "regex", "freshness", "foreign_key", "sql", "length", "distinct", "max", "min"],
    peers: &[
        ("non_null", "write `not_null`"),
        ("expect_column_values_to_not_be_null", "write `not_null: [column]`"),
        ("between", "write `range: {columns: …, min: …, max: …}`"),
        ("expect_column_values_to_be_between", "write `range: {columns: …, min: …, max: …}`"),
        ("rows", "write `row_count: {min: …, max: …}`"),
        ("is_unique", "write `unique: [columns]`"),
        ("columns", "columns belong inside the kind: `not_null: [a, b]`, `range: {columns: a, min: 0}`"),
        ("filter", "write `where`"),
        ("level", "write `severity`"),
    ],
};

const RANGE: Grammar = Grammar {
    what: "`range`",
    keys: &["columns", "min", "max"],
    hidden: &[],
    later: &[],
    peers: &[("column", "write `columns`"), ("min_value", "write `min`"), ("max_value", "write `max`")],
};

const ROW_COUNT: Grammar = Grammar {
    what: "`row_count`",
    keys: &["min", "max"],
    hidden: &[],
    later: &[],
    peers: &[("min_value", "write `min`"), ("max_value", "write `max`")],
};

const COLUMNS: Grammar =
    Grammar { what: "the check", keys: &["columns"], hidden: &[], later: &[], peers: &[("column", "write `columns`")] };

/// Reads the section.
pub fn read(reader: &mut Reader<'_>, node: &Node) -> Vec<Check> {
    if !matches!(node.value, Yaml::List(_)) {
        reader.expected(node, "checks", "a list of checks").help("start each with a dash: `- {not_null: [column]}`");
        return Vec::new();
    }
    let mut taken: Vec<(String, Place)> = Vec::new();
    let mut unnamed = Vec::new();
    let mut checks = Vec::new();
    for (at, item) in reader.items(node, "checks") {
        let Some((check, name)) = check(reader, item, &at) else { continue };
        match name {
            Some(place) => explicit_name(reader, &check.name, place, &at, &mut taken),
            None => unnamed.push(checks.len()),
        }
        checks.push(check);
    }
    for index in unnamed {
        let base = checks[index].name.clone();
        let free = (1..).map(|n| if n == 1 { base.clone() } else { format!("{base} #{n}") });
        let name = free.into_iter().find(|n| taken.iter().all(|(t, _)| t != n)).expect("the numbers do not end");
        taken.push((name.clone(), Place::default()));
        checks[index].name = name;
    }
    checks
}

fn explicit_name(reader: &mut Reader<'_>, name: &str, place: Place, at: &str, taken: &mut Vec<(String, Place)>) {
    if let Some((_, first)) = taken.iter().find(|(t, _)| t == name) {
        let message = format!("two checks are named `{}`; the first on line {}", shorten(name), first.line);
        reader.error(place, &format!("{at}.name"), message).help("names must differ");
    }
    taken.push((name.to_owned(), place));
}

/// The check, with the place of its name if it was given.
fn check(reader: &mut Reader<'_>, node: &Node, at: &str) -> Option<(Check, Option<Place>)> {
    let fields = reader.fields(node, at, &CHECK)?;
    other_table(reader, &fields);
    let severity = match fields.get("severity").map(|n| reader.word(n, &fields.at("severity"), &["fail", "warn"], &[])) {
        None | Some(Some("fail")) => Some(Severity::Fail),
        Some(Some(_)) => Some(Severity::Warn),
        Some(None) => None,
    };
    let filter = fields.get("where").map(|n| reader.sql(n, &fields.at("where")));
    let name = fields.get("name").map(|n| (reader.name(n, &fields.at("name")), reader.place(&fields.at("name"), n)));
    let rule = rule(reader, &fields)?;
    let (name, named_at) = match name {
        Some((name, place)) => (name?, Some(place)),
        None => (default_name(&rule), None),
    };
    let filter = match filter {
        Some(filter) => Some(filter?),
        None => None,
    };
    Some((Check { name, severity: severity?, filter, rule }, named_at))
}

fn other_table(reader: &mut Reader<'_>, fields: &Fields<'_>) {
    let Some(node) = fields.get("table") else { return };
    let at = fields.at("table");
    if let Some(table) = reader.name(node, &at)
        && table != "prepared"
    {
        let place = reader.place(&at, node);
        reader
            .not_yet(place, &at, "a check on a table other than `prepared`")
            .help("remove `table`, or check the column after `prepare`");
    }
}

fn rule(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Rule> {
    let kinds: Vec<&str> = KINDS.iter().copied().filter(|k| fields.get(k).is_some()).collect();
    let kind = match kinds.as_slice() {
        [kind] => *kind,
        [] => {
            if !fields.refused {
                let message = format!("`{}` has no kind of check", fields.path);
                reader.error(fields.place, &fields.path, message).help(format!("one of: {}", KINDS.join(", ")));
            }
            return None;
        }
        [first, second, ..] => {
            let message = format!("`{}` has two kinds of check, `{first}` and `{second}`", fields.path);
            reader.error(fields.place, &fields.path, message).help("write two checks");
            return None;
        }
    };
    let node = fields.get(kind)?;
    let at = fields.at(kind);
    match kind {
        "not_null" => Some(Rule::NotNull { columns: only_columns(reader, node, &at)? }),
        "unique" => Some(Rule::Unique { columns: only_columns(reader, node, &at)? }),
        "range" => range(reader, node, &at),
        _ => row_count(reader, node, &at),
    }
}

fn only_columns(reader: &mut Reader<'_>, node: &Node, at: &str) -> Option<Vec<String>> {
    if !matches!(node.value, Yaml::Map(_)) {
        return reader.names(node, at);
    }
    let fields = reader.fields(node, at, &COLUMNS)?;
    columns_of(reader, &fields)
}

fn range(reader: &mut Reader<'_>, node: &Node, at: &str) -> Option<Rule> {
    if !matches!(node.value, Yaml::Map(_)) {
        let place = reader.place(at, node);
        reader.error(place, at, format!("`{at}` has no bound")).help("write `range: {columns: …, min: …, max: …}`");
        return None;
    }
    let fields = reader.fields(node, at, &RANGE)?;
    let min = optional(fields.get("min").map(|n| reader.number(n, &fields.at("min"))))?;
    let max = optional(fields.get("max").map(|n| reader.number(n, &fields.at("max"))))?;
    let columns = columns_of(reader, &fields);
    bounds(reader, &fields, min, max).then_some(())?;
    Some(Rule::Range { columns: columns?, min, max })
}

fn columns_of(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Vec<String>> {
    match fields.get("columns") {
        Some(node) => reader.names(node, &fields.at("columns")),
        None => {
            if !fields.refused {
                reader.missing(fields, "columns");
            }
            None
        }
    }
}

fn row_count(reader: &mut Reader<'_>, node: &Node, at: &str) -> Option<Rule> {
    let fields = reader.fields(node, at, &ROW_COUNT)?;
    let mut count = |key: &str| {
        optional(fields.get(key).map(|n| {
            let rows = reader.integer(n, &fields.at(key), 0, i128::from(u64::MAX))?;
            u64::try_from(rows).ok()
        }))
    };
    let (min, max) = (count("min")?, count("max")?);
    bounds(reader, &fields, min, max).then_some(Rule::RowCount { min, max })
}

/// `None` if the key was given and its value refused.
fn optional<T>(value: Option<Option<T>>) -> Option<Option<T>> {
    match value {
        Some(value) => value.map(Some),
        None => Some(None),
    }
}

/// At least one bound, and not crossed.
pub fn bounds<T: PartialOrd + std::fmt::Display>(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    min: Option<T>,
    max: Option<T>,
) -> bool {
    match (min, max) {
        (None, None) => {
            if !fields.refused {
                let message = format!("`{}` has no bound", fields.path);
                reader.error(fields.place, &fields.path, message).help("give `min`, `max` or both");
            }
            false
        }
        (Some(min), Some(max)) if min > max => {
            let message = format!("`{}`: min {min} is above max {max}", fields.path);
            reader.error(fields.place, &fields.path, message);
            false
        }
        _ => true,
    }
}

fn default_name(rule: &Rule) -> String {
    match rule {
        Rule::NotNull { columns } => format!("not_null({})", columns.join(", ")),
        Rule::Range { columns, .. } => format!("range({})", columns.join(", ")),
        Rule::RowCount { .. } => "row_count".into(),
        Rule::Unique { columns } => format!("unique({})", columns.join(", ")),
    }
}

/// JSON Schema of the section.
pub fn schema() -> Value {
    let only_columns = json!({"oneOf": [
        {"type": "string"},
        {"type": "array"},
        {"type": "object", "required": ["columns"], "additionalProperties": false, "properties": {"columns": columns_schema()}}
    ]});
    let kinds: Vec<Value> = KINDS.iter().map(|k| json!({"required": [k]})).collect();
    json!({"type": "array", "items": {
        "type": "object",
        "oneOf": kinds,
        "additionalProperties": false,
        "properties": {
            "not_null": only_columns,
            "unique": only_columns,
            "range": {
                "type": "object",
                "required": ["columns"],
                "anyOf": [{"required": ["min"]}, {"required": ["max"]}],
                "additionalProperties": false,
                "properties": {"columns": columns_schema(), "min": {"type": "number"}, "max": {"type": "number"}}
            },
            "row_count": {
                "type": "object",
                "minProperties": 1,
                "additionalProperties": false,
                "properties": {"min": {"type": "integer", "minimum": 0}, "max": {"type": "integer", "minimum": 0}}
            },
            "name": {"type": "string", "minLength": 1},
            "severity": {"enum": ["fail", "warn"], "default": "fail"},
            "table": {"const": "prepared"},
            "where": {"type": "string", "description": "Row-wise SQL condition: only these rows are looked at"}
        }
    }})
}
