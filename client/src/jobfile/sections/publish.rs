//! `publish`, and the names of the registry.

use serde_json::{Value, json};
use sheaf_dataflow::job::Publish;

use crate::jobfile::read::{Grammar, Reader};
use crate::jobfile::yaml::{Node, shorten};

/// What a registry name looks like.
pub const NAME_PATTERN: &str = "^[a-z0-9][a-z0-9._-]{0,99}$";
const MAX_NAME: usize = 100;

const PUBLISH: Grammar = Grammar {
    what: "`publish`",
    keys: &["model", "alias"],
    hidden: &[],
    later: &["export", "description", "tags", "card"],
    peers: &[
        ("name", "write `model`"),
        ("registered_model_name", "write `model`"),
        ("stage", "write `alias`"),
        ("aliases", "write `alias`: one name"),
        ("version", "versions count up by themselves"),
    ],
};

/// Reads the section.
pub fn read(reader: &mut Reader<'_>, node: &Node) -> Option<Publish> {
    let fields = reader.fields(node, "publish", &PUBLISH)?;
    let model = fields.get("model").and_then(|n| registry_name(reader, n, "publish.model"));
    let alias = fields.get("alias").and_then(|n| alias(reader, n));
    Some(Publish { model, alias })
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
            "alias": {"type": "string", "pattern": NAME_PATTERN, "not": {"anyOf": [{"const": "latest"}, {"pattern": "^[0-9]+$"}]}}
        }
    })
}
