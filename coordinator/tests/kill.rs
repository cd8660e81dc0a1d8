//! Kills a writer with SIGKILL again and again, and fills its disk: nothing that it acknowledged is lost,
//! nothing is applied twice, and it says why it stops.
//!
//! The writer is this test binary itself, started with a folder in its environment.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sheaf_coordinator::consensus::{Consensus, ConsensusError, ConsensusOptions, Machine};

const FOLDER: &str = "CONSENSUS_KILL_FOLDER";
const FIRST: &str = "CONSENSUS_KILL_FIRST";
const ROUNDS: u64 = 20;
/// Entries of one proposal: they must appear together.
const BATCH: u64 = 3;

/// How often each number was applied.
#[derive(Debug, Default)]
struct Ledger(BTreeMap<u64, u32>);

impl Machine for Ledger {
    type Entry = (u64, Vec<u8>);
    type Reply = u32;

    fn apply(&mut self, (number, _): Self::Entry) -> u32 {
        let count = self.0.entry(number).or_default();
        *count += 1;
        *count
    }

    fn snapshot(&self) -> Vec<u8> {
        self.0.iter().flat_map(|(number, count)| [&number.to_le_bytes()[..], &count.to_le_bytes()].concat()).collect()
    }

    fn restore(bytes: &[u8]) -> Result<Self, String> {
        let record = |chunk: &[u8]| {
            let (number, count) = chunk.split_at(8);
            (u64::from_le_bytes(number.try_into().unwrap()), u32::from_le_bytes(count.try_into().unwrap()))
        };
        Ok(Self(bytes.chunks_exact(12).map(record).collect()))
    }
}

/// Snapshots and purges every few entries, so that kills meet them too.
fn options(dir: &Path) -> ConsensusOptions {
    ConsensusOptions { dir: dir.join("state"), node_id: 1, rank: 0, snapshot_after: 20 }
}

/// The child's life; an ordinary run of the tests passes through without doing anything.
#[tokio::test]
async fn writer() {
    let Ok(dir) = std::env::var(FOLDER) else { return };
    let dir = Path::new(&dir);
    let first: u64 = std::env::var(FIRST).unwrap().parse().unwrap();
    // Padding fills the disk sooner; it is not kept.
    let padding = vec![7; if first == 0 { 0 } else { 500 }];
    let log = match Consensus::<Ledger>::open(options(dir)).await {
        Ok(log) => log,
        Err(error) => stop(dir, &error.to_string()),
    };
    let mut acks = OpenOptions::new().append(true).create(true).open(dir.join("acks")).unwrap();
    let fatal = log.fatal();
    let work = async {
        for number in (first..).step_by(BATCH as usize) {
            let batch = (number..number + BATCH).map(|number| (number, padding.clone())).collect();
            let Ok(counts) = log.propose_all(batch).await else { std::future::pending().await };
            assert_eq!(counts, [1; BATCH as usize]);
            acks.write_all(format!("{number}\n").as_bytes()).unwrap();
        }
        unreachable!("numbers do not end")
    };
    tokio::select! {
        reason = fatal => stop(dir, &reason),
        () = work => {}
    }
}

fn stop(dir: &Path, reason: &str) -> ! {
    fs::write(dir.join("reason"), reason).unwrap();
    std::process::exit(70);
}

fn start(dir: &Path, first: u64, shell: &str) -> Child {
    Command::new("sh")
        .arg("-c")
        .arg(format!("{shell} exec \"$0\" --exact writer --test-threads 1"))
        .arg(std::env::current_exe().unwrap())
        .env(FOLDER, dir)
        .env(FIRST, first.to_string())
        .stdout(Stdio::null())
        .stderr(File::create(dir.join("stderr")).unwrap())
        .spawn()
        .unwrap()
}

/// Numbers whose line was written whole.
fn acks(dir: &Path) -> Vec<u64> {
    let text = fs::read_to_string(dir.join("acks")).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| line.parse().unwrap()).collect()
}

/// Reopens the log here and checks it against the acknowledged batches; the next free number.
async fn check(dir: &Path, rounds: usize) -> u64 {
    let start = Instant::now();
    let log = Consensus::<Ledger>::open(options(dir)).await.unwrap();
    println!("ready after {:?}", start.elapsed());
    let ledger = log.read(|ledger| ledger.0.clone()).await.unwrap();
    log.shutdown().await.unwrap();
    let acks = acks(dir);
    for number in acks.iter().flat_map(|first| *first..first + BATCH) {
        assert_eq!(ledger.get(&number), Some(&1), "acknowledged entry {number}");
    }
    assert!(ledger.values().all(|count| *count == 1), "an entry was applied twice");
    assert_eq!(ledger.len() as u64 % BATCH, 0, "half a batch was applied");
    // What was under way at each kill may be there or not, but no more than that.
    assert!(ledger.len() <= (acks.len() + rounds) * BATCH as usize, "{} entries, {} acks", ledger.len(), acks.len());
    ledger.keys().last().map_or(0, |last| last + 1)
}

#[tokio::test]
async fn acknowledged_entries_survive_kills_exactly_once() {
    let dir = tempfile::tempdir().unwrap();
    let (mut next, mut random) = (0, 12345u64);
    for round in 0..ROUNDS {
        let before = acks(dir.path()).len();
        let mut child = start(dir.path(), next, "");
        // The first rounds die while the log is made or recovered, the others at some write.
        if round >= 5 {
            wait_until(|| acks(dir.path()).len() > before, "first acknowledgement");
        }
        if round == 5 {
            let error = Consensus::<Ledger>::open(options(dir.path())).await.unwrap_err();
            assert!(matches!(error, ConsensusError::AlreadyOpen { .. }), "{error}");
        }
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let span_us = if round < 5 { 30_000 } else { 150_000 };
        std::thread::sleep(Duration::from_micros((random >> 33) % span_us));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!dir.path().join("reason").exists(), "{}", fs::read_to_string(dir.path().join("reason")).unwrap());
        next = check(dir.path(), 1 + round as usize).await;
    }
    println!("{next} entries over {ROUNDS} kills");
    assert!(next >= (ROUNDS - 5) * BATCH, "only {next} entries were written");
}

#[tokio::test]
async fn a_full_disk_stops_the_log_with_a_reason_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let next = check(dir.path(), 0).await;
    assert_eq!(next, 0);
    let size = fs::metadata(dir.path().join("state/log.redb")).unwrap().len();
    // Writes beyond the limit fail, as on a full disk; the signal that comes with it is ignored.
    let limit = format!("trap '' XFSZ; ulimit -f {};", size.div_ceil(512));
    let mut child = start(dir.path(), 1, &limit);
    let end = child.wait().unwrap();
    assert_eq!(end.code(), Some(70), "{}", fs::read_to_string(dir.path().join("stderr")).unwrap());
    let reason = fs::read_to_string(dir.path().join("reason")).unwrap();
    println!("{reason}, after {} batches", acks(dir.path()).len());
    assert!(reason.contains("File too large"), "{reason}");
    check(dir.path(), 1).await;
}

fn wait_until(done: impl Fn() -> bool, what: &str) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "no {what} within 60 s");
        std::thread::sleep(Duration::from_millis(1));
    }
}
