//! The network between worker machines and the coordinator: control streams whose frames keep their
//! order, payload calls that keep none, paths that are slow, cut both ways or one way.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use sheaf_cluster::{Stage, Step, Token, WorkerId};
use sheaf_learn::tree::Block;

use super::agenda::{Happening, MS, Owner, SECOND};
use super::problem::{Payload, Work};
use super::rng::Rng;
use super::world::World;

/// A cut that lasts longer ends the connections that it cuts.
const KEEPALIVE: u64 = 15 * SECOND;

/// What the coordinator says on a control stream.
#[derive(Debug, Clone)]
pub(super) enum Down {
    Welcome { worker: WorkerId },
    Open { stage: Stage, token: Token, prepare: Vec<Range<u32>>, work: Work },
    Compute { stage: Stage, step: Step, token: Token, ranges: Vec<Range<u32>>, message: Option<Arc<Vec<u8>>> },
    Close { stage: Stage },
    Leave { drained: bool },
}

/// What a worker says on a control stream.
#[derive(Debug, Clone)]
pub(super) enum Up {
    Hello { threads: u32 },
    Heartbeat,
    Leaving,
    Prepared { stage: Stage, token: Token },
    Failed { stage: Stage, token: Token, shard: u32, message: String },
    Returned { stage: Stage, token: Token, shards: Vec<Range<u32>> },
}

/// Partials of one step from one worker.
#[derive(Debug, Clone)]
pub(super) struct Blocks {
    pub worker: WorkerId,
    pub stage: Stage,
    pub step: Step,
    pub token: Token,
    pub blocks: Vec<(Block, Payload)>,
}

/// A call beside the control stream.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub machine: usize,
    pub connection: u64,
    pub number: u64,
    pub ask: Ask,
}

/// What a call asks.
#[derive(Debug, Clone)]
pub(super) enum Ask {
    Document { work: Work },
    Message { stage: Stage, step: Step },
    Push(Blocks),
}

/// What a call is answered.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    Document(Work),
    Message(Option<Arc<Vec<u8>>>),
    Pushed,
}

/// A connection between a worker process and a coordinator process.
#[derive(Debug)]
pub(super) struct Connection {
    pub machine: usize,
    pub worker: Owner,
    pub coordinator: Owner,
    /// Number that the coordinator gave.
    pub id: Option<WorkerId>,
    pub up: VecDeque<Up>,
    pub down: VecDeque<Down>,
    /// Whether each side still holds it.
    pub worker_side: bool,
    pub coordinator_side: bool,
    last_up: u64,
    last_down: u64,
}

/// The path of one worker machine.
#[derive(Debug, Default)]
pub(super) struct Path {
    /// The cut that blocks each direction.
    pub up: Option<u64>,
    pub down: Option<u64>,
    held: Vec<(bool, Owner, Happening)>,
}

impl Path {
    pub fn is_cut(&self) -> bool {
        self.up.is_some() || self.down.is_some()
    }

    fn blocks(&self, up: bool) -> bool {
        if up { self.up.is_some() } else { self.down.is_some() }
    }
}

/// All connections, and how fast they are in this run.
#[derive(Debug)]
pub(super) struct Network {
    pub rng: Rng,
    pub connections: BTreeMap<u64, Connection>,
    /// Usual delay, µs: half to one and a half of it.
    pub delay: u64,
    /// Of a thousand messages, how many take up to a second.
    pub laggards: u64,
    /// Of a thousand calls, how many arrive twice.
    pub duplicates: u64,
    next: u64,
}

impl Network {
    pub fn new(rng: Rng, delay: u64, laggards: u64, duplicates: u64) -> Self {
        Self { rng, connections: BTreeMap::new(), delay, laggards, duplicates, next: 1 }
    }

    pub fn delay(&mut self) -> u64 {
        if self.rng.chance(self.laggards) {
            return self.rng.between(10 * MS, SECOND);
        }
        self.delay / 2 + self.rng.below(self.delay + 1)
    }
}

impl World {
    /// A worker process connects to the coordinator process that is there.
    pub fn connect(&mut self, machine: usize, worker: Owner, coordinator: Owner) -> u64 {
        let number = self.network.next;
        self.network.next += 1;
        let connection = Connection {
            machine,
            worker,
            coordinator,
            id: None,
            up: VecDeque::new(),
            down: VecDeque::new(),
            worker_side: true,
            coordinator_side: true,
            last_up: 0,
            last_down: 0,
        };
        self.network.connections.insert(number, connection);
        number
    }

    /// Sends a frame up. One on a stream that is broken goes nowhere.
    pub fn send_up(&mut self, connection: u64, frame: Up) {
        let delay = self.network.delay();
        let Some(wire) = self.network.connections.get_mut(&connection).filter(|wire| wire.worker_side) else { return };
        wire.up.push_back(frame);
        wire.last_up = wire.last_up.max(self.now + delay);
        self.agenda.push(wire.last_up, wire.coordinator, Happening::Frame { connection, up: true });
    }

    /// Sends a frame down. One on a stream that is broken goes nowhere.
    pub fn send_down(&mut self, connection: u64, frame: Down) {
        let delay = self.network.delay();
        let Some(wire) = self.network.connections.get_mut(&connection).filter(|wire| wire.coordinator_side) else { return };
        wire.down.push_back(frame);
        wire.last_down = wire.last_down.max(self.now + delay);
        self.agenda.push(wire.last_down, wire.worker, Happening::Frame { connection, up: false });
    }

    /// Sends a call to whichever coordinator is there; now and then it arrives twice, the second time late.
    pub fn send_call(&mut self, call: Call) {
        let Some(incarnation) = self.coordinator.serving() else { return };
        let times = 1 + u64::from(self.network.rng.chance(self.network.duplicates));
        for time in 0..times {
            let late = if time > 0 { self.network.rng.between(0, 8 * SECOND) } else { 0 };
            let at = self.now + self.network.delay() + late;
            if time > 0 {
                self.counts.fault("duplicate call");
                // A copy that a middle box kept may meet the next coordinator.
                self.agenda.push(at, Owner::Nature, Happening::Call(call.clone()));
            } else {
                self.agenda.push(at, Owner::Coordinator(incarnation), Happening::Call(call.clone()));
            }
        }
    }

    pub fn send_reply(&mut self, call: &Call, reply: Reply) {
        let delay = self.network.delay();
        let Some(wire) = self.network.connections.get(&call.connection).filter(|wire| wire.worker_side) else { return };
        let (connection, call) = (call.connection, call.number);
        self.agenda.push(self.now + delay, wire.worker, Happening::Reply { connection, call, reply });
    }

    /// One side has let go: the other sees it when the news gets through.
    pub fn hang_up(&mut self, connection: u64, by_worker: bool, silent: bool) {
        let delay = self.network.delay();
        let Some(wire) = self.network.connections.get_mut(&connection) else { return };
        let other = if by_worker { wire.coordinator } else { wire.worker };
        let listens = if by_worker { wire.coordinator_side } else { wire.worker_side };
        if by_worker {
            wire.worker_side = false;
        } else {
            wire.coordinator_side = false;
        }
        if listens {
            let last = if by_worker { wire.last_up } else { wire.last_down };
            // A machine that lost its power says nothing; the others' keep-alive finds out.
            let delay = if silent { KEEPALIVE } else { delay };
            self.agenda.push(last.max(self.now + delay), other, Happening::Broken { connection });
        } else {
            self.network.connections.remove(&connection);
        }
    }

    /// Both sides see the connection break.
    pub fn reset(&mut self, connection: u64) {
        let Some(wire) = self.network.connections.get(&connection) else { return };
        let sides = [(wire.worker, wire.worker_side), (wire.coordinator, wire.coordinator_side)];
        for (owner, _) in sides.into_iter().filter(|(_, holds)| *holds) {
            let delay = self.network.delay();
            self.agenda.push(self.now + delay, owner, Happening::Broken { connection });
        }
    }

    /// Blocks one or both directions of a machine's path until the cut is mended.
    pub fn cut(&mut self, machine: usize, up: bool, down: bool) -> u64 {
        let cut = self.network.next;
        self.network.next += 1;
        let path = &mut self.machines[machine].path;
        path.up = if up { Some(cut) } else { path.up };
        path.down = if down { Some(cut) } else { path.down };
        self.agenda.push(self.now + KEEPALIVE, Owner::Nature, Happening::Keepalive { machine, cut });
        cut
    }

    /// Ends a cut: what was held back goes on, in order.
    pub fn mend_path(&mut self, machine: usize, cut: u64) {
        let path = &mut self.machines[machine].path;
        path.up = path.up.filter(|by| *by != cut);
        path.down = path.down.filter(|by| *by != cut);
        let (up, down) = (path.up.is_some(), path.down.is_some());
        let (free, held) = std::mem::take(&mut path.held).into_iter().partition(|(is_up, ..)| !if *is_up { up } else { down });
        path.held = held;
        let free: Vec<(bool, Owner, Happening)> = free;
        for (_, owner, what) in free {
            // Retransmission; frames stay in order, since their queue gives them out in order.
            let late = self.network.rng.below(200 * MS);
            self.agenda.push(self.now + late, owner, what);
        }
    }

    /// A cut has lasted: the connections over it are given up by both sides, each by its own keep-alive.
    pub fn keepalive(&mut self, machine: usize, cut: u64) {
        let path = &mut self.machines[machine].path;
        if path.up != Some(cut) && path.down != Some(cut) {
            return;
        }
        path.held.clear();
        let over: Vec<u64> =
            self.network.connections.iter().filter(|(_, wire)| wire.machine == machine).map(|(number, _)| *number).collect();
        for connection in over {
            let wire = &self.network.connections[&connection];
            let sides = [(wire.worker, wire.worker_side), (wire.coordinator, wire.coordinator_side)];
            for (owner, _) in sides.into_iter().filter(|(_, holds)| *holds) {
                self.deliver(owner, Happening::Broken { connection });
            }
        }
    }

    /// Whether the path holds this back. Then it keeps it.
    pub fn is_held(&mut self, owner: Owner, what: Happening) -> Option<(Owner, Happening)> {
        let route = match &what {
            Happening::Frame { connection, up } => self.machine_of(*connection).map(|machine| (machine, *up)),
            Happening::Broken { connection } => {
                self.machine_of(*connection).map(|machine| (machine, matches!(owner, Owner::Coordinator(_))))
            }
            Happening::Reply { connection, .. } => self.machine_of(*connection).map(|machine| (machine, false)),
            Happening::Call(call) => Some((call.machine, true)),
            _ => None,
        };
        match route {
            Some((machine, up)) if self.machines[machine].path.blocks(up) => {
                self.machines[machine].path.held.push((up, owner, what));
                None
            }
            _ => Some((owner, what)),
        }
    }

    fn machine_of(&self, connection: u64) -> Option<usize> {
        self.network.connections.get(&connection).map(|wire| wire.machine)
    }
}
