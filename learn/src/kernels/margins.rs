//! Linear predictors: per row, sequentially over the columns. A row's bits never depend on the batch,
//! on its place in it or on the level; the same function trains and scores.

use super::CHUNK;
use super::accumulate::Sums;
use super::design::Design;
use super::level::{Kernel, Level, Vector};
use super::sweep::Sweep;

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
    fn run<V: Vector>(self) {
        let rows = self.out.len();
        let mut at = 0;
        while at < rows {
            let end = rows.min(at + CHUNK);
            chunk::<V>(self.design, &self.linear, self.offset, at, &mut self.out[at..end]);
            at = end;
        }
    }
}

/// Margins of rows `at..at + out.len()`.
#[inline(always)]
pub(super) fn chunk<V: Vector>(design: &Design<'_>, linear: &Linear<'_>, offset: Option<&[f64]>, at: usize, out: &mut [f64]) {
    begin(linear, offset, at, out);
    Sweep { design, linear, next: at, last: 0 }.run::<V, true, false>(out, &[], &mut Sums::none());
}

/// What a margin is before any column.
#[inline(always)]
pub(super) fn begin(linear: &Linear<'_>, offset: Option<&[f64]>, at: usize, out: &mut [f64]) {
    match offset {
        Some(offset) => {
            for (o, f) in out.iter_mut().zip(&offset[at..]) {
                *o = f + linear.intercept;
            }
        }
        None => out.fill(linear.intercept),
    }
}

#[inline(always)]
pub(super) fn coded(codes: &[u32], weights: &[f64], at: usize, out: &mut [f64]) {
    for (o, &code) in out.iter_mut().zip(&codes[at..]) {
        *o += weights.get(code as usize).copied().unwrap_or(0.0);
    }
}

#[inline(always)]
pub(super) fn sparse(offsets: &[u32], entries: &[(u32, f32)], weights: &[f64], at: usize, out: &mut [f64]) {
    for (o, ends) in out.iter_mut().zip(offsets[at..].windows(2)) {
        for &(slot, value) in &entries[ends[0] as usize..ends[1] as usize] {
            *o += f64::from(value) * weights[slot as usize];
        }
    }
}
