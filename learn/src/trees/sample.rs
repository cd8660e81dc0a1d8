//! The fixed sample of training rows that bins are made from: whom it takes is a function of seed, shard and row
//! alone. Values travel as keys in any order; the sum of two samples is all their keys.

use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::philox::Stream;

use super::bins::{key_of, round_up};

/// Rows that the sample aims at.
pub const SAMPLE: u64 = 1 << 18;
/// Columns of one step: a partial stays below 64 MiB.
pub const COLUMNS: usize = 64;

/// Below this number of 64 random bits a row is in the sample; `None`: everyone is.
pub fn threshold(rows: u64) -> Option<u64> {
    if rows <= SAMPLE {
        return None;
    }
    Some(((u128::from(SAMPLE) << 64) / u128::from(rows)) as u64)
}

/// Rows of the sample among the first `rows` of a shard.
pub fn chosen(seed: u64, shard: u32, rows: usize, threshold: Option<u64>) -> Vec<u32> {
    let Some(threshold) = threshold else { return (0..rows as u32).collect() };
    let stream = Stream::new(seed, "bins", 0, u64::from(shard));
    (0..rows as u32).filter(|&row| stream.bits(u128::from(row)) < threshold).collect()
}

/// Values of a column in the sample: keys of f32, and how many are missing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Keys {
    /// In any order.
    pub keys: Vec<u32>,
    /// Missing values.
    pub missing: u64,
}

impl Keys {
    /// Takes in a value.
    pub fn add(&mut self, x: f64) {
        if x.is_nan() {
            self.missing += 1;
        } else {
            self.keys.push(key_of(round_up(x)));
        }
    }

    /// Takes in another sample.
    pub fn merge(&mut self, other: Self) {
        if self.keys.is_empty() {
            self.keys = other.keys;
        } else {
            self.keys.extend(other.keys);
        }
        self.missing += other.missing;
    }

    /// All keys, ascending.
    pub fn sorted(mut self) -> Vec<u32> {
        self.keys.sort_unstable();
        self.keys
    }
}

/// Ascending keys as the differences between neighbours, which postcard writes in few bytes.
struct Ascending<'a>(&'a [u32]);

impl Serialize for Ascending<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.0.len()))?;
        let mut last = 0;
        for &key in self.0 {
            seq.serialize_element(&(key - last))?;
            last = key;
        }
        seq.end()
    }
}

impl Serialize for Keys {
    /// Sorted, so that equal samples are equal bytes.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let sorted = self.clone().sorted();
        (Ascending(&sorted), self.missing).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (mut keys, missing) = <(Vec<u32>, u64)>::deserialize(deserializer)?;
        let mut last = 0u32;
        for key in &mut keys {
            last = last.wrapping_add(*key);
            *key = last;
        }
        Ok(Self { keys, missing })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_sample_is_the_same_in_any_order() {
        let keys = |values: &[f64]| {
            let mut out = Keys::default();
            values.iter().for_each(|&x| out.add(x));
            out
        };
        let mut a = keys(&[3.0, f64::NAN, -1.0]);
        a.merge(keys(&[2.0, -1.0]));
        let mut b = keys(&[2.0, -1.0, -1.0]);
        b.merge(keys(&[f64::NAN, 3.0]));
        let bytes = crate::program::encode(&a);
        assert_eq!(bytes, crate::program::encode(&b));
        let back: Keys = crate::program::decode("keys", &bytes).unwrap();
        assert_eq!(back.missing, 1);
        assert_eq!(back.sorted(), b.sorted());
    }

    #[test]
    fn the_sample_has_about_its_size() {
        assert_eq!(chosen(1, 0, 5, threshold(100)), [0, 1, 2, 3, 4]);
        let threshold = threshold(SAMPLE * 4);
        let count: usize = (0..16).map(|shard| chosen(7, shard, 10_000, threshold).len()).sum();
        assert!((39_000..41_000).contains(&count), "{count}");
    }
}
