//! Queries that are more than row-wise: what the query engine is given to compute them, checked before anything runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, col};
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;

use super::{Needs, Planned, check_key, shard_rows, specs, warnings};
use crate::dataset::{Dataset, FORMAT, QueryTable, Source, View};
use crate::error::DataError;
use crate::job::{Job, JobError, Param};
use crate::sql::{self, Query, TableShape};
use crate::stores::Stores;
use crate::table::{self, OpenTable};
use crate::{queries, rowwise, scan, sink};

/// A query as text, with everything that gives it its meaning but the tables.
#[derive(Debug)]
pub(crate) struct General {
    pub(super) text: String,
    pub(super) path: String,
    pub(super) params: BTreeMap<String, Param>,
    pub(super) now_ns: i64,
}

impl General {
    /// The job's time, nanoseconds since 1970.
    pub(crate) fn now_ns(&self) -> i64 {
        self.now_ns
    }

    /// Plans the query in a session, over tables that can be read; columns come out as prepared ones.
    pub(crate) async fn plan(
        &self,
        session: &SessionContext,
        stores: &Stores,
        dataset: &Dataset,
    ) -> Result<LogicalPlan, DataError> {
        let Source::Query(tables) = &dataset.source else {
            return Err(DataError::internal("prepare", "the dataset is not a query"));
        };
        let mut open = Vec::with_capacity(tables.len());
        for table in tables {
            open.push((table.name.clone(), table::pinned(stores, table).await?));
        }
        self.over(session, stores, &open, &dataset.views).await.map(|(plan, _)| plan)
    }

    async fn over(
        &self,
        session: &SessionContext,
        stores: &Stores,
        tables: &[(String, OpenTable)],
        views: &[View],
    ) -> Result<(LogicalPlan, SchemaRef), DataError> {
        let shape = |(name, open): &(String, OpenTable)| -> Result<TableShape, DataError> {
            let provider = Some(scan::provider(stores, name, open)?);
            Ok(TableShape { name: name.clone(), schema: table::planning_schema(&open.columns), provider })
        };
        let shapes = tables.iter().map(shape).collect::<Result<Vec<_>, _>>()?;
        let views = sql::view_texts(views);
        let query = sql::plan(session, &shapes, &views, &self.text, &self.params, self.now_ns, &self.path).await?;
        let plan = query.unordered(&self.path).plan;
        let schema = rowwise::prepared_schema(plan.schema().as_arrow(), &self.path)?;
        if schema.fields().is_empty() {
            return Err(JobError::at(&self.path, "the query gives no columns").into());
        }
        Ok((self.prepared(plan, &schema)?, schema))
    }

    /// The plan with each column in its prepared type, under its bare name.
    fn prepared(&self, plan: LogicalPlan, schema: &SchemaRef) -> Result<LogicalPlan, DataError> {
        let failed = |e| DataError::Job(JobError::at(&self.path, sql::message(&e)));
        let given = Arc::clone(plan.schema());
        let columns = given.columns().into_iter().zip(schema.fields()).map(|(column, field)| {
            let name = column.name.clone();
            Ok(datafusion::logical_expr::ExprSchemable::cast_to(col(column), field.data_type(), &given)?.alias(name))
        });
        let columns = columns.collect::<Result<Vec<_>, datafusion::common::DataFusionError>>().map_err(failed)?;
        LogicalPlanBuilder::from(plan).project(columns).and_then(LogicalPlanBuilder::build).map_err(failed)
    }
}

impl Planned {
    /// Computes the rows of a query in this process and writes them below a folder; what the query engine does with a
    /// cluster.
    pub async fn materialise_here(&self, stores: &Stores, area: &str) -> Result<Dataset, DataError> {
        let general = self.general.as_ref().ok_or_else(|| DataError::internal("prepare", "no query was planned"))?;
        let session = stores.session(general.now_ns);
        let failed = |e| crate::query::failure(&e);
        let logical = general.plan(&session, stores, &self.dataset).await?;
        let plan = session.state().create_physical_plan(&logical).await.map_err(failed)?;
        let rows = execute_stream(plan, session.task_ctx()).map_err(failed)?;
        sink::materialise_rows(&self.dataset, stores, area, rows.map_err(|e| crate::query::failure(&e))).await
    }
}

/// Checks a general query, down to a plan that could run, and gives its dataset.
pub(super) async fn plan(
    job: &Job,
    stores: &Stores,
    open: Vec<(String, OpenTable)>,
    views: Vec<View>,
    general: General,
    query: &Query,
) -> Result<Planned, DataError> {
    let session = stores.session(general.now_ns);
    let (logical, schema) = general.over(&session, stores, &open, &views).await?;
    check_key(job, &schema)?;
    queries::check_column(job, &schema)?;
    let failed = |e| DataError::Job(JobError::at(&general.path, sql::message(&e)));
    let optimised = session.state().optimize(&logical).map_err(failed)?;
    session.state().create_physical_plan(&logical).await.map_err(failed)?;
    let read = |(name, _): &(String, OpenTable)| query.tables.contains(name);
    let tables: Vec<QueryTable> = open.into_iter().filter(read).map(|(name, table)| document(name, table)).collect();
    let explain = explain(&tables, &optimised);
    let params = general.params.iter().filter(|(name, _)| query.params.contains(*name));
    let dataset = Dataset {
        format: FORMAT,
        table: "prepared".to_owned(),
        source: Source::Query(tables),
        files: Vec::new(),
        table_columns: Vec::new(),
        sql: Some(general.text.clone()),
        views,
        params: params.map(|(name, value)| (name.clone(), value.clone())).collect(),
        now_ns: query.uses_now.then_some(general.now_ns),
        columns: specs(&schema),
        key: job.columns.key.clone(),
        query: job.columns.query.clone(),
        shard_rows: shard_rows(job, &schema)?,
        counted: true,
        units: Vec::new(),
        origin: None,
    };
    let warnings = [query.warnings.clone(), warnings(job, query, dataset.key.is_empty(), Needs::Query)].concat();
    let (now_ns, general) = (general.now_ns, Some(Arc::new(general)));
    Ok(Planned { schema, dataset, needs: Needs::Query, explain, warnings, now_ns, general })
}

fn document(name: String, table: OpenTable) -> QueryTable {
    let csv = match table.source {
        Source::Csv(options) => Some(options),
        Source::Parquet | Source::Sink | Source::Query(_) => None,
    };
    QueryTable { name, csv, files: table.files, columns: table.columns }
}

fn explain(tables: &[QueryTable], plan: &LogicalPlan) -> String {
    let mut text = String::new();
    for table in tables {
        let bytes: u64 = table.files.iter().map(|f| f.size).sum();
        text.push_str(&format!("table {}: {} files, {bytes} bytes\n", table.name, table.files.len()));
    }
    text.push_str("materialised: the query engine computes the rows, and they are written once in canonical order\n");
    text.push_str(&plan.display_indent().to_string());
    text
}
