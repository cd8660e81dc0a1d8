//! What the engine is told. Events may come late, twice or for things that are over: those change nothing.

use std::ops::Range;

use crate::coverage::Block;
use crate::id::{JobId, Millis, Stage, Step, Token, WorkerId};
use crate::stage::StagePlan;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A worker opened its control stream. A known id counts as lost first: its process forgot everything.
    WorkerJoined {
        /// Who.
        worker: WorkerId,
        /// Compute threads: its weight when shards are spread (0 counts as 1).
        threads: u32,
    },
    /// A worker's control stream broke.
    WorkerLost {
        /// Who.
        worker: WorkerId,
        /// What was seen, for the log.
        reason: String,
    },
    /// A worker is alive.
    Heartbeat {
        /// Who.
        worker: WorkerId,
    },
    /// A worker wants to leave: no new leases, finish the current steps.
    DrainRequested {
        /// Who.
        worker: WorkerId,
    },
    /// A job wants to run: once per job and term. A new leader sends the jobs that already ran first.
    JobQueued {
        /// Which.
        job: JobId,
        /// Whose share it counts against.
        namespace: String,
        /// Higher runs first.
        priority: i32,
        /// When it fails at the latest, on the clock of the log.
        deadline: Option<Millis>,
        /// When it was submitted, on the clock of the log.
        submitted: Millis,
    },
    /// Someone wants the job stopped.
    CancelRequested {
        /// Which.
        job: JobId,
    },
    /// The job's end is in the log: its driver finished, failed it, or carried out `FailJob` or `CancelJob`.
    JobEnded {
        /// Which.
        job: JobId,
    },
    /// The driver of a running job starts a stage.
    StageOpened {
        /// Which.
        stage: Stage,
        /// What there is to spread.
        plan: StagePlan,
    },
    /// The driver has the state of this step ready to broadcast. Steps rise; the first may be any.
    StepReady {
        /// Which stage.
        stage: Stage,
        /// Which step.
        step: Step,
    },
    /// A worker has got ready for a stage.
    Prepared {
        /// Who.
        worker: WorkerId,
        /// Which stage.
        stage: Stage,
        /// Token of the `OpenStage` that it answers.
        token: Token,
    },
    /// The payload of a block is here, complete and checked; its bytes wait for `Accept` or `Refuse`. No
    /// answer at all (worker or stage unknown) means refused.
    BlockArrived {
        /// Who sent it.
        worker: WorkerId,
        /// Which stage.
        stage: Stage,
        /// Which step.
        step: Step,
        /// Token of the `Compute` that it answers.
        token: Token,
        /// Which shards it covers.
        block: Block,
        /// Hash of its bytes.
        digest: u64,
    },
    /// A worker could not compute a shard.
    ShardFailed {
        /// Who.
        worker: WorkerId,
        /// Which stage.
        stage: Stage,
        /// Token of the `Compute` that it answers.
        token: Token,
        /// Which shard.
        shard: u32,
        /// Whether another try may help.
        retry: bool,
        /// What happened, for the user.
        message: String,
    },
    /// A worker gives shards of an order back that it has not computed, because another one of the order
    /// failed: nobody is to blame for these.
    ShardsReturned {
        /// Who.
        worker: WorkerId,
        /// Which stage.
        stage: Stage,
        /// Token of the `Compute` that it answers.
        token: Token,
        /// Which shards.
        ranges: Vec<Range<u32>>,
    },
    /// The driver is done with a stage.
    StageClosed {
        /// Which.
        stage: Stage,
    },
    /// Time has passed: silence and deadlines are looked at. Several times a second.
    Tick,
}
