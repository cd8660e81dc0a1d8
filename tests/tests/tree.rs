//! The tree's nodes stand twice, since `learn` and `cluster` do not know each other: they must mean the same.

use sheaf_cluster::coverage;
use sheaf_learn::tree;

#[test]
fn both_rooms_mean_the_same_tree() {
    for shards in (0..70).chain([1 << 20, u32::MAX]) {
        for level in (0..9).chain([31, 32, 64, u32::MAX]) {
            for index in (0..70).chain([u32::MAX]) {
                let decided = coverage::Block { level, index }.range(shards);
                assert_eq!(decided, tree::Block { level, index }.range(shards), "level {level} index {index} of {shards}");
            }
        }
    }
}

#[test]
fn both_rooms_cut_ranges_alike() {
    for shards in 1..40 {
        for start in 0..shards {
            for end in start..=shards {
                let decided = coverage::cover(start..end, shards).into_iter().map(|b| (b.level, b.index));
                let merged = tree::cover(start..end, shards).into_iter().map(|b| (b.level, b.index));
                assert!(decided.eq(merged), "{start}..{end} of {shards}");
            }
        }
    }
}
