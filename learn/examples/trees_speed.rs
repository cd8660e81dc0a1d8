//! Times boosted trees on one thread: `cargo run --release -p sheaf-learn --example trees_speed [ROWS [COLUMNS
//! [TREES [DEPTH]]]] [--leaves LEAVES] [--categories CATEGORIES] [--write FILE]`. First the kernels, then a whole fit step
//! by step. Figures are CPU time of the thread, so that other work on the machine shows less. With `--leaves` trees grow
//! leaf-wise; with `--categories` every column has so many of them. `--write` writes the rows as f32, row after row with
//! the target last, for a peer to read.

#![expect(clippy::disallowed_methods, reason = "a bench reads the clock and writes a file")]

use std::hint::black_box;
use std::io::Write;
use std::time::Instant;

use serde_json::json;
use sheaf_learn::algorithm::{LearnError, Progress};
use sheaf_learn::algorithms::gradient_boosting::from_params;
use sheaf_learn::kernels::Level;
use sheaf_learn::model::Model;
use sheaf_learn::program::{Local, Partial, ProgramSpec, catch_up};
use sheaf_learn::shard::{Column, EncodedShard, Feature, FeatureKind, Schema};
use sheaf_learn::trees::CELLS;
use sheaf_learn::trees::bins::{Bins, FeatureBins};
use sheaf_learn::trees::histogram::{Features, Histogram, pack};
use sheaf_learn::trees::layout::Binned;
use sheaf_learn::trees::objective::{Binary, Objective};
use sheaf_learn::trees::partition::Partition;
use sheaf_learn::trees::shap::contributions_at;
use sheaf_learn::trees::slopes::{Known, round, slopes};
use sheaf_learn::trees::split::{self, Node, Scale, Whole};

const SHARD: usize = 65_536;

/// CPU time of this thread in nanoseconds; wall time where the system does not tell.
#[cfg(target_os = "linux")]
fn now(_: Instant) -> f64 {
    unsafe extern "C" {
        fn clock_gettime(clock: i32, time: *mut [i64; 2]) -> i32;
    }
    const THREAD_CPU_TIME: i32 = 3;
    let mut time = [0; 2];
    // SAFETY: a `timespec` is two 64-bit integers here, and the pointer is to one.
    let answer = unsafe { clock_gettime(THREAD_CPU_TIME, &raw mut time) };
    assert_eq!(answer, 0, "the system tells a thread's time");
    time[0] as f64 * 1e9 + time[1] as f64
}

/// Wall time in nanoseconds.
#[cfg(not(target_os = "linux"))]
fn now(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e9
}

/// A fixed number in [−1, 1).
fn number(i: usize, j: usize) -> f64 {
    let mut x = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (j as u64 + 1).wrapping_mul(0xd1b5_4a32_d192_ed03);
    x ^= x >> 31;
    x = x.wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^= x >> 29;
    (x >> 11) as f64 / 4_503_599_627_370_496.0 - 1.0
}

/// About normal.
fn normal(i: usize, j: usize) -> f64 {
    (0..4).map(|k| number(i, 1_000 * (k + 1) + j)).sum::<f64>() * 0.866
}

/// What is fitted.
#[derive(Clone, Copy)]
struct Shape {
    rows: usize,
    columns: usize,
    trees: usize,
    depth: usize,
    /// Of trees that grow leaf-wise.
    leaves: Option<usize>,
    /// Of every column.
    categories: Option<usize>,
}

/// A category, rare ones with high numbers; what it is worth is a hash of it.
fn category(i: usize, j: usize, categories: usize) -> u32 {
    let x = number(i, j) * 0.5 + 0.5;
    ((x * x * categories as f64) as u32).min(categories as u32 - 1)
}

fn shard(index: usize, rows: usize, shape: Shape) -> EncodedShard {
    let (first, columns) = (index * SHARD, shape.columns);
    let codes: Vec<Vec<u32>> = match shape.categories {
        Some(count) => (0..columns).map(|j| (0..rows).map(|i| category(first + i, j, count)).collect()).collect(),
        None => Vec::new(),
    };
    let value = |i: usize, j: usize| match codes.get(j) {
        Some(codes) => normal(codes[i] as usize, 500 + j) as f32,
        None => normal(first + i, j) as f32,
    };
    let values: Vec<Vec<f32>> = (0..columns).map(|j| (0..rows).map(|i| value(i, j)).collect()).collect();
    let x = |i: usize, j: usize| f64::from(values[j % columns][i]);
    let target = |i: usize| {
        let score = x(i, 0) * x(i, 1) + 0.6 * x(i, 2) - 0.4 * x(i, 3) * x(i, 3) + (x(i, 4) + x(i, 5)).abs() - 0.7 * x(i, 6)
            + 0.5 * f64::from(x(i, 7) > 0.3) * x(i, 8)
            + 0.3 * x(i, 9);
        f64::from(score + 1.2 * normal(first + i, 777) > 0.6)
    };
    EncodedShard {
        index: index as u32,
        rows,
        bounds: [0, rows, rows, rows],
        target: Some((0..rows).map(target).collect()),
        columns: if codes.is_empty() {
            values.iter().map(|v| Column::F32(v.clone().into())).collect()
        } else {
            codes.into_iter().map(|codes| Column::Code(codes.into())).collect()
        },
        ..Default::default()
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let flag = |name: &str| arguments.iter().position(|a| a == name).and_then(|at| arguments.get(at + 1));
    let number = |name: &str| flag(name).and_then(|value| value.parse().ok());
    let places = arguments.iter().take_while(|a| !a.starts_with("--")).map(|a| a.parse().ok());
    let places: Vec<Option<usize>> = places.collect();
    let place = |n: usize, default: usize| places.get(n).copied().flatten().unwrap_or(default);
    let (leaves, categories) = (number("--leaves"), number("--categories"));
    let shape =
        Shape { rows: place(0, 2_000_000), columns: place(1, 28), trees: place(2, 10), depth: place(3, 8), leaves, categories };
    let rows_of = |i: usize| SHARD.min(shape.rows - i * SHARD);
    let shards: Vec<EncodedShard> = (0..shape.rows.div_ceil(SHARD)).map(|i| shard(i, rows_of(i), shape)).collect();
    if let Some(path) = flag("--write") {
        write(path, &shards)?;
    }
    if categories.is_none() {
        kernels(&shards[0], shape.columns)?;
    }
    fit(&shards, shape)
}

fn write(path: &str, shards: &[EncodedShard]) -> std::io::Result<()> {
    let mut out = std::io::BufWriter::new(std::fs::File::create(path)?);
    for shard in shards {
        for i in 0..shard.rows {
            for column in &shard.columns {
                out.write_all(&(column.number(i).unwrap_or(f64::NAN) as f32).to_le_bytes())?;
            }
            let target = shard.target.as_ref().map_or(0.0, |y| y[i]);
            out.write_all(&(target as f32).to_le_bytes())?;
        }
    }
    out.flush()
}

/// The best of some runs, in nanoseconds.
fn best(mut run: impl FnMut()) -> f64 {
    let start = Instant::now();
    let mut out = f64::INFINITY;
    for _ in 0..20 {
        let before = now(start);
        run();
        out = out.min(now(start) - before);
    }
    out
}

fn kernels(shard: &EncodedShard, columns: usize) -> Result<(), LearnError> {
    let level = Level::detect();
    let rows = shard.rows;
    let edges: Vec<f32> = (0..254).map(|i| (i as f32 - 127.0) / 50.0).collect();
    let bins = Bins { features: vec![FeatureBins::Numeric { edges }; columns], ..Bins::default() };
    let schema = numbers(columns);
    let bin = best(|| drop(black_box(Binned::new(level, &schema, &bins, shard, rows))));
    let binned = Binned::new(level, &schema, &bins, shard, rows)?;
    let pairs: Vec<u64> = (0..rows).map(|i| pack((i % 1_000) as i32 - 500, 200)).collect();
    let all: Vec<u16> = (0..rows).map(|i| i as u16).collect();
    let some: Vec<u16> = all.iter().copied().filter(|&i| number(usize::from(i), 5) > 0.4).collect();
    let mut histogram = Histogram::new(columns);
    let whole = best(|| histogram.add(&binned, &pairs, &all, &Features::All));
    let part = best(|| histogram.add(&binned, &pairs, &some, &Features::All));
    let table: [u8; CELLS] = std::array::from_fn(|b| u8::from(b < 120));
    let mut cut = f64::INFINITY;
    for _ in 0..20 {
        let mut partition = Partition::new(all.clone());
        partition.grow(&[(0, 0)], |j| binned.column(j), |_| table);
        let start = Instant::now();
        let before = now(start);
        partition.grow(&[(1, 1), (2, 1)], |j| binned.column(j), |_| table);
        cut = cut.min(now(start) - before);
    }
    let scores = vec![0.1; rows];
    let target = shard.target.as_deref().unwrap_or_default();
    let known = Known { target, weight: None, class_weight: None };
    let mut out = vec![[0.0; 2]; rows];
    let slope = best(|| {
        black_box(slopes(level, Objective::Binary(Binary), &scores, rows, known, &mut out));
    });
    let mut words = vec![0; rows];
    let rounded = best(|| round(level, &out, Scale { gradient: 1.0, hessian: 0.25, dispersion: 1.0 }, 7, &mut words));
    let per = |time: f64, count: usize| time / count as f64;
    println!("{} rows × {columns}, one thread, {}", rows, level.name());
    println!("binning    {:6.2} ns per cell", per(bin, rows * columns));
    println!(
        "histogram  {:6.3} ns per cell of all rows, {:.3} of a third",
        per(whole, rows * columns),
        per(part, some.len() * columns)
    );
    println!("partition  {:6.2} ns per row", per(cut, rows));
    println!("gradients  {:6.2} ns per row, rounding {:.2}", per(slope, rows), per(rounded, rows));
    let [many, few] = splits(level, &bins, &binned, &pairs);
    println!("splits     {few:6.2} ns per cell, {many:.2} of a node of many rows");
    Ok(())
}

/// Splits of a node with all rows and of one with a twentieth, in nanoseconds a cell.
fn splits(level: Level, bins: &Bins, binned: &Binned, pairs: &[u64]) -> [f64; 2] {
    let columns = binned.features();
    let params = json!({"objective": "binary"});
    let Ok(params) = serde_json::from_value(params) else { return [f64::NAN; 2] };
    let Ok(boosting) = from_params(&params, &Schema::default(), level) else { return [f64::NAN; 2] };
    let features: Vec<u32> = (0..columns as u32).collect();
    [(1, 3), (20, 1)].map(|(step, times)| {
        let rows: Vec<u16> = (0..binned.rows()).step_by(step).map(|i| i as u16).collect();
        let mut histogram = Histogram::new(columns);
        (0..times).for_each(|_| histogram.add(binned, pairs, &rows, &Features::All));
        let (rows, sums) = (histogram.rows(), histogram.into_sums());
        let whole = Whole {
            rows,
            total: sums.feature(0).total(),
            scale: Scale { gradient: 1.0, hessian: 0.25, dispersion: 1.0 },
            bounds: [f64::NEG_INFINITY, f64::INFINITY],
        };
        let node = Node { sums: &sums, first: 0, whole };
        let rules = &boosting.settings.regularization;
        let time = best(|| {
            black_box(split::best(level, rules, bins, node, &features, |_| None));
        });
        time / (columns * CELLS) as f64
    })
}

fn numbers(columns: usize) -> Schema {
    schema_of(columns, &FeatureKind::Numeric { shift: 0.0, scale: 1.0 })
}

fn schema(shape: Shape) -> Schema {
    let Some(count) = shape.categories else { return numbers(shape.columns) };
    let names = (0..count).map(|c| format!("c{c}")).collect();
    schema_of(shape.columns, &FeatureKind::Slots { names })
}

fn schema_of(columns: usize, kind: &FeatureKind) -> Schema {
    let features = (0..columns).map(|j| Feature { name: format!("x{j}"), kind: kind.clone() }).collect();
    Schema { features, classes: Vec::new() }
}

/// A fit as `program::run` does it, with the time of every step of a tree: the least of all trees.
fn fit(shards: &[EncodedShard], shape: Shape) -> Result<(), Box<dyn std::error::Error>> {
    let Shape { rows, columns, trees, .. } = shape;
    let mut params = json!({"objective": "binary", "trees": trees, "min_samples_leaf": 20, "learning_rate": 0.1});
    match shape.leaves {
        Some(leaves) => (params["growth"], params["max_leaves"]) = ("leaf_wise".into(), leaves.into()),
        None => (params["growth"], params["max_depth"]) = ("depth_wise".into(), shape.depth.into()),
    }
    let spec = ProgramSpec { name: "gradient_boosting".into(), params, schema: schema(shape) };
    let program = spec.build()?;
    let (mut state, mut chapters) = (program.start()?, program.chapters());
    let mut locals: Vec<Local> = shards.iter().map(|_| program.local()).collect();
    let start = Instant::now();
    let mut steps: Vec<Step> = Vec::new();
    loop {
        let begun = now(start);
        let message = program.message(&state)?;
        let count = catch_up(program.as_ref(), &state, &mut chapters)?;
        let step = program.open(&chapters, count, &message)?;
        let mut total = None;
        for (shard, local) in shards.iter().zip(&mut locals) {
            step.accumulate(shard, local, &mut total)?;
        }
        drop(step);
        let work = now(start) - begun;
        // What is sent is made and read as between processes.
        let sent = now(start);
        let bytes = total.map(Partial::into_bytes);
        let total = bytes.as_deref().map(|bytes| program.read(bytes)).transpose()?;
        let (bytes, sent) = (bytes.map_or(0, |bytes| bytes.len()), now(start) - sent);
        let decided = now(start);
        let progress = program.update(&mut state, total)?;
        steps.push(Step { tree: count, work, sent, decide: now(start) - decided, bytes });
        if progress == Progress::Done {
            break;
        }
    }
    tell(&steps, rows, columns, trees);
    let result = program.finish(state)?;
    let model: Model = serde_json::from_value(result["model"].clone())?;
    println!("loss {}", result["loss"]);
    let mut least = f64::INFINITY;
    for _ in 0..3 {
        let at = now(start);
        for shard in shards {
            black_box(model.predict(&spec.schema, shard, 0..shard.rows));
        }
        least = least.min(now(start) - at);
    }
    println!("prediction {:.2} million rows per second", rows as f64 / least * 1e3);
    explain(&model, &spec.schema, &shards[0]);
    Ok(())
}

/// Rows whose contributions are timed.
const EXPLAINED: usize = 16_384;

fn explain(model: &Model, schema: &Schema, shard: &EncodedShard) {
    let Model::Trees(model) = model else { return };
    let rows = EXPLAINED.min(shard.rows);
    for level in Level::available() {
        let start = Instant::now();
        let mut least = f64::INFINITY;
        for _ in 0..3 {
            let before = now(start);
            black_box(contributions_at(level, model, schema, shard, 0..rows));
            least = least.min(now(start) - before);
        }
        println!("contributions {:.1} thousand rows per second, {}", rows as f64 / least * 1e6, level.name());
    }
}

/// What a step cost, in nanoseconds.
struct Step {
    /// Chapters: 0 before the bins, then the number of the tree from 1 on.
    tree: usize,
    work: f64,
    /// Partials to bytes and back.
    sent: f64,
    decide: f64,
    bytes: usize,
}

fn tell(steps: &[Step], rows: usize, columns: usize, trees: usize) {
    let of = |tree: usize| steps.iter().filter(move |s| s.tree == tree);
    let before: f64 = of(0).map(|s| s.work + s.decide).sum();
    // The first step of the first tree bins the shards.
    let binning = of(1).next().map_or(0.0, |s| s.work);
    let most = (2..=trees).map(|t| of(t).count()).max().unwrap_or(0);
    let whole: Vec<usize> = (2..=trees).filter(|&t| of(t).count() == most).collect();
    let least = |of_step: &dyn Fn(&Step) -> f64, at: usize| {
        whole.iter().filter_map(|&t| of(t).nth(at)).map(of_step).fold(f64::INFINITY, f64::min) / 1e6
    };
    let work: Vec<f64> = (0..most).map(|at| least(&|s| s.work, at)).collect();
    let decide: f64 = (0..most).map(|at| least(&|s| s.decide, at)).sum();
    let sent: f64 = (0..most).map(|at| least(&|s| s.sent, at)).sum();
    let mean: f64 =
        whole.iter().flat_map(|&t| of(t)).map(|s| s.work + s.sent + s.decide).sum::<f64>() / 1e6 / whole.len().max(1) as f64;
    println!(
        "{rows} rows × {columns}, {trees} trees: CPU ms per tree {:.1} (workers {:.1}, partials to bytes and back {sent:.1}, coordinator {decide:.1}), mean {mean:.1}",
        work.iter().sum::<f64>() + sent + decide,
        work.iter().sum::<f64>(),
    );
    let steps: Vec<String> = work.iter().map(|w| format!("{w:.1}")).collect();
    println!("workers by step (gradients, levels, leaves): {}", steps.join(" "));
    let bytes: usize = of(trees).map(|s| s.bytes).sum();
    println!(
        "survey and sample {:.0} ms, binning {:.0} ms; partials of a tree {:.2} MB",
        before / 1e6,
        binning / 1e6,
        bytes as f64 / 1e6
    );
}
