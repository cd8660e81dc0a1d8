//! `tables`: what SQL can see. A path, the long form, or a view.

use serde_json::{Value, json};
use sheaf_dataflow::job::{Format, Table};

use crate::jobfile::Place;
use crate::jobfile::read::{Fields, Grammar, Reader, join};
use crate::jobfile::suggest::did_you_mean;
use crate::jobfile::yaml::{Entry, Node, Yaml, shorten};

/// Names that the product gives to its own tables.
const RESERVED: &[&str] = &["prepared", "predictions", "features"];
const FORMATS: &[&str] = &["parquet", "csv"];
const LATER_FORMATS: &[&str] = &["json", "jsonl", "ndjson", "avro", "arrow", "ipc", "feather", "orc", "tsv", "delta", "libsvm"];
/// Endings of files that are not read yet.
const LATER_ENDINGS: &[&str] = &[
    ".json", ".jsonl", ".ndjson", ".avro", ".arrow", ".ipc", ".feather", ".orc", ".tsv", ".gz", ".zst", ".bz2", ".svm", ".libsvm",
];
const TYPES: &[&str] = &["int64", "float64", "utf8", "bool", "date", "timestamp"];
const LATER_TYPES: &[&str] = &[
    "int8", "int16", "int32", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "decimal", "binary", "time",
    "duration",
];
const TYPE_PEERS: &[(&str, &str)] = &[
    ("string", "utf8"),
    ("str", "utf8"),
    ("text", "utf8"),
    ("varchar", "utf8"),
    ("object", "utf8"),
    ("int", "int64"),
    ("integer", "int64"),
    ("long", "int64"),
    ("bigint", "int64"),
    ("float", "float64"),
    ("double", "float64"),
    ("real", "float64"),
    ("boolean", "bool"),
    ("date32", "date"),
    ("datetime", "timestamp"),
];

const TABLE: Grammar = Grammar {
    what: "a table",
    keys: &["path", "sql", "format", "csv", "schema"],
    hidden: &[],
    later: &["partitions", "json"],
    peers: &[
        ("uri", "write `path`"),
        ("url", "write `path`"),
        ("file", "write `path`"),
        ("location", "write `path`"),
        ("type", "write `format`"),
        ("dtypes", "write `schema: {column: type}`"),
        ("options", "write `csv: {delimiter: …, header: …, null: …}`"),
        ("query", "write `sql`"),
        ("view", "write `sql`"),
    ],
};

const CSV: Grammar = Grammar {
    what: "`csv`",
    keys: &["delimiter", "header", "null"],
    hidden: &[],
    later: &["quote", "escape", "comment", "encoding", "compression", "skip"],
    peers: &[
        ("sep", "write `delimiter`"),
        ("separator", "write `delimiter`"),
        ("na_values", "write `null`"),
        ("nullValue", "write `null`"),
        ("has_header", "write `header`"),
        ("skiprows", "`skip` is not supported yet"),
    ],
};

/// Reads the section; overrides replace paths.
pub fn read(reader: &mut Reader<'_>, node: &Node) -> Vec<Table> {
    let tables = named(reader, node, "tables");
    let Yaml::Map(entries) = &node.value else { return tables };
    let known: Vec<&str> = entries.iter().map(|e| e.key.as_str()).collect();
    for (name, _) in &reader.overrides.tables {
        if !known.contains(&name.as_str()) {
            let hint = did_you_mean(name, &known);
            reader.error(Place::default(), "tables", format!("--table {name}: the job has no table `{name}`")).help(hint);
        }
    }
    tables.into_iter().filter_map(|table| overridden(reader, table)).collect()
}

/// Reads the tables of a job that has a model: overrides may name tables of the model as well.
pub fn read_beside_model(reader: &mut Reader<'_>, node: Option<&Node>) -> Vec<Table> {
    let mut tables = node.map(|node| named(reader, node, "tables")).unwrap_or_default();
    for (name, _) in &reader.overrides.tables {
        if tables.iter().all(|t| t.name != *name) {
            tables.push(Table::at(name, ""));
        }
    }
    tables.into_iter().filter_map(|table| overridden(reader, table)).collect()
}

/// The tables of a map at `path`.
pub fn named(reader: &mut Reader<'_>, node: &Node, path: &str) -> Vec<Table> {
    let Some(entries) = reader.entries(node, path) else { return Vec::new() };
    if entries.is_empty() {
        let place = reader.place(path, node);
        reader.error(place, path, format!("`{path}` is empty")).help("name at least one, as in `rows: data/rows.parquet`");
    }
    entries.iter().filter(|e| !e.value.is_null()).filter_map(|e| table(reader, e, path)).collect()
}

/// The table with the path that the command line gives it.
fn overridden(reader: &mut Reader<'_>, table: Table) -> Option<Table> {
    let given = reader.overrides.tables.iter().rev().find(|(name, _)| *name == table.name).map(|(_, path)| path.clone());
    let Some(path) = given else { return Some(table) };
    let at = join("tables", &table.name);
    if path.is_empty() {
        reader.error(Place::default(), &at, format!("--table {}: the path is empty", table.name));
        return None;
    }
    let table = table.replaced_by(&Table::at(&table.name, reader.absolute(&path)));
    check_path(reader, Place::default(), &at, &table);
    Some(table)
}

fn table(reader: &mut Reader<'_>, entry: &Entry, path: &str) -> Option<Table> {
    let at = join(path, &entry.key);
    let named = table_name(reader, entry, &at);
    let mut table = Table::at(&entry.key, "");
    match &entry.value.value {
        Yaml::Scalar { .. } => table.path = reader.name(&entry.value, &at)?,
        Yaml::List(_) | Yaml::Map(_) => long_form(reader, &entry.value, &at, &mut table)?,
    }
    if table.sql.is_none() {
        let place = reader.spans.get(&join(&at, "path")).or_else(|| reader.spans.get(&at)).unwrap_or(entry.place);
        table.path = reader.absolute(&table.path);
        check_path(reader, place, &at, &table);
    }
    named.then_some(table)
}

fn table_name(reader: &mut Reader<'_>, entry: &Entry, at: &str) -> bool {
    let name = entry.key.as_str();
    if RESERVED.contains(&name) {
        reader.error(entry.place, at, format!("`{name}` is a reserved table name")).help("choose another name");
        return false;
    }
    let good = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if !good {
        reader.error(entry.place, at, format!("`{}` cannot name a table", shorten(name))).help(
            "use lower-case letters, digits and underscores, not starting with a digit: SQL reads unquoted names in lower case",
        );
    }
    good
}

fn long_form(reader: &mut Reader<'_>, node: &Node, at: &str, table: &mut Table) -> Option<()> {
    let fields = reader.fields(node, at, &TABLE)?;
    if let Some(node) = fields.get("sql") {
        return view(reader, node, &fields, table);
    }
    if let Some(node) = fields.get("format") {
        table.format = match reader.word(node, &fields.at("format"), FORMATS, LATER_FORMATS) {
            Some("csv") => Some(Format::Csv),
            Some(_) => Some(Format::Parquet),
            None => None,
        };
    }
    if let Some(node) = fields.get("csv") {
        csv(reader, node, &fields, table);
    }
    if let Some(node) = fields.get("schema") {
        schema_types(reader, node, &fields.at("schema"), table);
    }
    match fields.get("path") {
        Some(node) => table.path = reader.name(node, &fields.at("path"))?,
        None => {
            if !fields.refused {
                reader.missing(&fields, "path").help("a file, a folder or a glob, relative to the job file; a view has `sql`");
            }
            return None;
        }
    }
    Some(())
}

/// A view is SQL and nothing else.
fn view(reader: &mut Reader<'_>, node: &Node, fields: &Fields<'_>, table: &mut Table) -> Option<()> {
    for key in ["path", "format", "csv", "schema"] {
        if let Some(entry) = fields.entry(key) {
            let message = format!("`{key}` beside `sql`: a view has no files");
            reader.error(entry.place, &fields.at(key), message).help("keep one of them: a table is files, a view is SQL");
        }
    }
    table.sql = Some(reader.sql(node, &fields.at("sql"))?);
    Some(())
}

fn csv(reader: &mut Reader<'_>, node: &Node, table_fields: &Fields<'_>, table: &mut Table) {
    let at = table_fields.at("csv");
    if table.format == Some(Format::Parquet) {
        let place = reader.place(&at, node);
        reader.error(place, &at, "`csv` options on a Parquet table").help("remove `csv`, or write `format: csv`");
        return;
    }
    let Some(fields) = reader.fields(node, &at, &CSV) else { return };
    if table_fields.get("format").is_none() {
        table.format = Some(Format::Csv);
    }
    if let Some(node) = fields.get("delimiter") {
        let at = fields.at("delimiter");
        if let Some(text) = reader.text(node, &at) {
            match text.as_bytes() {
                [byte] if byte.is_ascii() && !matches!(byte, b'\n' | b'\r' | b'"') => table.csv.delimiter = char::from(*byte),
                _ => {
                    let place = reader.place(&at, node);
                    reader
                        .error(place, &at, format!("`{}` is not a delimiter", shorten(&text)))
                        .help("one ASCII character that is neither a quote nor a line end; a tab is \"\\t\"");
                }
            }
        }
    }
    if let Some(header) = fields.get("header").and_then(|n| reader.boolean(n, &fields.at("header"))) {
        table.csv.header = header;
    }
    if let Some(node) = fields.get("null") {
        // `null: -999` is the text in the file, whatever it looks like.
        match &node.value {
            Yaml::Scalar { text, .. } => table.csv.null = Some(text.clone()),
            Yaml::List(_) | Yaml::Map(_) => {
                reader.expected(node, &fields.at("null"), "one text");
            }
        }
    }
}

fn schema_types(reader: &mut Reader<'_>, node: &Node, at: &str, table: &mut Table) {
    let Some(entries) = reader.entries(node, at) else { return };
    for entry in entries.iter().filter(|e| !e.value.is_null()) {
        let at = join(at, &entry.key);
        let peer = match &entry.value.value {
            Yaml::Scalar { text, .. } => TYPE_PEERS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)),
            Yaml::List(_) | Yaml::Map(_) => None,
        };
        if let Some((name, ours)) = peer {
            let place = reader.place(&at, &entry.value);
            reader.error(place, &at, format!("`{name}` is not a type here")).help(format!("write `{ours}`"));
        } else if let Some(word) = reader.word(&entry.value, &at, TYPES, LATER_TYPES) {
            table.schema.insert(entry.key.clone(), word.to_owned());
        }
    }
}

/// What a path alone can be refused for.
fn check_path(reader: &mut Reader<'_>, place: Place, at: &str, table: &Table) {
    let path = &table.path;
    if path.chars().any(char::is_control) {
        reader.error(place, at, "the path holds a control character");
    }
    let authority = path.split_once("://").map(|(_, rest)| rest.split('/').next().unwrap_or_default());
    if authority.is_some_and(|a| a.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))) {
        reader
            .error(place, at, "the URL carries credentials")
            .help("credentials belong to the operator's configuration, per URL prefix; a job never names a key");
    }
    let lower = path.to_ascii_lowercase();
    let ending = LATER_ENDINGS.iter().find(|e| lower.ends_with(**e));
    if let (None, Some(ending)) = (table.format, ending) {
        reader
            .not_yet(place, at, &format!("`*{ending}`"))
            .help("Parquet and CSV are read; `format:` says it where the ending does not");
    }
    if table.format == Some(Format::Csv) && lower.ends_with(".parquet") {
        reader.error(place, at, "a `.parquet` file with `csv` options").help("remove `csv` and `format`");
    }
}

/// JSON Schema of the section.
pub fn schema() -> Value {
    json!({
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": "^[a-z_][a-z0-9_]*$", "not": {"enum": RESERVED}},
        "additionalProperties": {"oneOf": [
            {"type": "string", "minLength": 1, "description": "File, folder, glob or URL"},
            {
                "type": "object",
                "required": ["path"],
                "additionalProperties": false,
                "properties": {
                    "path": {"type": "string", "minLength": 1},
                    "format": {"enum": FORMATS},
                    "csv": {
                        "type": "object",
                        "additionalProperties": false,
                        "properties": {
                            "delimiter": {"type": "string", "minLength": 1, "maxLength": 1, "default": ","},
                            "header": {"type": "boolean", "default": true},
                            "null": {"type": ["string", "number", "boolean"]}
                        }
                    },
                    "schema": {"type": "object", "additionalProperties": {"enum": TYPES}}
                }
            },
            {
                "type": "object",
                "required": ["sql"],
                "additionalProperties": false,
                "properties": {"sql": {"type": "string", "minLength": 1, "description": "A view: SQL over earlier tables"}}
            }
        ]}
    })
}
