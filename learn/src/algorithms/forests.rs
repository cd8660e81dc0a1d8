//! What forests share: trees beside each other, each grown by squared error on the target itself; the prediction is the
//! mean of their leaves' means. Of two classes that is a probability, and squared error is Gini's impurity. Of more classes
//! each has trees of its own against the rest, as in H2O's DRF; their shares are divided by their sum.

use std::collections::BTreeMap;

use serde_json::Value;

use super::gradient_boosting::{TASKS, refuse_sparse};
use super::logistic_regression::class_weight;
use super::scaling::ClassWeight;
use crate::algorithm::LearnError;
use crate::kernels::Level;
use crate::model::Task;
use crate::params::{ParamDoc, Params, map_of, wrong};
use crate::program::{Erased, Program, ProgramSpec};
use crate::registry::{Entry, Kind};
use crate::shard::Schema;
use crate::trees::boosting::Boosting;
use crate::trees::objective::{Objective, Shares, SquaredError};
use crate::trees::params::{Growth, MOST_LEAVES, refuse_peers, settings};

/// What tells one forest from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Forest {
    /// Rows are drawn with replacement, features at every node.
    Random,
    /// Thresholds are drawn, one a feature of a node.
    Extra,
    /// One tree of everything.
    Single,
}

const fn doc(name: &'static str, kind: &'static str, default: &'static str, doc: &'static str) -> ParamDoc {
    ParamDoc { name, kind, default, doc }
}

const TREES: ParamDoc =
    doc("trees", "whole number from 1 on", "100", "number of trees; of multiclass so many for each class against the rest");
const BYNODE: ParamDoc =
    doc("colsample_bynode", "number > 0, at most 1", "classes: √n/n; regression: 1", "share of the features of a node");
const SEED: ParamDoc = doc("seed", "whole number from 0 on", "0", "of all that is drawn");
const COMMON: [ParamDoc; 11] = [
    doc("task", "regression | binary | multiclass", "none", "must be said; multiclass: a tree for each class against the rest"),
    doc("max_depth", "whole number from 1 to 64", "16", "most splits on a path"),
    doc("max_leaves", "whole number from 2 on", "none", "most leaves of a tree"),
    doc("min_samples_leaf", "whole number from 1 on", "1", "least rows of a leaf, estimated by its share of weight"),
    doc("min_child_weight", "number ≥ 0", "0.001", "least weight of a leaf"),
    doc("min_split_gain", "number ≥ 0", "0", "a split must gain more"),
    doc("max_bins", "whole number from 2 to 255", "255", "most bins of a feature; missing values have one of their own"),
    doc("cat_smooth", "number ≥ 0", "10", "least rows of a category, and what smooths its statistics"),
    doc("max_cat_threshold", "whole number from 1 on", "32", "most categories on the smaller side of a split"),
    doc("monotone", "{column: 1 | -1}", "none", "predictions never fall (1) or rise (-1) when the column rises"),
    doc(
        "class_weight",
        "none | balanced | {class: number > 0}",
        "none",
        "multiplies the weights of a class's rows; of classes only",
    ),
];

/// Parameters of one tree.
pub(super) const SINGLE: &[ParamDoc] = &COMMON;
/// Parameters of many trees.
pub(super) const MANY: &[ParamDoc] = &{
    let [a, b, c, d, e, f, g, h, i, j, k] = COMMON;
    [a, b, c, d, e, f, g, h, i, j, k, TREES, BYNODE, SEED]
};

/// The line in the registry.
pub(super) const fn entry(
    name: &'static str,
    summary: &'static str,
    params: &'static [ParamDoc],
    build: crate::registry::BuildFn,
    check: fn(&BTreeMap<String, Value>) -> Result<(), LearnError>,
) -> Entry {
    Entry {
        name,
        summary,
        kind: Kind::Learner,
        params,
        tasks: &[Task::Regression, Task::Binary, Task::Multiclass],
        task,
        takes_text: true,
        takes_missing: true,
        build,
        check,
    }
}

/// What the parameters say, if they say it rightly.
fn task(values: &BTreeMap<String, Value>) -> Option<Task> {
    let said = values.get("task")?.as_str()?;
    TASKS.iter().find(|(name, _)| *name == said).map(|(_, task)| *task)
}

/// A forest of a spec.
pub(super) fn build(forest: Forest, spec: &ProgramSpec, level: Level) -> Result<Box<dyn Program>, LearnError> {
    Ok(Box::new(Erased(from_params(forest, &map_of(&spec.params)?, &spec.schema, level)?)))
}

/// A forest with these parameters.
pub(super) fn from_params(
    forest: Forest,
    values: &BTreeMap<String, Value>,
    schema: &Schema,
    level: Level,
) -> Result<Boosting, LearnError> {
    refuse_peers(values)?;
    let params = Params::new(values, if forest == Forest::Single { SINGLE } else { MANY })?;
    refuse_sparse(schema)?;
    if params.get("task").is_none_or(Value::is_null) {
        let message = "say `regression`, `binary` or `multiclass`: it is never guessed";
        return Err(LearnError::Param { name: "task".into(), message: message.into() });
    }
    let task = params.choice("task", TASKS)?;
    let class_weight = match (task, params.get("class_weight")) {
        (Task::Binary | Task::Multiclass, _) => class_weight(&params, &schema.classes)?,
        (_, None | Some(Value::Null)) => ClassWeight::None,
        (_, Some(value)) => {
            return Err(wrong("class_weight", value, "for a regression: only `binary` and `multiclass` have classes"));
        }
    };
    let mut settings = settings(&params, schema)?;
    settings.growth = Growth::DepthWise;
    settings.learning_rate = 1.0;
    settings.forest = true;
    settings.bootstrap = forest == Forest::Random;
    settings.random_thresholds = forest == Forest::Extra;
    if forest == Forest::Single {
        settings.trees = 1;
    }
    if params.get("max_depth").is_none() {
        settings.max_depth = Some(16);
    }
    if params.get("max_leaves").is_none() {
        settings.max_leaves = MOST_LEAVES;
    }
    if params.get("min_samples_leaf").is_none() {
        settings.regularization.min_samples_leaf = 1;
    }
    if params.get("colsample_bynode").is_none() && task != Task::Regression && forest != Forest::Single {
        let features = schema.features.len().max(1) as f64;
        settings.colsample_bynode = features.sqrt() / features;
    }
    let objective = match task {
        Task::Binary => Objective::Brier(SquaredError),
        Task::Multiclass => Objective::Shares(Shares { classes: schema.classes.len() as u32 }),
        Task::Regression | Task::Ranking | Task::Anomaly => Objective::SquaredError(SquaredError),
    };
    Ok(Boosting { settings, objective, class_weight, level, schema: schema.clone() })
}
