//! Our aggregates in SQL: beside DataFusion's own, over other partitions and orders of the same rows, in windows.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, UInt64Array};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Float64Type};
use datafusion::datasource::MemTable;
use datafusion::logical_expr::EmitTo;
use datafusion::physical_plan::collect;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_proto::bytes::{physical_plan_from_bytes, physical_plan_to_bytes};
use sheaf_learn::reproducible::{Fit, Pair, Spread, Sums, Total};

use super::groups::NewGroups;
use super::statistic::Statistic;
use super::*;

/// Every statistic over the columns `y` and `x`.
const ALL: [&str; 21] = [
    "sum(x)",
    "avg(x)",
    "mean(y)",
    "var(x)",
    "var_samp(y)",
    "var_pop(x)",
    "stddev(x)",
    "stddev_samp(y)",
    "stddev_pop(x)",
    "covar(y, x)",
    "covar_samp(y, x)",
    "covar_pop(y, x)",
    "corr(y, x)",
    "regr_slope(y, x)",
    "regr_intercept(y, x)",
    "regr_r2(y, x)",
    "regr_avgx(y, x)",
    "regr_avgy(y, x)",
    "regr_sxx(y, x)",
    "regr_syy(y, x)",
    "regr_sxy(y, x)",
];

fn session(partitions: usize, change: impl FnOnce(SessionConfig) -> SessionConfig) -> SessionContext {
    let config = SessionConfig::new().with_target_partitions(partitions).with_batch_size(64);
    SessionContext::new_with_config(change(config))
}

fn ours(context: SessionContext) -> SessionContext {
    aggregates().into_iter().for_each(|f| context.register_udaf(Arc::unwrap_or_clone(f)));
    context
}

/// Random rows: group, x and y with nulls, in magnitudes that differ, so that other orders round otherwise.
fn rows(count: usize, groups: u64, seed: u64) -> RecordBatch {
    let mut state = seed;
    let mut draw = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    let (mut g, mut x, mut y) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..count {
        g.push((draw() % groups) as i64);
        let value = (draw() as f64 / 1e6 - 1000.0) * 2f64.powi((draw() % 24) as i32 - 12);
        x.push((!draw().is_multiple_of(17)).then_some(value));
        y.push((!draw().is_multiple_of(13)).then_some(0.5 * value + draw() as f64 / 1e7));
    }
    let columns: [(&str, ArrayRef); 4] = [
        ("i", Arc::new(Int64Array::from_iter_values(0..count as i64))),
        ("g", Arc::new(Int64Array::from(g))),
        ("x", Arc::new(Float64Array::from(x))),
        ("y", Arc::new(Float64Array::from(y))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(n, a)| (n, a, true))).unwrap()
}

/// The rows in another order, in many batches and some partitions.
fn scattered(batch: &RecordBatch, seed: usize, partitions: usize) -> MemTable {
    let size = 30 + 7 * seed;
    let mut pieces: Vec<RecordBatch> =
        (0..batch.num_rows()).step_by(size).map(|at| batch.slice(at, size.min(batch.num_rows() - at))).collect();
    let length = pieces.len();
    (0..length).for_each(|i| pieces.swap(i, (i * 7 + seed * 13) % length));
    let mut parts = vec![Vec::new(); partitions];
    pieces.into_iter().enumerate().for_each(|(i, piece)| parts[i % partitions].push(piece));
    MemTable::try_new(batch.schema(), parts).unwrap()
}

async fn query(context: &SessionContext, table: MemTable, sql: &str) -> RecordBatch {
    context.register_table("t", Arc::new(table)).unwrap();
    let batches = context.sql(sql).await.unwrap().collect().await.unwrap();
    context.deregister_table("t").unwrap();
    concat_batches(&batches[0].schema(), &batches).unwrap()
}

fn single(batch: &RecordBatch) -> MemTable {
    MemTable::try_new(batch.schema(), vec![vec![batch.clone()]]).unwrap()
}

fn bits(batch: &RecordBatch) -> Vec<Vec<Option<u64>>> {
    let column = |c: &ArrayRef| match c.data_type() {
        DataType::Float64 => c.as_primitive::<Float64Type>().iter().map(|x| x.map(f64::to_bits)).collect(),
        _ => cast(c, &DataType::Float64).unwrap().as_primitive::<Float64Type>().iter().map(|x| x.map(f64::to_bits)).collect(),
    };
    batch.columns().iter().map(column).collect()
}

fn select_all() -> String {
    let columns = ALL.iter().enumerate().map(|(i, f)| format!("{f} AS a{i}, {f} FILTER (WHERE i % 3 = 0) AS b{i}"));
    columns.collect::<Vec<_>>().join(", ")
}

#[tokio::test]
async fn results_are_datafusions_to_rounding() {
    let batch = rows(3000, 12, 1);
    for sql in [format!("SELECT {} FROM t", select_all()), format!("SELECT g, {} FROM t GROUP BY g ORDER BY g", select_all())] {
        let expected = query(&session(1, |c| c), single(&batch), &sql).await;
        let found = query(&ours(session(4, |c| c)), scattered(&batch, 2, 3), &sql).await;
        assert_eq!(found.schema(), expected.schema(), "names, types and nulls are DataFusion's");
        for ((a, b), field) in found.columns().iter().zip(expected.columns()).zip(found.schema().fields()) {
            let (a, b) = (cast(a, &DataType::Float64).unwrap(), cast(b, &DataType::Float64).unwrap());
            for (a, b) in a.as_primitive::<Float64Type>().iter().zip(b.as_primitive::<Float64Type>()) {
                let (a, b) = (a.unwrap(), b.unwrap());
                assert!((a - b).abs() <= 1e-9 * b.abs().max(1e-3), "{}: {a:e} and {b:e}", field.name());
            }
        }
    }
}

#[tokio::test]
async fn bits_do_not_depend_on_order_and_partitions() {
    let batch = rows(4000, 900, 2);
    let sqls = [format!("SELECT {} FROM t", select_all()), format!("SELECT g, {} FROM t GROUP BY g ORDER BY g", select_all())];
    for sql in &sqls {
        let expected = bits(&query(&ours(session(1, |c| c)), single(&batch), sql).await);
        for (partitions, parts) in [(1, 1), (3, 2), (8, 8)] {
            let found = query(&ours(session(partitions, |c| c)), scattered(&batch, partitions, parts), sql).await;
            assert_eq!(bits(&found), expected, "{partitions} partitions");
        }
        // A partial aggregation that gives up and hands every row on as a state.
        let skipping = ours(session(4, |c| {
            c.set_u64("datafusion.execution.skip_partial_aggregation_probe_rows_threshold", 100)
                .set_str("datafusion.execution.skip_partial_aggregation_probe_ratio_threshold", "0.01")
        }));
        assert_eq!(bits(&query(&skipping, scattered(&batch, 5, 4), sql).await), expected, "partial aggregation skipped");
        // Input that is sorted by group: results are emitted as groups end.
        let sorted = sql.replace("FROM t", "FROM (SELECT * FROM t ORDER BY g)");
        assert_eq!(bits(&query(&ours(session(1, |c| c)), scattered(&batch, 4, 2), &sorted).await), expected, "sorted");
    }
    // DataFusion's own differ here, or these tests would show nothing.
    let plain = |seed| {
        let batch = &batch;
        async move { bits(&query(&session(8, |c| c), scattered(batch, seed, 8), "SELECT sum(x), var(x), corr(y, x) FROM t").await) }
    };
    assert_ne!(plain(1).await, plain(3).await);
}

/// Rows of a window's columns `[y, x]` without nulls.
fn frame(batch: &RecordBatch, range: Range<usize>) -> Vec<[f64; 2]> {
    let (y, x) = (batch.column(3).as_primitive::<Float64Type>(), batch.column(2).as_primitive::<Float64Type>());
    range.filter(|i| y.is_valid(*i) && x.is_valid(*i)).map(|i| [y.value(i), x.value(i)]).collect()
}

fn of<const C: usize, S: Sums<C>>(rows: impl IntoIterator<Item = [f64; C]>) -> S {
    let mut sums = S::default();
    rows.into_iter().for_each(|row| {
        sums.add(row);
    });
    sums
}

#[tokio::test]
async fn a_window_frame_gives_what_its_rows_alone_give() {
    let plain = rows(400, 3, 3);
    // Infinities and NaN come and go.
    let odd = |column: usize, at: [usize; 3]| {
        let values = plain.column(column).as_primitive::<Float64Type>().iter().enumerate().map(|(i, x)| match i {
            _ if i == at[0] => Some(f64::INFINITY),
            _ if i == at[1] => Some(f64::NEG_INFINITY),
            _ if i == at[2] => Some(f64::NAN),
            _ => x,
        });
        Arc::new(values.collect::<Float64Array>()) as ArrayRef
    };
    let columns = vec![plain.column(0).clone(), plain.column(1).clone(), odd(2, [50, 53, 90]), odd(3, [53, 120, 150])];
    let batch = RecordBatch::try_new(plain.schema(), columns).unwrap();
    let over = "OVER (ORDER BY i ROWS BETWEEN 9 PRECEDING AND 4 FOLLOWING)";
    let functions = ["sum(x)", "avg(x)", "var(x)", "stddev_pop(x)", "covar_pop(y, x)", "corr(y, x)", "regr_slope(y, x)"];
    let sql = format!("SELECT {} FROM t ORDER BY i", functions.map(|f| format!("{f} {over}")).join(", "));
    let found = bits(&query(&ours(session(4, |c| c)), scattered(&batch, 1, 3), &sql).await);
    let x = batch.column(2).as_primitive::<Float64Type>();
    for i in 0..batch.num_rows() {
        let range = i.saturating_sub(9)..(i + 5).min(batch.num_rows());
        let own = || range.clone().filter(|i| x.is_valid(*i)).map(|i| [x.value(i)]);
        let (total, spread): (Total, Spread) = (of(own()), of(own()));
        let rows = frame(&batch, range.clone());
        let (pair, fit): (Pair, Fit) = (of(rows.clone()), of(rows));
        let direct = [
            total.sum(),
            total.mean(),
            spread.variance(true),
            spread.deviation(false),
            pair.covariance(false),
            fit.correlation(),
            fit.slope(),
        ];
        let found: Vec<Option<u64>> = found.iter().map(|column| column[i]).collect();
        assert_eq!(found, direct.map(|r| r.map(f64::to_bits)), "row {i}");
    }
}

#[tokio::test]
async fn windows_of_every_kind_repeat_their_bits() {
    let batch = rows(500, 5, 4);
    let frames = [
        "PARTITION BY g ORDER BY i",
        "PARTITION BY g",
        "ORDER BY i ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW",
        "ORDER BY i ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING",
        "PARTITION BY g ORDER BY i RANGE BETWEEN 20 PRECEDING AND 5 PRECEDING",
    ];
    for frame in frames {
        let columns = ALL.iter().enumerate().map(|(i, f)| format!("{f} FILTER (WHERE i % 5 <> 0) OVER ({frame}) AS a{i}"));
        let columns = columns.collect::<Vec<_>>().join(", ");
        let sql = format!("SELECT {columns} FROM t ORDER BY i");
        let expected = bits(&query(&ours(session(1, |c| c)), single(&batch), &sql).await);
        assert_eq!(bits(&query(&ours(session(8, |c| c)), scattered(&batch, 3, 4), &sql).await), expected, "{frame}");
    }
}

#[tokio::test]
async fn distinct_values_count_once() {
    let values = [1.5, 0.1, 1.5, -0.0, 0.0, f64::NAN, -f64::NAN, 0.1, 1e300, -1e300, 3.0, 7.0];
    let batch = RecordBatch::try_from_iter([
        ("g", Arc::new(Int64Array::from_iter_values((0..12).map(|i| i / 5))) as ArrayRef),
        ("x", Arc::new(Float64Array::from_iter_values(values)) as ArrayRef),
    ])
    .unwrap();
    // `count(g)` keeps the optimizer from rewriting the query as a grouping by x.
    let sql = "SELECT g, sum(DISTINCT x), avg(DISTINCT x), var(DISTINCT x), count(g) FROM t GROUP BY g ORDER BY g";
    let found = query(&ours(session(4, |c| c)), scattered(&batch, 0, 1), sql).await;
    let column = |c: usize| found.column(c).as_primitive::<Float64Type>().clone();
    assert_eq!(column(1).value(0), 1.6);
    assert_eq!(column(2).value(0), 1.6 / 3.0);
    assert!(column(1).value(1).is_nan() && column(3).value(1).is_nan());
    assert_eq!((column(1).value(2), column(2).value(2), column(3).value(2)), (10.0, 5.0, 8.0));
    let sliding = "SELECT sum(DISTINCT x) OVER (ORDER BY i ROWS 2 PRECEDING) FROM (VALUES (1, 0.1), (2, 0.1), (3, 5.0), \
                   (4, 5.0), (5, 5.0), (6, 0.1)) AS v (i, x)";
    let context = ours(session(1, |c| c));
    let found = context.sql(sliding).await.unwrap().collect().await.unwrap();
    let found: Vec<f64> = found[0].column(0).as_primitive::<Float64Type>().values().to_vec();
    assert_eq!(found, [0.1, 0.1, 5.1, 5.1, 5.0, 5.1]);
    let refused = context.sql("SELECT corr(DISTINCT i, i * i), count(i) FROM (VALUES (1.0), (2.0)) AS v (i)").await;
    let refused = match refused {
        Ok(frame) => frame.collect().await.unwrap_err(),
        Err(error) => error,
    };
    assert!(refused.to_string().contains("corr(DISTINCT y, x): take the distinct rows in a subquery"), "{refused}");
}

#[tokio::test]
async fn what_is_not_float_is_datafusions() {
    let own = session(2, |c| c);
    let exact = ours(session(2, |c| c));
    let from = "FROM (VALUES (1, 1.25, 10), (1, 2.5, 20), (2, 4.0, 30)) AS v (g, d, n)";
    let sql = format!(
        "SELECT g, sum(n), sum(n + 1), sum(arrow_cast(n, 'UInt8')), sum(CAST(d AS DECIMAL(10, 2))), avg(CAST(d AS DECIMAL(10, 2))), \
         sum(DISTINCT n), sum(arrow_cast(n, 'Duration(Second)')), avg(arrow_cast(n, 'Duration(Second)')), \
         avg(n), sum(arrow_cast(d, 'Float32')), regr_count(d, n) {from} GROUP BY g ORDER BY g"
    );
    let run = |context: SessionContext| {
        let sql = sql.clone();
        async move { context.sql(&sql).await.unwrap().collect().await.unwrap() }
    };
    let (expected, found) = (run(own).await, run(exact).await);
    assert_eq!(expected[0].schema(), found[0].schema());
    assert_eq!(concat_batches(&expected[0].schema(), &expected).unwrap(), concat_batches(&found[0].schema(), &found).unwrap());
}

#[tokio::test]
async fn nothing_rewrites_a_sum_of_floats() {
    let context = ours(session(2, |c| c));
    let batch = rows(100, 2, 5);
    let sql = "SELECT sum(x + 1.5), sum(x + 2.5), sum(i + 1), sum(i + 2) FROM t";
    context.register_table("t", Arc::new(single(&batch))).unwrap();
    let plan = context.sql(sql).await.unwrap().into_optimized_plan().unwrap().display_indent().to_string();
    assert!(plan.contains("sum(t.x + Float64(1.5))") && plan.contains("sum(t.i)"), "{plan}");
    context.deregister_table("t").unwrap();
    let found = query(&context, single(&batch), sql).await;
    let x = batch.column(2).as_primitive::<Float64Type>();
    let exact: Total = of(x.iter().flatten().map(|x| [x + 1.5]));
    assert_eq!(Some(found.column(0).as_primitive::<Float64Type>().value(0)), exact.sum());
}

#[tokio::test]
async fn a_plan_on_the_wire_finds_our_functions_again() {
    let batch = rows(500, 7, 6);
    let context = ours(session(3, |c| c));
    context.register_table("t", Arc::new(scattered(&batch, 1, 3))).unwrap();
    let sql = format!("SELECT g, {} FROM t GROUP BY g ORDER BY g", select_all());
    let plan = context.sql(&sql).await.unwrap().create_physical_plan().await.unwrap();
    let bytes = physical_plan_to_bytes(Arc::clone(&plan)).unwrap();
    let there = ours(session(3, |c| c));
    let sent = physical_plan_from_bytes(&bytes, &there.task_ctx()).unwrap();
    let [expected, found] = [(plan, context), (sent, there)].map(|(plan, context)| collect(plan, context.task_ctx()));
    let (expected, found) = (expected.await.unwrap(), found.await.unwrap());
    let whole = |batches: Vec<RecordBatch>| bits(&concat_batches(&batches[0].schema(), &batches).unwrap());
    assert_eq!(whole(found), whole(expected));
}

#[test]
fn every_aggregate_over_floats_is_ours_or_free_of_rounding() {
    /// Choices, counts, bits and texts: no arithmetic over floats. `percentile_cont` and `median` interpolate between
    /// two values of the sorted column; the approximate ones are a matter of the rules for SQL.
    const OTHERS: [&str; 22] = [
        "any_value",
        "approx_distinct",
        "approx_median",
        "approx_percentile_cont",
        "approx_percentile_cont_with_weight",
        "array_agg",
        "bit_and",
        "bit_or",
        "bit_xor",
        "bool_and",
        "bool_or",
        "count",
        "first_value",
        "grouping",
        "last_value",
        "max",
        "median",
        "min",
        "nth_value",
        "percentile_cont",
        "regr_count",
        "string_agg",
    ];
    let state = ours(session(1, |c| c)).state();
    let registered: &HashMap<String, Arc<AggregateUDF>> = state.aggregate_functions();
    for function in datafusion::functions_aggregate::all_default_aggregate_functions() {
        for name in std::iter::once(function.name()).chain(function.aliases().iter().map(String::as_str)) {
            let used = &registered[name];
            let covered = used.inner().is::<Reproducible>() || OTHERS.contains(&function.name());
            assert!(covered && used.name() == function.name(), "{name} is DataFusion's: replace it or show that it is exact");
        }
    }
}

#[test]
fn groups_are_emitted_in_parts_and_their_memory_with_them() {
    let new = || Statistic::Sum.dispatch(NewGroups);
    let column = |values: Vec<Option<f64>>| vec![Arc::new(Float64Array::from(values)) as ArrayRef];
    let mut groups = new();
    let filter = BooleanArray::from(vec![Some(true), Some(false), None, Some(true), Some(true), Some(true)]);
    let values = column(vec![Some(0.1), Some(5.0), Some(5.0), None, Some(0.2), Some(1e-300)]);
    groups.update_batch(&values, &[0, 0, 0, 1, 2, 3], Some(&filter), 4).unwrap();
    let narrow = groups.size();
    groups.update_batch(&column(vec![Some(1e300), Some(f64::INFINITY)]), &[3, 2], None, 4).unwrap();
    assert!(groups.size() >= narrow + 2 * 34 * 8, "sums over many magnitudes take memory and say so");
    let floats = |array: ArrayRef| array.as_primitive::<Float64Type>().iter().collect::<Vec<_>>();
    assert_eq!(floats(groups.evaluate(EmitTo::First(2)).unwrap()), [Some(0.1), None]);
    let states = groups.state(EmitTo::All).unwrap();
    assert_eq!(groups.size(), 0);
    let mut merged = new();
    merged.merge_batch(&states, &[1, 1], 3).unwrap();
    merged.merge_batch(&states, &[0, 2], 3).unwrap();
    merged.merge_batch(&merged.convert_to_state(&values, Some(&filter)).unwrap(), &[2; 6], 3).unwrap();
    let direct: Total = of([[1e300], [1e-300], [0.1], [0.2], [1e-300]]);
    assert_eq!(floats(merged.evaluate(EmitTo::All).unwrap()), [Some(f64::INFINITY), Some(f64::INFINITY), direct.sum()]);
    let damaged = vec![Arc::new(arrow::array::LargeBinaryArray::from_iter_values([&[1u8, 0xff, 0xff][..]])) as ArrayRef];
    let error = new().merge_batch(&damaged, &[0], 1).unwrap_err();
    assert!(error.to_string().contains("damaged"), "{error}");
    assert!(new().update_batch(&[Arc::new(UInt64Array::from(vec![1])) as ArrayRef], &[0], None, 1).is_err());
}
