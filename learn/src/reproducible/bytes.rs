//! Sums as bytes: little-endian and canonical, so that equal sums are equal bytes.
//!
//! A count is a LEB128 varint. A sum is a varint of 4 · (bytes of its magnitude) + 2 · (is negative) + (has terms that
//! are not finite); then, unless it is zero, the place of its lowest byte (two bytes, counted from the lowest bit that
//! such sums can have, rounded down to whole bytes) and the magnitude, which neither begins nor ends with a zero byte;
//! then, if it has them, the counts of NaN, +∞ and −∞.

use super::exact::Exact;
use super::number::Number;

/// Bytes that are no state of an aggregate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a partial aggregate over floats is damaged at byte {at} of {length}: run the query again")]
pub struct StateError {
    at: usize,
    length: usize,
}

/// Appends a count.
pub(super) fn write_count(to: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        to.push(n as u8 | 0x80);
        n >>= 7;
    }
    to.push(n as u8);
}

/// What is left of some bytes.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], StateError> {
        let taken = self.bytes[self.at..].get(..length).ok_or_else(|| self.damaged())?;
        self.at += length;
        Ok(taken)
    }

    /// A count.
    pub fn count(&mut self) -> Result<u64, StateError> {
        let mut n = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            n |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(n);
            }
        }
        Err(self.damaged())
    }

    /// All has been read.
    pub fn end(&self) -> Result<(), StateError> {
        if self.at == self.bytes.len() { Ok(()) } else { Err(self.damaged()) }
    }

    fn damaged(&self) -> StateError {
        StateError { at: self.at, length: self.bytes.len() }
    }
}

impl<const N: usize> Exact<N> {
    /// [`Self::LOWEST`] in whole bytes, downwards.
    const LOWEST_BYTE: i32 = Self::LOWEST.div_euclid(8);
    /// Bytes that a sum can have, with those of 2^64 terms.
    const MOST_BYTES: usize = 34 * 8 * (N / 2);

    /// Appends the canonical bytes.
    pub fn write(&self, to: &mut Vec<u8>) {
        let number = self.number();
        let specials = self.specials();
        let flags = u64::from(number.negative()) << 1 | u64::from(specials != [0; 3]);
        if number.is_zero() {
            write_count(to, flags);
        } else {
            write_number(to, &number, flags, Self::LOWEST_BYTE);
        }
        if specials != [0; 3] {
            specials.into_iter().for_each(|n| write_count(to, n));
        }
    }

    /// Adds a sum that was written; returns the bytes on the heap that this one newly holds.
    pub(super) fn read(&mut self, from: &mut Reader) -> Result<usize, StateError> {
        let header = from.count()?;
        let mut grown = 0;
        let length = (header >> 2) as usize;
        if length > 0 {
            let place = from.take(2)?;
            let place = usize::from(u16::from_le_bytes([place[0], place[1]]));
            if length > Self::MOST_BYTES || place + length > Self::MOST_BYTES {
                return Err(from.damaged());
            }
            let limbs = from.take(length)?.chunks(8).map(|c| {
                let mut word = [0; 8];
                word[..c.len()].copy_from_slice(c);
                u64::from_le_bytes(word)
            });
            let number = Number::new(header & 2 != 0, limbs.collect(), 8 * (place as i32 + Self::LOWEST_BYTE));
            if number.is_zero() || number.exponent() < Self::LOWEST {
                return Err(from.damaged());
            }
            grown = self.put_any(number.limbs(), number.exponent(), number.negative());
        }
        if header & 1 != 0 {
            let specials = [from.count()?, from.count()?, from.count()?];
            grown += self.put_specials(specials);
        }
        Ok(grown)
    }
}

fn write_number(to: &mut Vec<u8>, number: &Number, flags: u64, lowest_byte: i32) {
    let place = number.exponent().div_euclid(8);
    let bits = number.exponent().rem_euclid(8) as u32;
    let limbs = number.limbs();
    let used = 64 * limbs.len() + bits as usize - limbs.last().map_or(0, |top| top.leading_zeros()) as usize;
    let length = used.div_ceil(8);
    write_count(to, (length as u64) << 2 | flags);
    to.extend_from_slice(&((place - lowest_byte) as u16).to_le_bytes());
    let end = to.len() + length;
    let mut spilled = 0;
    for limb in limbs.iter().chain([&0]) {
        let word = limb << bits | spilled;
        spilled = if bits == 0 { 0 } else { limb >> (64 - bits) };
        let left = end - to.len();
        to.extend_from_slice(&word.to_le_bytes()[..left.min(8)]);
    }
}
