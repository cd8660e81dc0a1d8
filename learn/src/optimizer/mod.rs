//! Optimizers by ask and tell: `ask` is the point to evaluate, `tell` takes in its value. They own no
//! loop and no data; their serialized state is the checkpoint.

pub mod lbfgs;
pub mod line_search;
pub mod newton;
pub mod quadratic;

use serde::{Deserialize, Serialize};

pub use lbfgs::Lbfgs;
pub use newton::Newton;

/// What an optimizer decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Evaluate the next point.
    Continue,
    /// The gradient is below the tolerance.
    Converged,
    /// No step improves the objective at rounding.
    Stalled,
    /// The limit of iterations is reached.
    Exhausted,
}

/// When to stop.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Stop {
    /// Accepted steps at most.
    pub max_iterations: u32,
    /// Norm of the (sub)gradient relative to that of the loss's gradient at the start.
    pub tolerance: f64,
}

pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sum = 0.0;
    for (a, b) in a.iter().zip(b) {
        sum += a * b;
    }
    sum
}

pub(crate) fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

/// Σ l1_j · |x_j|.
pub(crate) fn l1_norm(x: &[f64], l1: &[f64]) -> f64 {
    let mut sum = 0.0;
    for (x, l) in x.iter().zip(l1) {
        sum += l * x.abs();
    }
    sum
}

/// The subgradient of loss + Σ l1_j · |x_j| of least norm: 0 exactly at an optimum.
pub(crate) fn pseudo_gradient(x: &[f64], gradient: &[f64], l1: &[f64]) -> Vec<f64> {
    let one = |((&x, &g), &l): ((&f64, &f64), &f64)| {
        if x > 0.0 {
            g + l
        } else if x < 0.0 {
            g - l
        } else if g + l < 0.0 {
            g + l
        } else if g - l > 0.0 {
            g - l
        } else {
            0.0
        }
    };
    x.iter().zip(gradient).zip(l1).map(one).collect()
}
