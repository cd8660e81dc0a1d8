//! Transposed products: per slot the sum over rows of `r_i · x_ij`. Numeric columns sum in lanes that
//! live through a whole shard; slots and sparse entries sum in row order.

use super::design::{Design, Term};
use super::{LANES, Number, lane_sum};

/// Sums under way: rows come chunk by chunk.
pub(super) struct Sums {
    /// One per term; only numeric terms use theirs.
    lanes: Vec<[f64; LANES]>,
    /// One per slot; only slots and sparse entries use theirs until the end.
    slots: Vec<f64>,
}

impl Sums {
    pub(super) fn new(design: &Design<'_>) -> Self {
        Self { lanes: vec![[0.0; LANES]; design.terms.len()], slots: vec![0.0; design.width] }
    }

    /// Takes in rows `at..at + r.len()`; `at` is a multiple of the number of lanes. Numeric columns are
    /// shifted first.
    #[inline(always)]
    pub(super) fn chunk(&mut self, design: &Design<'_>, shift: &[f64], at: usize, r: &[f64]) {
        for (&(slot, term), lanes) in design.terms.iter().zip(&mut self.lanes) {
            match term {
                Term::F32(x) => numbers(&x[at..at + r.len()], shift[slot], r, lanes),
                Term::F64(x) => numbers(&x[at..at + r.len()], shift[slot], r, lanes),
                Term::Code { codes, slots } => coded(codes, at, r, &mut self.slots[slot..slot + slots]),
                Term::Sparse { offsets, entries, slots } => {
                    sparse(offsets, entries, at, r, &mut self.slots[slot..slot + slots]);
                }
            }
        }
    }

    /// One sum per slot.
    pub(super) fn finish(mut self, design: &Design<'_>) -> Vec<f64> {
        for ((slot, term), lanes) in design.terms.iter().zip(&self.lanes) {
            if matches!(term, Term::F32(_) | Term::F64(_)) {
                self.slots[*slot] = lane_sum(lanes);
            }
        }
        self.slots
    }
}

#[inline(always)]
fn numbers<T: Number>(x: &[T], shift: f64, r: &[f64], lanes: &mut [f64; LANES]) {
    let ((blocks, tail), (xs, x_tail)) = (r.as_chunks::<LANES>(), x.as_chunks::<LANES>());
    let mut sums = *lanes;
    for (r, x) in blocks.iter().zip(xs) {
        // Products first, sums then: written as one loop it is not vectorised.
        let mut terms = [0.0; LANES];
        for l in 0..LANES {
            terms[l] = r[l] * (x[l].number() - shift);
        }
        for l in 0..LANES {
            sums[l] += terms[l];
        }
    }
    for (l, (r, x)) in tail.iter().zip(x_tail).enumerate() {
        sums[l] += r * (x.number() - shift);
    }
    *lanes = sums;
}

#[inline(always)]
fn coded(codes: &[u32], at: usize, r: &[f64], sums: &mut [f64]) {
    for (r, &code) in r.iter().zip(&codes[at..]) {
        if let Some(sum) = sums.get_mut(code as usize) {
            *sum += r;
        }
    }
}

#[inline(always)]
fn sparse(offsets: &[u32], entries: &[(u32, f32)], at: usize, r: &[f64], sums: &mut [f64]) {
    for (r, ends) in r.iter().zip(offsets[at..].windows(2)) {
        for &(slot, value) in &entries[ends[0] as usize..ends[1] as usize] {
            sums[slot as usize] += r * f64::from(value);
        }
    }
}
