//! Times the kernels at every level of this machine: `cargo run --release -p sheaf-learn --example
//! kernel_speed [COLUMNS]`. Auto-vectorisation is brittle; a figure that doubles wants a look at the loop.

#![expect(clippy::disallowed_methods, reason = "a bench reads the clock")]

use std::hint::black_box;
use std::time::Instant;

use sheaf_learn::algorithm::LearnError;
use sheaf_learn::kernels::{Affine, Design, Level, Linear, Loss, Rows, gradient, margins, second_order, survey};
use sheaf_learn::shard::{Column, EncodedShard, Feature, FeatureKind, Schema};

const SHARDS: usize = 16;
const ROWS: usize = 65_536;
const REPEATS: usize = 15;

fn main() -> Result<(), LearnError> {
    let width = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(28);
    let kind = FeatureKind::Numeric { shift: 0.0, scale: 1.0 };
    let features = (0..width).map(|j| Feature { name: format!("x{j}"), kind: kind.clone() }).collect();
    let schema = Schema { features, classes: Vec::new() };
    let value = |i: usize, j: usize| ((i * 7_919 + j * 104_729) % 1_000) as f32 * 0.002 - 1.0;
    let column = |j: usize| Column::F32((0..ROWS).map(|i| value(i, j)).collect());
    let shard = |_| EncodedShard { rows: ROWS, columns: (0..width).map(column).collect(), ..Default::default() };
    let shards: Vec<EncodedShard> = (0..SHARDS).map(shard).collect();
    let target: Vec<f64> = (0..ROWS).map(|i| f64::from(i % 3 == 0)).collect();
    let (shift, weight) = (vec![0.1; width], vec![0.05; width]);
    let linear = Linear { intercept: 0.1, shift: &shift, weight: &weight };
    let rows = Rows { target: &target, weight: None, offset: None, class_weight: None };
    let designs = shards.iter().map(|s| Design::new(&schema, s, 0..ROWS)).collect::<Result<Vec<_>, _>>()?;

    println!("{:.2} million rows, {width} f32 columns, best of {REPEATS} per shard, one thread", (SHARDS * ROWS) as f64 / 1e6);
    for level in Level::available() {
        let mut out = vec![0.0; ROWS];
        let affine = Affine { shift: &shift, scale: &weight };
        let logistic = best(&designs, |d| black_box(gradient(level, Loss::Logistic, d, linear, rows)).loss);
        let scored = best(&designs, |d| {
            margins(level, d, linear, None, &mut out);
            black_box(out[0])
        });
        let newton = best(&designs, |d| black_box(second_order(level, Loss::Logistic, d, linear, affine, rows)).loss);
        let first = best(&designs, |d| black_box(survey(level, 2, d, rows)).classes[0].weight);
        // Of f32 read, once per pass.
        let gigabytes = (SHARDS * ROWS * width * 4) as f64 / 1e9;
        println!(
            "{:8} gradient {logistic:7.1} ms = {:5.2} GB/s  margins {scored:7.1}  second order {newton:7.1}  survey {first:7.1}",
            level.name(),
            gigabytes / (logistic / 1e3)
        );
    }
    Ok(())
}

/// Milliseconds over all designs: of each the best of all passes, so that other work on the machine shows little.
fn best(designs: &[Design<'_>], mut each: impl FnMut(&Design<'_>) -> f64) -> f64 {
    let mut fastest = vec![f64::INFINITY; designs.len()];
    for _ in 0..REPEATS {
        for (design, fastest) in designs.iter().zip(&mut fastest) {
            let start = Instant::now();
            black_box(each(design));
            *fastest = fastest.min(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    fastest.iter().sum()
}
