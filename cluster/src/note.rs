//! What happened to a stage, for people: losses, joins, second leases, retries, suspects. The engine says
//! it beside its decisions, so that a job can be explained afterwards.

use std::fmt;
use std::ops::Range;

use crate::id::{Stage, Step, WorkerId};

/// What a note is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// A worker is gone.
    Lost,
    /// A worker leaves in good order.
    Leaving,
    /// A worker gets ready for a stage under way, or is ready.
    Joining,
    /// Shards have other owners than in the step before.
    Moved,
    /// Shards of a straggler are computed a second time.
    Doubled,
    /// A worker's share of later steps changes.
    Paced,
    /// A shard failed, or was given back, and is computed again.
    Retried,
    /// A shard is suspected of ending its workers and is computed alone.
    Suspected,
}

impl What {
    /// Whether somebody may want to know why.
    pub fn is_trouble(self) -> bool {
        matches!(self, What::Lost | What::Retried | What::Suspected)
    }

    /// The word for it, for programs.
    pub fn name(self) -> &'static str {
        match self {
            What::Lost => "lost",
            What::Leaving => "leaving",
            What::Joining => "joining",
            What::Moved => "moved",
            What::Doubled => "doubled",
            What::Paced => "paced",
            What::Retried => "retried",
            What::Suspected => "suspected",
        }
    }
}

/// One thing that happened to a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Which stage.
    pub stage: Stage,
    /// The step under way, or the last one.
    pub step: Option<Step>,
    /// Whom it is about.
    pub worker: Option<WorkerId>,
    /// Which shards.
    pub shards: Vec<Range<u32>>,
    /// What it is about.
    pub what: What,
    /// In a sentence.
    pub text: String,
}

/// Ranges as people read them: `4..9, 12, 20..23`; the first few and how many shards there are in all.
pub struct Shards<'a>(pub &'a [Range<u32>]);

/// Ranges that are written out.
const SHOWN: usize = 6;

impl fmt::Display for Shards<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let single = matches!(self.0, [range] if range.len() == 1);
        f.write_str(if single { "shard " } else { "shards " })?;
        for (place, range) in self.0.iter().take(SHOWN).enumerate() {
            let comma = if place > 0 { ", " } else { "" };
            match range.len() {
                1 => write!(f, "{comma}{}", range.start)?,
                _ => write!(f, "{comma}{}..{}", range.start, range.end)?,
            }
        }
        if self.0.len() > SHOWN {
            let all: usize = self.0.iter().map(ExactSizeIterator::len).sum();
            write!(f, " and others, {all} in all")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::single_range_in_vec_init, reason = "lists of ranges are meant")]

    use super::*;

    #[test]
    fn shards_are_written_for_people() {
        assert_eq!(Shards(&[4..5]).to_string(), "shard 4");
        assert_eq!(Shards(&[4..9, 12..13]).to_string(), "shards 4..9, 12");
        let many: Vec<_> = (0..8).map(|i| i * 4..i * 4 + 2).collect();
        assert_eq!(Shards(&many).to_string(), "shards 0..2, 4..6, 8..10, 12..14, 16..18, 20..22 and others, 16 in all");
    }
}
