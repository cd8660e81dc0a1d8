//! `evaluate`: metrics and limits.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sheaf_dataflow::job::{Evaluate, Limit};
use sheaf_learn::metrics::{self, Metric};
use sheaf_learn::registry::Entry as Learner;

use super::checks::bounds;
use crate::jobfile::read::{Grammar, Reader, join};
use crate::jobfile::suggest::{did_you_mean, folded};
use crate::jobfile::yaml::{Entry, Node, Yaml, shorten};

const LATER_METRICS: &[&str] = &[
    "auc_ovo",
    "mcc",
    "ks",
    "lift",
    "gains",
    "calibration",
    "mape",
    "rmsle",
    "deviance",
    "quantile_loss",
    "confusion",
    "silhouette",
    "median_absolute_error",
    "explained_variance",
];
/// Names that the metrics themselves do not answer.
const METRIC_PEERS: &[(&str, &str)] = &[
    ("roc_auc_score", "auc"),
    ("average_precision_score", "pr_auc"),
    ("acc", "accuracy"),
    ("precision_score", "precision"),
    ("recall_score", "recall"),
    ("neg_log_loss", "log_loss"),
    ("neg_brier_score", "brier"),
    ("neg_root_mean_squared_error", "rmse"),
    ("neg_mean_squared_error", "mse"),
    ("neg_mean_absolute_error", "mae"),
    ("r_squared", "r2"),
];
const SEGMENTS: &[&str] = &["train", "validation", "test"];

const EVALUATE: Grammar = Grammar {
    what: "`evaluate`",
    keys: &["metrics", "segments", "limits"],
    hidden: &[],
    later: &["threshold", "slices", "fairness", "confidence", "explain"],
    peers: &[
        ("metric", "write `metrics`"),
        ("scoring", "write `metrics`"),
        ("thresholds", "write `limits: {test.auc: {min: …}}`"),
        ("on", "write `segments`"),
        ("splits", "write `segments`"),
        ("gates", "write `limits: {test.auc: {min: …}}`"),
    ],
};

const LIMIT: Grammar = Grammar {
    what: "a limit",
    keys: &["min", "max"],
    hidden: &[],
    later: &["not_below", "not_above"],
    peers: &[("at_least", "write `min`"), ("at_most", "write `max`"), ("ge", "write `min`"), ("le", "write `max`")],
};

/// Every metric of every task, once.
fn all_metrics() -> Vec<&'static str> {
    let mut all: Vec<&str> = Vec::new();
    for name in ["binary", "regression", "multiclass", "ranking"].into_iter().flat_map(metrics::known) {
        if !all.contains(name) {
            all.push(name);
        }
    }
    all
}

/// Reads the section.
pub fn read(reader: &mut Reader<'_>, node: &Node) -> Evaluate {
    let Some(fields) = reader.fields(node, "evaluate", &EVALUATE) else { return Evaluate::default() };
    let metrics = fields.get("metrics").map(|n| metric_names(reader, n)).unwrap_or_default();
    let segments = fields.get("segments").map(|n| segment_names(reader, n)).unwrap_or_default();
    let limits = fields.get("limits").map(|n| limits(reader, n)).unwrap_or_default();
    let evaluate = Evaluate { metrics, segments, limits };
    for (i, limit) in evaluate.limits.iter().enumerate().filter(|(_, limit)| !evaluate.measures(&limit.segment)) {
        let at = format!("evaluate.limits[{i}]");
        let place = reader.spans.get(&at).unwrap_or_default();
        let (segment, metric) = (&limit.segment, &limit.metric);
        let message = format!("the limit on `{segment}.{metric}` has nothing to look at: `segments` leaves `{segment}` out");
        reader.error(place, &at, message).help(format!("add `{segment}` to `evaluate.segments`"));
    }
    evaluate
}

fn segment_names(reader: &mut Reader<'_>, node: &Node) -> Vec<String> {
    let at = "evaluate.segments";
    let Some(names) = reader.names(node, at) else { return Vec::new() };
    let items = reader.items(node, at);
    for (name, (at, item)) in names.iter().zip(&items).filter(|(name, _)| !SEGMENTS.contains(&name.as_str())) {
        let place = reader.place(at, item);
        reader.error(place, at, format!("`{}` is not a segment", shorten(name))).help(did_you_mean(name, SEGMENTS));
    }
    names
}

fn metric_names(reader: &mut Reader<'_>, node: &Node) -> Vec<String> {
    let at = "evaluate.metrics";
    let Some(names) = reader.names(node, at) else { return Vec::new() };
    let items = reader.items(node, at);
    for (name, (at, item)) in names.iter().zip(&items) {
        let place = reader.place(at, item);
        known_metric(reader, name, place, at);
    }
    names
}

fn known_metric(reader: &mut Reader<'_>, name: &str, place: crate::jobfile::Place, at: &str) -> bool {
    let known = all_metrics();
    if known.contains(&name) {
        return true;
    }
    if LATER_METRICS.contains(&name) {
        reader.not_yet(place, at, &format!("`{name}`"));
        return false;
    }
    // `f1_score(average="macro")` is meant as it is called there.
    let called = name.split('(').next().unwrap_or(name).trim();
    let canonical = metrics::canonical_name(called);
    let peer = METRIC_PEERS.iter().find(|(p, _)| folded(p) == folded(called)).map(|(_, ours)| *ours);
    let hint = match peer.or(Some(canonical).filter(|c| *c != name)) {
        Some(ours) => written(ours),
        None => did_you_mean(name, &known),
    };
    reader.error(place, at, format!("`{}` is not a metric", shorten(name))).help(hint);
    false
}

/// How a metric is written, of two and of many classes.
fn written(ours: &str) -> String {
    let averages: Vec<&str> = metrics::instead("multiclass", ours).into_iter().filter(|n| n.starts_with(ours)).collect();
    match metrics::known("binary").contains(&ours) && !averages.contains(&ours) && !averages.is_empty() {
        true => format!("write `{ours}` of two classes, of many one of: {}", averages.join(", ")),
        false => format!("write `{ours}`"),
    }
}

fn limits(reader: &mut Reader<'_>, node: &Node) -> Vec<Limit> {
    let at = "evaluate.limits";
    let Some(entries) = reader.entries(node, at) else { return Vec::new() };
    let mut read = Vec::new();
    for entry in entries.iter().filter(|e| !e.value.is_null()) {
        let path = join(at, &entry.key);
        if let Some(limit) = limit(reader, entry, &path) {
            if let Some(place) = reader.spans.get(&path) {
                reader.spans.insert(format!("{at}[{}]", read.len()), place);
            }
            read.push(limit);
        }
    }
    read
}

fn limit(reader: &mut Reader<'_>, entry: &Entry, at: &str) -> Option<Limit> {
    let subject = subject(reader, entry, at);
    if let Yaml::Scalar { text, .. } = &entry.value.value {
        let hint = format!("write `{}: {{min: {}}}`, or `max`", shorten(&entry.key), shorten(text));
        reader.expected(&entry.value, at, "a map with `min`, `max` or both").help(hint);
        return None;
    }
    let fields = reader.fields(&entry.value, at, &LIMIT)?;
    let (min_node, max_node) = (fields.get("min"), fields.get("max"));
    let min = min_node.and_then(|n| reader.number(n, &fields.at("min")));
    let max = max_node.and_then(|n| reader.number(n, &fields.at("max")));
    if min.is_some() != min_node.is_some() || max.is_some() != max_node.is_some() {
        return None;
    }
    let good = bounds(reader, &fields, min, max);
    let (segment, metric) = subject?;
    good.then_some(Limit { segment, metric, min, max })
}

/// Segment and metric of `test.pr_auc`.
fn subject(reader: &mut Reader<'_>, entry: &Entry, at: &str) -> Option<(String, String)> {
    let key = entry.key.as_str();
    if key.contains('[') {
        reader.not_yet(entry.place, at, "a limit per slice (`part.metric[column]`)");
        return None;
    }
    let Some((segment, metric)) = key.split_once('.') else {
        let hint = if all_metrics().contains(&key) { format!("write `test.{key}`") } else { "write `test.auc`".to_owned() };
        reader.error(entry.place, at, format!("`{}` does not name a segment and a metric", shorten(key))).help(hint);
        return None;
    };
    let segment_known = SEGMENTS.contains(&segment);
    if !segment_known {
        let hint = did_you_mean(segment, SEGMENTS);
        reader.error(entry.place, at, format!("`{}` is not a segment", shorten(segment))).help(hint);
    }
    (known_metric(reader, metric, entry.place, at) && segment_known).then(|| (segment.to_owned(), metric.to_owned()))
}

/// Metrics and limits that the task of what is trained does not have.
pub fn fit_task(reader: &mut Reader<'_>, evaluate: &Evaluate, learner: &Learner, params: &BTreeMap<String, Value>) {
    let Some(task) = (learner.task)(params) else { return };
    let named = evaluate.metrics.iter().enumerate().map(|(i, m)| (format!("evaluate.metrics[{i}]"), m));
    let limited = evaluate.limits.iter().enumerate().map(|(i, l)| (format!("evaluate.limits[{i}]"), &l.metric));
    for (at, metric) in named.chain(limited) {
        if Metric::parse(task, metric).is_err() {
            let place = reader.spans.nearest(&at).unwrap_or_default();
            let own = metrics::instead(metrics::task_name(task), metric);
            let message = format!("`{metric}` is not a metric of `{}`", learner.name);
            reader.error(place, &at, message).help(format!("it has: {}", own.join(", ")));
        }
    }
}

/// JSON Schema of the section.
pub fn schema() -> Value {
    let subject = format!("^({})\\.({})$", SEGMENTS.join("|"), all_metrics().join("|"));
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "metrics": {"oneOf": [
                {"enum": all_metrics()},
                {"type": "array", "items": {"enum": all_metrics()}, "minItems": 1, "uniqueItems": true}
            ]},
            "segments": {"oneOf": [
                {"enum": SEGMENTS},
                {"type": "array", "items": {"enum": SEGMENTS}, "minItems": 1, "uniqueItems": true}
            ]},
            "limits": {
                "type": "object",
                "propertyNames": {"pattern": subject},
                "additionalProperties": {
                    "type": "object",
                    "minProperties": 1,
                    "additionalProperties": false,
                    "properties": {"min": {"type": "number"}, "max": {"type": "number"}}
                }
            }
        }
    })
}
