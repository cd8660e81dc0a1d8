//! Sums of f64 whose bits depend on the multiset of the terms alone: not on their order, nor on how they were split
//! and merged, nor on what was added and taken away again. SQL's aggregates over floats are made of them.
//!
//! Method: *exact* sums. Every finite f64 is an integer times 2^-1074, a product of two an integer times 2^-2148; such
//! integers are added without rounding, so that addition is commutative, associative and has an inverse. Most sums
//! live in a few words: a fixed-point window of 128 bits (sums) or 256 (sums of products) that follows the data
//! ([`Exact`]); a sum whose terms span more moves into a small superaccumulator of all bits (R. Neal 2015, "Fast exact
//! summation using small and large superaccumulators", arXiv:1505.05571) on the heap. Columns are added in blocks: two
//! integers per term relative to the block's largest exponent, by the magic numbers of J. Demmel and H. D. Nguyen
//! ("Parallel reproducible summation", IEEE Trans. Computers 64, 2015), here kept as integers, so that nothing is lost.
//!
//! What is evaluated at the end is a rational function of exact integers, rounded once ([`number`]):
//! * sum, mean, variance, covariance, S_xx, S_yy, S_xy, slope, intercept and R² are the f64 nearest to the true value
//!   of the given terms (ties to even; error at most half an ulp, also where the textbook formula cancels);
//! * standard deviations and the correlation are the root of such a number: relative error at most 1.5 · 2^-53.
//!
//! NaN and infinities are counted, so that they can be taken away; a result that depends on one is the one NaN
//! `f64::NAN` or the infinity that remains. A sum that is zero is +0. A sum overflows only if its true value does.

mod bytes;
mod column;
mod exact;
mod limbs;
mod number;
mod sums;
mod wide;

pub use bytes::StateError;
pub use column::{add_column, add_products};
pub use exact::Exact;
pub use sums::{Fit, Of, Pair, Spread, Sums, Total};
