//! A cluster in a process: workers that reduce ranges of shards, blocks that arrive in any order, caches that are lost,
//! coordinators that start again from bytes.

use sheaf_learn::algorithm::{Exchange, Progress};
use sheaf_learn::kernels::Level;
use sheaf_learn::program::{Chapters, Local, Partial, Program, State, Step, catch_up, chapters_from};
use sheaf_learn::shard::EncodedShard;
use sheaf_learn::tree::{Block, Merger};

use crate::cases::Case;

/// How a run is disturbed.
#[derive(Default)]
pub struct Trouble {
    /// Ends of the shard ranges of the workers; empty: one worker.
    pub cuts: Vec<usize>,
    /// Level of each worker in turn; empty: the widest.
    pub levels: Vec<Level>,
    /// Seed of the order of arrival; 0: in order.
    pub shuffle: u64,
    /// Ask every partial twice.
    pub twice: bool,
    /// Forget some caches before each step.
    pub forget: bool,
    /// Rebuild every program before each step, the state and the chapters from bytes.
    pub restart: bool,
    /// Merge partials along the tree also where they could be summed.
    pub merge: bool,
}

/// A generator of small numbers.
struct Draw(u64);

impl Draw {
    fn below(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below
    }

    /// The next of what is left: the first unless the order is shuffled.
    fn next(&mut self, trouble: &Trouble, left: usize) -> usize {
        if trouble.shuffle == 0 { 0 } else { self.below(left) }
    }
}

/// One step as several workers see it.
struct Round<'a> {
    number: usize,
    chapters: &'a Chapters,
    count: usize,
    message: Vec<u8>,
}

/// A cluster: workers reduce their ranges, the coordinator finishes.
struct Cluster<'a> {
    shards: &'a [EncodedShard],
    trouble: &'a Trouble,
    programs: Vec<Box<dyn Program>>,
    locals: Vec<Local>,
    draw: Draw,
}

impl<'a> Cluster<'a> {
    fn new(case: &Case, shards: &'a [EncodedShard], trouble: &'a Trouble) -> Self {
        let programs = Self::build(case, trouble);
        let locals = shards.iter().map(|_| programs[0].local()).collect();
        Self { shards, trouble, programs, locals, draw: Draw(trouble.shuffle) }
    }

    fn build(case: &Case, trouble: &Trouble) -> Vec<Box<dyn Program>> {
        let levels = if trouble.levels.is_empty() { vec![Level::detect()] } else { trouble.levels.clone() };
        levels.into_iter().map(|level| case.build_at(level)).collect()
    }

    /// The total of a step from every worker.
    fn step(&mut self, round: &Round<'_>) -> Option<Partial> {
        let sum = self.programs[0].exchange() == Exchange::Sum && !self.trouble.merge;
        let mut blocks = Vec::new();
        let mut first = 0;
        for (worker, end) in self.trouble.cuts.iter().copied().chain([self.shards.len()]).enumerate() {
            let own = (first..end).collect();
            let worker = worker % self.programs.len();
            blocks.extend(if sum { self.sum(worker, own, round) } else { self.reduce(worker, own, round) });
            first = end;
        }
        let program = self.programs[0].as_ref();
        let mut merger = Merger::new(self.shards.len() as u32);
        let mut total = None;
        while !blocks.is_empty() {
            let at = self.draw.next(self.trouble, blocks.len());
            let (block, partial) = blocks.remove(at);
            if sum {
                total = sheaf_learn::tree::join(total, partial, |a, b| program.merge(a, b)).unwrap();
            } else {
                merger.insert(block, partial, |a, b| program.merge(a, b)).unwrap();
            }
        }
        if sum { total } else { merger.total().expect("every shard is in") }
    }

    /// A worker's blocks along the tree.
    fn reduce(&mut self, worker: usize, mut own: Vec<usize>, round: &Round<'_>) -> Vec<(Block, Option<Partial>)> {
        let program = self.programs[worker].as_ref();
        let opened = program.open(round.chapters, round.count, &round.message).unwrap();
        let mut merger = Merger::new(self.shards.len() as u32);
        while !own.is_empty() {
            let i = own.remove(self.draw.next(self.trouble, own.len()));
            if self.trouble.forget && (i + round.number).is_multiple_of(3) {
                self.locals[i] = program.local();
            }
            let partial = opened.partial(&self.shards[i], &mut self.locals[i]);
            if self.trouble.twice {
                assert_eq!(opened.partial(&self.shards[i], &mut self.locals[i]), partial, "asked twice");
                ask_lean(opened.as_ref(), &self.shards[i], &mut self.locals[i], partial.as_ref());
            }
            merger.insert(Block { level: 0, index: i as u32 }, partial, |a, b| program.merge(a, b)).unwrap();
        }
        merger.into_blocks()
    }

    /// A worker's shards, added to two accumulators by chance, which then stand for blocks.
    fn sum(&mut self, worker: usize, mut own: Vec<usize>, round: &Round<'_>) -> Vec<(Block, Option<Partial>)> {
        let program = self.programs[worker].as_ref();
        let opened = program.open(round.chapters, round.count, &round.message).unwrap();
        let mut totals = [None, None];
        while !own.is_empty() {
            let i = own.remove(self.draw.next(self.trouble, own.len()));
            if self.trouble.forget && (i + round.number).is_multiple_of(3) {
                self.locals[i] = program.local();
            }
            let total = &mut totals[self.draw.below(2)];
            opened.accumulate(&self.shards[i], &mut self.locals[i], total).unwrap();
        }
        let any = Block { level: 0, index: 0 };
        totals.into_iter().map(|total| (any, total)).collect()
    }
}

/// A partial from what the local stands for, where it does.
fn ask_lean(step: &dyn Step, shard: &EncodedShard, local: &mut Local, expected: Option<&Partial>) {
    if !step.reads_columns(local) {
        let lean = EncodedShard { columns: Vec::new(), ..shard.clone() };
        assert_eq!(step.partial(&lean, local).as_ref(), expected, "asked without the columns");
    }
}

/// Runs as a cluster would.
pub fn run_cluster(case: &Case, shards: &[EncodedShard], trouble: &Trouble) -> String {
    let mut cluster = Cluster::new(case, shards, trouble);
    let mut state = cluster.programs[0].start().unwrap();
    let mut chapters = cluster.programs[0].chapters();
    for number in 0.. {
        if trouble.restart {
            let bytes = cluster.programs[0].save(&state).unwrap();
            cluster.programs = Cluster::build(case, trouble);
            state = cluster.programs[0].load(&bytes).unwrap();
            chapters = cluster.programs[0].chapters();
        }
        let program = cluster.programs[0].as_ref();
        let message = program.message(&state).unwrap();
        let count = catch_up(program, &state, &mut chapters).unwrap();
        let total = cluster.step(&Round { number, chapters: &chapters, count, message });
        if cluster.programs[0].update(&mut state, total).unwrap() == Progress::Done {
            return cluster.programs[0].finish(state).unwrap().to_string();
        }
    }
    unreachable!("a program ends")
}

/// A run that keeps every state it went through, as bytes.
pub struct Recorded {
    pub states: Vec<Vec<u8>>,
    pub chapters: Vec<Vec<u8>>,
    pub locals: Vec<Local>,
    pub result: String,
}

pub fn record(case: &Case, shards: &[EncodedShard]) -> Recorded {
    let trouble = Trouble::default();
    let mut cluster = Cluster::new(case, shards, &trouble);
    let mut state = cluster.programs[0].start().unwrap();
    let (mut states, mut chapters, mut decoded) = (Vec::new(), Vec::new(), cluster.programs[0].chapters());
    loop {
        let program = cluster.programs[0].as_ref();
        states.push(program.save(&state).unwrap());
        chapters.extend(chapters_from(program, &state, chapters.len()).unwrap());
        let count = catch_up(program, &state, &mut decoded).unwrap();
        let round = Round { number: 0, chapters: &decoded, count, message: program.message(&state).unwrap() };
        let total = cluster.step(&round);
        if cluster.programs[0].update(&mut state, total).unwrap() == Progress::Done {
            let result = cluster.programs[0].finish(state).unwrap().to_string();
            return Recorded { states, chapters, locals: cluster.locals, result };
        }
    }
}

/// Goes on from a state as a coordinator does that was restarted: what workers keep is newer than the state.
pub fn go_on(case: &Case, shards: &[EncodedShard], from: &[u8], recorded: &Recorded, locals: Vec<Local>) -> (String, Vec<Local>) {
    let trouble = Trouble::default();
    let mut cluster = Cluster { locals, ..Cluster::new(case, shards, &trouble) };
    let mut state: State = cluster.programs[0].load(from).unwrap();
    // The workers have all chapters already.
    let mut decoded = cluster.programs[0].chapters();
    recorded.chapters.iter().for_each(|chapter| cluster.programs[0].append(&mut decoded, chapter).unwrap());
    loop {
        let program = cluster.programs[0].as_ref();
        let own = chapters_from(program, &state, 0).unwrap();
        assert_eq!(own, recorded.chapters[..own.len()], "{case}: chapters changed");
        let round = Round { number: 0, chapters: &decoded, count: own.len(), message: program.message(&state).unwrap() };
        let total = cluster.step(&round);
        if cluster.programs[0].update(&mut state, total).unwrap() == Progress::Done {
            return (cluster.programs[0].finish(state).unwrap().to_string(), cluster.locals);
        }
    }
}
