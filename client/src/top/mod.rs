//! `sheaf top`: a cluster on one screen, live. What is seen is a pure function of a [`Snapshot`] and a
//! [`Screen`]; keys change the screen and give orders; only [`live`] talks to the cluster and the terminal.
//!
//! | file | what it does |
//! |---|---|
//! | `snapshot.rs` | what is known of the cluster at one moment |
//! | `history.rs` | losses and workers' time, gathered from snapshot to snapshot |
//! | `screen.rs` | what is selected and asked; what keys do |
//! | `view.rs`, `tables.rs` | drawing |
//! | `live.rs` | asking, reading keys, drawing again |

mod history;
mod live;
mod screen;
mod snapshot;
mod tables;
mod view;

pub use history::History;
pub use live::{Connect, live};
pub use screen::{Order, Pane, Screen};
pub use snapshot::{JobRow, LogRow, Shares, Snapshot, WorkerRow, take};
pub use view::draw;

#[cfg(test)]
mod tests;
