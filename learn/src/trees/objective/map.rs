//! Pairs weighed by what the average precision would change, as XGBoost's `rank:map` has it; pairs are chosen and normed
//! as those of `lambdarank`. Source of the idea: C. Burges (2010), "From RankNet to LambdaRank to LambdaMART", section 6.

use serde::{Deserialize, Serialize};

use super::{Pairs, QueryLoss};
use crate::query::Ranked;

/// Mean average precision of labels 0 and 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MeanPrecision {
    /// Which pairs count, and how.
    pub pairs: Pairs,
}

impl QueryLoss for MeanPrecision {
    fn pairs(self) -> Pairs {
        self.pairs
    }

    /// With n(k) relevant rows down to rank k (from 1) and s(k) = Σ 1/r over those: a relevant row at rank k counts n(k)/k.
    /// When ranks i < j of different labels change places, the count at j, n(j)/j, is lost or won whichever of the two is
    /// relevant; that at i is n(i)/i, or (n(i) + 1)/i if no relevant row was there; and each relevant row between them has
    /// one more or less above it: s(j − 1) − s(i). The parts of i and of j stand here; 1 / the relevant rows.
    fn worth(self, labels: &[f64], [upper, lower]: &mut [Vec<f64>; 2]) -> f64 {
        upper.clear();
        lower.clear();
        let (mut relevant, mut shares) = (0.0, 0.0);
        for (rank, label) in labels.iter().enumerate() {
            let k = (rank + 1) as f64;
            let (own, before) = (f64::from(u8::from(*label > 0.0)), shares);
            relevant += own;
            shares += own / k;
            upper.push((relevant + (1.0 - own)) / k - shares);
            lower.push(before - relevant / k);
        }
        if relevant > 0.0 { 1.0 / relevant } else { 0.0 }
    }

    #[inline(always)]
    fn change(upper: [f64; 2], lower: [f64; 2]) -> f64 {
        upper[0] + lower[1]
    }

    fn loss(self, ranked: &Ranked) -> f64 {
        1.0 - ranked.average_precision(super::MEASURED_RANKS)
    }
}
