//! `publish`, and the names of the registry.

use serde_json::{Value, json};
use sheaf_dataflow::job::{ExportFormat, Publish};

use crate::jobfile::read::{Grammar, Reader};
use crate::jobfile::yaml::{Node, shorten};

/// What a registry name looks like.
pub const NAME_PATTERN: &str = "^[a-z0-9][a-z0-9._-]{0,99}$";
const MAX_NAME: usize = 100;

const PUBLISH: Grammar = Grammar {
    what: "`publish`",
    keys: &["model", "alias", "export"],
    hidden: &[],
    later: &["description", "tags", "card"],
    peers: &[
        ("name", "write `model`"),
        ("registered_model_name", "write `model`"),
        ("stage", "write `alias`"),
        ("aliases", "write `alias`: one name"),
        ("format", "write `export: [onnx]`"),
        ("onnx", "write `export: [onnx]`"),
        ("version", "versions count up by themselves"),
    ],
};

/// Reads the section.
pub fn read(reader: &mut Reader<'_>, node: &Node) -> Option<Publish> {
    let fields = reader.fields(node, "publish", &PUBLISH)?;
    let model = fields.get("model").and_then(|n| registry_name(reader, n, "publish.model"));
    let alias = fields.get("alias").and_then(|n| alias(reader, n));
    let export = fields.get("export").map(|n| exports(reader, n)).unwrap_or_default();
    Some(Publish { model, alias, export })
}

/// One format or several, none twice.
fn exports(reader: &mut Reader<'_>, node: &Node) -> Vec<ExportFormat> {
    let known = ExportFormat::ALL.map(ExportFormat::name);
    let mut out = Vec::new();
    for (at, item) in reader.items(node, "publish.export") {
        let Some(name) = reader.word(item, &at, &known, &["safetensors", "pmml"]) else { continue };
        let format = ExportFormat::ALL.into_iter().find(|format| format.name() == name);
        if format.is_some_and(|format| out.contains(&format)) {
            let place = reader.place(&at, item);
            reader.error(place, &at, format!("`{name}` is given twice"));
        }
        out.extend(format);
    }
    out
}

/// Lower-case letters, digits, `.`, `_` and `-`, starting with a letter or digit.
pub fn registry_name(reader: &mut Reader<'_>, node: &Node, at: &str) -> Option<String> {
    let name = reader.name(node, at)?;
    let good = name.len() <= MAX_NAME
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-'));
    if good {
        return Some(name);
    }
    let place = reader.place(at, node);
    let error = reader.error(place, at, format!("`{}` cannot be a name in the registry", shorten(&name)));
    error.help(format!("use up to {MAX_NAME} of a-z, 0-9, `.`, `_` and `-`, starting with a letter or digit"));
    None
}

fn alias(reader: &mut Reader<'_>, node: &Node) -> Option<String> {
    let at = "publish.alias";
    let place = reader.place(at, node);
    let alias = registry_name(reader, node, at)?;
    if alias == "latest" {
        reader.error(place, at, "`latest` always points to the newest version").help("choose another alias, as in `candidate`");
        return None;
    }
    if alias.chars().all(|c| c.is_ascii_digit()) {
        reader.error(place, at, format!("the alias `{alias}` would read as a version")).help("an alias may not be a number");
        return None;
    }
    Some(alias)
}

/// JSON Schema of the section.
pub fn schema() -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "model": {"type": "string", "pattern": NAME_PATTERN},
            "export": {"anyOf": [{"enum": ["onnx"]}, {"type": "array", "items": {"enum": ["onnx"]}, "uniqueItems": true}]},
            "alias": {"type": "string", "pattern": NAME_PATTERN, "not": {"anyOf": [{"const": "latest"}, {"pattern": "^[0-9]+$"}]}}
        }
    })
}
