//! Plans as queries of jobs get them: shapes, tables, views, limits, and what the rules leave alone.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::{Duration, Instant};

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::datasource::empty::EmptyTable;

use super::*;
use crate::stores::{StoreOptions, Stores};

fn session() -> SessionContext {
    Stores::new(StoreOptions::default()).unwrap().session(0)
}

fn table(name: &str, columns: &[(&str, DataType)]) -> TableShape {
    let fields: Vec<_> = columns.iter().map(|(n, t)| Field::new(*n, t.clone(), true)).collect();
    let schema = Arc::new(Schema::new(fields));
    TableShape { name: name.to_owned(), schema: Arc::clone(&schema), provider: Some(Arc::new(EmptyTable::new(schema))) }
}

fn tables() -> [TableShape; 3] {
    let columns = [("id", DataType::Int64), ("g", DataType::Utf8), ("x", DataType::Float64)];
    let many: Vec<_> = (0..1000).map(|i| format!("c{i}")).collect();
    let many: Vec<_> = many.iter().map(|n| (n.as_str(), DataType::Float64)).collect();
    [table("t", &columns), table("u", &columns), table("wide", &many)]
}

fn view(name: &str, sql: &str) -> ViewText {
    ViewText { name: name.to_owned(), sql: sql.to_owned(), path: format!("tables.{name}.sql") }
}

async fn planned(views: &[ViewText], sql: &str) -> Result<Query, JobError> {
    let params = BTreeMap::from([("n".to_owned(), Param::Int(3)), ("m".to_owned(), Param::Int(4))]);
    plan(&session(), &tables(), views, sql, &params, 0, "prepare").await
}

fn row_wise(table: &str, filtered: bool) -> QueryShape {
    QueryShape::RowWise { table: table.to_owned(), filtered }
}

#[tokio::test]
async fn shapes_are_told_apart() {
    for (sql, shape) in [
        ("SELECT * FROM t", row_wise("t", false)),
        ("SELECT id + 1 AS i FROM u WHERE x > 0", row_wise("u", true)),
        ("SELECT i FROM (SELECT id AS i, g FROM t WHERE x > 1) s WHERE g = 'a'", row_wise("t", true)),
        ("WITH s AS (SELECT id FROM t) SELECT * FROM s", row_wise("t", false)),
        ("SELECT 1 AS one", QueryShape::General),
        ("SELECT count(*) FROM t", QueryShape::General),
        ("SELECT id FROM t ORDER BY id", QueryShape::General),
        ("SELECT id FROM t WHERE x > (SELECT max(x) FROM u)", QueryShape::General),
        ("SELECT t.id FROM t JOIN u ON t.id = u.id", QueryShape::General),
    ] {
        assert_eq!(planned(&[], sql).await.unwrap().shape, shape, "{sql}");
    }
}

#[tokio::test]
async fn what_a_query_reads_and_takes_is_what_its_plan_does() {
    let views = [
        view("v", "SELECT id, x FROM t WHERE id > $n"),
        view("w", "SELECT g, now() AS at FROM u WHERE id < $m"),
        view("vv", "SELECT id FROM v"),
    ];
    let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<BTreeSet<_>>();
    let query = planned(&views, "SELECT id FROM vv WHERE id < 100").await.unwrap();
    assert_eq!((query.shape, query.tables), (row_wise("t", true), names(&["t"])));
    assert_eq!((query.params, query.uses_now), (names(&["n"]), false));
    let query = planned(&views, "SELECT vv.id FROM vv, w WHERE $now > at").await.unwrap();
    assert_eq!((query.tables, query.params, query.uses_now), (names(&["t", "u"]), names(&["m", "n"]), true));
    let query = planned(&views, "SELECT id FROM t WHERE id IN (SELECT id FROM u)").await.unwrap();
    assert_eq!((query.tables, query.uses_now), (names(&["t", "u"]), false));
}

#[tokio::test]
async fn errors_in_views_name_the_view() {
    for (sql, text) in [
        ("SELECT missing FROM t", "column `missing` not found"),
        ("SELECT id FROM v", "table `v` not found"),
        ("SELECT id FROM later", "table `later` not found"),
        ("SELECT t.id, u.id FROM t JOIN u ON t.id = u.id", "column `id` stands twice in the view"),
        ("SELECT id FROM t LIMIT 3", "LIMIT, OFFSET or FETCH without ORDER BY"),
        ("DROP TABLE t", "DROP is not allowed"),
        ("SELECT $other AS o FROM t", "unknown parameter"),
    ] {
        let error = planned(&[view("v", sql), view("later", "SELECT id FROM t")], "SELECT id FROM t").await.unwrap_err();
        assert_eq!(error.path, "tables.v.sql", "{sql}");
        assert!(error.message.contains(text), "{sql}: {error}");
    }
    let twice = planned(&[view("t", "SELECT id FROM u")], "SELECT id FROM t").await.unwrap_err();
    assert_eq!((twice.path.as_str(), twice.message.as_str()), ("tables.t.sql", "the table name stands twice"));
}

#[tokio::test]
async fn an_order_at_the_top_is_dropped_where_rows_are_stored() {
    let query = planned(&[], "SELECT id FROM t WHERE x > 1 ORDER BY x DESC").await.unwrap().unordered("prepare");
    assert_eq!(query.shape, row_wise("t", true));
    assert_eq!(query.warnings.len(), 1);
    assert!(query.warnings[0].starts_with("prepare: ORDER BY without LIMIT has no effect"));
    let query = planned(&[], "SELECT id FROM t ORDER BY x DESC LIMIT 3").await.unwrap().unordered("prepare");
    assert_eq!((query.shape, query.warnings.len()), (QueryShape::General, 0));
    let query = planned(&[view("v", "SELECT id FROM t ORDER BY id")], "SELECT id FROM v").await.unwrap();
    assert_eq!(query.shape, row_wise("t", false));
    assert!(query.warnings[0].starts_with("tables.v.sql: ORDER BY"));
}

#[tokio::test]
async fn rules_applied_again_change_nothing() {
    for sql in [
        "SELECT id, row_number() OVER (ORDER BY g), rank() OVER (ORDER BY g), approx_median(x) OVER (PARTITION BY g) FROM t",
        "SELECT g, array_agg(id ORDER BY x), approx_percentile_cont(id, 0.5) FROM t GROUP BY g ORDER BY g LIMIT 3",
        "SELECT DISTINCT ON (g) g, id FROM t ORDER BY g, x",
        "SELECT id FROM t WHERE x = (SELECT x FROM u ORDER BY id LIMIT 1) ORDER BY x",
    ] {
        let plan = planned(&[], sql).await.unwrap().plan;
        let again = rules::apply(plan.clone(), session().state().config_options(), "prepare").unwrap();
        assert_eq!(plan, again, "{sql}");
    }
}

#[tokio::test]
async fn a_window_is_ordered_by_what_is_read_and_no_more() {
    let plan = planned(&[], "SELECT id, row_number() OVER (ORDER BY g) AS n FROM t").await.unwrap().plan.to_string();
    assert!(plan.contains("ORDER BY [t.g ASC NULLS LAST, t.id ASC NULLS LAST]"), "{plan}");
    let sql = "SELECT n FROM (SELECT *, row_number() OVER (ORDER BY g) AS n FROM t) WHERE x > 0";
    let plan = planned(&[], sql).await.unwrap().plan.to_string();
    assert!(plan.contains("ORDER BY [t.g ASC NULLS LAST, t.x ASC NULLS LAST]"), "{plan}");
}

#[tokio::test]
async fn wide_steps_are_counted() {
    let joined = |n: usize| format!("SELECT a0.c1 FROM wide a0{}", (1..n).map(|i| format!(", wide a{i}")).collect::<String>());
    let error = planned(&[], &joined(10)).await.unwrap_err();
    assert_eq!(error.message, "the joins of the query have more than 50000 columns together");
    assert!(planned(&[], &joined(9)).await.is_ok());
    let names: Vec<_> = (0..20_001).map(|i| format!("id AS i{i}")).collect();
    let error = planned(&[], &format!("SELECT {} FROM t", names.join(", "))).await.unwrap_err();
    assert_eq!(error.message, "a step of the query has 20001 columns, at most 20000 are allowed");
}

/// Optimises a query to a physical plan.
async fn optimised(sql: &str) -> Duration {
    let session = session();
    let start = Instant::now();
    let query = plan(&session, &tables(), &[], sql, &BTreeMap::new(), 0, "prepare").await.unwrap();
    session.state().create_physical_plan(&query.plan).await.unwrap();
    start.elapsed()
}

#[test]
fn the_largest_queries_are_planned_in_time() {
    const STACK: usize = 32 << 20;
    let most = text::MAX_RELATIONS;
    let chain: String = (1..most).map(|i| format!(" JOIN u a{i} ON a{}.id = a{i}.id", i - 1)).collect();
    let names: Vec<_> = (0..most).map(|i| format!("t a{i}")).collect();
    let equal: Vec<_> = (1..most).map(|i| format!("a{}.id = a{i}.id", i - 1)).collect();
    let unions = vec!["SELECT id FROM t"; most as usize].join(" UNION ");
    let exists: String = (1..most).map(|i| format!(" AND EXISTS (SELECT 1 FROM u WHERE u.id = t.id + {i})")).collect();
    let wide: String = (1..5).map(|i| format!(" JOIN wide a{i} ON a{}.c0 = a{i}.c1", i - 1)).collect();
    let queries = [
        ("wide joins", format!("SELECT * FROM wide a0{wide} WHERE a0.c5 > 0")),
        ("chain of joins", format!("SELECT a0.x FROM t a0{chain}")),
        ("list of tables", format!("SELECT a0.x FROM {} WHERE {}", names.join(", "), equal.join(" AND "))),
        ("unions", unions),
        ("subqueries", format!("SELECT id FROM t WHERE x > 0{exists}")),
    ];
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for (name, sql) in queries {
            println!("{name}: {:?}", runtime.block_on(optimised(&sql)));
        }
    };
    std::thread::Builder::new().stack_size(STACK).spawn(run).unwrap().join().unwrap();
}
