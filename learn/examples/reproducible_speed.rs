//! Times exact sums beside plain ones: `cargo run --release -p sheaf-learn --example reproducible_speed`. Nanoseconds a
//! row, best of several passes, one thread. The plain ones are what a query engine does: a sum in lanes, Welford's
//! variance, sums of products for a correlation, and one number per group.

#![expect(clippy::disallowed_methods, reason = "a bench reads the clock")]

use std::hint::black_box;
use std::time::Instant;

use sheaf_learn::kernels::Level;
use sheaf_learn::reproducible::{Fit, Spread, Sums, Total};

const ROWS: usize = 1 << 17;
const REPEATS: usize = 15;

fn main() {
    let mut state = 7u64;
    let mut draw = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    let x: Vec<f64> = (0..ROWS).map(|_| (draw() - 0.3) * 1000.0).collect();
    let y: Vec<f64> = x.iter().map(|x| 2.0 * x + draw() * 10.0).collect();
    let prices: Vec<f64> = (0..ROWS).map(|_| (draw() * 100_000.0).round() / 100.0).collect();
    let spread: Vec<f64> = (0..ROWS).map(|_| draw() / (draw() * 1e-3 + 1e-9)).collect();
    println!("ns a row              exact   plain");
    for level in Level::available() {
        println!("sum of {:14} {:6.2}  {:6.2}", level.name(), column_sum(level, &x), best(|| lanes(&x)));
    }
    let level = Level::detect();
    println!("sum of prices         {:6.2}  {:6.2}", column_sum(level, &prices), best(|| lanes(&prices)));
    println!("sum of wide spread    {:6.2}  {:6.2}", column_sum(level, &spread), best(|| lanes(&spread)));
    let variance = best(|| {
        let mut sums = Spread::default();
        sums.add_columns(level, [&x]);
        sums.variance(true)
    });
    println!("variance              {variance:6.2}  {:6.2}", best(|| welford(&x)));
    let correlation = best(|| {
        let mut sums = Fit::default();
        sums.add_columns(level, [&y, &x]);
        sums.correlation()
    });
    println!("correlation           {correlation:6.2}  {:6.2}", best(|| products(&x, &y)));
    for groups in [10, 1000, 100_000] {
        let group: Vec<usize> = (0..ROWS).map(|_| (draw() * groups as f64) as usize).collect();
        let one = |x: f64| [x];
        println!(
            "sum of {groups:6} groups  {:6.2}  {:6.2}",
            grouped::<Total>(&group, groups, &x, one),
            best(|| plain(&group, groups, &x))
        );
        println!(
            "var of {groups:6} groups  {:6.2}  {:6.2}",
            grouped::<Spread>(&group, groups, &x, one),
            best(|| welfords(&group, groups, &x))
        );
    }
    evaluation(&x, &y);
}

fn column_sum(level: Level, x: &[f64]) -> f64 {
    best(|| {
        let mut sums = Total::default();
        sums.add_columns(level, [x]);
        sums.sum()
    })
}

fn lanes(x: &[f64]) -> f64 {
    let mut lanes = [0.0; 16];
    for block in x.as_chunks::<16>().0 {
        lanes.iter_mut().zip(block).for_each(|(lane, x)| *lane += x);
    }
    lanes.iter().sum()
}

fn welford(x: &[f64]) -> f64 {
    let (mut n, mut mean, mut squares) = (0u64, 0.0, 0.0);
    for x in x {
        n += 1;
        let before = x - mean;
        mean += before / n as f64;
        squares += before * (x - mean);
    }
    squares / (n - 1) as f64
}

fn products(x: &[f64], y: &[f64]) -> [f64; 5] {
    let mut sums = [0.0; 5];
    for (x, y) in x.iter().zip(y) {
        for (sum, term) in sums.iter_mut().zip([*x, *y, x * x, y * y, x * y]) {
            *sum += term;
        }
    }
    sums
}

fn grouped<S: Sums<1>>(group: &[usize], groups: usize, x: &[f64], row: impl Fn(f64) -> [f64; 1]) -> f64 {
    let mut sums = vec![S::default(); groups];
    best(|| {
        for (group, x) in group.iter().zip(x) {
            black_box(sums[*group].add(row(*x)));
        }
    })
}

fn plain(group: &[usize], groups: usize, x: &[f64]) -> Vec<f64> {
    let mut sums = vec![0.0; groups];
    for (group, x) in group.iter().zip(x) {
        sums[*group] += x;
    }
    sums
}

fn welfords(group: &[usize], groups: usize, x: &[f64]) -> Vec<f64> {
    let (mut n, mut mean, mut squares) = (vec![0u64; groups], vec![0.0; groups], vec![0.0; groups]);
    for (g, x) in group.iter().zip(x) {
        n[*g] += 1;
        let before = x - mean[*g];
        mean[*g] += before / n[*g] as f64;
        squares[*g] += before * (x - mean[*g]);
    }
    squares
}

/// What a result costs, and what the state of a group costs on the wire.
fn evaluation(x: &[f64], y: &[f64]) {
    let (mut total, mut spread, mut fit) = (Total::default(), Spread::default(), Fit::default());
    for i in 0..1000 {
        total.add([x[i]]);
        spread.add([x[i]]);
        fit.add([y[i], x[i]]);
    }
    let each = |time: f64| time * ROWS as f64;
    println!("ns a result: sum {:.0}, mean {:.0}", each(best(|| total.sum())), each(best(|| total.mean())));
    println!("  variance {:.0}, correlation {:.0}", each(best(|| spread.variance(true))), each(best(|| fit.correlation())));
    let (mut bytes, mut others) = (Vec::new(), Vec::new());
    total.write(&mut bytes);
    fit.write(&mut others);
    let written = each(best(|| {
        bytes.clear();
        total.write(&mut bytes);
    }));
    let merged = each(best(|| Total::default().merge_bytes(&bytes)));
    println!(
        "state of a sum: {} bytes, written {written:.0} ns, merged {merged:.0} ns; of a correlation {} bytes",
        bytes.len(),
        others.len()
    );
    println!("in memory: {} and {} bytes", size_of::<Total>(), size_of::<Fit>());
}

fn best<T>(mut pass: impl FnMut() -> T) -> f64 {
    let time = |_| {
        let start = Instant::now();
        black_box(pass());
        start.elapsed().as_nanos() as f64 / ROWS as f64
    };
    (0..REPEATS).map(time).fold(f64::INFINITY, f64::min)
}
