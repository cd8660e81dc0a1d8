//! Exact sums of the distinct values of a column. Zeros of both signs are one value, and so are all NaN.

use std::mem::size_of_val;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array};
use datafusion::common::cast::as_list_array;
use datafusion::common::utils::SingleRowListArrayBuilder;
use datafusion::common::{HashMap, Result, ScalarValue};
use datafusion::logical_expr::Accumulator;

use super::rows::Rows;
use super::statistic::{Evaluate, Held, Make};

/// Makes the accumulator of a statistic over distinct values; None for those of two columns.
pub(super) struct NewDistinct;

impl Make for NewDistinct {
    type Made = Option<Box<dyn Accumulator>>;

    fn one<S: Held<1>>(self, evaluate: Evaluate<S>) -> Self::Made {
        Some(Box::new(Distinct { counts: HashMap::default(), sums: S::default(), evaluate }))
    }

    fn two<S: Held<2>>(self, _: Evaluate<S>) -> Self::Made {
        None
    }
}

#[derive(Debug)]
struct Distinct<S> {
    /// Rows by the bits of their value, so that the last of a window frame takes the value with it.
    counts: HashMap<u64, u64>,
    sums: S,
    evaluate: Evaluate<S>,
}

impl<S: Held<1>> Distinct<S> {
    fn add(&mut self, arrays: &[ArrayRef]) -> Result<()> {
        Rows::<1>::new(arrays, None)?.for_each(|_, [x]| {
            let x = representative(x);
            let count = self.counts.entry(x.to_bits()).or_insert(0);
            if *count == 0 {
                self.sums.add([x]);
            }
            *count += 1;
        });
        Ok(())
    }
}

/// One of the values that count as equal.
fn representative(x: f64) -> f64 {
    if x.is_nan() {
        f64::NAN
    } else if x == 0.0 {
        0.0
    } else {
        x
    }
}

impl<S: Held<1>> Accumulator for Distinct<S> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.add(values)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        Rows::<1>::new(values, None)?.for_each(|_, [x]| {
            let x = representative(x);
            if let Some(count) = self.counts.get_mut(&x.to_bits()) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(&x.to_bits());
                    self.sums.retract([x]);
                }
            }
        });
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64((self.evaluate)(&self.sums)))
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let mut values: Vec<f64> = self.counts.keys().map(|bits| f64::from_bits(*bits)).collect();
        values.sort_unstable_by(f64::total_cmp);
        Ok(vec![SingleRowListArrayBuilder::new(Arc::new(Float64Array::from(values))).build_list_scalar()])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        as_list_array(&states[0])?.iter().flatten().try_for_each(|values| self.add(&[values]))
    }

    fn size(&self) -> usize {
        // A slot of the map is its entry and a byte.
        size_of_val(self) + self.counts.capacity() * (size_of::<(u64, u64)>() + 1) + self.sums.heap()
    }
}
