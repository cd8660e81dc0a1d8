//! Isolation forests (Liu, Ting, Zhou, 2008): anomalies without a target.

use std::collections::BTreeMap;

use serde_json::Value;

use super::gradient_boosting::refuse_sparse;
use crate::algorithm::LearnError;
use crate::isolation::forest::IsolationForest;
use crate::kernels::Level;
use crate::model::Task;
use crate::params::{ParamDoc, Params, map_of, wrong};
use crate::program::{Erased, Program, ProgramSpec};
use crate::registry::{Entry, Kind};
use crate::shard::Schema;
use crate::trees::params::{share, whole};

/// The line in the registry.
pub const ENTRY: Entry = Entry {
    name: "isolation_forest",
    summary: "a score between 0 and 1 for how anomalous a row is; learns without a target",
    kind: Kind::Learner,
    params: PARAMS,
    tasks: &[Task::Anomaly],
    task: |_| Some(Task::Anomaly),
    takes_text: true,
    takes_missing: true,
    build,
    check,
};

const fn doc(name: &'static str, kind: &'static str, default: &'static str, doc: &'static str) -> ParamDoc {
    ParamDoc { name, kind, default, doc }
}

#[rustfmt::skip]
const PARAMS: &[ParamDoc] = &[
    doc("trees", "whole number from 1 to 10000", "100", "number of trees"),
    doc("max_samples", "whole number from 2 to 65536", "256", "rows that a tree sees, drawn without replacement"),
    doc("max_features", "number > 0, at most 1", "1", "share of the features that a tree sees"),
    doc("contamination", "none | number > 0, at most 0.5", "none", "share of the training rows that are anomalies: predictions get a column `anomaly`"),
    doc("seed", "whole number from 0 on", "0", "of the samples of rows and features, and of the splits"),
];

/// Names that peers use, with what to write here.
const PEERS: &[(&str, &str)] = &[
    ("n_estimators", "the name here is `trees`"),
    ("ntrees", "the name here is `trees`"),
    ("numEstimators", "the name here is `trees`"),
    ("maxSamples", "the name here is `max_samples`, a number of rows"),
    ("sample_size", "the name here is `max_samples`"),
    ("maxFeatures", "the name here is `max_features`, a share"),
    ("bootstrap", "rows are drawn without replacement: leave it out"),
    ("max_depth", "the depth follows from `max_samples`: leave it out"),
];

fn from_params(values: &BTreeMap<String, Value>, schema: &Schema) -> Result<IsolationForest, LearnError> {
    if let Some((name, advice)) = PEERS.iter().find(|(name, _)| values.contains_key(*name)) {
        return Err(LearnError::Param { name: (*name).into(), message: format!("not a parameter here: {advice}") });
    }
    let params = Params::new(values, PARAMS)?;
    refuse_sparse(schema)?;
    let seed = match params.get("seed") {
        None => 0,
        Some(value) => value.as_u64().ok_or_else(|| wrong("seed", value, "a whole number from 0 on"))?,
    };
    let forest = IsolationForest {
        seed,
        trees: whole(&params, "trees", 100, 1, 10_000)?,
        max_samples: whole(&params, "max_samples", 256, 2, 65_536)?,
        max_features: share(&params, "max_features", 1.0)?,
        contamination: contamination(&params)?,
        schema: schema.clone(),
    };
    forest.check()?;
    Ok(forest)
}

fn contamination(params: &Params<'_>) -> Result<Option<f64>, LearnError> {
    let value = match params.get("contamination") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(none)) if none == "none" => return Ok(None),
        Some(value) => value,
    };
    let share = value.as_f64().filter(|share| *share > 0.0 && *share <= 0.5);
    share.map(Some).ok_or_else(|| wrong("contamination", value, "none or a number above 0, at most 0.5"))
}

fn build(spec: &ProgramSpec, _level: Level) -> Result<Box<dyn Program>, LearnError> {
    Ok(Box::new(Erased(from_params(&map_of(&spec.params)?, &spec.schema)?)))
}

fn check(params: &BTreeMap<String, Value>) -> Result<(), LearnError> {
    from_params(params, &Schema::default()).map(|_| ())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use serde_json::json;

    use super::*;

    #[test]
    fn parameters_are_checked() {
        let refused = |params: Value, part: &str| {
            let text = check(&map_of(&params).unwrap()).unwrap_err().to_string();
            assert!(text.contains(part), "{params}: {text}");
        };
        check(&map_of(&json!({"trees": 50, "max_samples": 128, "contamination": 0.02, "max_features": 0.5})).unwrap()).unwrap();
        check(&map_of(&json!({"contamination": "none"})).unwrap()).unwrap();
        refused(json!({"max_samples": 1}), "max_samples: 1 is not a whole number from 2 to 65536");
        refused(json!({"contamination": 0.7}), "none or a number above 0, at most 0.5");
        refused(json!({"contamination": "auto"}), "none or a number");
        refused(json!({"max_features": 0}), "a number above 0, at most 1");
        refused(json!({"n_estimators": 9}), "the name here is `trees`");
        refused(json!({"tress": 9}), "did you mean `trees`?");
    }
}
