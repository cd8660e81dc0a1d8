//! Small dense symmetric systems at the coordinator: Cholesky with rank detection, in one fixed order
//! of operations, and residuals in double-double for refinement.

use serde::{Deserialize, Serialize};

use crate::math::{two_product, two_sum};

/// A symmetric matrix: its upper triangle by rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Symmetric {
    size: usize,
    packed: Vec<f64>,
}

impl Symmetric {
    /// From the packed upper triangle, `size (size + 1) / 2` values.
    ///
    /// # Panics
    /// If the number of values is another.
    pub fn new(size: usize, packed: Vec<f64>) -> Self {
        assert_eq!(packed.len(), size * (size + 1) / 2, "a packed triangle");
        Self { size, packed }
    }

    /// Rows, and columns.
    pub fn size(&self) -> usize {
        self.size
    }

    fn index(&self, i: usize, j: usize) -> usize {
        let (i, j) = (i.min(j), i.max(j));
        i * (2 * self.size - i + 1) / 2 + (j - i)
    }

    /// Element (i, j).
    pub fn at(&self, i: usize, j: usize) -> f64 {
        self.packed[self.index(i, j)]
    }

    /// Is every element finite?
    pub fn is_finite(&self) -> bool {
        self.packed.iter().all(|a| a.is_finite())
    }

    /// Adds to a diagonal element.
    pub fn add_diagonal(&mut self, i: usize, value: f64) {
        let at = self.index(i, i);
        self.packed[at] += value;
    }

    /// Multiplies every element.
    pub fn scale(&mut self, factor: f64) {
        self.packed.iter_mut().for_each(|a| *a *= factor);
    }

    /// Without its first row and column.
    pub fn without_first(&self) -> Symmetric {
        Symmetric { size: self.size - 1, packed: self.packed[self.size..].to_vec() }
    }

    /// The rows and columns of `keep`, in its order.
    pub fn select(&self, keep: &[usize]) -> Symmetric {
        let rows = keep.iter().enumerate();
        let packed = rows.flat_map(|(a, &i)| keep[a..].iter().map(move |&j| self.at(i, j))).collect();
        Symmetric { size: keep.len(), packed }
    }

    /// A · x.
    pub fn times(&self, x: &[f64]) -> Vec<f64> {
        (0..self.size).map(|i| (0..self.size).fold(0.0, |sum, j| sum + self.at(i, j) * x[j])).collect()
    }

    /// b − A · x, summed in double-double and rounded once.
    fn residual(&self, x: &[f64], b: &[f64]) -> Vec<f64> {
        let row = |i: usize| {
            let (mut high, mut low) = (b[i], 0.0);
            for (j, x) in x.iter().enumerate() {
                let (p, p_low) = two_product(-self.at(i, j), *x);
                let (s, s_low) = two_sum(high, p);
                high = s;
                low += s_low + p_low;
            }
            high + low
        };
        (0..self.size).map(row).collect()
    }
}

/// A = L L' of the columns that do not depend on earlier ones.
#[derive(Debug, Clone)]
pub struct Cholesky {
    matrix: Symmetric,
    /// Lower triangle, row-major, full storage; rows of dependent columns are 0.
    lower: Vec<f64>,
    /// Columns that depend on earlier ones within their tolerance.
    pub dependent: Vec<bool>,
    /// Smallest pivot of the others relative to its diagonal element: 1 when nothing is correlated.
    pub smallest_pivot: f64,
}

impl Cholesky {
    /// Factors in the order of the columns. Column j counts as dependent if what earlier columns leave of
    /// its diagonal element is at most `tolerance(j)` of it.
    pub fn new(matrix: Symmetric, tolerance: impl Fn(usize) -> f64) -> Self {
        let n = matrix.size();
        let mut lower = vec![0.0; n * n];
        let mut dependent = vec![false; n];
        let mut smallest_pivot = 1.0_f64;
        for i in 0..n {
            for j in 0..i {
                if !dependent[j] {
                    let (row_i, row_j) = (&lower[i * n..i * n + j], &lower[j * n..j * n + j]);
                    let sum = row_i.iter().zip(row_j).fold(matrix.at(i, j), |sum, (a, b)| sum - a * b);
                    lower[i * n + j] = sum / lower[j * n + j];
                }
            }
            let diagonal = matrix.at(i, i);
            let pivot = lower[i * n..i * n + i].iter().fold(diagonal, |sum, a| sum - a * a);
            if diagonal > 0.0 && pivot > tolerance(i) * diagonal {
                lower[i * n + i] = pivot.sqrt();
                smallest_pivot = smallest_pivot.min(pivot / diagonal);
            } else {
                dependent[i] = true;
                lower[i * n..i * n + i].fill(0.0);
            }
        }
        Self { matrix, lower, dependent, smallest_pivot }
    }

    /// Solves A x = b with 0 for dependent columns, refined twice.
    pub fn solve(&self, b: &[f64]) -> Vec<f64> {
        let mut x = self.substitute(b);
        for _ in 0..2 {
            let correction = self.substitute(&self.matrix.residual(&x, b));
            for (x, c) in x.iter_mut().zip(correction) {
                *x += c;
            }
        }
        x
    }

    fn substitute(&self, b: &[f64]) -> Vec<f64> {
        let n = self.matrix.size();
        let mut x = vec![0.0; n];
        for i in (0..n).filter(|&i| !self.dependent[i]) {
            let sum = (0..i).fold(b[i], |sum, j| sum - self.lower[i * n + j] * x[j]);
            x[i] = sum / self.lower[i * n + i];
        }
        for i in (0..n).rev().filter(|&i| !self.dependent[i]) {
            let sum = (i + 1..n).fold(x[i], |sum, j| sum - self.lower[j * n + i] * x[j]);
            x[i] = sum / self.lower[i * n + i];
        }
        x
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// T'T of columns.
    fn gram(columns: &[Vec<f64>]) -> Symmetric {
        let n = columns.len();
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        Symmetric::new(n, (0..n).flat_map(|i| (i..n).map(move |j| (i, j))).map(|(i, j)| dot(&columns[i], &columns[j])).collect())
    }

    #[test]
    fn solves_an_ill_conditioned_system() {
        // Hilbert's matrix of size 7 (condition 5e8), scaled to whole numbers so that it is exact.
        let n = 7;
        let packed = (0..n).flat_map(|i| (i..n).map(move |j| 360_360.0 / (i + j + 1) as f64)).collect();
        let a = Symmetric::new(n, packed);
        let want: Vec<f64> = (0..n).map(|i| i as f64 - 2.5).collect();
        let x = Cholesky::new(a.clone(), |_| 1e-15).solve(&a.times(&want));
        assert!(x.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-6), "{x:?}");
    }

    #[test]
    fn dependent_columns_get_zero() {
        let a: Vec<f64> = (0..20).map(|i| (i % 7) as f64 - 3.0).collect();
        let b: Vec<f64> = (0..20).map(|i| (i % 5) as f64 * 0.3).collect();
        let sum = a.iter().zip(&b).map(|(a, b)| 2.0 * a - b / 3.0).collect();
        let zero = vec![0.0; 20];
        let matrix = gram(&[a, b, sum, zero]);
        let right = matrix.times(&[1.5, -2.0, 0.0, 0.0]);
        let factor = Cholesky::new(matrix, |_| 1e-11);
        assert_eq!(factor.dependent, [false, false, true, true]);
        let x = factor.solve(&right);
        assert!((x[0] - 1.5).abs() < 1e-12 && (x[1] + 2.0).abs() < 1e-12 && x[2..] == [0.0, 0.0], "{x:?}");
    }

    #[test]
    fn selection_keeps_elements() {
        let a = Symmetric::new(3, vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(a.at(2, 1), 5.0);
        assert_eq!(a.select(&[0, 2]), Symmetric::new(2, vec![1.0, 3.0, 6.0]));
        assert_eq!(a.without_first(), Symmetric::new(2, vec![4.0, 5.0, 6.0]));
    }
}
