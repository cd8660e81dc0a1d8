//! Drivers: a task per running job that takes it through its phases. What a phase gives is journalled,
//! so that a new leader goes on behind the last one that finished.

pub mod account;
pub mod checkpoint;
mod ending;
mod existing;
mod folder;
mod journal;
mod phases;
mod predict;
mod run;
mod stages;

pub use ending::sweep;
pub use existing::evaluated;
pub use folder::chunks;
pub use predict::rows as predict_rows;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sheaf_cluster::Event;
use sheaf_cluster::durable::{CheckpointRecord, Entry};
use sheaf_cluster::id::{JobId, Stage};
use sheaf_cluster::stage::StagePlan;
use sheaf_proto::v1::{self, watch_job_response::Event as Watch};
use sheaf_runtime::fault::Fault;
use sheaf_runtime::order::{ModelId, Order};
use sheaf_runtime::work::Work;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tracing::{Instrument as _, error_span, info, warn};

use crate::account::Account;
use crate::context::{Context, Spec, now};
use crate::crash;
use crate::event_loop::{DriverOrder, Ended, Input, Opening, Stop};
use crate::host::{Host, Resume};

use self::checkpoint::{Due, Keeper, Position};
use self::journal::{Journal, Journalled};

/// Stage numbers that one phase may take.
const STAGES_PER_PHASE: u32 = 10_000;

/// Starts and stops drivers as the loop orders, until the loop is gone. Dropped, it stops them all where
/// they are: the log knows where to go on.
pub async fn supervise(context: Context, mut orders: mpsc::UnboundedReceiver<DriverOrder>) {
    let mut drivers = JoinSet::new();
    let mut stops: BTreeMap<JobId, oneshot::Sender<Stop>> = BTreeMap::new();
    loop {
        let order = tokio::select! {
            order = orders.recv() => order,
            Some(_) = drivers.join_next() => continue,
        };
        match order {
            None => return,
            Some(DriverOrder::Start(job)) => {
                let (stop, stopped) = oneshot::channel();
                stops.insert(job.clone(), stop);
                let span = error_span!("job", %job, phase = tracing::field::Empty);
                drivers.spawn(drive(context.clone(), job, stopped).instrument(span).boxed());
            }
            Some(DriverOrder::Stop(job, why)) => match stops.remove(&job) {
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

/// What a driver is at: a job plans and prepares rows of its own, and those that its model scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The job's own rows.
    Job,
    /// Rows that are scored when all else has succeeded.
    Prediction,
}

/// One job under way.
struct Driver {
    context: Context,
    job: JobId,
    now_ns: i64,
    /// Fingerprint of the data that the order was checked against.
    data: String,
    /// Fingerprint of the rows that the job is to score.
    scored: Option<String>,
    /// The model that training goes on from.
    earlier: Option<ModelId>,
    /// What is under way: the job itself, or its predictions.
    part: Part,
    /// What an earlier leader logged.
    journal: Journal,
    /// Newest checkpoint of an earlier leader.
    checkpoint: Option<CheckpointRecord>,
    phase: u32,
    stage: u32,
    open_phase: Option<OpenPhase>,
    /// Seconds of each phase.
    seconds: Vec<(String, f64)>,
    /// What stages cost, by phase.
    accounts: Vec<(String, Account)>,
    warnings: Vec<String>,
}

/// A phase under way.
struct OpenPhase {
    name: String,
    began: Instant,
    /// Seconds since it was first entered, if an earlier leader did.
    before_s: f64,
    /// Warnings and accounts that were there before it.
    warnings: usize,
    accounts: usize,
}

impl OpenPhase {
    fn seconds(&self) -> f64 {
        self.before_s + self.began.elapsed().as_secs_f64()
    }
}

impl Driver {
    async fn run(context: Context, job: JobId) -> Result<Finish, Fault> {
        let wanted = job.clone();
        let record = context.read(move |jobs| jobs.0.jobs.get(&wanted).cloned()).await?;
        let record = record.ok_or_else(|| Fault::internal(format!("job {job} not found in the log")))?;
        let spec: Spec = context.documents.get(&record.spec).await?;
        context.propose(Entry::JobStarted { job: job.clone(), now: now() }).await?;
        let mut driver = Driver {
            context,
            job,
            now_ns: spec.now_ns,
            data: spec.data,
            scored: spec.scored,
            earlier: spec.earlier,
            part: Part::Job,
            journal: Journal::new(record.phases),
            checkpoint: record.checkpoint,
            phase: 0,
            stage: 0,
            open_phase: None,
            seconds: Vec::new(),
            accounts: Vec::new(),
            warnings: Vec::new(),
        };
        if record.started.is_some() {
            let finished = driver.journal.finished();
            driver.log("info", None, format!("the coordinator was restarted; the job goes on behind {finished} finished phases"));
        }
        match (spec.order, spec.existing) {
            (Order::Run { .. }, Some(existing)) => existing::run(&mut driver, &existing).await,
            (Order::Run { job }, None) => run::run(&mut driver, &job).await,
            (Order::Predict(order), _) => predict::run(&mut driver, &order).await,
        }
    }

    /// Folder for the shards that have to be written, below the store.
    fn area(&self) -> String {
        let area = format!("jobs/{}/prepared", self.job);
        match self.part {
            Part::Job => area,
            Part::Prediction => format!("{area}/scored"),
        }
    }

    fn show(&self, event: Watch) {
        self.context.feeds.of(&self.job).send(event);
    }

    /// A line in the job's log, and for who watches.
    fn log(&self, level: &str, step: Option<u64>, text: String) {
        let phase = self.open_phase.as_ref().map_or_else(String::new, |open| open.name.clone());
        match level {
            "warn" => warn!(job = %self.job, phase, step, "{text}"),
            _ => info!(job = %self.job, phase, step, "{text}"),
        }
        self.show(Watch::Log(v1::LogLine { level: level.to_owned(), phase, step, text, ..Default::default() }));
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
        let phase = match self.part {
            Part::Prediction if phase != "score" => &format!("{phase} predictions"),
            _ => phase,
        };
        let before_s = self.journal.entered(self.phase).map_or(0.0, |entered| now().since(entered).0 as f64 / 1e3);
        let (name, began) = (phase.to_owned(), Instant::now());
        let (warnings, accounts) = (self.warnings.len(), self.accounts.len());
        self.open_phase = Some(OpenPhase { name, began, before_s, warnings, accounts });
        tracing::Span::current().record("phase", phase);
        info!(detail, "phase started");
        self.show(Watch::PhaseStarted(v1::PhaseStarted { phase: phase.to_owned(), detail: detail.to_owned() }));
        if let Some(document) = self.journal.document(self.phase) {
            let Journalled { value, warnings, accounts, seconds } = self.context.documents.get(document).await?;
            warnings.into_iter().for_each(|warning: String| self.warn(warning));
            self.accounts.extend(accounts);
            self.leave(seconds);
            return Ok(Some(value));
        }
        let entry = Entry::PhaseEntered { job: self.job.clone(), phase: phase.to_owned(), number: self.phase, now: now() };
        self.context.propose(entry).await?;
        Ok(None)
    }

    /// Journals what the open phase gave, with the warnings and costs that came up in it.
    async fn finish<T: Serialize>(&mut self, value: &T) -> Result<(), Fault> {
        let open = self.open_phase.as_ref().ok_or_else(|| Fault::internal("a phase was finished that was not entered"))?;
        let seconds = open.seconds();
        let (warnings, accounts) = (self.warnings[open.warnings..].to_vec(), self.accounts[open.accounts..].to_vec());
        let document = self.context.documents.put(&Journalled { value, warnings, accounts, seconds }).await?;
        let entry = Entry::PhaseFinished { job: self.job.clone(), number: self.phase, document, now: now() };
        self.context.propose(entry).await?;
        crash::point("after-journal");
        self.leave(seconds);
        Ok(())
    }

    fn leave(&mut self, seconds: f64) {
        self.phase += 1;
        // Stage numbers belong to a phase, so that a resumed job numbers them alike.
        self.stage = self.phase * STAGES_PER_PHASE;
        if let Some(open) = self.open_phase.take() {
            info!(seconds, "phase finished");
            self.show(Watch::PhaseFinished(v1::PhaseFinished { phase: open.name.clone(), seconds }));
            self.seconds.push((open.name, seconds));
        }
    }

    /// Where the stage goes on, if a checkpoint of it can be used, and the record of that.
    async fn resume(&mut self, stage: &Stage) -> (Resume, Option<CheckpointRecord>) {
        let Some(record) = self.checkpoint.take_if(|record| record.stage == stage.number) else { return Default::default() };
        match checkpoint::load(&self.context, &self.job, &record).await {
            Ok(resume) => {
                self.log("info", Some(resume.step), format!("goes on from the checkpoint before step {}", resume.step));
                (resume, Some(record))
            }
            Err(why) => {
                let step = record.step;
                self.log("warn", None, format!("the checkpoint before step {step} cannot be used, training starts over: {why}"));
                (Resume::default(), None)
            }
        }
    }

    /// Runs a stage to its end.
    async fn stage(&mut self, plan: StagePlan, work: Work, checkpoints: bool) -> Result<Ended, Fault> {
        let phase = self.open_phase.as_ref().map_or_else(String::new, |open| open.name.clone());
        let stage = Stage { job: self.job.clone(), number: self.stage };
        self.stage += 1;
        let (resume, record) = if checkpoints { self.resume(&stage).await } else { Default::default() };
        let due = checkpoints.then(|| Arc::new(Due::new(self.context.checkpoint_every)));
        let keeper = Keeper::new(self.context.clone(), stage.clone(), due.clone(), record.as_ref());
        let (step, reports) = (resume.step, resume.reports.clone());
        let (position, positions) = watch::channel(Position { step, reports, snapshot: None });
        let document = self.context.documents.put(&work).await?;
        let (reply, ended) = oneshot::channel();
        let host = Host::start(stage.clone(), &work, plan.shards, resume, due, self.context.events.clone())?;
        let position = checkpoints.then_some(position);
        let opening = Opening {
            stage: stage.clone(),
            phase: phase.clone(),
            plan: plan.of_phase(&phase),
            work: document,
            subject: Arc::new(work),
            host,
            position,
            reply,
        };
        self.context.events.send(Input::OpenStage(Box::new(opening)));
        let _guard = CloseOnDrop { context: self.context.clone(), stage: stage.clone() };
        let ended = tokio::select! {
            ended = ended => match ended {
                Ok(ended) => ended?,
                // Only a loop that is gone answers nothing: the process ends, and the job goes on in the next.
                Err(_) => std::future::pending().await,
            },
            fault = keeper.keep(positions) => return Err(fault),
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
