//! Loss, gradient and Hessian of a linear function over the rows of one shard: `T'WT` of the columns
//! `[1, t_1 … t_p]` with t = (x − shift) · scale, by chunks made dense and multiplied by √W. With the squared
//! loss at a fixed point this is the Gram matrix and its right-hand side.

#![expect(clippy::needless_range_loop, reason = "one index, in several arrays and in the register's part of a block")]

use super::design::{Design, Term};
use super::level::{Kernel, Level, Vector};
use super::loss::{Linked, Loss, link};
use super::margins::{Linear, chunk};
use super::sweep::Ahead;
use super::{CHUNK, Chunk, LANES, MOST_PARTS, Number, Rows, lane_sum};

/// Sums over the rows of a shard, in the columns `[1, t_1 … t_p]`.
#[derive(Debug, Clone, PartialEq)]
pub struct SecondOrder {
    /// Σ weight · loss.
    pub loss: f64,
    /// Σ r · t, p + 1 values.
    pub gradient: Vec<f64>,
    /// Σ curvature · t t', upper triangle by rows, (p + 1)(p + 2) / 2 values.
    pub hessian: Vec<f64>,
}

/// Shift and scale of every slot, slots of categories and sparse columns included.
#[derive(Debug, Clone, Copy)]
pub struct Affine<'a> {
    /// Subtracted first.
    pub shift: &'a [f64],
    /// Multiplied then.
    pub scale: &'a [f64],
}

/// Loss, gradient and Hessian at `linear` over all rows of a design.
///
/// # Panics
/// If the lengths of rows, design, linear function and affine map differ.
pub fn second_order(
    level: Level,
    loss: Loss,
    design: &Design<'_>,
    linear: Linear<'_>,
    affine: Affine<'_>,
    rows: Rows<'_>,
) -> SecondOrder {
    rows.check(design);
    let lengths = [linear.weight.len(), linear.shift.len(), affine.shift.len(), affine.scale.len()];
    assert_eq!(lengths, [design.width; 4], "a value a slot");
    level.run(Fused { loss, design, linear, affine, rows })
}

struct Fused<'a> {
    loss: Loss,
    design: &'a Design<'a>,
    linear: Linear<'a>,
    affine: Affine<'a>,
    rows: Rows<'a>,
}

/// A dense column of a chunk: as it is transformed, then times √curvature; rows past the end are 0.
type Dense = Chunk;

/// Rows of the triangle that are computed together.
const BAND: usize = 4;

impl Kernel for Fused<'_> {
    type Output = SecondOrder;

    #[inline(always)]
    fn run<V: Vector>(self) -> SecondOrder {
        let Self { loss, design, linear, affine, rows } = self;
        let width = design.width + 1;
        let mut dense: Vec<Dense> = vec![Dense::ZERO; width];
        let (mut residual, mut root) = (Chunk::ZERO, Chunk::ZERO);
        let (mut loss_lanes, mut total) = ([0.0; LANES], [0.0; LANES]);
        let mut gradient = vec![0.0; width];
        let mut hessian = vec![0.0; width * (width + 1) / 2];
        let mut ahead = Ahead::whole(design);
        let mut at = 0;
        while at < design.rows {
            let n = CHUNK.min(design.rows - at);
            let (margin, past) = residual.as_flattened_mut().split_at_mut(n);
            let (curvature, no_curvature) = root.as_flattened_mut().split_at_mut(n);
            chunk::<V>(design, &linear, rows.offset, at, margin);
            let linked = Linked { margin, curvature, loss: &mut loss_lanes, total: &mut total };
            link::<true>(loss, &rows, at, &mut Ahead::none(), linked);
            for c in curvature {
                *c = c.sqrt();
            }
            past.fill(0.0);
            no_curvature.fill(0.0);
            ahead.aim(at + n);
            let weigh = Weigh { residual: &residual, root: &root };
            fill::<V>(design, affine, at, n, &weigh, &mut dense, &mut gradient);
            triangle::<V>(&dense, &mut hessian, &mut ahead);
            at += n;
        }
        SecondOrder { loss: lane_sum(&loss_lanes), gradient, hessian }
    }
}

/// Columns of rows `at..at + n`, transformed and weighed; column 0 is 1. Adds their products with the
/// residual to the gradient.
#[inline(always)]
fn fill<V: Vector>(
    design: &Design<'_>,
    affine: Affine<'_>,
    at: usize,
    n: usize,
    weigh: &Weigh<'_>,
    dense: &mut [Dense],
    gradient: &mut [f64],
) {
    dense[0].as_flattened_mut().fill(1.0);
    weigh.columns::<V>(&mut dense[..1], &mut gradient[..1]);
    for &(slot, term) in &design.terms {
        let map = |j: usize| (affine.shift[slot + j], affine.scale[slot + j]);
        let first = slot + 1;
        match term {
            Term::F32(x) => gradient[first] += weigh.numbers::<V, _>(&x[at..at + n], map(0), &mut dense[first]),
            Term::F64(x) => gradient[first] += weigh.numbers::<V, _>(&x[at..at + n], map(0), &mut dense[first]),
            Term::Code { codes, slots } => {
                let (dense, gradient) = (&mut dense[first..first + slots], &mut gradient[first..first + slots]);
                absent(map, dense);
                for (i, &code) in codes[at..at + n].iter().enumerate() {
                    if (code as usize) < slots {
                        let (shift, scale) = map(code as usize);
                        dense[code as usize].as_flattened_mut()[i] = (1.0 - shift) * scale;
                    }
                }
                weigh.columns::<V>(dense, gradient);
            }
            Term::Sparse { offsets, entries, slots } => {
                let (dense, gradient) = (&mut dense[first..first + slots], &mut gradient[first..first + slots]);
                absent(map, dense);
                for (i, ends) in offsets[at..=at + n].windows(2).enumerate() {
                    for &(s, value) in &entries[ends[0] as usize..ends[1] as usize] {
                        // Added, since a slot may come twice in a row.
                        dense[s as usize].as_flattened_mut()[i] += f64::from(value) * map(s as usize).1;
                    }
                }
                weigh.columns::<V>(dense, gradient);
            }
        }
    }
}

/// Rows without an entry.
#[inline(always)]
fn absent(map: impl Fn(usize) -> (f64, f64), dense: &mut [Dense]) {
    for (j, column) in dense.iter_mut().enumerate() {
        let (shift, scale) = map(j);
        column.as_flattened_mut().fill((0.0 - shift) * scale);
    }
}

/// What the rows of a chunk weigh: 0 past the end.
struct Weigh<'a> {
    residual: &'a Dense,
    /// √curvature: the Hessian is the plain product of the columns times this.
    root: &'a Dense,
}

impl Weigh<'_> {
    /// Weighs columns in place; adds to each one's gradient.
    #[inline(always)]
    fn columns<V: Vector>(&self, dense: &mut [Dense], gradient: &mut [f64]) {
        for (column, gradient) in dense.iter_mut().zip(gradient) {
            let mut lanes = [0.0; LANES];
            for part in 0..V::PARTS {
                let mut sum = V::splat(0.0);
                for b in 0..CHUNK / LANES {
                    let t = V::load(&column[b], part);
                    sum = sum.plus(V::load(&self.residual[b], part).times(t));
                    t.times(V::load(&self.root[b], part)).store(&mut column[b], part);
                }
                sum.store(&mut lanes, part);
            }
            *gradient += lane_sum(&lanes);
        }
    }

    /// A column of stored numbers, transformed and weighed; gives its product with the residual.
    #[inline(always)]
    fn numbers<V: Vector, T: Number>(&self, x: &[T], (shift, scale): (f64, f64), out: &mut Dense) -> f64 {
        let (blocks, tail) = x.as_chunks::<LANES>();
        let (by, times) = (V::splat(shift), V::splat(scale));
        let mut sums = [V::splat(0.0); MOST_PARTS];
        for (b, x) in blocks.iter().enumerate() {
            for part in 0..V::PARTS {
                let t = T::load::<V>(x, part).minus(by).times(times);
                sums[part] = sums[part].plus(V::load(&self.residual[b], part).times(t));
                t.times(V::load(&self.root[b], part)).store(&mut out[b], part);
            }
        }
        let mut lanes = [0.0; LANES];
        for part in 0..V::PARTS {
            sums[part].store(&mut lanes, part);
        }
        if blocks.len() < CHUNK / LANES {
            out[blocks.len()..].as_flattened_mut().fill(0.0);
            for (l, x) in tail.iter().enumerate() {
                let t = (x.number() - shift) * scale;
                lanes[l] += self.residual[blocks.len()][l] * t;
                out[blocks.len()][l] = t * self.root[blocks.len()][l];
            }
        }
        lane_sum(&lanes)
    }
}

/// Adds the chunk's products to the packed upper triangle. While it computes, the memory is asked for the
/// next chunk.
#[inline(always)]
fn triangle<V: Vector>(dense: &[Dense], out: &mut [f64], ahead: &mut Ahead) {
    let mut rest = out;
    let mut first = 0;
    while first < dense.len() {
        let columns = &dense[first..];
        // Row r of a band begins at its diagonal.
        let (a, after) = rest.split_at_mut(columns.len());
        rest = after;
        if columns.len() < BAND {
            band::<V, 1>(columns, [a], ahead);
            first += 1;
        } else {
            let (b, after) = rest.split_at_mut(columns.len() - 1);
            let (c, after) = after.split_at_mut(columns.len() - 2);
            let (d, after) = after.split_at_mut(columns.len() - 3);
            rest = after;
            band::<V, BAND>(columns, [a, b, c, d], ahead);
            first += BAND;
        }
    }
}

/// Adds the products of the first `R` columns with all to `out`: of column `r` with those from `r` on.
#[inline(always)]
fn band<V: Vector, const R: usize>(columns: &[Dense], mut out: [&mut [f64]; R], ahead: &mut Ahead) {
    let mut c = 0;
    while c < columns.len() {
        ahead.ask();
        // At the corner fewer rows, since half a tile lies below the diagonal; then as many columns as leave
        // room for their sums in the registers.
        c += match columns.len() - c {
            2.. if R == BAND && c == 0 => {
                add(tile::<V, 2, 2>(columns, columns), c, &mut out);
                2
            }
            4.. if V::PARTS <= 2 || R == 1 => {
                add(tile::<V, R, 4>(columns, &columns[c..]), c, &mut out);
                4
            }
            2.. => {
                add(tile::<V, R, 2>(columns, &columns[c..]), c, &mut out);
                2
            }
            _ => {
                add(tile::<V, R, 1>(columns, &columns[c..]), c, &mut out);
                1
            }
        };
    }
}

/// Lanes of the products of `R` columns with `C` others: every one that is read serves several sums, and
/// independent chains keep the adder busy.
#[inline(always)]
fn tile<V: Vector, const R: usize, const C: usize>(rows: &[Dense], columns: &[Dense]) -> [[[f64; LANES]; C]; R] {
    let (rows, columns) = (&rows[..R], &columns[..C]);
    let mut lanes = [[[0.0; LANES]; C]; R];
    for part in 0..V::PARTS {
        let mut sums = [[V::splat(0.0); C]; R];
        for b in 0..CHUNK / LANES {
            let mut right = [V::splat(0.0); C];
            for c in 0..C {
                right[c] = V::load(&columns[c][b], part);
            }
            for r in 0..R {
                let left = V::load(&rows[r][b], part);
                for c in 0..C {
                    sums[r][c] = sums[r][c].plus(left.times(right[c]));
                }
            }
        }
        for r in 0..R {
            for c in 0..C {
                sums[r][c].store(&mut lanes[r][c], part);
            }
        }
    }
    lanes
}

/// Adds the sums of a tile whose first column is `first`; what lies below the diagonal is dropped.
#[inline(always)]
fn add<const R: usize, const C: usize>(lanes: [[[f64; LANES]; C]; R], first: usize, out: &mut [&mut [f64]]) {
    for r in 0..R {
        for c in 0..C {
            if first + c >= r {
                out[r][first + c - r] += lane_sum(&lanes[r][c]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::kernels::gradient;
    use crate::shard::{Column, EncodedShard, Feature, FeatureKind, Schema};

    /// Nine f32 and three f64 columns, so that sweeps of every width occur, and categories.
    fn data(rows: usize) -> (Schema, EncodedShard) {
        let value = |i: usize, j: usize| ((i * 7_919 + j * 104_729 + i * j) % 1_009) as f64 / 500.0 - 1.0;
        let mut features = Vec::new();
        let mut columns = Vec::new();
        for j in 0..12 {
            features.push(Feature { name: format!("x{j}"), kind: FeatureKind::Numeric { shift: 0.0, scale: 1.0 } });
            columns.push(match j {
                2 | 10 | 11 => Column::F64((0..rows).map(|i| value(i, j)).collect()),
                _ => Column::F32((0..rows).map(|i| value(i, j) as f32).collect()),
            });
        }
        features.push(Feature { name: "c".into(), kind: FeatureKind::Slots { names: vec!["a".into(), "b".into()] } });
        columns.push(Column::Code((0..rows).map(|i| (i * 5 / 3 % 3) as u32).collect()));
        let shard = EncodedShard { rows, bounds: [0, rows, rows, rows], columns, ..Default::default() };
        (Schema { features, classes: Vec::new() }, shard)
    }

    /// Row `i` of the design's slots.
    fn row(shard: &EncodedShard, i: usize) -> Vec<f64> {
        let mut out: Vec<f64> = shard.columns.iter().filter_map(|c| c.number(i)).collect();
        if let Column::Code(codes) = shard.columns.last().unwrap() {
            out.extend([f64::from(codes[i] == 0), f64::from(codes[i] == 1)]);
        }
        out
    }

    fn close(found: f64, expected: f64, what: &str) {
        assert!((found - expected).abs() <= 1e-11 * (1.0 + expected.abs()), "{what}: {found}, expected {expected}");
    }

    /// Loss, gradient and Hessian by the plain definition, in the columns `[1, t]`.
    fn expected(shard: &EncodedShard, linear: Linear<'_>, affine: Affine<'_>, rows: Rows<'_>) -> (f64, Vec<f64>, Vec<f64>) {
        let width = affine.shift.len() + 1;
        let (mut loss, mut gradient, mut hessian) = (0.0, vec![0.0; width], Vec::new());
        let mut full = vec![0.0; width * width];
        for i in 0..shard.rows {
            let x = row(shard, i);
            let (weight, y) = (rows.weight.unwrap()[i], rows.target[i]);
            let terms = x.iter().zip(linear.shift).zip(linear.weight).map(|((x, s), w)| (x - s) * w);
            let margin = rows.offset.unwrap()[i] + linear.intercept + terms.sum::<f64>();
            let p = 1.0 / (1.0 + crate::math::exp(-margin));
            loss += weight * (crate::math::log1pexp(margin) - y * margin);
            let mut t = vec![1.0];
            t.extend(x.iter().zip(affine.shift).zip(affine.scale).map(|((x, s), k)| (x - s) * k));
            for a in 0..width {
                gradient[a] += weight * (p - y) * t[a];
                for b in a..width {
                    full[a * width + b] += weight * p * (1.0 - p) * t[a] * t[b];
                }
            }
        }
        for a in 0..width {
            hessian.extend_from_slice(&full[a * width + a..(a + 1) * width]);
        }
        (loss, gradient, hessian)
    }

    #[test]
    fn sums_are_those_of_the_definition_at_every_length_and_level() {
        for rows in [1, 15, 16, 17, 511, 512, 513, 1_024, 1_040, 1_555] {
            let (schema, shard) = data(rows);
            let design = Design::new(&schema, &shard, 0..rows).unwrap();
            let target: Vec<f64> = (0..rows).map(|i| f64::from(i % 3 == 0)).collect();
            let weight: Vec<f64> = (0..rows).map(|i| (i % 5) as f64 * 0.5).collect();
            let offset: Vec<f64> = (0..rows).map(|i| (i % 7) as f64 * 0.1).collect();
            let known = Rows { target: &target, weight: Some(&weight), offset: Some(&offset), class_weight: None };
            let beta: Vec<f64> = (0..14).map(|j| 0.4 - 0.07 * j as f64).collect();
            let shift: Vec<f64> = (0..14).map(|j| if j < 12 { 0.03 * j as f64 } else { 0.0 }).collect();
            let scale: Vec<f64> = (0..14).map(|j| 1.0 + 0.1 * j as f64).collect();
            let linear = Linear { intercept: -0.2, shift: &shift, weight: &beta };
            let affine = Affine { shift: &shift, scale: &scale };
            let (loss, slopes, hessian) = expected(&shard, linear, affine, known);
            let first = Level::available()[0];
            for level in Level::available() {
                let what = format!("{rows} rows, {}", level.name());
                let g = gradient(level, Loss::Logistic, &design, linear, known);
                let s = second_order(level, Loss::Logistic, &design, linear, affine, known);
                close(g.loss, loss, &what);
                close(g.residual, slopes[0], &what);
                for (j, sum) in g.sums.iter().enumerate() {
                    close(sum * scale[j], slopes[j + 1], &what);
                }
                close(s.loss, loss, &what);
                let pairs = s.gradient.iter().zip(&slopes).chain(s.hessian.iter().zip(&hessian));
                pairs.for_each(|(found, expected)| close(*found, *expected, &what));
                assert_eq!(g, gradient(first, Loss::Logistic, &design, linear, known), "{what}");
                assert_eq!(s, second_order(first, Loss::Logistic, &design, linear, affine, known), "{what}");
            }
        }
    }
}
