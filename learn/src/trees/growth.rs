//! How a tree grows at the coordinator: which nodes are asked about, and which splits are taken.
//!
//! Of two siblings only the smaller is built from rows, the other is parent − sibling. Depth-wise growth takes all
//! splits of a level. Leaf-wise growth takes the best split of all leaves, one after the other; so that a tree costs few
//! steps all the same, a step also asks about the children of splits that are likely to be taken soon ([`ahead`]), and
//! those that turn out not to be are left out of the finished tree. Histograms are never encoded: a tree that goes on from a checkpoint asks for both siblings
//! once.

use serde::{Deserialize, Serialize};

use crate::algorithm::LearnError;

use super::ahead::{self, Chosen};
use super::grown::{Grown, Rule, Split, split_of};
use super::histogram::Pair;
use super::params::{Growth, Settings};
use super::partial::LeafSum;
use super::ranges::{Answer, Open, Owner, Question, Rules, may_split};
use super::split::{self, Candidate, Scale, Sides, leaf_value};

/// A tree under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Growing {
    /// Number of the tree.
    pub tree: u32,
    /// Units of gradients and hessians.
    pub scale: Scale,
    /// Splits so far, those ahead of their time among them.
    pub splits: Vec<Split>,
    nodes: Vec<Node>,
    asked: Vec<Asked>,
    /// Once no question is open: the splits that are taken, in the order in which they are.
    taken: Vec<u32>,
}

/// A node of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Node {
    depth: u32,
    rows: u64,
    /// `None` of a root that was not seen.
    total: Option<Pair>,
    bounds: [f64; 2],
    /// Features of the splits above.
    used: Vec<u32>,
    /// Added to `l2` if it is a leaf: its parent split many categories.
    more_l2: f64,
    best: Option<Candidate>,
    /// Its split, once it has one.
    split: Option<u32>,
}

/// Nodes that are asked about together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Asked {
    parent: Option<u32>,
    small: u32,
    large: u32,
}

impl Growing {
    /// A root that is asked about; one without gradients is a leaf at once.
    pub fn new(tree: u32, scale: Scale) -> Self {
        let root = Node {
            depth: 0,
            rows: 0,
            total: None,
            bounds: [f64::NEG_INFINITY, f64::INFINITY],
            used: Vec::new(),
            more_l2: 0.0,
            best: None,
            split: None,
        };
        let flat = scale.gradient == 0.0 || scale.hessian == 0.0;
        let asked = if flat { Vec::new() } else { vec![Asked { parent: None, small: 0, large: 0 }] };
        Self { tree, scale, splits: Vec::new(), nodes: vec![root], asked, taken: Vec::new() }
    }

    /// How many questions are open; none: the tree has all its splits.
    pub fn open(&self) -> usize {
        self.asked.len()
    }

    /// An open question.
    pub fn question(&self, at: usize) -> Question {
        let Asked { parent, small, large } = self.asked[at];
        let open = |number: u32| {
            let node = &self.nodes[number as usize];
            Open { node: number, depth: node.depth, total: node.total, bounds: node.bounds, used: node.used.clone() }
        };
        let nodes = if small == large { vec![open(small)] } else { vec![open(small), open(large)] };
        let parent = parent.map(|number| (number, self.nodes[number as usize].rows));
        Question { tree: self.tree, scale: self.scale, parent, nodes }
    }

    /// Takes in what the owner of a range answered. Answers may come in any order.
    pub fn hear(&mut self, answers: Vec<Answer>) {
        for answer in answers {
            let node = &mut self.nodes[answer.node as usize];
            node.rows = answer.rows;
            node.total = node.total.or(answer.total);
            if let Some(found) = answer.best
                && node.best.as_ref().is_none_or(|best| found.beats(best))
            {
                node.best = Some(found);
            }
        }
    }

    /// Ends the first questions, about which all owners were heard; takes splits when no question is left.
    pub fn close(&mut self, rules: Rules<'_>, owners: &mut [Owner], questions: usize) {
        for asked in self.asked.drain(..questions) {
            for number in [asked.small, asked.large] {
                if self.nodes[number as usize].best.is_none() {
                    owners.iter_mut().for_each(|owner| owner.forget(self.tree, number));
                }
            }
        }
        if self.asked.is_empty() {
            self.advance(rules, owners);
        }
    }

    /// Takes splits until there are questions or nothing is left to take.
    fn advance(&mut self, rules: Rules<'_>, owners: &mut [Owner]) {
        loop {
            let chosen = match rules.settings.growth {
                Growth::DepthWise => self.level(rules.settings),
                Growth::LeafWise => self.best_first(rules.settings),
            };
            if chosen.is_empty() {
                break;
            }
            for Chosen { node, goes_on } in chosen {
                if !self.split(rules, node, goes_on) {
                    owners.iter_mut().for_each(|owner| owner.forget(self.tree, node));
                }
            }
            if !self.asked.is_empty() {
                return;
            }
        }
        // The tree has all its splits.
        self.nodes.iter_mut().for_each(|n| n.best = None);
        owners.iter_mut().for_each(|owner| owner.forget_tree(self.tree));
    }

    /// Nodes of a level that are split, ascending: all, or where there is no room those that gain most.
    fn level(&mut self, settings: &Settings) -> Vec<Chosen> {
        let room = (settings.max_leaves as usize).saturating_sub(self.splits.len() + 1);
        let mut open: Vec<(f64, u32)> =
            self.nodes.iter().enumerate().filter_map(|(i, n)| n.best.as_ref().map(|b| (b.gain, i as u32))).collect();
        open.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        open.truncate(room);
        let goes_on = open.len() < room;
        let mut chosen: Vec<Chosen> = open.into_iter().map(|(_, node)| Chosen { node, goes_on }).collect();
        chosen.sort_unstable_by_key(|chosen| chosen.node);
        let splits = self.splits.len() + chosen.len();
        self.taken = (0..splits as u32).collect();
        chosen
    }

    /// Nodes that are split next where the best split of all leaves is taken, one after the other.
    fn best_first(&mut self, settings: &Settings) -> Vec<Chosen> {
        let most = (settings.max_leaves as usize).saturating_sub(1);
        let gain = |node: &Node| match node.split {
            Some(split) => Some(self.splits[split as usize].gain),
            None => node.best.as_ref().map(|best| best.gain),
        };
        let nodes: Vec<ahead::Node> = self.nodes.iter().map(|n| ahead::Node { gain: gain(n), split: n.split }).collect();
        let (taken, chosen) = ahead::look(&nodes, most);
        self.taken = taken;
        chosen
    }

    /// Splits a node, and asks about its children if the tree may go on there; gives whether it does.
    fn split(&mut self, rules: Rules<'_>, number: u32, goes_on: bool) -> bool {
        let settings = rules.settings;
        let node = &mut self.nodes[number as usize];
        let best = node.best.take().expect("chosen for its split");
        node.split = Some(self.splits.len() as u32);
        let first = 2 * self.splits.len() as u32 + 1;
        self.splits.push(Split { node: number, feature: best.feature, rule: best.rule, gain: best.gain });
        let bounds = child_bounds(settings, node, &best, self.scale);
        let whole = best.left[1] + best.right[1];
        let share = |sums: Pair| (node.rows as f64 * (sums[1] as f64 / whole as f64) + 0.5) as u64;
        let mut used = node.used.clone();
        let feature = rules.bins.source(best.feature);
        if !settings.interactions.is_empty() && !used.contains(&feature) {
            used.push(feature);
        }
        let depth = node.depth + 1;
        let children = [(best.left, bounds[0]), (best.right, bounds[1])].map(|(total, bounds)| Node {
            depth,
            rows: share(total),
            total: Some(total),
            bounds,
            used: used.clone(),
            more_l2: best.more_l2,
            best: None,
            split: None,
        });
        let goes_on = goes_on && children.iter().any(|c| may_split(settings, c.depth, c.rows));
        if goes_on {
            let left_is_small = best.left[1] <= best.right[1];
            let (small, large) = if left_is_small { (first, first + 1) } else { (first + 1, first) };
            self.asked.push(Asked { parent: Some(number), small, large });
        }
        self.nodes.extend(children);
        goes_on
    }

    /// How many leaves the tree has.
    pub fn leaf_count(&self) -> usize {
        self.taken.len() + 1
    }

    /// The nodes of the finished tree, in its order, by their numbers here.
    fn numbers(&self) -> Vec<u32> {
        let children = self.taken.iter().flat_map(|split| [2 * split + 1, 2 * split + 2]);
        std::iter::once(0).chain(children).collect()
    }

    /// The splits of the finished tree, in its numbers.
    fn finished(&self, numbers: &[u32]) -> Vec<Split> {
        let mut place = vec![0; self.nodes.len()];
        numbers.iter().enumerate().for_each(|(place_of, number)| place[*number as usize] = place_of as u32);
        let splits = self.taken.iter().map(|&split| self.splits[split as usize].clone());
        splits.map(|split| Split { node: place[split.node as usize], ..split }).collect()
    }

    /// Leaves of the tree: in the order of the finished one, by their numbers here.
    pub fn leaves(&self) -> Vec<u32> {
        let numbers = self.numbers();
        let split_of = split_of(&self.finished(&numbers));
        numbers.into_iter().zip(split_of).filter(|(_, split)| split.is_none()).map(|(number, _)| number).collect()
    }

    /// The finished tree from the exact sums of its leaves, in their order.
    ///
    /// # Errors
    /// The sums are not one for each leaf.
    pub fn finish(&self, settings: &Settings, sums: &[LeafSum]) -> Result<Grown, LearnError> {
        let numbers = self.numbers();
        let splits = self.finished(&numbers);
        if self.leaf_count() != sums.len() {
            return Err(LearnError::Data(format!("{} sums came for {} leaves", sums.len(), self.leaf_count())));
        }
        let (nodes, taken) = (numbers.len(), self.taken.clone());
        let mut out = Grown { splits, taken, values: vec![0.0; nodes], covers: vec![0.0; nodes], rows: vec![0; nodes] };
        let rules = &settings.regularization;
        let leaves = out.split_of().into_iter().enumerate().filter(|(_, split)| split.is_none());
        for ((leaf, _), sum) in leaves.zip(sums) {
            let node = &self.nodes[numbers[leaf] as usize];
            let [g, h] = sum.real(self.scale);
            let l2 = rules.l2 + node.more_l2;
            out.values[leaf] = settings.learning_rate * leaf_value(g, h, rules.l1, l2, node.bounds);
            out.covers[leaf] = h;
            out.rows[leaf] = sum.rows;
        }
        for (i, split) in out.splits.iter().enumerate().rev() {
            let (node, left) = (split.node as usize, 2 * i + 1);
            out.covers[node] = out.covers[left] + out.covers[left + 1];
            out.rows[node] = out.rows[left] + out.rows[left + 1];
        }
        Ok(out)
    }
}

/// Bounds of the children: on either side of the middle, where the feature is monotone.
fn child_bounds(settings: &Settings, node: &Node, best: &Candidate, scale: Scale) -> [[f64; 2]; 2] {
    let monotone = settings.regularization.monotone.get(best.feature as usize).copied().unwrap_or(0);
    if monotone == 0 || !matches!(best.rule, Rule::Below { .. }) {
        return [node.bounds; 2];
    }
    let total = [best.left[0] + best.right[0], best.left[1] + best.right[1]];
    let sides = Sides::new(&settings.regularization, &split::Whole { rows: node.rows, total, scale, bounds: node.bounds });
    let middle = (sides.value(best.left) + sides.value(best.right)) * 0.5;
    let [low, high] = node.bounds;
    if monotone > 0 { [[low, middle], [middle, high]] } else { [[middle, high], [low, middle]] }
}
