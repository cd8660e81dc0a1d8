//! The durable log of the control plane: our own `propose / read / members / snapshot` over Raft.
//!
//! A group has one member from the first day, so that there is one way to persist state and not two.
//! The caller supplies a [`Machine`], a pure state that entries change; this module makes the order
//! of entries durable, applies them, and brings the same state back after a restart.
//!
//! | file | what it does |
//! |---|---|
//! | `store.rs` | one redb file, a checksum on every record, one serialised writer |
//! | `log.rs` | vote and log entries, as openraft's log store |
//! | `state_machine.rs` | applying entries to the [`Machine`], snapshots |
//! | `network.rs` | the wire to other members: none yet, every peer is unreachable |
//! | `node.rs` | [`Consensus`], the only thing that callers use |
//!
//! It never decides anything, and applying an entry never has an effect outside the machine: openraft
//! applies entries again at every start, and a second execution would be a second effect.

mod log;
mod network;
mod node;
mod state_machine;
mod store;
#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use node::Consensus;

/// The largest encoded entry that [`Consensus::propose`] takes, in bytes. Models, shard maps and
/// checkpoints go to the object store; the log holds pointers to them.
pub const MAX_ENTRY_BYTES: usize = 256 * 1024;

/// The largest batch that [`Consensus::propose_all`] takes, in bytes of encoded entries together.
pub const MAX_BATCH_BYTES: usize = 2 * 1024 * 1024;

/// The replicated state: what entries change and reads see.
pub trait Machine: Send + Sync + 'static + Default {
    /// What is proposed and logged. Encoded with postcard, so fields and variants are only ever appended.
    type Entry: Serialize + DeserializeOwned + Clone + Debug + Send + Sync + 'static;
    /// What applying an entry answers to its proposer.
    type Reply: Serialize + DeserializeOwned + Clone + Debug + Send + Sync + 'static;

    /// Changes the state by one entry. Pure: no effects, clocks, entropy or hash order, since every
    /// member applies it, and applies it again after a restart.
    fn apply(&mut self, entry: Self::Entry) -> Self::Reply;

    /// The whole state as bytes.
    fn snapshot(&self) -> Vec<u8>;

    /// The state that [`Machine::snapshot`] wrote, or why the bytes cannot be read.
    fn restore(bytes: &[u8]) -> Result<Self, String>;
}

/// How to open a member of the group.
#[derive(Debug, Clone)]
pub struct ConsensusOptions {
    /// The folder that holds the log; created if absent, and owned by one process at a time.
    pub dir: PathBuf,
    /// This member's id, the same at every start.
    pub node_id: u64,
    /// This member's place among its peers, from 0; spreads the election timeouts (150 ms a place).
    pub rank: u32,
    /// A snapshot is taken, and the log shortened, each time this many log entries were added.
    pub snapshot_after: u64,
}

/// A member of the group, as the latest known membership has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: u64,
    /// Where peers reach it; empty for a group of one.
    pub address: String,
    /// Whether it votes; otherwise it only learns.
    pub voter: bool,
}

/// Why the log refused or failed, by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum ConsensusError {
    /// Stop the other process, or use another folder.
    #[error("state folder {} is in use by another process; stop it or choose another folder", dir.display())]
    AlreadyOpen {
        /// The folder.
        dir: PathBuf,
    },
    /// Start with the right id or the right folder.
    #[error("state folder {} belongs to node {found} but this is node {expected}; use the folder of node {expected}", dir.display())]
    WrongNode {
        /// The folder.
        dir: PathBuf,
        /// The id stored there.
        found: u64,
        /// The id that was asked for.
        expected: u64,
    },
    /// Use the program version that wrote the folder.
    #[error("state folder {} has format {found} but this version reads format {expected}; use the version that wrote it", dir.display())]
    Format {
        /// The folder.
        dir: PathBuf,
        /// The format stored there.
        found: u32,
        /// The format of this version.
        expected: u32,
    },
    /// Give up on this folder: its content cannot be trusted.
    #[error("state folder {} is damaged: {reason}; restore it from a backup, or move it away to start empty", dir.display())]
    Corrupt {
        /// The folder.
        dir: PathBuf,
        /// What was found damaged.
        reason: String,
    },
    /// Look at the disk: space, permissions, hardware.
    #[error("state folder {}: {source}", dir.display())]
    Storage {
        /// The folder.
        dir: PathBuf,
        /// What failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Make the entry smaller: put the content into the object store and propose its pointer.
    #[error("{what} of {bytes} bytes exceeds the limit of {limit}; store the content as an object and propose its pointer")]
    TooLarge {
        /// `entry` or `batch`.
        what: &'static str,
        /// Its encoded size.
        bytes: usize,
        /// The largest allowed.
        limit: usize,
    },
    /// A bug: the entry or reply type does not survive its own encoding.
    #[error("{what} cannot be encoded or decoded: {source}")]
    Codec {
        /// `entry` or `reply`.
        what: &'static str,
        /// What postcard said.
        source: postcard::Error,
    },
    /// Send the request to the leader.
    #[error("this node does not lead; the leader is {}", leader.map_or_else(|| "not known yet".to_string(), |id| format!("node {id}")))]
    NotLeader {
        /// The leader's id, if one is known.
        leader: Option<u64>,
    },
    /// Try again later: no leader within the time allowed, or a snapshot that does not end.
    #[error("{what} took longer than {seconds} s")]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// For how long.
        seconds: u64,
    },
    /// Restart the process: the log has stopped, most often because its disk failed or is full.
    #[error("the log has stopped: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
    /// Correct the options.
    #[error("option {option}: {reason}")]
    Options {
        /// The field of [`ConsensusOptions`].
        option: &'static str,
        /// What is wrong and what to write.
        reason: String,
    },
}
