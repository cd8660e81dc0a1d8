//! Pure decisions: events in, commands out. Jobs, stages, shards, leases, membership, placement,
//! retries, drain, and which shards a step has already got. No tokio, files, clocks or entropy.
//!
//! Two halves that never share state. [`Durable`] changes only when a log entry is applied: what was
//! promised to a client. [`Engine`] is the leader's own mind: who computes what now; a new leader
//! starts an empty one and feeds it from `Durable`.
//!
//! ```text
//! coordinator ── Event ──▶ Engine::handle(event, now) ── Vec<Command> ──▶ executed by the leader only
//! log entry   ── Entry ──▶ Durable::apply(entry)      ── Reply ──▶ answered to who proposed it
//! ```

pub mod command;
pub mod coverage;
pub mod durable;
pub mod engine;
pub mod event;
pub mod id;
pub mod job;
pub mod lease;
pub mod membership;
pub mod note;
mod pace;
pub mod placement;
mod run;
pub mod stage;
mod suspect;

pub use command::Command;
pub use coverage::{Block, Coverage};
pub use durable::{Durable, Entry, FailKind, JobRecord, JobState, Outcome, Pointer, Reply};
pub use engine::{Engine, Options};
pub use event::Event;
pub use id::{Generation, JobId, Millis, Stage, Step, Term, Token, WorkerId};
pub use job::Waiting;
pub use lease::LeaseStatus;
pub use membership::WorkerStatus;
pub use note::{Note, What};
pub use stage::{PlanError, StagePlan, StageProgress};
