//! Poisson deviance of counts under the log link: e^f − y f.

use serde::{Deserialize, Serialize};

use super::Row;
use crate::math;

/// e^f − y f. The second derivative is multiplied by e^caution, which keeps early steps small, as LightGBM does.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Poisson {
    /// LightGBM's `poisson_max_delta_step`.
    pub caution: f64,
}

impl Row for Poisson {
    #[inline(always)]
    fn row(self, score: f64, target: f64) -> [f64; 3] {
        let mean = math::exp(score);
        [mean - target, mean * math::exp(self.caution), mean - target * score]
    }
}
