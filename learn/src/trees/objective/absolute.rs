//! Absolute error: |f − y|, whose optimum is the median.

use serde::{Deserialize, Serialize};

use super::Row;

/// |f − y|. The second derivative is taken for 1, as LightGBM does.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Absolute;

impl Row for Absolute {
    #[inline(always)]
    fn row(self, score: f64, target: f64) -> [f64; 3] {
        let d = score - target;
        let up = if d > 0.0 { 1.0 } else { 0.0 };
        let slope = if d < 0.0 { -1.0 } else { up };
        [slope, 1.0, slope * d]
    }
}
