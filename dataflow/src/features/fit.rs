//! What the fitting steps share: reading the results of statistics programs, and the errors for columns
//! that nothing can be learnt from.

use serde::de::DeserializeOwned;
use serde_json::Value;
use sheaf_learn::shard::Segment;
use sheaf_learn::statistics::moments::{ColumnMoments, MomentsOutput};
use sheaf_learn::statistics::quantiles::QuantilesOutput;
use sheaf_learn::statistics::vocabulary::VocabularyOutput;

use crate::features::FitError;

/// Moments of a column that has finite values only, and at least one.
pub(crate) struct Measured {
    pub mean: f64,
    pub variance: f64,
    pub min: f64,
    pub max: f64,
}

/// Distinct values of a column.
pub(crate) struct Seen {
    pub name: String,
    pub rows: u64,
    pub nulls: u64,
    /// Canonical text and number of rows, bytewise ascending.
    pub values: Vec<(String, u64)>,
}

/// A program's result as its own type.
pub(crate) fn read<T: DeserializeOwned>(label: &str, result: Value) -> Result<T, FitError> {
    serde_json::from_value(result).map_err(|source| FitError::Result { label: label.to_string(), source })
}

/// Moments of the training rows.
pub(crate) fn moments(label: &str, result: Value) -> Result<Vec<ColumnMoments>, FitError> {
    let mut output: MomentsOutput = read(label, result)?;
    output.segments.remove(Segment::Train.name()).ok_or_else(no_training_rows)
}

/// Moments of one column, fit to be used.
pub(crate) fn measured(place: &str, all: &[ColumnMoments], column: &str) -> Result<Measured, FitError> {
    let m = all.iter().find(|m| m.name == column).ok_or_else(|| absent(place, column))?;
    if m.infinite > 0 {
        return Err(infinite(place, column, m.infinite));
    }
    match (m.mean, m.variance, m.min, m.max) {
        (Some(mean), Some(variance), Some(min), Some(max)) => Ok(Measured { mean, variance, min, max }),
        _ if m.missing == m.rows => Err(all_missing(place, column)),
        _ => Err(too_large(place, column)),
    }
}

/// Medians of the training rows: (column, value or none).
pub(crate) fn medians(label: &str, result: Value) -> Result<Vec<(String, Option<f64>)>, FitError> {
    let output: QuantilesOutput = read(label, result)?;
    Ok(output.columns.into_iter().map(|c| (c.name, c.quantiles.first().map(|q| q.value))).collect())
}

/// Vocabularies of the rows that were asked for.
pub(crate) fn vocabulary(label: &str, result: Value) -> Result<Vec<Seen>, FitError> {
    let output: VocabularyOutput = read(label, result)?;
    if output.columns.is_empty() {
        return Err(no_training_rows());
    }
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let seen = output.columns.into_iter().map(|c| Seen {
        name: c.name,
        rows: c.rows,
        nulls: c.nulls,
        values: c.values.into_iter().map(|e| (text(e.value.0), e.count)).collect(),
    });
    Ok(seen.collect())
}

/// One column of a vocabulary.
pub(crate) fn column<'a>(place: &str, all: &'a [Seen], name: &str) -> Result<&'a Seen, FitError> {
    all.iter().find(|s| s.name == name).ok_or_else(|| absent(place, name))
}

/// Constants that a pipeline can hold.
pub(crate) fn finite(place: &str, column: &str, constants: [f64; 2]) -> Result<(), FitError> {
    if constants.iter().all(|c| c.is_finite()) { Ok(()) } else { Err(too_large(place, column)) }
}

pub(crate) fn all_missing(place: &str, column: &str) -> FitError {
    FitError::Data(format!(
        "{place}: column `{column}` has no value in any training row; drop it, list it in columns.ignore, or impute a constant"
    ))
}

fn infinite(place: &str, column: &str, rows: u64) -> FitError {
    FitError::Data(format!(
        "{place}: column `{column}` is infinite in {rows} training rows; replace these values in a sql step before it"
    ))
}

fn too_large(place: &str, column: &str) -> FitError {
    FitError::Data(format!(
        "{place}: the values of column `{column}` are too large or too close together for 64-bit floats; rescale it in a sql step"
    ))
}

pub(crate) fn no_training_rows() -> FitError {
    FitError::Data("no row is in the training segment; check `split` and what `prepare` gives".into())
}

fn absent(place: &str, column: &str) -> FitError {
    FitError::Data(format!("{place}: the result says nothing of column `{column}`; coordinator and workers differ in version"))
}
