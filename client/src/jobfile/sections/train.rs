//! `train`: the algorithm and its parameters. The registry of algorithms checks the parameters, one by
//! one, so that each error has its place; keys that belong elsewhere in the job are answered here.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sheaf_dataflow::job::{Roles, Train};
use sheaf_learn::algorithm::LearnError;
use sheaf_learn::registry::{self, Entry as Learner, Kind};

use super::columns;
use crate::jobfile::Place;
use crate::jobfile::read::{Reader, join};
use crate::jobfile::suggest::{did_you_mean, folded};
use crate::jobfile::yaml::{Entry, Node, Yaml, shorten};

const LATER_ALGORITHMS: &[&str] = &[
    "ridge",
    "lasso",
    "elastic_net",
    "huber",
    "quantile_regression",
    "glm",
    "linear_svm",
    "factorization_machine",
    "one_vs_rest",
    "ordinal_regression",
    "cox",
    "aft",
    "decision_tree",
    "random_forest",
    "extra_trees",
    "multilayer_perceptron",
    "kmeans",
    "bisecting_kmeans",
    "gaussian_mixture",
    "pca",
    "svd",
    "lda",
    "power_iteration_clustering",
    "als",
    "fp_growth",
    "prefix_span",
    "naive_bayes",
    "isotonic",
];
const ALGORITHM_PEERS: &[(&str, &str)] = &[
    ("logreg", "write `logistic_regression`"),
    ("logistic", "write `logistic_regression`"),
    ("LOGISTIC_REG", "write `logistic_regression`"),
    ("LogisticRegressionCV", "write `logistic_regression`"),
    ("LINEAR_REG", "write `linear_regression`"),
    ("linear", "write `linear_regression`"),
    ("ols", "write `linear_regression`"),
    ("RidgeRegression", "write `linear_regression` with `l2`"),
    ("ElasticNetCV", "write `linear_regression` with `l1` and `l2`"),
    ("xgboost", "write `gradient_boosting`"),
    ("lightgbm", "write `gradient_boosting`"),
    ("catboost", "write `gradient_boosting`"),
    ("gbm", "write `gradient_boosting`"),
    ("gbt", "write `gradient_boosting`"),
    ("GBTClassifier", "write `gradient_boosting` with `objective: binary`"),
    ("GBTRegressor", "write `gradient_boosting` with `objective: squared_error`"),
    ("GradientBoostingClassifier", "write `gradient_boosting` with `objective: binary`"),
    ("GradientBoostingRegressor", "write `gradient_boosting` with `objective: squared_error`"),
    ("HistGradientBoostingClassifier", "write `gradient_boosting` with `objective: binary`"),
    ("HistGradientBoostingRegressor", "write `gradient_boosting` with `objective: squared_error`"),
    ("IsolationForest", "write `isolation_forest`"),
    ("RandomForestClassifier", "`random_forest` is not supported yet"),
    ("RandomForestRegressor", "`random_forest` is not supported yet"),
];

/// Keys that mean the same for every algorithm and do not work yet.
const LATER: &[&str] = &["early_stopping", "warm_start", "calibrate", "sample"];

/// Names that no learner answers. What differs in scale or spelling from a learner's parameter is
/// answered by the learner itself.
const PEERS: &[(&str, &str)] = &[
    ("l2_regularization", "write `l2`"),
    ("l1_regularization", "write `l1`"),
    ("l1_reg", "write `l1`"),
    ("l2_reg", "write `l2`"),
    ("max_iters", "write `max_iterations`"),
    ("num_iterations", "write `max_iterations`"),
    ("epochs", "write `max_iterations`: every step reads all rows"),
    ("class_weights", "write `class_weight`"),
    ("is_unbalance", "write `class_weight: balanced`"),
    ("scale_pos_weight", "write `class_weight: {\"0\": 1, \"1\": …}`"),
    ("n_estimators", "the number of trees is `trees`, of algorithms that grow some"),
    ("numTrees", "the number of trees is `trees`, of algorithms that grow some"),
    ("num_boost_round", "the number of trees is `trees`, of algorithms that grow some"),
    ("n_trees", "the number of trees is `trees`, of algorithms that grow some"),
    ("label", "write `target`, here or in `columns`"),
    ("labels", "write `target`, here or in `columns`"),
    ("test_size", "write `split: {by: random, test: …}`"),
    ("validation_split", "write `split: {by: random, validation: …}`"),
    ("model", "write `algorithm`"),
    ("estimator", "write `algorithm`"),
    ("learner", "write `algorithm`"),
    ("type", "write `algorithm`"),
    ("params", "write the parameters beside `algorithm`"),
    ("parameters", "write the parameters beside `algorithm`"),
    ("hyperparameters", "write the parameters beside `algorithm`"),
];

/// Names of the algorithms that may be trained.
fn algorithms() -> Vec<&'static str> {
    registry::ALGORITHMS.iter().filter(|e| e.kind == Kind::Learner).map(|e| e.name).collect()
}

/// Reads the section. Its short forms of `target` and `weight` go into the roles.
pub fn read(reader: &mut Reader<'_>, node: &Node, roles: &mut Roles) -> Option<Train> {
    if let Yaml::List(_) = node.value {
        let place = reader.place("train", node);
        reader.not_yet(place, "train", "`train` with several candidates").help("train one: `train: {algorithm: …}`");
        return None;
    }
    let entries = reader.entries(node, "train")?;
    let before = reader.diagnostics.len();
    let algorithm = entries.iter().find(|e| e.key == "algorithm" && !e.value.is_null());
    let learner = algorithm.and_then(|e| self::algorithm(reader, &e.value));
    let said = said(entries);
    let mut params = BTreeMap::new();
    for entry in entries.iter().filter(|e| !e.value.is_null()) {
        match entry.key.as_str() {
            "algorithm" => {}
            "target" => role(reader, entry, &mut roles.target),
            "weight" => role(reader, entry, &mut roles.weight),
            _ => {
                if let Some(value) = parameter(reader, entry, learner, &said) {
                    params.insert(entry.key.clone(), value);
                }
            }
        }
    }
    columns::conflicts(reader, roles);
    if !entries.iter().any(|e| e.key == "algorithm") && reader.diagnostics.len() == before {
        let place = reader.place("train", node);
        reader
            .error(place, "train.algorithm", "`train.algorithm` is missing")
            .help(format!("one of: {}", algorithms().join(", ")));
    }
    let learner = learner?;
    if reader.diagnostics.len() == before {
        together(reader, node, learner, &params);
    }
    Some(Train { algorithm: learner.name.to_owned(), params })
}

fn algorithm(reader: &mut Reader<'_>, node: &Node) -> Option<&'static Learner> {
    let at = "train.algorithm";
    let name = reader.name(node, at)?;
    if let Ok(learner) = registry::learner(&name) {
        return Some(learner);
    }
    let algorithms = algorithms();
    let place = reader.place(at, node);
    if LATER_ALGORITHMS.contains(&name.as_str()) {
        reader.not_yet(place, at, &format!("`{name}`")).help(format!("there are: {}", algorithms.join(", ")));
        return None;
    }
    let same = algorithms.iter().chain(LATER_ALGORITHMS).find(|a| folded(a) == folded(&name)).map(|a| format!("write `{a}`"));
    let peer = ALGORITHM_PEERS.iter().find(|(p, _)| folded(p) == folded(&name)).map(|(_, answer)| (*answer).to_owned());
    let hint = same.or(peer).unwrap_or_else(|| did_you_mean(&name, &algorithms));
    reader.error(place, at, format!("`{}` is not an algorithm", shorten(&name))).help(hint);
    None
}

/// What the other parameters depend on: what is learnt. If it is wrong, that is said where it stands.
fn said(entries: &[Entry]) -> BTreeMap<String, Value> {
    let named = entries.iter().filter(|e| ["task", "objective"].contains(&e.key.as_str()));
    let word = |e: &Entry| match &e.value.value {
        Yaml::Scalar { text, .. } if !text.contains('$') => Some((e.key.clone(), Value::String(text.clone()))),
        _ => None,
    };
    named.filter_map(word).collect()
}

/// One parameter. Without a known algorithm only its shape is checked.
fn parameter(reader: &mut Reader<'_>, entry: &Entry, learner: Option<&Learner>, said: &BTreeMap<String, Value>) -> Option<Value> {
    let at = join("train", &entry.key);
    let ours = learner.is_some_and(|l| l.params.iter().any(|p| p.name == entry.key));
    if !ours && LATER.contains(&entry.key.as_str()) {
        reader.not_yet(entry.place, &at, &format!("`{}`", entry.key));
        return None;
    }
    let peer = PEERS.iter().find(|(p, _)| folded(p) == folded(&entry.key));
    if let (false, false, Some((_, answer))) = (ours, answers(learner, &entry.key), peer) {
        reader.error(entry.place, &at, format!("unknown key `{}`", shorten(&entry.key))).help(*answer);
        return None;
    }
    if let Some(place) = reader.spans.get(&at) {
        reader.spans.insert(join("train.params", &entry.key), place);
    }
    let value = reader.json(&entry.value, &at)?;
    if let Some(learner) = learner {
        let mut alone = said.clone();
        alone.insert(entry.key.clone(), value.clone());
        // What another parameter lacks is said when all are there.
        let own = |error: &LearnError| !matches!(error, LearnError::Param { name, .. } if *name != entry.key);
        if let Some(error) = (learner.check)(&alone).err().filter(own) {
            let place = if ours { reader.place(&at, &entry.value) } else { entry.place };
            refuse(reader, place, &at, &error);
            return None;
        }
    }
    Some(value)
}

/// Whether the learner itself has an answer to a name that a peer uses: it knows what it would mean there.
fn answers(learner: Option<&Learner>, key: &str) -> bool {
    let alone = BTreeMap::from([(key.to_owned(), Value::Null)]);
    let error = learner.and_then(|learner| (learner.check)(&alone).err());
    matches!(error, Some(LearnError::Param { message, .. }) if message.starts_with("not a parameter here"))
}

/// What only the parameters together can be refused for.
fn together(reader: &mut Reader<'_>, node: &Node, learner: &Learner, params: &BTreeMap<String, Value>) {
    if let Err(error) = (learner.check)(params) {
        let at = match &error {
            LearnError::Param { name, .. } => join("train", name),
            LearnError::Data(_) | LearnError::Malformed { .. } => "train".to_owned(),
        };
        let place = reader.spans.nearest(&at).unwrap_or(node.place);
        refuse(reader, place, &at, &error);
    }
}

/// The learner's words: what follows the first `; ` or `: ` is the remedy.
fn refuse(reader: &mut Reader<'_>, place: Place, at: &str, error: &LearnError) {
    let LearnError::Param { message, .. } = error else {
        reader.error(place, at, error.to_string());
        return;
    };
    match message.split_once("; ").or_else(|| message.split_once(": ")) {
        Some((message, hint)) => reader.error(place, at, format!("`{at}`: {message}")).help(hint),
        None => {
            reader.error(place, at, format!("`{at}`: {message}"));
        }
    }
}

fn role(reader: &mut Reader<'_>, entry: &Entry, role: &mut Option<String>) {
    let at = join("train", &entry.key);
    let long = join("columns", &entry.key);
    let Some(name) = reader.name(&entry.value, &at) else { return };
    if role.is_some() {
        let first = reader.spans.get(&long).unwrap_or_default();
        let message = format!("`{at}` and `{long}` (line {}) both name the {}", first.line, entry.key);
        let place = reader.place(&at, &entry.value);
        reader.error(place, &at, message).help("keep one of them");
        return;
    }
    if let Some(place) = reader.spans.get(&at) {
        reader.spans.insert(&long, place);
    }
    *role = Some(name);
}

/// JSON Schema of the section.
pub fn schema() -> Value {
    let penalty = json!({"type": "number", "minimum": 0, "default": 0});
    json!({
        "type": "object",
        "required": ["algorithm"],
        "description": "Beside the algorithm its own parameters; the algorithm checks them",
        "properties": {
            "algorithm": {"enum": algorithms()},
            "target": {"type": "string", "description": "Short for columns.target"},
            "weight": {"type": "string", "description": "Short for columns.weight"},
            "l1": penalty,
            "l2": penalty,
            "fit_intercept": {"type": "boolean", "default": true},
            "standardization": {"type": "boolean", "default": true},
            "max_iterations": {"type": "integer", "minimum": 1},
            "tolerance": {"type": "number", "exclusiveMinimum": 0, "default": 1e-9}
        }
    })
}
