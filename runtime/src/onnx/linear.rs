//! Linear models in f64: the operators of `ai.onnx.ml` for them are f32, so they are spelt out as products and sums.

use sheaf_learn::model::{LinearModel, affine};
use sheaf_learn::shard::{FeatureKind, Schema};

use super::ExportError;
use super::graph::{Graph, Name, int};
use super::proto::element::DOUBLE;

/// The margins: f64 numbers, one a row.
///
/// # Errors
/// A feature is hashed, or there is none.
pub fn margins(graph: &mut Graph, model: &LinearModel, schema: &Schema, features: &Name) -> Result<Name, ExportError> {
    let (shift, scale) = affine(schema);
    let weight: Vec<f64> = model.coefficients.iter().zip(&scale).map(|(c, s)| c * s).collect();
    let mut terms = Vec::new();
    let (mut numeric, mut slots) = (Vec::new(), 0);
    for (column, feature) in schema.features.iter().enumerate() {
        let width = feature.kind.width();
        match &feature.kind {
            FeatureKind::Numeric { .. } => numeric.push((column, slots)),
            FeatureKind::Slots { names } => {
                let index = graph.code(features, DOUBLE, column, names.len());
                let mut own = weight[slots..slots + width].to_vec();
                own.push(0.0);
                let own = graph.numbers(&format!("weights_{column}"), DOUBLE, &[width + 1], &own);
                terms.push(graph.node("Gather", &[&own, &index], vec![int("axis", 0)], &format!("term_{column}")));
            }
            FeatureKind::Sparse { .. } => return Err(ExportError::hashed(&feature.name)),
        }
        slots += width;
    }
    terms.extend(product(graph, &numeric, &shift, &weight, features));
    let mut terms = terms.into_iter();
    let Some(first) = terms.next() else {
        return Err(ExportError("the model has no features: there is nothing to export".to_owned()));
    };
    let intercept = graph.numbers("intercept", DOUBLE, &[1], &[model.intercept]);
    let start = graph.node("Add", &[&first, &intercept], Vec::new(), "sum_0");
    Ok(terms.enumerate().fold(start, |sum, (i, term)| graph.node("Add", &[&sum, &term], Vec::new(), &format!("sum_{}", i + 1))))
}

/// Σ weight · (x − shift) over the numeric columns, which are given with their slots.
fn product(graph: &mut Graph, numeric: &[(usize, usize)], shift: &[f64], weight: &[f64], features: &Name) -> Option<Name> {
    if numeric.is_empty() {
        return None;
    }
    let of = |values: &[f64]| numeric.iter().map(|&(_, slot)| values[slot]).collect::<Vec<_>>();
    let at = graph.integers("numeric", &[numeric.len()], numeric.iter().map(|&(column, _)| column as i64).collect());
    let raw = graph.node("Gather", &[features, &at], vec![int("axis", 1)], "numbers");
    let shift = graph.numbers("shift", DOUBLE, &[1, numeric.len()], &of(shift));
    let moved = graph.node("Sub", &[&raw, &shift], Vec::new(), "shifted");
    let weight = graph.numbers("weights", DOUBLE, &[numeric.len(), 1], &of(weight));
    Some(graph.node("MatMul", &[&moved, &weight], Vec::new(), "product"))
}
