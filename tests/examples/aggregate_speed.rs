//! Times aggregates over floats beside DataFusion's own, in one process and one thread: `cargo run --release -p
//! sheaf-tests --example aggregate_speed [ROWS]`. Seconds of CPU of a whole query over a table in memory, best of
//! three, and their ratio. A build without optimised Arrow says nothing.

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch};
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use sheaf_dataflow::stores::{StoreOptions, Stores};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const BATCH: usize = 8192;
const REPEATS: usize = 3;
/// Rows of the table whose windows are timed.
const WINDOW_ROWS: usize = 1_000_000;

fn main() -> Result<()> {
    let rows = std::env::args().nth(1).map_or(Ok(10_000_000), |n| n.parse())?;
    let exact = Stores::new(StoreOptions::default())?.session(0);
    let own = SessionContext::new_with_config(exact.copied_config());
    let batches = table(rows)?;
    for context in [&exact, &own] {
        let whole = MemTable::try_new(batches[0].schema(), vec![batches.clone()])?;
        context.register_table("t", Arc::new(whole))?;
        let few = batches[..batches.len().min(WINDOW_ROWS / BATCH)].to_vec();
        context.register_table("w", Arc::new(MemTable::try_new(batches[0].schema(), vec![few])?))?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    println!("CPU seconds over {rows} rows            exact     own   ratio");
    for (name, sql) in queries() {
        let time = |context: &SessionContext| -> Result<f64> {
            let times: Result<Vec<f64>> = (0..REPEATS).map(|_| runtime.block_on(run(context, &sql))).collect();
            Ok(times?.into_iter().fold(f64::INFINITY, f64::min))
        };
        let (ours, theirs) = (time(&exact)?, time(&own)?);
        println!("{name:38} {ours:7.3} {theirs:7.3} {:7.2}", ours / theirs);
    }
    Ok(())
}

fn queries() -> Vec<(String, String)> {
    let functions = ["sum(x)", "avg(x)", "var(x)", "stddev(x)", "covar(y, x)", "corr(y, x)", "regr_slope(y, x)"];
    let groups = [("", ""), ("few", " GROUP BY few"), ("many", " GROUP BY many")];
    let mut queries = Vec::new();
    for (by, clause) in groups {
        queries.extend(functions.map(|f| (format!("{f} {by}"), format!("SELECT {f} FROM t{clause}"))));
        queries.push((format!("count(x) {by}"), format!("SELECT count(x) FROM t{clause}")));
    }
    let windows = functions.map(|f| {
        let sql = format!("SELECT {f} OVER (ORDER BY i ROWS 100 PRECEDING) FROM w");
        (format!("{f} ROWS 100 PRECEDING"), sql)
    });
    queries.extend(windows);
    queries
}

/// Rows in the order of `i`, in 10 groups (`few`) and in 100,000 (`many`).
fn table(rows: usize) -> Result<Vec<RecordBatch>> {
    let mut state = 7u64;
    let mut draw = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 11
    };
    let unit = 1.0 / (1u64 << 53) as f64;
    let starts = (0..rows).step_by(BATCH);
    starts
        .map(|start| {
            let range = start..(start + BATCH).min(rows);
            let x: Vec<f64> = range.clone().map(|_| (draw() as f64 * unit - 0.3) * 1000.0).collect();
            let y: Vec<f64> = x.iter().map(|x| 2.0 * x + draw() as f64 * unit * 10.0).collect();
            let mut groups = |n: u64| Arc::new(Int64Array::from_iter_values(range.clone().map(|_| (draw() % n) as i64)));
            let (few, many) = (groups(10), groups(100_000));
            let i = Int64Array::from_iter_values(range.clone().map(|i| i as i64));
            let columns: [(&str, ArrayRef); 5] = [
                ("i", Arc::new(i)),
                ("few", few),
                ("many", many),
                ("x", Arc::new(Float64Array::from(x))),
                ("y", Arc::new(Float64Array::from(y))),
            ];
            Ok(RecordBatch::try_from_iter(columns)?)
        })
        .collect()
}

/// CPU seconds of this thread for a query; wall time where the system does not say.
async fn run(context: &SessionContext, sql: &str) -> Result<f64> {
    let frame = context.sql(sql).await?;
    let (start, wall) = (cpu_seconds(), Instant::now());
    let results = frame.collect().await?;
    if results.is_empty() {
        return Err(format!("{sql} gave nothing").into());
    }
    Ok(match (start, cpu_seconds()) {
        (Some(start), Some(end)) => end - start,
        _ => wall.elapsed().as_secs_f64(),
    })
}

/// What the scheduler has given this thread so far (Linux).
fn cpu_seconds() -> Option<f64> {
    let times = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds: f64 = times.split_whitespace().next()?.parse().ok()?;
    Some(nanoseconds / 1e9)
}
