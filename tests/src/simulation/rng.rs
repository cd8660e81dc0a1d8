//! Where all chance comes from: splitmix64, one stream for each purpose, so that a draw more in one
//! place changes nothing elsewhere.

/// A stream of numbers that is a function of seed and purpose.
#[derive(Debug, Clone)]
pub(super) struct Rng {
    state: u64,
}

/// FNV-1a over bytes, from a given start: for purposes, digests and the trace.
pub(super) fn fnv(start: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// Where FNV-1a starts.
pub(super) const FNV: u64 = 0xcbf2_9ce4_8422_2325;

impl Rng {
    pub fn new(seed: u64, purpose: &str) -> Self {
        let mut rng = Self { state: seed ^ fnv(FNV, purpose.as_bytes()) };
        // Neighbouring seeds part at once.
        rng.state = rng.next();
        rng
    }

    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 if that is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    /// A number from `low` to `high`, both possible.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// True in `per_mille` of a thousand cases.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    pub fn pick<T: Copy>(&mut self, items: &[T]) -> Option<T> {
        items.get(self.below(items.len() as u64) as usize).copied()
    }

    /// A number between -1 and 1.
    pub fn signed(&mut self) -> f64 {
        // 53 bits: exact.
        (self.next() >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_functions_of_seed_and_purpose() {
        let draw = |seed, purpose| Rng::new(seed, purpose).next();
        assert_eq!(draw(1, "a"), draw(1, "a"));
        assert_ne!(draw(1, "a"), draw(1, "b"));
        assert_ne!(draw(1, "a"), draw(2, "a"));
    }

    #[test]
    fn draws_stay_in_their_range() {
        let mut rng = Rng::new(7, "range");
        for _ in 0..1000 {
            assert!((3..=5).contains(&rng.between(3, 5)) && rng.below(4) < 4 && rng.signed().abs() <= 1.0);
        }
        assert_eq!((rng.below(0), rng.between(9, 2), rng.pick::<u8>(&[])), (0, 9, None));
    }
}
