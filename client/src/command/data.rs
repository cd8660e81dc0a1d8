//! `sheaf data generate`: seeded datasets of any size.

use sheaf_runtime::exit::Exit;

use super::print;
use crate::cli::GenerateArgs;
use crate::failure::Failure;
use crate::generate::{GenerateOptions, Generated, generate as write};
use crate::render::{Look, Progress, facts};

/// Writes a dataset and shows what it holds.
pub fn generate(args: &GenerateArgs) -> Result<Exit, Failure> {
    let progress = if args.quiet { Progress::quiet() } else { Progress::stderr() };
    let options = GenerateOptions {
        name: args.name.clone(),
        rows: args.rows,
        seed: args.seed,
        out: args.out.clone(),
        files: args.files,
        threads: args.threads,
    };
    let generated = with_progress(&options, &progress).map_err(|e| Failure::usage(format!("{e:#}")))?;
    print(&facts(&generated.facts, &Look::stdout()))
}

/// Generates with a bar.
pub fn with_progress(options: &GenerateOptions, progress: &Progress) -> anyhow::Result<Generated> {
    let phase = progress.phase(&format!("generate {}", options.name), Some(options.rows), "rows");
    let generated = write(options, &|rows| phase.advance(rows))?;
    phase.finish();
    Ok(generated)
}
