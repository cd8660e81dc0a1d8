//! Gradient boosted trees: regressions, classification and rankings on histograms of integers.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::logistic_regression::class_weight;
use super::scaling::ClassWeight;
use super::warm_start;
use crate::algorithm::LearnError;
use crate::kernels::Level;
use crate::model::Task;
use crate::params::{ParamDoc, Params, map_of, wrong};
use crate::program::{Erased, Program, ProgramSpec};
use crate::registry::{Entry, Kind};
use crate::shard::{FeatureKind, Schema};
use crate::trees::boosting::Boosting;
use crate::trees::objective::{
    Absolute, Binary, Gamma, Huber, Lambdarank, MeanPrecision, Multiclass, Objective, Pairs, Poisson, Quantile, SquaredError,
    Tweedie,
};
use crate::trees::params::{refuse_peers, settings};

/// The line in the registry.
pub const ENTRY: Entry = Entry {
    name: "gradient_boosting",
    summary: "boosted trees for numbers, counts, amounts, quantiles, classes and rankings",
    kind: Kind::Learner,
    params: PARAMS,
    tasks: &[Task::Regression, Task::Binary, Task::Multiclass, Task::Ranking],
    task,
    takes_text: true,
    takes_missing: true,
    build,
    check,
};

const fn doc(name: &'static str, kind: &'static str, default: &'static str, doc: &'static str) -> ParamDoc {
    ParamDoc { name, kind, default, doc }
}

#[rustfmt::skip]
pub(super) const PARAMS: &[ParamDoc] = &[
    doc("task", "regression | binary | multiclass | ranking", "none", "binary is the objective `binary`, multiclass `multiclass`, regression `squared_error`, ranking `lambdarank`; this or `objective` must be said"),
    doc("objective", "squared_error | binary | multiclass | absolute | huber | quantile | poisson | tweedie | gamma | lambdarank | map", "none", "the loss that is boosted"),
    doc("delta", "number > 0", "0.9", "residual from which huber is absolute (LightGBM's alpha)"),
    doc("probability", "number between 0 and 1", "0.5", "which quantile is predicted"),
    doc("power", "number between 1 and 2", "1.5", "tweedie's variance power"),
    doc("truncation_level", "whole number from 1 on", "30", "rankings look at pairs of rows of a query of which one is among so many first ones"),
    doc("sigmoid", "number > 0", "1", "steepness of a ranking's pairs"),
    doc("lambdarank_norm", "true | false", "true", "whether gradients of a ranking's queries are brought to a like size"),
    doc("trees", "whole number from 1 on", "100", "number of trees; of multiclass so many for each class"),
    doc("learning_rate", "number > 0, at most 1", "0.1", "what leaf values are multiplied with"),
    doc("growth", "leaf_wise | depth_wise", "leaf_wise", "the best leaves first, or level after level"),
    doc("max_depth", "whole number from 1 to 64", "none; depth_wise 6", "most splits on a path"),
    doc("max_leaves", "whole number from 2 on", "31; depth_wise none", "most leaves of a tree"),
    doc("min_samples_leaf", "whole number from 1 on", "20", "least rows of a leaf, estimated by its share of hessians"),
    doc("min_child_weight", "number ≥ 0", "0.001", "least sum of hessians of a leaf"),
    doc("l1", "number ≥ 0", "0", "taken from the sum of gradients of a leaf"),
    doc("l2", "number ≥ 0", "0", "added to the sum of hessians of a leaf"),
    doc("min_split_gain", "number ≥ 0", "0", "a split must gain more"),
    doc("subsample", "number > 0, at most 1", "1", "share of rows that a tree is grown on"),
    doc("colsample_bytree", "number > 0, at most 1", "1", "share of features of a tree"),
    doc("colsample_bynode", "number > 0, at most 1", "1", "share of these of a node"),
    doc("max_bins", "whole number from 2 to 255", "255", "most bins of a feature; missing values have one of their own"),
    doc("cat_smooth", "number ≥ 0", "10", "least rows of a category, and what smooths its statistics"),
    doc("cat_l2", "number ≥ 0", "10", "added to `l2` in splits of many categories, more where they differ by chance"),
    doc("max_cat_threshold", "whole number from 1 on", "32", "most categories on the smaller side of a split"),
    doc("monotone", "{column: 1 | -1}", "none", "predictions never fall (1) or rise (-1) when the column rises"),
    doc("interactions", "[[column, …], …]", "any", "columns that may stand together on a path"),
    doc("class_weight", "none | balanced | {class: number > 0}", "none", "multiplies the weights of a class's rows; of classes only"),
    doc("early_stopping", "{rounds: whole number}", "false", "stop when the validation loss has not fallen for so many trees (of multiclass: for each class); the best stay"),
    doc("boosting", "gbdt | dart", "gbdt", "each tree corrects all before it, or (dart) some are dropped while it is grown"),
    doc("drop_rate", "number from 0 to 1", "0.1", "dart: share of trees that are dropped"),
    doc("max_drop", "whole number from 1 on", "50", "dart: most trees that are dropped at once"),
    doc("skip_drop", "number from 0 to 1", "0.5", "dart: probability that none is dropped"),
    doc("warm_start", "MODEL@VERSION", "none", "a model of this algorithm whose trees stand before the new ones"),
    doc("seed", "whole number from 0 on", "0", "of the samples of rows and columns"),
];

/// Boosted trees with these parameters.
///
/// # Errors
/// A parameter is not what it should be, or the schema has a column that trees cannot read.
pub fn from_params(params: &BTreeMap<String, Value>, schema: &Schema, level: Level) -> Result<Boosting, LearnError> {
    refuse_peers(params)?;
    let params = Params::new(params, PARAMS)?;
    refuse_sparse(schema)?;
    let objective = objective(&params, schema.classes.len())?;
    let class_weight = match (objective, params.get("class_weight")) {
        (Objective::Binary(_) | Objective::Multiclass(_), _) => class_weight(&params, &schema.classes)?,
        (_, None | Some(Value::Null)) => ClassWeight::None,
        (_, Some(value)) => {
            return Err(wrong("class_weight", value, "for this objective: only `binary` and `multiclass` have classes"));
        }
    };
    let mut settings = settings(&params, schema)?;
    let monotone = params.get("monotone").and_then(Value::as_object);
    if objective.quantile().is_some() && monotone.is_some_and(|map| map.values().any(|direction| *direction != 0)) {
        let message = "not with this objective: its leaves are quantiles of residuals, which keep no order";
        return Err(LearnError::Param { name: "monotone".into(), message: message.into() });
    }
    settings.earlier = warm_start::earlier(&params, objective, schema)?.map(Arc::new);
    Ok(Boosting { settings, objective, class_weight, level, schema: schema.clone() })
}

/// Columns of many sparse slots are not trees' to read yet.
pub fn refuse_sparse(schema: &Schema) -> Result<(), LearnError> {
    let sparse = |f: &&crate::shard::Feature| matches!(f.kind, FeatureKind::Sparse { .. });
    match schema.features.iter().find(sparse) {
        None => Ok(()),
        Some(feature) => Err(LearnError::Data(format!(
            "column `{}` is hashed to sparse slots, which trees do not read: leave the text as it is, trees take categories themselves",
            feature.name
        ))),
    }
}

/// Tasks by name that forests have as well.
pub(super) const TASKS: &[(&str, Task)] =
    &[("regression", Task::Regression), ("binary", Task::Binary), ("multiclass", Task::Multiclass)];

#[derive(Clone, Copy, PartialEq)]
enum Name {
    Unsaid,
    SquaredError,
    Binary,
    Multiclass,
    Absolute,
    Huber,
    Quantile,
    Poisson,
    Tweedie,
    Gamma,
    Lambdarank,
    Map,
}

pub(super) fn objective(params: &Params<'_>, classes: usize) -> Result<Objective, LearnError> {
    let named = match params.get("objective") {
        None | Some(Value::Null) => Name::Unsaid,
        Some(_) => params.choice(
            "objective",
            &[
                ("squared_error", Name::SquaredError),
                ("binary", Name::Binary),
                ("multiclass", Name::Multiclass),
                ("absolute", Name::Absolute),
                ("huber", Name::Huber),
                ("quantile", Name::Quantile),
                ("poisson", Name::Poisson),
                ("tweedie", Name::Tweedie),
                ("gamma", Name::Gamma),
                ("lambdarank", Name::Lambdarank),
                ("map", Name::Map),
                ("logistic", Name::Binary),
                ("absolute_error", Name::Absolute),
            ],
        )?,
    };
    let task = match params.get("task") {
        None | Some(Value::Null) => None,
        Some(_) => Some(params.choice("task", &[TASKS, &[("ranking", Task::Ranking)]].concat())?),
    };
    let name = match (named, task) {
        (Name::Unsaid, Some(Task::Regression)) => Name::SquaredError,
        (Name::Unsaid, Some(Task::Binary)) => Name::Binary,
        (Name::Unsaid, Some(Task::Multiclass)) => Name::Multiclass,
        (Name::Unsaid, Some(Task::Ranking)) => Name::Lambdarank,
        (name, _) => name,
    };
    let within = |name: &str, default: f64, low: f64, high: f64| {
        let value = params.non_negative(name, default)?;
        let expected = || format!("a number between {low} and {high}");
        if value > low && value < high { Ok(value) } else { Err(wrong(name, &Value::from(value), &expected())) }
    };
    let objective = match name {
        Name::Unsaid => {
            let message = "say `task` (regression, binary, multiclass, ranking) or `objective` (squared_error, binary, multiclass, absolute, huber, quantile, poisson, tweedie, gamma, lambdarank, map): it is never guessed";
            return Err(LearnError::Param { name: "objective".into(), message: message.into() });
        }
        Name::SquaredError => Objective::SquaredError(SquaredError),
        Name::Binary => Objective::Binary(Binary),
        Name::Multiclass => Objective::Multiclass(Multiclass { classes: classes as u32 }),
        Name::Absolute => Objective::Absolute(Absolute),
        Name::Huber => Objective::Huber(Huber { delta: within("delta", 0.9, 0.0, f64::INFINITY)? }),
        Name::Quantile => Objective::Quantile(Quantile { probability: within("probability", 0.5, 0.0, 1.0)? }),
        Name::Poisson => Objective::Poisson(Poisson { caution: 0.7 }),
        Name::Tweedie => Objective::Tweedie(Tweedie { power: within("power", 1.5, 1.0, 2.0)? }),
        Name::Gamma => Objective::Gamma(Gamma),
        Name::Lambdarank => Objective::Lambdarank(Lambdarank { pairs: pairs(params)? }),
        Name::Map => Objective::Map(MeanPrecision { pairs: pairs(params)? }),
    };
    match task {
        Some(task) if task != objective.task() => {
            let message = "`task` and `objective` do not fit: leave one of them out";
            Err(LearnError::Param { name: "objective".into(), message: message.into() })
        }
        _ => Ok(objective),
    }
}

/// Which pairs of a ranking count, and how.
fn pairs(params: &Params<'_>) -> Result<Pairs, LearnError> {
    let sigmoid = params.non_negative("sigmoid", 1.0)?;
    if sigmoid == 0.0 {
        return Err(wrong("sigmoid", &Value::from(sigmoid), "a number above 0"));
    }
    let truncation_level = params.positive_whole("truncation_level", 30)?;
    Ok(Pairs { truncation_level, sigmoid, norm: params.flag("lambdarank_norm", true)? })
}

fn task(params: &BTreeMap<String, Value>) -> Option<Task> {
    let params = Params::new(params, PARAMS).ok()?;
    objective(&params, 0).ok().map(|objective| objective.task())
}

fn build(spec: &ProgramSpec, level: Level) -> Result<Box<dyn Program>, LearnError> {
    Ok(Box::new(Erased(from_params(&map_of(&spec.params)?, &spec.schema, level)?)))
}

fn check(params: &BTreeMap<String, Value>) -> Result<(), LearnError> {
    from_params(params, &Schema::default(), Level::detect()).map(|_| ())
}
