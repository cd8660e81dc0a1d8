//! The sums that an aggregate keeps, and what is evaluated from them.

use super::bytes::{self, Reader, StateError};
use super::column::{add_column, add_products};
use super::exact::Exact;
use super::number::{Leading, Number};
use crate::kernels::Level;

/// Exact sums over rows of `C` columns. Equal multisets of rows give equal values and equal bytes, in whatever order
/// rows were added, merged and taken away. What returns a `usize` returns the bytes on the heap newly held.
pub trait Sums<const C: usize>: Clone + Default {
    /// Adds a row.
    fn add(&mut self, row: [f64; C]) -> usize;

    /// Takes a row away that was added.
    fn retract(&mut self, row: [f64; C]) -> usize;

    /// Adds rows, given as columns of one length.
    fn add_columns(&mut self, level: Level, columns: [&[f64]; C]) -> usize {
        let _ = level;
        (0..columns[0].len()).map(|i| self.add(columns.map(|c| c[i]))).sum()
    }

    /// Adds all rows of other sums.
    fn merge(&mut self, other: &Self) -> usize;

    /// Rows.
    fn count(&self) -> u64;

    /// Bytes on the heap.
    fn heap(&self) -> usize;

    /// Appends the canonical bytes.
    fn write(&self, to: &mut Vec<u8>);

    /// Adds the rows of sums that were written.
    ///
    /// # Errors
    /// The bytes are not such sums.
    fn merge_bytes(&mut self, bytes: &[u8]) -> Result<usize, StateError>;
}

/// Count and sum of a column.
#[derive(Debug, Clone, Default)]
pub struct Total {
    n: u64,
    x: Exact<2>,
}

/// Count, sum and sum of squares of a column.
#[derive(Debug, Clone, Default)]
pub struct Spread {
    n: u64,
    x: Exact<2>,
    xx: Exact<4>,
}

/// Count, sums and sum of products of two columns, `[y, x]`.
#[derive(Debug, Clone, Default)]
pub struct Pair {
    n: u64,
    y: Exact<2>,
    x: Exact<2>,
    xy: Exact<4>,
}

/// All that a line through points `[y, x]` depends on: [`Pair`] and both sums of squares.
#[derive(Debug, Clone, Default)]
pub struct Fit {
    pair: Pair,
    yy: Exact<4>,
    xx: Exact<4>,
}

/// Sums over column `COLUMN` of rows of two.
#[derive(Debug, Clone, Default)]
pub struct Of<S, const COLUMN: usize>(pub S);

impl Sums<1> for Total {
    #[inline(always)]
    fn add(&mut self, [x]: [f64; 1]) -> usize {
        self.n = self.n.wrapping_add(1);
        self.x.add(x)
    }

    #[inline(always)]
    fn retract(&mut self, [x]: [f64; 1]) -> usize {
        self.n = self.n.wrapping_sub(1);
        self.x.retract(x)
    }

    fn add_columns(&mut self, level: Level, [x]: [&[f64]; 1]) -> usize {
        self.n = self.n.wrapping_add(x.len() as u64);
        add_column(level, x, &mut self.x)
    }

    fn merge(&mut self, other: &Self) -> usize {
        self.n = self.n.wrapping_add(other.n);
        self.x.merge(&other.x)
    }

    fn count(&self) -> u64 {
        self.n
    }

    fn heap(&self) -> usize {
        self.x.heap()
    }

    fn write(&self, to: &mut Vec<u8>) {
        bytes::write_count(to, self.n);
        self.x.write(to);
    }

    fn merge_bytes(&mut self, bytes: &[u8]) -> Result<usize, StateError> {
        let mut from = Reader::new(bytes);
        self.n = self.n.wrapping_add(from.count()?);
        let grown = self.x.read(&mut from)?;
        from.end()?;
        Ok(grown)
    }
}

impl Sums<1> for Spread {
    #[inline(always)]
    fn add(&mut self, [x]: [f64; 1]) -> usize {
        self.n = self.n.wrapping_add(1);
        self.x.add(x) + self.xx.add(x, x)
    }

    #[inline(always)]
    fn retract(&mut self, [x]: [f64; 1]) -> usize {
        self.n = self.n.wrapping_sub(1);
        self.x.retract(x) + self.xx.retract(x, x)
    }

    fn add_columns(&mut self, level: Level, [x]: [&[f64]; 1]) -> usize {
        self.n = self.n.wrapping_add(x.len() as u64);
        add_column(level, x, &mut self.x) + add_products(level, x, x, &mut self.xx)
    }

    fn merge(&mut self, other: &Self) -> usize {
        self.n = self.n.wrapping_add(other.n);
        self.x.merge(&other.x) + self.xx.merge(&other.xx)
    }

    fn count(&self) -> u64 {
        self.n
    }

    fn heap(&self) -> usize {
        self.x.heap() + self.xx.heap()
    }

    fn write(&self, to: &mut Vec<u8>) {
        bytes::write_count(to, self.n);
        self.x.write(to);
        self.xx.write(to);
    }

    fn merge_bytes(&mut self, bytes: &[u8]) -> Result<usize, StateError> {
        let mut from = Reader::new(bytes);
        self.n = self.n.wrapping_add(from.count()?);
        let grown = self.x.read(&mut from)? + self.xx.read(&mut from)?;
        from.end()?;
        Ok(grown)
    }
}

impl Pair {
    fn read(&mut self, from: &mut Reader) -> Result<usize, StateError> {
        self.n = self.n.wrapping_add(from.count()?);
        Ok(self.y.read(from)? + self.x.read(from)? + self.xy.read(from)?)
    }
}

impl Sums<2> for Pair {
    #[inline(always)]
    fn add(&mut self, [y, x]: [f64; 2]) -> usize {
        self.n = self.n.wrapping_add(1);
        self.y.add(y) + self.x.add(x) + self.xy.add(x, y)
    }

    #[inline(always)]
    fn retract(&mut self, [y, x]: [f64; 2]) -> usize {
        self.n = self.n.wrapping_sub(1);
        self.y.retract(y) + self.x.retract(x) + self.xy.retract(x, y)
    }

    fn add_columns(&mut self, level: Level, [y, x]: [&[f64]; 2]) -> usize {
        self.n = self.n.wrapping_add(y.len() as u64);
        add_column(level, y, &mut self.y) + add_column(level, x, &mut self.x) + add_products(level, x, y, &mut self.xy)
    }

    fn merge(&mut self, other: &Self) -> usize {
        self.n = self.n.wrapping_add(other.n);
        self.y.merge(&other.y) + self.x.merge(&other.x) + self.xy.merge(&other.xy)
    }

    fn count(&self) -> u64 {
        self.n
    }

    fn heap(&self) -> usize {
        self.y.heap() + self.x.heap() + self.xy.heap()
    }

    fn write(&self, to: &mut Vec<u8>) {
        bytes::write_count(to, self.n);
        self.y.write(to);
        self.x.write(to);
        self.xy.write(to);
    }

    fn merge_bytes(&mut self, bytes: &[u8]) -> Result<usize, StateError> {
        let mut from = Reader::new(bytes);
        let grown = self.read(&mut from)?;
        from.end()?;
        Ok(grown)
    }
}

impl Sums<2> for Fit {
    #[inline(always)]
    fn add(&mut self, [y, x]: [f64; 2]) -> usize {
        self.pair.add([y, x]) + self.yy.add(y, y) + self.xx.add(x, x)
    }

    #[inline(always)]
    fn retract(&mut self, [y, x]: [f64; 2]) -> usize {
        self.pair.retract([y, x]) + self.yy.retract(y, y) + self.xx.retract(x, x)
    }

    fn add_columns(&mut self, level: Level, [y, x]: [&[f64]; 2]) -> usize {
        self.pair.add_columns(level, [y, x]) + add_products(level, y, y, &mut self.yy) + add_products(level, x, x, &mut self.xx)
    }

    fn merge(&mut self, other: &Self) -> usize {
        self.pair.merge(&other.pair) + self.yy.merge(&other.yy) + self.xx.merge(&other.xx)
    }

    fn count(&self) -> u64 {
        self.pair.n
    }

    fn heap(&self) -> usize {
        self.pair.heap() + self.yy.heap() + self.xx.heap()
    }

    fn write(&self, to: &mut Vec<u8>) {
        self.pair.write(to);
        self.yy.write(to);
        self.xx.write(to);
    }

    fn merge_bytes(&mut self, bytes: &[u8]) -> Result<usize, StateError> {
        let mut from = Reader::new(bytes);
        let grown = self.pair.read(&mut from)? + self.yy.read(&mut from)? + self.xx.read(&mut from)?;
        from.end()?;
        Ok(grown)
    }
}

impl<S: Sums<1>, const COLUMN: usize> Sums<2> for Of<S, COLUMN> {
    #[inline(always)]
    fn add(&mut self, row: [f64; 2]) -> usize {
        self.0.add([row[COLUMN]])
    }

    #[inline(always)]
    fn retract(&mut self, row: [f64; 2]) -> usize {
        self.0.retract([row[COLUMN]])
    }

    fn add_columns(&mut self, level: Level, columns: [&[f64]; 2]) -> usize {
        self.0.add_columns(level, [columns[COLUMN]])
    }

    fn merge(&mut self, other: &Self) -> usize {
        self.0.merge(&other.0)
    }

    fn count(&self) -> u64 {
        self.0.count()
    }

    fn heap(&self) -> usize {
        self.0.heap()
    }

    fn write(&self, to: &mut Vec<u8>) {
        self.0.write(to);
    }

    fn merge_bytes(&mut self, bytes: &[u8]) -> Result<usize, StateError> {
        self.0.merge_bytes(bytes)
    }
}

impl Total {
    /// The sum; None of no rows.
    pub fn sum(&self) -> Option<f64> {
        (self.n > 0).then(|| self.x.value())
    }

    /// The mean; None of no rows.
    pub fn mean(&self) -> Option<f64> {
        (self.n > 0).then(|| self.x.over(self.n))
    }
}

impl Spread {
    /// Mean squared deviation from the mean, over n − 1 for a sample; None of too few rows.
    pub fn variance(&self, sample: bool) -> Option<f64> {
        self.over(sample).map(|v| v.map_or(f64::NAN, Leading::nearest))
    }

    /// Square root of the variance.
    pub fn deviation(&self, sample: bool) -> Option<f64> {
        self.over(sample).map(|v| v.map_or(f64::NAN, Leading::root))
    }

    /// Sum of squared deviations from the mean, S_xx; None of no rows.
    pub fn squares(&self) -> Option<f64> {
        let squares = || self.centred().map_or(f64::NAN, |c| c.over(&Number::count(self.n)).nearest());
        (self.n > 0).then(squares)
    }

    fn over(&self, sample: bool) -> Option<Option<Leading>> {
        let divisor = divisor(self.n, sample)?;
        Some(self.centred().map(|c| c.over(&divisor)))
    }

    fn centred(&self) -> Option<Number> {
        centred(self.n, &self.xx, &self.x, &self.x)
    }
}

impl Pair {
    /// Mean product of deviations from the means, over n − 1 for a sample; None of too few rows.
    pub fn covariance(&self, sample: bool) -> Option<f64> {
        let divisor = divisor(self.n, sample)?;
        Some(self.centred().map_or(f64::NAN, |c| c.over(&divisor).nearest()))
    }

    /// Sum of products of deviations from the means, S_xy; None of no rows.
    pub fn products(&self) -> Option<f64> {
        let products = || self.centred().map_or(f64::NAN, |c| c.over(&Number::count(self.n)).nearest());
        (self.n > 0).then(products)
    }

    fn centred(&self) -> Option<Number> {
        centred(self.n, &self.xy, &self.x, &self.y)
    }
}

/// n · S_xx, n · S_yy and n · S_xy.
struct Deviations {
    xx: Option<Number>,
    yy: Option<Number>,
    xy: Option<Number>,
}

impl Fit {
    fn deviations(&self) -> Deviations {
        let Pair { n, x, y, .. } = &self.pair;
        Deviations { xx: centred(*n, &self.xx, x, x), yy: centred(*n, &self.yy, y, y), xy: self.pair.centred() }
    }

    /// Pearson's correlation, never outside −1 to 1; None of fewer than two rows or where x or y has one value only.
    /// As in DataFusion it is NaN where both x and y have NaN among them, and None where one has.
    pub fn correlation(&self) -> Option<f64> {
        let nan = |sum: &Exact<2>| sum.special().is_some_and(f64::is_nan);
        match (nan(&self.pair.x), nan(&self.pair.y)) {
            (true, true) => return Some(f64::NAN),
            (false, false) if self.pair.n > 1 => {}
            _ => return None,
        }
        let Deviations { xx: Some(xx), yy: Some(yy), xy: Some(xy) } = self.deviations() else { return Some(f64::NAN) };
        if xx.is_zero() || yy.is_zero() {
            return None;
        }
        let size = xy.times(&xy).over(&xx.times(&yy)).root();
        Some(if xy.negative() { -size } else { size })
    }

    /// Slope of the least-squares line; None of fewer than two rows or where x has one value only.
    pub fn slope(&self) -> Option<f64> {
        self.line(|d| Some(d.xy.as_ref()?.over(d.xx.as_ref()?)))
    }

    /// Where the least-squares line has x = 0; None as for the slope.
    pub fn intercept(&self) -> Option<f64> {
        let Pair { n, x, y, .. } = &self.pair;
        // (Σy − slope · Σx) / n
        self.line(|d| {
            let (xx, xy) = (d.xx.as_ref()?, d.xy.as_ref()?);
            let above = finite(y)?.times(xx).minus(&finite(x)?.times(xy));
            Some(above.over(&Number::count(*n).times(xx)))
        })
    }

    /// Share of the variance of y that the line explains; None also where y has one value only.
    pub fn determination(&self) -> Option<f64> {
        let constant = centred(self.pair.n, &self.yy, &self.pair.y, &self.pair.y).is_some_and(|yy| yy.is_zero());
        if constant {
            return None;
        }
        self.line(|d| {
            let (xx, yy, xy) = (d.xx.as_ref()?, d.yy.as_ref()?, d.xy.as_ref()?);
            Some(xy.times(xy).over(&xx.times(yy)))
        })
    }

    /// NaN where `value` finds terms that are not finite.
    fn line(&self, value: impl Fn(&Deviations) -> Option<Leading>) -> Option<f64> {
        let deviations = self.deviations();
        let vertical = deviations.xx.as_ref().is_some_and(Number::is_zero);
        (self.pair.n > 1 && !vertical).then(|| value(&deviations).map_or(f64::NAN, Leading::nearest))
    }
}

/// The sum, unless a term is not finite.
fn finite(sum: &Exact<2>) -> Option<Number> {
    sum.special().is_none().then(|| sum.number())
}

/// n · Σxy − Σx · Σy, unless a term is not finite.
fn centred(n: u64, xy: &Exact<4>, x: &Exact<2>, y: &Exact<2>) -> Option<Number> {
    Some(xy.number().times(&Number::count(n)).minus(&finite(x)?.times(&finite(y)?)))
}

/// n · (n − 1) for a sample, else n²; None where it is zero.
fn divisor(n: u64, sample: bool) -> Option<Number> {
    let divisor = Number::count(n).times(&Number::count(n.saturating_sub(u64::from(sample))));
    (!divisor.is_zero()).then_some(divisor)
}
