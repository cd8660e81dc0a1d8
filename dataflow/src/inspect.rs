//! A look at a table as jobs would read it: its columns, files and sizes, and its first rows. Nothing is planned and
//! no cluster is asked; delimited text is read once as a whole, since its types depend on all of it.

use datafusion::common::Column;
use datafusion::execution::SessionStateBuilder;
use datafusion::logical_expr::Expr;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;
use serde::Serialize;

use crate::dataset::Source;
use crate::error::DataError;
use crate::job::{Format, Table};
use crate::query::{QueryRows, Rows, failure};
use crate::stores::Stores;
use crate::table::{self, OpenTable};
use crate::{scan, types};

/// What a table is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableInfo {
    /// How its files are written.
    pub format: Format,
    /// Number of files.
    pub files: usize,
    /// Rows of all files.
    pub rows: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Row groups of all files; absent for text.
    pub row_groups: Option<usize>,
    /// Columns in order.
    pub columns: Vec<ColumnInfo>,
}

/// What a column is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ColumnInfo {
    /// Its name.
    pub name: String,
    /// Name of its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Nulls, where the files tell.
    pub nulls: Option<u64>,
    /// False for types that no query can read.
    pub readable: bool,
}

/// The first rows of a table.
#[derive(Debug)]
pub struct Head {
    /// The rows, in the order of files and of rows in them; columns that no query can read are left out.
    pub rows: QueryRows,
    /// The columns left out.
    pub unreadable: Vec<ColumnInfo>,
}

/// Finds and opens the files of a table, and says what it is.
pub async fn inspect(stores: &Stores, table: &Table) -> Result<TableInfo, DataError> {
    let open = table::open(stores, table).await?;
    let (format, row_groups) = match open.source {
        Source::Csv(_) => (Format::Csv, None),
        Source::Parquet | Source::Sink | Source::Query(_) => (Format::Parquet, Some(open.units.len())),
    };
    Ok(TableInfo {
        format,
        files: open.files.len(),
        rows: open.units.iter().fold(0, |rows, unit| u64::saturating_add(rows, unit.source_rows)),
        bytes: open.files.iter().map(|file| file.size).sum(),
        row_groups,
        columns: columns(&open),
    })
}

/// The first rows of a table.
pub async fn head(stores: &Stores, table: &Table, rows: usize) -> Result<Head, DataError> {
    let open = table::open(stores, table).await?;
    let provider = scan::provider(stores, &table.name, &open)?;
    let (readable, unreadable): (Vec<_>, Vec<_>) = columns(&open).into_iter().partition(|column| column.readable);
    let names = readable.iter().map(|column| Expr::from(Column::from_name(&column.name)));
    let frame = session(stores)
        .read_table(provider)
        .and_then(|frame| frame.select(names.collect::<Vec<_>>()))
        .and_then(|f| f.limit(0, Some(rows)));
    let frame = frame.map_err(|e| failure(&e))?;
    let stream = frame.execute_stream().await.map_err(|e| failure(&e))?;
    let schema = stream.schema();
    let rows: Rows = Box::pin(stream.map_err(|e| failure(&e)));
    Ok(Head { rows: QueryRows { schema, rows, warnings: Vec::new() }, unreadable })
}

/// One part, so that rows come in order; no more rows at once than a few.
fn session(stores: &Stores) -> SessionContext {
    let state = stores.session(0).state();
    let config = state.config().clone().with_target_partitions(1).with_batch_size(1024);
    SessionContext::new_with_state(SessionStateBuilder::new_from_existing(state).with_config(config).build())
}

fn columns(open: &OpenTable) -> Vec<ColumnInfo> {
    let info = |(column, nulls): (&types::ColumnSpec, Option<u64>)| ColumnInfo {
        name: column.name.clone(),
        kind: column.kind.clone(),
        nulls,
        readable: types::parse(&column.kind).is_some_and(|kind| !kind.is_null()),
    };
    open.columns.iter().zip(open.facts.nulls(open.columns.len())).map(info).collect()
}
