//! Log loss of many classes: ln Σ e^f_k − f_y, a score for each class.

use serde::{Deserialize, Serialize};

use super::Classes;
use crate::kernels::LANES;
use crate::math;

/// ln Σ e^f_k − f_y for a class y. The second derivative p (1 − p) is multiplied by K / (K − 1), as LightGBM does.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Multiclass {
    /// Number of classes K.
    pub classes: u32,
}

impl Classes for Multiclass {
    #[inline(always)]
    fn block(self, scores: &mut [[f64; LANES]], target: &[f64; LANES]) -> [f64; LANES] {
        let (mut most, mut own) = ([f64::NEG_INFINITY; LANES], [0.0; LANES]);
        for (class, scores) in scores.iter().enumerate() {
            for l in 0..LANES {
                most[l] = if scores[l] > most[l] { scores[l] } else { most[l] };
                own[l] = if target[l] == class as f64 { scores[l] } else { own[l] };
            }
        }
        let mut sum = [0.0; LANES];
        for scores in scores.iter_mut() {
            for l in 0..LANES {
                scores[l] = math::exp(scores[l] - most[l]);
                sum[l] += scores[l];
            }
        }
        for scores in scores.iter_mut() {
            for l in 0..LANES {
                scores[l] /= sum[l];
            }
        }
        let mut loss = [0.0; LANES];
        for l in 0..LANES {
            loss[l] = math::ln(sum[l]) + (most[l] - own[l]);
        }
        loss
    }

    #[inline(always)]
    fn slope(self, prediction: f64, hit: f64) -> [f64; 2] {
        let classes = f64::from(self.classes);
        [prediction - hit, classes / (classes - 1.0) * (prediction * (1.0 - prediction))]
    }
}
