//! What fitting asks of the data, and what it makes of the answers: one request for each fact that must
//! hold before features are fitted, and one for each step that learns something.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sheaf_learn::program::ProgramSpec;
use sheaf_learn::shard::Segment;
use sheaf_learn::statistics::counts::CountsOutput;
use sheaf_learn::statistics::moments::{ColumnMoments, MomentsOutput};

use crate::features::plan::{CATEGORIES, PlannedKind, PlannedStep};
use crate::features::{FitError, Fitted, Type, affine, fit, impute, one_hot};
use crate::job::ImputeStrategy;
use crate::pipeline::{Fact, FitRequest, Fitting};
use crate::target::{self, TargetKind};
use crate::view::{Output, Source, Test, View};

/// Most distinct values of a split column.
const MOST_PARTS: u64 = 1_000;
/// Largest whole number up to which every integer is an f64.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A request that runs `program` over columns made by `source`.
pub(crate) fn request(
    label: String,
    mut view: View,
    columns: &[String],
    source: impl Fn(String) -> Source,
    program: (&str, Value),
) -> FitRequest {
    view.outputs = columns.iter().map(|name| Output { name: name.clone(), source: source(name.clone()) }).collect();
    let schema = view.schema();
    FitRequest { label, view, program: ProgramSpec { name: program.0.into(), params: program.1, schema } }
}

/// The request for a fact.
pub(crate) fn fact_request(fitting: &Fitting, fact: Fact) -> FitRequest {
    let view = View::of(fitting.inputs.clone());
    let roles = &fitting.roles;
    match fact {
        Fact::Key => {
            let null = |column| Source::Flag { test: Test::Null(column), filter: None };
            request(format!("check key {}", some_of(&roles.key)), view, &roles.key, null, ("counts", json!({})))
        }
        Fact::Split => {
            let column: Vec<String> = fitting.split.column().map(String::from).into_iter().collect();
            let program = ("vocabulary", json!({"limit": MOST_PARTS, "segment": "all"}));
            request(format!("check split {}", column.join(", ")), view, &column, Source::Text, program)
        }
        Fact::Classes => {
            let column: Vec<String> = roles.target.iter().cloned().collect();
            let params = json!({"limit": target::MOST_CLASSES, "segment": "all", "advice": target::TOO_MANY});
            let program = ("vocabulary", params);
            request(format!("check target {}", column.join(", ")), view, &column, Source::Text, program)
        }
        Fact::Numbers => {
            let columns: Vec<String> = number_roles(fitting).into_iter().map(|(_, column)| column).collect();
            let view = View { split: fitting.split.clone(), ..view };
            request(format!("check {}", columns.join(", ")), view, &columns, Source::Number, ("moments", json!({})))
        }
    }
}

/// Role columns that must be numbers: (role, column).
fn number_roles(fitting: &Fitting) -> Vec<(&'static str, String)> {
    let roles = &fitting.roles;
    let target = roles.target.as_ref().filter(|_| fitting.classifier == Some(false));
    let all = [("target", target), ("weight", roles.weight.as_ref()), ("offset", roles.offset.as_ref())];
    all.into_iter().filter_map(|(role, column)| Some((role, column?.clone()))).collect()
}

/// Judges a fact; for the classes it gives the kind of the target.
pub(crate) fn judge(fitting: &mut Fitting, fact: Fact, result: Value) -> Result<Option<TargetKind>, FitError> {
    let label = format!("{fact:?}").to_lowercase();
    match fact {
        Fact::Key => {
            let output: CountsOutput = fit::read(&label, result)?;
            match output.all.columns.iter().find(|c| c.count > 0) {
                None => Ok(None),
                Some(null) => Err(null_key(&null.name, null.count, output.all.rows)),
            }
        }
        Fact::Split => {
            let seen = fit::vocabulary(&label, result)?;
            let column = fitting.split.column().unwrap_or_default();
            fitting.split.judge(fit::column("split", &seen, column)?)?;
            Ok(None)
        }
        Fact::Classes => {
            let seen = fit::vocabulary(&label, result)?;
            let column = fitting.roles.target.clone().unwrap_or_default();
            let ty = fitting.type_of(&column).unwrap_or(Type::Text);
            let seen = fit::column("columns.target", &seen, &column)?;
            target::classes(ty, seen, fitting.roles.positive.as_ref(), fitting.multiclass).map(Some)
        }
        Fact::Numbers => {
            let output: MomentsOutput = fit::read(&label, result)?;
            for (role, column) in number_roles(fitting) {
                judge_numbers(fitting, role, &column, &output)?;
            }
            Ok(None)
        }
    }
}

fn null_key(column: &str, nulls: u64, rows: u64) -> FitError {
    FitError::Data(format!(
        "key `{column}` is null in {nulls} of {rows} rows; filter them out in `prepare`, or leave `columns.key` out"
    ))
}

fn judge_numbers(fitting: &mut Fitting, role: &str, column: &str, output: &MomentsOutput) -> Result<(), FitError> {
    let of = |columns: &'_ Vec<ColumnMoments>| columns.iter().find(|c| c.name == column).cloned();
    let parts: Vec<(&String, ColumnMoments)> = output.segments.iter().filter_map(|(s, c)| Some((s, of(c)?))).collect();
    let sum = |count: fn(&ColumnMoments) -> u64| parts.iter().map(|(_, m)| count(m)).sum::<u64>();
    let (rows, missing, infinite) = (sum(|m| m.rows), sum(|m| m.missing), sum(|m| m.infinite));
    if missing > 0 && role == "target" {
        return Err(target::null_error(column, missing, rows));
    }
    if missing > 0 {
        return Err(crate::view::role_error(role, column, missing, rows));
    }
    if infinite > 0 {
        let message = format!("{role} `{column}` is infinite in {infinite} of {rows} rows; remove these rows in `prepare`");
        return Err(FitError::Data(message));
    }
    if role == "weight" && parts.iter().any(|(_, m)| m.min.is_some_and(|min| min < 0.0)) {
        return Err(FitError::Data(format!("weight `{column}` is negative in some rows; weights are at least 0")));
    }
    let train = parts.iter().find(|(segment, _)| *segment == Segment::Train.name()).map(|(_, m)| m);
    if role == "target" && train.is_some_and(|m| m.min.is_some() && m.min == m.max) {
        fitting.warn(format!("target `{column}` is constant in the training rows"));
    }
    Ok(())
}

/// What to do about more categories than trees are given. They read no hashed columns.
const FEWER_CATEGORIES: &str = "drop it (columns.ignore), or make it coarser in `prepare`, as in \
    CASE WHEN count(*) OVER (PARTITION BY c) < 100 THEN 'rare' ELSE c END; trees take no hashed columns";

/// The request for a step that learns something; the steps before it are applied.
pub(crate) fn step_request(fitting: &Fitting, step: &PlannedStep) -> FitRequest {
    let view = View { steps: fitting.fitted.clone(), split: fitting.split.clone(), ..View::of(fitting.inputs.clone()) };
    let vocabulary = |limit: u64| ("vocabulary", json!({"limit": limit, "segment": "train"}));
    let categories =
        || ("vocabulary", json!({"limit": one_hot::MOST_CATEGORIES, "segment": "train", "advice": FEWER_CATEGORIES}));
    match &step.kind {
        PlannedKind::Impute { columns, strategy, .. } => {
            let names: Vec<String> = columns.iter().map(|c| c.column.clone()).collect();
            let label = |how: &str| format!("fit impute ({how}) {}", some_of(&names));
            match strategy {
                ImputeStrategy::Mean => request(label("mean"), view, &names, Source::Number, ("moments", json!({}))),
                ImputeStrategy::Median => {
                    let program = ("quantiles", json!({"probabilities": [0.5], "segment": "train"}));
                    request(label("median"), view, &names, Source::Number, program)
                }
                ImputeStrategy::MostFrequent | ImputeStrategy::Constant => {
                    request(label("most_frequent"), view, &names, Source::Text, vocabulary(impute::MOST_DISTINCT))
                }
            }
        }
        PlannedKind::Affine { columns, how } => {
            let names: Vec<String> = columns.iter().map(|(name, _)| name.clone()).collect();
            let label = format!("fit {} {}", how.name(), some_of(&names));
            request(label, view, &names, Source::Number, ("moments", json!({})))
        }
        PlannedKind::OneHot { columns, .. } => {
            let (what, program) = match step.place == CATEGORIES {
                true => (CATEGORIES, categories()),
                false => ("one_hot", vocabulary(one_hot::MOST_CATEGORIES)),
            };
            request(format!("fit {what} {}", some_of(columns)), view, columns, Source::Text, program)
        }
        // Such steps never wait: they are settled at once.
        PlannedKind::Ready(_) => request(step.place.clone(), view, &[], Source::Number, ("counts", json!({}))),
    }
}

/// Fits a step from its measurement.
pub(crate) fn fit(step: &PlannedStep, result: Value, warnings: &mut Vec<String>) -> Result<Fitted, FitError> {
    let (place, label) = (&step.place, &step.place);
    match &step.kind {
        PlannedKind::Ready(fitted) => Ok(fitted.clone()),
        PlannedKind::Impute { columns, strategy } => impute::fit(place, label, columns, *strategy, result),
        PlannedKind::Affine { columns, how } => affine::fit(place, label, columns, *how, result, warnings),
        PlannedKind::OneHot { columns, drop_first, unknown } => {
            one_hot::fit(place, label, columns, *drop_first, *unknown, result)
        }
    }
}

/// The first three names and how many more.
fn some_of(names: &[String]) -> String {
    let shown = names.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > 3 { format!("{shown} and {} more", names.len() - 3) } else { shown }
}

/// See [`crate::pipeline::profile_warnings`].
pub(crate) fn profile_warnings(inputs: &BTreeMap<String, Type>, profile: &Value) -> Result<Vec<String>, FitError> {
    let output: MomentsOutput = fit::read("profile", profile.clone())?;
    let mut out = Vec::new();
    for m in output.segments.get(Segment::Train.name()).into_iter().flatten() {
        let Some(ty) = inputs.get(&m.name).filter(|ty| ty.is_integer()) else { continue };
        let (Some(min), Some(max)) = (m.min, m.max) else { continue };
        if min < -EXACT || max > EXACT {
            out.push(format!("column `{}` ({}) holds integers beyond 2^53, which lose digits as a feature", m.name, ty.name()));
        } else if counts_rows(&output, &m.name) {
            out.push(format!(
                "feature `{}` has another value in every row, without a gap; list it in columns.key or columns.ignore if it is an identifier",
                m.name
            ));
        }
    }
    Ok(out)
}

/// Whether a column is a permutation of consecutive integers, as far as its moments over all rows tell:
/// n values, range n − 1, variance (n² − 1)/12.
fn counts_rows(output: &MomentsOutput, column: &str) -> bool {
    let parts: Vec<&ColumnMoments> = output.segments.values().flatten().filter(|m| m.name == column).collect();
    let rows: u64 = parts.iter().map(|m| m.rows).sum();
    let n = rows as f64;
    let low = parts.iter().filter_map(|m| m.min).fold(f64::INFINITY, f64::min);
    let high = parts.iter().filter_map(|m| m.max).fold(f64::NEG_INFINITY, f64::max);
    let mean = parts.iter().filter_map(|m| Some(m.mean? * m.rows as f64)).sum::<f64>() / n;
    let spread = |m: &ColumnMoments| Some(m.m2? + m.rows as f64 * (m.mean? - mean) * (m.mean? - mean));
    let variance = parts.iter().filter_map(|m| spread(m)).sum::<f64>() / n;
    let expected = (n * n - 1.0) / 12.0;
    rows > 20 && parts.iter().all(|m| m.missing == 0) && high - low == n - 1.0 && (variance - expected).abs() <= expected * 1e-9
}
