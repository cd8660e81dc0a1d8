//! `predict`, `write` and `model`: rows that a model scores, stages that are written, an existing model.

use std::path::Path;

use serde_json::{Value, json};
use sheaf_dataflow::job::{Details, Explain, Job, MOST_CONTRIBUTIONS, PredictSection, Write};

use super::tables;
use crate::jobfile::read::{Fields, Grammar, Reader, is_url, join};
use crate::jobfile::suggest::did_you_mean;
use crate::jobfile::yaml::{Core, Node, shorten};

const PREDICT: Grammar = Grammar {
    what: "`predict`",
    keys: &["from", "tables", "where", "keep", "to", "explain", "leaves", "staged"],
    hidden: &[],
    later: &["format", "partitions", "top"],
    peers: &[
        ("output", "write `to`"),
        ("path", "write `to`"),
        ("input", "write `tables: {name: path}`; `from` picks a table or view"),
        ("table", "write `from`"),
        ("view", "write `from`"),
        ("filter", "write `where`"),
        ("columns", "write `keep`"),
        ("passthrough", "write `keep`"),
        ("pred_contrib", "write `explain: true`, or `explain: N` for the N largest"),
        ("pred_contribs", "write `explain: true`, or `explain: N` for the N largest"),
        ("shap", "write `explain: true`, or `explain: N` for the N largest"),
        ("contributions", "write `explain: true`, or `explain: N` for the N largest"),
        ("leafCol", "write `leaves: true`"),
        ("pred_leaf", "write `leaves: true`"),
        ("leaf", "write `leaves: true`"),
        ("model", "the job's own model predicts; an existing one is named by `model` at the top"),
    ],
};

const WRITE: Grammar = Grammar {
    what: "`write`",
    keys: &["prepared", "features"],
    hidden: &[],
    later: &[],
    peers: &[
        ("to", "write `prepared: FOLDER`, `features: FOLDER` or both"),
        ("path", "write `prepared: FOLDER`, `features: FOLDER` or both"),
        ("output", "write `prepared: FOLDER`, `features: FOLDER` or both"),
        ("predictions", "write `predict: {to: FOLDER}`"),
        ("matrix", "write `features`"),
    ],
};

/// What a reference to a model looks like: `name`, `name@version`, `name@alias`, `name@latest` or a job's id.
const MODEL_PATTERN: &str = "^[A-Za-z0-9._-]+(@[a-z0-9._-]+)?$";

/// Reads the section `predict`.
pub fn read(reader: &mut Reader<'_>, node: &Node) -> Option<PredictSection> {
    let fields = reader.fields(node, "predict", &PREDICT)?;
    let from = fields.get("from").and_then(|n| reader.name(n, &fields.at("from")));
    let tables = fields.get("tables").map(|n| tables::named(reader, n, &fields.at("tables"))).unwrap_or_default();
    let filter = fields.get("where").and_then(|n| reader.sql(n, &fields.at("where")));
    let keep = fields.get("keep").and_then(|n| reader.names(n, &fields.at("keep"))).unwrap_or_default();
    let to = match fields.get("to") {
        Some(node) => folder(reader, node, &fields.at("to")),
        None => {
            if !fields.refused {
                reader.missing(&fields, "to").help("name the folder that the predictions are written to: `to: scored/`");
            }
            None
        }
    };
    let details = details(reader, &fields);
    Some(PredictSection { from, tables, filter, keep, to: to?, details })
}

/// What is written beside the predictions.
fn details(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Details {
    let mut number = |key: &str, most: u32| fields.get(key).and_then(|n| switch(reader, n, &fields.at(key), most));
    let (explain, staged) = (number("explain", MOST_CONTRIBUTIONS as u32), number("staged", MOST_STEP));
    Details {
        explain: explain.map(|count| count.map_or(Explain::All, Explain::Largest)),
        leaves: fields.get("leaves").and_then(|n| reader.boolean(n, &fields.at("leaves"))).unwrap_or(false),
        staged: staged.map(|step| step.unwrap_or(1)),
    }
}

/// Most trees from a stage to the next.
const MOST_STEP: u32 = 100_000;

/// `true`, or a number; nothing for `false` and what is wrong.
fn switch(reader: &mut Reader<'_>, node: &Node, path: &str, most: u32) -> Option<Option<u32>> {
    match reader.scalar(node, path)? {
        Core::Bool(on) => on.then_some(None),
        Core::Int(number) if (1..=i128::from(most)).contains(&number) => Some(u32::try_from(number).ok()),
        other => {
            reader.found(node, path, &format!("true, false or a whole number from 1 to {most}"), &other);
            None
        }
    }
}

/// Reads the section `write`.
pub fn read_write(reader: &mut Reader<'_>, node: &Node) -> Write {
    let Some(fields) = reader.fields(node, "write", &WRITE) else { return Write::default() };
    let mut one = |key: &str| fields.get(key).and_then(|n| folder(reader, n, &fields.at(key)));
    let write = Write { prepared: one("prepared"), features: one("features") };
    if fields.get("prepared").is_none() && fields.get("features").is_none() && !fields.refused {
        reader
            .error(fields.place, "write", "`write` names no stage")
            .help("write `prepared: FOLDER`, `features: FOLDER` or both");
    }
    write
}

/// Reads the reference of `model`.
pub fn read_model(reader: &mut Reader<'_>, node: &Node) -> Option<String> {
    let text = reader.name(node, "model")?;
    let plain = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    let (name, wanted) = text.split_once('@').unwrap_or((&text, "latest"));
    if plain(name) && plain(wanted) {
        return Some(text);
    }
    let place = reader.place("model", node);
    reader
        .error(place, "model", format!("`{}` is not a model", shorten(&text)))
        .help("write NAME@VERSION, NAME@ALIAS or NAME@latest, as in `card-fraud@production`");
    None
}

/// A folder that is written.
fn folder(reader: &mut Reader<'_>, node: &Node, at: &str) -> Option<String> {
    let text = reader.name(node, at)?;
    let place = reader.place(at, node);
    if text.chars().any(char::is_control) {
        reader.error(place, at, "the path holds a control character");
        return None;
    }
    if text.contains(['*', '?']) {
        reader.error(place, at, format!("`{}` is a pattern; results are written to one folder", shorten(&text)));
        return None;
    }
    if is_url(&text) && !text.starts_with("file://") {
        let scheme = text.split("://").next().unwrap_or_default().to_owned();
        reader
            .not_yet(place, at, &format!("writing to `{scheme}://`"))
            .help("results are written to a folder, relative to the job file");
        return None;
    }
    Some(reader.absolute(&text))
}

/// What only the job as a whole can say about its model and what it writes.
pub fn whole(reader: &mut Reader<'_>, fields: &Fields<'_>, job: &Job) {
    let at = |key: &str| fields.entry(key).map(|e| e.place).unwrap_or_default();
    if job.model.is_some() {
        for key in ["split", "features", "train", "publish"] {
            if fields.entry(key).is_some() {
                let message = format!("`{key}` beside `model`: the model is as it is, and every row is `test`");
                reader.error(at(key), key, message).help(format!("remove `{key}`, or remove `model`"));
            }
        }
        if !job.evaluate.measures("test") {
            let place = reader.spans.get("evaluate.segments").unwrap_or_default();
            let message = "there is nothing to measure: with `model` every row is `test`";
            reader.error(place, "evaluate.segments", message).help("remove `segments`");
        }
        for (i, limit) in job.evaluate.limits.iter().enumerate().filter(|(_, l)| l.segment != "test") {
            let path = format!("evaluate.limits[{i}]");
            let place = reader.spans.get(&path).unwrap_or_default();
            let message =
                format!("the limit on `{}.{}` has no rows: with `model` every row is `test`", limit.segment, limit.metric);
            reader.error(place, &path, message).help(format!("write `test.{}`", limit.metric));
        }
    } else if job.predict.is_some() && job.train.is_none() {
        reader
            .error(at("predict"), "predict", "`predict` without a model")
            .help("add `train`, or name an existing model: `model: NAME@latest`");
    }
    if let (Some(predict), None) = (&job.predict, &job.model) {
        known_tables(reader, job, predict);
    }
    folders(reader, job);
}

fn known_tables(reader: &mut Reader<'_>, job: &Job, predict: &PredictSection) {
    let known: Vec<&str> = job.tables.iter().map(|t| t.name.as_str()).collect();
    for table in predict.tables.iter().filter(|t| !known.contains(&t.name.as_str())) {
        let path = join("predict.tables", &table.name);
        let place = reader.spans.get(&path).unwrap_or_default();
        reader.error(place, &path, format!("the job has no table `{}`", table.name)).help(did_you_mean(&table.name, &known));
    }
    if let Some(from) = predict.from.as_deref().filter(|from| !known.contains(from)) {
        let place = reader.spans.get("predict.from").unwrap_or_default();
        reader.error(place, "predict.from", format!("the job has no table `{from}`")).help(did_you_mean(from, &known));
    }
}

/// Folders that are written must not hold each other, and no table may read what the job writes.
fn folders(reader: &mut Reader<'_>, job: &Job) {
    let outputs: Vec<(&str, &str)> = [
        ("predict.to", job.predict.as_ref().map(|p| p.to.as_str())),
        ("write.prepared", job.write.prepared.as_deref()),
        ("write.features", job.write.features.as_deref()),
    ]
    .into_iter()
    .filter_map(|(path, to)| Some((path, to?)))
    .collect();
    for (i, (path, to)) in outputs.iter().enumerate() {
        let place = reader.spans.get(path).unwrap_or_default();
        let clash = outputs[..i].iter().find(|(_, other)| holds(to, other) || holds(other, to));
        if let Some((other, _)) = clash {
            let message = format!("`{path}` and `{other}` are one folder, or one lies in the other");
            reader.error(place, path, message).help("each needs a folder of its own");
        }
        let scored = job.predict.iter().flat_map(|p| &p.tables);
        let read =
            job.tables.iter().chain(scored).find(|t| t.sql.is_none() && !t.path.contains(['*', '?', '[']) && holds(&t.path, to));
        if let Some(table) = read {
            let message = format!("`{path}` lies in the folder of table `{}`, which would read it the next time", table.name);
            reader.error(place, path, message).help("write to a folder that no table reads");
        }
    }
}

/// Whether a folder is another one or holds it, by name.
fn holds(outer: &str, inner: &str) -> bool {
    let plain = |path: &str| path.strip_prefix("file://").unwrap_or(path).to_owned();
    Path::new(&plain(inner)).starts_with(plain(outer))
}

/// JSON Schema of `predict`.
pub fn schema() -> Value {
    json!({
        "type": "object",
        "required": ["to"],
        "additionalProperties": false,
        "properties": {
            "from": {"type": "string", "minLength": 1, "description": "Table or view whose rows are scored; absent: what prepare gives"},
            "tables": tables::schema(),
            "where": {"type": "string", "minLength": 1, "description": "Only these rows are scored"},
            "keep": super::columns_schema(),
            "to": {"type": "string", "minLength": 1, "description": "Folder; replaced only if the same job wrote it"},
            "explain": {
                "anyOf": [{"type": "boolean"}, {"type": "integer", "minimum": 1, "maximum": MOST_CONTRIBUTIONS}],
                "description": "What each feature contributes to a row's score: all of them, or the N largest as a list"
            },
            "leaves": {"type": "boolean", "description": "The leaf of every tree that a row comes to, as a list"},
            "staged": {
                "anyOf": [{"type": "boolean"}, {"type": "integer", "minimum": 1, "maximum": MOST_STEP}],
                "description": "Predictions after each tree, or after every N-th, as a list"
            }
        }
    })
}

/// JSON Schema of `write`.
pub fn write_schema() -> Value {
    let folder = json!({"type": "string", "minLength": 1});
    json!({
        "type": "object",
        "minProperties": 1,
        "additionalProperties": false,
        "properties": {"prepared": folder, "features": folder}
    })
}

/// JSON Schema of `model`.
pub fn model_schema() -> Value {
    json!({"type": "string", "pattern": MODEL_PATTERN, "description": "An existing model stands in for features and train"})
}
