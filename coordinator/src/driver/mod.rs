//! Drivers: a task per running job that takes it through its phases. What a phase gives is journalled,
//! so that a new leader goes on behind the last one that finished.

mod account;
mod ending;
mod phases;
mod predict;
mod run;

pub use predict::{chunks as predict_chunks, scorer as predict_scorer, writer as predict_writer};

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::time::Instant;

use futures::FutureExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sheaf_cluster::Event;
use sheaf_cluster::durable::{Entry, PhaseRecord, Pointer};
use sheaf_cluster::id::{JobId, Stage};
use sheaf_cluster::stage::StagePlan;
use sheaf_proto::v1::{self, watch_job_response::Event as Watch};
use sheaf_runtime::fault::Fault;
use sheaf_runtime::order::Order;
use sheaf_runtime::work::Work;
use tokio::sync::{mpsc, oneshot};

use crate::context::{Context, Spec, now};
use crate::event_loop::{Account, DriverOrder, Ended, Input, Opening, Stop};
use crate::host::{Host, Resume};

/// States up to this size stand in the log itself.
const INLINE_STATE: usize = 64 << 10;

/// Time between checkpoints: the most work that a lost leader costs.
const CHECKPOINT_EVERY: std::time::Duration = std::time::Duration::from_secs(5);

/// Stage numbers that one phase may take.
const STAGES_PER_PHASE: u32 = 10_000;

/// Starts and stops drivers as the loop orders, until the loop is gone.
pub async fn supervise(context: Context, mut orders: mpsc::UnboundedReceiver<DriverOrder>) {
    let mut stops: BTreeMap<JobId, oneshot::Sender<Stop>> = BTreeMap::new();
    while let Some(order) = orders.recv().await {
        match order {
            DriverOrder::Start(job) => {
                let (stop, stopped) = oneshot::channel();
                stops.insert(job.clone(), stop);
                tokio::spawn(drive(context.clone(), job, stopped).boxed());
            }
            DriverOrder::Stop(job, why) => match stops.remove(&job) {
                // A driver that has just ended by itself does not hear it, and need not.
                Some(stop) => drop(stop.send(why)),
                None => ending::end(&context, &job, Err(why)).await,
            },
        }
    }
}

async fn drive(context: Context, job: JobId, stopped: oneshot::Receiver<Stop>) {
    let result = tokio::select! {
        result = AssertUnwindSafe(Driver::run(context.clone(), job.clone())).catch_unwind() => {
            result.unwrap_or_else(|_| Err(Fault::internal("the job's driver panicked"))).map_err(Stop::Fail)
        }
        Ok(why) = stopped => Err(why),
    };
    ending::end(&context, &job, result).await;
}

/// What a driver ends with when the phases went through.
pub struct Finish {
    /// The result object.
    pub result: serde_json::Value,
    /// A broken limit or check, which makes the job a failed one that still has a result.
    pub broken: Option<String>,
}

/// One job under way.
struct Driver {
    context: Context,
    job: JobId,
    now_ns: i64,
    /// Fingerprint of the data that the order was checked against.
    data: String,
    /// Finished phases of an earlier leader: number to document.
    journal: BTreeMap<u32, String>,
    /// Newest checkpoint of an earlier leader: its stage and where to go on.
    checkpoint: Option<(u32, Resume)>,
    phase: u32,
    stage: u32,
    open_phase: Option<(String, Instant)>,
    /// Seconds of each phase.
    seconds: Vec<(String, f64)>,
    /// What stages cost, by phase.
    accounts: Vec<(String, Account)>,
    warnings: Vec<String>,
}

impl Driver {
    async fn run(context: Context, job: JobId) -> Result<Finish, Fault> {
        context.propose(Entry::JobStarted { job: job.clone(), now: now() }).await?;
        let wanted = job.clone();
        let record = context.log.read(move |jobs| jobs.0.jobs.get(&wanted).cloned()).await.map_err(Fault::internal)?;
        let record = record.ok_or_else(|| Fault::internal(format!("job {job} not found in the log")))?;
        let spec: Spec = context.documents.get(&record.spec).await?;
        let checkpoint = match record.checkpoint {
            Some(saved) => {
                Some((saved.stage, Resume { step: saved.step, state: Some(load_state(&context, saved.state).await?) }))
            }
            None => None,
        };
        let finished = |(number, phase): (u32, PhaseRecord)| phase.finished.map(|f| (number, f.document));
        let mut driver = Driver {
            context,
            job,
            now_ns: spec.now_ns,
            data: spec.data,
            journal: record.phases.into_iter().filter_map(finished).collect(),
            checkpoint,
            phase: 0,
            stage: 0,
            open_phase: None,
            seconds: Vec::new(),
            accounts: Vec::new(),
            warnings: Vec::new(),
        };
        match spec.order {
            Order::Run { job } => run::run(&mut driver, &job).await,
            Order::Predict(order) => predict::run(&mut driver, &order).await,
        }
    }

    fn show(&self, event: Watch) {
        self.context.feeds.of(&self.job).send(event);
    }

    /// A warning for the result and for who watches; the same text once.
    fn warn(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.warnings.contains(&text) {
            self.show(Watch::Note(v1::Note { text: format!("warning: {text}") }));
            self.warnings.push(text);
        }
    }

    /// Enters a phase. If an earlier leader finished it, its document comes back.
    async fn enter<T: DeserializeOwned>(&mut self, phase: &str, detail: &str) -> Result<Option<T>, Fault> {
        self.open_phase = Some((phase.to_owned(), Instant::now()));
        self.show(Watch::PhaseStarted(v1::PhaseStarted { phase: phase.to_owned(), detail: detail.to_owned() }));
        if let Some(document) = self.journal.get(&self.phase) {
            let value = self.context.documents.get(document).await?;
            self.leave();
            return Ok(Some(value));
        }
        let entry = Entry::PhaseEntered { job: self.job.clone(), phase: phase.to_owned(), number: self.phase, now: now() };
        self.context.propose(entry).await?;
        Ok(None)
    }

    /// Journals what the open phase gave.
    async fn finish<T: Serialize>(&mut self, value: &T) -> Result<(), Fault> {
        let document = self.context.documents.put(value).await?;
        let entry = Entry::PhaseFinished { job: self.job.clone(), number: self.phase, document, now: now() };
        self.context.propose(entry).await?;
        self.leave();
        Ok(())
    }

    fn leave(&mut self) {
        self.phase += 1;
        // Stage numbers belong to a phase, so that a resumed job numbers them alike.
        self.stage = self.phase * STAGES_PER_PHASE;
        if let Some((phase, began)) = self.open_phase.take() {
            let seconds = began.elapsed().as_secs_f64();
            self.show(Watch::PhaseFinished(v1::PhaseFinished { phase: phase.clone(), seconds }));
            self.seconds.push((phase, seconds));
        }
    }

    /// Runs a stage to its end.
    async fn stage(&mut self, plan: StagePlan, work: Work, checkpoints: bool) -> Result<Ended, Fault> {
        let phase = self.open_phase.as_ref().map_or_else(String::new, |(phase, _)| phase.clone());
        let stage = Stage { job: self.job.clone(), number: self.stage };
        self.stage += 1;
        let resume = self.checkpoint.take_if(|(number, _)| *number == stage.number).map(|(_, resume)| resume).unwrap_or_default();
        let document = self.context.documents.put(&work).await?;
        let (reply, ended) = oneshot::channel();
        let (states, saved) = mpsc::unbounded_channel();
        let host = Host::start(stage.clone(), &work, plan.shards, resume, self.context.events.clone())?;
        let states = checkpoints.then_some(states);
        let opening = Opening { stage: stage.clone(), phase: phase.clone(), plan, work: document, host, states, reply };
        self.context.events.send(Input::OpenStage(Box::new(opening)));
        let _guard = CloseOnDrop { context: self.context.clone(), stage: stage.clone() };
        let ended = tokio::select! {
            ended = ended => ended.map_err(|_| Fault::internal("the stage was closed before it ended"))??,
            fault = save_checkpoints(&self.context, &stage, saved) => return Err(fault),
        };
        self.accounts.push((phase, ended.account.clone()));
        Ok(ended)
    }
}

/// Closes a stage whose driver is stopped; closing one that has ended changes nothing.
struct CloseOnDrop {
    context: Context,
    stage: Stage,
}

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.context.events.send(Input::Event(Event::StageClosed { stage: self.stage.clone() }));
    }
}

/// Writes a checkpoint every few seconds; ends only when one cannot be written.
async fn save_checkpoints(context: &Context, stage: &Stage, mut states: mpsc::UnboundedReceiver<(u64, Vec<u8>)>) -> Fault {
    let mut last = Instant::now();
    while let Some((step, state)) = states.recv().await {
        if step == 0 || last.elapsed() < CHECKPOINT_EVERY {
            continue;
        }
        last = Instant::now();
        if let Err(fault) = save_state(context, stage, step, state).await {
            return fault.context("write checkpoint");
        }
    }
    // No states: the stage has no checkpoints, or its reply is on its way.
    std::future::pending().await
}

async fn save_state(context: &Context, stage: &Stage, step: u64, state: Vec<u8>) -> Result<(), Fault> {
    let pointer = if state.len() <= INLINE_STATE {
        Pointer::Inline(state)
    } else {
        let (hash, bytes) = (sheaf_runtime::canonical::hash_bytes(&state), state.len() as u64);
        context.documents.put_bytes(&hash, state.into()).await?;
        Pointer::Object { hash, bytes }
    };
    let entry = Entry::Checkpoint { job: stage.job.clone(), stage: stage.number, step, state: pointer, now: now() };
    context.propose(entry).await.map(drop)
}

async fn load_state(context: &Context, pointer: Pointer) -> Result<Vec<u8>, Fault> {
    match pointer {
        Pointer::Inline(bytes) => Ok(bytes),
        Pointer::Object { hash, .. } => Ok(context.documents.get_bytes(&hash).await?.to_vec()),
    }
}
