//! Squared error: (f − y)² / 2.

use serde::{Deserialize, Serialize};

use super::Row;

/// (f − y)² / 2.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SquaredError;

impl Row for SquaredError {
    #[inline(always)]
    fn row(self, score: f64, target: f64) -> [f64; 3] {
        let d = score - target;
        [d, 1.0, 0.5 * (d * d)]
    }
}
