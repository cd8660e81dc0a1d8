//! Who is late: what it owes is ordered a second time from workers that have nothing to do in the step,
//! and what the times of whole steps say of everybody's pace.

use std::ops::Range;

use super::spreading::{by_worker, deal};
use super::{Context, StageRun};
use crate::command::Command;
use crate::id::{Millis, WorkerId};
use crate::lease::{StepRun, Turn};
use crate::membership::Workers;
use crate::note::{Shards, What};
use crate::pace::{FULL, Judgement, part};
use crate::placement::Seats;
use crate::stage::push_joined;

/// Where few are done, or a worker has units to read that others need not, it may take so many times longer.
const PATIENCE: u64 = 2;

impl StageRun {
    /// Orders what late workers owe a second time, whole units, from those who have nothing to do. Late is
    /// who was asked longer ago than `Options::speculate_percent` of the time that the step has taken those
    /// who are done (if these are few: of what the last step took, twice), and `Options::speculate_floor`; by so
    /// many times longer as there are stages that it computes for, and twice if it has new units to read.
    pub fn straggle(&mut self, cx: &mut Context) {
        let Some(step) = self.step.as_ref().filter(|step| !step.is_complete()) else { return };
        let turns: Vec<Turn> = step.turns().collect();
        let Some(limit) = self.limit(&turns, cx) else { return };
        let alone = |worker: &WorkerId| cx.workers.reserved().get(worker).is_some_and(|kept| kept.shard.is_some());
        let patience = |worker: &WorkerId| if self.cold.contains(worker) && !self.all_cold(&turns) { PATIENCE } else { 1 };
        let is_late =
            |turn: &&Turn| turn.owed > 0 && cx.now.since(turn.last).0 > limit.0 * patience(&turn.worker) && !alone(&turn.worker);
        let late: Vec<Turn> = turns.iter().filter(is_late).copied().collect();
        let overdue = step.has_waiting() && cx.now.since(step.begun) > limit;
        if late.is_empty() && !overdue {
            return;
        }
        let helpers = self.idle(step, cx);
        if helpers.is_empty() {
            return;
        }
        if overdue {
            // They wait for a worker that is busy with a suspect; others have time now.
            return self.lease_waiting(cx);
        }
        self.double(&late, &helpers, cx);
    }

    /// The time after which a worker is late.
    fn limit(&self, turns: &[Turn], cx: &Context) -> Option<Millis> {
        let mut times: Vec<u64> = turns.iter().filter_map(took).map(|time| time.0).collect();
        times.sort_unstable();
        let usual = match times.len() {
            0 => None,
            done if done * 2 >= turns.len() => Some(times[(done - 1) / 2]),
            _ => self.usual.map(|usual| usual.0 * PATIENCE),
        };
        let limit = usual? * u64::from(cx.options.speculate_percent) / 100;
        Some(Millis(limit.max(cx.options.speculate_floor.0) * u64::from(cx.rivals)))
    }

    /// Whether everybody reads new units: then all can be compared.
    fn all_cold(&self, turns: &[Turn]) -> bool {
        turns.iter().all(|turn| self.cold.contains(&turn.worker))
    }

    /// Ready members that owe nothing in the step and are not kept for something else.
    fn idle(&self, step: &StepRun, cx: &Context) -> Seats {
        let members = self.members.iter().filter(|(id, member)| member.ready && step.owed(**id) == 0);
        members.filter_map(|(id, _)| cx.workers.free_weight(*id).map(|weight| (*id, weight))).collect()
    }

    fn double(&mut self, late: &[Turn], helpers: &Seats, cx: &mut Context) {
        let Some(step) = self.step.as_ref() else { return };
        let mut owed: Vec<(WorkerId, Range<u32>)> = Vec::new();
        let mut notes = Vec::new();
        for turn in late {
            let sole = step.sole(turn.worker);
            if sole.is_empty() {
                continue;
            }
            let waited = cx.now.since(turn.last);
            notes.push((turn.worker, sole.clone(), waited));
            owed.extend(sole.into_iter().map(|range| (turn.worker, range)));
        }
        if owed.is_empty() {
            return;
        }
        owed.sort_by_key(|(_, range)| range.start);
        let orders = by_worker(deal(self.pieces(owed), helpers));
        for (worker, shards, waited) in notes {
            self.late.insert(worker);
            let who = orders.keys().take(8).map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let text = format!("worker {worker} has owed {} for {waited} ms: asked of worker {who} too", Shards(&shards));
            self.note(What::Doubled, Some(worker), shards, text, cx);
        }
        let token = self.mint(cx);
        for (worker, pieces) in orders {
            self.helped.extend(pieces.iter().map(|(unit, _)| (*unit, worker)));
            let tagged: Vec<(WorkerId, Range<u32>)> = pieces.into_iter().flat_map(|(_, ranges)| ranges).collect();
            let mut ranges = Vec::new();
            tagged.iter().for_each(|(_, range)| push_joined(&mut ranges, range.clone()));
            let Some(run) = self.step.as_mut() else { return };
            run.double(worker, token, &tagged, cx.now);
            let (stage, step) = (self.stage.clone(), run.step);
            cx.out.push(Command::Compute { worker, stage, step, token, ranges });
        }
    }

    /// The step is complete: what it says of everybody's pace.
    pub fn finished(&mut self, cx: &mut Context) -> Vec<(WorkerId, Judgement)> {
        let Some(step) = self.step.as_ref() else { return Vec::new() };
        let turns: Vec<Turn> = step.turns().collect();
        let mut times: Vec<u64> = turns.iter().filter(|turn| is_whole(turn)).filter_map(took).map(|time| time.0).collect();
        times.sort_unstable();
        self.usual = times.get(times.len().saturating_sub(1) / 2).map(|time| Millis(*time));
        // Who read new units cannot be compared with who did not; where all did, it can.
        let all_cold = self.all_cold(&turns);
        let comparable = |turn: &&Turn| all_cold || !self.cold.contains(&turn.worker);
        let mut judged = Vec::new();
        for turn in turns.iter().filter(comparable) {
            let own = cx.now.since(turn.since);
            if self.late.contains(&turn.worker) && turn.delivered < turn.granted {
                // It was not half done, or it would have been asked no second time; how far it was nobody knows.
                let usual = self.usual.unwrap_or_default();
                let pace = part(u128::from(usual.0 * u64::from(cx.rivals)), u128::from(own.0)) / 2;
                judged.push((turn.worker, Judgement::Overtaken(pace.clamp(FULL / 4, FULL))));
            } else if is_whole(turn)
                && let Some(time) = took(turn)
            {
                self.window.add(turn.worker, turn.granted, time);
            }
        }
        if self.window.step(cx.now.since(step.begun), cx.rivals, cx.options.pace_window) {
            judged.extend(self.window.judge(|worker| cx.workers.pace(worker)));
        }
        judged
    }

    /// Units of a worker that was overtaken stay with those who helped, but for its new share.
    pub fn hand_over(&mut self, worker: WorkerId, workers: &Workers) {
        let seats = self.seats(workers);
        let weight = u128::from(seats.get(&worker).copied().unwrap_or(0));
        let weights: u128 = seats.values().map(|weight| u128::from(*weight)).sum();
        let share = u128::from(self.shards()) * weight / weights.max(1);
        let mut kept = 0;
        for unit in 0..self.home.len() {
            if self.home[unit] != Some(worker) {
                continue;
            }
            let size = u128::from(self.cuts[unit + 1] - self.cuts[unit]);
            match self.helped.get(&unit).filter(|helper| seats.contains_key(helper)) {
                Some(helper) if kept + size / 2 >= share => self.home[unit] = Some(*helper),
                _ => kept += size,
            }
        }
        self.stale = true;
    }

    /// Says for people that a worker's share changes.
    pub fn note_pace(&self, worker: WorkerId, pace: u32, cx: &mut Context) {
        if self.members.contains_key(&worker) {
            let percent = (u64::from(pace) * 100).div_ceil(u64::from(FULL));
            let text = format!("worker {worker} gets {percent} % of a full share from the next step on");
            self.note(What::Paced, Some(worker), Vec::new(), text, cx);
        }
    }
}

/// The time from the first order to the last delivery.
fn took(turn: &Turn) -> Option<Millis> {
    turn.done.map(|done| done.since(turn.since))
}

/// Whether a worker was asked once and has delivered everything itself.
fn is_whole(turn: &Turn) -> bool {
    turn.owed == 0 && turn.delivered == turn.granted && turn.since == turn.last
}
