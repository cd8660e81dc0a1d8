//! A decision tree.

use super::forests::{Forest, SINGLE, build, entry, from_params};
use crate::kernels::Level;
use crate::registry::Entry;
use crate::shard::Schema;

/// The line in the registry.
pub const ENTRY: Entry = entry(
    "decision_tree",
    "one tree",
    SINGLE,
    |spec, level| build(Forest::Single, spec, level),
    |params| from_params(Forest::Single, params, &Schema::default(), Level::detect()).map(|_| ()),
);
