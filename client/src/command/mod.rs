//! Commands: a file each. Each gives an exit code or a failure; only this file prints failures.

mod data;
mod demo;
mod models;
mod plan;
mod predict;
mod run;
mod setup;
mod worker;

use sheaf_runtime::exit::Exit;
use sheaf_runtime::telemetry;

use crate::cli::{Cli, Command, DataCommand, ModelsCommand, SchemaCommand};
use crate::failure::Failure;

/// Runs a command to its exit code.
pub fn dispatch(cli: Cli) -> Exit {
    telemetry::init(if matches!(cli.command, Command::Worker(_)) { "error" } else { "off" });
    match execute(cli.command) {
        Ok(exit) => exit,
        Err(failure) => {
            if !failure.message.is_empty() {
                eprintln!("error: {}", failure.message);
            }
            failure.exit
        }
    }
}

fn execute(command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Worker(args) => worker::worker(args),
        Command::Data(DataCommand::Generate(args)) => data::generate(&args),
        Command::Schema(SchemaCommand::Job) => print_json(&crate::jobfile::schema()),
        Command::Run(args) => wait(run::run(args)),
        Command::Plan(args) => wait(plan::plan(args)),
        Command::Predict(args) => wait(predict::predict(args)),
        Command::Models(ModelsCommand::List(args)) => wait(models::list(args)),
        Command::Models(ModelsCommand::Show(args)) => wait(models::show(args)),
        Command::Demo(args) => wait(demo::demo(args)),
    }
}

fn wait(future: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|e| Failure::new(Exit::Failed, format!("start the runtime: {e}")))?;
    let result = runtime.block_on(future);
    runtime.shutdown_timeout(std::time::Duration::from_millis(500));
    result
}

/// Prints one JSON value on standard output.
fn print_json(value: &serde_json::Value) -> Result<Exit, Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Failure::new(Exit::Failed, e.to_string()))?;
    print(&text)
}

/// Prints text on standard output. A reader that went away (`| head`) is no error.
fn print(text: &str) -> Result<Exit, Failure> {
    use std::io::Write as _;
    match writeln!(std::io::stdout(), "{}", text.trim_end()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Failed, format!("write to standard output: {e}")))
        }
        _ => Ok(Exit::Done),
    }
}
