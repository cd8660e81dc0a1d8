//! The size that is promised: 1,000 workers, 100,000 shards, in one step, over many, and with many of the
//! workers dying one by one. Nothing is timed (a test that looks at a clock is a coin toss): a quadratic
//! loop would show itself by minutes where seconds are usual.

use std::collections::BTreeMap;
use std::ops::Range;

use sheaf_cluster::coverage::cover;
use sheaf_cluster::{Command, Engine, Event, Millis, Options, Stage, StagePlan, Step, Term, Token, WorkerId};

const WORKERS: u64 = 1_000;
const SHARDS: u32 = 100_000;

struct Cluster {
    engine: Engine,
    stage: Stage,
    orders: Vec<(WorkerId, Token, Vec<Range<u32>>)>,
    completed: usize,
    opened: BTreeMap<WorkerId, (Token, Stage)>,
    computed: BTreeMap<WorkerId, u32>,
}

impl Cluster {
    fn new(unit: usize) -> Self {
        Self::of(WORKERS, unit)
    }

    fn of(workers: u64, unit: usize) -> Self {
        let stage = Stage { job: "a".into(), number: 0 };
        let (orders, computed) = (Vec::new(), BTreeMap::new());
        let engine = Engine::new(Options::default(), Term(1));
        let mut cluster = Cluster { engine, stage: stage.clone(), orders, completed: 0, opened: BTreeMap::new(), computed };
        for worker in 1..=workers {
            cluster.tell(Event::WorkerJoined { worker: WorkerId(worker), threads: 16 });
        }
        let (job, namespace, submitted) = ("a".into(), "n".to_owned(), Millis(0));
        cluster.tell(Event::JobQueued { job, namespace, priority: 0, deadline: None, submitted });
        let plan = StagePlan::shards(SHARDS, (0..SHARDS).step_by(unit).collect(), Some(1));
        cluster.tell(Event::StageOpened { stage, plan });
        cluster
    }

    fn tell(&mut self, event: Event) {
        for command in self.engine.handle(event, Millis(0)) {
            match command {
                Command::Compute { worker, token, ranges, .. } => self.orders.push((worker, token, ranges)),
                Command::CompleteStep { .. } => self.completed += 1,
                Command::OpenStage { worker, stage, token, .. } => {
                    self.opened.insert(worker, (token, stage));
                }
                Command::Accept { .. } | Command::StartJob { .. } | Command::Note(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn begin(&mut self, step: u64) {
        self.tell(Event::StepReady { stage: self.stage.clone(), step: Step(step) });
    }

    fn lose(&mut self, worker: WorkerId) {
        self.orders.retain(|(to, _, _)| *to != worker);
        self.tell(Event::WorkerLost { worker, reason: "killed".to_owned() });
    }

    /// Everybody delivers, as shards or as the fewest blocks. Returns the number of blocks.
    fn deliver(&mut self, step: u64, single: bool) -> usize {
        let mut blocks = 0;
        // Suspects are ordered one by one, as workers become free.
        while let Some((worker, token, ranges)) = self.orders.pop() {
            for range in ranges {
                *self.computed.entry(worker).or_default() += range.end - range.start;
                let whole = if single { range.flat_map(|s| cover(s..s + 1, SHARDS)).collect() } else { cover(range, SHARDS) };
                blocks += whole.len();
                for block in whole {
                    let (stage, step) = (self.stage.clone(), Step(step));
                    self.tell(Event::BlockArrived { worker, stage, step, token, block, digest: 0 });
                }
            }
        }
        blocks
    }
}

#[test]
fn a_thousand_workers_share_a_hundred_thousand_shards() {
    let mut cluster = Cluster::new(1);
    cluster.begin(0);
    assert_eq!(cluster.orders.len(), WORKERS as usize);
    let blocks = cluster.deliver(0, false);
    assert_eq!(cluster.completed, 1);
    assert!(blocks < 10 * WORKERS as usize, "{blocks} blocks");
    assert!(cluster.computed.values().all(|shards| *shards == SHARDS / WORKERS as u32));
    for step in 1..10 {
        cluster.begin(step);
        cluster.deliver(step, step % 2 == 0);
    }
    assert_eq!(cluster.completed, 10);
}

#[test]
fn many_of_them_die_one_by_one_and_come_back() {
    let mut cluster = Cluster::new(16);
    cluster.begin(0);
    for worker in 1..=WORKERS / 5 {
        cluster.lose(WorkerId(worker * 2));
    }
    cluster.deliver(0, false);
    for worker in 1..=WORKERS / 5 {
        cluster.tell(Event::WorkerJoined { worker: WorkerId(worker * 2), threads: 16 });
    }
    cluster.begin(1);
    cluster.deliver(1, false);
    assert_eq!(cluster.completed, 2);
}

/// Fifty workers of a hundred are killed, one after the other, and fifty join. Runs break up, but what a loss
/// scatters comes together again at the next joiner: 17 levels of the tree, so an undisturbed worker has up
/// to 32 blocks and 8 on average; three levels' worth for each is the bound, and 20 on average.
#[test]
fn blocks_stay_few_after_fifty_kills_and_joins() {
    let mut cluster = Cluster::of(100, 16);
    for round in 0..50 {
        cluster.begin(round);
        cluster.lose(WorkerId(round * 2 + 1));
        cluster.deliver(round, false);
        let worker = WorkerId(1_000 + round);
        cluster.tell(Event::WorkerJoined { worker, threads: 16 });
        let (token, stage) = cluster.opened.remove(&worker).expect("it is asked to prepare");
        cluster.tell(Event::Prepared { worker, stage, token });
    }
    cluster.begin(50);
    let blocks = |ranges: &[Range<u32>]| ranges.iter().map(|range| cover(range.clone(), SHARDS).len()).sum::<usize>();
    let counts: Vec<usize> = cluster.orders.iter().map(|(_, _, ranges)| blocks(ranges)).collect();
    let (most, all) = (counts.iter().max().copied().unwrap_or(0), counts.iter().sum::<usize>());
    println!("after 50 kills and 50 joins of 100 workers: {all} blocks, at most {most} from one worker");
    assert_eq!(cluster.orders.len(), 100);
    let levels = SHARDS.next_power_of_two().trailing_zeros() as usize;
    assert!(most <= 3 * levels && all <= 20 * cluster.orders.len(), "{most} from one worker, {all} from all");
    cluster.deliver(50, false);
    assert_eq!(cluster.completed, 51);
}
