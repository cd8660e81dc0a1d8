//! The worker: joins a coordinator, prepares and keeps the shards that it is leased, and answers
//! each step with partials. It decides nothing.

pub mod agent;
pub mod cache;
pub mod push;
pub mod score;
pub mod stage;

pub use agent::{WorkerOptions, run};
