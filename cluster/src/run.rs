//! A stage under way: who takes part, who has which units, and the step that is being computed.
//!
//! ```text
//! (opened) ─ StepReady ─▶ step k: orders out ─ every shard in ─▶ complete ─ StepReady ─▶ step k+1 …
//!                           │ worker lost, shard failed: the rest is ordered again at once
//!                           └ worker joined: takes part from the next step, when it is prepared
//! ```
//!
//! Leases stay as they are from step to step unless who takes part has changed.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Range;

use crate::command::Command;
use crate::id::{Stage, Step, Token, WorkerId};
use crate::lease::{StepRun, Tokens};
use crate::membership::Workers;
use crate::placement::{Layout, Seats, place, ranges, split};
use crate::stage::{StageProgress, count, only, push_joined};

/// What a stage needs from the engine to act.
pub(crate) struct Context<'a> {
    pub workers: &'a Workers,
    pub tokens: &'a mut Tokens,
    pub out: &'a mut Vec<Command>,
}

#[derive(Debug, Clone)]
struct Member {
    /// Token of the `OpenStage` that it was sent.
    opened: Token,
    /// Whether it may be counted on at the next step.
    ready: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct StageRun {
    stage: Stage,
    cuts: Vec<u32>,
    sticky: Option<u64>,
    max_workers: Option<u32>,
    members: BTreeMap<WorkerId, Member>,
    /// Who has each unit; may name workers that are gone.
    home: Vec<Option<WorkerId>>,
    /// Ranges by worker as of the last placement, and the token that they were first ordered under.
    layout: Layout,
    token: Token,
    /// Whether the layout is out of date.
    stale: bool,
    pub step: Option<StepRun>,
}

impl StageRun {
    /// A stage that nobody takes part in yet. `home` has an entry for each unit of `cuts`.
    pub fn new(stage: Stage, cuts: Vec<u32>, home: Vec<Option<WorkerId>>, sticky: Option<u64>, max_workers: Option<u32>) -> Self {
        Self {
            stage,
            cuts,
            sticky,
            max_workers,
            members: BTreeMap::new(),
            home,
            layout: BTreeMap::new(),
            token: Token::default(),
            stale: true,
            step: None,
        }
    }

    pub fn shards(&self) -> u32 {
        self.cuts.last().copied().unwrap_or(0)
    }

    pub fn members(&self) -> impl Iterator<Item = WorkerId> {
        self.members.keys().copied()
    }

    /// The key of the view and who has which shards of it, if that is worth remembering.
    pub fn memory(&self) -> Option<(u64, Layout)> {
        // A stage for few workers would make the next one start lopsided; one without a step has cached nothing.
        let key = self.sticky.filter(|_| !self.is_limited() && !self.layout.is_empty())?;
        Some((key, ranges(&self.cuts, self.home.iter().copied())))
    }

    pub fn owed(&self, worker: WorkerId) -> u32 {
        self.step.as_ref().map_or(0, |step| step.owed(worker))
    }

    pub fn progress(&self) -> StageProgress {
        let step = self.step.as_ref();
        StageProgress {
            stage: self.stage.clone(),
            step: step.map(|step| step.step),
            shards: self.shards(),
            covered: step.map_or(0, StepRun::covered),
            waiting: step.map_or(0, StepRun::waiting),
            busy: step.map_or(0, StepRun::busy),
            workers: self.members.len(),
        }
    }

    /// Whether only some of the workers may take part.
    pub fn is_limited(&self) -> bool {
        self.max_workers.is_some()
    }

    /// Lets workers take part as far as there is room: first those that have most shards of the view,
    /// then those that owe least elsewhere.
    pub fn recruit(&mut self, from: &[WorkerId], owed: impl Fn(WorkerId) -> u32, cx: &mut Context) {
        let fits = |id: &WorkerId| !self.members.contains_key(id) && cx.workers.takes_leases(*id).is_some();
        let mut recruits: Vec<WorkerId> = from.iter().copied().filter(fits).collect();
        if let Some(max) = self.max_workers {
            let staying = self.members.keys().filter(|worker| cx.workers.takes_leases(**worker).is_some()).count();
            let held = self.held();
            let held = |worker: &WorkerId| held.get(worker).copied().unwrap_or(0);
            recruits.sort_by_cached_key(|worker| (Reverse(held(worker)), owed(*worker), *worker));
            recruits.truncate((max as usize).saturating_sub(staying));
        }
        if recruits.is_empty() {
            return;
        }
        let token = cx.tokens.mint();
        for worker in recruits {
            // Who is there from the start need not be waited for: orders follow on the same stream.
            self.members.insert(worker, Member { opened: token, ready: self.step.is_none() });
            cx.out.push(Command::OpenStage { worker, stage: self.stage.clone(), token });
        }
        self.stale = true;
        self.lease_waiting(cx);
    }

    /// Shards at home with each worker.
    fn held(&self) -> BTreeMap<WorkerId, u32> {
        let mut held = BTreeMap::new();
        for (worker, pair) in self.home.iter().zip(self.cuts.windows(2)) {
            if let Some(worker) = worker {
                *held.entry(*worker).or_default() += pair[1] - pair[0];
            }
        }
        held
    }

    /// A worker answers its `OpenStage`.
    pub fn prepared(&mut self, worker: WorkerId, token: Token, cx: &mut Context) {
        let Some(member) = self.members.get_mut(&worker).filter(|member| member.opened == token) else { return };
        if !member.ready {
            member.ready = true;
            self.stale = true;
            self.lease_waiting(cx);
        }
    }

    /// A worker takes no new leases; what it owes it still delivers.
    pub fn drained(&mut self, worker: WorkerId) {
        self.stale |= self.members.contains_key(&worker);
    }

    /// A worker is gone: what it still owed is ordered from the others at once.
    pub fn lose(&mut self, worker: WorkerId, cx: &mut Context) {
        if self.members.remove(&worker).is_none() {
            return;
        }
        self.stale = true;
        let missing = self.step.as_mut().map(|step| step.revoke(worker)).unwrap_or_default();
        self.spread(missing, cx);
    }

    /// Begins a step, unless one is under way or it does not come after the last.
    pub fn begin(&mut self, step: Step, cx: &mut Context) {
        if self.step.as_ref().is_some_and(|last| !last.is_complete() || last.step >= step) {
            return;
        }
        let mut run = StepRun::new(step, self.shards());
        if run.is_complete() {
            cx.out.push(Command::CompleteStep { stage: self.stage.clone(), step });
        } else if self.refresh(cx) {
            for (worker, ranges) in &self.layout {
                run.grant(*worker, self.token, ranges.clone());
                let (stage, ranges) = (self.stage.clone(), ranges.clone());
                cx.out.push(Command::Compute { worker: *worker, stage, step, token: self.token, ranges });
            }
        } else {
            run.set_aside(only(0..self.shards()));
        }
        self.step = Some(run);
    }

    /// Orders a failed shard from somebody else, if somebody else is there.
    pub fn retry(&mut self, shard: u32, cx: &mut Context) {
        let Some(step) = self.step.as_ref() else { return };
        let seats = self.seats(cx.workers);
        let best = seats.iter().min_by_key(|(worker, threads)| {
            let owed = u64::from(step.owed(**worker)) << 16;
            (step.failed_on(shard, **worker), owed / u64::from(**threads), **worker)
        });
        match best.map(|(worker, _)| *worker) {
            Some(worker) => {
                let token = cx.tokens.mint();
                self.order(worker, token, only(shard..shard + 1), cx);
            }
            None => self.set_aside(only(shard..shard + 1)),
        }
    }

    /// Who may be given shards now. Workers that have not got ready yet are better than none.
    fn seats(&self, workers: &Workers) -> Seats {
        let seats = |ready: bool| -> Seats {
            let members = self.members.iter().filter(|(_, member)| member.ready || !ready);
            members.filter_map(|(id, _)| workers.takes_leases(*id).map(|threads| (*id, threads))).collect()
        };
        let ready = seats(true);
        if ready.is_empty() { seats(false) } else { ready }
    }

    /// Brings the layout up to date. False if nobody is there.
    fn refresh(&mut self, cx: &mut Context) -> bool {
        if self.stale {
            let seats = self.seats(cx.workers);
            if seats.is_empty() {
                return false;
            }
            let owners = place(&self.cuts, &self.home, &seats);
            self.home = owners.into_iter().map(Some).collect();
            self.layout = ranges(&self.cuts, self.home.iter().copied());
            self.token = cx.tokens.mint();
            self.stale = false;
        }
        true
    }

    fn set_aside(&mut self, ranges: Vec<Range<u32>>) {
        if let Some(step) = self.step.as_mut() {
            step.set_aside(ranges);
        }
    }

    fn lease_waiting(&mut self, cx: &mut Context) {
        let waiting = self.step.as_mut().map(StepRun::take_waiting).unwrap_or_default();
        self.spread(waiting, cx);
    }

    /// Orders shards of the current step from those who are there, by threads; with nobody there they wait.
    pub fn spread(&mut self, missing: Vec<Range<u32>>, cx: &mut Context) {
        if missing.is_empty() {
            return;
        }
        let seats: Vec<(WorkerId, u32)> = self.seats(cx.workers).into_iter().collect();
        if seats.is_empty() {
            return self.set_aside(missing);
        }
        let pieces = self.pieces(missing);
        let sizes: Vec<u32> = pieces.iter().map(|(_, ranges)| count(ranges)).collect();
        let shares: Vec<u128> = seats.iter().map(|(_, threads)| u128::from(*threads)).collect();
        let mut orders: Layout = BTreeMap::new();
        for ((_, ranges), seat) in pieces.into_iter().zip(split(&sizes, &shares)) {
            let order = orders.entry(seats[seat].0).or_default();
            ranges.into_iter().for_each(|range| push_joined(order, range));
        }
        let token = cx.tokens.mint();
        for (worker, ranges) in orders {
            self.order(worker, token, ranges, cx);
        }
    }

    /// Cuts ranges at unit boundaries and groups them by unit: a unit is loaded by one worker.
    fn pieces(&self, missing: Vec<Range<u32>>) -> Vec<(usize, Vec<Range<u32>>)> {
        let mut pieces: Vec<(usize, Vec<Range<u32>>)> = Vec::new();
        for Range { mut start, end } in missing {
            let mut unit = self.unit(start);
            while start < end {
                let stop = end.min(self.cuts[unit + 1]);
                match pieces.last_mut() {
                    Some((last, ranges)) if *last == unit => ranges.push(start..stop),
                    _ => pieces.push((unit, only(start..stop))),
                }
                start = stop;
                unit += 1;
            }
        }
        pieces
    }

    fn unit(&self, shard: u32) -> usize {
        self.cuts.partition_point(|cut| *cut <= shard) - 1
    }

    /// Orders shards of the current step on top of what is ordered; their units move to this worker.
    fn order(&mut self, worker: WorkerId, token: Token, ranges: Vec<Range<u32>>, cx: &mut Context) {
        for range in &ranges {
            for unit in self.unit(range.start)..=self.unit(range.end - 1) {
                self.home[unit] = Some(worker);
            }
        }
        self.stale = true;
        let Some(run) = self.step.as_mut() else { return };
        run.grant(worker, token, ranges.clone());
        let (stage, step) = (self.stage.clone(), run.step);
        cx.out.push(Command::Compute { worker, stage, step, token, ranges });
    }
}
