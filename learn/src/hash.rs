//! Pinned hashes of typed values: row ids, content hashes, salted draws and random splits. The bytes that
//! are hashed are part of the numeric version: changing one changes every split.
//!
//! A value is a logical type tag (one byte), then fixed little-endian bytes. Physical types do not show:
//! every integer type is one logical type, every string and binary type another, every float type f64.

use xxhash_rust::xxh3::xxh3_128;

use crate::philox::Stream;
pub use crate::philox::uniform;
use crate::shard::Segment;

mod tag {
    pub const NULL: u8 = 0;
    pub const BOOL: u8 = 1;
    pub const INTEGER: u8 = 2;
    /// An integer above `i64::MAX`.
    pub const UNSIGNED: u8 = 3;
    pub const FLOAT: u8 = 4;
    pub const BYTES: u8 = 5;
    pub const TIMESTAMP: u8 = 6;
    pub const DATE: u8 = 7;
    pub const DECIMAL: u8 = 8;
    pub const PHYSICAL_ROW: u8 = 0x80;
    pub const CONTENT_ROW: u8 = 0x81;
}

/// −0.0 becomes 0.0 and every NaN the one quiet NaN; other values stay.
pub fn canonical_f64(value: f64) -> f64 {
    if value == 0.0 {
        0.0
    } else if value.is_nan() {
        f64::from_bits(0x7ff8_0000_0000_0000)
    } else {
        value
    }
}

/// Collects the typed values of one row and hashes them: XXH3-128, seed 0. For column-wise use keep one per
/// row and append column after column; [`ValueHasher::finish`] empties it and keeps its memory.
#[derive(Debug, Clone, Default)]
pub struct ValueHasher {
    buffer: Vec<u8>,
}

impl ValueHasher {
    /// A hasher without values.
    pub fn new() -> Self {
        Self::default()
    }

    /// A null of any type.
    pub fn null(&mut self) {
        self.buffer.push(tag::NULL);
    }

    /// A truth value.
    pub fn bool(&mut self, value: bool) {
        self.buffer.extend_from_slice(&[tag::BOOL, u8::from(value)]);
    }

    /// A signed integer of any width.
    pub fn i64(&mut self, value: i64) {
        self.fixed(tag::INTEGER, &value.to_le_bytes());
    }

    /// An unsigned integer of any width; the same as the signed one where that can hold it.
    pub fn u64(&mut self, value: u64) {
        match i64::try_from(value) {
            Ok(signed) => self.i64(signed),
            Err(_) => self.fixed(tag::UNSIGNED, &value.to_le_bytes()),
        }
    }

    /// A float of any width: [`canonical_f64`], by its bits.
    pub fn f64(&mut self, value: f64) {
        self.fixed(tag::FLOAT, &canonical_f64(value).to_bits().to_le_bytes());
    }

    /// Text or binary of any type: length as u64, then the bytes.
    pub fn bytes(&mut self, value: &[u8]) {
        self.fixed(tag::BYTES, &(value.len() as u64).to_le_bytes());
        self.buffer.extend_from_slice(value);
    }

    /// A timestamp of any unit and zone, as nanoseconds since 1970 in UTC.
    pub fn timestamp_ns(&mut self, value: i64) {
        self.fixed(tag::TIMESTAMP, &value.to_le_bytes());
    }

    /// A date, as days since 1970.
    pub fn date(&mut self, days: i64) {
        self.fixed(tag::DATE, &days.to_le_bytes());
    }

    /// A decimal `unscaled · 10^−scale`. The scale belongs to the type: 1.5 and 1.50 differ.
    pub fn decimal(&mut self, unscaled: i128, scale: i8) {
        self.fixed(tag::DECIMAL, &scale.to_le_bytes());
        self.buffer.extend_from_slice(&unscaled.to_le_bytes());
    }

    /// What has been appended since the last [`ValueHasher::finish`]: the canonical content that breaks ties
    /// between equal hashes.
    pub fn content(&self) -> &[u8] {
        &self.buffer
    }

    /// Forgets the values and keeps the memory.
    pub fn clear(&mut self) {
        self.buffer.clear();
    }

    /// The 128-bit hash of the values; the hasher is empty again. Of a row's key columns it is the keyed row
    /// id, of all its columns the content hash.
    pub fn finish(&mut self) -> u128 {
        let hash = xxh3_128(&self.buffer);
        self.buffer.clear();
        hash
    }

    fn fixed(&mut self, tag: u8, bytes: &[u8]) {
        self.buffer.push(tag);
        self.buffer.extend_from_slice(bytes);
    }
}

/// Physical row ids of one file, row after row without allocation.
#[derive(Debug, Clone)]
pub struct FileRows {
    hasher: ValueHasher,
    prefix: usize,
}

impl FileRows {
    /// Rows of the file at `relative_path` below the table's root.
    pub fn new(table: &str, relative_path: &str) -> Self {
        let mut hasher = ValueHasher { buffer: vec![tag::PHYSICAL_ROW] };
        hasher.bytes(table.as_bytes());
        hasher.bytes(relative_path.as_bytes());
        let prefix = hasher.buffer.len();
        Self { hasher, prefix }
    }

    /// Row id of a row, counted from 0 in the file.
    pub fn row_id(&mut self, row_number: u64) -> u128 {
        self.hasher.buffer.truncate(self.prefix);
        self.hasher.buffer.extend_from_slice(&row_number.to_le_bytes());
        xxh3_128(&self.hasher.buffer)
    }
}

/// Row id of a pass-through row without declared key: table, path below the table's root, row in the file.
pub fn physical_row_id(table: &str, relative_path: &str, row_number: u64) -> u128 {
    FileRows::new(table, relative_path).row_id(row_number)
}

/// Row id of a materialised row without declared key: its content hash and how many equal rows stand before it.
pub fn content_row_id(content_hash: u128, occurrence: u64) -> u128 {
    let mut bytes = [tag::CONTENT_ROW; 25];
    bytes[1..17].copy_from_slice(&content_hash.to_le_bytes());
    bytes[17..].copy_from_slice(&occurrence.to_le_bytes());
    xxh3_128(&bytes)
}

/// 64 random bits of a row for one purpose: Philox with the row id as counter and (seed, purpose, 0, 0) as key.
/// For many rows make the [`Stream`] once.
pub fn salted(row_id: u128, purpose: &str, seed: u64) -> u64 {
    Stream::new(seed, purpose, 0, 0).bits(row_id)
}

/// A random split by thresholds on 64 salted bits. With u the bits of the row for the purpose `split`,
/// T = ⌊test · 2⁶⁴⌋ and V = ⌊validation · 2⁶⁴⌋: a row is test where u < T, validation where T ≤ u < T + V, else
/// train. Fractions are of all rows. Test comes first, so changing the validation fraction keeps the test rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RandomSplit {
    stream: Stream,
    test: u128,
    validation: u128,
}

impl RandomSplit {
    /// A split of the seed. Fractions lie in [0, 1] and their sum does not exceed 1 (checked with the job).
    pub fn new(seed: u64, test: f64, validation: f64) -> Self {
        const RANGE: f64 = 18_446_744_073_709_551_616.0;
        // The product with a power of two is exact and the cast takes the floor (and a NaN as 0).
        let (test, validation) = ((test * RANGE) as u128, (validation * RANGE) as u128);
        Self { stream: Stream::new(seed, "split", 0, 0), test, validation: test.saturating_add(validation) }
    }

    /// Segment of a row.
    pub fn segment(&self, row_id: u128) -> Segment {
        let bits = u128::from(self.stream.bits(row_id));
        if bits < self.test {
            Segment::Test
        } else if bits < self.validation {
            Segment::Validation
        } else {
            Segment::Train
        }
    }
}

/// Segment of a row in a [`RandomSplit`]; for many rows make the split once.
pub fn segment_of(row_id: u128, seed: u64, test: f64, validation: f64) -> Segment {
    RandomSplit::new(seed, test, validation).segment(row_id)
}
