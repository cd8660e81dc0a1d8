//! MurmurHash3 x86 32-bit and signed feature hashing exactly as scikit-learn's `FeatureHasher` does it.
//!
//! Source: Austin Appleby's public-domain MurmurHash3_x86_32; scikit-learn `feature_extraction/_hashing_fast.pyx`.

/// MurmurHash3_x86_32 of `bytes`.
pub fn murmur3_32(bytes: &[u8], seed: u32) -> u32 {
    const C1: u32 = 0xcc9e_2d51;
    const C2: u32 = 0x1b87_3593;
    let scramble = |k: u32| k.wrapping_mul(C1).rotate_left(15).wrapping_mul(C2);
    let mut hash = seed;
    let mut words = bytes.chunks_exact(4);
    for word in &mut words {
        hash ^= scramble(u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
        hash = hash.rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
    }
    let tail = words.remainder();
    if !tail.is_empty() {
        let word = tail.iter().rev().fold(0u32, |word, byte| word << 8 | u32::from(*byte));
        hash ^= scramble(word);
    }
    finalize(hash ^ bytes.len() as u32)
}

fn finalize(mut hash: u32) -> u32 {
    hash ^= hash >> 16;
    hash = hash.wrapping_mul(0x85eb_ca6b);
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

/// Slot and sign of a feature name: `h` is the signed murmur3-32 (seed 0), slot = |h| mod `slots`, sign = −1
/// where h is negative, else 1. |i32::MIN| is 2³¹. `slots` is at least 1.
pub fn feature_slot(name: &[u8], slots: u32) -> (u32, f32) {
    let hash = murmur3_32(name, 0) as i32;
    (hash.unsigned_abs() % slots, if hash < 0 { -1.0 } else { 1.0 })
}
