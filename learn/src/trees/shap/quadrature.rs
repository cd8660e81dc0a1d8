//! Integrals over [0, 1] by Gauss and Legendre: n points are exact for polynomials up to degree 2n − 1.

use crate::math::cos;

/// A point of a rule.
#[derive(Debug, Clone, Copy)]
pub(super) struct Point {
    /// Where it is.
    pub at: f64,
    /// 1 − `at`, without cancellation.
    pub rest: f64,
    /// What it counts for.
    pub weight: f64,
}

/// Newton's steps: from the start below each doubles the correct digits, of which there are three or more.
const STEPS: usize = 6;

/// The rule of `count` points, from the last to the first.
pub(super) fn rule(count: usize) -> Vec<Point> {
    let n = count as f64;
    let point = |i: usize| {
        // Tricomi's approximation of the roots of the Legendre polynomial on [−1, 1].
        let mut x = cos(std::f64::consts::PI * (i as f64 + 0.75) / (n + 0.5));
        let mut slope = 0.0;
        for _ in 0..STEPS {
            let [value, before] = legendre(count, x);
            slope = n * (x * value - before) / (x * x - 1.0);
            x -= value / slope;
        }
        let (at, rest) = ((1.0 + x) * 0.5, (1.0 - x) * 0.5);
        Point { at, rest, weight: 1.0 / (4.0 * at * rest * slope * slope) }
    };
    (0..count).map(point).collect()
}

/// The Legendre polynomials of degree `count` and of one less.
fn legendre(count: usize, x: f64) -> [f64; 2] {
    let (mut own, mut before) = (1.0, 0.0);
    for k in 0..count {
        let k = k as f64;
        (own, before) = (((2.0 * k + 1.0) * x * own - k * before) / (k + 1.0), own);
    }
    [own, before]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polynomials_are_integrated_exactly() {
        for count in (1..=40).chain([200]) {
            let rule = rule(count);
            assert!(rule.windows(2).all(|pair| pair[1].at < pair[0].at), "{count}");
            // ∫ tᵏ (1 − t)ˡ dt = k! l! / (k + l + 1)!
            for (k, l) in [(0, 0), (0, 2 * count - 1), (2 * count - 1, 0), (count, count - 1), (1, count - 1)] {
                let power = |base: f64, times: usize| (0..times).fold(1.0, |product, _| product * base);
                let found: f64 = rule.iter().map(|p| p.weight * power(p.at, k) * power(p.rest, l)).sum();
                let want = (1..=l).map(|i| i as f64 / (k + i) as f64).product::<f64>() / (k + l + 1) as f64;
                assert!((found - want).abs() < 1e-12 * want.max(1e-3), "{count} points, t^{k} (1 - t)^{l}: {found} {want}");
            }
        }
    }
}
