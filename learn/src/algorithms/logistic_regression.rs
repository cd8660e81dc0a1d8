//! Logistic regression of a binary target: ln(1 + e^f) − y f with l1 and l2 penalties, by L-BFGS or by
//! Newton's steps where there are few features.

use std::collections::BTreeMap;

use serde_json::Value;

use super::glm::{Glm, Solver};
use super::linear_regression::{FIT_INTERCEPT, L1, L2, MAX_ITERATIONS, STANDARDIZATION, TOLERANCE, is_too_wide, stop, too_wide};
use super::scaling::ClassWeight;
use crate::algorithm::LearnError;
use crate::kernels::{Level, Loss};
use crate::model::Task;
use crate::params::{ParamDoc, Params, map_of, wrong};
use crate::program::{Erased, Program, ProgramSpec};
use crate::registry::{Entry, Kind};

/// The line in the registry.
pub const ENTRY: Entry = Entry {
    name: "logistic_regression",
    summary: "binary classification by a linear model with l1 and l2 penalties",
    kind: Kind::Learner,
    params: PARAMS,
    tasks: &[Task::Binary],
    task: |_| Some(Task::Binary),
    takes_text: false,
    takes_missing: false,
    build,
    check,
};

/// Slots up to which `auto` takes Newton's steps: a Hessian costs width/4 gradients, and saves as many.
const AUTO_NEWTON: usize = 64;
/// The same with an l1 penalty, where first-order steps are slow.
const AUTO_NEWTON_L1: usize = 512;

const PARAMS: &[ParamDoc] = &[
    L1,
    L2,
    FIT_INTERCEPT,
    STANDARDIZATION,
    ParamDoc {
        name: "class_weight",
        kind: "none | balanced | {class: number > 0}",
        default: "none",
        doc: "multiplies the weights of a class's rows; balanced: both classes count the same",
    },
    ParamDoc {
        name: "solver",
        kind: "auto | newton | lbfgs",
        default: "auto",
        doc: "newton: few exact steps; lbfgs: many cheap ones; auto: newton up to 64 coefficients (512 with l1)",
    },
    MAX_ITERATIONS,
    TOLERANCE,
];

#[derive(Clone, Copy)]
enum Choice {
    Auto,
    Newton,
    Lbfgs,
}

/// A logistic regression with these parameters.
pub fn from_params(params: &BTreeMap<String, Value>, spec: &ProgramSpec, level: Level) -> Result<Glm, LearnError> {
    let params = Params::new(params, PARAMS)?;
    let choices = [("auto", Choice::Auto), ("newton", Choice::Newton), ("lbfgs", Choice::Lbfgs)];
    let width = spec.schema.width();
    let l1 = params.non_negative("l1", 0.0)?;
    let solver = match params.choice("solver", &choices)? {
        Choice::Newton if is_too_wide(width) => return Err(too_wide("newton", width)),
        Choice::Newton => Solver::Newton,
        Choice::Auto if width <= if l1 > 0.0 { AUTO_NEWTON_L1 } else { AUTO_NEWTON } => Solver::Newton,
        Choice::Auto | Choice::Lbfgs => Solver::Lbfgs,
    };
    Ok(Glm {
        loss: Loss::Logistic,
        l1,
        l2: params.non_negative("l2", 0.0)?,
        fit_intercept: params.flag("fit_intercept", true)?,
        standardization: params.flag("standardization", true)?,
        class_weight: class_weight(&params, &spec.schema.classes)?,
        solver,
        stop: stop(&params)?,
        level,
        schema: spec.schema.clone(),
    })
}

/// Classes go by their names, or two by `0` and `1`; a class that is not named has the weight 1.
pub(super) fn class_weight(params: &Params<'_>, classes: &[String]) -> Result<ClassWeight, LearnError> {
    let expected = "none, balanced or a map of class to a number above 0";
    let map = match params.get("class_weight") {
        None | Some(Value::Null) => return Ok(ClassWeight::None),
        Some(Value::String(text)) if text == "none" => return Ok(ClassWeight::None),
        Some(Value::String(text)) if text == "balanced" => return Ok(ClassWeight::Balanced),
        Some(Value::Object(map)) => map,
        Some(other) => return Err(wrong("class_weight", other, expected)),
    };
    let mut factors = vec![1.0; classes.len().max(2)];
    for (class, value) in map {
        let number = value.as_f64().filter(|x| x.is_finite() && *x > 0.0);
        let number = number.ok_or_else(|| wrong("class_weight", value, "a number above 0"))?;
        let of_two = || ["0", "1"].iter().position(|c| c == class).filter(|_| classes.len() <= 2);
        let named = classes.iter().position(|c| c == class).or_else(of_two);
        match named {
            Some(i) => factors[i] = number,
            // Without a schema the classes are not known yet: names are checked when it is.
            _ if classes.is_empty() => {}
            _ => {
                let message = format!("no class `{class}`; the classes are `{}`", classes.join("` and `"));
                return Err(LearnError::Param { name: "class_weight".into(), message });
            }
        }
    }
    Ok(ClassWeight::Given(factors))
}

fn build(spec: &ProgramSpec, level: Level) -> Result<Box<dyn Program>, LearnError> {
    Ok(Box::new(Erased(from_params(&map_of(&spec.params)?, spec, level)?)))
}

fn check(params: &BTreeMap<String, Value>) -> Result<(), LearnError> {
    let spec = ProgramSpec { name: ENTRY.name.into(), params: Value::Null, schema: Default::default() };
    from_params(params, &spec, Level::detect()).map(|_| ())
}
