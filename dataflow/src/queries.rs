//! Rows of a query: found by the hash of the query column, kept side by side in materialised order, and never cut apart
//! where a shard ends.

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use serde::{Deserialize, Serialize};
use sheaf_learn::hash::ValueHasher;
use sheaf_learn::shard::Segment;

use crate::dataset::Dataset;
use crate::error::DataError;
use crate::features::FitError;
use crate::features::Type;
use crate::features::kinds::type_name;
use crate::features::render::each_text;
use crate::job::{Job, JobError};
use crate::rowid::RowValues;
use crate::sink;

/// Most rows of a query, as in LightGBM: gradients look at pairs of them.
pub const MOST_ROWS: usize = 10_000;

const PATH: &str = "columns.query";

/// What says where rows stand.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Placing {
    /// Columns that identify a row; empty: all of them.
    pub(crate) key: Vec<String>,
    /// Column whose rows of one value stand side by side.
    #[serde(default)]
    pub(crate) query: Option<String>,
}

impl Placing {
    pub(crate) fn of(dataset: &Dataset) -> Self {
        Self { key: dataset.key.clone(), query: dataset.query.clone() }
    }

    /// The hash whose top bits are a row's bucket: of its query, or its place.
    pub(crate) fn buckets(&self, batch: &RecordBatch) -> Result<Vec<u128>, DataError> {
        match &self.query {
            Some(query) => ids_of(batch, query),
            None => sink::places(batch, &self.key),
        }
    }
}

/// Checks the job's query column, if it has one: it is there, and is text or whole numbers.
pub(crate) fn check_column(job: &Job, schema: &SchemaRef) -> Result<(), JobError> {
    let Some(query) = &job.columns.query else { return Ok(()) };
    let Ok(field) = schema.field_with_name(query) else {
        let names: Vec<_> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        let error = JobError::at(PATH, format!("column `{query}` is not in the prepared rows"));
        return Err(error.hint(format!("prepared columns: {}", names.join(", "))));
    };
    match field.data_type() {
        DataType::Utf8 => Ok(()),
        integer if integer.is_integer() => Ok(()),
        other => {
            let message = format!("column `{query}` is {}; a query is text or a whole number", type_name(other));
            Err(JobError::at(PATH, message).hint("cast it in `prepare`"))
        }
    }
}

/// The query of each row, as the hash of the column's value.
pub(crate) fn ids(column: &ArrayRef) -> Result<Vec<u128>, DataError> {
    let (values, mut hasher) = (RowValues::new([column])?, ValueHasher::new());
    Ok((0..column.len()).map(|row| values.hash(&mut hasher, row)).collect())
}

/// The query of each row of a batch that has the column.
pub(crate) fn ids_of(batch: &RecordBatch, query: &str) -> Result<Vec<u128>, DataError> {
    let column = batch.column_by_name(query);
    ids(column.ok_or_else(|| DataError::internal(PATH, format!("prepared rows have no column `{query}`")))?)
}

/// Refuses rows without a query and queries with too many rows. The rows of a query stand side by side; rows without one
/// hash alike and so stand in one bucket: the count is that of all of them.
pub(crate) fn check_rows(batch: &RecordBatch, query: &str, ids: &[u128]) -> Result<(), DataError> {
    let Some(column) = batch.column_by_name(query) else { return Ok(()) };
    if column.null_count() > 0 {
        let message = format!("{} rows have no query: `{query}` is null there; remove them in `prepare`", column.null_count());
        return Err(DataError::input(PATH, message));
    }
    let mut first = 0;
    for rows in ids.chunk_by(|a, b| a == b).map(<[u128]>::len) {
        if rows > MOST_ROWS {
            let name = text_of(column, first);
            let message =
                format!("query `{name}` of `{query}` has {rows} rows, more than {MOST_ROWS}: keep the best of them in `prepare`");
            return Err(DataError::input(PATH, message));
        }
        first += rows;
    }
    Ok(())
}

/// Rows of each shard of a bucket: as many whole queries as fit `shard_rows`, one that is longer alone.
pub(crate) fn shards(ids: &[u128], shard_rows: usize) -> Vec<usize> {
    let mut out: Vec<usize> = Vec::new();
    for rows in ids.chunk_by(|a, b| a == b).map(<[u128]>::len) {
        match out.last_mut() {
            Some(shard) if *shard + rows <= shard_rows => *shard += rows,
            _ => out.push(rows),
        }
    }
    out
}

/// Number in its shard of each row's query: rows that stand side by side and are of one query have one.
pub(crate) fn numbers(ids: &[u128]) -> Vec<u32> {
    let queries = (0..).zip(ids.chunk_by(|a, b| a == b));
    queries.flat_map(|(number, rows)| std::iter::repeat_n(number, rows.len())).collect()
}

/// Refuses a query whose rows stand in several segments.
pub(crate) fn check_whole(name: &str, column: &ArrayRef, numbers: &[u32], segments: &[Segment]) -> Result<(), FitError> {
    let cut = numbers.windows(2).zip(segments.windows(2)).position(|(n, s)| n[0] == n[1] && s[0] != s[1]);
    let Some(row) = cut else { return Ok(()) };
    let (query, here, there) = (text_of(column, row), segments[row].name(), segments[row + 1].name());
    Err(FitError::Data(format!(
        "query `{query}` of `{name}` has rows in {here} and in {there}: the split must keep queries whole; let its column depend on \
         the query alone, or split by: random"
    )))
}

/// The value of a row as text.
fn text_of(column: &ArrayRef, row: usize) -> String {
    let mut text = String::new();
    if let Some(ty) = Type::of(column.data_type()) {
        each_text(&column.slice(row, 1), ty, |_, value| text = value.unwrap_or_default().into_owned());
    }
    text
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};

    use super::*;

    #[test]
    fn shards_end_between_queries() {
        let ids = [7, 7, 7, 1, 1, 9, 9, 9, 9, 9, 9, 4];
        assert_eq!(shards(&ids, 5), [5, 6, 1]);
        assert_eq!(shards(&ids, 6), [5, 6, 1]);
        assert_eq!(shards(&ids, 2), [3, 2, 6, 1]);
        assert_eq!(shards(&ids, 100), [12]);
        assert_eq!(shards(&[], 5), [0usize; 0]);
        assert_eq!(numbers(&ids), [0, 0, 0, 1, 1, 2, 2, 2, 2, 2, 2, 3]);
    }

    #[test]
    fn rows_without_a_query_and_long_queries_are_named() {
        let batch = |values: Vec<Option<i64>>| {
            let column: ArrayRef = Arc::new(Int64Array::from(values));
            RecordBatch::try_from_iter_with_nullable([("q", column, true)]).unwrap()
        };
        let said = |batch: RecordBatch| check_rows(&batch, "q", &ids_of(&batch, "q").unwrap()).map_err(|e| e.to_string());
        assert_eq!(said(batch(vec![Some(1), Some(1), Some(2)])), Ok(()));
        let nulls = said(batch(vec![None, None, Some(2)])).unwrap_err();
        assert!(nulls.starts_with("columns.query: 2 rows have no query"), "{nulls}");
        let mut long = vec![Some(1)];
        long.extend(vec![Some(42); MOST_ROWS + 1]);
        let long = said(batch(long)).unwrap_err();
        assert!(long.starts_with("columns.query: query `42` of `q` has 10001 rows, more than 10000"), "{long}");
    }

    #[test]
    fn a_query_in_two_segments_is_refused() {
        use Segment::{Test, Train};
        let column: ArrayRef = Arc::new(StringArray::from(vec!["a", "a", "b", "b"]));
        assert!(check_whole("q", &column, &[0, 0, 1, 1], &[Train, Train, Test, Test]).is_ok());
        let error = check_whole("q", &column, &[0, 0, 1, 1], &[Train, Train, Train, Test]).unwrap_err().to_string();
        assert!(error.starts_with("query `b` of `q` has rows in train and in test"), "{error}");
    }
}
