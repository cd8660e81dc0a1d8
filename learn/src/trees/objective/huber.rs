//! Huber's loss: squared up to a residual of `delta`, absolute beyond (P. J. Huber, 1964).

use serde::{Deserialize, Serialize};

use super::Row;

/// (f − y)² / 2 up to |f − y| = delta, then delta · (|f − y| − delta / 2). The second derivative is taken for 1
/// everywhere, as LightGBM does.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Huber {
    /// Residual from which the loss is absolute.
    pub delta: f64,
}

impl Row for Huber {
    #[inline(always)]
    fn row(self, score: f64, target: f64) -> [f64; 3] {
        let d = score - target;
        let low = if d < -self.delta { -self.delta } else { d };
        let cut = if low > self.delta { self.delta } else { low };
        [cut, 1.0, cut * (d - 0.5 * cut)]
    }
}
