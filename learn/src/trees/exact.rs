//! Sums of a number per shard, exact: any order and grouping gives the same bytes.

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::reproducible::{Sums, Total};

/// An exact sum of f64.
#[derive(Debug, Clone, Default)]
pub struct ExactSum(Total);

impl ExactSum {
    /// The sum of one number.
    pub fn of(x: f64) -> Self {
        let mut out = Self::default();
        out.0.add([x]);
        out
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: &Self) {
        self.0.merge(&other.0);
    }

    /// The f64 nearest to the sum; 0 of nothing.
    pub fn value(&self) -> f64 {
        self.0.sum().unwrap_or(0.0)
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.0.write(&mut out);
        out
    }
}

impl PartialEq for ExactSum {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Serialize for ExactSum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.bytes())
    }
}

impl<'de> Deserialize<'de> for ExactSum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = ExactSum;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the bytes of an exact sum")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<ExactSum, E> {
                let mut out = ExactSum::default();
                match out.0.merge_bytes(bytes) {
                    Ok(_) => Ok(out),
                    Err(e) => Err(E::custom(e)),
                }
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn order_changes_nothing() {
        let terms = [1e300, 1.0, -1e300, 1e-300, 3.5];
        let sum = |order: &[usize]| {
            let mut out = ExactSum::default();
            order.iter().for_each(|&i| out.merge(&ExactSum::of(terms[i])));
            out
        };
        let (a, b) = (sum(&[0, 1, 2, 3, 4]), sum(&[4, 2, 3, 0, 1]));
        assert_eq!(a, b);
        assert_eq!(a.value(), 4.5);
        let bytes = crate::program::encode(&a);
        let back: ExactSum = crate::program::decode("sum", &bytes).unwrap();
        assert_eq!(back, a);
    }
}
