//! Pinned tables as a query engine scans them: file scans of the engine's own kind over exactly the pinned files, so
//! that a plan with them can be taken to any process with the same stores. Values are those of our own readers: same
//! types, same nulls, same errors.
//!
//! * The path of each file holds its pin ([`pinned`]): a changed file is an error wherever it is read.
//! * Parquet row groups are skipped by footers only where the query touches no float column: NaN is greater than all
//!   numbers, and a footer's bounds leave it out. What is skipped depends on footers and query alone.
//! * Delimited text is scanned as text and cast above the scan by the kernels of [`crate::csv`]; the engine's own
//!   typed scan reads numbers and times otherwise, and forgets the text that stands for null when a plan travels.
//!   Against our reader an error names column and value, not file and record.

mod facts;
pub(crate) mod pinned;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::config::{CsvOptions as EngineCsv, TableParquetOptions};
use datafusion::common::{DFSchema, DataFusionError, Result as QueryResult, ScalarValue, Statistics};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{CsvSource, FileGroup, FileScanConfigBuilder, FileSource, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, Operator, TableProviderFilterPushDown};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr, Column, Literal, case};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::ProjectionExec;
use object_store::ObjectMeta;

pub(crate) use self::facts::Facts;
use self::facts::Known;
use crate::dataset::Source;
use crate::error::DataError;
use crate::job::CsvOptions;
use crate::pin::PinnedFile;
use crate::stores::Stores;
use crate::table::{self, OpenTable};
use crate::types::ColumnSpec;

/// What a query engine scans a pinned table by. Nothing is read yet.
pub(crate) fn provider(stores: &Stores, name: &str, table: &OpenTable) -> Result<Arc<dyn TableProvider>, DataError> {
    let internal = |message: &str| DataError::internal(format!("table {name}"), message);
    let url = pinned::url(table.files.first().ok_or_else(|| internal("it has no files"))?)?;
    if !matches!(table.source, Source::Parquet | Source::Csv(_)) {
        return Err(internal("materialised rows are read by the shard reader"));
    }
    let files = table.files.iter().map(|file| located(stores, file, &url)).collect::<Result<Vec<_>, _>>()?;
    Ok(Arc::new(Pinned {
        name: name.to_owned(),
        url,
        files,
        columns: table.columns.clone(),
        schema: table::planning_schema(&table.columns),
        source: table.source.clone(),
        known: table.facts.known(&table.columns)?,
    }))
}

fn located(stores: &Stores, file: &PinnedFile, url: &ObjectStoreUrl) -> Result<ObjectMeta, DataError> {
    match pinned::url(file)? == *url {
        true => pinned::meta(stores, file),
        false => Err(DataError::internal(&file.location, "the files of a table lie in several stores")),
    }
}

/// A pinned table.
#[derive(Debug)]
struct Pinned {
    name: String,
    url: ObjectStoreUrl,
    files: Vec<ObjectMeta>,
    columns: Vec<ColumnSpec>,
    schema: SchemaRef,
    source: Source,
    known: Known,
}

#[async_trait]
impl TableProvider for Pinned {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn statistics(&self) -> Option<Statistics> {
        Some(self.known.statistics.clone())
    }

    /// Conditions only skip row groups; they are evaluated above the scan all the same.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> QueryResult<Vec<TableProviderFilterPushDown>> {
        let answer = |filter: &&Expr| match self.source == Source::Parquet && self.prunable(filter) {
            true => TableProviderFilterPushDown::Inexact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(answer).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> QueryResult<Arc<dyn ExecutionPlan>> {
        let columns = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        table::check_readable(&self.columns, &columns, &format!("tables.{}", self.name))
            .map_err(|e| DataFusionError::External(Box::new(e)))?;
        match &self.source {
            Source::Parquet => self.scan_parquet(state, columns, filters, limit),
            Source::Csv(options) => self.scan_text(state, options, columns, limit),
            Source::Sink | Source::Query(_) => {
                Err(DataFusionError::Internal("materialised rows are read by the shard reader".to_owned()))
            }
        }
    }
}

impl Pinned {
    fn scan_parquet(
        &self,
        state: &dyn Session,
        columns: Vec<usize>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> QueryResult<Arc<dyn ExecutionPlan>> {
        let touched = filters.iter().flat_map(|filter| filter.column_refs()).map(|c| self.schema.index_of(&c.name));
        let touched = touched.collect::<Result<BTreeSet<_>, _>>()?;
        let prune = columns.iter().chain(&touched).all(|i| self.known.prunable[*i]);
        let cache = state.runtime_env().cache_manager.get_file_metadata_cache();
        let store = state.runtime_env().object_store(&self.url)?;
        let mut source = ParquetSource::new(Arc::clone(&self.schema))
            .with_table_parquet_options(parquet_options(state, prune))
            .with_parquet_file_reader_factory(Arc::new(CachedParquetFileReaderFactory::new(store, cache)));
        if let Some(condition) = conjunction(filters.iter().cloned()).filter(|_| prune) {
            let schema = DFSchema::try_from(Arc::clone(&self.schema))?;
            source = source.with_predicate(state.create_physical_expr(condition, &schema)?);
        }
        self.data_source(state, Arc::new(source), columns, limit)
    }

    /// Text columns, and above them null texts and casts.
    fn scan_text(
        &self,
        state: &dyn Session,
        options: &CsvOptions,
        columns: Vec<usize>,
        limit: Option<usize>,
    ) -> QueryResult<Arc<dyn ExecutionPlan>> {
        let text = |field: &Arc<Field>| Field::new(field.name(), DataType::Utf8, true);
        let schema = Arc::new(Schema::new(self.schema.fields().iter().map(text).collect::<Vec<_>>()));
        let engine = EngineCsv {
            has_header: Some(options.header),
            delimiter: options.delimiter as u8,
            newlines_in_values: Some(!self.known.splittable),
            ..EngineCsv::default()
        };
        let source = Arc::new(CsvSource::new(schema).with_csv_options(engine));
        let scan = self.data_source(state, source, columns.clone(), limit)?;
        if columns.is_empty() {
            return Ok(scan);
        }
        let value = |(at, column): (usize, usize)| {
            let field = self.schema.field(column);
            Ok((typed(Arc::new(Column::new(field.name(), at)), field, options.null.as_ref())?, field.name().clone()))
        };
        let values = columns.into_iter().enumerate().map(value).collect::<QueryResult<Vec<_>>>()?;
        Ok(Arc::new(ProjectionExec::try_new(values, scan)?))
    }

    fn data_source(
        &self,
        state: &dyn Session,
        source: Arc<dyn FileSource>,
        columns: Vec<usize>,
        limit: Option<usize>,
    ) -> QueryResult<Arc<dyn ExecutionPlan>> {
        // In the order of the table; the engine's own split would sort by paths, which begin with pins.
        let most = self.files.len().div_ceil(state.config().target_partitions().max(1)).max(1);
        let group = |files: &[ObjectMeta]| files.iter().cloned().map(PartitionedFile::new_from_meta).collect::<Vec<_>>();
        let groups = self.files.chunks(most).map(|files| FileGroup::new(group(files))).collect();
        let config = FileScanConfigBuilder::new(self.url.clone(), source)
            .with_file_groups(groups)
            .with_statistics(self.known.statistics.clone())
            .with_projection_indices(Some(columns))?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }

    /// True where a condition may skip row groups.
    fn prunable(&self, filter: &Expr) -> bool {
        let columns = filter.column_refs();
        !filter.is_volatile()
            && !columns.is_empty()
            && columns.iter().all(|c| self.schema.index_of(&c.name).is_ok_and(|i| self.known.prunable[i]))
    }
}

/// How Parquet files are read: times as our reader reads them, rows that are not asked for never skipped on a guess.
fn parquet_options(state: &dyn Session, prune: bool) -> TableParquetOptions {
    let mut global = state.config_options().execution.parquet.clone();
    global.coerce_int96 = Some("us".to_owned());
    global.coerce_int96_tz = None;
    global.pushdown_filters = false;
    global.pruning = prune;
    global.enable_page_index = prune;
    global.bloom_filter_on_read = prune;
    TableParquetOptions { global, ..TableParquetOptions::default() }
}

/// A text column as the table has it: nulls for the text that says so, then the type.
fn typed(column: Arc<dyn PhysicalExpr>, field: &Field, null: Option<&String>) -> QueryResult<Arc<dyn PhysicalExpr>> {
    let text = match null {
        None => column,
        Some(null) => {
            let literal = |value| Arc::new(Literal::new(ScalarValue::Utf8(value))) as Arc<dyn PhysicalExpr>;
            let says = Arc::new(BinaryExpr::new(Arc::clone(&column), Operator::Eq, literal(Some(null.clone()))));
            case(None, vec![(says as Arc<dyn PhysicalExpr>, literal(None))], Some(column))?
        }
    };
    let cast = |expr, to| Arc::new(CastExpr::new(expr, to, None)) as Arc<dyn PhysicalExpr>;
    Ok(match field.data_type() {
        DataType::Utf8 => text,
        // Without an offset a time is UTC; the cast to a zone of its own would read it so, too, but by another way.
        zoned @ DataType::Timestamp(unit @ TimeUnit::Nanosecond, Some(_)) => {
            cast(cast(text, DataType::Timestamp(*unit, None)), zoned.clone())
        }
        other => cast(text, other.clone()),
    })
}
