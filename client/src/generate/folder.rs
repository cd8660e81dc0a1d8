//! The output folder: claimed before anything is written, so that files of somebody else are never
//! touched and an interrupted run can be repeated. `_sheaf_generated.json` says what lies in it.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::GenerateOptions;

/// Name of the file that says who wrote the folder. Readers skip names that start with `_` or `.`.
const MARKER: &str = "_sheaf_generated.json";

/// Content of the marker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Marker {
    name: String,
    rows: u64,
    seed: u64,
    /// Every file stands under its final name.
    complete: bool,
    /// Files that this or an earlier, interrupted run may have left.
    files: BTreeSet<String>,
}

/// A folder that is ours to fill.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    marker: Marker,
    /// Names of the files by their number.
    names: Vec<String>,
}

impl Folder {
    /// Makes the folder or takes over one that an earlier run wrote, and removes what that run left.
    pub fn claim(options: &GenerateOptions, path: &Path, names: Vec<String>) -> anyhow::Result<Self> {
        let path = path.to_owned();
        fs::create_dir_all(&path).with_context(|| format!("create folder `{}`", path.display()))?;
        let earlier = read_marker(&path)?;
        let left = entries(&path)?;
        refuse_strangers(&path, &left, earlier.as_ref())?;
        let mut marker = Marker {
            name: options.name.clone(),
            rows: options.rows,
            seed: options.seed,
            complete: false,
            files: names.iter().cloned().collect(),
        };
        let planned = marker.files.clone();
        marker.files.extend(left.iter().filter_map(|name| Some(final_name(name)?.to_owned())));
        let mut folder = Self { path, marker, names };
        folder.write_marker()?;
        for name in left.iter().filter(|name| *name != MARKER) {
            let file = folder.path.join(name);
            fs::remove_file(&file).with_context(|| format!("remove `{}` of an earlier run", file.display()))?;
        }
        folder.marker.files = planned;
        Ok(folder)
    }

    /// Where a file is written before it is complete.
    pub fn temporary(&self, file: u32) -> PathBuf {
        self.path.join(temporary_name(self.name(file)))
    }

    /// Gives a complete file its name.
    pub fn publish(&self, file: u32) -> anyhow::Result<()> {
        let (from, to) = (self.temporary(file), self.path.join(self.name(file)));
        fs::rename(&from, &to).with_context(|| format!("rename `{}` to `{}`", from.display(), to.display()))
    }

    /// Says that all files are there.
    pub fn finish(mut self) -> anyhow::Result<()> {
        self.marker.complete = true;
        self.write_marker()
    }

    fn name(&self, file: u32) -> &str {
        &self.names[file as usize]
    }

    fn write_marker(&self) -> anyhow::Result<()> {
        let (temporary, path) = (self.path.join(temporary_name(MARKER)), self.path.join(MARKER));
        let text = serde_json::to_string_pretty(&self.marker).context("write marker as JSON")?;
        fs::write(&temporary, text).with_context(|| format!("write `{}`", temporary.display()))?;
        fs::rename(&temporary, &path).with_context(|| format!("write `{}`", path.display()))
    }
}

fn temporary_name(name: &str) -> String {
    format!(".{name}.tmp")
}

/// The final name of a temporary name, the name itself otherwise; none for the marker.
fn final_name(name: &str) -> Option<&str> {
    let name = name.strip_prefix('.').and_then(|n| n.strip_suffix(".tmp")).unwrap_or(name);
    (name != MARKER).then_some(name)
}

fn read_marker(folder: &Path) -> anyhow::Result<Option<Marker>> {
    let path = folder.join(MARKER);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.with_context(|| format!("read `{}`", path.display()))?,
    };
    let marker = serde_json::from_str(&text).with_context(|| {
        format!("`{}` is not a marker of generated data: remove the folder or choose another", path.display())
    })?;
    Ok(Some(marker))
}

fn entries(folder: &Path) -> anyhow::Result<BTreeSet<String>> {
    let list = fs::read_dir(folder).with_context(|| format!("list folder `{}`", folder.display()))?;
    let names = list.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    names.collect::<std::io::Result<_>>().with_context(|| format!("list folder `{}`", folder.display()))
}

fn refuse_strangers(folder: &Path, left: &BTreeSet<String>, earlier: Option<&Marker>) -> anyhow::Result<()> {
    let ours = |name: &String| match final_name(name) {
        None => true,
        Some(known) => earlier.is_some_and(|marker| marker.files.contains(known)),
    };
    let Some(stranger) = left.iter().find(|name| !ours(name)) else { return Ok(()) };
    bail!(
        "folder `{}` holds `{stranger}`, which no run of `sheaf data generate` wrote: choose an empty folder with --out",
        folder.display()
    )
}
