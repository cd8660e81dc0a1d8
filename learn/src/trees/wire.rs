//! Histograms as bytes: canonical, of the sums alone. Per feature a bit for every cell that is not empty, then the
//! cells' gradients and hessians in the fewest bytes that hold them all.

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

/// Bytes that hold numbers in two's complement.
fn width(low: i64, high: i64) -> usize {
    let most = high.max(!low) as u64;
    (u64::BITS - most.leading_zeros()) as usize / 8 + 1
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
            2 => put::<2>(&cells, half, &mut out),
            3 => put::<3>(&cells, half, &mut out),
            4 => put::<4>(&cells, half, &mut out),
            width => cells.iter().for_each(|c| out.extend_from_slice(&c[half].to_le_bytes()[..width])),
        }
    }
    out
}

/// The lowest bytes of one half of some cells.
fn put<const WIDTH: usize>(cells: &[Pair], half: usize, out: &mut Vec<u8>) {
    let at = out.len();
    out.resize(at + cells.len() * WIDTH, 0);
    for (bytes, cell) in out[at..].as_chunks_mut::<WIDTH>().0.iter_mut().zip(cells) {
        bytes.copy_from_slice(&cell[half].to_le_bytes()[..WIDTH]);
    }
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
    Some(match width {
        2 => get::<2>(bytes),
        3 => get::<3>(bytes),
        4 => get::<4>(bytes),
        1..=8 => bytes.chunks_exact(usize::from(width)).map(extended).collect(),
        _ => return None,
    })
}

fn get<const WIDTH: usize>(bytes: &[u8]) -> Vec<i64> {
    bytes.as_chunks::<WIDTH>().0.iter().map(|bytes| extended(bytes)).collect()
}

/// A number of up to eight bytes with its sign.
#[inline(always)]
fn extended(bytes: &[u8]) -> i64 {
    let mut all = [0; 8];
    all[..bytes.len()].copy_from_slice(bytes);
    let free = 64 - 8 * bytes.len();
    i64::from_le_bytes(all) << free >> free
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::program::{decode, encode};

    #[test]
    fn widths_are_the_fewest_bytes() {
        for (low, high, bytes) in [(0, 0, 1), (-128, 127, 1), (-129, 0, 2), (0, 128, 2), (0, 0x7fff, 2), (-0x8001, 0, 3)] {
            assert_eq!(width(low, high), bytes, "{low} {high}");
        }
        for size in 1..=8 {
            let most = i64::MAX >> (64 - 8 * size);
            assert_eq!((width(!most, most), width(0, most)), (size, size));
            for x in [most, !most, 0, -1, most / 3, -most / 5] {
                assert_eq!(extended(&x.to_le_bytes()[..size]), x);
            }
        }
    }

    #[test]
    fn a_histogram_comes_back_and_damage_is_an_error() {
        for size in [1i64, 30_000, 1 << 20, 1 << 28, 1 << 40, 1 << 50] {
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
