//! Metrics that are weighted sums over rows. Sums are compensated, so that they agree with any other order of
//! adding; the target's variance is merged by Chan's formula.

use serde::{Deserialize, Serialize};

use super::Metric;
use crate::algorithm::Merge;
use crate::math;
use crate::model::Task;
use crate::statistics::compensated::Compensated;
use crate::statistics::{Runs, merge_runs};

/// Rows of one segment of a shard: what is scored, learnt and how much it weighs.
pub(super) struct Scored<'a> {
    pub scores: &'a [f64],
    pub target: &'a [f64],
    /// The target of rows that count as positive: 1, or the number of a class against all others.
    pub positive: f64,
    /// Absent: all 1.
    pub weight: Option<&'a [f64]>,
}

impl Scored<'_> {
    /// (score, target, weight) of every row.
    pub fn rows(&self) -> impl Iterator<Item = (f64, f64, f64)> + Clone + '_ {
        let weights = self.weight;
        let weight = move |i: usize| weights.map_or(1.0, |w| w[i]);
        self.scores.iter().zip(self.target).enumerate().map(move |(i, (s, y))| (*s, *y, weight(i)))
    }
}

/// Rows that no metric can take; the job ends with their number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Faults {
    pub target: u64,
    pub score: u64,
    pub weight: u64,
}

/// Everything of one segment that the metrics of a task need, but the ranking.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Sums {
    pub rows: u64,
    /// Every weight is 1.
    pub unit: bool,
    pub faults: Faults,
    pub weight: Compensated,
    positive: Compensated,
    pub loss: Compensated,
    squared: Compensated,
    absolute: Compensated,
    true_positive: Compensated,
    false_positive: Compensated,
    correct: Compensated,
    target: Spread,
    /// Many classes: weight by true class · classes + predicted class.
    pub confusion: Runs<u32, Compensated>,
}

/// Weighted mean and sum of squared deviations of the target, over rows whose weight is not 0.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Spread {
    weight: f64,
    mean: f64,
    m2: f64,
    min: f64,
    max: f64,
}

impl Default for Spread {
    fn default() -> Self {
        Self { weight: 0.0, mean: 0.0, m2: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY }
    }
}

impl Spread {
    fn of(rows: impl Iterator<Item = (f64, f64)> + Clone) -> Self {
        let mut out = Self::default();
        let used = rows.filter(|(_, w)| *w > 0.0);
        for (y, _) in used.clone() {
            out.min = if y < out.min { y } else { out.min };
            out.max = if y > out.max { y } else { out.max };
        }
        out.weight = Compensated::of(used.clone().map(|(_, w)| w)).value();
        if out.min == out.max {
            out.mean = out.min;
        } else if out.weight > 0.0 {
            out.mean = Compensated::of(used.clone().map(|(y, w)| w * y)).value() / out.weight;
            out.m2 = Compensated::of(used.map(|(y, w)| w * ((y - out.mean) * (y - out.mean)))).value();
        }
        out
    }
}

impl Merge for Spread {
    fn merge(&mut self, right: Self) {
        if self.weight == 0.0 {
            *self = right;
        } else if right.weight > 0.0 {
            let share = right.weight / (self.weight + right.weight);
            let delta = right.mean - self.mean;
            self.mean += delta * share;
            self.m2 += right.m2 + delta * delta * (self.weight * share);
            self.weight += right.weight;
            self.min = if right.min < self.min { right.min } else { self.min };
            self.max = if right.max > self.max { right.max } else { self.max };
        }
    }
}

/// −ln of a probability, clipped as scikit-learn does for f64.
pub(super) fn surprise(probability: f64) -> f64 {
    let clipped = if probability < f64::EPSILON { f64::EPSILON } else { probability };
    -math::ln(if clipped > 1.0 - f64::EPSILON { 1.0 - f64::EPSILON } else { clipped })
}

impl Sums {
    /// No row yet, so that every weight is 1.
    pub fn empty() -> Self {
        Self { unit: true, ..Self::default() }
    }

    /// Sums of one segment of a shard where a row has one score.
    pub fn of(task: Task, scored: &Scored) -> Self {
        let mut sums = Self { unit: scored.weight.is_none_or(|w| w.iter().all(|w| *w == 1.0)), ..Self::default() };
        for (score, target, weight) in scored.rows() {
            sums.rows += 1;
            if !sums.fits(task, score, target, weight) {
                continue;
            }
            sums.weight.add(weight);
            let error = target - score;
            sums.squared.add(weight * (error * error));
            match task {
                Task::Binary | Task::Anomaly => sums.add_class(score, target == 1.0, weight),
                Task::Regression | Task::Multiclass | Task::Ranking => sums.absolute.add(weight * error.abs()),
            }
        }
        if task == Task::Regression {
            let usable = scored.rows().filter(|(_, y, w)| y.is_finite() && w.is_finite());
            sums.target = Spread::of(usable.map(|(_, y, w)| (y, w)));
        }
        sums
    }

    fn fits(&mut self, task: Task, score: f64, target: f64, weight: f64) -> bool {
        let good_target = match task {
            Task::Binary | Task::Anomaly => target == 0.0 || target == 1.0,
            Task::Regression | Task::Multiclass | Task::Ranking => target.is_finite(),
        };
        let good_weight = weight >= 0.0 && weight.is_finite();
        self.faults.target += u64::from(!good_target);
        self.faults.score += u64::from(!score.is_finite());
        self.faults.weight += u64::from(!good_weight);
        good_target && score.is_finite() && good_weight
    }

    fn add_class(&mut self, score: f64, positive: bool, weight: f64) {
        let predicted = score >= 0.5;
        self.loss.add(weight * surprise(if positive { score } else { 1.0 - score }));
        self.positive.add(if positive { weight } else { 0.0 });
        self.true_positive.add(if predicted && positive { weight } else { 0.0 });
        self.false_positive.add(if predicted && !positive { weight } else { 0.0 });
        self.correct.add(if predicted == positive { weight } else { 0.0 });
    }

    /// Whether there is a weight to divide by.
    pub fn can_weigh(&self) -> bool {
        let weight = self.weight.value();
        weight.is_finite() && weight > 0.0
    }

    /// Value of a metric, or why it has none. Ranked metrics and averages over classes are not answered here.
    pub fn value(&self, metric: Metric) -> Result<f64, &'static str> {
        let weight = self.weight.value();
        let mean = |sum: Compensated| Ok(sum.value() / weight);
        let (hits, false_alarms) = (self.true_positive.value(), self.false_positive.value());
        let positive = self.positive.value();
        match metric {
            _ if !weight.is_finite() => Err(WEIGHTS_OVERFLOW),
            _ if weight <= 0.0 => Err("all weights are 0"),
            Metric::LogLoss => mean(self.loss),
            Metric::Brier | Metric::Mse => mean(self.squared),
            Metric::Rmse => mean(self.squared).map(f64::sqrt),
            Metric::Mae => mean(self.absolute),
            Metric::Accuracy => mean(self.correct),
            Metric::Precision => ratio(hits, hits + false_alarms, "no row is predicted positive"),
            Metric::Recall => ratio(hits, positive, "no row is positive"),
            // 2·tp + fp + fn = (tp + fp) + (tp + fn).
            Metric::F1 => ratio(2.0 * hits, hits + false_alarms + positive, "no row is positive or predicted positive"),
            Metric::R2 => self.r2(),
            _ => Err("not a sum over rows"),
        }
    }

    fn r2(&self) -> Result<f64, &'static str> {
        if self.target.min >= self.target.max {
            return Err("the target is constant");
        }
        // Divided by an infinity, any error would count as none.
        if !self.target.m2.is_finite() {
            return Err("the variance of the target is too large for a number");
        }
        Ok(1.0 - self.squared.value() / self.target.m2)
    }
}

/// Not a metric's fault: no sum over rows can be trusted.
const WEIGHTS_OVERFLOW: &str = "the sum of the weights is too large for a number";

fn ratio(part: f64, whole: f64, reason: &'static str) -> Result<f64, &'static str> {
    if whole > 0.0 { Ok(part / whole) } else { Err(reason) }
}

impl Merge for Sums {
    fn merge(&mut self, right: Self) {
        self.rows += right.rows;
        self.unit &= right.unit;
        self.faults.target += right.faults.target;
        self.faults.score += right.faults.score;
        self.faults.weight += right.faults.weight;
        self.weight += right.weight;
        self.positive += right.positive;
        self.loss += right.loss;
        self.squared += right.squared;
        self.absolute += right.absolute;
        self.true_positive += right.true_positive;
        self.false_positive += right.false_positive;
        self.correct += right.correct;
        self.target.merge(right.target);
        merge_runs(&mut self.confusion, right.confusion);
    }
}
