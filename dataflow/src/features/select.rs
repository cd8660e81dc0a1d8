//! `drop`, `keep` and `rename`: which columns are features, and what they are called.

use std::collections::BTreeSet;

use crate::features::Fitted;
use crate::features::plan::{PlannedKind, Planner};
use crate::job::JobError;

/// Validates `drop`: features, or columns that a step has already used up.
pub(crate) fn plan_drop(planner: &mut Planner, path: &str, columns: &[String]) -> Option<PlannedKind> {
    let names = planner.select(&format!("{path}.columns"), columns, |_| true, |_| true, "feature columns", false);
    remove(planner, path, names)
}

/// Validates `keep`: the features that are not named are dropped.
pub(crate) fn plan_keep(planner: &mut Planner, path: &str, columns: &[String]) -> Option<PlannedKind> {
    let kept = planner.select(&format!("{path}.columns"), columns, |_| true, |_| true, "feature columns", false);
    let removed = planner.frame.features().filter(|c| !kept.contains(&c.name)).map(|c| c.name.clone()).collect();
    remove(planner, path, removed)
}

fn remove(planner: &mut Planner, path: &str, columns: Vec<String>) -> Option<PlannedKind> {
    for name in &columns {
        if let Some(col) = planner.frame.get_mut(name) {
            col.gone = Some(path.to_string());
        }
        planner.note(name, format!("removed by {path}"));
    }
    Some(PlannedKind::Ready(Fitted::Drop { columns }))
}

/// Validates `rename`: all at once, so that two names can be swapped.
pub(crate) fn plan_rename(planner: &mut Planner, path: &str, names: &[(String, String)]) -> Option<PlannedKind> {
    let mut moved: Vec<(usize, String)> = Vec::new();
    let mut taken = BTreeSet::new();
    for (old, new) in names {
        let place = format!("{path}.{old}");
        if !planner.check(&place, old, |_| true, "feature columns", false) {
            continue;
        }
        if new.is_empty() || !taken.insert(new.as_str()) {
            planner.errors.push(JobError::at(&place, format!("`{new}` cannot be empty, nor the new name of two columns")));
        } else if planner.frame.get(new).is_some() && !names.iter().any(|(o, _)| o == new) {
            let error = JobError::at(&place, format!("a column `{new}` is already there"));
            planner.errors.push(error.hint("drop it first, or choose another name"));
        } else if let Some(at) = planner.frame.position(old) {
            moved.push((at, new.clone()));
        }
    }
    for (at, new) in moved {
        let old = std::mem::replace(&mut planner.frame.cols[at].name, new);
        let new = planner.frame.cols[at].name.clone();
        planner.note(&old, format!("renamed to `{new}` by {path}"));
    }
    Some(PlannedKind::Ready(Fitted::Rename { names: names.to_vec() }))
}
