//! The world: all machines, what is due next, and the loop that lets it happen.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use sheaf_cluster::{Event, JobId, WorkerId};

use super::agenda::{Agenda, Happening, Owner, SECOND};
use super::character::Character;
use super::clients::{Client, Errand};
use super::coordinator::Coordinator;
use super::disk::{Disk, Store};
use super::invariants::{Breach, Fact, Watch};
use super::mutation::Mutation;
use super::network::Network;
use super::problem::Payload;
use super::report::{Counts, Failure, Verdict};
use super::rng::Rng;
use super::trace::Trace;
use super::worker::Machine;

/// How long after the storm every job must have come to its end, µs.
pub(super) const HEALS_WITHIN: u64 = 120 * SECOND;

/// Everything there is.
pub(super) struct World {
    pub now: u64,
    pub agenda: Agenda,
    pub trace: Trace,
    pub chaos: Rng,
    pub character: Character,
    pub network: Network,
    pub store: Store,
    pub coordinator: Coordinator,
    pub machines: Vec<Machine>,
    pub clients: Vec<Client>,
    pub watch: Watch,
    pub counts: Counts,
    pub mutation: Option<Mutation>,
    pub is_calm: bool,
    pub next_job: u64,
    /// What the event loop is to tell the engine; the first is in hand.
    pub inbox: VecDeque<(Event, Option<(WorkerId, Payload)>)>,
    /// When the drivers' supervisor has taken all its orders.
    pub drivers_free: u64,
}

/// Runs a seed to its end. `trace` prints every line of it.
pub fn run(seed: u64, mutation: Option<Mutation>, trace: bool) -> Verdict {
    let mut world = World::new(seed, mutation, trace);
    let ended = catch_unwind(AssertUnwindSafe(|| world.go()));
    if let Err(panic) = ended {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        world.violated("no panics", text.unwrap_or_else(|| "a panic without words".to_owned()));
    }
    world.verdict(seed)
}

impl World {
    fn new(seed: u64, mutation: Option<Mutation>, print: bool) -> Self {
        let mut rng = Rng::new(seed, "character");
        let character = Character::draw(&mut rng);
        let network = Network::new(Rng::new(seed, "network"), character.delay, character.laggards, character.duplicates);
        let mut people = Rng::new(seed, "clients");
        let clients = (0..character.clients).map(|n| Client::new(n, &mut people, character.poison, character.deadlines));
        let mut world = Self {
            now: 0,
            agenda: Agenda::default(),
            trace: Trace::new(print),
            chaos: Rng::new(seed, "chaos"),
            network,
            store: Store::new(Rng::new(seed, "store")),
            coordinator: Coordinator::new(Disk::new(Rng::new(seed, "disk"))),
            machines: (0..character.workers).map(|_| Machine::new(rng.between(1, 4) as u32, rng.between(700, 1300))).collect(),
            clients: clients.collect(),
            watch: Watch::default(),
            counts: Counts::default(),
            mutation,
            is_calm: false,
            next_job: 0,
            inbox: VecDeque::new(),
            drivers_free: 0,
            character,
        };
        note!(world, "seed {seed}: {:?}", world.character);
        world.prepare(&mut people);
        world
    }

    fn prepare(&mut self, people: &mut Rng) {
        self.boot_coordinator();
        for machine in 0..self.machines.len() {
            self.boot_worker(machine);
        }
        for client in 0..self.clients.len() {
            let at = people.below(self.character.storm * 2 / 3);
            self.agenda.push(at, Owner::Nature, Happening::Client(client, Errand::Submit));
        }
        if !self.character.faults.is_empty() {
            self.agenda.push(self.chaos.below(2 * self.character.every), Owner::Nature, Happening::Strike);
        }
        self.agenda.push(self.character.storm, Owner::Nature, Happening::Calm);
    }

    fn go(&mut self) {
        let end = self.character.storm + HEALS_WITHIN;
        while self.watch.breach.is_none() && !(self.is_calm && self.clients.iter().all(Client::is_done)) {
            let Some((at, owner, what)) = self.agenda.pop() else { break };
            if at > end {
                break;
            }
            self.now = at;
            self.counts.events += 1;
            if let Some((owner, what)) = self.is_held(owner, what) {
                self.deliver(owner, what);
            }
        }
        let unfinished = self.unfinished();
        self.watch.see(&Fact::Over { unfinished: &unfinished });
    }

    fn unfinished(&self) -> Vec<String> {
        let waits = |job: &JobId| {
            let mind = self.coordinator.process.as_ref()?.mind.as_ref()?;
            mind.engine.waiting(job).map(|waiting| waiting.to_string())
        };
        let left = self.clients.iter().enumerate().filter(|(_, client)| !client.is_done());
        let tell = |(number, client): (usize, &Client)| match &client.job {
            Some(job) => format!("{job} of client {number}, which {}", waits(job).unwrap_or_else(|| "is under way".to_owned())),
            None => format!("the submit of client {number}"),
        };
        left.map(tell).collect()
    }

    /// Hands something to whom it concerns, if it lives and is not stopped.
    pub fn deliver(&mut self, owner: Owner, what: Happening) {
        let (alive, backlog) = match owner {
            Owner::Nature => (true, None),
            Owner::Coordinator(incarnation) => (
                self.coordinator.process.is_some() && self.coordinator.incarnation == incarnation,
                self.coordinator.backlog.as_mut(),
            ),
            Owner::Worker(machine, incarnation) => {
                let place = &mut self.machines[machine];
                (place.is_up() && place.incarnation == incarnation, place.backlog.as_mut())
            }
        };
        match (alive, backlog) {
            (false, _) => {}
            (true, Some(backlog)) => backlog.push((owner, what)),
            (true, None) => self.happen(owner, what),
        }
    }

    fn happen(&mut self, owner: Owner, what: Happening) {
        match (owner, what) {
            (_, Happening::Frame { connection, up: true }) => {
                let wire = self.network.connections.get_mut(&connection);
                if let Some(frame) = wire.filter(|wire| wire.coordinator_side).and_then(|wire| wire.up.pop_front()) {
                    self.coordinator_hears(connection, frame);
                }
            }
            (Owner::Worker(machine, _), Happening::Frame { connection, up: false }) => {
                let wire = self.network.connections.get_mut(&connection);
                if let Some(frame) = wire.filter(|wire| wire.worker_side).and_then(|wire| wire.down.pop_front()) {
                    self.worker_hears(machine, connection, frame);
                }
            }
            (Owner::Worker(machine, _), what) => self.happen_to_worker(machine, what),
            (_, what) => self.happen_elsewhere(owner, what),
        }
    }

    fn happen_to_worker(&mut self, machine: usize, what: Happening) {
        match what {
            Happening::Reply { connection, call, reply } => self.reply_arrives(machine, connection, call, reply),
            Happening::Broken { connection } => self.drop_session(machine, connection),
            Happening::Connect => self.dial(machine),
            Happening::Beat { connection } => self.beat(machine, connection),
            Happening::Opened { connection, stage, token } => self.stage_opened(machine, connection, stage, token),
            Happening::Computed { connection, task } => self.computed(machine, connection, task),
            Happening::GiveUp => self.kill_worker(machine, false),
            other => self.violated("protocol", format!("a worker got {other:?}")),
        }
    }

    fn happen_elsewhere(&mut self, owner: Owner, what: Happening) {
        match what {
            Happening::Call(call) if self.coordinator.backlog.is_some() && owner == Owner::Nature => {
                self.deliver(self.coordinator.owner(), Happening::Call(call));
            }
            Happening::Call(call) => self.called(call),
            Happening::Broken { connection } => self.stream_broke(connection),
            Happening::Keepalive { machine, cut } => self.keepalive(machine, cut),
            Happening::Tick => self.tick(),
            Happening::Synced => {
                if !self.dies_here() {
                    self.synced();
                }
            }
            Happening::Host { stage, life } => self.host_turns(&stage, life),
            Happening::Done(then) => {
                if !self.dies_here() {
                    self.go_on(then, None);
                }
            }
            Happening::Strike => self.strike(),
            Happening::Calm => self.calm_down(),
            Happening::Mend(mend) => self.mend(mend),
            Happening::Client(client, errand) => self.client_acts(client, errand),
            Happening::Request { client, number, request } => self.requested(client, number, request),
            Happening::Answer { client, number, job, answer } => self.client_hears(client, number, job, answer),
            other => self.violated("protocol", format!("nobody expects {other:?}")),
        }
    }

    /// Between an object and its pointer, an entry and its answer, the coordinator may die.
    fn dies_here(&mut self) -> bool {
        let dies = !self.is_calm && self.chaos.chance(self.character.crash_points);
        if dies && self.crash_coordinator() {
            self.counts.fault("coordinator killed between two writes");
        }
        dies
    }

    /// Something that the simulation itself takes for a breach.
    pub fn violated(&mut self, invariant: &'static str, what: String) {
        if self.watch.breach.is_none() {
            self.watch.breach = Some(Breach { invariant, what });
        }
    }

    fn verdict(mut self, seed: u64) -> Verdict {
        self.counts.simulated = self.now;
        let failure = self.watch.breach.take().map(|breach| Failure {
            seed,
            character: self.character.name,
            invariant: breach.invariant,
            what: breach.what,
            at: self.now,
            mutation: self.mutation,
            last: self.trace.last(),
        });
        Verdict {
            seed,
            character: self.character.name,
            hash: self.trace.hash(),
            lines: self.trace.lines(),
            counts: self.counts,
            failure,
        }
    }
}
