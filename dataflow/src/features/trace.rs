//! Follows a final feature back through the fitted steps: how it is encoded, and which affine steps at
//! its end need not be applied because kernels apply them (the stored column stays as it was before).

use std::collections::BTreeSet;

use sheaf_learn::shard::{Feature, FeatureKind};

use crate::features::{Fitted, FittedStep};

/// Index of a step and a column: an affine change that kernels apply.
pub(crate) type Folded = BTreeSet<(usize, String)>;

/// How a feature comes out of the steps.
pub(crate) struct Traced {
    pub feature: Feature,
    pub folded: Vec<(usize, String)>,
}

/// Follows one feature.
pub(crate) fn trace(steps: &[FittedStep], name: &str) -> Traced {
    let mut current = name.to_string();
    let (mut shift, mut scale) = (0.0_f64, 1.0_f64);
    let mut folded = Vec::new();
    for (at, step) in steps.iter().enumerate().rev() {
        match &step.fitted {
            Fitted::Rename { names } => {
                if let Some((old, _)) = names.iter().find(|(_, new)| *new == current) {
                    current.clone_from(old);
                }
            }
            Fitted::OneHot { columns } => {
                if let Some(slots) = columns.iter().find(|s| s.column == current) {
                    let kind = FeatureKind::Slots { names: slots.names.clone() };
                    return Traced { feature: Feature { name: name.to_string(), kind }, folded: Vec::new() };
                }
            }
            Fitted::Hash(hashed) if hashed.output == current => {
                let kind = FeatureKind::Sparse { width: hashed.size };
                return Traced { feature: Feature { name: name.to_string(), kind }, folded: Vec::new() };
            }
            Fitted::Affine { columns, .. } => {
                let Some(first) = columns.iter().find(|a| a.column == current) else { continue };
                // (x − s₁)·k₁ then (y − S)·K is (x − (s₁ + S/k₁))·(k₁·K).
                let composed = (compose(first.shift, first.scale, shift), first.scale * scale);
                if !(composed.0.is_finite() && composed.1.is_finite()) {
                    break;
                }
                (shift, scale) = composed;
                folded.push((at, current.clone()));
            }
            other if touches(other, &current) => break,
            _ => {}
        }
    }
    Traced { feature: Feature { name: name.to_string(), kind: FeatureKind::Numeric { shift, scale } }, folded }
}

fn compose(shift: f64, scale: f64, later: f64) -> f64 {
    if later == 0.0 { shift } else { shift + later / scale }
}

/// Whether a step makes the column, or reads it and so needs it as it is at that point.
fn touches(fitted: &Fitted, name: &str) -> bool {
    match fitted {
        Fitted::Sql(sql) => sql.column == name || sql.reads.iter().any(|r| r == name),
        Fitted::Impute(imputed) => imputed.fills.iter().any(|f| f.column == name || f.indicator.as_deref() == Some(name)),
        Fitted::DateParts(parts) => parts.columns.iter().any(|c| c == name) || parts.outputs().any(|(_, _, o)| o == name),
        Fitted::Hash(hashed) => hashed.columns.iter().any(|c| c == name),
        Fitted::Affine { .. } | Fitted::OneHot { .. } | Fitted::Drop { .. } | Fitted::Rename { .. } => false,
    }
}

/// The features of a schema, and all that kernels apply.
pub(crate) fn features(steps: &[FittedStep], names: &[String]) -> (Vec<Feature>, Folded) {
    let mut folded = Folded::new();
    let features = names.iter().map(|name| {
        let traced = trace(steps, name);
        folded.extend(traced.folded);
        traced.feature
    });
    (features.collect(), folded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::{Affine, Scaling, SqlColumn, Type};

    fn step(fitted: Fitted) -> FittedStep {
        FittedStep { id: "s".into(), place: "features[0]".into(), fitted }
    }

    fn affine(column: &str, shift: f64, scale: f64) -> FittedStep {
        step(Fitted::Affine { how: Scaling::Standardize, columns: vec![Affine { column: column.into(), shift, scale }] })
    }

    fn sql(column: &str, reads: &[&str]) -> FittedStep {
        let reads = reads.iter().map(|r| r.to_string()).collect();
        let (expression, params) = (String::new(), Default::default());
        step(Fitted::Sql(SqlColumn { column: column.into(), expression, params, reads, data_type: Type::Float64 }))
    }

    fn check(steps: &[FittedStep], shift: f64, scale: f64, folded: usize) {
        let traced = trace(steps, "x");
        assert_eq!(traced.feature.kind, FeatureKind::Numeric { shift, scale });
        assert_eq!(traced.folded.len(), folded);
    }

    #[test]
    fn trailing_affine_steps_fold() {
        check(&[affine("x", 3.0, 0.5)], 3.0, 0.5, 1);
        check(&[affine("x", 3.0, 0.5), affine("x", 1.0, 4.0)], 5.0, 2.0, 2);
        check(&[affine("y", 3.0, 0.5)], 0.0, 1.0, 0);
    }

    #[test]
    fn what_is_read_later_stays_applied() {
        check(&[affine("x", 3.0, 0.5), sql("z", &["x"])], 0.0, 1.0, 0);
        check(&[affine("x", 3.0, 0.5), sql("z", &["x"]), affine("x", 1.0, 2.0)], 1.0, 2.0, 1);
        check(&[affine("x", 3.0, 0.5), sql("x", &["x"])], 0.0, 1.0, 0);
    }

    #[test]
    fn renames_are_followed() {
        let rename = |old: &str, new: &str| step(Fitted::Rename { names: vec![(old.into(), new.into())] });
        check(&[affine("a", 3.0, 0.5), rename("a", "x")], 3.0, 0.5, 1);
        check(&[affine("x", 3.0, 0.5), rename("a", "b")], 3.0, 0.5, 1);
    }

    #[test]
    fn a_constant_column_keeps_its_zero() {
        check(&[affine("x", 3.0, 0.0), affine("x", 0.0, 0.0)], 3.0, 0.0, 2);
        check(&[affine("x", 3.0, 0.0), affine("x", 1.0, 2.0)], 1.0, 2.0, 1);
    }
}
