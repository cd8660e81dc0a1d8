//! How a tree grows at the coordinator: which nodes' histograms are asked for, and which splits are taken.
//!
//! Of two siblings only the smaller is asked for, the other is parent − sibling. Depth-wise growth takes all splits of
//! a level; leaf-wise growth takes, step by step, those that gain at least half as much as the best, so that a tree
//! costs few steps. Histograms are never encoded: a tree that goes on from a checkpoint asks for both siblings once.

use serde::{Deserialize, Serialize};

use crate::algorithm::LearnError;
use crate::kernels::Level;
use crate::philox::Stream;

use super::CELLS;
use super::bins::Bins;
use super::grown::{Grown, Rule, Split, split_of};
use super::histogram::{Features, Histogram, Pair};
use super::params::{Growth, Settings};
use super::partial::LeafSum;
use super::split::{self, Candidate, Scale, Sides, leaf_value};

/// Part of the best gain from which a split is taken in the same step.
const NEAR_BEST: f64 = 0.5;
/// Share of features from which a histogram is of all of them.
const MOST: f64 = 0.7;

/// A tree under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Growing {
    /// Number of the tree.
    pub tree: u32,
    /// Units of gradients and hessians.
    pub scale: Scale,
    /// Splits so far.
    pub splits: Vec<Split>,
    nodes: Vec<Node>,
    asked: Vec<Asked>,
}

/// A node of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Node {
    depth: u32,
    rows: u64,
    total: Pair,
    bounds: [f64; 2],
    /// Features of the splits above.
    used: Vec<u32>,
    /// Added to `l2` if it is a leaf: its parent split many categories.
    more_l2: f64,
    best: Option<Candidate>,
    #[serde(skip)]
    sums: Option<Vec<Pair>>,
}

/// Nodes whose histograms are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Asked {
    parent: Option<u32>,
    small: u32,
    large: u32,
}

/// What growth depends on.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// Parameters.
    pub settings: &'a Settings,
    /// Bins of the features.
    pub bins: &'a Bins,
    /// Instruction set.
    pub level: Level,
}

/// Features that a tree may use, ascending.
pub fn features_of_tree(settings: &Settings, count: usize, tree: u32) -> Vec<u32> {
    draw(
        (0..count as u32).collect(),
        settings.colsample_bytree,
        Stream::new(settings.seed, "columns of a tree", u64::from(tree), 0),
    )
}

/// Features that histograms of a tree are of.
pub fn histogram_features(settings: &Settings, count: usize, tree: u32) -> Features {
    let chosen = features_of_tree(settings, count, tree);
    if chosen.len() as f64 >= MOST * count as f64 { Features::All } else { Features::Some(chosen) }
}

/// A share of some features, at least one, ascending.
fn draw(mut features: Vec<u32>, share: f64, stream: Stream) -> Vec<u32> {
    if share >= 1.0 || features.is_empty() {
        return features;
    }
    let count = ((features.len() as f64 * share + 0.5) as usize).max(1);
    features.sort_by_key(|&j| (stream.bits(u128::from(j)), j));
    features.truncate(count);
    features.sort_unstable();
    features
}

impl Growing {
    /// A root whose histogram is asked for.
    pub fn new(tree: u32, scale: Scale) -> Self {
        let root = Node {
            depth: 0,
            rows: 0,
            total: [0; 2],
            bounds: [f64::NEG_INFINITY, f64::INFINITY],
            used: Vec::new(),
            more_l2: 0.0,
            best: None,
            sums: None,
        };
        let asked = vec![Asked { parent: None, small: 0, large: 0 }];
        Self { tree, scale, splits: Vec::new(), nodes: vec![root], asked }
    }

    /// Nodes whose histograms the next step builds; none: the tree has all its splits.
    pub fn build(&self) -> Vec<u32> {
        self.asked.iter().flat_map(|asked| self.build_of(*asked)).collect()
    }

    fn build_of(&self, asked: Asked) -> Vec<u32> {
        match asked.parent {
            None => vec![asked.small],
            Some(parent) if self.nodes[parent as usize].sums.is_some() => vec![asked.small],
            Some(_) => vec![asked.small, asked.large],
        }
    }

    /// Takes in the histograms of [`Growing::build`], in its order, and takes splits.
    ///
    /// # Errors
    /// The histograms are not those that were asked for.
    pub fn take(&mut self, rules: Rules<'_>, histograms: Vec<Histogram>) -> Result<(), LearnError> {
        let features = rules.bins.features.len();
        if histograms.len() != self.build().len() || histograms.iter().any(|h| h.features() != features) {
            return Err(LearnError::Data("histograms are of other nodes than the step asked for".into()));
        }
        let mut histograms = histograms.into_iter();
        for asked in std::mem::take(&mut self.asked) {
            let built = self.build_of(asked);
            for &node in &built {
                let histogram = histograms.next().expect("counted above");
                self.set(node, histogram.rows(), histogram.into_sums());
            }
            if let Some(parent) = asked.parent {
                let sums = self.nodes[parent as usize].sums.take();
                if let Some(sums) = sums {
                    self.subtract(parent, asked, sums);
                }
            }
            let mut found = vec![asked.small];
            if asked.large != asked.small {
                found.push(asked.large);
            }
            for node in found {
                self.search(rules, node);
            }
        }
        self.advance(rules);
        Ok(())
    }

    fn set(&mut self, node: u32, rows: u64, sums: Vec<Pair>) {
        let node = &mut self.nodes[node as usize];
        node.rows = rows;
        node.sums = Some(sums);
    }

    /// The larger sibling is the parent without the smaller one.
    fn subtract(&mut self, parent: u32, asked: Asked, mut sums: Vec<Pair>) {
        let small = self.nodes[asked.small as usize].sums.as_ref().expect("set before");
        for (sum, own) in sums.iter_mut().zip(small) {
            sum[0] -= own[0];
            sum[1] -= own[1];
        }
        let rows = self.nodes[parent as usize].rows - self.nodes[asked.small as usize].rows;
        self.set(asked.large, rows, sums);
    }

    /// Finds the best split of a node.
    fn search(&mut self, rules: Rules<'_>, number: u32) {
        let settings = rules.settings;
        let features = self.allowed(rules, number);
        let node = &mut self.nodes[number as usize];
        let sums = node.sums.as_ref().expect("its histogram is in");
        if number == 0 {
            let first = features.first().map_or(0, |&j| j as usize);
            let cells = sums.iter().skip(first * CELLS).take(CELLS);
            node.total = cells.fold([0; 2], |t, c| [t[0] + c[0], t[1] + c[1]]);
        }
        if may_split(settings, node.depth, node.rows) {
            let view = split::Node { sums, rows: node.rows, total: node.total, scale: self.scale, bounds: node.bounds };
            let draws = Stream::new(settings.seed, "threshold", u64::from(self.tree), u64::from(number));
            let drawn = |feature: u32| settings.random_thresholds.then(|| draws.bits(u128::from(feature)));
            node.best = split::best(rules.level, &settings.regularization, rules.bins, view, &features, drawn);
        }
        if node.best.is_none() {
            node.sums = None;
        }
    }

    /// Features that a node may use, ascending.
    fn allowed(&self, rules: Rules<'_>, number: u32) -> Vec<u32> {
        let settings = rules.settings;
        let mut features = features_of_tree(settings, rules.bins.features.len(), self.tree);
        let used = &self.nodes[number as usize].used;
        if !settings.interactions.is_empty() {
            let groups = settings.interactions.iter().filter(|g| used.iter().all(|u| g.contains(u)));
            let allowed: Vec<u32> = groups.flatten().copied().collect();
            features.retain(|j| allowed.contains(j));
        }
        let draws = Stream::new(settings.seed, "columns of a node", u64::from(self.tree), u64::from(number));
        draw(features, settings.colsample_bynode, draws)
    }

    /// Takes splits until histograms are needed or nothing is left to take.
    fn advance(&mut self, rules: Rules<'_>) {
        loop {
            let chosen = self.choose(rules.settings);
            if chosen.is_empty() {
                break;
            }
            for node in chosen {
                self.split(rules, node);
            }
            if self.splits.len() + 1 >= rules.settings.max_leaves as usize {
                self.asked.clear();
                break;
            }
            if !self.asked.is_empty() {
                return;
            }
        }
        // The tree has all its splits.
        self.nodes.iter_mut().for_each(|n| (n.sums, n.best) = (None, None));
    }

    /// Nodes that are split now, ascending.
    fn choose(&self, settings: &Settings) -> Vec<u32> {
        let room = (settings.max_leaves as usize).saturating_sub(self.splits.len() + 1);
        let mut open: Vec<(f64, u32)> =
            self.nodes.iter().enumerate().filter_map(|(i, n)| n.best.as_ref().map(|b| (b.gain, i as u32))).collect();
        open.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let floor = match settings.growth {
            Growth::DepthWise => 0.0,
            Growth::LeafWise => open.first().map_or(0.0, |best| best.0 * NEAR_BEST),
        };
        let mut chosen: Vec<u32> = open.into_iter().take(room).filter(|(gain, _)| *gain >= floor).map(|(_, i)| i).collect();
        chosen.sort_unstable();
        chosen
    }

    fn split(&mut self, rules: Rules<'_>, number: u32) {
        let settings = rules.settings;
        let node = &mut self.nodes[number as usize];
        let best = node.best.take().expect("chosen for its split");
        let first = 2 * self.splits.len() as u32 + 1;
        self.splits.push(Split { node: number, feature: best.feature, rule: best.rule, gain: best.gain });
        let bounds = child_bounds(settings, node, &best, self.scale);
        let share = |sums: Pair| (node.rows as f64 * (sums[1] as f64 / node.total[1] as f64) + 0.5) as u64;
        let mut used = node.used.clone();
        if !settings.interactions.is_empty() && !used.contains(&best.feature) {
            used.push(best.feature);
        }
        let depth = node.depth + 1;
        let children = [(best.left, bounds[0]), (best.right, bounds[1])].map(|(total, bounds)| Node {
            depth,
            rows: share(total),
            total,
            bounds,
            used: used.clone(),
            more_l2: best.more_l2,
            best: None,
            sums: None,
        });
        if children.iter().any(|c| may_split(settings, c.depth, c.rows)) {
            let left_is_small = best.left[1] <= best.right[1];
            let (small, large) = if left_is_small { (first, first + 1) } else { (first + 1, first) };
            self.asked.push(Asked { parent: Some(number), small, large });
        } else {
            node.sums = None;
        }
        self.nodes.extend(children);
    }

    /// Leaves of the tree, ascending.
    pub fn leaves(&self) -> Vec<u32> {
        let splits = split_of(&self.splits);
        (0..splits.len() as u32).filter(|&i| splits[i as usize].is_none()).collect()
    }

    /// The finished tree from the exact sums of its leaves, in their order.
    ///
    /// # Errors
    /// The sums are not one for each leaf.
    pub fn finish(&self, settings: &Settings, sums: &[LeafSum]) -> Result<Grown, LearnError> {
        let leaves = self.leaves();
        if leaves.len() != sums.len() {
            return Err(LearnError::Data(format!("{} sums came for {} leaves", sums.len(), leaves.len())));
        }
        let nodes = self.nodes.len();
        let mut out =
            Grown { splits: self.splits.clone(), values: vec![0.0; nodes], covers: vec![0.0; nodes], rows: vec![0; nodes] };
        let rules = &settings.regularization;
        for (&leaf, sum) in leaves.iter().zip(sums) {
            let leaf = leaf as usize;
            let [g, h] = sum.real(self.scale);
            let l2 = rules.l2 + self.nodes[leaf].more_l2;
            out.values[leaf] = settings.learning_rate * leaf_value(g, h, rules.l1, l2, self.nodes[leaf].bounds);
            out.covers[leaf] = h;
            out.rows[leaf] = sum.rows;
        }
        for (i, split) in self.splits.iter().enumerate().rev() {
            let (node, left) = (split.node as usize, 2 * i + 1);
            out.covers[node] = out.covers[left] + out.covers[left + 1];
            out.rows[node] = out.rows[left] + out.rows[left + 1];
        }
        Ok(out)
    }
}

/// Whether a node of this depth and about these rows may be split.
fn may_split(settings: &Settings, depth: u32, rows: u64) -> bool {
    settings.max_depth.is_none_or(|most| depth < most) && rows >= 2 * u64::from(settings.regularization.min_samples_leaf)
}

/// Bounds of the children: on either side of the middle, where the feature is monotone.
fn child_bounds(settings: &Settings, node: &Node, best: &Candidate, scale: Scale) -> [[f64; 2]; 2] {
    let monotone = settings.regularization.monotone.get(best.feature as usize).copied().unwrap_or(0);
    if monotone == 0 || !matches!(best.rule, Rule::Below { .. }) {
        return [node.bounds; 2];
    }
    let view = split::Node { sums: &[], rows: node.rows, total: node.total, scale, bounds: node.bounds };
    let sides = Sides::new(&settings.regularization, view);
    let middle = (sides.value(best.left) + sides.value(best.right)) * 0.5;
    let [low, high] = node.bounds;
    if monotone > 0 { [[low, middle], [middle, high]] } else { [[middle, high], [low, middle]] }
}
