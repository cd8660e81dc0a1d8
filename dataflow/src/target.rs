//! What is learnt: a number, or one of two or of many classes. Classes are found over all rows before anything
//! else, so that a job that cannot be learnt from ends at once.

use std::collections::HashMap;

use arrow::array::ArrayRef;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sheaf_learn::model::Task;
use sheaf_learn::registry::{self, ALGORITHMS};

use crate::features::columns::Frame;
use crate::features::fit::Seen;
use crate::features::kinds::numbers;
use crate::features::render::{each_text, float};
use crate::features::{FitError, Type};
use crate::job::{Job, JobError, Train};

/// Most classes of a target.
pub const MOST_CLASSES: u64 = 1_000;
/// Classes that a message names.
const NAMED: usize = 5;

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
    /// The class's place, from 0; classes by canonical text.
    Multiclass {
        /// Numbers ascending, text bytewise.
        values: Vec<String>,
    },
}

impl TargetSpec {
    /// Names of the classes (negative and positive, or all of many); empty for numbers.
    pub fn classes(&self) -> Vec<String> {
        match &self.kind {
            TargetKind::Number => Vec::new(),
            TargetKind::Binary { negative, positive } => vec![negative.clone(), positive.clone()],
            TargetKind::Multiclass { values } => values.clone(),
        }
    }

    /// Values as numbers. `array` has the type of the spec. A null or an unknown class is an error.
    pub(crate) fn read(&self, array: &ArrayRef) -> Result<Vec<f64>, FitError> {
        let out = match &self.kind {
            TargetKind::Number => numbers(array, self.data_type),
            TargetKind::Binary { negative, positive } => self.classify(
                array,
                |text| (text == positive).then_some(1.0).or_else(|| (text == negative).then_some(0.0)),
                || format!("neither `{negative}` nor `{positive}`"),
            )?,
            TargetKind::Multiclass { values } => {
                let places: HashMap<&str, f64> = values.iter().enumerate().map(|(i, v)| (v.as_str(), i as f64)).collect();
                self.classify(array, |text| places.get(text).copied(), || format!("no class of the model: {}", some_of(values)))?
            }
        };
        match out.iter().filter(|v| v.is_nan()).count() {
            0 => Ok(out),
            nulls => Err(null_error(&self.column, nulls as u64, out.len() as u64)),
        }
    }

    /// The number of each row's class; NaN for nulls. `what` says of an unknown value what it is.
    fn classify(
        &self,
        array: &ArrayRef,
        class_of: impl Fn(&str) -> Option<f64>,
        what: impl FnOnce() -> String,
    ) -> Result<Vec<f64>, FitError> {
        let mut out = Vec::with_capacity(array.len());
        let mut unknown = None;
        each_text(array, self.data_type, |_, text| {
            let class = text.as_deref().map_or(Some(f64::NAN), &class_of);
            if class.is_none() && unknown.is_none() {
                unknown = text;
            }
            out.push(class.unwrap_or(0.0));
        });
        match unknown {
            None => Ok(out),
            Some(value) => Err(FitError::Data(format!("target `{}` has the value `{value}`, which is {}", self.column, what()))),
        }
    }
}

/// The first values and how many more.
fn some_of(values: &[String]) -> String {
    let shown = values.iter().take(NAMED).map(|v| format!("`{v}`")).collect::<Vec<_>>().join(", ");
    if values.len() > NAMED { format!("{shown} and {} more", values.len() - NAMED) } else { shown }
}

/// What the models of what is trained predict.
fn task(train: &Train) -> Option<Task> {
    registry::task(&train.algorithm, &train.params)
}

/// Whether what is trained learns many classes.
pub(crate) fn is_multiclass(train: &Train) -> bool {
    task(train) == Some(Task::Multiclass)
}

/// Whether what is trained learns classes, two or many.
pub(crate) fn is_classifier(train: &Train) -> bool {
    matches!(task(train), Some(Task::Binary | Task::Multiclass))
}

/// Whether the target is one of classes; `None` where there is none to learn or to measure by.
pub(crate) fn kind_of(job: &Job) -> Option<bool> {
    let train = job.train.as_ref()?;
    match is_anomaly(train) {
        true => job.columns.target.as_ref().map(|_| true),
        false => Some(is_classifier(train)),
    }
}

/// Whether what is trained learns without a target. One that is there measures it.
pub(crate) fn is_anomaly(train: &Train) -> bool {
    registry::task(&train.algorithm, &train.params) == Some(Task::Anomaly)
}

/// Roles that say how to learn a target say nothing where none is learnt.
fn refuse_roles(job: &Job, train: &Train, errors: &mut Vec<JobError>) {
    let roles =
        [("weight", &job.columns.weight, "draws every row alike"), ("offset", &job.columns.offset, "has no score to add to")];
    for (role, _, why) in roles.into_iter().filter(|(_, column, _)| column.is_some()) {
        let error = JobError::at(format!("columns.{role}"), format!("{} {why}: it takes no {role}", train.algorithm));
        errors.push(error.hint(format!("remove `columns.{role}`; `columns.ignore` keeps the column from being a feature")));
    }
}

/// Checks the target's role against the algorithm, before any row is read.
pub(crate) fn validate(job: &Job, frame: &Frame, errors: &mut Vec<JobError>) {
    let path = "columns.target";
    let Some(train) = &job.train else { return };
    if let Err(error) = registry::learner(&train.algorithm) {
        errors.push(JobError::at("train.algorithm", error.to_string()));
        return;
    }
    let anomaly = is_anomaly(train);
    if anomaly {
        refuse_roles(job, train, errors);
    }
    let Some(name) = &job.columns.target else {
        if anomaly {
            return;
        }
        let error = JobError::at(path, format!("{} needs a target", train.algorithm));
        errors.push(error.hint("name the column that is to be learnt"));
        return;
    };
    let classifier = anomaly || is_classifier(train);
    let ranks = registry::task(&train.algorithm, &train.params) == Some(Task::Ranking);
    if ranks && job.columns.query.is_none() {
        let error =
            JobError::at("columns.query", format!("{} ranks rows within queries and needs their column", train.algorithm));
        errors.push(error.hint("name the column that says which rows belong to one query"));
    }
    if job.columns.positive.is_some() && (!classifier || is_multiclass(train)) {
        let (what, hint) = match classifier {
            true => ("many classes here, none of which is positive", "remove it, or learn two classes: `task: binary`"),
            false => {
                ("numbers here and has no positive class", "remove it, or learn classes: an algorithm or objective for them")
            }
        };
        errors.push(JobError::at("columns.positive", format!("{} learns {what}", train.algorithm)).hint(hint));
    }
    if job.columns.offset.is_some() && is_multiclass(train) {
        let error = JobError::at("columns.offset", format!("{} learns many classes here and takes no offset", train.algorithm));
        errors.push(error.hint("remove it"));
    }
    let Some(col) = frame.get(name) else { return };
    let fits = |ty: Type| ty.is_numeric_feature() || (classifier && ty == Type::Text);
    if !col.ty().is_some_and(fits) {
        let takes = if classifier { "text, bool or numeric" } else { "numeric" };
        let message = format!("column `{name}` is {}; the target of {} is {takes}", col.kind.name(), train.algorithm);
        errors.push(JobError::at(path, message).hint("cast it in `prepare`, or name another column"));
    }
}

/// Advice to who has more classes than a target may have.
pub(crate) const TOO_MANY: &str = "a target has at most so many classes; group rare ones in `prepare`, or learn numbers: another `task`, `objective` or algorithm";

/// The classes of a target from its vocabulary over all rows: two, or with `many` two and more.
pub(crate) fn classes(ty: Type, seen: &Seen, positive: Option<&Value>, many: bool) -> Result<TargetKind, FitError> {
    let name = &seen.name;
    if seen.nulls > 0 {
        return Err(null_error(name, seen.nulls, seen.rows));
    }
    let values: Vec<&str> = seen.values.iter().map(|(v, _)| v.as_str()).collect();
    if let [only] = values[..] {
        let message = format!("target `{name}` has the single class `{only}` in all {} rows; nothing can be learnt", seen.rows);
        return Err(FitError::Data(message));
    }
    if many {
        return in_order(ty, name, &values).map(|values| TargetKind::Multiclass { values });
    }
    let [first, second] = values[..] else {
        let learners = ALGORITHMS.iter().filter(|e| e.tasks.contains(&Task::Multiclass)).map(|e| e.name);
        let learners = learners.collect::<Vec<_>>().join(", ");
        let advice = format!("write `task: multiclass` (of {learners}), or make it binary in `prepare`");
        return Err(FitError::Data(format!("target `{name}` has {} values, two are learnt here; {advice}", values.len())));
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

/// Classes in the order in which they are numbered, which their values alone decide.
fn in_order(ty: Type, name: &str, values: &[&str]) -> Result<Vec<String>, FitError> {
    if !ty.is_number() {
        // The vocabulary is in this order; it is said once more, for numbers of classes stand in models.
        let mut values = values.to_vec();
        values.sort_unstable();
        return Ok(values.into_iter().map(str::to_owned).collect());
    }
    let whole = |value: &&str| match value.parse::<i128>() {
        Ok(number) => Ok((number, (*value).to_owned())),
        Err(_) => Err(FitError::Data(format!(
            "target `{name}` has the value `{value}`; classes are text, truth values or whole numbers: cast it in `prepare`, or learn numbers"
        ))),
    };
    let mut numbers = values.iter().map(whole).collect::<Result<Vec<_>, _>>()?;
    numbers.sort_unstable();
    Ok(numbers.into_iter().map(|(_, value)| value).collect())
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
        let found = classes(ty, &seen, positive.as_ref(), false);
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
        check(Type::Int(64), &["0", "1", "2"], None, Err("has 3 values, two are learnt here; write `task: multiclass`"));
        check(Type::Text, &["no", "yes"], Some("maybe".into()), Err("has no value `maybe`"));
    }

    fn check_many(ty: Type, values: &[&str], expected: Result<&[&str], &str>) {
        let values = values.iter().map(|v| (v.to_string(), 5)).collect();
        let found = classes(ty, &Seen { name: "y".into(), rows: 10, nulls: 0, values }, None, true);
        match expected {
            Ok(values) => {
                let values = values.iter().map(|v| (*v).to_owned()).collect();
                assert_eq!(found.unwrap(), TargetKind::Multiclass { values });
            }
            Err(part) => {
                let text = found.unwrap_err().to_string();
                assert!(text.contains(part), "{text}");
            }
        }
    }

    #[test]
    fn many_classes_have_one_order() {
        check_many(Type::Int(64), &["-1", "10", "2"], Ok(&["-1", "2", "10"]));
        check_many(Type::UInt(64), &["0", "18446744073709551615", "7"], Ok(&["0", "7", "18446744073709551615"]));
        check_many(Type::Float64, &["0", "10", "3"], Ok(&["0", "3", "10"]));
        check_many(Type::Text, &["10", "9", "Zürich", "a"], Ok(&["10", "9", "Zürich", "a"]));
        check_many(Type::Bool, &["false", "true"], Ok(&["false", "true"]));
        check_many(Type::Text, &["a"], Err("single class `a`"));
        check_many(Type::Float64, &["0.5", "1"], Err("has the value `0.5`; classes are text, truth values or whole numbers"));
        check_many(Type::Float64, &["0", "inf"], Err("has the value `inf`"));
    }

    #[test]
    fn classes_are_read_by_their_place() {
        let values = ["a", "b", "c", "d", "e", "f", "g"].map(str::to_owned).to_vec();
        let spec = TargetSpec { column: "y".into(), data_type: Type::Text, kind: TargetKind::Multiclass { values } };
        let read = |rows: Vec<Option<&str>>| {
            let array: ArrayRef = std::sync::Arc::new(arrow::array::StringArray::from(rows));
            spec.read(&array).map_err(|e| e.to_string())
        };
        assert_eq!(read(vec![Some("g"), Some("a"), Some("c")]), Ok(vec![6.0, 0.0, 2.0]));
        let unknown = "target `y` has the value `z`, which is no class of the model: `a`, `b`, `c`, `d`, `e` and 2 more";
        assert_eq!(read(vec![Some("a"), Some("z"), Some("y")]), Err(unknown.into()));
        assert!(read(vec![Some("a"), None]).is_err_and(|e| e.contains("target `y` has 1 nulls in 2 rows")));
    }
}
