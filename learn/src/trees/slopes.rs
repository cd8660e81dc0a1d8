//! Gradients and hessians of rows from their scores, and their rounding to 16 bits. Loops over lanes with the bits of
//! every instruction set; gradients are kept as f32 pairs. Of many outputs each has its own scores and slopes, one
//! output after the other.

use crate::kernels::level::Kernel;
use crate::kernels::{LANES, Level, Vector, lane_sum};

use super::histogram::UNITS;
use super::objective::{Classes, Objective, Row};
use super::split::Scale;

/// Gradient and hessian of a row, its weight within.
pub type Slope = [f32; 2];

/// What is known of rows beside their scores.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// What is learnt.
    pub target: &'a [f64],
    /// Row weights; absent: all 1.
    pub weight: Option<&'a [f64]>,
    /// Multiplies the weights of rows, one a class.
    pub class_weight: Option<&'a [f64]>,
}

/// What rows have in common.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Summary {
    /// Largest |gradient| and largest hessian of each output.
    pub most: Vec<[f32; 2]>,
    /// Whether a gradient or hessian is not finite.
    pub overflow: bool,
    /// Sum of squared gradients and sum of hessians of each output.
    pub spread: Vec<[f64; 2]>,
    /// Sum of weight · loss.
    pub loss: f64,
}

/// Gradients and hessians of rows: the scores of an output stand `stride` after those of the one before it, its slopes
/// follow the others' at once. With an empty `out` only the loss is of use.
///
/// # Panics
/// If the lengths differ, or the objective is a ranking: see [`super::queries::query_slopes`].
pub fn slopes(level: Level, objective: Objective, scores: &[f64], stride: usize, known: Known<'_>, out: &mut [Slope]) -> Summary {
    let (rows, outputs) = (known.target.len(), objective.outputs());
    assert!(outputs > 0 && scores.len() >= (outputs - 1) * stride + rows, "a score a row and output");
    assert!(known.weight.is_none_or(|w| w.len() == rows), "a weight a row");
    assert!(out.is_empty() || out.len() == rows * outputs, "a pair a row and output");
    level.run(Slopes { objective, scores, stride, known, out })
}

struct Slopes<'a> {
    objective: Objective,
    scores: &'a [f64],
    stride: usize,
    known: Known<'a>,
    out: &'a mut [Slope],
}

impl Kernel for Slopes<'_> {
    type Output = Summary;

    #[inline(always)]
    fn run<V: Vector>(self) -> Summary {
        match self.objective {
            Objective::SquaredError(row) | Objective::Brier(row) => self.rows(row),
            Objective::Binary(row) => self.rows(row),
            Objective::Huber(row) => self.rows(row),
            Objective::Quantile(row) => self.rows(row),
            Objective::Absolute(row) => self.rows(row),
            Objective::Poisson(row) => self.rows(row),
            Objective::Tweedie(row) => self.rows(row),
            Objective::Gamma(row) => self.rows(row),
            Objective::Lambdarank(_) | Objective::Map(_) => panic!("a ranking has losses of queries, not of rows"),
            Objective::Multiclass(classes) => self.classes(classes),
            Objective::Shares(classes) => self.classes(classes),
        }
    }
}

/// Running extremes and sums, a lane each.
#[derive(Clone, Default)]
struct Lanes {
    gradient: [f32; LANES],
    hessian: [f32; LANES],
    overflow: [bool; LANES],
    squares: [f64; LANES],
    curvature: [f64; LANES],
    loss: [f64; LANES],
}

impl Lanes {
    /// Largest |gradient| and largest hessian.
    fn most(&self) -> [f32; 2] {
        [self.gradient, self.hessian].map(|lanes| lanes.into_iter().fold(0.0, |a, b| if b > a { b } else { a }))
    }

    /// Sums of squared gradients and of hessians.
    fn spread(&self) -> [f64; 2] {
        [lane_sum(&self.squares), lane_sum(&self.curvature)]
    }

    fn overflow(&self) -> bool {
        self.overflow.into_iter().any(|o| o)
    }

    /// Takes in slopes.
    #[inline(always)]
    fn take(&mut self, gradient: &[f32; LANES], hessian: &[f32; LANES]) {
        for l in 0..LANES {
            let (g, h) = (gradient[l].abs(), hessian[l]);
            self.gradient[l] = if g > self.gradient[l] { g } else { self.gradient[l] };
            self.hessian[l] = if h > self.hessian[l] { h } else { self.hessian[l] };
            self.overflow[l] |= !g.is_finite() | !h.is_finite();
            self.squares[l] += f64::from(g) * f64::from(g);
            self.curvature[l] += f64::from(h);
        }
    }
}

impl Slopes<'_> {
    #[inline(always)]
    fn rows<R: Row>(self, row: R) -> Summary {
        let Self { known, out, .. } = self;
        let scores = &self.scores[..known.target.len()];
        let factors = known.class_weight.map(|w| [w[0], w[1]]);
        let mut lanes = Lanes::default();
        let (blocks, tail) = scores.as_chunks::<LANES>();
        let targets = known.target.as_chunks::<LANES>().0;
        let weights = known.weight.map(|w| w.as_chunks::<LANES>().0);
        for (b, (score, target)) in blocks.iter().zip(targets).enumerate() {
            let mut weight = weights.map_or([1.0; LANES], |w| w[b]);
            by_class(factors, target, &mut weight);
            let pairs = block(row, score, target, &weight, &mut lanes);
            if let Some(out) = out.as_chunks_mut::<LANES>().0.get_mut(b) {
                *out = pairs;
            }
        }
        if !tail.is_empty() {
            let (at, n) = (blocks.len() * LANES, tail.len());
            // Rows past the end weigh nothing.
            let (mut score, mut target, mut weight) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
            score[..n].copy_from_slice(tail);
            target[..n].copy_from_slice(&known.target[at..]);
            weight[..n].fill(1.0);
            if let Some(w) = known.weight {
                weight[..n].copy_from_slice(&w[at..]);
            }
            by_class(factors, &target, &mut weight);
            let pairs = block(row, &score, &target, &weight, &mut lanes);
            // Whoever wants the losses only gives no room for slopes.
            if let Some(out) = out.get_mut(at..at + n) {
                out.copy_from_slice(&pairs[..n]);
            }
        }
        let (most, spread) = (vec![lanes.most()], vec![lanes.spread()]);
        Summary { most, overflow: lanes.overflow(), spread, loss: lane_sum(&lanes.loss) }
    }

    /// The same for objectives with a score for each class.
    #[inline(always)]
    fn classes<C: Classes>(self, classes: C) -> Summary {
        let (outputs, rows) = (self.objective.outputs(), self.known.target.len());
        let Self { known, out, .. } = self;
        let mut lanes = vec![Lanes::default(); outputs];
        let mut scores = vec![[0.0; LANES]; outputs];
        for at in (0..rows).step_by(LANES) {
            let n = LANES.min(rows - at);
            for (output, own) in scores.iter_mut().enumerate() {
                *own = padded(&self.scores[output * self.stride + at..][..n]);
            }
            let target = padded(&known.target[at..at + n]);
            // Rows past the end weigh nothing.
            let mut weight = padded(known.weight.map_or(&[1.0; LANES][..n], |w| &w[at..at + n]));
            if let Some(factors) = known.class_weight {
                (0..n).for_each(|l| weight[l] *= factors.get(target[l] as usize).copied().unwrap_or(1.0));
            }
            let loss = classes.block(&mut scores, &target);
            for l in 0..LANES {
                lanes[0].loss[l] += weight[l] * loss[l];
            }
            for (class, (predictions, lanes)) in scores.iter().zip(&mut lanes).enumerate() {
                let pairs = class_block(classes, class as f64, predictions, &target, &weight, lanes);
                if let Some(out) = out.get_mut(class * rows + at..class * rows + at + n) {
                    out.copy_from_slice(&pairs[..n]);
                }
            }
        }
        Summary {
            most: lanes.iter().map(Lanes::most).collect(),
            overflow: lanes.iter().any(Lanes::overflow),
            spread: lanes.iter().map(Lanes::spread).collect(),
            loss: lane_sum(&lanes[0].loss),
        }
    }
}

/// Up to `LANES` numbers, and zeros.
#[inline(always)]
fn padded(values: &[f64]) -> [f64; LANES] {
    let mut out = [0.0; LANES];
    out[..values.len()].copy_from_slice(values);
    out
}

#[inline(always)]
fn by_class(factors: Option<[f64; 2]>, target: &[f64; LANES], weight: &mut [f64; LANES]) {
    if let Some([negative, positive]) = factors {
        for l in 0..LANES {
            weight[l] *= if target[l] > 0.5 { positive } else { negative };
        }
    }
}

#[inline(always)]
fn block<R: Row>(
    row: R,
    score: &[f64; LANES],
    target: &[f64; LANES],
    weight: &[f64; LANES],
    lanes: &mut Lanes,
) -> [Slope; LANES] {
    let (mut gradient, mut hessian) = ([0.0f32; LANES], [0.0f32; LANES]);
    for l in 0..LANES {
        let [slope, curvature, loss] = row.row(score[l], target[l]);
        gradient[l] = (weight[l] * slope) as f32;
        hessian[l] = (weight[l] * curvature) as f32;
        lanes.loss[l] += weight[l] * loss;
    }
    lanes.take(&gradient, &hessian);
    pairs(&gradient, &hessian)
}

/// Slopes by the score of a class.
#[inline(always)]
fn class_block<C: Classes>(
    classes: C,
    class: f64,
    predictions: &[f64; LANES],
    target: &[f64; LANES],
    weight: &[f64; LANES],
    lanes: &mut Lanes,
) -> [Slope; LANES] {
    let (mut gradient, mut hessian) = ([0.0f32; LANES], [0.0f32; LANES]);
    for l in 0..LANES {
        let [slope, curvature] = classes.slope(predictions[l], if target[l] == class { 1.0 } else { 0.0 });
        gradient[l] = (weight[l] * slope) as f32;
        hessian[l] = (weight[l] * curvature) as f32;
    }
    lanes.take(&gradient, &hessian);
    pairs(&gradient, &hessian)
}

#[inline(always)]
fn pairs(gradient: &[f32; LANES], hessian: &[f32; LANES]) -> [Slope; LANES] {
    let mut out = [[0.0; 2]; LANES];
    for l in 0..LANES {
        out[l] = [gradient[l], hessian[l]];
    }
    out
}

/// Rounds gradients and hessians to units, up or down by chance, so that small ones are not lost under a large
/// maximum: expectations are kept. The chance is a hash of `key` and the row.
///
/// # Panics
/// If the lengths differ.
pub fn round(level: Level, slopes: &[Slope], scale: Scale, key: u32, out: &mut [u64]) {
    assert_eq!(slopes.len(), out.len(), "a word a row");
    level.run(Round { slopes, scale, key, out });
}

struct Round<'a> {
    slopes: &'a [Slope],
    scale: Scale,
    key: u32,
    out: &'a mut [u64],
}

impl Kernel for Round<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let factor = |most: f64| if most > 0.0 { f64::from(UNITS) / most } else { 0.0 };
        let (g, h) = (factor(self.scale.gradient), factor(self.scale.hessian));
        for (row, (out, slope)) in self.out.iter_mut().zip(self.slopes).enumerate() {
            let bits = mix(row as u32 ^ self.key);
            // Odd multiples of 2⁻¹⁷ between −½ and ½, never at an end: whole units stay whole.
            let chance = |bits: u32| f64::from((2 * bits + 1) as i32 - 65_536) * (1.0 / 131_072.0);
            let gradient = (f64::from(slope[0]) * g + chance(bits & 0xffff)) + NEAREST;
            let hessian = (f64::from(slope[1]) * h + chance(bits >> 16)) + NEAREST;
            // The low half of the sum's bits is the whole number next to it.
            *out = (gradient.to_bits() << 32).wrapping_add(hessian.to_bits() & 0xffff_ffff);
        }
    }
}

/// 1.5 · 2⁵²: a sum with it is rounded to whole numbers.
pub(super) const NEAREST: f64 = 6_755_399_441_055_744.0;

/// A hash of 32 bits: C. Wellons' `lowbias32`.
#[inline(always)]
fn mix(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x7feb_352d);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846c_a68b);
    x ^ x >> 16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trees::histogram::unpack;
    use crate::trees::objective::Binary;

    /// Where probabilities are right the squares of gradients are as large as hessians.
    #[test]
    fn spread_is_of_all_rows() {
        let target: Vec<f64> = (0..1_003).map(|i| f64::from(i % 4 == 0)).collect();
        let known = Known { target: &target, weight: None, class_weight: None };
        let scores = vec![-crate::math::ln(3.0); target.len()];
        let of = |level| {
            let mut out = vec![[0.0; 2]; target.len()];
            let summary = slopes(level, Objective::Binary(Binary), &scores, target.len(), known, &mut out);
            let sum = |f: fn(&Slope) -> f32| out.iter().map(|s| f64::from(f(s))).sum::<f64>();
            let want = [sum(|s| s[0] * s[0]), sum(|s| s[1])];
            assert!(summary.spread[0].iter().zip(want).all(|(own, want)| (own - want).abs() < 1e-4), "{summary:?} {want:?}");
            summary.spread
        };
        let first = of(Level::detect());
        assert!((first[0][0] / first[0][1] - 1.0).abs() < 0.01, "{first:?}");
        assert!(Level::available().into_iter().all(|level| of(level) == first));
    }

    #[test]
    fn rounding_keeps_whole_units_and_expectations() {
        let scale = Scale { gradient: 7.3, hessian: 0.37, dispersion: 1.0 };
        let slopes: Vec<Slope> = (0..40_000).map(|i| [[7.3, -7.3, 0.0001, -0.0001][i % 4], 0.37]).collect();
        let mut first = Vec::new();
        for level in Level::available() {
            let mut out = vec![0; slopes.len()];
            round(level, &slopes, scale, 99, &mut out);
            let pairs: Vec<[i64; 2]> = out.iter().map(|&w| unpack(w)).collect();
            // 7.3 and 0.37 are not f32: a unit more or less.
            assert!(pairs.iter().all(|p| (p[1] - i64::from(UNITS)).abs() <= 1));
            assert!(pairs.iter().step_by(4).all(|p| (p[0] - i64::from(UNITS)).abs() <= 1));
            let mean = |k: usize| pairs.iter().skip(k).step_by(4).map(|p| p[0] as f64).sum::<f64>() / 10_000.0;
            let want = 0.0001 / 7.3 * f64::from(UNITS);
            assert!((mean(2) - want).abs() < 0.02 && (mean(3) + want).abs() < 0.02, "{} {}", mean(2), mean(3));
            if first.is_empty() {
                first.clone_from(&out);
            }
            assert_eq!(out, first, "{}", level.name());
        }
    }
}
