//! Boosting with dropouts (DART: K. V. Rashmi and R. Gilad-Bachrach, 2015): a tree is grown without some of those
//! before it, and takes their place in part. Weights are those of LightGBM: of `k` trees that are dropped each keeps
//! k / (k + 1) of its weight, and the new tree weighs 1 / (k + 1).
//!
//! Which trees are dropped is a function of the seed alone, and so is every weight: nothing of it travels or is stored.

use crate::philox::Stream;

/// Most trees of a fit with dropouts: which are dropped is drawn for every pair of trees.
pub const MOST_TREES: u32 = 5_000;

/// How trees are dropped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// Share of trees that are dropped, where some are.
    pub rate: f64,
    /// Most trees that are dropped at once.
    pub most: u32,
    /// Probability that none is.
    pub skip: f64,
}

/// What a tree is grown without.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Dropped {
    /// Trees and their weights, ascending.
    pub trees: Vec<(u32, f64)>,
}

impl Dropped {
    /// What is left of the dropped trees' weights is 1 less this; the weight of the new tree.
    pub fn share(&self) -> f64 {
        1.0 / (self.trees.len() + 1) as f64
    }
}

/// What every tree of a fit is grown without, and what all weigh in the end.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Schedule {
    rounds: Vec<Dropped>,
}

impl Schedule {
    /// Draws for a number of trees.
    pub fn new(dropout: Dropout, seed: u64, trees: u32) -> Self {
        let (mut rounds, mut weights) = (Vec::new(), Vec::new());
        for tree in 0..trees {
            let dropped = draw(dropout, seed, tree, &weights);
            weigh(&mut weights, &dropped);
            rounds.push(dropped);
        }
        Self { rounds }
    }

    /// What a tree is grown without.
    pub fn dropped(&self, tree: usize) -> Option<&Dropped> {
        self.rounds.get(tree)
    }

    /// What the first `trees` trees weigh when the last of them is grown.
    pub fn weights(&self, trees: usize) -> Vec<f64> {
        let mut weights = Vec::new();
        self.rounds.iter().take(trees).for_each(|dropped| weigh(&mut weights, dropped));
        weights
    }
}

/// Trees that a tree is grown without: those that weigh more are dropped more often, in the mean a `rate` of all.
fn draw(dropout: Dropout, seed: u64, tree: u32, weights: &[f64]) -> Dropped {
    let stream = Stream::new(seed, "dropped trees", u64::from(tree), 0);
    let mut out = Dropped::default();
    if weights.is_empty() || stream.uniform(u128::from(u32::MAX)) < dropout.skip {
        return out;
    }
    let count = weights.len() as f64;
    let most = f64::from(dropout.most) / count;
    let rate = if dropout.rate < most { dropout.rate } else { most };
    let sum: f64 = weights.iter().sum();
    for (i, &weight) in weights.iter().enumerate() {
        if out.trees.len() < dropout.most as usize && stream.uniform(i as u128) < rate * weight * count / sum {
            out.trees.push((i as u32, weight));
        }
    }
    out
}

/// A tree comes to those that are there.
fn weigh(weights: &mut Vec<f64>, dropped: &Dropped) {
    let share = dropped.share();
    for &(tree, weight) in &dropped.trees {
        weights[tree as usize] = weight - weight * share;
    }
    weights.push(share);
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn weights_are_those_of_the_definition() {
        let schedule = Schedule::new(Dropout { rate: 0.3, most: 5, skip: 0.4 }, 7, 60);
        let mut weights: Vec<f64> = Vec::new();
        let (mut none, mut most) = (0, 0);
        for tree in 0..60 {
            assert_eq!(schedule.weights(tree), weights);
            let dropped = &schedule.dropped(tree).unwrap().trees;
            assert!(dropped.iter().all(|&(i, weight)| weights[i as usize] == weight), "{dropped:?}");
            let k = dropped.len() as f64;
            for (i, _) in dropped {
                let weight = &mut weights[*i as usize];
                assert!((schedule.weights(tree + 1)[*i as usize] - *weight * k / (k + 1.0)).abs() < 1e-15);
                *weight = schedule.weights(tree + 1)[*i as usize];
            }
            weights.push(1.0 / (k + 1.0));
            none += usize::from(dropped.is_empty());
            most = most.max(dropped.len());
        }
        assert!((18..35).contains(&none), "skipped {none} times");
        assert_eq!(most, 5);
    }

    #[test]
    fn a_longer_fit_drops_the_same_and_another_seed_others() {
        let dropout = Dropout { rate: 0.1, most: 50, skip: 0.5 };
        let (short, long) = (Schedule::new(dropout, 3, 40), Schedule::new(dropout, 3, 90));
        assert_eq!(short.rounds, long.rounds[..40]);
        assert_ne!(short, Schedule::new(dropout, 4, 40));
        let all = Schedule::new(Dropout { rate: 1.0, most: 50, skip: 0.0 }, 3, 4);
        assert_eq!(all.dropped(1).unwrap().trees, [(0, 1.0)]);
        assert_eq!(all.weights(2), [0.5, 0.5]);
    }
}
