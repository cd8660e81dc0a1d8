//! Checkpoints: everything to go on from, after some steps, as if nothing had happened.
//!
//! ```text
//! step k ready ─▶ object in the store, whole ─▶ pointer in the log ─▶ the object before it goes
//! ```
//!
//! Small ones stand in the log itself. Objects lie below their job, so that two jobs never share one, and
//! go with it. One that is missing or damaged is noticed by its hash: then the stage starts over, which
//! gives the same bits, only later.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sheaf_cluster::durable::{CheckpointRecord, Entry, INLINE_LIMIT, Pointer};
use sheaf_cluster::id::{JobId, Stage};
use sheaf_learn::algorithm::Report;
use sheaf_runtime::NUMERIC_VERSION;
use sheaf_runtime::canonical::hash_bytes;
use sheaf_runtime::documents::join;
use sheaf_runtime::fault::Fault;
use sheaf_runtime::retry;
use tokio::sync::watch;
use tracing::warn;

use crate::context::{Context, now};
use crate::crash;
use crate::host::Resume;

/// Rises whenever older checkpoints could be misread.
const FORMAT: u32 = 1;

/// How far a stage is: the step that comes next, the reports of all before it, and the newest state that was encoded.
#[derive(Debug, Clone, Default)]
pub struct Position {
    /// The step that comes next.
    pub step: u64,
    /// How the run went so far.
    pub reports: Vec<Vec<Report>>,
    /// What a checkpoint can be made of; often of an earlier step.
    pub snapshot: Option<Snapshot>,
}

/// Everything to go on from, before one step.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// The step that comes next.
    pub step: u64,
    /// The state before it, encoded.
    pub state: Arc<Vec<u8>>,
    /// How the run went before it.
    pub reports: Vec<Vec<Report>>,
}

impl Position {
    /// A step has ended with this report, if it gave one; true if the state before the next one came with it.
    pub fn advance(&mut self, step: u64, state: Option<Vec<u8>>, report: &[Report]) -> bool {
        self.step = step;
        if !report.is_empty() {
            self.reports.push(report.to_vec());
        }
        let Some(state) = state else { return false };
        self.snapshot = Some(Snapshot { step, state: Arc::new(state), reports: self.reports.clone() });
        true
    }
}

/// When the next checkpoint is due. A stage's thread asks at every step and encodes its state only then; the keeper
/// says when that one is written. There is never more than one on its way.
#[derive(Debug)]
pub struct Due {
    every: Duration,
    times: Mutex<Times>,
}

#[derive(Debug)]
struct Times {
    saved: Instant,
    stepped: Instant,
    busy: bool,
}

impl Due {
    /// One that counts from now.
    pub fn new(every: Duration) -> Self {
        let now = Instant::now();
        Self { every, times: Mutex::new(Times { saved: now, stepped: now, busy: false }) }
    }

    /// A step has ended: whether another one like it would take the unsaved work beyond the time allowed. After
    /// `true` it is not asked for again before [`Due::done`].
    pub fn take(&self) -> bool {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        let took = times.stepped.elapsed();
        times.stepped = Instant::now();
        let due = !times.busy && times.saved.elapsed() + took >= self.every;
        times.busy |= due;
        due
    }

    /// The checkpoint is written, or cannot be.
    fn done(&self) {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        (times.saved, times.busy) = (Instant::now(), false);
    }
}

/// What stands before the state in a stored checkpoint.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    format: u32,
    numeric_version: u32,
    step: u64,
    reports: Vec<Vec<Report>>,
}

fn encode(snapshot: Snapshot) -> Vec<u8> {
    let Snapshot { step, state, reports } = snapshot;
    let head = Head { format: FORMAT, numeric_version: NUMERIC_VERSION, step, reports };
    let mut bytes = postcard::to_stdvec(&head).expect("a head holds only types with known lengths");
    bytes.extend_from_slice(&state);
    bytes
}

fn decode(bytes: &[u8]) -> Result<Resume, String> {
    let (head, state) = postcard::take_from_bytes::<Head>(bytes).map_err(|e| format!("it cannot be read: {e}"))?;
    if (head.format, head.numeric_version) != (FORMAT, NUMERIC_VERSION) {
        return Err("another version of the program wrote it".to_owned());
    }
    Ok(Resume { step: head.step, state: Some(state.to_vec()), reports: head.reports })
}

fn folder(context: &Context, job: &JobId) -> String {
    join(&context.base, &format!("jobs/{job}/checkpoints"))
}

fn location(context: &Context, job: &JobId, hash: &str) -> String {
    format!("{}/{hash}", folder(context, job))
}

/// Reads a checkpoint. The error says, for people, why it cannot be used.
pub async fn load(context: &Context, job: &JobId, record: &CheckpointRecord) -> Result<Resume, String> {
    match &record.state {
        Pointer::Inline(bytes) => decode(bytes),
        Pointer::Object { hash, .. } => {
            let location = location(context, job, hash);
            let bytes = retry::store(|| context.stores.get(&location)).await;
            let bytes = bytes.map_err(|e| sheaf_runtime::fault::chain(&e))?;
            if hash_bytes(&bytes) != *hash {
                return Err(format!("{location} is damaged: its content has another hash"));
            }
            decode(&bytes)
        }
    }
}

/// Removes all checkpoint objects of a job.
pub async fn forget(context: &Context, job: &JobId) {
    let folder = folder(context, job);
    if let Err(error) = retry::store(|| context.stores.delete_folder(&folder)).await {
        warn!(%job, folder, %error, "checkpoints are left behind");
    }
}

/// Writes checkpoints of one stage.
pub struct Keeper {
    context: Context,
    stage: Stage,
    due: Option<Arc<Due>>,
    /// The object that the log names now.
    named: Option<String>,
}

impl Keeper {
    /// A keeper of a stage that goes on from `from`, if it goes on.
    pub fn new(context: Context, stage: Stage, due: Option<Arc<Due>>, from: Option<&CheckpointRecord>) -> Self {
        let named = match from.map(|record| &record.state) {
            Some(Pointer::Object { hash, .. }) => Some(hash.clone()),
            Some(Pointer::Inline(_)) | None => None,
        };
        Self { context, stage, due, named }
    }

    /// Writes a checkpoint of every state that the stage's thread encoded. Ends only with a fault of the log.
    pub async fn keep(mut self, mut position: watch::Receiver<Position>) -> Fault {
        while position.changed().await.is_ok() {
            let Some(snapshot) = position.borrow_and_update().snapshot.clone() else { continue };
            match self.save(snapshot).await {
                Ok(()) => {}
                Err(Trouble::Log(fault)) => return fault.context("write checkpoint"),
                Err(Trouble::Store(why)) => {
                    // The job can do without, as long as nothing else happens; a later step tries again.
                    warn!(job = %self.stage.job, stage = self.stage.number, why, "a checkpoint cannot be written; more work than usual would be lost");
                }
            }
            self.due.iter().for_each(|due| due.done());
        }
        // The stage keeps no position, or its reply is on its way.
        std::future::pending().await
    }

    async fn save(&mut self, snapshot: Snapshot) -> Result<(), Trouble> {
        let (began, step) = (Instant::now(), snapshot.step);
        let bytes = Bytes::from(encode(snapshot));
        let size = bytes.len();
        let (state, object) = if size <= INLINE_LIMIT {
            (Pointer::Inline(bytes.to_vec()), None)
        } else {
            let hash = hash_bytes(&bytes);
            let location = location(&self.context, &self.stage.job, &hash);
            let written = retry::store(|| self.context.stores.put_atomic(&location, bytes.clone())).await;
            written.map_err(|e| Trouble::Store(sheaf_runtime::fault::chain(&e)))?;
            crash::point("after-checkpoint-object");
            (Pointer::Object { hash: hash.clone(), bytes: size as u64 }, Some(hash))
        };
        crash::point("before-pointer");
        let entry = Entry::Checkpoint { job: self.stage.job.clone(), stage: self.stage.number, step, state, now: now() };
        self.context.propose(entry).await.map_err(Trouble::Log)?;
        crash::point("after-pointer");
        self.context.metrics.checkpoint(size, began.elapsed());
        let before = std::mem::replace(&mut self.named, object);
        if let Some(before) = before.filter(|before| self.named.as_ref() != Some(before)) {
            self.remove(&before).await;
        }
        Ok(())
    }

    async fn remove(&self, hash: &str) {
        let location = location(&self.context, &self.stage.job, hash);
        if let Err(error) = retry::store(|| self.context.stores.delete(&location)).await {
            warn!(location, %error, "a superseded checkpoint is left behind until its job ends");
        }
    }
}

/// Why a checkpoint was not written.
enum Trouble {
    Store(String),
    Log(Fault),
}

/// Time between checkpoints unless told otherwise: what a lost leader costs at most, or one step if that
/// takes longer.
pub const CHECKPOINT_EVERY: Duration = Duration::from_secs(5);

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        let mut position = Position { step: 3, ..Position::default() };
        for step in 4..8 {
            let state = (step < 7).then(|| vec![step as u8; 100]);
            let report = [Report { name: "loss".into(), value: 0.5 / step as f64 }];
            assert_eq!(position.advance(step, state, &report), step < 7);
        }
        assert_eq!((position.step, position.reports.len()), (7, 4));
        position.snapshot.unwrap()
    }

    #[test]
    fn state_and_reports_of_one_step_come_back() {
        let (was, resume) = (snapshot(), decode(&encode(snapshot())).unwrap());
        assert_eq!((resume.step, resume.state), (6, Some(was.state.to_vec())));
        assert_eq!(resume.reports, was.reports);
        assert_eq!(resume.reports.len(), 3);
    }

    #[test]
    fn what_another_version_wrote_is_refused() {
        let mut bytes = encode(snapshot());
        assert!(decode(&bytes[..3]).is_err());
        bytes[0] += 1;
        assert!(decode(&bytes).unwrap_err().contains("another version"));
    }

    #[test]
    fn a_checkpoint_is_due_by_time_and_once() {
        let often = Due::new(Duration::ZERO);
        assert_eq!([often.take(), often.take()], [true, false]);
        often.done();
        assert!(often.take());
        let seldom = Due::new(Duration::from_secs(3600));
        assert!(!seldom.take());
    }
}
