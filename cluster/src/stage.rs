//! What there is to spread in a stage, and where it stands.

use std::ops::Range;

use crate::id::{Stage, Step};

/// What there is to spread in a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagePlan {
    /// Number of shards (or tasks).
    pub shards: u32,
    /// Where leases may be cut: first shards of load units, ascending. 0 and `shards` are always cuts,
    /// listed or not; nothing else is, so an empty list makes one lease of the whole stage.
    pub boundaries: Vec<u32>,
    /// Key of the dataset view. Workers that held shards of this key in an earlier stage get the same
    /// ones again, so that their caches serve.
    pub sticky: Option<u64>,
    /// At most so many workers take part; `None`: all.
    pub max_workers: Option<u32>,
    /// The phase that it belongs to, as people call it; empty: it is called by its number.
    pub phase: String,
}

/// Why a plan cannot be spread.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The boundaries do not rise.
    #[error("lease boundaries do not rise: {after} after {before}")]
    Descending {
        /// A boundary.
        before: u32,
        /// The next one, not above it.
        after: u32,
    },
    /// A boundary lies outside the dataset.
    #[error("lease boundary {boundary} lies beyond the {shards} shards of the stage")]
    Beyond {
        /// The boundary.
        boundary: u32,
        /// Number of shards.
        shards: u32,
    },
    /// Nobody may take part.
    #[error("a stage for at most 0 workers can never run: leave the number out or give at least 1")]
    NoWorkers,
}

impl StagePlan {
    /// Shards of a dataset with load units that start at `boundaries`.
    pub fn shards(shards: u32, boundaries: Vec<u32>, sticky: Option<u64>) -> Self {
        Self { shards, boundaries, sticky, max_workers: None, phase: String::new() }
    }

    /// `count` one-off tasks that can be spread at will.
    pub fn tasks(count: u32) -> Self {
        Self::shards(count, (0..count).collect(), None)
    }

    /// One task for one worker.
    pub fn one_task() -> Self {
        Self { max_workers: Some(1), ..Self::shards(1, Vec::new(), None) }
    }

    /// The same plan for a phase of that name.
    #[must_use]
    pub fn of_phase(self, phase: impl Into<String>) -> Self {
        Self { phase: phase.into(), ..self }
    }

    /// What people call its stage: `phase train`, or by its number where no phase is named.
    pub fn name(&self, stage: &Stage) -> String {
        if self.phase.is_empty() { format!("stage {stage}") } else { format!("phase {}", self.phase) }
    }

    /// The units of leasing as their first shards and, last, the number of shards; `[0]` if there are none.
    pub fn cuts(&self) -> Result<Vec<u32>, PlanError> {
        if self.max_workers == Some(0) {
            return Err(PlanError::NoWorkers);
        }
        if let Some(pair) = self.boundaries.windows(2).find(|pair| pair[0] >= pair[1]) {
            return Err(PlanError::Descending { before: pair[0], after: pair[1] });
        }
        if let Some(boundary) = self.boundaries.last().copied().filter(|last| *last > self.shards) {
            return Err(PlanError::Beyond { boundary, shards: self.shards });
        }
        let inner = self.boundaries.iter().copied().filter(|cut| *cut > 0 && *cut < self.shards);
        let mut cuts = vec![0];
        cuts.extend(inner);
        if self.shards > 0 {
            cuts.push(self.shards);
        }
        Ok(cuts)
    }
}

/// Where a stage stands, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageProgress {
    /// Which stage.
    pub stage: Stage,
    /// The current or last step; `None` before the first.
    pub step: Option<Step>,
    /// Shards of the stage.
    pub shards: u32,
    /// Shards of the step that are in.
    pub covered: u32,
    /// Shards of the step that nobody computes, for want of workers.
    pub waiting: u32,
    /// Workers that owe shards.
    pub busy: usize,
    /// Workers that know the stage.
    pub workers: usize,
    /// Those of them that have not said yet that they are ready.
    pub preparing: usize,
}

/// A list of one range.
pub(crate) fn only(range: Range<u32>) -> Vec<Range<u32>> {
    std::iter::once(range).collect()
}

/// Shards in ranges.
pub(crate) fn count(ranges: &[Range<u32>]) -> u32 {
    ranges.iter().map(|range| range.end - range.start).sum()
}

/// Appends a range behind the others, joining it to the last one if they touch.
pub(crate) fn push_joined(ranges: &mut Vec<Range<u32>>, range: Range<u32>) {
    match ranges.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        _ => ranges.push(range),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_always_hold_both_ends() {
        let check = |shards, boundaries: &[u32], expected: &[u32]| {
            let plan = StagePlan::shards(shards, boundaries.to_vec(), None);
            assert_eq!(plan.cuts(), Ok(expected.to_vec()));
        };
        check(10, &[], &[0, 10]);
        check(10, &[0, 4], &[0, 4, 10]);
        check(10, &[4, 10], &[0, 4, 10]);
        check(0, &[], &[0]);
        check(0, &[0], &[0]);
        assert_eq!(StagePlan::tasks(3).cuts(), Ok(vec![0, 1, 2, 3]));
    }

    #[test]
    fn bad_plans_are_refused() {
        let plan = StagePlan::shards(10, vec![0, 5, 5], None);
        assert_eq!(plan.cuts(), Err(PlanError::Descending { before: 5, after: 5 }));
        let plan = StagePlan::shards(10, vec![0, 11], None);
        assert_eq!(plan.cuts(), Err(PlanError::Beyond { boundary: 11, shards: 10 }));
        let plan = StagePlan { max_workers: Some(0), ..StagePlan::one_task() };
        assert_eq!(plan.cuts(), Err(PlanError::NoWorkers));
    }

    #[test]
    fn touching_ranges_join() {
        let mut ranges = Vec::new();
        push_joined(&mut ranges, 0..2);
        push_joined(&mut ranges, 2..3);
        push_joined(&mut ranges, 5..6);
        assert_eq!(ranges, vec![0..3, 5..6]);
        assert_eq!(count(&ranges), 4);
    }
}
