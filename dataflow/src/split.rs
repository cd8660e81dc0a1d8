//! Which segment a row belongs to, before anything is fitted: by a salted hash of its id (of its query, where there are
//! queries), or by a column that says so. Inside a shard rows are then grouped by segment, in canonical order in each.

use arrow::array::{Array, ArrayRef, AsArray};
use serde::{Deserialize, Serialize};
use sheaf_learn::hash::RandomSplit;
use sheaf_learn::shard::Segment;

use crate::features::fit::Seen;
use crate::features::{FitError, Type};
use crate::job::{Job, Split};
use crate::queries;

/// How rows get their segment; the seed is settled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SplitRule {
    /// Every row trains.
    None,
    /// Every row measures: the model is there already.
    Test,
    /// By a hash of the row id; fractions of all rows.
    Random {
        /// Salt.
        seed: u64,
        /// Fraction for test.
        test: f64,
        /// Fraction for validation.
        validation: f64,
        /// By a hash of this column instead: rows of a query stay together.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        query: Option<String>,
    },
    /// By the text of a column.
    Column {
        /// The prepared column.
        column: String,
        /// Text of train, validation and test rows, in this order.
        values: [String; 3],
    },
}

impl SplitRule {
    /// The rule of a job.
    pub fn of(job: &Job) -> SplitRule {
        match &job.split {
            None if job.model.is_some() => SplitRule::Test,
            None => SplitRule::None,
            Some(Split::Random { test, validation, seed }) => {
                let (seed, query) = (seed.unwrap_or(job.seed), job.columns.query.clone());
                SplitRule::Random { seed, test: *test, validation: *validation, query }
            }
            Some(Split::Column { column, train, validation, test }) => {
                let value = |given: &Option<String>, segment: Segment| given.clone().unwrap_or_else(|| segment.name().into());
                let values = [value(train, Segment::Train), value(validation, Segment::Validation), value(test, Segment::Test)];
                SplitRule::Column { column: column.clone(), values }
            }
        }
    }

    /// The prepared column that says the segment.
    pub fn column(&self) -> Option<&str> {
        match self {
            SplitRule::Column { column, .. } => Some(column),
            _ => None,
        }
    }

    /// The prepared column that the rule reads: what says the segment, or the query that is drawn for.
    pub fn reads(&self) -> Option<&str> {
        match self {
            SplitRule::Random { query: Some(column), .. } | SplitRule::Column { column, .. } => Some(column),
            _ => None,
        }
    }

    /// What the column is read as; `None`: as it is.
    pub(crate) fn reads_as(&self) -> Option<Type> {
        self.column().map(|_| Type::Text)
    }

    /// Whether the rule reads row ids.
    pub(crate) fn reads_row_ids(&self) -> bool {
        matches!(self, SplitRule::Random { query: None, .. })
    }

    /// Segment of each of `rows` rows; `column` is the column that the rule reads, if it does.
    pub(crate) fn segments(&self, rows: usize, row_ids: &[u128], column: Option<&ArrayRef>) -> Result<Vec<Segment>, FitError> {
        match (self, column) {
            (SplitRule::Random { seed, test, validation, query }, values) => {
                let split = RandomSplit::new(*seed, *test, *validation);
                let drawn = match (query, values) {
                    (Some(_), Some(values)) => &queries::ids(values).map_err(|e| FitError::Data(e.to_string()))?,
                    (Some(query), None) => return Err(FitError::Data(format!("the split lacks its column `{query}`"))),
                    (None, _) => row_ids,
                };
                Ok(drawn.iter().map(|id| split.segment(*id)).collect())
            }
            (SplitRule::Column { column, values }, Some(text)) => by_text(column, values, text),
            (SplitRule::Test, _) => Ok(vec![Segment::Test; rows]),
            _ => Ok(vec![Segment::Train; rows]),
        }
    }

    /// Every value of the rule's column, checked over all rows at once.
    pub(crate) fn judge(&self, seen: &Seen) -> Result<(), FitError> {
        let SplitRule::Column { column, values } = self else { return Ok(()) };
        if seen.nulls > 0 {
            return Err(unknown(column, values, "null", seen.nulls, seen.rows));
        }
        match seen.values.iter().find(|(v, _)| !values.contains(v)) {
            None => Ok(()),
            Some((value, rows)) => Err(unknown(column, values, &format!("`{value}`"), *rows, seen.rows)),
        }
    }
}

fn by_text(column: &str, values: &[String; 3], text: &ArrayRef) -> Result<Vec<Segment>, FitError> {
    let text = text.as_string::<i32>();
    let known = |v: &str| Segment::ALL.into_iter().zip(values).find(|(_, name)| *name == v).map(|(s, _)| s);
    let segments: Option<Vec<Segment>> = text.iter().map(|v| known(v?)).collect();
    segments.ok_or_else(|| {
        let strange = text.iter().find(|v| v.is_none_or(|v| known(v).is_none())).flatten();
        let rows = text.iter().filter(|v| *v == strange).count() as u64;
        let shown = strange.map_or("null".to_string(), |v| format!("`{v}`"));
        unknown(column, values, &shown, rows, text.len() as u64)
    })
}

fn unknown(column: &str, values: &[String; 3], value: &str, rows: u64, of: u64) -> FitError {
    let [train, validation, test] = values;
    FitError::Data(format!(
        "split column `{column}` is {value} in {rows} of {of} rows; it must be `{train}`, `{validation}` or `{test}` (rename them under `split`)"
    ))
}

/// Rows of a shard in the order of their segments.
pub(crate) struct Grouped {
    /// Old row of every new one; `None` where nothing moves.
    pub order: Option<Vec<u32>>,
    /// As in [`sheaf_learn::shard::EncodedShard::bounds`].
    pub bounds: [usize; 4],
}

/// Groups rows stably.
pub(crate) fn group(segments: &[Segment]) -> Grouped {
    let count = |segment| segments.iter().filter(|s| **s == segment).count();
    let mut bounds = [0; 4];
    for segment in Segment::ALL {
        bounds[segment as usize + 1] = bounds[segment as usize] + count(segment);
    }
    if segments.is_sorted() {
        return Grouped { order: None, bounds };
    }
    let mut order = vec![0; segments.len()];
    let mut next = bounds;
    for (row, segment) in segments.iter().enumerate() {
        order[next[*segment as usize]] = row as u32;
        next[*segment as usize] += 1;
    }
    Grouped { order: Some(order), bounds }
}

impl Grouped {
    /// `value` of every row, in the new order.
    pub(crate) fn pick<T>(&self, rows: usize, value: impl Fn(usize) -> T) -> Vec<T> {
        match &self.order {
            None => (0..rows).map(value).collect(),
            Some(order) => order.iter().map(|row| value(*row as usize)).collect(),
        }
    }

    /// Values in the new order.
    pub(crate) fn apply<T: Clone>(&self, values: Vec<T>) -> Vec<T> {
        match &self.order {
            None => values,
            Some(order) => order.iter().map(|i| values[*i as usize].clone()).collect(),
        }
    }

    /// Sparse rows in the new order.
    pub(crate) fn apply_sparse(&self, offsets: Vec<u32>, entries: Vec<(u32, f32)>) -> (Vec<u32>, Vec<(u32, f32)>) {
        let Some(order) = &self.order else { return (offsets, entries) };
        let mut moved = Vec::with_capacity(entries.len());
        let mut starts = Vec::with_capacity(offsets.len());
        starts.push(0);
        for i in order {
            let i = *i as usize;
            moved.extend_from_slice(&entries[offsets[i] as usize..offsets[i + 1] as usize]);
            starts.push(moved.len() as u32);
        }
        (starts, moved)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use arrow::array::StringArray;
    use std::sync::Arc;

    #[test]
    fn grouping_is_stable() {
        use Segment::{Test, Train, Validation};
        let grouped = group(&[Test, Train, Validation, Train, Test]);
        assert_eq!(grouped.bounds, [0, 2, 3, 5]);
        assert_eq!(grouped.apply(vec![0, 1, 2, 3, 4]), [1, 3, 2, 0, 4]);
        let (offsets, entries) = grouped.apply_sparse(vec![0, 1, 1, 2, 4, 4], vec![(7, 1.0), (8, 1.0), (1, 1.0), (2, 1.0)]);
        assert_eq!(offsets, [0, 0, 2, 3, 4, 4]);
        assert_eq!(entries, [(1, 1.0), (2, 1.0), (8, 1.0), (7, 1.0)]);
        assert_eq!(group(&[Train, Train]).order, None);
    }

    #[test]
    fn rows_of_a_query_are_drawn_together() {
        let rule = SplitRule::Random { seed: 3, test: 0.5, validation: 0.0, query: Some("q".into()) };
        let column: ArrayRef = Arc::new(arrow::array::Int64Array::from_iter_values((0..4000).map(|i| i / 4)));
        let segments = rule.segments(4000, &[], Some(&column)).unwrap();
        assert!(segments.chunks(4).all(|query| query.iter().all(|s| *s == query[0])));
        let test = segments.iter().filter(|s| **s == Segment::Test).count();
        assert!((1800..2200).contains(&test), "{test}");
        assert!(!rule.reads_row_ids() && rule.reads() == Some("q") && rule.column().is_none());
    }

    #[test]
    fn an_unknown_value_is_named() {
        let values = Segment::ALL.map(|s| s.name().to_string());
        let rule = SplitRule::Column { column: "part".into(), values };
        let text: ArrayRef = Arc::new(StringArray::from(vec!["train", "holdout", "holdout", "test"]));
        let error = rule.segments(4, &[], Some(&text)).unwrap_err().to_string();
        assert!(error.starts_with("split column `part` is `holdout` in 2 of 4 rows"), "{error}");
        let text: ArrayRef = Arc::new(StringArray::from(vec!["test", "train"]));
        assert_eq!(rule.segments(2, &[], Some(&text)).unwrap(), [Segment::Test, Segment::Train]);
    }
}
