//! What the tests share: running the program, data files, reading results; clusters by hand, what is done
//! to them, and the evidence that it was done; and the simulation.
#![expect(clippy::unwrap_used, reason = "test support: a panic is the failure")]

pub mod chaos;
pub mod cluster;
pub mod data;
pub mod evidence;
pub mod matrix;
pub mod process;
pub mod queries;
pub mod results;
pub mod shop;
pub mod simulation;

pub use cluster::{Cluster, Job, Launch, Setup};
pub use data::{CURVES, FEATURES, Rows, job_text, write_parts, write_table};
pub use process::{Outcome, Sheaf};
