//! The tree engine: histograms of integers over binned columns. Forests and boosting are made of it.
//!
//! Integers are what makes a tree the same on any cluster: gradients are rounded to 16 bits by a scale that is a
//! function of the data alone, their sums commute, and every decision is taken from the sums. Leaf values come from
//! sums in 32 more bits. What is float (gradients, gains, scores) is computed in a fixed order, without FMA and libm.
//!
//! * data: [`sample`] → [`edges`] → [`bins`] → [`layout`]
//! * a level of a tree on a shard: [`partition`], [`histogram`]; on the wire: [`wire`]; what is left of it: [`sums`]
//! * at the coordinator: [`split`] and [`category`] find splits, of a range of features each ([`ranges`]); [`growth`]
//!   decides which to take, for several trees side by side ([`batch`])
//! * beside the usual: [`renewal`] (leaves that are quantiles of residuals), [`dropout`] (trees that are left out for a while)
//! * what is left: [`grown`] (in bins, what workers apply) and [`tree`] (in values, what a model keeps)
//! * beside predictions: [`importance`], [`shap`]
//! * gradients: [`slopes`] of rows, [`queries`] of rankings
//! * [`boosting`] runs them as an [`crate::algorithm::Algorithm`], with an [`objective`]

mod ahead;
pub mod batch;
mod beginning;
pub mod bins;
pub mod boosting;
pub mod category;
pub mod dropout;
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
pub mod queries;
pub mod ranges;
pub mod renewal;
mod renewing;
mod rounds;
pub mod sample;
mod scored;
pub mod shap;
pub mod slopes;
pub mod split;
pub mod sums;
pub mod survey;
pub mod tree;
pub mod wire;
mod work;

/// Cells of a feature in a histogram: 255 bins of values and one of missing ones.
pub const CELLS: usize = 256;
/// Most bins of values that a feature may have.
pub const MOST_BINS: usize = CELLS - 1;
/// Most rows of a shard: a row of a shard is named by 16 bits.
pub const MOST_ROWS: usize = 1 << 16;
