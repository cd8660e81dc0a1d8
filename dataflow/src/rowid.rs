//! Row ids and content hashes of Arrow rows: the bridge from arrays to the pinned hashes of typed values.

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeBinaryArray, RecordBatch};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampNanosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use sheaf_learn::hash::ValueHasher;

use crate::error::DataError;

/// Column of sink files that holds the row id, 16 bytes, little end first.
pub(crate) const ROW_ID: &str = "__row_id";

/// Appends the values of some columns of a row to a hasher.
pub(crate) struct RowValues<'a> {
    columns: Vec<Append<'a>>,
}

type Append<'a> = Box<dyn Fn(&mut ValueHasher, usize) + Send + 'a>;

impl<'a> RowValues<'a> {
    /// The columns in this order; they have types of prepared columns.
    pub(crate) fn new(columns: impl IntoIterator<Item = &'a ArrayRef>) -> Result<Self, DataError> {
        Ok(Self { columns: columns.into_iter().map(append).collect::<Result<_, _>>()? })
    }

    /// Appends row `row`.
    pub(crate) fn append(&self, hasher: &mut ValueHasher, row: usize) {
        for column in &self.columns {
            column(hasher, row);
        }
    }

    /// Hash of row `row`.
    pub(crate) fn hash(&self, hasher: &mut ValueHasher, row: usize) -> u128 {
        hasher.clear();
        self.append(hasher, row);
        hasher.finish()
    }
}

macro_rules! primitive {
    ($array:expr, $arrow:ty, $method:ident, $wide:ty) => {{
        let array = $array.as_primitive::<$arrow>();
        Box::new(move |hasher: &mut ValueHasher, row: usize| match array.is_null(row) {
            true => hasher.null(),
            false => hasher.$method(<$wide>::from(array.value(row))),
        })
    }};
}

fn append(array: &ArrayRef) -> Result<Append<'_>, DataError> {
    use DataType as T;
    Ok(match array.data_type() {
        T::Int8 => primitive!(array, Int8Type, i64, i64),
        T::Int16 => primitive!(array, Int16Type, i64, i64),
        T::Int32 => primitive!(array, Int32Type, i64, i64),
        T::Int64 => primitive!(array, Int64Type, i64, i64),
        T::UInt8 => primitive!(array, UInt8Type, u64, u64),
        T::UInt16 => primitive!(array, UInt16Type, u64, u64),
        T::UInt32 => primitive!(array, UInt32Type, u64, u64),
        T::UInt64 => primitive!(array, UInt64Type, u64, u64),
        T::Float32 => primitive!(array, Float32Type, f64, f64),
        T::Float64 => primitive!(array, Float64Type, f64, f64),
        T::Date32 => primitive!(array, Date32Type, date, i64),
        T::Timestamp(arrow::datatypes::TimeUnit::Nanosecond, _) => {
            primitive!(array, TimestampNanosecondType, timestamp_ns, i64)
        }
        T::Boolean => {
            let array = array.as_boolean();
            Box::new(move |hasher, row| match array.is_null(row) {
                true => hasher.null(),
                false => hasher.bool(array.value(row)),
            })
        }
        T::Utf8 => {
            let array = array.as_string::<i32>();
            Box::new(move |hasher, row| match array.is_null(row) {
                true => hasher.null(),
                false => hasher.bytes(array.value(row).as_bytes()),
            })
        }
        T::Decimal128(_, scale) => {
            let (array, scale) = (array.as_primitive::<Decimal128Type>(), *scale);
            Box::new(move |hasher, row| match array.is_null(row) {
                true => hasher.null(),
                false => hasher.decimal(array.value(row), scale),
            })
        }
        other => return Err(DataError::internal("row id", format!("no hash for the type {other}"))),
    })
}

/// Row ids from the declared key columns.
pub(crate) fn keyed(batch: &RecordBatch, key: &[usize]) -> Result<Vec<u128>, DataError> {
    let values = RowValues::new(key.iter().map(|i| batch.column(*i)))?;
    let mut hasher = ValueHasher::new();
    Ok((0..batch.num_rows()).map(|row| values.hash(&mut hasher, row)).collect())
}

/// Row ids that the sink stored.
pub(crate) fn stored(array: &ArrayRef) -> Result<Vec<u128>, DataError> {
    let wrong = || DataError::internal("materialised file", format!("`{ROW_ID}` does not hold 16 bytes a row"));
    let array = array.as_any().downcast_ref::<FixedSizeBinaryArray>().ok_or_else(wrong)?;
    let read = |bytes: Option<&[u8]>| bytes.and_then(|b| b.try_into().ok()).map(u128::from_le_bytes).ok_or_else(wrong);
    array.iter().map(read).collect()
}

/// Row ids as the sink stores them.
pub(crate) fn store(ids: &[u128]) -> Result<ArrayRef, arrow::error::ArrowError> {
    let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    Ok(std::sync::Arc::new(FixedSizeBinaryArray::try_new(16, bytes.into(), None)?))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use arrow::array::{Float64Array, Int32Array, Int64Array, StringArray};
    use std::sync::Arc;

    fn hash(columns: &[ArrayRef], row: usize) -> u128 {
        RowValues::new(columns).unwrap().hash(&mut ValueHasher::new(), row)
    }

    #[test]
    fn widths_and_signs_of_zero_do_not_matter() {
        let narrow: ArrayRef = Arc::new(Int32Array::from(vec![7]));
        let wide: ArrayRef = Arc::new(Int64Array::from(vec![7]));
        assert_eq!(hash(&[narrow], 0), hash(&[wide], 0));
        let zeros: ArrayRef = Arc::new(Float64Array::from(vec![0.0, -0.0]));
        assert_eq!(hash(&[Arc::clone(&zeros)], 0), hash(&[zeros], 1));
    }

    #[test]
    fn nulls_and_empty_text_differ() {
        let text: ArrayRef = Arc::new(StringArray::from(vec![Some(""), None]));
        assert_ne!(hash(&[Arc::clone(&text)], 0), hash(&[text], 1));
    }

    #[test]
    fn stored_ids_come_back() {
        let ids = [0, 1, u128::MAX, 1 << 100];
        assert_eq!(stored(&store(&ids).unwrap()).unwrap(), ids);
    }
}
