//! A small shop as Parquet: `customers`, `orders` and `events`, the last two with times and with amounts that no
//! two orders of summing up agree on; and the job over it that joins, aggregates and looks through windows.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};

use crate::{Rows, write_table};

/// Rows of each table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shop {
    /// Rows of `customers`.
    pub customers: usize,
    /// Rows of `orders`.
    pub orders: usize,
    /// Rows of `events`, and prepared rows.
    pub events: usize,
}

impl Default for Shop {
    fn default() -> Self {
        Self { customers: 300, orders: 4000, events: 6000 }
    }
}

/// 2024-01-01 in microseconds since 1970.
const START_US: i64 = 19_723 * 86_400_000_000;
/// Time between two rows of `orders` and `events`.
const STEP_US: i64 = 97_000_003;

impl Shop {
    /// Writes the three tables below a folder, each in several files with uneven row groups.
    pub fn write(&self, folder: &Path) {
        let mut rows = Rows::new(17);
        put(folder, "customers", &customers(&mut rows, self.customers));
        put(folder, "orders", &orders(&mut rows, self.orders, self.customers));
        put(folder, "events", &events(&mut rows, self.events, self.customers));
    }

    /// The job over the three tables in `data/`: what it prepares has a row for each event.
    pub fn job(&self, name: &str) -> String {
        let rows = self.events;
        let prepare = PREPARE.lines().map(|line| format!("  {line}\n")).collect::<String>();
        format!(
            "version: 1
name: {name}
seed: 3
shard_rows: 64
tables: {{customers: data/customers/, orders: data/orders/, events: data/events/}}
prepare: |
{prepare}columns: {{target: label, key: event_id, ignore: customer_id}}
checks:
  - {{unique: [event_id]}}
  - {{row_count: {{min: {rows}, max: {rows}}}}}
split: {{by: random, test: 0.2}}
features:
  - impute: {{columns: [credit, previous, spent, mean_amount, spread, slope], strategy: median}}
  - standardize: \"*\"
  - one_hot: [kind, city]
train: {{algorithm: logistic_regression, solver: lbfgs, l2: 0.001, tolerance: 0, max_iterations: 12}}
publish: {{model: {name}}}
"
        )
    }
}

/// Joins of three kinds, aggregates of floats, windows of every frame that sums up, a subquery.
const PREPARE: &str = "\
WITH spent AS (
  SELECT
    customer_id,
    sum(amount) AS spent,
    avg(amount) AS mean_amount,
    stddev(amount) AS spread,
    regr_slope(amount, items) AS slope,
    count(DISTINCT items) AS kinds
  FROM orders
  GROUP BY customer_id
),
trail AS (
  SELECT
    event_id,
    customer_id,
    kind,
    label,
    sum(charge) OVER (PARTITION BY customer_id ORDER BY at, event_id ROWS BETWEEN 9 PRECEDING AND CURRENT ROW) AS recent,
    avg(charge) OVER (PARTITION BY customer_id) AS usual,
    lag(charge) OVER (PARTITION BY customer_id ORDER BY at, event_id) AS previous,
    CAST(row_number() OVER (PARTITION BY customer_id, kind ORDER BY at) AS DOUBLE) AS place
  FROM events
),
around AS (
  SELECT a.event_id, sum(b.charge) AS around, count(*) AS near
  FROM events AS a
  JOIN events AS b ON a.customer_id = b.customer_id AND b.at BETWEEN a.at - INTERVAL '2' DAY AND a.at
  GROUP BY a.event_id
)
SELECT
  t.event_id, t.customer_id, t.kind, t.label, t.recent, t.usual, t.previous, t.place,
  a.around, a.near, c.city, c.credit, s.spent, s.mean_amount, s.spread, s.slope, coalesce(s.kinds, 0) AS kinds,
  CASE WHEN large.customer_id IS NULL THEN 0.0 ELSE 1.0 END AS big
FROM trail AS t
JOIN around AS a ON a.event_id = t.event_id
JOIN customers AS c ON c.customer_id = t.customer_id
LEFT JOIN spent AS s ON s.customer_id = t.customer_id
LEFT JOIN (SELECT DISTINCT customer_id FROM orders WHERE items > 8) AS large ON large.customer_id = t.customer_id
";

/// Writes a table in three files.
fn put(folder: &Path, table: &str, batch: &RecordBatch) {
    let folder = folder.join(table);
    let (all, third) = (batch.num_rows(), batch.num_rows() / 3);
    let groups = [(all / 20).max(50), 1, (all / 7).max(50), 0];
    for (file, (from, rows)) in [(0, third), (third, 1), (third + 1, all - third - 1)].into_iter().enumerate() {
        write_table(&folder.join(format!("part-{file}.parquet")), &batch.slice(from, rows), &groups);
    }
}

/// An amount: small ones, and every tenth so large that its sum with a small one has no bits left for cents.
fn amount(rows: &mut Rows) -> f64 {
    let (size, part) = (rows.uniform(), 1.0 + rows.uniform());
    let sign = if rows.uniform() < 0.5 { -1.0 } else { 1.0 };
    match size {
        size if size < 0.05 => sign * part * f64::from(2u32.pow(30)) * f64::from(2u32.pow(20)),
        size if size < 0.1 => sign * part * f64::from(2u32.pow(30)),
        size => part * (1.0 + 60.0 * size),
    }
}

fn customers(rows: &mut Rows, count: usize) -> RecordBatch {
    let city = |rows: &mut Rows| ["bern", "köln", "lima", "oslo"].get((rows.uniform() * 5.0) as usize).copied();
    let cities: Vec<Option<&str>> = (0..count).map(|_| city(rows)).collect();
    let credit: Vec<Option<f64>> = (0..count).map(|_| (rows.uniform() > 0.1).then(|| 100.0 * rows.uniform())).collect();
    let joined: Vec<i32> = (0..count).map(|_| 18_000 + (1500.0 * rows.uniform()) as i32).collect();
    let cities: Vec<&str> = cities.into_iter().map(|city| city.unwrap_or("elsewhere")).collect();
    batch(vec![
        ("customer_id", Arc::new(Int64Array::from_iter_values(0..count as i64))),
        ("city", Arc::new(StringArray::from(cities))),
        ("credit", Arc::new(Float64Array::from(credit))),
        ("joined", Arc::new(Date32Array::from(joined))),
    ])
}

/// A customer; the last tenth of them has no orders.
fn owner(rows: &mut Rows, customers: usize) -> i64 {
    (rows.uniform() * customers as f64) as i64
}

fn times(count: usize) -> ArrayRef {
    let at = (0..count as i64).map(|row| START_US + row * STEP_US);
    Arc::new(TimestampMicrosecondArray::from_iter_values(at))
}

fn orders(rows: &mut Rows, count: usize, customers: usize) -> RecordBatch {
    let owners: Vec<i64> = (0..count).map(|_| owner(rows, customers * 9 / 10)).collect();
    let amounts: Vec<f64> = (0..count).map(|_| amount(rows)).collect();
    let items: Vec<i64> = (0..count).map(|_| 1 + (9.2 * rows.uniform()) as i64).collect();
    batch(vec![
        ("order_id", Arc::new(Int64Array::from_iter_values(0..count as i64))),
        ("customer_id", Arc::new(Int64Array::from(owners))),
        ("at", times(count)),
        ("amount", Arc::new(Float64Array::from(amounts))),
        ("items", Arc::new(Int64Array::from(items))),
    ])
}

fn events(rows: &mut Rows, count: usize, customers: usize) -> RecordBatch {
    let owners: Vec<i64> = (0..count).map(|_| owner(rows, customers)).collect();
    let charges: Vec<f64> = (0..count).map(|_| amount(rows)).collect();
    let kinds: Vec<usize> = (0..count).map(|_| (rows.uniform() * 4.0) as usize).collect();
    let label = |kind: &usize| i64::from(*kind as f64 + 3.0 * rows.uniform() > 3.0);
    let labels: Vec<i64> = kinds.iter().map(label).collect();
    let kinds: Vec<&str> = kinds.into_iter().map(|kind| ["call", "chat", "mail", "visit"][kind]).collect();
    batch(vec![
        ("event_id", Arc::new(Int64Array::from_iter_values(0..count as i64))),
        ("customer_id", Arc::new(Int64Array::from(owners))),
        ("at", times(count)),
        ("charge", Arc::new(Float64Array::from(charges))),
        ("kind", Arc::new(StringArray::from(kinds))),
        ("label", Arc::new(Int64Array::from(labels))),
    ])
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

/// Two tables of long texts that do not compress, and a join that needs the texts of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payloads {
    /// Rows of each table.
    pub rows: usize,
}

/// Bytes of a text.
const TEXT: usize = 512;

impl Payloads {
    /// Tables that hold about so many bytes of text, both together.
    pub fn of_bytes(bytes: u64) -> Self {
        Self { rows: (bytes / 2 / TEXT as u64) as usize }
    }

    /// Bytes of text in both tables.
    pub fn bytes(&self) -> u64 {
        (self.rows * 2 * TEXT) as u64
    }

    /// Writes the tables `lefts` and `rights`, whose keys go up in one and down in the other.
    pub fn write(&self, folder: &Path) {
        let mut rows = Rows::new(23);
        for table in ["lefts", "rights"] {
            for part in 0..4 {
                let (from, to) = (self.rows * part / 4, self.rows * (part + 1) / 4);
                let keys = (from..to).map(|row| if table == "lefts" { row } else { self.rows - 1 - row } as i64);
                let texts = (from..to).map(|_| text(&mut rows));
                let columns = batch(vec![
                    ("id", Arc::new(Int64Array::from_iter_values(keys))),
                    ("text", Arc::new(StringArray::from_iter_values(texts))),
                ]);
                let path = folder.join(table).join(format!("part-{part}.parquet"));
                write_table(&path, &columns, &[8192; 64]);
            }
        }
    }

    /// The job that joins them; it prepares a row for each key.
    pub fn job(&self) -> String {
        let rows = self.rows;
        format!(
            "version: 1
name: payloads
tables: {{lefts: data/lefts/, rights: data/rights/}}
prepare: |
  SELECT l.id, CASE WHEN l.text < r.text THEN 1 ELSE 0 END AS less, substring(r.text FROM 1 FOR 4) AS head
  FROM lefts AS l JOIN rights AS r ON l.id = r.id
columns: {{key: id}}
checks:
  - {{unique: [id]}}
  - {{row_count: {{min: {rows}, max: {rows}}}}}
"
        )
    }
}

/// A text of letters, 6 bits each.
fn text(rows: &mut Rows) -> String {
    let mut bytes = Vec::with_capacity(TEXT);
    while bytes.len() < TEXT {
        let number = rows.uniform().to_bits();
        bytes.extend((0..8).map(|place| b'0' + ((number >> (4 + 6 * place)) & 0x3f) as u8));
    }
    String::from_utf8(bytes).unwrap()
}
