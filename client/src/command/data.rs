//! `sheaf data generate`: seeded datasets of any size.

use std::sync::{Mutex, PoisonError};

use sheaf_runtime::exit::Exit;

use super::print;
use crate::cli::GenerateArgs;
use crate::failure::Failure;
use crate::generate::{GenerateOptions, Generated, Watch, dataset, generate as write};
use crate::render::{Look, Phase, Progress, facts};

/// Writes a dataset and shows what it holds.
pub fn generate(args: &GenerateArgs) -> Result<Exit, Failure> {
    let progress = if args.quiet { Progress::quiet() } else { Progress::stderr() };
    let usual = dataset(&args.name).map_err(|e| Failure::usage(format!("{e:#}")))?.rows;
    let options = GenerateOptions {
        name: args.name.clone(),
        rows: args.rows.unwrap_or(usual),
        seed: args.seed,
        out: args.out.clone(),
        files: args.files,
        threads: args.threads,
    };
    let generated = with_progress(&options, &progress).map_err(|e| Failure::usage(format!("{e:#}")))?;
    print(&facts(&generated.facts, &Look::stdout()))
}

/// Generates with a bar for each table.
pub fn with_progress(options: &GenerateOptions, progress: &Progress) -> anyhow::Result<Generated> {
    let dataset = dataset(&options.name)?;
    let bars = Bars { dataset: dataset.name, several: dataset.tables.len() > 1, progress, phase: Mutex::new(None) };
    let generated = write(options, &bars)?;
    bars.end();
    Ok(generated)
}

/// The bar of the table that is being made.
struct Bars<'a> {
    dataset: &'static str,
    several: bool,
    progress: &'a Progress,
    phase: Mutex<Option<Phase>>,
}

impl Bars<'_> {
    /// Nothing is half done while the lock is held: a panic elsewhere leaves the phase as it was.
    fn end(&self) {
        if let Some(phase) = self.phase.lock().unwrap_or_else(PoisonError::into_inner).take() {
            phase.finish();
        }
    }
}

impl Watch for Bars<'_> {
    fn table(&self, name: &str, units: u64, noun: &'static str) {
        self.end();
        let table = if self.several { format!(": {name}") } else { String::new() };
        let phase = self.progress.phase(&format!("generate {}{table}", self.dataset), Some(units), noun);
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = Some(phase);
    }

    fn made(&self, units: u64) {
        if let Some(phase) = &*self.phase.lock().unwrap_or_else(PoisonError::into_inner) {
            phase.advance(units);
        }
    }
}
