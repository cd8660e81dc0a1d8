//! What is boosted: a file an objective. An objective gives, for a score and a target, the loss with its first two
//! derivatives, the score to begin with and the link from score to prediction.

mod absolute;
mod binary;
mod gamma;
mod huber;
mod lambdarank;
mod map;
mod multiclass;
mod poisson;
mod quantile;
mod shares;
mod squared_error;
mod tweedie;

use serde::{Deserialize, Serialize};

use super::queries::Ranking;
use crate::kernels::LANES;
use crate::math;
use crate::model::Task;
use crate::query::{MOST_LABEL, Ranked};

pub use absolute::Absolute;
pub use binary::Binary;
pub use gamma::Gamma;
pub use huber::Huber;
pub use lambdarank::Lambdarank;
pub use map::MeanPrecision;
pub use multiclass::Multiclass;
pub use poisson::Poisson;
pub use quantile::Quantile;
pub use shares::Shares;
pub use squared_error::SquaredError;
pub use tweedie::Tweedie;

/// A loss of a row.
pub trait Row: Copy {
    /// Derivative, second derivative (or what stands for it) and value at a score.
    fn row(self, score: f64, target: f64) -> [f64; 3];
}

/// Ranks that the loss of a ranking looks at.
pub const MEASURED_RANKS: usize = 10;

/// Which pairs of rows of a query count, and how; names and defaults are LightGBM's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Pairs {
    /// The upper row of a pair stands above this rank.
    pub truncation_level: u32,
    /// Steepness of the probability that a pair is in the wrong order.
    pub sigmoid: f64,
    /// Whether the gradients of a query are brought to a like size.
    pub norm: bool,
}

/// A loss of a query.
pub trait QueryLoss: Copy {
    /// Which pairs count, and how.
    fn pairs(self) -> Pairs;
    /// For the labels of a query by rank, what the place of each row is worth: two numbers a rank. Gives the factor that
    /// every change has; 0 where no order is better than another.
    fn worth(self, labels: &[f64], worth: &mut [Vec<f64>; 2]) -> f64;
    /// By how much the measure would change if two rows of different labels changed places, without the factor.
    fn change(upper: [f64; 2], lower: [f64; 2]) -> f64;
    /// 1 − the measure of the first [`MEASURED_RANKS`] ranks: what early stopping looks at.
    fn loss(self, ranked: &Ranked) -> f64;
}

/// A loss of rows with a score for each class.
pub trait Classes: Copy {
    /// Turns the scores of some rows, `LANES` for each class, into what slopes are made from; gives the losses.
    fn block(self, scores: &mut [[f64; LANES]], target: &[f64; LANES]) -> [f64; LANES];
    /// Derivative and second derivative (or what stands for it) by the score of a class; `hit` is 1 for the row's own.
    fn slope(self, prediction: f64, hit: f64) -> [f64; 2];
}

/// What is boosted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// (f − y)² / 2.
    SquaredError(SquaredError),
    /// ln(1 + e^f) − y f.
    Binary(Binary),
    /// (f − y)² / 2 of a probability f.
    Brier(SquaredError),
    /// Squared up to a residual, absolute beyond.
    Huber(Huber),
    /// The pinball loss.
    Quantile(Quantile),
    /// |f − y|.
    Absolute(Absolute),
    /// e^f − y f.
    Poisson(Poisson),
    /// Tweedie deviance between Poisson and gamma.
    Tweedie(Tweedie),
    /// f + y e^−f.
    Gamma(Gamma),
    /// 1 − NDCG of queries.
    Lambdarank(Lambdarank),
    /// 1 − average precision of queries.
    Map(MeanPrecision),
    /// ln Σ e^f_k − f_y.
    Multiclass(Multiclass),
    /// Σ (f_k − [y = k])² / 2.
    Shares(Shares),
}

/// From score to prediction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    /// The score is the prediction.
    Identity,
    /// The score, kept between 0 and 1.
    Probability,
    /// 1 / (1 + e^−score).
    Logistic,
    /// e^score.
    Log,
    /// e^score of each class, divided by their sum.
    Softmax,
    /// The score of each class, at least 0, divided by their sum; all the same where all are 0.
    Shares,
}

impl Link {
    /// Turns the scores of rows, `outputs` each, into predictions.
    pub fn predict(self, scores: &mut [f64], outputs: usize) {
        match self {
            Link::Identity => {}
            Link::Probability => scores.iter_mut().for_each(|x| *x = x.clamp(0.0, 1.0)),
            Link::Logistic => scores.iter_mut().for_each(|x| *x = math::sigmoid(*x)),
            Link::Log => scores.iter_mut().for_each(|x| *x = math::exp(*x)),
            Link::Softmax => scores.chunks_exact_mut(outputs).for_each(softmax),
            Link::Shares => scores.chunks_exact_mut(outputs).for_each(shares),
        }
    }
}

/// e^x of each, divided by their sum.
fn softmax(scores: &mut [f64]) {
    let most = scores.iter().fold(f64::NEG_INFINITY, |a, &b| if b > a { b } else { a });
    scores.iter_mut().for_each(|x| *x = math::exp(*x - most));
    let sum: f64 = scores.iter().sum();
    scores.iter_mut().for_each(|x| *x /= sum);
}

/// Each, at least 0, divided by their sum; all the same where all are 0.
fn shares(scores: &mut [f64]) {
    scores.iter_mut().for_each(|x| *x = if *x > 0.0 { *x } else { 0.0 });
    let sum: f64 = scores.iter().sum();
    let even = 1.0 / scores.len() as f64;
    scores.iter_mut().for_each(|x| *x = if sum > 0.0 { *x / sum } else { even });
}

/// Targets that an objective takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Targets {
    /// Any number.
    Any,
    /// 0 or 1.
    Classes,
    /// A class: a whole number below this one.
    Below(u32),
    /// At least 0.
    NotNegative,
    /// Above 0.
    Positive,
    /// Whole numbers from 0 to this one.
    Labels(u32),
}

impl Objective {
    /// From score to prediction.
    pub fn link(self) -> Link {
        match self {
            Objective::SquaredError(_) | Objective::Huber(_) | Objective::Quantile(_) | Objective::Absolute(_) => Link::Identity,
            Objective::Lambdarank(_) | Objective::Map(_) => Link::Identity,
            Objective::Brier(_) => Link::Probability,
            Objective::Binary(_) => Link::Logistic,
            Objective::Poisson(_) | Objective::Tweedie(_) | Objective::Gamma(_) => Link::Log,
            Objective::Multiclass(_) => Link::Softmax,
            Objective::Shares(_) => Link::Shares,
        }
    }

    /// What its models predict.
    pub fn task(self) -> Task {
        match self {
            Objective::Binary(_) | Objective::Brier(_) => Task::Binary,
            Objective::Lambdarank(_) | Objective::Map(_) => Task::Ranking,
            Objective::Multiclass(_) | Objective::Shares(_) => Task::Multiclass,
            _ => Task::Regression,
        }
    }

    /// Targets that it takes.
    pub fn targets(self) -> Targets {
        match self {
            Objective::SquaredError(_) | Objective::Huber(_) | Objective::Quantile(_) | Objective::Absolute(_) => Targets::Any,
            Objective::Binary(_) | Objective::Brier(_) => Targets::Classes,
            Objective::Poisson(_) | Objective::Tweedie(_) => Targets::NotNegative,
            Objective::Gamma(_) => Targets::Positive,
            Objective::Lambdarank(_) => Targets::Labels(MOST_LABEL),
            Objective::Map(_) => Targets::Labels(1),
            Objective::Multiclass(Multiclass { classes }) | Objective::Shares(Shares { classes }) => Targets::Below(classes),
        }
    }

    /// Scores of a row, and trees of a round: one, or one for each class.
    pub fn outputs(self) -> usize {
        match self {
            Objective::Multiclass(Multiclass { classes }) | Objective::Shares(Shares { classes }) => classes as usize,
            _ => 1,
        }
    }

    /// The same as a loss of queries, if it is one; its predictions begin with 0.
    pub fn ranking(self) -> Option<Ranking> {
        match self {
            Objective::Lambdarank(loss) => Some(Ranking::Gain(loss)),
            Objective::Map(loss) => Some(Ranking::Precision(loss)),
            _ => None,
        }
    }

    /// The probability of the quantile that predictions begin with and that leaves hold of their rows' residuals, where
    /// the loss is least there (as LightGBM, not for Huber's); `None`: a mean, and −G / H.
    pub fn quantile(self) -> Option<f64> {
        match self {
            Objective::Quantile(q) => Some(q.probability),
            Objective::Absolute(_) => Some(0.5),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Derivatives against differences.
    fn check(row: impl Row, scores: &[f64], target: f64, curvature: bool) {
        const STEP: f64 = 1e-5;
        for &f in scores {
            let at = |f: f64| row.row(f, target);
            let slope = (at(f + STEP)[2] - at(f - STEP)[2]) / (2.0 * STEP);
            assert!((slope - at(f)[0]).abs() < 1e-6 * slope.abs().max(1.0), "{f}: {slope} {:?}", at(f));
            if curvature {
                let second = (at(f + STEP)[0] - at(f - STEP)[0]) / (2.0 * STEP);
                assert!((second - at(f)[1]).abs() < 1e-6 * second.abs().max(1.0), "{f}: {second} {:?}", at(f));
            }
        }
    }

    /// The same of losses with a score for each class: the loss by the score of `class`.
    fn check_class(classes: impl Classes, scores: [f64; 3], class: usize, target: f64, factor: f64) {
        const STEP: f64 = 1e-5;
        let at = |d: f64| {
            let mut block = scores.map(|f| [f; LANES]);
            block[class] = block[class].map(|f| f + d);
            let loss = classes.block(&mut block, &[target; LANES])[3];
            let hit = if target == class as f64 { 1.0 } else { 0.0 };
            (loss, classes.slope(block[class][3], hit))
        };
        let slope = (at(STEP).0 - at(-STEP).0) / (2.0 * STEP);
        assert!((slope - at(0.0).1[0]).abs() < 1e-6, "{scores:?} {class} {target}: {slope} {:?}", at(0.0));
        let second = (at(STEP).1[0] - at(-STEP).1[0]) / (2.0 * STEP) * factor;
        assert!((second - at(0.0).1[1]).abs() < 1e-6, "{scores:?} {class} {target}: {second} {:?}", at(0.0));
    }

    #[test]
    fn derivatives_of_many_classes_are_those_of_the_loss() {
        for scores in [[0.0, 0.0, 0.0], [1.0, -2.0, 0.3], [-30.0, 40.0, 39.0]] {
            for class in 0..3 {
                for target in [0.0, 1.0, 2.0] {
                    check_class(Multiclass { classes: 3 }, scores, class, target, 1.5);
                    check_class(Shares { classes: 3 }, scores, class, target, 1.0);
                }
            }
        }
    }

    #[test]
    fn links_of_many_classes_sum_to_one() {
        let mut scores = [0.0, 0.0, 800.0, 798.0, -3.0, -1.0];
        Link::Softmax.predict(&mut scores, 2);
        assert!(scores.chunks(2).all(|p| (p[0] + p[1] - 1.0).abs() < 1e-15), "{scores:?}");
        assert!((scores[2] - math::sigmoid(2.0)).abs() < 1e-15, "{scores:?}");
        let mut shares = [0.5, 0.25, -0.1, 0.3, 0.0, -0.2];
        Link::Shares.predict(&mut shares, 2);
        assert_eq!(shares, [0.5 / 0.75, 0.25 / 0.75, 0.0, 1.0, 0.5, 0.5]);
    }

    #[test]
    fn derivatives_are_those_of_the_loss() {
        let scores = [-3.1, -0.7, 0.2, 1.3, 2.9];
        for target in [0.0, 1.0] {
            check(SquaredError, &scores, target, true);
            check(Binary, &scores, target, true);
            check(Huber { delta: 0.9 }, &scores, target, false);
            check(Quantile { probability: 0.3 }, &scores, target, false);
            check(Absolute, &scores, target, false);
            check(Poisson { caution: 0.0 }, &scores, target, true);
            check(Tweedie { power: 1.4 }, &scores, target, true);
        }
        check(Gamma, &scores, 2.5, true);
        assert!(Poisson { caution: 0.7 }.row(0.0, 1.0)[1] > 2.0);
    }
}
