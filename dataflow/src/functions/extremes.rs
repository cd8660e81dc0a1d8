//! `min` and `max` under DataFusion's names. Of floats they keep one order of all values, NaN above all and −0.0 below 0.0:
//! DataFusion's grouped ones compare a NaN with nothing and keep it or drop it by the order of arrival. Other types are
//! DataFusion's own.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, AsArray, BooleanArray, PrimitiveArray};
use arrow::datatypes::{DataType, FieldRef, Float32Type, Float64Type, Int32Type, Int64Type};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::functions_aggregate::min_max;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF, SetMonotonicity, Signature,
    StatisticsArgs,
};

/// The smaller or the larger end.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Extreme {
    /// DataFusion's function of the same name.
    theirs: Arc<AggregateUDF>,
}

/// `min`.
pub(crate) fn min() -> Arc<AggregateUDF> {
    static MIN: LazyLock<Arc<AggregateUDF>> = LazyLock::new(|| wrap(min_max::min_udaf()));
    Arc::clone(&MIN)
}

/// `max`.
pub(crate) fn max() -> Arc<AggregateUDF> {
    static MAX: LazyLock<Arc<AggregateUDF>> = LazyLock::new(|| wrap(min_max::max_udaf()));
    Arc::clone(&MAX)
}

fn wrap(theirs: Arc<AggregateUDF>) -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::from(Extreme { theirs }))
}

impl AggregateUDFImpl for Extreme {
    fn name(&self) -> &str {
        self.theirs.name()
    }

    fn signature(&self) -> &Signature {
        self.theirs.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.theirs.return_type(types)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.theirs.accumulator(args)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.theirs.state_fields(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        // Of the rare half floats each group has an accumulator of its own.
        *args.return_field.data_type() != DataType::Float16 && self.theirs.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        let keys = match args.return_field.data_type() {
            DataType::Float64 => Keys { float: DataType::Float64, key: DataType::Int64 },
            DataType::Float32 => Keys { float: DataType::Float32, key: DataType::Int32 },
            _ => return self.theirs.create_groups_accumulator(args),
        };
        let field = Arc::new(args.return_field.as_ref().clone().with_data_type(keys.key.clone()));
        let inner = self.theirs.create_groups_accumulator(AccumulatorArgs { return_field: field, ..args })?;
        Ok(Box::new(Ordered { keys, inner }))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.theirs.create_sliding_accumulator(args)
    }

    fn value_from_stats(&self, args: &StatisticsArgs) -> Option<ScalarValue> {
        // Statistics of files leave NaN out.
        if args.return_type.is_floating() { None } else { self.theirs.value_from_stats(args) }
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.theirs.order_sensitivity()
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.theirs.coerce_types(types)
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.theirs.inner().set_monotonicity(data_type)
    }
}

/// Floats and the integers that stand in the same order as their bits do.
#[derive(Debug, Clone)]
struct Keys {
    float: DataType,
    key: DataType,
}

impl Keys {
    fn to_key(&self, array: &ArrayRef) -> Result<ArrayRef> {
        Ok(match self.float {
            DataType::Float64 => {
                let keys: PrimitiveArray<Int64Type> = array.as_primitive::<Float64Type>().unary(|x| flip64(x.to_bits() as i64));
                Arc::new(keys)
            }
            DataType::Float32 => {
                let keys: PrimitiveArray<Int32Type> = array.as_primitive::<Float32Type>().unary(|x| flip32(x.to_bits() as i32));
                Arc::new(keys)
            }
            ref other => return internal_err!("no keys for {other}"),
        })
    }

    fn to_float(&self, array: &ArrayRef) -> Result<ArrayRef> {
        Ok(match self.float {
            DataType::Float64 => {
                let floats: PrimitiveArray<Float64Type> =
                    array.as_primitive::<Int64Type>().unary(|k| f64::from_bits(flip64(k) as u64));
                Arc::new(floats)
            }
            DataType::Float32 => {
                let floats: PrimitiveArray<Float32Type> =
                    array.as_primitive::<Int32Type>().unary(|k| f32::from_bits(flip32(k) as u32));
                Arc::new(floats)
            }
            ref other => return internal_err!("no keys for {other}"),
        })
    }
}

/// Bits of a float as an integer in the order of IEEE 754's `totalOrder`, and back.
fn flip64(bits: i64) -> i64 {
    bits ^ (((bits >> 63) as u64) >> 1) as i64
}

fn flip32(bits: i32) -> i32 {
    bits ^ (((bits >> 31) as u32) >> 1) as i32
}

/// DataFusion's accumulator of integers, over the keys of floats.
struct Ordered {
    keys: Keys,
    inner: Box<dyn GroupsAccumulator>,
}

impl Ordered {
    fn keys(&self, arrays: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
        arrays.iter().map(|a| self.keys.to_key(a)).collect()
    }

    fn floats(&self, arrays: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
        arrays.iter().map(|a| self.keys.to_float(a)).collect()
    }
}

impl GroupsAccumulator for Ordered {
    fn update_batch(&mut self, values: &[ArrayRef], groups: &[usize], filter: Option<&BooleanArray>, total: usize) -> Result<()> {
        let keys = self.keys(values)?;
        self.inner.update_batch(&keys, groups, filter, total)
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        let keys = self.keys(values)?;
        self.inner.merge_batch(&keys, groups, total)
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let keys = self.inner.evaluate(emit)?;
        self.keys.to_float(&keys)
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        let keys = self.inner.state(emit)?;
        self.floats(&keys)
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let keys = self.inner.convert_to_state(&self.keys(values)?, filter)?;
        self.floats(&keys)
    }

    fn size(&self) -> usize {
        self.inner.size() + size_of::<Self>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stand_in_total_order_and_come_back() {
        let ordered = [f64::NEG_INFINITY, -1.5, -f64::MIN_POSITIVE, -0.0, 0.0, 5e-324, 2.0, f64::MAX, f64::INFINITY, f64::NAN];
        let keys = ordered.map(|x| flip64(x.to_bits() as i64));
        assert!(keys.is_sorted() && keys.windows(2).all(|w| w[0] != w[1]), "{keys:?}");
        assert_eq!(keys.map(|k| flip64(k) as u64), ordered.map(f64::to_bits));
        let narrow = ordered.map(|x| flip32((x as f32).to_bits() as i32));
        assert!(narrow.is_sorted(), "{narrow:?}");
    }
}
