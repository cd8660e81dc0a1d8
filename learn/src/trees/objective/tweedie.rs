//! Tweedie deviance with a power between 1 (Poisson) and 2 (gamma), log link: claims that are mostly zero.

use serde::{Deserialize, Serialize};

use super::Row;
use crate::math;

/// −y e^((1 − ρ) f) / (1 − ρ) + e^((2 − ρ) f) / (2 − ρ).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Tweedie {
    /// The variance's power ρ, above 1 and below 2.
    pub power: f64,
}

impl Row for Tweedie {
    #[inline(always)]
    fn row(self, score: f64, target: f64) -> [f64; 3] {
        let (a, b) = (1.0 - self.power, 2.0 - self.power);
        let (low, high) = (target * math::exp(a * score), math::exp(b * score));
        [high - low, b * high - a * low, high / b - low / a]
    }
}
