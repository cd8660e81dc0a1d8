//! A tree laid out for contributions: its edges as a walk meets them, with all that depends on no row.

use crate::trees::tree::Tree;

use super::quadrature::{Point, rule};

/// The edges of a tree, parents before children.
pub(super) struct Plan {
    /// The mean of the leaves, by the shares of the edges to them.
    pub expected: f64,
    /// Edges of the longest path.
    pub depth: usize,
    /// Points of the integrals.
    pub points: Vec<Point>,
    /// In the order in which a walk meets them.
    pub edges: Vec<Edge>,
    /// For each edge what its points take.
    pub factors: Vec<Factors>,
}

/// The way from a split to one of its children.
pub(super) struct Edge {
    /// The split.
    pub split: usize,
    /// Whether rows that go left take it.
    pub left: bool,
    /// Edges from the root, this one within.
    pub depth: usize,
    /// Depth of the next edge above that the same feature decides; 0: there is none.
    pub above: usize,
    /// Value of the leaf where it ends.
    pub leaf: Option<f64>,
    /// Share of the rows at the split that take it.
    pub share: f64,
    /// Share of the rows at the root that its feature's edges down to here let pass.
    pass: f64,
    /// The same of the edge above.
    pass_above: f64,
}

/// Of an edge at a point: what the product is multiplied with, and what its feature takes of the leaves below. An edge
/// takes its feature's place from the one above: it is divided out of the product and gets nothing of these leaves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Factors {
    /// Product, of rows that take the edge and those above.
    pub taken: f64,
    /// Product, of rows that take those above, but not the edge.
    pub left_out: f64,
    /// Weight, of rows that take the edge and those above.
    pub taken_weight: f64,
    /// Weight, of rows that take those above, but not the edge.
    pub left_out_weight: f64,
}

/// The path to an edge.
#[derive(Default)]
struct Path {
    steps: Vec<Step>,
    /// Depth of the last edge of a feature; 0: it is not on the path.
    last: Vec<usize>,
}

struct Step {
    feature: usize,
    /// `last` of the feature before this edge.
    before: usize,
    pass: f64,
    /// Share of the rows at the root that come here.
    reach: f64,
    /// Different features so far.
    features: usize,
}

impl Plan {
    /// Lays a sound tree out.
    pub fn new(tree: &Tree) -> Self {
        let mut out = Self { expected: 0.0, depth: 0, points: Vec::new(), edges: Vec::new(), factors: Vec::new() };
        let most = tree.feature.iter().max().map_or(0, |&f| f as usize + 1);
        let mut path = Path { steps: Vec::new(), last: vec![0; most] };
        let mut waiting = Vec::new();
        match tree.splits() {
            0 => out.expected = tree.value.first().copied().unwrap_or_default(),
            _ => waiting.extend([(0, false, 1), (0, true, 1)]),
        }
        let mut features = 0;
        while let Some((split, left, depth)) = waiting.pop() {
            path.back_to(depth - 1);
            let child = if left { tree.left[split] } else { tree.right[split] };
            let edge = path.enter(tree, split, left, depth);
            let leaf = usize::try_from(child).map_or_else(
                |_| Some(tree.value[!child as usize]),
                |next| {
                    waiting.extend([(next, false, depth + 1), (next, true, depth + 1)]);
                    None
                },
            );
            if let (Some(value), Some(step)) = (leaf, path.steps.last()) {
                out.expected += value * step.reach;
                features = features.max(step.features);
            }
            out.depth = out.depth.max(depth);
            out.edges.push(Edge { leaf, ..edge });
        }
        out.points = rule(features.div_ceil(2));
        out.factors = out.edges.iter().flat_map(|edge| out.points.iter().map(|point| edge.factors(*point))).collect();
        out
    }
}

impl Path {
    /// Leaves all edges below a depth.
    fn back_to(&mut self, depth: usize) {
        while self.steps.len() > depth {
            if let Some(step) = self.steps.pop() {
                self.last[step.feature] = step.before;
            }
        }
    }

    /// Takes an edge from where the path ends.
    fn enter(&mut self, tree: &Tree, split: usize, left: bool, depth: usize) -> Edge {
        let feature = tree.feature[split] as usize;
        let share = share(tree, split, left);
        let above = self.last[feature];
        let pass_above = if above > 0 { self.steps[above - 1].pass } else { 1.0 };
        let pass = pass_above * share;
        let (reach, features) = self.steps.last().map_or((1.0, 0), |step| (step.reach, step.features));
        let features = features + usize::from(above == 0);
        self.steps.push(Step { feature, before: above, pass, reach: reach * share, features });
        self.last[feature] = depth;
        Edge { split, left, depth, above, leaf: None, share, pass, pass_above }
    }
}

/// Share of the training rows at a split that go to a child; half of none.
fn share(tree: &Tree, split: usize, left: bool) -> f64 {
    let cover = |child: i32| usize::try_from(child).map_or_else(|_| tree.leaf_cover[!child as usize], |s| tree.cover[s]);
    let (l, r) = (cover(tree.left[split]), cover(tree.right[split]));
    let both = l + r;
    match both > 0.0 {
        true => (if left { l } else { r }) / both,
        false => 0.5,
    }
}

impl Edge {
    fn factors(&self, Point { at, rest, .. }: Point) -> Factors {
        let taken = self.pass * rest + at;
        let taken_weight = (1.0 - self.pass) / taken;
        // −z / (z · rest), whatever z is.
        let left_out_weight = -1.0 / rest;
        if self.above == 0 {
            return Factors { taken, left_out: self.pass * rest, taken_weight, left_out_weight };
        }
        let above = self.pass_above * rest + at;
        let above_weight = (1.0 - self.pass_above) / above;
        Factors {
            taken: taken / above,
            left_out: self.pass * rest / above,
            taken_weight: taken_weight - above_weight,
            left_out_weight: left_out_weight - above_weight,
        }
    }
}
