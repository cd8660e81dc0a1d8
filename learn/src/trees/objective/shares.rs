//! Squared error of a share for each class: Σ (f_k − [y = k])² / 2. Each class against the rest, which is Gini's
//! impurity of that class.

use serde::{Deserialize, Serialize};

use super::Classes;
use crate::kernels::LANES;

/// Σ (f_k − [y = k])² / 2 for a class y.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Shares {
    /// Number of classes.
    pub classes: u32,
}

impl Classes for Shares {
    #[inline(always)]
    fn block(self, scores: &mut [[f64; LANES]], target: &[f64; LANES]) -> [f64; LANES] {
        let mut loss = [0.0; LANES];
        for (class, scores) in scores.iter().enumerate() {
            for l in 0..LANES {
                let d = scores[l] - if target[l] == class as f64 { 1.0 } else { 0.0 };
                loss[l] += 0.5 * (d * d);
            }
        }
        loss
    }

    #[inline(always)]
    fn slope(self, prediction: f64, hit: f64) -> [f64; 2] {
        [prediction - hit, 1.0]
    }
}
