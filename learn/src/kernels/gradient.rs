//! Loss and gradient of a linear function over the rows of one shard, fused: margins, link and
//! transposed product take a chunk of rows while its columns are in the cache.

use super::accumulate::Sums;
use super::design::Design;
use super::level::{Kernel, Level};
use super::loss::{Linked, Loss, link};
use super::margins::{Linear, chunk};
use super::{CHUNK, LANES, Rows, lane_sum};

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
    fn run(self) -> Gradient {
        let Self { loss, design, linear, rows } = self;
        let mut residual = [0.0; CHUNK];
        let (mut weight, mut value) = ([0.0; CHUNK], [0.0; CHUNK]);
        let (mut loss_lanes, mut total) = ([0.0; LANES], [0.0; LANES]);
        let mut sums = Sums::new(design);
        let mut at = 0;
        while at < design.rows {
            let n = CHUNK.min(design.rows - at);
            let residual = &mut residual[..n];
            chunk(design, &linear, rows.offset, at, residual);
            let linked = Linked { residual, curvature: None, loss: &mut loss_lanes, total: &mut total };
            link(loss, &rows, at, (&mut weight, &mut value), linked);
            sums.chunk(design, linear.shift, at, residual);
            at += n;
        }
        Gradient { loss: lane_sum(&loss_lanes), residual: lane_sum(&total), sums: sums.finish(design) }
    }
}
