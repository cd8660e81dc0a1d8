//! `counts`: per segment and numeric column the rows whose value is neither 0 nor missing, exactly. Checks are
//! columns that are 1 where a row breaks them; their counts come from here.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{Once, PerColumn, PerSegment, SinglePass, names, numbers, params, per_segment};
use crate::algorithm::{LearnError, Merge};
use crate::program::{Erased, Program, ProgramSpec};
use crate::shard::{EncodedShard, Segment};

/// The result of `counts`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountsOutput {
    /// Over all rows.
    #[serde(flatten)]
    pub all: RowCounts,
    /// By segment name; segments without rows are absent.
    pub segments: BTreeMap<String, RowCounts>,
}

/// Rows, and rows that are not 0 per column.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowCounts {
    /// Number of rows.
    pub rows: u64,
    /// Numeric columns in schema order. Empty if no shard had rows.
    pub columns: Vec<ColumnCount>,
}

/// How often a column is not 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnCount {
    /// Column name.
    pub name: String,
    /// Rows whose value is neither 0 nor NaN.
    pub count: u64,
}

#[derive(Clone, Serialize, Deserialize)]
struct Part {
    rows: u64,
    columns: PerColumn<u64>,
}

impl Merge for Part {
    fn merge(&mut self, right: Self) {
        self.rows += right.rows;
        self.columns.merge(right.columns);
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {}

struct Counts {
    names: Vec<String>,
}

impl Counts {
    fn named(&self, part: &Part) -> RowCounts {
        let named = self.names.iter().zip(&part.columns);
        let columns = named.filter_map(|(n, c)| c.map(|count| ColumnCount { name: n.clone(), count })).collect();
        RowCounts { rows: part.rows, columns }
    }
}

impl SinglePass for Counts {
    type Partial = PerSegment<Part>;
    type Output = CountsOutput;

    fn leaf(&self, shard: &EncodedShard) -> Option<Self::Partial> {
        let count = |values: &[f64]| values.iter().map(|v| u64::from(*v != 0.0 && !v.is_nan())).sum();
        per_segment(shard, |rows: Range<usize>| Part {
            rows: rows.len() as u64,
            columns: shard.columns.iter().map(|c| numbers(c, rows.clone()).map(|v| count(&v))).collect(),
        })
    }

    fn result(&self, total: Option<Self::Partial>) -> Result<CountsOutput, LearnError> {
        let mut output = CountsOutput::default();
        let mut all: Option<Part> = None;
        for (segment, part) in Segment::ALL.into_iter().zip(total.into_iter().flatten()) {
            let Some(part) = part else { continue };
            output.segments.insert(segment.name().to_owned(), self.named(&part));
            all.merge(Some(part));
        }
        output.all = all.map(|part| self.named(&part)).unwrap_or_default();
        Ok(output)
    }
}

/// `counts` with its parameters checked: none.
pub fn build(spec: &ProgramSpec) -> Result<Box<dyn Program>, LearnError> {
    let Params {} = params(spec)?;
    Ok(Box::new(Erased(Once(Counts { names: names(spec) }))))
}
