//! Sums of the cells of a node: a word a cell where no half of it can overflow, pairs of i64 where more rows stand.
//!
//! A word is (gradient << 32) + hessian: words are added, subtracted and summed up along bins as they are. Which form sums
//! have is a function of the number of rows alone.

use super::CELLS;
use super::histogram::{FLUSH, Pair, pack_sums, unpack};

/// Sums of some features side by side, `CELLS` each.
#[derive(Debug, Clone, PartialEq)]
pub enum Sums {
    /// Of at most [`FLUSH`] rows.
    Packed(Vec<u64>),
    /// Of any number of rows.
    Wide(Vec<Pair>),
}

/// The cells of one feature.
#[derive(Debug, Clone, Copy)]
pub enum Cells<'a> {
    /// A word each.
    Packed(&'a [u64; CELLS]),
    /// A pair each.
    Wide(&'a [Pair; CELLS]),
}

impl Sums {
    /// Of pairs, in the form for so many rows.
    pub fn of_pairs(pairs: Vec<Pair>, rows: u64) -> Self {
        Sums::Wide(pairs).of_rows(rows)
    }

    /// In the form for so many rows.
    fn of_rows(self, rows: u64) -> Self {
        match self {
            Sums::Wide(pairs) if rows <= FLUSH as u64 => Sums::Packed(pairs.into_iter().map(pack_sums).collect()),
            sums => sums,
        }
    }

    /// Number of cells.
    pub fn len(&self) -> usize {
        match self {
            Sums::Packed(words) => words.len(),
            Sums::Wide(pairs) => pairs.len(),
        }
    }

    /// Whether there are no cells.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The cells of a feature, counted from the first one here.
    ///
    /// # Panics
    /// If there is no such feature.
    pub fn feature(&self, at: usize) -> Cells<'_> {
        let range = at * CELLS..(at + 1) * CELLS;
        match self {
            Sums::Packed(words) => Cells::Packed(words[range].try_into().expect("cells of a feature")),
            Sums::Wide(pairs) => Cells::Wide(pairs[range].try_into().expect("cells of a feature")),
        }
    }

    /// These sums without those of some of their rows, so that so many rows are left.
    #[must_use]
    pub fn without(mut self, part: &Self, rows: u64) -> Self {
        match (&mut self, part) {
            (Sums::Packed(all), Sums::Packed(part)) => {
                all.iter_mut().zip(part).for_each(|(all, part)| *all = all.wrapping_sub(*part));
            }
            (Sums::Wide(all), Sums::Packed(part)) => {
                all.iter_mut().zip(part).for_each(|(all, &part)| subtract(all, unpack(part)));
            }
            (Sums::Wide(all), Sums::Wide(part)) => all.iter_mut().zip(part).for_each(|(all, part)| subtract(all, *part)),
            (Sums::Packed(_), Sums::Wide(_)) => panic!("more rows in a part than in all"),
        }
        self.of_rows(rows)
    }
}

fn subtract(all: &mut Pair, part: Pair) {
    *all = [all[0] - part[0], all[1] - part[1]];
}

impl Cells<'_> {
    /// A cell.
    pub fn at(&self, bin: usize) -> Pair {
        match self {
            Cells::Packed(words) => unpack(words[bin]),
            Cells::Wide(pairs) => pairs[bin],
        }
    }

    /// All of them as pairs.
    pub fn pairs(&self) -> [Pair; CELLS] {
        match self {
            Cells::Packed(words) => words.map(unpack),
            Cells::Wide(pairs) => **pairs,
        }
    }

    /// The sum of all cells.
    pub fn total(&self) -> Pair {
        self.before(CELLS)
    }

    /// The sum of the cells before one.
    ///
    /// # Panics
    /// If there are not as many.
    pub fn before(&self, bin: usize) -> Pair {
        match self {
            Cells::Packed(words) => unpack(words[..bin].iter().fold(0, |sum, &word| sum.wrapping_add(word))),
            Cells::Wide(pairs) => pairs[..bin].iter().fold([0; 2], |sum, pair| [sum[0] + pair[0], sum[1] + pair[1]]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_taken_from_either_form() {
        let most = FLUSH as u64;
        let pairs = |step: i64| -> Vec<Pair> { (0..2 * CELLS as i64).map(|i| [step * (i % 7 - 3), step * (i % 5)]).collect() };
        let rest =
            |a: i64, b: i64| -> Vec<Pair> { pairs(a).iter().zip(pairs(b)).map(|(a, b)| [a[0] - b[0], a[1] - b[1]]).collect() };
        for (all, part, left) in
            [(3 * most, most / 2, most + 1), (most + 10, most / 2, most / 2 + 10), (100, 40, 60), (3 * most, 2 * most, most)]
        {
            let sums = Sums::of_pairs(pairs(900), all);
            assert_eq!(matches!(sums, Sums::Packed(_)), all <= most);
            let out = sums.without(&Sums::of_pairs(pairs(400), part), left);
            assert_eq!(matches!(out, Sums::Packed(_)), left <= most);
            assert_eq!([out.feature(0).pairs(), out.feature(1).pairs()].concat(), rest(900, 400));
            let total = rest(900, 400)[CELLS..].iter().fold([0; 2], |t, c| [t[0] + c[0], t[1] + c[1]]);
            assert_eq!((out.feature(1).total(), out.feature(0).at(9)), (total, rest(900, 400)[9]));
        }
    }
}
