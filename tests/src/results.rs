//! What a job or a prediction wrote: the Parquet files of a folder, their bytes and their rows.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// The Parquet files of a folder, by name.
pub fn parts(folder: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let mut files: Vec<_> = files.filter(|p| p.extension().is_some_and(|e| e == "parquet")).collect();
    files.sort();
    files
}

/// The bytes of all of them, by name.
pub fn bytes(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    parts(folder).iter().map(|path| (name(path), std::fs::read(path).unwrap())).collect()
}

/// All rows of a folder as they were written, files in name order.
pub fn batches(folder: &Path) -> Vec<RecordBatch> {
    let read = |path| ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap().build().unwrap();
    parts(folder).into_iter().flat_map(read).map(Result::unwrap).collect()
}

/// The same in one batch.
pub fn rows(folder: &Path) -> RecordBatch {
    let batches = batches(folder);
    concat_batches(&batches[0].schema(), &batches).unwrap()
}

/// Names of the columns.
pub fn names(batch: &RecordBatch) -> Vec<String> {
    batch.schema().fields().iter().map(|f| f.name().clone()).collect()
}
