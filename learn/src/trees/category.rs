//! Splits of categories: bins sorted by gradient over hessian, then thresholds from both ends; few bins one by one.
//! The limits are LightGBM's (`feature_histogram.hpp`, FindBestThresholdCategorical). Missing is a category like
//! others: one that is met only at prediction goes where missing values go.
//!
//! The order repeats the training rows: the less categories differ beyond chance, the more their order is noise that
//! a split would learn. So `cat_l2` is divided by the share of their differences that is not chance, the positive part
//! of an F statistic's 1 − 1 / F (the shrinkage of James and Stein, as in empirical Bayes).

use super::CELLS;
use super::grown::Rule;
use super::histogram::Pair;
use super::params::Regularization;
use super::split::{Found, Sides};

/// Bins of a feature up to which each is tried alone.
const ONE_BY_ONE: usize = 4;
/// Rows that a group of categories should have.
const GROUP: f64 = 100.0;
/// Least share of the differences that counts as not by chance.
const LEAST_SHARE: f64 = 0.01;

/// A bin and what it is sorted by.
type Place = (f64, u8);

/// The best set of bins to go left; `count` is the number of bins without the missing one.
pub fn best(rules: &Regularization, sides: &Sides, cells: &[Pair; CELLS], count: usize) -> Option<Found> {
    let used = (0..=count).filter(|&bin| cells[bin][1] > 0);
    if count <= ONE_BY_ONE {
        return one_by_one(sides, cells, used);
    }
    let (mut places, mut len) = ([(0.0, 0); CELLS], 0);
    for bin in used.filter(|&bin| sides.rows_of(cells[bin]) >= rules.cat_smooth) {
        let [g, h] = real(sides, cells[bin]);
        places[len] = (g / (h + rules.cat_smooth), bin as u8);
        len += 1;
    }
    let places = &mut places[..len];
    let more_l2 = rules.cat_l2 / share(sides, cells, places);
    let most = (rules.max_cat_threshold as usize).min(len.div_ceil(2));
    sort_ends(places, most);
    let sides = sides.with_more_l2(more_l2);
    let forward = grouped(&sides, cells, more_l2, places[..most].iter());
    let backward = grouped(&sides, cells, more_l2, places[len - most..].iter().rev());
    match (forward, backward) {
        (Some(a), Some(b)) => Some(if b.gain > a.gain { b } else { a }),
        (a, b) => a.or(b),
    }
}

/// Sums in real units.
fn real(sides: &Sides, [g, h]: Pair) -> [f64; 2] {
    [g as f64 * sides.units[0], h as f64 * sides.units[1]]
}

/// The share of the differences between bins that is not chance: Σ (g − h · G / H)² / h is about the dispersion times
/// (bins − 1) if bins say nothing. All of it where the dispersion is not known.
fn share(sides: &Sides, cells: &[Pair; CELLS], bins: &[Place]) -> f64 {
    if sides.dispersion == 0.0 {
        return 1.0;
    }
    let sums = || bins.iter().map(|&(_, bin)| cells[usize::from(bin)]);
    let [g, h] = real(sides, sums().fold([0; 2], |t, c| [t[0] + c[0], t[1] + c[1]]));
    let mean = g / h;
    let differences = sums().fold(0.0, |sum, cell| {
        let [g, h] = real(sides, cell);
        let apart = g - h * mean;
        sum + apart * apart / h
    });
    let share = 1.0 - sides.dispersion * (bins.len() as f64 - 1.0) / differences;
    if bins.len() > 1 && differences > 0.0 && share > LEAST_SHARE { share } else { LEAST_SHARE }
}

/// Sorts the first and the last `most` places, of equal ones the lower bin first.
fn sort_ends(places: &mut [Place], most: usize) {
    let order = |a: &Place, b: &Place| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
    if places.len() <= 3 * most {
        return places.sort_unstable_by(order);
    }
    places.select_nth_unstable_by(most, order);
    let (first, rest) = places.split_at_mut(most);
    let end = rest.len() - most;
    rest.select_nth_unstable_by(end, order);
    first.sort_unstable_by(order);
    rest[end..].sort_unstable_by(order);
}

fn one_by_one(sides: &Sides, cells: &[Pair; CELLS], used: impl Iterator<Item = usize>) -> Option<Found> {
    let mut best: Option<Found> = None;
    for bin in used {
        if let Some(gain) = sides.gain(cells[bin], 0).filter(|&g| best.is_none_or(|b| g > b.gain)) {
            best = Some(Found { gain, rule: set([bin as u8]), left: cells[bin], more_l2: 0.0 });
        }
    }
    best
}

/// The best beginning of an order of bins.
fn grouped<'a>(
    sides: &Sides,
    cells: &[Pair; CELLS],
    more_l2: f64,
    order: impl Iterator<Item = &'a Place> + Clone,
) -> Option<Found> {
    let (mut left, mut group) = ([0; 2], 0.0);
    // Gain, bins and their sums.
    let mut best: Option<(f64, usize, Pair)> = None;
    for (before, &(_, bin)) in order.clone().enumerate() {
        let cell = cells[usize::from(bin)];
        left = [left[0] + cell[0], left[1] + cell[1]];
        group += sides.rows_of(cell);
        let right = [sides.total[0] - left[0], sides.total[1] - left[1]];
        if !sides.is_large_enough(left) {
            continue;
        }
        if !sides.is_large_enough(right) || sides.rows_of(right) < GROUP {
            break;
        }
        if group < GROUP {
            continue;
        }
        group = 0.0;
        if let Some(gain) = sides.gain(left, 0).filter(|&g| best.is_none_or(|b| g > b.0)) {
            best = Some((gain, before + 1, left));
        }
    }
    best.map(|(gain, bins, left)| Found { gain, rule: set(order.take(bins).map(|place| place.1)), left, more_l2 })
}

fn set(bins: impl IntoIterator<Item = u8>) -> Rule {
    let mut words = [0u64; CELLS / 64];
    for bin in bins {
        words[usize::from(bin / 64)] |= 1 << (bin % 64);
    }
    Rule::Among(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trees::split::{Scale, Whole};

    const BINS: usize = 200;
    const ROWS: i64 = 400;

    fn rules() -> Regularization {
        Regularization {
            l1: 0.0,
            l2: 1.0,
            min_child_weight: 1e-3,
            min_samples_leaf: 20,
            min_split_gain: 0.0,
            cat_smooth: 10.0,
            cat_l2: 10.0,
            max_cat_threshold: 32,
            monotone: Vec::new(),
        }
    }

    /// Rows with gradients of −1 and 1 in bins of `ROWS`, whose sums are about normal with a standard deviation of
    /// `spread` · √`ROWS`; 1 is what chance gives.
    fn cells(spread: f64) -> [Pair; CELLS] {
        let mut out = [[0; 2]; CELLS];
        let mut x = 7u64;
        for cell in &mut out[..BINS] {
            let mut normal = -6.0;
            for _ in 0..12 {
                x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                normal += (x >> 33) as f64 / f64::from(1u32 << 31);
            }
            *cell = [(normal * spread * 20.0 * 1_000.0) as i64, ROWS * 1_000];
        }
        out
    }

    fn sides(cells: &[Pair; CELLS], dispersion: f64) -> Sides {
        let total = cells.iter().fold([0; 2], |t, c| [t[0] + c[0], t[1] + c[1]]);
        let most = f64::from(crate::trees::histogram::UNITS) / 1_000.0;
        let scale = Scale { gradient: most, hessian: most, dispersion };
        let bounds = [f64::NEG_INFINITY, f64::INFINITY];
        Sides::new(&rules(), &Whole { rows: BINS as u64 * ROWS as u64, total, scale, bounds })
    }

    fn found(spread: f64, dispersion: f64) -> Option<Found> {
        let cells = cells(spread);
        best(&rules(), &sides(&cells, dispersion), &cells, BINS)
    }

    #[test]
    fn categories_are_smoothed_by_what_is_not_chance() {
        let more = |spread, dispersion| found(spread, dispersion).map_or(f64::NAN, |found| found.more_l2);
        assert_eq!((more(1.0, 0.0), more(5.0, 0.0)), (10.0, 10.0));
        // 25 times the differences of chance.
        assert!((10.2..10.7).contains(&more(5.0, 1.0)), "{}", more(5.0, 1.0));
        assert!((15.0..30.0).contains(&more(1.5, 1.0)), "{}", more(1.5, 1.0));
        assert_eq!(more(0.9, 1.0), 1_000.0);
        assert!((more(5.0, 1.0) - more(10.0, 4.0)).abs() < 1e-3, "a unit of the gradients does not matter");
        let gain = |dispersion| found(1.5, dispersion).map_or(0.0, |found| found.gain);
        assert!(0.0 < gain(1.0) && gain(1.0) < gain(0.0), "{} {}", gain(1.0), gain(0.0));
        let equal = [[0, ROWS * 1_000]; CELLS];
        assert_eq!(share(&sides(&equal, 1.0), &equal, &[(0.0, 3), (0.0, 9)]), LEAST_SHARE);
        assert_eq!(share(&sides(&equal, 1.0), &equal, &[(0.0, 3)]), LEAST_SHARE);
    }

    #[test]
    fn ends_are_those_of_the_whole_order() {
        let places: Vec<Place> = (0..=255).map(|bin: u8| (f64::from(bin.wrapping_mul(77) / 3), bin)).collect();
        for (len, most) in [(256, 32), (256, 1), (256, 128), (97, 32), (96, 32), (5, 3), (0, 0)] {
            let (mut own, mut want) = (places[..len].to_vec(), places[..len].to_vec());
            want.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            sort_ends(&mut own, most);
            assert_eq!(own[..most], want[..most], "{len} {most}");
            assert_eq!(own[len - most..], want[len - most..], "{len} {most}");
        }
    }

    #[test]
    fn few_bins_are_tried_one_by_one() {
        let mut cells = [[0; 2]; CELLS];
        cells[..3].copy_from_slice(&[[10_000, 400_000], [-60_000, 400_000], [50_000, 400_000]]);
        let found = best(&rules(), &sides(&cells, 1.0), &cells, 3);
        assert!(found.is_some_and(|f| f.rule == set([1]) && f.more_l2 == 0.0));
    }
}
