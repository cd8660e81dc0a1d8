//! LambdaMART: pairs weighed by what NDCG would change. Sources: C. Burges (2010), "From RankNet to LambdaRank to
//! LambdaMART"; LightGBM's objective of the same name, whose parameters these are.

use serde::{Deserialize, Serialize};

use super::{Pairs, QueryLoss};
use crate::query::{Ranked, dcg, discount, gain};

/// NDCG of graded labels.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Lambdarank {
    /// Which pairs count, and how.
    pub pairs: Pairs,
}

impl QueryLoss for Lambdarank {
    fn pairs(self) -> Pairs {
        self.pairs
    }

    /// Gains and discounts; 1 / the best DCG.
    fn worth(self, labels: &[f64], [gains, discounts]: &mut [Vec<f64>; 2]) -> f64 {
        gains.clear();
        gains.extend(labels.iter().map(|label| gain(*label)));
        discounts.clear();
        discounts.extend((0..labels.len()).map(discount));
        let mut best = labels.to_vec();
        best.sort_by(|a, b| b.total_cmp(a));
        let best = dcg(&best, self.pairs.truncation_level as usize);
        if best > 0.0 { 1.0 / best } else { 0.0 }
    }

    #[inline(always)]
    fn change(upper: [f64; 2], lower: [f64; 2]) -> f64 {
        (upper[0] - lower[0]).abs() * (upper[1] - lower[1]).abs()
    }

    fn loss(self, ranked: &Ranked) -> f64 {
        1.0 - ranked.ndcg(super::MEASURED_RANKS)
    }
}
