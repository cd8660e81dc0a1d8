//! What becomes of each prepared column, for people: its role, whether anything reads it, and why.

use std::collections::BTreeSet;

use arrow::datatypes::Schema;
use serde::{Deserialize, Serialize};

use crate::features::columns::{Col, Kind};
use crate::features::kinds::type_name;
use crate::features::plan::{Plan, PlannedKind, PlannedStep};
use crate::features::{Affine, Fill, Fitted, FittedStep, Imputed, Slots};
use crate::job::Job;
use crate::pipeline::encodes;
use crate::target;
use crate::view::{Output, Source, View};

/// A prepared column and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnUse {
    /// The prepared column.
    pub name: String,
    /// Its type.
    pub data_type: String,
    /// `feature`, `target`, `key`, `ignore`, …; several are separated by commas.
    pub role: String,
    /// Whether the job reads it.
    pub used: bool,
    /// Why, or why not.
    pub why: String,
}

/// All prepared columns in order.
pub(crate) fn uses(job: &Job, prepared: &Schema, plan: &Plan) -> Vec<ColumnUse> {
    let read = read_by_features(plan);
    let start = plan.roles.iter();
    let of = |col: &Col| {
        let data_type = prepared.field_with_name(&col.name).map(|f| type_name(f.data_type())).unwrap_or_default();
        let role = col.role.clone().unwrap_or_else(|| "feature".into());
        let feature = read.contains(&col.name);
        let needed = role.split(", ").any(|r| ["target", "weight", "offset", "split", "key", "query"].contains(&r));
        let why = why(job, plan, col, feature);
        ColumnUse { name: col.name.clone(), data_type, role, used: feature || needed, why }
    };
    start.map(of).collect()
}

fn why(job: &Job, plan: &Plan, col: &Col, feature: bool) -> String {
    let algorithm = job.train.as_ref().map_or("nothing", |t| t.algorithm.as_str());
    let role = col.role.as_deref().map(|r| r.split(", ").next().unwrap_or(r));
    match role {
        Some("target") if job.train.as_ref().is_some_and(target::is_anomaly) => "measures the scores; never learnt".into(),
        Some("target") => format!("{algorithm} learns it"),
        Some("key") => "identifies the row".into(),
        Some("weight") => "weighs the row".into(),
        Some("offset") => "added to the linear predictor".into(),
        Some("query") => "says which rows are ranked together".into(),
        Some("split") => "says which segment the row is in".into(),
        Some(_) if feature => "never a feature, but a step reads it".into(),
        Some("ignore") => "listed in columns.ignore".into(),
        Some(_) => "a role; nothing reads it yet".into(),
        None => match (plan.notes.get(&col.name), feature) {
            (Some(note), true) => format!("other features are made from it; {note}"),
            (Some(note), false) => note.clone(),
            (None, true) => last_kind(plan, &col.name),
            (None, false) if plan.frame.get(&col.name).is_some_and(|c| c.feature) => match encodes(&col.kind) {
                true => "replaced by a step that does not read it".into(),
                false => format!("{} and no step encodes it", col.kind.name()),
            },
            (None, false) => "not needed by any feature".into(),
        },
    }
}

fn last_kind(plan: &Plan, name: &str) -> String {
    match plan.frame.get(name).map(|c| &c.kind) {
        Some(Kind::Slots) if plan.takes_categories(name) => "feature, taken as a category".into(),
        Some(Kind::Slots) => "feature, one-hot encoded".into(),
        Some(Kind::Sparse(_)) => "feature, hashed".into(),
        _ => "feature".into(),
    }
}

/// Prepared columns that the final features need.
fn read_by_features(plan: &Plan) -> BTreeSet<String> {
    let features = plan.frame.features().filter(|c| encodes(&c.kind));
    let outputs = features.map(|c| Output { name: c.name.clone(), source: Source::Feature }).collect();
    let steps = plan.steps.iter().map(outline).collect();
    View { steps, outputs, ..View::of(plan.inputs.clone()) }.lowered().1
}

/// A step with empty constants: enough to see what it reads and makes.
fn outline(step: &PlannedStep) -> FittedStep {
    let fitted = match &step.kind {
        PlannedKind::Ready(fitted) => fitted.clone(),
        PlannedKind::Impute { columns, strategy } => {
            let fill = |c: &crate::features::impute::ImputeColumn| Fill {
                column: c.column.clone(),
                value: String::new(),
                data_type: c.data_type,
                indicator: c.indicator.clone(),
            };
            Fitted::Impute(Imputed { strategy: *strategy, fills: columns.iter().map(fill).collect() })
        }
        PlannedKind::Affine { columns, how } => {
            let affine = |(column, _): &(String, bool)| Affine { column: column.clone(), shift: 0.0, scale: 1.0 };
            Fitted::Affine { how: *how, columns: columns.iter().map(affine).collect() }
        }
        PlannedKind::OneHot { columns, unknown, .. } => {
            let slots = |c: &String| Slots { column: c.clone(), names: Vec::new(), dropped: None, unknown: *unknown };
            Fitted::OneHot { columns: columns.iter().map(slots).collect() }
        }
    };
    FittedStep { id: step.id.clone(), place: step.place.clone(), fitted }
}
