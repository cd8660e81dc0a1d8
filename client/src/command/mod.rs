//! Commands: a file each. Each gives an exit code or a failure; only this file prints failures.

mod answer;
mod cluster;
mod context;
mod coordinator;
mod data;
mod demo;
mod jobs;
mod look;
mod models;
pub mod pki;
mod plan;
mod predict;
mod run;
mod setup;
mod shell;
mod sql;
mod submit;
mod top;
mod worker;

use std::time::Duration;

use sheaf_runtime::exit::Exit;
use sheaf_runtime::telemetry;

use crate::cli::{Cli, ClusterCommand, Command, DataCommand, JobsCommand, ModelsCommand, SchemaCommand};
use crate::embedded::STORES_VARIABLE;
use crate::failure::Failure;

/// Runs a command to its exit code.
pub fn dispatch(cli: Cli) -> Exit {
    telemetry::init(log_level(&cli.command), cli.log_format);
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

/// What is logged without `SHEAF_LOG`: servers say what they do, workers of a run only what goes wrong.
fn log_level(command: &Command) -> &'static str {
    match command {
        Command::Worker(_) if std::env::var_os(STORES_VARIABLE).is_some() => "error",
        // Consensus tells of every vote.
        Command::Worker(_) | Command::Coordinator(_) => "info,openraft=warn",
        _ => "off",
    }
}

fn execute(command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Worker(args) => worker::worker(*args),
        Command::Coordinator(args) => wait(coordinator::coordinator(*args)),
        Command::Submit(args) => wait(submit::submit(args)),
        Command::Jobs(JobsCommand::List(args)) => wait(jobs::list(args)),
        Command::Jobs(JobsCommand::Show(args)) => wait(jobs::show(args)),
        Command::Jobs(JobsCommand::Watch(args)) => wait(jobs::watch(args)),
        Command::Jobs(JobsCommand::Logs(args)) => wait(jobs::logs(args)),
        Command::Jobs(JobsCommand::Cancel(args)) => wait(jobs::cancel(args)),
        Command::Jobs(JobsCommand::Retry(args)) => wait(submit::retry(args)),
        Command::Cluster(ClusterCommand::Status(args)) => wait(cluster::status(args)),
        Command::Cluster(ClusterCommand::Drain(args)) => wait(cluster::drain(args)),
        Command::Top(args) => top::top(args),
        Command::Context(command) => context::context(command),
        Command::Completions { shell } => shell::completions(shell),
        Command::Man { dir } => shell::man(dir.as_deref()),
        Command::Sql(args) => wait(sql::sql(*args)),
        Command::Data(DataCommand::Generate(args)) => data::generate(&args),
        Command::Data(DataCommand::Head(args)) => wait(look::head(args)),
        Command::Data(DataCommand::Schema(args)) => wait(look::schema(args)),
        Command::Schema(SchemaCommand::Job) => print_json(&crate::jobfile::schema()),
        Command::Pki(command) => pki::pki(command),
        Command::Run(args) => wait(run::run(args)),
        Command::Plan(args) => wait(plan::plan(args)),
        Command::Predict(args) => wait(predict::predict(args)),
        Command::Models(ModelsCommand::List(args)) => wait(models::list(args)),
        Command::Models(ModelsCommand::Show(args)) => wait(models::show(args)),
        Command::Models(ModelsCommand::Export(args)) => wait(models::export(args)),
        Command::Demo(args) => wait(demo::demo(args)),
    }
}

fn wait<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|e| Failure::new(Exit::Failed, format!("start the runtime: {e}")))?;
    let result = runtime.block_on(future);
    runtime.shutdown_timeout(std::time::Duration::from_millis(500));
    result
}

/// Waits for something no longer than the user wants; what goes on after that is said.
async fn within<T>(
    timeout: Option<Duration>,
    goes_on: &str,
    future: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let Some(timeout) = timeout else { return future.await };
    match tokio::time::timeout(timeout, future).await {
        Ok(result) => result,
        Err(_) => Err(Failure::new(Exit::Timeout, format!("{:.1} s are over; {goes_on}", timeout.as_secs_f64()))),
    }
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
