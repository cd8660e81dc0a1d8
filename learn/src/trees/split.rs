//! The best split of a node from its histogram: sums are integers, gains f64 in a fixed order.
//!
//! With G and H the sums of gradients and hessians of a side, T(G) = sign(G) · max(|G| − l1, 0), a side is worth
//! T(G)² / (H + l2) and a split gains left + right − parent (Chen and Guestrin, "XGBoost", KDD 2016, without the ½,
//! as LightGBM has it). Rows of a bin are estimated by its share of the node's hessians, as LightGBM does.

use serde::{Deserialize, Serialize};

use crate::kernels::level::Kernel;
use crate::kernels::{Level, Vector};

use super::CELLS;
use super::bins::Bins;
use super::category;
use super::grown::Rule;
use super::histogram::{Pair, UNITS};
use super::params::Regularization;
use super::sums::{Cells, Sums};

/// Gain of the best of some thousand thresholds by rounding alone, in squared units a row and hessian.
const NOISE: f64 = 8.0;

/// What a unit of a rounded gradient and hessian stands for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Scale {
    /// Largest |gradient| of the training rows.
    pub gradient: f64,
    /// Largest hessian.
    pub hessian: f64,
    /// Σ gradient² / Σ hessian of the training rows; 0: not known.
    pub dispersion: f64,
}

impl Scale {
    /// Units of gradient and hessian.
    pub fn units(self) -> [f64; 2] {
        [self.gradient / f64::from(UNITS), self.hessian / f64::from(UNITS)]
    }
}

/// A split that a node may take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// What it gains.
    pub gain: f64,
    /// The feature that decides.
    pub feature: u32,
    /// How.
    pub rule: Rule,
    /// Sums of the left side, in units.
    pub left: Pair,
    /// Sums of the right side.
    pub right: Pair,
    /// Added to `l2` where the children are leaves.
    pub more_l2: f64,
}

impl Candidate {
    /// Whether it is taken before another split of the same node: it gains more, or as much by an earlier feature.
    pub fn beats(&self, other: &Self) -> bool {
        self.gain > other.gain || (self.gain == other.gain && self.feature < other.feature)
    }
}

/// A node as the search sees it.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    /// Sums of every cell of some features side by side.
    pub sums: &'a Sums,
    /// The first of these features.
    pub first: usize,
    /// Of all features.
    pub whole: Whole,
}

/// What is known of a node without its cells.
#[derive(Debug, Clone, Copy)]
pub struct Whole {
    /// Rows.
    pub rows: u64,
    /// Sums of all rows.
    pub total: Pair,
    /// Units.
    pub scale: Scale,
    /// Least and largest value that its leaves may have.
    pub bounds: [f64; 2],
}

/// The best split of a node over some features, the first of equal ones; `None` where nothing gains enough.
pub fn best(
    level: Level,
    rules: &Regularization,
    bins: &Bins,
    node: Node<'_>,
    features: &[u32],
    drawn: impl Fn(u32) -> Option<u64>,
) -> Option<Candidate> {
    if node.whole.total[1] <= 0 {
        return None;
    }
    let sides = Sides::new(rules, &node.whole);
    let mut best: Option<Candidate> = None;
    for &feature in features {
        let own = &bins.features[feature as usize];
        let cells = node.sums.feature(feature as usize - node.first);
        let found = if own.is_numeric() {
            let monotone = rules.monotone.get(feature as usize).copied().unwrap_or(0);
            let only = drawn(feature);
            numeric(level, &sides, cells, own.count(), monotone, only)
        } else {
            category::best(rules, &sides, &cells.pairs(), own.count())
        };
        let floor = best.as_ref().map_or(sides.floor, |b| b.gain);
        if let Some(found) = found.filter(|f| f.gain > floor) {
            let right = [sides.total[0] - found.left[0], sides.total[1] - found.left[1]];
            best =
                Some(Candidate { gain: found.gain, feature, rule: found.rule, left: found.left, right, more_l2: found.more_l2 });
        }
    }
    best
}

/// A split of one feature.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    /// What it gains.
    pub gain: f64,
    /// How.
    pub rule: Rule,
    /// Sums of the left side.
    pub left: Pair,
    /// Added to `l2` where the children are leaves.
    pub more_l2: f64,
}

/// What sides of a node are worth.
#[derive(Debug, Clone, Copy)]
pub struct Sides {
    /// Sums of the node.
    pub total: Pair,
    /// Rows of the node.
    pub rows: u64,
    /// Units of gradient and hessian.
    pub units: [f64; 2],
    /// [`Scale::dispersion`].
    pub dispersion: f64,
    /// Least hessians of a side, in units: weight and rows.
    pub least: f64,
    /// The node's own worth.
    pub parent: f64,
    /// What a split must gain more than.
    floor: f64,
    l1: f64,
    l2: f64,
    bounds: [f64; 2],
}

impl Sides {
    /// The same with more added to hessians; the node's own worth stays.
    pub fn with_more_l2(&self, more: f64) -> Self {
        Self { l2: self.l2 + more, ..*self }
    }

    /// Of a node.
    pub fn new(rules: &Regularization, node: &Whole) -> Self {
        let units = node.scale.units();
        // A side of r rows is estimated by hessians ≥ (r − ½) / rows of the node's.
        let rows = (f64::from(rules.min_samples_leaf) - 0.5) / node.rows.max(1) as f64 * node.total[1] as f64;
        let weight = rules.min_child_weight / units[1];
        let least = if rows > weight { rows } else { weight };
        let least = if least > 1.0 { least } else { 1.0 };
        let mut out = Self {
            total: node.total,
            rows: node.rows,
            units,
            dispersion: node.scale.dispersion,
            least,
            parent: 0.0,
            floor: 0.0,
            l1: rules.l1,
            l2: rules.l2,
            bounds: node.bounds,
        };
        out.parent = out.worth(out.total);
        // A rounded sum of n gradients has a variance of up to n / 4 units: what that can gain is no gain.
        let noise = NOISE * units[0] * units[0] * node.rows as f64 / (node.total[1] as f64 * units[1]);
        out.floor = if noise > rules.min_split_gain { noise } else { rules.min_split_gain };
        out
    }

    fn is_bounded(&self) -> bool {
        self.bounds[0] > f64::NEG_INFINITY || self.bounds[1] < f64::INFINITY
    }

    /// What a leaf of these sums adds, without the learning rate.
    pub fn value(&self, sums: Pair) -> f64 {
        leaf_value(sums[0] as f64 * self.units[0], sums[1] as f64 * self.units[1], self.l1, self.l2, self.bounds)
    }

    /// What a side of these sums is worth.
    pub fn worth(&self, sums: Pair) -> f64 {
        let (g, h) = (sums[0] as f64 * self.units[0], sums[1] as f64 * self.units[1] + self.l2);
        let g = soft(g, self.l1);
        if self.is_bounded() {
            let value = self.value(sums);
            return -(2.0 * g * value + h * value * value);
        }
        g * g / h
    }

    /// Whether a side has enough rows and weight.
    pub fn is_large_enough(&self, sums: Pair) -> bool {
        sums[1] as f64 >= self.least
    }

    /// About how many rows have these sums.
    pub fn rows_of(&self, sums: Pair) -> f64 {
        self.rows as f64 * (sums[1] as f64 / self.total[1] as f64)
    }

    /// What splitting these sums off gains; `None` if a side is too small or the order is wrong.
    pub fn gain(&self, left: Pair, monotone: i8) -> Option<f64> {
        let right = [self.total[0] - left[0], self.total[1] - left[1]];
        if !self.is_large_enough(left) || !self.is_large_enough(right) {
            return None;
        }
        if monotone != 0 {
            let (l, r) = (self.value(left), self.value(right));
            if (monotone > 0 && l > r) || (monotone < 0 && l < r) {
                return None;
            }
        }
        Some((self.worth(left) + self.worth(right)) - self.parent)
    }
}

/// sign(g) · max(|g| − l1, 0).
#[inline(always)]
fn soft(g: f64, l1: f64) -> f64 {
    let rest = g.abs() - l1;
    let rest = if rest > 0.0 { rest } else { 0.0 };
    if g < 0.0 { -rest } else { rest }
}

/// −T(G) / (H + l2) within bounds; 0 without hessians.
pub fn leaf_value(g: f64, h: f64, l1: f64, l2: f64, bounds: [f64; 2]) -> f64 {
    let h = h + l2;
    let free = if h > 0.0 { -soft(g, l1) / h } else { 0.0 };
    let value = if free < bounds[0] { bounds[0] } else { free };
    let value = if value > bounds[1] { bounds[1] } else { value };
    // No negative zero.
    value + 0.0
}

/// The best threshold of a feature: missing values to the right and, where there are some, to the left. `only`: one
/// threshold drawn by these random bits.
fn numeric(level: Level, sides: &Sides, cells: Cells<'_>, count: usize, monotone: i8, only: Option<u64>) -> Option<Found> {
    let missing = cells.at(count);
    let has_missing = missing != [0; 2];
    // The last bin on the left is a split only if missing values go right.
    let last = if has_missing { count } else { count - 1 };
    if last == 0 {
        return None;
    }
    let prefix = level.run(Prefixes { cells, count: last });
    let range = match only {
        Some(bits) => drawn_threshold(&prefix.hessian[..last], bits)?,
        None => 0..last,
    };
    let mut best: Option<Found> = None;
    for with_missing in [false, true] {
        if with_missing && !has_missing {
            break;
        }
        let more = if with_missing { missing } else { [0; 2] };
        let view = Scan { sides, prefix: &prefix, range: range.clone(), more };
        let Some((bin, gain)) = view.best(level, cells, monotone) else { continue };
        if best.is_none_or(|b| gain > b.gain) {
            let left = before(cells, bin + 1, more);
            // Values that are missing only at prediction go with most of the weight.
            let missing_left = if has_missing { with_missing } else { 2 * left[1] >= sides.total[1] };
            best = Some(Found { gain, rule: Rule::Below { bin: bin as u8, missing_left }, left, more_l2: 0.0 });
        }
    }
    best
}

/// Sums of the bins before one, and of more rows.
fn before(cells: Cells<'_>, bin: usize, more: Pair) -> Pair {
    let own = cells.before(bin);
    [own[0] + more[0], own[1] + more[1]]
}

/// Sums of the bins up to each, as numbers. Whole ones below 2⁵³ are exact, and so are their sums and differences.
struct Prefix {
    gradient: [f64; CELLS],
    hessian: [f64; CELLS],
}

struct Prefixes<'a> {
    cells: Cells<'a>,
    /// Bins of use.
    count: usize,
}

impl Kernel for Prefixes<'_> {
    type Output = Prefix;

    #[inline(always)]
    fn run<V: Vector>(self) -> Prefix {
        let mut out = Prefix { gradient: [0.0; CELLS], hessian: [0.0; CELLS] };
        match self.cells {
            Cells::Packed(words) => {
                let (mut sums, mut sum) = ([0u64; CELLS], 0u64);
                for (out, word) in sums.iter_mut().zip(words).take(self.count) {
                    sum = sum.wrapping_add(*word);
                    *out = sum;
                }
                for (i, sum) in sums.into_iter().enumerate() {
                    out.gradient[i] = f64::from((sum >> 32) as i32);
                    out.hessian[i] = f64::from(sum as u32);
                }
            }
            Cells::Wide(pairs) => {
                let mut sum = [0i64; 2];
                for (i, pair) in pairs.iter().enumerate().take(self.count) {
                    sum = [sum[0] + pair[0], sum[1] + pair[1]];
                    out.gradient[i] = sum[0] as f64;
                    out.hessian[i] = sum[1] as f64;
                }
            }
        }
        out
    }
}

/// One of the thresholds between the lowest and the highest bin with rows.
fn drawn_threshold(hessian: &[f64], bits: u64) -> Option<std::ops::Range<usize>> {
    let all = *hessian.last()?;
    let first = hessian.iter().position(|&h| h > 0.0)?;
    let end = hessian.iter().position(|&h| h == all)?.max(first + 1);
    let at = first + ((u128::from(bits) * (end - first) as u128) >> 64) as usize;
    Some(at..at + 1)
}

/// Thresholds of a range at once, `more` always on the left: the same numbers as [`Sides::gain`] without constraints.
struct Scan<'a> {
    sides: &'a Sides,
    prefix: &'a Prefix,
    range: std::ops::Range<usize>,
    more: Pair,
}

impl Scan<'_> {
    /// The best threshold and what it gains, the first of equal ones.
    fn best(self, level: Level, cells: Cells<'_>, monotone: i8) -> Option<(usize, f64)> {
        let sides = self.sides;
        if monotone == 0 && !sides.is_bounded() && sides.l1 == 0.0 {
            return level.run(self);
        }
        let mut best: Option<(usize, f64)> = None;
        let mut left = before(cells, self.range.start, self.more);
        for bin in self.range {
            let cell = cells.at(bin);
            left = [left[0] + cell[0], left[1] + cell[1]];
            if let Some(gain) = sides.gain(left, monotone).filter(|&g| best.is_none_or(|b| g > b.1)) {
                best = Some((bin, gain));
            }
        }
        best
    }
}

/// Thresholds side by side.
const LANES: usize = 8;

impl Kernel for Scan<'_> {
    type Output = Option<(usize, f64)>;

    #[inline(always)]
    fn run<V: Vector>(self) -> Self::Output {
        let Self { sides, prefix, range, more } = self;
        let ([gu, hu], l2, least, parent) = (sides.units, sides.l2, sides.least, sides.parent);
        let ([tg, th], [mg, mh]) = (sides.total.map(|x| x as f64), more.map(|x| x as f64));
        let mut gains = [f64::NEG_INFINITY; CELLS];
        let blocks = range.end.div_ceil(LANES);
        let sums = prefix.gradient.as_chunks::<LANES>().0.iter().zip(prefix.hessian.as_chunks::<LANES>().0);
        for (gains, (gradient, hessian)) in gains.as_chunks_mut::<LANES>().0.iter_mut().zip(sums).take(blocks) {
            for l in 0..LANES {
                let (lg, lh) = (gradient[l] + mg, hessian[l] + mh);
                let (rg, rh) = (tg - lg, th - lh);
                let (left, right) = (lg * gu, rg * gu);
                let gain = left * left / (lh * hu + l2) + right * right / (rh * hu + l2) - parent;
                gains[l] = if lh >= least && rh >= least { gain } else { f64::NEG_INFINITY };
            }
        }
        let gains = &mut gains[..blocks * LANES];
        gains[..range.start].fill(f64::NEG_INFINITY);
        gains[range.end..].fill(f64::NEG_INFINITY);
        let mut most = [f64::NEG_INFINITY; LANES];
        for gains in gains.as_chunks::<LANES>().0 {
            for l in 0..LANES {
                most[l] = if gains[l] > most[l] { gains[l] } else { most[l] };
            }
        }
        let best = most.into_iter().fold(f64::NEG_INFINITY, |a, b| if b > a { b } else { a });
        let bin = gains.iter().position(|&gain| gain == best)?;
        (best > f64::NEG_INFINITY).then_some((bin, best))
    }
}
