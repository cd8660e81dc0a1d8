//! Loss, gradient and Hessian of a linear function over the rows of one shard: `T'WT` of the columns
//! `[1, t_1 … t_p]` with t = (x − shift) · scale, by chunks made dense. With the squared loss at a fixed
//! point this is the Gram matrix and its right-hand side.

use super::design::{Design, Term};
use super::level::{Kernel, Level};
use super::loss::{Linked, Loss, link};
use super::margins::{Linear, chunk};
use super::{CHUNK, LANES, Number, Rows, lane_sum};

/// Sums over the rows of a shard, in the columns `[1, t_1 … t_p]`.
#[derive(Debug, Clone, PartialEq)]
pub struct SecondOrder {
    /// Σ weight · loss.
    pub loss: f64,
    /// Σ r · t, p + 1 values.
    pub gradient: Vec<f64>,
    /// Σ curvature · t t', upper triangle by rows, (p + 1)(p + 2) / 2 values.
    pub hessian: Vec<f64>,
}

/// Shift and scale of every slot, slots of categories and sparse columns included.
#[derive(Debug, Clone, Copy)]
pub struct Affine<'a> {
    /// Subtracted first.
    pub shift: &'a [f64],
    /// Multiplied then.
    pub scale: &'a [f64],
}

/// Loss, gradient and Hessian at `linear` over all rows of a design.
///
/// # Panics
/// If the lengths of rows, design, linear function and affine map differ.
pub fn second_order(
    level: Level,
    loss: Loss,
    design: &Design<'_>,
    linear: Linear<'_>,
    affine: Affine<'_>,
    rows: Rows<'_>,
) -> SecondOrder {
    rows.check(design);
    let lengths = [linear.weight.len(), linear.shift.len(), affine.shift.len(), affine.scale.len()];
    assert_eq!(lengths, [design.width; 4], "a value a slot");
    level.run(Fused { loss, design, linear, affine, rows })
}

struct Fused<'a> {
    loss: Loss,
    design: &'a Design<'a>,
    linear: Linear<'a>,
    affine: Affine<'a>,
    rows: Rows<'a>,
}

/// A dense column of a chunk; rows past the end are 0.
type Dense = [f64; CHUNK];

impl Kernel for Fused<'_> {
    type Output = SecondOrder;

    #[inline(always)]
    fn run(self) -> SecondOrder {
        let Self { loss, design, linear, affine, rows } = self;
        let width = design.width + 1;
        let mut dense: Vec<Dense> = vec![[0.0; CHUNK]; width];
        let (mut residual, mut curvature) = ([0.0; CHUNK], [0.0; CHUNK]);
        let (mut weight, mut value) = ([0.0; CHUNK], [0.0; CHUNK]);
        let (mut loss_lanes, mut total) = ([0.0; LANES], [0.0; LANES]);
        let mut lanes = vec![[0.0; LANES]; width];
        let mut gradient = vec![0.0; width];
        let mut hessian = vec![0.0; width * (width + 1) / 2];
        let mut at = 0;
        while at < design.rows {
            let n = CHUNK.min(design.rows - at);
            chunk(design, &linear, rows.offset, at, &mut residual[..n]);
            let linked = Linked {
                residual: &mut residual[..n],
                curvature: Some(&mut curvature[..n]),
                loss: &mut loss_lanes,
                total: &mut total,
            };
            link(loss, &rows, at, (&mut weight, &mut value), linked);
            residual[n..].fill(0.0);
            curvature[n..].fill(0.0);
            fill(design, affine, at, n, &mut dense);
            products(&residual, &dense, &mut lanes, &mut gradient);
            triangle(&dense, &curvature, &mut weight, &mut lanes, &mut hessian);
            at += n;
        }
        SecondOrder { loss: lane_sum(&loss_lanes), gradient, hessian }
    }
}

/// Columns of rows `at..at + n`, transformed; column 0 is 1.
#[inline(always)]
fn fill(design: &Design<'_>, affine: Affine<'_>, at: usize, n: usize, dense: &mut [Dense]) {
    dense[0][..n].fill(1.0);
    dense[0][n..].fill(0.0);
    for &(slot, term) in &design.terms {
        let map = |j: usize| (affine.shift[slot + j], affine.scale[slot + j]);
        match term {
            Term::F32(x) => numbers(&x[at..at + n], map(0), &mut dense[slot + 1]),
            Term::F64(x) => numbers(&x[at..at + n], map(0), &mut dense[slot + 1]),
            Term::Code { codes, slots } => {
                absent(slots, n, map, &mut dense[slot + 1..]);
                for (i, &code) in codes[at..at + n].iter().enumerate() {
                    if (code as usize) < slots {
                        let (shift, scale) = map(code as usize);
                        dense[slot + 1 + code as usize][i] = (1.0 - shift) * scale;
                    }
                }
            }
            Term::Sparse { offsets, entries, slots } => {
                absent(slots, n, map, &mut dense[slot + 1..]);
                for (i, ends) in offsets[at..=at + n].windows(2).enumerate() {
                    for &(s, value) in &entries[ends[0] as usize..ends[1] as usize] {
                        // Added, since a slot may come twice in a row.
                        dense[slot + 1 + s as usize][i] += f64::from(value) * map(s as usize).1;
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn numbers<T: Number>(x: &[T], (shift, scale): (f64, f64), out: &mut Dense) {
    for (o, x) in out.iter_mut().zip(x) {
        *o = (x.number() - shift) * scale;
    }
    out[x.len()..].fill(0.0);
}

/// Rows without an entry.
#[inline(always)]
fn absent(slots: usize, n: usize, map: impl Fn(usize) -> (f64, f64), dense: &mut [Dense]) {
    for (j, column) in dense[..slots].iter_mut().enumerate() {
        let (shift, scale) = map(j);
        column[..n].fill((0.0 - shift) * scale);
        column[n..].fill(0.0);
    }
}

#[inline(always)]
fn add_product(a: &[f64; LANES], b: &[f64; LANES], lanes: &mut [f64; LANES]) {
    // Products first, sums then: written as one loop it is not vectorised.
    let mut terms = [0.0; LANES];
    for l in 0..LANES {
        terms[l] = a[l] * b[l];
    }
    for l in 0..LANES {
        lanes[l] += terms[l];
    }
}

/// Lanes of the products of one column with another. They are summed elsewhere: beside the sum this loop
/// is not vectorised.
#[inline(always)]
fn product(a: &Dense, b: &Dense, lanes: &mut [f64; LANES]) {
    let mut sums = [0.0; LANES];
    for (a, b) in a.as_chunks().0.iter().zip(b.as_chunks().0) {
        add_product(a, b, &mut sums);
    }
    *lanes = sums;
}

/// As [`product`] with two columns: independent chains keep the adder busy.
#[inline(always)]
fn product2(a: &Dense, b: &Dense, c: &Dense, lanes: &mut [[f64; LANES]; 2]) {
    let (mut x, mut y) = ([0.0; LANES], [0.0; LANES]);
    for ((a, b), c) in a.as_chunks().0.iter().zip(b.as_chunks().0).zip(c.as_chunks().0) {
        add_product(a, b, &mut x);
        add_product(a, c, &mut y);
    }
    *lanes = [x, y];
}

/// Adds the products of a column with all `columns` to `out`.
#[inline(always)]
fn products(a: &Dense, columns: &[Dense], lanes: &mut [[f64; LANES]], out: &mut [f64]) {
    let lanes = &mut lanes[..columns.len()];
    let ((pairs, last), (pair_lanes, last_lanes)) = (columns.as_chunks::<2>(), lanes.as_chunks_mut::<2>());
    for ([b, c], lanes) in pairs.iter().zip(pair_lanes) {
        product2(a, b, c, lanes);
    }
    for (b, lanes) in last.iter().zip(last_lanes) {
        product(a, b, lanes);
    }
    for (out, lanes) in out.iter_mut().zip(lanes) {
        *out += lane_sum(lanes);
    }
}

/// Adds the chunk's weighted products to the packed upper triangle.
#[inline(always)]
fn triangle(dense: &[Dense], curvature: &Dense, weighted: &mut Dense, lanes: &mut [[f64; LANES]], out: &mut [f64]) {
    let mut at = 0;
    for i in 0..dense.len() {
        for r in 0..CHUNK {
            weighted[r] = dense[i][r] * curvature[r];
        }
        let end = at + dense.len() - i;
        products(weighted, &dense[i..], lanes, &mut out[at..end]);
        at = end;
    }
}
