//! The fixed reduction tree over shard indices: dyadic blocks, the merger that needs no order of
//! arrival, and the plain reduction used in one process. An empty shard is the leaf `None`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A complete, aligned sub-tree: shards `[index << level, (index + 1) << level)`, cut at the number of shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Block {
    /// Height; 0 is a single shard.
    pub level: u32,
    /// Position among the blocks of its level.
    pub index: u32,
}

impl Block {
    /// First shard and the shard after the last, for a dataset of `shards`. Empty if the block lies
    /// outside. Any level is legal here: it may come from a wire.
    pub fn range(self, shards: u32) -> std::ops::Range<u32> {
        let edge = |index: u64| {
            let edge = u128::from(index) << self.level.min(64);
            // At most `shards`, so it fits.
            edge.min(u128::from(shards)) as u32
        };
        edge(u64::from(self.index))..edge(u64::from(self.index) + 1)
    }

    /// The block above.
    pub fn parent(self) -> Block {
        Block { level: self.level.saturating_add(1), index: self.index / 2 }
    }

    /// The other half of the parent.
    pub fn sibling(self) -> Block {
        Block { level: self.level, index: self.index ^ 1 }
    }
}

/// The root block of a tree over `shards` leaves.
pub fn root(shards: u32) -> Block {
    Block { level: u64::from(shards.max(1)).next_power_of_two().trailing_zeros(), index: 0 }
}

/// The fewest complete blocks that cover `range` (cut at `shards`) exactly, left to right. A block may reach past
/// `shards` (its missing leaves are `None`).
pub fn cover(range: std::ops::Range<u32>, shards: u32) -> Vec<Block> {
    let mut out = Vec::new();
    let mut at = u64::from(range.start);
    let top = root(shards).level;
    let end = range.end.min(shards);
    while at < u64::from(end) {
        let mut level = if at == 0 { top } else { at.trailing_zeros().min(top) };
        loop {
            let block = Block { level, index: (at >> level) as u32 };
            if block.range(shards).end <= end {
                out.push(block);
                at = u64::from(block.range(shards).end);
                break;
            }
            level -= 1;
        }
    }
    out
}

/// merge(None, x) = x.
pub fn join<T, E>(left: Option<T>, right: Option<T>, merge: impl FnOnce(T, T) -> Result<T, E>) -> Result<Option<T>, E> {
    match (left, right) {
        (Some(a), Some(b)) => merge(a, b).map(Some),
        (a, b) => Ok(a.or(b)),
    }
}

/// Merges blocks as they come, in any order, always along the tree.
#[derive(Debug)]
pub struct Merger<T> {
    shards: u32,
    waiting: BTreeMap<Block, Option<T>>,
}

impl<T> Merger<T> {
    /// A merger for a tree over `shards` leaves.
    pub fn new(shards: u32) -> Self {
        Self { shards, waiting: BTreeMap::new() }
    }

    /// Takes in a block that covers nothing covered before (the caller's coverage set sees to that) and
    /// merges upwards as far as siblings are there.
    pub fn insert<E>(
        &mut self,
        mut block: Block,
        mut value: Option<T>,
        mut merge: impl FnMut(T, T) -> Result<T, E>,
    ) -> Result<(), E> {
        let top = root(self.shards);
        while block.level < top.level {
            let sibling = block.sibling();
            let beside = if sibling.range(self.shards).is_empty() { Some(None) } else { self.waiting.remove(&sibling) };
            let Some(beside) = beside else { break };
            let (left, right) = if block.index.is_multiple_of(2) { (value, beside) } else { (beside, value) };
            value = join(left, right, &mut merge)?;
            block = block.parent();
        }
        self.waiting.insert(block, value);
        Ok(())
    }

    /// The blocks as far as they are merged: on a worker, what it sends.
    pub fn into_blocks(self) -> Vec<(Block, Option<T>)> {
        self.waiting.into_iter().collect()
    }

    /// The total, once every shard is in; else `None`.
    pub fn total(mut self) -> Option<Option<T>> {
        self.waiting.remove(&root(self.shards))
    }
}

/// Reduces leaves (one per shard, in order) along the fixed tree.
pub fn reduce<T, E>(leaves: Vec<Option<T>>, mut merge: impl FnMut(T, T) -> Result<T, E>) -> Result<Option<T>, E> {
    let mut merger = Merger::new(leaves.len() as u32);
    if leaves.is_empty() {
        return Ok(None);
    }
    for (index, leaf) in leaves.into_iter().enumerate() {
        merger.insert(Block { level: 0, index: index as u32 }, leaf, &mut merge)?;
    }
    Ok(merger.total().flatten())
}
