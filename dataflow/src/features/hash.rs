//! `hash`: feature hashing of `column=value` strings into one sparse column, slot and sign from
//! murmur3-32 as scikit-learn's `FeatureHasher` (Weinberger et al. 2009). Nothing is learnt. The
//! hashed columns stop being features.

use arrow::array::ArrayRef;
use serde::{Deserialize, Serialize};
use sheaf_learn::murmur3::feature_slot;

use crate::features::Fitted;
use crate::features::columns::{Col, Kind};
use crate::features::kinds::Type;
use crate::features::plan::{PlannedKind, Planner};
use crate::features::render::each_text;
use crate::job::JobError;

/// Columns hashed into one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hashed {
    /// Columns read.
    pub columns: Vec<String>,
    /// Number of slots, 1 to 2²⁴.
    pub size: u32,
    /// The column made.
    pub output: String,
}

/// Validates the step: categories, which may have a role.
pub(crate) fn plan(planner: &mut Planner, path: &str, columns: &[String], size: u32, output: &str) -> Option<PlannedKind> {
    let wild = |c: &Col| c.categorical || matches!(c.ty(), Some(Type::Text | Type::Bool));
    let fits = |c: &Col| c.ty().is_some_and(Type::is_category);
    let takes = "text, bool, integer and date columns";
    let names = planner.select(&format!("{path}.columns"), columns, wild, fits, takes, true);
    if size == 0 || size > 1 << 24 {
        let error = JobError::at(format!("{path}.size"), format!("{size} slots"));
        planner.errors.push(error.hint("1 to 16777216; a power of two spreads best"));
    }
    for name in &names {
        planner.consume(name, path);
    }
    let beside = planner.frame.get(output).is_some_and(|c| !names.contains(&c.name) || c.role.is_some());
    if beside || output.is_empty() {
        let message = format!("the step makes `{output}`, but such a column is already there, or the name is empty");
        planner.errors.push(JobError::at(format!("{path}.output"), message).hint("choose another name"));
    } else {
        planner.frame.put(Col { kind: Kind::Sparse(size), ..Col::plain(output, Type::Text) });
    }
    Some(PlannedKind::Ready(Fitted::Hash(Hashed { columns: names, size, output: output.to_string() })))
}

/// Row `i` has entries `offsets[i]..offsets[i + 1]` of (slot, value), slots ascending; values that
/// cancel out leave no entry.
pub(crate) fn apply(step: &Hashed, columns: &[(ArrayRef, Type)], rows: usize) -> (Vec<u32>, Vec<(u32, f32)>) {
    let mut cells: Vec<Vec<(u32, f32)>> = vec![Vec::with_capacity(columns.len()); rows];
    let mut key = String::new();
    for (name, (array, ty)) in step.columns.iter().zip(columns) {
        each_text(array, *ty, |row, text| {
            if let Some(text) = text {
                key.clear();
                key.extend([name.as_str(), "=", &text]);
                cells[row].push(feature_slot(key.as_bytes(), step.size));
            }
        });
    }
    let mut offsets = Vec::with_capacity(rows + 1);
    let mut entries = Vec::with_capacity(rows * columns.len());
    offsets.push(0);
    for mut row in cells {
        row.sort_unstable_by_key(|(slot, _)| *slot);
        for chunk in row.chunk_by(|a, b| a.0 == b.0) {
            // Small whole numbers: the sum is exact in any order.
            let sum: f32 = chunk.iter().map(|(_, v)| v).sum();
            if sum != 0.0 {
                entries.push((chunk[0].0, sum));
            }
        }
        offsets.push(entries.len() as u32);
    }
    (offsets, entries)
}
