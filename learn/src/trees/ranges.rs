//! Ranges of features and who owns them. An owner takes the histograms of its range, keeps what siblings are made from
//! by subtraction, and answers with the best split of its range; whoever asks chooses among the answers. Questions and
//! answers are data, and owners know nothing of each other: they may stand side by side, or on different machines.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::kernels::Level;
use crate::philox::Stream;

use super::bins::Bins;
use super::histogram::{Features, Histogram, Pair};
use super::layout::PER_WORD;
use super::params::Settings;
use super::split::{self, Candidate, Scale};
use super::sums::Sums;

/// Share of features from which a histogram is of all of them.
const MOST: f64 = 0.7;

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

/// Two siblings, or the root, whose best splits are asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// Number of the tree.
    pub tree: u32,
    /// Units of gradients and hessians.
    pub scale: Scale,
    /// The node above, and its rows.
    pub parent: Option<(u32, u64)>,
    /// The smaller one first.
    pub nodes: Vec<Open>,
}

/// A node that may be split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Open {
    /// Its number.
    pub node: u32,
    /// Splits above it.
    pub depth: u32,
    /// Sums of all its rows; of a root they come with the first histogram.
    pub total: Option<Pair>,
    /// Least and largest value that its leaves may have.
    pub bounds: [f64; 2],
    /// Features of the splits above.
    pub used: Vec<u32>,
}

/// What the owner of a range knows of a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The node.
    pub node: u32,
    /// Its rows.
    pub rows: u64,
    /// Sums of all its rows; `None` where the tree uses no feature of the range.
    pub total: Option<Pair>,
    /// The best split of the range.
    pub best: Option<Candidate>,
}

/// Features in ranges of `width`, rounded up to whole words; one range of no features where there are none.
pub fn ranges(features: usize, width: usize) -> Vec<Range<usize>> {
    let width = width.next_multiple_of(PER_WORD).max(PER_WORD);
    (0..features.max(1)).step_by(width).map(|first| first..features.min(first + width)).collect()
}

/// Who owns a range of features.
#[derive(Debug, Clone, PartialEq)]
pub struct Owner {
    range: Range<usize>,
    /// Sums by tree and node: `CELLS` for each feature of the range. What is lost is asked for again.
    sums: BTreeMap<(u32, u32), Sums>,
}

impl Owner {
    /// Without sums.
    pub fn new(range: Range<usize>) -> Self {
        Self { range, sums: BTreeMap::new() }
    }

    /// Nodes whose histograms the answer needs: the smaller one where its parent's sums are here, else both.
    pub fn needs(&self, question: &Question) -> Vec<u32> {
        let known = question.parent.is_some_and(|(parent, _)| self.sums.contains_key(&(question.tree, parent)));
        question.nodes.iter().take(if known { 1 } else { question.nodes.len() }).map(|open| open.node).collect()
    }

    /// The best splits of the range, in the order of the question's nodes. `histograms` are those of
    /// [`Owner::needs`], merged over all shards.
    pub fn answer(&mut self, rules: Rules<'_>, question: &Question, histograms: Vec<Histogram>) -> Vec<Answer> {
        let tree = question.tree;
        let mut rows = Vec::with_capacity(question.nodes.len());
        for (open, histogram) in question.nodes.iter().zip(histograms) {
            rows.push(histogram.rows());
            self.sums.insert((tree, open.node), histogram.into_sums());
        }
        if let Some((parent, all)) = question.parent {
            let sums = self.sums.remove(&(tree, parent));
            // The larger sibling is the parent without the smaller one.
            if let (Some(sums), [small, large], &[own]) = (sums, question.nodes.as_slice(), rows.as_slice()) {
                let rest = all - own;
                let sums = sums.without(&self.sums[&(tree, small.node)], rest);
                rows.push(rest);
                self.sums.insert((tree, large.node), sums);
            }
        }
        question.nodes.iter().zip(rows).map(|(open, rows)| self.search(rules, question, open, rows)).collect()
    }

    fn search(&self, rules: Rules<'_>, question: &Question, open: &Open, rows: u64) -> Answer {
        let (tree, settings) = (question.tree, rules.settings);
        let mut features = allowed(rules, tree, open);
        features.retain(|&j| self.range.contains(&(j as usize)));
        let Some(sums) = self.sums.get(&(tree, open.node)) else {
            return Answer { node: open.node, rows, total: open.total, best: None };
        };
        // Every row is in one cell of each feature.
        let total = open.total.or_else(|| features.first().map(|&j| sums.feature(j as usize - self.range.start).total()));
        let mut answer = Answer { node: open.node, rows, total, best: None };
        if let (Some(total), true) = (total, may_split(settings, open.depth, rows)) {
            let first = self.range.start;
            let whole = split::Whole { rows, total, scale: question.scale, bounds: open.bounds };
            let view = split::Node { sums, first, whole };
            let draws = Stream::new(settings.seed, "threshold", settings.drawn(tree), u64::from(open.node));
            let drawn = |feature: u32| settings.random_thresholds.then(|| draws.bits(u128::from(feature)));
            answer.best = split::best(rules.level, &settings.regularization, rules.bins, view, &features, drawn);
        }
        answer
    }

    /// Drops a node that is not to be split.
    pub fn forget(&mut self, tree: u32, node: u32) {
        self.sums.remove(&(tree, node));
    }

    /// Drops a tree.
    pub fn forget_tree(&mut self, tree: u32) {
        self.sums.retain(|key, _| key.0 != tree);
    }

    /// Drops sums past so many cells, those of the latest nodes; gives what is left of the room.
    pub fn shrink(&mut self, mut room: usize) -> usize {
        self.sums.retain(|_, sums| match room.checked_sub(sums.len()) {
            Some(left) => {
                room = left;
                true
            }
            None => false,
        });
        room
    }
}

/// Whether a node of this depth and about these rows may be split.
pub fn may_split(settings: &Settings, depth: u32, rows: u64) -> bool {
    settings.max_depth.is_none_or(|most| depth < most) && rows >= 2 * u64::from(settings.regularization.min_samples_leaf)
}

/// Features that a tree may use, ascending.
fn features_of_tree(settings: &Settings, bins: &Bins, tree: u32) -> Vec<u32> {
    draw(
        (0..bins.sources() as u32).collect(),
        settings.colsample_bytree,
        Stream::new(settings.seed, "columns of a tree", settings.drawn(tree), 0),
    )
}

/// Columns that histograms of a tree are of.
pub fn histogram_features(settings: &Settings, bins: &Bins, tree: u32) -> Features {
    let (chosen, count) = (bins.columns_of(features_of_tree(settings, bins, tree)), bins.features.len());
    if chosen.len() as f64 >= MOST * count as f64 { Features::All } else { Features::Some(chosen) }
}

/// Columns of the features that a node may use, ascending.
fn allowed(rules: Rules<'_>, tree: u32, open: &Open) -> Vec<u32> {
    let settings = rules.settings;
    let mut features = features_of_tree(settings, rules.bins, tree);
    if !settings.interactions.is_empty() {
        let groups = settings.interactions.iter().filter(|g| open.used.iter().all(|u| g.contains(u)));
        let allowed: Vec<u32> = groups.flatten().copied().collect();
        features.retain(|j| allowed.contains(j));
    }
    let draws = Stream::new(settings.seed, "columns of a node", settings.drawn(tree), u64::from(open.node));
    rules.bins.columns_of(draw(features, settings.colsample_bynode, draws))
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

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::algorithms::gradient_boosting::from_params;
    use crate::program::{decode, encode};
    use crate::shard::Schema;
    use crate::trees::CELLS;
    use crate::trees::bins::FeatureBins;
    use crate::trees::split::Scale;

    const FEATURES: usize = 56;

    fn number(i: usize, j: usize) -> i64 {
        let mut x = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (j as u64 + 1).wrapping_mul(0xd1b5_4a32_d192_ed03);
        x ^= x >> 31;
        x = x.wrapping_mul(0x94d0_49bb_1331_11eb);
        (x >> 40) as i64
    }

    /// Cells of some rows, feature after feature: the gradient knows a little of features 9 and 41.
    fn cells(rows: std::ops::Range<usize>, range: &Range<usize>) -> Histogram {
        let mut sums = vec![[0; 2]; range.len() * CELLS];
        let count = rows.len() as u64;
        for row in rows {
            let bin = |feature: usize| (number(row, feature) % 12) as usize;
            let gradient = number(row, 99) % 1_000 - 500 + 40 * (bin(9) as i64) - 30 * (bin(41) as i64);
            for feature in range.clone() {
                let cell = &mut sums[(feature - range.start) * CELLS + bin(feature)];
                *cell = [cell[0] + gradient, cell[1] + 300];
            }
        }
        Histogram::of_sums(range.len(), count, Sums::of_pairs(sums, count))
    }

    /// What owners of ranges of this width answer, a range each; histograms of two halves of the rows meet at the owner.
    fn ask(rules: Rules<'_>, owners: &mut [Owner], question: &Question, nodes: &[Range<usize>]) -> Vec<Vec<Answer>> {
        let question: Question = decode("question", &encode(question)).unwrap();
        let answer = |owner: &mut Owner| {
            let needed = owner.needs(&question);
            let histogram = |rows: &Range<usize>| {
                let middle = rows.start + rows.len() / 3;
                let mut out = cells(middle..rows.end, &owner.range);
                out.merge(cells(rows.start..middle, &owner.range));
                out
            };
            let histograms = nodes.iter().take(needed.len()).map(histogram).collect();
            owner.answer(rules, &question, histograms)
        };
        owners.iter_mut().map(answer).collect()
    }

    fn best(answers: &[Vec<Answer>], node: usize) -> Option<Candidate> {
        let all = answers.iter().filter_map(|own| own[node].best.clone());
        all.reduce(|a, b| if b.beats(&a) { b } else { a })
    }

    #[test]
    fn any_ranges_in_any_order_give_the_same_splits() {
        let params: BTreeMap<_, _> = serde_json::from_value(json!({"objective": "squared_error", "seed": 2})).unwrap();
        let mut settings = from_params(&params, &Schema::default(), Level::detect()).unwrap().settings;
        let features = vec![FeatureBins::Numeric { edges: (0..11).map(|e| e as f32).collect() }; FEATURES];
        let bins = Bins { features, ..Bins::default() };
        for share in [1.0, 0.4] {
            settings.colsample_bytree = share;
            let rules = Rules { settings: &settings, bins: &bins, level: Level::detect() };
            let open = |node, depth, total| Open { node, depth, total, bounds: [f64::NEG_INFINITY, f64::INFINITY], used: vec![] };
            let scale = Scale { gradient: 1.0, hessian: 1.0, dispersion: 1.0 };
            let root = Question { tree: 3, scale, parent: None, nodes: vec![open(0, 0, None)] };
            let total = |rows| Some(cells(rows, &(0..8)).into_sums().feature(0).total());
            let children = Question {
                parent: Some((0, 3_000)),
                nodes: vec![open(1, 1, total(0..900)), open(2, 1, total(900..3_000))],
                ..root.clone()
            };
            let mut want = None;
            for (width, count) in [(FEATURES, 1), (32, 2), (8, 7)] {
                let mut owners: Vec<Owner> = ranges(FEATURES, width).into_iter().map(Owner::new).collect();
                assert_eq!(owners.len(), count);
                let mut first = ask(rules, &mut owners, &root, std::slice::from_ref(&(0..3_000)));
                // One owner was lost: it is asked for both children.
                owners.last_mut().unwrap().forget(3, 0);
                let needs: Vec<usize> = owners.iter().map(|owner| owner.needs(&children).len()).collect();
                assert_eq!((needs.iter().sum::<usize>(), needs[count - 1]), (count + 1, 2));
                let mut second = ask(rules, &mut owners, &children, &[0..900, 900..3_000]);
                let forward = [best(&first, 0), best(&second, 0), best(&second, 1)];
                first.reverse();
                second.reverse();
                assert_eq!([best(&first, 0), best(&second, 0), best(&second, 1)], forward);
                assert!(forward.iter().all(Option::is_some));
                assert!(second.iter().flatten().all(|a| a.rows == [900, 2_100][a.node as usize - 1]));
                assert_eq!(want.get_or_insert_with(|| forward.clone()), &forward, "{count} ranges");
            }
        }
    }

    #[test]
    fn what_is_kept_has_a_limit() {
        let mut owner = Owner::new(0..8);
        for node in 0..5 {
            owner.sums.insert((1, node), Sums::Packed(vec![0; 8 * CELLS]));
        }
        assert_eq!((owner.shrink(3 * 8 * CELLS + 100), owner.sums.len()), (100, 3));
        assert!((0..3).all(|node| owner.sums.contains_key(&(1, node))), "the first nodes are the largest");
        assert_eq!((owner.shrink(0), owner.sums.len()), (0, 0));
    }
}
