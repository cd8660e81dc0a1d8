//! What every learner of the registry must hold, whatever it computes: the same bytes for any grouping
//! of the shards into workers, any order of arrival, any kernel level; resuming, asking twice and losing
//! caches change nothing; bad data is an error that says what to do.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::ops::Range;

use serde_json::{Value, json};
use sheaf_learn::algorithm::Progress;
use sheaf_learn::kernels::Level;
use sheaf_learn::program::{Local, Program, ProgramSpec, run};
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
        other => panic!("say with which parameters `{other}` is tried"),
    }
}

fn learners() -> impl Iterator<Item = &'static Entry> {
    ALGORITHMS.iter().filter(|e| e.kind == Kind::Learner)
}

fn each_case(check: impl Fn(&ProgramSpec)) {
    for entry in learners() {
        for params in variants(entry) {
            check(&ProgramSpec { name: entry.name.into(), params, schema: schema() });
        }
    }
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
    /// Rebuild every program before each step.
    restart: bool,
}

/// Runs as a cluster would: workers reduce their ranges, the coordinator finishes the tree.
fn run_cluster(spec: &ProgramSpec, shards: &[EncodedShard], trouble: &Trouble) -> String {
    let mut seed = trouble.shuffle;
    let mut draw = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    let levels = if trouble.levels.is_empty() { vec![Level::detect()] } else { trouble.levels.clone() };
    let build = || -> Vec<Box<dyn Program>> { levels.iter().map(|&l| spec.build_at(l).unwrap()).collect() };
    let mut programs = build();
    let mut state = programs[0].start().unwrap();
    let mut locals: Vec<Local> = shards.iter().map(|_| programs[0].local()).collect();
    for step in 0.. {
        if trouble.restart {
            programs = build();
        }
        let message = programs[0].message(&state).unwrap();
        let mut blocks = Vec::new();
        let mut first = 0;
        for (worker, end) in trouble.cuts.iter().copied().chain([shards.len()]).enumerate() {
            let program = &programs[worker % programs.len()];
            let mut merger = Merger::new(shards.len() as u32);
            let mut own: Vec<usize> = (first..end).collect();
            first = end;
            while !own.is_empty() {
                let at = if trouble.shuffle == 0 { 0 } else { draw(own.len()) };
                let i = own.remove(at);
                if trouble.forget && (i + step).is_multiple_of(3) {
                    locals[i] = program.local();
                }
                let opened = program.open(&message).unwrap();
                let partial = opened.partial(&shards[i], &mut locals[i]);
                if trouble.twice {
                    assert_eq!(opened.partial(&shards[i], &mut locals[i]), partial, "asked twice");
                    if !opened.reads_columns(&locals[i]) {
                        let lean = EncodedShard { columns: Vec::new(), ..shards[i].clone() };
                        assert_eq!(opened.partial(&lean, &mut locals[i]), partial, "asked without the columns");
                    }
                }
                merger.insert(Block { level: 0, index: i as u32 }, partial, |a, b| program.merge(a, b)).unwrap();
            }
            blocks.extend(merger.into_blocks());
        }
        let mut merger = Merger::new(shards.len() as u32);
        while !blocks.is_empty() {
            let at = if trouble.shuffle == 0 { 0 } else { draw(blocks.len()) };
            let (block, partial) = blocks.remove(at);
            merger.insert(block, partial, |a, b| programs[0].merge(a, b)).unwrap();
        }
        let total = merger.total().expect("every shard is in");
        if programs[0].update(&mut state, total).unwrap() == Progress::Done {
            return programs[0].finish(&state).unwrap().to_string();
        }
    }
    unreachable!("a program ends")
}

fn check(spec: &ProgramSpec, size: usize, trouble: &Trouble, what: &str) {
    let shards = shards(size);
    let want = run(spec.build().unwrap().as_ref(), &shards).unwrap().to_string();
    assert_eq!(run_cluster(spec, &shards, trouble), want, "{} {} {what}, shards of {size}", spec.name, spec.params);
}

#[test]
fn any_grouping_and_order_gives_the_same_bytes() {
    each_case(|spec| {
        for (size, groupings) in [(64, [vec![17], vec![5, 6, 31], vec![1, 2, 3, 40]]), (1_536, [vec![1], vec![2], vec![1, 2]])] {
            check(spec, size, &Trouble::default(), "a second run");
            for (i, cuts) in groupings.into_iter().enumerate() {
                check(spec, size, &Trouble { cuts, shuffle: 7 + i as u64, ..Default::default() }, "grouped");
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

#[test]
fn a_resumed_run_ends_in_the_same_bytes() {
    each_case(|spec| {
        let shards = shards(64);
        let want = run(spec.build().unwrap().as_ref(), &shards).unwrap();
        for stop in [1, 2, 5] {
            let mut state = spec.build().unwrap().start().unwrap();
            let mut step = 0;
            // Every state after `stop` steps is taken by a program that knows nothing else.
            let mut program = spec.build().unwrap();
            loop {
                let message = program.message(&state).unwrap();
                let opened = program.open(&message).unwrap();
                let leaves = shards.iter().map(|s| opened.partial(s, &mut program.local())).collect();
                let total = sheaf_learn::tree::reduce(leaves, |a, b| program.merge(a, b)).unwrap();
                drop(opened);
                let progress = program.update(&mut state, total).unwrap();
                step += 1;
                if progress == Progress::Done {
                    break;
                }
                if step == stop {
                    program = spec.build().unwrap();
                }
            }
            assert_eq!(program.finish(&state).unwrap(), want, "{} {}", spec.name, spec.params);
        }
    });
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
    each_case(|spec| {
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
    let mut shards = shards(64);
    shards.iter_mut().for_each(spoil);
    let program = spec.build().unwrap();
    let error = run(program.as_ref(), &shards).expect_err("bad data").to_string();
    assert!(expected.iter().all(|e| error.contains(e)), "{}: {error}", spec.name);
}

#[test]
fn bad_data_is_a_clear_error() {
    each_case(|spec| {
        let nan = |s: &mut EncodedShard| {
            if let (Column::F32(x), true) = (&mut s.columns[1], s.index == 2) {
                x[..3].fill(f32::NAN);
            }
        };
        refused(spec, nan, &["feature `b` has 3 missing or infinite values", "add an impute step"]);
        let infinite = |s: &mut EncodedShard| {
            if let (Column::F64(x), true) = (&mut s.columns[4], s.index == 40) {
                x[0] = f64::INFINITY;
            }
        };
        refused(spec, infinite, &["feature `e` has 1 missing"]);
        let target = |s: &mut EncodedShard| {
            s.target.iter_mut().flat_map(|y| y.iter_mut()).take(usize::from(s.index < 2)).for_each(|y| *y = f64::NAN)
        };
        refused(spec, target, &["2 of ", "no finite target"]);
        let weight = |s: &mut EncodedShard| s.weight.iter_mut().flat_map(|w| w.iter_mut()).take(1).for_each(|w| *w = -1.0);
        refused(spec, weight, &["missing, infinite or negative weight"]);
        refused(spec, |s| s.weight = Some(vec![0.0; s.rows].into()), &["the weights of all", "are 0"]);
        refused(spec, |s| s.offset = Some(vec![f64::NAN; s.rows].into()), &["no finite offset"]);
        refused(spec, |s| s.target = None, &["there is no target"]);
        refused(spec, |s| s.bounds = [0, 0, 0, s.rows], &["no training rows"]);
        refused(spec, |s| s.columns[0] = Column::bytes_of(vec![None; s.rows]), &["column `a`", "one_hot"]);
        refused(spec, |s| s.columns.truncate(3), &["3 feature columns, the schema has 9"]);
        if spec.name == "logistic_regression" {
            refused(spec, |s| s.target = Some(vec![1.0; s.rows].into()), &["have the target `yes`", "needs both classes"]);
            refused(spec, |s| s.target = Some(vec![2.0; s.rows].into()), &["target other than 0 and 1"]);
        }
    });
}

#[test]
fn rows_that_do_not_train_change_nothing() {
    each_case(|spec| {
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
