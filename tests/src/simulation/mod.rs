//! A whole cluster in one thread, from one seed: the real control engine and the real replicated state,
//! a real learner merged along the real tree, and around them a simulated network, clocks, disks,
//! processes, clients and faults. First chaos, then calm, and in calm everything has to heal.
//!
//! ```text
//! clients ─▶ services ─▶ log (disk) ─▶ drivers ─▶ event loop ◀─▶ engine
//!                                        ▲            │ ▲
//!                                        └─ stage threads  network ◀─▶ workers (learner)
//! ```
//!
//! One loop takes what is due next from the [`agenda`] and hands it to whom it concerns. No threads, no
//! clock, no entropy: the same seed gives the same run, to the last line of its trace. What must hold is
//! in [`invariants`], a file each; what proves that they can fail is in [`mutation`]. The glue between
//! the pure parts (event loop, drivers, services, agent) is written again here as closely as possible,
//! since the real one lives on threads and sockets.

macro_rules! note {
    ($world:ident, $($text:tt)*) => {
        $world.trace.line($world.now, format_args!($($text)*))
    };
}

mod agenda;
mod chaos;
mod character;
mod clients;
mod coordinator;
mod disk;
mod driver;
mod event_loop;
mod host;
mod invariants;
mod lines;
mod mind;
mod mutation;
mod network;
mod problem;
mod report;
mod rng;
mod trace;
mod worker;
mod world;

pub use mutation::Mutation;
pub use report::{Counts, Failure, Summary, Verdict, many};
pub use world::run;
