//! `split`: how rows get their segment.

use serde_json::{Value, json};
use sheaf_dataflow::job::Split;

use crate::jobfile::read::{Fields, Grammar, Reader};
use crate::jobfile::suggest::did_you_mean;
use crate::jobfile::yaml::{Node, Yaml, shorten};

const KINDS: &[&str] = &["random", "column"];
const LATER: &[&str] = &["stratified", "group", "time", "tables"];

const PEERS: &[(&str, &str)] = &[
    ("test_size", "write `test`: a fraction of all rows"),
    ("test_fraction", "write `test`: a fraction of all rows"),
    ("validation_size", "write `validation`: a fraction of all rows"),
    ("validation_fraction", "write `validation`: a fraction of all rows"),
    ("val", "write `validation`"),
    ("valid", "write `validation`"),
    ("eval", "write `validation`"),
    ("dev", "write `validation`"),
    ("holdout", "write `test`"),
    ("train_size", "train is what `test` and `validation` leave"),
    ("random_state", "write `seed`"),
    ("shuffle", "rows are drawn by a hash of their id; there is nothing to shuffle"),
    ("stratify", "`by: stratified` is not supported yet"),
    ("type", "write `by`"),
    ("method", "write `by`"),
    ("strategy", "write `by`"),
    ("train", "train is what `test` and `validation` leave"),
    ("column", "it belongs to `by: column`"),
    ("seed", "it belongs to `by: random`"),
];

const RANDOM: Grammar =
    Grammar { what: "a random split", keys: &["by", "test", "validation", "seed"], hidden: &[], later: &["folds"], peers: PEERS };

const COLUMN: Grammar = Grammar {
    what: "a split by column",
    keys: &["by", "column", "train", "validation", "test"],
    hidden: &[],
    later: &["folds"],
    peers: PEERS,
};

/// Reads the section.
pub fn read(reader: &mut Reader<'_>, node: &Node) -> Option<Split> {
    let by = by(reader, node)?;
    if by == "column" {
        let fields = reader.fields(node, "split", &COLUMN)?;
        return column(reader, &fields);
    }
    let fields = reader.fields(node, "split", &RANDOM)?;
    random(reader, &fields)
}

/// The kind of split. Anything else in the section is read only if the kind is known.
fn by(reader: &mut Reader<'_>, node: &Node) -> Option<&'static str> {
    let Yaml::Map(entries) = &node.value else {
        reader.expected(node, "split", "a map").help("write `split: {by: random, test: 0.2}`");
        return None;
    };
    let Some(entry) = entries.iter().find(|e| e.key == "by") else {
        let place = reader.place("split", node);
        reader
            .error(place, "split.by", "`split.by` is missing")
            .help("write `by: random` with fractions, or `by: column` with the column that says the segment");
        return None;
    };
    let place = entry.value.place;
    let word = reader.name(&entry.value, "split.by")?;
    if LATER.contains(&word.as_str()) {
        reader.not_yet(place, "split.by", &format!("`by: {word}`"));
        return None;
    }
    let kind = KINDS.iter().find(|k| **k == word);
    if kind.is_none() {
        reader.error(place, "split.by", format!("`split.by` cannot be `{}`", shorten(&word))).help(did_you_mean(&word, KINDS));
    }
    kind.copied()
}

fn random(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Split> {
    let test = fraction(reader, fields, "test");
    let validation = fraction(reader, fields, "validation");
    let seed = match fields.get("seed") {
        Some(node) => Some(reader.integer(node, "split.seed", 0, i128::from(u64::MAX))?),
        None => None,
    };
    let (test, validation) = (test?, validation?);
    if test + validation >= 1.0 {
        let message = format!("test {test} and validation {validation} leave no row for training");
        reader.error(fields.place, "split", message).help("together they must be below 1");
        return None;
    }
    if test + validation == 0.0 && !fields.refused {
        reader
            .error(fields.place, "split", "the split gives rows to neither test nor validation")
            .help("write `test: 0.2`, or remove `split`: then every row trains");
        return None;
    }
    Some(Split::Random { test, validation, seed: seed.and_then(|s| u64::try_from(s).ok()) })
}

fn fraction(reader: &mut Reader<'_>, fields: &Fields<'_>, key: &str) -> Option<f64> {
    let Some(node) = fields.get(key) else { return Some(0.0) };
    let at = fields.at(key);
    let value = reader.number(node, &at)?;
    if (0.0..1.0).contains(&value) {
        return Some(value);
    }
    let place = reader.place(&at, node);
    let error = reader.error(place, &at, format!("`{at}` is {value}; it must be a fraction of all rows, 0 ≤ f < 1"));
    if (1.0..100.0).contains(&value) {
        error.help(format!("{value} percent is {}", value / 100.0));
    }
    None
}

fn column(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Split> {
    let value = |reader: &mut Reader<'_>, key: &str| match fields.get(key) {
        Some(node) => reader.name(node, &fields.at(key)).map(Some),
        None => Some(None),
    };
    let (train, validation, test) = (value(reader, "train")?, value(reader, "validation")?, value(reader, "test")?);
    let Some(node) = fields.get("column") else {
        if !fields.refused {
            reader.missing(fields, "column").help("the prepared column that says train, validation or test");
        }
        return None;
    };
    let column = reader.name(node, "split.column")?;
    let words = [("train", &train), ("validation", &validation), ("test", &test)];
    let words = words.map(|(segment, word)| word.clone().unwrap_or_else(|| segment.to_owned()));
    if words[0] == words[1] || words[0] == words[2] || words[1] == words[2] {
        let message = format!("two segments have the same value: {}", words.join(", "));
        reader.error(fields.place, "split", message).help("train, validation and test need different values");
        return None;
    }
    Some(Split::Column { column, train, validation, test })
}

/// JSON Schema of the section.
pub fn schema() -> Value {
    let fraction = json!({"type": "number", "minimum": 0, "exclusiveMaximum": 1, "default": 0});
    let word = json!({"type": "string", "minLength": 1});
    json!({"oneOf": [
        {
            "type": "object",
            "required": ["by"],
            "additionalProperties": false,
            "properties": {"by": {"const": "random"}, "test": fraction, "validation": fraction, "seed": {"type": "integer", "minimum": 0}}
        },
        {
            "type": "object",
            "required": ["by", "column"],
            "additionalProperties": false,
            "properties": {"by": {"const": "column"}, "column": word, "train": word, "validation": word, "test": word}
        }
    ]})
}
