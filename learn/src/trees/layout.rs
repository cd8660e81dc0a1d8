//! Bins of a shard, twice: by rows for histograms, by columns for partitions.

use crate::algorithm::LearnError;
use crate::kernels::Level;
use crate::shard::{EncodedShard, Schema};

use super::bins::{Bins, bin_column};

/// Features of a word.
pub const PER_WORD: usize = 8;

/// A line of the cache, so that no row is spread over more lines than it must be.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Line([u64; 8]);

/// Words of half a line: histograms take in as many at once.
pub(super) const HALF: usize = 4;

/// What a feature's bins are XORed with in the rows. Where most rows have one bin of many features (missing values,
/// zeros), those cells would otherwise lie whole powers of two apart and drive each other out of the cache. Whole lines of
/// cells change places, so that they are as easily put back.
#[inline(always)]
pub(super) const fn turn(feature: usize) -> u8 {
    (feature / 2 % 16 * 8) as u8
}

/// Binned rows.
#[derive(Debug)]
pub struct Binned {
    rows: usize,
    features: usize,
    /// Words from a row to the next.
    stride: usize,
    lines: Vec<Line>,
    columns: Vec<u8>,
}

impl Binned {
    /// Bins the first `rows` rows of a shard.
    ///
    /// # Errors
    /// The shard does not follow the schema.
    pub fn new(level: Level, schema: &Schema, bins: &Bins, shard: &EncodedShard, rows: usize) -> Result<Self, LearnError> {
        let features = bins.features.len();
        let mut columns = vec![0; rows * features];
        for (j, feature) in bins.features.iter().enumerate() {
            let out = &mut columns[j * rows..(j + 1) * rows];
            let source = bins.source(j as u32) as usize;
            let Some(column) = shard.columns.get(source) else {
                return Err(LearnError::Data(format!("shard {} has {} columns only", shard.index, shard.columns.len())));
            };
            bin_column(level, feature, column, out).map_err(|what| {
                let name = schema.features.get(source).map_or("", |f| f.name.as_str());
                LearnError::Data(format!("column `{name}` of shard {}: {what}", shard.index))
            })?;
        }
        let stride = stride(features);
        let mut lines = vec![Line([0; 8]); (rows * stride).div_ceil(8)];
        for (w, group) in columns.chunks(rows.max(1) * PER_WORD).enumerate() {
            transpose(group, rows, w, stride, &mut lines);
        }
        Ok(Self { rows, features, stride, lines, columns })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of features.
    pub fn features(&self) -> usize {
        self.features
    }

    /// Words from a row to the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Bins by row: byte `j % 8` of word `stride · row + j / 8` is the bin of feature `j`, XORed with [`turn`].
    pub(super) fn words(&self) -> &[u64] {
        flat(&self.lines)
    }

    /// Bins of a feature.
    pub fn column(&self, feature: usize) -> &[u8] {
        &self.columns[feature * self.rows..(feature + 1) * self.rows]
    }

    /// Bin of a feature in a row.
    #[inline(always)]
    pub fn bin(&self, row: usize, feature: usize) -> u8 {
        (self.words()[row * self.stride + feature / PER_WORD] >> (feature % PER_WORD * 8)) as u8 ^ turn(feature)
    }

    /// Bytes on the heap.
    pub fn bytes(&self) -> usize {
        self.lines.len() * 64 + self.columns.len()
    }
}

/// Lines as their words.
fn flat(lines: &[Line]) -> &[u64] {
    // SAFETY: a line is eight words, of their size and a stricter alignment, without padding.
    unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), lines.len() * 8) }
}

/// Words of a row: few features are never spread over two lines, more of them seldom, at little room in vain.
fn stride(features: usize) -> usize {
    let words = features.div_ceil(PER_WORD).max(1);
    if words <= HALF { words.next_power_of_two() } else { words.next_multiple_of(2) }
}

/// Up to eight columns into word `w` of every row.
fn transpose(columns: &[u8], rows: usize, w: usize, stride: usize, lines: &mut [Line]) {
    let columns: Vec<&[u8]> = columns.chunks(rows.max(1)).collect();
    let turned = (0..columns.len()).fold(0, |word, k| word | u64::from(turn(w * PER_WORD + k)) << (8 * k));
    for row in 0..rows {
        let mut word = turned;
        for (k, column) in columns.iter().enumerate() {
            word ^= u64::from(column[row]) << (8 * k);
        }
        let at = row * stride + w;
        lines[at / 8].0[at % 8] = word;
    }
}
