//! The `sheaf` program and what it is made of: the job-file reader, the embedded cluster, commands
//! and what people see. No server logic.

mod allocator;
pub mod cli;
pub mod command;
pub mod connect;
pub mod context;
pub mod embedded;
pub mod failure;
pub mod generate;
pub mod jobfile;
pub mod render;
pub mod rows;
pub mod top;
pub mod watch;

use std::process::ExitCode;

/// The whole program, from arguments to exit code.
pub fn main() -> ExitCode {
    allocator::settle();
    match cli::parse() {
        Ok(arguments) => command::dispatch(arguments).into(),
        Err(exit) => exit.into(),
    }
}
