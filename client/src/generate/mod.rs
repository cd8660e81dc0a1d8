//! Seeded datasets for demonstrations, tests and benches: `sheaf data generate`. Every value is a
//! function of seed, size and row, so the columns are the same for any number of threads and files.

mod card_fraud;
mod draw;
mod folder;
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
/// Most files of a dataset.
const MAX_FILES: u32 = 99_999;

/// What to generate, and where.
#[derive(Debug, Clone)]
pub struct GenerateOptions {
    /// A name of [`names`].
    pub name: String,
    /// Number of rows, 1 to 10¹².
    pub rows: u64,
    /// Seed of all values.
    pub seed: u64,
    /// Folder for the files; made if it is not there. One that holds anything else is refused.
    pub out: PathBuf,
    /// Number of files, 1 to 99,999 and not above `rows`; absent: one per 250,000 rows, four if that is fewer.
    pub files: Option<u32>,
    /// Threads that write, a file each at a time; 0: as many as the machine has.
    pub threads: usize,
}

/// What was generated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generated {
    /// Rows written.
    pub rows: u64,
    /// Files written.
    pub files: u32,
    /// Size of all files in bytes.
    pub bytes: u64,
    /// What is worth knowing, to be shown in this order: (what, value).
    pub facts: Vec<(String, String)>,
}

/// A dataset whose rows can be made anywhere, in any order.
trait Dataset: Sync {
    /// Columns of every batch.
    fn schema(&self) -> SchemaRef;
    /// The rows of a range.
    fn batch(&self, rows: Range<u64>) -> anyhow::Result<RecordBatch>;
}

/// The datasets there are, with what they hold.
pub fn names() -> &'static [(&'static str, &'static str)] {
    &[("card-fraud", "card transactions of half a year with 0.2-0.5 % fraud: skewed merchants, heavy tails, nulls")]
}

/// Writes the dataset. `progress` is called from several threads with the number of rows just made.
///
/// # Errors
/// Options out of range, a folder that holds files of somebody else, and whatever the file system says.
pub fn generate(options: &GenerateOptions, progress: &(dyn Fn(u64) + Sync)) -> anyhow::Result<Generated> {
    ensure!(
        (1..=MAX_ROWS).contains(&options.rows),
        "cannot generate {} rows: give a number from 1 to {}",
        format::count(options.rows),
        format::count(MAX_ROWS)
    );
    let dataset = dataset(options)?;
    let files = files(options)?;
    let threads = match options.threads {
        0 => std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
        n => n,
    };
    let folder = folder::Folder::claim(options, files)?;
    let plan = writer::Plan { rows: options.rows, files, threads };
    let tally = writer::write(dataset.as_ref(), &plan, &folder, progress)
        .with_context(|| format!("generate {} in `{}`", options.name, options.out.display()))?;
    folder.finish()?;
    let facts = facts(options, files, dataset.schema(), &tally);
    Ok(Generated { rows: options.rows, files, bytes: tally.bytes, facts })
}

fn dataset(options: &GenerateOptions) -> anyhow::Result<Box<dyn Dataset>> {
    match options.name.as_str() {
        "card-fraud" => Ok(Box::new(card_fraud::CardFraud::new(options.rows, options.seed))),
        other => {
            let known: Vec<&str> = names().iter().map(|(name, _)| *name).collect();
            bail!("dataset `{other}` is not known: there is {}", known.join(", "))
        }
    }
}

fn files(options: &GenerateOptions) -> anyhow::Result<u32> {
    let usual = options.rows.div_ceil(ROWS_PER_FILE).max(4).min(options.rows).min(u64::from(MAX_FILES)) as u32;
    let files = options.files.unwrap_or(usual);
    ensure!(
        (1..=MAX_FILES).contains(&files) && u64::from(files) <= options.rows,
        "cannot write {} rows into {files} files: give 1 to {MAX_FILES} files and at least a row for each",
        format::count(options.rows)
    );
    Ok(files)
}

/// Rows, files and bytes, then the share of each flag and of the nulls of each column that has any.
fn facts(options: &GenerateOptions, files: u32, schema: SchemaRef, tally: &writer::Tally) -> Vec<(String, String)> {
    let share = |n: u64| format::percent(n as f64 / options.rows as f64);
    let mut facts = vec![
        ("rows".to_owned(), format::count(options.rows)),
        ("files".to_owned(), format::count(u64::from(files))),
        ("size".to_owned(), format::bytes(tally.bytes)),
        ("seed".to_owned(), options.seed.to_string()),
    ];
    let named = |counts: &[Option<u64>], label: &str| {
        let named = schema.fields().iter().zip(counts);
        named.filter_map(|(field, n)| Some((format!("{}{label}", field.name()), share((*n)?)))).collect::<Vec<_>>()
    };
    facts.extend(named(&tally.trues, ""));
    facts.extend(named(&tally.nulls, " null"));
    facts
}
