//! Checkpoints: everything to go on from, after some steps, as if nothing had happened.
//!
//! ```text
//! step k ready ─▶ object in the store, whole ─▶ pointer in the log ─▶ the object before it goes
//! ```
//!
//! Small ones stand in the log itself. Objects lie below their job, so that two jobs never share one, and
//! go with it. One that is missing or damaged is noticed by its hash: then the stage starts over, which
//! gives the same bits, only later.

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

/// How far a stage is: the step that comes next, the state it starts from, the reports of all before it.
#[derive(Debug, Clone, Default)]
pub struct Position {
    /// The step that comes next.
    pub step: u64,
    /// The state before it.
    pub state: Vec<u8>,
    /// How the run went so far.
    pub reports: Vec<Vec<Report>>,
}

impl Position {
    /// A step has ended with this report, if it gave one.
    pub fn advance(&mut self, step: u64, state: Vec<u8>, report: &[Report]) {
        self.step = step;
        self.state = state;
        if !report.is_empty() {
            self.reports.push(report.to_vec());
        }
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

fn encode(position: Position) -> Vec<u8> {
    let Position { step, state, reports } = position;
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
    /// The object that the log names now.
    named: Option<String>,
}

impl Keeper {
    /// A keeper of a stage that goes on from `from`, if it goes on.
    pub fn new(context: Context, stage: Stage, from: Option<&CheckpointRecord>) -> Self {
        let named = match from.map(|record| &record.state) {
            Some(Pointer::Object { hash, .. }) => Some(hash.clone()),
            Some(Pointer::Inline(_)) | None => None,
        };
        Self { context, stage, named }
    }

    /// Writes a checkpoint whenever the next step would take the unsaved work beyond the time allowed.
    /// Ends only with a fault of the log.
    pub async fn keep(mut self, mut position: watch::Receiver<Position>) -> Fault {
        let every = self.context.checkpoint_every;
        let (mut saved, mut stepped) = (Instant::now(), Instant::now());
        let first = position.borrow_and_update().step;
        while position.changed().await.is_ok() {
            let took = stepped.elapsed();
            stepped = Instant::now();
            let due = saved.elapsed() + took >= every;
            if !due || position.borrow_and_update().step == first {
                continue;
            }
            let at = position.borrow_and_update().clone();
            match self.save(at).await {
                Ok(()) => saved = Instant::now(),
                Err(Trouble::Log(fault)) => return fault.context("write checkpoint"),
                Err(Trouble::Store(why)) => {
                    // The job can do without, as long as nothing else happens; the next step tries again.
                    warn!(job = %self.stage.job, stage = self.stage.number, why, "a checkpoint cannot be written; more work than usual would be lost");
                    saved = Instant::now();
                }
            }
        }
        // The stage keeps no position, or its reply is on its way.
        std::future::pending().await
    }

    async fn save(&mut self, position: Position) -> Result<(), Trouble> {
        let (began, step) = (Instant::now(), position.step);
        let bytes = Bytes::from(encode(position));
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

    fn position() -> Position {
        let mut position = Position { step: 3, ..Position::default() };
        for step in 4..7 {
            position.advance(step, vec![step as u8; 100], &[Report { name: "loss".into(), value: 0.5 / step as f64 }]);
        }
        position
    }

    #[test]
    fn state_and_reports_come_back() {
        let (was, resume) = (position(), decode(&encode(position())).unwrap());
        assert_eq!((resume.step, resume.state), (6, Some(was.state)));
        assert_eq!(resume.reports, was.reports);
        assert_eq!(resume.reports.len(), 3);
    }

    #[test]
    fn what_another_version_wrote_is_refused() {
        let mut bytes = encode(position());
        assert!(decode(&bytes[..3]).is_err());
        bytes[0] += 1;
        assert!(decode(&bytes).unwrap_err().contains("another version"));
    }
}
