//! Gamma deviance of positive amounts under the log link: f + y e^−f.

use serde::{Deserialize, Serialize};

use super::Row;
use crate::math;

/// f + y e^−f.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Gamma;

impl Row for Gamma {
    #[inline(always)]
    fn row(self, score: f64, target: f64) -> [f64; 3] {
        let ratio = target * math::exp(-score);
        [1.0 - ratio, ratio, score + ratio]
    }
}
