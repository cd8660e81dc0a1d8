//! The tree engine: histograms of integers over binned columns. Forests and boosting are made of it.
//!
//! Integers are what makes a tree the same on any cluster: gradients are rounded to 16 bits by a scale that is a
//! function of the data alone, their sums commute, and every decision is taken from the sums. Leaf values come from
//! sums in 32 more bits. What is float (gradients, gains, scores) is computed in a fixed order, without FMA and libm.
//!
//! * data: [`sample`] → [`edges`] → [`bins`] → [`layout`]
//! * a level of a tree on a shard: [`partition`], [`histogram`]; on the wire: [`wire`]
//! * at the coordinator: [`split`] and [`category`] find splits, [`growth`] decides which to take
//! * what is left: [`grown`] (in bins, what workers apply) and [`tree`] (in values, what a model keeps)
//! * beside predictions: [`importance`], [`shap`]
//! * [`boosting`] runs them as an [`crate::algorithm::Algorithm`], with an [`objective`]

pub mod bins;
pub mod boosting;
pub mod category;
pub mod edges;
pub mod exact;
pub mod grown;
pub mod growth;
pub mod histogram;
pub mod importance;
pub mod layout;
pub mod local;
pub mod model;
pub mod objective;
pub mod params;
pub mod partial;
pub mod partition;
pub mod sample;
pub mod shap;
pub mod slopes;
pub mod split;
pub mod survey;
pub mod tree;
pub mod wire;

/// Cells of a feature in a histogram: 255 bins of values and one of missing ones.
pub const CELLS: usize = 256;
/// Most bins of values that a feature may have.
pub const MOST_BINS: usize = CELLS - 1;
/// Most rows of a shard: a row of a shard is named by 16 bits.
pub const MOST_ROWS: usize = 1 << 16;
