//! Rows about what workers store and read: no room to spill, and a shard whose rows end whoever reads them.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array as _, ArrayRef, DictionaryArray, Int32Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;

use super::{Case, Figures, Work, contributed, same};
use crate::chaos::SmallDisk;
use crate::cluster::{Cluster, Launch, Setup};
use crate::data::Rows;
use crate::evidence::of_kind;

/// Row 12: the spill folder of one worker is full.
pub fn spill_without_room(case: &Case) -> Figures {
    let work = Work { rows: 20_000, ..Work::default() };
    let undisturbed = work.undisturbed(case);
    let place = tempfile::tempdir().unwrap();
    let disk = Arc::new(SmallDisk::new(&place.path().join("spill"), 8 << 20));
    let mut cluster = Cluster::start(&case.program, Setup { memory: "64KiB".to_owned(), ..Setup::workers(1) });
    cluster.announce(&["No space left", "spill", " failed", "gave"]);
    work.write(cluster.folder());
    let spill = Some(place.path().join("spill"));
    cluster.start_worker_with(2, Launch { disk: Some(Arc::clone(&disk)), spill, ..Launch::default() });
    let number = cluster.wait_joined(2);
    disk.fill();
    let job = cluster.submit("job.yaml", &[]);
    let shown = cluster.wait_end(&job);
    let said = cluster.worker(2).text();
    let full = said.lines().find(|line| line.contains("No space left"));
    let full = full.unwrap_or_else(|| panic!("the disk was never full for worker 2: the fault hit nothing:\n{said}")).to_owned();
    same(&cluster, &shown, &undisturbed);
    let files: Vec<String> = disk.files().into_iter().filter(|name| !name.ends_with("/filler")).collect();
    let partial: Vec<&String> = files.iter().filter(|name| name.ends_with(".tmp")).collect();
    assert!(partial.is_empty(), "partial files are left: {partial:?}");
    let retried = of_kind(&cluster.log(), &job.id, "retried").len();
    let own = contributed(&shown["result"]).get(&number).copied().unwrap_or(0);
    cluster.finish();
    vec![
        format!("worker 2 said: {full}"),
        format!("{retried} tries again; worker 2 still did {own} shards of training; no partial file"),
    ]
}

/// Bytes of each text in the poisoned row group.
const HUGE: usize = 128 << 10;

/// Rows of the poisoned row group: decoded they take 1 GiB, stored a few hundred bytes.
const POISONED: usize = 8192;

/// What a worker may map: enough for everything but the poison.
const ADDRESS_SPACE: u64 = 1 << 30;

/// Row 19: a row group whose strings are huge once decoded ends every worker that reads it.
pub fn poison(case: &Case) -> Figures {
    let work = Work { iterations: case.pick(30, 400), ..Work::default() };
    let undisturbed = work.undisturbed(case);
    let setup = Setup::workers(0).restarting(Duration::from_millis(300)).coordinator(&["--running-jobs", "2"]);
    let mut cluster = Cluster::start(&case.program, setup);
    cluster.announce(&[" lost", "computed alone", "disconnected", "ended its workers", " failed", "gave"]);
    for number in 1..=3 {
        cluster.start_worker_with(number, Launch { address_space: Some(ADDRESS_SPACE), ..Launch::default() });
        cluster.wait_joined(number);
    }
    work.write(cluster.folder());
    let file = write_poison(&cluster.folder().join("more"));
    cluster.write("poison.yaml", POISON);
    let poisoned = cluster.submit("poison.yaml", &["--namespace", "bad"]);
    let sound = cluster.submit("job.yaml", &["--namespace", "good"]);
    let shown = cluster.wait_end(&poisoned);
    assert_eq!(shown["state"], "failed", "{shown:#}");
    let error = shown["error"].as_str().unwrap_or_default().to_owned();
    assert!(error.contains("shard"), "the error does not name the shard: {error}");
    assert!(error.contains(&file), "the error does not name the file {file}: {error}");
    let endings: Vec<String> = (1..=3).flat_map(|number| cluster.endings(number)).collect();
    let aborted = endings.iter().filter(|ending| ending.contains("signal 6")).count();
    assert!(aborted >= 3, "workers ended {aborted} times by the failed allocation, in all: {endings:?}");
    let shown = cluster.wait_end(&sound);
    same(&cluster, &shown, &undisturbed);
    cluster.finish();
    vec![
        format!("{aborted} workers ended by the allocation; the job failed: {error}"),
        "the other job has the undisturbed model".into(),
    ]
}

/// Every shard is a row group of its own file but one; `note` is read because a feature counts its letters.
const POISON: &str = "version: 1
name: poison
shard_rows: 8192
tables: {rows: more/}
prepare: SELECT id, amount, length(note) AS letters, label FROM rows
columns: {target: label, key: id}
split: {by: random, test: 0.2}
train: {algorithm: logistic_regression, solver: lbfgs, l2: 0.01}
publish: {model: poison}
";

/// Writes three files; in the last one a text stands in every row that is stored once. Gives that file's name.
fn write_poison(folder: &Path) -> String {
    std::fs::create_dir_all(folder).unwrap();
    let mut rows = Rows::new(7);
    for (index, letters) in [10, 20, HUGE].into_iter().enumerate() {
        let batch = rows.batch(POISONED);
        let keys = Int32Array::from(vec![0; POISONED]);
        let values = Arc::new(StringArray::from(vec!["x".repeat(letters)]));
        let note: ArrayRef = Arc::new(DictionaryArray::new(keys, values));
        assert_eq!(note.len(), batch.num_rows());
        let column = |name: &str| Arc::clone(batch.column_by_name(name).unwrap());
        let columns = [("id", column("id")), ("amount", column("amount")), ("note", note), ("label", column("label"))];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let file = File::create(folder.join(format!("part-{index}.parquet"))).unwrap();
        // Without the Arrow schema readers take the column as plain text.
        let options = ArrowWriterOptions::new().with_skip_arrow_metadata(true);
        let mut writer = ArrowWriter::try_new_with_options(file, batch.schema(), options).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    }
    "part-2.parquet".to_owned()
}
