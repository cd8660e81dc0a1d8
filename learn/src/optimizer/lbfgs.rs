//! L-BFGS (Nocedal 1980) and, with l1 penalties, OWL-QN (Andrew and Gao 2007), by ask and tell.

use serde::{Deserialize, Serialize};

use super::line_search::{LineSearch, Trial};
use super::{Status, Stop, dot, l1_norm, norm, pseudo_gradient};

/// Pairs of steps and gradient changes that are kept.
const MEMORY: usize = 10;
/// Sufficient decrease of the backtracking search of OWL-QN.
const ARMIJO: f64 = 1e-4;
/// Halvings before OWL-QN gives a direction up.
const MAX_HALVINGS: u32 = 50;
/// Differences of the objective below this share of it are rounding.
const ROUNDING: f64 = 1e-14;

/// The state of a minimization of f(x) + Σ l1_j · |x_j|, f smooth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lbfgs {
    stop: Stop,
    /// One per coordinate; empty: no l1 penalty, the smooth method.
    l1: Vec<f64>,
    /// Best point so far, its objective (l1 included) and the gradient of f there.
    point: Vec<f64>,
    objective: f64,
    gradient: Vec<f64>,
    /// Norm of the gradient of f at the start.
    reference: f64,
    /// Point to evaluate and how it was reached.
    trial: Vec<f64>,
    direction: Vec<f64>,
    search: Option<Search>,
    /// (s, y, 1 / s·y), oldest first.
    pairs: Vec<(Vec<f64>, Vec<f64>, f64)>,
    iterations: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Search {
    /// Wolfe conditions along the direction.
    Smooth(LineSearch),
    /// Backtracking, projected on the orthant that these signs span.
    Orthant { step: f64, halvings: u32, signs: Vec<f64> },
}

impl Lbfgs {
    /// Starts at `start`; `l1` has a value per coordinate or is empty.
    pub fn new(start: Vec<f64>, l1: Vec<f64>, stop: Stop) -> Self {
        let l1 = if l1.iter().all(|&l| l == 0.0) { Vec::new() } else { l1 };
        Self {
            stop,
            l1,
            point: start.clone(),
            objective: f64::INFINITY,
            gradient: Vec::new(),
            reference: 0.0,
            trial: start,
            direction: Vec::new(),
            search: None,
            pairs: Vec::new(),
            iterations: 0,
        }
    }

    /// The point to evaluate next.
    pub fn ask(&self) -> &[f64] {
        &self.trial
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
        self.objective.is_finite() && norm(&self.gradient).is_finite()
    }

    /// Accepted steps.
    pub fn iterations(&self) -> u32 {
        self.iterations
    }

    /// Norm of the (sub)gradient at the best point relative to the start.
    pub fn relative_gradient(&self) -> f64 {
        let norm = norm(&self.slope_of(&self.point, &self.gradient));
        if norm == 0.0 { 0.0 } else { norm / self.reference }
    }

    /// Takes in f and its gradient at the point asked for.
    pub fn tell(&mut self, value: f64, gradient: &[f64]) -> Status {
        let objective = value + l1_norm(&self.trial, &self.l1);
        let Some(mut search) = self.search.take() else {
            self.reference = norm(gradient);
            self.accept(objective, gradient);
            return self.turn();
        };
        let trial = match &mut search {
            Search::Smooth(line) => {
                let trial = line.tell(objective, dot(gradient, &self.direction));
                self.trial = along(&self.point, line.step, &self.direction);
                trial
            }
            Search::Orthant { step, halvings, signs } => {
                let trial = self.judge(objective, gradient, *halvings);
                if trial == Trial::Again {
                    *step *= 0.5;
                    *halvings += 1;
                    self.trial = project(along(&self.point, *step, &self.direction), signs);
                }
                trial
            }
        };
        match trial {
            Trial::Accept => {
                // The smooth search has moved `trial` to the next length only when it goes on.
                self.remember(gradient);
                self.accept(objective, gradient);
                self.iterations += 1;
                if self.iterations >= self.stop.max_iterations && self.relative_gradient() > self.stop.tolerance {
                    return Status::Exhausted;
                }
                self.turn()
            }
            Trial::Again => {
                self.search = Some(search);
                Status::Continue
            }
            Trial::Fail if self.pairs.is_empty() => {
                self.trial = self.point.clone();
                Status::Stalled
            }
            Trial::Fail => {
                // The curvature may be stale: once more from steepest descent.
                self.pairs.clear();
                self.turn()
            }
        }
    }

    fn slope_of(&self, point: &[f64], gradient: &[f64]) -> Vec<f64> {
        if self.l1.is_empty() { gradient.to_vec() } else { pseudo_gradient(point, gradient, &self.l1) }
    }

    /// Backtracking's verdict on a trial of OWL-QN.
    fn judge(&self, objective: f64, gradient: &[f64], halvings: u32) -> Trial {
        let slope = self.slope_of(&self.point, &self.gradient);
        let moved: Vec<f64> = self.trial.iter().zip(&self.point).map(|(a, b)| a - b).collect();
        let expected = dot(&slope, &moved);
        if moved.iter().all(|&m| m == 0.0) {
            return Trial::Fail;
        }
        let decreased = objective <= self.objective + ARMIJO * expected;
        let flat = (objective - self.objective).abs() <= ROUNDING * self.objective.abs();
        let flatter = || norm(&self.slope_of(&self.trial, gradient)) < norm(&slope);
        if objective.is_finite() && expected < 0.0 && (decreased && !flat || flat && flatter()) {
            Trial::Accept
        } else if halvings >= MAX_HALVINGS {
            Trial::Fail
        } else {
            Trial::Again
        }
    }

    fn accept(&mut self, objective: f64, gradient: &[f64]) {
        self.point.clone_from(&self.trial);
        self.objective = objective;
        self.gradient = gradient.to_vec();
    }

    fn remember(&mut self, gradient: &[f64]) {
        let s: Vec<f64> = self.trial.iter().zip(&self.point).map(|(a, b)| a - b).collect();
        let y: Vec<f64> = gradient.iter().zip(&self.gradient).map(|(a, b)| a - b).collect();
        let curvature = dot(&s, &y);
        if curvature > f64::EPSILON * dot(&y, &y) {
            if self.pairs.len() == MEMORY {
                self.pairs.remove(0);
            }
            self.pairs.push((s, y, 1.0 / curvature));
        }
    }

    /// Chooses the next direction from the best point, or stops.
    fn turn(&mut self) -> Status {
        let slope = self.slope_of(&self.point, &self.gradient);
        if norm(&slope) <= self.stop.tolerance * self.reference {
            self.trial = self.point.clone();
            return Status::Converged;
        }
        if !self.objective.is_finite() || slope.iter().any(|g| !g.is_finite()) {
            return Status::Stalled;
        }
        let mut direction = self.two_loops(&slope);
        if !self.l1.is_empty() {
            for ((d, g), &l) in direction.iter_mut().zip(&slope).zip(&self.l1) {
                *d = if *d * g < 0.0 || l == 0.0 { *d } else { 0.0 };
            }
        }
        let down = dot(&direction, &slope);
        if down.is_nan() || down >= 0.0 {
            if self.pairs.is_empty() {
                return Status::Stalled;
            }
            self.pairs.clear();
            return self.turn();
        }
        self.direction = direction;
        if self.l1.is_empty() {
            self.trial = along(&self.point, 1.0, &self.direction);
            self.search = Some(Search::Smooth(LineSearch::new(self.objective, down, 1.0)));
        } else {
            let signs = self.orthant(&slope);
            self.trial = project(along(&self.point, 1.0, &self.direction), &signs);
            self.search = Some(Search::Orthant { step: 1.0, halvings: 0, signs });
        }
        Status::Continue
    }

    /// Sign of each coordinate, or where it is going from 0; NaN where there is no penalty and so no orthant.
    fn orthant(&self, slope: &[f64]) -> Vec<f64> {
        let sign = |((&x, &g), &l): ((&f64, &f64), &f64)| {
            if l == 0.0 {
                f64::NAN
            } else if x != 0.0 {
                x.signum()
            } else if g != 0.0 {
                -g.signum()
            } else {
                0.0
            }
        };
        self.point.iter().zip(slope).zip(&self.l1).map(sign).collect()
    }

    /// −H · slope by the two-loop recursion.
    fn two_loops(&self, slope: &[f64]) -> Vec<f64> {
        let mut q: Vec<f64> = slope.iter().map(|g| -g).collect();
        let mut alphas = Vec::with_capacity(self.pairs.len());
        for (s, y, rho) in self.pairs.iter().rev() {
            let alpha = rho * dot(s, &q);
            for (q, y) in q.iter_mut().zip(y) {
                *q -= alpha * y;
            }
            alphas.push(alpha);
        }
        if let Some((_, y, rho)) = self.pairs.last() {
            let scale = 1.0 / (rho * dot(y, y));
            q.iter_mut().for_each(|q| *q *= scale);
        }
        for ((s, y, rho), alpha) in self.pairs.iter().zip(alphas.into_iter().rev()) {
            let beta = rho * dot(y, &q);
            for (q, s) in q.iter_mut().zip(s) {
                *q += (alpha - beta) * s;
            }
        }
        q
    }
}

fn along(point: &[f64], step: f64, direction: &[f64]) -> Vec<f64> {
    point.iter().zip(direction).map(|(x, d)| x + step * d).collect()
}

/// Sets to 0 what left its orthant; NaN as a sign means "free".
fn project(mut x: Vec<f64>, signs: &[f64]) -> Vec<f64> {
    for (x, &s) in x.iter_mut().zip(signs) {
        if !s.is_nan() && *x * s <= 0.0 {
            *x = 0.0;
        }
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    const STOP: Stop = Stop { max_iterations: 2000, tolerance: 1e-10 };

    fn minimize(mut state: Lbfgs, f: impl Fn(&[f64]) -> (f64, Vec<f64>)) -> (Lbfgs, Status, u32) {
        for calls in 1.. {
            let (value, gradient) = f(state.ask());
            let status = state.tell(value, &gradient);
            // Every state survives its own serialization.
            let bytes = crate::program::encode(&state);
            state = crate::program::decode("state", &bytes).expect("round trip");
            if status != Status::Continue {
                return (state, status, calls);
            }
        }
        unreachable!("the optimizer stops")
    }

    fn rosenbrock(x: &[f64]) -> (f64, Vec<f64>) {
        let (a, b) = (1.0 - x[0], x[1] - x[0] * x[0]);
        (a * a + 100.0 * b * b, vec![-2.0 * a - 400.0 * x[0] * b, 200.0 * b])
    }

    /// ½ Σ k (x_k − c_k)² with curvatures from 1 to 1000.
    fn bowl(x: &[f64]) -> (f64, Vec<f64>) {
        let c = [3.0, -2.0, 0.5, 0.0001, -7.0];
        let k = [1.0, 10.0, 100.0, 1000.0, 3.0];
        let value = (0..5).map(|i| 0.5 * k[i] * (x[i] - c[i]) * (x[i] - c[i])).sum();
        (value, (0..5).map(|i| k[i] * (x[i] - c[i])).collect())
    }

    #[test]
    fn smooth_problems_converge() {
        let (state, status, calls) = minimize(Lbfgs::new(vec![-1.2, 1.0], vec![], STOP), rosenbrock);
        assert_eq!(status, Status::Converged);
        assert!((state.point()[0] - 1.0).abs() < 1e-8 && calls < 80, "{:?} {calls}", state.point());
        let (state, status, calls) = minimize(Lbfgs::new(vec![0.0; 5], vec![], STOP), bowl);
        assert_eq!(status, Status::Converged);
        assert!((state.point()[4] + 7.0).abs() < 1e-8 && calls < 40, "{:?} {calls}", state.point());
    }

    #[test]
    fn l1_gives_the_soft_thresholded_solution() {
        let l1 = vec![1.0, 10.0, 10.0, 5.0, 0.0];
        let (state, status, calls) = minimize(Lbfgs::new(vec![0.0; 5], l1, STOP), bowl);
        assert!(matches!(status, Status::Converged | Status::Stalled), "{status:?}");
        let want = [2.0, -1.0, 0.4, 0.0, -7.0];
        assert!(state.point().iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-8), "{:?} {calls}", state.point());
        assert_eq!(state.point()[3], 0.0);
        assert!(calls < 100, "{calls}");
    }

    #[test]
    fn a_tolerance_below_rounding_stalls_and_a_limit_exhausts() {
        let noisy = |x: &[f64]| {
            let (v, g) = bowl(x);
            (v + 1e6, g)
        };
        let stop = Stop { tolerance: 0.0, ..STOP };
        let (state, status, calls) = minimize(Lbfgs::new(vec![0.0; 5], vec![], stop), noisy);
        assert!(status != Status::Exhausted && calls < 300, "{status:?} {calls}");
        assert!((state.point()[0] - 3.0).abs() < 1e-6);
        let stop = Stop { max_iterations: 3, ..STOP };
        let (state, status, _) = minimize(Lbfgs::new(vec![-1.2, 1.0], vec![], stop), rosenbrock);
        assert_eq!((status, state.iterations()), (Status::Exhausted, 3));
    }

    #[test]
    fn an_optimum_at_the_start_is_seen() {
        let flat = |x: &[f64]| (0.0, vec![0.0; x.len()]);
        let (_, status, calls) = minimize(Lbfgs::new(vec![1.0], vec![], STOP), flat);
        assert_eq!((status, calls), (Status::Converged, 1));
    }

    #[test]
    fn trials_that_are_not_finite_are_stepped_back_from() {
        // 100 (x + 1/x) has its minimum at 1; the first step goes below 0, where it is no number.
        let bowl = |x: &[f64]| match x[0] {
            x if x > 0.0 => (100.0 * (x + 1.0 / x), vec![100.0 - 100.0 / (x * x)]),
            _ => (f64::NAN, vec![f64::INFINITY]),
        };
        for l1 in [0.0, 1e-9] {
            let (state, status, _) = minimize(Lbfgs::new(vec![5.0], vec![l1], STOP), bowl);
            assert_eq!(status, Status::Converged);
            assert!((state.point()[0] - 1.0).abs() < 1e-6 && state.is_finite(), "{:?}", state.point());
        }
    }
}
