//! One redb file under the log and the snapshots, with one serialised writer.
//!
//! Every record carries a CRC-32 over its key and its bytes, so that a flipped bit is an error and
//! never another value. redb falls back to its previous commit where the last one does not verify,
//! which is right after a torn write and wrong after a flipped bit; so each commit has a number, the
//! number of the last finished commit stands in a second small file (the *anchor*), and a database
//! that is behind its anchor is refused.

use std::fmt::{self, Debug, Display, Formatter};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::RangeBounds;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, RwLock};
use std::time::{Duration, Instant};

use redb::{Database, ReadableDatabase, ReadableTable, Table, TableDefinition, TableError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::consensus::ConsensusError;
use crate::consensus::state_machine::Types;

type Entry = openraft::Entry<Types>;
type Result<T> = std::result::Result<T, StoreError>;

const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");
const SLOTS: TableDefinition<&str, &[u8]> = TableDefinition::new("slots");
const DATABASE_FILE: &str = "log.redb";
const ANCHOR_FILE: &str = "anchor";
/// Rises whenever older records could be misread.
const FORMAT: u32 = 2;
/// redb would take up to 1 GiB; the log is short.
const CACHE_BYTES: usize = 16 * 1024 * 1024;
const CRC_BYTES: usize = 4;

const IDENTITY: &str = "identity";
const SEQUENCE: &str = "sequence";
/// The slot of the vote.
pub(crate) const VOTE: &str = "vote";
/// The slot of the last log id known to be committed.
pub(crate) const COMMITTED: &str = "committed";
/// The slot of the last purged log id.
pub(crate) const PURGED: &str = "purged";
/// The slot of the snapshot.
pub(crate) const SNAPSHOT: &str = "snapshot";

/// What the file under the log can answer other than data.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("in use by another process")]
    AlreadyOpen,
    #[error("belongs to node {found}, not to node {expected}")]
    WrongNode { found: u64, expected: u64 },
    #[error("format {found} cannot be read by this version")]
    Format { found: u32 },
    #[error("damaged: {0}")]
    Corrupt(String),
    #[error("{what}: {source}")]
    File { what: &'static str, source: io::Error },
    #[error("database: {0}")]
    Database(redb::Error),
    #[error("encode {what}: {source}")]
    Encode { what: String, source: postcard::Error },
    #[error("the log was shut down")]
    Closed,
    #[error("the writer stopped: {0}")]
    Writer(String),
}

impl StoreError {
    /// The same for callers outside, who want to know the folder.
    pub(crate) fn at(self, dir: &Path) -> ConsensusError {
        let dir = dir.to_path_buf();
        match self {
            Self::AlreadyOpen => ConsensusError::AlreadyOpen { dir },
            Self::WrongNode { found, expected } => ConsensusError::WrongNode { dir, found, expected },
            Self::Format { found } => ConsensusError::Format { dir, found, expected: FORMAT },
            Self::Corrupt(reason) => ConsensusError::Corrupt { dir, reason },
            other => ConsensusError::Storage { dir, source: Box::new(other) },
        }
    }
}

impl From<redb::Error> for StoreError {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Corrupted(reason) => Self::Corrupt(reason),
            redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => Self::AlreadyOpen,
            redb::Error::UpgradeRequired(version) => Self::Corrupt(format!("redb file format {version} is not the current one")),
            redb::Error::Io(error) if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) => {
                Self::Corrupt(error.to_string())
            }
            other => Self::Database(other),
        }
    }
}

macro_rules! from_redb {
    ($($error:ty),*) => {$(
        impl From<$error> for StoreError {
            fn from(error: $error) -> Self { redb::Error::from(error).into() }
        }
    )*};
}
from_redb!(redb::DatabaseError, redb::TransactionError, TableError, redb::StorageError, redb::CommitError);

/// Whose folder it is, and in which format.
#[derive(Debug, Serialize, Deserialize)]
struct Identity {
    format: u32,
    node_id: u64,
}

/// The database of one member. Reads go on while a write waits for the disk.
pub(crate) struct Store {
    db: RwLock<Option<Database>>,
    writer: Mutex<Writer>,
    observer: OnceLock<Observer>,
}

/// Is told how long each write took.
pub(crate) type Observer = Box<dyn Fn(Duration) + Send + Sync>;

impl Debug for Store {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("db", &self.db).field("writer", &self.writer).finish_non_exhaustive()
    }
}

/// What only the one writer may touch.
#[derive(Debug)]
struct Writer {
    sequence: u64,
    anchor: Anchor,
}

impl Store {
    /// Opens or creates the database in `dir`, verifies every page of it, and checks whose it is.
    pub(crate) fn open(dir: &Path, node_id: u64) -> Result<Self> {
        fs::create_dir_all(dir).map_err(file("create the folder"))?;
        let (anchor, anchored) = Anchor::open(dir)?;
        let db = open_database(dir, anchored)?;
        let store =
            Self { db: RwLock::new(Some(db)), writer: Mutex::new(Writer { sequence: 0, anchor }), observer: OnceLock::new() };
        let sequence = store.get::<u64>(SEQUENCE)?;
        check_sequence(sequence, anchored)?;
        store.lock_writer()?.sequence = sequence.unwrap_or(0);
        match store.get::<Identity>(IDENTITY)? {
            Some(Identity { format, .. }) if format != FORMAT => return Err(StoreError::Format { found: format }),
            Some(identity) if identity.node_id != node_id => {
                return Err(StoreError::WrongNode { found: identity.node_id, expected: node_id });
            }
            Some(_) => {}
            None => store.write_now(|changes| changes.put(IDENTITY, &Identity { format: FORMAT, node_id }))?,
        }
        Ok(store)
    }

    /// The record in a slot.
    pub(crate) fn get<T: DeserializeOwned>(&self, slot: &str) -> Result<Option<T>> {
        self.read(|txn| {
            let table = match txn.open_table(SLOTS) {
                Ok(table) => table,
                Err(TableError::TableDoesNotExist(_)) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            table.get(slot)?.map(|record| unseal(Key::Slot(slot), record.value())).transpose()
        })
    }

    /// The log entries in a range of indices, without holes.
    pub(crate) fn entries(&self, range: impl RangeBounds<u64>) -> Result<Vec<Entry>> {
        self.read(|txn| {
            let mut entries: Vec<Entry> = Vec::new();
            let table = match txn.open_table(LOG) {
                Ok(table) => table,
                Err(TableError::TableDoesNotExist(_)) => return Ok(entries),
                Err(error) => return Err(error.into()),
            };
            for item in table.range::<u64>(range)? {
                let (index, record) = item?;
                let index = index.value();
                let entry: Entry = unseal(Key::Entry(index), record.value())?;
                if entries.last().is_some_and(|last| last.log_id.index + 1 != index) || entry.log_id.index != index {
                    return Err(StoreError::Corrupt(format!("the log has a hole before entry {index}")));
                }
                entries.push(entry);
            }
            Ok(entries)
        })
    }

    /// The last log entry.
    pub(crate) fn last_entry(&self) -> Result<Option<Entry>> {
        self.read(|txn| match txn.open_table(LOG) {
            Ok(table) => table.last()?.map(|(index, record)| unseal(Key::Entry(index.value()), record.value())).transpose(),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        })
    }

    /// Makes a change in one transaction; it is on the disk when this returns. Runs off the async
    /// threads, and to its end even if the caller is dropped.
    pub(crate) async fn write<F>(self: &Arc<Self>, change: F) -> Result<()>
    where
        F: FnOnce(&mut Changes<'_>) -> Result<()> + Send + 'static,
    {
        let store = Arc::clone(self);
        let written = tokio::task::spawn_blocking(move || store.write_now(change)).await;
        written.unwrap_or_else(|error| Err(StoreError::Writer(error.to_string())))
    }

    /// Tells how long writes take; the first observer stays.
    pub(crate) fn observe_writes(&self, observer: Observer) {
        // A second one would count the same writes.
        let _ = self.observer.set(observer);
    }

    /// Gives the file and its lock back. What comes later is refused.
    pub(crate) fn close(&self) -> Result<()> {
        let db = self.db.write().map_err(|_| StoreError::Writer("a reader panicked".into()))?.take();
        db.map_or(Ok(()), |db| db.close())?;
        self.lock_writer()?.anchor.file.unlock().map_err(file("unlock the folder"))
    }

    fn write_now(&self, change: impl FnOnce(&mut Changes<'_>) -> Result<()>) -> Result<()> {
        let mut writer = self.lock_writer()?;
        let began = Instant::now();
        let guard = self.db.read().map_err(|_| StoreError::Writer("a reader panicked".into()))?;
        let txn = guard.as_ref().ok_or(StoreError::Closed)?.begin_write()?;
        let sequence = writer.sequence + 1;
        {
            let mut changes = Changes { log: txn.open_table(LOG)?, slots: txn.open_table(SLOTS)? };
            change(&mut changes)?;
            changes.put(SEQUENCE, &sequence)?;
        }
        txn.commit()?;
        self.observer.get().into_iter().for_each(|observer| observer(began.elapsed()));
        writer.sequence = sequence;
        writer.anchor.set(sequence)
    }

    fn read<T>(&self, read: impl FnOnce(&redb::ReadTransaction) -> Result<T>) -> Result<T> {
        let guard = self.db.read().map_err(|_| StoreError::Writer("a reader panicked".into()))?;
        read(&guard.as_ref().ok_or(StoreError::Closed)?.begin_read()?)
    }

    fn lock_writer(&self) -> Result<std::sync::MutexGuard<'_, Writer>> {
        self.writer.lock().map_err(|_| StoreError::Writer("an earlier write panicked".into()))
    }
}

/// An open write transaction.
pub(crate) struct Changes<'t> {
    log: Table<'t, u64, &'static [u8]>,
    slots: Table<'t, &'static str, &'static [u8]>,
}

impl Changes<'_> {
    /// Replaces the record in a slot.
    pub(crate) fn put<T: Serialize>(&mut self, slot: &str, value: &T) -> Result<()> {
        self.slots.insert(slot, seal(Key::Slot(slot), value)?.as_slice())?;
        Ok(())
    }

    /// The record in a slot, as this transaction sees it.
    pub(crate) fn get<T: DeserializeOwned>(&self, slot: &str) -> Result<Option<T>> {
        self.slots.get(slot)?.map(|record| unseal(Key::Slot(slot), record.value())).transpose()
    }

    /// Writes a log entry at its index.
    pub(crate) fn insert(&mut self, entry: &Entry) -> Result<()> {
        let index = entry.log_id.index;
        self.log.insert(index, seal(Key::Entry(index), entry)?.as_slice())?;
        Ok(())
    }

    /// Removes the log entries in a range of indices.
    pub(crate) fn remove(&mut self, range: impl RangeBounds<u64>) -> Result<()> {
        self.log.retain_in::<u64, _>(range, |_, _| false)?;
        Ok(())
    }
}

/// The number of the last finished commit, in a file of its own. Written after the commit and never
/// waited for: a stale anchor is harmless, and one that is ahead proves a loss.
#[derive(Debug)]
struct Anchor {
    file: File,
}

impl Anchor {
    /// Opens or creates the file and locks it, and so the folder; the number in it, if it holds one.
    fn open(dir: &Path) -> Result<(Self, Option<u64>)> {
        let path = dir.join(ANCHOR_FILE);
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).clone();
        let mut file = options.open(path).map_err(self::file("open the anchor file"))?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => StoreError::AlreadyOpen,
            TryLockError::Error(source) => StoreError::File { what: "lock the anchor file", source },
        })?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(self::file("read the anchor file"))?;
        let anchored = unseal::<[u8; 8]>(Key::Slot(ANCHOR_FILE), &bytes).map(u64::from_be_bytes).ok();
        if anchored.is_none() {
            if !bytes.is_empty() {
                tracing::warn!(dir = %dir.display(), "the anchor file is unreadable and will be rewritten");
            }
            file.sync_all().map_err(self::file("sync the anchor file"))?;
        }
        Ok((Self { file }, anchored))
    }

    fn set(&mut self, sequence: u64) -> Result<()> {
        let record = seal(Key::Slot(ANCHOR_FILE), &sequence.to_be_bytes())?;
        let written = self.file.seek(SeekFrom::Start(0)).and_then(|_| self.file.write_all(&record));
        written.map_err(file("write the anchor file"))
    }
}

/// Opens the database and verifies every page of it. A new one is made under another name first: one
/// that was half made when the process died would never open again.
fn open_database(dir: &Path, anchored: Option<u64>) -> Result<Database> {
    let path = dir.join(DATABASE_FILE);
    if !path.try_exists().map_err(file("look for the database"))? {
        if anchored.is_some() {
            return Err(StoreError::Corrupt(format!("its database {DATABASE_FILE} is missing")));
        }
        let making = dir.join(format!("{DATABASE_FILE}.new"));
        match fs::remove_file(&making) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(file("remove a half made database")(error)),
            _ => {}
        }
        Database::create(&making)?.close()?;
        fs::rename(&making, &path).map_err(file("name the new database"))?;
        // The names of both files must outlive a power cut, as their content does.
        File::open(dir).and_then(|folder| folder.sync_all()).map_err(file("sync the folder"))?;
    }
    Ok(redb::Builder::new().set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true).open(path)?)
}

/// Refuses a database that lacks commits which were finished.
fn check_sequence(sequence: Option<u64>, anchored: Option<u64>) -> Result<()> {
    match (sequence.unwrap_or(0), anchored.unwrap_or(0)) {
        (found, expected) if found < expected => {
            Err(StoreError::Corrupt(format!("the database ends at commit {found} but commit {expected} was finished")))
        }
        _ => Ok(()),
    }
}

/// Under which name a record stands; part of what its checksum covers, so that a record in the wrong
/// place is as damaged as one with the wrong bytes.
#[derive(Clone, Copy)]
enum Key<'k> {
    Slot(&'k str),
    Entry(u64),
}

impl Display for Key<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slot(slot) => write!(f, "record {slot}"),
            Self::Entry(index) => write!(f, "log entry {index}"),
        }
    }
}

/// Encodes a value and puts the checksum of key and value before it.
fn seal<T: Serialize>(key: Key<'_>, value: &T) -> Result<Vec<u8>> {
    let mut record =
        postcard::to_extend(value, vec![0; CRC_BYTES]).map_err(|source| StoreError::Encode { what: key.to_string(), source })?;
    let crc = checksum(key, &record[CRC_BYTES..]);
    record[..CRC_BYTES].copy_from_slice(&crc);
    Ok(record)
}

/// Decodes what [`seal`] made, unless a bit of it has changed.
fn unseal<T: DeserializeOwned>(key: Key<'_>, record: &[u8]) -> Result<T> {
    let damaged = |why: &str| StoreError::Corrupt(format!("{key}: {why}"));
    let (crc, value) = record.split_at_checked(CRC_BYTES).ok_or_else(|| damaged("shorter than its checksum"))?;
    if crc != checksum(key, value) {
        return Err(damaged("its checksum does not match"));
    }
    postcard::from_bytes(value).map_err(|error| damaged(&error.to_string()))
}

fn checksum(key: Key<'_>, value: &[u8]) -> [u8; CRC_BYTES] {
    let mut hasher = crc32fast::Hasher::new();
    match key {
        Key::Slot(slot) => hasher.update(slot.as_bytes()),
        Key::Entry(index) => hasher.update(&index.to_be_bytes()),
    }
    hasher.update(value);
    hasher.finalize().to_le_bytes()
}

fn file(what: &'static str) -> impl FnOnce(io::Error) -> StoreError {
    move |source| StoreError::File { what, source }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_another_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), 1).unwrap();
        store.write_now(|changes| changes.put(IDENTITY, &Identity { format: FORMAT + 1, node_id: 1 })).unwrap();
        store.close().unwrap();
        drop(store);
        let error = Store::open(dir.path(), 1).err().unwrap().at(dir.path());
        assert!(matches!(error, ConsensusError::Format { found, expected: FORMAT, .. } if found == FORMAT + 1), "{error}");
        assert!(error.to_string().ends_with("use the version that wrote it"), "{error}");
    }
}
