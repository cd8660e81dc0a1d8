//! Data files for tests: a small table with signal, written as Parquet in any layout, and the usual job over it.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;

/// The features of [`job_text`], a list item each.
pub const FEATURES: &str = "  - impute: {columns: age, strategy: mean}
  - one_hot: city
";

/// More of them: columns that make training take more steps.
pub const CURVES: &str = "  - sql: {log_amount: ln(1 + amount), square: amount * amount / 1000, inverse: 10 / (1 + amount)}\n";

/// The usual job over `data/`: these features, logistic regression with these parameters, a model of its name.
pub fn job_text(name: &str, features: &str, parameters: &str) -> String {
    format!(
        "version: 1
name: {name}
shard_rows: 64
tables: {{rows: data/}}
prepare: SELECT id, amount, age, city, flag, label FROM rows
columns: {{target: label, key: id}}
split: {{by: random, test: 0.2}}
features:
{features}train: {{algorithm: logistic_regression, {parameters}}}
publish: {{model: {name}}}
"
    )
}

/// Rows of the test table: `id, amount, age, city, flag, label, price, part`.
pub struct Rows {
    state: u64,
    next: i64,
}

impl Rows {
    /// Rows of a seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed.wrapping_mul(2).wrapping_add(1), next: 0 }
    }

    /// The next number in [0, 1): Knuth's MMIX generator.
    pub fn uniform(&mut self) -> f64 {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 11) as f64 / (1u64 << 53) as f64
    }

    /// The next `count` rows.
    pub fn batch(&mut self, count: usize) -> RecordBatch {
        let mut columns = Columns::default();
        for _ in 0..count {
            self.row(&mut columns);
        }
        columns.batch()
    }

    fn row(&mut self, columns: &mut Columns) {
        let id = self.next;
        self.next += 1;
        let amount = (1.0 + 9.0 * self.uniform()) * (1.0 + 99.0 * self.uniform() * self.uniform());
        let age = (self.uniform() > 0.05).then(|| (18.0 + 60.0 * self.uniform()).floor());
        let city = ["bern", "köln", "lima", "oslo", "perth"][(self.uniform() * self.uniform() * 5.0) as usize];
        let flag = self.uniform() < 0.3;
        let noise = 2.0 * self.uniform() - 1.0;
        let score =
            0.01 * amount - 0.02 * age.unwrap_or(40.0) + if city == "lima" { 1.0 } else { -0.4 } + if flag { 0.8 } else { 0.0 };
        columns.id.push(id);
        columns.amount.push(amount);
        columns.age.push(age);
        columns.city.push(city);
        columns.flag.push(flag);
        columns.label.push(i64::from(score + 2.0 * noise > -0.5));
        columns.price.push(3.0 + 2.0 * score + noise);
        let part = self.uniform();
        columns.part.push(if part < 0.7 {
            "train"
        } else if part < 0.8 {
            "validation"
        } else {
            "test"
        });
    }
}

#[derive(Default)]
struct Columns {
    id: Vec<i64>,
    amount: Vec<f64>,
    age: Vec<Option<f64>>,
    city: Vec<&'static str>,
    flag: Vec<bool>,
    label: Vec<i64>,
    price: Vec<f64>,
    part: Vec<&'static str>,
}

impl Columns {
    fn batch(self) -> RecordBatch {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("id", Arc::new(Int64Array::from(self.id))),
            ("amount", Arc::new(Float64Array::from(self.amount))),
            ("age", Arc::new(Float64Array::from(self.age))),
            ("city", Arc::new(StringArray::from(self.city))),
            ("flag", Arc::new(BooleanArray::from(self.flag))),
            ("label", Arc::new(Int64Array::from(self.label))),
            ("price", Arc::new(Float64Array::from(self.price))),
            ("part", Arc::new(StringArray::from(self.part))),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
    }
}

/// Writes one file with row groups of the given sizes (the last takes the rest).
pub fn write_table(path: &Path, batch: &RecordBatch, groups: &[usize]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(1 << 30)).build();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), Some(properties)).unwrap();
    let mut at = 0;
    for (index, rows) in groups.iter().enumerate() {
        let rows = if index + 1 == groups.len() { batch.num_rows() - at } else { (*rows).min(batch.num_rows() - at) };
        if rows > 0 {
            writer.write(&batch.slice(at, rows)).unwrap();
            writer.flush().unwrap();
        }
        at += rows;
    }
    writer.close().unwrap();
}

/// Writes a prime number of files with uneven row groups, one of them a single row.
pub fn write_parts(folder: &Path, seed: u64, rows: usize) {
    let mut source = Rows::new(seed);
    let sizes = [rows / 3, 1, rows / 7, rows / 5, rows / 11, rows / 13];
    let last = rows - sizes.iter().sum::<usize>();
    for (index, size) in sizes.into_iter().chain([last]).enumerate() {
        let groups: &[usize] = [&[97, 1, 300, 0][..], &[1], &[64, 64, 64, 0], &[501, 0]][index % 4];
        write_table(&folder.join(format!("part-{index}.parquet")), &source.batch(size), groups);
    }
}
