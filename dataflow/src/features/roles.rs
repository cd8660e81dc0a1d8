//! The columns before the first step: prepared columns with their roles, and every way in which roles
//! can clash with each other or with the columns' types.

use arrow::datatypes::Schema;

use crate::features::Type;
use crate::features::columns::{Col, Frame, Kind};
use crate::features::kinds::type_name;
use crate::job::{Job, JobError, Split};
use crate::target;

/// Prepared columns as a frame; errors are added to `errors`.
pub(crate) fn frame(job: &Job, prepared: &Schema, errors: &mut Vec<JobError>) -> Frame {
    let mut frame = columns(prepared);
    for (i, field) in prepared.fields().iter().enumerate() {
        if prepared.fields()[..i].iter().any(|f| f.name() == field.name()) {
            let error = JobError::at("prepare", format!("two columns are called `{}`", field.name()));
            errors.push(error.hint("give one of them another name with AS"));
        }
    }
    for (path, role, name) in listed(job) {
        assign(&mut frame, &path, role, &name, errors);
    }
    categorical(job, &mut frame, errors);
    types(job, &frame, errors);
    fractions(job, errors);
    frame
}

/// Prepared columns without roles.
pub(crate) fn columns(prepared: &Schema) -> Frame {
    let mut frame = Frame::default();
    for field in prepared.fields() {
        let kind = match Type::of(field.data_type()) {
            Some(ty) => Kind::Plain(ty),
            None => Kind::Other(type_name(field.data_type())),
        };
        frame.put(Col { kind, ..Col::plain(field.name(), Type::Bool) });
    }
    frame
}

/// Every (path, role, column) of the job, the exclusive roles first.
fn listed(job: &Job) -> Vec<(String, &'static str, String)> {
    let roles = &job.columns;
    let mut out = Vec::new();
    let single = [
        ("target", &roles.target),
        ("weight", &roles.weight),
        ("offset", &roles.offset),
        ("time", &roles.time),
        ("group", &roles.group),
        ("query", &roles.query),
    ];
    for (role, name) in single {
        out.extend(name.iter().map(|n| (format!("columns.{role}"), role, n.clone())));
    }
    if let Some(Split::Column { column, .. }) = &job.split {
        out.push(("split.column".into(), "split", column.clone()));
    }
    for (role, names) in [("key", &roles.key), ("ignore", &roles.ignore)] {
        let path = |i: usize| if names.len() == 1 { format!("columns.{role}") } else { format!("columns.{role}[{i}]") };
        out.extend(names.iter().enumerate().map(|(i, n)| (path(i), role, n.clone())));
    }
    out
}

/// Target, weight and offset are theirs alone; key, time, group, query, split and ignore may share a column.
fn assign(frame: &mut Frame, path: &str, role: &str, name: &str, errors: &mut Vec<JobError>) {
    let unknown = frame.unknown(path, name);
    let Some(col) = frame.get_mut(name) else {
        errors.push(unknown);
        return;
    };
    match &mut col.role {
        None => col.role = Some(role.to_string()),
        Some(other) if ["target", "weight", "offset"].contains(&other.as_str()) || ["weight", "offset"].contains(&role) => {
            let message = format!("column `{name}` cannot be {role} and {other} at once");
            errors.push(JobError::at(path, message).hint(format!("name another column, or remove columns.{other}")));
        }
        Some(other) if other != role && role != "ignore" => *other = format!("{other}, {role}"),
        Some(_) => {}
    }
    col.feature = false;
}

fn categorical(job: &Job, frame: &mut Frame, errors: &mut Vec<JobError>) {
    for (i, name) in job.columns.categorical.iter().enumerate() {
        let path = format!("columns.categorical[{i}]");
        let unknown = frame.unknown(&path, name);
        match frame.get_mut(name) {
            None => errors.push(unknown),
            Some(col) if col.ty().is_some_and(Type::is_integer) => col.categorical = true,
            // Text and booleans are categories anyway.
            Some(col) if matches!(col.ty(), Some(Type::Text | Type::Bool)) => {}
            Some(col) => {
                let message = format!("column `{name}` is {}; only integers can be codes", col.kind.name());
                errors.push(JobError::at(path, message).hint("cast it in `prepare`, or remove it from the list"));
            }
        }
    }
}

fn types(job: &Job, frame: &Frame, errors: &mut Vec<JobError>) {
    for (role, name) in [("weight", &job.columns.weight), ("offset", &job.columns.offset)] {
        let Some(col) = name.as_deref().and_then(|n| frame.get(n)) else { continue };
        if !col.ty().is_some_and(Type::is_number) {
            let message = format!("column `{}` is {}; a {role} is a number", col.name, col.kind.name());
            errors.push(JobError::at(format!("columns.{role}"), message).hint("cast it in `prepare`"));
        }
    }
    if let Some(Split::Column { column, .. }) = &job.split
        && let Some(col) = frame.get(column)
        && col.ty() != Some(Type::Text)
    {
        let message = format!("column `{column}` is {}; it must be text that names the segment", col.kind.name());
        errors
            .push(JobError::at("split.column", message).hint("make one in `prepare`: CASE WHEN … THEN 'test' ELSE 'train' END"));
    }
    target::validate(job, frame, errors);
}

fn fractions(job: &Job, errors: &mut Vec<JobError>) {
    let Some(Split::Random { test, validation, .. }) = &job.split else { return };
    let fine = |f: f64| (0.0..1.0).contains(&f);
    if !fine(*test) || !fine(*validation) || test + validation >= 1.0 {
        let message = format!("test {test} and validation {validation} leave no training rows or are no fractions");
        errors.push(JobError::at("split", message).hint("each at least 0, together less than 1"));
    }
}
