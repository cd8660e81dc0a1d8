//! Exact sums of all rows, or of those of a window frame: rows can be taken away again.

use std::mem::size_of_val;

use arrow::array::ArrayRef;
use datafusion::common::cast::as_large_binary_array;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::Accumulator;
use sheaf_learn::kernels::Level;

use super::damaged;
use super::rows::Rows;
use super::statistic::{Evaluate, Held, Make};

/// Makes the accumulator of a statistic.
pub(super) struct NewAccumulator;

impl Make for NewAccumulator {
    type Made = Box<dyn Accumulator>;

    fn one<S: Held<1>>(self, evaluate: Evaluate<S>) -> Self::Made {
        Box::new(Whole { sums: S::default(), level: Level::detect(), evaluate })
    }

    fn two<S: Held<2>>(self, evaluate: Evaluate<S>) -> Self::Made {
        Box::new(Whole { sums: S::default(), level: Level::detect(), evaluate })
    }
}

/// Sums over rows of `C` columns.
#[derive(Debug)]
struct Whole<S, const C: usize> {
    sums: S,
    level: Level,
    evaluate: Evaluate<S>,
}

impl<S: Held<C>, const C: usize> Accumulator for Whole<S, C> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let columns = Rows::<C>::new(values, None)?.columns();
        self.sums.add_columns(self.level, columns.each_ref().map(|c| &**c));
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        Rows::<C>::new(values, None)?.for_each(|_, row| {
            self.sums.retract(row);
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
        let mut bytes = Vec::new();
        self.sums.write(&mut bytes);
        Ok(vec![ScalarValue::LargeBinary(Some(bytes))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for state in as_large_binary_array(&states[0])?.iter().flatten() {
            self.sums.merge_bytes(state).map_err(damaged)?;
        }
        Ok(())
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.sums.heap()
    }
}
