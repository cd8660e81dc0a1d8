//! Histograms as bytes: canonical, of the sums alone. A bit for every cell that is not empty, then the gradient and the
//! hessian of each of these, in the fewest bytes that hold those of all.

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::kernels::level::Kernel;
use crate::kernels::{Level, Vector};

use super::CELLS;
use super::histogram::{FLUSH, Histogram, Pair, pack_sums, unpack};
use super::sums::Sums;

/// Cells of a word of bits.
const GROUP: usize = 64;
/// Bytes before the bits: rows, features, widths.
const HEAD: usize = 14;
/// Most bytes of a cell.
const MOST: usize = 16;

impl PartialEq for Histogram {
    fn eq(&self, other: &Self) -> bool {
        let (a, b) = (self.settled(), other.settled());
        a.rows() == b.rows() && a.features() == b.features() && (0..a.features()).all(|j| a.feature(j) == b.feature(j))
    }
}

impl Serialize for Histogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let settled = self.settled();
        let out = match settled.words() {
            Some(words) => write(&settled, words),
            None => write(&settled, &(0..settled.features()).flat_map(|j| settled.feature(j)).collect::<Vec<Pair>>()),
        };
        serializer.serialize_bytes(&out)
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

/// A cell in one of the forms that sums have.
trait Cell: Copy + Default {
    fn pair(self) -> Pair;
    fn of(pair: Pair) -> Self;
}

impl Cell for u64 {
    #[inline(always)]
    fn pair(self) -> Pair {
        unpack(self)
    }

    #[inline(always)]
    fn of(pair: Pair) -> Self {
        pack_sums(pair)
    }
}

impl Cell for Pair {
    #[inline(always)]
    fn pair(self) -> Pair {
        self
    }

    #[inline(always)]
    fn of(pair: Pair) -> Self {
        pair
    }
}

/// A bit for each cell that is not empty, and the bits in which gradients differ from their signs and hessians from 0.
struct Look<'a, C> {
    cells: &'a [C],
    words: &'a mut Vec<u64>,
}

impl<C: Cell> Kernel for Look<'_, C> {
    type Output = [u64; 2];

    #[inline(always)]
    fn run<V: Vector>(self) -> [u64; 2] {
        let (mut gradient, mut hessian) = (0u64, 0u64);
        for group in self.cells.as_chunks::<GROUP>().0 {
            let mut word = 0u64;
            for (i, cell) in group.iter().enumerate() {
                let [g, h] = cell.pair();
                gradient |= (g ^ (g >> 63)) as u64;
                hessian |= h as u64;
                word |= u64::from(g | h != 0) << i;
            }
            self.words.push(word);
        }
        [gradient, hessian]
    }
}

/// Bytes that hold signed numbers and others with these bits, at least one.
fn widths([signed, unsigned]: [u64; 2]) -> [usize; 2] {
    let bits = |x: u64| (u64::BITS - x.leading_zeros()) as usize;
    [bits(signed) / 8 + 1, bits(unsigned).div_ceil(8).max(1)]
}

fn write<C: Cell>(histogram: &Histogram, cells: &[C]) -> Vec<u8> {
    let mut words = Vec::with_capacity(cells.len() / GROUP);
    let widths = widths(Level::detect().run(Look { cells, words: &mut words }));
    let count: usize = words.iter().map(|w| w.count_ones() as usize).sum();
    let start = HEAD + words.len() * 8;
    let end = start + count * (widths[0] + widths[1]);
    // A cell is written with more bytes than it has: the next one stands over them, and the last ones are cut off.
    let mut out = vec![0; end + MOST];
    out[..8].copy_from_slice(&histogram.rows().to_le_bytes());
    out[8..12].copy_from_slice(&(histogram.features() as u32).to_le_bytes());
    out[12..HEAD].copy_from_slice(&widths.map(|w| w as u8));
    let (bits, rest) = out[HEAD..].split_at_mut(words.len() * 8);
    for (bits, word) in bits.as_chunks_mut::<8>().0.iter_mut().zip(&words) {
        *bits = word.to_le_bytes();
    }
    if widths[0] + widths[1] <= 8 {
        put::<C, 8>(cells, &words, widths, rest)
    } else {
        put::<C, MOST>(cells, &words, widths, rest)
    }
    out.truncate(end);
    out
}

/// The cells whose bits are set, one after the other, each written as `WRITTEN` bytes.
fn put<C: Cell, const WRITTEN: usize>(cells: &[C], words: &[u64], widths: [usize; 2], out: &mut [u8]) {
    let (size, shift) = (widths[0] + widths[1], 8 * widths[0] as u32);
    let mut at = 0;
    let mut one = |cell: C| {
        let [g, h] = cell.pair();
        let bytes: &mut [u8] = &mut out[at..at + WRITTEN];
        if WRITTEN == 8 {
            let low = g as u64 & ((1u64 << shift) - 1);
            bytes.copy_from_slice(&(low | (h as u64) << shift).to_le_bytes());
        } else {
            bytes[..8].copy_from_slice(&g.to_le_bytes());
            bytes[widths[0]..widths[0] + 8].copy_from_slice(&h.to_le_bytes());
        }
        at += size;
    };
    for (group, &word) in cells.as_chunks::<GROUP>().0.iter().zip(words) {
        if word == u64::MAX {
            group.iter().for_each(|&cell| one(cell));
        } else {
            set_bits(word, |i| one(group[i]));
        }
    }
}

/// The numbers of the bits that are set, ascending.
#[inline(always)]
fn set_bits(mut word: u64, mut take: impl FnMut(usize)) {
    while word != 0 {
        take(word.trailing_zeros() as usize);
        word &= word - 1;
    }
}

fn read(bytes: &[u8]) -> Option<Histogram> {
    let (rows, bytes) = bytes.split_first_chunk::<8>()?;
    let (features, bytes) = bytes.split_first_chunk::<4>()?;
    let (widths, bytes) = bytes.split_first_chunk::<2>()?;
    let (rows, features) = (u64::from_le_bytes(*rows), u32::from_le_bytes(*features) as usize);
    let widths = widths.map(usize::from);
    let (bits, cells) = bytes.split_at_checked(features.checked_mul(CELLS / 8)?)?;
    let words: Vec<u64> = bits.as_chunks::<8>().0.iter().map(|b| u64::from_le_bytes(*b)).collect();
    let count: usize = words.iter().map(|w| w.count_ones() as usize).sum();
    let most = if rows <= FLUSH as u64 { 4 } else { 8 };
    let is_whole = widths.iter().all(|w| (1..=most).contains(w)) && Some(cells.len()) == count.checked_mul(widths[0] + widths[1]);
    if !is_whole {
        return None;
    }
    let sums =
        if rows <= FLUSH as u64 { Sums::Packed(get(&words, widths, cells)) } else { Sums::Wide(get(&words, widths, cells)) };
    Some(Histogram::of_sums(features, rows, sums))
}

/// The cells whose bits are set, the others empty.
fn get<C: Cell>(words: &[u64], widths: [usize; 2], bytes: &[u8]) -> Vec<C> {
    let mut out = vec![C::default(); words.len() * GROUP];
    let free = widths.map(|w| 64 - 8 * w as u32);
    let size = widths[0] + widths[1];
    let mut at = 0;
    let mut next = || {
        let (g, h) = if size <= 8 {
            let both = number(bytes, at);
            (both, both >> (8 * widths[0] as u32))
        } else {
            (number(bytes, at), number(bytes, at + widths[0]))
        };
        at += size;
        C::of([(g << free[0]) as i64 >> free[0], (h << free[1] >> free[1]) as i64])
    };
    for (group, &word) in out.as_chunks_mut::<GROUP>().0.iter_mut().zip(words) {
        if word == u64::MAX {
            group.iter_mut().for_each(|cell| *cell = next());
        } else {
            set_bits(word, |i| group[i] = next());
        }
    }
    out
}

/// Eight bytes as a number; past the end zeros.
#[inline(always)]
fn number(bytes: &[u8], at: usize) -> u64 {
    if let Some(whole) = bytes.get(at..at + 8) {
        return u64::from_le_bytes(whole.try_into().expect("eight bytes"));
    }
    let mut all = [0; 8];
    let rest = &bytes[at..];
    all[..rest.len()].copy_from_slice(rest);
    u64::from_le_bytes(all)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::program::{decode, encode};

    #[test]
    fn widths_are_the_fewest_bytes() {
        let of = |g: i64, h: i64| widths([(g ^ (g >> 63)) as u64, h as u64]);
        for (g, h, want) in
            [(0, 0, [1, 1]), (-128, 255, [1, 1]), (-129, 256, [2, 2]), (128, 0xffff, [2, 2]), (-0x8001, 1, [3, 1])]
        {
            assert_eq!(of(g, h), want, "{g} {h}");
        }
        for size in 1..=8 {
            let most = i64::MAX >> (64 - 8 * size);
            assert_eq!((of(most, most)[0], of(!most, 1)[0]), (size, size));
        }
    }

    fn histogram(rows: u64, size: i64, step: usize) -> Histogram {
        let mut pairs = vec![[0; 2]; 3 * CELLS];
        for i in (0..pairs.len()).step_by(step) {
            pairs[i] = [size * (i as i64 % 5 - 2), size / 2 * (i as i64 % 3) + 1];
        }
        Histogram::of_sums(3, rows, Sums::of_pairs(pairs, rows))
    }

    #[test]
    fn a_histogram_comes_back_and_damage_is_an_error() {
        let few = FLUSH as u64;
        let sizes = [1i64, 100, 30_000, 1 << 20, 1 << 28, 1 << 40, 1 << 50, 1 << 60];
        for (rows, size) in sizes.iter().flat_map(|&size| [(few, size.min(1 << 28)), (few + 1, size)]) {
            for step in [1, 7] {
                let histogram = histogram(rows, size, step);
                let bytes = encode(&histogram);
                let back = decode::<Histogram>("partial", &bytes).unwrap();
                assert_eq!(back, histogram);
                assert_eq!(back.into_sums(), histogram.clone().into_sums(), "{rows} {size}");
                for cut in [1, 10, 40, bytes.len() / 2] {
                    let mut short = bytes.clone();
                    short.truncate(bytes.len() - cut);
                    assert!(decode::<Histogram>("partial", &short).is_err());
                }
                assert!(read(&bytes[2..bytes.len() - 1]).is_none());
            }
        }
        // Few rows cannot have sums that a word does not hold.
        let mut bytes = encode(&histogram(few + 1, 1 << 40, 1));
        let at = bytes.windows(8).position(|w| w == (few + 1).to_le_bytes()).unwrap();
        bytes[at..at + 8].copy_from_slice(&few.to_le_bytes());
        assert!(decode::<Histogram>("partial", &bytes).is_err());
    }
}
