//! One canonical shard of prepared rows: what the reader hands over and views encode.

use arrow::record_batch::RecordBatch;

/// Rows `[index · R, (index + 1) · R)` of the prepared dataset in canonical order; with a query column as many whole queries as
/// fit `R` rows.
#[derive(Debug, Clone, PartialEq)]
pub struct PreparedShard {
    /// Index of the shard in the dataset.
    pub index: u32,
    /// Prepared columns, in the order of the planned schema.
    pub batch: RecordBatch,
    /// 128-bit row id of every row of `batch`.
    pub row_ids: Vec<u128>,
}
