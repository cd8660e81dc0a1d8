//! What is done to a cluster under test: stopped and throttled processes, full disks, bad networks.

pub mod cage;
pub mod disk;
pub mod proxy;
pub mod throttle;

pub use cage::Cage;
pub use disk::SmallDisk;
pub use proxy::{Network, Proxy};
pub use throttle::Throttle;

/// A small generator of numbers for choosing victims: the same seed kills in the same order.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Dice of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `sides`.
    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % sides
    }
}
