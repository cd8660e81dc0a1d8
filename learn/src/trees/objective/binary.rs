//! Log loss of two classes: ln(1 + e^f) − y f.

use serde::{Deserialize, Serialize};

use super::Row;
use crate::math;

/// ln(1 + e^f) − y f for y in {0, 1}.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Binary;

impl Row for Binary {
    #[inline(always)]
    fn row(self, score: f64, target: f64) -> [f64; 3] {
        // s is the score of the wrong class: loss = ln(1 + e^s), |slope| = sigmoid(s). By its bit, the sign costs
        // no branch.
        let sign = if target > 0.5 { math::SIGN } else { 0 };
        let l = math::logistic(f64::from_bits(score.to_bits() ^ sign));
        [f64::from_bits(l.sigmoid.to_bits() ^ sign), l.slope, l.softplus]
    }
}
