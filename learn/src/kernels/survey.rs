//! The first look at the rows of a shard: weight, mean and squared deviations per slot and class, and
//! counts of everything that a fit cannot take. Mean first, deviations then, so that nothing cancels.
//! The sweeps over a numeric column are in [`columns`].

mod columns;

use serde::{Deserialize, Serialize};

use self::columns::Columns;
use super::design::{Design, Term};
use super::level::{Kernel, Level, Vector};
use super::{LANES, Number, Rows, lane_sum};
use crate::algorithm::Merge;

/// Weighted mean and deviations of every slot, and of target − offset as the last entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Moments {
    /// Σ w.
    pub weight: f64,
    /// Weighted mean.
    pub mean: Vec<f64>,
    /// Σ w (x − mean)².
    pub deviation: Vec<f64>,
}

/// What a fit has to know of its rows before it starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Survey {
    /// Number of rows.
    pub rows: u64,
    /// One, or one per class (negative, positive).
    pub classes: Vec<Moments>,
    /// Smallest value of each slot where the weight is positive.
    pub low: Vec<f64>,
    /// Largest value of each slot where the weight is positive.
    pub high: Vec<f64>,
    /// Missing or infinite values of each column of the schema.
    pub bad_values: Vec<u64>,
    /// Missing or infinite targets.
    pub bad_targets: u64,
    /// Targets other than 0 and 1, where there are classes.
    pub odd_targets: u64,
    /// Missing, infinite or negative weights.
    pub bad_weights: u64,
    /// Missing or infinite offsets.
    pub bad_offsets: u64,
}

/// Surveys all rows of a design, with `classes` 1 or 2.
///
/// # Panics
/// If the lengths of rows and design differ.
pub fn survey(level: Level, classes: usize, design: &Design<'_>, rows: Rows<'_>) -> Survey {
    rows.check(design);
    level.run(Look { classes, design, rows })
}

impl Merge for Moments {
    /// Chan, Golub and LeVeque (1979).
    fn merge(&mut self, right: Self) {
        if right.weight == 0.0 {
            return;
        }
        if self.weight == 0.0 {
            *self = right;
            return;
        }
        let total = self.weight + right.weight;
        let share = right.weight / total;
        let cross = self.weight * share;
        for j in 0..self.mean.len() {
            let delta = right.mean[j] - self.mean[j];
            self.mean[j] += delta * share;
            self.deviation[j] += right.deviation[j] + delta * delta * cross;
        }
        self.weight = total;
    }
}

impl Merge for Survey {
    fn merge(&mut self, right: Self) {
        self.rows += right.rows;
        for (a, b) in self.classes.iter_mut().zip(right.classes) {
            a.merge(b);
        }
        for (a, b) in self.low.iter_mut().zip(right.low) {
            *a = smaller(*a, b);
        }
        for (a, b) in self.high.iter_mut().zip(right.high) {
            *a = larger(*a, b);
        }
        for (a, b) in self.bad_values.iter_mut().zip(right.bad_values) {
            *a += b;
        }
        self.bad_targets += right.bad_targets;
        self.odd_targets += right.odd_targets;
        self.bad_weights += right.bad_weights;
        self.bad_offsets += right.bad_offsets;
    }
}

struct Look<'a> {
    classes: usize,
    design: &'a Design<'a>,
    rows: Rows<'a>,
}

impl Kernel for Look<'_> {
    type Output = Survey;

    #[inline(always)]
    fn run<V: Vector>(self) -> Survey {
        let Self { classes, design, rows } = self;
        let weight: Vec<f64> = rows.weight.map_or_else(|| vec![1.0; design.rows], <[f64]>::to_vec);
        let net: Vec<f64> = match rows.offset {
            Some(offset) => rows.target.iter().zip(offset).map(|(y, o)| y - o).collect(),
            None => rows.target.to_vec(),
        };
        let seen = match classes {
            1 => numbers::<V, 1>(design, &weight, &net, [weight.clone()]),
            _ => numbers::<V, 2>(design, &weight, &net, [0.0, 1.0].map(|y| of_class(&weight, rows.target, y))),
        };
        Survey {
            rows: design.rows as u64,
            classes: seen.classes,
            low: seen.low,
            high: seen.high,
            bad_values: seen.bad_values,
            bad_targets: count(rows.target, |y| !y.is_finite()),
            odd_targets: if classes == 1 { 0 } else { count(rows.target, |y| y.is_finite() && y != 0.0 && y != 1.0) },
            bad_weights: count(&weight, |w| !w.is_finite() || w < 0.0),
            bad_offsets: rows.offset.map_or(0, |o| count(o, |o| !o.is_finite())),
        }
    }
}

/// What is known of the slots.
struct Seen {
    classes: Vec<Moments>,
    low: Vec<f64>,
    high: Vec<f64>,
    bad_values: Vec<u64>,
}

/// The weights of the rows of one class, 0 for the others.
#[inline(always)]
fn of_class(weight: &[f64], target: &[f64], class: f64) -> Vec<f64> {
    let mut out = vec![0.0; weight.len()];
    for ((out, w), t) in out.iter_mut().zip(weight).zip(target) {
        *out = if *t == class { *w } else { 0.0 };
    }
    out
}

/// Moments, extremes and bad values of all columns, and the moments of `net`.
#[inline(always)]
fn numbers<V: Vector, const C: usize>(design: &Design<'_>, weight: &[f64], net: &[f64], class: [Vec<f64>; C]) -> Seen {
    let width = design.width + 1;
    let (mut low, mut high) = (vec![f64::INFINITY; width], vec![f64::NEG_INFINITY; width]);
    let mut bad_values = Vec::with_capacity(design.terms.len());
    let mut moments = Vec::with_capacity(C);
    let mut totals = [0.0; C];
    for (total, class) in totals.iter_mut().zip(&class) {
        *total = lane_total(class);
        moments.push(Moments { weight: one_nan(*total), mean: vec![0.0; width], deviation: vec![0.0; width] });
    }
    let mut weights = [&[][..]; C];
    for c in 0..C {
        weights[c] = &class[c];
    }
    let look = Columns { weights, totals, allowed: count(weight, |w| w > 0.0) < weight.len() as u64, weight };
    let mut numeric = Vec::with_capacity(design.terms.len() + 1);
    for &(slot, term) in &design.terms {
        bad_values.push(match term {
            Term::F32(_) | Term::F64(_) => {
                numeric.push((slot, bad_values.len(), term));
                0
            }
            Term::Code { codes, slots } => {
                let entries = codes.iter().enumerate().map(|(i, &code)| (i, code as usize, 1.0));
                let entries = entries.filter(|&(_, code, _)| code < slots);
                look.sparse(entries, slot..slot + slots, (&mut low, &mut high), &mut moments)
            }
            Term::Sparse { slots, .. } => look.sparse(entries(&term), slot..slot + slots, (&mut low, &mut high), &mut moments),
        });
    }
    bad_values.push(0);
    numeric.push((design.width, design.terms.len(), Term::F64(net)));
    for column in look.columns::<V>(&numeric) {
        (low[column.slot], high[column.slot]) = (column.low, column.high);
        bad_values[column.term] = column.bad_values;
        for (out, (mean, deviation)) in moments.iter_mut().zip(column.moments) {
            (out.mean[column.slot], out.deviation[column.slot]) = (mean, deviation);
        }
    }
    bad_values.pop();
    low.pop();
    high.pop();
    for x in moments.iter_mut().flat_map(|m| m.mean.iter_mut().chain(&mut m.deviation)) {
        *x = one_nan(*x);
    }
    Seen { classes: moments, low, high, bad_values }
}

/// The first of equals, so of −0 and 0: `f64::min` may give either, and not the same at every level.
#[inline(always)]
fn smaller(a: f64, b: f64) -> f64 {
    if b < a { b } else { a }
}

/// As [`smaller`].
#[inline(always)]
fn larger(a: f64, b: f64) -> f64 {
    if b > a { b } else { a }
}

/// What rounding took below 0 becomes 0; what overflowed to NaN stays it.
#[inline(always)]
fn not_below_zero(x: f64) -> f64 {
    if x < 0.0 { 0.0 } else { x }
}

/// Which of two NaNs an addition passes on is the compiler's choice, level by level: here they are all one.
#[inline(always)]
fn one_nan(x: f64) -> f64 {
    if x.is_nan() { f64::NAN } else { x }
}

#[inline(always)]
fn count<T: Number>(values: &[T], what: impl Fn(f64) -> bool) -> u64 {
    // A loop: the closures of an iterator chain would keep the baseline's instructions.
    let mut found = 0;
    for x in values {
        found += u64::from(what(x.number()));
    }
    found
}

/// (row, slot, value) of a sparse term.
#[inline(always)]
fn entries<'a>(term: &Term<'a>) -> impl Iterator<Item = (usize, usize, f64)> + Clone + use<'a> {
    let (offsets, entries): (&[u32], &[(u32, f32)]) = match *term {
        Term::Sparse { offsets, entries, .. } => (offsets, entries),
        _ => (&[], &[]),
    };
    offsets.windows(2).enumerate().flat_map(move |(row, ends)| {
        let row_entries = &entries[ends[0] as usize..ends[1] as usize];
        row_entries.iter().map(move |&(slot, value)| (row, slot as usize, f64::from(value)))
    })
}

/// Extremes where rows without an entry hold 0; gives the number of bad values.
#[inline(always)]
fn sparse_range(entries: impl Iterator<Item = (usize, usize, f64)>, weight: &[f64], low: &mut [f64], high: &mut [f64]) -> u64 {
    let mut bad = 0;
    let mut seen = vec![0_u64; low.len()];
    for (row, slot, value) in entries {
        bad += u64::from(!value.is_finite());
        if weight[row] > 0.0 {
            seen[slot] += 1;
            low[slot] = smaller(low[slot], value);
            high[slot] = larger(high[slot], value);
        }
    }
    let rows = count(weight, |w| w > 0.0);
    for (slot, seen) in seen.into_iter().enumerate() {
        if seen < rows {
            low[slot] = smaller(low[slot], 0.0);
            high[slot] = larger(high[slot], 0.0);
        }
    }
    bad
}

/// Σ w.
#[inline(always)]
fn lane_total(weight: &[f64]) -> f64 {
    let mut sums = [0.0; LANES];
    let (blocks, tail) = weight.as_chunks::<LANES>();
    for block in blocks {
        for l in 0..LANES {
            sums[l] += block[l];
        }
    }
    for (sum, w) in sums.iter_mut().zip(tail) {
        *sum += w;
    }
    lane_sum(&sums)
}

#[inline(always)]
fn sparse_moments(
    entries: impl Iterator<Item = (usize, usize, f64)>,
    weight: &[f64],
    first: usize,
    slots: usize,
    out: &mut Moments,
) {
    let mut squares = vec![0.0; slots];
    for (row, slot, value) in entries {
        let part = weight[row] * value;
        out.mean[first + slot] += part;
        squares[slot] += part * value;
    }
    for (slot, squares) in squares.into_iter().enumerate() {
        let sum = out.mean[first + slot];
        out.mean[first + slot] = sum / out.weight;
        out.deviation[first + slot] = not_below_zero(squares - sum * (sum / out.weight));
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::program::encode;
    use crate::shard::{Column, EncodedShard, Feature, FeatureKind, Schema};

    /// Zeros of both signs in every encoding, in an order that differs from lane to lane.
    fn zeros(rows: usize, first: usize, odd: &[f64]) -> (Schema, EncodedShard) {
        let zero = |i: usize| match odd.get((i + first) % 23) {
            Some(x) => *x,
            None if ((i + first) * 7 + (i + first) / 5).is_multiple_of(3) => -0.0,
            None => 0.0,
        };
        let f64s: Vec<f64> = (0..rows).map(zero).collect();
        let f32s = f64s.iter().map(|x| *x as f32).collect();
        let some = (0..rows).filter(|i| i % 4 != 1);
        let entries = some.map(|i| ((i % 3) as u32, zero(i) as f32)).collect();
        let offsets = (0..=rows).map(|i| (0..i).filter(|i| i % 4 != 1).count() as u32).collect();
        let numeric = FeatureKind::Numeric { shift: 0.0, scale: 1.0 };
        let kinds = [numeric.clone(), numeric, FeatureKind::Sparse { width: 3 }];
        let features = kinds.into_iter().map(|kind| Feature { name: "zero".into(), kind }).collect();
        let columns = vec![Column::F64(f64s.clone().into()), Column::F32(f32s), Column::Sparse { offsets, entries }];
        let shard =
            EncodedShard { rows, bounds: [0, rows, rows, rows], columns, target: Some(f64s.into()), ..Default::default() };
        (Schema { features, classes: Vec::new() }, shard)
    }

    fn the_same_at_every_level(odd: &[f64]) {
        for (rows, first) in [(1, 0), (7, 1), (16, 2), (33, 0), (1_111, 4)] {
            let look = |level: Level, first: usize| {
                let (schema, shard) = zeros(rows, first, odd);
                let design = Design::new(&schema, &shard, 0..rows).unwrap();
                let target = shard.target.as_deref().unwrap();
                survey(level, 1, &design, Rows { target, weight: None, offset: None, class_weight: None })
            };
            let merged = |level: Level| {
                let mut left = look(level, first);
                left.merge(look(level, first + 1));
                left
            };
            let expected = Level::available()[0];
            for level in Level::available() {
                let what = format!("{rows} rows, {odd:?}, {}", level.name());
                assert_eq!(encode(&look(level, first)), encode(&look(expected, first)), "{what}");
                assert_eq!(encode(&merged(level)), encode(&merged(expected)), "{what}");
            }
        }
    }

    #[test]
    fn zeros_of_both_signs_give_the_same_bytes_at_every_level() {
        the_same_at_every_level(&[]);
    }

    #[test]
    fn what_is_no_number_gives_the_same_bytes_at_every_level() {
        let nans = [f64::NAN, -f64::NAN, f64::from_bits(0x7ff8_0000_dead_0000), f64::from_bits(0xfff8_0000_0000_1000)];
        the_same_at_every_level(&nans);
        the_same_at_every_level(&[nans[1], 1.0, nans[2], f64::INFINITY, nans[0]]);
        the_same_at_every_level(&[1e200, f64::NEG_INFINITY, f64::INFINITY, -1e300, nans[3]]);
    }

    #[test]
    fn the_first_of_equals_is_kept() {
        for zeros in [[0.0, -0.0], [-0.0, 0.0]] {
            for pick in [smaller, larger] {
                assert_eq!(pick(zeros[0], zeros[1]).to_bits(), zeros[0].to_bits());
                assert_eq!(pick(zeros[0], f64::NAN).to_bits(), zeros[0].to_bits());
            }
        }
        assert!(not_below_zero(f64::NAN).is_nan() && not_below_zero(-1e-300) == 0.0);
    }
}
