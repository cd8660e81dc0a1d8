//! What shards answer. All of it is integers, maxima and exact sums: order and grouping cannot show.

use serde::{Deserialize, Serialize};

use crate::algorithm::{Merge, keep_least};

use super::exact::ExactSum;
use super::histogram::Histogram;
use super::renewal::Counts;
use super::sample::Keys;
use super::split::Scale;
use super::survey::Survey;

/// What a shard answers to a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Partial {
    /// To a first look.
    Survey(Survey),
    /// Values of the sample, a column each.
    Sample(Vec<Keys>),
    /// Extent of the gradients, and losses.
    Slopes(Extent),
    /// Histograms of nodes, tree after tree.
    Level(Vec<Histogram>),
    /// Exact sums of leaves, tree after tree.
    Leaves(Vec<LeafSum>),
    /// Weights of residuals, a leaf each.
    Counts(Vec<Counts>),
    /// The shard cannot be read as the schema says.
    Fault(String),
}

/// Extent of the gradients of some rows, and losses.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Extent {
    /// Largest |gradient| and largest hessian of each output.
    pub most: Vec<[f32; 2]>,
    /// Whether a gradient or hessian is not finite.
    pub overflow: bool,
    /// Sum of squared gradients and sum of hessians of each output, over the training rows.
    pub spread: Vec<[ExactSum; 2]>,
    /// Sum of weight · loss of the training rows.
    pub train: ExactSum,
    /// The same of the validation rows.
    pub validation: ExactSum,
}

/// Exact sums of a leaf.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeafSum {
    /// Rows.
    pub rows: u64,
    /// Gradients in 2⁻³² of the largest.
    pub gradient: i64,
    /// Hessians in 2⁻³² of the largest.
    pub hessian: i64,
}

/// 2³².
const FINE: f64 = 4_294_967_296.0;

impl LeafSum {
    /// Factors from gradients and hessians to their integers.
    pub fn factors(scale: Scale) -> [f64; 2] {
        let factor = |most: f64| if most > 0.0 { FINE / most } else { 0.0 };
        [factor(scale.gradient), factor(scale.hessian)]
    }

    /// Sums of gradients and hessians.
    pub fn real(self, scale: Scale) -> [f64; 2] {
        [self.gradient as f64 * (scale.gradient / FINE), self.hessian as f64 * (scale.hessian / FINE)]
    }
}

impl Extent {
    /// Whether both are of as many outputs.
    fn is_like(&self, other: &Self) -> bool {
        self.most.len() == other.most.len() && self.spread.len() == other.spread.len()
    }

    /// Dispersion of an output's gradients: Σ g² / Σ h; 0 where that says nothing.
    pub fn dispersion(&self, output: usize) -> f64 {
        let Some([squares, hessians]) = self.spread.get(output) else { return 0.0 };
        let ratio = squares.value() / hessians.value();
        if ratio.is_finite() { ratio } else { 0.0 }
    }
}

impl Merge for Extent {
    fn merge(&mut self, right: Self) {
        for (a, b) in self.most.iter_mut().flatten().zip(right.most.into_iter().flatten()) {
            *a = if b > *a { b } else { *a };
        }
        self.overflow |= right.overflow;
        self.spread.iter_mut().flatten().zip(right.spread.iter().flatten()).for_each(|(a, b)| a.merge(b));
        self.train.merge(&right.train);
        self.validation.merge(&right.validation);
    }
}

impl Merge for Partial {
    fn settle(&mut self) {
        if let Partial::Level(histograms) = self {
            histograms.iter_mut().for_each(Histogram::settle);
        }
    }

    fn merge(&mut self, right: Self) {
        match (&mut *self, right) {
            (Partial::Fault(a), Partial::Fault(b)) => keep_least(a, b),
            (Partial::Fault(_), _) => {}
            (_, Partial::Fault(fault)) => *self = Partial::Fault(fault),
            (Partial::Survey(a), Partial::Survey(b)) if a.is_like(&b) => a.merge(b),
            (Partial::Sample(a), Partial::Sample(b)) if a.len() == b.len() => {
                a.iter_mut().zip(b).for_each(|(a, b)| a.merge(b));
            }
            (Partial::Slopes(a), Partial::Slopes(b)) if a.is_like(&b) => a.merge(b),
            (Partial::Level(a), Partial::Level(b)) if features(a) == features(&b) => {
                a.iter_mut().zip(b).for_each(|(a, b)| a.merge(b));
            }
            (Partial::Leaves(a), Partial::Leaves(b)) if a.len() == b.len() => {
                for (a, b) in a.iter_mut().zip(b) {
                    a.rows += b.rows;
                    a.gradient += b.gradient;
                    a.hessian += b.hessian;
                }
            }
            (Partial::Counts(a), Partial::Counts(b)) if a.len() == b.len() => {
                a.iter_mut().zip(b).for_each(|(a, b)| a.merge(b));
            }
            _ => *self = Partial::Fault("partials of two different steps met".into()),
        }
    }
}

fn features(histograms: &[Histogram]) -> Vec<usize> {
    histograms.iter().map(Histogram::features).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(spread: [f64; 2]) -> Extent {
        Extent { most: vec![[1.0, 1.0]], spread: vec![spread.map(ExactSum::of)], ..Extent::default() }
    }

    #[test]
    fn dispersion_is_that_of_all_rows_in_any_order() {
        let shards = [[3.0, 0.1], [0.0, 0.0], [1e-9, 0.2], [0.1, 0.3]];
        let merged = |order: [usize; 4]| {
            let mut out = extent([0.0; 2]);
            order.into_iter().for_each(|i| out.merge(extent(shards[i])));
            out
        };
        let all = merged([0, 1, 2, 3]);
        assert_eq!(all, merged([3, 2, 0, 1]));
        assert!((all.dispersion(0) - 3.100_000_001 / 0.6).abs() < 1e-12);
        assert_eq!([extent([1.0, 0.0]).dispersion(0), extent([0.0; 2]).dispersion(0), all.dispersion(1)], [0.0; 3]);
    }
}
