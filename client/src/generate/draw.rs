//! Counter-based draws for generated data: a value is a function of (seed, purpose, counter, slot), so
//! that it never matters which thread or file asks for it. No generator state, no libm.

use sheaf_learn::math;
use sheaf_learn::philox::Stream;

/// The streams of one purpose, one per slot; a slot is a fixed place for one column's randomness, so that
/// a new column never shifts an old one.
pub struct Keys<const SLOTS: usize>([Stream; SLOTS]);

impl<const SLOTS: usize> Keys<SLOTS> {
    /// Streams for `purpose` under `seed`.
    pub fn new(seed: u64, purpose: &str) -> Self {
        Self(std::array::from_fn(|slot| Stream::new(seed, purpose, 0, slot as u64)))
    }

    /// The draws that belong to `counter` (a row, a card, a merchant, a block of rows).
    pub fn at(&self, counter: u64) -> Draws<'_> {
        Draws { streams: &self.0, counter: u128::from(counter) }
    }
}

/// The draws of one counter.
pub struct Draws<'a> {
    streams: &'a [Stream],
    counter: u128,
}

impl Draws<'_> {
    /// Two independent uniforms of a slot, each in the open interval (0, 1).
    pub fn pair(&self, slot: usize) -> (f64, f64) {
        let [a, b, c, d] = self.streams[slot].block(self.counter);
        (open_unit(a, b), open_unit(c, d))
    }

    /// One uniform of a slot in (0, 1).
    pub fn unit(&self, slot: usize) -> f64 {
        self.pair(slot).0
    }
}

/// 52 bits of two words, moved half a step up: never 0, never 1.
fn open_unit(low: u32, high: u32) -> f64 {
    let bits = (u64::from(high) << 32 | u64::from(low)) >> 12;
    (bits as f64 + 0.5) * (1.0 / 4_503_599_627_370_496.0)
}

/// Standard normal value of a uniform `p` in (0, 1).
///
/// Source: Wichura, M. J. (1988), Algorithm AS 241 (PPND7), Applied Statistics 37(3), 477–484;
/// about seven digits, plenty for invented data.
pub fn normal(p: f64) -> f64 {
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        let r = 0.180625 - q * q;
        let num = ((59.109374720 * r + 159.29113202) * r + 50.434271938) * r + 3.3871327179;
        let den = ((67.187563600 * r + 78.757757664) * r + 17.895169469) * r + 1.0;
        return q * num / den;
    }
    let tail = if q < 0.0 { p } else { 1.0 - p };
    let r = (-math::ln(tail)).sqrt();
    let x = if r <= 5.0 {
        let r = r - 1.6;
        let num = ((0.17023821103 * r + 1.3067284816) * r + 2.7568153900) * r + 1.4234372777;
        num / ((0.12021132975 * r + 0.73700164250) * r + 1.0)
    } else {
        let r = r - 5.0;
        let num = ((0.017337203997 * r + 0.42868294337) * r + 3.0812263860) * r + 6.6579051150;
        num / ((0.012258202635 * r + 0.24197894225) * r + 1.0)
    };
    if q < 0.0 { -x } else { x }
}

/// Exponential value of mean `mean` for a uniform `p` in (0, 1).
pub fn exponential(mean: f64, p: f64) -> f64 {
    -mean * math::ln(p)
}

/// Poisson count of mean `mean` by inversion for a uniform `p`; capped at 200.
pub fn poisson(mean: f64, p: f64) -> u32 {
    let mut probability = math::exp(-mean);
    let mut cumulative = probability;
    let mut count = 0;
    while p > cumulative && count < 200 {
        count += 1;
        probability *= mean / f64::from(count);
        cumulative += probability;
    }
    count
}

/// A whole number in `0..n` (n ≥ 1) of a uniform `p` in (0, 1).
pub fn below(n: u64, p: f64) -> u64 {
    ((p * n as f64) as u64).min(n - 1)
}

/// A rank in `0..n` with a Zipf-like skew, P(rank) ∝ ln((rank + 2) / (rank + 1)): the floor of a
/// log-uniform value.
pub fn zipf(n: u64, p: f64) -> u64 {
    (math::exp(p * math::ln(n as f64 + 1.0)) as u64).clamp(1, n) - 1
}

/// The index that `p` falls on among `weights` (not negative, their sum `total`).
pub fn pick(weights: impl IntoIterator<Item = f64>, total: f64, p: f64) -> usize {
    let mut left = p * total;
    let mut last = 0;
    for (index, weight) in weights.into_iter().enumerate() {
        if weight > 0.0 {
            last = index;
            if left < weight {
                return index;
            }
        }
        left -= weight;
    }
    last
}

/// Rounded to whole numbers, halves up.
pub fn whole(x: f64) -> f64 {
    (x + 0.5).floor()
}

/// Rounded to tenths, halves up.
pub fn tenths(x: f64) -> f64 {
    (x * 10.0 + 0.5).floor() / 10.0
}

/// Rounded to hundredths, halves up.
pub fn hundredths(x: f64) -> f64 {
    (x * 100.0 + 0.5).floor() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64, tolerance: f64) {
        assert!((a - b).abs() <= tolerance, "{a} is not {b}");
    }

    #[test]
    fn normal_quantiles_agree_with_scipy() {
        // python: scipy.stats.norm.ppf(p)
        for (p, x) in [
            (0.5, 0.0),
            (0.6, 0.2533471031357997),
            (0.975, 1.959963984540054),
            (0.01, -2.3263478740408408),
            (1e-5, -4.264890793922825),
            (1e-12, -7.034483825301131),
        ] {
            close(normal(p), x, 2e-6);
        }
    }

    #[test]
    fn draws_are_functions_of_seed_purpose_counter_and_slot() {
        let keys = Keys::<2>::new(7, "test");
        assert_eq!(keys.at(5).pair(1), Keys::<2>::new(7, "test").at(5).pair(1));
        assert_ne!(keys.at(5).unit(1), keys.at(6).unit(1));
        assert_ne!(keys.at(5).unit(1), keys.at(5).unit(0));
        assert_ne!(keys.at(5).unit(1), Keys::<2>::new(8, "test").at(5).unit(1));
        assert_ne!(keys.at(5).unit(1), Keys::<2>::new(7, "other").at(5).unit(1));
    }

    #[test]
    fn moments_are_as_declared() {
        let keys = Keys::<2>::new(1, "moments");
        let n = 40_000;
        let (mut exp, mut count, mut first, mut square) = (0.0, 0.0, 0.0, 0.0);
        for i in 0..n {
            let (a, b) = keys.at(i).pair(0);
            let z = normal(b);
            exp += exponential(3.0, a);
            count += f64::from(poisson(1.5, a));
            first += if zipf(100, a) == 0 { 1.0 } else { 0.0 };
            square += z * z;
        }
        let n = n as f64;
        close(exp / n, 3.0, 0.06);
        close(count / n, 1.5, 0.03);
        // ln 2 / ln 101
        close(first / n, 0.1502, 0.01);
        close(square / n, 1.0, 0.03);
    }

    #[test]
    fn edges_stay_inside() {
        assert_eq!(open_unit(0, 0), 0.5 / 4_503_599_627_370_496.0);
        assert!(open_unit(u32::MAX, u32::MAX) < 1.0);
        assert_eq!(below(3, 0.999_999_999_999), 2);
        assert_eq!(zipf(10, 1.0 - 1e-16), 9);
        assert_eq!(pick([1.0, 0.0, 1.0], 2.0, 0.999_999), 2);
        assert_eq!(pick([1.0, 1.0, 0.0], 2.0, 1.0), 1);
    }
}
