//! Times the kernels at every level of this machine: `cargo run --release -p sheaf-learn --example
//! kernel_speed [COLUMNS [ROWS [LEVEL]]]`. Auto-vectorisation is brittle; a figure that doubles wants a look
//! at the loop. Beside them a peer reads and sums the same columns and nothing else: what the memory gives
//! this minute. With 4096 rows a shard the data stay in the cache, and no kernel waits for the memory.

#![expect(clippy::disallowed_methods, reason = "a bench reads the clock")]

use std::hint::black_box;
use std::time::Instant;

use sheaf_learn::algorithm::LearnError;
use sheaf_learn::kernels::level::Kernel;
use sheaf_learn::kernels::{Affine, Design, LANES, Level, Linear, Loss, Rows, Term, Vector};
use sheaf_learn::kernels::{gradient, margins, second_order, survey};
use sheaf_learn::shard::{Column, EncodedShard, Feature, FeatureKind, Schema};

/// Rows of all shards.
const ROWS: usize = 1 << 20;
const REPEATS: usize = 15;

fn main() -> Result<(), LearnError> {
    let number = |n: usize, default: usize| std::env::args().nth(n).and_then(|a| a.parse().ok()).unwrap_or(default);
    let (width, rows) = (number(1, 28), number(2, 65_536));
    let levels = std::env::args().nth(3).map_or_else(|| Ok(Level::available()), |name| Ok(vec![Level::named(&name)?]))?;
    let kind = FeatureKind::Numeric { shift: 0.0, scale: 1.0 };
    let features = (0..width).map(|j| Feature { name: format!("x{j}"), kind: kind.clone() }).collect();
    let schema = Schema { features, classes: Vec::new() };
    let value = |i: usize, j: usize| ((i * 7_919 + j * 104_729) % 1_000) as f32 * 0.002 - 1.0;
    let column = |j: usize| Column::F32((0..rows).map(|i| value(i, j)).collect());
    let shard = |_| EncodedShard { rows, columns: (0..width).map(column).collect(), ..Default::default() };
    // Few rows: one shard again and again.
    let shards: Vec<EncodedShard> = (0..if rows < 65_536 { 1 } else { ROWS / rows }).map(shard).collect();
    let passes = ROWS / rows / shards.len();
    let target: Vec<f64> = (0..rows).map(|i| f64::from(i % 3 == 0)).collect();
    let (shift, weight) = (vec![0.1; width], vec![0.05; width]);
    let linear = Linear { intercept: 0.1, shift: &shift, weight: &weight };
    let known = Rows { target: &target, weight: None, offset: None, class_weight: None };
    let designs = shards.iter().map(|s| Design::new(&schema, s, 0..rows)).collect::<Result<Vec<_>, _>>()?;

    let total = passes * shards.len() * rows;
    println!("{:.2} million rows, {width} f32 columns, best of {REPEATS} per shard, one thread, ms", total as f64 / 1e6);
    // Of f32 read, once per pass.
    let gigabytes = (total * width * 4) as f64 / 1e9;
    for level in levels {
        let mut out = vec![0.0; rows];
        let affine = Affine { shift: &shift, scale: &weight };
        let read = passes as f64 * best(&designs, |d| black_box(level.run(Read(d))));
        let time = |each: &mut dyn FnMut(&Design<'_>) -> f64| passes as f64 * best(&designs, each);
        let logistic = time(&mut |d| black_box(gradient(level, Loss::Logistic, d, linear, known)).loss);
        let scored = time(&mut |d| {
            margins(level, d, linear, None, &mut out);
            black_box(out[0])
        });
        let newton = time(&mut |d| black_box(second_order(level, Loss::Logistic, d, linear, affine, known)).loss);
        let first = time(&mut |d| black_box(survey(level, 2, d, known)).classes[0].weight);
        println!(
            "{:7} read {read:5.1} = {:5.2} GB/s  gradient {logistic:5.1} = {:5.2} GB/s, {:.2} x read  margins {scored:5.1}  second order {newton:6.1}  survey {first:6.1}",
            level.name(),
            gigabytes / (read / 1e3),
            gigabytes / (logistic / 1e3),
            logistic / read,
        );
    }
    Ok(())
}

/// The peer: a sum of every f32 column.
struct Read<'d, 'a>(&'d Design<'a>);

impl Kernel for Read<'_, '_> {
    type Output = f64;

    #[inline(always)]
    fn run<V: Vector>(self) -> f64 {
        let mut sums = [V::splat(0.0); LANES];
        for (_, term) in &self.0.terms {
            let Term::F32(x) = term else { continue };
            for block in x.as_chunks::<LANES>().0 {
                for (part, sum) in sums.iter_mut().enumerate().take(V::PARTS) {
                    *sum = sum.plus(V::load_f32(block, part));
                }
            }
        }
        let mut out = [0.0; LANES];
        for (part, sum) in sums.into_iter().enumerate().take(V::PARTS) {
            sum.store(&mut out, part);
        }
        out.iter().sum()
    }
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
