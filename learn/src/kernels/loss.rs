//! Losses of a margin: value, slope and curvature, row by row, without branches.

use serde::{Deserialize, Serialize};

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

/// What a chunk of rows gives: everything but `loss` is written per row.
pub(super) struct Linked<'a> {
    /// In: margins. Out: weight × slope of the loss.
    pub residual: &'a mut [f64],
    /// Out: weight × curvature of the loss.
    pub curvature: Option<&'a mut [f64]>,
    /// Sums of weight × loss.
    pub loss: &'a mut [f64; LANES],
    /// Sums of the residuals.
    pub total: &'a mut [f64; LANES],
}

/// Takes margins of rows `at..` to residuals.
#[inline(always)]
pub(super) fn link(loss: Loss, rows: &Rows<'_>, at: usize, scratch: (&mut [f64], &mut [f64]), out: Linked<'_>) {
    let n = out.residual.len();
    let y = &rows.target[at..at + n];
    let (weight, value) = (&mut scratch.0[..n], &mut scratch.1[..n]);
    weights(rows, at, y, weight);
    match loss {
        Loss::Squared => squared(y, weight, out.residual, value),
        Loss::Logistic => logistic(y, weight, out.residual, value),
    }
    add_lanes(value, out.loss);
    add_lanes(out.residual, out.total);
    if let Some(curvature) = out.curvature {
        match loss {
            Loss::Squared => curvature.copy_from_slice(weight),
            // With q = |residual| / weight the curvature is weight · q (1 − q).
            Loss::Logistic => {
                for i in 0..n {
                    let r = out.residual[i].abs();
                    let rest = weight[i] - r;
                    curvature[i] = if weight[i] > 0.0 { r * rest / weight[i] } else { 0.0 };
                }
            }
        }
    }
}

#[inline(always)]
fn weights(rows: &Rows<'_>, at: usize, y: &[f64], out: &mut [f64]) {
    match rows.weight {
        Some(weight) => out.copy_from_slice(&weight[at..at + y.len()]),
        None => out.fill(1.0),
    }
    if let Some([negative, positive]) = rows.class_weight {
        for (w, &y) in out.iter_mut().zip(y) {
            *w *= if y > 0.5 { positive } else { negative };
        }
    }
}

#[inline(always)]
fn squared(y: &[f64], weight: &[f64], margin: &mut [f64], value: &mut [f64]) {
    for i in 0..y.len() {
        let d = margin[i] - y[i];
        let r = weight[i] * d;
        margin[i] = r;
        value[i] = 0.5 * (r * d);
    }
}

#[inline(always)]
fn logistic(y: &[f64], weight: &[f64], margin: &mut [f64], value: &mut [f64]) {
    for i in 0..y.len() {
        // s is the margin of the wrong class: loss = ln(1 + e^s), |slope| = sigmoid(s). No cancellation.
        let positive = y[i] > 0.5;
        let s = if positive { -margin[i] } else { margin[i] };
        let e = math::exp(-s.abs());
        let q = (if s >= 0.0 { 1.0 } else { e }) / (1.0 + e);
        let r = weight[i] * q;
        margin[i] = if positive { -r } else { r };
        value[i] = weight[i] * ((if s >= 0.0 { s } else { 0.0 }) + math::log1p(e));
    }
}

/// Adds consecutive values to consecutive lanes.
#[inline(always)]
pub(super) fn add_lanes(values: &[f64], lanes: &mut [f64; LANES]) {
    let (blocks, tail) = values.as_chunks::<LANES>();
    let mut sums = *lanes;
    for block in blocks {
        for l in 0..LANES {
            sums[l] += block[l];
        }
    }
    for (sum, value) in sums.iter_mut().zip(tail) {
        *sum += value;
    }
    *lanes = sums;
}
