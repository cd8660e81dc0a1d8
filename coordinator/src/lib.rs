//! The coordinator: services, the event loop around the pure engine, the drivers that take jobs
//! through their phases, and the durable log. No mathematics other than calls into `sheaf-learn`.

pub mod account;
pub mod admin;
pub mod consensus;
pub mod context;
pub mod crash;
pub mod driver;
pub mod event_loop;
pub mod feed;
pub mod health;
pub mod host;
pub mod joblog;
pub mod machine;
pub mod metrics;
pub mod server;
pub mod service;
pub mod validate;

pub use driver::checkpoint::CHECKPOINT_EVERY;
pub use server::{Coordinator, CoordinatorOptions};
