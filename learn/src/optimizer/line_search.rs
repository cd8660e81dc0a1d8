//! A line search on gradients: the approximate Wolfe conditions of Hager and Zhang (SIAM J. Optim. 16,
//! 2005). They decide by slopes where values differ by rounding only. One trial per evaluation.

use serde::{Deserialize, Serialize};

/// Sufficient decrease.
const DELTA: f64 = 0.1;
/// Sufficient curvature.
const SIGMA: f64 = 0.9;
/// Values may rise by this much relative to themselves before a point counts as uphill.
const ROUNDING: f64 = 1e-13;
/// Growth of a step that is too short.
const GROWTH: f64 = 4.0;
/// Trials before giving up.
const MAX_TRIALS: u32 = 40;

/// What a trial showed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Trial {
    /// Take this step.
    Accept,
    /// Evaluate the new step length.
    Again,
    /// No step was found.
    Fail,
}

/// A search along one direction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct LineSearch {
    /// Step length to evaluate.
    pub step: f64,
    value: f64,
    slope: f64,
    /// Downhill end: length and slope.
    low: (f64, f64),
    /// Uphill end: length, and slope where it is usable.
    high: Option<(f64, Option<f64>)>,
    trials: u32,
}

impl LineSearch {
    /// From a point with this value and (negative) slope.
    pub fn new(value: f64, slope: f64, step: f64) -> Self {
        Self { step, value, slope, low: (0.0, slope), high: None, trials: 0 }
    }

    /// Takes in value and slope at `step`.
    pub fn tell(&mut self, value: f64, slope: f64) -> Trial {
        self.trials += 1;
        let finite = value.is_finite() && slope.is_finite();
        let flat = value <= self.value + ROUNDING * self.value.abs();
        if finite && self.accepts(value, slope, flat) {
            return Trial::Accept;
        }
        if finite && flat && slope < 0.0 {
            self.low = (self.step, slope);
        } else {
            // Uphill by slope: interpolate. Uphill by value alone, or not a number: halve.
            self.high = Some((self.step, (finite && slope >= 0.0).then_some(slope)));
        }
        self.step = self.next();
        let width = self.high.map_or(f64::INFINITY, |(h, _)| h - self.low.0);
        let exhausted = self.trials >= MAX_TRIALS || self.step == self.low.0 || width <= f64::EPSILON * self.step;
        if exhausted { Trial::Fail } else { Trial::Again }
    }

    fn accepts(&self, value: f64, slope: f64, flat: bool) -> bool {
        let curved = slope >= SIGMA * self.slope;
        let wolfe = value <= self.value + DELTA * self.step * self.slope;
        let approximate = flat && slope <= (2.0 * DELTA - 1.0) * self.slope;
        curved && (wolfe || approximate)
    }

    fn next(&self) -> f64 {
        let (low, low_slope) = self.low;
        match self.high {
            None => GROWTH * self.step,
            Some((high, Some(high_slope))) => {
                let width = high - low;
                let secant = low + width * (low_slope / (low_slope - high_slope));
                // Every fourth trial halves, so that the bracket always shrinks.
                if self.trials % 4 == 3 { low + 0.5 * width } else { secant.clamp(low + 0.01 * width, high - 0.01 * width) }
            }
            Some((high, None)) => low + 0.5 * (high - low),
        }
    }
}
