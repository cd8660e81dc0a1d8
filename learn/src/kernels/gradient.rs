//! Loss and gradient of a linear function over the rows of one shard, in one pass over the memory: while
//! the margins of a chunk are read from there, the sums of the chunk before it come from the cache.

use std::mem::swap;

use super::accumulate::Sums;
use super::design::Design;
use super::level::{Kernel, Level, Vector};
use super::loss::{Linked, Loss, link};
use super::margins::{Linear, begin};
use super::sweep::{Ahead, Sweep};
use super::{CHUNK, Chunk, LANES, Rows, lane_sum};

/// Sums over the rows of a shard.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradient {
    /// Σ weight · loss.
    pub loss: f64,
    /// Σ r, with r = weight × slope of the loss: the gradient of the intercept.
    pub residual: f64,
    /// Σ r · (x_j − shift_j) per numeric slot, Σ r · x_j per other slot.
    pub sums: Vec<f64>,
}

/// Loss and gradient of `linear` over all rows of a design.
///
/// # Panics
/// If the lengths of rows, design and linear function differ.
pub fn gradient(level: Level, loss: Loss, design: &Design<'_>, linear: Linear<'_>, rows: Rows<'_>) -> Gradient {
    rows.check(design);
    assert_eq!(linear.weight.len(), design.width, "a weight a slot");
    assert_eq!(linear.shift.len(), design.width, "a shift a slot");
    level.run(Fused { loss, design, linear, rows })
}

struct Fused<'a> {
    loss: Loss,
    design: &'a Design<'a>,
    linear: Linear<'a>,
    rows: Rows<'a>,
}

impl Kernel for Fused<'_> {
    type Output = Gradient;

    #[inline(always)]
    fn run<V: Vector>(self) -> Gradient {
        let Self { loss, design, linear, rows } = self;
        let (mut one, mut other) = (Chunk::ZERO, Chunk::ZERO);
        let (mut margin, mut residual) = (&mut one, &mut other);
        let (mut loss_lanes, mut total) = ([0.0; LANES], [0.0; LANES]);
        let (mut sums, mut ahead) = (Sums::new(design), Ahead::some(design));
        // A chunk's margins are computed in one sweep with the sums of the chunk before it.
        let (mut at, mut before) = (0, 0);
        while at < design.rows {
            let n = CHUNK.min(design.rows - at);
            let out = &mut margin.as_flattened_mut()[..n];
            begin(&linear, rows.offset, at, out);
            let sweep = Sweep { design, linear: &linear, next: at, last: at - before };
            if n == before {
                sweep.run::<V, true, true>(out, &residual.as_flattened()[..n], &mut sums);
            } else {
                sweep.run::<V, true, false>(out, &[], &mut sums);
                sweep.run::<V, false, true>(&mut [], &residual.as_flattened()[..before], &mut sums);
            }
            ahead.aim(at + n);
            let linked = Linked { margin: out, curvature: &mut [], loss: &mut loss_lanes, total: &mut total };
            link::<false>(loss, &rows, at, &mut ahead, linked);
            swap(&mut margin, &mut residual);
            (at, before) = (at + n, n);
        }
        let sweep = Sweep { design, linear: &linear, next: 0, last: at - before };
        sweep.run::<V, false, true>(&mut [], &residual.as_flattened()[..before], &mut sums);
        Gradient { loss: lane_sum(&loss_lanes), residual: lane_sum(&total), sums: sums.finish(design) }
    }
}
