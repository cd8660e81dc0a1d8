//! What learning leaves: models that score encoded shards. The bits of a prediction depend on the
//! row and the model alone: not on the batch, the level or the machine.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::algorithm::LearnError;
use crate::isolation::model::{IsolationModel, score};
use crate::kernels::{Design, Level, Linear, margins};
use crate::shard::{EncodedShard, FeatureKind, Schema};
use crate::trees::importance::{Importance, importance};
use crate::trees::model::TreeModel;
use crate::trees::objective::Link;

/// A model of any kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Model {
    /// A generalized linear model.
    Linear(LinearModel),
    /// Trees whose leaves add up.
    Trees(TreeModel),
    /// Trees of path lengths.
    Isolation(IsolationModel),
}

/// What a model predicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// A number: the predicted mean.
    Regression,
    /// The probability of the positive class.
    Binary,
    /// The probability of every class, in the order of the schema's classes.
    Multiclass,
    /// A score: within a query, rows with higher ones stand above.
    Ranking,
    /// How anomalous a row is, between 0 and 1. Learnt without a target; one of two classes may measure it.
    Anomaly,
}

/// margin = intercept + Σ coefficient_j · t_j, where `t_j` is a slot's value as the schema has it:
/// `(x − shift) · scale` for numbers, 0/1 for categories, the entry for sparse columns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinearModel {
    /// Identity link, or the logistic one.
    pub task: Task,
    /// Margin of the row whose slots are all 0.
    pub intercept: f64,
    /// One per slot of the schema, in its order.
    pub coefficients: Vec<f64>,
}

/// What any learner leaves; a learner's own result may say more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fitted {
    /// The model.
    pub model: Model,
    /// Accepted steps of an optimizer, or trees.
    pub iterations: u32,
    /// Whether the fit ended where it should.
    pub converged: bool,
    /// Weighted mean loss of the training rows, without penalties; absent where nothing is lost.
    #[serde(default)]
    pub loss: Option<f64>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

impl Model {
    /// What the model predicts.
    pub fn task(&self) -> Task {
        match self {
            Model::Linear(model) => model.task,
            Model::Trees(model) => model.task,
            Model::Isolation(_) => Task::Anomaly,
        }
    }

    /// Numbers that a row is predicted as: one, or a probability for each class.
    pub fn outputs(&self, schema: &Schema) -> usize {
        match self.task() {
            Task::Regression | Task::Binary | Task::Ranking | Task::Anomaly => 1,
            Task::Multiclass => schema.classes.len(),
        }
    }

    /// Whether the model belongs to the schema.
    pub fn check(&self, schema: &Schema) -> Result<(), LearnError> {
        let model = match self {
            Model::Linear(model) => model,
            Model::Trees(model) => return model.check(schema),
            Model::Isolation(model) => return model.forest.check(schema),
        };
        if model.task == Task::Multiclass {
            return Err(LearnError::Data("the model is damaged: a linear model has one score a row".into()));
        }
        let (have, want) = (model.coefficients.len(), schema.width());
        if have == want {
            return Ok(());
        }
        Err(LearnError::Data(format!("the model has {have} coefficients, its schema has {want} slots")))
    }

    /// Predictions of some rows of a shard: the probability of the positive class, the mean, or the probabilities of
    /// all classes in the order of the schema's classes. [`Model::outputs`] for each row, row after row.
    /// A linear model predicts a row with a missing value (NaN) as NaN.
    ///
    /// # Panics
    /// If the shard does not follow the schema or the model does not ([`Model::check`]): encoding makes both.
    pub fn predict(&self, schema: &Schema, shard: &EncodedShard, rows: Range<usize>) -> Vec<f64> {
        self.predict_at(Level::detect(), schema, shard, rows)
    }

    /// [`Model::predict`] at a given level.
    ///
    /// # Panics
    /// As [`Model::predict`].
    pub fn predict_at(&self, level: Level, schema: &Schema, shard: &EncodedShard, rows: Range<usize>) -> Vec<f64> {
        let mut out = self.margins_at(level, schema, shard, rows);
        let link = match self {
            Model::Linear(model) if model.task == Task::Binary => Link::Logistic,
            Model::Linear(_) => Link::Identity,
            Model::Trees(model) => model.link,
            Model::Isolation(_) => {
                out.iter_mut().for_each(|length| *length = score(*length));
                return out;
            }
        };
        link.predict(&mut out, self.outputs(schema));
        out
    }

    /// Linear predictors (of trees: scores, of isolation forests mean path lengths) of some rows, the shard's offsets included: [`Model::outputs`] for each
    /// row, row after row.
    ///
    /// # Panics
    /// As [`Model::predict`].
    pub fn margins(&self, schema: &Schema, shard: &EncodedShard, rows: Range<usize>) -> Vec<f64> {
        self.margins_at(Level::detect(), schema, shard, rows)
    }

    /// [`Model::margins`] at a given level.
    ///
    /// # Panics
    /// As [`Model::predict`].
    pub fn margins_at(&self, level: Level, schema: &Schema, shard: &EncodedShard, rows: Range<usize>) -> Vec<f64> {
        let model = match self {
            Model::Linear(model) => model,
            Model::Trees(model) => return model.scores(schema, shard, rows, model.trees.len()),
            Model::Isolation(model) => return model.forest.scores(schema, shard, rows, model.forest.trees.len()),
        };
        let design = Design::new(schema, shard, rows.clone()).unwrap_or_else(|e| panic!("encoded for another model: {e}"));
        let (shift, scale) = affine(schema);
        let weight: Vec<f64> = model.coefficients.iter().zip(&scale).map(|(c, s)| c * s).collect();
        let mut out = vec![0.0; rows.len()];
        let linear = Linear { intercept: model.intercept, shift: &shift, weight: &weight };
        let offset = shard.offset.as_deref().map(|o| &o[rows]);
        margins(level, &design, linear, offset, &mut out);
        out
    }

    /// Whether the model says which rows are anomalies.
    pub fn finds_anomalies(&self) -> bool {
        matches!(self, Model::Isolation(model) if model.threshold.is_some())
    }

    /// Which of these predictions are anomalies; `None` for models that do not say.
    pub fn anomalies(&self, predictions: &[f64]) -> Option<Vec<bool>> {
        let Model::Isolation(model) = self else { return None };
        model.threshold.map(|threshold| predictions.iter().map(|score| *score > threshold).collect())
    }

    /// Intercept and coefficients by slot name on the scale of the columns before the schema's shift and
    /// scale: margin = intercept + Σ coefficient · x. For display; scoring never uses it. `None` for trees, which have
    /// none.
    pub fn raw_coefficients(&self, schema: &Schema) -> Option<(f64, BTreeMap<String, f64>)> {
        let Model::Linear(model) = self else { return None };
        let (shift, scale) = affine(schema);
        let mut intercept = model.intercept;
        let mut out = BTreeMap::new();
        for (j, name) in schema.slot_names().into_iter().enumerate() {
            let raw = model.coefficients[j] * scale[j];
            intercept -= raw * shift[j];
            out.insert(name, raw);
        }
        Some((intercept, out))
    }

    /// What each feature that is split on counts for, by its name. `None` for models without splits.
    pub fn importances(&self, schema: &Schema) -> Option<BTreeMap<String, Importance>> {
        let Model::Trees(model) = self else { return None };
        let all = importance(model, schema.features.len());
        let named = schema.features.iter().map(|feature| feature.name.clone()).zip(all);
        Some(named.filter(|(_, importance)| importance.splits > 0).collect())
    }

    /// The text that is hashed: sorted keys, no spaces, every float as the 16 hex digits of its bits.
    pub fn canonical_json(&self) -> String {
        let value = serde_json::to_value(self).expect("a model is plain data");
        canonical_json(&value)
    }
}

/// The class that a row is predicted to have: the number of its greatest probability, of equal ones the first.
pub fn likeliest(probabilities: &[f64]) -> usize {
    let mut best = 0;
    for (class, p) in probabilities.iter().enumerate() {
        if *p > probabilities[best] {
            best = class;
        }
    }
    best
}

/// Shift and scale of every slot of a schema; 0 and 1 where the column takes none.
pub fn affine(schema: &Schema) -> (Vec<f64>, Vec<f64>) {
    let width = schema.width();
    let (mut shifts, mut scales) = (Vec::with_capacity(width), Vec::with_capacity(width));
    for feature in &schema.features {
        let (shift, scale) = match feature.kind {
            FeatureKind::Numeric { shift, scale } => (shift, scale),
            _ => (0.0, 1.0),
        };
        shifts.resize(shifts.len() + feature.kind.width(), shift);
        scales.resize(scales.len() + feature.kind.width(), scale);
    }
    (shifts, scales)
}

/// Canonical text of a JSON value: keys sorted bytewise, no spaces, floats as `"f64:"` and 16 hex digits
/// of their bits, whole numbers as they are.
pub fn canonical_json(value: &Value) -> String {
    let mut out = String::new();
    write_canonical(value, &mut out);
    out
}

fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Number(n) if n.is_f64() => {
            let bits = n.as_f64().expect("a float").to_bits();
            out.push_str(&format!("\"f64:{bits:016x}\""));
        }
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            let sorted: BTreeMap<&String, &Value> = map.iter().collect();
            out.push('{');
            for (i, (key, item)) in sorted.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&Value::String(key.clone()).to_string());
                out.push(':');
                write_canonical(item, out);
            }
            out.push('}');
        }
        plain => out.push_str(&plain.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::{Column, Feature};
    use serde_json::json;

    /// A numeric f32 and f64 column, categories and a sparse one.
    fn mixed(rows: usize) -> (Schema, EncodedShard, Model) {
        let names = vec!["a".to_string(), "b".to_string()];
        let schema = Schema {
            features: vec![
                Feature { name: "x".into(), kind: FeatureKind::Numeric { shift: 1.5, scale: 0.25 } },
                Feature { name: "c".into(), kind: FeatureKind::Slots { names } },
                Feature { name: "y".into(), kind: FeatureKind::Numeric { shift: 0.0, scale: 1.0 } },
                Feature { name: "h".into(), kind: FeatureKind::Sparse { width: 3 } },
            ],
            classes: vec!["no".into(), "yes".into()],
        };
        let shard = EncodedShard {
            index: 0,
            rows,
            bounds: [0, rows, rows, rows],
            columns: vec![
                Column::F32((0..rows).map(|i| (i * 7 % 13) as f32 * 0.37).collect()),
                Column::Code((0..rows).map(|i| [0, 1, u32::MAX][i % 3]).collect()),
                Column::F64((0..rows).map(|i| (i * 11 % 17) as f64 * 0.1 - 0.8).collect()),
                Column::Sparse {
                    offsets: (0..=rows as u32).collect(),
                    entries: (0..rows).map(|i| ((i % 3) as u32, 1.0 + i as f32)).collect(),
                },
            ],
            offset: Some((0..rows).map(|i| i as f64 * 1e-3).collect()),
            ..Default::default()
        };
        let coefficients = vec![0.7, -1.1, 0.3, 2.5, 0.01, 0.02, -0.03];
        (schema, shard, Model::Linear(LinearModel { task: Task::Binary, intercept: 0.1, coefficients }))
    }

    #[test]
    fn a_prediction_depends_on_its_row_alone() {
        let (schema, shard, model) = mixed(1300);
        let whole = model.predict(&schema, &shard, 0..1300);
        for level in Level::available() {
            for batch in [1, 7, 512, 1111] {
                let mut parts = Vec::new();
                let mut at = 0;
                while at < 1300 {
                    let end = 1300.min(at + batch);
                    parts.extend(model.predict_at(level, &schema, &shard, at..end));
                    at = end;
                }
                assert!(parts.iter().zip(&whole).all(|(a, b)| a.to_bits() == b.to_bits()), "{} {batch}", level.name());
            }
        }
    }

    #[test]
    fn a_margin_is_what_the_formula_says() {
        let (schema, shard, model) = mixed(30);
        let margins = model.margins(&schema, &shard, 0..30);
        let x = |i: usize| f64::from((i * 7 % 13) as f32 * 0.37);
        let y = |i: usize| (i * 11 % 17) as f64 * 0.1 - 0.8;
        for (i, margin) in margins.into_iter().enumerate() {
            let slot = [-1.1, 0.3, 0.0][i % 3];
            let sparse = [0.01, 0.02, -0.03][i % 3] * (1.0 + i as f64);
            let want = 0.1 + i as f64 * 1e-3 + 0.7 * (x(i) - 1.5) * 0.25 + slot + 2.5 * y(i) + sparse;
            assert!((margin - want).abs() < 1e-13, "row {i}: {margin} {want}");
        }
        let (intercept, raw) = model.raw_coefficients(&schema).expect("it is linear");
        assert_eq!(raw["x"], 0.7 * 0.25);
        assert_eq!(raw["c=b"], 0.3);
        assert!((intercept - (0.1 - 0.7 * 0.25 * 1.5)).abs() < 1e-15);
    }

    #[test]
    fn canonical_text_sorts_and_keeps_bits() {
        let text = canonical_json(&json!({"b": [1.5, -0.0], "a": {"z": 1, "y": "q\"", "x": null, "w": true}}));
        assert_eq!(text, r#"{"a":{"w":true,"x":null,"y":"q\"","z":1},"b":["f64:3ff8000000000000","f64:8000000000000000"]}"#);
        let (schema, _, model) = mixed(1);
        assert!(model.check(&schema).is_ok());
        assert!(model.check(&Schema::default()).is_err());
        assert!(model.canonical_json().starts_with(r#"{"linear":{"coefficients":["f64:3fe6666666666666""#));
    }
}
