//! A row-wise query, compiled: which columns of the table it reads, and the filters and projections that turn a
//! batch of them into prepared columns. Every worker compiles the same query to the same steps.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{CastOptions, cast_with_options, filter, filter_record_batch, prep_null_mask_filter};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::{Column, DFSchema, DataFusionError};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion::prelude::SessionContext;

use crate::error::DataError;
use crate::job::JobError;
use crate::{rowid, sql, types};

/// Rows of a source batch. Batches are cut at multiples of it from the start of their load unit, whatever
/// part of the unit is read, so that a batch-wise evaluation sees the same batches everywhere.
pub(crate) const BATCH_ROWS: usize = 8192;

/// A compiled query.
#[derive(Debug)]
pub(crate) struct Rowwise {
    /// Columns of the table that it reads, by index, in the order in which it takes them.
    pub(crate) source: Vec<usize>,
    input: SchemaRef,
    steps: Vec<Step>,
    /// Prepared columns that it gives.
    pub(crate) schema: SchemaRef,
}

#[derive(Debug)]
enum Step {
    Filter(Arc<dyn PhysicalExpr>),
    Project(Vec<Arc<dyn PhysicalExpr>>, SchemaRef),
}

/// What a batch became.
#[derive(Debug)]
pub(crate) struct Evaluated {
    /// Prepared columns of the rows that were kept.
    pub(crate) batch: RecordBatch,
    /// Position of each kept row in the source batch.
    pub(crate) kept: UInt32Array,
}

impl Rowwise {
    /// Compiles a plan that [`sql::plan`] let through. `columns`: the prepared columns wanted, all if absent.
    pub(crate) fn compile(
        session: &SessionContext,
        plan: &LogicalPlan,
        columns: Option<&[String]>,
        path: &str,
    ) -> Result<Self, DataError> {
        let failed = |e: DataFusionError| DataError::Job(JobError::at(path, sql::message(&e)));
        let plan = match columns {
            None => plan.clone(),
            Some(names) => narrow(plan, names).map_err(failed)?,
        };
        let plan = session.state().optimize(&plan).map_err(failed)?;
        let mut compiled = Self {
            source: Vec::new(),
            input: Arc::new(Schema::empty()),
            steps: Vec::new(),
            schema: prepared_schema(plan.schema().as_arrow(), path)?,
        };
        compiled.add(&plan, path).map_err(|e| match e {
            Compile::Query(e) => failed(e),
            Compile::Job(e) => DataError::Job(e),
        })?;
        Ok(compiled)
    }

    /// A query that takes columns as they are.
    pub(crate) fn identity(source: Vec<usize>, schema: SchemaRef) -> Self {
        Self { source, input: Arc::clone(&schema), steps: Vec::new(), schema }
    }

    /// True where rows may be dropped.
    pub(crate) fn filters(&self) -> bool {
        self.steps.iter().any(|s| matches!(s, Step::Filter(_)))
    }

    /// Computes the prepared columns of `rows` rows whose columns stand in the order of `source`, as the table types them.
    pub(crate) fn evaluate(&self, columns: Vec<ArrayRef>, rows: usize) -> Result<Evaluated, DataFusionError> {
        let mut batch = batch(&self.input, columns, rows)?;
        let mut kept = UInt32Array::from_iter_values(0..rows as u32);
        for step in &self.steps {
            match step {
                Step::Filter(predicate) => {
                    let mask = mask(predicate.as_ref(), &batch)?;
                    batch = filter_record_batch(&batch, &mask)?;
                    let rows = filter(&kept, &mask)?;
                    kept = rows.as_any().downcast_ref::<UInt32Array>().expect("filter keeps the type").clone();
                }
                Step::Project(exprs, schema) => {
                    let rows = batch.num_rows();
                    let evaluate = |e: &Arc<dyn PhysicalExpr>| e.evaluate(&batch)?.into_array(rows);
                    let columns = exprs.iter().map(evaluate).collect::<Result<Vec<_>, _>>()?;
                    batch = self::batch(schema, columns, rows)?;
                }
            }
        }
        Ok(Evaluated { batch: as_prepared(&batch, &self.schema)?, kept })
    }

    fn add(&mut self, plan: &LogicalPlan, path: &str) -> Result<(), Compile> {
        match plan {
            LogicalPlan::SubqueryAlias(alias) => self.add(&alias.input, path),
            LogicalPlan::Filter(node) => {
                self.add(&node.input, path)?;
                self.steps.push(Step::Filter(physical(&node.predicate, node.input.schema())?));
                Ok(())
            }
            LogicalPlan::Projection(node) => {
                self.add(&node.input, path)?;
                let compile = |e: &Expr| physical(e, node.input.schema());
                let exprs = node.expr.iter().map(compile).collect::<Result<Vec<_>, _>>()?;
                self.steps.push(Step::Project(exprs, nullable(node.schema.as_arrow())));
                Ok(())
            }
            LogicalPlan::TableScan(scan) if scan.filters.is_empty() && scan.fetch.is_none() => {
                let all = scan.source.schema().fields().len();
                self.source = scan.projection.clone().unwrap_or_else(|| (0..all).collect());
                self.input = nullable(scan.projected_schema.as_arrow());
                Ok(())
            }
            LogicalPlan::EmptyRelation(_) => Err(Compile::Job(
                JobError::at(path, "the query gives no rows: its condition is never true").hint("change the WHERE clause"),
            )),
            other => Err(Compile::Query(DataFusionError::NotImplemented(format!("{} is not row-wise", other.display())))),
        }
    }
}

enum Compile {
    Query(DataFusionError),
    Job(JobError),
}

impl From<DataFusionError> for Compile {
    fn from(error: DataFusionError) -> Self {
        Compile::Query(error)
    }
}

/// Rows of a query with the types that prepared rows have.
pub(crate) fn as_prepared(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, DataFusionError> {
    let cast = |(array, field): (&ArrayRef, &Arc<Field>)| cast_strict(array, field.data_type());
    let columns = rows.columns().iter().zip(schema.fields()).map(cast).collect::<Result<Vec<_>, _>>()?;
    batch(schema, columns, rows.num_rows())
}

/// Casts without turning what does not fit into nulls.
pub(crate) fn cast_strict(array: &ArrayRef, to: &arrow::datatypes::DataType) -> Result<ArrayRef, DataFusionError> {
    if array.data_type() == to {
        return Ok(Arc::clone(array));
    }
    Ok(cast_with_options(array, to, &CastOptions { safe: false, ..Default::default() })?)
}

/// A batch that may have no columns.
pub(crate) fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, DataFusionError> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

fn mask(predicate: &dyn PhysicalExpr, batch: &RecordBatch) -> Result<BooleanArray, DataFusionError> {
    let value = predicate.evaluate(batch)?.into_array(batch.num_rows())?;
    let mask = value.as_any().downcast_ref::<BooleanArray>();
    let mask = mask.ok_or_else(|| DataFusionError::Plan("the condition is not a truth value".to_owned()))?;
    Ok(if mask.null_count() > 0 { prep_null_mask_filter(mask) } else { mask.clone() })
}

fn physical(expr: &Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>, DataFusionError> {
    create_physical_expr(expr, schema, &Default::default(), &PhysicalPlanningContext::default())
}

/// Keeps some columns of a plan; the optimiser then drops what only the others need.
fn narrow(plan: &LogicalPlan, names: &[String]) -> Result<LogicalPlan, DataFusionError> {
    let schema = plan.schema();
    let column = |name: &String| {
        let index = schema.fields().iter().position(|f| f.name() == name);
        let index = index.ok_or_else(|| DataFusionError::Plan(format!("prepared column `{name}` not found")))?;
        Ok(Expr::Column(Column::from(schema.qualified_field(index))))
    };
    let columns = names.iter().map(column).collect::<Result<Vec<_>, DataFusionError>>()?;
    match columns.is_empty() {
        // A projection without columns would leave nothing that knows the number of rows.
        true => LogicalPlanBuilder::from(plan.clone()).project([datafusion::prelude::lit(true).alias("row")])?.build(),
        false => LogicalPlanBuilder::from(plan.clone()).project(columns)?.build(),
    }
}

fn nullable(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().map(|f| Field::new(f.name(), f.data_type().clone(), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Columns of prepared rows for those that a query gives.
pub(crate) fn prepared_schema(given: &Schema, path: &str) -> Result<SchemaRef, JobError> {
    let field = |field: &Arc<Field>| match types::prepared_type(field.data_type()) {
        Some(data_type) => Ok(Field::new(field.name(), data_type, true)),
        None => Err(JobError::at(
            path,
            format!("column `{}` has the type {}, which is not supported", field.name(), field.data_type()),
        )
        .hint("leave it out of the SELECT or CAST it to a number, text, boolean, date or timestamp")),
    };
    let fields = given.fields().iter().map(field).collect::<Result<Vec<_>, _>>()?;
    for (i, field) in fields.iter().enumerate() {
        if field.name() == rowid::ROW_ID {
            return Err(JobError::at(path, format!("the column name `{}` is reserved", rowid::ROW_ID)).hint("rename it with AS"));
        }
        if fields[..i].iter().any(|f| f.name() == field.name()) {
            return Err(JobError::at(path, format!("column `{}` stands twice in the result", field.name()))
                .hint("name one of them with AS"));
        }
    }
    Ok(Arc::new(Schema::new(fields)))
}
