//! What the engine wants done. The leader executes commands in order; each is idempotent.

use std::ops::Range;

use crate::coverage::Block;
use crate::durable::FailKind;
use crate::id::{JobId, Stage, Step, Token, WorkerId};
use crate::note::Note;

/// One thing to do. No command is ever addressed to a worker that the engine holds to be gone, except
/// the [`Disconnect`](Command::Disconnect) that says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Start the job's driver (log `JobStarted` first).
    StartJob {
        /// Which.
        job: JobId,
    },
    /// Stop the driver and log `JobEnded` with a failure; then report [`Event::JobEnded`](crate::Event::JobEnded).
    FailJob {
        /// Which.
        job: JobId,
        /// What kind of failure.
        kind: FailKind,
        /// What happened, for the user.
        message: String,
        /// The shard that is to blame, if one is: whoever knows the data adds its file and rows.
        shard: Option<(Stage, u32)>,
    },
    /// Stop the driver and log `JobEnded` as cancelled; then report [`Event::JobEnded`](crate::Event::JobEnded).
    CancelJob {
        /// Which.
        job: JobId,
    },
    /// Send the worker what the stage is (program, view) and what it would take over if the stage is
    /// under way; it reads that and answers `Prepared` with the same token. A stage that it has open stays
    /// open: only the reading is new.
    OpenStage {
        /// To whom.
        worker: WorkerId,
        /// Which stage.
        stage: Stage,
        /// Fencing token.
        token: Token,
        /// Shards to get ready, ascending, disjoint; empty if there is nothing to wait for.
        prepare: Vec<Range<u32>>,
    },
    /// Ask the worker for the partials of these shards for this step, as complete dyadic blocks under
    /// this token. Each order stands by itself: a later one for the same step adds to the earlier ones.
    /// When a shard fails the worker reports it and still sends the blocks of the others.
    Compute {
        /// To whom.
        worker: WorkerId,
        /// Which stage.
        stage: Stage,
        /// Which step.
        step: Step,
        /// Fencing token; blocks and failures of this order carry it back.
        token: Token,
        /// Shards, ascending, disjoint, adjacent ranges joined.
        ranges: Vec<Range<u32>>,
    },
    /// The worker may forget the stage (caches of its view may stay).
    CloseStage {
        /// To whom.
        worker: WorkerId,
        /// Which stage.
        stage: Stage,
    },
    /// The bytes of the block just arrived go into the step's merger.
    Accept {
        /// Which stage.
        stage: Stage,
        /// Which step.
        step: Step,
        /// The block.
        block: Block,
    },
    /// The bytes of the block just arrived are thrown away.
    Refuse {
        /// Who sent it.
        worker: WorkerId,
        /// Which stage.
        stage: Stage,
        /// Which step.
        step: Step,
        /// The block.
        block: Block,
        /// Why.
        reason: String,
    },
    /// Every shard is in, exactly once: merge to the root and update.
    CompleteStep {
        /// Which stage.
        stage: Stage,
        /// Which step.
        step: Step,
    },
    /// Write this down for who looks at the job, now or later.
    Note(Note),
    /// Break the worker's streams: it is held to be lost.
    Disconnect {
        /// Whom.
        worker: WorkerId,
        /// Why.
        reason: String,
    },
    /// The worker owes nothing any more and may leave; the engine has forgotten it.
    DrainDone {
        /// Whom.
        worker: WorkerId,
    },
}
