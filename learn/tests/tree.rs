//! The reduction tree: any partition of the shards, any order of arrival, gives the plain reduction; a cover is
//! complete, aligned and as small as it can be.

use std::convert::Infallible;

use proptest::prelude::*;
use sheaf_learn::tree::{Block, Merger, cover, reduce, root};

/// Shows the shape of the tree: any other bracketing gives another text.
fn merge(left: String, right: String) -> Result<String, Infallible> {
    Ok(format!("({left} {right})"))
}

fn leaves(present: &[bool]) -> Vec<Option<String>> {
    present.iter().enumerate().map(|(i, p)| p.then(|| i.to_string())).collect()
}

/// The definition: halves at the largest power of two below, missing leaves are nothing.
fn by_definition(leaves: &[Option<String>], width: usize) -> Option<String> {
    if width == 1 {
        return leaves.first().cloned().flatten();
    }
    let (left, right) = leaves.split_at((width / 2).min(leaves.len()));
    match (by_definition(left, width / 2), by_definition(right, width / 2)) {
        (Some(a), Some(b)) => merge(a, b).ok(),
        (a, b) => a.or(b),
    }
}

/// Smallest number of aligned blocks (cut at the end) for a range, by trying every first block.
fn fewest(range: std::ops::Range<u32>, shards: u32) -> usize {
    if range.is_empty() {
        return 0;
    }
    let blocks = (0..=root(shards).level).filter(|level| range.start.is_multiple_of(1 << level));
    let ends = blocks.map(|level| Block { level, index: range.start >> level }.range(shards).end);
    ends.filter(|end| *end <= range.end).map(|end| 1 + fewest(end..range.end, shards)).min().expect("level 0 fits")
}

/// Sorted cut points from 0 to `shards`.
fn cuts(shards: usize, inner: &[usize]) -> Vec<usize> {
    let mut cuts: Vec<usize> = inner.iter().map(|c| c % (shards + 1)).chain([0, shards]).collect();
    cuts.sort_unstable();
    cuts.dedup();
    cuts
}

proptest! {
    #[test]
    fn any_partition_in_any_order_is_the_plain_reduction(
        present in prop::collection::vec(prop::bool::weighted(0.8), 1..70),
        inner in prop::collection::vec(0usize..1000, 0..8),
        keys in prop::collection::vec(any::<u32>(), 70),
    ) {
        let shards = present.len();
        let expected = reduce(leaves(&present), merge).unwrap();
        prop_assert_eq!(&expected, &by_definition(&leaves(&present), shards.next_power_of_two()));
        let mut blocks = Vec::new();
        for pair in cuts(shards, &inner).windows(2) {
            let mut order: Vec<usize> = (pair[0]..pair[1]).collect();
            order.sort_by_key(|i| keys[*i]);
            let mut merger = Merger::new(shards as u32);
            for i in order {
                merger.insert(Block { level: 0, index: i as u32 }, leaves(&present)[i].clone(), merge).unwrap();
            }
            let sent = merger.into_blocks();
            let mut covered = cover(pair[0] as u32..pair[1] as u32, shards as u32);
            covered.sort_unstable();
            prop_assert_eq!(sent.iter().map(|(block, _)| *block).collect::<Vec<_>>(), covered);
            blocks.extend(sent);
        }
        blocks.sort_by_key(|(block, _)| keys[block.range(shards as u32).start as usize].rotate_left(7));
        let mut merger = Merger::new(shards as u32);
        for (block, value) in blocks {
            merger.insert(block, value, merge).unwrap();
        }
        prop_assert_eq!(merger.total(), Some(expected));
    }

    #[test]
    fn a_cover_is_complete_aligned_and_minimal(shards in 1u32..40, a in 0u32..41, b in 0u32..60) {
        let range = a.min(b).min(shards)..b.max(a);
        let blocks = cover(range.clone(), shards);
        let mut at = range.start;
        for block in &blocks {
            let covered = block.range(shards);
            prop_assert_eq!(covered.start, at);
            prop_assert!(covered.end > covered.start);
            prop_assert!(block.level <= root(shards).level);
            at = covered.end;
        }
        let end = range.end.min(shards);
        prop_assert_eq!(at, end.max(range.start));
        prop_assert_eq!(blocks.len(), fewest(range.start..end, shards));
    }

    #[test]
    fn a_total_needs_every_shard(shards in 2u32..40, missing in 0u32..40) {
        let missing = missing % shards;
        let mut merger = Merger::new(shards);
        for index in (0..shards).filter(|i| *i != missing) {
            merger.insert(Block { level: 0, index }, Some(index.to_string()), merge).unwrap();
        }
        prop_assert_eq!(merger.total(), None);
    }
}

#[test]
fn no_shards_no_total() {
    assert_eq!(reduce(Vec::<Option<String>>::new(), merge).unwrap(), None);
    assert!(cover(0..0, 0).is_empty());
}

#[test]
fn a_range_is_total_for_any_block_of_a_wire() {
    for shards in [0, 1, 7, 1 << 31, u32::MAX] {
        for level in [0, 1, 31, 32, 33, 63, 64, 65, 127, 128, u32::MAX] {
            for index in [0, 1, 2, 1 << 31, u32::MAX] {
                let block = Block { level, index };
                let range = block.range(shards);
                let edge = |index: u128| (index << level.min(64)).min(u128::from(shards)) as u32;
                assert_eq!(range, edge(u128::from(index))..edge(u128::from(index) + 1), "{block:?} of {shards}");
                assert!(range.start <= range.end && range.end <= shards);
                assert_eq!((block.sibling().level, block.parent().index), (level, index / 2));
            }
        }
    }
    assert_eq!(Block { level: u32::MAX, index: 0 }.range(9), 0..9);
    assert!(Block { level: u32::MAX, index: 1 }.range(9).is_empty());
}

#[test]
fn the_largest_datasets_have_a_root_above_every_shard() {
    for shards in [(1 << 31) + 1, u32::MAX] {
        assert_eq!(root(shards), Block { level: 32, index: 0 });
        assert_eq!(root(shards).range(shards), 0..shards);
        assert_eq!(cover(0..shards, shards), [root(shards)]);
    }
}
