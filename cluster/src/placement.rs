//! Where shards are computed: contiguous runs of load units, balanced by shards per weight, moved as
//! little as possible. Pure functions over units; a unit is what lies between two cuts.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::id::WorkerId;
use crate::stage::push_joined;

/// Who may be given shards, with weights: compute threads times the measured pace (at least 1).
pub(crate) type Seats = BTreeMap<WorkerId, u64>;

/// Ranges of shards by worker: ascending, disjoint, adjacent ones joined.
pub(crate) type Layout = BTreeMap<WorkerId, Vec<Range<u32>>>;

/// Gives every unit a worker. `cuts` are the units' first shards and, last, the number of shards;
/// `home` is who has had each unit so far. Homes of workers without a seat count as none. There is at
/// least one seat.
///
/// Units stay at home while that is balanced; units without a home fill up those who have less than
/// their share, in contiguous runs; then single units move from the fullest to the emptiest while the
/// taker ends less full than the giver was. What is balanced already does not move.
pub(crate) fn place(cuts: &[u32], home: &[Option<WorkerId>], seats: &Seats) -> Vec<WorkerId> {
    let (mut plan, kept) = Plan::filled(cuts, home, seats);
    if kept {
        plan.balance();
    }
    plan.owners(home.len())
}

/// As [`place`], but what has a home stays there, balanced or not.
pub(crate) fn fill(cuts: &[u32], home: &[Option<WorkerId>], seats: &Seats) -> Vec<WorkerId> {
    Plan::filled(cuts, home, seats).0.owners(home.len())
}

/// Spreads items over seats in contiguous runs, proportionally to `share`: item `i` goes to the seat
/// in whose part of the line its middle lies. Returns an index into `shares` for each item. At least one
/// share is above 0.
pub(crate) fn split(sizes: &[u32], shares: &[u128]) -> Vec<usize> {
    let total: u128 = sizes.iter().map(|size| u128::from(*size)).sum();
    let sum: u128 = shares.iter().sum();
    let (mut seat, mut filled, mut before) = (0, shares.first().copied().unwrap_or(0), 0_u128);
    let mut owners = Vec::with_capacity(sizes.len());
    for size in sizes {
        let size = u128::from(*size);
        // middle / (2 · total) ≥ filled / sum, in whole numbers.
        let middle = 2 * before + size;
        while middle * sum >= 2 * total * filled && seat + 1 < shares.len() {
            seat += 1;
            filled += shares[seat];
        }
        before += size;
        owners.push(seat);
    }
    owners
}

/// Joins units of one owner into ranges of shards, by worker.
pub(crate) fn ranges(cuts: &[u32], owners: impl IntoIterator<Item = Option<WorkerId>>) -> Layout {
    let mut ranges = Layout::new();
    for (owner, pair) in owners.into_iter().zip(cuts.windows(2)) {
        if let Some(owner) = owner {
            push_joined(ranges.entry(owner).or_default(), pair[0]..pair[1]);
        }
    }
    ranges
}

struct Load {
    weight: u64,
    shards: u64,
    units: Vec<usize>,
}

struct Plan<'a> {
    cuts: &'a [u32],
    loads: BTreeMap<WorkerId, Load>,
    weights: u128,
}

impl<'a> Plan<'a> {
    fn new(cuts: &'a [u32], seats: &Seats) -> Self {
        let load = |(worker, weight): (&WorkerId, &u64)| (*worker, Load { weight: *weight, shards: 0, units: Vec::new() });
        let weights = seats.values().map(|weight| u128::from(*weight)).sum();
        Self { cuts, loads: seats.iter().map(load).collect(), weights }
    }

    /// Everybody has what is at home with it, and the homeless units are settled. Also says whether
    /// anything was at home.
    fn filled(cuts: &'a [u32], home: &[Option<WorkerId>], seats: &Seats) -> (Self, bool) {
        let mut plan = Plan::new(cuts, seats);
        let mut homeless = Vec::new();
        for (unit, worker) in home.iter().enumerate() {
            match worker.filter(|worker| seats.contains_key(worker)) {
                Some(worker) => plan.give(unit, worker),
                None => homeless.push(unit),
            }
        }
        let kept = homeless.len() < home.len();
        plan.settle(&homeless);
        (plan, kept)
    }

    fn size(&self, unit: usize) -> u32 {
        self.cuts[unit + 1] - self.cuts[unit]
    }

    fn give(&mut self, unit: usize, worker: WorkerId) {
        let size = u64::from(self.size(unit));
        if let Some(load) = self.loads.get_mut(&worker) {
            load.shards += size;
            load.units.push(unit);
        }
    }

    /// Units without a home go to those who have less than their share, by what each lacks.
    fn settle(&mut self, homeless: &[usize]) {
        let shards = u128::from(self.cuts.last().copied().unwrap_or(0));
        let lacks: Vec<(WorkerId, u128)> = self
            .loads
            .iter()
            .map(|(worker, load)| {
                let due = shards * u128::from(load.weight);
                (*worker, due.saturating_sub(u128::from(load.shards) * self.weights))
            })
            .filter(|(_, lack)| *lack > 0)
            .collect();
        let sizes: Vec<u32> = homeless.iter().map(|unit| self.size(*unit)).collect();
        let shares: Vec<u128> = lacks.iter().map(|(_, lack)| *lack).collect();
        for (unit, seat) in homeless.iter().zip(split(&sizes, &shares)) {
            self.give(*unit, lacks[seat].0);
        }
    }

    /// Shards per weight, to order workers by; exact comparisons are made where it matters.
    fn fullness(&self, worker: WorkerId) -> (u128, WorkerId) {
        let load = &self.loads[&worker];
        ((u128::from(load.shards) << 48) / u128::from(load.weight), worker)
    }

    /// Moves last units from the fullest to the emptiest, those first that lie apart from the giver's others:
    /// what was scattered by a loss comes together again at the next joiner. Every move lowers the larger fullness of the
    /// two, and nobody else's rises, so this ends; every turn moves a unit or drops a giver for good.
    fn balance(&mut self) {
        self.loads.values_mut().for_each(|load| shortest_runs_last(&mut load.units));
        let order: Vec<_> = self.loads.keys().map(|worker| self.fullness(*worker)).collect();
        let mut givers: BTreeSet<_> = order.iter().copied().collect();
        let mut takers: BTreeSet<_> = order.into_iter().collect();
        while let (Some(giver), Some(taker)) = (givers.last().copied(), takers.first().copied()) {
            let Some(unit) = self.improving(giver.1, taker.1) else {
                givers.remove(&giver);
                continue;
            };
            let size = u64::from(self.size(unit));
            if let Some(load) = self.loads.get_mut(&giver.1) {
                load.units.pop();
                load.shards -= size;
            }
            self.give(unit, taker.1);
            for old in [giver, taker] {
                let new = self.fullness(old.1);
                for set in [&mut givers, &mut takers] {
                    if set.remove(&old) {
                        set.insert(new);
                    }
                }
            }
        }
    }

    /// The giver's last unit, if the taker with it is less full than the giver was.
    fn improving(&self, giver: WorkerId, taker: WorkerId) -> Option<usize> {
        let (from, to) = (&self.loads[&giver], &self.loads[&taker]);
        let unit = *from.units.last().filter(|_| giver != taker)?;
        let size = u64::from(self.size(unit));
        let before = u128::from(from.shards) * u128::from(to.weight);
        let after = u128::from(to.shards + size) * u128::from(from.weight);
        (after < before).then_some(unit)
    }

    fn owners(&self, units: usize) -> Vec<WorkerId> {
        let nobody = WorkerId::default();
        let mut owners = vec![nobody; units];
        for (worker, load) in &self.loads {
            for unit in &load.units {
                owners[*unit] = *worker;
            }
        }
        owners
    }
}

/// Orders units by the length of the runs of neighbours that they form, the longest first.
fn shortest_runs_last(units: &mut [usize]) {
    units.sort_unstable();
    let mut runs: Vec<Range<usize>> = Vec::new();
    for unit in units.iter().copied() {
        match runs.last_mut() {
            Some(run) if run.end == unit => run.end += 1,
            _ => runs.push(unit..unit + 1),
        }
    }
    runs.sort_by_key(|run| (Reverse(run.len()), run.start));
    units.iter_mut().zip(runs.into_iter().flatten()).for_each(|(place, unit)| *place = unit);
}

/// Who held which shards of a view, by key, so that the next stage over it finds their caches.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    limit: usize,
    uses: u64,
    views: BTreeMap<u64, View>,
}

#[derive(Debug, Clone)]
struct View {
    used: u64,
    shards: u32,
    runs: Vec<(Range<u32>, WorkerId)>,
}

impl Memory {
    /// Remembers at most `limit` views, those used last.
    pub fn new(limit: usize) -> Self {
        Self { limit, uses: 0, views: BTreeMap::new() }
    }

    pub fn store(&mut self, key: u64, shards: u32, layout: &Layout) {
        let held = layout.iter().flat_map(|(worker, ranges)| ranges.iter().map(|range| (range.clone(), *worker)));
        let mut runs: Vec<_> = held.collect();
        runs.sort_by_key(|(range, _)| range.start);
        self.uses += 1;
        self.views.insert(key, View { used: self.uses, shards, runs });
        while self.views.len() > self.limit {
            let oldest = self.views.iter().min_by_key(|(_, view)| view.used).map(|(key, _)| *key);
            oldest.and_then(|key| self.views.remove(&key));
        }
    }

    /// Who held each unit's first shard. Nobody, if the view is not known or has another size.
    pub fn recall(&mut self, key: Option<u64>, cuts: &[u32]) -> Vec<Option<WorkerId>> {
        let units = cuts.len() - 1;
        let shards = cuts[units];
        let view = key.and_then(|key| self.views.get_mut(&key)).filter(|view| view.shards == shards);
        let Some(view) = view else { return vec![None; units] };
        self.uses += 1;
        view.used = self.uses;
        let mut runs = view.runs.iter().peekable();
        let owner = |start: &u32| {
            while runs.next_if(|(range, _)| range.end <= *start).is_some() {}
            runs.peek().filter(|(range, _)| range.contains(start)).map(|(_, worker)| *worker)
        };
        cuts[..units].iter().map(owner).collect()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::single_range_in_vec_init, reason = "lists of ranges are meant")]

    use super::*;

    fn seats(weights: &[u32]) -> Seats {
        weights.iter().enumerate().map(|(i, w)| (WorkerId(i as u64 + 1), u64::from(*w))).collect()
    }

    fn uniform(units: u32, size: u32) -> Vec<u32> {
        (0..=units).map(|unit| unit * size).collect()
    }

    fn homes(owners: &[WorkerId]) -> Vec<Option<WorkerId>> {
        owners.iter().copied().map(Some).collect()
    }

    /// The layout as `worker: ranges`, a line.
    fn show(cuts: &[u32], owners: &[WorkerId]) -> String {
        let layout = ranges(cuts, homes(owners));
        let line = |(worker, ranges): (&WorkerId, &Vec<Range<u32>>)| format!("{worker}: {ranges:?}");
        layout.iter().map(line).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn fresh_units_are_spread_in_contiguous_runs() {
        let check = |cuts: &[u32], threads: &[u32], expected: &str| {
            let owners = place(cuts, &vec![None; cuts.len() - 1], &seats(threads));
            assert_eq!(show(cuts, &owners), expected);
            assert_eq!(place(cuts, &homes(&owners), &seats(threads)), owners);
        };
        check(&uniform(12, 1), &[1, 1, 1], "1: [0..4]; 2: [4..8]; 3: [8..12]");
        check(&uniform(12, 1), &[4, 1, 1], "1: [0..8]; 2: [8..10]; 3: [10..12]");
        check(&uniform(10, 1), &[1, 1, 1, 1], "1: [0..2]; 2: [2..5]; 3: [5..7]; 4: [7..10]");
        check(&[0, 7, 9, 16], &[1, 1], "1: [0..7]; 2: [7..16]");
        check(&[0, 16], &[1, 1, 1], "2: [0..16]");
        check(&[0], &[1], "");
    }

    #[test]
    fn a_loss_moves_only_what_was_lost() {
        let cuts = uniform(12, 1);
        let before = place(&cuts, &[None; 12], &seats(&[1, 1, 1]));
        let mut left = seats(&[1, 1, 1]);
        left.remove(&WorkerId(2));
        let after = place(&cuts, &homes(&before), &left);
        assert_eq!(show(&cuts, &after), "1: [0..6]; 3: [6..12]");
    }

    #[test]
    fn a_newcomer_gets_its_share_and_nothing_else_moves() {
        let check = |units: u32, threads: &[u32]| {
            let cuts = uniform(units, 1);
            let before = place(&cuts, &vec![None; units as usize], &seats(&threads[1..]));
            let after = place(&cuts, &homes(&before), &seats(threads));
            let last = WorkerId(threads.len() as u64);
            let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
            let taken = after.iter().filter(|owner| **owner == last).count();
            let share = units as usize * threads[threads.len() - 1] as usize / threads.iter().sum::<u32>() as usize;
            assert_eq!(moved, taken, "only the newcomer takes");
            assert!(taken.abs_diff(share) <= 1, "{taken} of {share}");
        };
        check(100, &[1, 1]);
        check(100, &[1; 11]);
        check(1000, &[4; 7]);
        check(3, &[1; 5]);
    }

    #[test]
    fn a_slow_worker_keeps_what_its_weight_allows() {
        let cuts = uniform(40, 1);
        let before = place(&cuts, &[None; 40], &seats(&[1024; 4]));
        let share = |owners: &[WorkerId]| owners.iter().filter(|owner| **owner == WorkerId(4)).count();
        assert_eq!(share(&before), 10);
        let after = place(&cuts, &homes(&before), &seats(&[1024, 1024, 1024, 102]));
        assert_eq!(share(&after), 1);
        let none = place(&cuts, &homes(&after), &seats(&[1024, 1024, 1024, 16]));
        assert_eq!(share(&none), 0);
        let kept = before.iter().zip(&after).filter(|(a, b)| **a != WorkerId(4) && a != b).count();
        assert_eq!(kept, 0, "nothing moves among the others");
        assert_eq!(share(&fill(&cuts, &homes(&before), &seats(&[1024, 1024, 1024, 16]))), 10);
    }

    #[test]
    fn units_that_lie_apart_are_given_first() {
        let mut units = vec![9, 0, 1, 2, 5, 7, 8];
        shortest_runs_last(&mut units);
        assert_eq!(units, [0, 1, 2, 7, 8, 9, 5]);
        // Worker 2 is lost and comes back as 4: it gets its run again.
        let cuts = uniform(40, 1);
        let before = place(&cuts, &[None; 40], &seats(&[1, 1, 1, 1]));
        let mut left = seats(&[1, 1, 1, 1, 1]);
        left.remove(&WorkerId(2));
        let joiner = left.remove(&WorkerId(5)).unwrap_or(1);
        let scattered = place(&cuts, &homes(&before), &left);
        left.insert(WorkerId(5), joiner);
        let after = place(&cuts, &homes(&scattered), &left);
        assert_eq!(show(&cuts, &after), "1: [0..10]; 3: [20..30]; 4: [30..40]; 5: [10..20]");
    }

    #[test]
    fn split_follows_the_shares() {
        assert_eq!(split(&[1, 1, 1, 1], &[3, 1]), [0, 0, 0, 1]);
        assert_eq!(split(&[1, 1, 1, 1], &[0, 1]), [1, 1, 1, 1]);
        assert_eq!(split(&[4, 1], &[1, 1]), [0, 1]);
        assert_eq!(split(&[], &[]), Vec::<usize>::new());
    }

    #[test]
    fn views_are_remembered_by_key() {
        let (w1, w2) = (WorkerId(1), WorkerId(2));
        let mut memory = Memory::new(2);
        memory.store(7, 8, &BTreeMap::from([(w1, vec![0..2, 6..8]), (w2, vec![2..6])]));
        assert_eq!(memory.recall(Some(7), &[0, 2, 4, 8]), [Some(w1), Some(w2), Some(w2)]);
        assert_eq!(memory.recall(Some(7), &[0, 9]), [None]);
        assert_eq!(memory.recall(None, &[0, 8]), [None]);
        memory.store(8, 1, &BTreeMap::from([(w1, vec![0..1])]));
        assert_eq!(memory.recall(Some(7), &[0, 8]), [Some(w1)]);
        memory.store(9, 1, &BTreeMap::from([(w1, vec![0..1])]));
        assert_eq!(memory.recall(Some(8), &[0, 1]), [None]);
        assert_eq!(memory.recall(Some(7), &[0, 8]), [Some(w1)]);
    }
}
