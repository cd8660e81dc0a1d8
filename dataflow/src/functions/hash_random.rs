//! `hash_random(seed, key, …)`: a number in [0, 1) that depends on the seed and on the values of the key alone, so that
//! every worker draws the same for the same row. The key is hashed as row ids are, and the hash is the counter of the
//! Philox stream of (seed, "hash_random").

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{DataFusionError, Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use sheaf_learn::hash::ValueHasher;
use sheaf_learn::philox::Stream;

use crate::rowid::RowValues;
use crate::rowwise::cast_strict;
use crate::types;

/// Purpose of the stream.
const PURPOSE: &str = "hash_random";

/// The function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct HashRandom;

impl ScalarUDFImpl for HashRandom {
    fn name(&self) -> &str {
        PURPOSE
    }

    fn signature(&self) -> &Signature {
        static ANY: std::sync::LazyLock<Signature> = std::sync::LazyLock::new(|| Signature::variadic_any(Volatility::Immutable));
        &ANY
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        let [seed, keys @ ..] = args else { return plan_err!("hash_random takes a seed and at least one key column") };
        if keys.is_empty() {
            return plan_err!("hash_random takes a seed and at least one key column");
        }
        if !seed.is_integer() {
            return plan_err!("the seed of hash_random is a whole number, not {seed}");
        }
        match keys.iter().find(|k| !k.is_null() && types::prepared_type(k).is_none()) {
            Some(other) => plan_err!("hash_random has no hash for a key of the type {other}: cast it to text or a number"),
            None => Ok(DataType::Float64),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalar = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let rows = if scalar { 1 } else { args.number_rows };
        let [seed, keys @ ..] = args.args.as_slice() else { return exec_err!("hash_random takes a seed and a key") };
        let keys = keys.iter().map(|k| key(k, rows)).collect::<Result<Vec<_>>>()?;
        let drawn = draw(&cast_strict(&seed.to_array(rows)?, &DataType::Int64)?, &keys, rows)?;
        match scalar {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&drawn, 0)?)),
            false => Ok(ColumnarValue::Array(Arc::new(drawn))),
        }
    }
}

/// A key column in the type under which prepared columns are hashed; a column of nulls is a null of any type.
fn key(value: &ColumnarValue, rows: usize) -> Result<ArrayRef> {
    let array = value.to_array(rows)?;
    let data_type = if array.data_type().is_null() { Some(DataType::Int64) } else { types::prepared_type(array.data_type()) };
    match data_type {
        Some(data_type) => cast_strict(&array, &data_type),
        None => exec_err!("hash_random has no hash for a key of the type {}", array.data_type()),
    }
}

fn draw(seeds: &ArrayRef, keys: &[ArrayRef], rows: usize) -> Result<Float64Array> {
    let values = RowValues::new(keys).map_err(|e| DataFusionError::External(Box::new(e)))?;
    let seeds = seeds.as_primitive::<Int64Type>();
    let (mut hasher, mut stream) = (ValueHasher::new(), (0, Stream::new(0, PURPOSE, 0, 0)));
    let number = |row: usize| {
        if seeds.is_null(row) {
            return None;
        }
        let seed = seeds.value(row) as u64;
        if seed != stream.0 {
            stream = (seed, Stream::new(seed, PURPOSE, 0, 0));
        }
        Some(stream.1.uniform(values.hash(&mut hasher, row)))
    };
    Ok((0..rows).map(number).collect())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use arrow::array::{Int32Array, Int64Array, LargeStringArray, StringArray};

    fn drawn(seed: i64, keys: &[ArrayRef]) -> Vec<f64> {
        let rows = keys[0].len();
        let seeds: ArrayRef = Arc::new(Int64Array::from(vec![seed; rows]));
        let keys: Vec<_> = keys.iter().map(|k| key(&ColumnarValue::Array(Arc::clone(k)), rows).unwrap()).collect();
        draw(&seeds, &keys, rows).unwrap().values().to_vec()
    }

    #[test]
    fn it_depends_on_seed_and_values_alone() {
        let narrow: ArrayRef = Arc::new(Int32Array::from((0..1000).collect::<Vec<_>>()));
        let wide: ArrayRef = Arc::new(Int64Array::from((0..1000).collect::<Vec<_>>()));
        let (a, b) = (drawn(7, &[narrow]), drawn(7, &[Arc::clone(&wide)]));
        assert_eq!(a, b);
        assert_ne!(a, drawn(8, &[wide]));
        assert!(a.iter().all(|x| (0.0..1.0).contains(x)));
        let mean = a.iter().sum::<f64>() / 1000.0;
        assert!((mean - 0.5).abs() < 0.03, "{mean}");
    }

    #[test]
    fn the_numbers_are_pinned() {
        let ids: ArrayRef = Arc::new(Int64Array::from(vec![0, 1, 2]));
        assert_eq!(drawn(7, &[ids]), [0.6405036926443692, 0.43980387596343606, 0.619950431626818]);
        let text: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
        let large: ArrayRef = Arc::new(LargeStringArray::from(vec!["a", "b"]));
        assert_eq!(drawn(1, &[Arc::clone(&text)]), drawn(1, &[large]));
        assert_ne!(drawn(1, &[Arc::clone(&text), Arc::clone(&text)]), drawn(1, &[text]));
    }
}
