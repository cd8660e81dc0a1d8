//! A small table of everything that goes wrong at the edges: nulls in every column but the key, both zeroes,
//! texts with the wildcards of LIKE, times to the microsecond, dates, decimals; and the same table without rows.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, RecordBatch, RecordBatchIterator,
    StringArray, TimestampMicrosecondArray,
};

use super::tables::write_file;
use crate::Rows;

/// Rows of `readings`.
pub const ROWS: usize = 3000;

/// First day of the readings, 2024-01-30, in days since 1970: months end within the first rows.
const FIRST_DAY: i32 = 19_752;

/// Writes `readings` (three files) and `nothing` (one file without rows) below a folder.
pub fn write(folder: &Path) {
    let mut source = Source { rows: Rows::new(5), next: 0 };
    for (part, rows) in [ROWS / 2, 1, ROWS - ROWS / 2 - 1].into_iter().enumerate() {
        put(&folder.join("readings"), part, source.batch(rows));
    }
    put(&folder.join("nothing"), 0, source.batch(0));
}

fn put(folder: &Path, part: usize, batch: RecordBatch) {
    std::fs::create_dir_all(folder).unwrap();
    let schema = batch.schema();
    let rows = RecordBatchIterator::new([Ok(batch)], schema);
    write_file(&folder.join(format!("part-{part}.parquet")), Box::new(rows), 400);
}

struct Source {
    rows: Rows,
    next: i64,
}

impl Source {
    fn uniform(&mut self) -> f64 {
        self.rows.uniform()
    }

    /// A value, or null in a tenth of the rows.
    fn maybe<T>(&mut self, value: T) -> Option<T> {
        (self.uniform() >= 0.1).then_some(value)
    }

    /// A whole number below a limit.
    fn below(&mut self, limit: usize) -> usize {
        (self.uniform() * limit as f64) as usize
    }

    /// The next rows: `id, room, x, n, at, day, flag, price, note`.
    fn batch(&mut self, count: usize) -> RecordBatch {
        let mut columns = Columns::default();
        for _ in 0..count {
            self.row(&mut columns);
        }
        columns.batch()
    }

    fn row(&mut self, columns: &mut Columns) {
        let id = self.next;
        self.next += 1;
        columns.id.push(id);
        let room = ["attic", "cellar", "hall", "kitchen", "kitchen_2", "store 50%"][self.below(6)];
        columns.room.push(self.maybe(room));
        let x = match self.below(40) {
            0 => 0.0,
            1 => -0.0,
            _ => 1.0 + 99.0 * self.uniform(),
        };
        columns.x.push(self.maybe(x));
        let n = self.below(50) as i64 - 10;
        columns.n.push(self.maybe(n));
        let at = i64::from(FIRST_DAY) * 86_400_000_000 + id * 61_000_001;
        columns.at.push(self.maybe(at));
        let day = FIRST_DAY + self.below(400) as i32;
        columns.day.push(self.maybe(day));
        let flag = self.uniform() < 0.5;
        columns.flag.push(self.maybe(flag));
        let price = self.below(2_000_000) as i128 - 500_000;
        columns.price.push(self.maybe(price));
        let note = ["", "ok", "50% off", "under_score", "Größe", "a'b", "back\\slash", "line\nbreak"][self.below(8)];
        columns.note.push(self.maybe(note));
    }
}

#[derive(Default)]
struct Columns {
    id: Vec<i64>,
    room: Vec<Option<&'static str>>,
    x: Vec<Option<f64>>,
    n: Vec<Option<i64>>,
    at: Vec<Option<i64>>,
    day: Vec<Option<i32>>,
    flag: Vec<Option<bool>>,
    price: Vec<Option<i128>>,
    note: Vec<Option<&'static str>>,
}

impl Columns {
    fn batch(self) -> RecordBatch {
        let price = Decimal128Array::from(self.price).with_precision_and_scale(12, 3).unwrap();
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("id", Arc::new(Int64Array::from(self.id))),
            ("room", Arc::new(StringArray::from(self.room))),
            ("x", Arc::new(Float64Array::from(self.x))),
            ("n", Arc::new(Int64Array::from(self.n))),
            ("at", Arc::new(TimestampMicrosecondArray::from(self.at))),
            ("day", Arc::new(Date32Array::from(self.day))),
            ("flag", Arc::new(BooleanArray::from(self.flag))),
            ("price", Arc::new(price)),
            ("note", Arc::new(StringArray::from(self.note))),
        ];
        let nullable = columns.into_iter().map(|(name, array)| (name, array, name != "id"));
        RecordBatch::try_from_iter_with_nullable(nullable).unwrap()
    }
}
