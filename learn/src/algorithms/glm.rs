//! What linear and logistic regression share: one survey of the training rows, then steps of L-BFGS or
//! Newton over them. Minimizes Σ w·loss / Σ w + l1·‖β‖₁ + l2/2·‖β‖₂², the intercept never penalised.

use serde::{Deserialize, Serialize};

use super::scaling::{Choices, ClassWeight, Scaling, check, numeric_slots};
use super::steps::{Message, Partial, Point};
use crate::algorithm::{Algorithm, LearnError, Progress, Report};
use crate::kernels::{self, Affine, Design, Level, Linear, Loss, Rows, Survey};
use crate::linalg::Symmetric;
use crate::math;
use crate::model::{LinearModel, Model, Task};
use crate::optimizer::{Lbfgs, Newton, Status, Stop, l1_norm};
use crate::shard::{EncodedShard, Schema, Segment, Shared};

/// Relative gradient above which a stalled fit is not called converged.
const STALLED_CONVERGED: f64 = 1e-6;
/// Mean loss below which a logistic fit without penalty is taken for separated.
const SEPARATED: f64 = 1e-7;
/// Slots named in one warning.
const NAMED: usize = 8;

/// How the optimum is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Solver {
    /// Second-order steps: the Gram matrix, for the squared loss once.
    Newton,
    /// First-order steps; with l1 OWL-QN.
    Lbfgs,
}

/// A generalized linear model to be fitted.
#[derive(Debug, Clone)]
pub struct Glm {
    /// What is fitted.
    pub loss: Loss,
    /// Weight of Σ |β_j|.
    pub l1: f64,
    /// Weight of Σ β_j² / 2.
    pub l2: f64,
    /// Is there an intercept?
    pub fit_intercept: bool,
    /// Does the penalty see standardised features?
    pub standardization: bool,
    /// Weights of the classes.
    pub class_weight: ClassWeight,
    /// How.
    pub solver: Solver,
    /// When to stop.
    pub stop: Stop,
    /// Instruction set.
    pub level: Level,
    /// Of the shards.
    pub schema: Schema,
}

/// The result of a fit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FittedLinear {
    /// The model.
    pub model: Model,
    /// Accepted steps of the optimizer.
    pub iterations: u32,
    /// Whether the gradient fell below the tolerance, or to what rounding leaves.
    pub converged: bool,
    /// Weighted mean loss of the training rows, without penalties.
    pub loss: f64,
    /// What the user should know: constant and dependent columns, a fit that did not converge.
    pub warnings: Vec<String>,
}

/// Where a fit stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    scaling: Option<Scaling>,
    optimizer: Option<Optimizer>,
    status: Status,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Optimizer {
    Lbfgs(Lbfgs),
    Newton(Newton),
}

impl Optimizer {
    fn ask(&self) -> &[f64] {
        match self {
            Optimizer::Lbfgs(o) => o.ask(),
            Optimizer::Newton(o) => o.ask(),
        }
    }

    fn point(&self) -> &[f64] {
        match self {
            Optimizer::Lbfgs(o) => o.point(),
            Optimizer::Newton(o) => o.point(),
        }
    }

    fn objective(&self) -> f64 {
        match self {
            Optimizer::Lbfgs(o) => o.objective(),
            Optimizer::Newton(o) => o.objective(),
        }
    }

    fn iterations(&self) -> u32 {
        match self {
            Optimizer::Lbfgs(o) => o.iterations(),
            Optimizer::Newton(o) => o.iterations(),
        }
    }

    fn relative_gradient(&self) -> f64 {
        match self {
            Optimizer::Lbfgs(o) => o.relative_gradient(),
            Optimizer::Newton(o) => o.relative_gradient(),
        }
    }

    /// Takes in an evaluation. An accepted point must be finite, a trial that is stepped back from need not.
    fn tell(&mut self, value: f64, gradient: &[f64], hessian: Option<Symmetric>) -> Result<Status, LearnError> {
        let (status, finite) = match self {
            Optimizer::Lbfgs(o) => (o.tell(value, gradient), o.is_finite()),
            Optimizer::Newton(o) => (o.tell(value, gradient, hessian), o.is_finite()),
        };
        if finite { Ok(status) } else { Err(overflow()) }
    }

    fn wants_hessian(&self) -> bool {
        matches!(self, Optimizer::Newton(o) if o.wants_hessian())
    }
}

impl Algorithm for Glm {
    type State = State;
    type Message = Message;
    type Chapter = ();
    type Local = ();
    type Partial = Partial;
    type Output = FittedLinear;

    fn start(&self) -> Result<State, LearnError> {
        Ok(State { scaling: None, optimizer: None, status: Status::Continue })
    }

    fn message(&self, state: &State) -> Message {
        let (Some(scaling), Some(optimizer)) = (&state.scaling, &state.optimizer) else { return Message::Survey };
        let point = self.point(scaling, optimizer.ask());
        if optimizer.wants_hessian() {
            Message::SecondOrder { point, centre: scaling.centre.clone(), factor: scaling.factor.clone() }
        } else {
            Message::Gradient(point)
        }
    }

    fn partial(&self, message: &Message, _chapters: &[()], shard: &EncodedShard, _local: &()) -> Option<Partial> {
        let range = shard.range(Segment::Train);
        if range.is_empty() {
            return None;
        }
        Some(self.answer(message, shard, range).unwrap_or_else(|e| Partial::Fault(e.to_string())))
    }

    fn update(&self, state: &mut State, total: Option<Partial>) -> Result<Progress, LearnError> {
        let Some(total) = total else { return Err(LearnError::Data("there are no training rows".into())) };
        if !total.is_of(self.schema.features.len(), self.schema.width()) {
            return Err(LearnError::Data("a partial is of another schema than the fit".into()));
        }
        match total {
            Partial::Fault(fault) => return Err(LearnError::Data(fault)),
            Partial::Survey(survey) => self.begin(state, &survey)?,
            Partial::Gradient { loss, residual, sums } => self.tell_gradient(state, loss, residual, &sums)?,
            Partial::SecondOrder { loss, gradient, hessian } => self.tell_hessian(state, loss, &gradient, hessian)?,
        }
        Ok(if state.status == Status::Continue { Progress::Continue } else { Progress::Done })
    }

    fn report(&self, state: &State) -> Vec<Report> {
        let (Some(scaling), Some(optimizer)) = (&state.scaling, &state.optimizer) else { return Vec::new() };
        if !optimizer.objective().is_finite() {
            return Vec::new();
        }
        let loss = optimizer.objective() - self.penalty(scaling, optimizer.point());
        vec![
            Report { name: "loss".into(), value: loss },
            Report { name: "objective".into(), value: optimizer.objective() },
            Report { name: "relative_gradient".into(), value: optimizer.relative_gradient() },
        ]
    }

    fn finish(&self, state: State) -> Result<FittedLinear, LearnError> {
        let (Some(scaling), Some(optimizer)) = (&state.scaling, &state.optimizer) else {
            return Err(LearnError::Data("the fit has not begun".into()));
        };
        let (intercept, coefficients) = self.split(optimizer.point());
        let (intercept, coefficients) = scaling.to_schema(&self.schema, intercept, coefficients);
        if !intercept.is_finite() || coefficients.iter().any(|c| !c.is_finite()) {
            return Err(LearnError::Data("coefficients overflow: scale the features or the target".into()));
        }
        let task = match self.loss {
            Loss::Squared => Task::Regression,
            Loss::Logistic => Task::Binary,
        };
        let loss = optimizer.objective() - self.penalty(scaling, optimizer.point());
        if !loss.is_finite() {
            return Err(overflow());
        }
        let loss = if loss < 0.0 { 0.0 } else { loss };
        let converged = match state.status {
            Status::Converged => true,
            Status::Stalled => optimizer.relative_gradient() <= STALLED_CONVERGED,
            Status::Continue | Status::Exhausted => false,
        };
        let warnings = self.warnings(scaling, optimizer, converged, loss);
        let model = Model::Linear(LinearModel { task, intercept, coefficients });
        Ok(FittedLinear { model, iterations: optimizer.iterations(), converged, loss, warnings })
    }
}

impl Glm {
    /// Intercept (0 without one) and coefficients of an optimizer's point.
    fn split<'p>(&self, point: &'p [f64]) -> (f64, &'p [f64]) {
        if self.fit_intercept { (point[0], &point[1..]) } else { (0.0, point) }
    }

    /// One value per optimizer coordinate: 0 for the intercept, `each` per slot.
    fn coordinates(&self, each: impl Iterator<Item = f64>) -> Vec<f64> {
        self.fit_intercept.then_some(0.0).into_iter().chain(each).collect()
    }

    fn l1_penalties(&self, scaling: &Scaling) -> Vec<f64> {
        self.coordinates(scaling.penalised.iter().map(|f| self.l1 * f))
    }

    fn l2_penalties(&self, scaling: &Scaling) -> Vec<f64> {
        self.coordinates(scaling.penalised.iter().map(|f| self.l2 * f * f))
    }

    fn penalty(&self, scaling: &Scaling, point: &[f64]) -> f64 {
        l1_norm(point, &self.l1_penalties(scaling)) + half_squares(point, &self.l2_penalties(scaling))
    }

    /// An optimizer's point as a function of the stored columns. Shifts of slots go into the intercept,
    /// so that absent slots cost nothing.
    fn point(&self, scaling: &Scaling, at: &[f64]) -> Point {
        let (mut intercept, coefficients) = self.split(at);
        let weight: Vec<f64> = coefficients.iter().zip(&scaling.factor).map(|(b, f)| b * f).collect();
        let mut shift = Vec::new();
        for (j, numeric) in numeric_slots(&self.schema).into_iter().enumerate() {
            if numeric {
                shift.push(scaling.centre[j]);
            } else {
                intercept -= scaling.centre[j] * weight[j];
            }
        }
        Point { intercept, shift, weight, class_weight: scaling.class_weight }
    }

    fn answer(&self, message: &Message, shard: &EncodedShard, range: std::ops::Range<usize>) -> Result<Partial, LearnError> {
        let design = Design::new(&self.schema, shard, range.clone())?;
        let column = |what: &str, values: &'_ Option<Shared<f64>>| match values {
            Some(v) if v.len() != shard.rows => {
                Err(LearnError::Data(format!("shard {} has {} {what}s for {} rows", shard.index, v.len(), shard.rows)))
            }
            _ => Ok(()),
        };
        column("target", &shard.target)?;
        column("weight", &shard.weight)?;
        column("offset", &shard.offset)?;
        let Some(target) = &shard.target else {
            return Err(LearnError::Data("there is no target: name the column in `columns.target`".into()));
        };
        let class_weight = match message {
            Message::Survey => None,
            Message::Gradient(point) | Message::SecondOrder { point, .. } => point.class_weight,
        };
        let rows = Rows {
            target: &target[range.clone()],
            weight: shard.weight.as_ref().map(|w| &w[range.clone()]),
            offset: shard.offset.as_ref().map(|o| &o[range.clone()]),
            class_weight,
        };
        self.compute(message, &design, rows)
    }

    fn compute(&self, message: &Message, design: &Design<'_>, rows: Rows<'_>) -> Result<Partial, LearnError> {
        let (point, affine) = match message {
            Message::Survey => {
                let classes = if self.loss == Loss::Logistic { 2 } else { 1 };
                return Ok(Partial::Survey(kernels::survey(self.level, classes, design, rows)));
            }
            Message::Gradient(point) => (point, None),
            Message::SecondOrder { point, centre, factor } => (point, Some(Affine { shift: centre, scale: factor })),
        };
        let shift = point.shifts(&numeric_slots(&self.schema));
        let lengths = affine.map_or([design.width; 2], |a| [a.shift.len(), a.scale.len()]);
        let (Some(shift), true) = (shift, point.weight.len() == design.width && lengths == [design.width; 2]) else {
            return Err(LearnError::Data(format!("a step for {} slots met a schema of {}", point.weight.len(), design.width)));
        };
        let linear = Linear { intercept: point.intercept, shift: &shift, weight: &point.weight };
        Ok(match affine {
            None => {
                let g = kernels::gradient(self.level, self.loss, design, linear, rows);
                Partial::Gradient { loss: g.loss, residual: g.residual, sums: g.sums }
            }
            Some(affine) => {
                let s = kernels::second_order(self.level, self.loss, design, linear, affine, rows);
                Partial::SecondOrder { loss: s.loss, gradient: s.gradient, hessian: s.hessian }
            }
        })
    }

    /// From the survey to the optimizer's first question.
    fn begin(&self, state: &mut State, survey: &Survey) -> Result<(), LearnError> {
        check(&self.schema, survey)?;
        let choices = Choices {
            fit_intercept: self.fit_intercept,
            standardization: self.standardization,
            class_weight: &self.class_weight,
            l2: self.l2,
        };
        let scaling = Scaling::new(&self.schema, survey, choices)?;
        if scaling.factor.iter().chain(&scaling.centre).any(|x| !x.is_finite()) || !scaling.weight.is_finite() {
            return Err(LearnError::Data("features or weights overflow when they are summed: scale them down".into()));
        }
        let mut start = self.coordinates(std::iter::repeat_n(0.0, scaling.factor.len()));
        if self.fit_intercept {
            start[0] = match self.loss {
                Loss::Squared => scaling.target_mean,
                Loss::Logistic => math::ln(scaling.class_totals[1] / scaling.class_totals[0]),
            };
        }
        let (l1, l2) = (self.l1_penalties(&scaling), self.l2_penalties(&scaling));
        state.optimizer = Some(match self.solver {
            Solver::Newton => Optimizer::Newton(Newton::new(start, l1, l2, self.loss == Loss::Squared, self.stop)),
            Solver::Lbfgs => Optimizer::Lbfgs(Lbfgs::new(start, l1, self.stop)),
        });
        state.scaling = Some(scaling);
        Ok(())
    }

    fn tell_gradient(&self, state: &mut State, loss: f64, residual: f64, sums: &[f64]) -> Result<(), LearnError> {
        let (scaling, optimizer) = begun(state)?;
        let numeric = numeric_slots(&self.schema);
        let slots = (0..sums.len()).map(|j| {
            let sum = if numeric[j] { sums[j] } else { sums[j] - scaling.centre[j] * residual };
            scaling.factor[j] * sum / scaling.weight
        });
        let mut gradient = self.coordinates(slots);
        if self.fit_intercept {
            gradient[0] = residual / scaling.weight;
        }
        let value = self.penalise(scaling, optimizer.ask(), loss / scaling.weight, &mut gradient);
        state.status = optimizer.tell(value, &gradient, None)?;
        Ok(())
    }

    fn tell_hessian(&self, state: &mut State, loss: f64, gradient: &[f64], hessian: Vec<f64>) -> Result<(), LearnError> {
        let (scaling, optimizer) = begun(state)?;
        let first = usize::from(!self.fit_intercept);
        let mut gradient: Vec<f64> = gradient[first..].iter().map(|g| g / scaling.weight).collect();
        let mut matrix = Symmetric::new(scaling.factor.len() + 1, hessian);
        if !self.fit_intercept {
            matrix = matrix.without_first();
        }
        matrix.scale(1.0 / scaling.weight);
        for (j, l2) in self.l2_penalties(scaling).into_iter().enumerate() {
            matrix.add_diagonal(j, l2);
        }
        let value = self.penalise(scaling, optimizer.ask(), loss / scaling.weight, &mut gradient);
        state.status = optimizer.tell(value, &gradient, Some(matrix))?;
        Ok(())
    }

    /// Adds the l2 penalty to a gradient; returns the loss with it.
    fn penalise(&self, scaling: &Scaling, at: &[f64], loss: f64, gradient: &mut [f64]) -> f64 {
        let l2 = self.l2_penalties(scaling);
        for ((g, x), l) in gradient.iter_mut().zip(at).zip(&l2) {
            *g += l * x;
        }
        loss + half_squares(at, &l2)
    }

    fn warnings(&self, scaling: &Scaling, optimizer: &Optimizer, converged: bool, loss: f64) -> Vec<String> {
        let names = self.schema.slot_names();
        let mut out = Vec::new();
        let still = (0..names.len()).filter(|&j| scaling.factor[j] == 0.0);
        if let Some(list) = listed(still.map(|j| names[j].as_str())) {
            out.push(format!("constant in the training rows, coefficient 0: {list}"));
        }
        if let Optimizer::Newton(newton) = optimizer {
            let (_, dependent) = newton.dependent().split_at(usize::from(self.fit_intercept));
            let told = (0..names.len()).filter(|&j| dependent[j] && scaling.factor[j] != 0.0);
            if let Some(list) = listed(told.map(|j| names[j].as_str())) {
                out.push(format!("determined by the features before them, coefficient 0: {list}"));
            }
        }
        let gradient = optimizer.relative_gradient();
        if self.loss == Loss::Logistic && self.l1 == 0.0 && self.l2 == 0.0 && loss < SEPARATED {
            out.push("the classes are separated: coefficients grow without bound; set `l2` above 0".into());
        } else if !converged {
            let steps = optimizer.iterations();
            out.push(format!(
                "not converged after {steps} iterations: the gradient is {gradient:e} of its start; raise `max_iterations` or `l2`"
            ));
        }
        out
    }
}

fn overflow() -> LearnError {
    LearnError::Data("the loss overflows: scale the features or the target (a larger unit, a logarithm)".into())
}

fn begun(state: &mut State) -> Result<(&Scaling, &mut Optimizer), LearnError> {
    match (&state.scaling, &mut state.optimizer) {
        (Some(scaling), Some(optimizer)) => Ok((scaling, optimizer)),
        _ => Err(LearnError::Data("a gradient came before the survey".into())),
    }
}

/// Σ l_j x_j² / 2.
fn half_squares(x: &[f64], l2: &[f64]) -> f64 {
    let mut sum = 0.0;
    for (x, l) in x.iter().zip(l2) {
        sum += l * (x * x);
    }
    0.5 * sum
}

/// `a, b and 7 more`; nothing for nothing.
fn listed<'n>(names: impl Iterator<Item = &'n str>) -> Option<String> {
    let names: Vec<&str> = names.collect();
    let more = names.len().saturating_sub(NAMED);
    let list = names[..names.len() - more].join(", ");
    match (names.is_empty(), more) {
        (true, _) => None,
        (false, 0) => Some(list),
        (false, more) => Some(format!("{list} and {more} more")),
    }
}
