//! The sections of a job, one file each, and the job as a whole.

pub mod checks;
pub mod columns;
pub mod evaluate;
pub mod features;
pub mod predict;
pub mod publish;
pub mod split;
pub mod steps;
pub mod tables;
pub mod train;

use serde_json::{Value, json};
use sheaf_dataflow::job::{Job, Split};
use sheaf_learn::registry;

use super::params;
use super::read::{Fields, Grammar, Reader};
use super::yaml::Node;

const FLAG: &str = "that is a flag of the command line, never in the job file: see `sheaf run --help`";

/// The keys of a job.
pub const JOB: Grammar = Grammar {
    what: "a job",
    keys: &[
        "version", "name", "seed", "params", "model", "tables", "prepare", "columns", "checks", "split", "features", "train",
        "evaluate", "publish", "predict", "write",
    ],
    hidden: &["shard_rows"],
    later: &["tune", "monitor"],
    peers: &[
        ("random_state", "write `seed`"),
        ("random_seed", "write `seed`"),
        ("label", "write `columns: {target: …}`"),
        ("labelCol", "write `columns: {target: …}`"),
        ("labels", "write `columns: {target: …}`"),
        ("target", "write `columns: {target: …}`"),
        ("weightCol", "write `columns: {weight: …}`"),
        ("featuresCol", "features are all prepared columns but roles and `columns.ignore`; the section `features` has the steps"),
        ("inputs", "write `tables`"),
        ("data", "write `tables`"),
        ("dataset", "write `tables`"),
        ("sources", "write `tables`"),
        ("sql", "write `prepare`"),
        ("query", "write `prepare`"),
        ("transform", "write `prepare` for SQL, `features` for fitted steps"),
        ("preprocessing", "write `prepare` for SQL, `features` for fitted steps"),
        ("pipeline", "write `features`: a list of steps"),
        ("steps", "write `features`: a list of steps"),
        ("stages", "write `features`: a list of steps"),
        ("expectations", "write `checks`"),
        ("algorithm", "write `train: {algorithm: …}`"),
        ("estimator", "write `train: {algorithm: …}`"),
        ("metrics", "write `evaluate: {metrics: […]}`"),
        ("score", "write `predict: {to: …}`"),
        ("scoring", "write `predict: {to: …}`"),
        ("output", "write `write: {prepared: FOLDER}` or `predict: {to: FOLDER}`"),
        ("limits", "write `evaluate: {limits: …}`"),
        ("test_size", "write `split: {by: random, test: …}`"),
        ("workers", FLAG),
        ("memory", FLAG),
        ("threads", FLAG),
        ("queue", FLAG),
        ("priority", FLAG),
        ("deadline", FLAG),
        ("include", "a job is one file: there are no includes"),
        ("extends", "a job is one file: there are no includes"),
    ],
};

/// Reads a whole job. `None` when it has errors that leave no job; all are recorded.
pub fn job(reader: &mut Reader<'_>, root: &Node) -> Option<Job> {
    let fields = reader.fields(root, "", &JOB)?;
    // Parameters first: every other section may use them.
    params::read(reader, fields.get("params"));
    let version = version(reader, &fields);
    let name = required_name(reader, &fields);
    let seed = fields.get("seed").and_then(|n| reader.integer(n, "seed", 0, i128::from(u64::MAX)));
    let model = fields.get("model").and_then(|n| predict::read_model(reader, n));
    let tables = match fields.get("tables") {
        node if fields.entry("model").is_some() => tables::read_beside_model(reader, node),
        Some(node) => tables::read(reader, node),
        None => {
            reader.missing(&fields, "tables").help("name at least one: `tables: {rows: data/rows.parquet}`");
            Vec::new()
        }
    };
    let prepare = fields.get("prepare").and_then(|n| reader.sql(n, "prepare"));
    let mut columns = fields.get("columns").map(|n| columns::read(reader, n)).unwrap_or_default();
    let checks = fields.get("checks").map(|n| checks::read(reader, n)).unwrap_or_default();
    let split = fields.get("split").and_then(|n| split::read(reader, n));
    let features = fields.get("features").map(|n| features::read(reader, n)).unwrap_or_default();
    let train = fields.get("train").and_then(|n| train::read(reader, n, &mut columns));
    let evaluate = fields.get("evaluate").map(|n| evaluate::read(reader, n)).unwrap_or_default();
    let publish = fields.get("publish").and_then(|n| publish::read(reader, n));
    let predict = fields.get("predict").and_then(|n| predict::read(reader, n));
    let write = fields.get("write").map(|n| predict::read_write(reader, n)).unwrap_or_default();
    let shard_rows = fields.get("shard_rows").and_then(|n| reader.integer(n, "shard_rows", 1, i128::from(u32::MAX)));
    let job = Job {
        version: version?,
        name: name?,
        seed: seed.and_then(|s| u64::try_from(s).ok()).unwrap_or_default(),
        params: reader.params.declared.clone(),
        model,
        tables,
        prepare,
        columns,
        checks,
        split,
        features,
        train,
        evaluate,
        publish,
        predict,
        write,
        shard_rows: shard_rows.and_then(|r| u32::try_from(r).ok()),
    };
    if reader.diagnostics.is_empty() {
        whole(reader, &fields, &job);
    }
    Some(job)
}

fn version(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<u32> {
    let Some(node) = fields.get("version") else {
        reader.missing(fields, "version").help("write `version: 1`");
        return None;
    };
    let version = reader.integer(node, "version", 0, i128::from(u32::MAX))?;
    if version != 1 {
        let place = reader.place("version", node);
        reader
            .error(place, "version", format!("version {version} of the job file is not known"))
            .help("this build reads `version: 1`");
        return None;
    }
    Some(1)
}

fn required_name(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<String> {
    match fields.get("name") {
        Some(node) => publish::registry_name(reader, node, "name"),
        None => {
            reader.missing(fields, "name").help("name the experiment: it is also the model's name in the registry");
            None
        }
    }
}

/// What only the sections together can say. Runs when each section alone is right.
fn whole(reader: &mut Reader<'_>, fields: &Fields<'_>, job: &Job) {
    let at = |key: &str| fields.entry(key).map(|e| e.place).unwrap_or_default();
    predict::whole(reader, fields, job);
    if job.model.is_some() {
        return;
    }
    if job.columns.positive.is_some() && job.columns.target.is_none() {
        let place = reader.spans.get("columns.positive").unwrap_or_default();
        reader
            .error(place, "columns.positive", "`columns.positive` without a target")
            .help("name the column to learn: `columns: {target: …}`");
    }
    if let Some(train) = &job.train {
        if let Ok(learner) = registry::learner(&train.algorithm) {
            if job.columns.target.is_none() && learner.needs_target() {
                reader
                    .error(at("train"), "columns.target", format!("`{}` needs a target", train.algorithm))
                    .help("name the column to learn: `columns: {target: …}`");
            }
            evaluate::fit_task(reader, &job.evaluate, learner, &train.params);
        }
    } else {
        for (key, present) in [("evaluate", fields.get("evaluate").is_some()), ("split", job.split.is_some())] {
            if present {
                reader.error(at(key), key, format!("`{key}` without `train`")).help("add `train`, or remove the section");
            }
        }
        if job.publish.is_some() {
            reader.not_yet(at("publish"), "publish", "`publish` without `train`").help("add `train`, or remove `publish`");
        }
    }
    for (i, limit) in job.evaluate.limits.iter().enumerate() {
        if let Some(why) = empty_segment(job.split.as_ref(), &limit.segment) {
            let path = format!("evaluate.limits[{i}]");
            let place = reader.spans.get(&path).unwrap_or_default();
            let segment = &limit.segment;
            reader
                .error(place, &path, format!("the limit on `{segment}.{}` has no rows: {why}", limit.metric))
                .help(format!("give the segment rows, as in `split: {{by: random, {segment}: 0.2}}`"));
        }
    }
}

/// Why a segment has no rows, as far as the file alone can say.
fn empty_segment(split: Option<&Split>, segment: &str) -> Option<String> {
    match (split, segment) {
        (_, "train") => None,
        (None, _) => Some("without `split` every row trains".into()),
        (Some(Split::Random { test: 0.0, .. }), "test") | (Some(Split::Random { validation: 0.0, .. }), "validation") => {
            Some(format!("`split` gives none to {segment}"))
        }
        _ => None,
    }
}

/// JSON Schema of a column or a list of columns.
pub fn columns_schema() -> Value {
    json!({"oneOf": [
        {"type": "string", "minLength": 1},
        {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1, "uniqueItems": true}
    ]})
}

/// JSON Schema of a whole job.
pub fn schema() -> Value {
    json!({
        "type": "object",
        "required": ["version", "name"],
        "anyOf": [{"required": ["tables"]}, {"required": ["model"]}],
        "additionalProperties": false,
        "patternProperties": {"^x-": {"description": "Ignored: a place for anchors"}},
        "properties": {
            "version": {"const": 1},
            "name": {"type": "string", "pattern": publish::NAME_PATTERN, "description": "The experiment; also the registry name unless publish.model says another"},
            "seed": {"type": "integer", "minimum": 0, "default": 0},
            "params": params::schema(),
            "model": predict::model_schema(),
            "tables": tables::schema(),
            "prepare": {"type": "string", "description": "SQL that makes the prepared rows; absent: the last table as it is"},
            "columns": columns::schema(),
            "checks": checks::schema(),
            "split": split::schema(),
            "features": features::schema(),
            "train": train::schema(),
            "evaluate": evaluate::schema(),
            "publish": publish::schema(),
            "predict": predict::schema(),
            "write": predict::write_schema()
        }
    })
}
