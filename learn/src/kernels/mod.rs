//! Kernels: loops over columns as they are stored, in f64, with the same bits at every level.
//!
//! Part of the numeric version: sums over rows run in [`LANES`] logical lanes (row `i` of a shard's
//! segment goes to lane `i % LANES`), lanes are added in the fixed order of [`lane_sum`], rows are taken
//! in chunks of [`CHUNK`], no product is fused, sums over slots and sparse entries run in row order.

use std::ops::{Deref, DerefMut};

mod accumulate;
pub mod design;
pub mod gradient;
pub mod gram;
pub mod level;
pub mod loss;
pub mod margins;
pub mod self_test;
pub mod survey;
mod sweep;

pub use design::{Design, Term};
pub use gradient::{Gradient, gradient};
pub use gram::{Affine, SecondOrder, second_order};
pub use level::{Level, Vector};
pub use loss::Loss;
pub use margins::{Linear, margins};
pub use self_test::{self_test, self_test_at};
pub use survey::{Moments, Survey, survey};

/// Rows that a kernel takes at a time: small enough that a block of columns stays in the cache.
pub const CHUNK: usize = 512;
/// Logical lanes of a sum over rows.
pub const LANES: usize = 16;
/// Most registers that hold a number a lane.
const MOST_PARTS: usize = LANES / 2;

/// A number for every row of a chunk. It begins with a line of the cache, so that no register is read from two.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Chunk([[f64; LANES]; CHUNK / LANES]);

impl Chunk {
    const ZERO: Self = Self([[0.0; LANES]; CHUNK / LANES]);
}

impl Deref for Chunk {
    type Target = [[f64; LANES]];

    #[inline(always)]
    fn deref(&self) -> &[[f64; LANES]] {
        &self.0
    }
}

impl DerefMut for Chunk {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [[f64; LANES]] {
        &mut self.0
    }
}

/// What is known of the rows of a design beside their features.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// What is learnt.
    pub target: &'a [f64],
    /// Row weights; absent: all 1.
    pub weight: Option<&'a [f64]>,
    /// Added to the margin; absent: all 0.
    pub offset: Option<&'a [f64]>,
    /// Multiplies the weights of rows with target 0 and 1.
    pub class_weight: Option<[f64; 2]>,
}

impl Rows<'_> {
    fn check(&self, design: &Design<'_>) {
        let lengths = [Some(self.target), self.weight, self.offset].map(|x| x.map_or(design.rows, <[f64]>::len));
        assert_eq!(lengths, [design.rows; 3], "a value a row");
    }
}

/// A stored number.
pub(crate) trait Number: Copy {
    /// Its value.
    fn number(self) -> f64;
    /// Values of a part of a block.
    fn load<V: Vector>(block: &[Self; LANES], part: usize) -> V;
    /// The column, if it holds such numbers.
    fn of<'a>(term: &Term<'a>) -> Option<&'a [Self]>;
}

impl Number for f32 {
    #[inline(always)]
    fn load<V: Vector>(block: &[Self; LANES], part: usize) -> V {
        V::load_f32(block, part)
    }

    #[inline(always)]
    fn of<'a>(term: &Term<'a>) -> Option<&'a [Self]> {
        if let Term::F32(x) = *term { Some(x) } else { None }
    }

    #[inline(always)]
    fn number(self) -> f64 {
        f64::from(self)
    }
}

impl Number for f64 {
    #[inline(always)]
    fn load<V: Vector>(block: &[Self; LANES], part: usize) -> V {
        V::load(block, part)
    }

    #[inline(always)]
    fn of<'a>(term: &Term<'a>) -> Option<&'a [Self]> {
        if let Term::F64(x) = *term { Some(x) } else { None }
    }

    #[inline(always)]
    fn number(self) -> f64 {
        self
    }
}

/// The lanes of a sum in one: halves are added until one is left.
#[inline(always)]
pub fn lane_sum(lanes: &[f64; LANES]) -> f64 {
    let mut sums = *lanes;
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            sums[i] += sums[i + half];
        }
        half /= 2;
    }
    sums[0]
}
