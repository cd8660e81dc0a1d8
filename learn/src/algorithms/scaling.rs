//! From the survey of the training rows to the space in which a linear model is fitted: every slot
//! centred (where there is an intercept) and scaled, penalties carried over, and the way back.

use serde::{Deserialize, Serialize};

use crate::algorithm::{LearnError, Merge};
use crate::kernels::{Moments, Survey};
use crate::model::affine;
use crate::shard::{FeatureKind, Schema};

/// t_j = (x_j − centre_j) · factor_j of the stored value x_j; what the optimizer sees.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scaling {
    /// Subtracted first, one per slot.
    pub centre: Vec<f64>,
    /// Multiplied then; 0 for a column that says nothing.
    pub factor: Vec<f64>,
    /// A coefficient of t_j times this is what the penalty sees.
    pub penalised: Vec<f64>,
    /// Sum of the weights, class weights included.
    pub weight: f64,
    /// Multiplies the weights of the classes, where there are classes.
    pub class_weight: Option<[f64; 2]>,
    /// Sums of the weights of the classes, class weights included; of all rows without classes.
    pub class_totals: Vec<f64>,
    /// Weighted mean of target − offset.
    pub target_mean: f64,
    /// Slots that hold one value only.
    pub constant: Vec<bool>,
}

/// How the classes are weighted.
#[derive(Debug, Clone, PartialEq)]
pub enum ClassWeight {
    /// As their rows are.
    None,
    /// Each class counts the same: total / (2 · total of the class).
    Balanced,
    /// By these factors, in the order of the classes.
    Given(Vec<f64>),
}

/// Which choices of a linear model the scaling depends on.
#[derive(Debug, Clone, Copy)]
pub struct Choices<'a> {
    /// Is there an intercept?
    pub fit_intercept: bool,
    /// Does the penalty see standardised slots?
    pub standardization: bool,
    /// Weights of the classes.
    pub class_weight: &'a ClassWeight,
    /// Weight of the l2 penalty.
    pub l2: f64,
}

/// Which slots take a shift in the kernels: those of numeric columns.
pub fn numeric_slots(schema: &Schema) -> Vec<bool> {
    let kinds = schema.features.iter().map(|f| (f.kind.width(), matches!(f.kind, FeatureKind::Numeric { .. })));
    kinds.flat_map(|(width, numeric)| std::iter::repeat_n(numeric, width)).collect()
}

/// Everything a survey may show that cannot be learnt from.
pub fn check(schema: &Schema, survey: &Survey) -> Result<(), LearnError> {
    let data = |message: String| Err(LearnError::Data(message));
    let of = survey.rows;
    for (feature, &bad) in schema.features.iter().zip(&survey.bad_values) {
        if bad > 0 {
            let name = &feature.name;
            return data(format!(
                "feature `{name}` has {bad} missing or infinite values in {of} training rows: add an impute step or drop the column"
            ));
        }
    }
    let counts = [
        (survey.bad_targets, "rows have no finite target", "filter them in `prepare`"),
        (survey.bad_weights, "rows have a missing, infinite or negative weight", "correct them in `prepare`"),
        (survey.bad_offsets, "rows have no finite offset", "correct them in `prepare`"),
        (survey.odd_targets, "rows have a target other than 0 and 1", "use a regression, or say `columns.positive`"),
    ];
    match counts.into_iter().find(|(count, _, _)| *count > 0) {
        Some((count, what, remedy)) => data(format!("{count} of {of} training {what}: {remedy}")),
        None if survey.classes.iter().all(|c| c.weight == 0.0) => data(format!("the weights of all {of} training rows are 0")),
        None => single_class(schema, survey),
    }
}

fn single_class(schema: &Schema, survey: &Survey) -> Result<(), LearnError> {
    let Some(empty) = survey.classes.iter().position(|c| c.weight == 0.0) else { return Ok(()) };
    let only = schema.classes.get(1 - empty).map_or_else(|| (1 - empty).to_string(), Clone::clone);
    Err(LearnError::Data(format!(
        "all {} training rows of positive weight have the target `{only}`: a classifier needs both classes",
        survey.rows
    )))
}

impl Scaling {
    /// From a survey that passed [`check`]; an error if the variance of a column overflows.
    pub fn new(schema: &Schema, survey: &Survey, choices: Choices<'_>) -> Result<Self, LearnError> {
        let class_weight = class_factors(survey, choices.class_weight);
        let totals = weighted(survey, class_weight);
        let all = totals.clone().into_iter().reduce(|mut a, b| {
            a.merge(b);
            a
        });
        let all = all.expect("a survey has at least one class");
        let (shift, scale) = affine(schema);
        let width = shift.len();
        let curvature = totals.iter().map(|m| m.weight / all.weight).product::<f64>();
        let mut out = Self {
            centre: Vec::with_capacity(width),
            factor: Vec::with_capacity(width),
            penalised: Vec::with_capacity(width),
            weight: all.weight,
            class_weight,
            class_totals: totals.iter().map(|m| m.weight).collect(),
            target_mean: all.mean[width],
            constant: (0..width).map(|j| survey.low[j] >= survey.high[j] || scale[j] == 0.0).collect(),
        };
        for j in 0..width {
            let variance = all.deviation[j] / all.weight;
            let centre = if choices.fit_intercept { all.mean[j] } else { shift[j] };
            // Without intercept and standardization a constant column is a column like others.
            let plain = !choices.fit_intercept && !choices.standardization;
            let distance = all.mean[j] - shift[j];
            let square = if plain { variance + distance * distance } else { variance };
            let usable = scale[j] != 0.0 && (plain || !out.constant[j]);
            if usable && !square.is_finite() {
                return Err(too_large(schema, j));
            }
            // Without standardization the penalty differs from slot to slot: t_j is scaled so that loss and
            // penalty together curve alike in every slot, or first-order steps crawl.
            let own = if choices.standardization { 0.0 } else { choices.l2 / (curvature * scale[j] * scale[j]) };
            let square = square + own;
            let factor = if usable { inverse(square.sqrt()) } else { 0.0 };
            out.centre.push(centre);
            out.factor.push(factor);
            out.penalised.push(match (choices.standardization, factor == 0.0) {
                (_, true) => 0.0,
                (true, false) => 1.0,
                (false, false) => factor / scale[j].abs(),
            });
        }
        Ok(out)
    }

    /// Intercept and coefficients on the scale of the schema, from those of t.
    pub fn to_schema(&self, schema: &Schema, intercept: f64, coefficients: &[f64]) -> (f64, Vec<f64>) {
        let (shift, scale) = affine(schema);
        let mut start = intercept;
        let mut out = Vec::with_capacity(coefficients.len());
        for (j, b) in coefficients.iter().enumerate() {
            let raw = b * self.factor[j];
            start += raw * (shift[j] - self.centre[j]);
            out.push(if raw == 0.0 { 0.0 } else { raw / scale[j] });
        }
        (start, out)
    }
}

fn too_large(schema: &Schema, slot: usize) -> LearnError {
    let name = schema.slot_names().into_iter().nth(slot).unwrap_or_default();
    LearnError::Data(format!("column `{name}` is too large to be standardized: its variance overflows; scale it first"))
}

fn inverse(x: f64) -> f64 {
    let inverse = 1.0 / x;
    if inverse.is_finite() { inverse } else { 0.0 }
}

fn class_factors(survey: &Survey, choice: &ClassWeight) -> Option<[f64; 2]> {
    match (choice, survey.classes.as_slice()) {
        (ClassWeight::Given(factors), [_, _]) => Some([factors[0], factors[1]]),
        (ClassWeight::Balanced, [negative, positive]) => {
            let total = negative.weight + positive.weight;
            Some([total / (2.0 * negative.weight), total / (2.0 * positive.weight)])
        }
        _ => None,
    }
}

/// Moments of each class with its factor in the weights.
fn weighted(survey: &Survey, factors: Option<[f64; 2]>) -> Vec<Moments> {
    let mut classes = survey.classes.clone();
    for (moments, factor) in classes.iter_mut().zip(factors.unwrap_or([1.0, 1.0])) {
        moments.weight *= factor;
        moments.deviation.iter_mut().for_each(|d| *d *= factor);
    }
    classes
}
