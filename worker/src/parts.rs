//! Encoded shards taken apart and put together: a part is what one name of a view stands for.

use sheaf_dataflow::view::Part;
use sheaf_learn::shard::{Column, EncodedShard, Shared};
use sheaf_runtime::fault::Fault;

/// The values of a part of one shard; a clone shares them.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Number of rows and where segments begin.
    Frame {
        /// Rows.
        rows: usize,
        /// As in [`EncodedShard::bounds`].
        bounds: [usize; 4],
    },
    /// A column.
    Column(Column),
    /// Target, weights or offsets.
    Numbers(Shared<f64>),
    /// Row ids.
    Ids(Shared<u128>),
}

impl Values {
    /// Bytes in memory.
    pub fn bytes(&self) -> u64 {
        let bytes = match self {
            Values::Frame { .. } => size_of::<Values>(),
            Values::Column(column) => column.bytes(),
            Values::Numbers(values) => values.len() * 8,
            Values::Ids(ids) => ids.len() * 16,
        };
        bytes as u64
    }
}

/// Takes apart a shard that the view with only `parts` made: the values of each part that it has, in their order.
pub fn take_apart(shard: EncodedShard, parts: &[Part]) -> Result<Vec<Values>, Fault> {
    let EncodedShard { rows, bounds, columns, target, weight, offset, query, row_ids, .. } = shard;
    let mut columns = columns.into_iter();
    let mut take = |part: &Part| {
        let numbers = |values: &Option<Shared<f64>>| values.clone().map(Values::Numbers);
        match part {
            Part::Frame => Some(Values::Frame { rows, bounds }),
            Part::Column(_) => columns.next().map(Values::Column),
            Part::Target => numbers(&target),
            Part::Weight => numbers(&weight),
            Part::Offset => numbers(&offset),
            Part::Query => query.clone().map(|numbers| Values::Column(Column::Code(numbers))),
            Part::RowIds => row_ids.clone().map(Values::Ids),
        }
    };
    let missing = |part| move || Fault::internal(format!("a view made no {part:?}"));
    parts.iter().map(|part| take(part).ok_or_else(missing(*part))).collect()
}

/// Puts a shard together from the values of all parts of its view.
pub fn put_together(index: u32, parts: impl Iterator<Item = (Part, Values)>) -> Result<EncodedShard, Fault> {
    let mut shard = EncodedShard { index, ..EncodedShard::default() };
    for (part, values) in parts {
        match (part, values) {
            (Part::Frame, Values::Frame { rows, bounds }) => (shard.rows, shard.bounds) = (rows, bounds),
            (Part::Column(_), Values::Column(column)) => shard.columns.push(column),
            (Part::Target, Values::Numbers(values)) => shard.target = Some(values),
            (Part::Weight, Values::Numbers(values)) => shard.weight = Some(values),
            (Part::Offset, Values::Numbers(values)) => shard.offset = Some(values),
            (Part::Query, Values::Column(Column::Code(numbers))) => shard.query = Some(numbers),
            (Part::RowIds, Values::Ids(ids)) => shard.row_ids = Some(ids),
            (part, _) => return Err(Fault::internal(format!("{part:?} of shard {index} has the values of another part"))),
        }
    }
    Ok(shard)
}
