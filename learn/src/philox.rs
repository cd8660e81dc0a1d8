//! Counter-based randomness: Philox4x32-10. A draw is a function of (seed, purpose, step, draw, index);
//! there is no generator state, so the order in which rows are met cannot change what they draw.
//!
//! Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011), and the
//! known answers of the Random123 library.

use xxhash_rust::xxh3::xxh3_64;

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;

/// Philox4x32 with 10 rounds: 128 random bits of a 128-bit counter under a 64-bit key. Word 0 is the lowest.
pub fn philox4x32_10(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for round in 0..ROUNDS {
        if round > 0 {
            key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
        }
        let a = u64::from(MULTIPLIERS[0]) * u64::from(counter[0]);
        let b = u64::from(MULTIPLIERS[1]) * u64::from(counter[2]);
        counter = [(b >> 32) as u32 ^ counter[1] ^ key[0], b as u32, (a >> 32) as u32 ^ counter[3] ^ key[1], a as u32];
    }
    counter
}

/// A stream of draws for one purpose: the key is XXH3-64 of (seed, purpose, step, draw), the counter is a
/// 128-bit row id or index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream {
    key: [u32; 2],
}

impl Stream {
    /// The stream of `purpose` (`split`, `sample`, `batch order` …) at a step and draw of the job's seed.
    /// Hashed bytes: seed, length of the purpose, purpose, step, draw; numbers as u64, little-endian.
    pub fn new(seed: u64, purpose: &str, step: u64, draw: u64) -> Self {
        let mut bytes = Vec::with_capacity(32 + purpose.len());
        bytes.extend_from_slice(&seed.to_le_bytes());
        bytes.extend_from_slice(&(purpose.len() as u64).to_le_bytes());
        bytes.extend_from_slice(purpose.as_bytes());
        bytes.extend_from_slice(&step.to_le_bytes());
        bytes.extend_from_slice(&draw.to_le_bytes());
        let key = xxh3_64(&bytes);
        Self { key: [key as u32, (key >> 32) as u32] }
    }

    /// 128 random bits of a row id or index.
    pub fn block(self, index: u128) -> [u32; 4] {
        let counter = [index as u32, (index >> 32) as u32, (index >> 64) as u32, (index >> 96) as u32];
        philox4x32_10(counter, self.key)
    }

    /// 64 random bits of a row id or index: the two lowest words of [`Stream::block`].
    pub fn bits(self, index: u128) -> u64 {
        let block = self.block(index);
        u64::from(block[0]) | u64::from(block[1]) << 32
    }

    /// A number in [0, 1) of a row id or index; see [`uniform`].
    pub fn uniform(self, index: u128) -> f64 {
        uniform(self.bits(index))
    }
}

/// The 53 highest bits as a number in [0, 1): a multiple of 2⁻⁵³, so the step is exact.
pub fn uniform(bits: u64) -> f64 {
    const STEP: f64 = 1.0 / (1u64 << 53) as f64;
    (bits >> 11) as f64 * STEP
}
