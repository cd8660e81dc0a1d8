//! How much a model of trees makes of each feature.

use serde::{Deserialize, Serialize};

use super::model::TreeModel;

/// Three measures of a feature.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Importance {
    /// What its splits gained.
    pub gain: f64,
    /// Sum of hessians of the training rows that came to its splits.
    pub cover: f64,
    /// Its splits.
    pub splits: u64,
}

/// The importance of each of `features` features.
pub fn importance(model: &TreeModel, features: usize) -> Vec<Importance> {
    let mut out = vec![Importance::default(); features];
    for tree in &model.trees {
        for i in 0..tree.splits() {
            if let Some(own) = out.get_mut(tree.feature[i] as usize) {
                own.gain += tree.gain[i];
                own.cover += tree.cover[i];
                own.splits += 1;
            }
        }
    }
    out
}
