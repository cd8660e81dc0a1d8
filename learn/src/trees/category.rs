//! Splits of categories: bins sorted by gradient over hessian, then thresholds from both ends; few bins one by one.
//! The limits are LightGBM's (`feature_histogram.hpp`, FindBestThresholdCategorical). Missing is a category like
//! others: one that is met only at prediction goes where missing values go.

use super::CELLS;
use super::grown::Rule;
use super::histogram::Pair;
use super::params::Regularization;
use super::split::{Found, Sides};

/// Bins of a feature up to which each is tried alone.
const ONE_BY_ONE: usize = 4;
/// Rows that a group of categories should have.
const GROUP: f64 = 100.0;

/// The best set of bins to go left; `count` is the number of bins without the missing one.
pub fn best(rules: &Regularization, sides: &Sides, cells: &[Pair; CELLS], count: usize) -> Option<Found> {
    let mut used: Vec<usize> = (0..=count).filter(|&bin| cells[bin][1] > 0).collect();
    if count <= ONE_BY_ONE {
        return one_by_one(sides, cells, &used);
    }
    used.retain(|&bin| sides.rows_of(cells[bin]) >= rules.cat_smooth);
    let key = |bin: usize| {
        let [g, h] = cells[bin];
        g as f64 * sides.units[0] / (h as f64 * sides.units[1] + rules.cat_smooth)
    };
    used.sort_by(|&a, &b| key(a).total_cmp(&key(b)).then(a.cmp(&b)));
    let sides = sides.with_more_l2(rules.cat_l2);
    let most = (rules.max_cat_threshold as usize).min(used.len().div_ceil(2));
    let forward = grouped(&sides, cells, rules.cat_l2, used.iter().copied().take(most));
    let backward = grouped(&sides, cells, rules.cat_l2, used.iter().rev().copied().take(most));
    match (forward, backward) {
        (Some(a), Some(b)) => Some(if b.gain > a.gain { b } else { a }),
        (a, b) => a.or(b),
    }
}

fn one_by_one(sides: &Sides, cells: &[Pair; CELLS], used: &[usize]) -> Option<Found> {
    let mut best: Option<Found> = None;
    for &bin in used {
        if let Some(gain) = sides.gain(cells[bin], 0).filter(|&g| best.is_none_or(|b| g > b.gain)) {
            best = Some(Found { gain, rule: set([bin]), left: cells[bin], more_l2: 0.0 });
        }
    }
    best
}

/// The best beginning of an order of bins.
fn grouped(sides: &Sides, cells: &[Pair; CELLS], more_l2: f64, order: impl Iterator<Item = usize>) -> Option<Found> {
    let (mut left, mut taken, mut group) = ([0; 2], Vec::new(), 0.0);
    let mut best: Option<Found> = None;
    for bin in order {
        left = [left[0] + cells[bin][0], left[1] + cells[bin][1]];
        taken.push(bin);
        group += sides.rows_of(cells[bin]);
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
        if let Some(gain) = sides.gain(left, 0).filter(|&g| best.is_none_or(|b| g > b.gain)) {
            best = Some(Found { gain, rule: set(taken.iter().copied()), left, more_l2 });
        }
    }
    best
}

fn set(bins: impl IntoIterator<Item = usize>) -> Rule {
    let mut words = [0u64; CELLS / 64];
    for bin in bins {
        words[bin / 64] |= 1 << (bin % 64);
    }
    Rule::Among(words)
}
