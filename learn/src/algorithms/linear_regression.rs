//! Linear regression: the squared loss ½ (y − f)² with l1 and l2 penalties. Few features are solved
//! from the Gram matrix in one pass, many by L-BFGS.

use std::collections::BTreeMap;

use serde_json::Value;

use super::glm::{Glm, Solver};
use super::scaling::ClassWeight;
use crate::algorithm::LearnError;
use crate::kernels::{Level, Loss};
use crate::model::Task;
use crate::optimizer::Stop;
use crate::params::{ParamDoc, Params, map_of};
use crate::program::{Erased, Program, ProgramSpec};
use crate::registry::{Entry, Kind};

/// The line in the registry.
pub const ENTRY: Entry = Entry {
    name: "linear_regression",
    summary: "least squares with l1 and l2 penalties",
    kind: Kind::Learner,
    params: PARAMS,
    tasks: &[Task::Regression],
    task: |_| Some(Task::Regression),
    takes_text: false,
    takes_missing: false,
    build,
    check,
};

/// Slots up to which `auto` takes the Gram matrix.
const AUTO_GRAM: usize = 512;
/// Slots up to which a Gram matrix is sent around.
const MAX_GRAM: usize = 2048;

pub(super) const L1: ParamDoc =
    ParamDoc { name: "l1", kind: "number ≥ 0", default: "0", doc: "weight of Σ |β|; sets coefficients to 0" };
pub(super) const L2: ParamDoc =
    ParamDoc { name: "l2", kind: "number ≥ 0", default: "0", doc: "weight of Σ β² / 2; shrinks coefficients" };
pub(super) const FIT_INTERCEPT: ParamDoc =
    ParamDoc { name: "fit_intercept", kind: "true | false", default: "true", doc: "fit an intercept; never penalised" };
pub(super) const STANDARDIZATION: ParamDoc = ParamDoc {
    name: "standardization",
    kind: "true | false",
    default: "true",
    doc: "the penalties see standardised features; coefficients come back on the original scale",
};
pub(super) const MAX_ITERATIONS: ParamDoc =
    ParamDoc { name: "max_iterations", kind: "whole number ≥ 1", default: "1000", doc: "steps of the optimizer at most" };
pub(super) const TOLERANCE: ParamDoc = ParamDoc {
    name: "tolerance",
    kind: "number ≥ 0",
    default: "1e-9",
    doc: "norm of the gradient, relative to its start, that counts as converged",
};

const PARAMS: &[ParamDoc] = &[
    L1,
    L2,
    FIT_INTERCEPT,
    STANDARDIZATION,
    ParamDoc {
        name: "solver",
        kind: "auto | gram | lbfgs",
        default: "auto",
        doc: "gram: the normal equations, one pass; lbfgs: steps; auto: gram up to 512 coefficients",
    },
    MAX_ITERATIONS,
    TOLERANCE,
];

#[derive(Clone, Copy)]
enum Choice {
    Auto,
    Gram,
    Lbfgs,
}

/// Least squares with these parameters.
pub fn from_params(params: &BTreeMap<String, Value>, spec: &ProgramSpec, level: Level) -> Result<Glm, LearnError> {
    let params = Params::new(params, PARAMS)?;
    let choices = [("auto", Choice::Auto), ("gram", Choice::Gram), ("lbfgs", Choice::Lbfgs)];
    let width = spec.schema.width();
    let solver = match params.choice("solver", &choices)? {
        Choice::Gram if width > MAX_GRAM => return Err(too_wide("gram", width)),
        Choice::Auto if width > AUTO_GRAM => Solver::Lbfgs,
        Choice::Auto | Choice::Gram => Solver::Newton,
        Choice::Lbfgs => Solver::Lbfgs,
    };
    Ok(Glm {
        loss: Loss::Squared,
        l1: params.non_negative("l1", 0.0)?,
        l2: params.non_negative("l2", 0.0)?,
        fit_intercept: params.flag("fit_intercept", true)?,
        standardization: params.flag("standardization", true)?,
        class_weight: ClassWeight::None,
        solver,
        stop: stop(&params)?,
        level,
        schema: spec.schema.clone(),
    })
}

/// When to stop, as both linear learners say it.
pub(super) fn stop(params: &Params<'_>) -> Result<Stop, LearnError> {
    Ok(Stop {
        max_iterations: params.positive_whole("max_iterations", 1000)?,
        tolerance: params.non_negative("tolerance", 1e-9)?,
    })
}

/// The error of a solver that needs a matrix of all slots.
pub(super) fn too_wide(solver: &str, width: usize) -> LearnError {
    let message = format!("`{solver}` takes at most {MAX_GRAM} coefficients, the features have {width}: use `lbfgs`");
    LearnError::Param { name: "solver".into(), message }
}

/// Slots up to which second-order steps are possible.
pub(super) fn is_too_wide(width: usize) -> bool {
    width > MAX_GRAM
}

fn build(spec: &ProgramSpec, level: Level) -> Result<Box<dyn Program>, LearnError> {
    Ok(Box::new(Erased(from_params(&map_of(&spec.params)?, spec, level)?)))
}

fn check(params: &BTreeMap<String, Value>) -> Result<(), LearnError> {
    let spec = ProgramSpec { name: ENTRY.name.into(), params: Value::Null, schema: Default::default() };
    from_params(params, &spec, Level::detect()).map(|_| ())
}
