//! A hash over the kernels' outputs on fixed inputs. Workers send it when they join: one that differs
//! is a machine whose numbers cannot be mixed with the others'.

use xxhash_rust::xxh3::xxh3_128;

use super::{Affine, Design, Level, Linear, Loss, Rows, gradient, margins, second_order, survey};
use crate::shard::{Column, EncodedShard, Feature, FeatureKind, Schema};

/// Rows of the fixed input: two whole chunks and a tail that fills no lane block.
const ROWS: usize = 1_111;

/// 32 hex digits, the same on every machine that may take part.
pub fn self_test() -> String {
    self_test_at(Level::detect())
}

/// [`self_test`] at a given level.
pub fn self_test_at(level: Level) -> String {
    let (schema, shard) = fixed_input();
    let design = Design::new(&schema, &shard, 0..ROWS).expect("the fixed input follows its schema");
    let weight: Vec<f64> = (0..design.width).map(|j| 0.3 - 0.07 * j as f64).collect();
    let shift: Vec<f64> = (0..design.width).map(|j| if j < 7 { 0.11 * j as f64 } else { 0.0 }).collect();
    let linear = Linear { intercept: -0.2, shift: &shift, weight: &weight };
    let target: Vec<f64> = (0..ROWS).map(|i| if number(i, 90) > 0.3 { 1.0 } else { 0.0 }).collect();
    let weights: Vec<f64> = (0..ROWS).map(|i| 1.0 + number(i, 91)).collect();
    let offset: Vec<f64> = (0..ROWS).map(|i| number(i, 92)).collect();
    let rows = Rows { target: &target, weight: Some(&weights), offset: Some(&offset), class_weight: Some([0.7, 1.9]) };
    let affine = Affine { shift: &shift, scale: &weight };

    let mut out = vec![0.0; ROWS];
    margins(level, &design, linear, Some(&offset), &mut out);
    for loss in [Loss::Squared, Loss::Logistic] {
        let g = gradient(level, loss, &design, linear, rows);
        out.extend([g.loss, g.residual]);
        out.extend(g.sums);
        let s = second_order(level, loss, &design, linear, affine, rows);
        out.push(s.loss);
        out.extend(s.gradient);
        out.extend(s.hessian);
    }
    for class in survey(level, 2, &design, rows).classes {
        out.push(class.weight);
        out.extend(class.mean);
        out.extend(class.deviation);
    }
    let bytes: Vec<u8> = out.iter().flat_map(|x| x.to_bits().to_le_bytes()).collect();
    format!("{:032x}", xxh3_128(&bytes))
}

/// A fixed number in [−1, 1) by whole-number arithmetic.
fn number(i: usize, column: usize) -> f64 {
    let mut x = (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (column as u64).wrapping_mul(0xd1b5_4a32_d192_ed03);
    x ^= x >> 31;
    x = x.wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^= x >> 29;
    (x >> 11) as f64 / 4_503_599_627_370_496.0 - 1.0
}

/// Five f32 columns, two f64, categories with "no slot", a sparse column.
fn fixed_input() -> (Schema, EncodedShard) {
    let mut features = Vec::new();
    let mut columns = Vec::new();
    for j in 0..7 {
        features.push(Feature { name: format!("x{j}"), kind: FeatureKind::Numeric { shift: 0.0, scale: 1.0 } });
        columns.push(if j < 5 {
            Column::F32((0..ROWS).map(|i| number(i, j) as f32 * 3.0).collect())
        } else {
            Column::F64((0..ROWS).map(|i| number(i, j)).collect())
        });
    }
    let names = vec!["a".into(), "b".into(), "c".into()];
    features.push(Feature { name: "c".into(), kind: FeatureKind::Slots { names } });
    columns.push(Column::Code((0..ROWS).map(|i| (number(i, 7).abs() * 4.0) as u32).collect()));
    features.push(Feature { name: "h".into(), kind: FeatureKind::Sparse { width: 4 } });
    let (mut offsets, mut entries) = (vec![0], Vec::new());
    for i in 0..ROWS {
        if i % 5 != 0 {
            entries.push(((i % 4) as u32, number(i, 8) as f32));
        }
        offsets.push(entries.len() as u32);
    }
    columns.push(Column::Sparse { offsets: offsets.into(), entries: entries.into() });
    let shard = EncodedShard { rows: ROWS, bounds: [0, ROWS, ROWS, ROWS], columns, ..Default::default() };
    (Schema { features, classes: Vec::new() }, shard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_gives_the_pinned_hash() {
        // A change of this hash is a change of the numeric version.
        for level in Level::available() {
            assert_eq!(self_test_at(level), "d67e7da8e544cba92f8be86250f98320", "{}", level.name());
        }
    }
}
