//! Bins: what a value becomes before trees see it. A number goes to the bin that counts the edges below it, a
//! category to the bin of its slot; a missing value has the bin after the last.

use serde::{Deserialize, Serialize};

use crate::algorithm::LearnError;
use crate::kernels::level::Kernel;
use crate::kernels::{Level, Vector};
use crate::shard::Column;

use super::CELLS;

/// Values that are binned side by side.
const LANES: usize = 16;

/// How every feature is binned: a column of bins each, in the schema's order. After them stand more columns of features
/// that have more categories than a column has bins.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Bins {
    /// The columns.
    pub features: Vec<FeatureBins>,
    /// The features that the last columns belong to, ascending.
    pub more: Vec<u32>,
}

impl Bins {
    /// Number of features of the schema.
    pub fn sources(&self) -> usize {
        self.features.len() - self.more.len()
    }

    /// The feature that a column belongs to.
    pub fn source(&self, column: u32) -> u32 {
        let more = (column as usize).checked_sub(self.sources()).and_then(|at| self.more.get(at));
        more.copied().unwrap_or(column)
    }

    /// The columns of some features, ascending.
    pub fn columns_of(&self, features: Vec<u32>) -> Vec<u32> {
        let first = self.sources() as u32;
        let more = self.more.iter().zip(first..).filter(|(source, _)| features.binary_search(source).is_ok());
        let more: Vec<u32> = more.map(|(_, column)| column).collect();
        [features, more].concat()
    }
}

/// How a feature is binned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FeatureBins {
    /// Ascending finite thresholds, at most 254: `x` goes to the number of edges below it, so that `x <= edges[b]`
    /// holds for bins `0..=b`.
    Numeric {
        /// The thresholds.
        edges: Vec<f32>,
    },
    /// A bin for every slot of the schema.
    Categories {
        /// Bin of a slot; those that other columns of the feature tell apart may be where missing values are.
        bins: Vec<u8>,
        /// Bins in use, without that of missing values.
        count: u16,
    },
}

impl FeatureBins {
    /// Bins of values.
    pub fn count(&self) -> usize {
        match self {
            FeatureBins::Numeric { edges } => edges.len() + 1,
            FeatureBins::Categories { count, .. } => usize::from(*count),
        }
    }

    /// The bin of missing values.
    pub fn missing(&self) -> u8 {
        self.count() as u8
    }

    /// Whether bins have an order.
    pub fn is_numeric(&self) -> bool {
        matches!(self, FeatureBins::Numeric { .. })
    }
}

/// The smallest f32 that is not below `x`, infinities at the largest finite ones: `x <= t` for an f32 threshold
/// holds exactly where it holds for this number. NaN stays.
#[inline(always)]
pub fn round_up(x: f64) -> f32 {
    let near = x as f32;
    let up = if f64::from(near) < x { near.next_up() } else { near };
    // NaN passes both comparisons.
    let up = if up > f32::MAX { f32::MAX } else { up };
    if up < f32::MIN { f32::MIN } else { up }
}

/// An f32 as a key of the same order; both zeros are one.
#[inline(always)]
pub fn key_of(x: f32) -> u32 {
    let bits = (x + 0.0).to_bits();
    bits ^ (((bits as i32) >> 31) as u32 | 0x8000_0000)
}

/// The number of a key.
pub fn value_of(key: u32) -> f32 {
    let sign = if key & 0x8000_0000 != 0 { 0x8000_0000 } else { u32::MAX };
    f32::from_bits(key ^ sign)
}

/// Bins the first `out.len()` rows of a column.
///
/// # Errors
/// The column is not of the kind of the bins, or shorter.
pub fn bin_column(level: Level, feature: &FeatureBins, column: &Column, out: &mut [u8]) -> Result<(), LearnError> {
    match (feature, column) {
        (FeatureBins::Numeric { edges }, Column::F32(x)) if x.len() >= out.len() => {
            level.run(Numbers { edges, values: &x[..out.len()], narrow: |x: f32| round_up(f64::from(x)), out });
        }
        (FeatureBins::Numeric { edges }, Column::F64(x)) if x.len() >= out.len() => {
            level.run(Numbers { edges, values: &x[..out.len()], narrow: round_up, out });
        }
        (FeatureBins::Categories { bins, .. }, Column::Code(codes)) if codes.len() >= out.len() => {
            let missing = feature.missing();
            for (o, &code) in out.iter_mut().zip(codes.iter()) {
                *o = bins.get(code as usize).copied().unwrap_or(missing);
            }
        }
        _ => return Err(LearnError::Data("its encoding does not fit the schema".into())),
    }
    Ok(())
}

struct Numbers<'a, T, F> {
    edges: &'a [f32],
    values: &'a [T],
    narrow: F,
    out: &'a mut [u8],
}

impl<T: Copy + Default, F: Fn(T) -> f32> Kernel for Numbers<'_, T, F> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        // Nothing lies above the padding.
        let mut edges = [f32::INFINITY; CELLS];
        edges[..self.edges.len()].copy_from_slice(self.edges);
        let missing = self.edges.len() as u8 + 1;
        let (values, tail) = self.values.as_chunks::<LANES>();
        let (out, out_tail) = self.out.as_chunks_mut::<LANES>();
        for (values, out) in values.iter().zip(out) {
            block(&edges, missing, values, &self.narrow, out);
        }
        if !tail.is_empty() {
            let (mut values, mut out) = ([T::default(); LANES], [0; LANES]);
            values[..tail.len()].copy_from_slice(tail);
            block(&edges, missing, &values, &self.narrow, &mut out);
            out_tail.copy_from_slice(&out[..tail.len()]);
        }
    }
}

/// Binary search of 16 values at once, in eight steps without a branch.
#[inline(always)]
fn block<T: Copy>(edges: &[f32; CELLS], missing: u8, values: &[T; LANES], narrow: impl Fn(T) -> f32, out: &mut [u8; LANES]) {
    let mut x = [0.0f32; LANES];
    for l in 0..LANES {
        x[l] = narrow(values[l]);
    }
    let mut at = [0u32; LANES];
    let mut half = CELLS as u32 / 2;
    while half > 0 {
        for l in 0..LANES {
            let above = x[l] > edges[(at[l] + half - 1) as usize & (CELLS - 1)];
            at[l] += if above { half } else { 0 };
        }
        half /= 2;
    }
    for l in 0..LANES {
        out[l] = if x[l].is_nan() { missing } else { at[l] as u8 };
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn keys_keep_order_and_round_up_never_lies() {
        let values = [f32::MIN, -3.5, -1e-40, 0.0, 1e-40, 1.0, 1.000_000_1, f32::MAX];
        for pair in values.windows(2) {
            assert!(key_of(pair[0]) < key_of(pair[1]), "{pair:?}");
        }
        assert!(values.iter().all(|&x| value_of(key_of(x)) == x));
        assert_eq!(key_of(-0.0), key_of(0.0));
        for x in [0.1, -0.1, 1e300, -1e300, f64::INFINITY, f64::NEG_INFINITY, 1.0 + 1e-12, 5e-324, -5e-324] {
            let up = round_up(x);
            assert!(up.is_finite());
            for t in [-1.0f32, -0.1, 0.0, 0.1, 1.0, 1.5] {
                assert_eq!(x <= f64::from(t), up <= t, "{x} {t}");
            }
        }
        assert!(round_up(f64::NAN).is_nan());
    }

    #[test]
    fn a_bin_counts_the_edges_below() {
        for count in [0, 1, 7, 128, 254] {
            let edges: Vec<f32> = (0..count).map(|i| i as f32 * 0.5 - 3.0).collect();
            let feature = FeatureBins::Numeric { edges: edges.clone() };
            let values: Vec<f64> = (0..1_037)
                .map(|i| match i % 97 {
                    0 => f64::NAN,
                    1 => f64::INFINITY,
                    2 => f64::NEG_INFINITY,
                    _ => (i * 37 % 1_037) as f64 * 0.13 - 8.0 + 1e-9,
                })
                .collect();
            let narrow: Vec<f32> = values.iter().map(|&x| x as f32).collect();
            for level in Level::available() {
                for column in [Column::F64(values.clone().into()), Column::F32(narrow.clone().into())] {
                    let mut out = vec![0; values.len()];
                    bin_column(level, &feature, &column, &mut out).unwrap();
                    for (i, &bin) in out.iter().enumerate() {
                        let x = column.number(i).unwrap();
                        let want = if x.is_nan() { count + 1 } else { edges.iter().filter(|&&e| x > f64::from(e)).count() };
                        assert_eq!(usize::from(bin), want, "{x}");
                    }
                }
            }
        }
    }
}
