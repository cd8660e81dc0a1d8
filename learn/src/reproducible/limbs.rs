//! The digits of a number, 64 bits each: a few in place, more on the heap.

use std::ops::{Deref, DerefMut};

/// As many as the results of sums in windows need.
const FEW: usize = 14;

/// Limbs, lowest first.
#[derive(Debug, Clone)]
pub(super) enum Limbs {
    Few { length: usize, limbs: [u64; FEW] },
    Many(Vec<u64>),
}

impl Limbs {
    /// Zeros, with room for one more.
    pub fn zeros(length: usize) -> Self {
        if length < FEW { Self::Few { length, limbs: [0; FEW] } } else { Self::Many(vec![0; length]) }
    }

    pub fn push(&mut self, limb: u64) {
        match self {
            Self::Few { length, limbs } if *length < FEW => {
                limbs[*length] = limb;
                *length += 1;
            }
            Self::Few { limbs, .. } => *self = Self::Many(limbs.iter().copied().chain([limb]).collect()),
            Self::Many(limbs) => limbs.push(limb),
        }
    }

    /// Drops upper limbs.
    pub fn truncate(&mut self, shorter: usize) {
        match self {
            Self::Few { length, .. } => *length = shorter.min(*length),
            Self::Many(limbs) => limbs.truncate(shorter),
        }
    }
}

impl Deref for Limbs {
    type Target = [u64];

    fn deref(&self) -> &[u64] {
        match self {
            Self::Few { length, limbs } => &limbs[..*length],
            Self::Many(limbs) => limbs,
        }
    }
}

impl DerefMut for Limbs {
    fn deref_mut(&mut self) -> &mut [u64] {
        match self {
            Self::Few { length, limbs } => &mut limbs[..*length],
            Self::Many(limbs) => limbs,
        }
    }
}

impl FromIterator<u64> for Limbs {
    fn from_iter<I: IntoIterator<Item = u64>>(limbs: I) -> Self {
        let mut all = Self::zeros(0);
        limbs.into_iter().for_each(|limb| all.push(limb));
        all
    }
}

impl PartialEq for Limbs {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Limbs {}
