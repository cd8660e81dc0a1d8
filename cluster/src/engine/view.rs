//! Reading, for status pages: who is here, what runs, what a job waits for.

use super::Engine;
use crate::id::{JobId, Stage, Term, WorkerId};
use crate::job::Waiting;
use crate::lease::LeaseStatus;
use crate::membership::{Worker, WorkerStatus};
use crate::run::StageRun;
use crate::stage::StageProgress;

impl Engine {
    /// Whose engine it is.
    pub fn term(&self) -> Term {
        self.tokens.term()
    }

    /// Workers that are there.
    pub fn workers(&self) -> Vec<WorkerStatus> {
        let status = |(worker, known): (WorkerId, &Worker)| WorkerStatus {
            worker,
            threads: known.threads,
            seen: known.seen,
            draining: known.draining,
            owed: self.owed(worker),
            pace: known.pace.share(),
            reserved: self.workers.reserved().get(&worker).map(|kept| kept.stage.clone()),
            reading: self.reads(worker),
        };
        self.workers.iter().map(status).collect()
    }

    /// Open stages.
    pub fn stages(&self) -> Vec<StageProgress> {
        self.stages.values().map(StageRun::progress).collect()
    }

    /// Where a stage stands; `None` if it is not open.
    pub fn progress(&self, stage: &Stage) -> Option<StageProgress> {
        self.stages.get(stage).map(StageRun::progress)
    }

    /// Leases of the current step of a stage, with the shards still owed under each.
    pub fn leases(&self, stage: &Stage) -> Vec<LeaseStatus> {
        let step = self.stages.get(stage).and_then(|run| run.step.as_ref());
        step.map(|step| step.leases(stage)).unwrap_or_default()
    }

    /// What a job waits for; `None` if it goes on, or is not known.
    pub fn waiting(&self, job: &JobId) -> Option<Waiting> {
        self.jobs.waiting(job, self.options.max_running_jobs).or_else(|| {
            let number = |number| Stage { job: job.clone(), number };
            let mut stages = self.stages.range(number(0)..=number(u32::MAX));
            stages.find_map(|(_, run)| self.stage_waits(run))
        })
    }

    fn stage_waits(&self, run: &StageRun) -> Option<Waiting> {
        let (StageProgress { shards, covered, waiting, workers, preparing, step, .. }, apart) = (run.progress(), run.apart());
        step?;
        let stage = run.name().to_owned();
        if apart > 0 && self.workers.taking() > 0 {
            return Some(Waiting::Alone { stage, shards: apart });
        }
        if waiting > 0 && self.workers.reserved().is_empty() {
            return Some(Waiting::Workers { stage, shards: waiting, draining: self.workers.draining().len() });
        }
        let nobody_is_ready = workers > 0 && preparing == workers && covered == 0 && shards > 0;
        nobody_is_ready.then_some(Waiting::Preparing { stage, workers })
    }

    /// Queued jobs in the order in which they would start now.
    pub fn queue(&self) -> Vec<JobId> {
        self.jobs.queue()
    }

    /// Jobs that have a slot: they run, or they are being stopped.
    pub fn running(&self) -> Vec<JobId> {
        self.jobs.running()
    }
}
