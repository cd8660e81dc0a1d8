//! Who owes which shards of one step: orders with their tokens, and the verdict on what comes back.
//! A shard is owed by one worker under one token, or by a second one too while the first is late; what is
//! revoked is owed no longer, and what is in is owed by nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::coverage::{Block, Coverage, Insert};
use crate::id::{Millis, Stage, Step, Term, Token, WorkerId};
use crate::stage::{count, push_joined};
use crate::suspect::Suspicion;

/// A lease, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseStatus {
    /// Which stage.
    pub stage: Stage,
    /// Which step.
    pub step: Step,
    /// Who holds it.
    pub worker: WorkerId,
    /// Under which token.
    pub token: Token,
    /// Which shards.
    pub ranges: Vec<Range<u32>>,
}

/// Makes tokens: each is greater than all before.
#[derive(Debug, Clone)]
pub(crate) struct Tokens {
    last: Token,
}

impl Tokens {
    pub fn new(term: Term) -> Self {
        Self { last: Token { term, ..Token::default() } }
    }

    pub fn term(&self) -> Term {
        self.last.term
    }

    pub fn mint(&mut self) -> Token {
        self.last.generation.0 += 1;
        self.last
    }
}

#[derive(Debug, Clone)]
struct Order {
    token: Token,
    ranges: Vec<Range<u32>>,
}

impl Order {
    /// Whether all of `range` is asked for here.
    fn holds(&self, range: &Range<u32>) -> bool {
        let at = self.ranges.partition_point(|held| held.end <= range.start);
        self.ranges.get(at).is_some_and(|held| held.start <= range.start && range.end <= held.end)
    }

    /// The parts of `range` that are asked for here.
    fn within(&self, range: &Range<u32>) -> Vec<Range<u32>> {
        let at = self.ranges.partition_point(|held| held.end <= range.start);
        let held = self.ranges[at..].iter().take_while(|held| held.start < range.end);
        held.map(|held| held.start.max(range.start)..held.end.min(range.end)).collect()
    }

    /// Takes out a range that is held.
    fn remove(&mut self, range: &Range<u32>) {
        let at = self.ranges.partition_point(|held| held.end <= range.start);
        let held = self.ranges[at].clone();
        let parts = [held.start..range.start, range.end..held.end];
        self.ranges.splice(at..=at, parts.into_iter().filter(|part| !part.is_empty()));
    }
}

/// What one worker has to do with a step.
#[derive(Debug, Clone)]
struct Holding {
    orders: Vec<Order>,
    /// Shards that it owes.
    owed: u32,
    /// Shards that were ever ordered from it, and those that it delivered itself.
    granted: u32,
    delivered: u32,
    /// When it was first asked for something, when last, and since when it owes nothing.
    since: Millis,
    last: Millis,
    done: Option<Millis>,
}

impl Holding {
    /// It owes so many shards less.
    fn settle(&mut self, shards: u32, now: Millis) {
        self.owed -= shards;
        if self.owed == 0 {
            self.done = Some(now);
        }
    }
}

/// A run of shards that two workers owe: the one that was asked first and the one that helps.
#[derive(Debug, Clone, Copy)]
struct Double {
    end: u32,
    first: WorkerId,
    second: WorkerId,
}

impl Double {
    fn is_of(&self, worker: WorkerId) -> bool {
        self.first == worker || self.second == worker
    }
}

/// Tries of a shard that failed or lost its workers.
#[derive(Debug, Clone, Default)]
struct Tries {
    failures: u32,
    workers: BTreeSet<WorkerId>,
    suspicion: Suspicion,
}

/// What a worker owed when it was taken out of a step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Lost {
    /// All of it, ascending.
    pub owed: Vec<Range<u32>>,
    /// The part of it that nobody else owes, ascending.
    pub missing: Vec<Range<u32>>,
}

/// A shard that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failed {
    /// How often it has failed.
    pub times: u32,
    /// Whether nobody owes it now.
    pub missing: bool,
}

/// How one worker did in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Turn {
    pub worker: WorkerId,
    /// Shards that it was asked for, and that it delivered itself.
    pub granted: u32,
    pub delivered: u32,
    /// When it was first asked, when last, and since when it owes nothing; `None`: it does.
    pub since: Millis,
    pub last: Millis,
    pub done: Option<Millis>,
    pub owed: u32,
}

/// What is to be done with a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accept,
    Refuse(Refusal),
    /// Its sender should have sent other blocks: some shards are in already; these are not, and nobody
    /// owes them any more (none, if somebody else does).
    Tangled(Vec<Range<u32>>),
    /// Two copies of the same block differ.
    Nondeterministic(Range<u32>),
}

/// Why a block is thrown away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    NoStep,
    OtherStep { current: Step },
    OtherTerm { current: Term },
    NoSuchBlock { shards: u32 },
    Repeated,
    Covered,
    NotLeased,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NoStep => f.write_str("no step has begun"),
            Refusal::OtherStep { current } => write!(f, "the stage is at step {current}"),
            Refusal::OtherTerm { current } => write!(f, "the term is {current}"),
            Refusal::NoSuchBlock { shards } => write!(f, "the tree over {shards} shards has no such block"),
            Refusal::Repeated => f.write_str("the same block came before"),
            Refusal::Covered => f.write_str("some of its shards are in already"),
            Refusal::NotLeased => f.write_str("the worker holds no lease on all of its shards under this token"),
        }
    }
}

/// One step: who owes what, and what is in.
#[derive(Debug, Clone)]
pub(crate) struct StepRun {
    pub step: Step,
    pub begun: Millis,
    shards: u32,
    coverage: Coverage,
    holdings: BTreeMap<WorkerId, Holding>,
    /// Shards that two workers owe, by first shard. Nothing is owed by three.
    doubles: BTreeMap<u32, Double>,
    tries: BTreeMap<u32, Tries>,
    /// Shards that nobody owes and that are not in.
    waiting: Vec<Range<u32>>,
    /// The same of suspects that must be computed alone.
    apart: BTreeSet<u32>,
}

impl StepRun {
    pub fn new(step: Step, shards: u32, begun: Millis) -> Self {
        Self {
            step,
            begun,
            shards,
            coverage: Coverage::new(shards),
            holdings: BTreeMap::new(),
            doubles: BTreeMap::new(),
            tries: BTreeMap::new(),
            waiting: Vec::new(),
            apart: BTreeSet::new(),
        }
    }

    pub fn is_complete(&self) -> bool {
        self.coverage.is_complete()
    }

    pub fn covered(&self) -> u32 {
        self.coverage.covered()
    }

    pub fn owed(&self, worker: WorkerId) -> u32 {
        self.holdings.get(&worker).map_or(0, |holding| holding.owed)
    }

    pub fn busy(&self) -> usize {
        self.holdings.values().filter(|holding| holding.owed > 0).count()
    }

    /// Shards that nobody owes and that are not in.
    pub fn waiting(&self) -> u32 {
        count(&self.waiting) + self.apart.len() as u32
    }

    /// The worker owes these shards from now on. Nobody else owes them and they are not in.
    pub fn grant(&mut self, worker: WorkerId, token: Token, ranges: Vec<Range<u32>>, now: Millis) {
        let fresh = || Holding { orders: Vec::new(), owed: 0, granted: 0, delivered: 0, since: now, last: now, done: None };
        let holding = self.holdings.entry(worker).or_insert_with(fresh);
        let shards = count(&ranges);
        holding.owed += shards;
        holding.granted += shards;
        (holding.last, holding.done) = (now, None);
        holding.orders.push(Order { token, ranges });
    }

    /// The worker owes these shards beside the one that was asked first, who alone owes them so far.
    pub fn double(&mut self, worker: WorkerId, token: Token, ranges: &[(WorkerId, Range<u32>)], now: Millis) {
        for (first, range) in ranges {
            self.doubles.insert(range.start, Double { end: range.end, first: *first, second: worker });
        }
        let mut joined = Vec::new();
        ranges.iter().for_each(|(_, range)| push_joined(&mut joined, range.clone()));
        self.grant(worker, token, joined, now);
    }

    /// Judges a block; one that is accepted is covered from now on.
    pub fn judge(&mut self, from: (WorkerId, Token), term: Term, block: Block, digest: u64, now: Millis) -> Verdict {
        let (worker, token) = from;
        if token.term != term {
            return Verdict::Refuse(Refusal::OtherTerm { current: term });
        }
        if !block.fits(self.shards) {
            return Verdict::Refuse(Refusal::NoSuchBlock { shards: self.shards });
        }
        let range = block.range(self.shards);
        // Compared whatever the token: a late copy is a free test of the promise.
        match self.coverage.check(range.clone(), digest) {
            Insert::Repeated => return Verdict::Refuse(Refusal::Repeated),
            Insert::Differs => return Verdict::Nondeterministic(range),
            Insert::Overlaps => return self.untangle(worker, token, range, now),
            Insert::Fresh => {}
        }
        if !self.order(worker, token).is_some_and(|order| order.holds(&range)) {
            return Verdict::Refuse(Refusal::NotLeased);
        }
        self.coverage.insert(range.clone(), digest);
        self.settle(worker, range.end - range.start, now);
        if let Some(holding) = self.holdings.get_mut(&worker) {
            holding.delivered += range.end - range.start;
        }
        for (part, double) in self.undouble(&range) {
            let other = if double.first == worker { double.second } else { double.first };
            self.settle(other, part.end - part.start, now);
        }
        while let Some(shard) = self.tries.range(range.clone()).next().map(|(shard, _)| *shard) {
            self.tries.remove(&shard);
        }
        Verdict::Accept
    }

    fn order(&mut self, worker: WorkerId, token: Token) -> Option<&mut Order> {
        // Tokens differ between the orders of one worker in one step.
        self.holdings.get_mut(&worker)?.orders.iter_mut().find(|order| order.token == token)
    }

    fn settle(&mut self, worker: WorkerId, shards: u32, now: Millis) {
        if let Some(holding) = self.holdings.get_mut(&worker) {
            holding.settle(shards, now);
        }
    }

    /// Takes the parts of `range` that two workers owe out of the list of such parts.
    fn undouble(&mut self, range: &Range<u32>) -> Vec<(Range<u32>, Double)> {
        let mut found = Vec::new();
        while let Some((start, double)) = self.doubles.range(..range.end).next_back().map(|(start, double)| (*start, *double)) {
            if double.end <= range.start {
                break;
            }
            self.doubles.remove(&start);
            if start < range.start {
                self.doubles.insert(start, Double { end: range.start, ..double });
            }
            if double.end > range.end {
                self.doubles.insert(range.end, double);
            }
            found.push((start.max(range.start)..double.end.min(range.end), double));
        }
        found.reverse();
        found
    }

    /// Takes shards that the worker owes under this token, and that are not in, from it. Returns those that
    /// it owed, and of these the ones that nobody owes now.
    fn take(&mut self, worker: WorkerId, token: Token, range: &Range<u32>, now: Millis) -> Lost {
        let missing = self.coverage.missing(range.clone());
        let Some(order) = self.order(worker, token) else { return Lost::default() };
        let held: Vec<Range<u32>> = missing.iter().flat_map(|part| order.within(part)).collect();
        held.iter().for_each(|part| order.remove(part));
        self.settle(worker, count(&held), now);
        let missing = held.iter().flat_map(|part| self.single(worker, part)).collect();
        Lost { owed: held, missing }
    }

    /// The worker no longer owes `range`: the parts of it that nobody else owes.
    fn single(&mut self, worker: WorkerId, range: &Range<u32>) -> Vec<Range<u32>> {
        let mut alone = Vec::new();
        let mut at = range.start;
        for (part, double) in self.undouble(range) {
            debug_assert!(double.is_of(worker), "only its own shards are taken from a worker");
            if at < part.start {
                alone.push(at..part.start);
            }
            at = part.end;
        }
        if at < range.end {
            alone.push(at..range.end);
        }
        alone
    }

    /// A block that overlaps what is in. If its own sender owed all of it, that sender will not send the
    /// rest in other blocks: what is missing has to be ordered again.
    fn untangle(&mut self, worker: WorkerId, token: Token, range: Range<u32>, now: Millis) -> Verdict {
        let holds = self.order(worker, token).is_some_and(|order| order.holds(&range));
        if !holds || self.coverage.missing(range.clone()).is_empty() {
            return Verdict::Refuse(Refusal::Covered);
        }
        Verdict::Tangled(self.take(worker, token, &range, now).missing)
    }

    /// The worker is gone: it owes nothing any more.
    pub fn revoke(&mut self, worker: WorkerId) -> Lost {
        let Some(holding) = self.holdings.remove(&worker) else { return Lost::default() };
        let ranges = holding.orders.into_iter().flat_map(|order| order.ranges);
        let mut owed: Vec<_> = ranges.flat_map(|range| self.coverage.missing(range)).collect();
        owed.sort_by_key(|range| range.start);
        let missing = owed.iter().flat_map(|range| self.single(worker, range)).collect();
        Lost { owed, missing }
    }

    /// Takes a failed shard from its worker; `None` if this worker does not owe it under this token.
    pub fn fail(&mut self, worker: WorkerId, token: Token, shard: u32, now: Millis) -> Option<Failed> {
        if shard >= self.shards {
            return None;
        }
        let lost = self.take(worker, token, &(shard..shard + 1), now);
        if lost.owed.is_empty() {
            return None;
        }
        let tries = self.tries.entry(shard).or_default();
        tries.failures += 1;
        tries.workers.insert(worker);
        Some(Failed { times: tries.failures, missing: !lost.missing.is_empty() })
    }

    /// Takes shards back from their worker, as far as it owes them under this token. Returns those that
    /// nobody owes now.
    pub fn give_back(&mut self, worker: WorkerId, token: Token, ranges: &[Range<u32>], now: Millis) -> Vec<Range<u32>> {
        let shards = self.shards;
        let legal = ranges.iter().filter(|range| range.start < range.end && range.end <= shards);
        let mut missing: Vec<Range<u32>> = legal.flat_map(|range| self.take(worker, token, range, now).missing).collect();
        missing.sort_by_key(|range| range.start);
        missing
    }

    /// Whether the shard failed on this worker.
    pub fn failed_on(&self, shard: u32, worker: WorkerId) -> bool {
        self.tries.get(&shard).is_some_and(|tries| tries.workers.contains(&worker))
    }

    /// A worker was lost that owed the shard. Returns what is held against the shard now.
    pub fn suspect(&mut self, shard: u32, end: Arc<str>, loss: Option<u64>) -> &Suspicion {
        let suspicion = &mut self.tries.entry(shard).or_default().suspicion;
        suspicion.add(end, loss);
        suspicion
    }

    /// What is held against a shard.
    pub fn suspicion(&self, shard: u32) -> Option<&Suspicion> {
        self.tries.get(&shard).map(|tries| &tries.suspicion).filter(|suspicion| suspicion.count() > 0)
    }

    /// Suspects among these shards, ascending.
    pub fn suspects(&self, range: Range<u32>) -> impl Iterator<Item = (u32, &Suspicion)> {
        self.tries.range(range).map(|(shard, tries)| (*shard, &tries.suspicion)).filter(|(_, suspicion)| suspicion.count() > 0)
    }

    /// Puts shards aside until somebody is there to compute them.
    pub fn set_aside(&mut self, ranges: Vec<Range<u32>>) {
        self.waiting.extend(ranges);
        self.waiting.sort_by_key(|range| range.start);
    }

    /// Takes back what was put aside.
    pub fn take_waiting(&mut self) -> Vec<Range<u32>> {
        std::mem::take(&mut self.waiting)
    }

    /// Whether shards were put aside.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Puts a shard aside until a worker is free to compute it and nothing else.
    pub fn set_apart(&mut self, shard: u32) {
        self.apart.insert(shard);
    }

    /// Shards that wait to be computed alone.
    pub fn apart(&self) -> &BTreeSet<u32> {
        &self.apart
    }

    /// Takes the next shard that waits to be computed alone.
    pub fn next_apart(&mut self) -> Option<u32> {
        self.apart.pop_first()
    }

    /// Whether the worker owes this shard.
    pub fn owes(&self, worker: WorkerId, shard: u32) -> bool {
        let orders = self.holdings.get(&worker).map_or(&[][..], |holding| &holding.orders);
        !self.coverage.contains(shard) && orders.iter().any(|order| order.holds(&(shard..shard + 1)))
    }

    /// How everybody did so far.
    pub fn turns(&self) -> impl Iterator<Item = Turn> {
        self.holdings.iter().map(|(worker, holding)| Turn {
            worker: *worker,
            granted: holding.granted,
            delivered: holding.delivered,
            since: holding.since,
            last: holding.last,
            done: holding.done,
            owed: holding.owed,
        })
    }

    /// What the worker owes and nobody else does, ascending.
    pub fn sole(&self, worker: WorkerId) -> Vec<Range<u32>> {
        let orders = self.holdings.get(&worker).map_or(&[][..], |holding| &holding.orders);
        let mut owed: Vec<_> =
            orders.iter().flat_map(|o| o.ranges.iter().cloned()).flat_map(|r| self.coverage.missing(r)).collect();
        owed.sort_by_key(|range| range.start);
        owed.into_iter().flat_map(|range| self.without_doubles(range)).collect()
    }

    fn without_doubles(&self, range: Range<u32>) -> Vec<Range<u32>> {
        let mut at = range.start;
        let mut parts = Vec::new();
        let before = self.doubles.range(..range.start).next_back();
        for (start, double) in before.into_iter().chain(self.doubles.range(range.clone())) {
            if at < *start {
                parts.push(at..*start);
            }
            at = at.max(double.end);
        }
        if at < range.end {
            parts.push(at..range.end);
        }
        parts
    }

    /// Leases with the shards still owed under them.
    pub fn leases(&self, stage: &Stage) -> Vec<LeaseStatus> {
        let mut leases = Vec::new();
        for (worker, holding) in &self.holdings {
            for order in &holding.orders {
                let ranges: Vec<_> = order.ranges.iter().flat_map(|r| self.coverage.missing(r.clone())).collect();
                if !ranges.is_empty() {
                    let (stage, worker, token) = (stage.clone(), *worker, order.token);
                    leases.push(LeaseStatus { stage, step: self.step, worker, token, ranges });
                }
            }
        }
        leases
    }
}

#[cfg(test)]
mod tests;
