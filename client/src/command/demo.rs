//! `sheaf demo`: data, job and result in one command, in a folder that the user can go on with.

use std::path::{Path, PathBuf};

use sheaf_runtime::exit::Exit;

use super::data::with_progress;
use super::run::run;
use crate::cli::{DemoArgs, FileArgs, Format, RootArgs, RunArgs};
use crate::failure::Failure;
use crate::generate::{Dataset, GenerateOptions, dataset};
use crate::render::Progress;

/// The job of each dataset.
const JOBS: &[(&str, &str)] = &[
    ("card-fraud", include_str!("../../../examples/card-fraud/job.yaml")),
    ("diabetes-risk", include_str!("../../../examples/diabetes-risk/job.yaml")),
    ("search-ranking", include_str!("../../../examples/search-ranking/job.yaml")),
    ("vehicle-sensors", include_str!("../../../examples/vehicle-sensors/job.yaml")),
];

/// Runs a demo.
pub async fn demo(args: DemoArgs) -> Result<Exit, Failure> {
    let dataset = dataset(&args.name).map_err(|e| Failure::usage(format!("{e:#}")))?;
    let folder = args.dir.join(&args.name);
    let data = folder.join("data");
    let output = args.embedded.local.output;
    let progress = if args.embedded.local.quiet { Progress::quiet() } else { Progress::stderr() };
    let options = GenerateOptions {
        name: args.name.clone(),
        rows: args.rows.unwrap_or(dataset.rows),
        seed: args.seed,
        out: out(&data, dataset),
        files: None,
        threads: 0,
    };
    let generated = tokio::task::spawn_blocking(move || with_progress(&options, &progress)).await;
    generated
        .map_err(|e| Failure::new(Exit::Failed, format!("generating broke off: {e}")))?
        .map_err(|e| Failure::usage(format!("{e:#}")))?;
    let file = folder.join("job.yaml");
    write_job(dataset, &file)?;
    let data = std::path::absolute(&data).map_err(|e| Failure::new(Exit::Failed, e.to_string()))?;
    let exit = run(RunArgs {
        file: FileArgs { file: file.clone(), set: vec![("data".into(), data.to_string_lossy().into_owned())], table: Vec::new() },
        roots: RootArgs::default(),
        embedded: args.embedded,
        deadline: None,
    })
    .await?;
    if output == Format::Table && exit == Exit::Done {
        super::print(&next(dataset, &folder, &file))?;
    }
    Ok(exit)
}

/// Where the dataset goes, so that each table lies in the folder of its name.
fn out(data: &Path, dataset: &Dataset) -> PathBuf {
    match dataset.tables {
        [only] => data.join(only),
        _ => data.to_owned(),
    }
}

fn write_job(dataset: &Dataset, file: &Path) -> Result<(), Failure> {
    let job = JOBS.iter().find(|(name, _)| *name == dataset.name);
    let (_, job) = job.ok_or_else(|| Failure::new(Exit::Failed, format!("there is no job for {}", dataset.name)))?;
    std::fs::write(file, job).map_err(|e| Failure::new(Exit::Failed, format!("write {}: {e}", file.display())))
}

fn next(dataset: &Dataset, folder: &Path, file: &Path) -> String {
    let (name, table, folder, file) = (dataset.name, dataset.tables[0], folder.display(), file.display());
    format!(
        "\nThe demo's job file is {file}. Try:\n  sheaf plan {file}\n  sheaf run {file} --workers 3\n  sheaf models show {name}@latest\n  sheaf predict {name}@latest --table {table}={folder}/data/{table} --to {folder}/predictions"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::DATASETS;

    #[test]
    fn every_dataset_has_its_job() {
        let names: Vec<&str> = JOBS.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, DATASETS.iter().map(|d| d.name).collect::<Vec<_>>());
        for (name, job) in JOBS {
            assert!(job.lines().any(|line| line == format!("name: {name}")), "{name}");
        }
    }

    #[test]
    fn tables_lie_in_folders_of_their_names() {
        for dataset in DATASETS {
            let folder = out(Path::new("data"), dataset);
            let parts = folder.components().count();
            assert_eq!(parts, if dataset.tables.len() == 1 { 2 } else { 1 }, "{}", dataset.name);
        }
    }
}
