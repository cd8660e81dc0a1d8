//! From a job to a pinned dataset: every file found, pinned and opened, the query planned and held to what is
//! supported, before any row is read. What is wrong with the job is said here, in a second and not in an hour.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use crate::dataset::{self, Dataset, FORMAT, Source};
use crate::error::DataError;
use crate::job::{Job, JobError};
use crate::rowwise::Rowwise;
use crate::sql::{self, Query, TableShape};
use crate::stores::Stores;
use crate::table::{self, OpenTable};
use crate::types::{self, ColumnSpec};

/// What deserves attention where rows are materialised without a key and split: said here for delimited text, and
/// by whoever counts where a filter keeps so little that the rest is written once.
pub const MATERIALISED_SPLIT_WARNING: &str =
    "columns.key: without a key rows are known by their content; a changed value draws their part of the split again";

/// A job's data, planned.
#[derive(Debug, Clone)]
pub struct Planned {
    /// Prepared columns.
    pub schema: SchemaRef,
    /// The dataset; rows are those before filters until the needs are met.
    pub dataset: Dataset,
    /// What must happen before shards can be read.
    pub needs: Needs,
    /// The plan for people.
    pub explain: String,
    /// What deserves attention and does not stop the job.
    pub warnings: Vec<String>,
    /// The job's time, nanoseconds since 1970.
    pub now_ns: i64,
}

/// What must happen before the shards of a dataset can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: shards point into the files.
    Nothing,
    /// The rows that the filter keeps are counted per load unit ([`crate::reader::Reader::count`], [`Dataset::with_counts`]).
    Count,
    /// The rows are written once ([`crate::sink::materialise`]).
    Materialise,
}

/// Plans the data of a job. `now_ns` is the job's time in nanoseconds since 1970.
pub async fn plan(job: &Job, stores: &Stores, now_ns: i64) -> Result<Planned, DataError> {
    let Some(last) = job.tables.last() else { return Err(JobError::at("tables", "the job has no tables").into()) };
    let mut open = Vec::new();
    for (i, table) in job.tables.iter().enumerate() {
        if job.tables[..i].iter().any(|t| t.name == table.name) {
            return Err(JobError::at(format!("tables.{}", table.name), "the table name stands twice").into());
        }
        open.push(table::open(stores, table).await?);
    }
    let (path, text) = match &job.prepare {
        Some(text) => ("prepare".to_owned(), text.clone()),
        None => (format!("tables.{}", last.name), sql::whole_table(&last.name)),
    };
    let shape = |(table, open): (&crate::job::Table, &OpenTable)| TableShape {
        name: table.name.clone(),
        schema: table::planning_schema(&open.columns),
    };
    let shapes: Vec<_> = job.tables.iter().zip(&open).map(shape).collect();
    let session = stores.session(now_ns);
    let query = sql::plan(&session, &shapes, &text, &job.params, now_ns, &path).await?;
    let used = job.tables.iter().position(|t| t.name == query.table).expect("the query reads a table of the job");
    let table = open.swap_remove(used);
    let compiled = compile(&session, &query, &table, &path)?;
    check_key(job, &compiled.schema)?;
    let dataset = document(job, &query, &compiled, table, now_ns)?;
    let needs = match (&dataset.source, query.filtered) {
        (Source::Csv(_), _) => Needs::Materialise,
        (_, true) => Needs::Count,
        (_, false) => Needs::Nothing,
    };
    dataset.check_rows()?;
    let explain = explain(&dataset, &session, &query, &compiled, needs);
    let warnings = warnings(job, &dataset, needs);
    Ok(Planned { schema: Arc::clone(&compiled.schema), dataset, needs, explain, warnings, now_ns })
}

fn compile(
    session: &datafusion::prelude::SessionContext,
    query: &Query,
    table: &OpenTable,
    path: &str,
) -> Result<Rowwise, DataError> {
    // Opaque columns have the type null while planning; a query that gives one as it is says so first.
    let opaque = |name: &str| table.columns.iter().position(|c| c.name == name && types::parse(&c.kind).is_none());
    let fields = query.plan.schema().fields();
    let given: Vec<_> = fields.iter().filter(|f| f.data_type().is_null()).filter_map(|f| opaque(f.name())).collect();
    table::check_readable(&table.columns, &given, path)?;
    let compiled = Rowwise::compile(session, &query.plan, None, path)?;
    table::check_readable(&table.columns, &compiled.source, path)?;
    if compiled.schema.fields().is_empty() {
        return Err(JobError::at(path, "the query gives no columns").into());
    }
    Ok(compiled)
}

fn check_key(job: &Job, schema: &SchemaRef) -> Result<(), JobError> {
    for key in &job.columns.key {
        if schema.index_of(key).is_err() {
            let names: Vec<_> = schema.fields().iter().map(|f| f.name().as_str()).collect();
            let error = JobError::at("columns.key", format!("column `{key}` is not in the prepared rows"));
            return Err(error.hint(format!("prepared columns: {}", names.join(", "))));
        }
    }
    Ok(())
}

fn document(job: &Job, query: &Query, compiled: &Rowwise, table: OpenTable, now_ns: i64) -> Result<Dataset, DataError> {
    let shard_rows = match job.shard_rows {
        Some(0) => return Err(JobError::at("shard_rows", "a shard has at least one row").into()),
        Some(rows) => rows,
        None => dataset::shard_rows(&compiled.schema),
    };
    let spec = |f: &Arc<arrow::datatypes::Field>| ColumnSpec { name: f.name().clone(), kind: types::name(f.data_type()) };
    let params = job.params.iter().filter(|(name, _)| query.params.contains(*name));
    Ok(Dataset {
        format: FORMAT,
        table: query.table.clone(),
        counted: !query.filtered,
        source: table.source,
        files: table.files,
        table_columns: table.columns,
        sql: job.prepare.clone(),
        params: params.map(|(name, value)| (name.clone(), value.clone())).collect(),
        now_ns: query.uses_now.then_some(now_ns),
        columns: compiled.schema.fields().iter().map(spec).collect(),
        key: job.columns.key.clone(),
        shard_rows,
        units: table.units,
        origin: None,
    })
}

fn explain(
    dataset: &Dataset,
    session: &datafusion::prelude::SessionContext,
    query: &Query,
    compiled: &Rowwise,
    needs: Needs,
) -> String {
    let bytes: u64 = dataset.files.iter().map(|f| f.size).sum();
    let (files, units) = (dataset.files.len(), dataset.units.len());
    let how = match needs {
        Needs::Nothing => "pass-through: shards point into the files",
        Needs::Count => "pass-through with a filter: a counting pass comes first",
        Needs::Materialise => "materialised: the rows are written once in canonical order",
    };
    let reads: Vec<_> = compiled.source.iter().map(|i| dataset.table_columns[*i].name.as_str()).collect();
    // The plan was optimised once already; if that fails now, the one as written says as much.
    let plan = session.state().optimize(&query.plan).unwrap_or_else(|_| query.plan.clone());
    format!(
        "table {}: {files} files, {units} load units, {} rows, {bytes} bytes\n{how}\nreads {} of {} columns: {}\nshards of {} rows\n{}",
        dataset.table,
        dataset.rows(),
        reads.len(),
        dataset.table_columns.len(),
        reads.join(", "),
        dataset.shard_rows,
        plan.display_indent(),
    )
}

fn warnings(job: &Job, dataset: &Dataset, needs: Needs) -> Vec<String> {
    let mut found = Vec::new();
    for table in job.tables.iter().filter(|t| t.name != dataset.table) {
        found.push(format!("tables.{}: the query does not read this table", table.name));
    }
    if needs == Needs::Materialise && dataset.key.is_empty() && job.split.is_some() {
        found.push(MATERIALISED_SPLIT_WARNING.to_owned());
    }
    found
}
