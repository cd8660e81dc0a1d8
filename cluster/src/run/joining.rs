//! Who comes to a stage: a joiner of a stage under way is told what it would take over, reads that, and
//! has exactly those units from the step after it is ready. Several joiners prepare a share each.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Range;

use super::{Context, Member, StageRun};
use crate::command::Command;
use crate::id::{Millis, Token, WorkerId};
use crate::membership::Workers;
use crate::note::{Shards, What};
use crate::placement::{Layout, Seats, place, ranges};
use crate::suspect::{Losses, Suspicion};

/// After which time a worker that could not get ready is asked again.
const AGAIN: Millis = Millis(5_000);

impl StageRun {
    /// Lets workers take part as far as there is room: first those that have most shards of the view,
    /// then those that owe least elsewhere.
    pub fn recruit(&mut self, from: &[WorkerId], owed: impl Fn(WorkerId) -> u32, cx: &mut Context) {
        let fits = |id: &WorkerId| !self.members.contains_key(id) && cx.workers.weight(*id).is_some();
        let mut recruits: Vec<WorkerId> = from.iter().copied().filter(fits).collect();
        if let Some(max) = self.max_workers {
            let staying = self.members.keys().filter(|worker| cx.workers.weight(**worker).is_some()).count();
            let held = self.held();
            let held = |worker: &WorkerId| held.get(worker).copied().unwrap_or(0);
            recruits.sort_by_cached_key(|worker| (Reverse(held(worker)), owed(*worker), *worker));
            recruits.truncate((max as usize).saturating_sub(staying));
        }
        if recruits.is_empty() {
            return;
        }
        let under_way = self.step.is_some();
        let somebody_is_ready = self.members.iter().any(|(id, member)| member.ready && cx.workers.weight(*id).is_some());
        // Where nobody is ready, orders follow at once: reading first would only be done twice.
        let mut shares = if under_way && somebody_is_ready { self.promise(&recruits, cx.workers) } else { BTreeMap::new() };
        self.stale |= !under_way || !somebody_is_ready;
        let token = self.mint(cx);
        for worker in recruits {
            // Who is there from the start need not be waited for: orders follow on the same stream.
            self.members.insert(worker, Member { opened: token, ready: !under_way, answered: false, again: None });
            let prepare = self.harmless(&shares.remove(&worker).unwrap_or_default(), cx);
            if !prepare.is_empty() {
                let text = format!("worker {worker} joins {} and reads {} to take them over", self.between(), Shards(&prepare));
                self.note(What::Joining, Some(worker), prepare.clone(), text, cx);
            }
            cx.out.push(Command::OpenStage { worker, stage: self.stage.clone(), token, prepare });
        }
        self.lease_waiting(cx);
    }

    /// Where units would be if everybody who prepares, and these recruits, were there.
    pub(super) fn target(&self, recruits: &[WorkerId], workers: &Workers) -> Vec<WorkerId> {
        let everybody = self.members.keys().chain(recruits);
        let seats: Seats = everybody.filter_map(|id| workers.weight(*id).map(|weight| (*id, weight))).collect();
        let mut home = self.home.clone();
        for (unit, worker) in &self.promised {
            home[*unit] = Some(*worker);
        }
        place(&self.cuts, &home, &seats)
    }

    /// Promises recruits their shares. Earlier joiners keep what they read already, less what others get.
    fn promise(&mut self, recruits: &[WorkerId], workers: &Workers) -> Layout {
        let target = self.target(recruits, workers);
        self.promised.retain(|unit, worker| target[*unit] == *worker);
        let fresh = target.iter().enumerate().filter(|(_, worker)| recruits.contains(worker));
        self.promised.extend(fresh.map(|(unit, worker)| (unit, *worker)));
        ranges(&self.cuts, target.into_iter().map(|worker| recruits.contains(&worker).then_some(worker)))
    }

    /// A worker answers its `OpenStage`.
    pub fn prepared(&mut self, worker: WorkerId, token: Token, cx: &mut Context) {
        let Some(member) = self.members.get_mut(&worker).filter(|member| member.opened == token) else { return };
        member.answered = true;
        if member.ready {
            return;
        }
        (member.ready, member.again) = (true, None);
        self.stale = true;
        let share = self.share(worker);
        let text = match share.as_slice() {
            [] => format!("worker {worker} is ready {}", self.between()),
            share => format!("worker {worker} is ready {} and takes over {} next", self.between(), Shards(share)),
        };
        self.note(What::Joining, Some(worker), share, text, cx);
        self.lease_waiting(cx);
    }

    /// Shards that are promised to a worker.
    fn share(&self, worker: WorkerId) -> Vec<Range<u32>> {
        let mut share = Vec::new();
        for unit in self.promised.iter().filter(|(_, owner)| **owner == worker).map(|(unit, _)| *unit) {
            crate::stage::push_joined(&mut share, self.cuts[unit]..self.cuts[unit + 1]);
        }
        share
    }

    /// What of a share may be read beforehand: a shard that is set apart is only touched by who computes it alone.
    fn harmless(&self, share: &[Range<u32>], cx: &Context) -> Vec<Range<u32>> {
        let Some(step) = &self.step else { return share.to_vec() };
        let mut safe = Vec::new();
        for range in share {
            let mut start = range.start;
            let apart = |(_, suspicion): &(u32, &Suspicion)| Losses::sets_apart(suspicion, cx.options.max_attempts);
            for (shard, _) in step.suspects(range.clone()).filter(apart) {
                safe.push(start..shard);
                start = shard + 1;
            }
            safe.push(start..range.end);
        }
        safe.retain(|range| !range.is_empty());
        safe
    }

    /// Whether a worker reads what it would take over: that may end it, whatever it owes.
    pub fn is_read_by(&self, worker: WorkerId) -> bool {
        let reads = self.members.get(&worker).is_some_and(|member| !member.answered && member.again.is_none());
        reads && self.promised.values().any(|owner| *owner == worker)
    }

    /// A worker could not get ready. False if that is not what the token stands for.
    pub fn unprepared(&mut self, worker: WorkerId, token: Token, message: &str, cx: &mut Context) -> bool {
        let waits = |member: &&mut Member| member.opened == token && !member.answered;
        let Some(member) = self.members.get_mut(&worker).filter(waits) else { return false };
        member.again = Some(cx.now.plus(AGAIN));
        let text = format!("worker {worker} could not get ready and tries again in {AGAIN} ms: {message}");
        self.note(What::Retried, Some(worker), Vec::new(), text, cx);
        true
    }

    /// Asks those again who could not get ready some time ago.
    pub fn ask_again(&mut self, cx: &mut Context) {
        let due = |member: &Member| member.again.is_some_and(|again| again <= cx.now);
        let due: Vec<WorkerId> = self.members.iter().filter(|(_, member)| due(member)).map(|(id, _)| *id).collect();
        for worker in due {
            let token = self.mint(cx);
            let prepare = self.harmless(&self.share(worker), cx);
            if let Some(member) = self.members.get_mut(&worker) {
                (member.opened, member.again) = (token, None);
            }
            cx.out.push(Command::OpenStage { worker, stage: self.stage.clone(), token, prepare });
        }
    }
}
