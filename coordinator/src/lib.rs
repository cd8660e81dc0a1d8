//! The coordinator: services, the event loop around the pure engine, the drivers that take jobs
//! through their phases, and the durable log. No mathematics other than calls into `sheaf-learn`.

pub mod consensus;
pub mod context;
pub mod driver;
pub mod event_loop;
pub mod feed;
pub mod host;
pub mod machine;
pub mod server;
pub mod service;
pub mod validate;

pub use server::{Coordinator, CoordinatorOptions};
