//! An exact sum in a few words: a fixed-point window that follows the data, and the way out of it.

use super::limbs::Limbs;
use super::number::{Leading, Number};
use super::wide::Wide;

/// Bits of an f64's significand.
const SIGNIFICAND: u32 = 53;
/// An exponent of no window, so that the first term sets it.
const UNSET: i32 = 1 << 20;

/// An exact sum: of f64 (`N` = 2) or of products of two f64 (`N` = 4).
///
/// The usual form is an integer of `N` · 64 bits, two's complement, times a power of two that is chosen around the
/// first term and moves when a term needs it. The value is exact in every form, and forms are no part of it: equal
/// multisets of terms are equal values, results and bytes, whatever form they are in.
#[derive(Debug, Clone)]
pub struct Exact<const N: usize>(Form<N>);

#[derive(Debug, Clone)]
enum Form<const N: usize> {
    Narrow { exponent: i32, limbs: [u64; N] },
    Wide(Box<Wide>),
}

impl<const N: usize> Default for Exact<N> {
    fn default() -> Self {
        Self(Form::Narrow { exponent: UNSET, limbs: [0; N] })
    }
}

/// A finite f64 as ± significand · 2^exponent.
#[derive(Clone, Copy)]
struct Parts {
    negative: bool,
    significand: u64,
    exponent: i32,
}

impl Parts {
    /// None where `x` is not finite.
    #[inline(always)]
    fn of(x: f64) -> Option<Self> {
        let bits = x.to_bits();
        let biased = (bits >> 52) as i32 & 0x7ff;
        if biased == 0x7ff {
            return None;
        }
        let fraction = bits & ((1 << 52) - 1);
        let significand = if biased == 0 { fraction } else { fraction | 1 << 52 };
        Some(Self { negative: bits >> 63 == 1, significand, exponent: biased.max(1) - 1075 })
    }
}

impl Exact<2> {
    /// Adds a term; returns the bytes on the heap that the sum newly holds.
    #[inline(always)]
    pub fn add(&mut self, x: f64) -> usize {
        match Parts::of(x) {
            Some(p) => self.put(p.significand.into(), p.exponent, p.negative),
            None => self.count(x, 1),
        }
    }

    /// Takes a term away: the inverse of [`Self::add`]; returns as it does.
    #[inline(always)]
    pub fn retract(&mut self, x: f64) -> usize {
        match Parts::of(x) {
            Some(p) => self.put(p.significand.into(), p.exponent, !p.negative),
            None => self.count(x, u64::MAX),
        }
    }

    #[cold]
    #[inline(never)]
    fn count(&mut self, x: f64, by: u64) -> usize {
        let grown = self.widen();
        if let Form::Wide(wide) = &mut self.0 {
            wide.count(x, by);
        }
        grown
    }

    /// The sum, rounded once to the nearest f64 (ties to even); +0 where it is zero.
    pub fn value(&self) -> f64 {
        match &self.0 {
            Form::Narrow { exponent, limbs } => {
                let window = joined(limbs);
                Leading::of(window < 0, window.unsigned_abs(), *exponent).nearest()
            }
            Form::Wide(wide) => wide.special().unwrap_or_else(|| self.number().nearest()),
        }
    }

    /// The sum over a count, rounded once to the nearest f64 (ties to even).
    pub fn over(&self, count: u64) -> f64 {
        match &self.0 {
            Form::Narrow { exponent, limbs } => {
                let window = joined(limbs);
                Leading::quotient(window < 0, window.unsigned_abs(), *exponent, count).nearest()
            }
            Form::Wide(wide) => wide.special().unwrap_or_else(|| self.number().over(&Number::count(count)).nearest()),
        }
    }
}

impl Exact<4> {
    /// Adds the product of two factors; returns the bytes on the heap that the sum newly holds. A product with a
    /// factor that is not finite is left out: the sums of the factors tell.
    #[inline(always)]
    pub fn add(&mut self, x: f64, y: f64) -> usize {
        self.put_product(x, y, false)
    }

    /// Takes a product away: the inverse of [`Self::add`]; returns as it does.
    #[inline(always)]
    pub fn retract(&mut self, x: f64, y: f64) -> usize {
        self.put_product(x, y, true)
    }

    #[inline(always)]
    fn put_product(&mut self, x: f64, y: f64, away: bool) -> usize {
        let (Some(x), Some(y)) = (Parts::of(x), Parts::of(y)) else { return 0 };
        let product = u128::from(x.significand) * u128::from(y.significand);
        self.put(product, x.exponent + y.exponent, x.negative ^ y.negative ^ away)
    }
}

impl<const N: usize> Exact<N> {
    /// Factors of a term.
    const FACTORS: usize = N / 2;
    /// Bits of the window.
    const BITS: i32 = 64 * N as i32;
    /// Places by which a term may be shifted so that it leaves the two upper bits of the window free.
    const REACH: u32 = 64 * N as u32 - 2 - SIGNIFICAND * Self::FACTORS as u32;
    /// Exponent of the lowest bit that a term can have.
    pub(super) const LOWEST: i32 = -1074 * Self::FACTORS as i32;

    /// Adds ± magnitude · 2^exponent, for terms of the kind of this sum.
    #[inline(always)]
    fn put(&mut self, magnitude: u128, exponent: i32, negative: bool) -> usize {
        if let Form::Narrow { exponent: at, limbs } = &mut self.0 {
            let shift = (exponent - *at) as u32;
            if shift <= Self::REACH && add_shifted(limbs, magnitude, shift, negative) {
                return 0;
            }
        }
        self.put_any(&[magnitude as u64, (magnitude >> 64) as u64], exponent, negative)
    }

    /// Adds ± magnitude · 2^exponent, a number that sums of this kind can have, with no bit below [`Self::LOWEST`];
    /// returns the bytes on the heap that the sum newly holds.
    #[cold]
    #[inline(never)]
    pub(super) fn put_any(&mut self, magnitude: &[u64], exponent: i32, negative: bool) -> usize {
        let Some((low, high)) = span(magnitude) else { return 0 };
        let high = exponent + high;
        // A window that also has room for the term's zeros at the end serves its like without moving.
        if self.fit(exponent, high) || self.fit(exponent + low, high) {
            let Form::Narrow { exponent: at, limbs } = &mut self.0 else { unreachable!("only a window fits") };
            let term = signed(shifted(magnitude, exponent - *at, 0), negative);
            let added = add_checked(limbs, &term);
            assert!(added, "the window was made for this sum");
            return 0;
        }
        let grown = self.widen();
        let Form::Wide(wide) = &mut self.0 else { unreachable!("it was widened") };
        wide.add(magnitude, (exponent - Self::LOWEST) as usize, negative);
        grown
    }

    /// Moves the window so that it holds bits `low..high` beside its own with one to spare; false if there is none.
    fn fit(&mut self, low: i32, high: i32) -> bool {
        let Form::Narrow { exponent, limbs } = &mut self.0 else { return false };
        let own = signed_span(limbs).map_or((low, high), |(l, h)| (*exponent + l, *exponent + h));
        let (low, high) = (low.min(own.0), high.max(own.1));
        let spare = Self::BITS - (high - low) - 2;
        if spare < 0 {
            return false;
        }
        if low < *exponent || high + 2 > *exponent + Self::BITS {
            let to = low - spare / 2;
            *limbs = shifted(limbs.as_slice(), *exponent - to, fill(limbs));
            *exponent = to;
        }
        true
    }

    /// Goes over to the form of all bits; returns the bytes on the heap that this took.
    fn widen(&mut self) -> usize {
        if matches!(self.0, Form::Wide(_)) {
            return 0;
        }
        let number = self.number();
        let mut wide = Wide::new(Self::FACTORS);
        if !number.is_zero() {
            wide.add(number.limbs(), (number.exponent() - Self::LOWEST) as usize, number.negative());
        }
        let heap = wide.heap();
        self.0 = Form::Wide(Box::new(wide));
        heap
    }

    /// Adds all that another sum holds; returns the bytes on the heap that this one newly holds.
    pub fn merge(&mut self, other: &Self) -> usize {
        match &other.0 {
            Form::Narrow { .. } => {
                let number = other.number();
                self.put_any(number.limbs(), number.exponent(), number.negative())
            }
            Form::Wide(theirs) => {
                let grown = self.widen();
                if let Form::Wide(ours) = &mut self.0 {
                    ours.merge(theirs);
                }
                grown
            }
        }
    }

    /// Bytes on the heap.
    pub fn heap(&self) -> usize {
        match &self.0 {
            Form::Narrow { .. } => 0,
            Form::Wide(wide) => wide.heap(),
        }
    }

    /// What terms that are not finite make of the sum, if there are any.
    #[inline]
    pub fn special(&self) -> Option<f64> {
        match &self.0 {
            Form::Narrow { .. } => None,
            Form::Wide(wide) => wide.special(),
        }
    }

    /// Terms that are NaN, +∞ and −∞.
    pub(super) fn specials(&self) -> [u64; 3] {
        match &self.0 {
            Form::Narrow { .. } => [0; 3],
            Form::Wide(wide) => [wide.nan, wide.plus, wide.minus],
        }
    }

    /// Counts terms that are not finite: NaN, +∞, −∞.
    pub(super) fn put_specials(&mut self, counts: [u64; 3]) -> usize {
        let mut terms = Wide::new(Self::FACTORS);
        [terms.nan, terms.plus, terms.minus] = counts;
        self.merge(&Self(Form::Wide(Box::new(terms))))
    }

    /// The sum of the finite terms, without trailing zero bits.
    pub(super) fn number(&self) -> Number {
        match &self.0 {
            Form::Narrow { exponent, limbs } => of_signed(limbs, *exponent),
            Form::Wide(wide) => of_signed(&wide.limbs, Self::LOWEST),
        }
    }
}

/// A two's complement integer times a power of two.
fn of_signed(limbs: &[u64], exponent: i32) -> Number {
    let negative = limbs.last().is_some_and(|top| top >> 63 == 1);
    let mut magnitude: Limbs = limbs.iter().copied().collect();
    if negative {
        let mut carry = true;
        for limb in magnitude.iter_mut() {
            (*limb, carry) = (!*limb).carrying_add(0, carry);
        }
    }
    Number::new(negative, magnitude, exponent)
}

/// Adds ± magnitude · 2^shift if that overflows nothing; else leaves the limbs as they are.
#[inline(always)]
fn add_shifted<const N: usize>(limbs: &mut [u64; N], magnitude: u128, shift: u32, negative: bool) -> bool {
    if N == 2 {
        let window = joined(limbs);
        let term = (magnitude << shift) as i128;
        let Some(sum) = window.checked_add(if negative { -term } else { term }) else { return false };
        *limbs = std::array::from_fn(|i| (sum >> (64 * i)) as u64);
        return true;
    }
    let bit = shift % 64;
    let (low, high) = (magnitude << bit, ((magnitude >> 64) >> (64 - bit)) as u64);
    let words = [low as u64, (low >> 64) as u64, high, 0];
    let [a, b, c, _] = words;
    let placed = match shift / 64 {
        0 => words,
        1 => [0, a, b, c],
        _ => [0, 0, a, b],
    };
    let flip = if negative { u64::MAX } else { 0 };
    let mut carry = negative;
    let mut sum = *limbs;
    for i in 0..N {
        (sum[i], carry) = limbs[i].carrying_add(placed[i] ^ flip, carry);
    }
    let top = N - 1;
    let fits = ((limbs[top] ^ sum[top]) & (placed[top] ^ flip ^ sum[top])) >> 63 == 0;
    if fits {
        *limbs = sum;
    }
    fits
}

/// Two limbs as an integer.
#[inline(always)]
fn joined(limbs: &[u64]) -> i128 {
    (u128::from(limbs[1]) << 64 | u128::from(limbs[0])) as i128
}

/// Adds a two's complement integer if that does not overflow; else leaves the limbs as they are.
fn add_checked<const N: usize>(limbs: &mut [u64; N], term: &[u64; N]) -> bool {
    let mut carry = false;
    let mut sum = *limbs;
    for i in 0..N {
        (sum[i], carry) = limbs[i].carrying_add(term[i], carry);
    }
    let top = N - 1;
    let fits = ((limbs[top] ^ sum[top]) & (term[top] ^ sum[top])) >> 63 == 0;
    if fits {
        *limbs = sum;
    }
    fits
}

/// The two's complement of ± a magnitude.
fn signed<const N: usize>(mut limbs: [u64; N], negative: bool) -> [u64; N] {
    if negative {
        let mut carry = true;
        for limb in &mut limbs {
            (*limb, carry) = (!*limb).carrying_add(0, carry);
        }
    }
    limbs
}

/// The 64 bits from bit `from` on; below bit 0 there are zeros, above the limbs there is `fill`.
fn word_at(limbs: &[u64], from: i32, fill: u64) -> u64 {
    let get = |i: i32| if i < 0 { 0 } else { limbs.get(i as usize).copied().unwrap_or(fill) };
    let (word, bit) = (from.div_euclid(64), from.rem_euclid(64));
    let above = if bit == 0 { 0 } else { get(word + 1) << (64 - bit) };
    get(word) >> bit | above
}

/// Limbs times 2^shift, in as many limbs as are asked for.
fn shifted<const N: usize>(limbs: &[u64], shift: i32, fill: u64) -> [u64; N] {
    std::array::from_fn(|i| word_at(limbs, 64 * i as i32 - shift, fill))
}

/// What a two's complement integer has above its limbs.
fn fill(limbs: &[u64]) -> u64 {
    if limbs.last().is_some_and(|top| top >> 63 == 1) { u64::MAX } else { 0 }
}

/// The lowest set bit of a magnitude, and the place after the highest; None of zero.
fn span(limbs: &[u64]) -> Option<(i32, i32)> {
    let first = limbs.iter().position(|l| *l != 0)?;
    let last = limbs.iter().rposition(|l| *l != 0)?;
    let low = 64 * first as u32 + limbs[first].trailing_zeros();
    let high = 64 * last as u32 + 64 - limbs[last].leading_zeros();
    Some((low as i32, high as i32))
}

/// As [`span`], of a two's complement integer; a negative one may get a bit more than it needs.
fn signed_span<const N: usize>(limbs: &[u64; N]) -> Option<(i32, i32)> {
    let (low, high) = span(limbs)?;
    if fill(limbs) == 0 {
        return Some((low, high));
    }
    let above = span(&limbs.map(|l| !l)).map_or(0, |(_, high)| high);
    Some((low, above + 1))
}
