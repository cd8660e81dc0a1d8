//! Metrics of rankings: means over queries, each counted with its weight. A query stands whole in a shard and a segment,
//! so that a shard contributes sums. Rows of one score stay in their canonical order; a query without a relevant row
//! counts 1, as in LightGBM.

use serde::{Deserialize, Serialize};

use super::scoring::Segments;
use super::{Metric, MetricsOutput};
use crate::algorithm::{Algorithm, LearnError, Merge, Progress};
use crate::query::{self, MOST_LABEL, Ranked, is_label, runs};
use crate::shard::{EncodedShard, Segment};
use crate::statistics::PerSegment;
use crate::statistics::compensated::Compensated;

/// What is measured of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Normalised discounted cumulative gain, gains 2^label − 1.
    Ndcg,
    /// Average precision.
    Map,
    /// 1 / rank of the first relevant row.
    Mrr,
    /// Share of the relevant rows.
    Recall,
}

/// A measure of the first ranks of queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct QueryMetric {
    /// What is measured.
    pub measure: Measure,
    /// Of how many ranks; absent: of all.
    pub at: Option<u32>,
}

/// All metrics of rankings by name.
#[rustfmt::skip]
const TABLE: [(&str, Measure, Option<u32>); 20] = [
    ("ndcg", Measure::Ndcg, None),
    ("ndcg@1", Measure::Ndcg, Some(1)),
    ("ndcg@3", Measure::Ndcg, Some(3)),
    ("ndcg@5", Measure::Ndcg, Some(5)),
    ("ndcg@10", Measure::Ndcg, Some(10)),
    ("ndcg@20", Measure::Ndcg, Some(20)),
    ("ndcg@100", Measure::Ndcg, Some(100)),
    ("map", Measure::Map, None),
    ("map@1", Measure::Map, Some(1)),
    ("map@3", Measure::Map, Some(3)),
    ("map@5", Measure::Map, Some(5)),
    ("map@10", Measure::Map, Some(10)),
    ("map@100", Measure::Map, Some(100)),
    ("mrr", Measure::Mrr, None),
    ("recall@1", Measure::Recall, Some(1)),
    ("recall@3", Measure::Recall, Some(3)),
    ("recall@5", Measure::Recall, Some(5)),
    ("recall@10", Measure::Recall, Some(10)),
    ("recall@20", Measure::Recall, Some(20)),
    ("recall@100", Measure::Recall, Some(100)),
];

/// What other systems call them.
const PEERS: [(&str, &str); 5] = [
    ("ndcg_score", "ndcg"),
    ("mean_average_precision", "map"),
    ("meanAveragePrecision", "map"),
    ("mean_reciprocal_rank", "mrr"),
    ("meanReciprocalRank", "mrr"),
];

/// All of them.
pub(super) const METRICS: [Metric; TABLE.len()] = {
    let mut out = [Metric::Query(QueryMetric { measure: Measure::Ndcg, at: None }); TABLE.len()];
    let mut i = 0;
    while i < TABLE.len() {
        out[i] = Metric::Query(QueryMetric { measure: TABLE[i].1, at: TABLE[i].2 });
        i += 1;
    }
    out
};

/// Their names.
pub(super) const NAMES: [&str; TABLE.len()] = {
    let mut out = [""; TABLE.len()];
    let mut i = 0;
    while i < TABLE.len() {
        out[i] = TABLE[i].0;
        i += 1;
    }
    out
};

/// Those that are reported where the job names none.
pub(super) const USUAL: [&str; 5] = ["ndcg@10", "ndcg@5", "ndcg", "map@10", "mrr"];

/// Our name of a peer's metric.
pub(super) fn canonical_name(name: &str) -> Option<&'static str> {
    PEERS.iter().find(|(theirs, _)| *theirs == name).map(|(_, ours)| *ours)
}

impl QueryMetric {
    /// Name as written in job files and results.
    pub fn name(self) -> &'static str {
        TABLE.iter().find(|(_, measure, at)| (*measure, *at) == (self.measure, self.at)).map_or("", |(name, ..)| name)
    }

    fn of(self, ranked: &Ranked) -> f64 {
        let at = self.at.map_or(usize::MAX, |at| at as usize);
        match self.measure {
            Measure::Ndcg => ranked.ndcg(at),
            Measure::Map => ranked.average_precision(at),
            Measure::Mrr => ranked.reciprocal_rank(),
            Measure::Recall => ranked.recall(at),
        }
    }
}

/// Gives the score of every row of a shard.
pub(super) type Scores = dyn Fn(&EncodedShard) -> Vec<f64> + Send + Sync;

/// Metrics of rankings over shards: a single step.
pub(super) struct QueryMetrics {
    /// Scores of all rows of a shard; fewer where it has none.
    pub scores: Box<Scores>,
    /// What is measured.
    pub metrics: Vec<QueryMetric>,
    /// Segments that are measured.
    pub segments: Segments,
}

/// Sums over the queries of a segment.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Sums {
    rows: u64,
    weight: Compensated,
    /// Σ weight · value of each metric.
    values: Vec<Compensated>,
    /// Rows without a label, a weight, a score.
    faults: [u64; 3],
}

impl Merge for Sums {
    fn merge(&mut self, right: Self) {
        self.rows += right.rows;
        self.weight += right.weight;
        self.values.iter_mut().zip(right.values).for_each(|(l, r)| *l += r);
        self.faults.iter_mut().zip(right.faults).for_each(|(l, r)| *l += r);
    }
}

/// What a shard contributes.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Partial {
    Sums(Box<PerSegment<Sums>>),
    /// The shard has no target, no queries, or scores that are not numbers.
    Unfit,
}

impl Merge for Partial {
    fn merge(&mut self, right: Self) {
        match (self, right) {
            (Partial::Sums(left), Partial::Sums(right)) => left.merge(*right),
            (left, _) => *left = Partial::Unfit,
        }
    }
}

impl QueryMetrics {
    fn sums(&self, shard: &EncodedShard, scores: &[f64], target: &[f64], queries: &[u32], segment: Segment) -> Option<Sums> {
        let rows = shard.range(segment);
        if rows.is_empty() || !self.segments[segment as usize] {
            return None;
        }
        let mut sums =
            Sums { rows: rows.len() as u64, values: vec![Compensated::default(); self.metrics.len()], ..Sums::default() };
        let mut ranked = Ranked::default();
        for run in runs(queries, rows) {
            let (scores, target) = (&scores[run.clone()], &target[run.clone()]);
            let weights = shard.weight.as_ref().map(|w| &w[run]);
            let faults = faults(scores, target, weights);
            sums.faults.iter_mut().zip(faults).for_each(|(sum, own)| *sum += own);
            if faults != [0; 3] {
                continue;
            }
            ranked.rank(scores, target);
            let weight = query::weight(weights);
            sums.weight.add(weight);
            self.metrics.iter().zip(&mut sums.values).for_each(|(metric, sum)| sum.add(weight * metric.of(&ranked)));
        }
        Some(sums)
    }
}

fn faults(scores: &[f64], target: &[f64], weights: Option<&[f64]>) -> [u64; 3] {
    let count = |bad: usize| bad as u64;
    [
        count(target.iter().filter(|y| !is_label(**y, MOST_LABEL)).count()),
        count(weights.map_or(0, |w| w.iter().filter(|w| !(w.is_finite() && **w >= 0.0)).count())),
        count(scores.iter().filter(|score| !score.is_finite()).count()),
    ]
}

/// Rows that cannot be measured end the job, with their number and what to do.
fn check(segment: Segment, sums: &Sums) -> Result<(), LearnError> {
    let cases = [
        "a target that is no whole number from 0 to 31: make it one in `prepare`",
        "a missing, infinite or negative weight: correct it",
        "no finite prediction: impute missing features, limit large ones",
    ];
    match sums.faults.iter().zip(cases).find(|(rows, _)| **rows > 0) {
        Some((rows, what)) => Err(LearnError::Data(format!("{rows} rows of segment {} have {what}", segment.name()))),
        None => Ok(()),
    }
}

impl Algorithm for QueryMetrics {
    type State = PerSegment<Sums>;
    type Message = ();
    type Chapter = ();
    type Local = ();
    type Partial = Partial;
    type Output = MetricsOutput;

    fn start(&self) -> Result<Self::State, LearnError> {
        Ok(Default::default())
    }

    fn message(&self, _: &Self::State) {}

    fn partial(&self, (): &(), _: &[()], shard: &EncodedShard, (): &()) -> Option<Partial> {
        if shard.rows == 0 {
            return None;
        }
        let (Some(target), Some(queries)) = (&shard.target, &shard.query) else { return Some(Partial::Unfit) };
        let scores = (self.scores)(shard);
        let weights = shard.weight.as_ref().map_or(shard.rows, |w| w.len());
        if [scores.len(), target.len(), queries.len(), weights] != [shard.rows; 4] {
            return Some(Partial::Unfit);
        }
        Some(Partial::Sums(Box::new(Segment::ALL.map(|segment| self.sums(shard, &scores, target, queries, segment)))))
    }

    fn update(&self, state: &mut Self::State, total: Option<Partial>) -> Result<Progress, LearnError> {
        match total {
            None => {}
            Some(Partial::Unfit) => {
                let message = "rows cannot be ranked: they have no target or query, their scores are not numbers, or their columns \
                    are not those of the model";
                return Err(LearnError::Data(message.into()));
            }
            Some(Partial::Sums(total)) => {
                for (segment, sums) in Segment::ALL.into_iter().zip(total.iter()) {
                    sums.as_ref().map_or(Ok(()), |sums| check(segment, sums))?;
                }
                *state = *total;
            }
        }
        Ok(Progress::Done)
    }

    fn finish(&self, state: Self::State) -> Result<MetricsOutput, LearnError> {
        let mut output = MetricsOutput::default();
        for (segment, sums) in Segment::ALL.into_iter().zip(state) {
            let Some(sums) = sums else { continue };
            let name = segment.name().to_owned();
            output.rows.insert(name.clone(), sums.rows);
            let weight = sums.weight.value();
            let values = output.segments.entry(name.clone()).or_default();
            for (metric, sum) in self.metrics.iter().zip(&sums.values) {
                let reason = match weight {
                    _ if !weight.is_finite() => "the sum of the weights is too large for a number",
                    _ if weight <= 0.0 => "all weights are 0",
                    _ => {
                        values.insert(metric.name().to_owned(), Some(sum.value() / weight));
                        continue;
                    }
                };
                values.insert(metric.name().to_owned(), None);
                output.undefined.entry(name.clone()).or_default().insert(metric.name().to_owned(), reason.to_owned());
            }
        }
        Ok(output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_of_one_metric_each() {
        for (i, (name, measure, at)) in TABLE.iter().enumerate() {
            assert_eq!(QueryMetric { measure: *measure, at: *at }.name(), *name);
            assert!(TABLE[..i].iter().all(|(other, ..)| other != name), "{name}");
        }
        assert!(USUAL.iter().all(|name| NAMES.contains(name)));
        assert!(PEERS.iter().all(|(_, ours)| NAMES.contains(ours)));
    }
}
