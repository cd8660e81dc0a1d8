//! The worker: joins a coordinator, prepares and keeps the shards that it is leased, and answers
//! each step with partials. It decides nothing.

pub mod agent;
pub mod cache;
pub mod chunk;
pub mod life;
pub mod metrics;
pub mod parts;
pub mod push;
pub mod queries;
pub mod session;
pub mod spill;
pub mod stage;
mod steps;
mod sums;

pub use life::{DRAIN_TIMEOUT, Ended, WorkerError, WorkerOptions, run};
