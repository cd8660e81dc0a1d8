//! From a job to a pinned dataset: every file found, pinned and opened, the query planned and held to what is
//! supported, before any row is read. What is wrong with the job is said here, in a second and not in an hour.

mod general;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use crate::dataset::{self, Dataset, FORMAT, Source, View};
use crate::error::DataError;
use crate::job::{Job, JobError};
use crate::rowwise::Rowwise;
use crate::sql::{self, Query, QueryShape, TableShape, ViewText};
use crate::stores::Stores;
use crate::table::{self, OpenTable};
use crate::types::{self, ColumnSpec};

pub(crate) use general::General;

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
    /// What the query engine needs, where it computes the rows.
    pub(crate) general: Option<Arc<General>>,
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
    /// The query engine computes the rows and writes them ([`crate::engine::Queries::prepare`]).
    Query,
}

/// Plans the data of a job. `now_ns` is the job's time in nanoseconds since 1970.
pub async fn plan(job: &Job, stores: &Stores, now_ns: i64) -> Result<Planned, DataError> {
    let Some(last) = job.tables.last() else { return Err(JobError::at("tables", "the job has no tables").into()) };
    let (mut open, mut views) = (Vec::new(), Vec::new());
    for (i, table) in job.tables.iter().enumerate() {
        if job.tables[..i].iter().any(|t| t.name == table.name) {
            return Err(JobError::at(format!("tables.{}", table.name), "the table name stands twice").into());
        }
        match &table.sql {
            Some(sql) => views.push(View { name: table.name.clone(), sql: sql.clone() }),
            None => open.push((table.name.clone(), table::open(stores, table).await?)),
        }
    }
    let (path, text) = match &job.prepare {
        Some(text) => ("prepare".to_owned(), text.clone()),
        None => (format!("tables.{}", last.name), sql::whole_table(&last.name)),
    };
    let shapes: Vec<_> = open.iter().map(|(name, table)| shape(name, table)).collect();
    let session = stores.session(now_ns);
    let texts = sql::view_texts(&views);
    let query = sql::plan(&session, &shapes, &texts, &text, &job.params, now_ns, &path).await?.unordered(&path);
    if query.tables.is_empty() {
        return Err(JobError::at(path, "the query reads no table of the job").hint("SELECT … FROM one of `tables`").into());
    }
    let reached = |view: ViewText| View { name: view.name, sql: view.sql };
    let views: Vec<View> = sql::reached(&texts, &text).into_iter().map(reached).collect();
    let read = match &query.shape {
        // Rows of a query must come to stand side by side: workers exchange them.
        QueryShape::RowWise { table, .. } if job.columns.query.is_none() => Some(table),
        _ => None,
    };
    let Some(read) = read else {
        return general::plan(job, stores, open, views, General { text, path, params: job.params.clone(), now_ns }, &query).await;
    };
    let used = open.iter().position(|(name, _)| name == read).expect("the query reads a table of the job");
    let (_, table) = open.swap_remove(used);
    let compiled = compile(&session, &query, &table, &path)?;
    check_key(job, &compiled.schema)?;
    let dataset = document(job, &query, &compiled, (read, table), views, now_ns)?;
    let needs = match (&dataset.source, query.filtered()) {
        (Source::Csv(_), _) => Needs::Materialise,
        (_, true) => Needs::Count,
        (_, false) => Needs::Nothing,
    };
    dataset.check_rows()?;
    let explain = explain(&dataset, &session, &query, &compiled, needs);
    let warnings = [query.warnings.clone(), warnings(job, &query, dataset.key.is_empty(), needs)].concat();
    Ok(Planned { schema: Arc::clone(&compiled.schema), dataset, needs, explain, warnings, now_ns, general: None })
}

fn shape(name: &str, table: &OpenTable) -> TableShape {
    TableShape { name: name.to_owned(), schema: table::planning_schema(&table.columns), provider: None }
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

fn document(
    job: &Job,
    query: &Query,
    compiled: &Rowwise,
    (read, table): (&str, OpenTable),
    views: Vec<View>,
    now_ns: i64,
) -> Result<Dataset, DataError> {
    let params = job.params.iter().filter(|(name, _)| query.params.contains(*name));
    Ok(Dataset {
        format: FORMAT,
        table: read.to_owned(),
        counted: !query.filtered(),
        source: table.source,
        files: table.files,
        table_columns: table.columns,
        sql: job.prepare.clone(),
        views,
        params: params.map(|(name, value)| (name.clone(), value.clone())).collect(),
        now_ns: query.uses_now.then_some(now_ns),
        columns: specs(&compiled.schema),
        key: job.columns.key.clone(),
        query: None,
        shard_rows: shard_rows(job, &compiled.schema)?,
        units: table.units,
        origin: None,
    })
}

fn specs(schema: &SchemaRef) -> Vec<ColumnSpec> {
    schema.fields().iter().map(|f| ColumnSpec { name: f.name().clone(), kind: types::name(f.data_type()) }).collect()
}

fn shard_rows(job: &Job, schema: &SchemaRef) -> Result<u32, JobError> {
    match job.shard_rows {
        Some(0) => Err(JobError::at("shard_rows", "a shard has at least one row")),
        Some(rows) => Ok(rows),
        None => Ok(dataset::shard_rows(schema)),
    }
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
        Needs::Materialise | Needs::Query => "materialised: the rows are written once in canonical order",
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

fn warnings(job: &Job, query: &Query, keyless: bool, needs: Needs) -> Vec<String> {
    let mut found = Vec::new();
    for table in job.tables.iter().filter(|t| t.sql.is_none() && !query.tables.contains(&t.name)) {
        found.push(format!("tables.{}: the query does not read this table", table.name));
    }
    let by_row = job.split.is_some() && job.columns.query.is_none();
    if matches!(needs, Needs::Materialise | Needs::Query) && keyless && by_row {
        found.push(MATERIALISED_SPLIT_WARNING.to_owned());
    }
    found
}
