//! What planning accepts, refuses and says: queries, parameters, functions, files that do not fit.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, DictionaryArray, Float64Array, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type, TimestampNanosecondType};
use serde_json::{Value, json};
use sheaf_dataflow::error::DataError;
use sheaf_dataflow::job::{Job, JobError};
use sheaf_dataflow::plan::{self, Needs};
use sheaf_dataflow::types;
use sheaf_learn::math;
use support::*;

fn small() -> Folder {
    let folder = Folder::new();
    write_parquet(&folder.path("t.parquet"), &rows(0, 100), 30);
    folder
}

async fn refused(folder: &Folder, job: &Job) -> JobError {
    match plan_error(folder, job).await {
        DataError::Job(error) => error,
        other => panic!("{other:?}"),
    }
}

async fn query_error(sql: &str) -> JobError {
    let folder = small();
    refused(&folder, &folder.job("t.parquet", json!({"prepare": sql}))).await
}

#[tokio::test]
async fn what_is_not_row_wise_is_for_the_query_engine() {
    let folder = small();
    for sql in [
        "SELECT a.id FROM t a JOIN t b ON a.id = b.id",
        "SELECT a.id FROM t a, t b",
        "SELECT count(*) AS n FROM t",
        "SELECT category, sum(amount) AS s FROM t GROUP BY category",
        "SELECT DISTINCT category FROM t",
        "SELECT row_number() OVER (ORDER BY id) AS n FROM t",
        "SELECT id FROM t UNION ALL SELECT id FROM t",
        "SELECT id FROM t ORDER BY id LIMIT 3",
        "SELECT id FROM t WHERE id IN (SELECT id FROM t)",
        "SELECT (SELECT max(id) FROM t) AS m FROM t",
        "SELECT id FROM t WHERE EXISTS (SELECT 1 FROM t)",
    ] {
        let planned = plan::plan(&folder.job("t.parquet", json!({"prepare": sql})), &folder.stores, NOW_NS).await;
        assert_eq!(planned.unwrap_or_else(|e| panic!("{sql}: {e}")).needs, Needs::Query, "{sql}");
    }
}

#[tokio::test]
async fn what_no_engine_computes_is_refused() {
    for (sql, what) in [
        ("SELECT 1 AS one", "reads no table"),
        ("VALUES (1)", "reads no table"),
        ("SELECT * FROM generate_series(1, 3)", "a table function is not supported yet"),
        ("SELECT * FROM t TABLESAMPLE (10 PERCENT)", "TABLESAMPLE is not supported yet"),
        ("SELECT id FROM t FOR UPDATE", "FOR UPDATE is not supported yet"),
    ] {
        let error = query_error(sql).await;
        assert_eq!(error.path, "prepare", "{sql}");
        assert!(error.message.contains(what), "{sql}: {error}");
        assert!(error.hint.is_some(), "{sql}");
    }
}

#[tokio::test]
async fn errors_name_the_thing_and_the_remedy() {
    let error = query_error("SELECT amonut FROM t").await;
    assert_eq!(error.message, "column `amonut` not found");
    assert!(error.hint.unwrap().contains("amount"));
    let error = query_error("SELECT Amount FROM t").await;
    assert_eq!(error.hint.unwrap(), "names are case-sensitive: `amount`");
    let error = query_error("SELECT * FROM u").await;
    assert_eq!((error.message.as_str(), error.hint.as_deref()), ("table `u` not found", Some("known tables: t")));
    for (sql, text) in [
        ("SELECT random() AS r FROM t", "other values on every run"),
        ("SELECT uuid() AS r FROM t", "other values on every run"),
        ("SELECT id FROM t WHERE", "expected"),
        ("", "empty"),
        ("DROP TABLE t", "DROP is not allowed"),
        ("SELECT id, id FROM t", "id"),
        ("SELECT NULL AS nothing FROM t", "not supported"),
        ("SELECT id FROM t WHERE 1 = 2", "no rows"),
        ("SELECT id AS __row_id FROM t", "reserved"),
    ] {
        let error = query_error(sql).await;
        assert!(error.message.to_lowercase().contains(&text.to_lowercase()), "{sql}: {error}");
    }
}

#[tokio::test]
async fn long_and_deep_sql_is_refused() {
    let long = format!("SELECT id FROM t -- {}", "x".repeat(1 << 20));
    assert!(query_error(&long).await.message.contains("bytes"));
    let deep = format!("SELECT {}1{} AS x FROM t", "(".repeat(20_000), ")".repeat(20_000));
    assert!(query_error(&deep).await.message.contains("recursion"));
}

async fn one_column(more: Value) -> ArrayRef {
    let folder = small();
    let dataset = ready(&folder, &folder.job("t.parquet", more)).await;
    Arc::clone(concat(&read_all(&dataset, &folder.stores).await).column(0))
}

#[tokio::test]
async fn parameters_are_values_and_never_sql() {
    let evil = "c1' OR 1=1 --";
    let params =
        json!({"n": {"int": 40}, "c": {"text": evil}, "d": {"date": "2024-10-24"}, "x": {"float": 0.1}, "b": {"bool": true}});
    let rows = |sql: &str| one_column(json!({"prepare": sql, "params": params}));
    assert_eq!(rows("SELECT id FROM t WHERE id < $n").await.len(), 40);
    assert_eq!(rows("SELECT id FROM t WHERE id < 90 AND category = $c OR id = 5").await.len(), 1);
    assert_eq!(rows("SELECT $c AS c FROM t").await.as_string::<i32>().value(0), evil);
    assert_eq!(rows("SELECT $x * 3 AS x FROM t").await.as_primitive::<Float64Type>().value(0), 0.1 * 3.0);
    assert_eq!(rows("SELECT id FROM t WHERE day < $d AND $b").await.len(), 20);
    assert_eq!(rows("SELECT coalesce(amount, $x) AS a FROM t").await.null_count(), 0);

    let folder = small();
    let error = refused(&folder, &folder.job("t.parquet", json!({"prepare": "SELECT $m AS m FROM t", "params": params}))).await;
    assert_eq!(error.message, "unknown parameter `$m`");
    assert_eq!(error.hint.unwrap(), "known parameters: $b, $c, $d, $n, $x, $now");
}

#[tokio::test]
async fn time_stands_still() {
    for sql in ["SELECT now() AS n FROM t", "SELECT CURRENT_TIMESTAMP AS n FROM t", "SELECT $now AS n FROM t"] {
        let column = one_column(json!({"prepare": sql})).await;
        assert_eq!(column.data_type(), &types::timestamp_utc());
        assert_eq!(column.as_primitive::<TimestampNanosecondType>().value(0), NOW_NS, "{sql}");
    }
    let column = one_column(json!({"prepare": "SELECT extract(hour FROM now()) * 1 AS h FROM t WHERE at < now()"})).await;
    assert_eq!(arrow::compute::cast(&column, &DataType::Int64).unwrap().as_primitive::<Int64Type>().value(0), 12);
    let day = one_column(json!({"prepare": "SELECT current_date AS d FROM t"})).await;
    assert_eq!(arrow::util::display::array_value_to_string(&day, 0).unwrap(), "2026-11-01");

    let folder = small();
    let fingerprint = |sql: &'static str, now: i64| {
        let job = folder.job("t.parquet", json!({"prepare": sql}));
        let stores = folder.stores.clone();
        async move { plan::plan(&job, &stores, now).await.unwrap().dataset.fingerprint() }
    };
    assert_eq!(fingerprint("SELECT id FROM t", 1).await, fingerprint("SELECT id FROM t", 2).await);
    assert_ne!(fingerprint("SELECT now() AS n FROM t", 1).await, fingerprint("SELECT now() AS n FROM t", 2).await);
}

#[tokio::test]
async fn our_own_functions_compute() {
    let sql = "SELECT ln(1 + abs(amount)) AS y, amount, exp(amount / 100) AS e, pow(amount, 2) AS p, power(id, 0.5) AS q, \
               log10(id) AS l, log(2, id) AS b FROM t WHERE amount IS NOT NULL AND id > 0";
    let folder = small();
    let dataset = ready(&folder, &folder.job("t.parquet", json!({"prepare": sql}))).await;
    let batch = concat(&read_all(&dataset, &folder.stores).await);
    let column = |i: usize| batch.column(i).as_primitive::<Float64Type>();
    for row in 0..batch.num_rows() {
        let x = column(1).value(row);
        assert_eq!(column(0).value(row).to_bits(), math::ln(1.0 + x.abs()).to_bits());
        assert_eq!(column(2).value(row).to_bits(), math::exp(x / 100.0).to_bits());
        assert_eq!(column(3).value(row), x * x);
    }
}

#[tokio::test]
async fn no_function_of_the_machine_is_used() {
    let x = "CAST(amount / 10 AS REAL)";
    type One = fn(f64) -> f64;
    let functions: [(&str, One); 18] = [
        ("sin", math::sin),
        ("cos", math::cos),
        ("tan", math::tan),
        ("cot", math::cot),
        ("asin", math::asin),
        ("acos", math::acos),
        ("atan", math::atan),
        ("sinh", math::sinh),
        ("cosh", math::cosh),
        ("TANH", math::tanh),
        ("asinh", math::asinh),
        ("acosh", math::acosh),
        ("atanh", math::atanh),
        ("cbrt", math::cbrt),
        ("log2", math::log2),
        ("log10", math::log10),
        ("log", math::log10),
        ("ln", math::ln),
    ];
    let columns = |arg: &str| functions.map(|(name, _)| format!("{name}({arg}) AS \"{name}\"")).join(", ");
    let folder = small();
    // Of f32, of whole numbers and of decimals: all become f64 first. A null stays null.
    for arg in [x, "id", "CAST(id AS DECIMAL(10, 2))"] {
        let sql = format!("SELECT CAST({arg} AS DOUBLE) AS x, {}, atan2({arg}, 3) AS a, log(7, {arg}) AS l FROM t", columns(arg));
        let dataset = ready(&folder, &folder.job("t.parquet", json!({"prepare": sql}))).await;
        let batch = concat(&read_all(&dataset, &folder.stores).await);
        let column = |i: usize| batch.column(i).as_primitive::<Float64Type>();
        assert_eq!(column(0).null_count(), if arg == x { 10 } else { 0 });
        for row in 0..batch.num_rows() {
            let value = |i: usize| column(i).is_valid(row).then(|| column(i).value(row));
            let given = value(0);
            let same = |i: usize, want: &dyn Fn(f64) -> f64| {
                let (have, want) = (value(i), given.map(want));
                let bits = |v: Option<f64>| v.map(|v| if v.is_nan() { f64::NAN.to_bits() } else { v.to_bits() });
                assert_eq!(bits(have), bits(want), "column {i} of {arg} = {given:?}: {have:?} {want:?}");
            };
            for (i, (_, function)) in functions.iter().enumerate() {
                same(i + 1, function);
            }
            same(functions.len() + 1, &|x| math::atan2(x, 3.0));
            same(functions.len() + 2, &|x| math::log(7.0, x));
        }
    }
}

#[tokio::test]
async fn functions_of_constants_are_those_of_columns() {
    let sql = "SELECT sin(1) AS s, atan2(1, -1) AS a, log(2, 8) AS l, pow(2, 0.5) AS p, cot(NULL) AS n FROM t";
    let folder = small();
    let dataset = ready(&folder, &folder.job("t.parquet", json!({"prepare": sql}))).await;
    let batch = concat(&read_all(&dataset, &folder.stores).await);
    let column = |i: usize| batch.column(i).as_primitive::<Float64Type>();
    let first: Vec<f64> = (0..4).map(|i| column(i).value(0)).collect();
    assert_eq!(first, [math::sin(1.0), math::atan2(1.0, -1.0), 3.0, math::pow(2.0, 0.5)]);
    assert_eq!(column(4).null_count(), batch.num_rows());
    let error = query_error("SELECT sin(amount, 2) AS r FROM t").await;
    assert!(error.message.contains("sin"), "{error}");
    let error = query_error("SELECT atan2(amount) AS r FROM t").await;
    assert!(error.message.contains("atan2"), "{error}");
}

#[tokio::test]
async fn plans_say_what_they_need() {
    let folder = small();
    let needs = |more: Value| {
        let (job, stores) = (folder.job("t.parquet", more), folder.stores.clone());
        async move { plan::plan(&job, &stores, NOW_NS).await.unwrap() }
    };
    let plain = needs(json!({})).await;
    assert_eq!((plain.needs, plain.dataset.rows(), plain.dataset.units()), (Needs::Nothing, 100, 4));
    assert!(plain.explain.contains("100 rows") && plain.explain.contains("amount"), "{}", plain.explain);
    let filtered = needs(json!({"prepare": "SELECT id FROM (SELECT * FROM t) s WHERE amount > 3"})).await;
    assert_eq!(filtered.needs, Needs::Count);
    assert!(filtered.explain.contains("reads 2 of 6 columns: id, amount"), "{}", filtered.explain);
    let with = needs(json!({"prepare": "WITH a AS (SELECT id + 1 AS b FROM t) SELECT b * 2 AS c FROM a"})).await;
    assert_eq!((with.needs, with.schema.field(0).name().as_str()), (Needs::Nothing, "c"));
    let text = serde_json::to_string(&with.dataset).unwrap();
    assert_eq!(serde_json::from_str::<sheaf_dataflow::dataset::Dataset>(&text).unwrap(), with.dataset);
}

#[tokio::test]
async fn other_tables_are_checked_and_named_when_unused() {
    let folder = small();
    let location = folder.location("t.parquet");
    let tables = json!([{"name": "t", "path": location}, {"name": "u", "path": location}]);
    let planned =
        plan::plan(&folder.job("t.parquet", json!({"tables": tables, "prepare": "SELECT id FROM t"})), &folder.stores, 0)
            .await
            .unwrap();
    assert_eq!(planned.warnings, ["tables.u: the query does not read this table"]);
    let error = refused(&folder, &folder.job("t.parquet", json!({"columns": {"key": ["nope"]}}))).await;
    assert_eq!(error.path, "columns.key");
    let error = refused(&folder, &folder.job("t.parquet", json!({"shard_rows": 0}))).await;
    assert_eq!(error.path, "shard_rows");
}

#[tokio::test]
async fn missing_and_empty_input_is_an_error_of_the_job() {
    let folder = small();
    for path in ["nothing.parquet", "nothing/", "nothing/*.parquet"] {
        let error = refused(&folder, &folder.job(path, json!({}))).await;
        assert_eq!(error.path, "tables.t");
        assert!(error.message.starts_with("nothing found at ") && error.message.contains("nothing"), "{error}");
    }
    std::fs::create_dir_all(folder.path("hidden/_temporary")).unwrap();
    std::fs::copy(folder.path("t.parquet"), folder.path("hidden/_temporary/x.parquet")).unwrap();
    std::fs::copy(folder.path("t.parquet"), folder.path("hidden/.x.parquet")).unwrap();
    assert!(refused(&folder, &folder.job("hidden", json!({}))).await.message.starts_with("nothing found"));
    write_parquet(&folder.path("empty.parquet"), &rows(0, 0), 10);
    let error = refused(&folder, &folder.job("empty.parquet", json!({}))).await;
    assert_eq!(error.message, "prepare gives no rows");
    std::fs::copy(folder.path("t.parquet"), folder.path("t.bin")).unwrap();
    assert!(refused(&folder, &folder.job("t.bin", json!({}))).await.message.contains("format"));
    let mut named = folder.job("t.bin", json!({}));
    named.tables[0].format = Some(sheaf_dataflow::job::Format::Parquet);
    assert_eq!(ready(&folder, &named).await.rows(), 100);

    let none = folder.job("t.parquet", json!({"prepare": "SELECT id FROM t WHERE id > 1000"}));
    let planned = plan::plan(&none, &folder.stores, 0).await.unwrap();
    let error = meet(planned, &folder.stores, &folder.location("area")).await.unwrap_err();
    assert!(error.is_job(), "{error:?}");
    assert!(error.to_string().contains("drops all 100 rows"), "{error}");
}

#[tokio::test]
async fn broken_parquet_names_the_file_before_any_work() {
    let folder = small();
    let whole = std::fs::read(folder.path("t.parquet")).unwrap();
    let mut flipped = whole.clone();
    let footer = flipped.len() - 40;
    flipped[footer..footer + 20].fill(0xff);
    let cases = [whole[..whole.len() / 2].to_vec(), whole[whole.len() / 2..].to_vec(), b"PAR1".to_vec(), Vec::new(), flipped];
    for (i, bytes) in cases.into_iter().enumerate() {
        std::fs::create_dir_all(folder.path("d")).unwrap();
        std::fs::copy(folder.path("t.parquet"), folder.path("d/a.parquet")).unwrap();
        std::fs::write(folder.path("d/b.parquet"), bytes).unwrap();
        let error = plan_error(&folder, &folder.job("d", json!({}))).await;
        assert!(matches!(&error, DataError::Input { what, .. } if what.ends_with("d/b.parquet")), "{i}: {error:?}");
    }
}

#[tokio::test]
async fn a_page_that_is_broken_is_an_error_and_not_a_panic() {
    let folder = small();
    let mut bytes = std::fs::read(folder.path("t.parquet")).unwrap();
    bytes[4..600].fill(0xa5);
    std::fs::write(folder.path("t.parquet"), bytes).unwrap();
    let planned = plan::plan(&folder.job("t.parquet", json!({})), &folder.stores, 0).await.unwrap();
    let error = read(&planned.dataset, &folder.stores, 0..1).await.unwrap_err();
    assert!(matches!(&error, DataError::Input { what, .. } if what.ends_with("t.parquet")), "{error:?}");
}

fn write_columns(folder: &Folder, name: &str, columns: Vec<(&str, ArrayRef)>) {
    write_parquet(&folder.path(name), &RecordBatch::try_from_iter(columns).unwrap(), 100);
}

#[tokio::test]
async fn files_of_a_table_must_agree() {
    let folder = Folder::new();
    let numbers: ArrayRef = Arc::new(Int32Array::from(vec![1, 2]));
    let floats: ArrayRef = Arc::new(Float64Array::from(vec![1.0, 2.0]));
    write_columns(&folder, "d/a.parquet", vec![("x", Arc::clone(&numbers)), ("y", Arc::clone(&numbers))]);
    for (columns, text) in [
        (vec![("x", &numbers), ("y", &floats)], "column `y` is float64, but int32 in"),
        (vec![("x", &numbers)], "column `y` is missing"),
        (vec![("x", &numbers), ("y", &numbers), ("z", &floats)], "column `z` is not in"),
        (vec![("y", &numbers), ("x", &numbers)], "another order"),
    ] {
        write_columns(&folder, "d/b.parquet", columns.into_iter().map(|(n, a)| (n, Arc::clone(a))).collect());
        let error = plan_error(&folder, &folder.job("d", json!({}))).await;
        assert!(matches!(&error, DataError::Input { what, .. } if what.ends_with("b.parquet")), "{error:?}");
        assert!(error.to_string().contains(text) && error.to_string().contains("a.parquet"), "{error}");
    }
}

#[tokio::test]
async fn unusual_types_are_normalised_or_refused_by_name() {
    let folder = Folder::new();
    let words: DictionaryArray<Int32Type> = vec![Some("a"), None, Some("b")].into_iter().collect();
    let raw: ArrayRef = Arc::new(BinaryArray::from_vec(vec![b"x", b"y", b"z"]));
    let view: ArrayRef =
        arrow::compute::cast(&(Arc::new(StringArray::from(vec!["p", "q", "r"])) as ArrayRef), &DataType::Utf8View).unwrap();
    write_columns(&folder, "t.parquet", vec![("word", Arc::new(words)), ("raw", raw), ("view", view)]);
    let error = refused(&folder, &folder.job("t.parquet", json!({}))).await;
    assert!(error.message.contains("`raw`") && error.hint.unwrap().contains("EXCLUDE"), "{}", error.message);
    let error = refused(&folder, &folder.job("t.parquet", json!({"prepare": "SELECT raw IS NULL AS r FROM t"}))).await;
    assert!(error.message.contains("`raw`"), "{error}");
    let named = folder.job("t.parquet", json!({"prepare": "SELECT word AS raw FROM t"}));
    assert_eq!(ready(&folder, &named).await.columns[0].name, "raw", "only the column itself is opaque, not its name");
    let dataset = ready(&folder, &folder.job("t.parquet", json!({"prepare": "SELECT * EXCLUDE (raw) FROM t"}))).await;
    let batch = concat(&read_all(&dataset, &folder.stores).await);
    assert!(batch.schema().fields().iter().all(|f| f.data_type() == &DataType::Utf8));
    assert_eq!(batch.column(0).null_count(), 1);
}

#[tokio::test]
async fn rows_that_cannot_be_computed_are_errors_of_the_data() {
    let folder = small();
    let planned =
        plan::plan(&folder.job("t.parquet", json!({"prepare": "SELECT 10 / (id - 50) AS x FROM t"})), &folder.stores, 0)
            .await
            .unwrap();
    let error = read(&planned.dataset, &folder.stores, 0..1).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, DataError::Input { .. }) && text.contains("prepare fails in rows 30 to 60"), "{text}");
}

fn text_job(folder: &Folder, schema: Value) -> Job {
    let mut job = folder.job("d", json!({}));
    job.tables[0].schema = serde_json::from_value(schema).unwrap();
    job
}

#[tokio::test]
async fn delimited_text_has_types_from_all_rows_and_says_where_it_is_wrong() {
    let folder = Folder::new();
    std::fs::create_dir_all(folder.path("d")).unwrap();
    let many: String = (0..9000).map(|i| format!("{i},x{i}\n")).collect();
    std::fs::write(folder.path("d/a.csv"), format!("\u{feff}n,s\n{many}")).unwrap();
    std::fs::write(folder.path("d/b.csv"), "n,s\n0.5,007\n,\"two\nlines\"").unwrap();
    let planned = plan::plan(&text_job(&folder, json!({})), &folder.stores, 0).await.unwrap();
    let kinds: Vec<_> = planned.dataset.columns.iter().map(|c| (c.name.as_str(), c.kind.as_str())).collect();
    assert_eq!(kinds, [("n", "float64"), ("s", "utf8")]);
    assert_eq!((planned.needs, planned.dataset.rows()), (Needs::Materialise, 9002));

    let planned = plan::plan(&text_job(&folder, json!({"n": "int64"})), &folder.stores, 0).await.unwrap();
    let error = meet(planned, &folder.stores, &folder.location("area")).await.unwrap_err().to_string();
    assert!(error.contains("b.csv") && error.contains("record 1, column `n`: `0.5` is not of the type int64"), "{error}");

    let error = refused(&folder, &text_job(&folder, json!({"n": "int63"}))).await;
    assert_eq!(error.path, "tables.t.schema.n");
    let error = refused(&folder, &text_job(&folder, json!({"m": "int64"}))).await;
    assert!(error.message.contains("not in the files"), "{error}");

    for (text, expected) in [
        ("n,s\n1,2,3\n", "incorrect number of fields"),
        ("n,t\n1,2\n", "are not those of"),
        ("n,n\n1,2\n", "stands twice"),
        ("", "empty"),
    ] {
        std::fs::write(folder.path("d/b.csv"), text).unwrap();
        let error = plan_error(&folder, &text_job(&folder, json!({}))).await;
        assert!(matches!(&error, DataError::Input { what, .. } if what.ends_with("b.csv")), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn long_operator_chains_are_refused_and_do_not_overflow_the_stack() {
    // What is not optimised takes several times the stack.
    const STACK: usize = 16 << 20;
    let runtime = || tokio::runtime::Builder::new_current_thread().thread_stack_size(STACK).build().unwrap();
    let check = std::thread::Builder::new().stack_size(STACK).spawn(move || runtime().block_on(long_operator_chains()));
    check.unwrap().join().unwrap();
}

async fn long_operator_chains() {
    let folder = small();
    let chain = |n: usize| folder.job("t.parquet", json!({"prepare": format!("SELECT id{} AS x FROM t", " + 1".repeat(n))}));
    for n in [251, 3000, 100_000] {
        let error = refused(&folder, &chain(n)).await;
        assert_eq!(error.path, "prepare");
        assert!(error.message.contains(&format!("too many operators in one SQL text ({n}, at most 250)")), "{error}");
    }
    let dataset = ready(&folder, &chain(250)).await;
    let batch = concat(&read_all(&dataset, &folder.stores).await);
    assert_eq!(batch.column(0).as_primitive::<Int64Type>().value(1), 251);
    for (link, n) in
        [(" || id::text", 125), (" AND NOT id LIKE 1", 83), (" OR (id = 1)", 125), (" + abs(id)", 250), ("::text", 250)]
    {
        let sql = format!("SELECT CASE WHEN id = 1 THEN 'x' END AS a, id::text{} AS x FROM t", link.repeat(n - 1));
        // Whether its types fit is another question: the process lives.
        let _ = plan::plan(&folder.job("t.parquet", json!({"prepare": sql})), &folder.stores, NOW_NS).await;
    }
    let many = format!("SELECT t.id FROM t{}", ", t".repeat(3000));
    assert!(refused(&folder, &folder.job("t.parquet", json!({"prepare": many}))).await.message.contains("3001 tables"));
}

#[tokio::test]
async fn the_clock_is_seen_however_its_name_is_quoted() {
    let folder = small();
    for call in ["now()", "`now`()", "\"now\"()", "NOW()"] {
        let job = folder.job("t.parquet", json!({"prepare": format!("SELECT id, {call} AS at FROM t")}));
        if let Ok(planned) = plan::plan(&job, &folder.stores, NOW_NS).await {
            assert_eq!(planned.dataset.now_ns, Some(NOW_NS), "{call}");
        } else {
            assert_eq!(call, "NOW()", "{call}");
        }
    }
}

/// A file with one INT96 column: (Julian day, nanoseconds of the day) per row.
fn write_int96(path: &std::path::Path, values: &[(u32, u64)]) {
    use parquet::data_type::{Int96, Int96Type};
    let schema = parquet::schema::parser::parse_message_type("message m { required int96 at; required int64 n; }").unwrap();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = parquet::file::writer::SerializedFileWriter::new(file, Arc::new(schema), Default::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let int96 = |(day, ns): &(u32, u64)| Int96::from(vec![*ns as u32, (ns >> 32) as u32, *day]);
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<Int96Type>().write_batch(&values.iter().map(int96).collect::<Vec<_>>(), None, None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let numbers: Vec<i64> = (0..values.len() as i64).collect();
    column.typed::<parquet::data_type::Int64Type>().write_batch(&numbers, None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
}

#[tokio::test]
async fn int96_times_that_do_not_fit_are_errors_and_do_not_wrap() {
    const EPOCH: u32 = 2_440_588;
    let folder = Folder::new();
    write_int96(&folder.path("fits.parquet"), &[(EPOCH, 0), (EPOCH + 1, 1_000), (EPOCH - 1, 86_399_000_000_000)]);
    let dataset = ready(&folder, &folder.job("fits.parquet", json!({}))).await;
    let batch = concat(&read_all(&dataset, &folder.stores).await);
    let at = batch.column(0).as_primitive::<TimestampNanosecondType>();
    assert_eq!(at.values().to_vec(), [0, 86_400_000_001_000, -1_000_000_000]);
    // The year 9999.
    write_int96(&folder.path("far.parquet"), &[(EPOCH, 0), (5_373_484, 0)]);
    let dataset = ready(&folder, &folder.job("far.parquet", json!({}))).await;
    let error = read(&dataset, &folder.stores, 0..1).await.unwrap_err();
    assert!(matches!(&error, DataError::Input { .. }), "{error:?}");
    // SQL can still look at it.
    let sql = "SELECT n FROM t WHERE at < TIMESTAMP '2200-01-01'";
    let dataset = ready(&folder, &folder.job("far.parquet", json!({"prepare": sql}))).await;
    assert_eq!(dataset.rows(), 1);
}

#[tokio::test]
async fn a_footer_that_claims_too_many_rows_is_corrupt() {
    use parquet::file::metadata::{ParquetMetaDataReader, ParquetMetaDataWriter};
    let folder = small();
    let bytes = std::fs::read(folder.path("t.parquet")).unwrap();
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&bytes::Bytes::from(bytes.clone())).unwrap();
    let mut builder = metadata.into_builder();
    let groups = builder.take_row_groups().into_iter();
    let groups = groups.map(|g| g.into_builder().set_num_rows(i64::MAX / 4).build().unwrap()).collect();
    let metadata = builder.set_row_groups(groups).build();
    let mut broken = bytes;
    ParquetMetaDataWriter::new(&mut broken, &metadata).finish().unwrap();
    std::fs::write(folder.path("t.parquet"), broken).unwrap();
    let error = plan_error(&folder, &folder.job("t.parquet", json!({}))).await.to_string();
    assert!(error.contains("not a readable Parquet file: it claims more than"), "{error}");
}

#[test]
fn rows_that_overflow_a_sum_are_too_many() {
    let unit = json!({"file": 0, "group": 0, "first_row": 0, "source_rows": u64::MAX, "rows": u64::MAX});
    let dataset = json!({
        "format": 1, "table": "t", "source": "parquet", "files": [], "table_columns": [], "sql": null, "params": {},
        "now_ns": null, "columns": [], "key": [], "shard_rows": 1024, "counted": true, "units": [unit, unit], "origin": null,
    });
    let dataset: sheaf_dataflow::dataset::Dataset = serde_json::from_value(dataset).unwrap();
    assert_eq!(dataset.rows(), u64::MAX);
    assert!(dataset.check_rows().unwrap_err().to_string().contains("2^32 shards"));
}
