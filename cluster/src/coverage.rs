//! Which shards a step has got: dyadic blocks of the fixed reduction tree and the exact coverage set.
//! A shard is covered once or not at all; what comes again is compared and dropped.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

/// A complete, aligned sub-tree: shards `[index << level, (index + 1) << level)`, cut at the number of
/// shards. The same tree as the one partials merge along.
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
    pub fn range(self, shards: u32) -> Range<u32> {
        let edge = |index: u64| {
            let edge = u128::from(index) << self.level.min(64);
            // At most `shards`, so it fits.
            edge.min(u128::from(shards)) as u32
        };
        edge(u64::from(self.index))..edge(u64::from(self.index) + 1)
    }

    /// Whether the block is a node of the tree over `shards`, with at least one shard below it.
    pub fn fits(self, shards: u32) -> bool {
        self.level <= height(shards) && !self.range(shards).is_empty()
    }
}

/// Level of the root of a tree over `shards` leaves.
fn height(shards: u32) -> u32 {
    u64::from(shards.max(1)).next_power_of_two().trailing_zeros()
}

/// The fewest blocks that cover `range` exactly, left to right, in the tree over `shards` leaves.
pub fn cover(range: Range<u32>, shards: u32) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut at = range.start;
    let end = range.end.min(shards);
    while at < end {
        let mut level = if at == 0 { height(shards) } else { at.trailing_zeros().min(height(shards)) };
        // A level-0 block is one shard, so this ends.
        while (Block { level, index: shifted(at, level) }).range(shards).end > end {
            level -= 1;
        }
        let block = Block { level, index: shifted(at, level) };
        at = block.range(shards).end;
        blocks.push(block);
    }
    blocks
}

fn shifted(at: u32, level: u32) -> u32 {
    (u64::from(at) >> level) as u32
}

/// What became of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Insert {
    /// It covers shards that nothing covered: taken.
    Fresh,
    /// The very same block, with the same bytes, was taken before.
    Repeated,
    /// The very same block was taken before with other bytes: somebody computes differently.
    Differs,
    /// It covers shards that other blocks cover, wholly or in part.
    Overlaps,
}

/// The shards of one step that are in: disjoint ranges, each with the digest of its bytes.
#[derive(Debug, Clone, Default)]
pub struct Coverage {
    shards: u32,
    covered: u32,
    taken: BTreeMap<u32, (u32, u64)>,
}

impl Coverage {
    /// Nothing of `shards` is in.
    pub fn new(shards: u32) -> Self {
        Self { shards, covered: 0, taken: BTreeMap::new() }
    }

    /// Number of shards that are in.
    pub fn covered(&self) -> u32 {
        self.covered
    }

    /// Whether every shard is in.
    pub fn is_complete(&self) -> bool {
        self.covered == self.shards
    }

    /// Whether this shard is in.
    pub fn contains(&self, shard: u32) -> bool {
        self.taken.range(..=shard).next_back().is_some_and(|(_, (end, _))| shard < *end)
    }

    /// What [`insert`](Self::insert) would say, changing nothing. Blocks of different levels over the
    /// same shards are the same block: the missing leaves of a tree are `None`.
    pub fn check(&self, range: Range<u32>, digest: u64) -> Insert {
        match self.taken.range(..range.end).next_back() {
            Some((start, (end, known))) if *start == range.start && *end == range.end => {
                if *known == digest {
                    Insert::Repeated
                } else {
                    Insert::Differs
                }
            }
            Some((_, (end, _))) if *end > range.start => Insert::Overlaps,
            _ => Insert::Fresh,
        }
    }

    /// Takes a block's range in if nothing of it is covered. `range` is not empty and inside the dataset.
    pub fn insert(&mut self, range: Range<u32>, digest: u64) -> Insert {
        let verdict = self.check(range.clone(), digest);
        if verdict == Insert::Fresh {
            self.covered += range.end - range.start;
            self.taken.insert(range.start, (range.end, digest));
        }
        verdict
    }

    /// The parts of `range` that are not in, ascending.
    pub fn missing(&self, range: Range<u32>) -> Vec<Range<u32>> {
        let mut gaps = Vec::new();
        let first = self.taken.range(..=range.start).next_back().map_or(range.start, |(_, (end, _))| *end);
        let mut at = range.start.max(first);
        for (start, (end, _)) in self.taken.range(at..range.end.max(at)) {
            if at < *start {
                gaps.push(at..*start);
            }
            at = *end;
        }
        if at < range.end {
            gaps.push(at..range.end);
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(level: u32, index: u32) -> Block {
        Block { level, index }
    }

    #[test]
    fn ranges_are_cut_at_the_end_of_the_dataset() {
        assert_eq!(block(2, 1).range(7), 4..7);
        assert_eq!(block(3, 0).range(7), 0..7);
        assert_eq!(block(0, 6).range(7), 6..7);
        assert!(block(0, 7).range(7).is_empty());
    }

    #[test]
    fn absurd_blocks_from_a_wire_do_not_fit() {
        for (level, index) in [(4, 0), (32, 0), (64, 1), (u32::MAX, u32::MAX), (0, u32::MAX), (63, 2)] {
            assert!(!block(level, index).fits(7), "{level} {index}");
        }
        assert!(block(3, 0).fits(7));
        assert!(!block(0, 0).fits(0));
        assert!(block(32, 0).fits(u32::MAX));
        assert_eq!(block(32, 0).range(u32::MAX), 0..u32::MAX);
    }

    #[test]
    fn cover_is_exact_and_minimal() {
        let check = |range: Range<u32>, shards, expected: &[(u32, u32)]| {
            let expected: Vec<_> = expected.iter().map(|(level, index)| block(*level, *index)).collect();
            assert_eq!(cover(range, shards), expected);
        };
        check(0..8, 8, &[(3, 0)]);
        check(0..7, 7, &[(3, 0)]);
        check(4..7, 7, &[(2, 1)]);
        check(4..5, 5, &[(2, 1)]);
        check(3..8, 8, &[(0, 3), (2, 1)]);
        check(1..7, 8, &[(0, 1), (1, 1), (1, 2), (0, 6)]);
        check(2..2, 8, &[]);
        check(0..1, 1, &[(0, 0)]);
    }

    #[test]
    fn every_shard_counts_once() {
        let mut coverage = Coverage::new(8);
        assert_eq!(coverage.insert(4..8, 7), Insert::Fresh);
        assert_eq!(coverage.insert(4..8, 7), Insert::Repeated);
        assert_eq!(coverage.insert(4..8, 8), Insert::Differs);
        assert_eq!(coverage.insert(4..6, 1), Insert::Overlaps);
        assert_eq!(coverage.insert(0..8, 1), Insert::Overlaps);
        assert_eq!(coverage.insert(6..7, 1), Insert::Overlaps);
        assert_eq!(coverage.insert(2..4, 1), Insert::Fresh);
        assert_eq!(coverage.covered(), 6);
        assert!(!coverage.is_complete() && coverage.contains(3) && !coverage.contains(1));
        assert_eq!(coverage.insert(0..2, 1), Insert::Fresh);
        assert!(coverage.is_complete());
    }

    #[test]
    fn missing_lists_the_gaps() {
        let mut coverage = Coverage::new(16);
        assert_eq!(coverage.missing(3..9), vec![3..9]);
        coverage.insert(4..8, 0);
        coverage.insert(10..11, 0);
        assert_eq!(coverage.missing(0..16), vec![0..4, 8..10, 11..16]);
        assert_eq!(coverage.missing(4..8), vec![]);
        assert_eq!(coverage.missing(5..7), vec![]);
        assert_eq!(coverage.missing(6..9), vec![8..9]);
        assert_eq!(coverage.missing(3..5), vec![3..4]);
    }
}
