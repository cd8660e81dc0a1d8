//! Which sums a statistic needs, and what it makes of them.

use std::fmt::Debug;

use sheaf_learn::reproducible::{Fit, Of, Pair, Spread, Sums, Total};

/// What is computed. The arguments of those of two columns are y and x, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Statistic {
    Sum,
    Mean,
    Variance { sample: bool },
    Deviation { sample: bool },
    Covariance { sample: bool },
    Correlation,
    Slope,
    Intercept,
    Determination,
    MeanX,
    MeanY,
    SquaresX,
    SquaresY,
    Products,
}

/// A result from sums; None is null.
pub(super) type Evaluate<S> = fn(&S) -> Option<f64>;

/// Sums that an accumulator of the engine may hold.
pub(super) trait Held<const C: usize>: Sums<C> + Debug + Send + Sync + 'static {}

impl<const C: usize, S: Sums<C> + Debug + Send + Sync + 'static> Held<C> for S {}

/// Something that is made for the sums of a statistic.
pub(super) trait Make {
    /// What is made.
    type Made;
    /// Over one column.
    fn one<S: Held<1>>(self, evaluate: Evaluate<S>) -> Self::Made;
    /// Over two columns, y and x.
    fn two<S: Held<2>>(self, evaluate: Evaluate<S>) -> Self::Made;
}

/// Columns of [`Of`].
const Y: usize = 0;
const X: usize = 1;

impl Statistic {
    /// Makes it for the sums of this statistic.
    pub fn dispatch<M: Make>(self, make: M) -> M::Made {
        match self {
            Self::Sum => make.one(Total::sum),
            Self::Mean => make.one(Total::mean),
            Self::Variance { sample: true } => make.one(|s: &Spread| s.variance(true)),
            Self::Variance { sample: false } => make.one(|s: &Spread| s.variance(false)),
            Self::Deviation { sample: true } => make.one(|s: &Spread| s.deviation(true)),
            Self::Deviation { sample: false } => make.one(|s: &Spread| s.deviation(false)),
            Self::Covariance { sample: true } => make.two(|s: &Pair| s.covariance(true)),
            Self::Covariance { sample: false } => make.two(|s: &Pair| s.covariance(false)),
            Self::Correlation => make.two(Fit::correlation),
            Self::Slope => make.two(Fit::slope),
            Self::Intercept => make.two(Fit::intercept),
            Self::Determination => make.two(Fit::determination),
            Self::MeanX => make.two(|s: &Of<Total, X>| s.0.mean()),
            Self::MeanY => make.two(|s: &Of<Total, Y>| s.0.mean()),
            Self::SquaresX => make.two(|s: &Of<Spread, X>| s.0.squares()),
            Self::SquaresY => make.two(|s: &Of<Spread, Y>| s.0.squares()),
            Self::Products => make.two(Pair::products),
        }
    }
}
