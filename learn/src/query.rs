//! Rows of a query: where they stand, the order that scores put them in, and how good that order is. Labels are whole
//! numbers from 0 to [`MOST_LABEL`]; a row is relevant if its label is above 0. A query without a relevant row is in
//! order whatever its scores are: every measure of it is 1, as in LightGBM.

use std::ops::Range;
use std::sync::LazyLock;

use crate::math;

/// Highest label: gains are 2^label − 1 and stay exact.
pub const MOST_LABEL: u32 = 31;

/// Discounts of the first ranks.
static DISCOUNTS: LazyLock<Vec<f64>> = LazyLock::new(|| (0..1024).map(compute_discount).collect());

fn compute_discount(rank: usize) -> f64 {
    1.0 / math::log2(rank as f64 + 2.0)
}

/// What a gain at a rank (from 0) counts: 1 / log2(rank + 2). Source: K. Järvelin and J. Kekäläinen (2002), "Cumulated
/// gain-based evaluation of IR techniques".
pub fn discount(rank: usize) -> f64 {
    DISCOUNTS.get(rank).copied().unwrap_or_else(|| compute_discount(rank))
}

/// 2^label − 1.
pub fn gain(label: f64) -> f64 {
    ((1u64 << (label as u32).min(MOST_LABEL)) - 1) as f64
}

/// Whether a target is a label that is at most `most`.
pub fn is_label(target: f64, most: u32) -> bool {
    target >= 0.0 && target <= f64::from(most) && target == (target as u32) as f64
}

/// Rows of each query among some rows: rows of a query stand side by side.
///
/// # Panics
/// If the rows are not all there.
pub fn runs(query: &[u32], rows: Range<usize>) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut start = rows.start;
    query[rows].chunk_by(|a, b| a == b).map(move |run| {
        let own = start..start + run.len();
        start = own.end;
        own
    })
}

/// Weight of a query: the mean of its rows', as in LightGBM.
pub fn weight(rows: Option<&[f64]>) -> f64 {
    rows.map_or(1.0, |w| w.iter().sum::<f64>() / w.len() as f64)
}

/// Puts the numbers of rows into `order` by falling score. Rows of one score stay in their canonical order, which is that
/// of a hash and favours none.
pub fn order(scores: &[f64], order: &mut Vec<u32>) {
    order.clear();
    order.extend(0..scores.len() as u32);
    // −0 and 0 are one score.
    let score = |row: &u32| scores[*row as usize] + 0.0;
    order.sort_by(|a, b| score(b).total_cmp(&score(a)));
}

/// Labels of a query by rank.
#[derive(Debug, Default)]
pub struct Ranked {
    /// In the order of the scores.
    labels: Vec<f64>,
    /// Falling.
    best: Vec<f64>,
    relevant: usize,
    order: Vec<u32>,
}

impl Ranked {
    /// Ranks the rows of a query.
    ///
    /// # Panics
    /// If there is not a label for each score.
    pub fn rank(&mut self, scores: &[f64], labels: &[f64]) {
        assert_eq!(scores.len(), labels.len(), "a label for each score");
        order(scores, &mut self.order);
        self.labels.clear();
        self.labels.extend(self.order.iter().map(|&row| labels[row as usize]));
        self.best.clear();
        self.best.extend_from_slice(labels);
        self.best.sort_by(|a, b| b.total_cmp(a));
        self.relevant = labels.iter().filter(|label| **label > 0.0).count();
    }

    /// Normalised discounted cumulative gain of the first `at` ranks.
    pub fn ndcg(&self, at: usize) -> f64 {
        if self.relevant == 0 { 1.0 } else { dcg(&self.labels, at) / dcg(&self.best, at) }
    }

    /// Average precision of the first `at` ranks: the mean precision at the ranks of relevant rows, as many as could
    /// stand there.
    pub fn average_precision(&self, at: usize) -> f64 {
        if self.relevant == 0 {
            return 1.0;
        }
        let (mut hits, mut sum) = (0.0, 0.0);
        for (rank, label) in self.labels.iter().take(at).enumerate() {
            if *label > 0.0 {
                hits += 1.0;
                sum += hits / (rank + 1) as f64;
            }
        }
        sum / self.relevant.min(at) as f64
    }

    /// 1 / rank (from 1) of the first relevant row.
    pub fn reciprocal_rank(&self) -> f64 {
        self.labels.iter().position(|label| *label > 0.0).map_or(1.0, |rank| 1.0 / (rank + 1) as f64)
    }

    /// Share of the relevant rows that are among the first `at`.
    pub fn recall(&self, at: usize) -> f64 {
        if self.relevant == 0 {
            return 1.0;
        }
        self.labels.iter().take(at).filter(|label| **label > 0.0).count() as f64 / self.relevant as f64
    }
}

/// Discounted cumulative gain of the first `at` ranks.
pub fn dcg(labels: &[f64], at: usize) -> f64 {
    labels.iter().take(at).enumerate().map(|(rank, label)| gain(*label) * discount(rank)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_of_a_query() {
        let mut ranked = Ranked::default();
        // In the order of the scores: 0, 2, 1, 0, 1.
        ranked.rank(&[0.5, 0.9, -1.0, 0.2, 0.7], &[1.0, 0.0, 1.0, 0.0, 2.0]);
        let best = 3.0 + 1.0 / math::log2(3.0) + 0.5;
        let found = 3.0 / math::log2(3.0) + 0.5 + 1.0 / math::log2(6.0);
        assert!((ranked.ndcg(usize::MAX) - found / best).abs() < 1e-15);
        assert_eq!(ranked.ndcg(1), 0.0);
        assert_eq!(ranked.average_precision(3), (1.0 / 2.0 + 2.0 / 3.0) / 3.0);
        assert_eq!(ranked.average_precision(2), (1.0 / 2.0) / 2.0);
        assert_eq!((ranked.reciprocal_rank(), ranked.recall(2), ranked.recall(10)), (0.5, 1.0 / 3.0, 1.0));
    }

    #[test]
    fn ties_stay_in_their_order_and_nothing_to_find_is_found() {
        let mut ranked = Ranked::default();
        ranked.rank(&[0.0, -0.0, 1.0], &[0.0, 1.0, 0.0]);
        assert_eq!(ranked.reciprocal_rank(), 1.0 / 3.0);
        ranked.rank(&[1.0, 2.0], &[0.0, 0.0]);
        assert_eq!([ranked.ndcg(10), ranked.average_precision(5), ranked.reciprocal_rank(), ranked.recall(1)], [1.0; 4]);
    }

    #[test]
    fn labels_gains_and_runs() {
        assert_eq!([gain(0.0), gain(1.0), gain(4.0), gain(31.0)], [0.0, 1.0, 15.0, 2_147_483_647.0]);
        assert!(is_label(31.0, MOST_LABEL) && !is_label(32.0, MOST_LABEL) && !is_label(2.0, 1));
        assert!(!is_label(0.5, MOST_LABEL) && !is_label(-1.0, MOST_LABEL) && !is_label(f64::NAN, MOST_LABEL));
        let found: Vec<_> = runs(&[4, 4, 7, 1, 1, 1, 4], 1..6).collect();
        assert_eq!(found, [1..2, 2..3, 3..6]);
        assert_eq!((weight(None), weight(Some(&[1.0, 2.0]))), (1.0, 1.5));
    }
}
