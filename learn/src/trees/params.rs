//! What growing trees depends on. Names and defaults are those of LightGBM where it has them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::algorithm::LearnError;
use crate::params::{Params, wrong};
use crate::shard::{FeatureKind, Schema};
use crate::suggest::nearest;

use super::MOST_BINS;
use super::batch::Limits;
use super::dropout::{self, Dropout, Schedule};
use super::model::TreeModel;

/// In which order nodes are split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Growth {
    /// A level at a time.
    DepthWise,
    /// The best of all leaves first.
    LeafWise,
}

/// Which splits are worth it.
#[derive(Debug, Clone, PartialEq)]
pub struct Regularization {
    /// Taken from the sum of gradients of a leaf.
    pub l1: f64,
    /// Added to the sum of hessians of a leaf.
    pub l2: f64,
    /// Least sum of hessians of a leaf.
    pub min_child_weight: f64,
    /// Least rows of a leaf.
    pub min_samples_leaf: u32,
    /// A split must gain more.
    pub min_split_gain: f64,
    /// Least rows of a category, and what smooths its statistics.
    pub cat_smooth: f64,
    /// Added to `l2` in splits of many categories.
    pub cat_l2: f64,
    /// Most categories on the smaller side.
    pub max_cat_threshold: u32,
    /// Per feature 1 (predictions never fall when it rises), −1 or 0; empty: all 0.
    pub monotone: Vec<i8>,
}

/// How trees are grown.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Of all that is drawn.
    pub seed: u64,
    /// Number of trees.
    pub trees: u32,
    /// What leaf values are multiplied with.
    pub learning_rate: f64,
    /// In which order nodes are split.
    pub growth: Growth,
    /// Most splits on a path.
    pub max_depth: Option<u32>,
    /// Most leaves.
    pub max_leaves: u32,
    /// Most bins of a feature.
    pub max_bins: usize,
    /// Share of rows that a tree is grown on.
    pub subsample: f64,
    /// Share of features of a tree.
    pub colsample_bytree: f64,
    /// Share of these of a node.
    pub colsample_bynode: f64,
    /// Whether thresholds are drawn, one a feature.
    pub random_thresholds: bool,
    /// Whether trees stand beside each other and their mean is taken, instead of each correcting those before it.
    pub forest: bool,
    /// Whether rows of a tree are drawn with replacement: each stands there about once (Poisson with mean 1).
    pub bootstrap: bool,
    /// Sets of features that may stand on one path; empty: any.
    pub interactions: Vec<Vec<u32>>,
    /// Trees without a better validation loss after which to stop.
    pub early_stopping: Option<u32>,
    /// What trees are grown without; `None`: all trees before a tree stand.
    pub dropout: Option<Arc<Schedule>>,
    /// The model whose trees stand before the first.
    pub earlier: Option<Arc<TreeModel>>,
    /// Which splits are worth it.
    pub regularization: Regularization,
    /// What a step may cost.
    pub limits: Limits,
}

impl Settings {
    /// The number by which a tree draws: after those of the model that the fit goes on from, as if all were one fit.
    pub fn drawn(&self, tree: u32) -> u64 {
        u64::from(tree) + self.earlier.as_ref().map_or(0, |model| model.trees.len() as u64)
    }

    /// The number by which a round draws, as [`Settings::drawn`].
    pub fn drawn_round(&self, round: usize) -> u64 {
        round as u64 + self.earlier.as_ref().map_or(0, |model| (model.trees.len() / model.outputs()) as u64)
    }
}

/// Most trees.
pub const MOST_TREES: u32 = 100_000;
/// Most splits on a path.
pub const MOST_DEPTH: u32 = 64;
/// Most leaves of a tree.
pub const MOST_LEAVES: u32 = 1 << 16;

/// Names that peers use, with what to write here.
const PEERS: &[(&str, &str)] = &[
    ("n_estimators", "the name here is `trees`"),
    ("num_iterations", "the name here is `trees`"),
    ("num_boost_round", "the name here is `trees`"),
    ("numTrees", "the name here is `trees`"),
    ("max_iter", "the name here is `trees`"),
    ("eta", "the name here is `learning_rate`"),
    ("stepSize", "the name here is `learning_rate`"),
    ("num_leaves", "the name here is `max_leaves`"),
    ("max_leaf_nodes", "the name here is `max_leaves`"),
    ("maxDepth", "the name here is `max_depth`"),
    ("maxBins", "the name here is `max_bins`"),
    ("max_bin", "the name here is `max_bins`"),
    ("min_data_in_leaf", "the name here is `min_samples_leaf`"),
    ("min_child_samples", "the name here is `min_samples_leaf`"),
    ("minInstancesPerNode", "the name here is `min_samples_leaf`"),
    ("min_sum_hessian_in_leaf", "the name here is `min_child_weight`"),
    ("reg_lambda", "the name here is `l2`"),
    ("lambda_l2", "the name here is `l2`"),
    ("l2_regularization", "the name here is `l2`"),
    ("lambda", "the name here is `l2`"),
    ("reg_alpha", "the name here is `l1`"),
    ("lambda_l1", "the name here is `l1`"),
    ("alpha", "XGBoost's penalty is `l1`; LightGBM's is `delta` (huber) or `probability` (quantile)"),
    ("gamma", "the name here is `min_split_gain`"),
    ("min_gain_to_split", "the name here is `min_split_gain`"),
    ("bagging_fraction", "the name here is `subsample`"),
    ("subsamplingRate", "the name here is `subsample`"),
    ("feature_fraction", "the name here is `colsample_bytree`"),
    ("feature_fraction_bynode", "the name here is `colsample_bynode`"),
    ("max_features", "the name here is `colsample_bynode`, a share"),
    ("grow_policy", "the name here is `growth`: leaf_wise or depth_wise"),
    ("monotone_constraints", "the name here is `monotone`, a map of column to 1 or -1"),
    ("monotonic_cst", "the name here is `monotone`, a map of column to 1 or -1"),
    ("interaction_constraints", "the name here is `interactions`, lists of columns"),
    ("interaction_cst", "the name here is `interactions`, lists of columns"),
    ("early_stopping_rounds", "write `early_stopping: {rounds: 50}`"),
    ("n_iter_no_change", "write `early_stopping: {rounds: 10}`"),
    ("scale_pos_weight", "write `class_weight: {1: w}`"),
    ("is_unbalance", "write `class_weight: balanced`"),
    ("loss", "the name here is `objective`"),
    ("rate_drop", "the name here is `drop_rate`, with `boosting: dart`"),
    ("booster", "write `boosting: dart`, or nothing for plain trees"),
    ("boosting_type", "the name here is `boosting`"),
    ("init_model", "write `warm_start: MODEL@VERSION`"),
    ("xgb_model", "write `warm_start: MODEL@VERSION`"),
    ("lambdarank_truncation_level", "the name here is `truncation_level`"),
    ("lambdarank_num_pair_per_sample", "pairs are chosen by `truncation_level`"),
    ("group", "write `columns.query`: the column that says which rows are ranked together"),
];

/// A name that a peer uses is answered with the one here.
///
/// # Errors
/// There is such a name.
pub fn refuse_peers(params: &BTreeMap<String, Value>) -> Result<(), LearnError> {
    match PEERS.iter().find(|(name, _)| params.contains_key(*name)) {
        Some((name, advice)) => {
            Err(LearnError::Param { name: (*name).into(), message: format!("not a parameter here: {advice}") })
        }
        None => Ok(()),
    }
}

/// A number above 0 and at most 1.
///
/// # Errors
/// It is not.
pub fn share(params: &Params<'_>, name: &str, default: f64) -> Result<f64, LearnError> {
    let value = params.non_negative(name, default)?;
    if value > 0.0 && value <= 1.0 {
        return Ok(value);
    }
    Err(wrong(name, &Value::from(value), "a number above 0, at most 1"))
}

/// A whole number from 1 to a limit.
///
/// # Errors
/// It is not.
pub fn whole(params: &Params<'_>, name: &str, default: u32, least: u32, most: u32) -> Result<u32, LearnError> {
    let value = params.positive_whole(name, default)?;
    if (least..=most).contains(&value) {
        return Ok(value);
    }
    Err(wrong(name, &Value::from(value), &format!("a whole number from {least} to {most}")))
}

/// What decides over splits, in every algorithm of trees.
///
/// # Errors
/// A parameter is not what it should be.
pub fn regularization(params: &Params<'_>, schema: &Schema) -> Result<Regularization, LearnError> {
    Ok(Regularization {
        l1: params.non_negative("l1", 0.0)?,
        l2: params.non_negative("l2", 0.0)?,
        min_child_weight: params.non_negative("min_child_weight", 1e-3)?,
        min_samples_leaf: params.positive_whole("min_samples_leaf", 20)?,
        min_split_gain: params.non_negative("min_split_gain", 0.0)?,
        cat_smooth: params.non_negative("cat_smooth", 10.0)?,
        cat_l2: params.non_negative("cat_l2", 10.0)?,
        max_cat_threshold: params.positive_whole("max_cat_threshold", 32)?,
        monotone: monotone(params, schema)?,
    })
}

/// How trees grow: depth, leaves, bins, samples, constraints.
///
/// # Errors
/// A parameter is not what it should be.
pub fn settings(params: &Params<'_>, schema: &Schema) -> Result<Settings, LearnError> {
    let growth = params.choice("growth", &[("leaf_wise", Growth::LeafWise), ("depth_wise", Growth::DepthWise)])?;
    let (depth, leaves) = match growth {
        Growth::LeafWise => (None, 31),
        Growth::DepthWise => (Some(6), MOST_LEAVES),
    };
    let max_depth = match params.get("max_depth") {
        None => depth,
        Some(_) => Some(whole(params, "max_depth", 6, 1, MOST_DEPTH)?),
    };
    let (seed, trees) = (seed(params)?, whole(params, "trees", 100, 1, MOST_TREES)?);
    Ok(Settings {
        seed,
        trees,
        learning_rate: share(params, "learning_rate", 0.1)?,
        growth,
        max_depth,
        max_leaves: whole(params, "max_leaves", leaves, 2, MOST_LEAVES)?,
        max_bins: whole(params, "max_bins", MOST_BINS as u32, 2, MOST_BINS as u32)? as usize,
        subsample: share(params, "subsample", 1.0)?,
        colsample_bytree: share(params, "colsample_bytree", 1.0)?,
        colsample_bynode: share(params, "colsample_bynode", 1.0)?,
        random_thresholds: false,
        forest: false,
        bootstrap: false,
        interactions: interactions(params, schema)?,
        early_stopping: early_stopping(params)?,
        dropout: dropout(params, seed, trees)?,
        earlier: None,
        regularization: regularization(params, schema)?,
        limits: Limits::default(),
    })
}

/// The seed of all that is drawn.
fn seed(params: &Params<'_>) -> Result<u64, LearnError> {
    let Some(value) = params.get("seed") else { return Ok(0) };
    value.as_u64().ok_or_else(|| wrong("seed", value, "a whole number from 0 on"))
}

/// `boosting: dart` with what belongs to it.
fn dropout(params: &Params<'_>, seed: u64, trees: u32) -> Result<Option<Arc<Schedule>>, LearnError> {
    const OWN: [&str; 3] = ["drop_rate", "max_drop", "skip_drop"];
    let refuse = |name: &str, message: &str| Err(LearnError::Param { name: name.into(), message: message.into() });
    if !params.choice("boosting", &[("gbdt", false), ("dart", true)])? {
        return match OWN.iter().find(|name| params.get(name).is_some()) {
            Some(name) => refuse("boosting", &format!("`{name}` belongs to `boosting: dart`, which is not set")),
            None => Ok(None),
        };
    }
    if early_stopping(params)?.is_some() {
        return refuse("early_stopping", "not with `boosting: dart`: later trees change the weights of earlier ones");
    }
    if trees > dropout::MOST_TREES {
        return refuse("trees", &format!("at most {} with `boosting: dart`", dropout::MOST_TREES));
    }
    let part = |name: &str, default: f64| {
        let value = params.non_negative(name, default)?;
        if value <= 1.0 { Ok(value) } else { Err(wrong(name, &Value::from(value), "a number from 0 to 1")) }
    };
    let dropout =
        Dropout { rate: part("drop_rate", 0.1)?, most: params.positive_whole("max_drop", 50)?, skip: part("skip_drop", 0.5)? };
    Ok(Some(Arc::new(Schedule::new(dropout, seed, trees))))
}

/// `{rounds: n}`, or nothing.
fn early_stopping(params: &Params<'_>) -> Result<Option<u32>, LearnError> {
    let expected = "{rounds: whole number from 1 on} or false";
    let map = match params.get("early_stopping") {
        None | Some(Value::Null | Value::Bool(false)) => return Ok(None),
        Some(Value::Object(map)) if map.len() == 1 => map,
        Some(other) => return Err(wrong("early_stopping", other, expected)),
    };
    let rounds = map.get("rounds").and_then(Value::as_u64).and_then(|x| u32::try_from(x).ok()).filter(|&x| x > 0);
    rounds.map(Some).ok_or_else(|| wrong("early_stopping", &Value::Object(map.clone()), expected))
}

/// Names that fit into a message.
const NAMED: usize = 20;

fn some(names: Vec<&str>) -> String {
    let named = names[..names.len().min(NAMED)].join(", ");
    if names.len() > NAMED { format!("{named} and {} more", names.len() - NAMED) } else { named }
}

/// Number of a column; without a schema columns are not known yet: names are checked when it is.
fn column(parameter: &str, schema: &Schema, name: &str) -> Result<Option<usize>, LearnError> {
    let found = schema.features.iter().position(|f| f.name == name);
    if found.is_some() || schema.features.is_empty() {
        return Ok(found);
    }
    let names = || schema.features.iter().map(|f| f.name.as_str());
    let hint = match nearest(name, names()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("features are {}", some(names().collect())),
    };
    Err(LearnError::Param { name: parameter.into(), message: format!("there is no feature `{name}`; {hint}") })
}

fn monotone(params: &Params<'_>, schema: &Schema) -> Result<Vec<i8>, LearnError> {
    let map = match params.get("monotone") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Object(map)) => map,
        Some(other) => return Err(wrong("monotone", other, "a map of column to 1 or -1")),
    };
    let mut out = vec![0; schema.features.len()];
    for (name, value) in map {
        let direction = value.as_i64().filter(|d| [-1, 0, 1].contains(d));
        let direction = direction.ok_or_else(|| wrong("monotone", value, "1, -1 or 0"))? as i8;
        let Some(at) = column("monotone", schema, name)? else { continue };
        out[at] = match schema.features[at].kind {
            // Trees see the column before its scale.
            FeatureKind::Numeric { scale, .. } if scale < 0.0 => -direction,
            FeatureKind::Numeric { .. } => direction,
            _ => {
                let message = format!("feature `{name}` has no order: its values are categories; name numbers only");
                return Err(LearnError::Param { name: "monotone".into(), message });
            }
        };
    }
    Ok(out)
}

fn interactions(params: &Params<'_>, schema: &Schema) -> Result<Vec<Vec<u32>>, LearnError> {
    let expected = "a list of lists of columns";
    let groups = match params.get("interactions") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(groups)) => groups,
        Some(other) => return Err(wrong("interactions", other, expected)),
    };
    let mut out = Vec::new();
    for group in groups {
        let names = group.as_array().filter(|g| !g.is_empty()).ok_or_else(|| wrong("interactions", group, expected))?;
        let mut columns = Vec::new();
        for name in names {
            let name = name.as_str().ok_or_else(|| wrong("interactions", name, expected))?;
            columns.extend(column("interactions", schema, name)?.map(|at| at as u32));
        }
        out.push(columns);
    }
    Ok(out)
}
