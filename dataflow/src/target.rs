//! What is learnt: a number, or one of two classes. Classes are found over all rows before anything
//! else, so that a job that cannot be learnt from ends at once.

use arrow::array::ArrayRef;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sheaf_learn::model::Task;
use sheaf_learn::registry;

use crate::features::columns::Frame;
use crate::features::fit::Seen;
use crate::features::kinds::numbers;
use crate::features::render::{each_text, float};
use crate::features::{FitError, Type};
use crate::job::{Job, JobError, Train};

/// The target column and how it becomes a number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TargetSpec {
    /// The prepared column.
    pub column: String,
    /// Its type.
    pub data_type: Type,
    /// How values are read.
    pub kind: TargetKind,
}

/// How target values become numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetKind {
    /// The value itself; booleans are 0 and 1.
    Number,
    /// 1 for the positive class, 0 for the other; classes by canonical text.
    Binary {
        /// The class that is 0.
        negative: String,
        /// The class that is 1.
        positive: String,
    },
}

impl TargetSpec {
    /// Names of the classes (negative, positive); empty for numbers.
    pub fn classes(&self) -> Vec<String> {
        match &self.kind {
            TargetKind::Number => Vec::new(),
            TargetKind::Binary { negative, positive } => vec![negative.clone(), positive.clone()],
        }
    }

    /// Values as numbers. `array` has the type of the spec. A null or an unknown class is an error.
    pub(crate) fn read(&self, array: &ArrayRef) -> Result<Vec<f64>, FitError> {
        let out = match &self.kind {
            TargetKind::Number => numbers(array, self.data_type),
            TargetKind::Binary { negative, positive } => self.classify(array, negative, positive)?,
        };
        match out.iter().filter(|v| v.is_nan()).count() {
            0 => Ok(out),
            nulls => Err(null_error(&self.column, nulls as u64, out.len() as u64)),
        }
    }

    fn classify(&self, array: &ArrayRef, negative: &str, positive: &str) -> Result<Vec<f64>, FitError> {
        let mut out = Vec::with_capacity(array.len());
        let mut unknown = None;
        each_text(array, self.data_type, |_, text| {
            out.push(match text {
                None => f64::NAN,
                Some(t) if t == positive => 1.0,
                Some(t) if t == negative => 0.0,
                Some(t) => {
                    unknown = unknown.take().or_else(|| Some(t.into_owned()));
                    0.0
                }
            });
        });
        match unknown {
            None => Ok(out),
            Some(value) => Err(FitError::Data(format!(
                "target `{}` has the value `{value}`, which is neither `{negative}` nor `{positive}`",
                self.column
            ))),
        }
    }
}

/// Whether what is trained learns classes.
pub(crate) fn is_classifier(train: &Train) -> bool {
    registry::task(&train.algorithm, &train.params) == Some(Task::Binary)
}

/// Checks the target's role against the algorithm, before any row is read.
pub(crate) fn validate(job: &Job, frame: &Frame, errors: &mut Vec<JobError>) {
    let path = "columns.target";
    let Some(train) = &job.train else { return };
    if let Err(error) = registry::learner(&train.algorithm) {
        errors.push(JobError::at("train.algorithm", error.to_string()));
        return;
    }
    let Some(name) = &job.columns.target else {
        let error = JobError::at(path, format!("{} needs a target", train.algorithm));
        errors.push(error.hint("name the column that is to be learnt"));
        return;
    };
    let classifier = is_classifier(train);
    if job.columns.positive.is_some() && !classifier {
        let error =
            JobError::at("columns.positive", format!("{} learns numbers here and has no positive class", train.algorithm));
        errors.push(error.hint("remove it, or learn classes: an algorithm or objective for them"));
    }
    let Some(col) = frame.get(name) else { return };
    let fits = |ty: Type| ty.is_numeric_feature() || (classifier && ty == Type::Text);
    if !col.ty().is_some_and(fits) {
        let takes = if classifier { "text, bool or numeric" } else { "numeric" };
        let message = format!("column `{name}` is {}; the target of {} is {takes}", col.kind.name(), train.algorithm);
        errors.push(JobError::at(path, message).hint("cast it in `prepare`, or name another column"));
    }
}

/// The two classes of a target from its vocabulary over all rows.
pub(crate) fn classes(ty: Type, seen: &Seen, positive: Option<&Value>) -> Result<TargetKind, FitError> {
    let name = &seen.name;
    if seen.nulls > 0 {
        return Err(null_error(name, seen.nulls, seen.rows));
    }
    let values: Vec<&str> = seen.values.iter().map(|(v, _)| v.as_str()).collect();
    let [first, second] = values[..] else {
        return Err(FitError::Data(match values.len() {
            1 => format!("target `{name}` has the single class `{}` in all {} rows; nothing can be learnt", values[0], seen.rows),
            n => format!("target `{name}` has {n} values; multiclass is not supported yet, make it binary in `prepare`"),
        }));
    };
    let binary = |negative: &str, positive: &str| TargetKind::Binary { negative: negative.into(), positive: positive.into() };
    match positive.map(text_of) {
        Some(p) if p == first => Ok(binary(second, first)),
        Some(p) if p == second => Ok(binary(first, second)),
        Some(p) => Err(JobError::at("columns.positive", format!("target `{name}` has no value `{p}`"))
            .hint(format!("its values are `{first}` and `{second}`"))
            .into()),
        None if ty == Type::Bool || (ty.is_number() && (first, second) == ("0", "1")) => Ok(binary(first, second)),
        None => Err(JobError::at("columns.positive", format!("target `{name}` has the values `{first}` and `{second}`"))
            .hint(format!("say which one is the positive class, for example positive: {second}"))
            .into()),
    }
}

fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => float(number.as_f64().unwrap_or(f64::NAN)),
        other => other.to_string(),
    }
}

/// The one message for null targets.
pub(crate) fn null_error(column: &str, nulls: u64, rows: u64) -> FitError {
    FitError::Data(format!("target `{column}` has {nulls} nulls in {rows} rows; remove these rows in `prepare`"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn check(ty: Type, values: &[&str], positive: Option<Value>, expected: Result<(&str, &str), &str>) {
        let values = values.iter().map(|v| (v.to_string(), 5)).collect();
        let seen = Seen { name: "y".into(), rows: 10, nulls: 0, values };
        let found = classes(ty, &seen, positive.as_ref());
        match expected {
            Ok((negative, positive)) => {
                let expected = TargetKind::Binary { negative: negative.into(), positive: positive.into() };
                assert_eq!(found.unwrap(), expected);
            }
            Err(part) => {
                let text = found.unwrap_err().to_string();
                assert!(text.contains(part), "{text}");
            }
        }
    }

    #[test]
    fn two_values_make_classes() {
        check(Type::Int(64), &["0", "1"], None, Ok(("0", "1")));
        check(Type::Float64, &["0", "1"], None, Ok(("0", "1")));
        check(Type::Bool, &["false", "true"], None, Ok(("false", "true")));
        check(Type::Bool, &["false", "true"], Some(false.into()), Ok(("true", "false")));
        check(Type::Text, &["no", "yes"], Some("yes".into()), Ok(("no", "yes")));
        check(Type::Int(64), &["1", "2"], Some(1.into()), Ok(("2", "1")));
        check(Type::Float64, &["1", "2"], Some(serde_json::json!(2.0)), Ok(("1", "2")));
    }

    #[test]
    fn others_are_refused() {
        check(Type::Text, &["0", "1"], None, Err("say which one is the positive class"));
        check(Type::Int(64), &["1", "2"], None, Err("has the values `1` and `2`"));
        check(Type::Int(64), &["1"], None, Err("single class `1` in all 10 rows"));
        check(Type::Int(64), &["0", "1", "2"], None, Err("multiclass is not supported yet"));
        check(Type::Text, &["no", "yes"], Some("maybe".into()), Err("has no value `maybe`"));
    }
}
