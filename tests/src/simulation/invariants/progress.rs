//! After the storm everything heals within its time: every job comes to its end and its client hears.

use super::{Book, Fact, Invariant};

pub(super) struct Progress;

impl Invariant for Progress {
    fn name(&self) -> &'static str {
        "progress"
    }

    fn see(&mut self, fact: &Fact<'_>, _: &Book) -> Result<(), String> {
        match fact {
            Fact::Over { unfinished } if !unfinished.is_empty() => {
                Err(format!("long after the storm these have not ended: {}", unfinished.join("; ")))
            }
            _ => Ok(()),
        }
    }
}
