//! What is boosted: a file an objective. An objective gives, for a score and a target, the loss with its first two
//! derivatives, the score to begin with and the link from score to prediction.

mod binary;
mod gamma;
mod huber;
mod poisson;
mod quantile;
mod squared_error;
mod tweedie;

use serde::{Deserialize, Serialize};

use crate::math;
use crate::model::Task;

pub use binary::Binary;
pub use gamma::Gamma;
pub use huber::Huber;
pub use poisson::Poisson;
pub use quantile::Quantile;
pub use squared_error::SquaredError;
pub use tweedie::Tweedie;

/// A loss of a row.
pub trait Row: Copy {
    /// Derivative, second derivative (or what stands for it) and value at a score.
    fn row(self, score: f64, target: f64) -> [f64; 3];
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
    /// e^f − y f.
    Poisson(Poisson),
    /// Tweedie deviance between Poisson and gamma.
    Tweedie(Tweedie),
    /// f + y e^−f.
    Gamma(Gamma),
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
}

impl Link {
    /// The prediction of a score.
    pub fn predict(self, score: f64) -> f64 {
        match self {
            Link::Identity => score,
            Link::Probability => score.clamp(0.0, 1.0),
            Link::Logistic => math::sigmoid(score),
            Link::Log => math::exp(score),
        }
    }
}

/// Targets that an objective takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Targets {
    /// Any number.
    Any,
    /// 0 or 1.
    Classes,
    /// At least 0.
    NotNegative,
    /// Above 0.
    Positive,
}

impl Objective {
    /// From score to prediction.
    pub fn link(self) -> Link {
        match self {
            Objective::SquaredError(_) | Objective::Huber(_) | Objective::Quantile(_) => Link::Identity,
            Objective::Brier(_) => Link::Probability,
            Objective::Binary(_) => Link::Logistic,
            Objective::Poisson(_) | Objective::Tweedie(_) | Objective::Gamma(_) => Link::Log,
        }
    }

    /// What its models predict.
    pub fn task(self) -> Task {
        match self {
            Objective::Binary(_) | Objective::Brier(_) => Task::Binary,
            _ => Task::Regression,
        }
    }

    /// Targets that it takes.
    pub fn targets(self) -> Targets {
        match self {
            Objective::SquaredError(_) | Objective::Huber(_) | Objective::Quantile(_) => Targets::Any,
            Objective::Binary(_) | Objective::Brier(_) => Targets::Classes,
            Objective::Poisson(_) | Objective::Tweedie(_) => Targets::NotNegative,
            Objective::Gamma(_) => Targets::Positive,
        }
    }

    /// The probability of the quantile that predictions begin with; `None`: they begin with the mean.
    pub fn begins_with_quantile(self) -> Option<f64> {
        match self {
            Objective::Quantile(q) => Some(q.probability),
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

    #[test]
    fn derivatives_are_those_of_the_loss() {
        let scores = [-3.1, -0.7, 0.2, 1.3, 2.9];
        for target in [0.0, 1.0] {
            check(SquaredError, &scores, target, true);
            check(Binary, &scores, target, true);
            check(Huber { delta: 0.9 }, &scores, target, false);
            check(Quantile { probability: 0.3 }, &scores, target, false);
            check(Poisson { caution: 0.0 }, &scores, target, true);
            check(Tweedie { power: 1.4 }, &scores, target, true);
        }
        check(Gamma, &scores, 2.5, true);
        assert!(Poisson { caution: 0.7 }.row(0.0, 1.0)[1] > 2.0);
    }
}
