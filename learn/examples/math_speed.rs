//! Times the elementary functions beside the standard library's: `cargo run --release -p sheaf-learn --example
//! math_speed`. Nanoseconds a value, best of several passes over an array, one thread.

#![expect(clippy::disallowed_methods, reason = "a bench reads the clock and calls what it compares with")]

use std::hint::black_box;
use std::time::Instant;

use sheaf_learn::math;

const VALUES: usize = 16_384;
const REPEATS: usize = 30;

type One = fn(f64) -> f64;

fn main() {
    let cases: [(&str, f64, f64, One, One); 24] = [
        ("exp", -30.0, 30.0, |x| math::exp(x), f64::exp),
        ("ln", 0.0, 1e6, |x| math::ln(x), f64::ln),
        ("pow 1.7", 0.0, 100.0, |x| math::pow(x, 1.7), |x| x.powf(1.7)),
        ("sin < 0.8", -0.78, 0.78, math::sin, f64::sin),
        ("sin < 100", -100.0, 100.0, math::sin, f64::sin),
        ("sin < 1e300", -1e300, 1e300, math::sin, f64::sin),
        ("cos < 100", -100.0, 100.0, math::cos, f64::cos),
        ("tan < 100", -100.0, 100.0, math::tan, f64::tan),
        ("cot < 100", -100.0, 100.0, math::cot, |x| 1.0 / x.tan()),
        ("asin", -1.0, 1.0, math::asin, f64::asin),
        ("acos", -1.0, 1.0, math::acos, f64::acos),
        ("atan", -10.0, 10.0, math::atan, f64::atan),
        ("atan2", -10.0, 10.0, |x| math::atan2(x, 3.0), |x| x.atan2(3.0)),
        ("sinh", -10.0, 10.0, math::sinh, f64::sinh),
        ("cosh", -10.0, 10.0, math::cosh, f64::cosh),
        ("tanh", -10.0, 10.0, math::tanh, f64::tanh),
        ("asinh", -10.0, 10.0, math::asinh, f64::asinh),
        ("acosh", 1.0, 10.0, math::acosh, f64::acosh),
        ("atanh", -1.0, 1.0, math::atanh, f64::atanh),
        ("cbrt", -1e6, 1e6, math::cbrt, f64::cbrt),
        ("log2", 0.0, 1e6, math::log2, f64::log2),
        ("log10", 0.0, 1e6, math::log10, f64::log10),
        ("log 7", 0.0, 1e6, |x| math::log(7.0, x), |x| x.log(7.0)),
        ("sqrt", 0.0, 1e6, f64::sqrt, f64::sqrt),
    ];
    println!("ns a value    ours     std");
    for (name, low, high, ours, std) in cases {
        let step = (high - low) / VALUES as f64;
        // A stride that is no neighbour's, so that branches see what they see in data.
        let values: Vec<f64> = (0..VALUES).map(|i| low + ((i * 7_919) % VALUES) as f64 * step + step * 0.37).collect();
        println!("{name:11} {:6.1}  {:6.1}", best(&values, ours), best(&values, std));
    }
}

fn best(values: &[f64], function: One) -> f64 {
    let pass = |_| {
        let start = Instant::now();
        let sum: f64 = values.iter().map(|x| function(*x)).sum();
        black_box(sum);
        start.elapsed().as_nanos() as f64 / values.len() as f64
    };
    (0..REPEATS).map(pass).fold(f64::INFINITY, f64::min)
}
