//! Rows that walk all edges of a tree side by side: what a feature contributes to the score of each.

use crate::kernels::level::Kernel;
use crate::kernels::{LANES, Vector};
use crate::trees::model::goes_left;
use crate::trees::tree::Tree;

use super::Chunk;
use super::plan::{Edge, Factors, Plan};

/// Adds what a tree contributes to an output of all rows of a chunk.
pub(super) struct Walk<'a> {
    pub plan: &'a Plan,
    pub tree: &'a Tree,
    pub chunk: &'a mut Chunk,
    pub output: usize,
}

/// What is known on the path to an edge, by depth.
struct Path {
    points: usize,
    /// The edge at a depth.
    edges: Vec<usize>,
    /// 1 for rows that take the edge and all edges above of its feature, else 0.
    taken: Vec<[f64; LANES]>,
    /// Products down to here, by point.
    products: Vec<[f64; LANES]>,
    /// Sums of the leaves below, by point.
    sums: Vec<[f64; LANES]>,
}

impl Kernel for Walk<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Self { plan, tree, chunk, output } = self;
        let (features, points) = (chunk.features, plan.points.len());
        let mut path = Path {
            points,
            edges: vec![0; plan.depth + 1],
            taken: vec![[1.0; LANES]; plan.depth + 1],
            products: vec![[0.0; LANES]; (plan.depth + 1) * points],
            sums: vec![[0.0; LANES]; (plan.depth + 1) * points],
        };
        for (product, point) in path.products.iter_mut().zip(&plan.points) {
            *product = [point.weight; LANES];
        }
        let mut lefts = vec![[0.0; LANES]; tree.splits()];
        let sums = chunk.sums.chunks_mut(chunk.outputs * (features + 1));
        for (b, sums) in sums.enumerate() {
            let values = &chunk.values[b * features..][..features];
            for (split, left) in lefts.iter_mut().enumerate() {
                decide(tree, split, &values[tree.feature[split] as usize], left);
            }
            let own = &mut sums[output * (features + 1)..][..features + 1];
            path.walk::<V>(plan, tree, &lefts, own);
            own[features].iter_mut().for_each(|sum| *sum += plan.expected);
        }
    }
}

/// 1 for rows that go left at a split, else 0.
#[inline(always)]
fn decide(tree: &Tree, split: usize, values: &[u32; LANES], out: &mut [f64; LANES]) {
    if tree.categorical[split] {
        out.iter_mut().zip(values).for_each(|(o, &bits)| *o = f64::from(u8::from(goes_left(tree, split, bits))));
        return;
    }
    let (threshold, missing_left) = (tree.threshold[split] as f32, tree.missing_left[split]);
    for l in 0..LANES {
        let x = f32::from_bits(values[l]);
        out[l] = if (x <= threshold) | (x.is_nan() & missing_left) { 1.0 } else { 0.0 };
    }
}

impl Path {
    #[inline(always)]
    fn walk<V: Vector>(&mut self, plan: &Plan, tree: &Tree, lefts: &[[f64; LANES]], out: &mut [[f64; LANES]]) {
        let mut depth = 0;
        for (e, edge) in plan.edges.iter().enumerate() {
            while depth >= edge.depth {
                self.leave::<V>(depth, plan, tree, out);
                depth -= 1;
            }
            depth = edge.depth;
            self.edges[depth] = e;
            self.enter::<V>(edge, &plan.factors[e * self.points..][..self.points], &lefts[edge.split]);
        }
        while depth > 0 {
            self.leave::<V>(depth, plan, tree, out);
            depth -= 1;
        }
    }

    /// Takes products down an edge; at a leaf they become its sums.
    #[inline(always)]
    fn enter<V: Vector>(&mut self, edge: &Edge, factors: &[Factors], left: &[f64; LANES]) {
        let (points, depth) = (self.points, edge.depth);
        let above = self.taken[edge.above];
        let taken = &mut self.taken[depth];
        for l in 0..LANES {
            taken[l] = if edge.left { left[l] } else { 1.0 - left[l] } * above[l];
        }
        let (before, own) = self.products.split_at_mut(depth * points);
        let (before, own) = (&before[(depth - 1) * points..], &mut own[..points]);
        let sums = &mut self.sums[depth * points..][..points];
        let (half, share, value) = (V::splat(0.5), V::splat(edge.share), V::splat(edge.leaf.unwrap_or(0.0)));
        for part in 0..V::PARTS {
            let (taken, above) = (V::load(taken, part), V::load(&above, part));
            for q in 0..points {
                let (yes, no) = (V::splat(factors[q].taken), V::splat(factors[q].left_out));
                // Rows that left the path of the feature above have its share in the product already.
                let no = V::if_less(half, above, no, share);
                let product = V::load(&before[q], part).times(V::if_less(half, taken, yes, no));
                product.store(&mut own[q], part);
                product.times(value).store(&mut sums[q], part);
            }
        }
    }

    /// Takes sums up an edge, and gives its feature what is its own of them.
    #[inline(always)]
    fn leave<V: Vector>(&mut self, depth: usize, plan: &Plan, tree: &Tree, out: &mut [[f64; LANES]]) {
        let (points, e) = (self.points, self.edges[depth]);
        let edge = &plan.edges[e];
        let factors = &plan.factors[e * points..][..points];
        let (before, own) = self.sums.split_at_mut(depth * points);
        let (before, own) = (&mut before[(depth - 1) * points..], &own[..points]);
        let (taken, above) = (&self.taken[depth], &self.taken[edge.above]);
        let out = &mut out[tree.feature[edge.split] as usize];
        let (half, none) = (V::splat(0.5), V::splat(0.0));
        for part in 0..V::PARTS {
            let (taken, above) = (V::load(taken, part), V::load(above, part));
            let mut sum = V::load(out, part);
            for q in 0..points {
                let (yes, no) = (V::splat(factors[q].taken_weight), V::splat(factors[q].left_out_weight));
                let weight = V::if_less(half, taken, yes, V::if_less(half, above, no, none));
                let leaves = V::load(&own[q], part);
                sum = sum.plus(leaves.times(weight));
                V::load(&before[q], part).plus(leaves).store(&mut before[q], part);
            }
            sum.store(out, part);
        }
    }
}
