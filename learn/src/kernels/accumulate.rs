//! Transposed products: per slot the sum over rows of `r_i · x_ij`. Numeric columns sum in lanes that
//! live through a whole shard; slots and sparse entries sum in row order.

use super::design::{Design, Term};
use super::{LANES, lane_sum};

/// Sums under way: rows come chunk by chunk.
pub(super) struct Sums {
    /// One per term; only numeric terms use theirs.
    pub(super) lanes: Vec<[f64; LANES]>,
    /// One per slot; only slots and sparse entries use theirs until the end.
    pub(super) slots: Vec<f64>,
}

impl Sums {
    pub(super) fn new(design: &Design<'_>) -> Self {
        Self { lanes: vec![[0.0; LANES]; design.terms.len()], slots: vec![0.0; design.width] }
    }

    /// For a sweep that sums nothing.
    pub(super) fn none() -> Self {
        Self { lanes: Vec::new(), slots: Vec::new() }
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
pub(super) fn coded(codes: &[u32], at: usize, r: &[f64], sums: &mut [f64]) {
    for (r, &code) in r.iter().zip(&codes[at..]) {
        if let Some(sum) = sums.get_mut(code as usize) {
            *sum += r;
        }
    }
}

#[inline(always)]
pub(super) fn sparse(offsets: &[u32], entries: &[(u32, f32)], at: usize, r: &[f64], sums: &mut [f64]) {
    for (r, ends) in r.iter().zip(offsets[at..].windows(2)) {
        for &(slot, value) in &entries[ends[0] as usize..ends[1] as usize] {
            sums[slot as usize] += r * f64::from(value);
        }
    }
}
