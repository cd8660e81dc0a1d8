//! Trees in bins: what workers apply. Splits stand in the order in which they were taken; split `i` makes the nodes
//! `2i + 1` (left) and `2i + 2`, node 0 is the root.

use serde::{Deserialize, Serialize};

use super::CELLS;
use super::bins::{Bins, FeatureBins};
use super::layout::Binned;

/// A node is split in two.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Split {
    /// The node.
    pub node: u32,
    /// The feature that decides.
    pub feature: u32,
    /// How.
    pub rule: Rule,
    /// What the split gains: twice the objective's decrease.
    pub gain: f64,
}

/// Which bins go left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rule {
    /// Those up to a bin.
    Below {
        /// The last bin that goes left.
        bin: u8,
        /// Whether missing values go left.
        missing_left: bool,
    },
    /// A set of bins, the missing one among them or not.
    Among([u64; CELLS / 64]),
}

impl Rule {
    /// Whether a bin goes left; `missing` is the feature's bin of missing values.
    #[inline(always)]
    pub fn goes_left(self, bin: u8, missing: u8) -> bool {
        match self {
            Rule::Below { missing_left, .. } if bin == missing => missing_left,
            Rule::Below { bin: last, .. } => bin <= last,
            Rule::Among(set) => set[usize::from(bin) / 64] >> (bin % 64) & 1 == 1,
        }
    }

    /// 1 for every bin that goes left.
    pub fn table(self, feature: &FeatureBins) -> [u8; CELLS] {
        let missing = feature.missing();
        std::array::from_fn(|bin| u8::from(self.goes_left(bin as u8, missing)))
    }
}

/// A finished tree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Grown {
    /// In the order in which they were taken.
    pub splits: Vec<Split>,
    /// Of each split, its number among those that workers applied while the tree grew.
    pub taken: Vec<u32>,
    /// What a leaf adds to the score, by node; of other nodes 0.
    pub values: Vec<f64>,
    /// Sum of hessians of the rows of a node, by node.
    pub covers: Vec<f64>,
    /// Rows of a node, by node.
    pub rows: Vec<u64>,
}

impl Grown {
    /// The split of each node; `None` of a leaf.
    pub fn split_of(&self) -> Vec<Option<u32>> {
        split_of(&self.splits)
    }

    /// A node's number while the tree grew.
    pub fn node_then(&self, node: usize) -> usize {
        match node.checked_sub(1) {
            None => 0,
            Some(child) => 2 * self.taken[child / 2] as usize + 1 + child % 2,
        }
    }

    /// How many splits have to be applied that all its nodes are there.
    pub fn splits_then(&self) -> usize {
        self.taken.iter().max().map_or(0, |last| *last as usize + 1)
    }
}

/// The split of each node; `None` of a leaf.
pub fn split_of(splits: &[Split]) -> Vec<Option<u32>> {
    let mut out = vec![None; 2 * splits.len() + 1];
    for (i, split) in splits.iter().enumerate() {
        out[split.node as usize] = Some(i as u32);
    }
    out
}

/// Leaf of a binned row.
pub fn leaf_of(splits: &[Split], split_of: &[Option<u32>], bins: &Bins, binned: &Binned, row: usize) -> usize {
    let mut node = 0;
    while let Some(i) = split_of[node] {
        let split = &splits[i as usize];
        let feature = split.feature as usize;
        let left = split.rule.goes_left(binned.bin(row, feature), bins.features[feature].missing());
        node = 2 * i as usize + if left { 1 } else { 2 };
    }
    node
}
