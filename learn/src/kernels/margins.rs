//! Linear predictors: per row, sequentially over the columns. A row's bits never depend on the batch,
//! on its place in it or on the level; the same function trains and scores.

use super::design::{Design, Term};
use super::level::{Kernel, Level};
use super::{CHUNK, Number};

/// A linear function of the columns as they are stored: `intercept + Σ (x_j − shift_j) · weight_j`.
/// Slots and sparse entries take no shift (it must be folded into the intercept).
#[derive(Debug, Clone, Copy)]
pub struct Linear<'a> {
    /// Added to every row first.
    pub intercept: f64,
    /// Subtracted from numeric columns, one per slot; 0 for the others.
    pub shift: &'a [f64],
    /// Multiplied then, one per slot.
    pub weight: &'a [f64],
}

/// Margins of all rows of a design: `offset` (absent: 0) + the linear function.
///
/// # Panics
/// If `out`, `offset` or the linear function do not have the design's lengths.
pub fn margins(level: Level, design: &Design<'_>, linear: Linear<'_>, offset: Option<&[f64]>, out: &mut [f64]) {
    assert_eq!(out.len(), design.rows, "a margin a row");
    assert_eq!(linear.weight.len(), design.width, "a weight a slot");
    assert_eq!(linear.shift.len(), design.width, "a shift a slot");
    level.run(Margins { design, linear, offset, out });
}

struct Margins<'a> {
    design: &'a Design<'a>,
    linear: Linear<'a>,
    offset: Option<&'a [f64]>,
    out: &'a mut [f64],
}

impl Kernel for Margins<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let rows = self.out.len();
        let mut at = 0;
        while at < rows {
            let end = rows.min(at + CHUNK);
            chunk(self.design, &self.linear, self.offset, at, &mut self.out[at..end]);
            at = end;
        }
    }
}

/// Margins of rows `at..at + out.len()`.
#[inline(always)]
pub(super) fn chunk(design: &Design<'_>, linear: &Linear<'_>, offset: Option<&[f64]>, at: usize, out: &mut [f64]) {
    match offset {
        Some(offset) => {
            for (o, f) in out.iter_mut().zip(&offset[at..]) {
                *o = f + linear.intercept;
            }
        }
        None => out.fill(linear.intercept),
    }
    let terms = &design.terms;
    let mut t = 0;
    while t < terms.len() {
        // Four columns of one type share a sweep; the sums keep the order of the columns.
        let four = terms.get(t..t + 4);
        match (terms[t], four) {
            (_, Some(&[(a, Term::F32(w)), (b, Term::F32(x)), (c, Term::F32(y)), (d, Term::F32(z))])) => {
                numbers4([w, x, y, z], [a, b, c, d], linear, at, out);
                t += 3;
            }
            (_, Some(&[(a, Term::F64(w)), (b, Term::F64(x)), (c, Term::F64(y)), (d, Term::F64(z))])) => {
                numbers4([w, x, y, z], [a, b, c, d], linear, at, out);
                t += 3;
            }
            ((slot, Term::F32(x)), _) => numbers(x, slot, linear, at, out),
            ((slot, Term::F64(x)), _) => numbers(x, slot, linear, at, out),
            ((slot, Term::Code { codes, slots }), _) => coded(codes, &linear.weight[slot..slot + slots], at, out),
            ((slot, Term::Sparse { offsets, entries, slots }), _) => {
                sparse(offsets, entries, &linear.weight[slot..slot + slots], at, out);
            }
        }
        t += 1;
    }
}

#[inline(always)]
fn numbers<T: Number>(x: &[T], slot: usize, linear: &Linear<'_>, at: usize, out: &mut [f64]) {
    let (shift, weight) = (linear.shift[slot], linear.weight[slot]);
    for (o, x) in out.iter_mut().zip(&x[at..]) {
        *o += (x.number() - shift) * weight;
    }
}

#[inline(always)]
fn numbers4<T: Number>(x: [&[T]; 4], slots: [usize; 4], linear: &Linear<'_>, at: usize, out: &mut [f64]) {
    let n = out.len();
    let [x0, x1, x2, x3] = x.map(|x| &x[at..at + n]);
    let [s0, s1, s2, s3] = slots.map(|s| linear.shift[s]);
    let [w0, w1, w2, w3] = slots.map(|s| linear.weight[s]);
    for i in 0..n {
        let mut sum = out[i];
        sum += (x0[i].number() - s0) * w0;
        sum += (x1[i].number() - s1) * w1;
        sum += (x2[i].number() - s2) * w2;
        sum += (x3[i].number() - s3) * w3;
        out[i] = sum;
    }
}

#[inline(always)]
fn coded(codes: &[u32], weights: &[f64], at: usize, out: &mut [f64]) {
    for (o, &code) in out.iter_mut().zip(&codes[at..]) {
        *o += weights.get(code as usize).copied().unwrap_or(0.0);
    }
}

#[inline(always)]
fn sparse(offsets: &[u32], entries: &[(u32, f32)], weights: &[f64], at: usize, out: &mut [f64]) {
    for (o, ends) in out.iter_mut().zip(offsets[at..].windows(2)) {
        for &(slot, value) in &entries[ends[0] as usize..ends[1] as usize] {
            *o += f64::from(value) * weights[slot as usize];
        }
    }
}
