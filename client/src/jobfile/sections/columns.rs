//! `columns`: the roles of prepared columns.

use serde_json::{Value, json};
use sheaf_dataflow::job::Roles;

use super::columns_schema;
use crate::jobfile::read::{Fields, Grammar, Reader};
use crate::jobfile::yaml::Node;

const COLUMNS: Grammar = Grammar {
    what: "`columns`",
    keys: &["target", "positive", "key", "time", "group", "query", "weight", "offset", "categorical", "ignore"],
    hidden: &[],
    later: &["user", "item"],
    peers: &[
        ("label", "write `target`"),
        ("labelCol", "write `target`"),
        ("labels", "write `target`"),
        ("y", "write `target`"),
        ("response", "write `target`"),
        ("response_column", "write `target`"),
        ("weightCol", "write `weight`"),
        ("sample_weight", "write `weight`"),
        ("weights_column", "write `weight`"),
        ("offsetCol", "write `offset`"),
        ("id", "write `key`"),
        ("index", "write `key`"),
        ("timestamp", "write `time`"),
        ("groups", "write `group`"),
        ("qid", "write `query`"),
        ("query_id", "write `query`"),
        ("group_column", "write `query`: the column that says which rows are ranked together"),
        ("pos_label", "write `positive`"),
        ("features", "features are all prepared columns but roles and `ignore`; `features: [{keep: […]}]` narrows them"),
        ("featuresCol", "features are all prepared columns but roles and `ignore`; `features: [{keep: […]}]` narrows them"),
        ("exclude", "write `ignore`"),
        ("drop", "write `ignore`"),
        ("cat_features", "write `categorical`"),
    ],
};

/// Reads the section.
pub fn read(reader: &mut Reader<'_>, node: &Node) -> Roles {
    let Some(fields) = reader.fields(node, "columns", &COLUMNS) else { return Roles::default() };
    let roles = Roles {
        target: one(reader, &fields, "target"),
        positive: fields.get("positive").and_then(|n| positive(reader, n)),
        key: several(reader, &fields, "key"),
        time: one(reader, &fields, "time"),
        group: one(reader, &fields, "group"),
        query: one(reader, &fields, "query"),
        weight: one(reader, &fields, "weight"),
        offset: one(reader, &fields, "offset"),
        categorical: several(reader, &fields, "categorical"),
        ignore: several(reader, &fields, "ignore"),
    };
    conflicts(reader, &roles);
    roles
}

fn one(reader: &mut Reader<'_>, fields: &Fields<'_>, role: &str) -> Option<String> {
    fields.get(role).and_then(|n| reader.name(n, &fields.at(role)))
}

fn several(reader: &mut Reader<'_>, fields: &Fields<'_>, role: &str) -> Vec<String> {
    fields.get(role).and_then(|n| reader.names(n, &fields.at(role))).unwrap_or_default()
}

fn positive(reader: &mut Reader<'_>, node: &Node) -> Option<Value> {
    let value = reader.json(node, "columns.positive")?;
    if value.is_object() || value.is_array() {
        reader.expected(node, "columns.positive", "one value of the target");
        return None;
    }
    Some(value)
}

/// A column that is learnt, or weighs, can be nothing else.
pub fn conflicts(reader: &mut Reader<'_>, roles: &Roles) {
    let singles = [("target", &roles.target), ("weight", &roles.weight), ("offset", &roles.offset)];
    let others = [("time", &roles.time), ("group", &roles.group), ("query", &roles.query)];
    let lists = [("key", &roles.key), ("ignore", &roles.ignore), ("categorical", &roles.categorical)];
    for (i, (role, column)) in singles.iter().enumerate() {
        let Some(column) = column else { continue };
        let single = singles[i + 1..].iter().chain(&others).filter(|(_, c)| c.as_ref() == Some(column)).map(|(r, _)| *r);
        let list = lists.iter().filter(|(_, l)| l.contains(column)).map(|(r, _)| *r);
        for other in single.chain(list) {
            let path = format!("columns.{other}");
            let place = reader.spans.get(&path).unwrap_or_default();
            reader.error(place, &path, format!("`{column}` cannot be both {role} and {other}"));
        }
    }
}

/// JSON Schema of the section.
pub fn schema() -> Value {
    let one = json!({"type": "string", "minLength": 1});
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "target": one,
            "positive": {"type": ["string", "number", "boolean"]},
            "key": columns_schema(),
            "time": one,
            "group": one,
            "query": one,
            "weight": one,
            "offset": one,
            "categorical": columns_schema(),
            "ignore": columns_schema()
        }
    })
}
