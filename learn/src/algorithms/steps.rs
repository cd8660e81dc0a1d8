//! What linear learners send to shards and get back.

use serde::{Deserialize, Serialize};

use crate::algorithm::Merge;
use crate::kernels::Survey;

/// What a step asks of every shard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Message {
    /// A first look.
    Survey,
    /// Loss and gradient at a point.
    Gradient(Point),
    /// Loss, gradient and Hessian at a point, in the scaled slots.
    SecondOrder {
        /// The point.
        point: Point,
        /// Subtracted from every slot.
        centre: Vec<f64>,
        /// Multiplied then.
        factor: Vec<f64>,
    },
}

/// A linear function of the stored columns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Added to every row.
    pub intercept: f64,
    /// Subtracted first: of the slots of numeric columns only, the others take no shift.
    pub shift: Vec<f64>,
    /// Multiplied then, one per slot.
    pub weight: Vec<f64>,
    /// Multiplies the weights of the classes.
    pub class_weight: Option<[f64; 2]>,
}

impl Point {
    /// The shift of every slot, from those of the numeric ones; `None` if there are too few or too many.
    pub fn shifts(&self, numeric: &[bool]) -> Option<Vec<f64>> {
        let mut own = self.shift.iter();
        let shifts: Option<Vec<f64>> = numeric.iter().map(|&n| if n { own.next().copied() } else { Some(0.0) }).collect();
        shifts.filter(|_| own.next().is_none())
    }
}

/// What a shard answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Partial {
    /// To a first look.
    Survey(Survey),
    /// Sums of loss and residuals, transposed product per slot.
    Gradient {
        /// Σ w·loss.
        loss: f64,
        /// Σ r.
        residual: f64,
        /// Σ r·x.
        sums: Vec<f64>,
    },
    /// Sums of loss, gradient and packed Hessian of `[1, t]`.
    SecondOrder {
        /// Σ w·loss.
        loss: f64,
        /// Σ r·t.
        gradient: Vec<f64>,
        /// Σ c·t t'.
        hessian: Vec<f64>,
    },
    /// The shard cannot be read as the schema says.
    Fault(String),
}

impl Partial {
    /// Whether it speaks of a schema with this many columns and slots.
    pub fn is_of(&self, columns: usize, slots: usize) -> bool {
        let side = slots + 1;
        match self {
            Partial::Survey(s) => {
                let moments = s.classes.iter().all(|c| [c.mean.len(), c.deviation.len()] == [side; 2]);
                moments && [s.low.len(), s.high.len(), s.bad_values.len()] == [slots, slots, columns]
            }
            Partial::Gradient { sums, .. } => sums.len() == slots,
            Partial::SecondOrder { gradient, hessian, .. } => gradient.len() == side && hessian.len() == side * (side + 1) / 2,
            Partial::Fault(_) => true,
        }
    }

    /// Whether both answer the same question over the same schema.
    fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Partial::Survey(a), Partial::Survey(b)) => {
                a.classes.len() == b.classes.len() && other.is_of(a.bad_values.len(), a.low.len())
            }
            (Partial::Gradient { sums, .. }, Partial::Gradient { .. }) => other.is_of(0, sums.len()),
            (Partial::SecondOrder { gradient, .. }, Partial::SecondOrder { .. }) => {
                other.is_of(0, gradient.len().saturating_sub(1))
            }
            (Partial::Fault(_), _) | (_, Partial::Fault(_)) => true,
            _ => false,
        }
    }
}

impl Merge for Partial {
    fn merge(&mut self, right: Self) {
        let add = |a: &mut [f64], b: Vec<f64>| a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        if !self.is_like(&right) {
            *self = Partial::Fault("partials of two different steps met".into());
            return;
        }
        match (&mut *self, right) {
            (Partial::Fault(_), _) => {}
            (_, Partial::Fault(fault)) => *self = Partial::Fault(fault),
            (Partial::Survey(a), Partial::Survey(b)) => a.merge(b),
            (Partial::Gradient { loss, residual, sums }, Partial::Gradient { loss: l, residual: r, sums: s }) => {
                *loss += l;
                *residual += r;
                add(sums, s);
            }
            (Partial::SecondOrder { loss, gradient, hessian }, Partial::SecondOrder { loss: l, gradient: g, hessian: h }) => {
                *loss += l;
                add(gradient, g);
                add(hessian, h);
            }
            _ => *self = Partial::Fault("partials of two different steps met".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partials_of_two_schemas_become_a_fault() {
        let gradient = |n: usize| Partial::Gradient { loss: 1.0, residual: 2.0, sums: vec![3.0; n] };
        let second =
            |n: usize| Partial::SecondOrder { loss: 1.0, gradient: vec![2.0; n + 1], hessian: vec![3.0; (n + 1) * (n + 2) / 2] };
        for (mut left, right) in [(gradient(2), gradient(3)), (second(3), second(2)), (gradient(2), second(2))] {
            left.merge(right);
            assert!(matches!(left, Partial::Fault(_)), "{left:?}");
            assert!(left.is_of(7, 7));
        }
        let mut left = second(2);
        left.merge(second(2));
        assert!(left.is_of(2, 2) && !left.is_of(2, 3), "{left:?}");
        left.merge(Partial::Fault("odd".into()));
        assert_eq!(left, Partial::Fault("odd".into()));
    }
}
