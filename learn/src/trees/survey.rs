//! The first look: counts, weights, what the objective begins with, categories that are too many for bins.

use serde::{Deserialize, Serialize};

use crate::algorithm::LearnError;
use crate::math;
use crate::shard::{Column, EncodedShard, FeatureKind, Schema, Segment};

use super::MOST_ROWS;
use super::exact::ExactSum;
use super::objective::{Link, Objective, Targets};

/// What rows of a dataset hold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Survey {
    /// Training rows.
    pub rows: u64,
    /// Training rows without a finite target.
    pub bad_targets: u64,
    /// Training rows with a missing, infinite or negative weight.
    pub bad_weights: u64,
    /// Training rows without a finite offset.
    pub bad_offsets: u64,
    /// Training rows whose target the objective does not take.
    pub odd_targets: u64,
    /// Weights of the training rows with a target up to and above ½.
    pub weights: [ExactSum; 2],
    /// Σ weight · target.
    pub target: ExactSum,
    /// Σ weight · what an offset multiplies the mean by, or takes from the target.
    pub exposure: ExactSum,
    /// Weight of the validation rows.
    pub validation: ExactSum,
    /// Validation rows.
    pub validation_rows: u64,
    /// Rows of each slot of a feature; empty for numbers.
    pub slots: Vec<Vec<u64>>,
}

impl Survey {
    /// Looks at a shard.
    ///
    /// # Errors
    /// The shard does not follow the schema.
    pub fn of(schema: &Schema, objective: Objective, shard: &EncodedShard) -> Result<Self, LearnError> {
        check_shape(schema, shard)?;
        let Some(target) = &shard.target else {
            return Err(LearnError::Data("there is no target: name the column in `columns.target`".into()));
        };
        let weight = |row: usize| shard.weight.as_ref().map_or(1.0, |w| w[row]);
        let offset = |row: usize| shard.offset.as_ref().map_or(0.0, |o| o[row]);
        let train = shard.range(Segment::Train);
        let mut out = Self { rows: train.len() as u64, ..Self::default() };
        let (mut weights, mut sum, mut exposure) = ([0.0; 2], 0.0, 0.0);
        for row in train.clone() {
            let (y, w, o) = (target[row], weight(row), offset(row));
            out.bad_targets += u64::from(!y.is_finite());
            out.bad_weights += u64::from(!(w.is_finite() && w >= 0.0));
            out.bad_offsets += u64::from(!o.is_finite());
            out.odd_targets += u64::from(y.is_finite() && !takes(objective.targets(), y));
            weights[usize::from(y > 0.5)] += w;
            sum += w * y;
            exposure += match objective.link() {
                Link::Identity | Link::Probability => w * o,
                Link::Log => w * math::exp(o),
                Link::Logistic => 0.0,
            };
        }
        out.weights = weights.map(ExactSum::of);
        out.target = ExactSum::of(sum);
        out.exposure = ExactSum::of(exposure);
        let validation = shard.range(Segment::Validation);
        out.validation_rows = validation.len() as u64;
        out.validation = ExactSum::of(validation.filter(|&r| is_usable(target[r], weight(r))).map(weight).sum());
        out.slots = schema.features.iter().zip(&shard.columns).map(|(f, c)| count_slots(&f.kind, c, &train)).collect();
        Ok(out)
    }

    /// Whether both are of one schema.
    pub fn is_like(&self, other: &Self) -> bool {
        self.slots.iter().map(Vec::len).eq(other.slots.iter().map(Vec::len))
    }

    /// Takes in another one.
    pub fn merge(&mut self, other: Self) {
        self.rows += other.rows;
        self.bad_targets += other.bad_targets;
        self.bad_weights += other.bad_weights;
        self.bad_offsets += other.bad_offsets;
        self.odd_targets += other.odd_targets;
        self.weights.iter_mut().zip(&other.weights).for_each(|(a, b)| a.merge(b));
        self.target.merge(&other.target);
        self.exposure.merge(&other.exposure);
        self.validation.merge(&other.validation);
        self.validation_rows += other.validation_rows;
        for (a, b) in self.slots.iter_mut().zip(other.slots) {
            a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        }
    }

    /// Everything that cannot be learnt from.
    ///
    /// # Errors
    /// What is wrong with the data, and what to do.
    pub fn check(&self, schema: &Schema, objective: Objective) -> Result<(), LearnError> {
        let data = |message: String| Err(LearnError::Data(message));
        let of = self.rows;
        let odd = match objective.targets() {
            Targets::Any | Targets::Classes => {
                ("rows have a target other than 0 and 1", "use a regression, or say `columns.positive`")
            }
            Targets::NotNegative => ("rows have a target below 0", "use another objective"),
            Targets::Positive => ("rows have a target that is not above 0", "use another objective"),
        };
        let counts = [
            (self.bad_targets, "rows have no finite target", "filter them in `prepare`"),
            (self.bad_weights, "rows have a missing, infinite or negative weight", "correct them in `prepare`"),
            (self.bad_offsets, "rows have no finite offset", "correct them in `prepare`"),
            (self.odd_targets, odd.0, odd.1),
        ];
        if of == 0 {
            return data("there are no training rows".into());
        }
        if let Some((count, what, remedy)) = counts.into_iter().find(|(count, _, _)| *count > 0) {
            return data(format!("{count} of {of} training {what}: {remedy}"));
        }
        let weights = self.weights.each_ref().map(ExactSum::value);
        if weights == [0.0; 2] {
            return data(format!("the weights of all {of} training rows are 0"));
        }
        if !(weights[0] + weights[1]).is_finite() || !self.target.value().is_finite() || !self.exposure.value().is_finite() {
            return data("targets, weights or offsets overflow when they are summed: scale them down".into());
        }
        let Some(empty) = weights.iter().position(|&w| w == 0.0).filter(|_| objective.targets() == Targets::Classes) else {
            return self.check_mean(objective);
        };
        let only = schema.classes.get(1 - empty).map_or_else(|| (1 - empty).to_string(), Clone::clone);
        data(format!("all {of} training rows of positive weight have the target `{only}`: a classifier needs both classes"))
    }

    fn check_mean(&self, objective: Objective) -> Result<(), LearnError> {
        if objective.link() == Link::Log && self.target.value() <= 0.0 {
            return Err(LearnError::Data("all targets are 0: there is nothing to learn".into()));
        }
        Ok(())
    }

    /// The score that predictions begin with: the link of the mean.
    pub fn base(&self, objective: Objective, class_weight: Option<[f64; 2]>) -> f64 {
        let weights = self.weights.each_ref().map(ExactSum::value);
        match objective.link() {
            Link::Identity | Link::Probability => (self.target.value() - self.exposure.value()) / (weights[0] + weights[1]),
            Link::Log => math::ln(self.target.value() / self.exposure.value()),
            Link::Logistic => {
                let factors = class_weight.unwrap_or([1.0; 2]);
                math::ln(weights[1] * factors[1] / (weights[0] * factors[0]))
            }
        }
    }
}

/// Whether a validation row can be measured.
pub fn is_usable(target: f64, weight: f64) -> bool {
    target.is_finite() && weight.is_finite() && weight >= 0.0
}

fn takes(targets: Targets, y: f64) -> bool {
    match targets {
        Targets::Any => true,
        Targets::Classes => y == 0.0 || y == 1.0,
        Targets::NotNegative => y >= 0.0,
        Targets::Positive => y > 0.0,
    }
}

fn check_shape(schema: &Schema, shard: &EncodedShard) -> Result<(), LearnError> {
    let index = shard.index;
    if shard.columns.len() != schema.features.len() {
        let (have, want) = (shard.columns.len(), schema.features.len());
        return Err(LearnError::Data(format!("shard {index} has {have} feature columns, the schema has {want}")));
    }
    if shard.rows > MOST_ROWS {
        return Err(LearnError::Data(format!("shard {index} has {} rows: trees take shards of at most {MOST_ROWS}", shard.rows)));
    }
    for (what, values) in [("target", &shard.target), ("weight", &shard.weight), ("offset", &shard.offset)] {
        if let Some(values) = values.as_ref().filter(|v| v.len() != shard.rows) {
            return Err(LearnError::Data(format!("shard {index} has {} {what}s for {} rows", values.len(), shard.rows)));
        }
    }
    for (feature, column) in schema.features.iter().zip(&shard.columns) {
        let what = match (column, &feature.kind) {
            (Column::F32(x), FeatureKind::Numeric { .. }) if x.len() == shard.rows => continue,
            (Column::F64(x), FeatureKind::Numeric { .. }) if x.len() == shard.rows => continue,
            (Column::Code(x), FeatureKind::Slots { .. }) if x.len() == shard.rows => continue,
            (Column::Bytes { .. }, _) => "text cannot be learnt from; encode it (one_hot, hash) or drop it",
            _ => "its encoding does not fit the schema",
        };
        return Err(LearnError::Data(format!("column `{}` of shard {index}: {what}", feature.name)));
    }
    Ok(())
}

fn count_slots(kind: &FeatureKind, column: &Column, rows: &std::ops::Range<usize>) -> Vec<u64> {
    let (FeatureKind::Slots { names }, Column::Code(codes)) = (kind, column) else { return Vec::new() };
    let mut out = vec![0; names.len()];
    for &code in &codes[rows.clone()] {
        if let Some(count) = out.get_mut(code as usize) {
            *count += 1;
        }
    }
    out
}
