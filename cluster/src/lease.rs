//! Who owes which shards of one step: orders with their tokens, and the verdict on what comes back.
//! A shard is owed by one worker at a time, under one token; what is revoked is owed no longer.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

use crate::coverage::{Block, Coverage, Insert};
use crate::id::{Stage, Step, Term, Token, WorkerId};
use crate::stage::count;

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

    /// Takes out a range that is held.
    fn remove(&mut self, range: &Range<u32>) {
        let at = self.ranges.partition_point(|held| held.end <= range.start);
        let held = self.ranges[at].clone();
        let parts = [held.start..range.start, range.end..held.end];
        self.ranges.splice(at..=at, parts.into_iter().filter(|part| !part.is_empty()));
    }
}

#[derive(Debug, Clone, Default)]
struct Holding {
    orders: Vec<Order>,
    owed: u32,
}

/// Tries of a shard that failed.
#[derive(Debug, Clone, Default)]
struct Tries {
    count: u32,
    workers: BTreeSet<WorkerId>,
}

/// What is to be done with a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accept,
    Refuse(Refusal),
    /// Its sender should have sent other blocks: some shards are in already, these are not, and nobody
    /// owes them any more.
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
    shards: u32,
    coverage: Coverage,
    holdings: BTreeMap<WorkerId, Holding>,
    tries: BTreeMap<u32, Tries>,
    /// Shards that nobody owes and that are not in.
    waiting: Vec<Range<u32>>,
}

impl StepRun {
    pub fn new(step: Step, shards: u32) -> Self {
        Self {
            step,
            shards,
            coverage: Coverage::new(shards),
            holdings: BTreeMap::new(),
            tries: BTreeMap::new(),
            waiting: Vec::new(),
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

    pub fn waiting(&self) -> u32 {
        count(&self.waiting)
    }

    /// The worker owes these shards from now on. Nobody else owes them and they are not in.
    pub fn grant(&mut self, worker: WorkerId, token: Token, ranges: Vec<Range<u32>>) {
        let holding = self.holdings.entry(worker).or_default();
        holding.owed += count(&ranges);
        holding.orders.push(Order { token, ranges });
    }

    /// Judges a block; one that is accepted is covered from now on.
    pub fn judge(&mut self, worker: WorkerId, term: Term, token: Token, block: Block, digest: u64) -> Verdict {
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
            Insert::Overlaps => return self.untangle(worker, token, range),
            Insert::Fresh => {}
        }
        let Some((_, owed)) = self.order(worker, token, &range) else {
            return Verdict::Refuse(Refusal::NotLeased);
        };
        *owed -= range.end - range.start;
        self.coverage.insert(range.clone(), digest);
        while let Some(shard) = self.tries.range(range.clone()).next().map(|(shard, _)| *shard) {
            self.tries.remove(&shard);
        }
        Verdict::Accept
    }

    /// The order under which the worker owes all of `range`, and the count of what it owes.
    fn order(&mut self, worker: WorkerId, token: Token, range: &Range<u32>) -> Option<(&mut Order, &mut u32)> {
        let holding = self.holdings.get_mut(&worker)?;
        let order = holding.orders.iter_mut().find(|order| order.token == token && order.holds(range))?;
        Some((order, &mut holding.owed))
    }

    /// A block that overlaps what is in. If its own sender owed all of it, that sender will not send the
    /// rest in other blocks: what is missing has to be ordered again.
    fn untangle(&mut self, worker: WorkerId, token: Token, range: Range<u32>) -> Verdict {
        let missing = self.coverage.missing(range.clone());
        let Some((order, owed)) = self.order(worker, token, &range).filter(|_| !missing.is_empty()) else {
            return Verdict::Refuse(Refusal::Covered);
        };
        missing.iter().for_each(|part| order.remove(part));
        *owed -= count(&missing);
        Verdict::Tangled(missing)
    }

    /// The worker is gone: what it owed is owed by nobody. Returns that, ascending.
    pub fn revoke(&mut self, worker: WorkerId) -> Vec<Range<u32>> {
        let Some(holding) = self.holdings.remove(&worker) else { return Vec::new() };
        let ranges = holding.orders.into_iter().flat_map(|order| order.ranges);
        let mut missing: Vec<_> = ranges.flat_map(|range| self.coverage.missing(range)).collect();
        missing.sort_by_key(|range| range.start);
        missing
    }

    /// Takes a failed shard from its worker. Returns how often it has failed; `None` if this worker does
    /// not owe it under this token.
    pub fn fail(&mut self, worker: WorkerId, token: Token, shard: u32) -> Option<u32> {
        if shard >= self.shards || self.coverage.contains(shard) {
            return None;
        }
        let range = shard..shard + 1;
        let (order, owed) = self.order(worker, token, &range)?;
        order.remove(&range);
        *owed -= 1;
        let tries = self.tries.entry(shard).or_default();
        tries.count += 1;
        tries.workers.insert(worker);
        Some(tries.count)
    }

    /// Whether the shard failed on this worker.
    pub fn failed_on(&self, shard: u32, worker: WorkerId) -> bool {
        self.tries.get(&shard).is_some_and(|tries| tries.workers.contains(&worker))
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
mod tests {
    #![expect(clippy::single_range_in_vec_init, reason = "lists of ranges are meant")]

    use super::*;

    const W1: WorkerId = WorkerId(1);
    const W2: WorkerId = WorkerId(2);

    fn step() -> (StepRun, Token, Token) {
        let mut tokens = Tokens::new(Term(3));
        let (old, new) = (tokens.mint(), tokens.mint());
        let mut run = StepRun::new(Step(0), 8);
        run.grant(W1, old, vec![0..4]);
        run.grant(W2, old, vec![4..8]);
        (run, old, new)
    }

    fn judge(run: &mut StepRun, worker: WorkerId, token: Token, level: u32, index: u32, digest: u64) -> Verdict {
        run.judge(worker, Term(3), token, Block { level, index }, digest)
    }

    #[test]
    fn blocks_of_a_lease_are_taken_once() {
        let (mut run, token, _) = step();
        assert_eq!(judge(&mut run, W1, token, 2, 0, 7), Verdict::Accept);
        assert_eq!(run.owed(W1), 0);
        assert_eq!(judge(&mut run, W1, token, 2, 0, 7), Verdict::Refuse(Refusal::Repeated));
        assert_eq!(judge(&mut run, W1, token, 1, 0, 7), Verdict::Refuse(Refusal::Covered));
        assert_eq!(judge(&mut run, W1, token, 2, 0, 8), Verdict::Nondeterministic(0..4));
        assert_eq!(judge(&mut run, W1, token, 2, 1, 8), Verdict::Refuse(Refusal::NotLeased));
        assert_eq!(judge(&mut run, W2, token, 9, 0, 8), Verdict::Refuse(Refusal::NoSuchBlock { shards: 8 }));
        let stale = Token { term: Term(2), ..token };
        assert_eq!(judge(&mut run, W2, stale, 2, 1, 8), Verdict::Refuse(Refusal::OtherTerm { current: Term(3) }));
        assert_eq!(judge(&mut run, W2, token, 2, 1, 8), Verdict::Accept);
        assert!(run.is_complete());
    }

    #[test]
    fn a_revoked_lease_leaves_what_is_not_in() {
        let (mut run, token, newer) = step();
        assert_eq!(judge(&mut run, W1, token, 0, 1, 7), Verdict::Accept);
        assert_eq!(run.revoke(W1), vec![0..1, 2..4]);
        run.grant(W2, newer, vec![0..1, 2..4]);
        assert_eq!(judge(&mut run, W1, token, 1, 1, 7), Verdict::Refuse(Refusal::NotLeased));
        assert_eq!(judge(&mut run, W2, token, 1, 1, 7), Verdict::Refuse(Refusal::NotLeased));
        assert_eq!(judge(&mut run, W2, newer, 1, 1, 7), Verdict::Accept);
        assert_eq!(run.owed(W2), 5);
    }

    #[test]
    fn a_failed_shard_is_owed_no_longer() {
        let (mut run, token, newer) = step();
        assert_eq!(run.fail(W1, token, 4), None);
        assert_eq!(run.fail(W1, newer, 1), None);
        assert_eq!(run.fail(W1, token, 1), Some(1));
        assert_eq!(run.fail(W1, token, 1), None);
        assert!(run.failed_on(1, W1) && !run.failed_on(1, W2));
        assert_eq!(judge(&mut run, W1, token, 1, 0, 7), Verdict::Refuse(Refusal::NotLeased));
        assert_eq!(judge(&mut run, W1, token, 0, 0, 7), Verdict::Accept);
        assert_eq!(run.owed(W1), 2);
        run.grant(W2, newer, vec![1..2]);
        assert_eq!(run.fail(W2, newer, 1), Some(2));
        run.grant(W1, newer, vec![1..2]);
        assert_eq!(judge(&mut run, W1, newer, 0, 1, 7), Verdict::Accept);
        assert!(!run.failed_on(1, W1));
    }

    #[test]
    fn a_tangled_block_leaves_what_is_not_in_to_be_ordered_again() {
        let (mut run, token, newer) = step();
        assert_eq!(judge(&mut run, W1, token, 0, 1, 7), Verdict::Accept);
        assert_eq!(judge(&mut run, W2, token, 2, 0, 7), Verdict::Refuse(Refusal::Covered));
        assert_eq!(judge(&mut run, W1, token, 2, 0, 7), Verdict::Tangled(vec![0..1, 2..4]));
        assert_eq!(run.owed(W1), 0);
        assert_eq!(judge(&mut run, W1, token, 2, 0, 7), Verdict::Refuse(Refusal::Covered));
        run.grant(W1, newer, vec![0..1, 2..4]);
        assert_eq!(judge(&mut run, W1, newer, 0, 0, 7), Verdict::Accept);
        assert_eq!(judge(&mut run, W1, newer, 1, 1, 7), Verdict::Accept);
    }
}
