//! Pinned functions against answers computed elsewhere: Python's `xxhash` 4.1.0, `mmh3`, scikit-learn 1.9.1's
//! `FeatureHasher` and the Random123 library's published Philox vectors. Byte layouts were written out by hand
//! in Python, so a changed tag or length prefix shows here.

use sheaf_learn::hash::{FileRows, RandomSplit, ValueHasher, content_row_id, physical_row_id, salted, segment_of, uniform};
use sheaf_learn::murmur3::{feature_slot, murmur3_32};
use sheaf_learn::philox::{Stream, philox4x32_10};
use sheaf_learn::shard::Segment;

fn hash(write: impl Fn(&mut ValueHasher)) -> u128 {
    let mut hasher = ValueHasher::new();
    write(&mut hasher);
    hasher.finish()
}

#[test]
fn typed_values() {
    assert_eq!(hash(|_| {}), 0x99aa06d3014798d86001c324468d497f);
    assert_eq!(hash(|h| h.null()), 0xa6cd5e9392000f6ac44bdff4074eecdb);
    assert_eq!(hash(|h| h.i64(-5)), 0xfc2c64943fc1cd7c709873f6bed7e377);
    assert_eq!(hash(|h| h.u64(u64::MAX)), 0x898750b570916159e4d51cd9260f75f3);
    assert_eq!(hash(|h| h.f64(1.5)), 0xf209aa0cecfcc2ea0da1b0663d7ff7db);
    assert_eq!(hash(|h| h.f64(-f64::NAN)), 0x67a5306e01baab09ab53fd909f1a6483);
    assert_eq!(hash(|h| h.bool(true)), 0x50e58cbd6ada00a1070d80d6a76865f3);
    assert_eq!(hash(|h| h.bytes(b"sheaf")), 0x06882f502c8da91023469838c5172136);
    assert_eq!(hash(|h| h.timestamp_ns(1_700_000_000_000_000_000)), 0xcf5ef0e193ed8cfc1d06d95fef0b0d8d);
    assert_eq!(hash(|h| h.date(-1)), 0x4c1894f2779d4c1350565fd12bea8450);
    assert_eq!(hash(|h| h.decimal(-12345, 2)), 0xd3b07dad0707686e4a77abfd21a63395);
    let long: Vec<u8> = (0..=255).chain(0..=255).collect();
    assert_eq!(hash(|h| h.bytes(&long)), 0x32d06f016c7306915f1b3f42b7785121);
}

#[test]
fn canonical_values_meet() {
    assert_eq!(hash(|h| h.f64(-0.0)), hash(|h| h.f64(0.0)));
    assert_eq!(hash(|h| h.u64(5)), hash(|h| h.i64(5)));
    assert_ne!(hash(|h| h.i64(5)), hash(|h| h.f64(5.0)));
    assert_ne!(hash(|h| h.bytes(b"")), hash(|h| h.null()));
    let (ab_c, a_bc) = (["ab", "c"], ["a", "bc"]);
    assert_ne!(
        hash(|h| ab_c.iter().for_each(|v| h.bytes(v.as_bytes()))),
        hash(|h| a_bc.iter().for_each(|v| h.bytes(v.as_bytes())))
    );
}

#[test]
fn row_ids() {
    let content = hash(|h| {
        h.i64(42);
        h.bytes("grün".as_bytes());
        h.null();
        h.f64(-0.0);
        h.bool(false);
    });
    assert_eq!(content, 0x60706997c671631e83d4ead6e56c3105);
    assert_eq!(content_row_id(content, 3), 0x9fa21d7691599e784f7b7a0d4d78c6eb);
    let physical = 0xccd5f8fefb5e8e4d62044f9cb6a85ecd;
    assert_eq!(physical_row_id("transactions", "part-0.parquet", 7), physical);
    let mut rows = FileRows::new("transactions", "part-0.parquet");
    assert_ne!(rows.row_id(1_000_000), physical);
    assert_eq!(rows.row_id(7), physical);
    assert_eq!(salted(content, "split", 7), 0x348c4a9d43d98553);
    assert_eq!(salted(content, "sample", 7), 0xf15770e5345b4f95);
    assert_eq!(salted(1, "split", 0), 0xb992879a98ce1160);
    assert_eq!(Stream::new(7, "batch order", 3, 9).bits(5), 0xf2119ab1b8a7bef3);
}

#[test]
fn finish_empties_the_hasher() {
    let mut hasher = ValueHasher::new();
    hasher.i64(1);
    assert_eq!(hasher.content().len(), 9);
    let first = hasher.finish();
    assert!(hasher.content().is_empty());
    hasher.bool(true);
    hasher.clear();
    hasher.i64(1);
    assert_eq!(hasher.finish(), first);
}

#[test]
fn philox_as_random123() {
    assert_eq!(philox4x32_10([0; 4], [0; 2]), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
    assert_eq!(philox4x32_10([u32::MAX; 4], [u32::MAX; 2]), [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
    assert_eq!(
        philox4x32_10([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0]),
        [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]
    );
}

#[test]
fn murmur_as_mmh3() {
    let expected: [(&str, u32, u32); 8] = [
        ("", 0, 142593372),
        ("a", 1009084850, 3001393763),
        ("ab", 2613040991, 3610054215),
        ("abc", 3017643002, 1313807976),
        ("abcd", 1139631978, 3898664396),
        ("hello, world", 345750399, 2127021762),
        ("grün", 720732358, 1906279693),
        ("category=grocery", 2761537796, 3779945086),
    ];
    for (text, seed_0, seed_42) in expected {
        assert_eq!(murmur3_32(text.as_bytes(), 0), seed_0, "{text}");
        assert_eq!(murmur3_32(text.as_bytes(), 42), seed_42, "{text}");
    }
}

#[test]
fn slots_as_scikit_learn() {
    assert_eq!(feature_slot(b"category=grocery", 1000), (500, -1.0));
    assert_eq!(feature_slot(b"category=travel", 1000), (784, 1.0));
    assert_eq!(feature_slot(b"merchant=17", 1000), (468, -1.0));
    assert_eq!(feature_slot(b"", 1000), (0, 1.0));
    // This name's hash is the smallest i32, whose absolute value is no i32.
    let smallest = b"k=1687656027";
    assert_eq!(murmur3_32(smallest, 0), 1 << 31);
    assert_eq!(feature_slot(smallest, 1000), (648, -1.0));
    assert_eq!(feature_slot(smallest, 1 << 20), (0, -1.0));
    assert_eq!(feature_slot(smallest, 7), (2, -1.0));
}

#[test]
fn uniform_stays_below_one() {
    assert_eq!(uniform(0), 0.0);
    assert_eq!(uniform(1 << 63), 0.5);
    assert!(uniform(u64::MAX) < 1.0);
}

#[test]
fn random_split_keeps_its_fractions() {
    let split = RandomSplit::new(7, 0.2, 0.1);
    let mut counts = [0u32; 3];
    for row in 0..100_000u64 {
        counts[split.segment(physical_row_id("t", "f", row)) as usize] += 1;
    }
    // Five standard deviations of a binomial count.
    assert!(counts[Segment::Test as usize].abs_diff(20_000) < 633, "{counts:?}");
    assert!(counts[Segment::Validation as usize].abs_diff(10_000) < 475, "{counts:?}");
}

#[test]
fn random_split_keeps_test_rows_when_validation_changes() {
    for row in 0..1000u128 {
        let (narrow, wide) = (segment_of(row, 3, 0.2, 0.0), segment_of(row, 3, 0.2, 0.5));
        assert_eq!(narrow == Segment::Test, wide == Segment::Test);
        assert_eq!(segment_of(row, 3, 0.0, 0.0), Segment::Train);
        assert_eq!(segment_of(row, 3, 1.0, 0.0), Segment::Test);
    }
}
