//! The parameter `warm_start`: boosting that goes on from an earlier model. In a job file it names the model; where the
//! program is built the model itself stands there. Its scores are what the first new tree corrects, and its trees stand
//! before the new ones.

use std::collections::BTreeMap;

use serde_json::Value;

use super::gradient_boosting::{PARAMS, objective};
use crate::algorithm::LearnError;
use crate::model::Model;
use crate::params::Params;
use crate::shard::Schema;
use crate::trees::model::TreeModel;
use crate::trees::objective::Objective;

/// Name of the parameter.
pub const NAME: &str = "warm_start";

fn wrong(message: impl Into<String>) -> LearnError {
    LearnError::Param { name: NAME.into(), message: message.into() }
}

/// The model to go on from, if there is one. Without a schema there are no models yet, only their names.
pub(super) fn earlier(params: &Params<'_>, objective: Objective, schema: &Schema) -> Result<Option<TreeModel>, LearnError> {
    let value = match params.get(NAME) {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => value,
    };
    match value.as_str() {
        Some(name) if schema.features.is_empty() && !name.is_empty() => return Ok(None),
        Some(name) if !name.is_empty() => return Err(wrong(format!("model `{name}` was not read before training began"))),
        _ if schema.features.is_empty() => return Err(wrong(format!("{value} does not name a model: write NAME@VERSION"))),
        _ => {}
    }
    let model: Model = serde_json::from_value(value.clone()).map_err(|e| wrong(format!("the earlier model is damaged: {e}")))?;
    let Model::Trees(model) = model else { return Err(wrong("the earlier model is not one of trees")) };
    model.check(schema)?;
    if (model.task, model.link) != (objective.task(), objective.link()) {
        return Err(wrong("the earlier model was fitted with another objective"));
    }
    Ok(Some(model))
}

/// Whether boosting with some parameters may go on from a model that was boosted with others.
///
/// # Errors
/// It may not: what is boosted has changed.
pub fn may_continue(params: &BTreeMap<String, Value>, before: &BTreeMap<String, Value>) -> Result<(), LearnError> {
    // How many classes there are is the data's to say, and the model's schema keeps them.
    let of = |values| objective(&Params::new(values, PARAMS)?, 0);
    if of(params)? == of(before)? {
        return Ok(());
    }
    Err(wrong("the model was fitted with another objective: what is boosted must stay the same, its own parameters too"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::params::map_of;
    use serde_json::json;

    fn check(params: Value, before: Value, expected: &str) {
        let found = may_continue(&map_of(&params).unwrap(), &map_of(&before).unwrap());
        let text = found.map_or_else(|e| e.to_string(), |()| "fine".into());
        assert!(text.contains(expected), "{params} {before}: {text}");
    }

    #[test]
    fn only_the_objective_must_stay() {
        check(json!({"task": "binary", "trees": 5}), json!({"objective": "binary", "max_leaves": 3}), "fine");
        check(json!({"objective": "absolute"}), json!({"objective": "huber"}), "another objective");
        check(json!({"objective": "quantile", "probability": 0.9}), json!({"objective": "quantile"}), "another objective");
        check(json!({"objective": "poisson"}), json!({"objective": "poisson", "warm_start": "m@1"}), "fine");
    }
}
