//! Tests of the log: openraft's own storage suite, recovery, refusals, damage.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use openraft::StorageError;
use openraft::testing::{StoreBuilder, Suite};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::consensus::log::LogStore;
use crate::consensus::state_machine::{StateMachine, Types};
use crate::consensus::store::Store;
use crate::consensus::{Consensus, ConsensusError, ConsensusOptions, MAX_BATCH_BYTES, MAX_ENTRY_BYTES, Machine, Member};

/// Counts how often each text was added.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Tally(BTreeMap<String, u64>);

#[derive(Debug, Clone, Serialize, Deserialize)]
enum Change {
    Add(String),
    Panic,
    Undecodable(Opaque),
}

/// Encodes and never decodes.
#[derive(Debug, Clone, Serialize)]
struct Opaque;

impl<'de> Deserialize<'de> for Opaque {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("opaque"))
    }
}

impl Machine for Tally {
    type Entry = Change;
    type Reply = u64;

    fn apply(&mut self, change: Change) -> u64 {
        match change {
            Change::Add(text) => {
                let count = self.0.entry(text).or_default();
                *count += 1;
                *count
            }
            Change::Panic | Change::Undecodable(_) => panic!("told to"),
        }
    }

    fn snapshot(&self) -> Vec<u8> {
        postcard::to_stdvec(&self.0).unwrap()
    }

    fn restore(bytes: &[u8]) -> Result<Self, String> {
        postcard::from_bytes(bytes).map(Self).map_err(|error| error.to_string())
    }
}

fn add(text: impl Into<String>) -> Change {
    Change::Add(text.into())
}

fn options(dir: &Path) -> ConsensusOptions {
    ConsensusOptions { dir: dir.to_path_buf(), node_id: 7, rank: 0, snapshot_after: 1000 }
}

async fn open(dir: &Path) -> Consensus<Tally> {
    Consensus::open(options(dir)).await.unwrap()
}

async fn refusal(options: ConsensusOptions) -> ConsensusError {
    Consensus::<Tally>::open(options).await.unwrap_err()
}

struct Stores;

impl StoreBuilder<Types, LogStore, StateMachine<Tally>, TempDir> for Stores {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine<Tally>), StorageError<u64>> {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(dir.path(), 0).unwrap());
        Ok((dir, LogStore::open(Arc::clone(&store)).unwrap(), StateMachine::open(store).unwrap()))
    }
}

#[test]
fn the_store_passes_the_storage_suite_of_openraft() {
    Suite::test_all(Stores).unwrap();
}

#[tokio::test]
async fn entries_survive_a_restart_and_are_applied_once() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).await;
    assert_eq!(log.propose(add("a")).await.unwrap(), 1);
    assert_eq!(log.propose(add("a")).await.unwrap(), 2);
    assert_eq!(log.propose_all(vec![add("b"), add("a"), add("b")]).await.unwrap(), [1, 3, 2]);
    assert_eq!(log.propose_all(vec![]).await.unwrap(), [0u64; 0]);
    let before = log.read(Tally::clone).await.unwrap();
    log.shutdown().await.unwrap();
    for _ in 0..3 {
        let log = open(dir.path()).await;
        assert_eq!(log.read(Tally::clone).await.unwrap(), before);
        log.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn a_member_is_ready_at_once_and_the_term_rises_at_every_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut term = 0;
    for _ in 0..4 {
        let start = Instant::now();
        let log = open(dir.path()).await;
        let ready = start.elapsed();
        assert!(ready < Duration::from_secs(3), "ready after {ready:?}");
        assert!(log.term() > term, "term {} after {term}", log.term());
        assert_eq!(log.leader(), Some(7));
        assert_eq!(log.members(), [Member { id: 7, address: String::new(), voter: true }]);
        term = log.term();
        log.propose(add("x")).await.unwrap();
        log.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn concurrent_proposals_are_all_applied() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).await;
    let tasks: Vec<_> = (0..50)
        .map(|i| {
            let log = log.clone();
            tokio::spawn(async move { log.propose(add(format!("{}", i % 5))).await.unwrap() })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(log.read(|tally| tally.0.values().copied().collect::<Vec<_>>()).await.unwrap(), [10; 5]);
    log.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_snapshot_shortens_the_log_and_the_rest_is_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let small = ConsensusOptions { snapshot_after: 10, ..options(dir.path()) };
    let log = Consensus::<Tally>::open(small.clone()).await.unwrap();
    for i in 0..35 {
        log.propose(add(format!("{}", i % 3))).await.unwrap();
    }
    log.snapshot().await.unwrap();
    log.snapshot().await.unwrap();
    log.propose(add("tail")).await.unwrap();
    let before = log.read(Tally::clone).await.unwrap();
    log.shutdown().await.unwrap();

    let store = Arc::new(Store::open(dir.path(), 7).unwrap());
    let kept = store.entries(..).unwrap();
    assert!(kept.len() <= 12 && kept[0].log_id.index > 20, "{} entries from {}", kept.len(), kept[0].log_id.index);
    store.close().unwrap();

    let log = Consensus::<Tally>::open(small).await.unwrap();
    assert_eq!(log.read(Tally::clone).await.unwrap(), before);
    log.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_does_not_belong_into_the_log_is_refused_and_the_log_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).await;
    let error = log.propose(add("x".repeat(MAX_ENTRY_BYTES))).await.unwrap_err();
    assert!(matches!(error, ConsensusError::TooLarge { what: "entry", .. }), "{error}");
    assert!(error.to_string().contains("exceeds the limit of 262144"), "{error}");
    let chunk = "x".repeat(MAX_ENTRY_BYTES - 64);
    let error = log.propose_all(vec![add(chunk.clone()); 1 + MAX_BATCH_BYTES / chunk.len()]).await.unwrap_err();
    assert!(matches!(error, ConsensusError::TooLarge { what: "batch", .. }), "{error}");
    let error = log.propose_all(vec![add("a"), Change::Undecodable(Opaque)]).await.unwrap_err();
    assert!(matches!(error, ConsensusError::Codec { what: "entry", .. }), "{error}");
    assert_eq!(log.propose(add(chunk)).await.unwrap(), 1);
    assert_eq!(log.read(|tally| tally.0.len()).await.unwrap(), 1);
    log.shutdown().await.unwrap();
}

#[tokio::test]
async fn options_and_folders_that_do_not_fit_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let error = refusal(ConsensusOptions { snapshot_after: 0, ..options(dir.path()) }).await;
    assert!(matches!(error, ConsensusError::Options { option: "snapshot_after", .. }), "{error}");

    let log = open(dir.path()).await;
    let error = refusal(options(dir.path())).await;
    assert!(matches!(error, ConsensusError::AlreadyOpen { .. }), "{error}");
    log.shutdown().await.unwrap();

    let error = refusal(ConsensusOptions { node_id: 8, ..options(dir.path()) }).await;
    assert!(matches!(error, ConsensusError::WrongNode { found: 7, expected: 8, .. }), "{error}");

    let file = dir.path().join("a-file");
    fs::write(&file, "").unwrap();
    let error = refusal(options(&file)).await;
    assert!(matches!(error, ConsensusError::Storage { .. }), "{error}");
}

#[tokio::test]
async fn a_panic_in_the_machine_stops_the_log_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).await;
    let fatal = log.fatal();
    assert_eq!(log.propose(add("a")).await.unwrap(), 1);
    let error = log.propose(Change::Panic).await.unwrap_err();
    assert!(matches!(error, ConsensusError::Stopped { .. }), "{error}");
    let reason = tokio::time::timeout(Duration::from_secs(5), fatal).await.unwrap();
    assert!(reason.contains("panicked"), "{reason}");
    assert!(matches!(log.read(|_| ()).await.unwrap_err(), ConsensusError::Stopped { .. }));
    assert!(matches!(log.snapshot().await.unwrap_err(), ConsensusError::Stopped { .. }));
    log.shutdown().await.unwrap();
    // The entry is in the log: every start meets it again, says so, and gives the folder back.
    for _ in 0..2 {
        let error = refusal(options(dir.path())).await;
        assert!(error.to_string().contains("the machine panicked"), "{error}");
    }
}

#[tokio::test]
async fn an_orderly_shutdown_is_not_fatal_and_ends_other_handles() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).await;
    let (other, fatal) = (log.clone(), log.fatal());
    log.shutdown().await.unwrap();
    assert!(matches!(other.propose(add("a")).await.unwrap_err(), ConsensusError::Stopped { .. }));
    assert!(matches!(other.read(|_| ()).await.unwrap_err(), ConsensusError::Stopped { .. }));
    assert!(tokio::time::timeout(Duration::from_millis(50), fatal).await.is_err());
    // The folder is free again although a handle is left.
    open(dir.path()).await.shutdown().await.unwrap();
}

/// The files of a member after some work, once as a crash leaves them and once after a shutdown.
async fn images() -> [BTreeMap<String, Vec<u8>>; 2] {
    let dir = tempfile::tempdir().unwrap();
    let log = Consensus::<Tally>::open(ConsensusOptions { snapshot_after: 15, ..options(dir.path()) }).await.unwrap();
    for i in 0..40 {
        log.propose(add(format!("entry {i}"))).await.unwrap();
    }
    log.snapshot().await.unwrap();
    log.propose(add("last")).await.unwrap();
    let crashed = files(dir.path());
    log.shutdown().await.unwrap();
    [crashed, files(dir.path())]
}

fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

/// Opens an image; the state in it, or why it was refused.
async fn try_image(image: &BTreeMap<String, Vec<u8>>) -> Result<Tally, ConsensusError> {
    let dir = tempfile::tempdir().unwrap();
    image.iter().for_each(|(name, bytes)| fs::write(dir.path().join(name), bytes).unwrap());
    let log = Consensus::<Tally>::open(options(dir.path())).await?;
    let tally = log.read(Tally::clone).await?;
    log.shutdown().await?;
    Ok(tally)
}

#[tokio::test]
async fn a_flipped_bit_is_detected_or_harmless() {
    for image in images().await {
        let sound = try_image(&image).await.unwrap();
        assert_eq!(sound.0.len(), 41);
        let (mut refused, mut harmless) = (0, 0);
        for (name, bytes) in &image {
            for at in places(bytes) {
                let mut damaged = image.clone();
                damaged.get_mut(name).unwrap()[at / 8] ^= 1 << (at % 8);
                match try_image(&damaged).await {
                    Ok(tally) => {
                        assert_eq!(tally, sound, "silently wrong after bit {at} of {name}");
                        harmless += 1;
                    }
                    Err(error) => {
                        assert!(matches!(error, ConsensusError::Corrupt { .. }), "bit {at} of {name}: {error}");
                        refused += 1;
                    }
                }
            }
        }
        assert!(refused > 10, "{refused} refused, {harmless} harmless");
    }
}

/// Bits to flip: the flags in the header, a spread over it and both commit slots, a spread over the rest.
fn places(bytes: &[u8]) -> Vec<usize> {
    let flags = (72..80).filter(|bit| bit / 8 < bytes.len());
    let header = (0..bytes.len().min(320)).step_by(7);
    let rest = (320..bytes.len()).filter(|&byte| bytes[byte] != 0).step_by(997);
    flags.chain(header.chain(rest).map(|byte| byte * 8 + byte % 8)).collect()
}

#[tokio::test]
async fn lost_commits_and_missing_files_are_detected() {
    let [_, image] = images().await;
    for (damage, remove) in [("database", "log.redb"), ("truncated", ""), ("older", "")] {
        let mut damaged = image.clone();
        damaged.remove(remove);
        match damage {
            "truncated" => damaged.get_mut("log.redb").unwrap().truncate(8192),
            "older" => {
                // A database that is whole and valid, but of an earlier day.
                let [crashed, _] = images().await;
                let dir = tempfile::tempdir().unwrap();
                let log = open(dir.path()).await;
                log.shutdown().await.unwrap();
                damaged = BTreeMap::from([
                    ("log.redb".to_string(), files(dir.path())["log.redb"].clone()),
                    ("anchor".to_string(), crashed["anchor"].clone()),
                ]);
            }
            _ => {}
        }
        let error = try_image(&damaged).await.unwrap_err();
        assert!(matches!(error, ConsensusError::Corrupt { .. }), "{damage}: {error}");
    }
    // A process that died while it made the database leaves the half under another name.
    let half = BTreeMap::from([("anchor".to_string(), vec![]), ("log.redb.new".to_string(), vec![0; 9999])]);
    assert_eq!(try_image(&half).await.unwrap(), Tally::default());
    // Without its anchor the database itself is still whole.
    let mut without = image.clone();
    without.remove("anchor");
    assert_eq!(try_image(&without).await.unwrap().0.len(), 41);
}
