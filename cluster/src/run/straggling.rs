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
    /// Orders what late workers owe a second time (with `Options::speculate`), whole units, from those who have nothing to do. Late is
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
        let late: Vec<Turn> = turns.iter().filter(|_| cx.options.speculate).filter(is_late).copied().collect();
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
        if !cx.options.speculate {
            return Vec::new();
        }
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::coverage::Block;
    use crate::engine::Options;
    use crate::id::{Stage, Step, Term, Token};
    use crate::lease::{Tokens, Verdict};
    use crate::run::Member;
    use crate::stage::StagePlan;

    /// Workers with two shards each, in a step that began at 0.
    struct Scene {
        workers: Workers,
        tokens: Tokens,
        options: Options,
        rivals: u32,
        run: StageRun,
    }

    impl Scene {
        fn new(workers: u64) -> Self {
            let stage = Stage { job: "a".into(), number: 0 };
            let plan = StagePlan::tasks(2 * workers as u32);
            let cuts = plan.cuts().expect("tasks can be spread");
            let home = vec![None; cuts.len() - 1];
            let (tokens, options, run) = (Tokens::new(Term(1)), Options::default(), StageRun::new(stage, &plan, cuts, home));
            let mut scene = Self { workers: Workers::default(), tokens, options, rivals: 1, run };
            for worker in (1..=workers).map(WorkerId) {
                scene.workers.join(worker, 1, Millis(0));
                let member = Member { opened: Token::default(), ready: true, answered: true, again: None };
                scene.run.members.insert(worker, member);
            }
            scene.at(0, |run, cx| run.begin(Step(0), cx));
            scene
        }

        fn at<T>(&mut self, now: u64, act: impl FnOnce(&mut StageRun, &mut Context) -> T) -> Vec<String> {
            let (mut out, now) = (Vec::new(), Millis(now));
            let Self { workers, tokens, options, rivals, run } = self;
            act(run, &mut Context { workers, tokens, options, rivals: *rivals, now, out: &mut out });
            let order = |command: &Command| match command {
                Command::Compute { worker, ranges, .. } => Some(format!("{worker}: {ranges:?}")),
                _ => None,
            };
            out.iter().filter_map(order).collect()
        }

        /// A worker delivers its two shards.
        fn delivers(&mut self, worker: u64, now: u64) {
            let (token, step) = (self.run.token, self.run.step.as_mut().expect("a step is under way"));
            let block = Block { level: 1, index: worker as u32 - 1 };
            let verdict = step.judge((WorkerId(worker), token), Term(1), block, 5, Millis(now));
            assert!(matches!(verdict, Verdict::Accept), "{verdict:?}");
        }

        /// Who is asked to help at that time.
        #[track_caller]
        fn check(&mut self, now: u64, expected: &[&str]) {
            assert_eq!(self.at(now, StageRun::straggle), expected, "at {now} ms");
        }
    }

    /// Four workers, of which the first three took 400, 500 and 900 ms.
    fn one_is_missing() -> Scene {
        let mut scene = Scene::new(4);
        [(1, 400), (2, 500), (3, 900)].into_iter().for_each(|(worker, now)| scene.delivers(worker, now));
        scene
    }

    #[test]
    fn late_is_who_takes_twice_the_median_and_others_help_once() {
        let mut scene = one_is_missing();
        scene.check(1_000, &[]);
        scene.check(1_001, &["1: [6..7]", "3: [7..8]"]);
        scene.check(9_000, &[]);
    }

    #[test]
    fn nobody_is_late_before_the_floor() {
        let mut scene = Scene::new(2);
        scene.delivers(1, 3);
        scene.check(250, &[]);
        scene.check(251, &["1: [2..4]"]);
    }

    #[test]
    fn where_few_are_done_the_last_step_tells_and_is_doubled() {
        let mut scene = Scene::new(4);
        scene.delivers(1, 100);
        scene.check(9_000, &[]);
        scene.run.usual = Some(Millis(100));
        scene.check(400, &[]);
        scene.check(401, &["1: [2..8]"]);
    }

    #[test]
    fn who_reads_new_units_has_twice_the_time_unless_everybody_does() {
        let mut scene = one_is_missing();
        scene.run.cold = BTreeSet::from([WorkerId(4)]);
        scene.check(2_000, &[]);
        scene.check(2_001, &["1: [6..7]", "3: [7..8]"]);
        let mut scene = one_is_missing();
        scene.run.cold = (1..=4).map(WorkerId).collect();
        scene.check(1_001, &["1: [6..7]", "3: [7..8]"]);
    }

    #[test]
    fn who_computes_for_two_stages_has_twice_the_time() {
        let mut scene = Scene { rivals: 2, ..one_is_missing() };
        scene.check(2_000, &[]);
        scene.check(2_001, &["1: [6..7]", "3: [7..8]"]);
    }

    #[test]
    fn only_ready_workers_that_stay_and_have_nothing_else_to_do_help() {
        let mut scene = one_is_missing();
        scene.workers.drain(WorkerId(1));
        scene.workers.reserve(WorkerId(2), scene.run.stage.clone(), None);
        scene.check(1_001, &["3: [6..8]"]);
        let mut scene = one_is_missing();
        scene.run.members.values_mut().for_each(|member| member.ready = false);
        scene.check(9_000, &[]);
    }

    #[test]
    fn a_suspect_that_is_computed_alone_is_never_late() {
        let mut scene = one_is_missing();
        scene.workers.reserve(WorkerId(4), scene.run.stage.clone(), Some(6));
        scene.check(9_000, &[]);
    }
}
