//! Losses of a margin: value, slope and curvature, row by row, without branches.

use serde::{Deserialize, Serialize};

use super::sweep::Ahead;
use super::{LANES, Rows};
use crate::math;

/// Loss of a generalized linear model as a function of margin f and target y.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// (f − y)² / 2.
    Squared,
    /// ln(1 + e^f) − y f for y in {0, 1}.
    Logistic,
}

/// What a chunk of rows gives.
pub(super) struct Linked<'a> {
    /// In: margins. Out: residuals, weight × slope of the loss.
    pub margin: &'a mut [f64],
    /// Out, where it is wanted: weight × curvature of the loss.
    pub curvature: &'a mut [f64],
    /// Sums of weight × loss.
    pub loss: &'a mut [f64; LANES],
    /// Sums of the residuals.
    pub total: &'a mut [f64; LANES],
}

/// Takes margins of rows `at..` to residuals, and asks the memory for what comes next.
#[inline(always)]
pub(super) fn link<const CURVATURE: bool>(loss: Loss, rows: &Rows<'_>, at: usize, ahead: &mut Ahead, out: Linked<'_>) {
    match loss {
        Loss::Squared => chunk::<Squared, CURVATURE>(rows, at, ahead, out),
        Loss::Logistic => chunk::<Logistic, CURVATURE>(rows, at, ahead, out),
    }
}

/// A loss, row by row.
trait Row {
    /// (slope, curvature, value), to be multiplied with the weight.
    fn row(margin: f64, y: f64) -> (f64, f64, f64);
}

struct Squared;

impl Row for Squared {
    #[inline(always)]
    fn row(margin: f64, y: f64) -> (f64, f64, f64) {
        let d = margin - y;
        (d, 1.0, 0.5 * (d * d))
    }
}

struct Logistic;

impl Row for Logistic {
    #[inline(always)]
    fn row(margin: f64, y: f64) -> (f64, f64, f64) {
        // s is the margin of the wrong class: loss = ln(1 + e^s), |slope| = sigmoid(s). No cancellation.
        // By its bit, the sign costs no branch.
        let sign = if y > 0.5 { math::SIGN } else { 0 };
        let l = math::logistic(f64::from_bits(margin.to_bits() ^ sign));
        (f64::from_bits(l.sigmoid.to_bits() ^ sign), l.slope, l.softplus)
    }
}

#[inline(always)]
fn chunk<R: Row, const CURVATURE: bool>(rows: &Rows<'_>, at: usize, ahead: &mut Ahead, out: Linked<'_>) {
    let n = out.margin.len();
    let (y, y_tail) = rows.target[at..at + n].as_chunks::<LANES>();
    let weight = rows.weight.map(|w| w[at..at + n].as_chunks::<LANES>());
    let (margin, margin_tail) = out.margin.as_chunks_mut::<LANES>();
    let (curvature, curvature_tail) = out.curvature.as_chunks_mut::<LANES>();
    for (b, (y, margin)) in y.iter().zip(margin).enumerate() {
        let mut weights = weight.map_or([1.0; LANES], |(blocks, _)| blocks[b]);
        by_class(rows, y, &mut weights);
        let c = block::<R>(y, &weights, margin, out.loss, out.total);
        if CURVATURE {
            curvature[b] = c;
        }
        ahead.ask();
    }
    if !y_tail.is_empty() {
        // Rows past the end weigh nothing.
        let (mut y, mut weights, mut margin) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
        let n = y_tail.len();
        y[..n].copy_from_slice(y_tail);
        weights[..n].fill(1.0);
        if let Some((_, tail)) = weight {
            weights[..n].copy_from_slice(tail);
        }
        by_class(rows, &y, &mut weights);
        margin[..n].copy_from_slice(margin_tail);
        let c = block::<R>(&y, &weights, &mut margin, out.loss, out.total);
        margin_tail.copy_from_slice(&margin[..n]);
        if CURVATURE {
            curvature_tail.copy_from_slice(&c[..n]);
        }
    }
}

#[inline(always)]
fn by_class(rows: &Rows<'_>, y: &[f64; LANES], weights: &mut [f64; LANES]) {
    if let Some([negative, positive]) = rows.class_weight {
        for l in 0..LANES {
            weights[l] *= if y[l] > 0.5 { positive } else { negative };
        }
    }
}

/// Residuals in place of margins; gives the curvatures.
#[inline(always)]
fn block<R: Row>(
    y: &[f64; LANES],
    weight: &[f64; LANES],
    margin: &mut [f64; LANES],
    loss: &mut [f64; LANES],
    total: &mut [f64; LANES],
) -> [f64; LANES] {
    let (mut residual, mut curvature, mut value) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
    for l in 0..LANES {
        let (slope, second, one) = R::row(margin[l], y[l]);
        residual[l] = weight[l] * slope;
        curvature[l] = weight[l] * second;
        value[l] = weight[l] * one;
    }
    *margin = residual;
    for l in 0..LANES {
        loss[l] += value[l];
    }
    for l in 0..LANES {
        total[l] += residual[l];
    }
    curvature
}
