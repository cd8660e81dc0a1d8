//! `sheaf completions` and `sheaf man`: made from the command line's own description.

use std::path::Path;

use clap::CommandFactory as _;
use sheaf_runtime::exit::Exit;

use super::print;
use crate::cli::Cli;
use crate::failure::Failure;

/// Prints a completion script.
pub fn completions(shell: clap_complete::Shell) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "sheaf", &mut script);
    print(&String::from_utf8_lossy(&script))
}

/// Writes manual pages of all commands, or prints that of `sheaf`.
pub fn man(dir: Option<&Path>) -> Result<Exit, Failure> {
    let Some(dir) = dir else {
        let mut page = Vec::new();
        let rendered = clap_mangen::Man::new(Cli::command()).render(&mut page);
        rendered.map_err(|e| Failure::new(Exit::Failed, format!("make the manual page: {e}")))?;
        return print(&String::from_utf8_lossy(&page));
    };
    std::fs::create_dir_all(dir)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), dir))
        .map_err(|e| Failure::new(Exit::Failed, format!("write manual pages to {}: {e}", dir.display())))?;
    Ok(Exit::Done)
}
