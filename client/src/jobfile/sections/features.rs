//! `features`: the list of steps, their ids. What one step takes is in `steps`.

use serde_json::{Value, json};
use sheaf_dataflow::job::FeatureStep;

use super::steps;
use crate::jobfile::Place;
use crate::jobfile::read::{Fields, Grammar, Reader};
use crate::jobfile::yaml::{Node, Yaml, shorten};

const STEP: Grammar = Grammar {
    what: "a step",
    keys: &["id", "sql", "impute", "standardize", "min_max", "one_hot", "hash", "date_parts", "drop", "keep", "rename"],
    hidden: &[],
    later: &[
        "max_abs",
        "robust",
        "quantile_transform",
        "power",
        "normalize",
        "binarize",
        "bucketize",
        "quantile_bins",
        "bin",
        "string_index",
        "ordinal",
        "multi_hot",
        "target_encode",
        "count_encode",
        "frequency_encode",
        "woe",
        "polynomial",
        "interaction",
        "cross",
        "spline",
        "cyclical",
        "tokenize",
        "stop_words",
        "ngram",
        "tf_idf",
        "count_vectors",
        "word2vec",
        "pca",
        "random_projection",
        "lsh",
        "select",
        "formula",
        "clip",
        "cast",
    ],
    peers: &[
        ("StandardScaler", "write `standardize: \"*\"`"),
        ("standardise", "write `standardize`"),
        ("scale", "write `standardize` or `min_max`"),
        ("zscore", "write `standardize`"),
        ("MinMaxScaler", "write `min_max: \"*\"`"),
        ("RobustScaler", "`robust` is not supported yet; `standardize` and `min_max` are"),
        ("MaxAbsScaler", "`max_abs` is not supported yet; `standardize` and `min_max` are"),
        ("OneHotEncoder", "write `one_hot: [columns]`"),
        ("onehot", "write `one_hot: [columns]`"),
        ("get_dummies", "write `one_hot: [columns]`"),
        ("dummy", "write `one_hot: [columns]`"),
        ("StringIndexer", "not needed: `one_hot` takes text as it is"),
        ("OrdinalEncoder", "`ordinal` is not supported yet; `one_hot` takes text as it is"),
        ("LabelEncoder", "not needed: a target may be text, with `columns: {positive: …}`"),
        ("TargetEncoder", "`target_encode` is not supported yet"),
        ("SimpleImputer", "write `impute: {columns: \"*\", strategy: median}`"),
        ("Imputer", "write `impute: {columns: \"*\", strategy: median}`"),
        ("fillna", "write `impute: {columns: …, strategy: constant, fill_value: …}`"),
        ("FeatureHasher", "write `hash: {columns: […], size: …, as: …}`"),
        ("HashingTF", "write `hash: {columns: […], size: …, as: …}`"),
        ("VectorAssembler", "not needed: what is left after the last step is the feature set"),
        ("SQLTransformer", "write `sql: {column: expression}`"),
        ("expressions", "write `sql: {column: expression}`"),
        ("select_columns", "write `keep: [columns]`"),
        ("remove", "write `drop: [columns]`"),
        ("name", "write `id`"),
        ("columns", "columns belong inside the step: `standardize: [a, b]`"),
    ],
};

/// Reads the section.
pub fn read(reader: &mut Reader<'_>, node: &Node) -> Vec<FeatureStep> {
    if let Yaml::Map(entries) = &node.value
        && let Some(from) = entries.iter().find(|e| e.key == "from")
    {
        reader.not_yet(from.place, "features.from", "`features: {from: …}`").help("write the steps as a list");
        return Vec::new();
    }
    if !matches!(node.value, Yaml::List(_)) {
        reader.expected(node, "features", "a list of steps").help("start each with a dash: `- standardize: \"*\"`");
        return Vec::new();
    }
    let mut taken: Vec<(String, Place)> = Vec::new();
    let mut unnamed = Vec::new();
    let mut read = Vec::new();
    for (at, item) in reader.items(node, "features") {
        let Some((name, kind, id)) = step(reader, item, &at) else { continue };
        match &id {
            Some((id, place)) => explicit_id(reader, id, *place, &at, &mut taken),
            None => unnamed.push(read.len()),
        }
        read.push(FeatureStep { id: id.map_or_else(|| name.to_owned(), |(id, _)| id), kind });
    }
    for index in unnamed {
        let base = read[index].id.clone();
        let free = (1..).map(|n| if n == 1 { base.clone() } else { format!("{base}_{n}") });
        let id = free.into_iter().find(|n| taken.iter().all(|(t, _)| t != n)).expect("the numbers do not end");
        taken.push((id.clone(), Place::default()));
        read[index].id = id;
    }
    read
}

fn explicit_id(reader: &mut Reader<'_>, id: &str, place: Place, at: &str, taken: &mut Vec<(String, Place)>) {
    if let Some((_, first)) = taken.iter().find(|(t, _)| t == id) {
        let message = format!("two steps have the id `{}`; the first on line {}", shorten(id), first.line);
        reader.error(place, &format!("{at}.id"), message).help("ids must differ");
    }
    taken.push((id.to_owned(), place));
}

type Step = (&'static str, sheaf_dataflow::job::StepKind, Option<(String, Place)>);

fn step(reader: &mut Reader<'_>, node: &Node, at: &str) -> Option<Step> {
    if let Yaml::Scalar { text, .. } = &node.value {
        let hint = format!("write `- {}: \"*\"`, or name the columns", shorten(text));
        reader.expected(node, at, "a map of one step").help(hint);
        return None;
    }
    let fields = reader.fields(node, at, &STEP)?;
    let id = match fields.get("id") {
        Some(node) => {
            let at = fields.at("id");
            let place = reader.place(&at, node);
            Some((id(reader, node, &at)?, place))
        }
        None => None,
    };
    let name = kind(reader, &fields)?;
    let kind = steps::read(reader, name, fields.get(name)?, &fields.at(name))?;
    Some((name, kind, id))
}

fn id(reader: &mut Reader<'_>, node: &Node, at: &str) -> Option<String> {
    let id = reader.name(node, at)?;
    if id.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Some(id);
    }
    let place = reader.place(at, node);
    reader.error(place, at, format!("`{}` cannot be a step's id", shorten(&id))).help("use letters, digits and underscores");
    None
}

fn kind(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<&'static str> {
    let kinds: Vec<&'static str> = STEP.keys.iter().copied().filter(|k| *k != "id" && fields.get(k).is_some()).collect();
    match kinds.as_slice() {
        [kind] => Some(kind),
        [] => {
            if !fields.refused {
                let message = format!("`{}` has no step", fields.path);
                reader.error(fields.place, &fields.path, message).help(format!("one of: {}", STEP.keys[1..].join(", ")));
            }
            None
        }
        [first, second, ..] => {
            let message = format!("`{}` has two steps, `{first}` and `{second}`", fields.path);
            reader.error(fields.place, &fields.path, message).help("each step is an entry of its own, with its own dash");
            None
        }
    }
}

/// JSON Schema of the section.
pub fn schema() -> Value {
    let kinds: Vec<Value> = STEP.keys[1..].iter().map(|k| json!({"required": [k]})).collect();
    let mut properties = steps::schema();
    properties.insert("id".into(), json!({"type": "string", "pattern": "^[A-Za-z0-9_]+$"}));
    json!({"type": "array", "items": {"type": "object", "oneOf": kinds, "additionalProperties": false, "properties": properties}})
}
