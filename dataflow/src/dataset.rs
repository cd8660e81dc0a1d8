//! The dataset document: everything that any worker needs to read any canonical shard, and nothing that
//! depends on the cluster. Rows have one global order (file, row group, row, after the filter); shard `i` is
//! rows `[i · R, (i + 1) · R)` of it.

use std::collections::BTreeMap;
use std::ops::Range;

use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::DataError;
use crate::job::{CsvOptions, JobError, Param};
use crate::pin::PinnedFile;
use crate::types::{self, ColumnSpec};

/// Version of the document.
pub const FORMAT: u32 = 1;
/// Most rows of a shard.
pub const SHARD_ROWS: u32 = 65_536;
/// Fewest rows of a shard, unless the job says so.
pub const SHARD_ROWS_FLOOR: u32 = 1_024;
/// Bytes of numbers that a shard may hold.
const SHARD_BYTES: u64 = 64 << 20;

/// A prepared dataset, pinned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dataset {
    /// Version of the document, [`FORMAT`].
    pub format: u32,
    /// Name of the table in SQL; part of physical row ids.
    pub table: String,
    /// How the files are read.
    pub source: Source,
    /// Files in global order.
    pub files: Vec<PinnedFile>,
    /// Columns of the files.
    pub table_columns: Vec<ColumnSpec>,
    /// The query; absent: all rows and columns of the table. Unless the query engine runs it, it is row-wise.
    pub sql: Option<String>,
    /// Views that the query may read, in order.
    #[serde(default)]
    pub views: Vec<View>,
    /// Parameters that the query takes.
    pub params: BTreeMap<String, Param>,
    /// Time of the job in nanoseconds since 1970, where the query depends on it.
    pub now_ns: Option<i64>,
    /// Prepared columns.
    pub columns: Vec<ColumnSpec>,
    /// Prepared columns that identify a row.
    pub key: Vec<String>,
    /// Prepared column whose rows of one value stay together. Materialised, each load unit is a shard then: as many whole
    /// queries as fit [`Dataset::shard_rows`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// Rows of a shard.
    pub shard_rows: u32,
    /// True once [`Unit::rows`] counts the rows that the filter keeps.
    pub counted: bool,
    /// Load units in global order.
    pub units: Vec<Unit>,
    /// Fingerprint of the dataset that this one was materialised from.
    pub origin: Option<String>,
}

/// How the files of a dataset are read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Source {
    /// The user's Parquet files; shards point into them.
    Parquet,
    /// The user's delimited text; it is materialised before shards are read.
    Csv(CsvOptions),
    /// Parquet files that the sink wrote: prepared columns and row ids.
    Sink,
    /// Pinned tables over which the query engine computes the rows; they are written before shards are read.
    Query(Vec<QueryTable>),
}

/// A table of a query, pinned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueryTable {
    /// Name in SQL.
    pub name: String,
    /// Options of delimited text; absent: Parquet.
    pub csv: Option<CsvOptions>,
    /// Files in order.
    pub files: Vec<PinnedFile>,
    /// Columns of the files.
    pub columns: Vec<ColumnSpec>,
}

/// A table that is SQL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct View {
    /// Name in SQL.
    pub name: String,
    /// The query.
    pub sql: String,
}

/// What is read and decoded as one: a row group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unit {
    /// Index of the file.
    pub file: u32,
    /// Row group of the file.
    pub group: u32,
    /// Number in its file of the first row.
    pub first_row: u64,
    /// Rows before the filter.
    pub source_rows: u64,
    /// Rows after the filter; before the count the same as `source_rows`.
    pub rows: u64,
}

/// What the counts of a filtered dataset decide.
#[derive(Debug, Clone, PartialEq)]
pub enum Counted {
    /// Shards can be read.
    Ready(Dataset),
    /// The filter keeps less than an eighth of the rows: the rest is written once.
    Materialise(Dataset),
}

impl Dataset {
    /// Rows of the dataset; before the count of a filtered one, rows before the filter.
    pub fn rows(&self) -> u64 {
        self.units.iter().fold(0, |rows, u| u64::saturating_add(rows, u.rows))
    }

    fn source_rows(&self) -> u64 {
        self.units.iter().fold(0, |rows, u| u64::saturating_add(rows, u.source_rows))
    }

    /// Whether shards are load units, of unequal rows.
    fn is_grouped(&self) -> bool {
        self.query.is_some() && self.source == Source::Sink
    }

    /// Rows of some shards in the global order, as far as there are such.
    pub(crate) fn rows_of(&self, shards: Range<u32>) -> Range<u64> {
        if !self.is_grouped() {
            let (size, rows) = (u64::from(self.shard_rows), self.rows());
            return (u64::from(shards.start) * size).min(rows)..(u64::from(shards.end) * size).min(rows);
        }
        let before = |end: u32| self.units.iter().take(end as usize).map(|unit| unit.rows).sum();
        before(shards.start)..before(shards.end)
    }

    /// Rows of a shard that is there; `first` is the number of its first row.
    pub(crate) fn rows_at(&self, shard: u32, first: u64) -> u64 {
        match self.is_grouped() {
            true => self.units.get(shard as usize).map_or(0, |unit| unit.rows),
            false => self.rows().saturating_sub(first).min(u64::from(self.shard_rows)),
        }
    }

    /// Most rows of a shard.
    pub(crate) fn most_rows(&self) -> u64 {
        let longest = self.units.iter().filter(|_| self.is_grouped()).map(|unit| unit.rows).max();
        longest.unwrap_or(0).max(u64::from(self.shard_rows))
    }

    /// Number of shards.
    pub fn shards(&self) -> u32 {
        if self.is_grouped() {
            return self.units();
        }
        u32::try_from(self.rows().div_ceil(u64::from(self.shard_rows))).unwrap_or(u32::MAX)
    }

    /// Number of load units.
    pub fn units(&self) -> u32 {
        self.units.len() as u32
    }

    /// The first shard that starts in each load unit, ascending, units in which none starts left out: where
    /// leases are cut so that each unit is read by one worker.
    pub fn boundaries(&self) -> Vec<u32> {
        if self.is_grouped() {
            return (0..self.units()).collect();
        }
        let size = u64::from(self.shard_rows);
        let mut first_row = 0;
        let mut found = Vec::new();
        for unit in &self.units {
            let shard = u64::div_ceil(first_row, size);
            first_row += unit.rows;
            if shard * size < first_row {
                found.push(shard as u32);
            }
        }
        found
    }

    /// Where the rows of a shard come from, for people: `rows 65536..131072 of FILE`, with a filter or a
    /// shard over several files as far as units tell.
    pub fn place(&self, shard: u32) -> String {
        let Range { start, end } = self.rows_of(shard..shard.saturating_add(1));
        let mut first = 0;
        let mut places = Vec::new();
        for unit in &self.units {
            let (from, to) = (start.max(first), end.min(first + unit.rows));
            if from < to {
                places.push(self.unit_place(unit, from - first..to - first));
            }
            first += unit.rows;
        }
        places.join(" and ")
    }

    /// Where a load unit is, for people.
    pub fn place_of_unit(&self, unit: u32) -> Option<String> {
        let unit = self.units.get(unit as usize)?;
        Some(self.unit_place(unit, 0..unit.rows))
    }

    /// Rows of a unit, counted in the unit after the filter.
    fn unit_place(&self, unit: &Unit, rows: Range<u64>) -> String {
        let file = self.files.get(unit.file as usize).map_or("a file that is not listed", |file| file.path.as_str());
        match unit.rows == unit.source_rows {
            true => format!("rows {}..{} of {file}", unit.first_row + rows.start, unit.first_row + rows.end),
            // What the filter dropped is not known here: the row group is.
            false => format!("rows between {} and {} of {file}", unit.first_row, unit.first_row + unit.source_rows),
        }
    }

    /// Prepared columns as an Arrow schema.
    pub fn schema(&self) -> SchemaRef {
        types::schema(&self.columns)
    }

    /// SHA-256 in hexadecimal of what the rows depend on: pinned files, query, parameters, time where it is used,
    /// key, query column and shard size. A materialised dataset has the fingerprint of its origin.
    pub fn fingerprint(&self) -> String {
        if let Some(origin) = &self.origin {
            return origin.clone();
        }
        let unfiltered: Vec<_> = self.units.iter().map(|u| (u.file, u.group, u.source_rows)).collect();
        let query = (&self.sql, &self.views, &self.params, self.now_ns);
        let shape = (&self.table_columns, &self.columns, &self.key, self.shard_rows);
        let all = (self.format, &self.table, &self.source, &self.files, unfiltered, query, shape);
        let bytes = match &self.query {
            None => serde_json::to_vec(&all),
            Some(query) => serde_json::to_vec(&(all, query)),
        };
        let bytes = bytes.expect("plain data always serialises");
        Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
    }

    /// Takes the rows that the filter keeps in each load unit, in order.
    ///
    /// # Panics
    /// If there is not one count for each unit.
    pub fn with_counts(mut self, counts: Vec<u64>) -> Counted {
        assert_eq!(counts.len(), self.units.len(), "one count for each load unit");
        let before = self.source_rows();
        for (unit, rows) in self.units.iter_mut().zip(counts) {
            unit.rows = rows;
        }
        self.counted = true;
        match self.rows().saturating_mul(8) < before {
            true => Counted::Materialise(self),
            false => Counted::Ready(self),
        }
    }

    /// An error if the dataset has no rows, or more than shards can be numbered. Rows of a query are not known before it
    /// has run.
    pub fn check_rows(&self) -> Result<(), DataError> {
        if matches!(self.source, Source::Query(_)) {
            return Ok(());
        }
        let path = if self.sql.is_some() { "prepare".to_owned() } else { format!("tables.{}", self.table) };
        if self.rows() == 0 {
            let before = self.source_rows();
            let hint = match before {
                0 if self.origin.is_some() => "look at the conditions and joins of the query".to_owned(),
                0 => format!("table `{}` has no rows", self.table),
                n => format!("the filter drops all {n} rows of table `{}`", self.table),
            };
            return Err(JobError::at(path, "prepare gives no rows").hint(hint).into());
        }
        if self.rows().div_ceil(u64::from(self.shard_rows)) > u64::from(u32::MAX) {
            return Err(JobError::at("shard_rows", "the dataset would have more than 2^32 shards").into());
        }
        Ok(())
    }

    /// Checks what an index or version could break before the document is used.
    pub(crate) fn validate(&self) -> Result<(), DataError> {
        let broken = |message: &str| Err(DataError::internal("dataset document", message));
        if self.format != FORMAT {
            return broken("unknown format version");
        }
        if self.shard_rows == 0 {
            return broken("shards have no rows");
        }
        if self.units.iter().any(|u| u.file as usize >= self.files.len() || u.rows > u.source_rows) {
            return broken("a load unit does not fit its files");
        }
        Ok(())
    }
}

/// Rows of a shard for prepared columns: 65,536, halved until the numbers of a shard fit 64 MiB, at least 1,024.
pub fn shard_rows(schema: &SchemaRef) -> u32 {
    let numeric = schema.fields().iter().filter(|f| types::is_numeric(f.data_type())).count() as u64;
    let mut rows = SHARD_ROWS;
    while rows > SHARD_ROWS_FLOOR && u64::from(rows) * numeric * 8 > SHARD_BYTES {
        rows /= 2;
    }
    rows
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use arrow::datatypes::{DataType, Field, Schema};
    use std::sync::Arc;

    fn dataset(rows: &[u64], shard_rows: u32) -> Dataset {
        let unit = |(i, rows): (usize, &u64)| Unit { file: 0, group: i as u32, first_row: 0, source_rows: *rows, rows: *rows };
        Dataset {
            format: FORMAT,
            table: "t".into(),
            source: Source::Parquet,
            files: Vec::new(),
            table_columns: Vec::new(),
            sql: None,
            views: Vec::new(),
            params: BTreeMap::new(),
            now_ns: None,
            columns: Vec::new(),
            key: Vec::new(),
            query: None,
            shard_rows,
            counted: true,
            units: rows.iter().enumerate().map(unit).collect(),
            origin: None,
        }
    }

    #[test]
    fn boundaries_are_the_first_shards_that_start_in_a_unit() {
        // Shards start at rows 0, 10, 20, 30: units are [0,15) [15,15) [15,18) [18,21) [21,40).
        assert_eq!(dataset(&[15, 0, 3, 3, 19], 10).boundaries(), [0, 2, 3]);
        assert_eq!(dataset(&[15, 0, 3, 3, 19], 10).shards(), 4);
        assert_eq!(dataset(&[0, 5], 10).boundaries(), [0]);
        assert_eq!(dataset(&[10, 10], 10).boundaries(), [0, 1]);
        assert_eq!(dataset(&[], 10).boundaries(), [0u32; 0]);
    }

    #[test]
    fn a_shard_says_where_its_rows_are() {
        let mut data = dataset(&[15, 0, 25], 10);
        let file = |path: &str| PinnedFile { path: path.into(), location: path.into(), size: 0, etag: None, modified_ns: 0 };
        data.files = vec![file("a.parquet"), file("b.parquet")];
        data.units[2].file = 1;
        assert_eq!(data.place(0), "rows 0..10 of a.parquet");
        assert_eq!(data.place(1), "rows 10..15 of a.parquet and rows 0..5 of b.parquet");
        assert_eq!(data.place(3), "rows 15..25 of b.parquet");
        assert_eq!(data.place(9), "");
        data.units[2].source_rows = 50;
        assert_eq!(data.place(2), "rows between 0 and 50 of b.parquet");
        assert_eq!(data.place_of_unit(0).as_deref(), Some("rows 0..15 of a.parquet"));
    }

    #[test]
    fn shards_of_queries_are_units() {
        let mut data = dataset(&[15, 3, 9], 10);
        (data.query, data.source) = (Some("q".into()), Source::Sink);
        assert_eq!((data.shards(), data.boundaries()), (3, vec![0, 1, 2]));
        assert_eq!((data.rows_of(1..3), data.rows_of(0..1), data.rows_of(2..9)), (15..27, 0..15, 18..27));
        assert_eq!((data.rows_at(1, 15), data.most_rows()), (3, 15));
        let plain = dataset(&[15, 3, 9], 10);
        assert_eq!((plain.rows_of(1..3), plain.rows_of(7..9), plain.rows_at(2, 20)), (10..27, 27..27, 7));
        assert_ne!(Dataset { query: Some("q".into()), ..plain.clone() }.fingerprint(), plain.fingerprint());
    }

    #[test]
    fn a_filter_that_keeps_less_than_an_eighth_materialises() {
        assert!(matches!(dataset(&[80, 80], 10).with_counts(vec![20, 0]), Counted::Ready(_)));
        assert!(matches!(dataset(&[80, 80], 10).with_counts(vec![19, 0]), Counted::Materialise(_)));
        assert!(matches!(dataset(&[3], 10).with_counts(vec![0]), Counted::Materialise(_)));
    }

    #[test]
    fn counts_do_not_change_the_fingerprint_and_shard_size_does() {
        let plain = dataset(&[80, 80], 10);
        let Counted::Ready(counted) = plain.clone().with_counts(vec![40, 0]) else { panic!("kept enough") };
        assert_eq!(plain.fingerprint(), counted.fingerprint());
        assert_ne!(plain.fingerprint(), dataset(&[80, 80], 20).fingerprint());
    }

    #[test]
    fn wide_tables_have_smaller_shards() {
        let wide = |n: usize| {
            let field = |i| Field::new(format!("c{i}"), DataType::Float64, true);
            Arc::new(Schema::new((0..n).map(field).collect::<Vec<_>>()))
        };
        assert_eq!(shard_rows(&wide(30)), 65_536);
        assert_eq!(shard_rows(&wide(128)), 65_536);
        assert_eq!(shard_rows(&wide(129)), 32_768);
        assert_eq!(shard_rows(&wide(100_000)), 1_024);
    }
}
