//! Orders within a step: what was lost, failed, given back or put aside goes to those who are there, in
//! whole units; suspects wait until a worker is free for one of them alone.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{Context, StageRun};
use crate::command::Command;
use crate::id::{Token, WorkerId};
use crate::lease::StepRun;
use crate::membership::Workers;
use crate::note::{Shards, What};
use crate::placement::{Layout, Seats, split};
use crate::stage::{only, push_joined};
use crate::suspect::Losses;

/// Ranges of shards in a unit, with whatever belongs to them.
type Piece<T> = (usize, Vec<(T, Range<u32>)>);

type Pieces<T> = Vec<Piece<T>>;

impl StageRun {
    /// Orders shards again that nobody owes: suspects apart, the others at once and, if possible, not from
    /// `avoid`.
    pub fn again(&mut self, missing: Vec<Range<u32>>, avoid: Option<WorkerId>, cx: &mut Context) {
        let Some(step) = self.step.as_mut() else { return };
        let limit = cx.options.max_attempts;
        let suspects = missing.iter().flat_map(|range| step.suspects(range.clone()));
        let apart: Vec<(u32, String)> = suspects
            .filter(|(_, suspicion)| Losses::sets_apart(suspicion, limit))
            .map(|(shard, suspicion)| (shard, suspicion.ends.join("; ")))
            .collect();
        if apart.is_empty() {
            return self.spread(missing, avoid, cx);
        }
        let mut rest = Vec::new();
        for range in missing {
            let mut at = range.start;
            for (shard, _) in apart.iter().filter(|(shard, _)| range.contains(shard)) {
                rest.extend((at < *shard).then_some(at..*shard));
                at = shard + 1;
            }
            rest.extend((at < range.end).then_some(at..range.end));
        }
        for (shard, ends) in apart {
            if let Some(step) = self.step.as_mut() {
                step.set_apart(shard);
            }
            let text = format!("shard {shard} is computed alone from now on, since it may have ended its workers: {ends}");
            self.note(What::Suspected, None, only(shard..shard + 1), text, cx);
        }
        self.spread(rest, avoid, cx);
    }

    /// Orders what was put aside, if somebody is there.
    pub fn lease_waiting(&mut self, cx: &mut Context) {
        let waiting = self.step.as_mut().map(StepRun::take_waiting).unwrap_or_default();
        self.spread(waiting, None, cx);
    }

    /// Orders shards of the current step from those who are there: from whoever has or has prepared their
    /// unit, else by weight; with nobody there they wait.
    fn spread(&mut self, missing: Vec<Range<u32>>, avoid: Option<WorkerId>, cx: &mut Context) {
        if missing.is_empty() {
            return;
        }
        let seats = self.willing(avoid, cx);
        if seats.is_empty() {
            return self.set_aside(missing);
        }
        let mut orders = Layout::new();
        let mut homeless = Pieces::new();
        for (unit, ranges) in self.pieces(missing.into_iter().map(|range| ((), range))) {
            match self.natural(unit, &seats) {
                Some(worker) => give(&mut orders, worker, ranges),
                None => homeless.push((unit, ranges)),
            }
        }
        for (worker, (_, ranges)) in deal(homeless, &seats) {
            give(&mut orders, worker, ranges);
        }
        let token = self.mint(cx);
        for (worker, ranges) in orders {
            self.order(worker, token, joined(ranges), cx);
        }
    }

    fn willing(&self, avoid: Option<WorkerId>, cx: &Context) -> Seats {
        let mut seats = self.free_seats(cx.workers);
        if let Some(avoid) = avoid.filter(|_| seats.len() > 1) {
            seats.remove(&avoid);
        }
        seats
    }

    /// Who should compute a unit: who has prepared it and is ready, else who has it.
    fn natural(&self, unit: usize, seats: &Seats) -> Option<WorkerId> {
        let ready = |worker: &WorkerId| self.members.get(worker).is_some_and(|member| member.ready);
        let prepared = self.promised.get(&unit).copied().filter(ready);
        prepared.filter(|worker| seats.contains_key(worker)).or(self.home[unit].filter(|worker| seats.contains_key(worker)))
    }

    /// Cuts ranges at unit boundaries and groups them by unit: a unit is loaded by one worker.
    pub(super) fn pieces<T: Copy>(&self, missing: impl IntoIterator<Item = (T, Range<u32>)>) -> Pieces<T> {
        let mut pieces = Pieces::new();
        for (tag, Range { mut start, end }) in missing {
            let mut unit = self.unit(start);
            while start < end {
                let stop = end.min(self.cuts[unit + 1]);
                match pieces.last_mut() {
                    Some((last, ranges)) if *last == unit => ranges.push((tag, start..stop)),
                    _ => pieces.push((unit, vec![(tag, start..stop)])),
                }
                start = stop;
                unit += 1;
            }
        }
        pieces
    }

    /// Orders shards of the current step on top of what is ordered; their units move to this worker.
    fn order(&mut self, worker: WorkerId, token: Token, ranges: Vec<Range<u32>>, cx: &mut Context) {
        for range in &ranges {
            for unit in self.unit(range.start)..=self.unit(range.end - 1) {
                if self.home[unit] != Some(worker) && self.promised.get(&unit) != Some(&worker) {
                    self.cold.insert(worker);
                }
                self.home[unit] = Some(worker);
            }
        }
        self.stale = true;
        let Some(run) = self.step.as_mut() else { return };
        run.grant(worker, token, ranges.clone(), cx.now);
        let (stage, step) = (self.stage.clone(), run.step);
        cx.out.push(Command::Compute { worker, stage, step, token, ranges });
    }

    fn set_aside(&mut self, ranges: Vec<Range<u32>>) {
        if let Some(step) = self.step.as_mut() {
            step.set_aside(ranges);
        }
    }

    /// Orders a failed shard from somebody else, if somebody else is there.
    pub fn retry(&mut self, shard: u32, failed: WorkerId, message: &str, cx: &mut Context) {
        let Some(step) = self.step.as_ref() else { return };
        let text = format!("shard {shard} failed on worker {failed} and is tried again: {message}");
        let suspected = step.suspicion(shard).is_some_and(|s| Losses::sets_apart(s, cx.options.max_attempts));
        let best = self.free_seats(cx.workers).into_iter().min_by_key(|(worker, weight)| {
            let owed = u128::from(step.owed(*worker)) << 32;
            (step.failed_on(shard, *worker), owed / u128::from(*weight), *worker)
        });
        self.note(What::Retried, Some(failed), only(shard..shard + 1), text, cx);
        match best {
            _ if suspected => self.again(only(shard..shard + 1), None, cx),
            Some((worker, _)) => {
                let token = self.mint(cx);
                self.order(worker, token, only(shard..shard + 1), cx);
            }
            None => self.set_aside(only(shard..shard + 1)),
        }
    }

    /// Shards came back without blame.
    pub fn returned(&mut self, worker: WorkerId, missing: Vec<Range<u32>>, cx: &mut Context) {
        if !missing.is_empty() {
            let text = format!("worker {worker} gave {} back, since another shard of the order failed", Shards(&missing));
            self.note(What::Retried, Some(worker), missing.clone(), text, cx);
            self.again(missing, Some(worker), cx);
        }
    }

    /// How many shards wait to be computed alone.
    pub fn apart(&self) -> usize {
        self.step.as_ref().map_or(0, |step| step.apart().len())
    }

    /// Who could compute a suspect next: ready, free, best without a failure of that shard.
    pub fn loners(&self, workers: &Workers) -> Vec<WorkerId> {
        let next = self.step.as_ref().and_then(|step| step.apart().first().copied());
        let mut free: Vec<WorkerId> = self.free_seats(workers).into_keys().collect();
        let failed = |worker: &WorkerId| next.zip(self.step.as_ref()).is_some_and(|(shard, step)| step.failed_on(shard, *worker));
        free.sort_by_key(|worker| (failed(worker), *worker));
        free
    }

    /// Orders the next suspect from a worker that owes nothing to anybody. The unit stays where it is.
    pub fn run_alone(&mut self, worker: WorkerId, cx: &mut Context) -> Option<u32> {
        let token = self.mint(cx);
        let run = self.step.as_mut()?;
        let (shard, step) = (run.next_apart()?, run.step);
        run.grant(worker, token, only(shard..shard + 1), cx.now);
        let ranges = only(shard..shard + 1);
        cx.out.push(Command::Compute { worker, stage: self.stage.clone(), step, token, ranges });
        Some(shard)
    }
}

fn give(orders: &mut Layout, worker: WorkerId, ranges: Vec<((), Range<u32>)>) {
    orders.entry(worker).or_default().extend(ranges.into_iter().map(|(_, range)| range));
}

/// Disjoint ranges in order, those that touch as one.
fn joined(mut ranges: Vec<Range<u32>>) -> Vec<Range<u32>> {
    ranges.sort_by_key(|range| range.start);
    let mut joined = Vec::new();
    ranges.into_iter().for_each(|range| push_joined(&mut joined, range));
    joined
}

/// Deals pieces in contiguous runs, by weight.
pub(super) fn deal<T>(pieces: Pieces<T>, seats: &Seats) -> Vec<(WorkerId, Piece<T>)> {
    let size = |(_, ranges): &Piece<T>| ranges.iter().map(|(_, range)| range.end - range.start).sum();
    let sizes: Vec<u32> = pieces.iter().map(size).collect();
    let (workers, shares): (Vec<WorkerId>, Vec<u128>) =
        seats.iter().map(|(worker, weight)| (*worker, u128::from(*weight))).unzip();
    pieces.into_iter().zip(split(&sizes, &shares)).map(|(piece, seat)| (workers[seat], piece)).collect()
}

/// What is dealt, by worker.
pub(super) fn by_worker<T>(dealt: Vec<(WorkerId, T)>) -> BTreeMap<WorkerId, Vec<T>> {
    let mut orders = BTreeMap::<WorkerId, Vec<T>>::new();
    for (worker, piece) in dealt {
        orders.entry(worker).or_default().push(piece);
    }
    orders
}
