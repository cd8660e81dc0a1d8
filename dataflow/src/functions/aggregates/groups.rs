//! Exact sums of many groups, a few words each.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, LargeBinaryBuilder};
use datafusion::common::Result;
use datafusion::common::cast::as_large_binary_array;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};

use super::damaged;
use super::rows::Rows;
use super::statistic::{Evaluate, Held, Make};

/// Makes the accumulator of a statistic for groups.
pub(super) struct NewGroups;

impl Make for NewGroups {
    type Made = Box<dyn GroupsAccumulator>;

    fn one<S: Held<1>>(self, evaluate: Evaluate<S>) -> Self::Made {
        Box::new(Groups { sums: Vec::new(), heap: 0, evaluate })
    }

    fn two<S: Held<2>>(self, evaluate: Evaluate<S>) -> Self::Made {
        Box::new(Groups { sums: Vec::new(), heap: 0, evaluate })
    }
}

/// Sums by group over rows of `C` columns.
struct Groups<S, const C: usize> {
    sums: Vec<S>,
    /// Bytes that the sums hold on the heap.
    heap: usize,
    evaluate: Evaluate<S>,
}

impl<S: Held<C>, const C: usize> Groups<S, C> {
    fn take(&mut self, emit: EmitTo) -> Vec<S> {
        let taken = emit.take_needed(&mut self.sums);
        self.heap -= taken.iter().map(S::heap).sum::<usize>();
        taken
    }
}

impl<S: Held<C>, const C: usize> GroupsAccumulator for Groups<S, C> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.sums.resize_with(total_num_groups, S::default);
        let (sums, mut heap) = (self.sums.as_mut_slice(), 0);
        Rows::<C>::new(values, filter)?.for_each(|i, row| heap += sums[group_indices[i]].add(row));
        self.heap += heap;
        Ok(())
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.sums.resize_with(total_num_groups, S::default);
        for (state, group) in as_large_binary_array(&values[0])?.iter().zip(group_indices) {
            if let Some(state) = state {
                self.heap += self.sums[*group].merge_bytes(state).map_err(damaged)?;
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let results: Float64Array = self.take(emit_to).iter().map(self.evaluate).collect();
        Ok(Arc::new(results))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let sums = self.take(emit_to);
        Ok(vec![written(sums.len(), sums.into_iter())])
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let rows = Rows::<C>::new(values, filter)?;
        let sums = (0..rows.len()).map(|i| {
            let mut sums = S::default();
            if rows.counts(i) {
                sums.add(rows.row(i));
            }
            sums
        });
        Ok(vec![written(rows.len(), sums)])
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<S>() + self.heap
    }
}

/// The state column of some sums.
fn written<S: Held<C>, const C: usize>(length: usize, sums: impl Iterator<Item = S>) -> ArrayRef {
    let mut states = LargeBinaryBuilder::with_capacity(length, length * 16);
    let mut bytes = Vec::new();
    for sums in sums {
        bytes.clear();
        sums.write(&mut bytes);
        states.append_value(&bytes);
    }
    Arc::new(states.finish())
}
