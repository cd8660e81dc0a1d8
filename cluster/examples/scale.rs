//! What a decision costs with 1,000 workers and 100,000 shards: steps, kills, joins. Prints, for each kind
//! of event, how many there were and the nanoseconds of each, and the memory of the process.
//! `cargo run --release -p sheaf-cluster --example scale`

#![expect(clippy::disallowed_methods, reason = "a measurement looks at the clock; the engine does not")]

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use sheaf_cluster::coverage::cover;
use sheaf_cluster::{Command, Engine, Event, Millis, Options, Stage, StagePlan, Step, Term, Token, WorkerId};

const WORKERS: u64 = 1_000;
const SHARDS: u32 = 100_000;
/// Shards of a load unit.
const UNIT: usize = 4;
const STEPS: u64 = 10;
/// Killed and joined in each step.
const CHANGES: u64 = 50;

#[derive(Default)]
struct Cost {
    events: u64,
    total: Duration,
    worst: Duration,
}

struct Bench {
    engine: Engine,
    stage: Stage,
    now: u64,
    orders: Vec<(WorkerId, Token, Vec<Range<u32>>)>,
    opened: Vec<(WorkerId, Token)>,
    completed: u64,
    costs: BTreeMap<&'static str, Cost>,
}

impl Bench {
    fn tell(&mut self, kind: &'static str, event: Event) {
        let began = Instant::now();
        let commands = self.engine.handle(event, Millis(self.now));
        let took = began.elapsed();
        let cost = self.costs.entry(kind).or_default();
        (cost.events, cost.total, cost.worst) = (cost.events + 1, cost.total + took, cost.worst.max(took));
        for command in commands {
            match command {
                Command::Compute { worker, token, ranges, .. } => self.orders.push((worker, token, ranges)),
                Command::OpenStage { worker, token, .. } => self.opened.push((worker, token)),
                Command::CompleteStep { .. } => self.completed += 1,
                _ => {}
            }
        }
    }

    fn lose(&mut self, worker: WorkerId) {
        self.orders.retain(|(to, _, _)| *to != worker);
        self.tell("worker lost", Event::WorkerLost { worker, reason: "killed".to_owned() });
    }

    fn step(&mut self, step: u64) {
        self.tell("step ready", Event::StepReady { stage: self.stage.clone(), step: Step(step) });
        for change in 0..CHANGES {
            self.lose(WorkerId(step * CHANGES + change + 1));
        }
        while let Some((worker, token, ranges)) = self.orders.pop() {
            for block in ranges.into_iter().flat_map(|range| cover(range, SHARDS)) {
                let stage = self.stage.clone();
                self.tell("block", Event::BlockArrived { worker, stage, step: Step(step), token, block, digest: 0 });
            }
        }
        for change in 0..CHANGES {
            let worker = WorkerId(WORKERS + step * CHANGES + change + 1);
            self.tell("worker joined", Event::WorkerJoined { worker, threads: 16 });
        }
        for (worker, token) in std::mem::take(&mut self.opened) {
            self.tell("prepared", Event::Prepared { worker, stage: self.stage.clone(), token });
        }
        self.now += 100;
        self.tell("tick", Event::Tick);
    }
}

fn main() {
    let stage = Stage { job: "a".into(), number: 0 };
    let engine = Engine::new(Options::default(), Term(1));
    let (orders, opened, costs) = (Vec::new(), Vec::new(), BTreeMap::new());
    let mut bench = Bench { engine, stage: stage.clone(), now: 0, orders, opened, completed: 0, costs };
    for worker in 1..=WORKERS {
        bench.tell("first join", Event::WorkerJoined { worker: WorkerId(worker), threads: 16 });
    }
    let (job, namespace, submitted) = ("a".into(), "n".to_owned(), Millis(0));
    bench.tell("job", Event::JobQueued { job, namespace, priority: 0, deadline: None, submitted });
    let plan = StagePlan::shards(SHARDS, (0..SHARDS).step_by(UNIT).collect(), Some(1));
    bench.tell("stage opened", Event::StageOpened { stage, plan });
    (0..STEPS).for_each(|step| bench.step(step));
    assert_eq!(bench.completed, STEPS, "every step is complete");
    println!("{WORKERS} workers, {SHARDS} shards in units of {UNIT}, {STEPS} steps, {CHANGES} kills and joins in each");
    println!("{:<14} {:>9} {:>12} {:>12}", "event", "count", "mean ns", "worst ns");
    for (kind, cost) in &bench.costs {
        let mean = cost.total.as_nanos() / u128::from(cost.events);
        println!("{kind:<14} {:>9} {mean:>12} {:>12}", cost.events, cost.worst.as_nanos());
    }
    println!("memory: {}", memory());
}

/// The process's resident memory, now and at most, where the system tells.
fn memory() -> String {
    #[expect(clippy::disallowed_methods, reason = "a measurement; the engine knows no files")]
    let status = std::fs::read("/proc/self/status").unwrap_or_default();
    let text = String::from_utf8_lossy(&status);
    let line = |name: &str| text.lines().find(|line| line.starts_with(name)).map(|line| line[name.len()..].trim().to_owned());
    let (now, most) = (line("VmRSS:"), line("VmHWM:"));
    format!("{} now, {} at most", now.unwrap_or_else(|| "unknown".to_owned()), most.unwrap_or_else(|| "unknown".to_owned()))
}
