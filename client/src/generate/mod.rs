//! Seeded datasets for demonstrations, tests and benches: `sheaf data generate`. Every value is a
//! function of seed, size and unit (a row, a patient, a vehicle), so the columns are the same for any number of
//! threads and files. A dataset is one table or several that belong together.

mod arrays;
mod card_fraud;
mod diabetes_risk;
mod draw;
mod folder;
mod search_ranking;
mod vehicle_sensors;
mod writer;

use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::render::format;

/// Rows of a file when the number of files is not given.
const ROWS_PER_FILE: u64 = 250_000;
/// Most rows that a dataset may have; beyond it the ids of rows lose their meaning as exact floats.
const MAX_ROWS: u64 = 1_000_000_000_000;
/// Most files of a table.
const MAX_FILES: u32 = 99_999;

/// A dataset that can be generated.
pub struct Dataset {
    /// What it is called.
    pub name: &'static str,
    /// What it holds, in one line.
    pub about: &'static str,
    /// What the number of rows counts.
    pub counts: &'static str,
    /// Usual number of them: a demo that takes seconds.
    pub rows: u64,
    /// Its tables, the one that is counted first. A single table lies in the chosen folder itself, several in a
    /// folder each below it.
    pub tables: &'static [&'static str],
    build: fn(rows: u64, seed: u64) -> Vec<Box<dyn Table>>,
}

/// The datasets there are.
pub const DATASETS: &[Dataset] = &[
    Dataset {
        name: "card-fraud",
        about: "card transactions of half a year with 0.2-0.5 % fraud: skewed merchants, heavy tails, nulls",
        counts: "transactions",
        rows: 1_000_000,
        tables: card_fraud::TABLES,
        build: card_fraud::tables,
    },
    Dataset {
        name: "diabetes-risk",
        about: "patients with visits, lab results, medications and diagnoses: who gets diabetes within five years?",
        counts: "patients",
        rows: 50_000,
        tables: diabetes_risk::TABLES,
        build: diabetes_risk::tables,
    },
    Dataset {
        name: "search-ranking",
        about: "documents found for queries to a shop's search, graded 0 to 4: which belong on top?",
        counts: "queries",
        rows: 5_000,
        tables: search_ranking::TABLES,
        build: search_ranking::tables,
    },
    Dataset {
        name: "vehicle-sensors",
        about: "readings of delivery vans every 20 minutes with maintenance: how far until the drive belt is replaced?",
        counts: "readings",
        rows: 500_000,
        tables: vehicle_sensors::TABLES,
        build: vehicle_sensors::tables,
    },
];

/// What to generate, and where.
#[derive(Debug, Clone)]
pub struct GenerateOptions {
    /// A name of [`DATASETS`].
    pub name: String,
    /// Number of what the dataset counts, 1 to 10¹².
    pub rows: u64,
    /// Seed of all values.
    pub seed: u64,
    /// Folder for the files; made if it is not there. A table's folder that holds anything else is refused.
    pub out: PathBuf,
    /// Number of Parquet files of each table, 1 to 99,999 and not above what it is made of; absent: one per 250,000
    /// rows, four if that is fewer. Tables in CSV are one file.
    pub files: Option<u32>,
    /// Threads that write, a file each at a time; 0: as many as the machine has.
    pub threads: usize,
}

/// What was generated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generated {
    /// Rows written, of all tables.
    pub rows: u64,
    /// Files written, of all tables.
    pub files: u32,
    /// Size of all files in bytes.
    pub bytes: u64,
    /// What is worth knowing, to be shown in this order: (what, value).
    pub facts: Vec<(String, String)>,
}

/// Whoever is told how far it is.
pub trait Watch: Sync {
    /// The next table begins: `units` of what `noun` says are to be made.
    fn table(&self, name: &str, units: u64, noun: &'static str);
    /// So many more are made. Called from several threads.
    fn made(&self, units: u64);
}

impl<F: Fn(u64) + Sync> Watch for F {
    fn table(&self, _: &str, _: u64, _: &'static str) {}

    fn made(&self, units: u64) {
        self(units);
    }
}

/// What a table's files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// As many Parquet files as asked for.
    Parquet,
    /// One CSV file with a header: master data as other systems hand it over.
    Csv,
}

impl Layout {
    fn extension(self) -> &'static str {
        match self {
            Layout::Parquet => "parquet",
            Layout::Csv => "csv",
        }
    }
}

/// A table whose units can be made anywhere, in any order. A unit is what has to be made at once: a row, or all
/// rows of a patient.
trait Table: Sync {
    /// Its name: one of the dataset's tables.
    fn name(&self) -> &'static str;
    /// Columns of every batch.
    fn schema(&self) -> SchemaRef;
    /// Number of units.
    fn units(&self) -> u64;
    /// What units are, in the plural.
    fn noun(&self) -> &'static str {
        "rows"
    }
    /// About how many rows a unit has; 1 or more.
    fn rows_per_unit(&self) -> u64 {
        1
    }
    /// What its files are.
    fn layout(&self) -> Layout {
        Layout::Parquet
    }
    /// The rows of some units.
    fn batch(&self, units: Range<u64>) -> anyhow::Result<RecordBatch>;
}

/// The dataset of a name.
///
/// # Errors
/// There is none of that name.
pub fn dataset(name: &str) -> anyhow::Result<&'static Dataset> {
    let Some(found) = DATASETS.iter().find(|d| d.name == name) else {
        let known: Vec<&str> = DATASETS.iter().map(|d| d.name).collect();
        bail!("dataset `{name}` is not known: there are {}", known.join(", "))
    };
    Ok(found)
}

/// Writes the dataset.
///
/// # Errors
/// Options out of range, a folder that holds files of somebody else, and whatever the file system says.
pub fn generate(options: &GenerateOptions, watch: &dyn Watch) -> anyhow::Result<Generated> {
    let dataset = dataset(&options.name)?;
    ensure!(
        (1..=MAX_ROWS).contains(&options.rows),
        "cannot generate {} {}: give a number from 1 to {}",
        format::count(options.rows),
        dataset.counts,
        format::count(MAX_ROWS)
    );
    let tables = (dataset.build)(options.rows, options.seed);
    let plans: Vec<writer::Plan> = tables.iter().map(|t| plan(options, t.as_ref())).collect::<anyhow::Result<_>>()?;
    let mut folders = Vec::new();
    for (table, plan) in tables.iter().zip(&plans) {
        let path = path(options, dataset, table.name());
        folders.push(folder::Folder::claim(options, &path, plan.file_names(table.layout()))?);
    }
    let mut written = Vec::new();
    for ((table, plan), folder) in tables.iter().zip(plans).zip(folders) {
        watch.table(table.name(), plan.units, table.noun());
        let tally = writer::write(table.as_ref(), &plan, &folder, &|units| watch.made(units))
            .with_context(|| format!("generate {} of {} in `{}`", table.name(), options.name, options.out.display()))?;
        folder.finish()?;
        written.push(Written { name: table.name(), schema: table.schema(), files: plan.files, tally });
    }
    Ok(Generated {
        rows: written.iter().map(|w| w.tally.rows).sum(),
        files: written.iter().map(|w| w.files).sum(),
        bytes: written.iter().map(|w| w.tally.bytes).sum(),
        facts: facts(options, &written),
    })
}

/// One table that stands on disk.
struct Written {
    name: &'static str,
    schema: SchemaRef,
    files: u32,
    tally: writer::Tally,
}

/// Folder of a table.
fn path(options: &GenerateOptions, dataset: &Dataset, table: &str) -> PathBuf {
    if dataset.tables.len() == 1 { options.out.clone() } else { options.out.join(table) }
}

fn plan(options: &GenerateOptions, table: &dyn Table) -> anyhow::Result<writer::Plan> {
    let threads = match options.threads {
        0 => std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
        n => n,
    };
    let units = table.units();
    Ok(writer::Plan { units, rows_per_unit: table.rows_per_unit(), files: files(options, table)?, threads })
}

fn files(options: &GenerateOptions, table: &dyn Table) -> anyhow::Result<u32> {
    let units = table.units();
    let rows = units.saturating_mul(table.rows_per_unit());
    let usual = rows.div_ceil(ROWS_PER_FILE).max(4).min(units).min(u64::from(MAX_FILES)) as u32;
    let files = options.files.unwrap_or(usual);
    ensure!(
        (1..=MAX_FILES).contains(&files) && u64::from(files) <= units,
        "cannot write {} {noun} into {files} files: give 1 to {MAX_FILES} files and not more than there are {noun}",
        format::count(units),
        noun = table.noun()
    );
    Ok(if table.layout() == Layout::Csv { 1 } else { files })
}

/// Rows, files and bytes, then the share of each flag and of the nulls of each column that has any.
fn facts(options: &GenerateOptions, written: &[Written]) -> Vec<(String, String)> {
    let mut facts = match written {
        [only] => {
            vec![("rows".to_owned(), format::count(only.tally.rows)), ("files".to_owned(), format::count(u64::from(only.files)))]
        }
        several => several.iter().map(Written::size).collect(),
    };
    facts.push(("size".to_owned(), format::bytes(written.iter().map(|w| w.tally.bytes).sum())));
    facts.push(("seed".to_owned(), options.seed.to_string()));
    for table in written {
        let prefix = if written.len() == 1 { String::new() } else { format!("{}.", table.name) };
        facts.extend(table.shares(&table.tally.trues, &prefix, ""));
        facts.extend(table.shares(&table.tally.nulls, &prefix, " null"));
    }
    facts
}

impl Written {
    fn size(&self) -> (String, String) {
        let files = format::count(u64::from(self.files));
        let noun = if self.files == 1 { "file" } else { "files" };
        (self.name.to_owned(), format!("{} rows in {files} {noun}", format::count(self.tally.rows)))
    }

    fn shares(&self, counts: &[Option<u64>], prefix: &str, label: &str) -> Vec<(String, String)> {
        let share = |n: u64| format::percent(n as f64 / self.tally.rows.max(1) as f64);
        let named = self.schema.fields().iter().zip(counts);
        named.filter_map(|(field, n)| Some((format!("{prefix}{}{label}", field.name()), share((*n)?)))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dataset_makes_the_tables_that_it_names() {
        for dataset in DATASETS {
            let names: Vec<&str> = (dataset.build)(1_000, 1).iter().map(|t| t.name()).collect();
            assert_eq!(names, dataset.tables, "{}", dataset.name);
        }
    }

    #[test]
    fn every_table_can_be_made_in_parts() {
        for table in DATASETS.iter().flat_map(|d| (d.build)(3_000, 1)) {
            let units = table.units().min(40);
            let whole = table.batch(0..units).expect("a batch");
            let parts = [table.batch(0..units / 3).expect("a batch"), table.batch(units / 3..units).expect("a batch")];
            assert_eq!(arrow::compute::concat_batches(&table.schema(), &parts).expect("one schema"), whole, "{}", table.name());
        }
    }
}
