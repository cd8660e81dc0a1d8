//! The pinball loss, whose optimum is a quantile (R. Koenker and G. Bassett, 1978).

use serde::{Deserialize, Serialize};

use super::Row;

/// (1 − p) (f − y) above the target, p (y − f) below.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Quantile {
    /// The quantile's probability p.
    pub probability: f64,
}

impl Row for Quantile {
    #[inline(always)]
    fn row(self, score: f64, target: f64) -> [f64; 3] {
        let d = score - target;
        let slope = if d >= 0.0 { 1.0 - self.probability } else { -self.probability };
        [slope, 1.0, slope * d]
    }
}
