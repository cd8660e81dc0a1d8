//! Tables of a job: which files a path means, in which order, and what columns they have. Every file is pinned
//! and its footer read; files of one table must agree.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use futures::{StreamExt, TryStreamExt};

use crate::csv;
use crate::dataset::{QueryTable, Source, Unit};
use crate::error::DataError;
use crate::job::{Format, JobError, Table};
use crate::parquet_file::ParquetFile;
use crate::pin::PinnedFile;
use crate::scan::Facts;
use crate::stores::{self, Stores};
use crate::types::{self, ColumnSpec};

/// Files that are opened at the same time.
const PARALLEL: usize = 16;

/// A table with all its files pinned.
#[derive(Debug, Clone)]
pub(crate) struct OpenTable {
    pub(crate) source: Source,
    pub(crate) files: Vec<PinnedFile>,
    pub(crate) columns: Vec<ColumnSpec>,
    pub(crate) units: Vec<Unit>,
    /// What a query engine may know of the files before it reads them.
    pub(crate) facts: Facts,
}

/// Finds, pins and opens the files of a table.
pub(crate) async fn open(stores: &Stores, table: &Table) -> Result<OpenTable, DataError> {
    let at = format!("tables.{}", table.name);
    let listed = find(stores, table, &at).await?;
    let pins = futures::stream::iter(listed.files.into_iter().map(|(location, path)| {
        let stores = stores.clone();
        async move { PinnedFile::pin(&stores, &location, path).await }
    }));
    let files: Vec<_> = pins.buffered(PARALLEL).try_collect().await?;
    match listed.format {
        Format::Parquet => open_parquet(stores, files, table, &at).await,
        Format::Csv => open_csv(stores, files, table, &at).await,
    }
}

/// Opens the files of a table that was pinned before.
pub(crate) async fn pinned(stores: &Stores, table: &QueryTable) -> Result<OpenTable, DataError> {
    let like = Table {
        name: table.name.clone(),
        csv: table.csv.clone().unwrap_or_default(),
        schema: match table.csv {
            Some(_) => table.columns.iter().map(|c| (c.name.clone(), c.kind.clone())).collect(),
            None => BTreeMap::new(),
        },
        ..Table::default()
    };
    let at = format!("tables.{}", table.name);
    match table.csv {
        None => open_parquet(stores, table.files.clone(), &like, &at).await,
        Some(_) => open_csv(stores, table.files.clone(), &like, &at).await,
    }
}

async fn open_parquet(stores: &Stores, files: Vec<PinnedFile>, table: &Table, at: &str) -> Result<OpenTable, DataError> {
    if !table.schema.is_empty() {
        let error = JobError::at(format!("{at}.schema"), "a Parquet table has the types of its files");
        return Err(error.hint("CAST in prepare").into());
    }
    let opens =
        futures::stream::iter(files.clone().into_iter().map(|file| async move { ParquetFile::open(stores, &file).await }));
    let opened: Vec<_> = opens.buffered(PARALLEL).try_collect().await?;
    let mut columns: Option<(Vec<ColumnSpec>, &PinnedFile)> = None;
    let mut units = Vec::new();
    for (i, (file, parquet)) in files.iter().zip(&opened).enumerate() {
        let found = specs(parquet.schema());
        if let Some((_, twice)) = found.iter().enumerate().find(|(n, c)| found[..*n].iter().any(|o| o.name == c.name)) {
            return Err(DataError::input(&file.location, format!("column `{}` stands twice", twice.name)));
        }
        match &columns {
            None => columns = Some((found, file)),
            Some((expected, first)) => agree(expected, &found, first, file)?,
        }
        let mut first_row = 0;
        for (group, rows) in parquet.row_groups().enumerate() {
            units.push(Unit { file: i as u32, group: group as u32, first_row, source_rows: rows, rows });
            first_row += rows;
        }
    }
    let columns = columns.map(|(columns, _)| columns).unwrap_or_default();
    Ok(OpenTable { source: Source::Parquet, files, columns, units, facts: Facts::Parquet(opened) })
}

async fn open_csv(stores: &Stores, files: Vec<PinnedFile>, table: &Table, at: &str) -> Result<OpenTable, DataError> {
    if !table.csv.delimiter.is_ascii() || matches!(table.csv.delimiter, '"' | '\n' | '\r') {
        return Err(JobError::at(format!("{at}.csv.delimiter"), "not a single ASCII character that can separate").into());
    }
    let mut declared = Vec::new();
    for (name, kind) in &table.schema {
        let unknown = || JobError::at(format!("{at}.schema.{name}"), format!("unknown type `{kind}`"));
        let data_type = types::parse(kind).ok_or_else(|| unknown().hint(format!("types: {}", types::DECLARABLE)))?;
        declared.push((name.clone(), data_type));
    }
    let scan = csv::scan(stores, &files, &table.csv, &declared, at).await?;
    let unit = |(i, rows): (usize, &u64)| Unit { file: i as u32, group: 0, first_row: 0, source_rows: *rows, rows: *rows };
    let units = scan.rows.iter().enumerate().map(unit).collect();
    let facts = Facts::of_text(&scan);
    Ok(OpenTable { source: Source::Csv(table.csv.clone()), files, columns: scan.columns, units, facts })
}

fn specs(schema: &Schema) -> Vec<ColumnSpec> {
    let spec = |field: &Arc<Field>| ColumnSpec {
        name: field.name().clone(),
        kind: types::name(&types::source_type(field.data_type()).unwrap_or_else(|| field.data_type().clone())),
    };
    schema.fields().iter().map(spec).collect()
}

fn agree(expected: &[ColumnSpec], found: &[ColumnSpec], first: &PinnedFile, file: &PinnedFile) -> Result<(), DataError> {
    let differs = |message: String| Err(DataError::input(&file.location, format!("{message} in {}", first.location)));
    for column in expected {
        match found.iter().find(|c| c.name == column.name) {
            None => return differs(format!("column `{}` is missing; it stands", column.name)),
            Some(other) if other.kind != column.kind => {
                return differs(format!("column `{}` is {}, but {}", column.name, other.kind, column.kind));
            }
            Some(_) => {}
        }
    }
    match found.iter().find(|c| expected.iter().all(|e| e.name != c.name)) {
        Some(extra) => differs(format!("column `{}` is not", extra.name)),
        None if expected != found => differs("columns stand in another order than".to_owned()),
        None => Ok(()),
    }
}

/// Schema for planning; the names of opaque columns and their types beside it.
pub(crate) fn planning_schema(columns: &[ColumnSpec]) -> SchemaRef {
    types::schema(columns)
}

/// An error if a query reads a column whose type is not supported.
pub(crate) fn check_readable(columns: &[ColumnSpec], read: &[usize], path: &str) -> Result<(), JobError> {
    for column in read.iter().filter_map(|i| columns.get(*i)) {
        if types::parse(&column.kind).is_none_or(|t| t == DataType::Null) {
            let message = format!("column `{}` has the type {}, which is not supported", column.name, column.kind);
            return Err(JobError::at(path, message).hint(format!("leave it out: SELECT * EXCLUDE ({}) FROM …", column.name)));
        }
    }
    Ok(())
}

struct Listed {
    format: Format,
    /// (canonical location, path below the root), in byte order of the path.
    files: Vec<(String, String)>,
}

/// Whether a table that is not read could be, as far as its path says.
///
/// # Errors
/// The path leads where nothing may be read.
pub(crate) async fn is_allowed(stores: &Stores, table: &Table) -> Result<(), DataError> {
    resolve(stores, table, &format!("tables.{}", table.name)).await.map(drop)
}

/// The base of a table's path, its glob, and where the base lies.
async fn resolve<'t>(stores: &Stores, table: &'t Table, at: &str) -> Result<(&'t str, Option<&'t str>, String), DataError> {
    if table.path.split('/').any(|segment| segment == "..") {
        return Err(refused(DataError::denied(&table.path, "`..` is not allowed"), at));
    }
    let (base, pattern) = split_at_glob(stores, &table.path).await;
    let (_, root) = stores.resolve(base).map_err(|e| refused(e, at))?;
    Ok((base, pattern, stores::locate(base, &root)))
}

/// A refusal as an error of the job.
fn refused(error: DataError, at: &str) -> DataError {
    match error {
        DataError::Denied { location, reason, remedy } => {
            let error = JobError::at(at, format!("{location}: {reason}"));
            DataError::Job(match remedy {
                Some(remedy) => error.hint(remedy),
                None => error,
            })
        }
        other => other,
    }
}

/// Resolves the path of a table: a file, a folder or a glob.
async fn find(stores: &Stores, table: &Table, at: &str) -> Result<Listed, DataError> {
    let refused = |e: DataError| refused(e, at);
    let (base, pattern, root) = resolve(stores, table, at).await?;
    let matcher = match pattern {
        None => None,
        Some(p) => Some(glob::Pattern::new(p).map_err(|e| JobError::at(at, format!("`{p}` is not a glob: {e}")))?),
    };
    let (listed, leaving) = stores.list_with_leaving(&root).await.map_err(refused)?;
    if listed.is_empty() && matcher.is_none() && stores.size(&root).await.map_err(refused)?.is_some() {
        let name = given_name(base, &root);
        let format = format_of(&[&name], table, at)?;
        return Ok(Listed { format, files: vec![(root, name)] });
    }
    let below = |location: &str| Some(location.strip_prefix(root.as_str())?.trim_start_matches('/').to_owned());
    let asked = |path: &str| wanted(path, matcher.as_ref(), table.format);
    let matters = |(link, is_folder): &&(String, bool)| {
        below(link).is_some_and(|path| if *is_folder { may_hold(&path, pattern) } else { asked(&path) })
    };
    if let Some((link, _)) = leaving.iter().find(matters) {
        return Err(refused(DataError::not_allowed(link, "a symlink leads out of the allowed folders", stores.remedy())));
    }
    let mut files: Vec<_> = listed.into_iter().filter_map(|l| below(&l).filter(|p| asked(p)).map(|p| (l, p))).collect();
    files.sort_by(|a, b| a.1.as_bytes().cmp(b.1.as_bytes()));
    if files.is_empty() {
        let hint = "a table is a .parquet or .csv file, a folder of such files, or a glob";
        return Err(JobError::at(at, format!("nothing found at {}", table.path)).hint(hint).into());
    }
    let names: Vec<_> = files.iter().map(|(_, path)| path.as_str()).collect();
    Ok(Listed { format: format_of(&names, table, at)?, files })
}

/// True where a table means the file at this path below its root.
fn wanted(path: &str, matcher: Option<&glob::Pattern>, format: Option<Format>) -> bool {
    let options = glob::MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };
    let asked = match matcher {
        Some(matcher) => matcher.matches_with(path, options),
        None => ending(path).is_some_and(|f| format.is_none_or(|k| k == f)),
    };
    asked && !path.split('/').any(|s| s.starts_with(['.', '_']))
}

/// True where files below this folder may match; without a pattern they may.
fn may_hold(folder: &str, pattern: Option<&str>) -> bool {
    let mut folders = folder.split('/');
    for wild in pattern.unwrap_or("**").split('/') {
        match (wild, folders.next()) {
            ("**", _) | (_, None) => return true,
            (wild, Some(name)) if glob::Pattern::new(wild).is_ok_and(|p| !p.matches(name)) => return false,
            _ => {}
        }
    }
    false
}

/// Name of a table's single file as the job gives it: a symlink keeps its own.
fn given_name(base: &str, root: &str) -> String {
    let last = |path: &str| path.trim_end_matches('/').rsplit('/').next().unwrap_or(path).to_owned();
    match base.strip_prefix("file://") {
        None => last(base),
        Some(rest) => object_store::path::Path::from_url_path(rest)
            .ok()
            .and_then(|path| path.filename().map(str::to_owned))
            .unwrap_or_else(|| last(root)),
    }
}

/// Splits a path before the first segment with a wildcard that nothing is named by as it stands.
async fn split_at_glob<'a>(stores: &Stores, path: &'a str) -> (&'a str, Option<&'a str>) {
    let mut from = 0;
    loop {
        let (base, pattern) = split_glob(path, from);
        let Some(pattern) = pattern else { return (base, None) };
        let start = path.len() - pattern.len();
        let end = start + pattern.find('/').unwrap_or(pattern.len());
        if !exists(stores, &path[..end]).await {
            return (base, Some(pattern));
        }
        from = end;
    }
}

/// What cannot be looked at is as good as absent: the path is then judged as a glob.
async fn exists(stores: &Stores, location: &str) -> bool {
    let is_file = stores.size(location).await.is_ok_and(|size| size.is_some());
    is_file || stores.list_with_leaving(location).await.is_ok_and(|(files, leaving)| !files.is_empty() || !leaving.is_empty())
}

/// The part of a path before the first segment with a wildcard from byte `from` on, and the rest.
fn split_glob(path: &str, from: usize) -> (&str, Option<&str>) {
    match path[from..].find(['*', '?', '[']) {
        None => (path, None),
        Some(wild) => match path[..from + wild].rfind('/') {
            Some(slash) => (&path[..slash.max(1)], Some(&path[slash + 1..])),
            None => ("", Some(path)),
        },
    }
}

fn ending(path: &str) -> Option<Format> {
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    match name.rsplit_once('.')?.1 {
        "parquet" | "pq" => Some(Format::Parquet),
        "csv" | "tsv" | "txt" => Some(Format::Csv),
        _ => None,
    }
}

fn format_of(names: &[&str], table: &Table, at: &str) -> Result<Format, JobError> {
    if let Some(format) = table.format {
        return Ok(format);
    }
    let found: BTreeSet<_> = names.iter().map(|n| ending(n).map(|f| f == Format::Csv)).collect();
    let mut found = found.into_iter();
    match (found.next(), found.next()) {
        (Some(Some(csv)), None) => Ok(if csv { Format::Csv } else { Format::Parquet }),
        (_, Some(_)) => {
            Err(JobError::at(at, "the path means files of several formats").hint("say `format: parquet` or `format: csv`"))
        }
        _ => {
            Err(JobError::at(at, "the format cannot be told from the file's ending")
                .hint("say `format: parquet` or `format: csv`"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_split_at_the_last_plain_folder() {
        assert_eq!(split_glob("/data/a/", 0), ("/data/a/", None));
        assert_eq!(split_glob("/data/2026-*/x.parquet", 0), ("/data", Some("2026-*/x.parquet")));
        assert_eq!(split_glob("/*.csv", 0), ("/", Some("*.csv")));
        assert_eq!(split_glob("/[a]/*.csv", 4), ("/[a]", Some("*.csv")));
        assert_eq!(split_glob("s3://b/p/**/x?.csv", 0), ("s3://b/p", Some("**/x?.csv")));
    }

    #[test]
    fn folders_that_a_glob_cannot_reach_do_not_matter() {
        let cases =
            [("a", None, true), ("a", Some("*.csv"), false), ("a", Some("*/*.csv"), true), ("a/b", Some("*/*.csv"), false)];
        for (folder, pattern, expected) in cases {
            assert_eq!(may_hold(folder, pattern), expected, "{folder} {pattern:?}");
        }
        assert!(may_hold("a/b/c", Some("a/**/*.csv")) && !may_hold("b/c", Some("a/**/*.csv")));
    }
}
