//! Gradients of rankings: sums over pairs of rows of a query with different labels. Each pair pulls its rows apart by how
//! wrong their order is, times what the measure of the query would change if they changed places. Sources: C. Burges
//! (2010), "From RankNet to LambdaRank to LambdaMART"; the choice of pairs, their norm and weights are those of LightGBM's
//! objective `lambdarank`.

use crate::kernels::level::Kernel;
use crate::kernels::{Level, Vector};
use crate::math;
use crate::query::{Ranked, order, runs, weight};

use super::objective::{Lambdarank, MeanPrecision, Pairs, QueryLoss};
use super::slopes::{Slope, Summary};

/// What is said where rows have no query.
pub(super) const NO_QUERY: &str = "a ranking needs the query of each row: name its column in `columns.query`";

/// An objective whose loss is of queries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Ranking {
    /// NDCG.
    Gain(Lambdarank),
    /// Mean average precision.
    Precision(MeanPrecision),
}

/// Rows of whole queries.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// Their scores.
    pub scores: &'a [f64],
    /// Their labels.
    pub target: &'a [f64],
    /// Row weights; absent: all 1.
    pub weight: Option<&'a [f64]>,
    /// Number of each row's query.
    pub query: &'a [u32],
}

/// Gradients and hessians of rows, and the sum of weight · loss of their queries. With an empty `out` only the loss is of
/// use.
///
/// # Panics
/// If the lengths differ.
pub fn query_slopes(level: Level, ranking: Ranking, rows: Rows<'_>, out: &mut [Slope]) -> Summary {
    let n = rows.scores.len();
    assert!(rows.target.len() == n && rows.query.len() == n, "a label and a query a row");
    assert!(rows.weight.is_none_or(|w| w.len() == n), "a weight a row");
    assert!(out.is_empty() || out.len() == n, "a pair a row");
    level.run(Lambdas { ranking, rows, out })
}

struct Lambdas<'a> {
    ranking: Ranking,
    rows: Rows<'a>,
    out: &'a mut [Slope],
}

impl Kernel for Lambdas<'_> {
    type Output = Summary;

    #[inline(always)]
    fn run<V: Vector>(self) -> Summary {
        match self.ranking {
            Ranking::Gain(loss) => self.queries(loss),
            Ranking::Precision(loss) => self.queries(loss),
        }
    }
}

impl Lambdas<'_> {
    #[inline(always)]
    fn queries<L: QueryLoss>(self, loss: L) -> Summary {
        let Self { rows, out, .. } = self;
        let (mut summary, mut work, mut ranked) = (Summary::default(), Work::default(), Ranked::default());
        for run in runs(rows.query, 0..rows.query.len()) {
            let (scores, labels) = (&rows.scores[run.clone()], &rows.target[run.clone()]);
            let weights = rows.weight.map(|w| &w[run.clone()]);
            ranked.rank(scores, labels);
            summary.loss += weight(weights) * loss.loss(&ranked);
            if let Some(out) = out.get_mut(run.clone()).filter(|out| !out.is_empty()) {
                work.lambdas(loss, scores, labels);
                work.write(weights, out);
            }
        }
        let (mut most, mut spread) = ([0.0f32; 2], [0.0f64; 2]);
        for slope in out.iter() {
            let (g, h) = (slope[0].abs(), slope[1]);
            most = [if g > most[0] { g } else { most[0] }, if h > most[1] { h } else { most[1] }];
            summary.overflow |= !g.is_finite() | !h.is_finite();
            spread = [spread[0] + f64::from(g) * f64::from(g), spread[1] + f64::from(h)];
        }
        (summary.most, summary.spread) = (vec![most], vec![spread]);
        summary
    }
}

/// Rows of a query by rank, and what becomes of them.
#[derive(Default)]
struct Work {
    order: Vec<u32>,
    scores: Vec<f64>,
    labels: Vec<f64>,
    /// What the places of rows are worth: see [`QueryLoss`].
    worth: [Vec<f64>; 2],
    gradient: Vec<f64>,
    hessian: Vec<f64>,
    /// Of the pairs of one row with those below it.
    pull: Vec<f64>,
    curve: Vec<f64>,
}

/// The row that is paired with all rows below it.
#[derive(Clone, Copy)]
struct Upper {
    score: f64,
    label: f64,
    worth: [f64; 2],
}

impl Work {
    #[inline(always)]
    fn lambdas<L: QueryLoss>(&mut self, loss: L, scores: &[f64], labels: &[f64]) {
        let n = scores.len();
        order(scores, &mut self.order);
        self.scores.clear();
        self.scores.extend(self.order.iter().map(|&row| scores[row as usize]));
        self.labels.clear();
        self.labels.extend(self.order.iter().map(|&row| labels[row as usize]));
        for values in [&mut self.gradient, &mut self.hessian, &mut self.pull, &mut self.curve] {
            values.clear();
            values.resize(n, 0.0);
        }
        let pairs = loss.pairs();
        let factor = loss.worth(&self.labels, &mut self.worth);
        if factor == 0.0 {
            return;
        }
        let far = self.scores[0] != self.scores[n - 1];
        let mut total = 0.0;
        for i in 0..(n - 1).min(pairs.truncation_level as usize) {
            let upper = Upper { score: self.scores[i], label: self.labels[i], worth: [self.worth[0][i], self.worth[1][i]] };
            self.pull::<L>(upper, i + 1, pairs, factor, pairs.norm && far);
            total += self.take(i);
        }
        if pairs.norm && total > 0.0 {
            let norm = math::log2(1.0 + total) / total;
            self.gradient.iter_mut().chain(&mut self.hessian).for_each(|x| *x *= norm);
        }
    }

    /// What each row from rank `first` on does to one above them: its pull towards a higher score, and its curvature.
    #[inline(always)]
    fn pull<L: QueryLoss>(&mut self, upper: Upper, first: usize, pairs: Pairs, factor: f64, normed: bool) {
        let [left, right] = &self.worth;
        let rows = self.scores[first..].iter().zip(&self.labels[first..]).zip(left[first..].iter().zip(&right[first..]));
        let out = self.pull[first..].iter_mut().zip(&mut self.curve[first..]);
        for (((score, label), (left, right)), (pull, curve)) in rows.zip(out) {
            let sign = if upper.label > *label { 1.0 } else { -1.0 };
            let apart = if upper.label == *label { 0.0 } else { factor };
            let distance = upper.score - score;
            let mut change = L::change(upper.worth, [*left, *right]) * apart;
            change = if normed { change / (0.01 + distance.abs()) } else { change };
            // The probability that the pair is in the wrong order.
            let wrong = 1.0 / (1.0 + math::exp(pairs.sigmoid * (sign * distance)));
            *pull = sign * (pairs.sigmoid * change * wrong);
            *curve = pairs.sigmoid * pairs.sigmoid * change * (wrong * (1.0 - wrong));
        }
    }

    /// Adds the pairs of rank `upper` with those below it; gives twice the sum of their pulls.
    #[inline(always)]
    fn take(&mut self, upper: usize) -> f64 {
        let (mut pull, mut curve, mut total) = (0.0, 0.0, 0.0);
        for j in upper + 1..self.scores.len() {
            pull += self.pull[j];
            curve += self.curve[j];
            total += self.pull[j].abs();
            self.gradient[j] += self.pull[j];
            self.hessian[j] += self.curve[j];
        }
        self.gradient[upper] -= pull;
        self.hessian[upper] += curve;
        2.0 * total
    }

    fn write(&self, weights: Option<&[f64]>, out: &mut [Slope]) {
        for (rank, &row) in self.order.iter().enumerate() {
            let weight = weights.map_or(1.0, |w| w[row as usize]);
            out[row as usize] = [(self.gradient[rank] * weight) as f32, (self.hessian[rank] * weight) as f32];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(truncation_level: u32, norm: bool) -> Pairs {
        Pairs { truncation_level, sigmoid: 1.0, norm }
    }

    fn of(ranking: Ranking, scores: &[f64], target: &[f64], weight: Option<&[f64]>) -> (Vec<Slope>, Summary) {
        let mut out = vec![[0.0; 2]; scores.len()];
        let rows = Rows { scores, target, weight, query: &vec![3; scores.len()] };
        let summary = query_slopes(Level::detect(), ranking, rows, &mut out);
        (out, summary)
    }

    #[test]
    fn a_pair_is_pulled_apart_by_what_changing_places_is_worth() {
        let (out, summary) = of(Ranking::Gain(Lambdarank { pairs: pairs(30, false) }), &[1.0, 0.5], &[0.0, 2.0], None);
        // Gain 3 at rank 2 instead of rank 1, of a best of 3.
        let change = 1.0 - 1.0 / math::log2(3.0);
        let wrong = 1.0 / (1.0 + math::exp(-0.5));
        assert!((f64::from(out[0][0]) - change * wrong).abs() < 1e-7 && out[1][0] == -out[0][0], "{out:?}");
        assert!((f64::from(out[0][1]) - change * wrong * (1.0 - wrong)).abs() < 1e-7 && out[1][1] == out[0][1]);
        assert!((summary.loss - change).abs() < 1e-15);
        let precision = Ranking::Precision(MeanPrecision { pairs: pairs(30, false) });
        let (out, summary) = of(precision, &[1.0, 0.5], &[0.0, 1.0], None);
        assert!((f64::from(out[0][0]) - 0.5 * wrong).abs() < 1e-7 && summary.loss == 0.5);
    }

    /// The change of each measure, from its own definition.
    #[test]
    fn changes_are_those_of_the_measures() {
        let labels = [0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0];
        let graded = [0.0, 3.0, 1.0, 0.0, 2.0, 1.0, 4.0];
        let falling: Vec<f64> = (0..labels.len()).map(|i| -(i as f64)).collect();
        let check = |labels: &[f64], changed: &dyn Fn(usize, usize) -> f64, measure: &dyn Fn(&Ranked) -> f64| {
            let mut ranked = Ranked::default();
            for j in 1..labels.len() {
                for i in (0..j).filter(|&i| labels[i] != labels[j]) {
                    ranked.rank(&falling, labels);
                    let before = measure(&ranked);
                    let mut swapped = labels.to_vec();
                    swapped.swap(i, j);
                    ranked.rank(&falling, &swapped);
                    let want = (measure(&ranked) - before).abs();
                    assert!((changed(i, j) - want).abs() < 1e-14, "{i} {j}: {} {want}", changed(i, j));
                }
            }
        };
        let mut worth = <[Vec<f64>; 2]>::default();
        let factor = Lambdarank { pairs: pairs(30, true) }.worth(&graded, &mut worth);
        let at = |i: usize| [worth[0][i], worth[1][i]];
        check(&graded, &|i, j| Lambdarank::change(at(i), at(j)) * factor, &|r| r.ndcg(30));
        let mut worth = <[Vec<f64>; 2]>::default();
        let factor = MeanPrecision { pairs: pairs(30, true) }.worth(&labels, &mut worth);
        let at = |i: usize| [worth[0][i], worth[1][i]];
        check(&labels, &|i, j| MeanPrecision::change(at(i), at(j)) * factor, &|r| r.average_precision(30));
    }

    #[test]
    fn every_level_gives_the_same_bits_and_nothing_to_order_gives_nothing() {
        let n = 300;
        let scores: Vec<f64> = (0..n).map(|i| ((i * 37) % 101) as f64 / 17.0).collect();
        let target: Vec<f64> = (0..n).map(|i| ((i * 13) % 5) as f64).collect();
        let weight: Vec<f64> = (0..n).map(|i| 1.0 + (i % 3) as f64).collect();
        let query: Vec<u32> = (0..n as u32).map(|i| i / 41).collect();
        let rows = Rows { scores: &scores, target: &target, weight: Some(&weight), query: &query };
        let ranking = Ranking::Gain(Lambdarank { pairs: pairs(10, true) });
        let at = |level: Level| {
            let mut out = vec![[0.0; 2]; n];
            let summary = query_slopes(level, ranking, rows, &mut out);
            (out, summary)
        };
        let first = at(Level::detect());
        assert!(first.1.most[0][0] > 0.0 && !first.1.overflow && first.0.iter().all(|s| s[1] >= 0.0));
        for level in Level::available() {
            assert_eq!(at(level), first, "{}", level.name());
        }
        let alone = query_slopes(Level::detect(), ranking, rows, &mut []);
        assert_eq!(alone.loss, first.1.loss);
        let (out, summary) = of(ranking, &[1.0, 2.0, 3.0], &[0.0; 3], None);
        assert_eq!((out, summary.loss), (vec![[0.0; 2]; 3], 0.0));
        assert_eq!(of(ranking, &[1.0], &[1.0], None).0, [[0.0; 2]]);
        assert_eq!(of(ranking, &[3.0, 2.0], &[1.0, 0.0], Some(&[0.0, 0.0])).0, [[0.0; 2]; 2]);
    }
}
