//! What is going to happen when, and to whom. Two things at one time happen in the order in which they
//! were put down, so that a run is a function of its seed.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use sheaf_cluster::{JobId, Stage, Token};

use super::clients::{Answer, Errand, Request};
use super::coordinator::Then;
use super::network::{Call, Reply};

/// A microsecond is the unit of simulated time.
pub(super) const MS: u64 = 1_000;
/// A second.
pub(super) const SECOND: u64 = 1_000_000;

/// Whose business it is. What belongs to a process that is gone does not happen; what belongs to one
/// that is stopped happens when it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// Nobody's: faults, repairs, clients.
    Nature,
    /// A coordinator process, by its incarnation.
    Coordinator(u32),
    /// A worker process: its machine and its incarnation.
    Worker(usize, u32),
}

/// One thing that happens.
#[derive(Debug)]
pub(super) enum Happening {
    /// The next frame of a control stream arrives.
    Frame { connection: u64, up: bool },
    /// A payload call arrives at the coordinator.
    Call(Call),
    /// The answer to a payload call arrives.
    Reply { connection: u64, call: u64, reply: Reply },
    /// One side sees that the connection is gone.
    Broken { connection: u64 },
    /// A cut has lasted so long that both sides give the connection up.
    Keepalive { machine: usize, cut: u64 },
    /// A worker dials the coordinator.
    Connect,
    /// A worker's heartbeat is due.
    Beat { connection: u64 },
    /// A worker has opened (and prepared) a stage.
    Opened { connection: u64, stage: Stage, token: Token },
    /// A worker has computed an order.
    Computed { connection: u64, task: u64 },
    /// A leaving worker waits no longer.
    GiveUp,
    /// The coordinator's clock ticks.
    Tick,
    /// The log's writer has synced.
    Synced,
    /// A stage's thread takes its next order.
    Host { stage: Stage, life: u64 },
    /// A store operation or a pause of the coordinator is over.
    Done(Then),
    /// Chaos strikes.
    Strike,
    /// The storm is over.
    Calm,
    /// A fault ends.
    Mend(Mend),
    /// A client does something.
    Client(usize, Errand),
    /// A client's request arrives.
    Request { client: usize, number: u64, request: Request },
    /// The answer to a client's request arrives.
    Answer { client: usize, number: u64, job: Option<JobId>, answer: Answer },
}

/// What repairs a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mend {
    /// A worker process starts on its machine.
    Worker(usize),
    /// The coordinator starts.
    Coordinator,
    /// A stopped worker goes on.
    GoOn(usize, u32),
    /// A stopped coordinator goes on.
    CoordinatorGoesOn(u32),
    /// A cut path is whole again.
    Path(usize, u64),
    /// A slow worker is quick again.
    Quick(usize),
    /// The log's disk is quick and has room.
    Disk,
    /// A worker's spill folder has room.
    Spill(usize),
}

#[derive(Debug)]
struct Due {
    at: u64,
    number: u64,
    owner: Owner,
    what: Happening,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        // The heap gives its greatest: the earliest.
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// All that is to come.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    due: BinaryHeap<Due>,
    next: u64,
}

impl Agenda {
    pub fn push(&mut self, at: u64, owner: Owner, what: Happening) {
        let number = self.next;
        self.next += 1;
        self.due.push(Due { at, number, owner, what });
    }

    pub fn pop(&mut self) -> Option<(u64, Owner, Happening)> {
        self.due.pop().map(|due| (due.at, due.owner, due.what))
    }
}
