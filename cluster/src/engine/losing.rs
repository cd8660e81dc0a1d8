//! Workers that are gone, the shards that may have been the reason, and the workers that are kept for these.

use std::sync::Arc;

use super::{Engine, context};
use crate::command::Command;
use crate::durable::FailKind;
use crate::id::{Stage, WorkerId};
use crate::lease::Lost;
use crate::run::Context;
use crate::stage::count;

/// A shard that ended its workers, and how.
struct Poison {
    stage: Stage,
    shard: u32,
    message: String,
}

impl Engine {
    /// A worker is gone, of itself or by force.
    pub(super) fn lose(&mut self, worker: WorkerId, reason: &str, out: &mut Vec<Command>) {
        self.withdraw(worker, Some(reason), out);
    }

    /// Takes a worker out of everything and orders again what it owed; without a reason it left in good order.
    pub(super) fn withdraw(&mut self, worker: WorkerId, reason: Option<&str>, out: &mut Vec<Command>) {
        // Who was leaving was told to go, and may well have been ended for being slow about it.
        let leaving = self.workers.draining().contains(&worker);
        let alone = !self.reads(worker);
        let kept = self.workers.reserved().contains_key(&worker);
        let set_apart = self.workers.reserved().get(&worker).and_then(|kept| kept.shard);
        if !self.workers.remove(worker) {
            return;
        }
        let taken = self.stages.iter_mut().filter_map(|(stage, run)| Some((stage.clone(), run.remove(worker)?)));
        let lost: Vec<(Stage, Lost)> = taken.collect();
        if let Some(reason) = reason {
            for (stage, lost) in &lost {
                if let Some(run) = self.stages.get(stage) {
                    run.note_loss(worker, &lost.owed, reason, context!(self, &mut *out));
                }
            }
            if !leaving && let Some(poison) = self.blame(worker, reason, set_apart, &lost, alone) {
                let Poison { stage, shard, message } = poison;
                self.give_up(&stage.job.clone(), FailKind::Data, message, Some((stage, shard)), out);
            }
        }
        for (stage, lost) in lost {
            if let Some(run) = self.stages.get_mut(&stage) {
                run.again(lost.missing, None, context!(self, &mut *out));
            }
        }
        // What waited for it while it was kept for a suspect waits for nobody now.
        for run in self.stages.values_mut() {
            run.lease_waiting(context!(self, &mut *out));
        }
        self.refill(out);
        if kept {
            // What waited for it need not wait any longer.
            for run in self.stages.values_mut() {
                run.lease_waiting(context!(self, &mut *out));
            }
        }
    }

    /// Whether a worker reads what it would take over in some stage: what it reads may be what ends it.
    pub(super) fn reads(&self, worker: WorkerId) -> bool {
        self.stages.values().any(|run| run.is_read_by(worker))
    }

    /// Holds the loss against every shard that the worker owed. Returns the shard that is condemned, which
    /// must have been all that it owed; `alone` says that it read nothing for others meanwhile.
    fn blame(
        &mut self,
        worker: WorkerId,
        reason: &str,
        set_apart: Option<u32>,
        lost: &[(Stage, Lost)],
        alone: bool,
    ) -> Option<Poison> {
        self.losses.forget(self.now);
        let number = set_apart.is_none().then(|| self.losses.add(self.now));
        let end: Arc<str> = format!("worker {worker}: {reason}").into();
        let owed: u32 = lost.iter().map(|(_, lost)| count(&lost.owed)).sum();
        for (stage, lost) in lost {
            let Some(run) = self.stages.get_mut(stage) else { continue };
            let name = run.name().to_owned();
            let Some(step) = run.step.as_mut() else { continue };
            for shard in lost.owed.iter().cloned().flatten() {
                let suspicion = step.suspect(shard, Arc::clone(&end), number);
                if alone && owed == 1 && suspicion.count() >= self.losses.needed(suspicion, self.options.max_attempts) {
                    let (times, ends) = (suspicion.count(), suspicion.ends.join("; "));
                    self.losses.explain(suspicion);
                    let message =
                        format!("shard {shard} of {name} ended {times} workers, the last with nothing else in hand: {ends}");
                    return Some(Poison { stage: stage.clone(), shard, message });
                }
            }
        }
        None
    }

    /// Keeps workers for suspects that must be computed alone, gives them these, and lets go of those that
    /// are no longer needed for it.
    pub(super) fn serve_suspects(&mut self, out: &mut Vec<Command>) {
        // Who is let go of in the first round may be needed for another stage's suspects at once.
        if self.serve_round(out) {
            self.serve_round(out);
        }
    }

    /// True if a worker was let go of.
    fn serve_round(&mut self, out: &mut Vec<Command>) -> bool {
        if self.workers.reserved().is_empty() && self.stages.values().all(|run| run.apart() == 0) {
            return false;
        }
        self.keep_workers();
        let mut released = false;
        let kept: Vec<_> = self.workers.reserved().iter().map(|(worker, kept)| (*worker, kept.clone())).collect();
        for (worker, kept) in kept {
            let busy = kept.shard.is_some_and(|shard| {
                self.stages.get(&kept.stage).and_then(|run| run.step.as_ref()).is_some_and(|step| step.owes(worker, shard))
            });
            if busy {
                continue;
            }
            let idle = self.owed(worker) == 0 && !self.reads(worker);
            let leaving = self.workers.draining().contains(&worker);
            let run = self.stages.get_mut(&kept.stage).filter(|run| run.apart() > 0 && !leaving);
            match run {
                Some(run) if idle => {
                    let shard = run.run_alone(worker, context!(self, &mut *out));
                    self.workers.reserve(worker, kept.stage, shard);
                }
                Some(_) => self.workers.reserve(worker, kept.stage, None),
                None => {
                    self.workers.release(worker);
                    released = true;
                }
            }
        }
        if released {
            for run in self.stages.values_mut() {
                run.lease_waiting(context!(self, &mut *out));
            }
            // One that leaves may have been the one that a suspect waited for: another is kept now.
            self.serve_suspects(out);
        }
        released
    }

    /// Keeps at most half of the workers, and no more than there are suspects to serve.
    fn keep_workers(&mut self) {
        let stages: Vec<Stage> = self.stages.iter().filter(|(_, run)| run.apart() > 0).map(|(stage, _)| stage.clone()).collect();
        for stage in stages {
            let most = (self.workers.taking() / 2).max(1);
            let Some(run) = self.stages.get(&stage) else { continue };
            let waiting = self.workers.reserved().values().filter(|kept| kept.stage == stage && kept.shard.is_none()).count();
            let room = most.saturating_sub(self.workers.reserved().len());
            let wanted = run.apart().saturating_sub(waiting).min(room);
            if wanted == 0 {
                continue;
            }
            let mut free = run.loners(&self.workers);
            free.retain(|worker| !self.reads(*worker));
            // Those that are done first.
            free.sort_by_cached_key(|worker| self.owed(*worker));
            for worker in free.into_iter().take(wanted) {
                self.workers.reserve(worker, stage.clone(), None);
            }
        }
    }
}
