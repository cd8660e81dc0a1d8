//! Extremely randomized trees (P. Geurts, D. Ernst and L. Wehenkel, 2006): one drawn threshold a feature and node.

use super::forests::{Forest, MANY, build, entry, from_params};
use crate::kernels::Level;
use crate::registry::Entry;
use crate::shard::Schema;

/// The line in the registry.
pub const ENTRY: Entry = entry(
    "extra_trees",
    "the mean of trees whose thresholds are drawn",
    MANY,
    |spec, level| build(Forest::Extra, spec, level),
    |params| from_params(Forest::Extra, params, &Schema::default(), Level::detect()).map(|_| ()),
);
