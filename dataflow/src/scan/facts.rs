//! What is known of a table's files before they are read: rows, estimates from Parquet footers, and what a reader
//! may skip or split by. Only the number of rows is exact: an answer never comes from a footer's least and greatest
//! values, which leave out NaN and may be cut.

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, DataFusionError, ScalarValue, Statistics};
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use parquet::file::metadata::ParquetMetaData;

use crate::csv::Scan;
use crate::error::DataError;
use crate::parquet_file::ParquetFile;
use crate::types::{self, ColumnSpec};

/// What was seen of a table's files when they were opened. Footers are looked into only by those who ask: a job over
/// thousands of files and columns need not pay for what it does not use.
#[derive(Debug, Clone)]
pub(crate) enum Facts {
    /// The footers of all files.
    Parquet(Vec<ParquetFile>),
    /// A pass over all delimited files.
    Text {
        /// Rows of all files.
        rows: u64,
        /// Nulls of each column.
        nulls: Vec<u64>,
        /// True where lines are not records.
        multiline: bool,
    },
}

/// What a scan may build on.
#[derive(Debug)]
pub(super) struct Known {
    /// Rows of the table, exact; estimates of its columns.
    pub(super) statistics: Statistics,
    /// Columns by which row groups may be skipped: their least and greatest values in footers say what a comparison
    /// needs. Floats do not (NaN is greater than all numbers, and no footer tells of it), nor do texts of old writers.
    pub(super) prunable: Vec<bool>,
    /// True where files may be read from any line on.
    pub(super) splittable: bool,
}

impl Facts {
    /// From a pass over all delimited files of a table.
    pub(crate) fn of_text(scan: &Scan) -> Self {
        let rows = scan.rows.iter().fold(0u64, |rows, more| rows.saturating_add(*more));
        Self::Text { rows, nulls: scan.nulls.clone(), multiline: scan.multiline }
    }

    /// Nulls of each column, where all files tell.
    pub(crate) fn nulls(&self, columns: usize) -> Vec<Option<u64>> {
        match self {
            Self::Parquet(files) => (0..columns).map(|i| files.iter().map(|file| nulls(file.metadata(), i)).sum()).collect(),
            Self::Text { nulls, .. } => nulls.iter().map(|nulls| Some(*nulls)).collect(),
        }
    }

    /// What a scan of columns may build on.
    pub(super) fn known(&self, columns: &[ColumnSpec]) -> Result<Known, DataError> {
        let schema = types::schema(columns);
        match self {
            Self::Parquet(files) => of_parquet(files, &schema),
            Self::Text { rows, multiline, .. } => {
                let num_rows = usize::try_from(*rows).map_or(Precision::Absent, Precision::Exact);
                let statistics = Statistics { num_rows, ..Statistics::new_unknown(&schema) };
                Ok(Known { statistics, prunable: vec![false; columns.len()], splittable: !multiline })
            }
        }
    }
}

fn of_parquet(files: &[ParquetFile], schema: &SchemaRef) -> Result<Known, DataError> {
    let known = files.iter().map(|file| of_file(file, schema)).collect::<Result<Vec<_>, _>>();
    let merged = known.and_then(|known| match known.is_empty() {
        true => Ok(Statistics::new_unknown(schema)),
        false => Statistics::try_merge_iter(&known, schema),
    });
    let statistics = merged.map_err(|e| DataError::internal("footers of Parquet files", e.strip_backtrace()))?;
    let prunable = schema.fields().iter().enumerate().map(|(i, field)| {
        !field.data_type().is_floating()
            && !field.data_type().is_null()
            && files.iter().all(|file| !has_old_bounds(file.metadata(), i))
    });
    Ok(Known { statistics, prunable: prunable.collect(), splittable: true })
}

/// Statistics of one file: rows exact, the rest as estimates where it can be trusted as such.
fn of_file(file: &ParquetFile, schema: &SchemaRef) -> Result<Statistics, DataFusionError> {
    let found = DFParquetMetadata::statistics_from_parquet_metadata(file.metadata(), schema)?;
    let estimate = |(i, column): (usize, ColumnStatistics)| {
        let (kind, stored) = (schema.field(i).data_type(), file.schema().field(i).data_type());
        match kind {
            DataType::Null => ColumnStatistics::new_unknown(),
            // Bounds that would have to be cast first are left out.
            _ if kind.is_floating() || kind != stored => without_bounds(column).to_inexact(),
            _ => with_real_bounds(column).to_inexact(),
        }
    };
    let column_statistics = found.column_statistics.into_iter().enumerate().map(estimate).collect();
    Ok(Statistics { num_rows: found.num_rows, total_byte_size: found.total_byte_size.to_inexact(), column_statistics })
}

fn without_bounds(column: ColumnStatistics) -> ColumnStatistics {
    ColumnStatistics { min_value: Precision::Absent, max_value: Precision::Absent, ..column }
}

/// A footer that says nothing gives null as a bound.
fn with_real_bounds(column: ColumnStatistics) -> ColumnStatistics {
    let real = |bound: &Precision<ScalarValue>| bound.get_value().is_some_and(|value| !value.is_null());
    if real(&column.min_value) && real(&column.max_value) { column } else { without_bounds(column) }
}

/// Nulls of a column in one file, where every row group tells and the column is a plain one.
fn nulls(footer: &ParquetMetaData, column: usize) -> Option<u64> {
    let roots = footer.file_metadata().schema_descr();
    let mut leaves = (0..roots.num_columns()).filter(|leaf| roots.get_column_root_idx(*leaf) == column);
    let (leaf, None) = (leaves.next()?, leaves.next()) else { return None };
    footer.row_groups().iter().map(|group| group.column(leaf).statistics()?.null_count_opt()).sum()
}

/// True where some row group keeps bounds of a column in the form whose order is not defined.
fn has_old_bounds(footer: &ParquetMetaData, column: usize) -> bool {
    let roots = footer.file_metadata().schema_descr();
    let mut chunks = footer.row_groups().iter().flat_map(|group| group.columns().iter().enumerate());
    chunks.any(|(leaf, chunk)| {
        roots.get_column_root_idx(leaf) == column && chunk.statistics().is_some_and(|s| s.is_min_max_deprecated())
    })
}
