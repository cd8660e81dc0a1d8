//! The rows of a batch that count: those without a null that pass the filter.

use std::borrow::Cow;

use arrow::array::{Array, ArrayRef, BooleanArray, Float64Array};
use arrow::buffer::NullBuffer;
use datafusion::common::cast::as_float64_array;
use datafusion::common::{Result, internal_err};

/// Rows of `C` float columns.
pub(super) struct Rows<'a, const C: usize> {
    columns: [&'a [f64]; C],
    /// Which rows count; None is all.
    counted: Option<NullBuffer>,
}

impl<'a, const C: usize> Rows<'a, C> {
    /// A row with a null in any column does not count, nor does one whose filter is false or null.
    ///
    /// # Errors
    /// The arrays are not `C` float columns: a fault of the engine.
    pub fn new(arrays: &'a [ArrayRef], filter: Option<&BooleanArray>) -> Result<Self> {
        if arrays.len() != C {
            return internal_err!("an aggregate over {C} columns got {}", arrays.len());
        }
        let mut counted = filter.map(passed);
        let mut columns: [&[f64]; C] = [&[]; C];
        for (column, array) in columns.iter_mut().zip(arrays) {
            let array: &Float64Array = as_float64_array(array)?;
            *column = array.values();
            counted = NullBuffer::union(counted.as_ref(), array.nulls());
        }
        Ok(Self { columns, counted: counted.filter(|c| c.null_count() > 0) })
    }

    /// Rows in all, those that do not count among them.
    pub fn len(&self) -> usize {
        self.columns[0].len()
    }

    #[inline(always)]
    pub fn row(&self, i: usize) -> [f64; C] {
        self.columns.map(|c| c[i])
    }

    /// Calls for each row that counts.
    #[inline(always)]
    pub fn for_each(&self, mut call: impl FnMut(usize, [f64; C])) {
        match &self.counted {
            None => (0..self.len()).for_each(|i| call(i, self.row(i))),
            Some(counted) => counted.valid_indices().for_each(|i| call(i, self.row(i))),
        }
    }

    /// Whether a row counts.
    pub fn counts(&self, i: usize) -> bool {
        self.counted.as_ref().is_none_or(|c| c.is_valid(i))
    }

    /// The columns of the rows that count.
    pub fn columns(&self) -> [Cow<'a, [f64]>; C] {
        match &self.counted {
            None => self.columns.map(Cow::Borrowed),
            Some(counted) => self.columns.map(|c| Cow::Owned(counted.valid_indices().map(|i| c[i]).collect())),
        }
    }
}

/// Where a filter is true.
fn passed(filter: &BooleanArray) -> NullBuffer {
    NullBuffer::new(match filter.nulls() {
        None => filter.values().clone(),
        Some(nulls) => filter.values() & nulls.inner(),
    })
}
