//! `one_hot`: a slot per category seen in the training rows, in bytewise order of the categories'
//! canonical text. Never materialised: a row holds the index of its slot. A null has no slot.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{Array, ArrayRef};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::features::columns::{Col, Kind};
use crate::features::plan::{PlannedKind, Planner};
use crate::features::render::each_text;
use crate::features::{FitError, Fitted, Type, fit};
use crate::job::Unknown;

/// Most categories of a column; more ask for `hash`.
pub(crate) const MOST_CATEGORIES: u64 = 100_000;

/// Index that means "no slot".
pub(crate) const NO_SLOT: u32 = u32::MAX;

/// Slots of one column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Slots {
    /// The column, encoded in place.
    pub column: String,
    /// Category of each slot.
    pub names: Vec<String>,
    /// The first category, where `drop_first` took it out: known, but without a slot.
    pub dropped: Option<String>,
    /// What a category does that was not seen in training.
    pub unknown: Unknown,
}

/// Validates the step: categories; `*` takes text, booleans and declared codes.
pub(crate) fn plan(
    planner: &mut Planner,
    path: &str,
    columns: &[String],
    drop_first: bool,
    unknown: Unknown,
) -> Option<PlannedKind> {
    let wild = |c: &Col| c.categorical || matches!(c.ty(), Some(Type::Text | Type::Bool));
    let fits = |c: &Col| c.ty().is_some_and(Type::is_category);
    let takes = "text, bool, integer and date columns";
    let names = planner.select(&format!("{path}.columns"), columns, wild, fits, takes, false);
    for name in &names {
        planner.replace(name, Kind::Slots);
        if let Some(col) = planner.frame.get_mut(name) {
            col.categorical = false;
        }
    }
    Some(PlannedKind::OneHot { columns: names, drop_first, unknown })
}

/// Slots from the `vocabulary` of the training rows.
pub(crate) fn fit(
    place: &str,
    label: &str,
    columns: &[String],
    drop_first: bool,
    unknown: Unknown,
    result: Value,
) -> Result<Fitted, FitError> {
    let vocabulary = fit::vocabulary(label, result)?;
    let mut out = Vec::with_capacity(columns.len());
    for column in columns {
        let seen = fit::column(place, &vocabulary, column)?;
        if seen.values.is_empty() {
            return Err(fit::all_missing(place, column));
        }
        let mut names: Vec<String> = seen.values.iter().map(|(value, _)| value.clone()).collect();
        names.sort_unstable();
        let dropped = drop_first.then(|| names.remove(0));
        out.push(Slots { column: column.clone(), names, dropped, unknown });
    }
    Ok(Fitted::OneHot { columns: out })
}

/// Looks categories up.
pub(crate) struct Lookup {
    slots: Slots,
    ty: Type,
    index: HashMap<String, u32>,
    unknown: AtomicU64,
}

impl Lookup {
    pub(crate) fn new(slots: Slots, ty: Type) -> Lookup {
        let mut index: HashMap<String, u32> = (0u32..).zip(&slots.names).map(|(i, name)| (name.clone(), i)).collect();
        if let Some(dropped) = &slots.dropped {
            index.insert(dropped.clone(), NO_SLOT);
        }
        Lookup { slots, ty, index, unknown: AtomicU64::new(0) }
    }

    /// Slot of every row.
    pub(crate) fn encode(&self, array: &ArrayRef) -> Result<Vec<u32>, FitError> {
        let mut out = Vec::with_capacity(array.len());
        let mut unknown = 0u64;
        let mut first: Option<String> = None;
        each_text(array, self.ty, |_, text| {
            let slot = text.as_deref().map(|t| self.index.get(t).copied());
            if slot == Some(None) {
                unknown += 1;
                first = first.take().or_else(|| text.map(Cow::into_owned));
            }
            out.push(slot.flatten().unwrap_or(NO_SLOT));
        });
        match first {
            Some(value) if self.slots.unknown == Unknown::Error => Err(FitError::Data(format!(
                "column `{}` holds the category `{value}`, which no training row has; set `unknown: zero` to give it no slot",
                self.slots.column
            ))),
            _ => {
                self.unknown.fetch_add(unknown, Ordering::Relaxed);
                Ok(out)
            }
        }
    }

    /// Column and rows with an unknown category so far.
    pub(crate) fn unknown(&self) -> (&str, u64) {
        (&self.slots.column, self.unknown.load(Ordering::Relaxed))
    }
}
