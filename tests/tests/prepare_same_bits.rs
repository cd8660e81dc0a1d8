//! The promise behind joins, windows and sums of floats: one model hash for any number of workers, any number of
//! partitions, little memory, and a second run; amounts are such that any other order of summing up shows.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use sheaf_tests::Sheaf;
use sheaf_tests::shop::Shop;

fn sheaf(shop: Shop) -> Sheaf {
    let sheaf = Sheaf::new(env!("CARGO_BIN_EXE_sheaf-under-test"));
    shop.write(&sheaf.folder().join("data"));
    sheaf.write("job.yaml", &shop.job("shop"));
    sheaf
}

/// The model's hash of each run, and that every run prepared every row once.
fn hashes(shop: Shop, runs: &[&[&str]]) -> BTreeMap<String, String> {
    let sheaf = sheaf(shop);
    let mut hashes = BTreeMap::new();
    for (number, more) in runs.iter().enumerate() {
        let outcome = sheaf.run_job("job.yaml", &format!("store-{number}"), more);
        let result = outcome.json();
        assert_eq!(result["rows"]["prepared"], shop.events, "{more:?}: {result:#}");
        assert!(result["training"]["loss"].as_array().unwrap().len() > 5, "training took no steps: {result:#}");
        hashes.insert(more.join(" "), outcome.sha256());
    }
    hashes
}

#[track_caller]
fn all_the_same(hashes: &BTreeMap<String, String>) {
    let first = hashes.values().next().unwrap();
    assert!(hashes.values().all(|hash| hash == first), "{hashes:#?}");
}

#[test]
fn one_hash_for_1_2_3_and_5_workers() {
    let runs = ["1", "2", "3", "5"].map(|workers| ["--workers", workers, "--threads", "1"]);
    all_the_same(&hashes(Shop::default(), &runs.each_ref().map(|run| &run[..])));
}

#[test]
fn one_hash_for_any_number_of_partitions_and_little_memory() {
    // A query has as many partitions as the cluster has threads: 1, 3, 16.
    let runs: [&[&str]; 4] = [
        &["--workers", "1", "--threads", "1"],
        &["--workers", "1", "--threads", "3"],
        &["--workers", "2", "--threads", "8"],
        &["--workers", "2", "--threads", "2", "--memory", "64MiB"],
    ];
    all_the_same(&hashes(Shop::default(), &runs));
}
