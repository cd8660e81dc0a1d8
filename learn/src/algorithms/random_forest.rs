//! Random forests (L. Breiman, 2001): rows drawn with replacement, features drawn at every node.

use super::forests::{Forest, MANY, build, entry, from_params};
use crate::kernels::Level;
use crate::registry::Entry;
use crate::shard::Schema;

/// The line in the registry.
pub const ENTRY: Entry = entry(
    "random_forest",
    "the mean of trees on rows drawn with replacement and features drawn at every node",
    MANY,
    |spec, level| build(Forest::Random, spec, level),
    |params| from_params(Forest::Random, params, &Schema::default(), Level::detect()).map(|_| ()),
);
