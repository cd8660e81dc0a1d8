//! Histograms as bytes: canonical, of the sums alone. Per feature a bit for every cell that is not empty, then the
//! cells' gradients and hessians in the fewest of 2, 4 or 8 bytes that hold them all.

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::CELLS;
use super::histogram::{Histogram, Pair};

/// Words of a feature's bits.
const BITS: usize = CELLS / 64;

impl PartialEq for Histogram {
    fn eq(&self, other: &Self) -> bool {
        let (a, b) = (self.settled(), other.settled());
        a.rows() == b.rows() && a.features() == b.features() && (0..a.features()).all(|j| a.feature(j) == b.feature(j))
    }
}

impl Serialize for Histogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&write(&self.settled()))
    }
}

impl<'de> Deserialize<'de> for Histogram {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Histogram;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the bytes of a histogram")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Histogram, E> {
                read(bytes).ok_or_else(|| E::custom("a histogram is cut short or damaged"))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

/// Bytes that hold a number.
fn width(low: i64, high: i64) -> usize {
    if i16::try_from(low).is_ok() && i16::try_from(high).is_ok() {
        2
    } else if i32::try_from(low).is_ok() && i32::try_from(high).is_ok() {
        4
    } else {
        8
    }
}

fn write(histogram: &Histogram) -> Vec<u8> {
    let features = histogram.features();
    let (mut bits, mut cells) = (Vec::with_capacity(features * BITS * 8), Vec::with_capacity(features * CELLS / 2));
    let (mut low, mut high) = ([0; 2], [0; 2]);
    for j in 0..features {
        let feature = histogram.feature(j);
        for part in feature.as_chunks::<64>().0 {
            let mut word = 0u64;
            for (i, cell) in part.iter().enumerate() {
                if *cell != [0; 2] {
                    word |= 1 << i;
                    cells.push(*cell);
                    low = [low[0].min(cell[0]), low[1].min(cell[1])];
                    high = [high[0].max(cell[0]), high[1].max(cell[1])];
                }
            }
            bits.extend_from_slice(&word.to_le_bytes());
        }
    }
    let widths = [width(low[0], high[0]), width(low[1], high[1])];
    let mut out = Vec::with_capacity(14 + bits.len() + cells.len() * (widths[0] + widths[1]));
    out.extend_from_slice(&histogram.rows().to_le_bytes());
    out.extend_from_slice(&(features as u32).to_le_bytes());
    out.extend_from_slice(&widths.map(|w| w as u8));
    out.extend_from_slice(&bits);
    for (half, width) in widths.into_iter().enumerate() {
        match width {
            2 => cells.iter().for_each(|c| out.extend_from_slice(&(c[half] as i16).to_le_bytes())),
            4 => cells.iter().for_each(|c| out.extend_from_slice(&(c[half] as i32).to_le_bytes())),
            _ => cells.iter().for_each(|c| out.extend_from_slice(&c[half].to_le_bytes())),
        }
    }
    out
}

fn read(bytes: &[u8]) -> Option<Histogram> {
    let (rows, bytes) = bytes.split_first_chunk::<8>()?;
    let (features, bytes) = bytes.split_first_chunk::<4>()?;
    let (widths, bytes) = bytes.split_first_chunk::<2>()?;
    let features = u32::from_le_bytes(*features) as usize;
    let (bits, bytes) = bytes.split_at_checked(features.checked_mul(BITS * 8)?)?;
    let words: Vec<u64> = bits.as_chunks::<8>().0.iter().map(|b| u64::from_le_bytes(*b)).collect();
    let count: usize = words.iter().map(|w| w.count_ones() as usize).sum();
    let (gradients, hessians) = bytes.split_at_checked(count.checked_mul(usize::from(widths[0]))?)?;
    let gradients = numbers(gradients, widths[0], count)?;
    let hessians = numbers(hessians, widths[1], count)?;
    let mut wide: Vec<Pair> = vec![[0; 2]; features * CELLS];
    let mut at = 0;
    for (w, word) in words.into_iter().enumerate() {
        let mut left = word;
        while left != 0 {
            wide[w * 64 + left.trailing_zeros() as usize] = [gradients[at], hessians[at]];
            at += 1;
            left &= left - 1;
        }
    }
    Some(Histogram::of_sums(features, u64::from_le_bytes(*rows), wide))
}

/// `count` numbers of `width` bytes, and nothing after them.
fn numbers(bytes: &[u8], width: u8, count: usize) -> Option<Vec<i64>> {
    if Some(bytes.len()) != count.checked_mul(usize::from(width)) {
        return None;
    }
    match width {
        2 => Some(bytes.as_chunks::<2>().0.iter().map(|b| i64::from(i16::from_le_bytes(*b))).collect()),
        4 => Some(bytes.as_chunks::<4>().0.iter().map(|b| i64::from(i32::from_le_bytes(*b))).collect()),
        8 => Some(bytes.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::program::{decode, encode};

    #[test]
    fn a_histogram_comes_back_and_damage_is_an_error() {
        for size in [1i64, 30_000, 1 << 20, 1 << 40] {
            let mut wide = vec![[0; 2]; 3 * CELLS];
            for i in (0..wide.len()).step_by(7) {
                wide[i] = [size * (i as i64 % 5 - 2), size / 2 * (i as i64 % 3)];
            }
            let histogram = Histogram::of_sums(3, 17, wide);
            let bytes = encode(&histogram);
            assert_eq!(decode::<Histogram>("partial", &bytes).unwrap(), histogram);
            for cut in [1, 10, 40, bytes.len() / 2] {
                let mut short = bytes.clone();
                short.truncate(bytes.len() - cut);
                assert!(decode::<Histogram>("partial", &short).is_err());
            }
            assert!(read(&bytes[2..bytes.len() - 1]).is_none());
        }
    }
}
