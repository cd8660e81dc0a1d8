//! Adding a column: two integers per term, in registers, exactly.

use super::exact::Exact;
use crate::kernels::level::Kernel;
use crate::kernels::{Level, Vector};
use crate::math::two_product;

/// Terms of a block: the sum of that many integers of 51 bits fits 64.
const BLOCK: usize = 1024;
/// Fewer terms than this are added one by one.
const FEW: usize = 48;
/// Bits that an integer takes off its terms.
const TAKEN: i32 = 51;

/// Adds the terms of a column; returns the bytes on the heap that the sum newly holds. The level changes speed only.
pub fn add_column(level: Level, column: &[f64], sum: &mut Exact<2>) -> usize {
    let mut grown = 0;
    for block in column.chunks(BLOCK) {
        let total = if block.len() < FEW { None } else { level.run(Block(block)) };
        grown += match total {
            Some(total) => total.add_to(sum),
            None => block.iter().map(|x| sum.add(*x)).sum(),
        };
    }
    grown
}

/// Adds the products of two columns of one length; returns the bytes on the heap that the sum newly holds.
pub fn add_products(level: Level, x: &[f64], y: &[f64], sum: &mut Exact<4>) -> usize {
    let mut grown = 0;
    for (x, y) in x.chunks(BLOCK).zip(y.chunks(BLOCK)) {
        let totals = if x.len() < FEW { None } else { level.run(Products { x, y }) };
        grown += match totals {
            Some([upper, lower]) => upper.add_to(sum) + lower.add_to(sum),
            None => x.iter().zip(y).map(|(x, y)| sum.add(*x, *y)).sum(),
        };
    }
    grown
}

/// An exact total: integer · 2^exponent.
struct BlockTotal {
    integer: i128,
    exponent: i32,
}

impl BlockTotal {
    fn add_to<const N: usize>(self, sum: &mut Exact<N>) -> usize {
        let magnitude = self.integer.unsigned_abs();
        sum.put_any(&[magnitude as u64, (magnitude >> 64) as u64], self.exponent, self.integer < 0)
    }
}

/// At most [`BLOCK`] terms. Adding 1.5 · 2^(52 + q) to a term rounds it to a multiple of 2^q that can be read off the
/// bits; what is left over is exact, and is read off in the same way with a smaller q. The output is None where a term
/// is not finite, or has bits below both, or magnitudes are extreme: then the block is to be added term by term.
///
/// Only integers are carried from term to term, so that the compiler may take as many at once as the level has.
struct Block<'a>(&'a [f64]);

impl Kernel for Block<'_> {
    type Output = Option<BlockTotal>;

    #[inline(always)]
    fn run<V: Vector>(self) -> Self::Output {
        total(self.0, largest_exponent(self.0))
    }
}

/// At most [`BLOCK`] products, each as the sum of two f64 (Dekker), added up separately. The output is None where a
/// product is not such a sum, or where one of the totals is none.
struct Products<'a> {
    x: &'a [f64],
    y: &'a [f64],
}

impl Kernel for Products<'_> {
    type Output = Option<[BlockTotal; 2]>;

    #[inline(always)]
    fn run<V: Vector>(self) -> Self::Output {
        // Factors below 2^500 overflow nowhere; what is not finite fails here too.
        if largest_exponent(self.x) >= 500 || largest_exponent(self.y) >= 500 {
            return None;
        }
        let (mut upper, mut lower) = ([0.0; BLOCK], [0.0; BLOCK]);
        let mut vanished = 0;
        for (((x, y), upper), lower) in self.x.iter().zip(self.y).zip(&mut upper).zip(&mut lower) {
            (*upper, *lower) = two_product(*x, *y);
            vanished |= u64::from((*upper == 0.0) & (*x != 0.0) & (*y != 0.0));
        }
        let (upper, lower) = (&upper[..self.x.len()], &lower[..self.x.len()]);
        let largest = largest_exponent(upper);
        // Then a product that is not lost in the total is above 2^-500, and its lower part is exact.
        if vanished != 0 || largest != -1023 && largest < -399 {
            return None;
        }
        Some([total(upper, largest)?, total(lower, largest_exponent(lower))?])
    }
}

/// The total of a block whose largest exponent is given.
#[inline(always)]
fn total(terms: &[f64], largest: i32) -> Option<BlockTotal> {
    if largest == -1023 {
        let zeros = terms.iter().all(|x| *x == 0.0);
        return zeros.then_some(BlockTotal { integer: 0, exponent: 0 });
    }
    if !(-960..1018).contains(&largest) {
        return None;
    }
    // All are less than 2^(largest + 1), so at most 2^50 · 2^upper.
    let upper = largest - (TAKEN - 2);
    let lower = upper - TAKEN;
    let [high, low, lost] = read_off(terms, magic(upper), magic(lower));
    let integer = (i128::from(high as i64) << TAKEN) + i128::from(low as i64);
    (lost == 0).then_some(BlockTotal { integer, exponent: lower })
}

/// 1.5 · 2^(52 + q).
#[inline(always)]
fn magic(q: i32) -> f64 {
    f64::from_bits((((52 + q + 1023) as u64) << 52) | 1 << 51)
}

/// The exponent of the largest magnitude: 1024 if there is an infinity or NaN, −1023 of nothing but zeros and subnormals.
#[inline(always)]
fn largest_exponent(terms: &[f64]) -> i32 {
    let mut largest = 0;
    for x in terms {
        largest = largest.max((x.to_bits() >> 32) as i32 & 0x7fff_ffff);
    }
    (largest >> 20) - 1023
}

/// The sums of the upper and of the lower integers of the terms, and the bits that neither has, disjoined.
#[inline(always)]
fn read_off(terms: &[f64], upper: f64, lower: f64) -> [u64; 3] {
    let (mut highs, mut lows, mut lost) = (0u64, 0u64, 0u64);
    for x in terms {
        let high = x + upper;
        let rest = x - (high - upper);
        let low = rest + lower;
        highs = highs.wrapping_add(high.to_bits());
        lows = lows.wrapping_add(low.to_bits());
        lost |= (rest - (low - lower)).to_bits() << 1;
    }
    let all = |magic: f64| magic.to_bits().wrapping_mul(terms.len() as u64);
    [highs.wrapping_sub(all(upper)), lows.wrapping_sub(all(lower)), lost]
}
