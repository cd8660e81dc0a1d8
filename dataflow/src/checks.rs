//! Expectations on prepared rows: what is counted for them, and what the counts say. All not_null, range
//! and row_count checks are counted in one pass; each unique check takes its own.

use std::collections::BTreeMap;

use arrow::datatypes::Schema as ArrowSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sheaf_learn::program::ProgramSpec;
use sheaf_learn::statistics::counts::CountsOutput;
use sheaf_learn::statistics::duplicates::DuplicatesOutput;

use crate::features::columns::Frame;
use crate::features::expression;
use crate::features::roles;
use crate::features::{FitError, Type, fit};
use crate::job::{Check, Job, JobError, Param, Rule, Severity};
use crate::pipeline::FitRequest;
use crate::split::SplitRule;
use crate::view::{Output, RowIds, Source, Test, View};

/// What a check came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckOutcome {
    /// Name of the check.
    pub name: String,
    /// What a broken one does.
    pub severity: Severity,
    /// Whether it holds.
    pub passed: bool,
    /// Values that break it; for row_count 1 if it is broken.
    pub violations: u64,
    /// Rows that were looked at.
    pub rows: u64,
    /// One line for people.
    pub message: String,
}

/// Validates the checks and says what to count: one `counts` request if any check needs it, then a
/// `duplicates` request per unique check, in the order of the job.
pub fn requests(job: &Job, prepared: &ArrowSchema) -> Result<Vec<FitRequest>, Vec<JobError>> {
    let frame = roles::columns(prepared);
    let mut errors = Vec::new();
    for (i, check) in job.checks.iter().enumerate() {
        validate(i, check, job, &frame, &mut errors);
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let view = || View { params: job.params.clone(), ..View::of(frame.inputs()) };
    let mut out = Vec::new();
    let flags: Vec<Output> = job.checks.iter().enumerate().flat_map(|(i, check)| outputs(i, check)).collect();
    if !flags.is_empty() {
        let view = View { outputs: flags, ..view() };
        out.push(request("check rows".into(), "counts", view));
    }
    for check in &job.checks {
        if let Rule::Unique { columns } = &check.rule {
            let view = View { row_ids: RowIds::OfColumns(columns.clone()), filter: check.filter.clone(), ..view() };
            out.push(request(format!("check unique {}", columns.join(", ")), "duplicates", view));
        }
    }
    Ok(out)
}

/// The requested results, in the order of [`requests`], as outcomes in the order of the job's checks.
pub fn judge(job: &Job, results: &[Value]) -> Result<Vec<CheckOutcome>, FitError> {
    let mut results = results.iter();
    let mut next = |label: &str| {
        let missing = || FitError::Data(format!("the result of `{label}` is missing"));
        results.next().cloned().ok_or_else(missing)
    };
    let counts: BTreeMap<String, u64> = if job.checks.iter().any(|c| !matches!(c.rule, Rule::Unique { .. })) {
        let output: CountsOutput = fit::read("check rows", next("check rows")?)?;
        output.all.columns.into_iter().map(|c| (c.name, c.count)).collect()
    } else {
        BTreeMap::new()
    };
    let outcome = |(i, check): (usize, &Check)| match &check.rule {
        Rule::Unique { columns } => {
            let found: DuplicatesOutput = fit::read("check unique", next("check unique")?)?;
            Ok(unique(check, columns, &found))
        }
        _ => Ok(counted(i, check, &counts)),
    };
    job.checks.iter().enumerate().map(outcome).collect()
}

/// `moments` of every numeric prepared column per segment.
pub fn profile(job: &Job, prepared: &ArrowSchema) -> FitRequest {
    let frame = roles::columns(prepared);
    let inputs = frame.inputs();
    let numeric = inputs.iter().filter(|(_, ty)| ty.is_numeric_feature());
    let outputs = numeric.map(|(name, _)| Output { name: name.clone(), source: Source::Number(name.clone()) }).collect();
    request("profile".into(), "moments", View { outputs, split: SplitRule::of(job), ..View::of(inputs.clone()) })
}

fn request(label: String, program: &str, view: View) -> FitRequest {
    let program = ProgramSpec { name: program.into(), params: json!({}), schema: view.schema() };
    FitRequest { label, view, program }
}

/// Name of a flag: number of the check and what it counts.
fn flag(check: usize, what: &str) -> String {
    format!("{check}:{what}")
}

/// The rows that a check looks at, and what breaks it.
fn outputs(i: usize, check: &Check) -> Vec<Output> {
    let source = |test: Test| Source::Flag { test, filter: check.filter.clone() };
    let rows = Output { name: flag(i, ""), source: source(Test::Row) };
    let of = |columns: &[String], test: &dyn Fn(&String) -> Test| {
        let broken = columns.iter().map(|c| Output { name: flag(i, c), source: source(test(c)) });
        std::iter::once(rows.clone()).chain(broken).collect()
    };
    match &check.rule {
        Rule::NotNull { columns } => of(columns, &|c| Test::Null(c.clone())),
        Rule::Range { columns, min, max } => of(columns, &|c| Test::Outside { column: c.clone(), min: *min, max: *max }),
        Rule::RowCount { .. } => vec![rows],
        Rule::Unique { .. } => Vec::new(),
    }
}

fn counted(i: usize, check: &Check, counts: &BTreeMap<String, u64>) -> CheckOutcome {
    // A prepared dataset without rows has no counts at all.
    let count = |what: &str| counts.get(&flag(i, what)).copied().unwrap_or(0);
    let rows = count("");
    let broken = |columns: &[String], words: &dyn Fn(&str, u64) -> String| {
        let found = columns.iter().map(|c| (c, count(c))).filter(|(_, n)| *n > 0);
        let (violations, words): (Vec<u64>, Vec<String>) = found.map(|(c, n)| (n, words(c, n))).unzip();
        (violations.iter().sum(), words.join("; "))
    };
    let (violations, message) = match &check.rule {
        Rule::NotNull { columns } => broken(columns, &|c, n| format!("`{c}` has {n} nulls in {rows} rows")),
        Rule::Range { columns, min, max } => {
            let bounds = bounds(min.map(|m| m.to_string()), max.map(|m| m.to_string()));
            broken(columns, &|c, n| format!("`{c}` is not {bounds} in {n} of {rows} rows"))
        }
        Rule::RowCount { min, max } => {
            let outside = min.is_some_and(|m| rows < m) || max.is_some_and(|m| rows > m);
            let bounds = bounds(min.map(|m| m.to_string()), max.map(|m| m.to_string()));
            (u64::from(outside), if outside { format!("{rows} rows, which is not {bounds}") } else { String::new() })
        }
        Rule::Unique { .. } => (0, String::new()),
    };
    outcome(check, violations, rows, message)
}

fn unique(check: &Check, columns: &[String], found: &DuplicatesOutput) -> CheckOutcome {
    let names = columns.iter().map(|c| format!("`{c}`")).collect::<Vec<_>>().join(", ");
    let message = format!("{names} repeats in {} of {} rows", found.duplicates, found.rows);
    outcome(check, found.duplicates, found.rows, message)
}

fn outcome(check: &Check, violations: u64, rows: u64, message: String) -> CheckOutcome {
    let passed = violations == 0;
    let message = if passed { format!("holds in {rows} rows") } else { message };
    CheckOutcome { name: check.name.clone(), severity: check.severity, passed, violations, rows, message }
}

fn bounds(min: Option<String>, max: Option<String>) -> String {
    match (min, max) {
        (Some(min), Some(max)) => format!("between {min} and {max}"),
        (Some(min), None) => format!("at least {min}"),
        (None, Some(max)) => format!("at most {max}"),
        (None, None) => "bounded".into(),
    }
}

fn validate(i: usize, check: &Check, job: &Job, frame: &Frame, errors: &mut Vec<JobError>) {
    let (kind, columns): (&str, &[String]) = match &check.rule {
        Rule::NotNull { columns } => ("not_null", columns),
        Rule::Range { columns, .. } => ("range", columns),
        Rule::Unique { columns } => ("unique", columns),
        Rule::RowCount { .. } => ("row_count", &[]),
    };
    let path = format!("checks[{i}].{kind}");
    if columns.is_empty() && kind != "row_count" {
        errors.push(JobError::at(&path, "no column is named"));
    }
    for name in columns {
        validate_column(&path, name, &check.rule, frame, errors);
    }
    validate_bounds(&path, &check.rule, errors);
    if let Some(filter) = &check.filter {
        validate_filter(&format!("checks[{i}].where"), filter, &frame.inputs(), &job.params, errors);
    }
}

fn validate_column(path: &str, name: &str, rule: &Rule, frame: &Frame, errors: &mut Vec<JobError>) {
    let Some(col) = frame.get(name) else {
        errors.push(frame.unknown(path, name));
        return;
    };
    let takes = match rule {
        Rule::Range { .. } if !col.ty().is_some_and(Type::is_number) => "numbers",
        _ if col.ty().is_none() => "plain columns",
        _ => return,
    };
    let message = format!("column `{name}` is {}; this check takes {takes}", col.kind.name());
    errors.push(JobError::at(path, message).hint("cast it in `prepare`, or remove it from the check"));
}

fn validate_bounds(path: &str, rule: &Rule, errors: &mut Vec<JobError>) {
    let wrong = match rule {
        Rule::Range { min, max, .. } => match (min, max) {
            (None, None) => Some("neither min nor max is given"),
            (Some(min), Some(max)) if min > max => Some("min is above max"),
            _ => None,
        },
        Rule::RowCount { min, max } => match (min, max) {
            (None, None) => Some("neither min nor max is given"),
            (Some(min), Some(max)) if min > max => Some("min is above max"),
            _ => None,
        },
        _ => None,
    };
    errors.extend(wrong.map(|w| JobError::at(path, w)));
}

fn validate_filter(
    path: &str,
    filter: &str,
    columns: &[(String, Type)],
    params: &BTreeMap<String, Param>,
    errors: &mut Vec<JobError>,
) {
    match expression::plan(&expression::planning_session(), path, filter, columns, params) {
        Ok(planned) if planned.ty == Type::Bool => {}
        Ok(planned) => {
            let message = format!("`{filter}` is {}, not a condition", planned.ty.name());
            errors.push(JobError::at(path, message).hint("write a comparison, for example amount > 0"));
        }
        Err(error) => errors.push(error),
    }
}
