//! Numeric columns in two sweeps: sums and extremes first, deviations from the means then. Both take all
//! classes at once, and all columns of a chunk of rows before the next one, so that its weights stay in the
//! cache.

#![expect(clippy::needless_range_loop, reason = "one index, in several arrays and in the register's part of a block")]

use std::ops::Range;

use super::{Moments, count, larger, not_below_zero, smaller, sparse_moments, sparse_range};
use crate::kernels::level::Vector;
use crate::kernels::sweep::ask_ahead;
use crate::kernels::{CHUNK, LANES, Number, Term, lane_sum};

/// The rows beside the columns, `C` classes of them.
pub(super) struct Columns<'a, const C: usize> {
    /// Weights of the rows of each class, 0 for the others.
    pub weights: [&'a [f64]; C],
    /// Their sums.
    pub totals: [f64; C],
    /// Weights of all rows.
    pub weight: &'a [f64],
    /// Are there rows whose weight is not positive? Their values count for no extreme.
    pub allowed: bool,
}

/// What is known of a numeric column.
pub(super) struct Column<const C: usize> {
    /// Its slot.
    pub slot: usize,
    /// Its place among the terms.
    pub term: usize,
    /// Its smallest value.
    pub low: f64,
    /// Its largest value.
    pub high: f64,
    /// Values that are no numbers.
    pub bad_values: u64,
    /// Mean and squared deviations of each class.
    pub moments: [(f64, f64); C],
}

/// Sums of the first sweep.
struct First<const C: usize> {
    /// What values are measured from, so that a constant is met exactly.
    pivot: f64,
    sums: [[f64; LANES]; C],
    low: [f64; LANES],
    high: [f64; LANES],
}

/// Sums of the second sweep.
struct Second<const C: usize> {
    means: [f64; C],
    left: [[f64; LANES]; C],
    squares: [[f64; LANES]; C],
}

impl<const C: usize> Columns<'_, C> {
    /// Looks at numeric columns, each with its slot and its place among the terms.
    #[inline(always)]
    pub(super) fn columns<V: Vector>(&self, columns: &[(usize, usize, Term<'_>)]) -> Vec<Column<C>> {
        let mut firsts = Vec::with_capacity(columns.len());
        for (_, _, term) in columns {
            let pivot = match term {
                Term::F32(x) => x.first().map_or(0.0, |x| x.number()),
                Term::F64(x) => x.first().map_or(0.0, |x| x.number()),
                Term::Code { .. } | Term::Sparse { .. } => 0.0,
            };
            let (low, high) = ([f64::INFINITY; LANES], [f64::NEG_INFINITY; LANES]);
            firsts.push(First { pivot, sums: [[0.0; LANES]; C], low, high });
        }
        let mut at = 0;
        while at < self.weight.len() {
            let rows = at..self.weight.len().min(at + CHUNK);
            at = rows.end;
            for ((_, _, term), first) in columns.iter().zip(&mut firsts) {
                match term {
                    Term::F32(x) => self.first::<V, _>(x, rows.clone(), first),
                    Term::F64(x) => self.first::<V, _>(x, rows.clone(), first),
                    Term::Code { .. } | Term::Sparse { .. } => {}
                }
            }
        }
        let mut seconds = Vec::with_capacity(columns.len());
        for first in &firsts {
            let mut means = [0.0; C];
            for c in 0..C {
                means[c] = first.pivot + lane_sum(&first.sums[c]) / self.totals[c];
            }
            seconds.push(Second { means, left: [[0.0; LANES]; C], squares: [[0.0; LANES]; C] });
        }
        let mut at = 0;
        while at < self.weight.len() {
            let rows = at..self.weight.len().min(at + CHUNK);
            at = rows.end;
            for ((_, _, term), second) in columns.iter().zip(&mut seconds) {
                match term {
                    Term::F32(x) => self.second::<V, _>(x, rows.clone(), second),
                    Term::F64(x) => self.second::<V, _>(x, rows.clone(), second),
                    Term::Code { .. } | Term::Sparse { .. } => {}
                }
            }
        }
        let mut out = Vec::with_capacity(columns.len());
        for ((column, first), second) in columns.iter().zip(&firsts).zip(&seconds) {
            out.push(self.column(column, first, second));
        }
        out
    }

    #[inline(always)]
    fn column(&self, (slot, term, column): &(usize, usize, Term<'_>), first: &First<C>, second: &Second<C>) -> Column<C> {
        let (mut moments, mut finite) = ([(0.0, 0.0); C], true);
        for c in 0..C {
            finite &= lane_sum(&first.sums[c]).is_finite();
            let total = self.totals[c];
            // A class without weight has no mean.
            if total != 0.0 {
                let left = lane_sum(&second.left[c]);
                // The second term is what the rounding of the mean left.
                let deviation = not_below_zero(lane_sum(&second.squares[c]) - left * (left / total));
                moments[c] = (second.means[c], deviation);
            }
        }
        // A value that is no number, also times 0, leaves no sum that is one.
        let bad_values = match column {
            Term::F32(x) if !finite => count(x, |x| !x.is_finite()),
            Term::F64(x) if !finite => count(x, |x| !x.is_finite()),
            _ => 0,
        };
        let low = first.low.into_iter().fold(f64::INFINITY, smaller);
        let high = first.high.into_iter().fold(f64::NEG_INFINITY, larger);
        Column { slot: *slot, term: *term, low, high, bad_values, moments }
    }

    /// Looks at entries (row, slot, value) of `slots`; gives the number of bad values.
    #[inline(always)]
    pub(super) fn sparse(
        &self,
        entries: impl Iterator<Item = (usize, usize, f64)> + Clone,
        slots: Range<usize>,
        (low, high): (&mut [f64], &mut [f64]),
        out: &mut [Moments],
    ) -> u64 {
        for c in 0..C {
            if self.totals[c] != 0.0 {
                sparse_moments(entries.clone(), self.weights[c], slots.start, slots.len(), &mut out[c]);
            }
        }
        sparse_range(entries, self.weight, &mut low[slots.clone()], &mut high[slots])
    }

    /// Takes in rows of a column; only the last rows fill no block.
    #[inline(always)]
    fn first<V: Vector, T: Number>(&self, x: &[T], rows: Range<usize>, out: &mut First<C>) {
        if self.allowed {
            self.first_blocks::<V, T, true>(x, rows.clone(), out);
        } else {
            self.first_blocks::<V, T, false>(x, rows.clone(), out);
        }
        for (l, i) in (rows.end - rows.len() % LANES..rows.end).enumerate() {
            let value = x[i].number();
            for c in 0..C {
                out.sums[c][l] += self.weights[c][i] * (value - out.pivot);
            }
            if !self.allowed || self.weight[i] > 0.0 {
                out.low[l] = smaller(out.low[l], value);
                out.high[l] = larger(out.high[l], value);
            }
        }
    }

    #[inline(always)]
    fn first_blocks<V: Vector, T: Number, const ALLOWED: bool>(&self, x: &[T], rows: Range<usize>, out: &mut First<C>) {
        let x = x[rows.clone()].as_chunks::<LANES>().0;
        let weights = self.class_blocks(rows.clone());
        let weight = self.weight[rows].as_chunks::<LANES>().0;
        let (pivot, zero, none) = (V::splat(out.pivot), V::splat(0.0), V::splat(f64::NAN));
        for part in 0..V::PARTS {
            let (mut low, mut high) = (V::load(&out.low, part), V::load(&out.high, part));
            let mut sums = [zero; C];
            for c in 0..C {
                sums[c] = V::load(&out.sums[c], part);
            }
            for b in 0..x.len() {
                if part == 0 {
                    ask_ahead(&x[b]);
                }
                let value = T::load::<V>(&x[b], part);
                let shifted = value.minus(pivot);
                for c in 0..C {
                    sums[c] = sums[c].plus(V::load(&weights[c][b], part).times(shifted));
                }
                let value = if ALLOWED { V::if_less(zero, V::load(&weight[b], part), value, none) } else { value };
                low = V::if_less(value, low, value, low);
                high = V::if_less(high, value, value, high);
            }
            low.store(&mut out.low, part);
            high.store(&mut out.high, part);
            for c in 0..C {
                sums[c].store(&mut out.sums[c], part);
            }
        }
    }

    /// Takes in rows of a column; only the last rows fill no block.
    #[inline(always)]
    fn second<V: Vector, T: Number>(&self, x: &[T], rows: Range<usize>, out: &mut Second<C>) {
        let blocks = x[rows.clone()].as_chunks::<LANES>().0;
        let weights = self.class_blocks(rows.clone());
        for part in 0..V::PARTS {
            let (mut mean, mut left, mut squares) = ([V::splat(0.0); C], [V::splat(0.0); C], [V::splat(0.0); C]);
            for c in 0..C {
                mean[c] = V::splat(out.means[c]);
                (left[c], squares[c]) = (V::load(&out.left[c], part), V::load(&out.squares[c], part));
            }
            for b in 0..blocks.len() {
                if part == 0 {
                    ask_ahead(&blocks[b]);
                }
                let value = T::load::<V>(&blocks[b], part);
                for c in 0..C {
                    let (w, d) = (V::load(&weights[c][b], part), value.minus(mean[c]));
                    left[c] = left[c].plus(w.times(d));
                    squares[c] = squares[c].plus(w.times(d.times(d)));
                }
            }
            for c in 0..C {
                left[c].store(&mut out.left[c], part);
                squares[c].store(&mut out.squares[c], part);
            }
        }
        for (l, i) in (rows.end - rows.len() % LANES..rows.end).enumerate() {
            for c in 0..C {
                let (w, d) = (self.weights[c][i], x[i].number() - out.means[c]);
                out.left[c][l] += w * d;
                out.squares[c][l] += w * (d * d);
            }
        }
    }

    #[inline(always)]
    fn class_blocks(&self, rows: Range<usize>) -> [&[[f64; LANES]]; C] {
        let mut out = [&[][..]; C];
        for c in 0..C {
            out[c] = self.weights[c][rows.clone()].as_chunks::<LANES>().0;
        }
        out
    }
}
