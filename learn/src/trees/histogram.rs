//! Histograms of a node: per feature and bin the sums of rounded gradients and hessians, as integers.
//!
//! A row's pair is one word, (gradient << 32) + hessian, so that a cell costs one load, one addition and one store.
//! With |gradient| and hessian at most [`UNITS`] the halves of a cell cannot overflow before [`FLUSH`] rows; then
//! they go to pairs of i64. Sums of integers commute: order, grouping and instruction set cannot show.

use std::ops::Range;

use super::layout::{Binned, HALF, PER_WORD, turn};
use super::sums::Sums;
use super::{CELLS, MOST_ROWS};
use crate::kernels::level::prefetch;

/// Largest rounded gradient and hessian.
pub const UNITS: i32 = 32_766;
/// Rows that a packed cell can take: 65,536 · 32,766 < 2³¹.
pub const FLUSH: usize = MOST_ROWS;
/// Rows by which memory is asked ahead.
const AHEAD: usize = 24;
/// Words of a block of features: 64 KiB of cells stay in the cache.
const BLOCK: usize = HALF;
/// Rows of a node on a shard from which they are added at once: fewer wait in a queue until they are worth bringing
/// the node's cells into the cache.
const AT_ONCE: usize = 1_024;
/// Rows of a queue.
const QUEUE: usize = 1_536;
/// Most words of a row that waits.
const QUEUED_WORDS: usize = 8;
/// Rows of a queue in order.
static IN_ORDER: [u16; QUEUE] = {
    let mut out = [0; QUEUE];
    let mut i = 0;
    while i < QUEUE {
        out[i] = i as u16;
        i += 1;
    }
    out
};

/// A rounded gradient and hessian as one word.
#[inline(always)]
pub fn pack(gradient: i32, hessian: i32) -> u64 {
    ((i64::from(gradient) << 32) + i64::from(hessian)) as u64
}

/// Sums of at most [`FLUSH`] rows as one word.
#[inline(always)]
pub fn pack_sums(sums: Pair) -> u64 {
    ((sums[0] << 32) + sums[1]) as u64
}

/// The sums in a packed cell.
#[inline(always)]
pub fn unpack(cell: u64) -> [i64; 2] {
    [i64::from((cell >> 32) as i32), i64::from(cell as u32)]
}

/// Sums of a cell: gradients and hessians in units.
pub type Pair = [i64; 2];

/// Which features a histogram is of.
#[derive(Debug, Clone, PartialEq)]
pub enum Features {
    /// All.
    All,
    /// Some, ascending: the others' cells stay 0.
    Some(Vec<u32>),
}

/// A histogram that rows are added to.
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    /// The first feature, the first one of a word.
    first: usize,
    features: usize,
    rows: u64,
    packed: Vec<u64>,
    /// Whether the packed cells of a feature stand as rows have them: [`turn`].
    turned: bool,
    /// Rows in `packed`.
    pending: usize,
    /// Empty until something is flushed.
    wide: Vec<Pair>,
    queue: Queue,
}

/// Rows that wait: their bins and pairs.
#[derive(Debug, Clone, Default)]
struct Queue {
    stride: usize,
    words: Vec<u64>,
    pairs: Vec<u64>,
}

impl Queue {
    /// Copies the bins of some rows, `STRIDE` words each.
    fn copy<const STRIDE: usize>(&mut self, words: &[u64], rows: &[u16]) {
        let (words, _) = words.as_chunks::<STRIDE>();
        let at = self.words.len();
        self.words.resize(at + rows.len() * STRIDE, 0);
        let (out, _) = self.words[at..].as_chunks_mut::<STRIDE>();
        for (i, (out, &row)) in out.iter_mut().zip(rows).enumerate() {
            let next = usize::from(rows[(i + AHEAD).min(rows.len() - 1)]);
            prefetch(words.as_ptr().wrapping_add(next));
            *out = words[usize::from(row)];
        }
    }
}

impl Histogram {
    /// Without rows.
    pub fn new(features: usize) -> Self {
        Self { features, ..Self::default() }
    }

    /// Without rows, of a range of features that begins with a word.
    ///
    /// # Panics
    /// If it does not.
    pub fn of_range(range: Range<usize>) -> Self {
        assert!(range.start.is_multiple_of(PER_WORD), "a range of whole words");
        Self { first: range.start, features: range.len(), ..Self::default() }
    }

    /// From sums: `CELLS` per feature.
    pub fn of_sums(features: usize, rows: u64, sums: Sums) -> Self {
        match sums {
            Sums::Packed(packed) => Self { features, rows, packed, pending: rows as usize, ..Self::default() },
            Sums::Wide(wide) => Self { features, rows, wide, ..Self::default() },
        }
    }

    /// Most bytes that a histogram of so many features takes, but for rows that wait.
    pub fn most_bytes(features: usize) -> usize {
        features * CELLS * (size_of::<u64>() + size_of::<Pair>())
    }

    /// Number of features.
    pub fn features(&self) -> usize {
        self.features
    }

    /// Rows that were added.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Adds rows of a shard; a row that stands twice counts twice.
    ///
    /// # Panics
    /// If a row is not in `binned` or has no pair.
    pub fn add(&mut self, binned: &Binned, pairs: &[u64], rows: &[u16], features: &Features) {
        assert!(self.first + self.features <= binned.features(), "rows with these features");
        self.rows += rows.len() as u64;
        let is_whole = self.features == binned.features();
        if rows.len() < AT_ONCE && binned.stride() <= QUEUED_WORDS && is_whole && *features == Features::All {
            return self.queue(binned, pairs, rows);
        }
        for rows in rows.chunks(FLUSH) {
            self.make_room(rows.len());
            match features {
                Features::All => {
                    let bins = Bins { words: binned.words(), stride: binned.stride(), first: self.first / PER_WORD };
                    add_all(self.features, bins, pairs, rows, &mut self.packed);
                }
                Features::Some(list) => {
                    let range = self.first..self.first + self.features;
                    add_some(binned, pairs, rows, list, range, &mut self.packed);
                }
            }
        }
    }

    /// Lets a few rows wait.
    fn queue(&mut self, binned: &Binned, pairs: &[u64], rows: &[u16]) {
        let stride = binned.stride();
        if self.queue.pairs.len() + rows.len() > QUEUE {
            self.drain();
        }
        self.queue.stride = stride;
        let words = binned.words();
        match stride {
            1 => self.queue.copy::<1>(words, rows),
            2 => self.queue.copy::<2>(words, rows),
            4 => self.queue.copy::<4>(words, rows),
            6 => self.queue.copy::<6>(words, rows),
            _ => self.queue.copy::<8>(words, rows),
        }
        self.queue.pairs.extend(rows.iter().map(|&row| pairs[usize::from(row)]));
    }

    /// Adds the rows that wait.
    fn drain(&mut self) {
        let mut queue = std::mem::take(&mut self.queue);
        if queue.pairs.is_empty() {
            return;
        }
        self.make_room(queue.pairs.len());
        let rows = &IN_ORDER[..queue.pairs.len()];
        let bins = Bins { words: &queue.words, stride: queue.stride, first: 0 };
        add_all(self.features, bins, &queue.pairs, rows, &mut self.packed);
        queue.words.clear();
        queue.pairs.clear();
        self.queue = queue;
    }

    /// Makes packed cells ready for so many rows.
    fn make_room(&mut self, rows: usize) {
        let cells = self.features.div_ceil(PER_WORD) * PER_WORD * CELLS;
        if self.packed.len() < cells {
            self.packed.resize(cells, 0);
        }
        if self.pending + rows > FLUSH {
            self.flush();
        }
        self.turn(true);
        self.pending += rows;
    }

    /// Puts packed cells where rows have them, or in the order of bins.
    fn turn(&mut self, turned: bool) {
        if self.turned == turned {
            return;
        }
        self.turned = turned;
        if self.pending == 0 {
            return;
        }
        for (j, cells) in self.packed.as_chunks_mut::<CELLS>().0.iter_mut().enumerate() {
            let lines = cells.as_chunks_mut::<LINE>().0;
            let by = usize::from(turn(self.first + j)) / LINE;
            (0..lines.len()).filter(|line| line ^ by > *line).for_each(|line| lines.swap(line, line ^ by));
        }
    }

    /// Has all rows in their cells, in the order of bins.
    pub(super) fn settle(&mut self) {
        self.drain();
        self.turn(false);
    }

    /// The same after [`Histogram::settle`].
    pub(super) fn settled(&self) -> std::borrow::Cow<'_, Self> {
        if self.queue.pairs.is_empty() && !self.turned {
            return std::borrow::Cow::Borrowed(self);
        }
        let mut out = self.clone();
        out.settle();
        std::borrow::Cow::Owned(out)
    }

    /// Adds another histogram of the same features.
    ///
    /// # Panics
    /// If it is of other features.
    pub fn merge(&mut self, mut other: Self) {
        assert_eq!(self.features, other.features, "histograms of the same features");
        self.drain();
        other.drain();
        self.rows += other.rows;
        if self.pending + other.pending > FLUSH {
            self.flush();
        }
        if self.pending == 0 {
            std::mem::swap(&mut self.packed, &mut other.packed);
            std::mem::swap(&mut self.pending, &mut other.pending);
            std::mem::swap(&mut self.turned, &mut other.turned);
        }
        if other.pending > 0 {
            other.turn(self.turned);
            self.packed.iter_mut().zip(&other.packed).for_each(|(a, b)| *a = a.wrapping_add(*b));
            self.pending += other.pending;
        }
        if self.wide.is_empty() {
            self.wide = other.wide;
        } else {
            for (a, b) in self.wide.iter_mut().zip(&other.wide) {
                a[0] += b[0];
                a[1] += b[1];
            }
        }
    }

    /// The sums, `CELLS` per feature.
    pub fn into_sums(mut self) -> Sums {
        self.settle();
        if self.rows <= FLUSH as u64 {
            self.packed.resize(self.features * CELLS, 0);
            return Sums::Packed(self.packed);
        }
        self.flush();
        Sums::Wide(self.wide)
    }

    /// The cells of all features a word each, of a histogram that is settled; `None` of more rows than words can take.
    pub(super) fn words(&self) -> Option<&[u64]> {
        let count = self.features * CELLS;
        (self.wide.is_empty() && self.packed.len() >= count).then(|| &self.packed[..count])
    }

    /// The sums of a feature's cells, of a histogram that is settled.
    pub(super) fn feature(&self, feature: usize) -> [Pair; CELLS] {
        let mut out = [[0; 2]; CELLS];
        let range = feature * CELLS..(feature + 1) * CELLS;
        if let Some(wide) = self.wide.get(range.clone()) {
            out.copy_from_slice(wide);
        }
        if let Some(packed) = self.packed.get(range).filter(|_| self.pending > 0) {
            for (o, &cell) in out.iter_mut().zip(packed) {
                let [g, h] = unpack(cell);
                o[0] += g;
                o[1] += h;
            }
        }
        out
    }

    fn flush(&mut self) {
        if self.pending == 0 {
            return;
        }
        self.turn(false);
        if self.wide.is_empty() {
            self.wide = vec![[0; 2]; self.features * CELLS];
        }
        for (wide, cell) in self.wide.iter_mut().zip(&mut self.packed) {
            let [g, h] = unpack(*cell);
            wide[0] += g;
            wide[1] += h;
            *cell = 0;
        }
        self.pending = 0;
    }
}

/// Bins by rows.
#[derive(Clone, Copy)]
struct Bins<'a> {
    words: &'a [u64],
    /// Words from a row to the next.
    stride: usize,
    /// The word of a row that the histogram begins with.
    first: usize,
}

/// Every feature, in blocks whose cells stay in the cache.
fn add_all(features: usize, bins: Bins<'_>, pairs: &[u64], rows: &[u16], cells: &mut [u64]) {
    let words = features.div_ceil(PER_WORD);
    for first in (0..words).step_by(BLOCK) {
        let count = BLOCK.min(words - first);
        let last = (features - (first + count - 1) * PER_WORD).min(PER_WORD);
        let cells = &mut cells[first * PER_WORD * CELLS..(first + count) * PER_WORD * CELLS];
        let block = Block { bins: bins.words, stride: bins.stride, first: bins.first + first, pairs, rows };
        block.dispatch(count, last, cells);
    }
}

/// A block of up to four words of features over some rows.
#[derive(Clone, Copy)]
struct Block<'a> {
    bins: &'a [u64],
    stride: usize,
    first: usize,
    pairs: &'a [u64],
    rows: &'a [u16],
}

/// Cells of a line of the cache.
const LINE: usize = 8;
/// Cells of the features of a word.
const WORD_CELLS: usize = PER_WORD * CELLS;

impl Block<'_> {
    fn dispatch(self, count: usize, last: usize, cells: &mut [u64]) {
        macro_rules! by_last {
            ($words:literal) => {
                match last {
                    1 => self.add::<$words, 1>(cells),
                    2 => self.add::<$words, 2>(cells),
                    3 => self.add::<$words, 3>(cells),
                    4 => self.add::<$words, 4>(cells),
                    5 => self.add::<$words, 5>(cells),
                    6 => self.add::<$words, 6>(cells),
                    7 => self.add::<$words, 7>(cells),
                    _ => self.add::<$words, 8>(cells),
                }
            };
        }
        match count {
            1 => by_last!(1),
            2 => by_last!(2),
            3 => by_last!(3),
            _ => by_last!(4),
        }
    }

    /// `WORDS` words of features, of which the last has `LAST`.
    #[inline(never)]
    fn add<const WORDS: usize, const LAST: usize>(self, cells: &mut [u64]) {
        let (cells, _) = cells.as_chunks_mut::<WORD_CELLS>();
        let cells: &mut [[u64; WORD_CELLS]; WORDS] = cells.try_into().expect("cells of the block's words");
        for (i, &row) in self.rows.iter().enumerate() {
            let next = usize::from(self.rows[(i + AHEAD).min(self.rows.len() - 1)]);
            prefetch(self.bins.as_ptr().wrapping_add(next * self.stride + self.first));
            prefetch(self.pairs.as_ptr().wrapping_add(next));
            let pair = self.pairs[usize::from(row)];
            let at = usize::from(row) * self.stride + self.first;
            let words: &[u64; WORDS] = self.bins[at..at + WORDS].try_into().expect("a slice of this length");
            for w in 0..WORDS {
                for k in 0..if w + 1 == WORDS { LAST } else { PER_WORD } {
                    let bin = (words[w] >> (8 * k)) as usize & (CELLS - 1);
                    let cell = &mut cells[w][k * CELLS + bin];
                    *cell = cell.wrapping_add(pair);
                }
            }
        }
    }
}

/// Some features, one by one, as far as they are in a range.
fn add_some(binned: &Binned, pairs: &[u64], rows: &[u16], features: &[u32], range: Range<usize>, cells: &mut [u64]) {
    for feature in features.iter().map(|&j| j as usize).filter(|j| range.contains(j)) {
        let (column, turn) = (binned.column(feature), turn(feature));
        let cells = &mut cells[(feature - range.start) * CELLS..][..CELLS];
        for &row in rows {
            let cell = &mut cells[usize::from(column[usize::from(row)] ^ turn)];
            *cell = cell.wrapping_add(pairs[usize::from(row)]);
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::kernels::Level;
    use crate::shard::{Column, EncodedShard, Schema};
    use crate::trees::bins::{Bins, FeatureBins};

    fn number(i: usize, j: usize) -> u64 {
        let mut x = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (j as u64 + 1).wrapping_mul(0xd1b5_4a32_d192_ed03);
        x ^= x >> 31;
        x = x.wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 29
    }

    fn binned(rows: usize, features: usize) -> Binned {
        let edges: Vec<f32> = (0..254).map(|i| i as f32).collect();
        let column = |j| Column::F32((0..rows).map(|i| (number(i, j) % 255) as f32).collect());
        let bins = Bins { features: vec![FeatureBins::Numeric { edges }; features], ..Bins::default() };
        let shard = EncodedShard {
            rows,
            bounds: [0, rows, rows, rows],
            columns: (0..features).map(column).collect(),
            ..Default::default()
        };
        Binned::new(Level::detect(), &Schema::default(), &bins, &shard, rows).unwrap()
    }

    fn naive(binned: &Binned, pairs: &[[i32; 2]], rows: &[u16], features: &[usize]) -> Vec<Pair> {
        let mut out = vec![[0; 2]; binned.features() * CELLS];
        for &row in rows {
            for &j in features {
                let cell = &mut out[j * CELLS + usize::from(binned.column(j)[usize::from(row)])];
                cell[0] += i64::from(pairs[usize::from(row)][0]);
                cell[1] += i64::from(pairs[usize::from(row)][1]);
            }
        }
        out
    }

    fn pairs_of(histogram: Histogram) -> Vec<Pair> {
        let features = histogram.features();
        let sums = histogram.into_sums();
        (0..features).flat_map(|j| sums.feature(j).pairs()).collect()
    }

    #[test]
    fn a_word_keeps_both_halves() {
        for (g, h) in [(0, 0), (-1, 1), (-UNITS, UNITS), (UNITS, 0), (-UNITS, 0)] {
            assert_eq!(unpack(pack(g, h)), [i64::from(g), i64::from(h)]);
            let sum = (0..FLUSH).fold(0u64, |sum, _| sum.wrapping_add(pack(g, h)));
            assert_eq!(unpack(sum), [i64::from(g) * FLUSH as i64, i64::from(h) * FLUSH as i64]);
        }
    }

    #[test]
    fn sums_are_those_of_a_plain_loop() {
        for features in [1, 5, 8, 13, 28, 33, 70] {
            let rows = 3_000;
            let binned = binned(rows, features);
            let pairs: Vec<[i32; 2]> =
                (0..rows).map(|i| [(number(i, 90) % 65_533) as i32 - UNITS, (number(i, 91) % 32_767) as i32]).collect();
            let packed: Vec<u64> = pairs.iter().map(|p| pack(p[0], p[1])).collect();
            let chosen: Vec<u16> = (0..rows as u16).filter(|&i| !number(usize::from(i), 92).is_multiple_of(3)).collect();
            let all: Vec<usize> = (0..features).collect();
            let mut whole = Histogram::new(features);
            whole.add(&binned, &packed, &chosen, &Features::All);
            let want = naive(&binned, &pairs, &chosen, &all);
            assert_eq!(whole.settled().feature(features - 1), want[(features - 1) * CELLS..]);
            let (left, right) = chosen.split_at(777);
            let mut parts = Histogram::new(features);
            parts.add(&binned, &packed, right, &Features::All);
            let mut other = Histogram::new(features);
            other.add(&binned, &packed, left, &Features::All);
            parts.merge(other);
            assert_eq!((parts.rows(), whole.rows()), (chosen.len() as u64, chosen.len() as u64));
            assert_eq!(pairs_of(parts), want);
            let mut little = Histogram::new(features);
            chosen.chunks(300).for_each(|rows| little.add(&binned, &packed, rows, &Features::All));
            assert_eq!(little, whole);
            assert_eq!(pairs_of(little), want);
            assert_eq!(pairs_of(whole), want);
            let some: Vec<usize> = (0..features).step_by(3).collect();
            let mut few = Histogram::new(features);
            few.add(&binned, &packed, &chosen, &Features::Some(some.iter().map(|&j| j as u32).collect()));
            assert_eq!(pairs_of(few), naive(&binned, &pairs, &chosen, &some));
        }
    }

    #[test]
    fn many_rows_of_the_largest_pair_do_not_overflow() {
        let binned = binned(2, 3);
        let rows = vec![1u16; 3 * FLUSH + 17];
        let mut histogram = Histogram::new(3);
        for part in rows.chunks(50_000) {
            histogram.add(&binned, &[0, pack(-UNITS, UNITS)], part, &Features::All);
        }
        let sum = i64::from(UNITS) * rows.len() as i64;
        let cell = usize::from(binned.column(2)[1]);
        assert_eq!(pairs_of(histogram)[2 * CELLS + cell], [-sum, sum]);
    }
}
