//! Questions in SQL answered in one process: every kind of query, the same on any number of partitions, errors with
//! their places, limits.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::num::NonZeroUsize;

use arrow::util::pretty::pretty_format_batches;
use futures::TryStreamExt;
use sheaf_dataflow::error::DataError;
use sheaf_dataflow::job::{Param, Table};
use sheaf_dataflow::query::local::{Local, LocalOptions};
use sheaf_dataflow::query::{QueryProgress, QueryRequest, RunQueries};
use tokio::sync::watch;

use support::{Folder, NOW_NS, write_table};

struct World {
    folder: Folder,
    tables: Vec<Table>,
}

impl World {
    fn new() -> Self {
        let folder = Folder::new();
        write_table(&folder, "t");
        std::fs::write(folder.path("names.csv"), "category,title\nc0,zero\nc1,one\nc4,four\n").unwrap();
        let table = |name: &str, path: &str| Table::at(name, folder.location(path));
        let tables = vec![table("t", "t"), table("names", "names.csv")];
        Self { folder, tables }
    }

    fn local(&self, partitions: usize, memory_bytes: Option<usize>) -> Local {
        let partitions = NonZeroUsize::new(partitions).unwrap();
        Local::new(self.folder.stores.clone(), LocalOptions { partitions, memory_bytes })
    }

    fn request(&self, sql: &str) -> QueryRequest {
        let params = [("least".to_owned(), Param::Int(3))].into();
        QueryRequest { sql: sql.into(), tables: self.tables.clone(), params, now_ns: NOW_NS, stop_after: None, partitions: None }
    }

    async fn ask(&self, partitions: usize, sql: &str) -> String {
        answer(&self.local(partitions, None), self.request(sql)).await.unwrap()
    }

    async fn error(&self, sql: &str) -> String {
        answer(&self.local(2, None), self.request(sql)).await.unwrap_err().to_string()
    }
}

async fn answer(local: &Local, request: QueryRequest) -> Result<String, DataError> {
    let (progress, told) = watch::channel(QueryProgress::default());
    let found = local.run(request, progress).await?;
    let batches: Vec<_> = found.rows.try_collect().await?;
    assert!(batches.iter().all(|batch| batch.schema() == found.schema));
    let told = *told.borrow();
    assert_eq!((told.stages_done, told.tasks_done), (told.stages, told.tasks));
    Ok(pretty_format_batches(&batches).unwrap().to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_query_is_the_same_on_any_number_of_partitions() {
    let world = World::new();
    for sql in [
        "SELECT category, count(*) AS n, min(day) AS d FROM t WHERE amount > $least GROUP BY category ORDER BY category",
        "SELECT n.title, count(t.id) AS n FROM names n LEFT JOIN t USING (category) GROUP BY n.title ORDER BY n.title",
        "SELECT id, rank() OVER (PARTITION BY category ORDER BY id) AS r FROM t WHERE id < 40 ORDER BY id",
        "SELECT category FROM t UNION SELECT title FROM names ORDER BY 1",
        "SELECT category FROM t EXCEPT SELECT category FROM names ORDER BY 1",
        "SELECT id FROM t WHERE id = (SELECT max(id) FROM t)",
        "SELECT title FROM names n WHERE EXISTS (SELECT 1 FROM t WHERE t.category = n.category AND t.id < 3) ORDER BY 1",
        "WITH big AS (SELECT * FROM t WHERE id > 17000) SELECT count(*) AS n, max(id) AS m FROM big",
        "SELECT 1 + 1 AS two",
    ] {
        let one = world.ask(1, sql).await;
        assert!(one.lines().count() > 4, "{sql}\n{one}");
        for partitions in [2, 7] {
            assert_eq!(world.ask(partitions, sql).await, one, "{sql}");
        }
    }
}

#[tokio::test]
async fn the_clock_stands_still() {
    let found = World::new().ask(2, "SELECT now() = $now AS same, CAST(now() AS DATE) AS day").await;
    assert!(found.contains("| true | 2026-11-01 |"), "{found}");
}

#[tokio::test]
async fn no_more_rows_than_are_taken() {
    let world = World::new();
    let request = QueryRequest { stop_after: Some(3), ..world.request("SELECT id FROM t ORDER BY id DESC") };
    let found = answer(&world.local(4, None), request).await.unwrap();
    assert_eq!(found.lines().count(), 3 + 4, "{found}");
    assert!(found.contains("| 17145 |"), "{found}");
}

#[tokio::test]
async fn errors_say_where_and_what_helps() {
    let world = World::new();
    let cases = [
        ("SELECT nothing FROM t", "sql: column `nothing` not found\n  hint: known columns: id, amount"),
        ("SELECT * FROM u", "sql: table `u` not found\n  hint: known tables: t, names"),
        ("SELECT * FROM t WHERE id = $most", "sql: unknown parameter `$most`\n  hint: known parameters: $least, $now"),
        ("DROP TABLE t", "sql: DROP is not allowed"),
        ("COPY t TO '/tmp/x.parquet'", "sql: COPY is not allowed"),
        ("CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'", "sql: CREATE is not allowed"),
        ("SELECT 1; SELECT 2", "sql: more than one SQL statement"),
        ("SELECT * FROM '/etc/passwd'", "sql: "),
        ("SELECT CAST(category AS BIGINT) AS x FROM t", "query: "),
    ];
    for (sql, expected) in cases {
        let error = world.error(sql).await;
        assert!(error.starts_with(expected), "{sql}\n{error}");
    }
}

#[tokio::test]
async fn memory_is_bounded() {
    let world = World::new();
    let sql = "SELECT a.id, count(*) AS n FROM t a JOIN t b ON a.flag = b.flag GROUP BY a.id ORDER BY n, a.id LIMIT 1";
    let error = answer(&world.local(2, Some(100_000)), world.request(sql)).await.unwrap_err().to_string();
    assert!(error.starts_with("query: it needs more memory than it may have: "), "{error}");
}

#[tokio::test]
async fn a_plan_is_explained_without_reading() {
    let world = World::new();
    let text = world.local(2, None).explain(world.request("SELECT count(*) AS n FROM t WHERE id > 9")).await.unwrap();
    assert!(text.starts_with("table t: 7 files, 17146 rows, "), "{text}");
    assert!(text.contains("TableScan: t") && text.contains("DataSourceExec"), "{text}");
    assert!(text.contains("/t/a/deep/part-1.parquet") && !text.contains(".t3"), "a pin is in it\n{text}");
}

#[tokio::test]
async fn a_file_that_changes_meanwhile_is_an_error() {
    let world = World::new();
    let local = world.local(2, None);
    let (progress, _) = watch::channel(QueryProgress::default());
    let found = local.run(world.request("SELECT sum(id) AS s FROM t"), progress).await.unwrap();
    support::write_parquet(&world.folder.path("t/a/deep/part-1.parquet"), &support::rows(0, 3), 10);
    let error = found.rows.try_collect::<Vec<_>>().await.unwrap_err();
    let DataError::InputChanged { file } = &error else { panic!("{error}") };
    assert!(file.ends_with("/t/a/deep/part-1.parquet"), "{file}");
}
