//! `sheaf data head` and `sheaf data schema`: rows and columns of any table that a job can read, and what a job makes of
//! them, in this process.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use serde_json::json;
use sheaf_dataflow::error::DataError;
use sheaf_dataflow::inspect::{self, TableInfo};
use sheaf_dataflow::job::{Format as FileFormat, Job, JobError, Table};
use sheaf_dataflow::look::{self, FeatureLook, FittedOver, LookError, StageColumn};
use sheaf_dataflow::query::QueryRows;
use sheaf_dataflow::query::local::{Local, LocalOptions};
use sheaf_dataflow::stores::{StoreOptions, Stores};
use sheaf_runtime::exit::Exit;
use sheaf_runtime::fault::Fault;
use sheaf_runtime::order::pin_now;

use super::answer::{Answer, Outcome};
use super::predict::root_of;
use super::setup::Loaded;
use super::{print, print_json, setup};
use crate::cli::{AfterArgs, DataSchemaArgs, FileArgs, Format, HeadArgs, HeadFormat, LookArgs, RowFormat, Stage};
use crate::failure::Failure;
use crate::render::{Align, Look, format, table};

/// Prepared rows over whose training rows the steps of a look are fitted, unless another number is asked for.
const FIT_ROWS: u64 = 100_000;

/// Shows the first rows.
pub async fn head(args: HeadArgs) -> Result<Exit, Failure> {
    let began = std::time::Instant::now();
    let data = Data::open(&args.look)?;
    let mut rows = match stage(&args.after)? {
        Some(Stage::Prepare) => data.prepared(args.rows).await?,
        Some(Stage::Features) => data.features(&args.after).await?.rows(args.rows as usize, &data)?,
        None => {
            let table = data.table(args.look.table.as_deref(), "--table NAME or --after prepare")?;
            let head = inspect::head(&data.stores, &table, args.rows as usize).await.map_err(|e| data.show(e))?;
            if !head.unreadable.is_empty() {
                let names: Vec<_> = head.unreadable.iter().map(|c| format!("{} ({})", c.name, c.kind)).collect();
                eprintln!("left out, as no query can read them: {}", names.join(", "));
            }
            head.rows
        }
    };
    let output = match args.output {
        HeadFormat::Table => RowFormat::Table,
        HeadFormat::Json => RowFormat::Json,
        HeadFormat::Csv => RowFormat::Csv,
    };
    let mut answer = Answer::new(output, None)?;
    let count = pour(&mut rows, &mut answer, &data).await?;
    rows.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    answer.finish(&Outcome { rows: count, more: false, seconds: began.elapsed().as_secs_f64() })?;
    Ok(Exit::Done)
}

async fn pour(rows: &mut QueryRows, answer: &mut Answer, data: &Data) -> Result<u64, Failure> {
    answer.start(&rows.schema)?;
    let mut count = 0;
    while let Some(batch) = rows.next().await.map_err(|e| data.show(e))? {
        count += batch.num_rows() as u64;
        answer.add(&batch)?;
    }
    Ok(count)
}

/// Shows the columns.
pub async fn schema(args: DataSchemaArgs) -> Result<Exit, Failure> {
    let data = Data::open(&args.look)?;
    match stage(&args.after)? {
        Some(Stage::Prepare) => return columns(&args, &data.prepared_columns().await?, None),
        Some(Stage::Features) => {
            let seen = data.features(&args.after).await?;
            return columns(&args, &seen.0.columns, Some(&seen));
        }
        None => {}
    }
    let table = data.table(args.look.table.as_deref(), "--table NAME, or --after prepare")?;
    let info = inspect::inspect(&data.stores, &table).await.map_err(|e| data.show(e))?;
    match args.output {
        Format::Json => {
            let mut value = serde_json::to_value(&info).map_err(|e| Failure::new(Exit::Failed, e.to_string()))?;
            value["path"] = json!(table.path);
            print_json(&value)
        }
        Format::Table => print(&described(&table.path, &info, &Look::stdout())),
    }
}

/// Shows the columns after a stage.
fn columns(args: &DataSchemaArgs, columns: &[StageColumn], features: Option<&Features>) -> Result<Exit, Failure> {
    match args.output {
        Format::Json => {
            let mut value = json!({"columns": columns});
            if let Some(Features(seen)) = features {
                value["fitted_over"] = json!(seen.fitted);
                value["warnings"] = json!(seen.warnings);
            }
            print_json(&value)
        }
        Format::Table => {
            features.iter().for_each(|features| features.tell());
            print(&stage_columns(columns, &Look::stdout()))
        }
    }
}

fn stage_columns(columns: &[StageColumn], look: &Look) -> String {
    let encoded = columns.iter().any(|column| !column.encoding.is_empty());
    let mut heads = vec![("column", Align::Whole), ("type", Align::Left), ("role", Align::Left)];
    heads.extend(encoded.then_some(("encoding", Align::Left)));
    let line = |column: &StageColumn| {
        let mut line = vec![column.name.clone(), column.kind.clone(), column.role.clone()];
        line.extend(encoded.then(|| column.encoding.clone()));
        line
    };
    table(look, &heads, &columns.iter().map(line).collect::<Vec<_>>())
}

/// The stage that is asked for.
fn stage(after: &AfterArgs) -> Result<Option<Stage>, Failure> {
    match (after.stage, after.fit_rows) {
        (Some(Stage::Features), _) | (_, None) => Ok(after.stage),
        (_, Some(_)) => Err(Failure::usage("--fit-rows is for --after features: no step is fitted before it")),
    }
}

/// The feature matrix of some rows.
struct Features(FeatureLook);

impl Features {
    /// The first rows of it; tells over which rows its steps were fitted.
    fn rows(&self, rows: usize, data: &Data) -> Result<QueryRows, Failure> {
        let rows = self.0.head(rows).map_err(|e| data.show_look(e))?;
        self.tell();
        Ok(rows)
    }

    /// Tells over which rows the steps were fitted, and what deserves attention.
    fn tell(&self) {
        eprintln!("{}", fitted_over(&self.0.fitted));
        self.0.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    }
}

fn fitted_over(fitted: &FittedOver) -> String {
    let rows = format::count(fitted.rows);
    match (fitted.training_rows, fitted.more) {
        (None, _) => "no step had to be fitted".to_owned(),
        (Some(training), false) => format!("steps fitted over all {} training rows", format::count(training)),
        (Some(training), true) => format!(
            "steps fitted over the {} training rows among the first {rows} prepared rows (--fit-rows); the job takes all",
            format::count(training)
        ),
    }
}

/// The table as text: what its files are, then a line a column.
fn described(path: &str, info: &TableInfo, look: &Look) -> String {
    let kind = match info.format {
        FileFormat::Parquet => "Parquet",
        FileFormat::Csv => "delimited text",
    };
    let many = |n: u64, what: &str| format!("{} {what}{}", format::count(n), if n == 1 { "" } else { "s" });
    let mut facts = vec![kind.to_owned(), many(info.files as u64, "file"), many(info.rows, "row"), format::bytes(info.bytes)];
    facts.extend(info.row_groups.map(|groups| many(groups as u64, "row group")));
    let heads = [("column", Align::Whole), ("type", Align::Left), ("nulls", Align::Right)];
    let line = |column: &inspect::ColumnInfo| {
        let kind = if column.readable { column.kind.clone() } else { format!("{} (no query can read it)", column.kind) };
        vec![column.name.clone(), kind, column.nulls.map_or_else(|| "?".to_owned(), format::count)]
    };
    let lines: Vec<_> = info.columns.iter().map(line).collect();
    format!("{path}\n{}\n\n{}", facts.join(", "), table(look, &heads, &lines))
}

/// What is looked at.
struct Data {
    stores: Stores,
    source: Source,
}

enum Source {
    /// A table by its path.
    Path(Table),
    /// A job file.
    Job(Box<Loaded>),
}

impl Data {
    fn open(args: &LookArgs) -> Result<Self, Failure> {
        let is_job =
            Path::new(&args.path).extension().is_some_and(|ending| ending == "yaml" || ending == "yml" || ending == "json");
        let (source, mut roots) = if is_job { job(args)? } else { files(args)? };
        roots.extend(args.roots.allow_root.iter().cloned());
        let StoreOptions { s3, remedy, .. } = setup::store_options("s3://", &[])?;
        Ok(Self { stores: setup::stores(StoreOptions { local_roots: roots, s3, remedy })?, source })
    }

    /// The table that is meant; `choices` says how one is chosen.
    fn table(&self, name: Option<&str>, choices: &str) -> Result<Table, Failure> {
        let loaded = match &self.source {
            Source::Path(table) => return Ok(table.clone()),
            Source::Job(loaded) => loaded,
        };
        let tables = &loaded.file.job.tables;
        let names = || tables.iter().map(|table| table.name.as_str()).collect::<Vec<_>>().join(", ");
        let table = match (name, tables.as_slice()) {
            (None, [only]) => only,
            (None, _) => return Err(Failure::usage(format!("the job has several tables: give {choices} ({})", names()))),
            (Some(name), _) => tables
                .iter()
                .find(|table| table.name == name)
                .ok_or_else(|| Failure::usage(format!("the job has no table `{name}`; it has {}", names())))?,
        };
        if table.sql.is_some() {
            let hint =
                format!("ask for it: sheaf sql \"SELECT * FROM {} LIMIT …\", or look at the tables that it reads", table.name);
            let error = JobError::at(format!("tables.{}", table.name), "a view has no files to look at").hint(hint);
            return Err(self.show(error.into()));
        }
        Ok(table.clone())
    }

    /// The job as if it were submitted now, and the time.
    fn job(&self) -> Result<(Job, i64), Failure> {
        let Source::Job(loaded) = &self.source else {
            return Err(Failure::usage("--after is for job files: data by its path has no stages"));
        };
        let (mut job, now_ns) = (loaded.file.job.clone(), setup::now_ns());
        pin_now(&mut job, now_ns);
        Ok((job, now_ns))
    }

    /// One part, so that the first rows of a file come first.
    fn local(&self) -> Local {
        Local::new(self.stores.clone(), LocalOptions { partitions: NonZeroUsize::MIN, memory_bytes: None })
    }

    /// The first prepared rows of the job.
    async fn prepared(&self, rows: u32) -> Result<QueryRows, Failure> {
        let (job, now_ns) = self.job()?;
        self.local().prepared(&job, now_ns, Some(u64::from(rows))).await.map_err(|e| self.show(e))
    }

    /// The prepared columns of the job.
    async fn prepared_columns(&self) -> Result<Vec<StageColumn>, Failure> {
        let (job, now_ns) = self.job()?;
        look::prepared_columns(&self.stores, &job, now_ns).await.map_err(|e| self.show_look(e))
    }

    /// The feature matrix of the job's first rows.
    async fn features(&self, after: &AfterArgs) -> Result<Features, Failure> {
        let (job, now_ns) = self.job()?;
        let most = Some(after.fit_rows.unwrap_or(FIT_ROWS)).filter(|most| *most > 0);
        let seen = FeatureLook::fit(&self.local(), &self.stores, &job, now_ns, most).await;
        seen.map(Features).map_err(|e| self.show_look(e))
    }

    fn show_look(&self, error: LookError) -> Failure {
        match (error, &self.source) {
            (LookError::Job(errors), Source::Job(loaded)) => loaded.show(Fault::job(errors)),
            (LookError::Job(errors), Source::Path(_)) => Fault::job(errors).into(),
            (LookError::Data(error), _) => self.show(error),
        }
    }

    /// Errors of a job are shown at their place in its file.
    fn show(&self, error: DataError) -> Failure {
        match &self.source {
            Source::Job(loaded) => loaded.show(Fault::from(error)),
            Source::Path(_) => error.into(),
        }
    }
}

fn job(args: &LookArgs) -> Result<(Source, Vec<PathBuf>), Failure> {
    let plain = args.text.delimiter == ',' && !args.text.no_header && args.text.null.is_none();
    if !plain {
        return Err(Failure::usage(
            "a job file says itself how its text is written: leave --delimiter, --no-header and --null out",
        ));
    }
    let loaded = setup::load(&FileArgs { file: PathBuf::from(&args.path), set: args.set.clone(), table: Vec::new() })?;
    let roots = vec![loaded.folder.clone()];
    Ok((Source::Job(Box::new(loaded)), roots))
}

fn files(args: &LookArgs) -> Result<(Source, Vec<PathBuf>), Failure> {
    if args.table.is_some() || !args.set.is_empty() {
        return Err(Failure::usage("--table and --set are for job files (.yaml, .yml, .json): data has its path"));
    }
    let path = setup::absolute(&args.path)?;
    let roots = root_of(&path).into_iter().filter(|root| root.is_dir()).collect();
    let mut table = super::sql::table(("data".to_owned(), path), &args.text);
    let text = args.text.delimiter != ',' || args.text.no_header || args.text.null.is_some();
    table.format = text.then_some(FileFormat::Csv);
    Ok((Source::Path(table), roots))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_dataflow::inspect::ColumnInfo;

    #[test]
    fn it_is_said_what_steps_were_fitted_over() {
        let text = |training_rows, more| fitted_over(&FittedOver { rows: 100_000, training_rows, more });
        assert_eq!(text(None, true), "no step had to be fitted");
        assert_eq!(text(Some(80_123), false), "steps fitted over all 80,123 training rows");
        let first =
            "steps fitted over the 80,123 training rows among the first 100,000 prepared rows (--fit-rows); the job takes all";
        assert_eq!(text(Some(80_123), true), first);
    }

    #[test]
    fn a_table_described() {
        let column =
            |name: &str, kind: &str, nulls, readable| ColumnInfo { name: name.into(), kind: kind.into(), nulls, readable };
        let columns = vec![
            column("id", "int64", Some(0), true),
            column("amount", "float64", Some(12_345), true),
            column("raw", "binary", None, false),
        ];
        let info =
            TableInfo { format: FileFormat::Parquet, files: 1, rows: 1_000_000, bytes: 14_155_776, row_groups: Some(8), columns };
        let expected = concat!(
            "/data/t.parquet\n",
            "Parquet, 1 file, 1,000,000 rows, 13.5 MiB, 8 row groups\n",
            "\n",
            " column   type                             nulls\n",
            "-------------------------------------------------\n",
            " id       int64                                0\n",
            " amount   float64                         12,345\n",
            " raw      binary (no query can read it)        ?\n",
        );
        let text = described("/data/t.parquet", &info, &Look::plain(80));
        assert_eq!(text, expected, "\n{text}");
    }
}
