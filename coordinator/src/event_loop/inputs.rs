//! What the loop is told and what it tells: inputs with their answers, stages that are opened and come to an end,
//! orders for drivers; and the handle that inputs are sent by.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use sheaf_cluster::Event;
use sheaf_cluster::coverage::Block;
use sheaf_cluster::id::{JobId, Stage, Step, Token, WorkerId};
use sheaf_cluster::stage::StagePlan;
use sheaf_learn::algorithm::Report;
use sheaf_proto::v1;
use sheaf_runtime::fault::Fault;
use sheaf_runtime::work::Work;
use tokio::sync::{mpsc, oneshot, watch};

use crate::account::Account;
use crate::driver::checkpoint::Position;
use crate::host::{Host, Product};

/// What the loop is told.
#[derive(Debug)]
pub enum Input {
    /// Anything that needs no more than the engine.
    Event(Event),
    /// A worker said hello; its number goes back.
    Joined {
        /// What it said.
        hello: v1::Hello,
        /// Where it called from.
        address: String,
        /// Its control stream.
        commands: mpsc::UnboundedSender<Result<v1::JoinClusterResponse, tonic::Status>>,
        /// Its number.
        reply: oneshot::Sender<WorkerId>,
    },
    /// Partials arrived.
    Blocks(Blocks),
    /// A worker could not compute a shard.
    ShardFailed {
        /// Who.
        worker: WorkerId,
        /// Which stage.
        stage: Stage,
        /// Token that it answers.
        token: Token,
        /// Which shard.
        shard: u32,
        /// Why.
        fault: Fault,
    },
    /// A driver starts a stage.
    OpenStage(Box<Opening>),
    /// A step's message is ready.
    StepReady {
        /// Which stage.
        stage: Stage,
        /// Which step.
        step: Step,
        /// What to broadcast.
        message: Bytes,
        /// Chapters that are new with it.
        chapters: Vec<Bytes>,
        /// The state it was made from, if that is to be a checkpoint.
        state: Option<Vec<u8>>,
        /// How the run goes.
        report: Vec<Report>,
    },
    /// A stage has its product.
    StageDone {
        /// Which stage.
        stage: Stage,
        /// What it gives.
        product: Product,
        /// How the run went.
        report: Vec<Report>,
    },
    /// A stage cannot go on.
    StageFailed {
        /// Which stage.
        stage: Stage,
        /// Why.
        fault: Fault,
    },
    /// Someone asks for a step's message.
    FetchMessage {
        /// Which stage.
        stage: Stage,
        /// Which step.
        step: Step,
        /// The message, unless it is over.
        reply: oneshot::Sender<Option<Bytes>>,
    },
    /// Someone asks for chapters of a stage.
    FetchChapters {
        /// Which stage.
        stage: Stage,
        /// Which of them; the answer may stop earlier, but has at least one.
        range: Range<u32>,
        /// The chapters, unless the stage is over or has fewer.
        reply: oneshot::Sender<Option<Vec<Bytes>>>,
    },
    /// Starts drivers: given once, when the coordinator leads.
    Drivers(mpsc::UnboundedSender<DriverOrder>),
    /// Someone asks who is here.
    Workers(oneshot::Sender<Vec<v1::WorkerSummary>>),
    /// A worker is alive, and says how full it is.
    Beat(WorkerId, v1::Heartbeat),
    /// Someone asks for metrics that say how things are; the answer also shows that the loop goes round.
    Observe(oneshot::Sender<()>),
    /// Someone asks where the time of a job went, stage by stage.
    Accounts(JobId, oneshot::Sender<Vec<(String, Account)>>),
    /// Someone asks why a job waits.
    WhyWaiting(JobId, oneshot::Sender<Option<String>>),
}

/// Partials of one step from one worker.
#[derive(Debug)]
pub struct Blocks {
    /// Who.
    pub worker: WorkerId,
    /// Which stage.
    pub stage: Stage,
    /// Which step.
    pub step: Step,
    /// Token that they answer.
    pub token: Token,
    /// The blocks; `None` is the empty leaf.
    pub blocks: Vec<(Block, Option<Bytes>)>,
    /// Where the worker's time went.
    pub spent: v1::Spent,
}

/// A stage to be opened.
#[derive(Debug)]
pub struct Opening {
    /// Which stage.
    pub stage: Stage,
    /// Phase that people see.
    pub phase: String,
    /// What there is to spread.
    pub plan: StagePlan,
    /// Hash of the work document.
    pub work: String,
    /// The work itself: it knows where the rows of a shard come from.
    pub subject: Arc<Work>,
    /// The stage's thread.
    pub host: Host,
    /// Where it goes on, and how far it is, for checkpoints; absent: it starts from the start and keeps none.
    pub position: Option<watch::Sender<Position>>,
    /// What comes of it.
    pub reply: oneshot::Sender<Result<Ended, Fault>>,
}

/// A finished stage.
#[derive(Debug, Clone)]
pub struct Ended {
    /// What it gives.
    pub product: Product,
    /// Steps taken.
    pub steps: u64,
    /// Reports of all steps.
    pub reports: Vec<Vec<Report>>,
    /// What it cost.
    pub account: Account,
}

/// What happens to drivers.
#[derive(Debug)]
pub enum DriverOrder {
    /// Take the job through its phases.
    Start(JobId),
    /// Stop and log this end.
    Stop(JobId, Stop),
}

/// Why a driver is stopped.
#[derive(Debug, Clone)]
pub enum Stop {
    /// The engine gave the job up.
    Fail(Fault),
    /// Somebody cancelled it.
    Cancel,
}

/// Sends inputs to the loop; cheap to clone.
#[derive(Debug, Clone)]
pub struct LoopHandle {
    inputs: mpsc::UnboundedSender<Input>,
}

impl LoopHandle {
    /// Tells the loop. After the end of the coordinator nobody listens, and nothing matters.
    pub fn send(&self, input: Input) {
        let _ = self.inputs.send(input);
    }
}

/// Makes a loop's handle and inbox.
pub fn channel() -> (LoopHandle, mpsc::UnboundedReceiver<Input>) {
    let (inputs, inbox) = mpsc::unbounded_channel();
    (LoopHandle { inputs }, inbox)
}
