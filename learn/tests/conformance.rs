//! What every learner of the registry must hold, whatever it computes: the same bytes for any grouping
//! of the shards into workers, any order of arrival, any kernel level; resuming, asking twice and losing
//! caches change nothing; partials that are summed give what merged ones give; bad data is an error that
//! says what to do. A program of integers with chapters (`sums/mod.rs`) stands beside the learners.

#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "sums/mod.rs"]
mod sums;

use std::ops::Range;

use serde_json::{Value, json};
use sheaf_learn::algorithm::{Exchange, Progress};
use sheaf_learn::kernels::Level;
use sheaf_learn::model::Task;
use sheaf_learn::program::{Chapters, Local, Partial, Program, ProgramSpec, State, Step, catch_up, chapters_from, run};
use sheaf_learn::registry::{ALGORITHMS, Entry, Kind};
use sheaf_learn::shard::{Column, EncodedShard, Feature, FeatureKind, Schema};
use sheaf_learn::tree::{Block, Merger};

const ROWS: usize = 3_000;

/// Parameters with which each learner is tried.
fn variants(entry: &Entry) -> Vec<Value> {
    match entry.name {
        "linear_regression" => vec![
            json!({}),
            json!({"l2": 0.01, "solver": "lbfgs"}),
            json!({"l1": 0.01}),
            json!({"l1": 0.02, "l2": 0.01, "solver": "lbfgs", "standardization": false}),
            json!({"fit_intercept": false, "standardization": false}),
        ],
        "logistic_regression" => vec![
            json!({"l2": 0.001}),
            json!({"l2": 0.001, "solver": "lbfgs", "class_weight": "balanced"}),
            json!({"l1": 0.005, "class_weight": {"0": 1, "1": 4.5}}),
            json!({"l1": 0.01, "solver": "lbfgs"}),
            json!({"l2": 0.01, "fit_intercept": false, "solver": "newton"}),
        ],
        "gradient_boosting" => vec![
            json!({"objective": "binary", "trees": 3, "growth": "depth_wise", "max_depth": 3, "max_bins": 40, "min_samples_leaf": 5}),
            json!({"task": "binary", "trees": 3, "max_leaves": 7, "subsample": 0.7, "colsample_bytree": 0.5, "seed": 5,
                "class_weight": "balanced", "early_stopping": {"rounds": 1}}),
            json!({"objective": "squared_error", "trees": 2, "max_leaves": 9, "colsample_bynode": 0.7, "l1": 0.1, "l2": 1.0,
                "min_split_gain": 0.01, "monotone": {"a": 1, "b": -1}, "interactions": [["a", "b", "kind"], ["c", "d", "e", "wide"]]}),
            json!({"objective": "quantile", "probability": 0.7, "trees": 2, "max_leaves": 4}),
            json!({"objective": "poisson", "trees": 2, "max_leaves": 4}),
            json!({"objective": "tweedie", "trees": 2, "max_leaves": 4}),
            json!({"objective": "huber", "trees": 2, "max_leaves": 4}),
            json!({"objective": "absolute", "trees": 2, "max_leaves": 5, "subsample": 0.8, "min_samples_leaf": 3}),
            json!({"objective": "binary", "trees": 6, "max_leaves": 4, "boosting": "dart", "drop_rate": 0.5, "skip_drop": 0.2,
                "max_drop": 3, "seed": 2}),
            json!({"objective": "absolute", "trees": 4, "max_leaves": 4, "boosting": "dart", "drop_rate": 0.6, "skip_drop": 0,
                "learning_rate": 0.5}),
            json!({"objective": "binary", "trees": 2, "max_leaves": 4, "warm_start": earlier(entry, json!({"objective": "binary",
                "trees": 2, "max_leaves": 3}))}),
            json!({"objective": "absolute", "trees": 4, "max_leaves": 4, "boosting": "dart", "skip_drop": 0, "drop_rate": 0.5,
                "warm_start": earlier(entry, json!({"objective": "absolute", "trees": 2, "max_leaves": 5}))}),
            json!({"objective": "multiclass", "trees": 4, "max_leaves": 3, "boosting": "dart", "drop_rate": 0.6, "skip_drop": 0}),
            json!({"objective": "multiclass", "trees": 2, "max_leaves": 3, "subsample": 0.8, "warm_start": earlier(entry,
                json!({"objective": "multiclass", "trees": 2, "max_leaves": 4}))}),
            json!({"objective": "lambdarank", "trees": 3, "max_leaves": 6, "truncation_level": 5, "early_stopping": {"rounds": 2}}),
            json!({"objective": "map", "trees": 2, "max_leaves": 4, "sigmoid": 2.0, "lambdarank_norm": false}),
            json!({"objective": "multiclass", "trees": 2, "max_leaves": 5, "subsample": 0.8, "class_weight": {"maybe": 2.5},
                "early_stopping": {"rounds": 1}}),
        ],
        "random_forest" => vec![
            json!({"task": "binary", "trees": 2, "max_depth": 4, "class_weight": "balanced", "seed": 3}),
            json!({"task": "multiclass", "trees": 3, "max_depth": 3, "class_weight": "balanced", "seed": 3}),
        ],
        "extra_trees" => vec![
            json!({"task": "regression", "trees": 2, "max_depth": 4}),
            json!({"task": "multiclass", "trees": 2, "max_depth": 3}),
        ],
        "decision_tree" => vec![
            json!({"task": "binary", "max_depth": 3, "max_bins": 20}),
            json!({"task": "multiclass", "max_depth": 3, "max_bins": 20}),
        ],
        "isolation_forest" => vec![
            json!({"trees": 5, "max_samples": 64, "contamination": 0.1, "seed": 2}),
            json!({"trees": 3, "max_samples": 17, "max_features": 0.5}),
        ],
        other => panic!("say with which parameters `{other}` is tried"),
    }
}

/// A model to go on from.
fn earlier(entry: &Entry, params: Value) -> Value {
    let schema = schema_of(entry, &params);
    let spec = ProgramSpec { name: entry.name.into(), params, schema };
    run(spec.build().unwrap().as_ref(), &shards_of(&spec, 1_000)).unwrap()["model"].clone()
}

fn learners() -> impl Iterator<Item = &'static Entry> {
    ALGORITHMS.iter().filter(|e| e.kind == Kind::Learner)
}

/// What is tried: a learner with parameters, or the program of integers.
enum Case {
    Learner(ProgramSpec),
    Sums,
}

impl Case {
    /// The dataset with the columns that the case takes.
    fn shards(&self, size: usize) -> Vec<EncodedShard> {
        match self {
            Case::Learner(spec) => shards_of(spec, size),
            Case::Sums => shards(size),
        }
    }

    fn build_at(&self, level: Level) -> Box<dyn Program> {
        match self {
            Case::Learner(spec) => spec.build_at(level).unwrap(),
            Case::Sums => sums::program(),
        }
    }

    fn build(&self) -> Box<dyn Program> {
        self.build_at(Level::detect())
    }
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Case::Learner(spec) => write!(f, "{} {}", spec.name, spec.params),
            Case::Sums => f.write_str("sums"),
        }
    }
}

fn each_case(check: impl Fn(&Case)) {
    each_spec(|_| true, |spec| check(&Case::Learner(spec.clone())));
    check(&Case::Sums);
}

fn each_spec(filter: impl Fn(&Entry) -> bool, check: impl Fn(&ProgramSpec)) {
    for entry in learners().filter(|entry| filter(entry)) {
        for params in variants(entry) {
            check(&ProgramSpec { name: entry.name.into(), schema: schema_of(entry, &params), params });
        }
    }
}

/// Learners whose models have a coefficient per slot.
fn is_linear(entry: &Entry) -> bool {
    ["linear_regression", "logistic_regression"].contains(&entry.name)
}

/// A fixed number in [−1, 1).
fn number(i: usize, column: u64) -> f64 {
    let mut x = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (column + 1).wrapping_mul(0xd1b5_4a32_d192_ed03);
    x ^= x >> 31;
    x = x.wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^= x >> 29;
    (x >> 11) as f64 / 4_503_599_627_370_496.0 - 1.0
}

fn schema() -> Schema {
    let numeric = |name: &str, shift, scale| Feature { name: name.into(), kind: FeatureKind::Numeric { shift, scale } };
    let names = ["food", "fuel", "rent", "never"].map(str::to_owned).to_vec();
    Schema {
        features: vec![
            numeric("a", 0.0, 1.0),
            numeric("b", 0.5, 2.0),
            numeric("c", 0.0, 1.0),
            numeric("d", 0.0, 1.0),
            numeric("e", -1.0, 0.1),
            numeric("constant", 0.0, 1.0),
            Feature { name: "kind".into(), kind: FeatureKind::Slots { names } },
            numeric("wide", 1e6, 1e-3),
            Feature { name: "hashed".into(), kind: FeatureKind::Sparse { width: 8 } },
        ],
        classes: vec!["no".into(), "yes".into()],
    }
}

/// What a learner with these parameters predicts.
fn task_of(name: &str, params: &Value) -> Option<Task> {
    sheaf_learn::registry::task(name, &serde_json::from_value(params.clone()).unwrap())
}

/// The schema without what a learner does not read, and with its classes: trees take no sparse slots.
fn schema_of(entry: &Entry, params: &Value) -> Schema {
    let mut schema = schema();
    if task_of(entry.name, params) == Some(Task::Multiclass) {
        schema.classes.insert(1, "maybe".into());
    }
    if !is_linear(entry) {
        schema.features.retain(|f| !matches!(f.kind, FeatureKind::Sparse { .. }));
    }
    schema
}

/// The dataset with the columns of a spec's schema, which are the first ones. Where there are three classes, the second
/// ones are rows with a large `a` that would be of the first.
fn shards_of(spec: &ProgramSpec, size: usize) -> Vec<EncodedShard> {
    let mut shards = shards(size);
    for shard in &mut shards {
        shard.columns.truncate(spec.schema.features.len());
        if task_of(&spec.name, &spec.params) == Some(Task::Multiclass) {
            let class = |(i, y): (usize, &f64)| match shard.columns[0].number(i) {
                Some(a) if *y == 0.0 && a > 0.2 => 1.0,
                _ => 2.0 * y,
            };
            shard.target = shard.target.as_ref().map(|y| y.iter().enumerate().map(class).collect());
            shard.offset = None;
        }
    }
    shards
}

/// Rows `rows` of the dataset as one shard: about a fifth are not training rows; with `spare`, none is.
fn shard(index: u32, rows: Range<usize>, spare: bool) -> EncodedShard {
    let segment = |i: usize| if spare { 2 } else { usize::from(number(i, 50) > 0.6) * (1 + i % 2) };
    let mut order: Vec<usize> = rows.clone().collect();
    order.sort_by_key(|&i| segment(i));
    let n = order.len();
    let end = |s: usize| order.iter().filter(|&&i| segment(i) < s).count();
    let f32s = |column: u64| Column::F32(order.iter().map(|&i| number(i, column) as f32 * 2.0).collect());
    let f64s = |column: u64, centre: f64| Column::F64(order.iter().map(|&i| centre + number(i, column)).collect());
    let (mut offsets, mut entries) = (vec![0], Vec::new());
    for &i in &order {
        if i % 7 != 0 {
            entries.push(((i % 4) as u32, number(i, 8) as f32));
            entries.push(((4 + i % 3) as u32, 1.0));
        }
        offsets.push(entries.len() as u32);
    }
    let code = |&i: &usize| if i % 11 == 0 { u32::MAX } else { ((number(i, 6) + 1.0) * 1.5) as u32 };
    let score = |i: usize| number(i, 0) - 0.7 * number(i, 1) + 0.2 * number(i, 4) + 0.4 * number(i, 20) - 0.3;
    EncodedShard {
        index,
        rows: n,
        bounds: [0, end(1), end(2), n],
        columns: vec![
            f32s(0),
            f32s(1),
            f32s(2),
            f32s(3),
            f64s(4, 0.0),
            Column::F64(vec![0.1; n].into()),
            Column::Code(order.iter().map(code).collect()),
            f64s(7, 1e6),
            Column::Sparse { offsets: offsets.into(), entries: entries.into() },
        ],
        target: Some(order.iter().map(|&i| if score(i) > 0.0 { 1.0 } else { 0.0 }).collect()),
        weight: Some(order.iter().map(|&i| 1.0 + (i % 3) as f64 * 0.37).collect()),
        offset: Some(order.iter().map(|&i| 0.05 * number(i, 30)).collect()),
        // Up to seven rows of a segment are a query.
        query: Some((0..n).map(|at| (at / 7 + n * [end(1), end(2)].iter().filter(|end| at >= **end).count()) as u32).collect()),
        row_ids: None,
    }
}

/// The dataset in shards of `size` rows; some of them hold no training row, one holds no row at all.
fn shards(size: usize) -> Vec<EncodedShard> {
    let mut out: Vec<EncodedShard> = Vec::new();
    for (i, at) in (0..ROWS).step_by(size).enumerate() {
        out.push(shard(out.len() as u32, at..ROWS.min(at + size), i % 10 == 3 && size < 1000));
    }
    out.push(shard(out.len() as u32, 0..0, false));
    out
}

/// How a run is disturbed.
#[derive(Default)]
struct Trouble {
    /// Ends of the shard ranges of the workers; empty: one worker.
    cuts: Vec<usize>,
    /// Level of each worker in turn; empty: the widest.
    levels: Vec<Level>,
    /// Seed of the order of arrival; 0: in order.
    shuffle: u64,
    /// Ask every partial twice.
    twice: bool,
    /// Forget some caches before each step.
    forget: bool,
    /// Rebuild every program before each step, the state and the chapters from bytes.
    restart: bool,
    /// Merge partials along the tree also where they could be summed.
    merge: bool,
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
fn run_cluster(case: &Case, shards: &[EncodedShard], trouble: &Trouble) -> String {
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

fn check(case: &Case, size: usize, trouble: &Trouble, what: &str) {
    let shards = case.shards(size);
    let want = run(case.build().as_ref(), &shards).unwrap().to_string();
    assert_eq!(run_cluster(case, &shards, trouble), want, "{case} {what}, shards of {size}");
}

#[test]
fn any_grouping_and_order_gives_the_same_bytes() {
    each_case(|spec| {
        for (size, groupings) in [(64, [vec![17], vec![5, 6, 31], vec![1, 2, 3, 40]]), (1_536, [vec![1], vec![2], vec![1, 2]])] {
            check(spec, size, &Trouble::default(), "a second run");
            for (i, cuts) in groupings.into_iter().enumerate() {
                let shuffle = 7 + i as u64;
                check(spec, size, &Trouble { cuts: cuts.clone(), shuffle, ..Default::default() }, "grouped");
                if spec.build().exchange() == Exchange::Sum {
                    check(spec, size, &Trouble { cuts, shuffle, merge: true, ..Default::default() }, "merged");
                }
            }
        }
    });
}

#[test]
fn every_level_and_a_mixture_of_them_gives_the_same_bytes() {
    each_case(|spec| {
        for size in [64, 1_536] {
            for level in Level::available() {
                check(spec, size, &Trouble { levels: vec![level], ..Default::default() }, level.name());
            }
            check(spec, size, &Trouble { cuts: vec![1, 2], levels: Level::available(), ..Default::default() }, "mixed");
        }
    });
}

#[test]
fn asking_twice_losing_caches_and_restarting_changes_nothing() {
    each_case(|spec| {
        check(spec, 64, &Trouble { twice: true, forget: true, restart: true, ..Default::default() }, "disturbed");
    });
}

/// A run that keeps every state it went through, as bytes.
struct Recorded {
    states: Vec<Vec<u8>>,
    chapters: Vec<Vec<u8>>,
    locals: Vec<Local>,
    result: String,
}

fn record(case: &Case, shards: &[EncodedShard]) -> Recorded {
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
fn go_on(case: &Case, shards: &[EncodedShard], from: &[u8], recorded: &Recorded, locals: Vec<Local>) -> (String, Vec<Local>) {
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

#[test]
fn going_on_from_any_state_ends_in_the_same_bytes() {
    each_case(|case| {
        let shards = case.shards(64);
        let mut recorded = record(case, &shards);
        let mut locals = std::mem::take(&mut recorded.locals);
        for (step, state) in recorded.states.iter().enumerate() {
            let (result, newer) = go_on(case, &shards, state, &recorded, locals);
            assert_eq!(result, recorded.result, "{case} from step {step}");
            locals = newer;
        }
    });
}

#[test]
fn a_step_lacks_no_chapter() {
    let program = sums::program();
    let message = program.message(&program.start().unwrap()).unwrap();
    let error = program.open(&program.chapters(), 1, &message).err().unwrap().to_string();
    assert_eq!(error, "a step needs 1 chapters, 0 are there");
}

#[test]
fn first_order_runs_take_many_steps() {
    let spec =
        ProgramSpec { name: "logistic_regression".into(), params: json!({"solver": "lbfgs", "l2": 1e-5}), schema: schema() };
    let result = run(spec.build().unwrap().as_ref(), &shards(64)).unwrap();
    assert!(result["iterations"].as_u64().unwrap() > 15, "{result}");
    assert_eq!(result["converged"], json!(true));
}

#[test]
fn a_constant_column_gets_zero_and_a_warning() {
    each_spec(is_linear, |spec| {
        let result = run(spec.build().unwrap().as_ref(), &shards(64)).unwrap();
        let coefficients = &result["model"]["linear"]["coefficients"];
        let plain = spec.params["fit_intercept"] == json!(false) && spec.params["standardization"] == json!(false);
        if plain {
            assert_ne!(coefficients[5], json!(0.0), "a column of ones is an intercept here: {result}");
        } else {
            assert_eq!(coefficients[5], json!(0.0), "{result}");
            assert!(result["warnings"][0].as_str().unwrap().contains("constant"), "{result}");
        }
        // The category that never occurs.
        assert_eq!(coefficients[9], json!(0.0), "{result}");
        assert_eq!(result["converged"], json!(true), "{} {}: {result}", spec.name, spec.params);
    });
}

fn refused(spec: &ProgramSpec, spoil: impl Fn(&mut EncodedShard), expected: &[&str]) {
    let mut shards = shards_of(spec, 64);
    shards.iter_mut().for_each(spoil);
    let program = spec.build().unwrap();
    let error = run(program.as_ref(), &shards).expect_err("bad data").to_string();
    assert!(expected.iter().all(|e| error.contains(e)), "{}: {error}", spec.name);
}

#[test]
fn bad_data_is_a_clear_error() {
    each_spec(
        |_| true,
        |spec| {
            let nan = |s: &mut EncodedShard| {
                if let (Column::F32(x), true) = (&mut s.columns[1], s.index == 2) {
                    x[..3].fill(f32::NAN);
                }
            };
            let takes_missing = sheaf_learn::registry::learner(&spec.name).unwrap().takes_missing;
            if !takes_missing {
                refused(spec, nan, &["feature `b` has 3 missing or infinite values", "add an impute step"]);
            }
            let infinite = |s: &mut EncodedShard| {
                if let (Column::F64(x), true) = (&mut s.columns[4], s.index == 40) {
                    x[0] = f64::INFINITY;
                }
            };
            if !takes_missing {
                refused(spec, infinite, &["feature `e` has 1 missing"]);
            }
            refused(spec, |s| s.bounds = [0, 0, 0, s.rows], &["no training rows"]);
            refused(spec, |s| s.columns[0] = Column::bytes_of(vec![None; s.rows]), &["column `a`", "one_hot"]);
            let columns = format!("3 feature columns, the schema has {}", spec.schema.features.len());
            refused(spec, |s| s.columns.truncate(3), &[&columns]);
            if spec.name == "isolation_forest" {
                // It reads neither target nor weight nor offset.
                return;
            }
            let target = |s: &mut EncodedShard| {
                s.target.iter_mut().flat_map(|y| y.iter_mut()).take(usize::from(s.index < 2)).for_each(|y| *y = f64::NAN)
            };
            refused(spec, target, &["2 of ", "no finite target"]);
            let weight = |s: &mut EncodedShard| s.weight.iter_mut().flat_map(|w| w.iter_mut()).take(1).for_each(|w| *w = -1.0);
            refused(spec, weight, &["missing, infinite or negative weight"]);
            refused(spec, |s| s.weight = Some(vec![0.0; s.rows].into()), &["the weights of all", "are 0"]);
            let task = task_of(&spec.name, &spec.params);
            let offset = if task == Some(Task::Multiclass) { "leave out `columns.offset`" } else { "no finite offset" };
            refused(spec, |s| s.offset = Some(vec![f64::NAN; s.rows].into()), &[offset]);
            refused(spec, |s| s.target = None, &["there is no target"]);
            if task == Some(Task::Multiclass) {
                refused(spec, |s| s.target = Some(vec![1.0; s.rows].into()), &["the target `maybe`", "two classes at least"]);
                for odd in [3.0, 0.5, -1.0] {
                    let expected = ["have a target that is none of the classes"];
                    refused(spec, |s| s.target = Some(vec![odd; s.rows].into()), &expected);
                }
            }
            if task == Some(Task::Binary) {
                refused(spec, |s| s.target = Some(vec![1.0; s.rows].into()), &["have the target `yes`", "needs both classes"]);
                refused(spec, |s| s.target = Some(vec![2.0; s.rows].into()), &["target other than 0 and 1"]);
            }
        },
    );
}

#[test]
fn rows_that_do_not_train_change_nothing() {
    each_spec(is_linear, |spec| {
        let clean = shards(64);
        let mut spoilt = clean.clone();
        for shard in &mut spoilt {
            let first = shard.bounds[1];
            shard.target.as_mut().unwrap()[first..].fill(f64::NAN);
            for column in &mut shard.columns {
                match column {
                    Column::F32(x) => x[first..].fill(f32::NAN),
                    Column::F64(x) => x[first..].fill(1e300),
                    Column::Code(x) => x[first..].fill(3),
                    _ => {}
                }
            }
        }
        let program = spec.build().unwrap();
        assert_eq!(run(program.as_ref(), &clean).unwrap(), run(program.as_ref(), &spoilt).unwrap());
    });
}
