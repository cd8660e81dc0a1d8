//! Rows of both classes by the key of their score: what exact ranks need where every weight is 1. Keys and counts
//! stand in columns, so that merging is a loop without branches and keys cross the wire as they are.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::ranking::Span;
use super::sums::Scored;
use crate::algorithm::Merge;
use crate::statistics::order::key;

/// Distinct keys, ascending, with the rows of each class.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Columns")]
pub(super) struct Counted {
    #[serde(serialize_with = "write_words")]
    keys: Vec<u64>,
    positive: Vec<u64>,
    negative: Vec<u64>,
}

/// [`Counted`] as it comes from a wire.
#[derive(Deserialize)]
struct Columns {
    #[serde(deserialize_with = "read_words")]
    keys: Vec<u64>,
    positive: Vec<u64>,
    negative: Vec<u64>,
}

impl TryFrom<Columns> for Counted {
    type Error = &'static str;

    fn try_from(columns: Columns) -> Result<Self, Self::Error> {
        let Columns { keys, positive, negative } = columns;
        match keys.len() == positive.len() && keys.len() == negative.len() {
            true => Ok(Self { keys, positive, negative }),
            false => Err("keys and counts differ in number"),
        }
    }
}

impl Counted {
    /// The rows of a span in one segment of a shard.
    pub fn of(span: &Span, scored: &Scored) -> Self {
        let (mut yes, mut no) = (Vec::new(), Vec::new());
        for (score, target) in scored.scores.iter().zip(scored.target) {
            let key = key(*score);
            if key < span.first || key > span.last {
                continue;
            }
            if *target == scored.positive { yes.push(key) } else { no.push(key) }
        }
        let mut out = Self::of_one(yes, |counted| &mut counted.positive);
        out.merge(Self::of_one(no, |counted| &mut counted.negative));
        out
    }

    /// Rows of one class; `class` is where they count.
    fn of_one(mut rows: Vec<u64>, class: fn(&mut Self) -> &mut Vec<u64>) -> Self {
        rows.sort_unstable();
        let mut counts = Vec::with_capacity(rows.len());
        let mut keys = Vec::with_capacity(rows.len());
        for key in rows {
            match (keys.last(), counts.last_mut()) {
                (Some(last), Some(count)) if *last == key => *count += 1,
                _ => {
                    keys.push(key);
                    counts.push(1);
                }
            }
        }
        let zeros = vec![0; keys.len()];
        let mut out = Self { positive: zeros.clone(), negative: zeros, keys };
        *class(&mut out) = counts;
        out
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Rows of both classes, from the highest key down.
    pub fn descending(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.positive.iter().copied().zip(self.negative.iter().copied()).rev()
    }

    fn with_capacity(keys: usize) -> Self {
        Self { keys: Vec::with_capacity(keys), positive: Vec::with_capacity(keys), negative: Vec::with_capacity(keys) }
    }

    fn extend_from(&mut self, other: &Self, start: usize) {
        self.keys.extend_from_slice(&other.keys[start..]);
        self.positive.extend_from_slice(&other.positive[start..]);
        self.negative.extend_from_slice(&other.negative[start..]);
    }
}

impl Merge for Counted {
    fn merge(&mut self, right: Self) {
        let left = std::mem::take(self);
        let mut out = Self::with_capacity(left.keys.len() + right.keys.len());
        let (mut l, mut r) = (0, 0);
        while l < left.keys.len() && r < right.keys.len() {
            let (a, b) = (left.keys[l], right.keys[r]);
            // Which of the two is less is as random as the scores: no branch.
            let (from_left, from_right) = (u64::from(a <= b), u64::from(b <= a));
            out.keys.push(a.min(b));
            out.positive.push(from_left * left.positive[l] + from_right * right.positive[r]);
            out.negative.push(from_left * left.negative[l] + from_right * right.negative[r]);
            l += from_left as usize;
            r += from_right as usize;
        }
        out.extend_from(&left, l);
        out.extend_from(&right, r);
        *self = out;
    }
}

fn write_words<S: Serializer>(words: &[u64], serializer: S) -> Result<S::Ok, S::Error> {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    serializer.serialize_bytes(&bytes)
}

fn read_words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u64>, D::Error> {
    struct Words;

    impl de::Visitor<'_> for Words {
        type Value = Vec<u64>;

        fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
            f.write_str("bytes of 64-bit words")
        }

        fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Vec<u64>, E> {
            let (words, rest) = bytes.as_chunks::<8>();
            match rest.is_empty() {
                true => Ok(words.iter().map(|word| u64::from_le_bytes(*word)).collect()),
                false => Err(E::invalid_length(bytes.len(), &self)),
            }
        }
    }

    deserializer.deserialize_bytes(Words)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::program::{decode, encode};

    fn counted(rows: &[(f64, bool)]) -> Counted {
        let scores: Vec<f64> = rows.iter().map(|(score, _)| *score).collect();
        let target: Vec<f64> = rows.iter().map(|(_, positive)| f64::from(*positive)).collect();
        let all = Span { ranking: 0, first: 0, last: u64::MAX, rows: 0, unit: true };
        Counted::of(&all, &Scored { scores: &scores, target: &target, positive: 1.0, weight: None })
    }

    #[test]
    fn merging_is_counting_together() {
        let rows = [(0.5, true), (0.25, false), (0.5, false), (0.5, true), (-1.0, true), (0.0, false), (-0.0, true)];
        for cut in 0..=rows.len() {
            let mut merged = counted(&rows[..cut]);
            merged.merge(counted(&rows[cut..]));
            assert_eq!(merged, counted(&rows), "{cut}");
        }
        assert_eq!(counted(&rows).descending().collect::<Vec<_>>(), [(2, 1), (0, 1), (1, 1), (1, 0)]);
    }

    #[test]
    fn bytes_come_back_and_damage_is_refused() {
        let some = counted(&[(0.5, true), (0.25, false)]);
        let bytes = encode(&some);
        assert_eq!(decode::<Counted>("counted", &bytes).unwrap(), some);
        let uneven = Counted { positive: vec![1], ..some };
        assert!(decode::<Counted>("counted", &encode(&uneven)).is_err());
    }
}
