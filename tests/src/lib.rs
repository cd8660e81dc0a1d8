//! What the tests of whole processes share: running the program, data files, reading results.
#![expect(clippy::unwrap_used, reason = "test support: a panic is the failure")]

pub mod data;
pub mod process;

pub use data::{Rows, write_parts, write_table};
pub use process::{Outcome, Sheaf};
