//! `sheaf demo`: data, job and result in one command, in a folder that the user can go on with.

use std::path::Path;

use sheaf_runtime::exit::Exit;

use super::data::with_progress;
use super::run::run;
use crate::cli::{DemoArgs, FileArgs, Format, RootArgs, RunArgs};
use crate::failure::Failure;
use crate::generate::GenerateOptions;
use crate::render::Progress;

const CARD_FRAUD: &str = include_str!("../../../examples/card-fraud/job.yaml");

/// Runs a demo.
pub async fn demo(args: DemoArgs) -> Result<Exit, Failure> {
    let folder = args.dir.join(&args.name);
    let data = folder.join("data");
    let output = args.embedded.local.output;
    let progress = if args.embedded.local.quiet { Progress::quiet() } else { Progress::stderr() };
    let options = GenerateOptions {
        name: args.name.clone(),
        rows: args.rows,
        seed: args.seed,
        out: data.join("transactions"),
        files: None,
        threads: 0,
    };
    let generated = tokio::task::spawn_blocking(move || with_progress(&options, &progress)).await;
    generated
        .map_err(|e| Failure::new(Exit::Failed, format!("generating broke off: {e}")))?
        .map_err(|e| Failure::usage(format!("{e:#}")))?;
    let file = folder.join("job.yaml");
    write_job(&file)?;
    let data = std::path::absolute(&data).map_err(|e| Failure::new(Exit::Failed, e.to_string()))?;
    let exit = run(RunArgs {
        file: FileArgs { file: file.clone(), set: vec![("data".into(), data.to_string_lossy().into_owned())], table: Vec::new() },
        roots: RootArgs::default(),
        embedded: args.embedded,
        deadline: None,
    })
    .await?;
    if output == Format::Table && exit == Exit::Done {
        super::print(&next(&args.name, &folder, &file))?;
    }
    Ok(exit)
}

fn write_job(file: &Path) -> Result<(), Failure> {
    std::fs::write(file, CARD_FRAUD).map_err(|e| Failure::new(Exit::Failed, format!("write {}: {e}", file.display())))
}

fn next(name: &str, folder: &Path, file: &Path) -> String {
    let (folder, file) = (folder.display(), file.display());
    format!(
        "\nThe demo's job file is {file}. Try:\n  sheaf plan {file}\n  sheaf run {file} --workers 3\n  sheaf models show {name}@latest\n  sheaf predict {name}@latest --table transactions={folder}/data/transactions --to {folder}/scored"
    )
}
