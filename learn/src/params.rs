//! Parameters of algorithms: read once, checked by name, type and range. A name that a peer uses is
//! answered with the conversion, a misspelt one with the nearest known name.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::algorithm::LearnError;
use crate::suggest::nearest;

/// What help and documentation say about a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParamDoc {
    /// Name in a job file.
    pub name: &'static str,
    /// Type and range, for people: `number ≥ 0`.
    pub kind: &'static str,
    /// Default, as it would be written.
    pub default: &'static str,
    /// One sentence.
    pub doc: &'static str,
}

/// Names that peers use, with what to write here.
const PEERS: &[(&str, &str)] = &[
    ("C", "the loss is a mean over rows here: `C=c` is `l2: 1/(c·n)` with n training rows (for an l1 penalty `l1: 1/(c·n)`)"),
    (
        "alpha",
        "a Ridge's `alpha=a` is `l2: a/n` with n training rows; a Lasso's is `l1: a`; an ElasticNet's is `l1: a·l1_ratio`, `l2: a·(1−l1_ratio)`",
    ),
    ("lambda", "`lambda=r` with mixing `alpha=a` is `l1: r·a` and `l2: r·(1−a)`"),
    ("regParam", "`regParam=r` with `elasticNetParam=a` is `l1: r·a` and `l2: r·(1−a)`"),
    ("reg_param", "`reg_param=r` with `elastic_net_param=a` is `l1: r·a` and `l2: r·(1−a)`"),
    ("reg_lambda", "the name here is `l2`, per mean loss: divide by the number of training rows"),
    ("reg_alpha", "the name here is `l1`, per mean loss: divide by the number of training rows"),
    ("elasticNetParam", "`regParam=r` with `elasticNetParam=a` is `l1: r·a` and `l2: r·(1−a)`"),
    ("l1_ratio", "strength `r` with `l1_ratio=a` is `l1: r·a` and `l2: r·(1−a)`"),
    ("penalty", "set `l1` or `l2` to a number above 0; both 0 is no penalty"),
    ("max_iter", "the name here is `max_iterations`"),
    ("maxIter", "the name here is `max_iterations`"),
    ("n_iter", "the name here is `max_iterations`"),
    ("tol", "the name here is `tolerance`, on the gradient's norm relative to its start"),
    ("fitIntercept", "the name here is `fit_intercept`"),
    ("intercept", "the name here is `fit_intercept`"),
    ("normalize", "the name here is `standardization`"),
    ("standardize", "the name here is `standardization`"),
    ("classWeight", "the name here is `class_weight`"),
    ("sample_weight", "name the column in `columns.weight`"),
    ("weightCol", "name the column in `columns.weight`"),
    ("offsetCol", "name the column in `columns.offset`"),
    ("featuresCol", "the features are what the `features` section leaves"),
    ("labelCol", "name the column in `columns.target`"),
    ("n_jobs", "threads are a flag, not a part of the job: `--threads`"),
    ("random_state", "the seed stands at the top of the job: `seed`"),
    ("seed", "this algorithm draws nothing at random: leave it out"),
    ("threshold", "it belongs to evaluation: `evaluate.threshold`"),
    ("verbose", "progress is always reported: leave it out"),
];

/// Names that are reserved for every algorithm.
const RESERVED: &[&str] = &["task", "objective", "class_weight", "early_stopping", "warm_start", "calibrate", "sample"];

/// Parameters of one algorithm, names checked.
#[derive(Debug, Clone, Copy)]
pub struct Params<'a> {
    values: &'a BTreeMap<String, Value>,
}

impl<'a> Params<'a> {
    /// Checks that every name is documented.
    pub fn new(values: &'a BTreeMap<String, Value>, docs: &[ParamDoc]) -> Result<Self, LearnError> {
        match values.keys().find(|name| docs.iter().all(|d| d.name != name.as_str())) {
            Some(name) => Err(unknown(name, docs)),
            None => Ok(Self { values }),
        }
    }

    /// The value, if it was written.
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.values.get(name)
    }

    /// A finite number at or above 0.
    pub fn non_negative(&self, name: &str, default: f64) -> Result<f64, LearnError> {
        let Some(value) = self.get(name) else { return Ok(default) };
        let number = value.as_f64().filter(|x| x.is_finite() && *x >= 0.0);
        number.ok_or_else(|| wrong(name, value, "a number at or above 0"))
    }

    /// A whole number from 1 on.
    pub fn positive_whole(&self, name: &str, default: u32) -> Result<u32, LearnError> {
        let Some(value) = self.get(name) else { return Ok(default) };
        let number = value.as_u64().and_then(|x| u32::try_from(x).ok()).filter(|&x| x > 0);
        number.ok_or_else(|| wrong(name, value, "a whole number from 1 on"))
    }

    /// True or false.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool, LearnError> {
        let Some(value) = self.get(name) else { return Ok(default) };
        value.as_bool().ok_or_else(|| wrong(name, value, "true or false"))
    }

    /// One of some names; the first is the default.
    pub fn choice<T: Copy>(&self, name: &str, choices: &[(&str, T)]) -> Result<T, LearnError> {
        let Some(value) = self.get(name) else { return Ok(choices[0].1) };
        let found = value.as_str().and_then(|text| choices.iter().find(|(c, _)| *c == text));
        let names: Vec<&str> = choices.iter().map(|(c, _)| *c).collect();
        found.map(|(_, t)| *t).ok_or_else(|| wrong(name, value, &format!("one of {}", names.join(", "))))
    }
}

/// Parameters of a program as a map: absent means none.
pub fn map_of(params: &Value) -> Result<BTreeMap<String, Value>, LearnError> {
    match params {
        Value::Null => Ok(BTreeMap::new()),
        Value::Object(map) => Ok(map.iter().map(|(k, v)| (k.clone(), v.clone())).collect()),
        other => Err(wrong("params", other, "a map of parameters")),
    }
}

/// The error for a value that does not fit.
pub fn wrong(name: &str, value: &Value, expected: &str) -> LearnError {
    LearnError::Param { name: name.into(), message: format!("{value} is not {expected}") }
}

/// The error for a name that is not known.
fn unknown(name: &str, docs: &[ParamDoc]) -> LearnError {
    let message = if let Some((_, advice)) = PEERS.iter().find(|(peer, _)| *peer == name) {
        format!("not a parameter here: {advice}")
    } else if RESERVED.contains(&name) {
        "not supported yet for this algorithm".into()
    } else {
        let names: Vec<&str> = docs.iter().map(|d| d.name).collect();
        match nearest(name, names.iter().copied()) {
            Some(near) => format!("unknown parameter; did you mean `{near}`?"),
            None => format!("unknown parameter; known are {}", names.join(", ")),
        }
    };
    LearnError::Param { name: name.into(), message }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use serde_json::json;

    const DOCS: &[ParamDoc] = &[
        ParamDoc { name: "l2", kind: "number", default: "0", doc: "" },
        ParamDoc { name: "max_iterations", kind: "whole", default: "10", doc: "" },
    ];

    fn check(params: Value, expected: &str) {
        let map = map_of(&params).unwrap();
        let result = Params::new(&map, DOCS).and_then(|p| {
            p.non_negative("l2", 0.0)?;
            p.positive_whole("max_iterations", 10)
        });
        let text = result.map_or_else(|e| e.to_string(), |n| n.to_string());
        assert!(text.contains(expected), "{params}: {text}");
    }

    #[test]
    fn names_types_and_ranges_are_checked() {
        check(json!({"l2": 0.5}), "10");
        check(json!({"max_iterations": 3}), "3");
        check(json!({"l2": -1}), "l2: -1 is not a number at or above 0");
        check(json!({"max_iterations": 0}), "whole number from 1 on");
        check(json!({"max_iterations": 1.5}), "whole number from 1 on");
        check(json!({"max_iteration": 1}), "did you mean `max_iterations`?");
        check(json!({"C": 1}), "`l2: 1/(c·n)`");
        check(json!({"max_iter": 1}), "the name here is `max_iterations`");
        check(json!({"early_stopping": true}), "not supported yet");
        check(json!({"banana": 1}), "known are l2, max_iterations");
        assert!(map_of(&json!([1])).is_err());
    }
}
