//! Sorted runs: (key, value) with ascending, distinct keys. The sparse form of histograms, vocabularies and
//! ranges of keys; merging two adds the values of equal keys, the left one first.

use std::cmp::Ordering;
use std::ops::AddAssign;

/// (key, value) pairs with ascending, distinct keys.
pub(crate) type Runs<K, V> = Vec<(K, V)>;

/// Takes `right` into `left`.
pub(crate) fn merge_runs<K: Ord, V: AddAssign>(left: &mut Runs<K, V>, right: Runs<K, V>) {
    if left.last().zip(right.first()).is_none_or(|(l, r)| l.0 < r.0) {
        left.extend(right);
        return;
    }
    let mut out = Vec::with_capacity(left.len() + right.len());
    let (mut l, mut r) = (std::mem::take(left).into_iter().peekable(), right.into_iter().peekable());
    while let (Some(a), Some(b)) = (l.peek(), r.peek()) {
        match a.0.cmp(&b.0) {
            Ordering::Less => out.extend(l.next()),
            Ordering::Greater => out.extend(r.next()),
            Ordering::Equal => {
                if let (Some((key, mut value)), Some((_, other))) = (l.next(), r.next()) {
                    value += other;
                    out.push((key, value));
                }
            }
        }
    }
    out.extend(l);
    out.extend(r);
    *left = out;
}

/// Runs of pairs that are sorted by key: values of equal keys are added in their order.
pub(crate) fn runs_of_sorted<K: Eq, V: AddAssign>(sorted: impl IntoIterator<Item = (K, V)>) -> Runs<K, V> {
    let mut out: Runs<K, V> = Vec::new();
    for (key, value) in sorted {
        match out.last_mut() {
            Some(last) if last.0 == key => last.1 += value,
            _ => out.push((key, value)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_is_sorting_and_adding() {
        let runs = |keys: &[u8]| runs_of_sorted(keys.iter().map(|k| (*k, 1u64)));
        let cases: [(&[u8], &[u8]); 5] =
            [(&[], &[]), (&[1], &[]), (&[1, 2, 2], &[3]), (&[1, 5, 9], &[1, 2, 9]), (&[7, 8], &[1, 2])];
        for (left, right) in cases {
            let mut merged = runs(left);
            merge_runs(&mut merged, runs(right));
            let mut all = [left, right].concat();
            all.sort_unstable();
            assert_eq!(merged, runs(&all));
        }
    }
}
