//! A stage under way: who takes part, who has which units, and the step that is being computed.
//!
//! ```text
//! (opened) ─ StepReady ─▶ step k: orders out ─ every shard in ─▶ complete ─ StepReady ─▶ step k+1 …
//!                           │ worker lost, shard failed: the rest is ordered again at once
//!                           │ worker late: what it owes is ordered a second time
//!                           └ worker joined: reads what it will take over; has it from the step after
//! ```
//!
//! Leases stay as they are from step to step unless who takes part, or how fast, has changed.

mod joining;
mod spreading;
mod straggling;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::command::Command;
use crate::engine::Options;
use crate::id::{Millis, Stage, Step, Token, WorkerId};
use crate::lease::{Lost, StepRun, Tokens};
use crate::membership::Workers;
use crate::note::{Note, Shards, What};
use crate::pace::Window;
use crate::placement::{Layout, Seats, fill, place, ranges};
use crate::stage::{StagePlan, StageProgress, only};

/// What a stage needs from the engine to act.
pub(crate) struct Context<'a> {
    pub workers: &'a Workers,
    pub tokens: &'a mut Tokens,
    pub options: &'a Options,
    /// Stages with a step under way: a worker computes for all of them, one after the other.
    pub rivals: u32,
    pub now: Millis,
    pub out: &'a mut Vec<Command>,
}

#[derive(Debug, Clone)]
struct Member {
    /// Token of the last `OpenStage` that it was sent.
    opened: Token,
    /// Whether it may be counted on at the next step.
    ready: bool,
    /// Whether it has answered.
    answered: bool,
    /// When it is asked again, since it could not get ready.
    again: Option<Millis>,
}

#[derive(Debug, Clone)]
pub(crate) struct StageRun {
    stage: Stage,
    /// What people call it.
    name: String,
    cuts: Vec<u32>,
    sticky: Option<u64>,
    max_workers: Option<u32>,
    members: BTreeMap<WorkerId, Member>,
    /// Who has each unit; may name workers that are gone.
    home: Vec<Option<WorkerId>>,
    /// Units that members which are not ready yet, or ready since this step began, will take over.
    promised: BTreeMap<usize, WorkerId>,
    /// Ranges by worker as of the last placement, and the token that they were first ordered under.
    layout: Layout,
    token: Token,
    /// The last token of the stage: they rise, whoever they are for.
    latest: Token,
    /// Whether the layout is out of date.
    stale: bool,
    /// Who has units in this step that it has not read yet.
    cold: BTreeSet<WorkerId>,
    /// Whose shards were ordered a second time in this step, and who helps with which unit.
    late: BTreeSet<WorkerId>,
    helped: BTreeMap<usize, WorkerId>,
    /// How fast everybody is, and what a step took most of them the last time.
    window: Window,
    usual: Option<Millis>,
    pub step: Option<StepRun>,
}

impl StageRun {
    /// A stage that nobody takes part in yet. `cuts` are those of the plan, `home` has an entry for each unit.
    pub fn new(stage: Stage, plan: &StagePlan, cuts: Vec<u32>, home: Vec<Option<WorkerId>>) -> Self {
        Self {
            name: plan.name(&stage),
            stage,
            cuts,
            sticky: plan.sticky,
            max_workers: plan.max_workers,
            members: BTreeMap::new(),
            home,
            promised: BTreeMap::new(),
            layout: BTreeMap::new(),
            token: Token::default(),
            latest: Token::default(),
            stale: true,
            cold: BTreeSet::new(),
            late: BTreeSet::new(),
            helped: BTreeMap::new(),
            window: Window::default(),
            usual: None,
            step: None,
        }
    }

    /// What people call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn shards(&self) -> u32 {
        self.cuts.last().copied().unwrap_or(0)
    }

    /// Whether a step has begun and is not complete.
    pub fn is_under_way(&self) -> bool {
        self.step.as_ref().is_some_and(|step| !step.is_complete())
    }

    /// What a step took most workers the last time.
    pub fn usual(&self) -> Option<Millis> {
        self.usual
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
            preparing: self.members.values().filter(|member| !member.answered).count(),
        }
    }

    /// Whether only some of the workers may take part.
    pub fn is_limited(&self) -> bool {
        self.max_workers.is_some()
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

    /// A worker takes no new leases; what it owes it still delivers.
    pub fn drained(&mut self, worker: WorkerId, cx: &mut Context) {
        if self.members.contains_key(&worker) {
            self.stale = true;
            self.promised.retain(|_, owner| *owner != worker);
            let owed = self.owed(worker);
            let text = format!("worker {worker} leaves: it delivers the {owed} shards that it owes and gets no more");
            self.note(What::Leaving, Some(worker), Vec::new(), text, cx);
        }
    }

    /// A worker is gone; `None` if it had no part in the stage.
    pub fn remove(&mut self, worker: WorkerId) -> Option<Lost> {
        self.members.remove(&worker)?;
        self.stale = true;
        self.promised.retain(|_, owner| *owner != worker);
        Some(self.step.as_mut().map(|step| step.revoke(worker)).unwrap_or_default())
    }

    /// Says for people how a worker was lost.
    pub fn note_loss(&self, worker: WorkerId, owed: &[Range<u32>], reason: &str, cx: &mut Context) {
        let between = self.between();
        let text = match owed {
            [] => format!("worker {worker} lost {between} while it owed nothing: {reason}"),
            owed => format!("worker {worker} lost {between} while it owed {}: {reason}", Shards(owed)),
        };
        self.note(What::Lost, Some(worker), owed.to_vec(), text, cx);
    }

    fn between(&self) -> String {
        match &self.step {
            Some(run) => format!("between steps {} and {}", run.step, run.step.next()),
            None => "before the first step".to_owned(),
        }
    }

    fn note(&self, what: What, worker: Option<WorkerId>, shards: Vec<Range<u32>>, text: String, cx: &mut Context) {
        let step = self.step.as_ref().map(|step| step.step);
        cx.out.push(Command::Note(Note { stage: self.stage.clone(), step, worker, shards, what, text }));
    }

    /// Begins a step, unless one is under way or it does not come after the last.
    pub fn begin(&mut self, step: Step, cx: &mut Context) {
        if self.step.as_ref().is_some_and(|last| !last.is_complete() || last.step >= step) {
            return;
        }
        (self.cold, self.late, self.helped) = Default::default();
        let mut run = StepRun::new(step, self.shards(), cx.now);
        if run.is_complete() {
            cx.out.push(Command::CompleteStep { stage: self.stage.clone(), step });
        } else if self.refresh(cx) {
            for (worker, ranges) in &self.layout {
                if cx.workers.reserved().contains_key(worker) {
                    // It has a suspect in hand: its share waits, so that this is not lost with it.
                    run.set_aside(ranges.clone());
                    continue;
                }
                run.grant(*worker, self.token, ranges.clone(), cx.now);
                let (stage, ranges) = (self.stage.clone(), ranges.clone());
                cx.out.push(Command::Compute { worker: *worker, stage, step, token: self.token, ranges });
            }
        } else {
            run.set_aside(only(0..self.shards()));
        }
        self.step = Some(run);
    }

    /// Who has a share of the stage. Workers that have not got ready yet are better than none.
    fn seats(&self, workers: &Workers) -> Seats {
        self.seats_by(|worker| workers.weight(worker))
    }

    /// Who may be given shards now.
    fn free_seats(&self, workers: &Workers) -> Seats {
        self.seats_by(|worker| workers.free_weight(worker))
    }

    fn seats_by(&self, weight: impl Fn(WorkerId) -> Option<u64>) -> Seats {
        let seats = |ready: bool| -> Seats {
            let members = self.members.iter().filter(|(_, member)| member.ready || !ready);
            members.filter_map(|(id, _)| weight(*id).map(|weight| (*id, weight))).collect()
        };
        let ready = seats(true);
        if ready.is_empty() { seats(false) } else { ready }
    }

    /// The shares have to be dealt anew before the next step: a worker has another weight.
    pub fn reweigh(&mut self, worker: WorkerId) {
        self.stale |= self.members.contains_key(&worker);
    }

    /// Brings the layout up to date. False if nobody is there.
    fn refresh(&mut self, cx: &mut Context) -> bool {
        if self.stale {
            let seats = self.seats(cx.workers);
            if seats.is_empty() {
                return false;
            }
            let owners = self.owners(&seats, cx.workers);
            self.settle(owners, cx);
            self.promised.retain(|_, worker| !seats.contains_key(worker));
            self.stale = false;
            self.token = self.mint(cx);
        }
        if self.token < self.latest {
            self.token = self.mint(cx);
        }
        true
    }

    /// Who is to have each unit. What is promised to somebody who is not ready yet stays where it is.
    fn owners(&self, seats: &Seats, workers: &Workers) -> Vec<WorkerId> {
        if self.promised.is_empty() {
            return place(&self.cuts, &self.home, seats);
        }
        let target = self.target(&[], workers);
        let stays = |(unit, owner): (usize, WorkerId)| match seats.contains_key(&owner) {
            true => Some(owner),
            false => self.home[unit].filter(|home| seats.contains_key(home)),
        };
        let home: Vec<_> = target.into_iter().enumerate().map(stays).collect();
        fill(&self.cuts, &home, seats)
    }

    /// Takes in a placement and says what moved.
    fn settle(&mut self, owners: Vec<WorkerId>, cx: &mut Context) {
        let mut moved = BTreeMap::<WorkerId, Vec<Range<u32>>>::new();
        for (unit, owner) in owners.iter().enumerate() {
            if self.home[unit] != Some(*owner) {
                if self.promised.get(&unit) != Some(owner) {
                    self.cold.insert(*owner);
                }
                let range = self.cuts[unit]..self.cuts[unit + 1];
                crate::stage::push_joined(moved.entry(*owner).or_default(), range);
            }
        }
        let first = self.layout.is_empty();
        self.home = owners.into_iter().map(Some).collect();
        self.layout = ranges(&self.cuts, self.home.iter().copied());
        self.window = Window::default();
        if !first && !moved.is_empty() {
            let taken = moved.iter().take(8).map(|(worker, shards)| format!("worker {worker} takes {}", Shards(shards)));
            let rest = if moved.len() > 8 { format!("; so do {} others", moved.len() - 8) } else { String::new() };
            let text = format!("shards move {}: {}{rest}", self.between(), taken.collect::<Vec<_>>().join("; "));
            let mut shards: Vec<_> = moved.into_values().flatten().collect();
            shards.sort_by_key(|range| range.start);
            self.note(What::Moved, None, shards, text, cx);
        }
    }

    fn mint(&mut self, cx: &mut Context) -> Token {
        self.latest = cx.tokens.mint();
        self.latest
    }

    fn unit(&self, shard: u32) -> usize {
        self.cuts.partition_point(|cut| *cut <= shard) - 1
    }
}
