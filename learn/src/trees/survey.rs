//! The first look: counts, weights, what the objective begins with, categories that are too many for bins.

use serde::{Deserialize, Serialize};

use crate::algorithm::LearnError;
use crate::math;
use crate::query::{self, runs};
use crate::shard::{Column, EncodedShard, FeatureKind, Schema, Segment};

use super::MOST_ROWS;
use super::exact::ExactSum;
use super::objective::{Link, Objective, Targets};
use super::queries::NO_QUERY;

/// The share that a class counts with at least where predictions begin, as in LightGBM.
const LEAST_SHARE: f64 = 1e-15;

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
    /// Weights of the training rows of each class; without classes of those with a target up to and above ½, of a ranking
    /// those of its training queries and 0.
    pub weights: Vec<ExactSum>,
    /// Σ weight · target.
    pub target: ExactSum,
    /// Σ weight · what an offset multiplies the mean by, or takes from the target.
    pub exposure: ExactSum,
    /// Weight of the validation rows, or queries.
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
        if objective.outputs() > 1 && shard.offset.is_some() {
            let message = "an offset moves the scores of all classes alike: leave out `columns.offset`";
            return Err(LearnError::Data(message.into()));
        }
        let weight = |row: usize| shard.weight.as_ref().map_or(1.0, |w| w[row]);
        let offset = |row: usize| shard.offset.as_ref().map_or(0.0, |o| o[row]);
        let train = shard.range(Segment::Train);
        let mut out = Self { rows: train.len() as u64, ..Self::default() };
        let (mut weights, mut sum, mut exposure) = (vec![0.0; objective.outputs().max(2)], 0.0, 0.0);
        for row in train.clone() {
            let (y, w, o) = (target[row], weight(row), offset(row));
            out.bad_targets += u64::from(!y.is_finite());
            out.bad_weights += u64::from(!(w.is_finite() && w >= 0.0));
            out.bad_offsets += u64::from(!o.is_finite());
            out.odd_targets += u64::from(y.is_finite() && !takes(objective.targets(), y));
            let class = if objective.outputs() > 1 { y as usize } else { usize::from(y > 0.5) };
            weights[class.min(objective.outputs().max(2) - 1)] += w;
            sum += w * y;
            exposure += match objective.link() {
                Link::Identity | Link::Probability => w * o,
                Link::Log => w * math::exp(o),
                Link::Logistic | Link::Softmax | Link::Shares => 0.0,
            };
        }
        out.weights = weights.into_iter().map(ExactSum::of).collect();
        out.target = ExactSum::of(sum);
        out.exposure = ExactSum::of(exposure);
        let validation = shard.range(Segment::Validation);
        out.validation_rows = validation.len() as u64;
        out.validation = ExactSum::of(validation.filter(|&r| is_usable(target[r], weight(r))).map(weight).sum());
        if objective.ranking().is_some() {
            out.weigh_queries(objective, shard, target)?;
        }
        out.slots = schema.features.iter().zip(&shard.columns).map(|(f, c)| count_slots(&f.kind, c, &train)).collect();
        Ok(out)
    }

    /// Weights of queries in place of those of rows. What is wrong with validation rows is said as well: a whole query
    /// could not be measured.
    fn weigh_queries(&mut self, objective: Objective, shard: &EncodedShard, target: &[f64]) -> Result<(), LearnError> {
        let Some(query) = shard.query.as_ref().filter(|query| query.len() == shard.rows) else {
            return Err(LearnError::Data(NO_QUERY.into()));
        };
        let validation = shard.range(Segment::Validation);
        let weight = |row: usize| shard.weight.as_ref().map_or(1.0, |w| w[row]);
        let bad = |row: &usize| !is_usable(target[*row], weight(*row)) || !takes(objective.targets(), target[*row]);
        let bad = validation.clone().filter(bad).count();
        if bad > 0 {
            let message =
                format!("{bad} validation rows of shard {} have a target or weight that cannot be ranked by", shard.index);
            return Err(LearnError::Data(format!("{message}: correct them in `prepare`")));
        }
        let of = |rows| runs(query, rows).map(|rows| query::weight(shard.weight.as_ref().map(|w| &w[rows]))).sum();
        self.weights = vec![ExactSum::of(of(shard.range(Segment::Train))), ExactSum::default()];
        self.validation = ExactSum::of(of(validation));
        Ok(())
    }

    /// Whether both are of one schema.
    pub fn is_like(&self, other: &Self) -> bool {
        self.weights.len() == other.weights.len() && self.slots.iter().map(Vec::len).eq(other.slots.iter().map(Vec::len))
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
            Targets::Labels(1) => ("rows have a target other than 0 and 1", "use `lambdarank` for graded labels"),
            Targets::Labels(_) => ("rows have a target that is no whole number from 0 to 31", "make it one in `prepare`"),
            Targets::Below(_) => ("rows have a target that is none of the classes", "filter them in `prepare`"),
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
        let weights = self.class_weights();
        if weights.iter().all(|&w| w == 0.0) {
            return data(format!("the weights of all {of} training rows are 0"));
        }
        if !weights.iter().sum::<f64>().is_finite() || !self.target.value().is_finite() || !self.exposure.value().is_finite() {
            return data("targets, weights or offsets overflow when they are summed: scale them down".into());
        }
        let met: Vec<usize> = (0..weights.len()).filter(|&class| weights[class] > 0.0).collect();
        let all = match objective.targets() {
            Targets::Classes => Some("both classes"),
            Targets::Below(_) => Some("two classes at least"),
            Targets::Any | Targets::NotNegative | Targets::Positive | Targets::Labels(_) => None,
        };
        let (&[only], Some(all)) = (met.as_slice(), all) else {
            return self.check_mean(objective);
        };
        let only = schema.classes.get(only).map_or_else(|| only.to_string(), Clone::clone);
        data(format!("all {of} training rows of positive weight have the target `{only}`: a classifier needs {all}"))
    }

    fn check_mean(&self, objective: Objective) -> Result<(), LearnError> {
        if objective.link() == Link::Log && self.target.value() <= 0.0 {
            return Err(LearnError::Data("all targets are 0: there is nothing to learn".into()));
        }
        Ok(())
    }

    /// Weights of the training rows of each class.
    pub fn class_weights(&self) -> Vec<f64> {
        self.weights.iter().map(ExactSum::value).collect()
    }

    /// The same multiplied by the factors of the classes.
    pub fn weighted(&self, factors: Option<&[f64]>) -> Vec<f64> {
        let mut out = self.class_weights();
        out.iter_mut().zip(factors.unwrap_or_default()).for_each(|(w, f)| *w *= f);
        out
    }

    /// The scores that predictions begin with: the link of the mean, or of each class's share.
    pub fn base(&self, objective: Objective, factors: Option<&[f64]>) -> Vec<f64> {
        if objective.ranking().is_some() {
            return vec![0.0];
        }
        let mean = |weight: f64| (self.target.value() - self.exposure.value()) / weight;
        let weights = self.weighted(factors);
        let shares = || {
            let all: f64 = weights.iter().sum();
            weights.iter().map(move |w| w / all)
        };
        match objective.link() {
            Link::Identity | Link::Probability => vec![mean(self.class_weights().iter().sum())],
            Link::Log => vec![math::ln(self.target.value() / self.exposure.value())],
            Link::Logistic => vec![math::ln(weights[1] / weights[0])],
            Link::Softmax => shares().map(|share| math::ln(if share > LEAST_SHARE { share } else { LEAST_SHARE })).collect(),
            Link::Shares => shares().collect(),
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
        Targets::Labels(most) => query::is_label(y, most),
        Targets::Below(classes) => y >= 0.0 && y < f64::from(classes) && y.fract() == 0.0,
    }
}

/// Whether a shard has the columns of a schema, of one length.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check_shape(schema: &Schema, shard: &EncodedShard) -> Result<(), LearnError> {
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
