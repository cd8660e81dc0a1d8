//! What each feature step takes.

use serde_json::{Map, Value, json};
use sheaf_dataflow::job::{DatePart, ImputeStrategy, StepKind, Unknown};

use super::columns_schema;
use crate::jobfile::read::{Fields, Grammar, Reader, join};
use crate::jobfile::suggest::did_you_mean;
use crate::jobfile::yaml::{Node, Yaml, shorten};

/// Largest number of slots of a hash.
const MAX_SLOTS: i128 = 1 << 24;

const COLUMN_PEERS: &[(&str, &str)] = &[
    ("column", "write `columns`"),
    ("cols", "write `columns`"),
    ("inputCol", "write `columns`"),
    ("inputCols", "write `columns`"),
    ("input", "write `columns`"),
    ("features", "write `columns`"),
    ("outputCols", "the columns are replaced in place"),
];

const ONLY_COLUMNS: Grammar =
    Grammar { what: "the step", keys: &["columns"], hidden: &[], later: &["suffix", "as"], peers: COLUMN_PEERS };

const STANDARDIZE: Grammar = Grammar {
    what: "`standardize`",
    keys: &["columns"],
    hidden: &[],
    later: &["suffix", "as", "with_mean", "with_std", "centre", "center"],
    peers: COLUMN_PEERS,
};

const MIN_MAX: Grammar = Grammar {
    what: "`min_max`",
    keys: &["columns"],
    hidden: &[],
    later: &["suffix", "as", "min", "max", "feature_range", "clip"],
    peers: COLUMN_PEERS,
};

const IMPUTE: Grammar = Grammar {
    what: "`impute`",
    keys: &["columns", "strategy", "fill_value", "indicator"],
    hidden: &[],
    later: &["suffix", "as"],
    peers: &[
        ("column", "write `columns`"),
        ("inputCols", "write `columns`"),
        ("value", "write `fill_value`"),
        ("add_indicator", "write `indicator`"),
        ("method", "write `strategy`"),
        ("missing_values", "null and NaN are missing; turn other codes into null with a `sql` step"),
    ],
};

const ONE_HOT: Grammar = Grammar {
    what: "`one_hot`",
    keys: &["columns", "drop", "unknown"],
    hidden: &[],
    later: &["suffix", "as", "max_categories", "min_frequency", "categories"],
    peers: &[
        ("column", "write `columns`"),
        ("inputCols", "write `columns`"),
        ("handle_unknown", "write `unknown: zero` (scikit-learn's `ignore`) or `unknown: error`"),
        ("handleInvalid", "write `unknown: zero` or `unknown: error`"),
        ("drop_first", "write `drop: first`"),
        ("dropLast", "write `drop: first`"),
        ("sparse_output", "the encoding is never materialised"),
    ],
};

const HASH: Grammar = Grammar {
    what: "`hash`",
    keys: &["columns", "size", "as"],
    hidden: &[],
    later: &["suffix", "alternate_sign"],
    peers: &[
        ("column", "write `columns`"),
        ("inputCols", "write `columns`"),
        ("n_features", "write `size`"),
        ("numFeatures", "write `size`"),
        ("buckets", "write `size`"),
        ("num_buckets", "write `size`"),
        ("output", "write `as`: the name of the new column"),
        ("outputCol", "write `as`: the name of the new column"),
        ("name", "write `as`: the name of the new column"),
    ],
};

const DATE_PARTS: Grammar = Grammar {
    what: "`date_parts`",
    keys: &["columns", "parts"],
    hidden: &[],
    later: &["suffix", "as", "cyclical", "time_zone"],
    peers: &[("column", "write `columns`"), ("features", "write `parts`")],
};

const PARTS: &[(&str, DatePart)] = &[
    ("year", DatePart::Year),
    ("month", DatePart::Month),
    ("day", DatePart::Day),
    ("hour", DatePart::Hour),
    ("minute", DatePart::Minute),
    ("day_of_week", DatePart::DayOfWeek),
    ("day_of_year", DatePart::DayOfYear),
    ("is_weekend", DatePart::IsWeekend),
];
const LATER_PARTS: &[&str] = &["second", "week", "week_of_year", "quarter"];

/// Reads the arguments of one step.
pub fn read(reader: &mut Reader<'_>, kind: &str, node: &Node, at: &str) -> Option<StepKind> {
    match kind {
        "sql" => Some(StepKind::Sql { expressions: pairs(reader, node, at, true)? }),
        "rename" => rename(reader, node, at),
        "impute" => impute(reader, node, at),
        "standardize" => Some(StepKind::Standardize { columns: arguments(reader, node, at, &STANDARDIZE)?.0 }),
        "min_max" => Some(StepKind::MinMax { columns: arguments(reader, node, at, &MIN_MAX)?.0 }),
        "one_hot" => one_hot(reader, node, at),
        "hash" => hash(reader, node, at),
        "date_parts" => date_parts(reader, node, at),
        "drop" => Some(StepKind::Drop { columns: arguments(reader, node, at, &ONLY_COLUMNS)?.0 }),
        "keep" => Some(StepKind::Keep { columns: arguments(reader, node, at, &ONLY_COLUMNS)?.0 }),
        other => unreachable!("the grammar of steps names `{other}`, which no arm reads"),
    }
}

/// Columns, and the other keys of the long form.
fn arguments<'n>(
    reader: &mut Reader<'_>,
    node: &'n Node,
    at: &str,
    grammar: &Grammar,
) -> Option<(Vec<String>, Option<Fields<'n>>)> {
    if !matches!(node.value, Yaml::Map(_)) {
        return Some((patterns(reader, node, at)?, None));
    }
    let fields = reader.fields(node, at, grammar)?;
    let Some(node) = fields.get("columns") else {
        if !fields.refused {
            reader.missing(&fields, "columns").help("name them, or take every column that fits with \"*\"");
        }
        return None;
    };
    Some((patterns(reader, node, &fields.at("columns"))?, Some(fields)))
}

/// Names, `*`, `prefix_*` and `-name`.
fn patterns(reader: &mut Reader<'_>, node: &Node, at: &str) -> Option<Vec<String>> {
    let columns = reader.names(node, at)?;
    let items = reader.items(node, at);
    for (pattern, (at, item)) in columns.iter().zip(&items) {
        let body = pattern.strip_prefix('-').unwrap_or(pattern);
        if body.is_empty() || body.trim_end_matches('*').contains('*') || body.ends_with("**") {
            let place = reader.place(at, item);
            reader
                .error(place, at, format!("`{}` selects no columns", shorten(pattern)))
                .help("use a name, \"*\", \"prefix_*\" or \"-name\"; a star stands at the end only");
            return None;
        }
    }
    if columns.iter().all(|c| c.starts_with('-')) {
        let place = reader.place(at, node);
        let hint = format!("write [\"*\", {}]", columns.iter().map(|c| format!("\"{c}\"")).collect::<Vec<_>>().join(", "));
        reader.error(place, at, format!("`{at}` only has exclusions")).help(hint);
        return None;
    }
    Some(columns)
}

/// Name and text, in the order of the file.
fn pairs(reader: &mut Reader<'_>, node: &Node, at: &str, sql: bool) -> Option<Vec<(String, String)>> {
    let entries = reader.entries(node, at)?;
    if entries.is_empty() {
        let place = reader.place(at, node);
        reader.error(place, at, format!("`{at}` is empty"));
        return None;
    }
    let mut pairs = Vec::new();
    for entry in entries {
        let at = join(at, &entry.key);
        if entry.key.trim().is_empty() {
            reader.error(entry.place, &at, "a column has no name");
            continue;
        }
        let value = if entry.value.is_null() {
            None
        } else if sql {
            reader.sql(&entry.value, &at)
        } else {
            reader.name(&entry.value, &at)
        };
        pairs.extend(value.map(|v| (entry.key.clone(), v)));
    }
    (pairs.len() == entries.len()).then_some(pairs)
}

fn rename(reader: &mut Reader<'_>, node: &Node, at: &str) -> Option<StepKind> {
    let names = pairs(reader, node, at, false)?;
    for (i, (old, new)) in names.iter().enumerate() {
        let path = join(at, old);
        let place = reader.spans.get(&path).unwrap_or(node.place);
        if names[..i].iter().any(|(_, n)| n == new) {
            reader.error(place, &path, format!("two columns would be named `{}`", shorten(new)));
            return None;
        }
    }
    Some(StepKind::Rename { names })
}

fn impute(reader: &mut Reader<'_>, node: &Node, at: &str) -> Option<StepKind> {
    let (columns, fields) = arguments(reader, node, at, &IMPUTE)?;
    let Some(fields) = fields else {
        return Some(StepKind::Impute { columns, strategy: ImputeStrategy::Mean, fill_value: None, indicator: false });
    };
    let strategy = match fields.get("strategy") {
        Some(node) => strategy(reader, node, &fields.at("strategy"))?,
        None => ImputeStrategy::Mean,
    };
    let indicator = match fields.get("indicator") {
        Some(node) => reader.boolean(node, &fields.at("indicator"))?,
        None => false,
    };
    let fill_value = match fields.get("fill_value") {
        Some(node) => Some(fill_value(reader, node, &fields.at("fill_value"))?),
        None => None,
    };
    match (strategy, &fill_value) {
        (ImputeStrategy::Constant, None) => {
            reader.missing(&fields, "fill_value").help("`strategy: constant` needs the value");
            None
        }
        (ImputeStrategy::Constant, Some(_)) | (_, None) => Some(StepKind::Impute { columns, strategy, fill_value, indicator }),
        (_, Some(_)) => {
            let at = fields.at("fill_value");
            let place = reader.spans.get(&at).unwrap_or(fields.place);
            reader.error(place, &at, "`fill_value` is the value of `strategy: constant` only").help("write `strategy: constant`");
            None
        }
    }
}

fn strategy(reader: &mut Reader<'_>, node: &Node, at: &str) -> Option<ImputeStrategy> {
    if let Yaml::Scalar { text, .. } = &node.value
        && matches!(text.as_str(), "mode" | "most_common")
    {
        let place = reader.place(at, node);
        reader.error(place, at, format!("`{at}` cannot be `{text}`")).help("write `most_frequent`");
        return None;
    }
    let known = ["mean", "median", "most_frequent", "constant"];
    Some(match reader.word(node, at, &known, &["knn", "iterative", "forward", "min", "max"])? {
        "mean" => ImputeStrategy::Mean,
        "median" => ImputeStrategy::Median,
        "most_frequent" => ImputeStrategy::MostFrequent,
        _ => ImputeStrategy::Constant,
    })
}

fn fill_value(reader: &mut Reader<'_>, node: &Node, at: &str) -> Option<Value> {
    let value = reader.json(node, at)?;
    if value.is_array() || value.is_object() {
        reader.expected(node, at, "one value");
        return None;
    }
    Some(value)
}

fn one_hot(reader: &mut Reader<'_>, node: &Node, at: &str) -> Option<StepKind> {
    let (columns, fields) = arguments(reader, node, at, &ONE_HOT)?;
    let Some(fields) = fields else {
        return Some(StepKind::OneHot { columns, drop_first: false, unknown: Unknown::Zero });
    };
    let drop_first = match fields.get("drop") {
        Some(node) => reader.word(node, &fields.at("drop"), &["first"], &["if_binary", "last"])? == "first",
        None => false,
    };
    let unknown = match fields.get("unknown").map(|n| reader.word(n, &fields.at("unknown"), &["zero", "error"], &[])) {
        None => Unknown::Zero,
        Some(word) if word? == "zero" => Unknown::Zero,
        Some(_) => Unknown::Error,
    };
    Some(StepKind::OneHot { columns, drop_first, unknown })
}

fn hash(reader: &mut Reader<'_>, node: &Node, at: &str) -> Option<StepKind> {
    let (columns, fields) = arguments(reader, node, at, &HASH)?;
    let Some(fields) = fields else {
        let place = reader.place(at, node);
        reader
            .error(place, &join(at, "size"), format!("`{at}` needs a size"))
            .help("write `hash: {columns: […], size: 1024, as: …}`");
        return None;
    };
    let size = match fields.get("size") {
        Some(node) => reader.integer(node, &fields.at("size"), 1, MAX_SLOTS),
        None => {
            reader.missing(&fields, "size").help("the number of slots: more slots, fewer collisions");
            None
        }
    };
    let output = match fields.get("as") {
        Some(node) => {
            // The job message calls it `output`.
            let place = reader.place(&fields.at("as"), node);
            reader.spans.insert(join(at, "output"), place);
            reader.name(node, &fields.at("as"))?
        }
        None => "hash".to_owned(),
    };
    Some(StepKind::Hash { columns, size: u32::try_from(size?).ok()?, output })
}

fn date_parts(reader: &mut Reader<'_>, node: &Node, at: &str) -> Option<StepKind> {
    let names: Vec<&str> = PARTS.iter().map(|(name, _)| *name).collect();
    let (columns, fields) = arguments(reader, node, at, &DATE_PARTS)?;
    let Some((parts, at)) = fields.as_ref().and_then(|f| Some((f.get("parts")?, f.at("parts")))) else {
        let place = reader.place(at, node);
        reader
            .error(place, &join(at, "parts"), format!("`{at}` needs its parts"))
            .help(format!("write `date_parts: {{columns: …, parts: […]}}` with any of {}", names.join(", ")));
        return None;
    };
    let words = reader.names(parts, &at)?;
    let items = reader.items(parts, &at);
    let mut read = Vec::new();
    for (word, (at, item)) in words.iter().zip(&items) {
        if let Some((_, part)) = PARTS.iter().find(|(name, _)| name == word) {
            read.push(*part);
            continue;
        }
        let place = reader.place(at, item);
        if LATER_PARTS.contains(&word.as_str()) {
            reader.not_yet(place, at, &format!("`{word}`"));
        } else {
            reader.error(place, at, format!("`{}` is not a part of a date", shorten(word))).help(did_you_mean(word, &names));
        }
    }
    (read.len() == words.len()).then_some(StepKind::DateParts { columns, parts: read })
}

/// JSON Schema of each step by name.
pub fn schema() -> Map<String, Value> {
    let long = |required: &[&str], more: Value| {
        let mut properties = Map::from_iter([("columns".to_owned(), columns_schema())]);
        properties.extend(more.as_object().cloned().unwrap_or_default());
        json!({"type": "object", "required": required, "additionalProperties": false, "properties": properties})
    };
    let short = |long: Value| json!({"oneOf": [{"type": "string"}, {"type": "array"}, long]});
    let names = json!({"type": "object", "minProperties": 1, "additionalProperties": {"type": "string", "minLength": 1}});
    let parts: Vec<&str> = PARTS.iter().map(|(name, _)| *name).collect();
    let steps = json!({
        "sql": {"type": "object", "minProperties": 1, "additionalProperties": {"type": ["string", "number", "boolean"]}},
        "impute": short(long(&["columns"], json!({
            "strategy": {"enum": ["mean", "median", "most_frequent", "constant"], "default": "mean"},
            "fill_value": {"type": ["string", "number", "boolean"]},
            "indicator": {"type": "boolean", "default": false}
        }))),
        "standardize": short(long(&["columns"], json!({}))),
        "min_max": short(long(&["columns"], json!({}))),
        "one_hot": short(long(&["columns"], json!({"drop": {"enum": ["first"]}, "unknown": {"enum": ["zero", "error"], "default": "zero"}}))),
        "hash": long(&["columns", "size"], json!({
            "size": {"type": "integer", "minimum": 1, "maximum": 1 << 24},
            "as": {"type": "string", "minLength": 1, "default": "hash"}
        })),
        "date_parts": long(&["columns", "parts"], json!({"parts": {"oneOf": [
            {"enum": parts},
            {"type": "array", "items": {"enum": parts}, "minItems": 1, "uniqueItems": true}
        ]}})),
        "drop": short(long(&["columns"], json!({}))),
        "keep": short(long(&["columns"], json!({}))),
        "rename": names
    });
    match steps {
        Value::Object(steps) => steps,
        _ => Map::new(),
    }
}
