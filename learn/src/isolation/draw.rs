//! Whom a tree sees: of all training rows those with the smallest of the numbers drawn by (seed, tree, shard, row). The
//! smallest of two sets are among the smallest of each, so sets merge in any order and grouping.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::philox::Stream;
use crate::shard::{Column, EncodedShard, FeatureKind, Schema, Segment};
use crate::trees::bins::round_up;

/// The value of a category that has no slot.
pub const NO_SLOT: u32 = u32::MAX;
/// The bits of a number that is missing.
const MISSING: u32 = 0x7fc0_0000;
/// Trees that share the 128 bits drawn for a row.
pub const TOGETHER: u32 = 2;

/// A row that was drawn for a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drawn {
    /// What was drawn for it.
    pub number: u64,
    /// Its shard.
    pub shard: u32,
    /// Its place in the shard.
    pub row: u32,
    /// A value a feature: the bits of a number rounded up to f32, or the slot of a category.
    pub values: Vec<u32>,
}

impl Drawn {
    fn key(&self) -> (u64, u32, u32) {
        (self.number, self.shard, self.row)
    }
}

/// Rows drawn for some trees.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Most rows of a tree.
    pub size: u32,
    /// Training rows that were looked at.
    pub rows: u64,
    /// Rows of each tree, ascending by what was drawn.
    pub trees: Vec<Vec<Drawn>>,
}

impl Sample {
    /// Nothing yet, for so many trees.
    pub fn new(size: u32, trees: u32) -> Self {
        Self { size, rows: 0, trees: vec![Vec::new(); trees as usize] }
    }

    /// Whether both are of one question.
    pub fn is_like(&self, other: &Self) -> bool {
        self.size == other.size && self.trees.len() == other.trees.len()
    }

    /// Takes in another one.
    pub fn merge(&mut self, other: Self) {
        self.rows += other.rows;
        for (own, other) in self.trees.iter_mut().zip(other.trees) {
            own.extend(other);
            keep_smallest(own, self.size as usize);
        }
    }

    /// Draws among the training rows of a shard, for trees from number `first` (a multiple of [`TOGETHER`]) on.
    ///
    /// # Panics
    /// If the shard does not follow the schema.
    pub fn add(&mut self, seed: u64, first: u32, schema: &Schema, shard: &EncodedShard) {
        let rows = shard.range(Segment::Train);
        self.rows += rows.len() as u64;
        let size = self.size as usize;
        for (pair, own) in self.trees.chunks_mut(TOGETHER as usize).enumerate() {
            let step = u64::from(first / TOGETHER) + pair as u64;
            let stream = Stream::new(seed, "isolation rows", step, u64::from(shard.index));
            let found = smallest(stream, rows.clone(), own, size);
            for (own, found) in own.iter_mut().zip(found) {
                own.extend(found.into_iter().map(|(number, row)| {
                    let values = values(schema, shard, row as usize);
                    Drawn { number, shard: shard.index, row, values }
                }));
                keep_smallest(own, size);
            }
        }
    }
}

/// Rows that may be among the smallest of two trees, with what was drawn for them.
fn smallest(stream: Stream, rows: Range<usize>, own: &[Vec<Drawn>], size: usize) -> [Vec<(u64, u32)>; TOGETHER as usize] {
    let most = |tree: usize| own.get(tree).and_then(|own| own.get(size - 1)).map_or(u64::MAX, |last| last.number);
    let most = [most(0), most(1)];
    let mut out = [Vec::new(), Vec::new()];
    for row in rows {
        let block = stream.block(row as u128);
        for (tree, (found, most)) in out.iter_mut().zip(most).enumerate().take(own.len()) {
            let number = u64::from(block[2 * tree]) | u64::from(block[2 * tree + 1]) << 32;
            if number <= most {
                found.push((number, row as u32));
            }
        }
    }
    for found in &mut out {
        if found.len() > size {
            found.select_nth_unstable(size - 1);
            found.truncate(size);
        }
    }
    out
}

fn keep_smallest(rows: &mut Vec<Drawn>, size: usize) {
    rows.sort_unstable_by_key(Drawn::key);
    rows.truncate(size);
}

/// The values of a row.
fn values(schema: &Schema, shard: &EncodedShard, row: usize) -> Vec<u32> {
    let of = |(column, kind): (&Column, &FeatureKind)| match (column, kind) {
        (Column::F32(x), _) => bits(f64::from(x[row])),
        (Column::F64(x), _) => bits(x[row]),
        (Column::Code(x), FeatureKind::Slots { names }) if (x[row] as usize) < names.len() => x[row],
        _ => NO_SLOT,
    };
    shard.columns.iter().zip(schema.features.iter().map(|f| &f.kind)).map(of).collect()
}

/// One pattern for what is missing, one for zero.
fn bits(x: f64) -> u32 {
    let x = round_up(x);
    if x.is_nan() { MISSING } else { (x + 0.0).to_bits() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::Feature;

    fn shard(index: u32, rows: usize) -> EncodedShard {
        let column = Column::F64((0..rows).map(|i| f64::from(index) * 1e3 + i as f64).collect());
        EncodedShard { index, rows, bounds: [0, rows - 1, rows, rows], columns: vec![column], ..Default::default() }
    }

    fn schema() -> Schema {
        let kind = FeatureKind::Numeric { shift: 0.0, scale: 1.0 };
        Schema { features: vec![Feature { name: "x".into(), kind }], classes: Vec::new() }
    }

    #[test]
    fn the_smallest_are_drawn_in_any_order_and_grouping() {
        let shards: Vec<EncodedShard> = (0..7).map(|i| shard(i, 50 + i as usize)).collect();
        let sample = |order: &[usize]| {
            let mut out = Sample::new(20, 3);
            order.iter().for_each(|&i| out.add(5, 4, &schema(), &shards[i]));
            out
        };
        let whole = sample(&[0, 1, 2, 3, 4, 5, 6]);
        let mut parts = sample(&[6, 2]);
        parts.merge(sample(&[5, 0, 1]));
        parts.merge(sample(&[4, 3]));
        assert_eq!(parts, whole);
        assert_eq!(whole.rows, 7 * 49 + 21);
        assert!(whole.trees.iter().all(|t| t.len() == 20) && whole.trees[0] != whole.trees[1]);
        // By hand: what is drawn for every row, sorted.
        let stream = |shard: u32| Stream::new(5, "isolation rows", 2, u64::from(shard));
        let mut all: Vec<(u64, u32, u32)> = (0..7u32)
            .flat_map(|s| (0..49 + s).map(move |r| (s, r)))
            .map(|(s, r)| (stream(s).bits(u128::from(r)), s, r))
            .collect();
        all.sort_unstable();
        assert!(whole.trees[0].iter().map(Drawn::key).eq(all[..20].iter().copied()));
        let first = &whole.trees[0][0];
        assert_eq!(f32::from_bits(first.values[0]), first.shard as f32 * 1e3 + first.row as f32);
    }

    #[test]
    fn fewer_rows_than_a_sample_are_all_drawn() {
        let mut sample = Sample::new(256, 1);
        sample.add(1, 0, &schema(), &shard(0, 31));
        let mut rows: Vec<u32> = sample.trees[0].iter().map(|d| d.row).collect();
        rows.sort_unstable();
        assert!(rows.into_iter().eq(0..30));
    }
}
