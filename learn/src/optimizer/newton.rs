//! Newton's method by ask and tell, proximal where there are l1 penalties (Lee, Sun and Saunders 2014):
//! each step minimizes the quadratic model exactly and halves back while the objective rises. For a
//! quadratic objective the first step is the answer; ill-conditioned ones are refined on the data.

use serde::{Deserialize, Serialize};

use super::quadratic::{Quadratic, rank};
use super::{Status, Stop, dot, l1_norm, norm, pseudo_gradient};
use crate::linalg::Symmetric;

/// Sufficient decrease.
const ARMIJO: f64 = 1e-4;
/// Differences of the objective below this share of it are rounding.
const ROUNDING: f64 = 1e-13;
const MAX_HALVINGS: u32 = 40;
/// A quadratic whose smallest relative pivot is above this needs no refinement.
const WELL_CONDITIONED: f64 = 1e-5;
/// Refinements of a quadratic at most.
const MAX_REFINEMENTS: u32 = 6;

/// The state of a minimization of f(x) + Σ l1_j · |x_j|, f smooth and convex.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Newton {
    stop: Stop,
    l1: Vec<f64>,
    l2: Vec<f64>,
    /// Is f a quadratic? Then its Hessian is asked for once.
    quadratic: bool,
    point: Vec<f64>,
    objective: f64,
    gradient: Vec<f64>,
    hessian: Option<Symmetric>,
    reference: f64,
    trial: Vec<f64>,
    /// Change of the objective that the model foresees for a whole step.
    expected: f64,
    share: f64,
    halvings: u32,
    iterations: u32,
    dependent: Vec<bool>,
    smallest_pivot: f64,
}

impl Newton {
    /// Starts at `start`. `l1` and `l2` have a value per coordinate; f contains the l2 penalties already.
    pub fn new(start: Vec<f64>, l1: Vec<f64>, l2: Vec<f64>, quadratic: bool, stop: Stop) -> Self {
        Self {
            stop,
            quadratic,
            dependent: vec![false; start.len()],
            l1,
            l2,
            point: start.clone(),
            objective: f64::INFINITY,
            gradient: Vec::new(),
            hessian: None,
            reference: 0.0,
            trial: start,
            expected: 0.0,
            share: 1.0,
            halvings: 0,
            iterations: 0,
            smallest_pivot: 1.0,
        }
    }

    /// The point to evaluate next.
    pub fn ask(&self) -> &[f64] {
        &self.trial
    }

    /// Whether the next `tell` needs a Hessian.
    pub fn wants_hessian(&self) -> bool {
        !self.quadratic || self.hessian.is_none()
    }

    /// Best point so far.
    pub fn point(&self) -> &[f64] {
        &self.point
    }

    /// Objective at the best point, l1 penalty included.
    pub fn objective(&self) -> f64 {
        self.objective
    }

    /// Whether all that is known of the best point is finite. Trial points need not be, an accepted one must.
    pub fn is_finite(&self) -> bool {
        let matrix = self.hessian.as_ref().is_none_or(Symmetric::is_finite);
        matrix && self.objective.is_finite() && norm(&self.gradient).is_finite()
    }

    /// Accepted steps.
    pub fn iterations(&self) -> u32 {
        self.iterations
    }

    /// Coordinates that stay where they started, since earlier ones say the same.
    pub fn dependent(&self) -> &[bool] {
        &self.dependent
    }

    /// Norm of the (sub)gradient at the best point relative to the start.
    pub fn relative_gradient(&self) -> f64 {
        let norm = self.slope_norm(&self.point, &self.gradient);
        if norm == 0.0 { 0.0 } else { norm / self.reference }
    }

    /// Takes in f, its gradient and, where asked for, its Hessian at the point asked for.
    pub fn tell(&mut self, value: f64, gradient: &[f64], hessian: Option<Symmetric>) -> Status {
        let objective = value + l1_norm(&self.trial, &self.l1);
        let first = self.gradient.is_empty() && self.iterations == 0 && self.objective.is_infinite();
        if first {
            self.reference = norm(gradient);
            if let Some(hessian) = &hessian {
                let (dependent, smallest_pivot) = rank(hessian, &self.l2);
                self.smallest_pivot = smallest_pivot;
                // With l1 penalties a dependent column may still be the one to choose.
                if self.l1.iter().all(|&l| l == 0.0) {
                    self.dependent = dependent;
                }
            }
        } else if !self.improves(objective, gradient) {
            return self.halve();
        } else {
            self.iterations += 1;
        }
        self.point.clone_from(&self.trial);
        self.objective = objective;
        self.gradient = gradient.to_vec();
        self.hessian = hessian.or(self.hessian.take());
        self.turn()
    }

    fn slope_norm(&self, point: &[f64], gradient: &[f64]) -> f64 {
        let mut slope = pseudo_gradient(point, gradient, &self.l1);
        for (g, &dependent) in slope.iter_mut().zip(&self.dependent) {
            *g = if dependent { 0.0 } else { *g };
        }
        norm(&slope)
    }

    fn improves(&self, objective: f64, gradient: &[f64]) -> bool {
        if !objective.is_finite() {
            return false;
        }
        let flat = (objective - self.objective).abs() <= ROUNDING * self.objective.abs();
        let flatter = self.slope_norm(&self.trial, gradient) < self.slope_norm(&self.point, &self.gradient);
        if flat { flatter } else { objective <= self.objective + ARMIJO * self.share * self.expected }
    }

    fn halve(&mut self) -> Status {
        self.halvings += 1;
        if self.halvings > MAX_HALVINGS || self.quadratic {
            self.trial = self.point.clone();
            return Status::Stalled;
        }
        self.share *= 0.5;
        for (t, p) in self.trial.iter_mut().zip(&self.point) {
            *t = p + 0.5 * (*t - p);
        }
        if self.trial == self.point { Status::Stalled } else { Status::Continue }
    }

    /// Minimizes the model at the best point, or stops.
    fn turn(&mut self) -> Status {
        let slope = self.slope_norm(&self.point, &self.gradient);
        if slope <= self.stop.tolerance * self.reference {
            self.trial = self.point.clone();
            return Status::Converged;
        }
        let limit = if self.quadratic { MAX_REFINEMENTS } else { self.stop.max_iterations };
        if self.iterations >= limit {
            return if self.quadratic { Status::Stalled } else { Status::Exhausted };
        }
        let Some(hessian) = self.hessian.as_ref().filter(|_| slope.is_finite()) else { return Status::Stalled };
        let model =
            Quadratic { hessian, gradient: &self.gradient, x: &self.point, l1: &self.l1, l2: &self.l2, fixed: &self.dependent };
        let next = model.minimize();
        let moved: Vec<f64> = next.iter().zip(&self.point).map(|(a, b)| a - b).collect();
        let (down, bend) = (dot(&self.gradient, &moved), dot(&moved, &hessian.times(&moved)));
        self.expected = down + (l1_norm(&next, &self.l1) - l1_norm(&self.point, &self.l1));
        if moved.iter().all(|&m| m == 0.0) || self.expected.is_nan() || self.expected >= 0.0 {
            self.trial = self.point.clone();
            return Status::Stalled;
        }
        (self.share, self.halvings, self.trial) = (1.0, 0, next);
        if self.quadratic && self.smallest_pivot > WELL_CONDITIONED {
            self.point.clone_from(&self.trial);
            self.objective += self.expected + 0.5 * bend;
            self.gradient = self.gradient.iter().zip(hessian.times(&moved)).map(|(g, h)| g + h).collect();
            self.iterations += 1;
            return Status::Converged;
        }
        Status::Continue
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STOP: Stop = Stop { max_iterations: 100, tolerance: 1e-10 };

    /// Σ cosh-like bowls: ½ k (x − c)² + (x − c)⁴.
    fn steep(x: &[f64]) -> (f64, Vec<f64>, Symmetric) {
        let (c, k) = ([3.0, -2.0], [1.0, 10.0]);
        let d = [x[0] - c[0], x[1] - c[1]];
        let value = (0..2).map(|i| 0.5 * k[i] * d[i] * d[i] + d[i] * d[i] * d[i] * d[i]).sum();
        let gradient = (0..2).map(|i| k[i] * d[i] + 4.0 * d[i] * d[i] * d[i]).collect();
        let curvature = |i: usize| k[i] + 12.0 * d[i] * d[i];
        (value, gradient, Symmetric::new(2, vec![curvature(0), 0.0, curvature(1)]))
    }

    fn minimize(mut state: Newton, f: impl Fn(&[f64]) -> (f64, Vec<f64>, Symmetric)) -> (Newton, Status) {
        loop {
            let (value, gradient, hessian) = f(state.ask());
            let hessian = state.wants_hessian().then_some(hessian);
            let status = state.tell(value, &gradient, hessian);
            state = crate::program::decode("state", &crate::program::encode(&state)).expect("round trip");
            if status != Status::Continue {
                return (state, status);
            }
        }
    }

    #[test]
    fn smooth_and_penalised_problems_converge() {
        let (state, status) = minimize(Newton::new(vec![0.0; 2], vec![0.0; 2], vec![0.0; 2], false, STOP), steep);
        assert_eq!(status, Status::Converged);
        assert!((state.point()[0] - 3.0).abs() < 1e-9 && (state.point()[1] + 2.0).abs() < 1e-9, "{:?}", state.point());
        let (state, status) = minimize(Newton::new(vec![0.0; 2], vec![5.0, 200.0], vec![0.0; 2], false, STOP), steep);
        assert_eq!((status, state.point()[1]), (Status::Converged, 0.0));
        // 1 d + 4 d³ = −5 has the root d = −1.
        assert!((state.point()[0] - 2.0).abs() < 1e-9, "{:?}", state.point());
    }

    #[test]
    fn a_quadratic_takes_one_step() {
        let f = |x: &[f64]| {
            let h = Symmetric::new(2, vec![2.0, 1.0, 3.0]);
            let hx = h.times(x);
            (0.5 * dot(x, &hx) - x[0] - 2.0 * x[1], vec![hx[0] - 1.0, hx[1] - 2.0], h)
        };
        let (state, status) = minimize(Newton::new(vec![0.0; 2], vec![0.0; 2], vec![0.0; 2], true, STOP), f);
        assert_eq!((status, state.iterations()), (Status::Converged, 1));
        assert!((state.point()[0] - 0.2).abs() < 1e-15 && (state.point()[1] - 0.6).abs() < 1e-15);
        assert!((state.objective() - f(state.point()).0).abs() < 1e-15);
    }

    #[test]
    fn trials_that_are_not_finite_are_stepped_back_from() {
        // 100 (x + 1/x) has its minimum at 1; the first step goes below 0, where it is no number.
        let bowl = |x: &[f64]| match x[0] {
            x if x > 0.0 => {
                let curvature = Symmetric::new(1, vec![200.0 / (x * x * x)]);
                (100.0 * (x + 1.0 / x), vec![100.0 - 100.0 / (x * x)], curvature)
            }
            _ => (f64::NAN, vec![f64::INFINITY], Symmetric::new(1, vec![f64::NAN])),
        };
        for l1 in [0.0, 1e-9] {
            let (state, status) = minimize(Newton::new(vec![5.0], vec![l1], vec![0.0], false, STOP), bowl);
            assert_eq!(status, Status::Converged);
            assert!((state.point()[0] - 1.0).abs() < 1e-6 && state.is_finite(), "{:?}", state.point());
        }
    }
}
