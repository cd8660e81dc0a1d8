//! The minimum of a convex quadratic with l1 penalties, exactly: coordinate descent finds the support,
//! a Cholesky solve on it the values. Collinear columns only slow the first half down.

use super::{dot, l1_norm, norm, pseudo_gradient};
use crate::linalg::{Cholesky, Symmetric};

/// What earlier columns leave of a column that depends on them, without and with an l2 penalty.
const RANK: f64 = 1e-11;
const RANK_PENALISED: f64 = 1e-15;
/// Sweeps over the coordinates between two exact solves.
const SWEEPS: usize = 8;
const MAX_ROUNDS: usize = 400;
/// Subgradient relative to the gradient at the start that counts as zero.
const ZERO: f64 = 1e-14;

/// q(z) = gradient·(z − x) + ½ (z − x)' H (z − x) + Σ l1_j |z_j|.
#[derive(Debug, Clone, Copy)]
pub struct Quadratic<'a> {
    /// H, l2 penalties included.
    pub hessian: &'a Symmetric,
    /// Gradient of the smooth part at `x`.
    pub gradient: &'a [f64],
    /// Where the model is taken.
    pub x: &'a [f64],
    /// l1 penalties.
    pub l1: &'a [f64],
    /// l2 penalties, for the tolerance of rank detection only.
    pub l2: &'a [f64],
    /// Coordinates that keep their value.
    pub fixed: &'a [bool],
}

/// Columns that depend on earlier ones, and the smallest relative pivot of the rest.
pub fn rank(hessian: &Symmetric, l2: &[f64]) -> (Vec<bool>, f64) {
    let factor = Cholesky::new(hessian.clone(), |j| tolerance(l2[j]));
    (factor.dependent, factor.smallest_pivot)
}

fn tolerance(l2: f64) -> f64 {
    if l2 > 0.0 { RANK_PENALISED } else { RANK }
}

impl Quadratic<'_> {
    /// The minimizer.
    pub fn minimize(&self) -> Vec<f64> {
        if self.l1.iter().all(|&l| l == 0.0) {
            let free: Vec<usize> = (0..self.x.len()).filter(|&j| !self.fixed[j]).collect();
            let mut z = self.x.to_vec();
            self.solve_on(&free, self.gradient, &mut z, 1.0);
            return z;
        }
        self.minimize_l1()
    }

    /// Adds `−H⁻¹ slope` of the coordinates `on`; returns the step per coordinate of `on`.
    fn solve_on(&self, on: &[usize], slope: &[f64], z: &mut [f64], share: f64) -> Vec<f64> {
        let factor = Cholesky::new(self.hessian.select(on), |a| tolerance(self.l2[on[a]]));
        let right: Vec<f64> = on.iter().map(|&j| -slope[j]).collect();
        let step = factor.solve(&right);
        for (&j, s) in on.iter().zip(&step) {
            z[j] += share * s;
        }
        step
    }

    /// Gradient of the smooth part at z.
    fn slope(&self, z: &[f64]) -> Vec<f64> {
        let moved: Vec<f64> = z.iter().zip(self.x).map(|(a, b)| a - b).collect();
        self.gradient.iter().zip(self.hessian.times(&moved)).map(|(g, h)| g + h).collect()
    }

    fn value(&self, z: &[f64], slope: &[f64]) -> f64 {
        let moved: Vec<f64> = z.iter().zip(self.x).map(|(a, b)| a - b).collect();
        0.5 * (dot(self.gradient, &moved) + dot(slope, &moved)) + l1_norm(z, self.l1)
    }

    fn minimize_l1(&self) -> Vec<f64> {
        let mut z = self.x.to_vec();
        let mut slope = self.gradient.to_vec();
        let small = ZERO * (norm(self.gradient) + norm(self.l1));
        for _ in 0..MAX_ROUNDS {
            for _ in 0..SWEEPS {
                self.sweep(&mut z, &mut slope);
            }
            slope = self.slope(&z);
            let before = self.value(&z, &slope);
            let polished = self.polish(&z, &slope);
            let polished_slope = self.slope(&polished);
            if self.value(&polished, &polished_slope) <= before + ZERO * before.abs() {
                (z, slope) = (polished, polished_slope);
            }
            let left = pseudo_gradient(&z, &slope, self.l1);
            let free = left.iter().zip(self.fixed).map(|(&g, &f)| if f { 0.0 } else { g });
            if norm(&free.collect::<Vec<_>>()) <= small {
                break;
            }
        }
        z
    }

    /// One pass of coordinate descent; keeps `slope` up to date.
    fn sweep(&self, z: &mut [f64], slope: &mut [f64]) {
        for j in 0..z.len() {
            let curvature = self.hessian.at(j, j);
            if self.fixed[j] || curvature <= 0.0 {
                continue;
            }
            let free = curvature * z[j] - slope[j];
            let shrunk = (free.abs() - self.l1[j]).max(0.0);
            let next = if free < 0.0 { -shrunk } else { shrunk } / curvature;
            let delta = next - z[j];
            if delta != 0.0 {
                z[j] = next;
                for (i, s) in slope.iter_mut().enumerate() {
                    *s += delta * self.hessian.at(i, j);
                }
            }
        }
    }

    /// Solves on the support with its signs held, as far as the first sign change.
    fn polish(&self, z: &[f64], slope: &[f64]) -> Vec<f64> {
        let on: Vec<usize> = (0..z.len()).filter(|&j| !self.fixed[j] && (self.l1[j] == 0.0 || z[j] != 0.0)).collect();
        let signed: Vec<f64> =
            (0..z.len()).map(|j| slope[j] + if z[j] == 0.0 { 0.0 } else { self.l1[j] * z[j].signum() }).collect();
        let mut out = z.to_vec();
        let step = self.solve_on(&on, &signed, &mut out, 1.0);
        let mut share = 1.0_f64;
        for (&j, s) in on.iter().zip(&step) {
            if self.l1[j] > 0.0 && out[j] * z[j] <= 0.0 {
                share = share.min(-z[j] / s);
            }
        }
        if share < 1.0 {
            out = z.to_vec();
            for (&j, s) in on.iter().zip(&step) {
                let moved = z[j] + share * s;
                let crossed = self.l1[j] > 0.0 && (moved * z[j] <= 0.0 || -z[j] / s == share);
                out[j] = if crossed { 0.0 } else { moved };
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collinear_columns_with_l1_meet_the_optimality_conditions() {
        // Columns that nearly repeat each other: correlation 1 − 1e-8.
        let n = 12;
        let packed =
            (0..n).flat_map(|i| (i..n).map(move |j| if i == j { 1.0 } else { if i / 3 == j / 3 { 1.0 - 1e-8 } else { 0.9 } }));
        let hessian = Symmetric::new(n, packed.collect());
        let gradient: Vec<f64> = (0..n).map(|j| -1.0 + 0.03 * j as f64 + 0.001 * (j % 3) as f64).collect();
        let (x, l1) = (vec![0.0; n], vec![0.05; n]);
        let (l2, fixed) = (vec![0.0; n], vec![false; n]);
        let q = Quadratic { hessian: &hessian, gradient: &gradient, x: &x, l1: &l1, l2: &l2, fixed: &fixed };
        let z = q.minimize();
        let left = pseudo_gradient(&z, &q.slope(&z), &l1);
        assert!(norm(&left) < 1e-12, "{z:?} {left:?}");
        assert!(z.iter().filter(|&&z| z == 0.0).count() > n / 2, "{z:?}");
    }

    #[test]
    fn a_large_penalty_gives_zero_and_fixed_coordinates_stay() {
        let hessian = Symmetric::new(3, vec![2.0, 0.5, 0.1, 3.0, 0.2, 1.0]);
        let (gradient, x) = ([1.0, -2.0, 0.5], [0.0; 3]);
        let q = Quadratic { hessian: &hessian, gradient: &gradient, x: &x, l1: &[2.1; 3], l2: &[0.0; 3], fixed: &[false; 3] };
        assert_eq!(q.minimize(), [0.0; 3]);
        let q = Quadratic { l1: &[0.0; 3], fixed: &[false, true, false], ..q };
        let z = q.minimize();
        assert!(z[1] == 0.0 && (2.0 * z[0] + 0.1 * z[2] + 1.0).abs() < 1e-14, "{z:?}");
    }
}
