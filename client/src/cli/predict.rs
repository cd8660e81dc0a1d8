//! Arguments of `sheaf predict`.

use std::path::PathBuf;

use clap::Args;
use sheaf_dataflow::job::{Details, Explain, MOST_CONTRIBUTIONS};

use super::{LocalArgs, pair};

/// `sheaf predict`.
#[derive(Debug, Args)]
pub struct PredictArgs {
    /// NAME@VERSION, NAME@ALIAS, NAME@latest or a job id
    pub model: String,
    /// Replaces a table of the model; its own `prepare` runs again
    #[arg(long, value_name = "NAME=PATH", value_parser = pair, conflicts_with = "input")]
    pub table: Vec<(String, String)>,
    /// Rows that are prepared already (file, folder or glob): the model's `prepare` is skipped
    #[arg(long, value_name = "PATH")]
    pub input: Option<String>,
    /// Changes a parameter of the model's job
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub set: Vec<(String, String)>,
    /// Prepared columns to carry along
    #[arg(long, value_delimiter = ',', value_name = "COLUMNS")]
    pub keep: Vec<String>,
    /// Also writes what each feature contributes to the score, a column each; with N only the N largest, as a list
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = "all", value_parser = explain)]
    pub explain: Option<Explain>,
    /// Also writes the leaf of every tree that a row comes to, as a list
    #[arg(long)]
    pub leaves: bool,
    /// Also writes the predictions after each tree, as a list; with N after every N-th, and after the last
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = "1",
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub staged: Option<u32>,
    /// Folder to write; replaced only if the same model's predictions are in it
    #[arg(long, value_name = "DIR")]
    pub to: String,
    /// Worker processes; without it the scoring runs in this process
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub workers: Option<u32>,
    /// Also allows reading below this folder (given paths and the current folder always are)
    #[arg(long, value_name = "DIR")]
    pub allow_root: Vec<PathBuf>,
    /// The rest.
    #[command(flatten)]
    pub local: LocalArgs,
}

impl PredictArgs {
    /// What is written beside the predictions.
    pub fn details(&self) -> Details {
        Details { explain: self.explain, leaves: self.leaves, staged: self.staged }
    }
}

/// `all`, or a number of contributions.
fn explain(text: &str) -> Result<Explain, String> {
    let count = text.parse().ok().filter(|count| (1..=MOST_CONTRIBUTIONS as u32).contains(count));
    match (text, count) {
        ("all", _) => Ok(Explain::All),
        (_, Some(count)) => Ok(Explain::Largest(count)),
        _ => Err(format!("`{text}` is no whole number from 1 to {MOST_CONTRIBUTIONS}")),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use clap::{CommandFactory as _, FromArgMatches as _};

    use super::*;
    use crate::cli::{Cli, Command};

    fn details(more: &[&str]) -> Result<Details, String> {
        let words = ["sheaf", "predict", "m@1", "--input", "x", "--to", "out"].iter().chain(more);
        let matches = Cli::command().try_get_matches_from(words).map_err(|e| e.to_string())?;
        match Cli::from_arg_matches(&matches).unwrap().command {
            Command::Predict(args) => Ok(args.details()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn details_with_and_without_a_number() {
        assert_eq!(details(&[]).unwrap(), Details::default());
        let all = details(&["--explain", "--leaves", "--staged"]).unwrap();
        assert_eq!(all, Details { explain: Some(Explain::All), leaves: true, staged: Some(1) });
        let some = details(&["--explain=5", "--staged=10"]).unwrap();
        assert_eq!(some, Details { explain: Some(Explain::Largest(5)), leaves: false, staged: Some(10) });
        assert!(details(&["--explain=0"]).unwrap_err().contains("from 1 to 2000"));
        assert!(details(&["--staged=0"]).is_err());
    }
}
