//! One sweep over neighbouring numeric columns: margins of the rows that come next and sums of the rows
//! before them in one loop, so that the memory delivers the ones while the others are computed from the
//! cache. Several columns share a sweep; a row's margin still takes them in their order, one by one.

#![expect(clippy::needless_range_loop, reason = "one index, in several arrays and in the register's part of a block")]

use super::accumulate::{self, Sums};
use super::design::{Design, Term};
use super::level::{Vector, prefetch};
use super::margins::{self, Linear};
use super::{CHUNK, LANES, MOST_PARTS, Number};

/// Rows between what a sweep works on and what it asks the memory for.
const AHEAD: usize = 256;
/// Lines of memory asked for per block of rows while no sweep runs.
const LINES: usize = 8;
/// Bytes of a line.
const LINE: usize = 64;

/// Rows of a column, block by block.
type Blocks<'a, T> = &'a [[T; LANES]];

/// Columns of one type: their rows and where they go.
struct Strip<'a, T, const G: usize> {
    /// Rows whose margins are wanted.
    next: [&'a [T]; G],
    /// Rows whose sums are wanted.
    last: [&'a [T]; G],
    shift: [f64; G],
    weight: [f64; G],
}

/// What a sweep does, beside the columns.
pub(super) struct Sweep<'s, 'a> {
    pub design: &'s Design<'a>,
    pub linear: &'s Linear<'s>,
    /// First row whose margins are wanted.
    pub next: usize,
    /// First row of the residuals.
    pub last: usize,
}

impl Sweep<'_, '_> {
    /// Takes all columns. With `MARGINS` they are added to `out`, with `SUMS` their products with
    /// `residual` to `sums`; with both there are as many rows of the one as of the other.
    #[inline(always)]
    pub(super) fn run<V: Vector, const MARGINS: bool, const SUMS: bool>(
        &self,
        out: &mut [f64],
        residual: &[f64],
        sums: &mut Sums,
    ) {
        let terms = &self.design.terms;
        let mut t = 0;
        while t < terms.len() {
            let (slot, term) = terms[t];
            t += match term {
                Term::F32(_) => self.columns::<V, f32, MARGINS, SUMS>(t, out, residual, sums),
                Term::F64(_) => self.columns::<V, f64, MARGINS, SUMS>(t, out, residual, sums),
                Term::Code { codes, slots } => {
                    if MARGINS {
                        margins::coded(codes, &self.linear.weight[slot..slot + slots], self.next, out);
                    }
                    if SUMS {
                        accumulate::coded(codes, self.last, residual, &mut sums.slots[slot..slot + slots]);
                    }
                    1
                }
                Term::Sparse { offsets, entries, slots } => {
                    if MARGINS {
                        margins::sparse(offsets, entries, &self.linear.weight[slot..slot + slots], self.next, out);
                    }
                    if SUMS {
                        accumulate::sparse(offsets, entries, self.last, residual, &mut sums.slots[slot..slot + slots]);
                    }
                    1
                }
            };
        }
    }

    /// Takes the numeric columns from term `first` on that one sweep can take; gives their number.
    #[inline(always)]
    fn columns<V: Vector, T: Number, const MARGINS: bool, const SUMS: bool>(
        &self,
        first: usize,
        out: &mut [f64],
        residual: &[f64],
        sums: &mut Sums,
    ) -> usize {
        let lanes = if SUMS { &mut sums.lanes[first..] } else { &mut [] };
        // As many as leave room for their sums in the registers.
        if V::PARTS <= 2
            && let Some(strip) = self.strip::<T, 4>(first, out.len(), residual.len())
        {
            strip.run::<V, MARGINS, SUMS>(out, residual, lanes);
            return 4;
        }
        if let Some(strip) = self.strip::<T, 2>(first, out.len(), residual.len()) {
            strip.run::<V, MARGINS, SUMS>(out, residual, lanes);
            return 2;
        }
        if let Some(strip) = self.strip::<T, 1>(first, out.len(), residual.len()) {
            strip.run::<V, MARGINS, SUMS>(out, residual, lanes);
        }
        1
    }

    /// `G` neighbouring columns of numbers of this type, if there are.
    #[inline(always)]
    fn strip<'s, T: Number, const G: usize>(&'s self, first: usize, next: usize, last: usize) -> Option<Strip<'s, T, G>> {
        let terms = self.design.terms.get(first..first + G)?;
        let mut strip = Strip { next: [&[]; G], last: [&[]; G], shift: [0.0; G], weight: [0.0; G] };
        for (g, (slot, term)) in terms.iter().enumerate() {
            let x = T::of(term)?;
            strip.next[g] = &x[self.next..self.next + next];
            strip.last[g] = &x[self.last..self.last + last];
            (strip.shift[g], strip.weight[g]) = (self.linear.shift[*slot], self.linear.weight[*slot]);
        }
        Some(strip)
    }
}

impl<T: Number, const G: usize> Strip<'_, T, G> {
    #[inline(always)]
    fn run<V: Vector, const MARGINS: bool, const SUMS: bool>(
        &self,
        out: &mut [f64],
        residual: &[f64],
        lanes: &mut [[f64; LANES]],
    ) {
        let (out, out_tail) = out.as_chunks_mut::<LANES>();
        let (residual, residual_tail) = residual.as_chunks::<LANES>();
        let blocks = if MARGINS { out.len() } else { residual.len() };
        self.blocks::<V, MARGINS, SUMS>(&mut out[..], residual, lanes);
        let at = blocks * LANES;
        for g in 0..G {
            let (shift, weight) = (self.shift[g], self.weight[g]);
            if MARGINS {
                for (o, x) in out_tail.iter_mut().zip(&self.next[g][at..]) {
                    *o += (x.number() - shift) * weight;
                }
            }
            if SUMS {
                for (l, (r, x)) in residual_tail.iter().zip(&self.last[g][at..]).enumerate() {
                    lanes[g][l] += r * (x.number() - shift);
                }
            }
        }
    }

    #[inline(always)]
    fn blocks<V: Vector, const MARGINS: bool, const SUMS: bool>(
        &self,
        out: &mut [[f64; LANES]],
        residual: &[[f64; LANES]],
        lanes: &mut [[f64; LANES]],
    ) {
        let n = if MARGINS { out.len() } else { residual.len() };
        let (mut next, mut last): ([Blocks<'_, T>; G], [Blocks<'_, T>; G]) = ([&[]; G], [&[]; G]);
        let (mut shift, mut weight) = ([V::splat(0.0); G], [V::splat(0.0); G]);
        let mut sums = [[V::splat(0.0); MOST_PARTS]; G];
        for g in 0..G {
            (shift[g], weight[g]) = (V::splat(self.shift[g]), V::splat(self.weight[g]));
            if MARGINS {
                next[g] = &self.next[g].as_chunks().0[..n];
            }
            if SUMS {
                last[g] = &self.last[g].as_chunks().0[..n];
                for part in 0..V::PARTS {
                    sums[g][part] = V::load(&lanes[g], part);
                }
            }
        }
        for b in 0..n {
            if MARGINS {
                for x in next {
                    ask_ahead(&x[b]);
                }
            }
            for part in 0..V::PARTS {
                if MARGINS {
                    let mut sum = V::load(&out[b], part);
                    for g in 0..G {
                        sum = sum.plus(T::load::<V>(&next[g][b], part).minus(shift[g]).times(weight[g]));
                    }
                    sum.store(&mut out[b], part);
                }
                if SUMS {
                    let r = V::load(&residual[b], part);
                    for g in 0..G {
                        let product = r.times(T::load::<V>(&last[g][b], part).minus(shift[g]));
                        sums[g][part] = sums[g][part].plus(product);
                    }
                }
            }
        }
        if SUMS {
            for g in 0..G {
                for part in 0..V::PARTS {
                    sums[g][part].store(&mut lanes[g], part);
                }
            }
        }
    }
}

/// Asks for the lines of the block [`AHEAD`] rows further on, past the end of the chunk too: there the
/// next one begins.
#[inline(always)]
pub(super) fn ask_ahead<T>(block: &[T; LANES]) {
    let address = block.as_ptr().wrapping_add(AHEAD);
    for line in 0..LANES * size_of::<T>() / LINE {
        prefetch(address.wrapping_byte_add(line * LINE));
    }
}

/// Asks for rows further on while a kernel computes without reading columns: the memory never rests.
pub(super) struct Ahead {
    /// Where the columns begin, and the bytes of a row.
    columns: Vec<(*const u8, usize)>,
    /// Rows of each column that are asked for in a chunk.
    rows: usize,
    /// The first of them.
    first: usize,
    /// The next column.
    next: usize,
    /// The next line of the column before it, and how many of its lines are left.
    line: *const u8,
    left: usize,
}

impl Ahead {
    fn new(columns: Vec<(*const u8, usize)>, rows: usize) -> Self {
        Self { columns, rows, first: 0, next: 0, line: std::ptr::null(), left: 0 }
    }

    /// For a kernel that asks once per block of rows: some rows of every column, of the first ones where
    /// there are more columns than blocks.
    pub(super) fn some(design: &Design<'_>) -> Self {
        let columns = numeric(design);
        let blocks = CHUNK / LANES;
        let lines = (blocks * LINES / columns.len().max(1)).clamp(LINES, AHEAD / LANES);
        Self::new(columns, lines * LANES)
    }

    /// For a kernel that asks often enough to have whole chunks.
    pub(super) fn whole(design: &Design<'_>) -> Self {
        Self::new(numeric(design), CHUNK)
    }

    /// Asks for nothing.
    pub(super) fn none() -> Self {
        Self::new(Vec::new(), 0)
    }

    /// What is asked for lies in the chunk that begins at row `next`, and past its first rows: the sweeps
    /// have asked for those.
    pub(super) fn aim(&mut self, next: usize) {
        (self.first, self.next, self.left) = (next + AHEAD, 0, 0);
    }

    /// Asks for a few lines more of one column.
    #[inline(always)]
    pub(super) fn ask(&mut self) {
        if self.left == 0 {
            let Some(&(start, row)) = self.columns.get(self.next) else { return };
            self.next += 1;
            (self.line, self.left) = (start.wrapping_add(self.first * row), self.rows * row / LINE);
        }
        let lines = self.left.min(2 * LINES);
        for _ in 0..lines {
            prefetch(self.line);
            self.line = self.line.wrapping_add(LINE);
        }
        self.left -= lines;
    }
}

/// Where the numeric columns begin, and the bytes of a row.
fn numeric(design: &Design<'_>) -> Vec<(*const u8, usize)> {
    let mut columns = Vec::with_capacity(design.terms.len());
    for (_, term) in &design.terms {
        match *term {
            Term::F32(x) => columns.push((x.as_ptr().cast(), size_of::<f32>())),
            Term::F64(x) => columns.push((x.as_ptr().cast(), size_of::<f64>())),
            Term::Code { .. } | Term::Sparse { .. } => {}
        }
    }
    columns
}
